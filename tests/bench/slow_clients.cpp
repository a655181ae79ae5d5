// Thousands that send a byte a second while others talk.
//
//     slow_clients [COUNT] [--users N] [--loop automatic|epoll|io_uring|portable]
//
// A server in a process of its own, and N (20) users who each ask for an echo and wait for it, one after another without a
// pause. First they are alone; then COUNT (10,000) others come, and each sends a byte a second: a part of them in the HTTP
// request, a part in a TLS hello on a TLS port, a part in a frame. Measured are the time that an echo takes, the server's
// memory, and when the slow are closed.
//
// One that is not closed at its bound is a sentence on stderr and status 1.

#include <arke/arke.hpp>
#include <tests/bench/raw_client.hpp>

#ifdef ARKE_BENCH_TLS
#include <arke/tls.hpp>
#include <tests/support/certificates.hpp>
#endif

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace arke::bench;
using clock_type = std::chrono::steady_clock;

constexpr auto bound = 10s;

struct options {
    std::size_t count = 10'000;
    std::size_t users = 20;
    arke::loop_kind loop = arke::loop_kind::automatic;
};

struct ports {
    std::uint16_t plain = 0;
    std::uint16_t tls = 0;  // 0: there is none
};

/// Tells its ports through the pipe and serves until it is ended.
[[noreturn]] void serve(arke::loop_kind loop, int ports_to) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    arke::config settings;
    settings.message_timeout = bound;
    settings.log = [](std::string_view) {};
    settings.listener.handshake_timeout = bound;
    settings.listener.loop = loop;
#ifdef ARKE_BENCH_TLS
    const arke::test::test_certificate own;
    settings.listener.tls.certificates.push_back({.chain = own.chain(), .key = own.key()});
#endif
    arke::server server{std::move(settings)};
    server.on("echo", [](arke::connection& c, std::string_view text) { c.emit("echo", text); });
    ports made;
#ifdef ARKE_BENCH_TLS
    server.listen("127.0.0.1", 0, arke::security::tls);
    made.tls = server.port();
#endif
    server.listen("127.0.0.1", 0, arke::security::plain);
    made.plain = server.port();
    if (::write(ports_to, &made, sizeof made) != sizeof made) std::_Exit(1);
    server.run();
    std::_Exit(0);
}

// ---------------------------------------------------------------------------------------------------------- the users

class users {
public:
    users(std::uint16_t port, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            fds_.push_back(open_websocket(port));
            ::fcntl(fds_.back(), F_SETFL, 0);
        }
    }
    ~users() {
        for (const int fd : fds_) ::close(fd);
    }
    users(const users&) = delete;
    users& operator=(const users&) = delete;

    /// One echo after another, until f() says that it is enough.
    template <class F>
    void talk(F&& is_enough) {
        microseconds_.clear();
        const auto frame = event("echo", "how are you?");
        const std::size_t answer = frame.size() - 4;  // it has no mask
        std::array<char, 256> in{};
        for (std::size_t i = 0; !is_enough(); i = (i + 1) % fds_.size()) {
            const auto asked = clock_type::now();
            if (::send(fds_[i], frame.data(), frame.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(frame.size()))
                fail("A user was cut off.");
            for (std::size_t got = 0; got != answer;) {
                const auto count = ::recv(fds_[i], in.data(), in.size(), 0);
                if (count <= 0) fail("A user was not answered.");
                got += static_cast<std::size_t>(count);
            }
            microseconds_.push_back(std::chrono::duration<double, std::micro>(clock_type::now() - asked).count());
            // Not a load of their own: what is asked is how long they wait.
            std::this_thread::sleep_for(500us);
        }
    }

    double quantile(double part) {
        const auto at =
            microseconds_.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(microseconds_.size() - 1));
        std::nth_element(microseconds_.begin(), at, microseconds_.end());
        return *at;
    }
    std::size_t size() const { return microseconds_.size(); }

private:
    std::vector<int> fds_;
    std::vector<double> microseconds_;
};

// ----------------------------------------------------------------------------------------------------------- the slow

/// What a kind of them sends, byte by byte.
struct kind {
    const char* name;
    std::uint16_t port;
    bool is_upgraded;
    std::string head;  // all at once: while nothing but a part of a frame's header has come, no message has begun
    std::string bytes;
};

class slow_ones {
public:
    slow_ones(const std::vector<kind>& kinds, std::size_t count) : kinds_{kinds}, each_(count) {}
    ~slow_ones() {
        stops_ = true;
        if (thread_.joinable()) thread_.join();
        for (const auto& s : each_) {
            if (s.fd >= 0) ::close(s.fd);
        }
    }
    slow_ones(const slow_ones&) = delete;
    slow_ones& operator=(const slow_ones&) = delete;

    void begin() {
        thread_ = std::thread{[this] {
            try {
                run();
            } catch (const std::exception& e) {
                failure_ = e.what();
                is_over_ = true;
            }
        }};
    }

    /// All of them are closed, or something went wrong.
    bool is_over() const { return is_over_; }

    void show() {
        thread_.join();
        if (!failure_.empty()) fail(failure_);
        for (std::size_t k = 0; k != kinds_.size(); ++k) {
            double first = 1e9;
            double last = 0;
            std::size_t count = 0;
            for (std::size_t i = k; i < each_.size(); i += kinds_.size(), ++count) {
                first = std::min(first, each_[i].lived);
                last = std::max(last, each_[i].lived);
            }
            std::printf("  %5zu in %-18s closed %.1f to %.1f s after they came\n", count, kinds_[k].name, first, last);
            if (last > std::chrono::duration<double>(bound).count() + 2) fail("A slow client outlived its bound.");
            if (first < std::chrono::duration<double>(bound).count() - 1) fail("A client was closed before its time.");
        }
    }

private:
    struct slow_one {
        int fd = -1;
        std::size_t sent = 0;
        bool is_closed = false;
        clock_type::time_point came;
        clock_type::time_point due;
        double lived = 0;
    };

    void run() {
        std::size_t there = 0;
        std::size_t closed = 0;
        const auto begin = clock_type::now();
        while (closed != each_.size() && !stops_) {
            // All within five seconds.
            const auto wanted =
                static_cast<std::size_t>(std::chrono::duration<double>(clock_type::now() - begin).count() / 5 *
                                         static_cast<double>(each_.size()));
            for (; there < std::min(wanted, each_.size()); ++there) open(each_[there], kinds_[there % kinds_.size()]);
            const auto now = clock_type::now();
            for (std::size_t i = 0; i != there; ++i) {
                if (!each_[i].is_closed && each_[i].due <= now && !send_next(each_[i], kinds_[i % kinds_.size()], now))
                    ++closed;
            }
            if (now - begin > 60s) fail("After a minute there are slow clients left.");
            std::this_thread::sleep_for(10ms);
        }
        is_over_ = true;
    }

    static void open(slow_one& s, const kind& k) {
        s.fd = k.is_upgraded ? open_websocket(k.port) : connect_to(k.port);
        ::fcntl(s.fd, F_SETFL, O_NONBLOCK);
        if (::send(s.fd, k.head.data(), k.head.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(k.head.size()))
            fail("A slow client could not begin.");
        s.came = clock_type::now();
        s.due = s.came + 1s;
    }

    /// False: it is closed.
    static bool send_next(slow_one& s, const kind& k, clock_type::time_point now) {
        char byte = 0;
        ssize_t got = 0;
        while ((got = ::recv(s.fd, &byte, 1, 0)) == 1) {
        }
        const bool is_alive = got < 0 && errno == EAGAIN && ::send(s.fd, &k.bytes[s.sent], 1, MSG_NOSIGNAL) == 1;
        if (!is_alive) {
            s.is_closed = true;
            s.lived = std::chrono::duration<double>(now - s.came).count();
            ::close(std::exchange(s.fd, -1));
            return false;
        }
        s.sent = std::min(s.sent + 1, k.bytes.size() - 1);
        s.due += 1s;
        return true;
    }

    std::vector<kind> kinds_;
    std::vector<slow_one> each_;
    std::atomic<bool> stops_{false};
    std::atomic<bool> is_over_{false};
    std::string failure_;
    std::thread thread_;
};

// ----------------------------------------------------------------------------------------------------------- what is shown

void measure(const options& o) {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) fail("No pipe can be made.");
    struct child {
        pid_t pid;
        ~child() {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    } server{::fork()};
    if (server.pid == 0) serve(o.loop, pipe[1]);
    ::close(pipe[1]);
    ports to;
    const bool is_there = ::read(pipe[0], &to, sizeof to) == sizeof to;
    ::close(pipe[0]);
    if (!is_there) fail("The server did not start.");

    users talkers{to.plain, o.users};
    const auto show = [&](const char* when) {
        std::printf("  %-18s an echo takes p50 %6.0f us, p99 %6.0f us (%zu of them); memory %.1f MiB\n", when,
                    talkers.quantile(0.5), talkers.quantile(0.99), talkers.size(), memory_of(server.pid));
    };
    const auto for_seconds = [](std::chrono::seconds time) {
        return [end = clock_type::now() + time] { return clock_type::now() >= end; };
    };
    talkers.talk(for_seconds(1s));
    talkers.talk(for_seconds(5s));
    show("alone:");

    std::vector<kind> kinds{
        {"an HTTP request", to.plain, false, "G", std::string{upgrade_request.substr(1, 40)} + std::string(100, 'x')},
        {"a frame", to.plain, true, "\x81\xFE\x03\xE8mask", std::string(500, 'x')},
    };
    // The header of a record of 512 bytes and of a hello in it; then its version and a random that does not end.
    if (to.tls != 0) {
        constexpr std::string_view hello{"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03", 11};
        kinds.push_back({"a TLS hello", to.tls, false, std::string{hello.substr(0, 1)},
                         std::string{hello.substr(1)} + std::string(200, 'x')});
    }
    slow_ones slow{kinds, o.count};
    const auto begin = clock_type::now();
    slow.begin();
    double most = 0;
    talkers.talk([&, next = begin]() mutable {
        if (clock_type::now() >= next) {
            most = std::max(most, memory_of(server.pid));
            next += 500ms;
        }
        return slow.is_over();
    });
    show("with the slow:");
    std::printf("  most memory %.1f MiB\n", most);
    slow.show();
    talkers.talk(for_seconds(3s));
    show("afterwards:");
}

options read_options(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--users" && i + 1 < argc) {
            o.users = std::strtoul(argv[++i], nullptr, 10);
        } else if (word == "--loop" && i + 1 < argc) {
            const std::string_view kind = argv[++i];
            o.loop = kind == "epoll"      ? arke::loop_kind::epoll
                     : kind == "io_uring" ? arke::loop_kind::io_uring
                     : kind == "portable" ? arke::loop_kind::portable
                                          : arke::loop_kind::automatic;
        } else {
            o.count = std::strtoul(argv[i], nullptr, 10);
        }
    }
    if (o.count == 0 || o.users == 0)
        fail("How many? Write slow_clients COUNT; all options are told at the top of slow_clients.cpp.");
    return o;
}

}  // namespace

int main(int argc, char** argv) try {
    std::setvbuf(stdout, nullptr, _IONBF, 0);
    raise_descriptor_limit();
    const auto o = read_options(argc, argv);
    std::printf("%zu users; %zu that send a byte a second, bounds of %d s\n", o.users, o.count,
                static_cast<int>(bound.count()));
    measure(o);
    return 0;
} catch (const std::exception& e) {
    std::fprintf(stderr, "slow_clients: %s\n", e.what());
    return 1;
}
