// What nlohmann/json alone costs for the text of the "order" event: parse it, dump what came of it. The JSON event of the
// benchmark is judged beside this and a native echo.
//
//     json_cost SECONDS
//
// Prints one line of JSON: bytes of the text, nanoseconds of CPU time per parse and dump.

#include "load/sample.hpp"

#include <nlohmann/json.hpp>

#include <ctime>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

double cpu_seconds() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 1.0;
    const std::string text{bench::sample_order};
    constexpr int batch = 1000;

    long done = 0;
    double spent = 0;
    const double begin = cpu_seconds();
    do {
        for (int i = 0; i != batch; ++i) {
            if (nlohmann::json::parse(text).dump().size() != text.size()) {
                std::fputs("json_cost: the sample is not as nlohmann/json writes it; put its keys in order.\n", stderr);
                return 1;
            }
        }
        done += batch;
        spent = cpu_seconds() - begin;
    } while (spent < seconds);

    std::printf("{\"bytes\":%zu,\"ns\":%.1f}\n", text.size(), spent * 1e9 / static_cast<double>(done));
}
