#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/choices.hpp"
#include "tests/support/model/record.hpp"

namespace arke::test::modelling {

/// The server and what is known of it: who is connected and in which room, and what has gone wrong.
class world {
public:
    world(const world&) = delete;
    world& operator=(const world&) = delete;

    const model_counts& counts() const noexcept { return counts_; }

    /// What was done, a line for each thing, where that was asked for.
    const std::string& trace() const noexcept { return trace_; }

protected:
    static constexpr core::millis step = 100;         // of the clock
    static constexpr core::millis slack = step + 48;  // and three ticks of the wheel

    world(std::span<const std::uint8_t> bytes, bool traced);
    ~world() { server_.reset(); }

    /// Until then deadlines may be late, because nothing ran for a while.
    core::millis in_time_from_ = 0;

    // --- telling what is wrong
    void require(bool holds, const std::string& otherwise) {
        if (!holds && failure_.empty()) failure_ = "step " + std::to_string(steps_) + " (" + doing_ + "): " + otherwise;
    }
    template <class... Parts>
    void say(const Parts&... parts) {
        if (!traced_) return;
        trace_ += std::to_string(steps_) + ": " + std::string(2 * depth_, ' ');
        ((trace_ += part_text(parts)), ...);
        trace_ += '\n';
    }
    static std::string part_text(std::string_view text) {
        return text.size() <= 60 ? std::string{text} : std::to_string(text.size()) + " bytes";
    }
    static std::string part_text(std::size_t number) { return std::to_string(number); }
    static std::string part_text(const meant& m) {
        std::string made = m.everyone ? "all" : "";
        const auto add = [&made](const char* before, const core::name& n) {
            constexpr std::array kinds{"", "id ", "room "};
            made += std::string{made.empty() ? "" : " "} + before + kinds.at(static_cast<std::size_t>(n.is)) + n.text;
        };
        for (const auto& n : m.names) add("", n);
        if (m.not_me != nullptr) made += " but " + m.not_me->id;
        for (const auto& n : m.except) add("except ", n);
        return made;
    }
    void count(const std::string& what) { ++counts_[what]; }
    std::uint64_t& due_report(errc what) { return expected_["reports " + std::to_string(static_cast<int>(what))]; }

    // --- what the model knows
    record& of(connection& c) { return of(static_cast<connection_type&>(c)); }
    record& of(connection_type& c) { return records_[static_cast<std::size_t>(*c.session())]; }
    core::millis now(const record& r) { return server_->loop(r.loop).time(); }
    record* holder(const std::string& id) {
        const auto found = ids_.find(id);
        return found != ids_.end() && found->second->is_open() ? found->second : nullptr;
    }
    /// Whether on_join() or join() of the connection would let it in; what it would report otherwise is due.
    bool enters(record& r, const std::string& room) {
        if (!r.is_open()) return false;
        if (r.rooms.contains(room)) return true;
        const bool full = r.rooms.size() >= settings_.max_rooms;
        if (!full && !is_taken(room, r)) {
            r.rooms.insert(room);
            return true;
        }
        ++due_report(full ? errc::too_many_rooms : errc::name_taken);
        return false;
    }
    bool is_reachable(record& r) { return holder(r.id) == &r; }
    bool is_taken(const std::string& room, const record& by) {
        const auto* const other = holder(room);
        return other != nullptr && other != &by;
    }
    aim resolve(const meant& m);
    std::vector<record*> chosen(const aim& a, std::size_t loop, bool with_the_gone = false);
    // --- what clients may say
    bool is_bounded() const { return settings_.max_messages_per_second != 0 || settings_.max_bytes_per_second != 0; }
    bool slows() const { return is_bounded() && settings_.on_flood == flood::slow; }
    struct bound {
        std::int64_t per_second;
        std::int64_t burst;
    };
    static bound bound_of(std::size_t per_second, std::size_t burst) {
        return {static_cast<std::int64_t>(per_second), static_cast<std::int64_t>(burst == 0 ? per_second : burst)};
    }
    bound bytes_bound() const { return bound_of(settings_.max_bytes_per_second, settings_.byte_burst); }
    bound frames_bound() const { return bound_of(settings_.max_messages_per_second, settings_.message_burst); }

    /// Whether something that it has said may be held back.
    bool is_held(const record& r) const { return slows() && r.is_open() && r.handed != r.outbound_begin; }

    bool is_in_turn() {
        bool is = false;
        for (std::size_t i = 0; i != server_->loop_count(); ++i) is = is || server_->loop(i).in_turn();
        return is;
    }
    template <class F>
    void on_loop(std::size_t loop, F f) {
        auto& l = server_->loop(loop);
        if (l.in_turn()) {
            f();
        } else {
            l.post(std::move(f));
        }
    }

    choices choices_;
    config settings_;
    bool traced_;
    std::string trace_;
    std::string failure_;
    std::string doing_ = "start";
    std::size_t steps_ = 0;
    std::size_t depth_ = 0;
    std::size_t acts_done_ = 0;
    std::size_t sequence_ = 0;
    bool stops_talking_ = false;

    std::optional<server_type> server_;
    std::deque<record> records_;
    std::map<std::string, record*> ids_;
    std::map<std::string, std::map<std::size_t, std::size_t>> pending_;  // joins that are under way: room, loop
    std::vector<std::pair<record*, connection_handle>> kept_;
    record* connecting_ = nullptr;
    bool connecting_speaks_v1_ = false;
    bool has_own_handlers_ = false;
    std::string connecting_id_;
    std::size_t connecting_room_ = testing::memory_transport::everything;
    deflate_offer connecting_offer_{""};
    std::map<std::pair<int, int>, wire::deflater> compressors_;  // for what refers to nothing: by window and memory
    record* speaking_ = nullptr;                                 // whose bytes are being served
    std::deque<question> questions_;
    std::deque<survey> surveys_;
    const void* asking_ = nullptr;  // the request whose call has not returned
    std::size_t max_waiting_ = 0;
    model_counts counts_;
    std::map<std::string, std::uint64_t> expected_;  // figures of the metrics

private:
    static config settings(choices& c);
    static void compress(choices& c, compression_config& s);
    static void bound_floods(choices& c, config& s);
};

inline config world::settings(choices& c) {
    using std::chrono::milliseconds;
    config s;
    s.write_timeout = milliseconds{1000};
    s.pong_timeout = milliseconds{3000};
    s.message_timeout = std::chrono::hours{1};  // a message is as long under way as its sender likes
    if (c.below(2) == 1) s.ping_period = milliseconds{1000};
    s.close_timeout = milliseconds{500};
    s.max_message_size = c.of<std::size_t>({1024, 200, 5000});
    s.max_fragments = c.of<std::size_t>({65'536, 65'536, 65'536, 3});
    s.max_outbox_bytes = c.of<std::size_t>({1024, 60, 5000, 1'000'000});
    s.on_overflow = c.of({overflow::close, overflow::drop, overflow::coalesce});
    s.max_rooms = c.of<std::size_t>({1024, 1, 2});
    s.max_requests = c.of<std::size_t>({1024, 1024, 2, 3});
    s.reveal_exceptions = c.below(2) == 1;
    s.on_duplicate_id = c.of({duplicate_id::refuse, duplicate_id::replace});
    s.binary_messages = c.below(2) == 1;
    s.keep_request = c.below(2) == 0;
    s.listener.write_buffer_size = c.of<std::size_t>({16 * 1024, 1024, 2048});
    compress(c, s.compression);
    bound_floods(c, s);
    return s;
}

inline void world::bound_floods(choices& c, config& s) {
    const auto what = c.below_by_last(8);
    if (what == 0 || what > 3) return;
    s.on_flood = c.of_by_last({flood::slow, flood::close});
    if (what != 2) {
        s.max_messages_per_second = c.of_by_last<std::size_t>({20, 50});
        s.message_burst = c.of_by_last<std::size_t>({0, 3, 1, 40});
    }
    if (what != 1) {
        s.max_bytes_per_second = c.of_by_last<std::size_t>({2000, 10'000});
        s.byte_burst = c.of_by_last<std::size_t>({0, 600, 6000});
    }
}

inline void world::compress(choices& c, compression_config& s) {
    s.enabled = c.below_by_last(3) == 1;
    if (!s.enabled) return;
    s.send_context_takeover = c.below_by_last(2) == 1;
    s.receive_context_takeover = c.below_by_last(2) == 1;
    // What the core answers by itself, without telling anybody, is shorter than 20 bytes and stays out of the context.
    s.threshold = c.of_by_last<std::size_t>({64, 20, s.send_context_takeover ? 20UL : 1UL, 256});
    s.send_window_bits = c.of_by_last({15, 9, 10, 11});
    s.receive_window_bits = c.of_by_last({15, 9, 10, 11});
    s.level = c.of_by_last({4, 1, 6, 9});
    s.memory_level = c.of_by_last({8, 1, 4});
}

inline world::world(std::span<const std::uint8_t> bytes, bool traced)
    : choices_{bytes}, settings_{settings(choices_)}, traced_{traced} {
    has_own_handlers_ = choices_.below_by_last(3) == 1;
    const auto loops = 1 + choices_.below(2);
    settings_.id_generator = [this](const request&) { return connecting_id_; };
    server_.emplace(settings_, loops, choices_.one_in(3));
    if (choices_.one_in(4)) max_waiting_ = 3000;
    if (max_waiting_ != 0) server_->hub().load()->max_waiting = max_waiting_;
}

inline aim world::resolve(const meant& m) {
    aim a;
    a.everyone = m.everyone;
    a.not_me = m.not_me;
    for (const auto& n : m.names) {
        if (n.is != core::name::kind::room) {
            if (auto* const one = holder(n.text)) {
                a.peers.push_back(one);
                a.loops.insert(one->loop);
                continue;
            }
            if (n.is == core::name::kind::id) continue;
        }
        // A room that nobody is in, or is about to join, is nobody.
        std::set<std::size_t> loops;
        for (const auto& [loop, joins] : pending_[n.text]) {
            if (joins != 0) loops.insert(loop);
        }
        for (auto& r : records_) {
            if (r.is_open() && r.rooms.contains(n.text)) loops.insert(r.loop);
        }
        if (!loops.empty()) a.rooms.push_back(n.text);
        a.loops.merge(loops);
    }
    for (const auto& n : m.except) {
        auto* const one = n.is == core::name::kind::room ? nullptr : holder(n.text);
        if (one != nullptr) {
            a.except_peers.push_back(one);
        } else if (n.is != core::name::kind::id) {
            a.except_rooms.push_back(n.text);
        }
    }
    if (m.everyone) {
        for (std::size_t i = 0; i != server_->loop_count(); ++i) a.loops.insert(i);
    }
    return a;
}

inline std::vector<record*> world::chosen(const aim& a, std::size_t loop, bool with_the_gone) {
    std::vector<record*> all;
    const auto is_among = [](const auto& list, const auto& one) {
        return std::find(list.begin(), list.end(), one) != list.end();
    };
    const auto is_in = [](const record& r, const std::vector<std::string>& rooms) {
        return r.is_open() &&
               std::any_of(rooms.begin(), rooms.end(), [&](const auto& room) { return r.rooms.contains(room); });
    };
    for (auto& r : records_) {
        if (r.loop != loop || &r == a.not_me) continue;
        if (!r.is_open() && !(with_the_gone && is_among(a.peers, &r))) continue;
        if (is_among(a.except_peers, &r) || is_in(r, a.except_rooms)) continue;
        if (a.everyone || is_among(a.peers, &r) || is_in(r, a.rooms)) all.push_back(&r);
    }
    return all;
}

}  // namespace arke::test::modelling
