#pragma once

/// What Arke's client is asked to do with a server that is not Arke's. Such a server sends every message back, and does what some
/// texts say:
///
///     fragments    sends the text "three parts here" in three frames, with a ping between them
///     close        closes with 4002 "as you asked"
///     drop         ends the stream without a word
///     protocol     says which subprotocol it has chosen

#include <arke/client.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <future>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace arke::test {

/// An arke::client whose messages are waited for one by one.
class checked_client {
public:
    explicit checked_client(const std::string& url, client_config settings = {})
        : client_{url,
                  (settings.native = true, settings.binary_messages = true,
                   settings.reconnect_delay = std::chrono::milliseconds{1}, settings.max_message_size = 2 << 20,
                   settings.max_outbox_bytes = 64 << 20, settings.max_queue_bytes = 64 << 20, std::move(settings))} {
        client_.on_message([this](message_view m) { add((m.is_text ? "t" : "b") + std::string{m.data}); });
        client_.on_pong([this](bytes_view p) { add("pong " + std::string{as_text(p)}); });
        client_.on_reconnect([this] { add("again"); });
        client_.on_error(
            [this](const error_report& e) { add("error " + e.code.message() + " " + std::string{e.detail}); });
        client_.on_disconnect([this](close_code code, std::string_view reason) {
            add("closed " + std::to_string(static_cast<unsigned>(code)) + " " + std::string{reason});
        });
        client_.start();
    }

    client& operator*() { return client_; }
    client* operator->() { return &client_; }

    /// The next thing that happens: a message with "t" or "b" before it, "pong x", "closed 1000 why", "error ..."; or "nothing".
    std::string next() {
        std::unique_lock lock{mutex_};
        if (!changed_.wait_for(lock, std::chrono::seconds{20}, [&] { return at_ != all_.size(); })) return "nothing";
        return all_[at_++];
    }

private:
    void add(std::string what) {
        const std::lock_guard lock{mutex_};
        all_.push_back(std::move(what));
        changed_.notify_all();
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> all_;
    std::size_t at_ = 0;
    client client_;  // last: its thread ends before the rest goes
};

/// What is wrong, a line each; nothing.
inline std::string wrong_with_client_of(const std::string& url) {
    std::string wrong;
    const auto expect = [&wrong](const std::string& what, const std::string& got, const std::string& right) {
        if (got == right) return;
        wrong += what + ": " + got.substr(0, 100) + " instead of " + right.substr(0, 100) + "\n";
    };

    checked_client c{url};
    // Every size around the three forms of length.
    for (const std::size_t size :
         {0U,   1U,   2U,   3U,    4U,    5U,    7U,      8U,      9U,      31U,     32U,      33U,
          125U, 126U, 127U, 4095U, 4096U, 4097U, 16'384U, 65'535U, 65'536U, 65'537U, 524'288U, 1'048'576U}) {
        std::string text(size, 'a');
        for (std::size_t i = 0; i != size; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 256) % 26);
        c->emit_message(text);
        expect("a text of " + std::to_string(size) + " bytes", c.next(), "t" + text);
        std::string data(size, '\0');
        for (std::size_t i = 0; i != size; ++i) data[i] = static_cast<char>((i * 31 + i / 256) % 256);
        c->emit_message(as_bytes(data));
        expect("binary data of " + std::to_string(size) + " bytes", c.next(), "b" + data);
    }
    // Many in flight.
    for (int i = 0; i != 1000; ++i) c->emit_message(std::to_string(i));
    for (int i = 0; i != 1000; ++i) expect("one of a thousand", c.next(), "t" + std::to_string(i));

    c->emit_message("fragments");
    expect("a message in three frames", c.next(), "tthree parts here");
    c->handle().run([](connection& self) { self.ping(as_bytes("are you there?")); });
    expect("a ping", c.next(), "pong are you there?");
    c->emit_message("protocol");
    expect("no subprotocol", c.next(), "tnone");

    c->emit_message("drop");
    expect("an end without a word", c.next().substr(0, 11), "closed 1006");
    expect("the reconnection", c.next(), "again");
    c->emit_message("é");
    expect("a text after that", c.next(), "té");

    c->emit_message("close");
    expect("a close of the server", c.next(), "closed 4002 as you asked");
    c->emit_message("lost");
    c->connect();
    expect("connect() after that", c.next(), "again");
    c->emit_message("here");
    expect("a text of another connection", c.next(), "there");
    c->disconnect(close_code{4001}, "au revoir é");
    expect("a close of ours", c.next(), "closed 4001 au revoir é");

    checked_client offers{url, {.headers = {{"X-Test", "1"}}, .subprotocols = {"chat"}}};
    offers->emit_message("protocol");
    expect("a subprotocol", offers.next(), "tchat");
    return wrong;
}

}  // namespace arke::test
