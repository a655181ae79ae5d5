#include "meter.hpp"

#include "failure.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <sstream>

namespace bench {
namespace {

double read_clock(clockid_t clock) {
    timespec t{};
    if (clock_gettime(clock, &t) != 0) throw system_failure("The server's CPU time cannot be read any more");
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace

double now() noexcept {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

report& report::add_raw(std::string_view name, std::string_view value) {
    if (!fields_.empty()) fields_ += ',';
    fields_ += '"';
    fields_ += name;
    fields_ += "\":";
    fields_ += value;
    return *this;
}

report& report::add(std::string_view name, double value) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.9g", value);
    return add_raw(name, text.data());
}

report& report::add(std::string_view name, std::uint64_t value) { return add_raw(name, std::to_string(value)); }

report& report::add(std::string_view name, std::string_view value) {
    return add_raw(name, '"' + std::string{value} + '"');
}

meter::meter(pid_t server) : server_{server} {
    if (server_ != 0 && clock_getcpuclockid(server_, &server_clock_) != 0)
        throw failure{"There is no process " + std::to_string(server_) +
                      " whose CPU time could be read; --pid names the server's."};
}

meter::reading meter::read() const {
    reading r;
    r.wall = now();
    r.own = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    if (server_ == 0) return r;
    r.server = read_clock(server_clock_);
    // Fields 14 and 15; the program's name before them may hold blanks, and ends with the last parenthesis.
    std::ifstream file{"/proc/" + std::to_string(server_) + "/stat"};
    std::string line;
    std::getline(file, line);
    const auto name_end = line.rfind(')');
    if (name_end == std::string::npos) throw failure{"The server has ended."};
    std::istringstream fields{line.substr(name_end + 1)};
    std::string skipped;
    for (int i = 3; i != 14; ++i) fields >> skipped;
    fields >> r.user_ticks >> r.system_ticks;
    return r;
}

void meter::start() { begin_ = read(); }

void meter::stop() {
    const auto end = read();
    seconds_ = end.wall - begin_.wall;
    own_seconds_ = end.own - begin_.own;
    server_seconds_ = end.server - begin_.server;
    const auto user = static_cast<double>(end.user_ticks - begin_.user_ticks);
    const auto system = static_cast<double>(end.system_ticks - begin_.system_ticks);
    user_share_ = user + system > 0 ? user / (user + system) : -1;
}

void meter::tell(report& r, double count) const {
    if (count == 0) throw failure{"Nothing came while it was measured: give more --seconds."};
    r.add("seconds", seconds_).add("load_cpu_share", own_seconds_ / seconds_).add("per_second", count / seconds_);
    if (server_ == 0) return;
    r.add("cpu_share", server_seconds_ / seconds_);
    r.add("cpu_us", server_seconds_ * 1e6 / count);
    if (user_share_ < 0) return;
    r.add("user_us", server_seconds_ * 1e6 / count * user_share_);
    r.add("system_us", server_seconds_ * 1e6 / count * (1 - user_share_));
}

double kilobytes_in(const std::string& file, std::string_view name) {
    std::ifstream lines{file};
    for (std::string line; std::getline(lines, line);) {
        if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':')
            return std::stod(line.substr(name.size() + 1));
    }
    throw failure{file + " does not tell " + std::string{name} +
                  ": this kernel, or the process's owner, keeps it back."};
}

double tcp_kilobytes() {
    std::ifstream lines{"/proc/net/sockstat"};
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("TCP:")) continue;
        const auto place = line.rfind("mem ");
        if (place != std::string::npos)
            return std::stod(line.substr(place + 4)) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1024;
    }
    throw failure{"/proc/net/sockstat does not tell the memory of TCP."};
}

}  // namespace bench
