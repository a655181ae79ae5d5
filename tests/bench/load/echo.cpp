#include "crowd.hpp"
#include "frames.hpp"
#include "modes.hpp"
#include "window.hpp"

namespace bench {

std::string run_echo(const options& o) {
    const auto message = make_echo(o.protocol, o.kind, o.size);
    std::string burst;
    for (std::size_t i = 0; i != o.in_flight; ++i) burst += message.request;
    const auto burst_answer = o.in_flight * message.answer.size();

    crowd all{o, o.connections};
    all.watch();
    window measured{o};

    // With --messages, each connection sends its share and no more.
    const auto one_round = o.connections * o.in_flight;
    const auto bursts_each = (o.messages + one_round - 1) / one_round;

    std::uint64_t received = 0;  // bytes
    std::size_t busy = o.connections;
    const auto begin_burst = [&](client& c) {
        c.due += burst_answer;
        c.unsent = burst.size();
        crowd::send(c, burst);
    };

    measured.open();
    for (auto& c : all.clients()) begin_burst(c);
    bool going_on = true;
    while (busy != 0) {
        all.wait(100, [&](client& c, std::uint32_t) {
            if (c.unsent != 0) crowd::send(c, burst);
            // The first burst's answers byte by byte; then all that can go wrong shows in their number.
            received += all.receive(c, c.due == burst_answer ? std::string_view{message.answer} : std::string_view{});
            if (!c.is_even() || c.is_done) return;
            c.is_done = o.messages != 0 ? c.due == bursts_each * burst_answer : !going_on;
            if (c.is_done)
                --busy;
            else
                begin_burst(c);
        });
        measured.heard(received);
        going_on = measured.is_open(received);
    }
    measured.close(received);

    std::uint64_t messages = 0;
    for (const auto& c : all.clients()) messages += c.got / message.answer.size();

    const auto count = static_cast<double>(measured.done()) / static_cast<double>(message.answer.size());
    report r;
    r.add("mode", o.mode).add("connections", std::uint64_t{o.connections}).add("in_flight", std::uint64_t{o.in_flight});
    r.add("request_bytes", std::uint64_t{message.request.size()});
    r.add("answer_bytes", std::uint64_t{message.answer.size()});
    r.add("messages", count).add("messages_in_all", messages);
    measured.meter().tell(r, count);
    return r.line();
}

}  // namespace bench
