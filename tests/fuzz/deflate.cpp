// permessage-deflate: offers and answers of any kind, any bytes inflated within a bound, frames with RSV1 whole and in pieces, and
// what we compress comes back.
#include <arke/wire/deflate.hpp>
#include <arke/wire/frame.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/finding.hpp"
#include "tests/support/choices.hpp"

using namespace arke;
using arke::fuzz::require;
using arke::test::choices;

namespace {

wire::deflate_terms some_terms(choices& choose) {
    wire::deflate_terms t;
    t.send_takeover = choose.below(2) == 1;
    t.receive_takeover = choose.below(2) == 1;
    t.send_window_bits = static_cast<std::uint8_t>(9 + choose.below(7));
    t.receive_window_bits = static_cast<std::uint8_t>(9 + choose.below(7));
    return t;
}

bool is_window(std::uint8_t bits) { return bits >= 8 && bits <= 15; }

void negotiate(choices& choose, std::string_view text) {
    const auto ready = some_terms(choose);
    const auto half = text.size() / 2;
    const std::vector<std::string_view> fields{text.substr(0, half), text.substr(half)};
    for (const auto& offers : {std::vector<std::string_view>{text}, fields}) {
        if (const auto chosen = wire::accept_deflate(offers, ready)) {
            const auto& t = chosen->terms;
            require(is_window(t.send_window_bits) && is_window(t.receive_window_bits), "a window that is none");
            require(t.send_window_bits <= ready.send_window_bits, "a window larger than the config's");
            require(!t.send_takeover || ready.send_takeover, "a context that the config does not want");
            require(
                !t.receive_takeover || (ready.receive_takeover && t.receive_window_bits <= ready.receive_window_bits),
                "a context that costs more than the config says");
            // Whoever made such an offer understands the answer.
            const std::vector<std::string_view> answers{chosen->header};
            std::optional<wire::deflate_terms> agreed;
            require(wire::find_deflate_fault(answers, {true, true, 15, 15}, agreed).empty() && agreed.has_value(),
                    "an answer that is none");
            require(agreed->receive_takeover == t.send_takeover && agreed->receive_window_bits == t.send_window_bits,
                    "an answer that says something else");
        }
        std::optional<wire::deflate_terms> agreed;
        const auto why = wire::find_deflate_fault(offers, ready, agreed);
        if (why.empty() && agreed) {
            require(!agreed->receive_takeover || ready.receive_takeover, "a context that was not offered");
            require(agreed->receive_window_bits <= ready.receive_window_bits, "a window larger than was offered");
            require(agreed->send_window_bits <= ready.send_window_bits, "a window larger than ours");
        }
    }
    const std::string offer = wire::offer_deflate(ready);
    const std::vector<std::string_view> own{offer};
    require(wire::accept_deflate(own, {true, true, 15, 15}).has_value(), "our own offer is refused");
}

void inflate(choices& choose, std::string_view bytes) {
    const auto limit = choose.of<std::size_t>({64, 0, 1, 1000, 70'000});
    const int bits = static_cast<int>(8 + choose.below(8));
    const bool keeps = choose.below(2) == 1;
    const auto pieces = 1 + choose.below(4);
    wire::inflater by{bits};
    for (std::size_t n = 0; n != pieces; ++n) {
        const auto message = bytes.substr(n * bytes.size() / pieces, bytes.size() / pieces);
        wire::byte_buffer out;
        const auto seen = by.inflate(message, limit, out);
        require(out.size <= limit + 1 && out.capacity <= limit + 1, "more than the limit");
        if (seen != wire::inflater::result::done) return;
        require(out.size <= limit, "a message over the limit");
        if (!keeps) {
            by.forget();
            wire::byte_buffer again;
            require(by.inflate(message, limit, again) == seen && again.view() == out.view(), "another message");
            by.forget();
        }
    }
}

void compress(choices& choose, std::string_view bytes) {
    const int level = static_cast<int>(1 + choose.below(9));
    const int bits = static_cast<int>(8 + choose.below(8));
    const int memory = static_cast<int>(1 + choose.below(9));
    const auto times = 1 + choose.below(12);
    wire::deflater by{level, bits, memory};
    wire::inflater back{bits};
    for (std::size_t n = 0; n != 3 && !bytes.empty(); ++n) {
        std::string message;
        for (std::size_t i = 0; i != times; ++i) message += bytes;
        wire::byte_buffer small;
        by.deflate(message, small);
        require(small.size <= wire::max_deflated_size(message.size()), "more than the most on the wire");
        wire::byte_buffer out;
        require(
            back.inflate(small.view(), message.size(), out) == wire::inflater::result::done && out.view() == message,
            "what we compress is another message");
        if (choose.below(2) == 1) by.forget();
    }
}

struct reading {
    wire::frame_limits limits;
    std::string events{};

    bool on_message(bool is_text, std::string_view payload) {
        require(payload.size() <= limits.max_message_size, "a message over max_message_size");
        require(!is_text || wire::is_utf8(payload), "a text that is not UTF-8");
        return add(is_text ? "text " : "binary ", payload);
    }
    bool on_deflated(bool is_text, std::string_view payload) {
        require(payload.size() <= wire::max_deflated_size(limits.max_message_size), "a message over its bound");
        return add(is_text ? "small text " : "small binary ", payload);
    }
    bool on_control(wire::opcode, std::string_view payload) { return add("control ", payload); }
    bool add(std::string_view what, std::string_view payload) {
        events.append(what).append(payload).append("\n");
        return true;
    }
};

void read_frames(choices& choose, std::string_view bytes) {
    const wire::frame_limits limits{choose.of<std::size_t>({1000, 5, 100'000}), choose.of<std::size_t>({65'536, 3})};
    const auto piece = 1 + choose.below(40);
    const auto read = [&](std::size_t size) {
        reading sink{limits};
        wire::frame_reader reader;
        reader.allow_deflated();
        for (std::size_t at = 0; at < bytes.size(); at += size) {
            const auto part = bytes.substr(at, size);
            std::vector<char> own(part.begin(), part.end());
            if (const auto fault = reader.read(own, limits, sink)) {
                sink.add("fault ", fault->detail);
                break;
            }
        }
        return sink.events;
    };
    require(read(bytes.size() + 1) == read(piece), "other events in pieces");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    choices choose{{data, size}};
    const auto kind = choose.below(4);
    // The choices stand in front of the bytes.
    choices more = choose;
    const auto all = choose.rest();
    const std::string_view bytes{reinterpret_cast<const char*>(all.data()), all.size()};
    const auto text = bytes.substr(std::min<std::size_t>(bytes.size(), 8));
    if (kind == 0) negotiate(more, text);
    if (kind == 1) inflate(more, text);
    if (kind == 2) compress(more, text);
    if (kind == 3) read_frames(more, text);
    return 0;
}
