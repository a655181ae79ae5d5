#include "crowd.hpp"
#include "failure.hpp"
#include "frames.hpp"
#include "modes.hpp"
#include "window.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace bench {
namespace {

// The time that this share of all did not take longer than, in microseconds. `sorted` has nanoseconds.
double percentile(const std::vector<std::uint32_t>& sorted, double share) {
    const auto place = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
    return static_cast<double>(sorted[place == 0 ? 0 : place - 1]) / 1000;
}

}  // namespace

std::string run_latency(const options& o) {
    if (o.rate <= 0 || o.messages != 0) throw failure{"The mode latency wants a --rate above 0, and no --messages."};
    const auto message = make_echo(o.protocol, o.kind, o.size);
    // What a connection may have waiting when the server does not keep up.
    constexpr std::size_t most_waiting = 4096;
    std::string backlog;
    for (std::size_t i = 0; i != most_waiting; ++i) backlog += message.request;

    crowd all{o, o.connections};
    all.watch();
    meter spent{o.pid};

    // Sleeping costs the time of waking up, which would be counted as the server's. With a processor of our own we spin.
    const int nap = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 0 : 1;

    const double interval = 1 / o.rate;
    const auto warm_up = static_cast<std::uint64_t>(o.warm_up * o.rate);
    const auto last = warm_up + static_cast<std::uint64_t>(std::max(1.0, o.seconds * o.rate));
    const double begin = now() + 0.001;
    std::vector<std::uint32_t> times;  // of what is measured, in nanoseconds
    times.reserve(last - warm_up);
    std::uint64_t sent = 0, answered = 0, answered_in_time = 0;
    bool is_measuring = false, is_over = false;
    double heard = begin;

    // Message i goes out by connection i % connections, so that the j-th answer of connection c belongs to c + j * connections.
    const auto scheduled = [&](std::uint64_t i) { return begin + static_cast<double>(i) * interval; };
    while (answered != last) {
        for (auto t = now(); sent != last && scheduled(sent) <= t; ++sent) {
            auto& c = all.clients()[sent % all.size()];
            c.due += message.answer.size();
            c.unsent += message.request.size();
            if (c.unsent > backlog.size()) {
                throw failure{"The server is far from taking " + std::to_string(static_cast<int>(o.rate)) +
                              " messages per second: lower --rate."};
            }
            crowd::send(c, backlog);
        }
        if (!is_measuring && sent >= warm_up) {
            is_measuring = true;
            answered_in_time = answered;
            spent.start();
        }
        all.wait(nap, [&](client& c, std::uint32_t) {
            if (c.unsent != 0) crowd::send(c, backlog);
            const auto before = c.got / message.answer.size();
            all.receive(c);
            const auto t = now();
            for (auto j = before; j != c.got / message.answer.size(); ++j) {
                const auto i = all.index_of(c) + j * all.size();
                ++answered;
                if (i < warm_up) continue;
                const auto late = (t - scheduled(i)) * 1e9;
                times.push_back(static_cast<std::uint32_t>(std::clamp(late, 0.0, 4.2e9)));
            }
            heard = t;
        });
        if (sent == last && !is_over) {
            is_over = true;
            spent.stop();
            answered_in_time = answered - answered_in_time;
        }
        if (now() - heard > o.patience)
            throw failure{"Nothing came from the server any more while answers are missing."};
    }
    std::sort(times.begin(), times.end());

    report r;
    r.add("mode", o.mode).add("connections", std::uint64_t{o.connections}).add("rate", o.rate);
    r.add("messages", static_cast<double>(times.size())).add("messages_in_all", answered);
    r.add("p50_us", percentile(times, 0.5)).add("p99_us", percentile(times, 0.99));
    r.add("p999_us", percentile(times, 0.999)).add("max_us", percentile(times, 1));
    spent.tell(r, static_cast<double>(std::max<std::uint64_t>(answered_in_time, 1)));
    return r.line();
}

}  // namespace bench
