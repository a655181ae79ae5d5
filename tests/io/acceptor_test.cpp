#include <algorithm>
#include <arke/arke.hpp>
#include <atomic>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"
#include "tests/support/sanitizer.hpp"

#ifdef __linux__
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace arke::test;
using steady = std::chrono::steady_clock;

namespace {

/// Leaves the process a few hundred descriptors, for as long as it lives.
class few_descriptors {
public:
    few_descriptors() {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        // The lowest that is free is the next to be given.
        const int next = ::dup(0);
        ::close(next);
        auto now = before_;
        now.rlim_cur = static_cast<rlim_t>(next) + 300;
        ::setrlimit(RLIMIT_NOFILE, &now);
    }
    ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
    few_descriptors(const few_descriptors&) = delete;
    few_descriptors& operator=(const few_descriptors&) = delete;

private:
    rlimit before_{};
};

/// Takes all that are left, for as long as it lives. The limit itself stays: an accept that the kernel carries out for us
/// goes by the one that there was when it was asked for.
class no_descriptors {
public:
    no_descriptors() {
        for (int fd = 0; (fd = ::dup(0)) >= 0;) taken_.push_back(fd);
    }
    ~no_descriptors() {
        for (const int fd : taken_) ::close(fd);
    }
    no_descriptors(const no_descriptors&) = delete;
    no_descriptors& operator=(const no_descriptors&) = delete;

private:
    std::vector<int> taken_;
};

/// Seconds of a processor that all threads of this process have used.
double processor_time() {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace

TEST_CASE(
    "out of descriptors, the server says so once a second, serves those it has, and accepts again when there are "
    "some") {
    const few_descriptors limit;
    journal lines;
    running_server net{quiet(GENERATE(from_range(all_loops())),
                             {.log = [&](std::string_view line) { lines.add(std::string{line}); }})};
    net->on_connection([](arke::connection& c) { c.emit("ready"); });
    net->on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });
    net.start();
    client there{net.port()};
    REQUIRE(there.receive() == "ready;0;");
    // Sanitizers look at memory through a pipe, which takes descriptors, at each type that they meet for the first time.
    there.send("served");
    REQUIRE(there.receive() == "served");
    REQUIRE_FALSE(boost::system::error_code{EMFILE, boost::system::system_category()}.message().empty());

    boost::asio::io_context context;
    tcp::socket late{context, tcp::v4()};
    std::string first;
    std::string meanwhile;
    double took = 0;
    double used = 0;
    const auto refuses = steady::now();
    {
        const no_descriptors left;
        // The kernel completes the connection; the server cannot take it.
        late.connect(local(net.port()));
        first = lines.wait(1);
        there.send("still served");
        meanwhile = there.receive();
        // From one line to the next but one nothing is done but to try again now and then.
        const auto begin = steady::now();
        const auto used_before = processor_time();
        lines.wait(lines.size() + 2);
        took = std::chrono::duration<double>(steady::now() - begin).count();
        used = processor_time() - used_before;
    }
    const auto refused_for = std::chrono::duration<double>(steady::now() - refuses).count();
    CHECK(meanwhile == "still served");
    CHECK(first.starts_with("cannot accept connections: "));
    CHECK(first.find("raise the limit on open files") != std::string::npos);
    const std::string request = "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    boost::asio::write(late, boost::asio::buffer(request));
    std::string answer(12, '\0');
    const auto failed = wait_for(
        context, [&](auto handler) { boost::asio::async_read(late, boost::asio::buffer(answer), handler); },
        [&] { late.close(); });
    CHECK_FALSE(failed);
    CHECK(answer == "HTTP/1.1 404");
    // Lines are told by the second, and a loop that spins uses most of a processor.
    CHECK(took > 0.5);
    CHECK(static_cast<double>(lines.size()) <= refused_for + 2);
    CHECK(used / took < 0.05);
}

// Sanitizers have this function for themselves.
#ifndef ARKE_TEST_HAS_SANITIZER

namespace {

/// What accept4() says in this process, for as long as it is not 0, and when it was asked.
std::atomic<int> accept_fails_with{0};
std::atomic<int> failures_left{0};
std::mutex asked_mutex;
std::vector<steady::time_point> asked;

std::vector<steady::time_point> times_asked() {
    const std::lock_guard lock{asked_mutex};
    return asked;
}

}  // namespace

// In the place of the C library's, for all of this program.
extern "C" int accept4(int on, sockaddr* address, socklen_t* size, int flags) {
    if (const int error = accept_fails_with; error != 0 && failures_left-- > 0) {
        const std::lock_guard lock{asked_mutex};
        asked.push_back(steady::now());
        errno = error;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_accept4, on, address, size, flags));
}

TEST_CASE(
    "where the whole system is out of descriptors or memory, it tries again four times a second, and says so at most "
    "once a second") {
    const int error = GENERATE(ENFILE, ENOBUFS, ENOMEM);
    // io_uring accepts without this call.
    const auto loop = GENERATE(arke::loop_kind::epoll, arke::loop_kind::portable);
    journal lines;
    running_server net{quiet(loop, {.log = [&](std::string_view line) { lines.add(std::string{line}); }})};
    net->on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });
    net.start();
    client there{net.port()};
    asked.clear();
    constexpr int failures = 4;
    failures_left = failures;
    accept_fails_with = error;
    const auto used_before = processor_time();
    const auto begin = steady::now();
    raw_client late{net.port()};
    late.send("GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    there.send("served");
    CHECK(there.receive() == "served");
    CHECK(late.read_reply().status == 404);
    const auto took = std::chrono::duration<double>(steady::now() - begin).count();
    const auto used = processor_time() - used_before;
    accept_fails_with = 0;

    // A timer never comes too early, however busy the machine: it did not spin. And it came back within a second each time that
    // the machine let it, at least once.
    const auto times = times_asked();
    REQUIRE(times.size() == failures);
    std::chrono::milliseconds shortest = patience;
    for (std::size_t n = 1; n != times.size(); ++n) {
        const auto gap = std::chrono::duration_cast<std::chrono::milliseconds>(times[n] - times[n - 1]);
        CHECK(gap >= std::chrono::milliseconds{240});
        shortest = std::min(shortest, gap);
    }
    CHECK(shortest < std::chrono::seconds{1});
    CHECK(used / took < 0.05);
    CHECK(static_cast<double>(lines.size()) <= took + 2);
    CHECK(lines.text().starts_with("cannot accept connections: "));
}

TEST_CASE(
    "a client that has gone before it was accepted, or whom a firewall forbids, does not keep the next one waiting") {
    const int error = GENERATE(ECONNABORTED, EPERM, EPROTO);
    const auto loop = GENERATE(arke::loop_kind::epoll, arke::loop_kind::portable);
    journal lines;
    running_server net{quiet(loop, {.log = [&](std::string_view line) { lines.add(std::string{line}); }})};
    net.start();
    // More than are accepted at once.
    failures_left = 1'000;
    accept_fails_with = error;
    raw_client late{net.port()};
    CHECK(late.get("/nothing").status == 404);
    accept_fails_with = 0;
    CHECK(lines.size() == 0);
}

#endif

#endif
