// Thousands that stop reading while a room is busy.
//
//     slow_readers [SLOW] [--healthy N] [--loop automatic|epoll|io_uring|portable]
//
// For each policy a server of its own, in a process of its own, with SLOW (2,000) readers that will stop and N (200) that will
// not, all in one room. Twenty times a second somebody says 4 KiB. First all read; then the slow ones stop. Measured are the
// time from saying to each healthy reader, the memory of the server, and what becomes of the slow.
//
// A healthy reader that misses a message, and a slow one that does not meet its policy, are a sentence on stderr and status 1.

#include <arke/arke.hpp>
#include <tests/bench/raw_client.hpp>

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace arke::bench;
using clock_type = std::chrono::steady_clock;

constexpr std::size_t message_size = 4096;
constexpr std::size_t outbox_bound = 64 * 1024;
constexpr auto period = 50ms;

struct options {
    std::size_t slow = 2000;
    std::size_t healthy = 200;
    arke::loop_kind loop = arke::loop_kind::automatic;
};

// ------------------------------------------------------------------------------------------------------------- the server

struct policy {
    const char* name;
    arke::config settings;
};

std::vector<policy> policies() {
    std::vector<policy> all{{"close at the bound", {.on_overflow = arke::overflow::close}},
                            {"drop", {.on_overflow = arke::overflow::drop}},
                            {"coalesce", {.on_overflow = arke::overflow::coalesce}},
                            {"write_timeout", {}}};
    for (auto& p : all) {
        p.settings.write_timeout = 60s;
        p.settings.close_timeout = 60s;  // Who is told 1013 may take its time to read it.
        p.settings.max_message_size = 2 * message_size;
        p.settings.max_outbox_bytes = outbox_bound;
        p.settings.log = [](std::string_view) {};
    }
    all.back().settings.write_timeout = 2s;
    all.back().settings.max_outbox_bytes = 64UL << 20U;
    return all;
}

/// Tells its port through the pipe and serves until it is ended.
[[noreturn]] void serve(arke::config settings, arke::loop_kind loop, int port_to) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    settings.listener.loop = loop;
    settings.listener.stop_timeout = 100ms;
    arke::server server{std::move(settings)};
    server.on_connection([](arke::connection& c) { c.join("busy"); });
    server.on("say", [](arke::connection& c, std::string_view text) { c.to("busy").emit("said", text); });
    server.on("figures", [&server](arke::connection& c) {
        const auto m = server.metrics();
        c.emit("figures", std::to_string(m.connections) + " " + std::to_string(m.outbox_bytes) + " " +
                              std::to_string(m.closed.outbox_full) + " " + std::to_string(m.closed.write_timeout) +
                              " " + std::to_string(m.dropped.overflow) + " " + std::to_string(m.dropped.superseded));
    });
    server.listen("127.0.0.1", 0);
    const std::uint16_t port = server.port();
    if (::write(port_to, &port, sizeof port) != sizeof port) std::_Exit(1);
    server.run();
    std::_Exit(0);
}

class server_process {
public:
    server_process(const arke::config& settings, arke::loop_kind loop) {
        std::array<int, 2> pipe{};
        if (::pipe(pipe.data()) != 0) fail("No pipe can be made.");
        pid_ = ::fork();
        if (pid_ == 0) serve(settings, loop, pipe[1]);
        ::close(pipe[1]);
        const bool is_there = ::read(pipe[0], &port_, sizeof port_) == sizeof port_;
        ::close(pipe[0]);
        if (!is_there) fail("The server did not start.");
    }
    ~server_process() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    server_process(const server_process&) = delete;
    server_process& operator=(const server_process&) = delete;

    std::uint16_t port() const { return port_; }

    double memory() const { return memory_of(pid_); }

private:
    pid_t pid_ = -1;
    std::uint16_t port_ = 0;
};

// ------------------------------------------------------------------------------------------------------------ the clients

/// What a stream has brought so far.
struct reader {
    int fd = -1;
    std::string in;
    unsigned close_code = 0;
    bool is_over = false;
    std::uint64_t last = 0;  // number of the last message
    std::uint64_t missed = 0;

    /// Reads what is there, and calls f(event, data) for each.
    template <class F>
    void read(std::vector<char>& buffer, F&& f) {
        for (;;) {
            const auto count = ::recv(fd, buffer.data(), buffer.size(), 0);
            if (count < 0 && errno == EAGAIN) return;
            if (count <= 0) {
                is_over = true;
                return;
            }
            in.append(buffer.data(), static_cast<std::size_t>(count));
            std::string_view rest{in};
            while (take(rest, f)) {
            }
            in.erase(0, in.size() - rest.size());
        }
    }

private:
    template <class F>
    bool take(std::string_view& rest, F& f) {
        if (rest.size() < 4) return false;
        const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(rest[i]); };
        const std::size_t header = byte(1) < 126 ? 2 : 4;
        const std::size_t size = byte(1) < 126 ? byte(1) : byte(2) * 256U + byte(3);
        if (rest.size() < header + size) return false;
        auto payload = rest.substr(header, size);
        if (byte(0) == 0x88) close_code = byte(2) * 256U + byte(3);
        rest.remove_prefix(header + size);
        if (!payload.starts_with(event_prefix)) return true;
        payload.remove_prefix(event_prefix.size());
        const auto end = payload.find(';');
        f(payload.substr(0, end), payload.substr(end + 3));
        return true;
    }
};

/// "number nanoseconds padding".
struct spoken {
    std::uint64_t number = 0;
    std::int64_t at = 0;
    explicit spoken(std::string_view text) {
        const auto* const end = text.data() + text.size();
        const auto first = std::from_chars(text.data(), end, number);
        std::from_chars(first.ptr + 1, end, at);
    }
};

void hear(reader& r, std::uint64_t number) {
    if (number <= r.last) fail("A message came twice, or late.");
    if (r.last != 0) r.missed += number - r.last - 1;
    r.last = number;
}

/// The slow ones, who read in a thread of their own until they stop.
class crowd {
public:
    crowd(std::uint16_t port, std::size_t size) : epoll_{::epoll_create1(0)}, readers_(size) {
        for (std::size_t i = 0; i != size; ++i) {
            readers_[i].fd = open_websocket(port, 4096);
            epoll_event wanted{EPOLLIN, {}};
            wanted.data.u64 = i;
            ::epoll_ctl(epoll_, EPOLL_CTL_ADD, readers_[i].fd, &wanted);
        }
        go();
    }
    ~crowd() {
        stop();
        const linger rude{1, 0};
        for (const auto& r : readers_) {
            ::setsockopt(r.fd, SOL_SOCKET, SO_LINGER, &rude, sizeof rude);
            ::close(r.fd);
        }
        ::close(epoll_);
    }
    crowd(const crowd&) = delete;
    crowd& operator=(const crowd&) = delete;

    void go() {
        reads_ = true;
        thread_ = std::thread{[this] { run(); }};
    }
    void stop() {
        reads_ = false;
        if (thread_.joinable()) thread_.join();
        if (!failure_.empty()) fail(failure_);
    }
    const std::vector<reader>& readers() const { return readers_; }

private:
    void run() try {
        std::vector<epoll_event> events(512);
        std::vector<char> buffer(64 * 1024);
        while (reads_) {
            const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 20);
            for (int i = 0; i < count; ++i) {
                auto& r = readers_[events[static_cast<std::size_t>(i)].data.u64];
                r.read(buffer, [&](std::string_view, std::string_view data) { hear(r, spoken{data}.number); });
                if (r.is_over) ::epoll_ctl(epoll_, EPOLL_CTL_DEL, r.fd, nullptr);
            }
        }
    } catch (const std::exception& e) {
        failure_ = e.what();
    }

    int epoll_;
    std::vector<reader> readers_;
    std::atomic<bool> reads_{false};
    std::string failure_;
    std::thread thread_;
};

struct figures {
    std::uint64_t connections = 0, outbox_bytes = 0, outbox_full = 0, write_timeouts = 0, dropped = 0, superseded = 0;
};

/// The healthy ones; the first of them speaks.
class company {
public:
    company(std::uint16_t port, std::size_t size) : epoll_{::epoll_create1(0)}, readers_(size) {
        for (std::size_t i = 0; i != size; ++i) {
            readers_[i].fd = open_websocket(port);
            epoll_event wanted{EPOLLIN, {}};
            wanted.data.u64 = i;
            ::epoll_ctl(epoll_, EPOLL_CTL_ADD, readers_[i].fd, &wanted);
        }
    }
    ~company() {
        for (const auto& r : readers_) ::close(r.fd);
        ::close(epoll_);
    }
    company(const company&) = delete;
    company& operator=(const company&) = delete;

    /// Speaks and listens for so long; each_time() runs before each message. Then everybody must have everything.
    template <class F>
    void talk(std::chrono::milliseconds time, F&& each_time) {
        milliseconds.clear();
        const auto end = clock_type::now() + time;
        for (auto due = clock_type::now(); due < end; due += period) {
            listen_until(due);
            each_time();
            say(event("figures", ""));
            const auto moment = clock_type::now().time_since_epoch() / 1ns;
            auto text = std::to_string(++said_) + " " + std::to_string(moment) + " ";
            text.resize(message_size, 'x');
            say(event("say", text));
        }
        const auto patience = clock_type::now() + 20s;
        while (!all_have_all() && clock_type::now() < patience) listen_until(clock_type::now() + 5ms);
        if (!all_have_all()) fail("A healthy reader has not got everything.");
    }

    double quantile(double part) {
        if (milliseconds.empty()) return 0;
        const auto at =
            milliseconds.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(milliseconds.size() - 1));
        std::nth_element(milliseconds.begin(), at, milliseconds.end());
        return *at;
    }

    std::vector<double> milliseconds;
    figures now;
    std::uint64_t most_waiting = 0;

private:
    void say(const std::string& frame) {
        if (::send(readers_.front().fd, frame.data(), frame.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(frame.size()))
            fail("The speaker cannot speak.");
    }

    bool all_have_all() const {
        return std::all_of(readers_.begin(), readers_.end(), [&](const reader& r) { return r.last == said_; });
    }

    void listen_until(clock_type::time_point until) {
        for (;;) {
            const auto left = (until - clock_type::now()) / 1ms;
            std::array<epoll_event, 512> events;
            const int count = ::epoll_wait(epoll_, events.data(), events.size(), static_cast<int>(std::max(left, 0L)));
            for (int i = 0; i < count; ++i) {
                auto& r = readers_[events[static_cast<std::size_t>(i)].data.u64];
                r.read(buffer_, [&](std::string_view name, std::string_view data) { take(r, name, data); });
                if (r.is_over) fail("A healthy reader was cut off.");
            }
            if (clock_type::now() >= until) return;
        }
    }

    void take(reader& r, std::string_view name, std::string_view data) {
        if (name == "figures") {
            std::istringstream{std::string{data}} >> now.connections >> now.outbox_bytes >> now.outbox_full >>
                now.write_timeouts >> now.dropped >> now.superseded;
            most_waiting = std::max(most_waiting, now.outbox_bytes);
            return;
        }
        const spoken what{data};
        hear(r, what.number);
        if (r.missed != 0) fail("A healthy reader has missed a message.");
        const auto took = clock_type::now().time_since_epoch() / 1ns - what.at;
        milliseconds.push_back(static_cast<double>(took) / 1e6);
    }

    int epoll_;
    std::vector<reader> readers_;
    std::vector<char> buffer_ = std::vector<char>(64 * 1024);
    std::uint64_t said_ = 0;
};

// ------------------------------------------------------------------------------------------------------------ what is shown

double socket_buffers() {
    std::ifstream in{"/proc/net/sockstat"};
    for (std::string line; std::getline(in, line);) {
        const auto at = line.find(" mem ");
        if (line.starts_with("TCP:") && at != std::string::npos)
            return std::strtod(line.c_str() + at + 5, nullptr) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1048576;
    }
    return 0;
}

void measure(const policy& p, std::size_t slow_count, const options& o) {
    server_process server{p.settings, o.loop};
    company healthy{server.port(), o.healthy};
    crowd slow{server.port(), slow_count};
    std::printf("\n%s, %zu slow:\n", p.name, slow_count);

    healthy.talk(3s, [] {});
    const auto before = server.memory();
    std::printf("  all read:         healthy p50 %6.2f ms, p99 %6.2f ms; memory %.1f MiB\n", healthy.quantile(0.5),
                healthy.quantile(0.99), before);
    if (slow_count == 0) return;

    slow.stop();
    double most = before;
    double most_buffers = 0;
    double last_end = 0;
    const auto stopped = clock_type::now();
    const auto watch = [&] {
        most = std::max(most, server.memory());
        most_buffers = std::max(most_buffers, socket_buffers());
        if (last_end == 0 && healthy.now.connections == o.healthy)
            last_end = std::chrono::duration<double>(clock_type::now() - stopped).count();
    };
    healthy.talk(5s, watch);
    std::printf(
        "  the slow stop:    healthy p50 %6.2f ms, p99 %6.2f ms; most memory %.1f MiB for %.1f MiB that wait "
        "(%.0f bytes each, payloads shared), socket buffers %.0f MiB\n",
        healthy.quantile(0.5), healthy.quantile(0.99), most, static_cast<double>(healthy.most_waiting) / 1048576,
        (most - before) * 1048576 / static_cast<double>(slow_count), most_buffers);
    healthy.talk(3s, watch);
    std::printf("  and stay so:      healthy p50 %6.2f ms, p99 %6.2f ms; memory %.1f MiB, %llu connected\n",
                healthy.quantile(0.5), healthy.quantile(0.99), server.memory(),
                static_cast<unsigned long long>(healthy.now.connections));

    slow.go();
    healthy.talk(2s, [] {});
    slow.stop();
    std::size_t told = 0;
    std::size_t over = 0;
    std::uint64_t missed = 0;
    for (const auto& r : slow.readers()) {
        told += r.close_code == 1013 ? 1U : 0U;
        over += r.is_over ? 1U : 0U;
        missed += r.missed;
    }
    const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf(
        "  they read again:  %zu were told 1013, %zu ended, they missed %llu messages; server: %llu outbox full, "
        "%llu write timeout, %llu dropped, %llu superseded",
        told, over, number(missed), number(healthy.now.outbox_full), number(healthy.now.write_timeouts),
        number(healthy.now.dropped), number(healthy.now.superseded));
    if (last_end != 0) std::printf("; the last was closed %.1f s after the stop", last_end);
    std::puts("");

    const bool ends = p.settings.on_overflow == arke::overflow::close;
    if (ends && healthy.now.outbox_full + healthy.now.write_timeouts != slow_count)
        fail("Not every slow reader was closed.");
    if (told != healthy.now.outbox_full) fail("Not everybody who was closed at the bound was told 1013.");
    if (ends && missed != 0) fail("A slow reader was sent something behind a gap.");
    if (!ends && over != 0) fail("A slow reader was closed where it should only miss something.");
    if (!ends && missed != healthy.now.dropped + healthy.now.superseded)
        fail("What the slow readers missed is not what the server has dropped.");
    // Payloads are shared; a reader may cost its list of them, and no copy of what waits.
    if (most - before > static_cast<double>(slow_count * outbox_bound) / 1048576)
        fail("The server's memory is over the bound.");
}

options read_options(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--healthy" && i + 1 < argc) {
            o.healthy = std::strtoul(argv[++i], nullptr, 10);
        } else if (word == "--loop" && i + 1 < argc) {
            const std::string_view kind = argv[++i];
            o.loop = kind == "epoll"      ? arke::loop_kind::epoll
                     : kind == "io_uring" ? arke::loop_kind::io_uring
                     : kind == "portable" ? arke::loop_kind::portable
                                          : arke::loop_kind::automatic;
        } else {
            o.slow = std::strtoul(argv[i], nullptr, 10);
        }
    }
    if (o.slow == 0 || o.healthy == 0)
        fail("How many? Write slow_readers SLOW; all options are told at the top of slow_readers.cpp.");
    return o;
}

}  // namespace

int main(int argc, char** argv) try {
    std::setvbuf(stdout, nullptr, _IONBF, 0);
    raise_descriptor_limit();
    const auto o = read_options(argc, argv);
    std::printf("%zu healthy readers, 4 KiB twenty times a second; max_outbox_bytes %zu KiB", o.healthy,
                outbox_bound / 1024);
    const auto all = policies();
    measure(all.front(), 0, o);
    for (const auto& p : all) measure(p, o.slow, o);
    return 0;
} catch (const std::exception& e) {
    std::fprintf(stderr, "slow_readers: %s\n", e.what());
    return 1;
}
