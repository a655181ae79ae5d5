#include "crowd.hpp"

#include "failure.hpp"
#include "frames.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace bench {
namespace {

// Fewer than any server's backlog, so that no SYN is dropped and sent again a second later.
constexpr std::size_t opened_at_once = 64;

constexpr std::size_t ports_per_address = 20'000;

void set(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

sockaddr_in loopback(std::uint32_t host, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(0x7f000000u + host);
    return address;
}

void send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0) throw system_failure("A connection took no more while it was set up");
        bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
}

}  // namespace

void require_descriptors(std::size_t connections) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (connections + 32 > limit.rlim_cur) {
        throw failure{std::to_string(connections) + " connections do not fit: this process may open " +
                      std::to_string(limit.rlim_cur) + " files. Raise 'ulimit -n', or ask for fewer."};
    }
}

int connect_to_server(const options& o, std::size_t number) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) throw system_failure("No socket for another connection");
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (const auto address_number = static_cast<std::uint32_t>(number / ports_per_address)) {
        set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        const auto from = loopback(1 + address_number, 0);
        if (bind(fd, reinterpret_cast<const sockaddr*>(&from), sizeof from) != 0)
            throw system_failure("No other loopback address to connect from");
    }
    const auto to = loopback(1, o.port);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
        const auto failed = system_failure("Cannot connect to 127.0.0.1:" + std::to_string(o.port));
        close(fd);
        throw failed;
    }
    return fd;
}

std::string upgrade_request(const options& o) {
    const std::string path = o.protocol == protocol::socket_io ? "/socket.io/?EIO=4&transport=websocket" : "/";
    return "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(o.port) +
           "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
}

crowd::crowd(const options& o, std::size_t count) : options_{o}, events_(1024), buffer_(std::size_t{1} << 20) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) throw system_failure("No epoll set");
    open(count);
}

crowd::~crowd() {
    for (const auto& c : clients_) {
        // Reset: a closing handshake of thousands leaves thousands of ports waiting.
        const linger at_once{1, 0};
        setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(c.fd);
    }
    if (epoll_ >= 0) close(epoll_);
}

void crowd::open(std::size_t more) {
    const auto total = clients_.size() + more;
    require_descriptors(total);
    clients_.reserve(total);
    while (clients_.size() < total) {
        const auto first = clients_.size();
        open_batch(first, std::min(total, first + opened_at_once));
    }
}

void crowd::open_at(std::uint16_t port, std::size_t more) {
    options_.port = port;
    open(more);
}

void crowd::open_batch(std::size_t first, std::size_t last) {
    for (std::size_t i = first; i != last; ++i) {
        clients_.emplace_back();
        clients_.back().fd = connect_to_server(options_, i);
    }
    if (options_.protocol == protocol::raw) return;
    const auto request = upgrade_request(options_);
    for (std::size_t i = first; i != last; ++i) send_all(clients_[i].fd, request);
    for (std::size_t i = first; i != last; ++i) {
        const auto head = await_upgrade(clients_[i]);
        if (head.find(" 101 ") == std::string::npos || head.find(upgrade_accept) == std::string::npos)
            throw failure{"The server does not upgrade to WebSocket; it answered: " + head.substr(0, head.find('\r'))};
    }
    if (options_.protocol != protocol::socket_io) return;
    for (std::size_t i = first; i != last; ++i) {
        if (!await_message(clients_[i]).starts_with("0{"))
            throw failure{"The server does not open as Engine.IO 4 does."};
        send_all(clients_[i].fd, client_frame(true, "40"));
    }
    for (std::size_t i = first; i != last; ++i) {
        if (!await_message(clients_[i]).starts_with("40"))
            throw failure{"The server does not connect as Socket.IO does."};
    }
}

void crowd::read_more(client& c) {
    pollfd readable{c.fd, POLLIN, 0};
    if (poll(&readable, 1, static_cast<int>(options_.patience * 1000)) == 0)
        throw failure{"The server left a connection without an answer while it was set up."};
    const auto count = recv(c.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (count < 0) throw system_failure("The server cut a connection while it was set up");
    if (count == 0) throw failure{"The server closed a connection while it was set up."};
    c.early.append(buffer_.data(), static_cast<std::size_t>(count));
}

std::string crowd::await_upgrade(client& c) {
    std::size_t end = 0;
    while ((end = c.early.find("\r\n\r\n")) == std::string::npos) read_more(c);
    auto head = c.early.substr(0, end + 4);
    c.early.erase(0, end + 4);
    return head;
}

std::string crowd::await_message(client& c) {
    const auto byte = [&c](std::size_t i) { return std::size_t{static_cast<unsigned char>(c.early[i])}; };
    while (c.early.size() < 2) read_more(c);
    std::size_t header = 2;
    std::size_t size = byte(1);
    if (size == 126) {
        header = 4;
        while (c.early.size() < header) read_more(c);
        size = byte(2) << 8 | byte(3);
    }
    if (size > 65'535) throw failure{"The server sent a message that is too long for an answer while it was set up."};
    while (c.early.size() < header + size) read_more(c);
    auto payload = c.early.substr(header, size);
    c.early.erase(0, header + size);
    return payload;
}

void crowd::await(client& c, std::string_view answer) {
    while (c.early.size() < answer.size()) read_more(c);
    if (!c.early.starts_with(answer)) throw failure{"The server answered something else than it was sent."};
    c.early.erase(0, answer.size());
}

void crowd::ask(std::size_t first, std::size_t last, std::string_view bytes, std::string_view answer) {
    for (auto begin = first; begin < last; begin += opened_at_once) {
        const auto end = std::min(last, begin + opened_at_once);
        for (auto i = begin; i != end; ++i) send_all(clients_[i].fd, bytes);
        for (auto i = begin; i != end; ++i) await(clients_[i], answer);
    }
}

std::string crowd::ask_for_message(client& c, std::string_view bytes) {
    send_all(c.fd, bytes);
    return await_message(c);
}

void crowd::join(std::size_t first, std::size_t last) {
    // Nothing answers the command, and messages keep their order: an echo behind it says that it was done.
    const auto echo =
        make_echo(options_.protocol, options_.protocol == protocol::socket_io ? kind::string : kind::native, 8);
    ask(first, last, make_join(options_.protocol) + echo.request, echo.answer);
}

void crowd::keep(const std::vector<std::size_t>& places) {
    std::vector<client> kept;
    for (const auto place : places) kept.push_back(std::exchange(clients_[place], {}));
    for (const auto& c : clients_) {
        if (c.fd >= 0) close(c.fd);
    }
    clients_ = std::move(kept);
}

void crowd::watch() {
    for (std::size_t i = 0; i != clients_.size(); ++i) {
        if (!clients_[i].early.empty()) throw failure{"The server said more than it was asked while it was set up."};
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT | EPOLLET;
        event.data.u32 = static_cast<std::uint32_t>(i);
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, clients_[i].fd, &event) != 0)
            throw system_failure("The epoll set takes no more");
    }
}

int crowd::wait_for_events(int milliseconds) {
    const int count = epoll_wait(epoll_, events_.data(), static_cast<int>(events_.size()), milliseconds);
    if (count < 0 && errno != EINTR) throw system_failure("Cannot wait for the connections");
    return count;
}

std::string_view crowd::read_once(client& c) {
    const auto count = recv(c.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (count > 0) return {buffer_.data(), static_cast<std::size_t>(count)};
    if (count == 0) throw failure{"The server closed a connection."};
    if (errno != EAGAIN && errno != EINTR) throw system_failure("The server cut a connection");
    return {};
}

std::size_t crowd::receive(client& c, std::string_view expected) {
    std::size_t all = 0;
    read(c, [&](std::string_view piece) {
        if (!expected.empty()) {
            for (std::size_t i = 0; i != piece.size(); ++i) {
                if (piece[i] != expected[(c.got + i) % expected.size()])
                    throw failure{"The server answered something else than it was sent."};
            }
        }
        c.got += piece.size();
        all += piece.size();
        if (c.got > c.due) throw failure{"The server sent more than it should, or answers of another size."};
    });
    return all;
}

void crowd::send(client& c, std::string_view bytes) {
    while (c.unsent != 0) {
        const auto sent = ::send(c.fd, bytes.data() + (bytes.size() - c.unsent), c.unsent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN || errno == EINTR) return;
            throw system_failure("The server cut a connection");
        }
        c.unsent -= static_cast<std::size_t>(sent);
    }
}

}  // namespace bench
