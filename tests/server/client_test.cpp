#include <arke/client.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include "tests/support/catch.hpp"
#include "tests/support/held_port.hpp"
#include "tests/support/own_client.hpp"
#include "tests/support/raw_server.hpp"
#include "tests/support/running_server.hpp"
#include "tests/support/sanitizer.hpp"

// The client with Arke's own server, and with servers of a few lines that do what no honest one does. Other servers are in
// tests/peers.

using arke::answer;
using arke::client_config;
using arke::close_code;
using arke::connection;
using arke::errc;
using arke::error_report;
using arke::loop_kind;
using arke::message_view;
using arke::test::all_loops;
using arke::test::eventually;
using arke::test::held_port;
using arke::test::journal;
using arke::test::message_of;
using arke::test::on_loop;
using arke::test::outcome;
using arke::test::quiet;
using arke::test::raw_peer;
using arke::test::raw_server;
using arke::test::running_server;
using arke::test::url_of;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

// That a ring's memory is new, where another thread's was, the thread sanitizer does not see: liburing asks the kernel by itself.
#ifdef ARKE_TEST_HAS_THREAD_SANITIZER
constexpr bool sees_old_rings = true;
#else
constexpr bool sees_old_rings = false;
#endif

struct order {
    std::string item;
    int count = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

asio::awaitable<void> pause_for(std::chrono::milliseconds time) {
    asio::steady_timer timer{co_await asio::this_coro::executor, time};
    co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace

TEST_CASE("a client and its own server: every kind of value, native messages, and questions both ways") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop, {.max_message_size = 1 << 20, .binary_messages = true})};
    journal heard;
    net->on("text", [&](connection& c, std::string t) { c.emit("text", t + t); });
    net->on("number", [&](connection& c, std::int64_t n) { c.emit("number", -n); });
    net->on("flag", [&](connection& c, bool b) { c.emit("flag", !b); });
    net->on("bytes", [&](connection& c, const arke::bytes& b) { c.emit("bytes", b); });
    net->on("order", [&](connection& c, order o) {
        o.count *= 7;
        c.emit("order", o);
    });
    net->on("nothing", [&](connection& c) { c.emit("nothing"); });
    net->on_message([](connection& c, message_view m) { c.emit_message(m); });
    net->on("ask me", [&](connection& c) -> asio::awaitable<void> {
        heard.add("asked:" + co_await c.ask<std::string>("who", 5s));
    });
    net.start();

    arke::client c{url_of(net), on_loop(loop, {.binary_messages = true})};
    c.on("text", [&](std::string_view t) { heard.add(std::string{t}); });
    c.on("number", [&](std::int64_t n) { heard.add(std::to_string(n)); });
    c.on("flag", [&](bool b) { heard.add(b ? "true" : "false"); });
    c.on("bytes", [&](const arke::bytes& b) { heard.add(std::to_string(b.size()) + "B"); });
    c.on("order", [&](const order& o) { heard.add(o.item + std::to_string(o.count)); });
    c.on("nothing", [&] { heard.add("nothing"); });
    c.on("who", [] { return std::string{"me"}; });
    c.on_message([&](message_view m) { heard.add((m.is_text ? "t" : "b") + std::to_string(m.data.size())); });
    c.on_connect([&](connection& self) { heard.add(self.request().header("Host").empty() ? "no host" : "connected"); });
    c.on_disconnect([&](close_code code, std::string_view reason, bool again) {
        heard.add(std::to_string(static_cast<int>(code)) + std::string{reason} + (again ? "again" : ""));
    });
    c.start();
    c.emit("text", "aé");
    c.emit("number", std::int64_t{1} << 60);
    c.emit("flag", false);
    c.emit("bytes", arke::bytes(300, std::byte{255}));
    c.emit("order", order{"tea", 6});
    c.emit("nothing");
    c.emit_message("text");
    c.emit_message(arke::as_bytes(std::string(100'000, '\xFE')));
    c.emit("ask me");
    CHECK(outcome(c.ask<std::string>("ask me", 5s, asio::use_future)).empty());
    c.disconnect(close_code{4001}, "bye");
    CHECK(heard.wait(12) ==
          "connected aéaé -1152921504606846976 true 300B tea42 nothing t4 b100000 asked:me asked:me 4001bye");
    CHECK_FALSE(c.is_connected());
}

TEST_CASE("questions of a client: each comes to its own end, once") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    net->on("buy", [](int n) { return n * 7; });
    net->on("wish", [](std::string what) -> answer<std::string> {
        if (what == "moon") return arke::refuse("sold out");
        return what;
    });
    net->on("throw", [](connection&) -> int { throw std::runtime_error{"secret"}; });
    net->on("done", [](connection&) {});
    net->on("slow", [](connection&, int ms) -> asio::awaitable<int> {
        co_await pause_for(std::chrono::milliseconds{ms});
        co_return ms;
    });
    net->on("leave", [](connection& c) -> asio::awaitable<int> {
        c.disconnect(close_code{4002});
        co_return 1;
    });
    net.start();

    struct row {
        const char* event;
        std::variant<std::monostate, int, const char*> data;
        std::chrono::milliseconds timeout;
        std::string outcome;
    };
    const row table[] = {
        {"buy", 6, 5s, "42"},
        {"buy", "six", 5s, message_of(errc::wrong_type)},
        {"wish", "tea", 5s, message_of(errc::bad_answer)},
        {"wish", "moon", 5s, message_of(errc::refused)},
        {"throw", {}, 5s, message_of(errc::handler_threw)},
        {"done", {}, 5s, message_of(errc::bad_answer)},
        {"unknown", {}, 5s, message_of(errc::unhandled_event)},
        {"slow", 1, 5s, "1"},
        {"slow", 60'000, 20ms, message_of(errc::ask_timeout)},
        {"buy", 7, 5s, "49"},
        {"leave", {}, 5s, message_of(errc::disconnected)},
        {"buy", 6, 5s, message_of(errc::disconnected)},
    };
    arke::client c{url_of(net), on_loop(loop)};
    c.start();
    for (const auto& r : table) {
        INFO(r.event << " and then " << r.outcome);
        std::atomic<int> times{0};
        std::promise<std::string> told;
        const auto hear = [&](arke::error_code why, int n) {
            if (++times == 1) told.set_value(why ? why.message() : std::to_string(n));
        };
        if (const auto* number = std::get_if<int>(&r.data))
            c.ask<int>(r.event, *number, r.timeout, hear);
        else if (const auto* text = std::get_if<const char*>(&r.data))
            c.ask<int>(r.event, *text, r.timeout, hear);
        else
            c.ask<int>(r.event, r.timeout, hear);
        auto future = told.get_future();
        REQUIRE(future.wait_for(arke::test::patience) == std::future_status::ready);
        CHECK(future.get() == r.outcome);
        // What comes after it, an answer to the next question, comes after a second telling would.
        if (c.is_connected()) static_cast<void>(outcome(c.ask<int>("buy", 1, 5s, asio::use_future)));
        CHECK(times == 1);
    }
}

TEST_CASE("an answer that comes too late is dropped, and the next question gets its own") {
    running_server net{quiet(loop_kind::automatic)};
    std::promise<void> go;
    auto gone = go.get_future().share();
    net->on("late", [&, gone](connection& c, int n) -> asio::awaitable<int> {
        if (n == 1)
            while (gone.wait_for(0s) != std::future_status::ready) co_await pause_for(1ms);
        c.emit("answering", n);
        co_return n;
    });
    net.start();
    journal heard;
    arke::client c{url_of(net), on_loop(loop_kind::automatic)};
    c.on("answering", [&](int n) { heard.add("answering" + std::to_string(n)); });
    c.start();
    // Long enough to be asked.
    CHECK(outcome(c.ask<int>("late", 1, 3s, asio::use_future)) == message_of(errc::ask_timeout));
    go.set_value();
    CHECK(heard.wait(1) == "answering1");
    CHECK(outcome(c.ask<int>("late", 2, 5s, asio::use_future)) == "2");
}

// connect() behind disconnect() found the connection that was ending, and took itself for done: the client stayed away. What was
// said in between went to that connection, and was neither sent nor counted.
TEST_CASE("disconnect() and then connect() is a new connection, and what is said from then on goes there") {
    const auto loop = GENERATE(from_range(all_loops()));
    journal heard;
    running_server net{quiet(loop)};
    net->on("say", [&](const std::string& text) { heard.add(text); });
    net.start();
    arke::client c{url_of(net), on_loop(loop)};
    c.on_connect([&] { heard.add("here"); });
    c.on_disconnect([&](close_code, std::string_view, bool again) {
        heard.add(again ? "again" : "gone");
        c.emit("say", again ? "between" : "never");
    });
    c.start();
    REQUIRE(heard.wait(1) == "here");
    // In one turn, as a handler does it.
    const auto turn = [&](auto f) {
        asio::post(c.get_executor(), [&, f] { c.handle().run([f](connection&) { f(); }); });
    };
    turn([&] {
        c.emit("say", "before");
        c.disconnect();
        c.connect();
        c.emit("say", "after");
    });
    // What the server hears may be written down before or after the client's own end.
    const auto twice = heard.wait(6);
    CHECK((twice == "here again before here after between" || twice == "here before again here after between"));
    CHECK(c.dropped() == 0);

    turn([&] {
        c.disconnect();
        c.async_connect([&](arke::error_code ec) { heard.add(ec ? ec.message() : "connected"); });
    });
    CHECK(heard.wait(10).ends_with("again here connected between"));
    // One that is connected has nothing to wait for, and stays.
    c.async_connect([&](arke::error_code ec) { heard.add(ec ? ec.message() : "still"); });
    CHECK(heard.wait(11).ends_with(" still"));

    turn([&] {
        c.disconnect();
        c.async_connect([&](arke::error_code ec) { heard.add(ec == errc::disconnected ? "given up" : "what?"); });
        c.disconnect();
    });
    CHECK(heard.wait(13).ends_with(" still gone given up"));
    CHECK(eventually([&] { return c.dropped() == 1; }));
}

TEST_CASE("disconnect() waits for what is said before it as long as close_timeout, and drops the rest then") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool reads_in_time = GENERATE(true, false);
    CAPTURE(reads_in_time);
    journal seen;
    journal heard;
    std::promise<void> go;
    std::atomic<int> count{0};
    running_server net{quiet(loop, {.max_message_size = 1 << 20})};
    net->on("part", [&, gone = go.get_future().share()](const std::string&) {
        if (++count != 1) return;
        seen.add("busy");
        gone.wait();
    });
    net->on_disconnect(
        [&](connection&, close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net.start();
    arke::client c{url_of(net),
                   on_loop(loop, {.max_queue_bytes = 64 << 20, .close_timeout = reads_in_time ? 20'000ms : 50ms})};
    c.on_disconnect([&](close_code code, std::string_view reason, bool) {
        heard.add(std::to_string(static_cast<int>(code)) + std::string{reason});
    });
    // More than the buffers of two sockets take.
    const std::string part(256 << 10, 'x');
    for (int i = 0; i != 192; ++i) c.emit("part", part);
    c.start();
    REQUIRE(seen.wait(1) == "busy");
    c.disconnect(close_code{4001}, "bye");
    c.emit("part", "too late");
    REQUIRE(eventually([&] { return c.dropped() == 1; }));
    CHECK(c.waiting() > 0);
    if (reads_in_time) {
        go.set_value();
        CHECK(heard.wait(1) == "4001bye");
        CHECK(seen.wait(2) == "busy 4001");
        CHECK(count == 192);
        CHECK(c.dropped() == 1);
    } else {
        CHECK(heard.wait(1) == "4001bye");
        CHECK(eventually([&] { return c.waiting() == 0; }));
        CHECK(c.dropped() > 1);
        go.set_value();
    }
}

TEST_CASE("handlers of a client that throw are reported, its listeners that throw are logged, and it goes on") {
    asio::io_context context;
    journal log;
    client_config settings;
    settings.log = [&](std::string_view line) { log.add(std::string{line}); };
    arke::client c{context, "ws://127.0.0.1:9", settings};
    std::string told;
    const auto ask = [&](auto throws) {
        bool done = false;
        c.ask<int>("unheard", 1ms, [&](arke::error_code, int) {
            done = true;
            throws();
        });
        while (!done) context.run_one();
    };
    const auto listens =
        c.on_error([&](const error_report& e) { told += e.code.message() + ":" + std::string{e.detail}; });
    ask([] { throw std::runtime_error{"mine"}; });
    CHECK(told == message_of(errc::handler_threw) + ":mine");
    const auto angry = c.on_error([](const error_report&) { throw 2; });
    ask([] { throw 1; });
    CHECK(told.ends_with(":something that is no std::exception"));
    CHECK(log.text() == "on_error of a client threw");

    // Whoever was taken off hears no more; with nobody left it is logged.
    CHECK(c.off(listens));
    CHECK(c.off(angry));
    CHECK_FALSE(c.off(angry));
    told.clear();
    ask([] { throw std::runtime_error{"unheard"}; });
    CHECK(told.empty());
    CHECK(log.text() == "on_error of a client threw client of 127.0.0.1:9: unheard");
}

TEST_CASE("handlers of an event can be taken off a client") {
    asio::io_context context;
    running_server net{quiet(loop_kind::automatic)};
    net->on_connection([](connection& c) {
        c.emit("a", 1);
        c.emit("b", 2);
    });
    net.start();
    arke::client c{context, url_of(net), on_loop(loop_kind::automatic)};
    std::string heard;
    c.on("a", [&](int) { heard += "a"; });
    c.on("b", [&](int) { heard += "b"; });
    c.off("a");
    c.connect();
    const auto end = std::chrono::steady_clock::now() + arke::test::patience;
    while (heard.empty() && std::chrono::steady_clock::now() < end) context.run_one_for(100ms);
    CHECK(heard == "b");
}

TEST_CASE("run() and start() say what is wrong with calling them") {
    asio::io_context context;
    const auto refusal = [](auto f) {
        try {
            f();
            return std::string{"none"};
        } catch (const std::logic_error& e) {
            return std::string{e.what()};
        }
    };
    arke::client guest{context, "ws://127.0.0.1:9", on_loop(loop_kind::automatic)};
    CHECK(refusal([&] { guest.run(); }).find("run(): this client lives in your io_context") != std::string::npos);
    CHECK(refusal([&] { guest.start(); }).find("start(): this client lives in your io_context") != std::string::npos);

    arke::client c{"ws://127.0.0.1:9", on_loop(loop_kind::automatic)};
    c.start();
    CHECK(refusal([&] { c.start(); }).find("has its thread already") != std::string::npos);
    std::promise<void> runs;
    asio::post(c.get_executor(), [&] { runs.set_value(); });
    runs.get_future().wait();
    CHECK(refusal([&] { c.run(); }).find("is running already") != std::string::npos);
}

// The client's thread ended with it: nothing was sent any more, and to destroy the client left its connection open for good.
TEST_CASE("what work on the executor throws comes out of run(); the thread of start() logs it and goes on") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    net->on("buy", [](int n) { return n * 7; });
    net.start();
    {
        journal log;
        client_config settings;
        settings.log = [&](std::string_view line) { log.add(std::string{line}); };
        arke::client c{url_of(net), on_loop(loop, settings)};
        c.start();
        CHECK(outcome(c.ask<int>("buy", 6, 5s, asio::use_future)) == "42");
        asio::post(c.get_executor(), [] { throw std::runtime_error{"mine"}; });
        asio::post(c.get_executor(), [] { throw 1; });
        CHECK(outcome(c.ask<int>("buy", 7, 5s, asio::use_future)) == "49");
        CHECK(log.text() == "work on a client's executor threw: mine work on a client's executor threw");
    }
    CHECK(eventually([&] { return net->size() == 0; }));
    arke::client c{url_of(net), on_loop(loop)};
    asio::post(c.get_executor(), [] { throw std::runtime_error{"mine"}; });
    CHECK_THROWS_WITH(c.run(), "mine");
}

TEST_CASE("a thousand open questions: each completes once when the connection ends, however it ends") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool by_server = GENERATE(true, false);
    running_server net{quiet(loop, {.max_requests = 2000})};
    std::atomic<int> asked{0};
    net->on("never", [&](connection&) -> asio::awaitable<int> {
        ++asked;
        for (;;) co_await pause_for(1h);
    });
    net.start();
    arke::client c{url_of(net), on_loop(loop, {.max_queue = 2000, .max_requests = 2000})};
    std::vector<std::atomic<int>> times(1000);
    std::atomic<int> wrong{0};
    std::atomic<int> told{0};
    c.start();
    for (auto& each : times) {
        c.ask<int>("never", 1h, [&](arke::error_code why, int) {
            ++each;
            if (why != errc::disconnected) ++wrong;
            ++told;
        });
    }
    REQUIRE(eventually([&] { return asked == 1000; }));
    if (by_server)
        net->to(arke::all).disconnect(close_code{4000});
    else
        c.disconnect();
    REQUIRE(eventually([&] { return told == 1000; }));
    CHECK(outcome(c.ask<int>("never", 1ms, asio::use_future)) == message_of(errc::disconnected));
    for (auto& each : times) CHECK(each == 1);
    CHECK(wrong == 0);
}

TEST_CASE("without a connection questions and messages wait, as long as they may; at the bound the last is dropped") {
    arke::client c{"ws://127.0.0.1:9", on_loop(loop_kind::automatic, {.max_queue = 3})};
    journal heard;
    c.on_error([&](const error_report& e) { heard.add(std::string{e.event} + ":" + e.code.message()); });
    asio::io_context context;
    c.emit_volatile("volatile", 1);
    c.emit("first", 1);
    c.emit_latest("price", 1);
    c.emit_latest("price", 2);
    c.emit("third", 1);
    c.emit("fourth", 1);
    auto fifth = c.ask<int>("fifth", 5s, asio::use_future);
    c.start();
    CHECK(outcome(std::move(fifth)) == message_of(errc::queue_full));
    CHECK(heard.wait(2).find("fourth:" + message_of(errc::queue_full)) != std::string::npos);
    CHECK(c.waiting() == 3);
    CHECK(c.dropped() == 3);
    c.disconnect();
    CHECK(eventually([&] { return c.waiting() == 0; }));
    CHECK(c.dropped() == 6);
    CHECK(outcome(c.ask<int>("after", 5s, asio::use_future)) == message_of(errc::disconnected));
}

TEST_CASE(
    "what waited comes first and in order, what is too late does not come, and a question waits no longer than it "
    "may") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    journal heard;
    net->on_any([&](const arke::event_view& e) { heard.add(std::string{e.name} + std::string{e.data}); });
    net->on("last", [&] { heard.add("last"); });
    net.start();
    asio::io_context context;
    arke::client c{context, url_of(net), on_loop(loop)};
    c.emit("a", 1);
    c.emit_within(1ms, "late", 2);
    c.emit_within(1h, "b", 3);
    std::string asked;
    c.ask<int>("late question", 1ms, [&](arke::error_code why, int) { asked = why.message(); });
    // The loop takes them up, and their time passes, before anything connects.
    while (asked.empty()) context.run_one();
    CHECK(asked == message_of(errc::ask_timeout));
    c.on_connect([&](connection& self) {
        self.emit("c", 4);
        c.emit("last");
    });
    c.connect();
    while (heard.size() < 4) context.run_one_for(100ms);
    CHECK(heard.text() == "a1 b3 c4 last");
    CHECK(c.dropped() == 2);
}

TEST_CASE("a client awaits its connection, its answers and its rooms") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    net->on_join([](connection&, std::string_view room) { return room != "secret"; });
    net->on("buy", [](int n) { return n * 7; });
    net->on("tell", [&](std::string text) { net->to("news").emit("news", text); });
    net.start();
    asio::io_context context;
    arke::client c{context, url_of(net), on_loop(loop)};
    std::string told;
    std::string failed;
    c.on_error([&](const error_report& e) { failed += e.detail; });
    c.on("news", [&](std::string text) {
        told = text;
        c.disconnect();
    });
    std::string all;
    asio::co_spawn(
        context,
        [&]() -> asio::awaitable<void> {
            co_await c.async_connect();
            all += std::to_string(co_await c.ask<int>("buy", 6, 5s)) + " ";
            co_await c.async_join("news");
            try {
                co_await c.async_join("secret");
            } catch (const boost::system::system_error& e) {
                all += e.code().message();
            }
            c.emit("tell", "rain");
        },
        [](const std::exception_ptr& e) {
            if (e) std::rethrow_exception(e);
        });
    const auto end = std::chrono::steady_clock::now() + arke::test::patience;
    while (told.empty() && std::chrono::steady_clock::now() < end) context.run_one_for(100ms);
    CHECK(told == "rain");
    CHECK(all == "42 " + message_of(errc::refused));
    CHECK(failed == "the room \"secret\" is not entered");
}

TEST_CASE("an attempt that is awaited fails once; the client stays as it was, and may try again") {
    asio::io_context context;
    const held_port nobody;
    arke::client c{context, "ws://127.0.0.1:" + std::to_string(nobody.port()), on_loop(loop_kind::automatic)};
    std::string sentence;
    c.on_error([&](const error_report& e) { sentence = e.detail; });
    c.emit("waits", 1);
    for (int i = 0; i != 2; ++i) {
        std::optional<arke::error_code> why;
        c.async_connect([&](arke::error_code ec) { why = ec; });
        while (!why) context.run_one();
        CHECK(*why == asio::error::connection_refused);
        CHECK(sentence.find("Connection refused (127.0.0.1); is the server running") != std::string::npos);
        CHECK(c.waiting() == 1);
        CHECK_FALSE(c.is_connected());
    }
}

TEST_CASE("a client that takes native messages only offers no arke.v1, and says no events") {
    std::string request;
    raw_server net{[&](raw_peer& p) {
        request = p.read_head();
        if (request.empty()) return;
        p.send(raw_peer::welcome(request) +
               "\x81\x06"
               "ehello");
        p.wait_for_end();
    }};
    asio::io_context context;
    arke::client c{context, net.url(), on_loop(loop_kind::automatic, {.native = true})};
    std::string heard;
    c.on_message([&](message_view m) { heard = m.data; });
    CHECK_THROWS_AS(c.emit("event", 1), std::invalid_argument);
    c.connect();
    const auto end = std::chrono::steady_clock::now() + arke::test::patience;
    while (heard.empty() && std::chrono::steady_clock::now() < end) context.run_one_for(100ms);
    CHECK(heard == "ehello");
    CHECK(request.find("Sec-WebSocket-Protocol") == std::string::npos);
}

TEST_CASE("a handler may destroy its client; so may anybody at any time, and it leaves nothing behind") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    net->on_message([](connection& c, message_view m) { c.emit_message(m); });
    net.start();
    {
        // In a handler of its own io_context.
        auto c = std::make_unique<arke::client>(url_of(net), on_loop(loop));
        c->on_message([&](connection&) { c.reset(); });
        c->emit_message("hello");
        c->run();
        CHECK(c == nullptr);
    }
    if (!sees_old_rings || loop != loop_kind::io_uring) {
        // In a handler of its own thread.
        auto c = std::make_unique<arke::client>(url_of(net), on_loop(loop));
        std::promise<void> gone;
        c->on_message([&](connection&) {
            c.reset();
            gone.set_value();
        });
        c->emit_message("hello");
        c->start();
        CHECK(gone.get_future().wait_for(arke::test::patience) == std::future_status::ready);
    }
    {
        // In a handler of a caller's io_context, which has nothing to do then.
        asio::io_context context;
        auto c = std::make_unique<arke::client>(context, url_of(net), on_loop(loop));
        c->on_message([&](connection&) { c.reset(); });
        c->emit_message("hello");
        c->connect();
        context.run_for(arke::test::patience);
        CHECK(c == nullptr);
        CHECK(context.stopped());
    }
    for (int step = 0; step != 40; ++step) {
        // After so many steps of the io_context, which may go with it.
        asio::io_context context;
        bool told = false;
        {
            arke::client c{context, url_of(net), on_loop(loop)};
            c.connect();
            c.ask<int>("never", 1h,
                       asio::bind_executor(context.get_executor(), [&](arke::error_code, int) { told = true; }));
            for (int i = 0; i != step; ++i) context.run_one_for(5ms);
        }
        if (step % 2 == 0) {
            context.run_for(arke::test::patience);
            CHECK(context.stopped());
            CHECK(told);
        }
    }
    CHECK(eventually([&] { return net->size() == 0; }));
}

TEST_CASE("a client may be used by several threads, inside an io_context that several run") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    std::mutex mutex;
    std::vector<int> last(4, -1);
    std::atomic<int> heard{0};
    std::atomic<int> wrong{0};
    net->on("from", [&](std::vector<int> what) {
        const std::lock_guard lock{mutex};
        if (last[static_cast<std::size_t>(what[0])] + 1 != what[1]) ++wrong;
        last[static_cast<std::size_t>(what[0])] = what[1];
        ++heard;
    });
    net->on("buy", [](int n) { return n * 7; });
    net.start(2);
    asio::io_context context;
    auto guard = asio::make_work_guard(context);
    std::vector<std::thread> runs;
    {
        arke::client c{context, url_of(net), on_loop(loop, {.max_queue = 10'000})};
        for (int i = 0; i != 3; ++i) runs.emplace_back([&] { context.run(); });
        std::vector<std::thread> speak;
        std::atomic<int> answers{0};
        c.connect();
        for (int t = 0; t != 4; ++t) {
            speak.emplace_back([&, t] {
                for (int i = 0; i != 500; ++i) {
                    c.emit("from", std::vector<int>{t, i});
                    if (i % 50 == 0)
                        c.ask<int>("buy", i, 10s,
                                   [&, i](arke::error_code why, int n) { answers += !why && n == i * 7; });
                }
            });
        }
        for (auto& t : speak) t.join();
        CHECK(eventually([&] { return heard == 2000 && answers == 40; }));
    }
    CHECK(wrong == 0);
    guard.reset();
    for (auto& t : runs) t.join();
}
