// A TCP echo on plain epoll, without any protocol: what no WebSocket server can beat. Gives back every byte as it came.
//
//     epoll_echo PORT
//
// As few system calls as there can be: one shared buffer, a socket added once and edge-triggered, one recv and one send for
// each burst. What the kernel does not take at once is kept, and nothing more is read of that connection until it has gone.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

namespace {

constexpr std::size_t buffer_size = 512 * 1024;

volatile std::sig_atomic_t stopped = 0;

struct connection {
    int fd;
    std::string unsent{};
    bool may_have_more = false;  // an edge came while `unsent` waited: it does not come again
    bool has_ended = false;      // the peer has said all; it still gets its answers
};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "epoll_echo: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK; }

// False: the connection is over.
bool send_some(connection& c, const char* data, std::size_t size) {
    const ssize_t sent = ::send(c.fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && !would_block()) return false;
    const auto done = sent < 0 ? std::size_t{0} : static_cast<std::size_t>(sent);
    if (done != size) c.unsent.assign(data + done, size - done);
    return true;
}

bool read_all(connection& c, char* buffer) {
    for (;;) {
        if (!c.unsent.empty()) {
            c.may_have_more = true;
            return true;
        }
        const ssize_t count = ::recv(c.fd, buffer, buffer_size, 0);
        if (count == 0) return false;
        if (count < 0) return would_block();
        const auto taken = static_cast<std::size_t>(count);
        if (!send_some(c, buffer, taken)) return false;
        if (taken != buffer_size) return true;
    }
}

bool serve(connection& c, std::uint32_t events, char* buffer) {
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) return false;
    if ((events & EPOLLRDHUP) != 0) c.has_ended = true;
    if ((events & EPOLLOUT) != 0 && !c.unsent.empty()) {
        const auto waiting = std::exchange(c.unsent, {});
        if (!send_some(c, waiting.data(), waiting.size())) return false;
        if (c.unsent.empty() && std::exchange(c.may_have_more, false) && !read_all(c, buffer)) return false;
    }
    if ((events & EPOLLIN) != 0 && !read_all(c, buffer)) return false;
    return !c.has_ended || !c.unsent.empty();
}

int listen_on(int port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("bind");
    if (::listen(fd, 4096) != 0) fail("listen");
    return fd;
}

void accept_all(int listener, int set) {
    for (;;) {
        const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        const int on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        auto made = std::make_unique<connection>(connection{fd});
        epoll_event wanted{};
        wanted.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        wanted.data.ptr = made.get();
        if (::epoll_ctl(set, EPOLL_CTL_ADD, fd, &wanted) == 0) {
            static_cast<void>(made.release());  // the set has it until it ends
        } else {
            ::close(fd);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("epoll_echo PORT\n", stderr);
        return 2;
    }
    struct sigaction action {};
    action.sa_handler = [](int) { stopped = 1; };
    ::sigaction(SIGTERM, &action, nullptr);
    ::sigaction(SIGINT, &action, nullptr);

    const int listener = listen_on(std::atoi(argv[1]));
    const int set = ::epoll_create1(EPOLL_CLOEXEC);
    if (set < 0) fail("epoll_create1");
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    if (::epoll_ctl(set, EPOLL_CTL_ADD, listener, &wanted) != 0) fail("epoll_ctl");
    std::printf("listening on %s\n", argv[1]);
    std::fflush(stdout);

    const auto buffer = std::make_unique<char[]>(buffer_size);
    std::array<epoll_event, 512> events{};
    while (stopped == 0) {
        const int count = ::epoll_wait(set, events.data(), static_cast<int>(events.size()), -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; ++i) {
            const auto& event = events[static_cast<std::size_t>(i)];
            if (event.data.ptr == nullptr) {
                accept_all(listener, set);
                continue;
            }
            auto* const c = static_cast<connection*>(event.data.ptr);
            if (!serve(*c, event.events, buffer.get())) {
                ::close(c->fd);
                delete c;
            }
        }
    }
}
