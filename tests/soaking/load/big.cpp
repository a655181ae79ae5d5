// Native messages up to 1 MiB that come back byte for byte, in one frame or in many with pings between them.

#include "client.hpp"

#include <deque>

namespace soak {

namespace {

constexpr std::size_t largest = 1024UL * 1024;

std::string random_payload(world& w, bool is_text) {
    // As many small ones as large ones, and the bound itself.
    const std::size_t up_to = w.chance(10) ? largest : std::size_t{1} << w.below(21);
    const auto size = w.chance(10) ? up_to : 1 + w.below(up_to);
    std::string payload(size, '\0');
    std::uint64_t bits = w.random();
    for (auto& c : payload) {
        bits = bits * 6364136223846793005U + 1442695040888963407U;
        const auto byte = static_cast<unsigned char>(bits >> 56U);
        c = static_cast<char>(is_text ? ' ' + byte % 95 : byte);
    }
    return payload;
}

void send(world& w, client& c, bool is_text, std::string_view payload) {
    unsigned char first = is_text ? first_byte::text_fragment : first_byte::binary_fragment;
    while (w.chance(60) && payload.size() > 1) {
        const auto part = w.below(payload.size());
        c.write(frame_of(first, payload.substr(0, part)));
        payload.remove_prefix(part);
        first = first_byte::continuation;
        if (w.chance(30)) c.write(frame_of(first_byte::ping, "between fragments"));
    }
    c.write(frame_of(static_cast<unsigned char>(first | 0x80U), payload));
}

awaitable<void> echo(world& w) {
    while (w.running) {
        const auto c = make_client(w, "an echo of big messages");
        if (!co_await c->open("/big")) co_return;
        for (auto rounds = 1 + w.below(30); w.running && rounds != 0; --rounds) {
            std::deque<std::pair<bool, std::string>> sent;
            for (auto n = 1 + w.below(3); n != 0; --n) {
                const bool is_text = w.chance(50);
                sent.emplace_back(is_text, random_payload(w, is_text));
                send(w, *c, is_text, sent.back().second);
            }
            while (!sent.empty()) {
                const auto frame = co_await c->read();
                if (!frame) co_return w.fault("an echo of big messages lost its connection");
                if (frame->first == first_byte::pong) continue;
                const auto& [is_text, payload] = sent.front();
                if (frame->first != (is_text ? first_byte::text : first_byte::binary) || frame->payload != payload)
                    w.fault("a message of " + std::to_string(payload.size()) + " bytes came back as another one");
                ++w.count.big_messages;
                w.count.big_bytes += payload.size();
                sent.pop_front();
            }
            co_await w.pause(milliseconds{w.below(40)});
        }
        if (w.chance(70)) {
            co_await c->close();
        } else {
            // In the midst of what comes back.
            send(w, *c, false, random_payload(w, false));
            c->reset();
        }
    }
}

}  // namespace

void start_big(world& w) {
    for (int i = 0; i != 4; ++i) w.start(echo(w));
}

}  // namespace soak
