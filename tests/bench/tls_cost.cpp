// What TLS costs the server: CPU time of its thread for each echoed message, with and without, beside each other.
//
//     tls_cost [SECONDS [CONNECTIONS]]
//
// The server runs in a thread of its own, and the kernel tells that thread's time. The load comes from this thread: of all
// connections each says a burst, then the answers of all are read. Rounds of plain and TLS take turns; the medians are told.

#include <arke/tls.hpp>

#include <arke/server.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/certificates.hpp"

namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

constexpr int rounds = 5;

/// An echo, and the CPU time of its thread.
class echo_server {
public:
    explicit echo_server(arke::loop_kind loop) : server_{settings(loop)} {
        server_.on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });
        server_.listen("127.0.0.1", 0);
        ports_[1] = server_.port();
        server_.listen("127.0.0.1", 0, arke::security::plain);
        ports_[0] = server_.port();
        std::promise<clockid_t> clock;
        thread_ = std::thread{[this, &clock] {
            clockid_t mine{};
            ::pthread_getcpuclockid(::pthread_self(), &mine);
            clock.set_value(mine);
            server_.run();
        }};
        clock_ = clock.get_future().get();
    }
    ~echo_server() {
        server_.stop(std::chrono::milliseconds{0});
        thread_.join();
    }
    echo_server(const echo_server&) = delete;
    echo_server& operator=(const echo_server&) = delete;

    std::uint16_t port(bool secure) const { return ports_[secure ? 1 : 0]; }
    bool has(arke::loop_kind loop) const { return server_.loop() == loop; }

    double microseconds() const {
        timespec t{};
        ::clock_gettime(clock_, &t);
        return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
    }

private:
    static arke::config settings(arke::loop_kind loop) {
        static const arke::test::test_certificate certificate;
        arke::config c{.max_message_size = 1 << 20, .max_outbox_bytes = 64 << 20, .binary_messages = true};
        c.listener.loop = loop;
        c.listener.stop_on_signals = false;
        c.listener.tls.certificates = {{.chain = certificate.chain(), .key = certificate.key()}};
        return c;
    }

    arke::server server_;
    std::uint16_t ports_[2] = {};
    std::thread thread_;
    clockid_t clock_{};
};

/// One connection, plain or not. What fails ends the program.
class client {
public:
    client(asio::io_context& io, std::uint16_t port, SSL_CTX* tls) : socket_{io}, ssl_{nullptr, &SSL_free} {
        socket_.connect({asio::ip::make_address("127.0.0.1"), port});
        socket_.set_option(tcp::no_delay{true});
        if (tls != nullptr) {
            ssl_.reset(SSL_new(tls));
            SSL_set_fd(ssl_.get(), socket_.native_handle());
            if (SSL_connect(ssl_.get()) != 1) throw std::runtime_error{"no TLS"};
        }
        send(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        std::string head;
        while (!head.ends_with("\r\n\r\n")) {
            char c = 0;
            read({&c, 1});
            head += c;
        }
        if (!head.starts_with("HTTP/1.1 101")) throw std::runtime_error{"no WebSocket: " + head};
    }

    void send(std::string_view bytes) {
        while (!bytes.empty()) {
            const auto count = ssl_ ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()))
                                    : ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count <= 0 && errno == EINTR) continue;
            if (count <= 0) throw std::runtime_error{"a send failed"};
            bytes.remove_prefix(static_cast<std::size_t>(count));
        }
    }
    void read(std::span<char> to) {
        while (!to.empty()) {
            const auto count = ssl_ ? SSL_read(ssl_.get(), to.data(), static_cast<int>(to.size()))
                                    : ::recv(socket_.native_handle(), to.data(), to.size(), 0);
            if (count <= 0 && errno == EINTR) continue;
            if (count <= 0) throw std::runtime_error{"a read failed"};
            to = to.subspan(static_cast<std::size_t>(count));
        }
    }

private:
    tcp::socket socket_;
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
};

std::string frame(std::size_t size, bool masked) {
    std::string made(1, '\x82');
    const auto bit = masked ? 0x80U : 0U;
    if (size < 126) {
        made += static_cast<char>(bit | size);
    } else {
        made += static_cast<char>(bit | 126U);
        made += static_cast<char>(size >> 8U);
        made += static_cast<char>(size & 0xFFU);
    }
    if (masked) made += std::string(4, '\0');
    return made + std::string(size, 'x');
}

/// Server CPU time for each message of a round.
double measure(const echo_server& server, std::vector<std::unique_ptr<client>>& clients, std::size_t size, int burst,
               std::chrono::milliseconds time) {
    std::string said;
    std::string expected;
    for (int i = 0; i != burst; ++i) {
        said += frame(size, true);
        expected += frame(size, false);
    }
    std::string heard(expected.size(), '\0');
    const auto exchange = [&] {
        for (auto& c : clients) c->send(said);
        for (auto& c : clients) {
            c->read(heard);
            if (heard != expected) throw std::runtime_error{"an answer is not what was said"};
        }
    };
    exchange();
    const auto end = std::chrono::steady_clock::now() + time;
    const auto before = server.microseconds();
    std::size_t messages = 0;
    while (std::chrono::steady_clock::now() < end) {
        exchange();
        messages += clients.size() * static_cast<std::size_t>(burst);
    }
    return (server.microseconds() - before) / static_cast<double>(messages);
}

double median(std::vector<double> all) {
    std::nth_element(all.begin(), all.begin() + rounds / 2, all.end());
    return all[rounds / 2];
}

void compare(arke::loop_kind loop, const char* name, std::chrono::milliseconds time, int connections) {
    const echo_server server{loop};
    if (!server.has(loop)) {
        std::printf("%-9s is not to be had here\n", name);
        return;
    }
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> tls{SSL_CTX_new(TLS_client_method()), &SSL_CTX_free};
    asio::io_context io;
    std::vector<std::unique_ptr<client>> clients[2];
    for (const bool secure : {false, true}) {
        for (int i = 0; i != connections; ++i)
            clients[secure].push_back(std::make_unique<client>(io, server.port(secure), secure ? tls.get() : nullptr));
    }
    for (const auto& [size, burst] : {std::pair{20, 1}, {512, 1}, {16'384, 1}, {20, 16}, {512, 16}}) {
        std::vector<double> cost[2];
        for (int round = 0; round != rounds; ++round) {
            for (const bool secure : {false, true}) {
                cost[secure].push_back(measure(server, clients[secure], static_cast<std::size_t>(size), burst, time));
            }
        }
        const auto plain = median(cost[0]);
        const auto secure = median(cost[1]);
        std::printf("%-9s %6d %10d %10.2f %10.2f %8.2f\n", name, size, burst, plain, secure, secure / plain);
        std::fflush(stdout);
    }
}

}  // namespace

int main(int argc, char** argv) try {
    const std::chrono::milliseconds time{static_cast<int>(1000 * (argc > 1 ? std::atof(argv[1]) : 1.0))};
    const int connections = argc > 2 ? std::atoi(argv[2]) : 100;
    std::printf("%-9s %6s %10s %10s %10s %8s\n", "loop", "bytes", "in flight", "plain us", "TLS us", "ratio");
    compare(arke::loop_kind::epoll, "epoll", time, connections);
    compare(arke::loop_kind::io_uring, "io_uring", time, connections);
    return 0;
} catch (const std::exception& e) {
    std::fprintf(stderr, "tls_cost: %s\n", e.what());
    return 1;
}
