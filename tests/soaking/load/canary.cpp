#include "canary.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "wire.hpp"

namespace soak {

canary::canary(std::uint16_t port) : socket_{::socket(AF_INET, SOCK_STREAM, 0)} {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
        throw std::runtime_error{"the canary could not connect"};
    const int on = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const timeval longest{20, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    const auto request = upgrade_request("/chat");
    static_cast<void>(::send(socket_, request.data(), request.size(), MSG_NOSIGNAL));
    while (in_.find("\r\n\r\n") == std::string::npos) {
        if (!read_some().empty()) throw std::runtime_error{"the canary was not let in"};
    }
    in_.erase(0, in_.find("\r\n\r\n") + 4);
    thread_ = std::thread{[this] { run(); }};
}

canary::~canary() {
    stop();
    ::close(socket_);
}

void canary::stop() {
    done_ = true;
    if (thread_.joinable()) thread_.join();
}

std::string canary::read_some() {
    std::array<char, 4096> chunk{};
    const auto count = ::recv(socket_, chunk.data(), chunk.size(), 0);
    if (count <= 0) return count == 0 ? "its connection ended" : std::strerror(errno);
    in_.append(chunk.data(), static_cast<std::size_t>(count));
    return {};
}

void canary::run() {
    using clock = std::chrono::steady_clock;
    auto due = clock::now();
    while (!done_) {
        std::this_thread::sleep_until(due);
        const auto number = std::to_string(asked_++);
        const auto question = event_of("canary", number);
        static_cast<void>(::send(socket_, question.data(), question.size(), MSG_NOSIGNAL));
        for (bool is_answered = false; !is_answered;) {
            const auto frame = parse_frame(in_);
            if (frame.size == 0) {
                failure_ = read_some();
                if (!failure_.empty()) return;
                continue;
            }
            if (frame.first == first_byte::ping) {
                const auto pong = frame_of(first_byte::pong, frame.payload);
                static_cast<void>(::send(socket_, pong.data(), pong.size(), MSG_NOSIGNAL));
            } else {
                const auto event = parse_event(frame.payload);
                is_answered = event.name == "canary" && event.data == number;
                if (!is_answered) {
                    failure_ = "it heard what was not meant for it";
                    return;
                }
            }
            in_.erase(0, frame.size);
        }
        // From when it was due: a server that holds one question up has held up those behind it too.
        milliseconds_.push_back(std::chrono::duration<double, std::milli>(clock::now() - due).count());
        due += std::chrono::milliseconds{50};
    }
}

double canary::quantile(double part) {
    if (milliseconds_.empty()) return 0;
    const auto at =
        milliseconds_.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(milliseconds_.size() - 1));
    std::nth_element(milliseconds_.begin(), at, milliseconds_.end());
    return *at;
}

}  // namespace soak
