#include <arke/client.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/own_client.hpp"
#include "tests/support/raw_server.hpp"
#include "tests/support/running_server.hpp"

// Where a client's connection, its attempt, its patience or its memory ends, and what it does then.

using arke::close_code;
using arke::connection;
using arke::errc;
using arke::error_code;
using arke::error_report;
using arke::loop_kind;
using arke::test::all_loops;
using arke::test::eventually;
using arke::test::journal;
using arke::test::memory_shortage;
using arke::test::on_loop;
using arke::test::outcome;
using arke::test::patience;
using arke::test::quiet;
using arke::test::raw_peer;
using arke::test::raw_server;
using arke::test::running_server;
using arke::test::url_of;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

/// A server that reads nothing more from its first client once it has the first part, until go(). Its clients have numbers.
struct busy_server {
    explicit busy_server(loop_kind loop) : net{quiet(loop, {.max_message_size = 1 << 20})} {
        net->on_connection([this](connection& c) { numbers[c.id()] = static_cast<int>(numbers.size()) + 1; });
        net->on("part", [this, gone = free.get_future().share()](const std::string&) {
            if (++parts != 1) return;
            seen.add("busy");
            gone.wait();
        });
        net->on("say", [this](connection& c, const std::string& text) { seen.add(text + number_of(c)); });
        net->on("who", [this](connection& c) { return numbers[c.id()]; });
        net.start();
    }
    ~busy_server() { go(); }

    void go() {
        if (!std::exchange(is_free, true)) free.set_value();
    }
    std::string number_of(connection& c) { return ":" + std::to_string(numbers[c.id()]); }

    std::promise<void> free;
    bool is_free = false;
    journal seen;
    std::atomic<int> parts{0};
    std::map<std::string, int, std::less<>> numbers;
    running_server net;
};

constexpr int many = 192;  // parts: more than the buffers of two sockets take

void say_much(arke::client& c) {
    const std::string part(256 << 10, 'x');
    for (int i = 0; i != many; ++i) c.emit("part", part);
}

/// Of each connection, and whether the client comes back.
void note_ends(arke::client& c, journal& ends) {
    c.on_disconnect([&](close_code code, std::string_view, bool again) {
        ends.add(std::to_string(static_cast<int>(code)) + (again ? "again" : "gone"));
    });
}

}  // namespace

// It went to the connection that was ending, whose server was free to drop it, and a question was lost there.
TEST_CASE("what is said behind connect() is for the connection that comes, however much is said before disconnect()") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool reads_in_time = GENERATE(true, false);
    CAPTURE(reads_in_time);
    busy_server server{loop};
    journal ends;
    arke::client c{url_of(server.net),
                   on_loop(loop, {.max_queue_bytes = 64 << 20, .close_timeout = reads_in_time ? 20'000ms : 50ms})};
    note_ends(c, ends);
    say_much(c);
    c.start();
    REQUIRE(server.seen.wait(1) == "busy");
    c.disconnect(close_code{4001});
    c.emit("say", "between");
    c.connect();
    c.emit("say", "after");
    auto who = c.ask<int>("who", 1h, asio::use_future);
    if (!reads_in_time) REQUIRE(ends.wait(1) == "4001again");
    server.go();
    CHECK(outcome(std::move(who)) == "2");
    CHECK(server.seen.wait(2) == "busy after:2");
    CHECK(ends.wait(1) == "4001again");
    CHECK(c.waiting() == 0);
    if (reads_in_time) {
        CHECK(eventually([&] { return server.parts == many; }));
        CHECK(c.dropped() == 1);
    } else {
        CHECK(c.dropped() > 1);
    }
}

TEST_CASE(
    "what is said behind connect() is dropped by another disconnect(), and not what the first one has waited for") {
    const auto loop = GENERATE(from_range(all_loops()));
    busy_server server{loop};
    journal ends;
    arke::client c{url_of(server.net), on_loop(loop, {.max_queue_bytes = 64 << 20, .close_timeout = 20'000ms})};
    note_ends(c, ends);
    say_much(c);
    c.start();
    REQUIRE(server.seen.wait(1) == "busy");
    c.disconnect(close_code{4001});
    c.connect();
    c.emit("say", "never");
    auto who = c.ask<int>("who", 1h, asio::use_future);
    c.disconnect(close_code{4002});
    CHECK(outcome(std::move(who)) == arke::make_error_code(errc::disconnected).message());
    c.connect();
    c.emit("say", "after");
    server.go();
    CHECK(server.seen.wait(2) == "busy after:2");
    CHECK(ends.wait(1) == "4002again");
    CHECK(eventually([&] { return server.parts == many; }));
    CHECK(c.dropped() == 2);
}

// Where nothing had to be waited for, what was said between the two went to the new connection.
TEST_CASE("what is said between disconnect() and connect() is dropped, also where the connection can end at once") {
    const auto loop = GENERATE(from_range(all_loops()));
    busy_server server{loop};
    arke::client c{url_of(server.net), on_loop(loop)};
    c.start();
    REQUIRE(outcome(c.ask<int>("who", 1h, asio::use_future)) == "1");
    // In one turn, as a handler does it.
    asio::post(c.get_executor(), [&] {
        c.handle().run([&](connection&) {
            c.emit("say", "before");
            c.disconnect();
            c.emit("say", "between");
            c.connect();
            c.emit("say", "after");
        });
    });
    CHECK(server.seen.wait(2) == "before:1 after:2");
    CHECK(c.dropped() == 1);
}

// No time was taken for no end, the loop's clock for the caller's, and the longest for one that had passed.
TEST_CASE(
    "the time within which something is to be sent begins with the call, and may have passed then, or never pass") {
    const auto loop = GENERATE(from_range(all_loops()));
    journal heard;
    running_server net{quiet(loop)};
    net->on("x", [&](const std::string& text) { heard.add(text); });
    net->on("double", [](int n) { return 2 * n; });
    net.start();
    error_code late;
    int answer = 0;
    asio::io_context context;
    arke::client c{context, url_of(net), on_loop(loop)};
    const auto run_until = [&](auto holds) {
        const auto end = std::chrono::steady_clock::now() + patience;
        while (!holds() && std::chrono::steady_clock::now() < end) {
            if (context.run_one_for(20ms) == 0) context.restart();
        }
        return holds();
    };
    const auto pass = [](std::chrono::milliseconds time) {
        return eventually(
            [end = std::chrono::steady_clock::now() + time] { return std::chrono::steady_clock::now() > end; });
    };
    const auto say = [&](const std::string& where) {
        c.emit_within(0ms, "x", where + "zero");
        c.emit_within(-5ms, "x", where + "less");
        c.emit_within(std::chrono::milliseconds::min(), "x", where + "least");
        c.emit_within(1ms, "x", where + "short");
        c.ask<int>("double", 1, 1ms, [&](error_code why, int) { late = why; });
        c.emit_within(std::chrono::milliseconds::max(), "x", where + "most");
        c.ask<int>("double", 21, std::chrono::milliseconds::max(), [&](error_code, int n) { answer = n; });
        REQUIRE(pass(3ms));
        c.connect();
        REQUIRE(run_until([&] { return answer != 0; }));
        CHECK(std::exchange(answer, 0) == 42);
        CHECK(std::exchange(late, {}) == errc::ask_timeout);
    };
    say("before:");
    CHECK(heard.wait(1) == "before:most");
    CHECK(c.dropped() == 5);
    say("connected:");
    CHECK(heard.wait(2) == "before:most connected:most");
    CHECK(c.dropped() == 10);
    // What a handler says is sent within the call.
    c.handle().run([&](connection&) { c.emit_within(0ms, "x", std::string{"handler"}); });
    REQUIRE(run_until([&] { return heard.size() == 3; }));
    CHECK(heard.text() == "before:most connected:most handler");
}

// It waited for a connection that nobody had asked for.
TEST_CASE("to wait for a room of a client that has ended is told at once that there is no connection") {
    error_code why;
    bool within = true;
    asio::io_context context;
    arke::client c{context, "ws://127.0.0.1:9", on_loop(loop_kind::automatic)};
    c.disconnect();
    c.async_join("room", [&](error_code ec) {
        why = ec;
        CHECK_FALSE(within);
    });
    within = false;
    context.poll();
    CHECK(why == errc::disconnected);
}

// The attempt left the client as if it had never begun, and run() waited for what nobody wanted.
TEST_CASE("run() returns where the client has ended and an attempt behind that has failed") {
    std::atomic<int> came{0};
    raw_server net{[&](raw_peer& p) {
        const auto head = p.read_head();
        if (head.empty() || ++came != 1) return;
        p.send(raw_peer::welcome(head));
        p.wait_for_end();
    }};
    error_code why;
    arke::client c{net.url(), on_loop(loop_kind::automatic, {.close_timeout = 50ms})};
    c.on_connect([&] { c.disconnect(); });
    c.on_disconnect([&] {
        c.async_connect([&](error_code ec) { why = ec; });
        c.emit("waits", 1);
    });
    auto returned = std::async(std::launch::async, [&] { c.run(); });
    CHECK(returned.wait_for(patience) == std::future_status::ready);
    c.disconnect();
    returned.wait();
    CHECK(why == errc::handshake_refused);
    CHECK(came == 2);
    CHECK(c.waiting() == 0);
    CHECK(c.dropped() == 1);
}

// It stayed without a connection for good, crashed where it had rooms, or std::bad_alloc came out of the io_context's run().
TEST_CASE("a client that finds no memory, at whatever step of connecting or coming back, says so and is back soon") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool comes_back = GENERATE(false, true);
    CAPTURE(loop, comes_back);
    constexpr int rooms = 3;
    std::map<std::string, int, std::less<>> joined;
    running_server net{quiet(loop)};
    net->on_connection([](connection& c) { c.emit("welcome", std::string(100, 'w')); });
    net->on_join([&](connection& c, std::string_view) {
        if (++joined[c.id()] == rooms) c.emit("in all rooms");
        return true;
    });
    net->on("bye", [](connection& c) { c.disconnect(close_code{1012}); });
    net.start();

    std::size_t nth = 0;
    int told = 0;
    for (bool struck = true; struck; ++nth) {
        CAPTURE(nth);
        asio::io_context context{1};
        int welcomed = 0;
        bool in_all_rooms = false;
        bool is_over = false;
        int thrown = 0;
        int other_errors = 0;
        // The deadline does not help.
        arke::client c{context, url_of(net),
                       on_loop(loop, {.connect_timeout = 1h, .reconnect_delay = 1ms, .max_reconnect_delay = 1ms})};
        c.on("welcome", [&](std::string_view) { ++welcomed; });
        c.on("in all rooms", [&] { in_all_rooms = true; });
        c.on_disconnect([&](close_code, std::string_view, bool again) { is_over = !again; });
        c.on_error([&](const error_report& e) { ++(e.code == errc::out_of_memory ? told : other_errors); });
        for (int i = 0; i != rooms; ++i) c.join("a room with a name that is not small " + std::to_string(i));
        const auto run_until = [&](auto holds) {
            const auto end = std::chrono::steady_clock::now() + patience;
            while (!holds() && std::chrono::steady_clock::now() < end) {
                try {
                    if (context.run_one_for(20ms) == 0) context.restart();
                } catch (const std::exception&) {
                    ++thrown;
                }
            }
            return holds();
        };
        context.poll();
        context.restart();
        c.connect();
        if (comes_back) {
            REQUIRE(run_until([&] { return welcomed == 1 && in_all_rooms; }));
            welcomed = 0;
            c.emit("bye");
        }
        {
            const memory_shortage none{nth};
            run_until([&] { return none.struck() || welcomed != 0; });
            struck = none.struck();
        }
        // Without memory for the pause it has ended, and said so.
        REQUIRE(run_until([&] { return welcomed != 0 || is_over; }));
        if (is_over) c.connect();
        REQUIRE(run_until([&] { return welcomed != 0; }));
        // No room is forgotten: the next connection asks for all of them.
        in_all_rooms = false;
        c.emit("bye");
        REQUIRE(run_until([&] { return in_all_rooms; }));
        CHECK(thrown == 0);
        CHECK(other_errors == 0);
    }
    CHECK(nth > 30);
    CHECK(told > 10);
}

TEST_CASE("connect() without memory to begin throws, and the next one connects") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    net.start();
    asio::io_context context{1};
    arke::client c{context, url_of(net), on_loop(loop)};
    {
        const memory_shortage none{0, memory_shortage::for_good};
        CHECK_THROWS_AS(c.connect(), std::bad_alloc);
    }
    context.poll();
    CHECK_FALSE(c.is_connected());
    context.restart();
    c.connect();
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!c.is_connected() && std::chrono::steady_clock::now() < end) context.run_one_for(20ms);
    CHECK(c.is_connected());
}

// What has no memory to say goodbye threw out of the io_context's run(), or had its own thread waited for for ever.
TEST_CASE("a client that is destroyed where there is no memory, at whatever step, ends all the same") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool has_thread = GENERATE(false, true);
    CAPTURE(loop, has_thread);
    running_server net{quiet(loop)};
    net.start();
    std::size_t nth = 0;
    for (bool struck = true; struck; ++nth) {
        CAPTURE(nth);
        asio::io_context context{1};
        auto c = has_thread ? std::make_unique<arke::client>(url_of(net), on_loop(loop))
                            : std::make_unique<arke::client>(context, url_of(net), on_loop(loop));
        if (has_thread)
            c->start();
        else
            c->connect();
        REQUIRE(eventually([&] {
            if (!has_thread) context.poll();
            return c->is_connected() && net->size() == 1;
        }));
        bool ended = true;
        {
            // In a thread of its own only the first step is this thread's.
            const memory_shortage none{nth, has_thread ? memory_shortage::for_good : 1};
            c.reset();
            if (!has_thread) ended = eventually([&] { return context.poll() == 0 && context.stopped(); });
            struck = none.struck();
        }
        CHECK(ended);
        CHECK(eventually([&] { return net->size() == 0; }));
    }
    CHECK(nth > 1);
}

// It was taken from them: a handler that used it at that moment crashed.
TEST_CASE("a client may be destroyed while a handler of its own thread uses it: that ends before") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    net.start();
    std::promise<void> began;
    std::atomic<bool> goes{false};
    std::atomic<int> uses{0};
    auto c = std::make_unique<arke::client>(url_of(net), on_loop(loop));
    c->on_connect([&, here = c.get()](connection&) {
        began.set_value();
        while (!goes) std::this_thread::yield();
        while (uses != 100'000) uses += 1 + static_cast<int>(here->waiting());
    });
    c->start();
    began.get_future().wait();
    goes = true;
    c.reset();
    CHECK(uses == 100'000);
}
