#pragma once

/// A line between a server and its broker that can be made bad: slow, silent, or cut.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <stdexcept>
#include <string>
#include <thread>

namespace arke::test {

class bad_line {
public:
    enum class state { good, slow, silent };

    explicit bad_line(std::uint16_t to) : to_{to} {
        listening_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof at;
        if (::bind(listening_, reinterpret_cast<sockaddr*>(&at), size) != 0 || ::listen(listening_, 64) != 0 ||
            ::getsockname(listening_, reinterpret_cast<sockaddr*>(&at), &size) != 0)
            throw std::runtime_error{"no port for a line"};
        port_ = ntohs(at.sin_port);
        thread_ = std::thread{[this] { run(); }};
    }
    ~bad_line() {
        stopping_ = true;
        thread_.join();
        for (const auto& c : calls_) drop(c);
        ::close(listening_);
    }
    bad_line(const bad_line&) = delete;
    bad_line& operator=(const bad_line&) = delete;

    std::uint16_t port() const noexcept { return port_; }

    /// Slow is a kilobyte a second for all. Silent: everybody stays connected, new ones too, and nothing passes.
    void become(state s) noexcept { state_ = s; }

    /// All connections end.
    void cut() noexcept { cut_ = true; }

private:
    struct call {
        int near;
        int far;
    };

    static void drop(const call& c) noexcept {
        ::close(c.near);
        ::close(c.far);
    }

    void take() {
        const int near = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (near < 0) return;
        const int far = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_port = htons(to_);
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(far, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) return drop({near, far});
        calls_.push_back({near, far});
    }

    /// False: it is over.
    bool pass(int from, int to, std::size_t most) {
        char bytes[16 * 1024];
        const auto count = ::recv(from, bytes, std::min(most, sizeof bytes), MSG_DONTWAIT);
        if (count < 0) return errno == EAGAIN;
        if (count == 0) return false;
        // The far end takes what it gets: it may block us, as a line does.
        for (ssize_t done = 0; done != count;) {
            const auto part = ::send(to, bytes + done, static_cast<std::size_t>(count - done), MSG_NOSIGNAL);
            if (part > 0) {
                done += part;
            } else if (errno == EAGAIN) {
                pollfd ready{to, POLLOUT, 0};
                if (::poll(&ready, 1, 100) == 0 && stopping_) return false;
            } else {
                return false;
            }
        }
        return true;
    }

    void run() {
        while (!stopping_) {
            if (cut_.exchange(false)) {
                for (const auto& c : calls_) drop(c);
                calls_.clear();
            }
            const auto now = state_.load();
            std::vector<pollfd> waits{{listening_, POLLIN, 0}};
            if (now != state::silent) {
                for (const auto& c : calls_) {
                    waits.push_back({c.near, POLLIN, 0});
                    waits.push_back({c.far, POLLIN, 0});
                }
            }
            ::poll(waits.data(), waits.size(), 20);
            if ((waits.front().revents & POLLIN) != 0) take();
            if (now == state::silent) continue;
            const std::size_t most = now == state::slow ? 50 : 16 * 1024;
            calls_.remove_if([&](const call& c) {
                const bool goes_on = pass(c.near, c.far, most) && pass(c.far, c.near, most);
                if (!goes_on) drop(c);
                return !goes_on;
            });
            if (now == state::slow) std::this_thread::sleep_for(std::chrono::milliseconds{50});
        }
    }

    std::uint16_t to_;
    std::uint16_t port_ = 0;
    int listening_;
    std::list<call> calls_;
    std::atomic<state> state_{state::good};
    std::atomic<bool> cut_{false};
    std::atomic<bool> stopping_{false};
    std::thread thread_;
};

}  // namespace arke::test
