#include "crowd.hpp"
#include "failure.hpp"
#include "frames.hpp"
#include "modes.hpp"
#include "window.hpp"

#include <algorithm>
#include <iterator>
#include <map>

namespace bench {
namespace {

char command_of(publisher p) { return p == publisher::other_thread ? 'T' : 'B'; }

// Keeps members that are all served by one loop, and behind them a publisher that another serves.
void separate(crowd& all, std::size_t members) {
    const auto question = client_frame(true, "W");
    std::map<std::string, std::vector<std::size_t>> by_loop;
    for (auto& c : all.clients()) by_loop[all.ask_for_message(c, question)].push_back(all.index_of(c));
    const auto home =
        std::find_if(by_loop.begin(), by_loop.end(), [&](const auto& l) { return l.second.size() >= members; });
    if (home == by_loop.end() || by_loop.size() < 2) {
        throw failure{
            "The server does not spread its connections over two loops: start it with 2 threads for --publisher loop."};
    }
    const auto& other = home == by_loop.begin() ? *std::next(home) : *by_loop.begin();
    std::vector<std::size_t> kept{home->second.begin(), home->second.begin() + static_cast<std::ptrdiff_t>(members)};
    kept.push_back(other.second.front());
    all.keep(kept);
}

}  // namespace

std::string run_broadcast(const options& o) {
    const auto members = o.connections;
    const auto message = make_broadcast(o.protocol, command_of(o.publisher), o.size);
    std::string burst;
    for (std::size_t i = 0; i != o.in_flight; ++i) burst += message.request;
    const auto burst_each = o.in_flight * message.answer.size();

    // On two loops half of them is enough; a few more, because loops are chosen by their number at the moment.
    const bool on_two_loops = o.publisher == publisher::other_loop;
    crowd all{o, on_two_loops ? 2 * members + 64 : members + 1};
    if (on_two_loops) separate(all, members);
    all.join(0, members);
    all.watch();
    window measured{o};

    auto& speaker = all.clients()[members];
    const auto bursts = (o.messages + o.in_flight - 1) / o.in_flight;
    std::uint64_t burst_number = 0;
    std::uint64_t received = 0;   // bytes
    std::uint64_t delivered = 0;  // messages, of whole bursts
    const auto begin_burst = [&] {
        ++burst_number;
        for (std::size_t i = 0; i != members; ++i) all.clients()[i].due += burst_each;
        speaker.unsent = burst.size();
        crowd::send(speaker, burst);
    };

    measured.open();
    begin_burst();
    for (;;) {
        all.wait(100, [&](client& c, std::uint32_t) {
            if (c.unsent != 0) crowd::send(c, burst);
            received += all.receive(c, burst_number == 1 ? std::string_view{message.answer} : std::string_view{});
        });
        // None gets more than it should, so the sum says that each has got all.
        measured.heard(received);
        if (received != burst_number * burst_each * members) continue;
        delivered += members * o.in_flight;
        if (!measured.is_open(delivered) || (o.messages != 0 && burst_number == bursts)) break;
        begin_burst();
    }
    measured.close(delivered);

    const auto count = static_cast<double>(measured.done());
    report r;
    r.add("mode", o.mode).add("members", std::uint64_t{members}).add("in_flight", std::uint64_t{o.in_flight});
    r.add("request_bytes", std::uint64_t{message.request.size()});
    r.add("answer_bytes", std::uint64_t{message.answer.size()});
    r.add("deliveries", count).add("deliveries_in_all", delivered);
    measured.meter().tell(r, count);
    return r.line();
}

}  // namespace bench
