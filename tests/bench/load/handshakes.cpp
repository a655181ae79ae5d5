#include "crowd.hpp"
#include "failure.hpp"
#include "modes.hpp"
#include "window.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace bench {
namespace {

// One connection after the other in the same place.
struct place {
    int fd = -1;
    std::string head;
};

}  // namespace

std::string run_handshakes(const options& o) {
    if (o.protocol != protocol::websocket) throw failure{"The mode handshakes speaks --protocol websocket only."};
    require_descriptors(o.connections);
    const auto request = upgrade_request(o);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) throw system_failure("No epoll set");

    std::vector<place> places(o.connections);
    const auto start = [&](std::size_t i) {
        auto& p = places[i];
        p.head.clear();
        p.fd = connect_to_server(o, i);
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u32 = static_cast<std::uint32_t>(i);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, p.fd, &event) != 0) throw system_failure("The epoll set takes no more");
        if (send(p.fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
            throw system_failure("The server does not take a request");
    };

    window measured{o};
    std::uint64_t done = 0, begun = 0;
    std::size_t busy = places.size();
    std::array<epoll_event, 256> events{};
    std::array<char, 4096> buffer{};
    measured.open();
    for (std::size_t i = 0; i != places.size(); ++i, ++begun) start(i);
    bool going_on = true;
    while (busy != 0) {
        const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 100);
        for (int e = 0; e < count; ++e) {
            const auto i = std::size_t{events[static_cast<std::size_t>(e)].data.u32};
            auto& p = places[i];
            const auto size = recv(p.fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
            if (size < 0) throw system_failure("The server cut a connection within its handshake");
            if (size == 0) throw failure{"The server closed a connection within its handshake."};
            p.head.append(buffer.data(), static_cast<std::size_t>(size));
            if (p.head.find("\r\n\r\n") == std::string::npos) continue;
            if (!p.head.starts_with("HTTP/1.1 101 ") || p.head.find(upgrade_accept) == std::string::npos)
                throw failure{"The server does not upgrade to WebSocket; it answered: " +
                              p.head.substr(0, p.head.find('\r'))};
            ++done;
            // A reset: whoever closes in order keeps the port for a minute, and there are some 28,000 ports.
            const linger at_once{1, 0};
            setsockopt(p.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            close(p.fd);
            if (going_on && (o.messages == 0 || begun < o.messages)) {
                start(i);
                ++begun;
            } else {
                --busy;
            }
        }
        measured.heard(done);
        going_on = measured.is_open(done);
    }
    measured.close(done);
    close(epoll);

    const auto count = static_cast<double>(measured.done());
    report r;
    r.add("mode", o.mode).add("connections", std::uint64_t{o.connections});
    r.add("handshakes", count).add("handshakes_in_all", done);
    measured.meter().tell(r, count);
    return r.line();
}

}  // namespace bench
