#include "crowd.hpp"
#include "failure.hpp"
#include "meter.hpp"
#include "modes.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace bench {
namespace {

struct memory {
    double dirty = 0, anonymous = 0, resident = 0;  // the server's user space
    double slab = 0, tcp = 0;                       // the kernel's, of everybody
};

memory read_memory(pid_t server) {
    const auto file = "/proc/" + std::to_string(server) + "/smaps_rollup";
    return {kilobytes_in(file, "Private_Dirty"), kilobytes_in(file, "Anonymous"), kilobytes_in(file, "Rss"),
            kilobytes_in("/proc/meminfo", "Slab"), tcp_kilobytes()};
}

}  // namespace

std::string run_idle(const options& o) {
    if (o.pid == 0) throw failure{"The mode idle reads the server's memory: name its process with --pid."};
    const auto settle = [&] { std::this_thread::sleep_for(std::chrono::duration<double>{o.settle}); };

    // The first connections also pay for what a server makes once.
    crowd all{o, std::clamp<std::size_t>(o.connections / 10, 1, 500)};
    settle();
    const auto before = read_memory(o.pid);
    const double begin = now();
    all.open(o.connections);
    const double opened_in = now() - begin;
    settle();
    const auto after = read_memory(o.pid);

    // They are still there, all of them.
    all.watch();
    all.wait(0, [&](client& c, std::uint32_t events) {
        if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) all.receive(c);
    });

    const auto each = [&](double kilobytes) { return kilobytes * 1024 / static_cast<double>(o.connections); };
    report r;
    r.add("mode", o.mode).add("connections", std::uint64_t{o.connections}).add("opened_in_seconds", opened_in);
    r.add("user_bytes", each(after.anonymous - before.anonymous));
    r.add("private_dirty_bytes", each(after.dirty - before.dirty));
    r.add("resident_bytes", each(after.resident - before.resident));
    r.add("kernel_bytes_both_ends", each(after.slab - before.slab + after.tcp - before.tcp));
    return r.line();
}

}  // namespace bench
