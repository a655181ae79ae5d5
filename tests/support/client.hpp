#pragma once

/// The other end of the socket tests: a WebSocket client and a raw TCP client, both synchronous, both on real sockets.
///
/// Every wait ends after `patience`; a test that passes never waits that long. What went wrong comes back as a text that no
/// server sends ("timeout", "end"), so that a test compares one string.
///
/// Threads: one client is used by one thread at a time.

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace arke::test {

namespace asio = boost::asio;
namespace websocket = boost::beast::websocket;
using error = boost::system::error_code;
using tcp = asio::ip::tcp;

/// How long anything may take. Sanitizers on a busy machine are slow.
inline constexpr std::chrono::seconds patience{20};

using header_list = std::vector<std::pair<std::string, std::string>>;

/// Starts one asynchronous operation by start(handler) and waits for it. After `patience` give_up() must end it.
template <class Start, class GiveUp>
error wait_for(asio::io_context& context, Start&& start, GiveUp&& give_up) {
    std::optional<error> result;
    start([&result](const error& ec, auto&&...) { result = ec; });
    context.restart();
    context.run_for(patience);
    if (result) return *result;
    give_up();
    context.restart();
    context.run();
    return asio::error::timed_out;
}

inline tcp::endpoint local(std::uint16_t port) { return {asio::ip::make_address("127.0.0.1"), port}; }

/// What comes of ask(). A server waits no longer than a second for the request of somebody whom it is going to refuse, and ends without a
/// word then: where this machine took so long, it asks again.
template <class Ask>
auto within_a_second(Ask&& ask) {
    const auto end = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const auto began = std::chrono::steady_clock::now();
        auto heard = ask();
        const auto now = std::chrono::steady_clock::now();
        if (now - began < std::chrono::seconds{1} || now > end) return heard;
    }
}

/// An HTTP answer. Names of headers are in lower case; a header that comes twice holds both values, with a comma.
struct http_reply {
    int status = 0;  ///< 0: no answer came.
    std::map<std::string, std::string> headers;
    std::string body;

    std::string operator[](const std::string& name) const {
        const auto found = headers.find(name);
        return found == headers.end() ? std::string{} : found->second;
    }
};

/// Bytes over TCP, as they are.
class raw_client {
public:
    /// `receive_buffer`: the kernel's buffer for a peer that is to be slow; 0 for the usual one. `from`: another address of this
    /// machine, of which Linux has all of 127.0.0.0/8.
    explicit raw_client(std::uint16_t port, int receive_buffer = 0, const char* from = nullptr) : socket_{context_} {
        socket_.open(tcp::v4());
        if (from != nullptr) socket_.bind({asio::ip::make_address(from), 0});
        if (receive_buffer != 0) socket_.set_option(asio::socket_base::receive_buffer_size{receive_buffer});
        socket_.connect(local(port));
        socket_.set_option(tcp::no_delay{true});
    }

    /// Whether all of it was taken.
    bool send(std::string_view bytes) {
        return !wait_for(
            context_,
            [&](auto handler) { asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()), handler); },
            [&] { drop(); });
    }

    /// Ends our direction; the other goes on.
    void shutdown() {
        error ignored;
        socket_.shutdown(tcp::socket::shutdown_send, ignored);
    }

    void drop() {
        error ignored;
        socket_.close(ignored);
    }

    /// Goes by a reset, which drops what is on its way.
    void reset() {
        error ignored;
        socket_.set_option(asio::socket_base::linger{true, 0}, ignored);
        drop();
    }

    /// `count` bytes; fewer when the stream ends before.
    std::string read(std::size_t count) {
        while (in_.size() < count && read_some()) {
        }
        return take(std::min(count, in_.size()));
    }

    /// Up to and with `mark`; less when the stream ends before.
    std::string read_until(std::string_view mark) {
        for (;;) {
            const auto at = in_.find(mark);
            if (at != std::string::npos) return take(at + mark.size());
            if (!read_some()) return take(in_.size());
        }
    }

    /// Everything up to the end of the stream, and " timeout" behind it when that does not come.
    std::string read_to_end() {
        while (read_some()) {
        }
        return take(in_.size()) + (why_ == asio::error::timed_out ? " timeout" : "");
    }

    /// Whether the server has ended the stream, in whatever way. What it sent before is read and dropped.
    bool ends() {
        while (read_some()) in_.clear();
        return why_ != asio::error::timed_out;
    }

    http_reply read_reply(bool to_head_request = false) {
        http_reply reply;
        const auto head = read_until("\r\n\r\n");
        if (!head.starts_with("HTTP/1.1 ") || !head.ends_with("\r\n\r\n")) return reply;
        reply.status = std::stoi(head.substr(9, 3));
        for (std::size_t at = head.find("\r\n") + 2; at + 2 < head.size();) {
            const auto end = head.find("\r\n", at);
            const auto colon = head.find(':', at);
            auto name = head.substr(at, colon - at);
            std::transform(name.begin(), name.end(), name.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
            const auto from = head.find_first_not_of(' ', colon + 1);
            auto& value = reply.headers[name];
            if (!value.empty()) value += ",";
            value += head.substr(from, end - from);
            at = end + 2;
        }
        const auto length = reply["content-length"];
        if (!to_head_request && !length.empty()) reply.body = read(std::stoul(length));
        return reply;
    }

    /// One request, one answer.
    http_reply get(std::string_view target, const header_list& headers = {}, std::string_view method = "GET") {
        std::string text = std::string{method} + " " + std::string{target} + " HTTP/1.1\r\nHost: localhost\r\n";
        for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n";
        send(text + "\r\n");
        return read_reply(method == "HEAD");
    }

private:
    bool read_some() {
        std::size_t count = 0;
        why_ = wait_for(
            context_,
            [&](auto handler) {
                socket_.async_read_some(asio::buffer(chunk_),
                                        [&count, handler](const error& ec, std::size_t n) mutable {
                                            count = n;
                                            handler(ec);
                                        });
            },
            [&] { drop(); });
        in_.append(chunk_.data(), count);
        return !why_;
    }

    std::string take(std::size_t count) {
        auto taken = in_.substr(0, count);
        in_.erase(0, count);
        return taken;
    }

    asio::io_context context_;
    tcp::socket socket_;
    std::vector<char> chunk_ = std::vector<char>(64 * 1024);
    std::string in_;
    error why_;
};

/// The request that opens a WebSocket, as a text for a raw client.
inline std::string upgrade_request(std::string_view path = "/", const header_list& headers = {}) {
    std::string text = "GET " + std::string{path} +
                       " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n";
    return text + "\r\n";
}

/// A client's frame, masked. `first` is the first byte: 0x81 a whole text, 0x01 its first fragment, 0x80 its last, 0x88 a close.
inline std::string masked_frame(unsigned char first, std::string_view payload) {
    constexpr std::string_view mask{"\x12\x34\x56\x78"};
    std::string frame(1, static_cast<char>(first));
    if (payload.size() < 126) {
        frame += static_cast<char>(0x80U | payload.size());
    } else {
        frame += "\xFE";
        frame += static_cast<char>(payload.size() >> 8U);
        frame += static_cast<char>(payload.size() & 0xFFU);
    }
    frame += mask;
    for (std::size_t i = 0; i != payload.size(); ++i) frame += static_cast<char>(payload[i] ^ mask[i % 4]);
    return frame;
}

/// Whether an echo says all of so many numbers, in order. They are sent in one piece, because what came later might be within a rate.
inline bool is_echoed_all(raw_client& by, int count) {
    std::string said;
    std::string answers;
    for (int i = 0; i != count; ++i) {
        const auto text = std::to_string(i);
        said += masked_frame(0x81, text);
        answers += std::string{"\x81"} + static_cast<char>(text.size()) + text;
    }
    return by.send(said) && by.read(answers.size()) == answers;
}

/// A WebSocket client by Beast, which shares no line of code with the server.
///
/// An event of the iris protocol is shown as "name;tag;data": its prefix is taken off.
class client {
public:
    static constexpr std::string_view prefix = "iris-websocket-message:";

    /// Connects. Where the server refuses, status() says how and the rest must not be used.
    explicit client(std::uint16_t port, const std::string& path = "/", const header_list& headers = {},
                    int receive_buffer = 0, const websocket::permessage_deflate& deflate = {})
        : stream_{context_} {
        stream_.set_option(deflate);
        auto& socket = stream_.next_layer();
        socket.open(tcp::v4());
        if (receive_buffer != 0) socket.set_option(asio::socket_base::receive_buffer_size{receive_buffer});
        socket.connect(local(port));
        socket.set_option(tcp::no_delay{true});
        stream_.set_option(websocket::stream_base::decorator([headers](websocket::request_type& request) {
            for (const auto& [name, value] : headers) request.insert(name, value);
        }));
        stream_.read_message_max(64U << 20U);
        stream_.auto_fragment(false);
        stream_.control_callback([this](websocket::frame_type kind, boost::beast::string_view payload) {
            if (kind == websocket::frame_type::close) return;
            controls_ += kind == websocket::frame_type::ping ? "ping(" : "pong(";
            controls_.append(payload.data(), payload.size());
            controls_ += ")";
        });
        const auto host = "localhost:" + std::to_string(port);
        const auto failed = wait_for(
            context_, [&](auto handler) { stream_.async_handshake(response_, host, path, handler); }, [&] { drop(); });
        status_ = failed && response_.result_int() == 101 ? 0 : static_cast<int>(response_.result_int());
    }

    client(const client&) = delete;
    client& operator=(const client&) = delete;

    /// Of the handshake's answer: 101 when it is connected.
    int status() const { return status_; }

    std::string response_header(const std::string& name) const {
        const auto value = response_[name];
        return {value.data(), value.size()};
    }

    bool send(std::string_view payload, bool binary = false) {
        stream_.binary(binary);
        return !wait_for(
            context_, [&](auto handler) { stream_.async_write(asio::buffer(payload.data(), payload.size()), handler); },
            [&] { drop(); });
    }

    /// One message in several frames.
    bool send_fragments(std::initializer_list<std::string_view> parts) {
        stream_.binary(false);
        std::size_t left = parts.size();
        for (const auto part : parts) {
            const bool last = --left == 0;
            const auto failed = wait_for(
                context_,
                [&](auto handler) { stream_.async_write_some(last, asio::buffer(part.data(), part.size()), handler); },
                [&] { drop(); });
            if (failed) return false;
        }
        return true;
    }

    /// From now on each message leaves in frames of so many bytes, at least eight.
    void send_in_frames_of(std::size_t bytes) {
        stream_.auto_fragment(true);
        stream_.write_buffer_bytes(bytes);
    }

    /// From now on receive() sends a ping in each silence of half this time, and gives up where a whole one passes.
    void ping_in_silence(std::chrono::milliseconds time) {
        stream_.set_option(websocket::stream_base::timeout{patience, time, true});
    }

    bool emit(std::string_view event, std::string_view data = {}, int tag = 0) {
        return send(std::string{prefix} + std::string{event} + ";" + std::to_string(tag) + ";" + std::string{data});
    }

    bool ping(std::string_view payload) {
        return !wait_for(
            context_,
            [&](auto handler) {
                stream_.async_ping({payload.data(), payload.size()}, handler);
            },
            [&] { drop(); });
    }

    /// The next message; "close(1001 reason)" after the closing handshake, "end" where the stream ended without one, "timeout".
    std::string receive() {
        buffer_.consume(buffer_.size());
        const auto failed = wait_for(
            context_, [&](auto handler) { stream_.async_read(buffer_, handler); }, [&] { drop(); });
        if (failed == asio::error::timed_out) return "timeout";
        if (failed == websocket::error::closed) {
            const auto& why = stream_.reason();
            const std::string text{why.reason.data(), why.reason.size()};
            return "close(" + std::to_string(why.code) + (text.empty() ? "" : " " + text) + ")";
        }
        if (failed) return "end";
        auto text = boost::beast::buffers_to_string(buffer_.data());
        if (text.starts_with(prefix)) text.erase(0, prefix.size());
        return text;
    }

    /// The next messages in one line, a space between them.
    std::string receive(std::size_t count) {
        std::string all;
        for (std::size_t i = 0; i != count; ++i) all += (i == 0 ? "" : " ") + receive();
        return all;
    }

    /// Whether the last message that was received was binary.
    bool got_binary() const { return stream_.got_binary(); }

    /// The pings and pongs that came while receive() read: "ping()pong(x)".
    const std::string& controls() const { return controls_; }

    /// The closing handshake. False when the server did not answer it.
    bool close(std::uint16_t code = 1000, std::string_view reason = {}) {
        const websocket::close_reason why{static_cast<websocket::close_code>(code), {reason.data(), reason.size()}};
        return !wait_for(
            context_, [&](auto handler) { stream_.async_close(why, handler); }, [&] { drop(); });
    }

    /// Goes without a word.
    void drop() {
        error ignored;
        stream_.next_layer().close(ignored);
    }

private:
    asio::io_context context_;
    websocket::stream<tcp::socket> stream_;
    websocket::response_type response_;
    boost::beast::flat_buffer buffer_;
    std::string controls_;
    int status_ = 0;
};

}  // namespace arke::test
