#pragma once

#include <arke/core/flood_guard.hpp>
#include <arke/event/arke_v1.hpp>
#include <arke/server.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

/// Tests of your handlers without sockets, threads or sleeps: real connections, rooms, bounds and deadlines over streams in
/// memory, and a clock that is turned by hand. No test framework is asked for.
///
///     void serve_chat(arke::endpoint& e);                 // what your program does with its arke::server
///
///     TEST_CASE("the room hears a message, and who falls silent is gone") {
///         arke::testing::server server{{.pong_timeout = 10s}};
///         serve_chat(server);
///         auto& anna = server.connect("anna");
///         auto& ben = server.connect("ben");
///         anna.emits("chat", "hello");
///         CHECK(ben.heard() == "chat(anna: hello)");
///         server.pass(10s);
///         CHECK_FALSE(server.is_connected("ben"));
///     }
///
/// What is not here is HTTP: connect() begins where the handshake has been accepted, so config::check_origin, static files and
/// the bounds of config::listener play no part, but for max_total_message_bytes.
///
/// Threads: one, the test's. What the test calls on the server outside of a turn is done as by another thread: its effect
/// comes with the next heard(), settle() or pass(). in_turn() does something as a handler would.
namespace arke::testing {

class memory_transport;

/// A loop without sockets, whose clock is turned by hand. Turns begin where the test says so.
class virtual_loop final : public core::loop {
public:
    explicit virtual_loop(std::size_t index = 0, std::size_t write_buffer_size = listener_config{}.write_buffer_size,
                          bool sends_in_batches = false)
        : loop{index, write_buffer_size, first_moment, sends_in_batches} {}

    /// Does something in a turn, as if a socket had become readable.
    template <class F>
    void in_turn_do(F&& f) {
        const turn guard{*this};
        f();
    }

    /// Whether another thread would have woken this loop; then it has its turn.
    bool run_posts() {
        if (!std::exchange(woken_, false)) return false;
        const turn guard{*this};
        return true;
    }

    /// Nothing is done any more.
    void end() {
        end_posts();
        drop_late();
    }

    /// Lets milliseconds pass. The alarm goes off when it is due, and alarms that follow from it.
    void pass(core::millis time) {
        const auto until = time_ + time;
        while (alarm_ && *alarm_ <= until) {
            time_ = std::max(time_, *alarm_);
            alarm_.reset();
            ++alarms;
            in_turn_do([this] { advance_timers(); });
        }
        time_ = until;
    }

    /// Milliseconds in which nothing runs: what comes due is late.
    void stand_still(core::millis time) noexcept { time_ += time; }

    core::millis time() const noexcept { return time_; }
    std::optional<core::millis> alarm() const noexcept { return alarm_; }

    int alarms = 0;   ///< How often the alarm went off.
    int batches = 0;  ///< How often sends left together.

    /// For transports: this one has something queued.
    void add_queued(memory_transport& by) noexcept { queued_.push_back(&by); }

    /// For transports, as one comes: that it can always be queued.
    void add_transport() {
        add_load();
        core::make_room(queued_, load());
        core::make_room(sending_, load());
    }

private:
    static constexpr core::millis first_moment = 1'000'000;

    void wake() override { woken_ = true; }
    bool is_running_here() const noexcept override { return false; }
    core::millis read_clock() const noexcept override { return time_; }
    void set_alarm(core::millis at) override { alarm_ = at; }
    void submit() override;

    core::millis time_ = first_moment;
    std::optional<core::millis> alarm_;
    bool woken_ = false;
    std::vector<memory_transport*> queued_;
    std::vector<memory_transport*> sending_;
};

/// A stream whose other end is a script. What is sent is kept; how much of it is taken, and what breaks, is said beforehand.
///
/// It watches how its user keeps to the rules of core::transport: nothing is sent between a short send and on_writable(),
/// after an error, after shutdown() or after close(), nothing empty is sent, and all happens within a turn.
class memory_transport final : public core::transport {
public:
    static constexpr std::size_t everything = std::numeric_limits<std::size_t>::max();

    memory_transport(virtual_loop& on, core::stream_user_ptr user) : loop_{on}, user_{std::move(user)} {
        loop_.add_transport();
    }
    memory_transport(const memory_transport&) = delete;
    memory_transport& operator=(const memory_transport&) = delete;

    // --- the script

    std::size_t room = everything;          ///< Bytes that are still taken.
    std::size_t most_at_once = everything;  ///< Bytes that one operation takes.
    int fails_at = -1;  ///< The operation, counted from 0, that takes nothing because the stream is broken.

    /// The other end reads, so that there is room for more.
    void makes_room(std::size_t more) {
        room = more == everything ? more : room + more;
        if (!waits_for_room_ || more == 0) return;
        waits_for_room_ = false;
        loop_.in_turn_do([this] {
            if (user_) user_->tell<&core::stream_user::on_writable>();
        });
    }

    /// Bytes arrive; the user's own memory is filled first, as a loop does it.
    void arrives(std::string_view bytes) {
        loop_.in_turn_do([&] {
            if (!user_) return;
            if (paused_ || !held_.empty()) {
                held_.append(bytes);
                return;
            }
            // In memory of its own, so that whoever keeps a view of it is found out.
            std::vector<char> buffer(bytes.begin(), bytes.end());
            std::span<char> rest{buffer};
            if (const auto own = user_->wanted(); !own.empty()) {
                const auto count = std::min(own.size(), rest.size());
                std::copy_n(rest.begin(), count, own.begin());
                rest = rest.subspan(count);
                if (count != 0) user_->tell<&core::stream_user::on_filled>(count);
            }
            if (user_ && !rest.empty()) user_->tell<&core::stream_user::on_bytes>(rest);
        });
    }

    /// The other end has nothing more to say, which is heard behind what arrived before it; or the stream breaks, which is heard at once,
    /// as by a send that fails.
    void ends(error_code why = {}) {
        if (why || (!paused_ && held_.empty())) {
            tell_end(why);
        } else {
            ends_ = true;
        }
    }

    /// What a broken stream, or one whose reads go on, tells its user on the next turn. False: nothing.
    bool catch_up() {
        if (broken_ && user_) {
            tell_end(std::exchange(broken_, {}));
            return true;
        }
        if (paused_ || !user_) return false;
        if (!held_.empty()) {
            arrives(std::exchange(held_, {}));
        } else if (std::exchange(ends_, false)) {
            tell_end({});
        } else {
            return false;
        }
        return true;
    }

    // --- the record

    std::string sent;
    std::string misuse;  ///< How its user has broken the rules: empty.
    int operations = 0;
    bool is_shut = false;
    bool is_closed = false;
    bool was_reset = false;

    bool waits_for_room() const noexcept { return waits_for_room_; }

    // --- core::transport

    core::send_result send(std::span<const core::segment> pieces) override {
        require(!waits_for_room_, "send() without room");
        require(!is_shut && !is_closed && !broken_, "send() after the end");
        require(!pieces.empty(), "send() of nothing");
        require(loop_.in_turn(), "send() outside of a turn");
        if (operations++ == fails_at) {
            broken_ = error_code{boost::system::errc::broken_pipe, boost::system::generic_category()};
            return {0, broken_};
        }
        std::size_t total = 0;
        std::size_t taken = 0;
        std::size_t may_take = std::min(room, most_at_once);
        for (const auto piece : pieces) {
            require(!piece.empty(), "send() of an empty piece");
            total += piece.size();
            const auto part = std::min(piece.size(), may_take);
            sent += piece.substr(0, part);
            taken += part;
            may_take -= part;
        }
        if (room != everything) room -= taken;
        if (taken != total) waits_for_room_ = true;
        return {taken, {}};
    }

    void queue(core::segment piece) override {
        require(queued_.empty(), "queue() twice in a turn");
        queued_ = piece;
        loop_.add_queued(*this);
    }
    void send_queued() {
        const auto piece = std::exchange(queued_, {});
        const auto result = send({&piece, 1});
        if (user_) user_->tell<&core::stream_user::on_sent>(result);
    }

    void set_user(core::stream_user_ptr user) override { loop_.retire(std::exchange(user_, std::move(user))); }
    void pause_reads(bool pause) override { paused_ = pause; }

    void shutdown() override {
        require(loop_.in_turn(), "shutdown() outside of a turn");
        require(!is_shut && !is_closed, "shutdown() after the end");
        is_shut = true;
    }

    void close(bool reset) override {
        require(loop_.in_turn(), "close() outside of a turn");
        require(!is_closed, "close() after the end");
        is_closed = true;
        was_reset = reset;
        loop_.remove_load();
        loop_.retire(std::exchange(user_, nullptr));
    }

    /// The loop has ended: no turn, no upcalls.
    void drop() {
        if (std::exchange(is_closed, true)) return;
        loop_.remove_load();
        user_.reset();
    }

private:
    void tell_end(error_code why) {
        loop_.in_turn_do([&] {
            if (user_) user_->tell<&core::stream_user::on_end>(why);
        });
    }

    void require(bool holds, std::string_view otherwise) {
        if (!holds) misuse.append(misuse.empty() ? "" : ", ").append(otherwise);
    }

    virtual_loop& loop_;
    core::stream_user_ptr user_;
    bool waits_for_room_ = false;
    bool paused_ = false;
    std::string held_;
    bool ends_ = false;
    error_code broken_;
    core::segment queued_;
};

inline void virtual_loop::submit() {
    if (queued_.empty()) return;
    ++batches;
    sending_.swap(queued_);
    for (auto* each : sending_) each->send_queued();
    sending_.clear();
}

/// A frame as a client sends it: masked, and `first` as its first byte (0x81 a whole text, 0x82 binary, 0x88 a close).
inline std::string client_frame(unsigned first, std::string_view payload) {
    std::string out(1, static_cast<char>(first));
    if (payload.size() < 126) {
        out += static_cast<char>(0x80U | payload.size());
    } else {
        const int width = payload.size() <= 0xFFFF ? 2 : 8;
        out += static_cast<char>(width == 2 ? 0xFE : 0xFF);
        for (int byte = width - 1; byte >= 0; --byte) out += static_cast<char>(payload.size() >> (byte * 8) & 0xFF);
    }
    const std::string_view key = "\x37\xFA\x21\x3D";
    out += key;
    for (std::size_t i = 0; i != payload.size(); ++i) out += static_cast<char>(payload[i] ^ key[i % 4]);
    return out;
}

/// The server's frames as a text: `tick(1)` for an event, `text(hello) binary(...) ping() pong(x) close(1001 reason)`. More than
/// 60 bytes are told by their number, a frame that is cut at the end is `...`, what is no frame of a server `garbage`.
///
/// Of arke.v1 (the prefix is then empty) also `tick?7(1)` for a request, `answer 7(42)`, `refusal 7(refused sold out)`, and
/// `present()` for what answers a probe.
inline std::string transcript(std::string_view bytes, std::string_view event_prefix) {
    std::string out;
    const auto add = [&](std::string_view what, std::string_view data) {
        if (!out.empty()) out += ' ';
        out.append(what).append("(");
        if (data.size() <= 60) {
            out.append(data).append(")");
        } else {
            out += std::to_string(data.size()) + " bytes)";
        }
    };
    const auto end = [&](const char* what) { return out += (out.empty() ? "" : " ") + std::string{what}; };
    const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])); };
    while (!bytes.empty()) {
        if (bytes.size() < 2) return end("...");
        std::size_t at = 2;
        std::size_t size = byte(1);
        if (size >= 128 || (byte(0) & 0xF0) != 0x80) return end("garbage");
        if (size >= 126) {
            at += size == 126 ? 2 : 8;
            if (bytes.size() < at) return end("...");
            size = 0;
            for (std::size_t i = 2; i != at; ++i) size = size << 8 | byte(i);
        }
        if (bytes.size() - at < size) return end("...");
        auto payload = bytes.substr(at, size);
        const auto code = byte(0) & 15;
        if (event_prefix.empty() && (code == 1 || code == 2)) {
            std::string name;
            std::string why;
            const auto m = event::parse_v1(payload, code == 1, name, why);
            const auto number = std::to_string(m.id);
            switch (m.kind) {
                case event::v1_kind::event: add(m.event.name, m.event.data); break;
                case event::v1_kind::request: add(std::string{m.event.name} + "?" + number, m.event.data); break;
                case event::v1_kind::answer: add("answer " + number, m.event.data); break;
                case event::v1_kind::refusal:
                    add("refusal " + number,
                        std::string{m.event.name} + (m.event.data.empty() ? "" : " ") + std::string{m.event.data});
                    break;
                case event::v1_kind::presence: add("present", {}); break;
                case event::v1_kind::native: add(code == 1 ? "text" : "binary", m.event.data); break;
                default: return end("garbage");
            }
            bytes.remove_prefix(at + size);
            continue;
        }
        switch (code) {
            case 1:
                if (payload.starts_with(event_prefix)) {
                    payload.remove_prefix(event_prefix.size());
                    const auto name_end = payload.find(';');
                    add(payload.substr(0, name_end), payload.substr(name_end + 3));
                } else {
                    add("text", payload);
                }
                break;
            case 2: add("binary", payload); break;
            case 8:
                if (payload.size() < 2) {
                    add("close", payload);
                } else {
                    const auto reason =
                        static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1]);
                    payload.remove_prefix(2);
                    add("close", std::to_string(reason) + (payload.empty() ? "" : " ") + std::string{payload});
                }
                break;
            case 9: add("ping", payload); break;
            case 10: add("pong", payload); break;
            default: return end("garbage");
        }
        bytes.remove_prefix(at + size);
    }
    return out;
}

template <class Session>
class basic_server;

namespace detail {

/// Where a test's server logs to; made before it.
struct log_lines {
    std::shared_ptr<std::string> lines = std::make_shared<std::string>();
};

}  // namespace detail

/// A client of a test's server: it says what the test says, and hears everything.
class client {
public:
    static constexpr std::string_view greeting = "101 welcome\n";

    client(std::function<void()> settle, virtual_loop& on, const protocol& speaks, std::string event_prefix)
        : settle_{std::move(settle)},
          loop_{on},
          speaks_{&speaks},
          event_prefix_{speaks.name().empty() ? std::move(event_prefix) : std::string{}} {}
    client(const client&) = delete;
    client& operator=(const client&) = delete;

    // --- speaking; each in a turn of its own

    /// An event with a value of any type that a connection's emit() takes.
    template <class T>
    void emits(std::string_view event, const T& value) {
        const auto encoded = encode_value(value);
        speaks(outgoing::of({event, encoded.kind(), encoded.data()}));
    }
    void emits(std::string_view event) { speaks(outgoing::of({event, value_kind::nothing, {}})); }

    /// Requests of a client of arke.v1, and its answers to the server's.
    template <class T>
    void asks(std::uint32_t id, std::string_view event, const T& value) {
        const auto encoded = encode_value(value);
        speaks(outgoing::request(id, {event, encoded.kind(), encoded.data()}));
    }
    void asks(std::uint32_t id, std::string_view event) {
        speaks(outgoing::request(id, {event, value_kind::nothing, {}}));
    }
    template <class T>
    void answers(std::uint32_t id, const T& value) {
        const auto encoded = encode_value(value);
        speaks(outgoing::answer(id, encoded.kind(), encoded.data()));
    }
    void answers(std::uint32_t id) { speaks(outgoing::answer(id, value_kind::nothing, {})); }
    void refuses(std::uint32_t id, refusal_reason reason, std::string_view text = {}) {
        speaks(outgoing::refusal(id, reason, text));
    }

    /// Anything, in the words of its protocol; std::invalid_argument where that has none.
    void speaks(const outgoing& what) {
        std::string why;
        const auto form = speaks_->measure(what, why);
        if (!form) throw std::invalid_argument{why};
        const auto header = wire::frame_header_size(form->size);
        std::string frame(header + form->size, '\0');
        speaks_->write_frame(frame.data(), *form, what);
        sends(client_frame(form->code == wire::opcode::text ? 0x81 : 0x82, std::string_view{frame}.substr(header)));
    }

    /// The same compressed, by one that was connected by connect_deflating().
    void speaks_deflated(const outgoing& what) {
        std::string why;
        const auto form = speaks_->measure(what, why);
        if (!form) throw std::invalid_argument{why};
        const auto header = wire::frame_header_size(form->size);
        std::string frame(header + form->size, '\0');
        speaks_->write_frame(frame.data(), *form, what);
        sends(client_frame(form->code == wire::opcode::text ? 0xC1 : 0xC2,
                           deflated(std::string_view{frame}.substr(header))));
    }

    /// What it would send of a message, without a frame.
    std::string deflated(std::string_view message) {
        if (!deflater_) throw std::logic_error{"this client was not connected by connect_deflating()"};
        wire::byte_buffer out;
        deflater_->deflate(message, out);
        if (!terms_.send_takeover) deflater_->forget();
        return std::string{out.view()};
    }

    /// A text message as it is: a native one, but for clients of arke.v1. sends() takes any other frame.
    void says(std::string_view message) { sends(client_frame(0x81, message)); }
    void pings(std::string_view payload = {}) { sends(client_frame(0x89, payload)); }
    void pongs(std::string_view payload = {}) { sends(client_frame(0x8A, payload)); }
    void closes(unsigned code, std::string_view reason = {}) { sends(close_frame(code, reason)); }

    /// Bytes as they are: client_frame() and its parts, or what no honest client sends.
    void sends(std::string_view bytes) { stream().arrives(bytes); }

    std::string event_text(std::string_view event, std::string_view data, int tag = 0) const {
        return event_prefix_ + std::string{event} + ";" + std::to_string(tag) + ";" + std::string{data};
    }
    static std::string close_frame(unsigned code, std::string_view reason = {}) {
        std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
        return client_frame(0x88, payload.append(reason));
    }

    // --- hearing

    /// Everything that came since the last call, as transcript() writes it, once all loops have come to rest. `end` is the end
    /// of the server's direction, `closed` that of both, `reset` the same without mercy.
    std::string heard() {
        settle_();
        const auto all = bytes();
        auto fresh = all.substr(std::exchange(told_, all.size()));
        std::string out = inflater_ ? transcript(inflated(fresh), event_prefix_) : transcript(fresh, event_prefix_);
        // What the stream has come to is told once.
        const std::string end = stream().is_closed ? (stream().was_reset ? "reset" : "closed")
                                : stream().is_shut ? "end"
                                                   : "";
        if (end != std::exchange(told_end_, end)) out += (out.empty() ? "" : " ") + end;
        return out;
    }

    /// All bytes that came after the greeting.
    std::string_view bytes() {
        return std::string_view{stream().sent}.substr(std::min(greeting.size(), stream().sent.size()));
    }

    /// Takes so many bytes more, and then nothing; so many more; all there are.
    void reads_only(std::size_t bytes) { stream().room = bytes; }
    void reads(std::size_t more) { stream().makes_room(more); }
    void reads_everything() { stream().makes_room(memory_transport::everything); }

    /// Messages that it has heard compressed.
    std::size_t heard_deflated() const noexcept { return heard_deflated_; }

    /// What the handshake has agreed on, as this client sees it; for one of connect_deflating().
    const wire::deflate_terms& terms() const noexcept { return terms_; }

    // --- ending

    /// Ends the stream without a close frame; and breaks it.
    void hangs_up() { stream().ends(); }
    void vanishes() {
        stream().ends(error_code{boost::system::errc::connection_reset, boost::system::generic_category()});
    }

    // --- the server's side

    /// Its id was taken, and the config refuses: none of the rest may be used.
    bool was_refused() const noexcept { return stream_ == nullptr; }

    /// The connection; only while it lives. What is done with it belongs into server.in_turn().
    connection& self() const noexcept { return *connection_; }

    memory_transport& stream() noexcept { return *stream_; }
    const memory_transport& stream() const noexcept { return *stream_; }
    virtual_loop& on_loop() noexcept { return loop_; }

private:
    template <class Session>
    friend class basic_server;

    std::function<void()> settle_;
    virtual_loop& loop_;
    const protocol* speaks_;
    std::string event_prefix_;
    std::unique_ptr<memory_transport> stream_;
    void use_deflate(const wire::deflate_terms& terms) {
        terms_ = terms;
        deflater_.emplace(6, terms.send_window_bits, 8);
        inflater_.emplace(terms.receive_window_bits);
    }

    /// The frames as they would be without compression. What cannot be inflated says so.
    std::string inflated(std::string_view frames) {
        std::string out;
        const auto byte = [&](std::size_t i) {
            return static_cast<std::size_t>(static_cast<unsigned char>(frames[i]));
        };
        while (frames.size() >= 2) {
            std::size_t at = 2;
            std::size_t size = byte(1);
            if (size >= 126) {
                at += size == 126 ? 2 : 8;
                if (size > 127 || frames.size() < at) break;
                size = 0;
                for (std::size_t i = 2; i != at; ++i) size = size << 8 | byte(i);
            }
            if (frames.size() - at < size) break;
            if ((byte(0) & wire::rsv1) == 0) {
                out.append(frames.substr(0, at + size));
            } else {
                ++heard_deflated_;
                wire::byte_buffer message;
                constexpr std::size_t most = 64UL << 20U;
                if (inflater_->inflate(frames.substr(at, size), most, message) != wire::inflater::result::done)
                    return out + "what cannot be inflated";
                if (!terms_.receive_takeover) inflater_->forget();
                std::string header(wire::frame_header_size(message.size), '\0');
                wire::write_frame_header(header.data(), static_cast<wire::opcode>(byte(0) & 15), message.size);
                out.append(header).append(message.view());
            }
            frames.remove_prefix(at + size);
        }
        return out.append(frames);
    }

    connection* connection_ = nullptr;
    std::size_t told_ = 0;
    std::string told_end_;
    wire::deflate_terms terms_;
    std::optional<wire::deflater> deflater_;
    std::optional<wire::inflater> inflater_;
    std::size_t heard_deflated_ = 0;
};

/// An endpoint whose clients are in the test. It has everything that basic_endpoint has: on(), to(), find(), rooms().
template <class Session>
class basic_server : private detail::log_lines, public basic_endpoint<Session> {
public:
    using connection_type = basic_connection<Session>;

    /// `loops` as run(n) would have them; connections are spread over them by hand.
    explicit basic_server(config settings = {}, std::size_t loops = 1, bool sends_in_batches = false)
        : basic_endpoint<Session>{basic_endpoint<Session>::make(with_log(std::move(settings), lines))} {
        for (std::size_t i = 0; i != loops; ++i) {
            loops_.emplace_back(new virtual_loop{i, this->settings().listener.write_buffer_size, sends_in_batches});
            hub().add_loop(*loops_.back());
        }
        this->on_connection([this](connection_type& c) { newest_ = &c; });
    }

    basic_server(const basic_server&) = delete;
    basic_server& operator=(const basic_server&) = delete;

    /// As where the loops have ended: everything is dropped without a word.
    ~basic_server() { shut_down(); }

    /// A client that has been accepted, with this id; empty: the one that config::id_generator makes, or a random one.
    client& connect(std::string id = {}, std::size_t loop = 0) {
        return connect(std::move(id), loop, [](memory_transport&) {});
    }

    /// The same for a client that speaks arke.v1.
    client& connect_v1(std::string id = {}, std::size_t loop = 0) {
        return connect_v1(std::move(id), loop, [](memory_transport&) {});
    }
    template <class Prepare>
    client& connect_v1(std::string id, std::size_t loop, Prepare prepare) {
        return accept(
            std::move(id), loop, std::move(prepare), {},
            request{
                "GET", "/", 11, {{"Host", "example.com"}, {"Sec-WebSocket-Protocol", "arke.v1"}}, "192.0.2.1", 50'000});
    }

    /// The same for a client that offers compression; it is agreed on where config::compression is enabled.
    client& connect_deflating(std::string id = {}, std::size_t loop = 0,
                              std::string_view offer = "permessage-deflate; client_max_window_bits") {
        return accept(
            std::move(id), loop, [](memory_transport&) {}, {},
            request{
                "GET", "/", 11, {{"Host", "example.com"}, {"Sec-WebSocket-Extensions", offer}}, "192.0.2.1", 50'000});
    }

    /// The same with a request of the test's own: its target, headers, cookies, subprotocols.
    client& connect(request r, std::size_t loop = 0) {
        return accept(
            {}, loop, [](memory_transport&) {}, {}, std::move(r));
    }

    /// The same where prepare(memory_transport&) says how the stream behaves, and with bytes that come along with the
    /// handshake.
    template <class Prepare>
    client& connect(std::string id, std::size_t loop, Prepare prepare, std::string_view early = {}) {
        return accept(std::move(id), loop, std::move(prepare), early,
                      request{"GET", "/", 11, {{"Host", "example.com"}}, "192.0.2.1", 50'000});
    }

    /// Runs what was posted and ends what broke, until nothing happens any more.
    void settle() {
        for (bool busy = true; busy;) {
            busy = false;
            for (auto& l : loops_) busy = l->run_posts() || busy;
            for (auto& c : clients_) busy = (c.stream_ && c.stream_->catch_up()) || busy;
        }
    }

    /// Lets time pass on all loops, with all deadlines that fall into it.
    void pass(std::chrono::milliseconds time) {
        settle();
        for (auto& l : loops_) l->pass(time.count());
        settle();
    }

    /// Lets time pass in which nothing runs, as where a process is stopped or a handler blocks: what comes due is late. What clients send
    /// after it has been in the kernel meanwhile.
    void stand_still(std::chrono::milliseconds time) {
        for (auto& l : loops_) l->stand_still(time.count());
    }

    /// Does something as a handler of a connection of that loop would.
    template <class F>
    void in_turn(F&& f, std::size_t loop = 0) {
        loops_[loop]->in_turn_do(std::forward<F>(f));
    }

    Session& session_of(const client& c) const noexcept { return static_cast<connection_type&>(c.self()).session(); }

    virtual_loop& loop(std::size_t index = 0) noexcept { return *loops_[index]; }
    std::size_t loop_count() const noexcept { return loops_.size(); }
    core::endpoint& hub() noexcept { return *this->state_; }

    /// Everybody who ever connected, in that order.
    std::deque<client>& clients() noexcept { return clients_; }

    /// What was logged because nobody listened to on_error, a line each.
    const std::string& log() const noexcept { return *lines; }

protected:
    /// Ends everything, once.
    void shut_down() {
        for (auto& l : loops_) l->end();
        for (auto& c : clients_) {
            if (c.stream_) c.stream_->drop();
        }
        hub().clear();
    }

    const std::vector<boost::intrusive_ptr<virtual_loop>>& loops() const noexcept { return loops_; }

private:
    static config with_log(config settings, const std::shared_ptr<std::string>& to) {
        settings.log = [to, also = std::move(settings.log)](std::string_view line) {
            to->append(line).append("\n");
            if (also) also(line);
        };
        return settings;
    }

    template <class Prepare>
    client& accept(std::string id, std::size_t loop, Prepare prepare, std::string_view early, request r) {
        auto& on = *loops_[loop];
        std::size_t speaks = 0;
        for (std::size_t i = 0; i != hub().protocol_count(); ++i) {
            const auto name = hub().protocol_at(i).name();
            if (!name.empty() && r.header("Sec-WebSocket-Protocol") == name) speaks = i;
        }
        auto& c =
            clients_.emplace_back([this] { settle(); }, on, hub().protocol_at(speaks), this->settings().event_prefix);
        on.in_turn_do([&] {
            if (id.empty() && this->settings().id_generator) id = this->settings().id_generator(r);
            if (id.empty()) id = hub().make_id();
            std::string rest{early};
            const auto deflate = hub().accept_deflate(r.header_values("Sec-WebSocket-Extensions"));
            const auto p = hub().make(on, std::move(id), speaks, std::move(r));
            p->greet(client::greeting);
            const auto guard = core::flood_guard::make_for(p);
            if (deflate) {
                const auto& t = deflate->terms;
                p->use_deflate(t);
                c.use_deflate({t.receive_takeover, t.send_takeover, t.receive_window_bits, t.send_window_bits});
            }
            auto stream = std::make_unique<memory_transport>(on, p);
            prepare(*stream);
            if (hub().admit(*p) == core::hub::admission::refused) return stream->drop();
            c.stream_ = std::move(stream);
            newest_ = nullptr;
            auto& hears = core::flood_guard::open(p, guard, *c.stream_);
            c.connection_ = newest_;
            if (!rest.empty()) hears.template tell<&core::stream_user::on_bytes>(std::span<char>{rest});
        });
        return c;
    }

    std::vector<boost::intrusive_ptr<virtual_loop>> loops_;
    std::deque<client> clients_;
    connection_type* newest_ = nullptr;
};

/// A server whose connections have no data of the user's attached.
using server = basic_server<no_session>;

}  // namespace arke::testing
