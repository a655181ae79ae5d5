#pragma once

// Clients of the programs about slow ones: plain sockets, which can do what no library would.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace arke::bench {

[[noreturn]] inline void fail(const std::string& sentence) { throw std::runtime_error{sentence}; }

inline void raise_descriptor_limit() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// What is a process's own, in MiB.
inline double memory_of(int pid) {
    std::ifstream in{"/proc/" + std::to_string(pid) + "/smaps_rollup"};
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("Anonymous:")) return std::strtod(line.c_str() + 10, nullptr) / 1024;
    }
    fail("The server's memory cannot be read: it has ended.");
}

inline constexpr std::string_view event_prefix = "iris-websocket-message:";

inline constexpr std::string_view upgrade_request =
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

inline std::string event(std::string_view name, std::string_view data) {
    std::string payload{event_prefix};
    payload.append(name).append(";0;").append(data);
    std::string frame = "\x81";
    if (payload.size() < 126) {
        frame += static_cast<char>(0x80U | payload.size());
    } else {
        frame += "\xFE";
        frame += static_cast<char>(payload.size() >> 8U);
        frame += static_cast<char>(payload.size() & 0xFFU);
    }
    // A mask of zeros is one.
    return frame + std::string(4, '\0') + payload;
}

/// A blocking socket, connected.
inline int connect_to(std::uint16_t port, int receive_buffer = 0) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) fail("No more sockets can be made: raise the bound of open files (ulimit -n).");
    if (receive_buffer != 0) ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const timeval longest{20, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) fail("A client could not connect.");
    return fd;
}

/// One that is a WebSocket, and non-blocking from then on.
inline int open_websocket(std::uint16_t port, int receive_buffer = 0) {
    const int fd = connect_to(port, receive_buffer);
    if (::send(fd, upgrade_request.data(), upgrade_request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(upgrade_request.size()))
        fail("A client could not ask.");
    std::string head;
    for (char c = 0; !head.ends_with("\r\n\r\n"); head += c) {
        if (::recv(fd, &c, 1, 0) != 1) fail("A client was not answered.");
    }
    if (!head.starts_with("HTTP/1.1 101")) fail("A client was refused: " + head);
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

}  // namespace arke::bench
