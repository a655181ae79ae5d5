// The frame reader, in both roles: the same bytes give the same events whole and in pieces, with the pieces written to wanted()
// or not; what it hands over keeps its bounds; and what we write it reads.
#include <arke/wire/frame.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/fuzz/finding.hpp"
#include "tests/support/choices.hpp"

using namespace arke;
using arke::fuzz::require;
using arke::test::choices;

namespace {

struct reading {
    wire::frame_limits limits;
    std::size_t most_events;
    std::vector<std::string> events{};
    std::string fault{};

    bool on_message(bool is_text, std::string_view payload) {
        require(payload.size() <= limits.max_message_size, "a message over max_message_size");
        require(!is_text || wire::is_utf8(payload), "a text that is not UTF-8");
        return add(is_text ? "text " : "binary ", payload);
    }
    bool on_control(wire::opcode code, std::string_view payload) {
        require(payload.size() <= wire::max_control_payload, "a control frame that is too large");
        if (code == wire::opcode::close) {
            wire::close_reason reason;
            if (!wire::parse_close(payload, reason))
                require(payload.empty() || may_be_sent(reason.code), "a close code that may not be sent");
        }
        return add("control " + std::to_string(static_cast<int>(code)) + " ", payload);
    }
    bool add(std::string what, std::string_view payload) {
        require(fault.empty() && events.size() < most_events, "an event after the end");
        events.push_back(what.append(payload));
        return events.size() < most_events;
    }
    bool note(const std::optional<wire::frame_fault>& f) {
        if (f) fault = std::to_string(static_cast<unsigned>(f->code)) + " " + std::string{f->detail};
        return !f && events.size() < most_events;
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    choices choose{{data, size}};
    const auto role = choose.of({wire::role::server, wire::role::client});
    const wire::frame_limits limits{choose.of<std::size_t>({1000, 5, 125, 100'000}),
                                    choose.of<std::size_t>({65'536, 1, 3})};
    const std::size_t most = choose.below(4) == 0 ? 1 + choose.below(4) : 1'000'000;
    std::vector<std::size_t> cuts;
    for (auto n = choose.below(12); n != 0; --n) cuts.push_back(1 + choose.below(200));
    const bool fills = choose.below(2) == 1;
    const auto rest = choose.rest();

    reading whole{limits, most};
    {
        wire::frame_reader reader{role};
        std::vector<char> bytes(rest.begin(), rest.end());
        if (whole.note(reader.read(bytes, limits, whole))) {
            require(reader.in_message() || reader.wanted().empty(), "an idle reader wants something");
        }
    }

    reading pieces{limits, most};
    wire::frame_reader reader{role};
    std::size_t at = 0;
    std::size_t cut = 0;
    while (at != rest.size()) {
        const auto count = std::min(cuts.empty() ? 1 : cuts[cut++ % cuts.size()], rest.size() - at);
        std::vector<char> bytes(rest.begin() + static_cast<std::ptrdiff_t>(at),
                                rest.begin() + static_cast<std::ptrdiff_t>(at + count));
        at += count;
        std::span<char> left{bytes};
        if (const auto wanted = reader.wanted(); fills && !wanted.empty()) {
            require(wanted.size() <= limits.max_message_size, "more is wanted than may be");
            const auto own = std::min(wanted.size(), left.size());
            std::copy_n(left.begin(), own, wanted.begin());
            left = left.subspan(own);
            if (!pieces.note(reader.filled(own, limits, pieces))) break;
        }
        if (!pieces.note(reader.read(left, limits, pieces))) break;
    }
    require(whole.events == pieces.events, "other events in pieces");
    require(whole.fault == pieces.fault, "another fault in pieces");

    // What a server writes, a client reads.
    std::string frame(wire::frame_header_size(rest.size()) + rest.size(), '\0');
    std::copy(rest.begin(), rest.end(), wire::write_frame_header(frame.data(), wire::opcode::binary, rest.size()));
    reading back{{rest.size(), 1}, 1};
    wire::frame_reader client{wire::role::client};
    const std::string expected = "binary " + std::string(rest.begin(), rest.end());
    if (!rest.empty()) back.note(client.read(frame, back.limits, back));
    require(rest.empty() || back.events == std::vector<std::string>{expected}, "what we write is read otherwise");
    return 0;
}
