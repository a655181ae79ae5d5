#pragma once

#include <arke/testing.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/choices.hpp"
#include "tests/support/frame.hpp"

/// A server's whole core beside a plain model of it: up to eight clients on one or two loops, and everything that they, the
/// application, its handlers and the clock may do, in an order that a stream of bytes chooses. A fuzzer chooses the bytes, or a seed.
///
/// The model knows who is in which room, and for each client the exact frames that are to come. It learns nothing from the
/// core but whether a connection is open and whether its stream is full, when it writes down who gets a message; so that it
/// says so at the moment at which the core decides, it posts its own note right before each call that is posted.
namespace arke::test {

/// The bytes of a seed: some hundred steps.
inline std::vector<std::uint8_t> bytes_of_seed(std::uint64_t seed) {
    std::vector<std::uint8_t> bytes;
    std::uint64_t state = seed;
    const auto next = [&state] {
        state += 0x9E37'79B9'7F4A'7C15U;
        std::uint64_t z = state;
        z = (z ^ z >> 30U) * 0xBF58'476D'1CE4'E5B9U;
        z = (z ^ z >> 27U) * 0x94D0'49BB'1331'11EBU;
        return z ^ z >> 31U;
    };
    const auto size = 200 + next() % 3000;
    while (bytes.size() != size) bytes.push_back(static_cast<std::uint8_t>(next() >> 24U));
    return bytes;
}

/// What came up in a run, or in many: a test that nothing was left out.
using model_counts = std::map<std::string, std::uint64_t>;

class model {
public:
    explicit model(std::span<const std::uint8_t> bytes, bool traced = false);
    ~model() { server_.reset(); }
    model(const model&) = delete;
    model& operator=(const model&) = delete;

    /// Lets it all happen. Empty: as the model says; else what was expected and at which step.
    std::string run();

    const model_counts& counts() const noexcept { return counts_; }

    /// What was done, a line for each thing, where that was asked for.
    const std::string& trace() const noexcept { return trace_; }

private:
    using server_type = testing::basic_server<std::shared_ptr<int>>;
    using connection_type = server_type::connection_type;

    // One frame that is to come to a client.
    struct frame {
        std::string bytes;
        std::string key;             // of what may be taken back
        std::size_t pings_before{};  // automatic ones
        bool withdrawn = false;
    };

    // What is being sent, to anybody.
    struct note {
        std::string bytes;
        const char* kind;  // as the metrics have it
        urgency how = urgency::normal;
        std::string key{};
        bool is_native = false;
        bool is_control = false;
    };

    // What the application is to hear of a client.
    struct hearing {
        const char* kind;
        std::string text;
    };

    // Where a message of a client begins and ends among all its bytes.
    struct passage {
        std::size_t begin;
        std::size_t end;
        hearing what;
        std::optional<unsigned> ends_with;  // the code that it ends the connection with
    };

    // A reason for a connection to end.
    struct cause {
        unsigned code;
        const char* counted;  // as the metrics have it
        std::optional<std::string> reason{};
    };

    struct record {
        std::string id;
        std::size_t loop = 0;
        testing::client* client = nullptr;
        connection_type* self = nullptr;
        core::peer_ptr peer;  // empty once it is over
        connection_handle handle;
        std::weak_ptr<int> alive;

        bool is_over = false;  // on_disconnect was heard
        core::millis over_at = 0;
        std::set<std::string> rooms;
        std::multiset<std::string> leaving;
        std::vector<cause> causes;
        bool must_end = false;
        bool too_slow = false;
        cause ended{0, ""};
        bool cut_off = false;  // without the time to send what was to come

        // Towards the server.
        std::string outbound;
        std::size_t outbound_begin = 0;
        std::deque<passage> passages;
        bool is_silent = false;  // has sent its last word
        std::deque<hearing> incoming;
        bool closed_by_itself = false;

        // Towards the client.
        std::deque<frame> out;
        std::size_t out_bytes = 0;  // of those not withdrawn
        std::size_t next = 0;
        std::size_t parsed = 0;
        std::size_t pings_seen = 0;
        std::size_t pings_unseen = 0;
        std::size_t pings_before_silence = 0;
        std::optional<std::string> close_frame;
        bool pong_waits = false;
        std::size_t drains = 0;

        core::millis last_heard = 0;
        core::millis progress = 0;
        bool was_lagging = false;
        std::size_t sent_before = 0;

        bool is_open() const { return peer && peer->is_open(); }
        bool is_broken() const {
            const auto& s = client->stream();
            return s.fails_at >= 0 && s.operations > s.fails_at;
        }
    };

    // Whom a message is for, with the target that says the same.
    struct meant {
        target to;
        bool everyone = false;
        record* not_me = nullptr;
        std::vector<core::name> names{};
        std::vector<core::name> except{};
    };
    struct aim {
        bool everyone = false;
        record* not_me = nullptr;
        std::vector<record*> peers{};
        std::vector<std::string> rooms{};
        std::vector<record*> except_peers{};
        std::vector<std::string> except_rooms{};
        std::set<std::size_t> loops{};
    };

    static constexpr core::millis step = 100;         // of the clock
    static constexpr core::millis slack = step + 48;  // and three ticks of the wheel

    static config settings(choices& c);
    void listen();

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
    bool is_reachable(record& r) { return holder(r.id) == &r; }
    bool is_taken(const std::string& room, const record& by) {
        const auto* const other = holder(room);
        return other != nullptr && other != &by;
    }
    aim resolve(const meant& m);
    std::vector<record*> chosen(const aim& a, std::size_t loop);
    template <class F>
    void on_loop(std::size_t loop, F f) {
        auto& l = server_->loop(loop);
        if (l.in_turn()) {
            f();
        } else {
            l.post(std::move(f));
        }
    }

    // --- towards clients
    std::size_t waiting(const record& r) const {
        return testing::client::greeting.size() + r.out_bytes + 2 * r.pings_seen - r.client->stream().sent.size();
    }
    void parse(record& r);
    void match(record& r, std::string_view bytes);
    void sample(record& r);
    frame* waiting_frame(record& r, const std::string& key);
    void hand(record& r, const note& n);
    void flush_as_one_send_would(record& r, const note& n);
    void flush_as_a_delivery_would(std::size_t loop) {
        auto& l = server_->loop(loop);
        if (l.buffer().room() < l.buffer().capacity() / 2) l.flush_all();
    }

    // --- what happens
    record* any_of(bool must_be_open);
    record* any_record() { return any_of(false); }
    record* any_open() { return any_of(true); }
    std::string any_name();
    std::string any_room() { return "r" + std::to_string(choices_.below(4)); }
    std::string text();
    meant any_meant(record* speaker);
    note any_note(bool& is_good, std::string& event, std::string& data, std::string& key);
    void act(record* me);
    void acts(record* me, bool may_throw = true);
    void emit_to_many(record* me);
    void emit_to_one(record* me);
    void message_to_many(record* me);
    void message_to_one(record* me);
    void join_one(record* me);
    void leave_one(record* me);
    void join_many(record* me);
    void leave_many(record* me);
    void disconnect_many(record* me);
    void disconnect_one(record* me);
    void run_on_one();
    void keep_or_drop_a_handle();
    void ping_self(record& me);

    void top_step();
    void connect();
    void compose(record& r);
    void send_some(record& r);
    void read_some(record& r);
    void pass(core::millis time);
    void stop();

    void heard(record& r, const char* kind, std::string_view text);
    void over(connection_type& c, close_code code, std::string_view reason);
    void check_at_rest();
    void check_metrics();
    void end_all();

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
    std::size_t max_waiting_ = 0;
    model_counts counts_;
    std::map<std::string, std::uint64_t> expected_;  // figures of the metrics
};

// ------------------------------------------------------------------------------------------------------------ beginning

inline config model::settings(choices& c) {
    using std::chrono::milliseconds;
    config s;
    s.write_timeout = milliseconds{1000};
    s.pong_timeout = milliseconds{3000};
    if (c.below(2) == 1) s.ping_period = milliseconds{1000};
    s.close_timeout = milliseconds{500};
    s.max_message_size = c.of<std::size_t>({1024, 200, 5000});
    s.max_fragments = c.of<std::size_t>({65'536, 65'536, 65'536, 3});
    s.max_outbox_bytes = c.of<std::size_t>({1024, 60, 5000, 1'000'000});
    s.on_overflow = c.of({overflow::close, overflow::drop, overflow::coalesce});
    s.max_rooms = c.of<std::size_t>({1024, 1, 2});
    s.on_duplicate_id = c.of({duplicate_id::refuse, duplicate_id::replace});
    s.binary_messages = c.below(2) == 1;
    s.keep_request = c.below(2) == 0;
    s.listener.write_buffer_size = c.of<std::size_t>({16 * 1024, 1024, 2048});
    return s;
}

inline model::model(std::span<const std::uint8_t> bytes, bool traced)
    : choices_{bytes}, settings_{settings(choices_)}, traced_{traced} {
    const auto loops = 1 + choices_.below(2);
    server_.emplace(settings_, loops, choices_.one_in(3));
    if (choices_.one_in(4)) max_waiting_ = 3000;
    if (max_waiting_ != 0) server_->hub().load()->max_waiting = max_waiting_;
    listen();
}

inline void model::listen() {
    auto& s = *server_;
    s.on_connection([this](connection_type& c) {
        c.session() = std::make_shared<int>(static_cast<int>(records_.size()));
        auto& r = records_.emplace_back();
        r.id = c.id();
        r.client = &server_->clients().back();
        r.self = &c;
        r.peer = server_->hub().find(c.id());
        r.handle = c.handle();
        r.alive = c.session();
        r.loop = r.peer->on_loop().index();
        r.last_heard = now(r);
        ids_[r.id] = &r;
        connecting_ = &r;
        count("connected");
        acts(&r);
    });
    s.on("e", [this](connection& c, const std::string& data) {
        heard(of(c), "event", data);
        acts(&of(c));
    });
    s.on("n", [this](connection& c, int number) { heard(of(c), "number", std::to_string(number)); });
    s.on_message([this](connection& c, message_view m) {
        heard(of(c), m.is_text ? "text" : "binary", m.data);
        acts(&of(c));
    });
    s.on_ping([this](connection& c, bytes_view data) {
        auto& r = of(c);
        heard(r, "ping", as_text(data));
        // The pong was sent just before, unless one waits already.
        if (!r.pong_waits) {
            const auto bytes = server_frame(0x8A, as_text(data));
            r.out.push_back({bytes, {}, 0});
            r.out_bytes += bytes.size();
            ++expected_["sent pongs"];
        }
        if (r.is_open() && r.peer->is_lagging()) r.pong_waits = true;
        acts(&r);
    });
    s.on_pong([this](connection& c, bytes_view data) {
        heard(of(c), "pong", as_text(data));
        acts(&of(c));
    });
    s.on_drain([this](connection& c) {
        auto& r = of(c);
        parse(r);
        require(r.is_open() && !r.is_over, r.id + " drained, and is gone");
        require(r.was_lagging, r.id + " drained, and had taken everything before");
        require(c.buffered_amount() == 0 && waiting(r) == 0, r.id + " drained, and something waits");
        r.pong_waits = false;
        r.was_lagging = false;
        ++r.drains;
        count("drained");
        acts(&r);
    });
    s.on_leave([this](connection& c, std::string_view room) {
        auto& r = of(c);
        const std::string name{room};
        say(r.id, " left ", name);
        require(!r.is_over, r.id + " left " + name + " after on_disconnect");
        if (r.is_open()) {
            const auto due = r.leaving.find(name);
            require(due != r.leaving.end(), r.id + " left " + name + ", and nobody said so");
            if (due != r.leaving.end()) r.leaving.erase(due);
        }
        require(r.rooms.erase(name) == 1, r.id + " left " + name + ", and was not in it");
        acts(&r);
    });
    s.on_disconnect([this](connection_type& c, close_code code, std::string_view reason) { over(c, code, reason); });
    s.on_error([this](connection& c, const error_report& e) {
        auto& r = of(c);
        require(!r.is_over || e.code == errc::handler_threw,
                r.id + " reported after on_disconnect: " + e.code.message());
        require(e.code.category() == category(), "a report of a foreign category");
        const auto what = static_cast<errc>(e.code.value());
        say(r.id, " reports ", e.code.message());
        switch (what) {
            case errc::malformed_event: heard(r, "malformed", ""); break;
            case errc::wrong_type: heard(r, "wrong type", ""); break;
            case errc::unhandled_event: heard(r, "unhandled", ""); break;
            case errc::pong_timeout:
                require(now(r) - r.last_heard >= settings_.pong_timeout.count(), r.id + " timed out and has spoken");
                r.causes.push_back({1006, "pong_timeout"});
                r.cut_off = true;
                break;
            case errc::write_timeout:
                require(now(r) - r.progress >= settings_.write_timeout.count() - step,
                        r.id + " timed out and has read");
                r.causes.push_back({1006, "write_timeout"});
                r.cut_off = true;
                break;
            case errc::outbox_full:
                // A pong is written down only when the application hears of the ping.
                if (!r.too_slow && !r.incoming.empty() && r.incoming.front().kind == std::string_view{"ping"} &&
                    settings_.on_overflow != overflow::drop &&
                    waiting(r) + 2 * r.pings_unseen + 2 + r.incoming.front().text.size() > settings_.max_outbox_bytes) {
                    r.causes.push_back({1013, "outbox_full", "too slow"});
                    r.too_slow = true;
                }
                if (!r.too_slow && max_waiting_ != 0) {
                    count("relieved");
                    r.causes.push_back({1013, "outbox_full", "too slow"});
                    r.cut_off = true;
                }
                break;
            default: break;
        }
        ++expected_["reported " + std::to_string(e.code.value())];
        if (choices_.one_in(64)) throw std::runtime_error{"planned, in on_error"};
    });
}

// -------------------------------------------------------------------------------------------------------------- knowing

inline model::aim model::resolve(const meant& m) {
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

inline std::vector<model::record*> model::chosen(const aim& a, std::size_t loop) {
    std::vector<record*> all;
    const auto is_among = [](const auto& list, const auto& one) {
        return std::find(list.begin(), list.end(), one) != list.end();
    };
    const auto is_in = [](const record& r, const std::vector<std::string>& rooms) {
        return std::any_of(rooms.begin(), rooms.end(), [&](const auto& room) { return r.rooms.contains(room); });
    };
    for (auto& r : records_) {
        if (!r.is_open() || r.loop != loop || &r == a.not_me) continue;
        if (is_among(a.except_peers, &r) || is_in(r, a.except_rooms)) continue;
        if (a.everyone || is_among(a.peers, &r) || is_in(r, a.rooms)) all.push_back(&r);
    }
    return all;
}

// ---------------------------------------------------------------------------------------------------- towards the client

inline void model::parse(record& r) {
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
        require((byte(0) & 0x70U) == 0 && byte(1) < 128, r.id + " was sent what is no frame of a server");
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

inline void model::match(record& r, std::string_view bytes) {
    require(!r.close_frame, r.id + " was sent something after the close frame");
    while (r.next != r.out.size() && r.out[r.next].withdrawn) ++r.next;
    const auto& due = r.next == r.out.size() ? std::string{} : r.out[r.next].bytes;
    if (!due.empty() && due == bytes) {
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

inline void model::sample(record& r) {
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
inline model::frame* model::waiting_frame(record& r, const std::string& key) {
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

inline void model::hand(record& r, const note& n) {
    if (!r.is_open()) return;
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
        const auto left = r.peer->buffered() - (older != nullptr ? older->bytes.size() : 0);
        const bool fits = left == 0 || left + n.bytes.size() <= settings_.max_outbox_bytes;
        if (!fits && settings_.on_overflow != overflow::drop) {
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
    say("  ", r.id, lagging ? " waits for " : " gets ", n.bytes.size(), " bytes");
    ++expected_[n.kind];
    r.out.push_back({n.bytes, key, r.pings_seen + r.pings_unseen});
    r.out_bytes += n.bytes.size();
}

/// A send that finds the loop's buffer full sends what is in it first, and may find only then that its peer reads slowly. Here
/// that comes before the model looks.
inline void model::flush_as_one_send_would(record& r, const note& n) {
    if (!r.is_open() || r.peer->is_lagging()) return;
    auto& l = server_->loop(r.loop);
    const bool is_large = n.bytes.size() > l.buffer().capacity() / 2;
    if (is_large ? n.is_native && r.peer->buffered() != 0 : n.bytes.size() > l.buffer().room()) l.flush_all();
}

// ------------------------------------------------------------------------------------------------------------ what to do

/// One whose connection is not freed, and may be over.
inline model::record* model::any_of(bool must_be_open) {
    std::vector<record*> all;
    for (auto& r : records_) {
        if (must_be_open ? r.is_open() : r.peer != nullptr) all.push_back(&r);
    }
    return all.empty() ? nullptr : all[choices_.below(all.size())];
}

inline std::string model::any_name() {
    const auto n = choices_.below(20);
    return n < 11 ? "r" + std::to_string(n % 4) : n < 19 ? "c" + std::to_string(n - 11) : "nobody";
}

inline std::string model::text() {
    const auto size = choices_.of<std::size_t>({0, 1, 7, 20, 100, 126, 300, 600, 1200, 3000});
    ++sequence_;
    return std::to_string(sequence_) + ":" + std::string(size, static_cast<char>('a' + sequence_ % 26));
}

inline model::meant model::any_meant(record* speaker) {
    using core::name;
    if (speaker != nullptr && !speaker->is_open()) speaker = nullptr;
    const auto made = [&]() -> meant {
        const auto one = any_name();
        switch (choices_.below(speaker != nullptr ? 9 : 6)) {
            case 0:
            case 5: return {server_->to(arke::all), true};
            case 1: return {server_->to(one), false, nullptr, {{name::kind::any, one}}};
            case 2: {
                const auto other = any_name();
                return {server_->to(one, other), false, nullptr, {{name::kind::any, one}, {name::kind::any, other}}};
            }
            case 3: return {server_->to(arke::id{one}), false, nullptr, {{name::kind::id, one}}};
            case 4: return {server_->to(arke::room{one}), false, nullptr, {{name::kind::room, one}}};
            case 6: return {speaker->self->to(arke::not_me), true, speaker};
            case 7: return {speaker->self->to(one, arke::not_me), false, speaker, {{name::kind::any, one}}};
            default: return {speaker->self->to(arke::broadcast, arke::all), true, speaker};
        }
    };
    auto m = made();
    for (auto more = choices_.of<std::size_t>({0, 0, 0, 1, 2}); more != 0; --more) {
        const auto one = any_name();
        switch (choices_.below(3)) {
            case 0:
                m.to.except(one);
                m.except.push_back({name::kind::any, one});
                break;
            case 1:
                m.to.except(arke::id{one});
                m.except.push_back({name::kind::id, one});
                break;
            default:
                m.to.except(arke::room{one});
                m.except.push_back({name::kind::room, one});
                break;
        }
    }
    return m;
}

inline model::note model::any_note(bool& is_good, std::string& event, std::string& data, std::string& key) {
    event = choices_.of<const char*>({"e", "f", "position"});
    data = text();
    key = choices_.of<const char*>({"", "x", "y"});
    is_good = !choices_.one_in(32);
    if (!is_good) event = choices_.of<const char*>({"a;b", "", "\xFF"});
    note n{server_frame(0x81, settings_.event_prefix + event + ";0;" + data), "sent events"};
    n.how = choices_.of({urgency::normal, urgency::normal, urgency::latest_only, urgency::now_or_never});
    if (n.how != urgency::latest_only) key.clear();
    n.key = event + '\0' + key;
    return n;
}

/// Says it by the function of its urgency, and whether it was refused.
template <class To>
bool model_emit(To& to, urgency how, const std::string& event, const std::string& data, const std::string& key) {
    try {
        switch (how) {
            case urgency::normal: to.emit(event, data); break;
            case urgency::now_or_never: to.emit_volatile(event, data); break;
            case urgency::latest_only: to.emit_latest(event, data, key); break;
        }
    } catch (const std::invalid_argument&) {
        return false;
    }
    return true;
}

inline void model::emit_to_many(record* me) {
    bool is_good = true;
    std::string event;
    std::string data;
    std::string key;
    auto n = any_note(is_good, event, data, key);
    auto m = any_meant(me);
    say("emits ", event, " ", data, " to ", m, ", urgency ", static_cast<std::size_t>(n.how));
    // arke.v1 could carry this name, so it is not refused; but everybody here speaks the protocol of 2016, which cannot.
    const bool is_taken = is_good || event == "a;b";
    if (is_taken) {
        const auto a = resolve(m);
        for (const auto loop : a.loops) {
            on_loop(loop, [this, a, n, loop, is_good] {
                flush_as_a_delivery_would(loop);
                for (auto* const r : chosen(a, loop)) {
                    if (is_good) hand(*r, n);
                }
            });
        }
    }
    require(model_emit(m.to, n.how, event, data, key) == is_taken, "emit(" + event + ") was refused, or not");
}

inline void model::emit_to_one(record* me) {
    bool is_good = true;
    std::string event;
    std::string data;
    std::string key;
    auto n = any_note(is_good, event, data, key);
    auto* const r = me != nullptr && choices_.below(2) == 0 ? me : any_record();
    if (r == nullptr) return;
    say("emits ", event, " ", data, " to ", r->id, ", urgency ", static_cast<std::size_t>(n.how));
    // What cannot be said is not noticed where nobody hears it any more.
    if (!is_good && !r->is_open()) return;
    if (is_good) {
        on_loop(r->loop, [this, r, n] {
            flush_as_one_send_would(*r, n);
            hand(*r, n);
        });
    }
    const bool by_reference = r == me && server_->loop(r->loop).in_turn() && choices_.below(2) == 0;
    const bool said =
        by_reference ? model_emit(*r->self, n.how, event, data, key) : model_emit(r->handle, n.how, event, data, key);
    require(said == is_good, "emit(" + event + ") was refused, or not");
}

inline void model::message_to_many(record* me) {
    const bool is_binary = choices_.below(2) == 1;
    const auto data = text();
    auto m = any_meant(me);
    const bool as_text = !is_binary || !settings_.binary_messages;
    const note n{server_frame(as_text ? 0x81 : 0x82, data), as_text ? "sent texts" : "sent binaries", {}, {}, true};
    const auto a = resolve(m);
    say("messages ", data, " to ", m);
    for (const auto loop : a.loops) {
        on_loop(loop, [this, a, n, loop] {
            flush_as_a_delivery_would(loop);
            for (auto* const r : chosen(a, loop)) hand(*r, n);
        });
    }
    if (is_binary) {
        m.to.emit_message(as_bytes(data));
    } else {
        m.to.emit_message(data);
    }
}

inline void model::message_to_one(record* me) {
    const bool is_binary = choices_.below(2) == 1;
    const auto data = text();
    auto* const r = me != nullptr && choices_.below(2) == 0 ? me : any_record();
    if (r == nullptr) return;
    say("messages ", data, " to ", r->id);
    const bool by_reference = r == me && server_->loop(r->loop).in_turn();
    // A message_view keeps its kind, whatever the config says.
    const bool as_it_is = choices_.one_in(3);
    const bool as_text = as_it_is ? !is_binary : !is_binary || !settings_.binary_messages;
    const note n{server_frame(as_text ? 0x81 : 0x82, data), as_text ? "sent texts" : "sent binaries", {}, {}, true};
    on_loop(r->loop, [this, r, n] {
        flush_as_one_send_would(*r, n);
        hand(*r, n);
    });
    const auto tell = [&](auto& to) {
        if (as_it_is) return to.emit_message(message_view{data, !is_binary});
        if (is_binary) return to.emit_message(as_bytes(data));
        to.emit_message(data);
    };
    if (by_reference) {
        tell(*r->self);
    } else {
        tell(r->handle);
    }
}

inline void model::join_one(record* me) {
    auto* const r = me != nullptr && choices_.below(3) != 0 ? me : any_record();
    if (r == nullptr) return;
    const auto room = choices_.below(3) != 2 ? any_room() : any_name();
    say(r->id, " joins ", room);
    const bool here = server_->loop(r->loop).in_turn();
    const bool taken = is_taken(room, *r);
    if (here) {
        const bool by_reference = r == me && choices_.below(2) == 0;
        bool joins = by_reference ? r->is_open() : is_reachable(*r);
        if (joins && !r->rooms.contains(room)) {
            const bool full = r->rooms.size() >= settings_.max_rooms;
            joins = !full && !taken;
            if (joins) r->rooms.insert(room);
            if (by_reference && !joins) ++due_report(full ? errc::too_many_rooms : errc::name_taken);
        }
        const bool did = by_reference ? r->self->join(room) : r->handle.join(room);
        require(did == joins, r->id + (did ? " joined " : " did not join ") + room);
        return;
    }
    const bool joins = is_reachable(*r) && !taken;
    if (joins) {
        ++pending_[room][r->loop];
        server_->loop(r->loop).post([this, r, room] {
            --pending_[room][r->loop];
            if (r->is_open() && r->rooms.size() < settings_.max_rooms) r->rooms.insert(room);
        });
    }
    require(r->handle.join(room) == joins, r->id + " joins " + room + " from outside, or does not");
}

inline void model::leave_one(record* me) {
    auto* const r = me != nullptr && choices_.below(3) != 0 ? me : any_record();
    if (r == nullptr) return;
    auto room = any_room();
    if (!r->rooms.empty() && choices_.below(3) != 0) room = *r->rooms.begin();
    say(r->id, " leaves ", room);
    if (server_->loop(r->loop).in_turn()) {
        const bool by_reference = r == me && choices_.below(2) == 0;
        const bool leaves = (by_reference ? r->is_open() : is_reachable(*r)) && r->rooms.contains(room);
        if (leaves) r->leaving.insert(room);
        const bool did = by_reference ? r->self->leave(room) : r->handle.leave(room);
        require(did == leaves, r->id + (did ? " left " : " did not leave ") + room);
        return;
    }
    const bool reaches = is_reachable(*r);
    if (reaches) {
        server_->loop(r->loop).post([r, room] {
            if (r->is_open() && r->rooms.contains(room)) r->leaving.insert(room);
        });
    }
    require(r->handle.leave(room) == reaches, r->id + " leaves " + room + " from outside, or does not");
}

inline void model::join_many(record* me) {
    auto m = any_meant(me);
    const auto room = choices_.below(3) != 2 ? any_room() : any_name();
    const auto a = resolve(m);
    say(m, " join ", room);
    for (const auto loop : a.loops) {
        ++pending_[room][loop];
        on_loop(loop, [this, a, loop, room] {
            for (auto* const r : chosen(a, loop)) {
                if (r->rooms.contains(room)) continue;
                if (r->rooms.size() >= settings_.max_rooms) {
                    ++due_report(errc::too_many_rooms);
                } else if (is_taken(room, *r)) {
                    ++due_report(errc::name_taken);
                } else {
                    r->rooms.insert(room);
                }
            }
        });
    }
    m.to.join(room);
    for (const auto loop : a.loops) on_loop(loop, [this, room, loop] { --pending_[room][loop]; });
}

inline void model::leave_many(record* me) {
    auto m = any_meant(me);
    const auto room = any_room();
    const auto a = resolve(m);
    say(m, " leave ", room);
    std::vector<std::pair<std::size_t, std::function<void()>>> told;
    for (const auto loop : a.loops) {
        const auto who = std::make_shared<std::vector<record*>>();
        const auto before = std::make_shared<std::size_t>(0);
        on_loop(loop, [this, a, loop, room, who, before] {
            *who = chosen(a, loop);
            for (auto* const r : *who) r->leaving.insert(room);
            *before = acts_done_;
        });
        told.emplace_back(loop, [this, room, who, before] {
            for (auto* const r : *who) {
                // Whoever was in is out, unless a handler has changed it meanwhile.
                require(*before != acts_done_ || !r->rooms.contains(room), r->id + " is still in " + room);
            }
        });
    }
    const auto acts_before = acts_done_;
    m.to.leave(room);
    // A handler that ran meanwhile has posted things of its own before this.
    if (acts_before != acts_done_) return;
    for (auto& [loop, check] : told) on_loop(loop, std::move(check));
}

inline void model::disconnect_many(record* me) {
    auto m = any_meant(me);
    const auto code = choices_.of({1000U, 1001U, 1011U, 3000U, 4999U});
    const std::string reason = choices_.of<const char*>({"", "enough", "auf Wiederh\xC3\xB6ren"});
    const auto a = resolve(m);
    say("disconnects ", m, " with ", static_cast<std::size_t>(code));
    for (const auto loop : a.loops) {
        on_loop(loop, [this, a, loop, code, reason] {
            for (auto* const r : chosen(a, loop)) {
                r->causes.push_back({code, "by_server", reason});
                r->must_end = true;
            }
        });
    }
    m.to.disconnect(static_cast<close_code>(code), reason);
}

inline void model::disconnect_one(record* me) {
    auto* const r = me != nullptr && choices_.below(3) != 0 ? me : any_record();
    if (r == nullptr) return;
    const auto code = choices_.of({1000U, 1001U, 1011U, 3000U, 4999U});
    const std::string reason = choices_.of<const char*>({"", "enough", "auf Wiederh\xC3\xB6ren"});
    say("disconnects ", r->id, " with ", static_cast<std::size_t>(code));
    on_loop(r->loop, [r, code, reason] {
        if (!r->is_open()) return;
        r->causes.push_back({code, "by_server", reason});
        r->must_end = true;
    });
    if (r == me && server_->loop(r->loop).in_turn() && choices_.below(2) == 0) {
        r->self->disconnect(static_cast<close_code>(code), reason);
        require(!r->self->is_connected(), r->id + " is connected after disconnect()");
    } else {
        r->handle.disconnect(static_cast<close_code>(code), reason);
    }
}

inline void model::run_on_one() {
    auto* const r = any_record();
    if (r == nullptr) return;
    say("runs something on ", r->id);
    const auto did = std::make_shared<int>(-1);
    on_loop(r->loop, [r, did] { *did = r->is_open() ? 1 : 0; });
    r->handle.run([this, r, did](connection& c) {
        require(*did == 1 && &c == static_cast<connection*>(r->self), "run() ran for " + r->id + ", which is gone");
        *did = 0;
        acts(r);
    });
    on_loop(r->loop, [this, r, did] { require(*did == 0, "run() did not run for " + r->id); });
}

inline void model::keep_or_drop_a_handle() {
    if (kept_.size() > 4 || (!kept_.empty() && choices_.below(2) == 0)) {
        kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(choices_.below(kept_.size())));
    } else if (auto* const r = any_record()) {
        kept_.emplace_back(r, r->handle);
    }
    for (auto& [r, handle] : kept_) {
        require(handle.id() == r->id && handle.is_connected() == is_reachable(*r),
                "the handle of " + r->id + " does not know");
        // Nobody hears it where the connection is gone; where it is not, emit_to_one() does the same.
        if (!handle.is_connected() && !r->is_open()) {
            handle.emit("e", "into the void");
            handle.disconnect();
            require(!handle.join("r0") && !handle.leave("r0"), "a handle of " + r->id + ", which is gone, joins");
        }
    }
}

inline void model::ping_self(record& me) {
    const auto data = "p" + std::to_string(++sequence_);
    say("pings ", me.id, " ", data);
    note n{server_frame(0x89, data), "sent pings"};
    n.is_control = true;
    flush_as_one_send_would(me, n);
    hand(me, n);
    me.self->ping(as_bytes(data));
}

inline void model::act(record* me) {
    ++acts_done_;
    ++depth_;
    switch (choices_.below(20)) {
        case 0:
        case 1:
        case 2:
        case 3: emit_to_many(me); break;
        case 4:
        case 5:
        case 6: emit_to_one(me); break;
        case 7: message_to_many(me); break;
        case 8:
        case 9: message_to_one(me); break;
        case 10:
        case 11:
        case 12: join_one(me); break;
        case 13: leave_one(me); break;
        case 14: join_many(me); break;
        case 15: leave_many(me); break;
        case 16:
            if (const auto n = choices_.below(16); n > 12) {
                disconnect_one(me);
            } else if (n == 12) {
                disconnect_many(me);
            }
            break;
        case 17: run_on_one(); break;
        case 18: keep_or_drop_a_handle(); break;
        default:
            if (me != nullptr && me->is_open() && server_->loop(me->loop).in_turn()) ping_self(*me);
            break;
    }
    --depth_;
}

/// What a handler does.
inline void model::acts(record* me, bool may_throw) {
    if (depth_ > 3 || stops_talking_) return;
    for (auto n = choices_.of<std::size_t>({0, 0, 0, 1, 1, 2}); n != 0; --n) act(me);
    if (!may_throw) return;
    const auto thrown = choices_.below(40);
    if (thrown < 38) return;
    ++due_report(errc::handler_threw);
    say(me->id, "'s handler throws");
    if (thrown == 38) throw std::runtime_error{"planned"};
    throw 7;
}

// ------------------------------------------------------------------------------------------------------------- from outside

inline void model::heard(record& r, const char* kind, std::string_view text) {
    say(r.id, " was heard: ", kind, " ", text);
    require(r.is_open() && !r.is_over, r.id + " is heard and is gone: " + kind);
    if (r.incoming.empty()) return require(false, r.id + " is heard and was silent: " + kind);
    const auto due = std::move(r.incoming.front());
    r.incoming.pop_front();
    require(due.kind == std::string_view{kind} && due.text == text, "heard of " + r.id + ": " + kind + " " +
                                                                        detail::printable(text) + " instead of " +
                                                                        due.kind + " " + detail::printable(due.text));
    count(std::string{"heard "} + kind);
}

inline void model::over(connection_type& c, close_code code, std::string_view reason) {
    auto& r = of(c);
    const auto value = static_cast<unsigned>(code);
    say(r.id, " is over with ", static_cast<std::size_t>(value), " ", reason);
    require(!r.is_over, r.id + " is over twice");
    require(!r.is_open() && !c.is_connected(), r.id + " is over and connected");
    require(r.rooms.empty(), r.id + " is over and in " + (r.rooms.empty() ? "" : *r.rooms.begin()));
    r.is_over = true;
    r.over_at = now(r);
    if (r.is_broken()) r.causes.push_back({1006, "broken"});
    const cause* why = nullptr;
    for (const auto& each : r.causes) {
        if (each.code != value || (each.reason && *each.reason != reason)) continue;
        if (why == nullptr || (each.reason && !why->reason)) why = &each;
    }
    require(why != nullptr, r.id + " is over with " + std::to_string(value) + " " + detail::printable(reason) +
                                ", for which there is no reason");
    if (why != nullptr) {
        r.ended = {value, why->counted, std::string{reason}};
        r.closed_by_itself = why->counted == std::string_view{"by_peer"};
        ++expected_[std::string{"closed "} + why->counted];
        count(std::string{"closed "} + why->counted);
    }
    if (value == 1006) r.cut_off = true;
    if (const auto found = ids_.find(r.id); found != ids_.end() && found->second == &r) ids_.erase(found);
    r.incoming.clear();
    acts(&r);
}

inline void model::connect() {
    const auto id = "c" + std::to_string(choices_.below(8));
    const auto loop = choices_.below(server_->loop_count());
    const auto room = choices_.of<std::size_t>({0, 0, 0, 5, 40, 200});
    const bool is_slow = room != 0;
    if (holder(id) != nullptr && !choices_.one_in(4)) return;
    // What was posted may end the holder of the id first.
    while (server_->loop(loop).run_posts()) {
    }
    auto* const old = holder(id);
    const bool refused = old != nullptr && settings_.on_duplicate_id == duplicate_id::refuse;
    say(id, " connects to loop ", loop);
    if (old != nullptr && !refused) {
        old->causes.push_back({1008, "replaced", "replaced by a newer connection with the same id"});
        old->must_end = true;
    }
    connecting_ = nullptr;
    const auto& client = server_->connect(id, loop, [&](testing::memory_transport& stream) {
        if (is_slow) stream.room = room;
    });
    require(client.was_refused() == refused, id + (refused ? " was not refused" : " was refused"));
    require((connecting_ == nullptr) == refused, id + " was heard of, or not");
    if (refused) count("refused");
}

/// Adds a message to what the client is about to send.
inline void model::compose(record& r) {
    std::string bytes;
    hearing what{"", ""};
    std::optional<unsigned> ends_with;
    const auto begin = r.outbound_begin + r.outbound.size();
    const auto max = settings_.max_message_size;
    // Whole, or in fragments with a ping between them.
    const auto message = [&](unsigned opcode, const std::string& payload) {
        const auto parts = choices_.of<std::size_t>({1, 1, 1, 2, 3, 4});
        if (payload.size() > max) ends_with = 1009;
        if (parts == 1 || payload.size() < parts) {
            bytes = testing::client_frame(0x80U | opcode, payload);
            return;
        }
        if (parts > settings_.max_fragments && !ends_with) ends_with = 1008;
        const auto size = payload.size() / parts;
        for (std::size_t i = 0; i != parts; ++i) {
            const bool last = i + 1 == parts;
            bytes += testing::client_frame((i == 0 ? opcode : 0U) | (last ? 0x80U : 0U),
                                           std::string_view{payload}.substr(i * size, last ? std::string::npos : size));
            if (i == 0 && !ends_with && choices_.one_in(3)) {
                bytes += testing::client_frame(0x89, "within");
                r.passages.push_back({begin, begin + bytes.size(), {"ping", "within"}, {}});
            }
        }
    };
    const auto& prefix = settings_.event_prefix;
    const auto small_text = [&] {
        auto made = text();
        if (made.size() + 64 > max && !choices_.one_in(8)) made.resize(max - 64);
        return made;
    };
    switch (choices_.below(16)) {
        case 0:
        case 1:
        case 2:
        case 3: {
            what = {"event", small_text()};
            message(1, prefix + "e;0;" + what.text);
            break;
        }
        case 4:
            what = {"number", std::to_string(choices_.below(200))};
            message(1, prefix + "n;1;" + what.text);
            break;
        case 5:
            what = {"wrong type", ""};
            message(1, prefix + "n;0;x");
            break;
        case 6:
            what = {"unhandled", ""};
            message(1, prefix + "nobody;0;hears it");
            break;
        case 7:
            what = {"malformed", ""};
            message(1, prefix + choices_.of<const char*>({"", "e", "e;", "e;9;", ";0;x", "e;00;"}));
            break;
        case 8:
            what = {"text", small_text()};
            message(1, what.text);
            break;
        case 9:
            what = {"binary", small_text() + "\xFF"};
            message(2, what.text);
            break;
        case 10:
        case 11:
            what = {"ping", choices_.below(2) == 0 ? std::string{} : "q" + std::to_string(++sequence_)};
            bytes = testing::client_frame(0x89, what.text);
            break;
        case 12:
            what = {"pong", std::to_string(++sequence_)};
            bytes = testing::client_frame(0x8A, what.text);
            break;
        case 13: {
            if (!choices_.one_in(4)) return;
            const auto code = choices_.of({1000U, 1001U, 3333U, 1005U});
            ends_with = code;
            what = {"close", code == 1005 ? "" : "bye"};
            bytes = code == 1005 ? testing::client_frame(0x88, "") : testing::client::close_frame(code, what.text);
            break;
        }
        case 14: {
            if (!choices_.one_in(4)) return;
            using namespace std::string_view_literals;
            struct broken {
                std::string_view bytes;
                unsigned code;
            };
            const auto one = choices_.of<broken>({{"\x81\x01"
                                                   "a"sv,
                                                   1002},
                                                  {"\xC1\x80\1\2\3\4"sv, 1002},
                                                  {"\x83\x80\1\2\3\4"sv, 1002},
                                                  {"\x80\x80\1\2\3\4"sv, 1002},
                                                  {"\x89\xFE\0\x7E\1\2\3\4"sv, 1002},
                                                  {"\x09\x80\1\2\3\4"sv, 1002},
                                                  {"\x81\x81\0\0\0\0\xFF"sv, 1007},
                                                  {"\x01\x82\0\0\0\0\xC3\x28"sv, 1007},
                                                  {"\x81\xFE\0\x05\1\2\3\4"sv, 1002},
                                                  {"\x88\x81\0\0\0\0\x03"sv, 1002},
                                                  {"\x88\x82\0\0\0\0\x03\xED"sv, 1002},
                                                  {"\x88\x83\0\0\0\0\x03\xE8\xFF"sv, 1007},
                                                  {"\x81\xFF\x00\x00\x00\xFF\xFF\xFF\xFF\xFF\1\2\3\4"sv, 1009},
                                                  {"\x01\x80\1\2\3\4\x01\x80\1\2\3\4"sv, 1002}});
            bytes = one.bytes;
            ends_with = one.code;
            what = {"fault", ""};
            break;
        }
        default:
            what = {"text", std::string(max + (choices_.one_in(8) ? 1 : 0), 'z')};
            message(1, what.text);
            break;
    }
    r.outbound += bytes;
    r.passages.push_back({begin, begin + bytes.size(), what, ends_with});
    if (ends_with) {
        // What comes after the last word is never looked at.
        r.is_silent = true;
        if (choices_.below(2) == 1) r.outbound += testing::client_frame(0x81, "too late");
    }
}

inline void model::send_some(record& r) {
    if (r.client->stream().is_closed) return;
    for (auto n = 1 + choices_.below(4); n != 0 && !r.is_silent && r.outbound.size() < 20'000; --n) compose(r);
    if (r.outbound.empty()) return;
    auto size = r.outbound.size();
    if (choices_.one_in(3)) size = 1 + choices_.below(std::min<std::size_t>(size, 250));
    const bool open = r.is_open();
    r.outbound_begin += size;
    bool must_end = false;
    while (!r.passages.empty() && r.passages.front().begin < r.outbound_begin) {
        auto& p = r.passages.front();
        if (p.ends_with && open) {
            const bool is_close = p.what.kind == std::string_view{"close"};
            cause why{*p.ends_with, *p.ends_with == 1009 ? "message_too_big" : "frame_violation"};
            if (is_close) why = {*p.ends_with, "by_peer", p.what.text};
            r.causes.push_back(why);
        }
        if (p.end > r.outbound_begin) break;
        if (p.ends_with) must_end = true;
        if (open && !p.ends_with) r.incoming.push_back(std::move(p.what));
        r.passages.pop_front();
    }
    say(r.id, " sends ", size, " bytes");
    sample(r);
    r.pings_before_silence = r.pings_seen + r.pings_unseen;
    r.last_heard = now(r);
    if (!r.is_open()) r.incoming.clear();
    r.client->sends(std::exchange(r.outbound, r.outbound.substr(size)).substr(0, size));
    if (r.is_open()) {
        require(r.incoming.empty(),
                r.id + " said what was not heard: " + (r.incoming.empty() ? "" : r.incoming.front().kind));
        require(!must_end, r.id + " is still open after its last word");
    } else {
        r.incoming.clear();
    }
}

inline void model::read_some(record& r) {
    auto& stream = r.client->stream();
    sample(r);
    const bool lagged = r.is_open() && r.peer->is_lagging();
    const auto drains = r.drains;
    switch (choices_.below(6)) {
        case 0:
            say(r.id, " reads everything");
            stream.most_at_once = testing::memory_transport::everything;
            stream.makes_room(testing::memory_transport::everything);
            break;
        case 1: {
            const auto more = choices_.of<std::size_t>({1, 2, 3, 20, 60, 200, 1000});
            say(r.id, " reads ", more);
            stream.makes_room(more);
            break;
        }
        case 2:
            say(r.id, " stops reading");
            stream.room = choices_.of<std::size_t>({0, 0, 1, 30, 500});
            break;
        case 3:
            stream.most_at_once = choices_.of<std::size_t>({1, 7, 100, testing::memory_transport::everything});
            break;
        case 4:
            if (choices_.one_in(8) && !r.is_broken()) {
                stream.fails_at = stream.operations + static_cast<int>(choices_.below(3));
                say(r.id, "'s stream breaks at operation ", static_cast<std::size_t>(stream.fails_at));
            }
            break;
        default:
            if (!choices_.one_in(6) || stream.is_closed) break;
            if (r.is_open()) r.causes.push_back({1006, "broken"});
            r.cut_off = true;
            if (choices_.below(2) == 0) {
                say(r.id, " hangs up");
                r.client->hangs_up();
            } else {
                say(r.id, " vanishes");
                r.client->vanishes();
            }
            require(!r.is_open(), r.id + " hung up and is open");
            break;
    }
    if (lagged && r.is_open() && !stream.waits_for_room() && !r.is_broken())
        require(r.drains == drains + 1, r.id + " has read all and on_drain did not run once");
    sample(r);
}

inline void model::pass(core::millis time) {
    say("time passes: ", static_cast<std::size_t>(time));
    for (; time > 0 && failure_.empty(); time -= step) {
        server_->pass(std::chrono::milliseconds{std::min(time, step)});
        for (auto& r : records_) {
            if (!r.peer) continue;
            sample(r);
            const auto& stream = r.client->stream();
            if (!r.is_open()) {
                if (r.is_over && !stream.is_closed)
                    require(now(r) - r.over_at < settings_.close_timeout.count() + slack,
                            r.id + " is not closed in time");
                continue;
            }
            const auto silence = now(r) - r.last_heard;
            require(silence < settings_.pong_timeout.count() + slack, r.id + " is silent and not cut");
            require(!r.was_lagging || now(r) - r.progress < settings_.write_timeout.count() + slack,
                    r.id + " reads nothing and is not cut");
            const auto pings = r.pings_seen + r.pings_unseen - r.pings_before_silence;
            require(pings <= 1, r.id + " was pinged twice");
            if (!r.was_lagging)
                require(pings == 1 || silence < effective_ping_period(settings_).count() + slack,
                        r.id + " was not pinged");
        }
    }
}

inline void model::stop() {
    say("the server stops");
    for (std::size_t loop = 0; loop != server_->loop_count(); ++loop) {
        server_->in_turn(
            [&] {
                for (auto& r : records_) {
                    if (!r.is_open() || r.loop != loop) continue;
                    r.causes.push_back({1001, "stopping", "the server stops"});
                    r.must_end = true;
                    r.peer->on_stop();
                    require(!r.is_open(), r.id + " was stopped and is open");
                }
            },
            loop);
    }
}

inline void model::top_step() {
    ++steps_;
    for (auto& r : records_) r.leaving.clear();
    const auto step_of = [this](const char* what) { doing_ = what; };
    switch (choices_.below(16)) {
        case 0:
        case 1:
            step_of("connect");
            connect();
            break;
        case 2:
        case 3:
        case 4:
        case 5:
            step_of("send");
            if (auto* const r = any_record()) send_some(*r);
            break;
        case 6:
        case 7:
        case 8:
            step_of("act from outside");
            act(any_open());
            break;
        case 9: {
            step_of("act in a turn");
            auto* const r = any_open();
            const auto loop = r != nullptr ? r->loop : choices_.below(server_->loop_count());
            server_->in_turn([&] { act(r); }, loop);
            break;
        }
        case 10:
        case 11:
            step_of("read");
            if (auto* const r = any_record()) read_some(*r);
            break;
        case 12:
            step_of("time");
            pass(choices_.of<core::millis>({16, 1, 16, 40, 100, 100, 300, 300, 600, 1000, 3500}));
            break;
        case 13:
            step_of("one loop's posts");
            server_->loop(choices_.below(server_->loop_count())).run_posts();
            break;
        case 14:
            step_of("rest");
            check_at_rest();
            break;
        default:
            step_of("stop");
            if (choices_.one_in(60)) stop();
            break;
    }
}

// -------------------------------------------------------------------------------------------------------------- at rest

inline void model::check_at_rest() {
    server_->settle();
    std::map<std::string, std::set<std::string>> rooms;
    std::size_t open = 0;
    std::size_t total = 0;
    bool all_known = true;
    for (auto& r : records_) {
        if (!r.peer) {
            const bool kept = std::any_of(kept_.begin(), kept_.end(), [&](const auto& k) { return k.first == &r; });
            require(kept || r.alive.expired(), r.id + " is over, and somebody holds it");
            continue;
        }
        sample(r);
        auto& stream = r.client->stream();
        require(stream.misuse.empty(), r.id + "'s stream: " + stream.misuse);
        require(r.is_open() || r.is_over, r.id + " ended, and on_disconnect did not run");
        require(r.is_open() == r.self->is_connected(), r.id + " does not know whether it is connected");
        if (r.is_open()) {
            require(!r.must_end, r.id + " was to end");
            ++open;
            total += r.peer->buffered();
            for (const auto& room : r.rooms) rooms[room].insert(r.id + "/" + std::to_string(r.loop));
            const auto joined = r.self->rooms();
            require(std::set<std::string>(joined.begin(), joined.end()) == r.rooms && joined.size() == r.rooms.size(),
                    r.id + " is in other rooms");
            require(r.peer->is_lagging() == (stream.waits_for_room() || r.is_broken()),
                    r.id + " does not know whether it lags");
            require(r.self->buffered_amount() == (r.peer->is_lagging() ? waiting(r) + 2 * r.pings_unseen : 0),
                    r.id + " does not know what waits");
            require(!r.handle.is_connected() || server_->find(r.id) == r.handle, r.id + " is not found");
        } else {
            all_known = all_known && stream.is_closed;
        }
        const bool flowed = !stream.waits_for_room() && !stream.was_reset && !r.is_broken() && !r.cut_off;
        if (flowed) {
            while (r.next != r.out.size() && r.out[r.next].withdrawn) ++r.next;
            require(r.next == r.out.size(),
                    r.id + " was not sent " + (r.next == r.out.size() ? "" : detail::printable(r.out[r.next].bytes)));
            require(r.parsed == stream.sent.size(), r.id + " was sent half a frame");
            if (r.is_over) {
                std::string payload;
                if (r.ended.code != 1005)
                    payload = {static_cast<char>(r.ended.code >> 8U), static_cast<char>(r.ended.code)};
                if (!r.closed_by_itself) payload += r.ended.reason.value_or("");
                require(r.close_frame == server_frame(0x88, payload), r.id + " was sent another close frame, or none");
                if (r.closed_by_itself) require(stream.is_shut || stream.is_closed, r.id + " is not told the end");
            }
        }
        if (r.is_over && stream.is_closed) {
            // Nothing more can come of it.
            r.handle = {};
            r.peer = nullptr;
            r.self = nullptr;
            r.out.clear();
        }
    }
    server_->settle();
    require(server_->size() == open,
            "the server has " + std::to_string(server_->size()) + " connections instead of " + std::to_string(open));
    const auto names = server_->rooms();
    require(names.size() == rooms.size(),
            std::to_string(names.size()) + " rooms instead of " + std::to_string(rooms.size()));
    for (const auto& [name, members] : rooms) {
        const auto told = server_->members(name);
        std::multiset<std::string> expected;
        for (const auto& m : members) expected.insert(m.substr(0, m.find('/')));
        require(std::multiset<std::string>(told.begin(), told.end()) == expected,
                "room " + name + " has other members");
    }
    const auto load = server_->hub().load()->waiting.load();
    require(!all_known || load == total, std::to_string(load) + " bytes wait instead of " + std::to_string(total));
    // Those who are closing cannot be cut for it.
    require(max_waiting_ == 0 || !all_known || load <= max_waiting_, std::to_string(load) + " bytes wait in all");
    check_metrics();
}

inline void model::check_metrics() {
    metrics m;
    server_->hub().add_metrics(m, true);
    const auto is = [&](const char* name, std::uint64_t told) {
        require(told == expected_[name],
                std::string{name} + " is " + std::to_string(told) + " instead of " + std::to_string(expected_[name]));
    };
    is("sent events", m.sent.events);
    is("sent texts", m.sent.texts);
    is("sent binaries", m.sent.binaries);
    is("dropped not_ready", m.dropped.not_ready);
    is("dropped overflow", m.dropped.overflow);
    is("dropped superseded", m.dropped.superseded);
    is("closed by_peer", m.closed.by_peer);
    is("closed by_server", m.closed.by_server);
    is("closed stopping", m.closed.stopping);
    is("closed broken", m.closed.broken);
    is("closed frame_violation", m.closed.frame_violation);
    is("closed message_too_big", m.closed.message_too_big);
    is("closed outbox_full", m.closed.outbox_full);
    is("closed pong_timeout", m.closed.pong_timeout);
    is("closed write_timeout", m.closed.write_timeout);
    is("closed replaced", m.closed.replaced);
    const auto reported = [&](errc code) { return expected_["reported " + std::to_string(static_cast<int>(code))]; };
    for (const auto code : {errc::handler_threw, errc::name_taken, errc::too_many_rooms}) {
        const auto due = due_report(code);
        require(reported(code) == due, make_error_code(code).message() + ": " + std::to_string(reported(code)) +
                                           " reports instead of " + std::to_string(due));
    }
    require(m.errors.handler_threw == reported(errc::handler_threw), "handlers that threw are not counted");
    require(m.errors.wrong_type == counts_["heard wrong type"], "wrong types are not counted");
    require(m.errors.malformed_event == counts_["heard malformed"], "malformed events are not counted");
    require(m.errors.unhandled_event == counts_["heard unhandled"], "unhandled events are not counted");
    require(m.received.events == counts_["heard event"] + counts_["heard number"] + counts_["heard wrong type"] +
                                     counts_["heard unhandled"],
            "received events are not counted");
    require(m.received.texts == counts_["heard text"], "received texts are not counted");
    require(m.received.binaries == counts_["heard binary"], "received binaries are not counted");
    std::uint64_t sent = 0;
    for (auto& c : server_->clients()) sent += c.was_refused() ? 0 : c.stream().sent.size();
    require(m.sent.bytes == sent, "sent bytes are not counted");
    require(m.connections == server_->size(), "connections are not counted");
    const auto ends = m.closed.by_peer + m.closed.by_server + m.closed.stopping + m.closed.broken +
                      m.closed.frame_violation + m.closed.message_too_big + m.closed.outbox_full +
                      m.closed.pong_timeout + m.closed.write_timeout + m.closed.replaced + m.closed.out_of_memory;
    require(counts_["connected"] == ends + m.connections, "connections and ends do not add up");
}

inline void model::end_all() {
    doing_ = "end";
    check_at_rest();
    if (!failure_.empty()) return;
    if (choices_.below(3) != 0) {
        // Everybody reads, says nothing more, and times out.
        stops_talking_ = true;
        for (auto& r : records_) {
            if (r.peer) r.client->reads_everything();
        }
        check_at_rest();
        pass(8000);
        check_at_rest();
        require(server_->size() == 0, "somebody is still connected");
        kept_.clear();
        check_at_rest();
        require(server_->hub().load()->connections.load() == 0, "connections are not freed");
        require(server_->hub().load()->waiting.load() == 0, "bytes wait for nobody");
        for (std::size_t i = 0; i != server_->loop_count(); ++i)
            require(server_->loop(i).load() == 0, "a loop keeps a stream");
    }
    // What still is open ends without a word: no handler runs.
    const auto before = acts_done_;
    stops_talking_ = true;
    std::vector<std::weak_ptr<int>> alive;
    for (auto& r : records_) {
        alive.push_back(r.alive);
        r.is_over = true;
        r.handle = {};
        r.peer = nullptr;
        r.self = nullptr;
    }
    server_.reset();
    require(before == acts_done_, "a handler ran when the server was gone");
    for (auto& [r, handle] : kept_) {
        require(!handle.is_connected() && handle.id() == r->id, "a handle outlived the server and is connected");
        handle.emit("e", "nobody");
        handle.disconnect();
        require(!handle.join("r0") && !handle.leave("r0"), "a handle outlived the server and joins");
        handle.run([this](connection&) { require(false, "a handle outlived the server and runs"); });
    }
    kept_.clear();
    for (const auto& a : alive) require(a.expired(), "a connection outlived the server");
}

inline std::string model::run() {
    while (!choices_.used_up() && failure_.empty()) top_step();
    if (failure_.empty()) end_all();
    return failure_;
}

}  // namespace arke::test
