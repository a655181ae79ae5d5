#pragma once

#include <arke/server.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_loop.hpp"

namespace arke::test {

/// A frame as a client sends it, masked.
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

/// A frame as the server should send it. Written here once more, so that one mistake does not hide another.
inline std::string server_frame(unsigned first, std::string_view payload) {
    std::string out(1, static_cast<char>(first));
    if (payload.size() < 126) {
        out += static_cast<char>(payload.size());
    } else {
        const int width = payload.size() <= 0xFFFF ? 2 : 8;
        out += static_cast<char>(width == 2 ? 126 : 127);
        for (int byte = width - 1; byte >= 0; --byte) out += static_cast<char>(payload.size() >> (byte * 8) & 0xFF);
    }
    return out.append(payload);
}

inline constexpr std::string_view iris_prefix = "iris-websocket-message:";

/// The server's frames as a text: `tick(1)` for an event, `text(hello) binary(...) ping() pong(x) close(1001 reason)`. A frame
/// that is cut at the end is `...`, what is no frame of a server `garbage`.
inline std::string transcript(std::string_view bytes) {
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
        switch (byte(0) & 15) {
            case 1:
                if (payload.starts_with(iris_prefix)) {
                    payload.remove_prefix(iris_prefix.size());
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
                    const auto code =
                        static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1]);
                    payload.remove_prefix(2);
                    add("close", std::to_string(code) + (payload.empty() ? "" : " ") + std::string{payload});
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

class scripted_server;

/// A client of a scripted server: it says what the test says, and hears everything.
class client {
public:
    static constexpr std::string_view greeting = "101 welcome\n";

    client(scripted_server& server, scripted_loop& on) : server_{server}, loop_{on} {}
    client(const client&) = delete;
    client& operator=(const client&) = delete;

    // --- speaking; each in a turn of its own

    void says(std::string_view message) { sends(client_frame(0x81, message)); }
    void emits(std::string_view event, std::string_view data) { says(event_text(event, data)); }
    void pings(std::string_view payload = {}) { sends(client_frame(0x89, payload)); }
    void pongs(std::string_view payload = {}) { sends(client_frame(0x8A, payload)); }
    void closes(unsigned code, std::string_view reason = {}) { sends(close_frame(code, reason)); }
    void sends(std::string_view bytes) { stream().arrives(bytes); }

    static std::string event_text(std::string_view event, std::string_view data) {
        std::string out{iris_prefix};
        return out.append(event).append(";0;").append(data);
    }
    static std::string close_frame(unsigned code, std::string_view reason = {}) {
        std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
        return client_frame(0x88, payload.append(reason));
    }

    // --- hearing

    /// Everything that came since the last call, once all loops have come to rest. `end` is the end of the server's direction,
    /// `closed` that of both, `reset` the same without mercy.
    std::string heard();

    /// All bytes that came after the greeting.
    std::string_view bytes() {
        CHECK(stream().sent.substr(0, greeting.size()) == greeting.substr(0, stream().sent.size()));
        return std::string_view{stream().sent}.substr(std::min(greeting.size(), stream().sent.size()));
    }

    /// Takes so many bytes more, and then nothing; all there are.
    void reads_only(std::size_t bytes) { stream().room = bytes; }
    void reads(std::size_t more) { stream().makes_room(more); }
    void reads_everything() { stream().makes_room(scripted_transport::everything); }

    // --- ending

    void hangs_up() { stream().ends(); }
    void vanishes() {
        stream().ends(error_code{boost::system::errc::connection_reset, boost::system::generic_category()});
    }

    // --- the server's side

    bool was_refused() const noexcept { return refused_; }

    /// The connection; only while it lives.
    connection& self() const noexcept { return *connection_; }

    /// Whether nobody holds the connection any more.
    bool is_freed() const noexcept { return alive_.expired(); }

    scripted_transport& stream() noexcept { return *stream_; }
    scripted_loop& on_loop() noexcept { return loop_; }

private:
    friend class scripted_server;

    scripted_server& server_;
    scripted_loop& loop_;
    std::unique_ptr<scripted_transport> stream_;
    connection* connection_ = nullptr;
    std::weak_ptr<void> alive_;
    std::size_t told_ = 0;
    std::string told_end_;
    bool refused_ = false;
};

/// What a scripted server logs; made before it.
struct scripted_log {
    std::shared_ptr<std::string> lines = std::make_shared<std::string>();
};

/// An endpoint with real connections, rooms and handlers on scripted loops: no sockets, and a clock that is turned by hand.
///
/// What the test does to the server outside of a turn is done as by another thread. heard() and settle() let all loops come
/// to rest first.
class scripted_server : private scripted_log, public basic_endpoint<std::shared_ptr<int>> {
public:
    explicit scripted_server(config settings = {}, std::size_t loop_count = 1,
                             std::size_t write_buffer_size = 16 * 1024, bool sends_in_batches = false)
        : basic_endpoint{make(with_log(std::move(settings), lines))} {
        for (std::size_t i = 0; i != loop_count; ++i) {
            loops_.emplace_back(new scripted_loop{i, write_buffer_size, sends_in_batches});
            hub().add_loop(*loops_.back());
        }
        on_connection([this](connection_type& c) {
            newest_ = &c;
            c.session() = std::move(alive_);
        });
    }

    scripted_server(const scripted_server&) = delete;
    scripted_server& operator=(const scripted_server&) = delete;

    /// As where the loops have ended: everything is dropped without a word, and nothing may be left over.
    ~scripted_server() {
        for (auto& l : loops_) l->end_posts();
        for (auto& c : clients_) {
            if (c.stream_) c.stream_->drop();
        }
        hub().clear();
        for (auto& l : loops_) CHECK(l->load() == 0);
        for (auto& c : clients_) CHECK(c.is_freed());
        CHECK(hub().connections()->load() == 0);
    }

    client& connect(std::string id, std::size_t loop_index = 0) {
        return connect(std::move(id), loop_index, [](scripted_transport&) {});
    }

    /// A client that sends something along with its handshake, and one whose stream is prepared.
    template <class Prepare>
    client& connect(std::string id, std::size_t loop_index, Prepare prepare, std::string_view early = {}) {
        auto& on = *loops_[loop_index];
        auto& c = clients_.emplace_back(*this, on);
        on.in_turn_do([&] {
            const auto p = hub().make(on, std::move(id), 0, request{"GET", "/", 11, {{"Host", "example.com"}}});
            if (hub().admit(*p) == core::hub::admission::refused) {
                c.refused_ = true;
                return;
            }
            c.stream_ = std::make_unique<scripted_transport>(on, p);
            prepare(*c.stream_);
            newest_ = nullptr;
            alive_ = std::make_shared<int>(0);
            c.alive_ = alive_;
            p->open(*c.stream_, client::greeting);
            c.connection_ = newest_;
            std::string rest{early};
            if (!rest.empty()) p->on_bytes(rest);
        });
        return c;
    }

    /// Runs what was posted and ends what broke, until nothing happens any more.
    void settle() {
        for (bool busy = true; busy;) {
            busy = false;
            for (auto& l : loops_) busy = l->run_posts() || busy;
            for (auto& c : clients_) busy = (c.stream_ && c.stream_->end_if_broken()) || busy;
        }
    }

    /// Lets time pass on all loops.
    void pass(std::chrono::milliseconds time) {
        settle();
        for (auto& l : loops_) l->pass(time.count());
        settle();
    }

    /// Does something in a turn of a loop.
    template <class F>
    void in_turn(F&& f, std::size_t loop_index = 0) {
        loops_[loop_index]->in_turn_do(std::forward<F>(f));
    }

    scripted_loop& loop(std::size_t index = 0) noexcept { return *loops_[index]; }
    core::endpoint& hub() noexcept { return *state_; }

    /// Lines that were logged because nobody listened.
    const std::string& log() const noexcept { return *lines; }

private:
    static config with_log(config settings, const std::shared_ptr<std::string>& to) {
        settings.log = [to](std::string_view line) { to->append(line).append("\n"); };
        return settings;
    }

    std::vector<boost::intrusive_ptr<scripted_loop>> loops_;
    std::deque<client> clients_;
    connection* newest_ = nullptr;
    std::shared_ptr<int> alive_;  // goes into the session of the newest, so that its end shows
};

inline std::string client::heard() {
    server_.settle();
    const auto all = bytes();
    std::string out = transcript(all.substr(std::exchange(told_, all.size())));
    // What the stream has come to is told once.
    const std::string end = stream().is_closed ? (stream().was_reset ? "reset" : "closed")
                            : stream().is_shut ? "end"
                                               : "";
    if (end != std::exchange(told_end_, end)) out += (out.empty() ? "" : " ") + end;
    return out;
}

/// Writes down what the application hears of its connections: messages, pings, errors, the end.
struct diary {
    scripted_server& server;
    std::string text;

    explicit diary(scripted_server& s) : server{s} {
        server.on_message(
            [this](connection& c, message_view m) { add(c.id() + " says " + std::string{m.data.substr(0, 20)}); });
        server.on_ping([this](connection& c, bytes_view) { add(c.id() + " pings"); });
        server.on_pong([this](connection& c, bytes_view) { add(c.id() + " pongs"); });
        server.on_error(
            [this](connection& c, const error_report& e) { add(c.id() + " error " + std::to_string(e.code.value())); });
        server.on_disconnect([this](connection& c, close_code code, std::string_view reason) {
            CHECK_FALSE(c.is_connected());
            add(c.id() + " gone " + std::to_string(static_cast<unsigned>(code)) + (reason.empty() ? "" : " ") +
                std::string{reason});
        });
    }

    void add(const std::string& line) { text += (text.empty() ? "" : ", ") + line; }
    std::string read() {
        server.settle();
        return std::exchange(text, {});
    }
};

inline std::string line(std::size_t size, char fill = 'x') { return std::string(size, fill); }

}  // namespace arke::test
