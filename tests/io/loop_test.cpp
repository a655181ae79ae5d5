#include <algorithm>
#include <arke/io/make_loop.hpp>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/running_server.hpp"
#include "tests/support/sanitizer.hpp"

#ifdef __linux__
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace arke;
using arke::test::all_loops;
using arke::test::memory_shortage;

// It learns from close() what a descriptor's next life is.
#ifndef ARKE_TEST_HAS_THREAD_SANITIZER
namespace {
int closed_in_vain = 0;
}
extern "C" int close(int fd) {
    const auto result = static_cast<int>(::syscall(SYS_close, fd));
    if (result != 0 && errno == EBADF) ++closed_in_vain;
    return result;
}
#endif

namespace {

/// A user of a transport that writes down what it hears, and does what the test says.
class listener final : public core::stream_user {
public:
    void on_bytes(std::span<char> bytes) override {
        heard.append(bytes.data(), bytes.size());
        ++reads;
        if (then) then();
    }
    void on_writable() override {
        heard += "<writable>";
        if (writable) writable();
    }
    void on_end(error_code why) override {
        heard += why ? "<broken>" : "<end>";
        if (transport != nullptr) std::exchange(transport, nullptr)->close(false);
    }
    void failed() noexcept override {
        heard += "<failed>";
        if (transport != nullptr) std::exchange(transport, nullptr)->close(true);
    }
    void on_timer(core::millis) override { heard += "<timer>"; }
    void on_stop() override {}
    void go_on() override {
        heard += "<on>";
        if (then) then();
    }
    void flush_turn() override {
        if (at_end) at_end();
    }

    std::string heard;
    int reads = 0;
    std::function<void()> then;
    std::function<void()> writable;
    std::function<void()> at_end;
    core::transport* transport = nullptr;
};

/// A loop in this thread, and pairs of sockets whose one end it has.
class bench {
public:
    bench() {
        settings_.loop = GENERATE(from_range(all_loops()));
        settings_.read_buffer_size = 4096;
        // io_uring does its work in another way where it is promised one thread.
        bool one_thread = false;
        if (settings_.loop == loop_kind::io_uring) one_thread = GENERATE(true, false);
        loop = io::make_loop(context, 0, settings_, one_thread);
    }
    ~bench() {
        loop->shut_down();
        for (const int fd : ends_) ::close(fd);
    }
    bench(const bench&) = delete;
    bench& operator=(const bench&) = delete;

    /// The test's end of the pair.
    int attach(const boost::intrusive_ptr<listener>& user) {
        std::array<int, 2> pair{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()) == 0);
        const core::loop::turn guard{*loop};
        user->transport = loop->attach(pair[0], user);
        REQUIRE(user->transport != nullptr);
        ends_.push_back(pair[1]);
        return pair[1];
    }

    /// Closes the test's end.
    void hang_up(int fd) {
        std::erase(ends_, fd);
        ::close(fd);
    }

    static void say(int fd, std::string_view text) {
        REQUIRE(::send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
    }

    /// Runs until it holds; a bound on its patience.
    bool until(const std::function<bool()>& holds) {
        const auto end = std::chrono::steady_clock::now() + test::patience;
        while (!holds() && std::chrono::steady_clock::now() < end) context.run_one_for(std::chrono::milliseconds{50});
        return holds();
    }

    boost::asio::io_context context;
    io::asio_loop_ptr loop;

private:
    listener_config settings_;
    std::vector<int> ends_;
};

using user_ptr = boost::intrusive_ptr<listener>;

/// A millisecond or two.
void take_long() {
    const auto began = core::ticks();
    while (core::ticks() - began < 3'000'000) {
    }
}

/// Somebody else who works in the io_context: how often they have had a share of it.
class neighbour {
public:
    explicit neighbour(boost::asio::io_context& in) : in_{in} { look(); }
    int looks() const noexcept { return *looks_; }
    void leave() noexcept { *stays_ = false; }

private:
    void look() {
        boost::asio::post(in_, [this, looks = looks_, stays = stays_] {
            ++*looks;
            if (*stays) look();
        });
    }

    boost::asio::io_context& in_;
    std::shared_ptr<int> looks_ = std::make_shared<int>(0);
    std::shared_ptr<bool> stays_ = std::make_shared<bool>(true);
};

}  // namespace

TEST_CASE("bytes, then the end, are heard in order, and the user is freed after close") {
    bench b;
    const user_ptr user{new listener};
    const int fd = b.attach(user);
    CHECK(b.loop->load() == 1);
    CHECK(user->use_count() == 2);
    bench::say(fd, "hello");
    CHECK(b.until([&] { return user->heard == "hello"; }));
    bench::say(fd, " again");
    b.hang_up(fd);
    CHECK(b.until([&] { return user->heard == "hello again<end>"; }));
    CHECK(b.loop->load() == 0);
    CHECK(b.until([&] { return user->use_count() == 1; }));
}

TEST_CASE("more than the loop's buffer is read in parts, and others get their turn between them") {
    bench b;
    const user_ptr talker{new listener};
    const user_ptr other{new listener};
    const int loud = b.attach(talker);
    const int quiet = b.attach(other);
    bench::say(loud, std::string(40'000, 'x'));
    bench::say(quiet, "hey");
    int reads_before_other = -1;
    other->then = [&] { reads_before_other = talker->reads; };
    CHECK(b.until([&] { return talker->heard.size() == 40'000 && !other->heard.empty(); }));
    CHECK(talker->reads >= 10);
    CHECK(reads_before_other <= 2);
}

TEST_CASE("a transport whose reads are paused says nothing until they are resumed") {
    // On the portable loop the wait that was under way still brought one read.
    bench b;
    const user_ptr paused{new listener};
    const user_ptr other{new listener};
    const int fd = b.attach(paused);
    const int canary = b.attach(other);
    {
        const core::loop::turn guard{*b.loop};
        paused->transport->pause_reads(true);
    }
    bench::say(fd, "early");
    bench::say(canary, "a");
    CHECK(b.until([&] { return other->heard == "a"; }));
    bench::say(canary, "b");
    CHECK(b.until([&] { return other->heard == "ab"; }));
    CHECK(paused->heard == "");
    {
        const core::loop::turn guard{*b.loop};
        paused->transport->pause_reads(false);
    }
    CHECK(b.until([&] { return paused->heard == "early"; }));
    b.hang_up(fd);
    CHECK(b.until([&] { return paused->heard == "early<end>"; }));
}

TEST_CASE("a send that the kernel does not take whole is followed by on_writable when there is room") {
    bench b;
    const user_ptr user{new listener};
    const int fd = b.attach(user);
    const std::string big(8U << 20U, 'x');
    std::size_t sent = 0;
    const auto send = [&] {
        const std::string_view rest = std::string_view{big}.substr(sent);
        sent += user->transport->send({&rest, 1}).sent;
    };
    {
        const core::loop::turn guard{*b.loop};
        send();
    }
    CHECK(sent < big.size());
    user->writable = [&] {
        if (sent < big.size()) send();
    };
    std::size_t received = 0;
    std::vector<char> buffer(64 * 1024);
    CHECK(b.until([&] {
        for (ssize_t n = 0; (n = ::recv(fd, buffer.data(), buffer.size(), 0)) > 0;)
            received += static_cast<std::size_t>(n);
        return received == big.size();
    }));
    CHECK(user->heard.starts_with("<writable>"));
}

TEST_CASE(
    "a turn that has taken long leaves the rest of who is ready to the next, and what they were told is not lost") {
    // All events of a round were served in it: 900 connections with a burst each held the loop for two seconds.
    bench b;
    struct each {
        user_ptr user{new listener};
        int fd = -1;
    };
    std::vector<each> many(60);
    const std::string big(1U << 20U, 'x');
    for (auto& one : many) {
        one.fd = b.attach(one.user);
        const core::loop::turn guard{*b.loop};
        while (one.user->transport->send(std::array<core::segment, 1>{big}).sent == big.size()) {
        }
    }
    b.context.poll();
    const auto turns = [&] { return b.loop->counters().snapshot(0).turns; };
    const auto before = turns();
    std::vector<char> buffer(64 * 1024);
    for (auto& one : many) {
        one.user->then = take_long;
        one.user->writable = take_long;
        bench::say(one.fd, "hello");
        while (::recv(one.fd, buffer.data(), buffer.size(), 0) > 0) {
        }
    }
    // One goes, and one is closed, before the loop comes to them.
    b.hang_up(many[58].fd);
    many[0].user->then = [&] {
        take_long();
        if (auto* const other = std::exchange(many[59].user->transport, nullptr)) other->close(true);
    };
    const auto has = [](const each& one, std::string_view what) {
        return one.user->heard.find(what) != std::string::npos;
    };
    neighbour other{b.context};
    CHECK(b.until([&] {
        return std::all_of(many.begin(), many.begin() + 59, [&](auto& one) { return has(one, "hello"); }) &&
               std::all_of(many.begin(), many.begin() + 58, [&](auto& one) { return has(one, "<writable>"); }) &&
               has(many[58], "<end>");
    }));
    CHECK(turns() - before >= 8);
    CHECK(other.looks() >= 8);
    other.leave();
    for (std::size_t i = 0; i != 58; ++i)
        CHECK(many[i].user->heard.size() == std::string_view{"hello<writable>"}.size());
    for (std::size_t i = 0; i != 58; ++i) bench::say(many[i].fd, " again");
    CHECK(b.until([&] {
        return std::all_of(many.begin(), many.begin() + 58,
                           [&](auto& one) { return one.user->heard.ends_with(" again"); });
    }));
}

// The portable loop did not count it.
TEST_CASE("what the end of a turn takes, as the sends of a busy room do, is part of its time") {
    bench b;
    std::vector<user_ptr> many(60);
    std::vector<int> ends;
    for (auto& one : many) {
        one = new listener;
        ends.push_back(b.attach(one));
        one->then = [&b, &one] { b.loop->add_dirty(*one); };
        one->at_end = take_long;
    }
    b.context.poll();
    for (const int fd : ends) bench::say(fd, "hello");
    neighbour other{b.context};
    CHECK(b.until([&] {
        return std::all_of(many.begin(), many.end(), [](const user_ptr& one) { return one->heard == "hello"; });
    }));
    other.leave();
    if (b.loop->kind() == loop_kind::portable) CHECK(other.looks() >= 8);
}

TEST_CASE("a send to a peer that is gone is an error, and the end follows once") {
    bench b;
    const user_ptr user{new listener};
    const int fd = b.attach(user);
    b.hang_up(fd);
    {
        const core::loop::turn guard{*b.loop};
        const std::string_view text = "x";
        CHECK(user->transport->send({&text, 1}).error);
        CHECK(user->heard == "");
    }
    CHECK(b.until([&] { return user->transport == nullptr; }));
    CHECK((user->heard == "<end>" || user->heard == "<broken>"));
}

TEST_CASE("work that a turn begins with may close a socket that has just become readable") {
    // The portable loop read from a socket that the turn's own posts had closed.
    bench b;
    const user_ptr user{new listener};
    const int fd = b.attach(user);
    bench::say(fd, "too late");
    b.loop->post([&] {
        if (user->transport != nullptr) std::exchange(user->transport, nullptr)->close(false);
    });
    // Both are ready when the loop begins to run.
    CHECK(b.until([&] { return user->use_count() == 1; }));
    CHECK((user->heard == "" || user->heard == "too late"));
}

TEST_CASE("a user that closes another's socket, or its own, while it hears bytes is safe") {
    bench b;
    const user_ptr one{new listener};
    const user_ptr two{new listener};
    const int first = b.attach(one);
    const int second = b.attach(two);
    const auto close_both = [&] {
        for (const auto& u : {one, two}) {
            if (u->transport != nullptr) std::exchange(u->transport, nullptr)->close(true);
        }
    };
    one->then = close_both;
    two->then = close_both;
    bench::say(first, "x");
    bench::say(second, "y");
    CHECK(b.until([&] { return one->use_count() == 1 && two->use_count() == 1; }));
    CHECK(one->heard + two->heard == (one->heard.empty() ? "y" : "x"));
    CHECK(b.loop->load() == 0);
}

// The portable loop closed it twice, the second time perhaps what another thread had just opened.
TEST_CASE("a socket for which there is no memory is closed, once, and its user hears nothing") {
    bench b;
    const user_ptr user{new listener};
    std::size_t nth = 0;
    // The second time round most of what is needed is there: other steps come first.
    for (int left = 2; left != 0; ++nth) {
        CAPTURE(nth, left);
        std::array<int, 2> pair{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()) == 0);
        {
            const core::loop::turn guard{*b.loop};
            const memory_shortage none{nth};
            user->transport = b.loop->attach(pair[0], user);
            if (!none.struck()) {
                --left;
                nth = ~std::size_t{0};
            }
        }
        if (user->transport == nullptr) {
            char byte = 0;
            CHECK(::recv(pair[1], &byte, 1, 0) == 0);
            CHECK(b.loop->load() == 0);
        } else {
            const core::loop::turn guard{*b.loop};
            std::exchange(user->transport, nullptr)->close(false);
        }
        ::close(pair[1]);
    }
    CHECK(user->heard == "");
    b.until([&] { return user->use_count() == 1; });
    CHECK(user->use_count() == 1);
#ifndef ARKE_TEST_HAS_THREAD_SANITIZER
    CHECK(closed_in_vain == 0);
#endif
}

// The one who had it before was told, for whom that meant nothing, and the transport was never read again.
TEST_CASE("when there is no memory to read on, the transport's present user is told") {
    bench b;
    const user_ptr first{new listener};
    const user_ptr second{new listener};
    const int fd = b.attach(first);
    std::optional<memory_shortage> none;
    first->then = [&] {
        second->transport = std::exchange(first->transport, nullptr);
        second->transport->set_user(second);
        // What Asio has put by is used up.
        for (int i = 0; i != 8; ++i) boost::asio::post(b.context, [] {});
        none.emplace(0);
    };
    bench::say(fd, "hello");
    CHECK(b.until([&] { return none.has_value(); }));
    none.reset();
    // Nobody takes it where the user has closed.
    static_cast<void>(::send(fd, " again", 6, MSG_NOSIGNAL));
    CHECK(b.until([&] { return !second->heard.empty(); }));
    CHECK((second->heard == " again" || second->heard == "<failed>"));
    CHECK(first->heard == "hello");
}

// What it had been allowed more than the loop's buffer holds had to be taken back first.
// And what did not fill its share was not looked at: whoever sent sixty small messages that inflate to a mebibyte each held the loop
// for a fifth of a second, each time.
TEST_CASE(
    "a connection that was quick for long is read in smaller shares as soon as it is slow, however little it sends") {
    const bool is_full = GENERATE(true, false);
    constexpr std::size_t most = 512 * 1024;
    const bench b;
    io::fair_share share;
    CHECK(share.bytes(most) <= 4096);
    // One of them may take long by itself, where others have this machine too.
    for (int i = 0; i != 10'000 && share.bytes(most) != 128UL * 1024; ++i)
        const io::fair_share::serving quick{share, *b.loop, true, most};
    CHECK(share.bytes(most) == 128UL * 1024);  // and no more, for what comes next may be dear
    {
        const io::fair_share::serving slow{share, *b.loop, is_full, most};
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{5};
        while (std::chrono::steady_clock::now() < end) {
        }
    }
    CHECK(share.bytes(most) < most);
}

TEST_CASE(
    "what posts itself again is done once between two looks of the io_context, whatever turns there are besides") {
    // Each turn that began by itself left a wake-up behind, and each of these became one more round for good.
    bench b;
    int runs = 0;
    bool goes_on = true;
    std::function<void()> again = [&] {
        ++runs;
        if (goes_on) b.loop->post([&] { again(); });
    };
    b.loop->post([&] { again(); });
    for (int i = 0; i != 20; ++i) const core::loop::turn guard{*b.loop};
    CHECK(runs >= 20);
    for (int i = 0; i != 20; ++i) {
        runs = 0;
        b.context.poll_one();
        CHECK(runs <= 1);
    }
    goes_on = false;
    b.context.poll();
}

TEST_CASE("who goes on later does so in order, for some milliseconds of a turn, and also after the end of posts") {
    bench b;
    std::vector<user_ptr> users(40);
    std::string order;
    for (std::size_t i = 0; i != users.size(); ++i) {
        users[i] = new listener;
        users[i]->then = [&order, i] {
            order += std::to_string(i) + " ";
            take_long();
        };
    }
    // The first asks again.
    users[0]->then = [&, before = users[0]->then] {
        before();
        if (users[0]->heard == "<on>") b.loop->go_on_later(users[0]);
    };
    std::string expected;
    for (std::size_t i = 0; i != users.size(); ++i) expected += std::to_string(i) + " ";
    expected += "0 ";
    {
        const core::loop::turn guard{*b.loop};
        for (const auto& u : users) b.loop->go_on_later(u);
        CHECK(order.empty());
    }
    b.loop->end_posts();
    const auto before = b.loop->counters().snapshot(0).turns;
    CHECK(b.until([&] { return order.size() >= expected.size(); }));
    CHECK(order == expected);
    CHECK(b.loop->counters().snapshot(0).turns - before >= 8);
    for (const auto& u : users) CHECK(u->use_count() == 1);
    // Who waits for it when the loop ends is let go.
    {
        const core::loop::turn guard{*b.loop};
        b.loop->go_on_later(users[1]);
    }
    b.loop->shut_down();
    CHECK(users[1]->use_count() == 1);
}

TEST_CASE("posts keep the order of their thread, and none is taken after the end") {
    bench b;
    std::string order;
    for (const char c : {'a', 'b', 'c'}) CHECK(b.loop->post([&order, c] { order += c; }));
    CHECK(b.until([&] { return order.size() == 3; }));
    CHECK(order == "abc");
    const auto token = std::make_shared<int>();
    CHECK(b.loop->post([token] {}));
    b.loop->shut_down();
    CHECK(token.use_count() == 1);
    CHECK_FALSE(b.loop->post([&] { order += "late"; }));
    b.context.poll();
    CHECK(order == "abc");
}

#endif
