#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/model/world.hpp"

namespace arke::test::modelling {

/// What is to come to each client, byte for byte.
class deliveries : public world {
protected:
    using world::world;

    std::size_t waiting(const record& r) const {
        return testing::client::greeting.size() + r.out_bytes + 2 * r.pings_seen - r.client->stream().sent.size();
    }
    static const std::string& words(const record& r, const note& n) { return n.in[r.is_v1 ? 1 : 0]; }
    void parse(record& r);
    void match(record& r, std::string_view bytes);
    void sample(record& r);
    frame* waiting_frame(record& r, const std::string& key);

    /// It is being sent, to this one among many, and to this one alone.
    void hand(record& r, const note& n) {
        if (r.is_open()) hand(r, n, on_wire(r, n));
    }
    void hand_alone(record& r, const note& n);

    /// The same where it has been sent already.
    void expect(record& r, const std::string& plain, const char* kind) {
        const auto bytes = by_itself(r, plain);
        r.out.push_back({bytes, {}, 0});
        note_compressed(r, bytes, plain);
        r.out_bytes += bytes.size();
        ++expected_[kind];
    }

    /// A frame as it goes to this client when it refers to nothing before it.
    std::string by_itself(const record& r, const std::string& plain);
    bool has_room_for(const record& r, std::size_t more) const {
        const auto before = waiting(r) + 2 * r.pings_unseen + r.peer->kept() - r.peer->buffered();
        return before == 0 || before + more <= settings_.max_outbox_bytes;
    }

    // What answers a request of the client; the core sends it next.
    void expect_answer(record& r, std::uint32_t id, char type, const std::string& data) {
        respond(r, answer_frame(id, type, data));
    }
    void expect_refusal(record& r, std::uint32_t id, const std::string& reason, const std::string& text) {
        respond(r, refusal_frame(id, reason, text));
    }

    /// A send that finds the loop's buffer full sends what is in it first, and may find only then that its peer reads slowly.
    /// Here that comes before the model looks.
    void flush_as_one_send_would(record& r, const note& n, const std::string& bytes);
    void flush_as_a_delivery_would(std::size_t loop) {
        auto& l = server_->loop(loop);
        if (l.buffer().room() < l.buffer().capacity() / 2) l.flush_all();
    }

    /// Once the stream takes more again: whether the last message that went through the context was the one that found it full.
    void note_what_lagged(record& r) {
        const auto& stream = r.client->stream();
        if (r.sent_at_once && stream.waits_for_room() && stream.operations == *r.sent_at_once + 1) r.context->forget();
        r.sent_at_once.reset();
    }

private:
    void respond(record& r, std::string bytes) {
        note n{only_v1(std::move(bytes)), "sent answers"};
        n.is_awaited = true;
        hand_alone(r, n);
    }
    std::string on_wire(record& r, const note& n);
    void hand(record& r, const note& n, const std::string& bytes);
    void note_compressed(record& r, const std::string& bytes, const std::string& plain) {
        if (!r.deflates || !is_deflated(bytes)) return;
        r.out.back().inflated = plain;
        ++expected_["sent compressed"];
        expected_["sent compressed_bytes"] += payload_of(bytes).size();
        expected_["sent inflated_bytes"] += payload_of(plain).size();
        count("compressed");
    }
    void check_inflated(record& r, const frame& due);
};

/// Empty where it does not become shorter.
inline std::string deflated_frame(const std::string& plain, wire::deflater& by) {
    wire::byte_buffer small;
    by.deflate(payload_of(plain), small);
    if (small.size >= payload_of(plain).size()) return {};
    return server_frame(static_cast<unsigned char>(plain[0]) | 0x40U, small.view());
}

inline std::string deliveries::by_itself(const record& r, const std::string& plain) {
    const bool is_control = (static_cast<unsigned char>(plain[0]) & 8U) != 0;
    const auto size = payload_of(plain).size();
    if (!r.deflates || is_control || size < settings_.compression.threshold) return plain;
    // No larger than the message, with the 262 bytes that a compressor looks ahead.
    int bits = 9;
    while (bits < r.terms.send_window_bits && (std::size_t{1} << static_cast<unsigned>(bits)) < size + 262) ++bits;
    const auto memory = std::clamp(bits - 6, 1, settings_.compression.memory_level);
    auto& by = compressors_.try_emplace({bits, memory}, settings_.compression.level, bits, memory).first->second;
    by.forget();
    auto made = deflated_frame(plain, by);
    return made.empty() ? plain : made;
}

/// In the context where it goes on: what is made so is to be sent.
inline std::string deliveries::on_wire(record& r, const note& n) {
    const auto& plain = words(r, n);
    if (!r.deflates || n.is_control || plain.empty()) return plain;
    if (payload_of(plain).size() < settings_.compression.threshold) return plain;
    // What many are told, and what a peer may miss, refers to nothing, and neither does what follows.
    if (n.is_for_many || !r.context || r.peer->is_lagging()) {
        auto made = by_itself(r, plain);
        if (r.context && (!n.is_for_many || is_deflated(made))) {
            r.context->forget();
            r.sent_at_once.reset();
        }
        return made;
    }
    r.sent_at_once.reset();
    const auto made = deflated_frame(plain, *r.context);
    if (!made.empty()) return made;
    r.context->forget();
    return plain;
}

inline void deliveries::hand_alone(record& r, const note& n) {
    if (!r.is_open()) return;
    const bool lagged = r.peer->is_lagging();
    auto bytes = on_wire(r, n);
    flush_as_one_send_would(r, n, bytes);
    if (r.context && r.peer->is_lagging() != lagged) bytes = on_wire(r, n);
    const bool is_at_once = bytes.size() > server_->loop(r.loop).buffer().capacity() / 2;
    if (r.context && !r.peer->is_lagging() && is_at_once && !bytes.empty() && is_deflated(bytes))
        r.sent_at_once = r.client->stream().operations;
    hand(r, n, bytes);
}

/// What the client makes of it, with the one window and the context that were agreed on.
inline void deliveries::check_inflated(record& r, const frame& due) {
    wire::byte_buffer message;
    const auto payload = payload_of(due.inflated);
    const auto seen = r.inflates_with->inflate(payload_of(due.bytes), payload.size(), message);
    if (!r.terms.send_takeover) r.inflates_with->forget();
    require(seen == wire::inflater::result::done && message.view() == payload,
            r.id + " was sent what inflates to something else than " + detail::printable(payload));
}

inline void deliveries::parse(record& r) {
    const std::string_view all = r.client->stream().sent;
    const auto greeting = testing::client::greeting;
    if (r.parsed == 0) {
        if (all.size() < greeting.size()) return;
        require(all.starts_with(greeting), r.id + " was not greeted first");
        r.parsed = greeting.size();
    }
    while (failure_.empty()) {
        const auto rest = all.substr(r.parsed);
        const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(rest[i])); };
        if (rest.size() < 2) return;
        require((byte(0) & (r.deflates ? 0x30U : 0x70U)) == 0 && byte(1) < 128,
                r.id + " was sent what is no frame of a server");
        std::size_t head = 2;
        std::size_t size = byte(1);
        if (size >= 126) {
            head += size == 126 ? 2 : 8;
            if (rest.size() < head) return;
            size = 0;
            for (std::size_t i = 2; i != head; ++i) size = size << 8U | byte(i);
        }
        if (rest.size() < head + size) return;
        match(r, rest.substr(0, head + size));
        r.parsed += head + size;
    }
}

inline void deliveries::match(record& r, std::string_view bytes) {
    require(!r.close_frame, r.id + " was sent something after the close frame");
    while (r.next != r.out.size() && r.out[r.next].withdrawn) ++r.next;
    const auto& due = r.next == r.out.size() ? std::string{} : r.out[r.next].bytes;
    if (!due.empty() && due == bytes) {
        if (!r.out[r.next].inflated.empty()) check_inflated(r, r.out[r.next]);
        if (const auto& asks = r.out[r.next].asks) r.to_answer.push_back(*asks);
        ++r.next;
        count("delivered");
        return;
    }
    using namespace std::string_view_literals;
    if (bytes == "\x89\0"sv) {
        ++r.pings_seen;
        ++expected_["sent pings"];
        return;
    }
    if (bytes[0] == '\x88' && due.empty()) {
        r.close_frame = std::string{bytes};
        return;
    }
    require(false, r.id + " was sent " + detail::printable(bytes) + " instead of " +
                       (due.empty() ? "nothing" : detail::printable(due)));
}

inline void deliveries::sample(record& r) {
    parse(r);
    if (!r.is_open()) return;
    const bool lagging = r.peer->is_lagging();
    const auto sent = r.client->stream().sent.size();
    if (lagging && (!r.was_lagging || sent != r.sent_before)) r.progress = now(r);
    r.was_lagging = lagging;
    r.sent_before = sent;
    r.pings_unseen = 0;
    if (lagging) {
        const auto extra = r.peer->buffered() - waiting(r);
        require(extra <= 4 && extra % 2 == 0, r.id + " has " + std::to_string(r.peer->buffered()) +
                                                  " bytes waiting instead of " + std::to_string(waiting(r)));
        r.pings_unseen = extra / 2;
    } else {
        r.pong_waits = false;
    }
}

/// The frame of this key of which no byte has been sent.
inline frame* deliveries::waiting_frame(record& r, const std::string& key) {
    if (key.empty()) return nullptr;
    std::size_t begin = testing::client::greeting.size();
    std::size_t found_at = 0;
    frame* found = nullptr;
    for (auto& f : r.out) {
        if (f.withdrawn) continue;
        if (f.key == key) {
            found = &f;
            found_at = begin;
        }
        begin += f.bytes.size();
    }
    return found != nullptr && found_at + 2 * found->pings_before >= r.client->stream().sent.size() ? found : nullptr;
}

inline void deliveries::hand(record& r, const note& n, const std::string& bytes) {
    if (bytes.empty()) {
        ++expected_["dropped not_deliverable"];
        count("not deliverable");
        return;
    }
    sample(r);
    const bool lagging = r.peer->is_lagging();
    std::string key;
    if (lagging) {
        if (n.how == urgency::now_or_never && !n.is_native && !n.is_control) {
            ++expected_["dropped not_ready"];
            return;
        }
        if (!n.is_native && !n.is_control &&
            (n.how == urgency::latest_only || settings_.on_overflow == overflow::coalesce))
            key = n.key;
        auto* const older = waiting_frame(r, key);
        const auto extra = key.empty() ? 0 : 160 + key.size();
        const auto left = r.peer->kept() - (older != nullptr ? older->bytes.size() + extra : 0);
        const bool fits = left == 0 || left + bytes.size() + extra <= settings_.max_outbox_bytes;
        if (!fits && (n.is_awaited || settings_.on_overflow != overflow::drop)) {
            r.causes.push_back({1013, "outbox_full", "too slow"});
            r.must_end = r.too_slow = true;
            return;
        }
        if (!fits && !n.is_control) {
            ++expected_["dropped overflow"];
            return;
        }
        if (older != nullptr) {
            older->withdrawn = true;
            r.out_bytes -= older->bytes.size();
            ++expected_["dropped superseded"];
        }
    }
    say("  ", r.id, lagging ? " waits for " : " gets ", bytes.size(), " bytes");
    ++expected_[n.kind];
    r.out.push_back({bytes, key, r.pings_seen + r.pings_unseen, n.asks});
    note_compressed(r, bytes, words(r, n));
    r.out_bytes += bytes.size();
}

inline void deliveries::flush_as_one_send_would(record& r, const note& n, const std::string& bytes) {
    if (!r.is_open() || r.peer->is_lagging() || bytes.empty()) return;
    auto& l = server_->loop(r.loop);
    const bool is_large = bytes.size() > l.buffer().capacity() / 2;
    const bool is_apart = n.is_native && !r.is_v1 && !is_deflated(bytes);
    if (is_large ? is_apart && r.peer->buffered() != 0 : bytes.size() > l.buffer().room()) l.flush_all();
}

}  // namespace arke::test::modelling
