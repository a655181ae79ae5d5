// The load generator of the benchmark: one thread, epoll, frames made beforehand, no WebSocket library.
//
//     load echo|broadcast|rooms|latency|cluster|idle|handshakes PORT [--name value]...
//
//     --pid PID              the server's process: its CPU time and memory are told
//     --protocol P           websocket | raw (no handshake, the same bytes come back) | socket.io
//     --kind K               echo, latency: native | text | string | view | number | json
//     --connections N        broadcast: the members, besides one that publishes; handshakes: at once
//     --in-flight N          messages of one burst: of each connection (echo), of the publisher, of all (rooms)
//     --size BYTES           of the application's data
//     --publisher P          broadcast: connection | thread | loop
//     --rooms N, --room-size N
//     --rate N               latency, cluster: messages per second over all connections; cluster: 0 for --in-flight at a time
//     --other-port PORT, --other-pid PID, --broker-pid PID, --senders N
//                            cluster: the second server, the broker's process, and how many publish
//     --warm-up S, --seconds S
//     --messages N           instead: so many from the first on, rounded up to whole bursts
//     --settle S             idle: seconds before memory is read
//     --patience S           seconds of silence after which the run has failed
//
// Prints one line of JSON. "cpu_us" is the server's CPU time for each message, delivery or handshake, from the kernel's
// accounting of its process; "load_cpu_share" is our own share of our processor: near 1, the server was not the limit.
//
// Every answer is counted, the first ones of each connection are compared byte by byte, and a connection that gets too much,
// too little or something else ends the run with a sentence and status 1.

#include "load/failure.hpp"
#include "load/modes.hpp"

#include <cstdio>
#include <exception>
#include <string_view>
#include <utility>

namespace {

using mode = std::string (*)(const bench::options&);

constexpr std::pair<std::string_view, mode> modes[] = {
    {"echo", bench::run_echo},
    {"broadcast", bench::run_broadcast},
    {"rooms", bench::run_rooms},
    {"latency", bench::run_latency},
    {"cluster", bench::run_cluster},
    {"idle", bench::run_idle},
    {"handshakes", bench::run_handshakes},
};

std::string run(const bench::options& o) {
    for (const auto& [name, function] : modes) {
        if (name == o.mode) return function(o);
    }
    throw bench::failure{"There is no mode '" + o.mode + "'; load.cpp tells all at its top."};
}

}  // namespace

int main(int argc, char** argv) {
    try {
        std::puts(run(bench::parse_options(argc, argv)).c_str());
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "load: %s\n", e.what());
        return 1;
    }
}
