#include <algorithm>
#include <arke/io/make_loop.hpp>
#include <arke/server.hpp>
#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

#ifdef __linux__
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>

#ifdef ARKE_HAS_IO_URING
#include <dlfcn.h>
#include <liburing.h>
#endif

using namespace arke;
using namespace arke::test;

namespace {

bool has_io_uring() {
    const auto all = all_loops();
    return std::find(all.begin(), all.end(), loop_kind::io_uring) != all.end();
}

/// A user that writes down what it hears, and answers a queued send as a peer does.
class listener final : public core::stream_user {
public:
    void on_bytes(std::span<char> bytes) override {
        heard.append(bytes.data(), bytes.size());
        most_at_once = std::max(most_at_once, bytes.size());
        const auto end = std::chrono::steady_clock::now() + bytes.size() * per_byte;
        while (std::chrono::steady_clock::now() < end) {
        }
        // The kernel may fill this memory again as soon as we return; and it may be written to.
        std::fill(bytes.begin(), bytes.end(), '#');
        if (then) then();
    }
    void on_sent(const core::send_result& result) override {
        ++answers;
        sent += result.sent;
        if (result.error) heard += "<failed>";
        if (result.sent < size) lacked += size - result.sent;
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
        if (transport != nullptr) std::exchange(transport, nullptr)->close(true);
    }
    void on_timer(core::millis) override {}
    void on_stop() override {}
    void flush_turn() override {
        if (transport != nullptr) transport->queue({out.data(), size = out.size()});
    }

    std::string heard;
    std::size_t most_at_once = 0;
    std::chrono::nanoseconds per_byte{0};  // that it takes to serve one
    std::string out;
    std::size_t size = 0;
    std::size_t sent = 0;
    std::size_t lacked = 0;
    int answers = 0;
    std::function<void()> then;
    std::function<void()> writable;
    core::transport* transport = nullptr;
};

using user_ptr = boost::intrusive_ptr<listener>;

/// An io_uring loop, if not told otherwise with buffers for only two reads, and pairs of sockets whose one end it has.
class bench {
public:
    explicit bench(bool one_thread, std::size_t read_buffer_size = 4096) {
        listener_config settings;
        settings.loop = loop_kind::io_uring;
        settings.read_buffer_size = read_buffer_size;
        loop = io::make_loop(context, 0, settings, one_thread);
    }
    ~bench() {
        loop->shut_down();
        for (const int fd : ends) ::close(fd);
    }
    bench(const bench&) = delete;
    bench& operator=(const bench&) = delete;

    int attach(const user_ptr& user, int room = 0) {
        std::array<int, 2> pair{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()) == 0);
        if (room != 0) ::setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        const core::loop::turn guard{*loop};
        user->transport = loop->attach(pair[0], user);
        REQUIRE(user->transport != nullptr);
        ends.push_back(pair[1]);
        return pair[1];
    }

    bool until(const std::function<bool()>& holds) {
        const auto end = std::chrono::steady_clock::now() + patience;
        while (!holds() && std::chrono::steady_clock::now() < end) context.run_one_for(std::chrono::milliseconds{50});
        return holds();
    }

    template <class F>
    void in_turn(F&& f) {
        const core::loop::turn guard{*loop};
        f();
    }

    boost::asio::io_context context;
    io::asio_loop_ptr loop;
    std::vector<int> ends;
};

void say(int fd, std::string_view text) {
    REQUIRE(::send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
}

std::string hear(int fd) {
    std::string all;
    std::array<char, 4096> part{};
    for (ssize_t n = 0; (n = ::recv(fd, part.data(), part.size(), MSG_DONTWAIT)) > 0;)
        all.append(part.data(), static_cast<std::size_t>(n));
    return all;
}

/// Bytes that differ from those of any other n and place.
std::string pattern(std::size_t n, std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i != size; ++i) text[i] = static_cast<char>('a' + (i * 7 + n * 13 + i / 251) % 26);
    return text;
}

/// Says of `text`, from `said` on, what the kernel takes without waiting.
void say_more(int fd, std::string_view text, std::size_t& said) {
    while (said < text.size()) {
        const auto n = ::send(fd, text.data() + said, text.size() - said, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0) break;
        said += static_cast<std::size_t>(n);
    }
}

const std::size_t usual_size = listener_config{}.read_buffer_size;
constexpr std::size_t first_share = 64 * 1024;
// The first share then takes several milliseconds, and the next is smaller.
constexpr std::chrono::nanoseconds slowly{100};

}  // namespace

TEST_CASE("a loop says which it is, and automatic is none that may be refused") {
    for (const auto kind : all_loops()) {
        boost::asio::io_context context;
        listener_config settings;
        settings.loop = kind;
        const auto made = io::make_loop(context, 0, settings);
        CHECK(made->kind() == kind);
        made->shut_down();
    }
}

TEST_CASE("more sockets than the ring has buffers are ready at once, and each hears its own bytes, all of them") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    constexpr std::size_t count = 300;
    std::vector<user_ptr> users;
    for (std::size_t n = 0; n != count; ++n) {
        users.emplace_back(new listener);
        const int fd = b.attach(users.back());
        say(fd, pattern(n, 100 + n * 37));
        if (n % 3 == 0) ::shutdown(fd, SHUT_WR);
    }
    CHECK(b.until([&] {
        for (std::size_t n = 0; n != count; ++n) {
            if (users[n]->heard.size() < 100 + n * 37 + (n % 3 == 0 ? 5 : 0)) return false;
        }
        return true;
    }));
    std::size_t wrong = 0;
    for (std::size_t n = 0; n != count; ++n)
        if (users[n]->heard != pattern(n, 100 + n * 37) + (n % 3 == 0 ? "<end>" : "")) ++wrong;
    CHECK(wrong == 0);
}

TEST_CASE("a talker that empties the buffers again and again does not keep the others from being heard") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    const user_ptr talker{new listener};
    const user_ptr quiet_one{new listener};
    const int loud = b.attach(talker);
    const int fd = b.attach(quiet_one);
    // Whatever is heard is said again: there are always more bytes than buffers.
    talker->then = [&] {
        const std::string more(64 * 1024, 'x');
        while (::send(loud, more.data(), more.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
        }
        talker->heard.clear();
    };
    say(loud, "go");
    int rounds = 0;
    quiet_one->then = [&] {
        if (++rounds < 20) say(fd, "again");
    };
    say(fd, "again");
    CHECK(b.until([&] { return rounds == 20; }));
    talker->then = nullptr;
}

TEST_CASE("reads are paused and resumed at every moment, and nothing is lost or heard twice or out of order") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    const user_ptr user{new listener};
    const user_ptr other{new listener};
    const int fd = b.attach(user);
    const int side = b.attach(other);
    const auto text = pattern(1, 300'000);
    std::size_t said = 0;
    unsigned dice = 12345;
    const auto roll = [&dice](unsigned sides) { return (dice = dice * 1664525U + 1013904223U) / 65536U % sides; };
    bool paused = false;
    const auto flip = [&] {
        if (user->transport == nullptr) return;
        paused = !paused;
        user->transport->pause_reads(paused);
        // And at times back within the same turn.
        if (roll(4) == 0) user->transport->pause_reads(paused = !paused);
    };
    user->then = [&] {
        if (roll(3) == 0) flip();
    };
    const auto end = std::chrono::steady_clock::now() + patience;
    while (user->heard.size() < text.size() && std::chrono::steady_clock::now() < end) {
        if (said < text.size()) {
            const auto part = std::min<std::size_t>(text.size() - said, 1 + roll(9000));
            const auto n = ::send(fd, text.data() + said, part, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n > 0) said += static_cast<std::size_t>(n);
        }
        if (roll(2) == 0) say(side, "x");
        if (paused || roll(5) == 0) {
            const auto before = user->heard.size();
            b.in_turn(flip);
            CHECK(user->heard.size() == before);
        }
        const bool silent = paused;
        const auto before = user->heard.size();
        for (unsigned i = roll(4); i != 0; --i) b.context.poll_one();
        if (silent && paused) CHECK(user->heard.size() == before);
    }
    CHECK(user->heard == text);
    if (paused) b.in_turn([&] { user->transport->pause_reads(true); });
    ::shutdown(fd, SHUT_WR);
    b.in_turn([&] { user->transport->pause_reads(false); });
    user->then = nullptr;
    CHECK(b.until([&] { return user->heard == text + "<end>"; }));
}

TEST_CASE(
    "sockets are closed with bytes under way, from within and from without, and those that follow hear only theirs") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    for (int n = 0; n != 300; ++n) {
        const user_ptr user{new listener};
        const int fd = b.attach(user);
        const auto text = pattern(static_cast<std::size_t>(n), 5000);
        say(fd, text);
        const auto close = [&] {
            if (user->transport != nullptr) std::exchange(user->transport, nullptr)->close(n % 4 == 0);
        };
        switch (n % 3) {
            case 0: user->then = close; break;
            case 1:
                for (int i = 0; i != n % 7; ++i) b.context.poll_one();
                b.in_turn(close);
                break;
            default:
                for (int i = 0; i != n % 5; ++i) b.context.poll_one();
                ::close(fd);
                b.ends.pop_back();
                b.until([&] { return user->transport == nullptr; });
                break;
        }
        b.until([&] { return user->transport == nullptr && user->use_count() == 1; });
        const auto heard = user->heard.substr(0, user->heard.find('<'));
        REQUIRE(text.starts_with(heard));
        REQUIRE(user->transport == nullptr);
        // The kernel has let go of the other end, so the descriptor is free for the next.
        if (n % 3 != 2)
            REQUIRE(b.until([&, byte = '\0']() mutable {
                const auto left = ::recv(fd, &byte, 1, MSG_DONTWAIT);
                return left == 0 || (left < 0 && errno == ECONNRESET);
            }));
    }
    CHECK(b.loop->load() == 0);
}

TEST_CASE("who says more than its share at once is told the rest after the others, in order, and then the end") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false), usual_size};
    const user_ptr talker{new listener};
    const user_ptr quiet_one{new listener};
    talker->per_byte = slowly;
    const int loud = b.attach(talker);
    const int fd = b.attach(quiet_one);
    const auto text = pattern(1, 150'000);
    say(loud, text);
    ::shutdown(loud, SHUT_WR);
    std::size_t before = 0;
    talker->then = [&] {
        if (std::exchange(before, talker->heard.size()) == 0) say(fd, "me too");
    };
    quiet_one->then = [&] { talker->then = nullptr; };
    CHECK(b.until([&] { return talker->transport == nullptr; }));
    CHECK(quiet_one->heard == "me too");
    CHECK(before <= first_share);
    CHECK(talker->most_at_once <= first_share);
    CHECK(talker->heard == text + "<end>");
}

TEST_CASE("reads are paused and resumed while a share's rest waits: nothing is told meanwhile, nor lost") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false), usual_size};
    const user_ptr talker{new listener};
    const user_ptr other{new listener};
    talker->per_byte = slowly;
    const int loud = b.attach(talker);
    const int fd = b.attach(other);
    const auto text = pattern(2, 150'000);
    say(loud, text);
    ::shutdown(loud, SHUT_WR);
    int told = 0;
    talker->then = [&] {
        if (talker->transport == nullptr) return;
        // Every second time it stays paused.
        talker->transport->pause_reads(true);
        if (++told % 2 == 0) talker->transport->pause_reads(false);
    };
    const auto end = std::chrono::steady_clock::now() + patience;
    std::size_t asked = 0;
    while (talker->transport != nullptr && std::chrono::steady_clock::now() < end) {
        const auto before = told;
        b.until([&] { return told != before || talker->transport == nullptr; });
        if (talker->transport == nullptr || told % 2 == 0) continue;
        // Another is served, and that more than once.
        const auto silent = talker->heard;
        for (int i = 0; i != 3; ++i) {
            say(fd, "x");
            ++asked;
            CHECK(b.until([&] { return other->heard.size() == asked; }));
        }
        CHECK(talker->heard == silent);
        b.in_turn([&] { talker->transport->pause_reads(false); });
    }
    CHECK(told > 3);
    CHECK(talker->heard == text + "<end>");
}

TEST_CASE("who is closed while its share's rest waits hears no more, and all that it had is given back") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false), usual_size};
    // Told of its first bytes, of the last of its share, of the first that were held; or by another, who comes before these.
    const int closed_at = GENERATE(1, 2, 3, 0);
    const auto text = pattern(3, 150'000);
    // Together they say more than the ring's memory has place for.
    for (int n = 0; n != 6; ++n) {
        const user_ptr talker{new listener};
        const user_ptr other{new listener};
        talker->per_byte = slowly;
        const int loud = b.attach(talker);
        const int fd = b.attach(other);
        say(loud, text);
        const auto close = [&] { std::exchange(talker->transport, nullptr)->close(n % 2 == 0); };
        int times = 0;
        std::size_t told = 0;
        std::ptrdiff_t given_back = 0;
        talker->then = [&] {
            told = talker->heard.size();
            if (++times == 1) say(fd, "close it");
            if (times == closed_at) close();
        };
        other->then = [&] {
            if (talker->transport == nullptr) return;
            const auto before = bytes_held();
            close();
            given_back = before - bytes_held();
        };
        CHECK(b.until([&] { return talker->transport == nullptr && talker->use_count() == 1; }));
        CHECK(b.until([&] { return other->heard == "close it"; }));
        CHECK(talker->heard.size() == told);
        CHECK(told < text.size());
        CHECK(text.starts_with(talker->heard));
        if (closed_at == 0) CHECK(given_back >= static_cast<std::ptrdiff_t>(text.size() - told));
        CHECK(b.until([&, byte = '\0']() mutable {
            const auto left = ::recv(loud, &byte, 1, MSG_DONTWAIT);
            return left == 0 || (left < 0 && errno == ECONNRESET);
        }));
        b.in_turn([&] { std::exchange(other->transport, nullptr)->close(false); });
    }
    CHECK(b.loop->load() == 0);
    const user_ptr last{new listener};
    say(b.attach(last), text);
    CHECK(b.until([&] { return last->heard.size() == text.size(); }));
    CHECK(last->heard == text);
}

TEST_CASE("many talkers are told of in turn, a share of each; one that says little waits for no more than that") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false), usual_size};
    constexpr std::size_t count = 6;
    constexpr std::size_t size = 1'000'000;
    struct talker {
        user_ptr user{new listener};
        std::string text;
        std::size_t said = 0;
        std::size_t marked = 0;
    };
    std::array<talker, count> talkers;
    const user_ptr quiet_one{new listener};
    for (std::size_t n = 0; n != count; ++n) {
        auto& t = talkers[n];
        t.text = pattern(n, size);
        t.user->per_byte = slowly;
        const int fd = b.attach(t.user);
        say_more(fd, t.text, t.said);
        t.user->then = [&t, fd] { say_more(fd, t.text, t.said); };
    }
    const int fd = b.attach(quiet_one);
    std::size_t most = 0;
    std::size_t most_ahead = 0;
    int rounds = 0;
    quiet_one->then = [&] {
        for (auto& t : talkers) {
            most = std::max(most, t.user->heard.size() - std::exchange(t.marked, t.user->heard.size()));
            most_ahead = std::max(most_ahead, t.said - t.user->heard.size());
        }
        ++rounds;
        say(fd, "again");
    };
    say(fd, "again");
    CHECK(b.until([&] {
        return std::all_of(talkers.begin(), talkers.end(), [&](auto& t) { return t.user->heard.size() == size; });
    }));
    // It is served every round, or the next where the talkers have just emptied the ring's memory.
    CHECK(most <= 3 * first_share);
    CHECK(rounds >= 10);
    // The rest waits in the kernel, and with those who say it.
    CHECK(most_ahead <= 2 * usual_size);
    std::size_t wrong = 0;
    for (const auto& t : talkers)
        if (t.user->heard != t.text) ++wrong;
    CHECK(wrong == 0);
}

TEST_CASE("a queued send that the kernel takes in part is answered with what it took, and room is told of") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    const user_ptr user{new listener};
    const int fd = b.attach(user, 4096);
    user->out = pattern(3, 400'000);
    b.in_turn([&] { b.loop->add_dirty(*user); });
    CHECK(user->answers == 1);
    CHECK(user->sent < user->out.size());
    CHECK(user->lacked == user->out.size() - user->sent);
    std::string received;
    user->writable = [&] {
        const std::string_view rest = std::string_view{user->out}.substr(user->sent);
        user->sent += user->transport->send({&rest, 1}).sent;
    };
    CHECK(b.until([&] {
        received += hear(fd);
        return received.size() == user->out.size();
    }));
    CHECK(received == user->out);
    CHECK(user->heard.starts_with("<writable>"));
}

TEST_CASE("a queued send to a peer that is gone fails, and the end follows once, after what the peer had said") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    const user_ptr user{new listener};
    const int fd = b.attach(user);
    user->out = "x";
    say(fd, "last words");
    ::close(fd);
    b.ends.clear();
    b.in_turn([&] { b.loop->add_dirty(*user); });
    CHECK(user->heard == "<failed>");
    CHECK(b.until([&] { return user->transport == nullptr; }));
    CHECK((user->heard == "<failed>last words<end>" || user->heard == "<failed>last words<broken>"));
}

TEST_CASE("thousands of sends of one turn all go out and are all answered within it") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    constexpr std::size_t count = 3000;  // the submission queue has room for 1024
    std::vector<user_ptr> users;
    for (std::size_t n = 0; n != count; ++n) {
        users.emplace_back(new listener);
        b.attach(users.back());
        users.back()->out = "message " + std::to_string(n);
    }
    for (int turn = 1; turn != 4; ++turn) {
        b.in_turn([&] {
            for (const auto& u : users) b.loop->add_dirty(*u);
        });
        std::size_t wrong = 0;
        for (std::size_t n = 0; n != count; ++n)
            if (users[n]->answers != turn || hear(b.ends[n]) != users[n]->out) ++wrong;
        CHECK(wrong == 0);
    }
    // Beside them, what was heard meanwhile is not forgotten.
    for (std::size_t n = 0; n != count; n += 100) say(b.ends[n], "hello");
    b.in_turn([&] {
        for (const auto& u : users) b.loop->add_dirty(*u);
    });
    CHECK(b.until([&] {
        for (std::size_t n = 0; n != count; n += 100)
            if (users[n]->heard != "hello") return false;
        return true;
    }));
}

TEST_CASE("when the thread ends that ran the loop so far, another goes on: nothing is lost") {
    // A request belongs to the thread that made it, and the kernel cancels it with the thread.
    if (!has_io_uring()) return;
    bench b{false};
    std::vector<user_ptr> users;
    const auto guard = boost::asio::make_work_guard(b.context);
    for (int n = 0; n != 20; ++n) users.emplace_back(new listener);
    std::thread{[&] {
        for (const auto& u : users) {
            std::array<int, 2> pair{};
            if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()) != 0) return;
            b.ends.push_back(pair[1]);
            const core::loop::turn turn{*b.loop};
            u->transport = b.loop->attach(pair[0], u);
        }
        b.context.run_for(std::chrono::milliseconds{50});
    }}.join();
    REQUIRE(b.ends.size() == users.size());
    for (int round = 1; round != 4; ++round) {
        for (const int fd : b.ends) say(fd, "round ");
        std::thread{[&] { b.context.run_for(std::chrono::milliseconds{100}); }}.join();
    }
    CHECK(b.until([&] {
        for (const auto& u : users)
            if (u->heard.size() != 18) return false;
        return true;
    }));
    for (const auto& u : users) CHECK(u->heard == "round round round ");
}

TEST_CASE("a message of 1 MiB in fragments comes back whole, while others talk") {
    if (!has_io_uring()) return;
    config c;
    c.max_message_size = 2U << 20U;
    c.max_outbox_bytes = 8U << 20U;
    running_server net{quiet(loop_kind::io_uring, c)};
    net->on_message([](connection& from, message_view m) { from.emit_message(m); });
    net.start();
    client large{net.port()};
    client small{net.port()};
    const auto half = pattern(5, (1U << 20U) / 2);
    const auto text = half + pattern(6, (1U << 20U) / 2);
    large.send_fragments({half.substr(0, 1), half.substr(1, 100'000), half.substr(100'001), text.substr(half.size())});
    for (int n = 0; n != 20; ++n) {
        small.send("small " + std::to_string(n));
        CHECK(small.receive() == "small " + std::to_string(n));
    }
    CHECK((large.receive() == text));
}

#ifdef ARKE_HAS_IO_URING

namespace {

/// How many calls from now on take nothing off a ring.
std::atomic<int> refusals{0};

}  // namespace

// In the place of liburing's, for all of this program: a kernel without memory.
extern "C" int io_uring_submit_and_get_events(io_uring* ring) {
    if (refusals > 0 && refusals-- > 0) {
        // As far as liburing comes by itself.
        ring->sq.sqe_head = ring->sq.sqe_tail;
        __atomic_store_n(ring->sq.ktail, ring->sq.sqe_tail, __ATOMIC_RELEASE);
        return -EAGAIN;
    }
    static const auto real = reinterpret_cast<int (*)(io_uring*)>(::dlsym(RTLD_NEXT, "io_uring_submit_and_get_events"));
    return real(ring);
}

TEST_CASE(
    "where the kernel takes nothing off the ring, a turn's sends go out all the same, and who was to be heard is") {
    if (!has_io_uring()) return;
    // Once, so that the next call takes it; as often as is tried; for longer than that.
    const int refused = GENERATE(1, 8, 12, 100);
    bench b{GENERATE(true, false)};
    constexpr std::size_t count = 40;
    std::vector<user_ptr> users;
    std::vector<std::string> received(count);
    std::string said;
    for (std::size_t n = 0; n != count; ++n) {
        users.emplace_back(new listener);
        b.attach(users.back());
        users.back()->out = "message " + std::to_string(n) + ";";
    }
    for (int turn = 1; turn != 4; ++turn) {
        refusals = refused;
        b.in_turn([&] {
            for (const auto& u : users) b.loop->add_dirty(*u);
        });
        refusals = 0;
        for (std::size_t n = 0; n != count; ++n) {
            CHECK(users[n]->answers == turn);
            CHECK(users[n]->lacked == 0);
            CHECK(hear(b.ends[n]) == users[n]->out);
        }
        const auto word = "word " + std::to_string(turn) + ";";
        said += word;
        for (const int fd : b.ends) say(fd, word);
        CHECK(b.until(
            [&] { return std::all_of(users.begin(), users.end(), [&](const auto& u) { return u->heard == said; }); }));
    }
}

TEST_CASE(
    "where the kernel takes nothing off the ring, who is not sent anything is heard as soon as it takes something") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    const user_ptr user{new listener};
    refusals = 5;
    const int fd = b.attach(user);
    b.context.poll();
    say(fd, "hello");
    CHECK(b.until([&] { return user->heard == "hello"; }));
    CHECK(refusals <= 0);
}

TEST_CASE("where the kernel takes nothing off the ring, reads that are paused stay so, and go on where they stopped") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    const user_ptr user{new listener};
    const int fd = b.attach(user);
    say(fd, "one ");
    REQUIRE(b.until([&] { return user->heard == "one "; }));
    user->out = "x";
    refusals = 8;
    // The word to the kernel to stop is lost with the rest.
    b.in_turn([&] {
        user->transport->pause_reads(true);
        b.loop->add_dirty(*user);
    });
    refusals = 0;
    CHECK(hear(fd) == "x");
    say(fd, "two ");
    for (int i = 0; i != 20; ++i) b.context.poll();
    CHECK(user->heard == "one ");
    b.in_turn([&] { user->transport->pause_reads(false); });
    CHECK(b.until([&] { return user->heard == "one two "; }));
    say(fd, "three");
    CHECK(b.until([&] { return user->heard == "one two three"; }));
}

TEST_CASE(
    "where the kernel takes nothing off the ring, who is closed leaves no request for the next of its descriptor") {
    if (!has_io_uring()) return;
    bench b{GENERATE(true, false)};
    for (int round = 0; round != 3; ++round) {
        const user_ptr first{new listener};
        refusals = 1;
        b.attach(first);
        b.context.poll();
        b.in_turn([&] { std::exchange(first->transport, nullptr)->close(false); });
        refusals = 0;
        const user_ptr next{new listener};
        const int fd = b.attach(next);
        say(fd, "for the next");
        CHECK(b.until([&] { return next->heard == "for the next"; }));
        CHECK(first->heard.empty());
    }
}

TEST_CASE("a kernel that often takes nothing off the ring costs a server nothing but time: all is echoed, in order") {
    if (!has_io_uring()) return;
    running_server net{quiet(loop_kind::io_uring)};
    net->on_message([](connection& from, message_view m) { from.emit_message(m); });
    net.start();
    std::vector<std::unique_ptr<client>> clients;
    for (int n = 0; n != 8; ++n) {
        refusals = n;
        clients.push_back(std::make_unique<client>(net.port()));
    }
    for (int n = 0; n != 200; ++n) {
        refusals = n % 25;
        for (auto& c : clients) c->send("message " + std::to_string(n));
        for (auto& c : clients) REQUIRE(c->receive() == "message " + std::to_string(n));
        if (n % 20 == 0) clients[static_cast<std::size_t>(n) / 20 % 8] = std::make_unique<client>(net.port());
    }
    refusals = 0;
}

#endif

TEST_CASE("where a sandbox refuses io_uring, a server that asks for it serves with epoll") {
    // In a process of its own: what a filter forbids stays forbidden.
    const auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(30);  // ends it, should it hang
        const auto refuse = [](std::uint32_t call) {
            std::array<sock_filter, 4> program{
                sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
                sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
            const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
            return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
        };
        int status = 1;
        try {
            boost::asio::io_context context;
            listener_config settings;
            settings.loop = loop_kind::io_uring;
            const auto falls_back = [&](bool one_thread) {
                const auto made = io::make_loop(context, 0, settings, one_thread);
                made->shut_down();
                return made->kind() == loop_kind::epoll;
            };
            // Each call in its turn, the one that is needed last first.
            bool ok = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
            for (const auto call : {SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup})
                ok = ok && refuse(static_cast<std::uint32_t>(call)) && falls_back(true) && falls_back(false);
            if (ok) {
                running_server net{quiet(loop_kind::io_uring)};
                net->on_message([](connection& from, message_view m) { from.emit_message(m); });
                net.start();
                client one{net.port()};
                one.send("still here");
                if (one.receive() == "still here") status = 0;
            }
        } catch (...) {
            status = 2;
        }
        ::_exit(status);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

#endif
