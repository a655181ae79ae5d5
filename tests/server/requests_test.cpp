#include <arke/server.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include "tests/support/catch.hpp"
#include "tests/support/gate.hpp"
#include "tests/support/running_server.hpp"

// What needs a real executor: coroutine handlers, and ask() with the tokens of Asio. The rest is in tests/core/requests_test.cpp.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

const header_list v1{{"Sec-WebSocket-Protocol", "arke.v1"}};

asio::awaitable<void> pause_for(std::chrono::milliseconds time) {
    asio::steady_timer timer{co_await asio::this_coro::executor, time};
    co_await timer.async_wait(asio::use_awaitable);
}

/// A client that answers what it is asked, in a thread of its own, until its connection ends.
class answering_client {
public:
    explicit answering_client(std::uint16_t port, const std::string& path = "/") : client_{port, path, v1} {
        thread_ = std::thread{[this] {
            for (;;) {
                const auto heard = client_.receive();
                if (heard.starts_with("close(") || heard == "end" || heard == "timeout") return;
                if (heard[0] != 'r') continue;
                const auto id = heard.substr(2, heard.find(' ') - 2);
                const auto name = heard.substr(heard.find(' ') + 1, heard.find('\n') - heard.find(' ') - 1);
                if (name == "number") client_.send("an" + id + " 42");
                if (name == "echo") client_.send("as" + id + " " + heard.substr(heard.find('\n') + 1));
                if (name == "refuse") client_.send("f" + id + " refused\nsold out");
                if (name == "leave") return client_.drop();
            }
        }};
    }
    ~answering_client() { thread_.join(); }
    answering_client(const answering_client&) = delete;
    answering_client& operator=(const answering_client&) = delete;

private:
    client client_;
    std::thread thread_;
};

std::string message_of(errc what) { return make_error_code(what).message(); }

/// What an awaited or future ask comes to.
template <class F>
std::string outcome(F&& f) {
    try {
        return f();
    } catch (const boost::system::system_error& e) {
        return e.code().message();
    }
}

}  // namespace

TEST_CASE("the subprotocol arke.v1 is chosen where a client offers it, and only there") {
    running_server net{quiet(GENERATE(from_range(all_loops())), {.subprotocols = {"other"}})};
    net->on("buy", [](int n) { return n * 7; });
    net->on("tell", [](connection& c) { c.emit("told", 1); });
    net.start();
    client modern{net.port(), "/", {{"Sec-WebSocket-Protocol", "arke.v1, other"}}};
    CHECK(modern.response_header("Sec-WebSocket-Protocol") == "arke.v1");
    modern.send("rn1 buy\n6");
    modern.send("evtell\n");
    CHECK(modern.receive(2) == "an1 42 entold\n1");
    client other{net.port(), "/", {{"Sec-WebSocket-Protocol", "other, arke.v1"}}};
    CHECK(other.response_header("Sec-WebSocket-Protocol") == "other");
    other.emit("tell");
    CHECK(other.receive() == "told;1;1");
    client page{net.port()};
    page.emit("tell");
    CHECK(page.receive() == "told;1;1");
}

TEST_CASE("a coroutine handler answers when it ends: a value, a refusal, nothing, or that it threw") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("buy", [](connection&, int n) -> asio::awaitable<int> {
        co_await pause_for(1ms);
        co_return n * 7;
    });
    net->on("wish", [](std::string what) -> asio::awaitable<answer<std::string>> {
        co_await pause_for(1ms);
        if (what == "moon") co_return refuse("sold out");
        co_return what;
    });
    net->on("do", [](connection&) -> asio::awaitable<void> { co_await pause_for(1ms); });
    net->on("throw", []() -> asio::awaitable<int> {
        co_await pause_for(1ms);
        throw std::runtime_error{"secret"};
    });
    net->on("at once", []() -> asio::awaitable<int> { co_return 1; });
    net.start();
    client c{net.port(), "/", v1};
    const auto asked = [&](const std::string& frame) {
        c.send(frame);
        return c.receive();
    };
    CHECK(asked("rn1 buy\n6") == "an1 42");
    CHECK(asked("rs1 wish\nmoon") == "f1 refused\nsold out");
    CHECK(asked("rs1 wish\ntea") == "as1 tea");
    CHECK(asked("rv1 do\n") == "av1 ");
    CHECK(asked("rv1 throw\n") == "f1 failed\n");
    CHECK(asked("rv1 at once\n") == "an1 1");
    CHECK(asked("rs1 buy\nsix") == "f1 wrong-type\n\"six\" is not an integer");
}

// Such a request was never answered, and counted as running for ever.
TEST_CASE("a handler that throws before there is a coroutine has failed, and leaves nothing behind") {
    running_server net{quiet(GENERATE(from_range(all_loops())), {.max_requests = 2})};
    net->on("buy", [](int n) -> asio::awaitable<int> {
        if (n < 0) throw std::invalid_argument{"negative"};
        return [](int m) -> asio::awaitable<int> { co_return m * 7; }(n);
    });
    net.start();
    client c{net.port(), "/", v1};
    for (int i = 0; i != 3; ++i) {
        c.send("rn1 buy\n-1");
        CHECK(c.receive() == "f1 failed\n");
    }
    c.send("rn1 buy\n6");
    CHECK(c.receive() == "an1 42");
}

TEST_CASE("a coroutine that is dropped where it waits has failed, and leaves nothing behind") {
    running_server net{quiet(GENERATE(from_range(all_loops())), {.max_requests = 2})};
    journal heard;
    net->on("wait", []() -> asio::awaitable<int> {
        co_await asio::async_initiate<const asio::use_awaitable_t<>&, void()>(
            [](auto handler) {
                const auto on = handler.get_executor();
                asio::post(on, [h = std::make_unique<decltype(handler)>(std::move(handler))]() mutable { h.reset(); });
            },
            asio::use_awaitable);
        co_return 1;
    });
    net->on_error([&](const error_report& e) { heard.add(std::string{e.event} + ": " + std::string{e.detail}); });
    net.start();
    client c{net.port(), "/", v1};
    for (int i = 0; i != 3; ++i) {
        c.send("rv1 wait\n");
        CHECK(c.receive() == "f1 failed\n");
    }
    CHECK(heard.size() == 3);
    CHECK(heard.text().starts_with("wait: the coroutine was destroyed before its end"));
}

// The first coroutine answered, though it had nothing to say.
TEST_CASE(
    "of several coroutine handlers the one that returns a value answers; a failure is told before that all is done") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("at once", [](int) -> asio::awaitable<void> { co_return; });
    net->on("at once", [](int n) -> asio::awaitable<int> { co_return n * 7; });
    net->on("later", [](int) -> asio::awaitable<void> { co_await pause_for(1ms); });
    net->on("later", [](int n) -> asio::awaitable<int> {
        co_await pause_for(5ms);
        co_return n * 7;
    });
    net->on("own", [](int) -> asio::awaitable<void> { co_await pause_for(1ms); });
    net->on_connection([](connection& c) { c.on("own", [](int n) { return n * 7; }); });
    net->on("fails", [](int) -> asio::awaitable<void> { co_await pause_for(1ms); });
    net->on("fails", [](int) { throw std::runtime_error{"no"}; });
    net->on("value", [](int n) -> asio::awaitable<int> {
        co_await pause_for(1ms);
        co_return n * 7;
    });
    net->on("value", [](int) { throw std::runtime_error{"no"}; });
    net.start();
    client c{net.port(), "/", v1};
    for (const auto& [event, answer] :
         std::initializer_list<std::pair<std::string, std::string>>{{"at once", "an1 42"},
                                                                    {"later", "an1 42"},
                                                                    {"own", "an1 42"},
                                                                    {"fails", "f1 failed\n"},
                                                                    {"value", "an1 42"}}) {
        INFO(event);
        c.send("rn1 " + event + "\n6");
        CHECK(c.receive() == answer);
    }
}

TEST_CASE("coroutine handlers of one connection overlap, and the one that ends first answers first") {
    gate opened;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("wait", [&](connection&, int n) -> asio::awaitable<int> {
        co_await opened.wait();
        co_return n;
    });
    net->on("sleep", [](connection&, int ms) -> asio::awaitable<int> {
        co_await pause_for(std::chrono::milliseconds{ms});
        co_return ms;
    });
    net.start();
    client c{net.port(), "/", v1};
    c.send("rn1 wait\n400");
    c.send("rn2 sleep\n1");
    CHECK(c.receive() == "an2 1");
    c.send("rn1 sleep\n1");  // its number is still in use: reported, and not answered
    c.send("l1 room");
    c.send("rn3 sleep\n1");
    CHECK(c.receive() == "an3 1");
    opened.open();
    CHECK(c.receive() == "an1 400");
}

TEST_CASE("at max_requests a request for a coroutine is refused as busy, an event reported; then there is room again") {
    journal heard;
    std::atomic<bool> go{false};  // a coroutine may look at it until the server is gone
    running_server net{quiet(GENERATE(from_range(all_loops())), {.max_requests = 2})};
    net->on("wait", [&](connection&) -> asio::awaitable<int> {
        while (!go) co_await pause_for(1ms);
        co_return 1;
    });
    net->on_error([&](connection&, const error_report& e) { heard.add(e.code.message()); });
    net.start();
    client c{net.port(), "/", v1};
    c.send("evwait\n");
    c.send("rv1 wait\n");
    c.send("rv2 wait\n");
    CHECK(c.receive() == "f2 busy\n");
    c.send("evwait\n");
    const auto busy = message_of(errc::too_many_requests);
    CHECK(heard.wait(2) == busy + " " + busy);
    go = true;
    CHECK(c.receive() == "an1 1");
}

TEST_CASE("a coroutine goes on after its connection's end: what it does with it has no effect, and is safe") {
    running_server net{named(GENERATE(from_range(all_loops())))};
    journal heard;
    std::atomic<bool> gone{false};
    net->on("work", [&](connection& c, std::string what) -> asio::awaitable<std::string> {
        const auto held = std::make_shared<std::string>(what);
        while (!gone) co_await pause_for(1ms);
        c.emit("late", *held);
        c.emit_message("late");
        c.to("room").emit("late", 1);
        heard.add(c.join("room") ? "joined" : "not joined");
        heard.add(c.is_connected() ? "connected" : "gone");
        heard.add(c.id() + " " + *held);
        c.disconnect();
        const auto why = co_await [](connection& of) -> asio::awaitable<std::string> {
            try {
                co_return std::to_string(co_await of.ask<int>("count", 1s));
            } catch (const boost::system::system_error& e) {
                co_return e.code().message();
            }
        }(c);
        heard.add(why);
        co_return "nobody hears this";
    });
    net->on_disconnect([&] { gone = true; });
    net.start();
    {
        client c{net.port(), "/?id=ann", v1};
        c.send("rs1 work\ntea");
        c.send("eswork\nmilk");
        c.drop();
    }
    CHECK(eventually([&] { return heard.size() == 8; }));
    CHECK(net->find("ann").is_connected() == false);
    CHECK(heard.text().find("not joined") != std::string::npos);
    CHECK(heard.text().find(message_of(errc::disconnected)) != std::string::npos);
    CHECK(heard.text().find("ann tea") != std::string::npos);
    CHECK(heard.text().find("ann milk") != std::string::npos);
}

TEST_CASE("a coroutine that awaits a slow resource while its connection closes ends well, whenever that is") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    // The resource: takes a line, and gives it back when it likes.
    asio::io_context context;
    tcp::acceptor acceptor{context, local(0)};
    const auto port = acceptor.local_endpoint().port();
    std::atomic<int> served{0};
    asio::co_spawn(
        context,
        [&]() -> asio::awaitable<void> {
            for (;;) {
                auto taken = co_await acceptor.async_accept(asio::use_awaitable);
                asio::co_spawn(
                    context,
                    [](tcp::socket s, std::atomic<int>& count) -> asio::awaitable<void> {
                        char byte = 0;
                        co_await asio::async_read(s, asio::buffer(&byte, 1), asio::use_awaitable);
                        co_await pause_for(std::chrono::milliseconds{++count % 7});
                        co_await asio::async_write(s, asio::buffer(&byte, 1), asio::use_awaitable);
                    }(std::move(taken), served),
                    asio::detached);
            }
        },
        asio::detached);
    std::thread resource{[&] { context.run(); }};

    std::atomic<int> ended{0};
    net->on("get", [&, port](connection& c, std::string key) -> asio::awaitable<std::string> {
        struct at_end {
            std::atomic<int>& count;
            ~at_end() { ++count; }
        } const counted{ended};
        tcp::socket socket{co_await asio::this_coro::executor};
        co_await socket.async_connect(local(port), asio::use_awaitable);
        co_await asio::async_write(socket, asio::buffer(key.data(), 1), asio::use_awaitable);
        char byte = 0;
        co_await asio::async_read(socket, asio::buffer(&byte, 1), asio::use_awaitable);
        c.emit("got", key);
        co_return std::string(1, byte);
    });
    net.start();
    constexpr int rounds = 40;
    for (int i = 0; i != rounds; ++i) {
        client c{net.port(), "/", v1};
        c.send("rs1 get\nk");
        if (i % 2 == 0) CHECK(c.receive() == "esgot\nk");
        if (i % 4 == 0) CHECK(c.receive() == "as1 k");
        i % 3 == 0 ? static_cast<void>(c.close()) : c.drop();
    }
    CHECK(eventually([&] { return ended == rounds; }));
    CHECK(net.stop() == "");
    context.stop();
    resource.join();
}

TEST_CASE(
    "a server that stops, or is destroyed, ends its suspended coroutines, and those who ask hear that it is over") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool destroys = GENERATE(false, true);
    std::atomic<int> begun{0};
    std::atomic<int> freed{0};
    std::future<int> asked;
    {
        running_server net{quiet(loop, {.listener = {.stop_timeout = 200ms}})};  // its client does not answer
        net->on("wait", [&](connection&) -> asio::awaitable<int> {
            struct at_end {
                std::atomic<int>& count;
                ~at_end() { ++count; }
            } const counted{freed};
            ++begun;
            co_await pause_for(1h);
            co_return 1;
        });
        net.start();
        client c{net.port(), "/", v1};
        c.send("rv1 wait\n");
        c.send("evwait\n");
        REQUIRE(eventually([&] { return begun == 2; }));
        asked = net->connections().at(0).ask<int>("count", 1h, asio::use_future);
        if (destroys) {
            net->connections().at(0).run([&](connection&) { net.owner().reset(); });
            CHECK(net.wait() == "");
        } else {
            CHECK(net.stop() == "");
        }
    }
    CHECK(freed == 2);
    CHECK(outcome([&] { return std::to_string(asked.get()); }) == message_of(errc::disconnected));
}

TEST_CASE("other threads ask by futures: the answer, or why there is none") {
    running_server net{named(GENERATE(from_range(all_loops())))};
    net.start(2);
    answering_client ann{net.port(), "/?id=ann"};
    REQUIRE(eventually([&] { return net->is_connected("ann"); }));
    const auto c = net->find("ann");
    CHECK(c.ask<int>("number", 10s, asio::use_future).get() == 42);
    CHECK(c.ask<std::string>("echo", "tea", 10s, asio::use_future).get() == "tea");
    CHECK(c.ask<answer<int>>("refuse", 10s, asio::use_future).get().why() == "sold out");
    const auto asked = [&](const char* what, std::chrono::milliseconds time) {
        return outcome([&] { return std::to_string(c.ask<int>(what, time, asio::use_future).get()); });
    };
    CHECK(asked("refuse", 10s) == message_of(errc::refused));
    CHECK(asked("silence", 1ms) == message_of(errc::ask_timeout));
    CHECK(asked("leave", 10s) == message_of(errc::disconnected));
    CHECK(asked("number", 10s) == message_of(errc::disconnected));
    CHECK(outcome([&] { return std::to_string(connection_handle{}.ask<int>("x", 1s, asio::use_future).get()); }) ==
          message_of(errc::disconnected));
}

TEST_CASE("a coroutine of the caller's own executor asks, and resumes there") {
    running_server net{named(GENERATE(from_range(all_loops())))};
    net.start();
    answering_client ann{net.port(), "/?id=ann"};
    REQUIRE(eventually([&] { return net->is_connected("ann"); }));
    asio::io_context own;
    std::string got;
    asio::co_spawn(
        own,
        [&]() -> asio::awaitable<void> {
            const auto here = std::this_thread::get_id();
            const auto c = net->find("ann");
            got = std::to_string(co_await c.ask<int>("number", 10s));
            got += " " + co_await c.ask<std::string>("echo", std::string{"tea"}, 10s);
            got += std::this_thread::get_id() == here ? " here" : " elsewhere";
            const auto votes = co_await net->to("ann", "nobody").ask<std::string>("echo", 5, 10s);
            got += " " + votes.answers.at(0).id + "=" + votes.answers.at(0).value;
            c.disconnect();
        },
        asio::detached);
    own.run();  // until nothing is asked any more: a request that is open keeps it running
    CHECK(got == "42 tea here ann=5");
}

TEST_CASE("a handler that is a coroutine asks the client back before it answers it") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("buy", [](connection& c, int n) -> asio::awaitable<answer<int>> {
        if (!co_await c.ask<bool>("sure?", n, 10s)) co_return refuse("changed its mind");
        co_return n * 7;
    });
    net.start();
    client c{net.port(), "/", v1};
    c.send("rn1 buy\n6");
    CHECK(c.receive() == "rn0 sure?\n6");
    c.send("ab0 true");
    CHECK(c.receive() == "an1 42");
    c.send("rn1 buy\n6");
    CHECK(c.receive() == "rn1 sure?\n6");
    c.send("ab1 false");
    CHECK(c.receive() == "f1 refused\nchanged its mind");
}

TEST_CASE("on_join may await before it decides") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_join([](connection&, std::string room) -> asio::awaitable<bool> {
        co_await pause_for(1ms);
        co_return room == "news";
    });
    net.start();
    client c{net.port(), "/", v1};
    c.send("j1 news");
    CHECK(c.receive() == "av1 ");
    c.send("j2 other");
    CHECK(c.receive() == "f2 refused\n");
    net->to("news").emit("flash", 1);
    CHECK(c.receive() == "enflash\n1");
    c.send("l3 news");
    CHECK(c.receive() == "av3 ");
}

TEST_CASE("rooms over several loops are asked from outside, and each member answers once") {
    running_server net{named(GENERATE(from_range(all_loops())))};
    net->on_connection([](connection& c) { c.join("jury"); });
    net.start(2);
    std::vector<std::unique_ptr<answering_client>> jury;
    for (int i = 0; i != 8; ++i)
        jury.push_back(std::make_unique<answering_client>(net.port(), "/?id=juror" + std::to_string(i)));
    REQUIRE(eventually([&] { return net->members("jury").size() == 8; }));
    auto got = net->to("jury").ask<int>("number", 10s, asio::use_future).get();
    CHECK(got.answers.size() == 8);
    CHECK(got.missing.empty());
    got = net->to("jury").except("juror0").ask<int>("leave", 10s, asio::use_future).get();
    CHECK(got.answers.empty());
    CHECK(got.missing.size() == 7);
    net->find("juror0").disconnect();
}
