#pragma once

/// What the tests of connections that another server has accepted begin with: that server, and the loops of Arke's, which listens nowhere.

#include <arke/server.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/client.hpp"

namespace arke::test {

/// Accepts on a port of the loopback, with two threads, and hands each socket to whoever knows what to do with it.
class foreign_server {
public:
    /// Each socket has a strand of its own, or none: then it hops between the threads.
    explicit foreign_server(std::function<void(tcp::socket)> serve, bool has_strands = true)
        : serve_{std::move(serve)}, has_strands_{has_strands} {
        accept();
        for (int i = 0; i != 2; ++i) threads_.emplace_back([this] { context_.run(); });
    }
    ~foreign_server() {
        context_.stop();
        for (auto& t : threads_) t.join();
    }
    foreign_server(const foreign_server&) = delete;
    foreign_server& operator=(const foreign_server&) = delete;

    std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
    asio::io_context& context() { return context_; }

private:
    void accept() {
        asio::any_io_executor on = context_.get_executor();
        if (has_strands_) on = asio::make_strand(context_);
        acceptor_.async_accept(on, [this](const boost::system::error_code& ec, tcp::socket s) {
            if (ec) return;
            serve_(std::move(s));
            accept();
        });
    }

    // Before the io_context: what that destroys may still need it.
    std::function<void(tcp::socket)> serve_;
    bool has_strands_;
    asio::io_context context_{2};
    tcp::acceptor acceptor_{context_, {asio::ip::make_address("127.0.0.1"), 0}};
    std::vector<std::thread> threads_;
};

/// Runs two loops of a server as long as it lives: less long than the io_context of what that adopts.
class running_loops {
public:
    explicit running_loops(server& s) : of_{s}, thread_{[&s] { s.run(2); }} {}
    ~running_loops() {
        of_.stop();
        thread_.join();
    }
    running_loops(const running_loops&) = delete;
    running_loops& operator=(const running_loops&) = delete;

private:
    server& of_;
    std::thread thread_;
};

}  // namespace arke::test
