#pragma once

/// What the socket tests say about the server's end: a server that runs in a thread of its own, and a record of what its
/// handlers saw.

#include <algorithm>
#include <arke/io/make_loop.hpp>
#include <arke/server.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/client.hpp"

namespace arke::test {

/// Lines that handlers write, on whatever thread, and the test waits for. Catch2's macros are not for other threads.
class journal {
public:
    void add(std::string line) {
        const std::lock_guard lock{mutex_};
        lines_.push_back(std::move(line));
        changed_.notify_all();
    }

    /// The lines in one, a space between them, as soon as there are `count`; what there is when they do not come.
    std::string wait(std::size_t count) {
        std::unique_lock lock{mutex_};
        changed_.wait_for(lock, patience, [&] { return lines_.size() >= count; });
        std::string all;
        for (const auto& line : lines_) all += (all.empty() ? "" : " ") + line;
        return all;
    }

    std::size_t size() const {
        const std::lock_guard lock{mutex_};
        return lines_.size();
    }

    std::string text() { return wait(0); }

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> lines_;
};

/// In one line, whatever order they came in.
inline std::string sorted(std::vector<std::string> texts) {
    std::sort(texts.begin(), texts.end());
    std::string text;
    for (const auto& each : texts) text += (text.empty() ? "" : " ") + each;
    return text;
}

/// Waits until a condition that other threads bring about holds. For what no event tells of.
template <class Condition>
bool eventually(Condition&& holds) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!holds()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return true;
}

/// The loops that this system has; every socket test runs on each, as GENERATE(from_range(all_loops())).
inline std::vector<loop_kind> all_loops() {
#ifdef __linux__
    std::vector<loop_kind> all{loop_kind::epoll, loop_kind::portable};
    // Where it is refused, a server has epoll in its place.
    static const bool has_io_uring = [] {
        boost::asio::io_context context;
        listener_config settings;
        settings.loop = loop_kind::io_uring;
        const auto made = io::make_loop(context, 0, settings);
        made->shut_down();
        return made->kind() == loop_kind::io_uring;
    }();
    if (has_io_uring) all.push_back(loop_kind::io_uring);
    return all;
#else
    return {loop_kind::portable};
#endif
}

/// A config for a test: this loop, no signals, no word on std::clog, and no long wait for clients that a test has left. Who is there has
/// three seconds to answer the goodbye: a client that was cut before would not take it for one.
inline config quiet(loop_kind loop, config c = {}) {
    c.listener.loop = loop;
    c.listener.stop_on_signals = false;
    if (c.listener.stop_timeout == listener_config{}.stop_timeout) c.listener.stop_timeout = std::chrono::seconds{3};
    if (!c.log) c.log = [](std::string_view) {};
    return c;
}

/// Ids by the query: "/?id=ann" is ann.
inline config named(loop_kind loop, config c = {}) {
    c.id_generator = [](const request& r) { return r.query("id").value_or(""); };
    return quiet(loop, std::move(c));
}

/// A server on a free port of the loopback. Handlers are added to server(), then start() runs it until the test is over.
template <class Session>
class basic_running_server {
public:
    explicit basic_running_server(config c = {}) : server_{std::make_unique<basic_server<Session>>(std::move(c))} {}

    ~basic_running_server() { stop(); }
    basic_running_server(const basic_running_server&) = delete;
    basic_running_server& operator=(const basic_running_server&) = delete;

    basic_server<Session>& server() { return *server_; }
    basic_server<Session>* operator->() { return server_.get(); }
    std::unique_ptr<basic_server<Session>>& owner() { return server_; }

    void start(unsigned threads = 1) {
        server_->listen("127.0.0.1", 0);
        port_ = server_->port();
        thread_ = std::thread{[this, s = server_.get(), threads] {
            try {
                s->run(threads);
            } catch (const std::exception& e) {
                failure_ = e.what();
            }
        }};
    }

    std::uint16_t port() const { return port_; }

    /// Waits for run() to return by itself; what it threw, or an empty text.
    std::string wait() {
        if (thread_.joinable()) thread_.join();
        return failure_;
    }

    std::string stop() {
        if (server_) server_->stop();
        return wait();
    }

private:
    std::unique_ptr<basic_server<Session>> server_;
    std::thread thread_;
    std::string failure_;
    std::uint16_t port_ = 0;
};

using running_server = basic_running_server<no_session>;

}  // namespace arke::test
