#pragma once

/// The other end of a client's tests: a server of a few lines, on a real socket, that does what the test says and nothing else.

#include <arke/wire/handshake.hpp>

#include <atomic>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace arke::test {

/// One connection of it, in a thread of its own. A read that fails gives an empty text.
class raw_peer {
public:
    using socket = boost::asio::ip::tcp::socket;

    explicit raw_peer(socket s) : socket_{std::move(s)} {}

    /// A header block, with its empty line.
    std::string read_head() {
        boost::system::error_code ec;
        const auto size = boost::asio::read_until(socket_, boost::asio::dynamic_buffer(in_), "\r\n\r\n", ec);
        if (ec) return {};
        auto head = in_.substr(0, size);
        in_.erase(0, size);
        return head;
    }

    /// Whatever comes next.
    std::string read_some() {
        if (!in_.empty()) return std::exchange(in_, {});
        std::string bytes(64 * 1024, '\0');
        boost::system::error_code ec;
        bytes.resize(socket_.read_some(boost::asio::buffer(bytes), ec));
        return bytes;
    }

    void wait_for_end() {
        while (!read_some().empty()) {
        }
    }

    void send(std::string_view bytes) {
        boost::system::error_code ignored;
        boost::asio::write(socket_, boost::asio::buffer(bytes.data(), bytes.size()), ignored);
    }

    socket& stream() { return socket_; }

    /// The value of a header in a block.
    static std::string header(const std::string& head, const std::string& name) {
        const auto at = head.find("\r\n" + name + ": ");
        if (at == std::string::npos) return {};
        const auto from = at + name.size() + 4;
        return head.substr(from, head.find("\r\n", from) - from);
    }

    /// The 101 for a request, with further lines as they are.
    static std::string welcome(const std::string& head, std::string_view more = {}) {
        return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
               "Upgrade\r\nSec-WebSocket-Accept: " +
               wire::accept_key(header(head, "Sec-WebSocket-Key")) + "\r\n" + std::string{more} + "\r\n";
    }

private:
    socket socket_;
    std::string in_;
};

/// Runs the script for each connection that comes.
class raw_server {
public:
    using script = std::function<void(raw_peer&)>;

    explicit raw_server(script s)
        : script_{std::move(s)}, acceptor_{context_, {boost::asio::ip::make_address("127.0.0.1"), 0}} {
        port_ = acceptor_.local_endpoint().port();
        accepting_ = std::thread{[this] {
            while (!stop_) {
                boost::system::error_code ec;
                auto socket = acceptor_.accept(ec);
                if (ec || stop_) return;
                ++connections_;
                peers_.emplace_back([this, s = std::move(socket)]() mutable {
                    raw_peer peer{std::move(s)};
                    script_(peer);
                });
            }
        }};
    }
    raw_server(const raw_server&) = delete;
    raw_server& operator=(const raw_server&) = delete;

    /// Its clients must have gone, or go by what the script does.
    ~raw_server() {
        stop_ = true;
        boost::asio::ip::tcp::socket knock{context_};
        boost::system::error_code ignored;
        knock.connect(acceptor_.local_endpoint(), ignored);
        accepting_.join();
        for (auto& t : peers_) t.join();
    }

    std::uint16_t port() const { return port_; }

    /// How many have come.
    int connections() const { return connections_; }

    std::string url(const std::string& path = "/") const { return "ws://127.0.0.1:" + std::to_string(port_) + path; }

private:
    script script_;
    boost::asio::io_context context_;
    boost::asio::ip::tcp::acceptor acceptor_;
    std::atomic<bool> stop_{false};
    std::atomic<int> connections_{0};
    std::uint16_t port_ = 0;
    std::thread accepting_;
    std::vector<std::thread> peers_;
};

}  // namespace arke::test
