#include <arke/arke.hpp>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;
using namespace std::chrono_literals;
using arke::config;
using arke::connection;

namespace {

/// What an application does with its own io_context: some threads that run it.
class application {
public:
    explicit application(unsigned threads = 0) : work_{context.get_executor()} { run(threads); }
    ~application() {
        end_work();
        join();
    }
    application(const application&) = delete;
    application& operator=(const application&) = delete;

    void run(unsigned threads) {
        for (unsigned i = 0; i != threads; ++i) threads_.emplace_back([this] { context.run(); });
    }
    void end_work() { work_.reset(); }
    void join() {
        for (auto& t : threads_) t.join();
        threads_.clear();
    }

    boost::asio::io_context context;

private:
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    std::vector<std::thread> threads_;
};

#ifdef __linux__
std::size_t open_descriptors() {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
        static_cast<void>(entry);
        ++count;
    }
    return count;
}
#endif

}  // namespace

// -------------------------------------------------------------------------------------------- what handlers may do

TEST_CASE("a handler of any kind that throws, whatever it throws, is reported, and the connection stays") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_error([&](const arke::error_report& e) {
        seen.add((e.code == arke::errc::handler_threw ? "" : "?") + std::string{e.event} + ":" + std::string{e.detail} +
                 (e.exception ? "" : "!"));
    });
    net->on_error([] { throw 1; });
    net->on_connection([] { throw std::runtime_error{"connection"}; });
    net->on("std", [] { throw std::runtime_error{"std"}; });
    net->on("int", [] { throw 7; });
    net->on("typed", [](connection&, int) { throw std::runtime_error{"typed"}; });
    net->on("typed", [](connection& c, int n) { c.emit("typed", n); });
    net->on_any([] { throw std::runtime_error{"any"}; });
    net->on_message([] { throw std::runtime_error{"message"}; });
    net->on_ping([] { throw std::runtime_error{"ping"}; });
    net->on_pong([] { throw std::runtime_error{"pong"}; });
    net->on_leave([] { throw std::runtime_error{"leave"}; });
    net->on_disconnect([] { throw std::runtime_error{"disconnect"}; });
    net->on("leave", [](connection& c) {
        c.join("tea");
        c.leave("tea");
        c.ping();
    });
    net.start();
    client one{net.port()};
    one.emit("std");
    one.emit("int");
    one.emit("unknown");
    one.send("native");
    one.ping("");
    one.emit("leave");
    one.emit("typed", "7");
    CHECK(one.receive() == "typed;1;7");
    CHECK(seen.wait(8).starts_with(
        ":connection std:std int:something that is no std::exception :any :message :ping :leave typed:typed"));
    one.emit("typed", "8");
    CHECK(one.receive() == "typed;1;8");
    one.close();
    CHECK(seen.wait(11).ends_with(":pong typed:typed :disconnect"));
    CHECK(net.stop() == "");
}

TEST_CASE("a handler disconnects its own connection; what was sent before still arrives") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("bye", [&](connection& c) {
        c.emit("last words", std::string(100'000, 'x'));
        c.disconnect(arke::close_code{4000}, "as you wish");
        c.emit("never sent");
        c.disconnect(arke::close_code{4001}, "twice");
        seen.add(c.is_connected() ? "open" : "closing");
    });
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net.start();
    client one{net.port()};
    one.emit("bye");
    one.emit("bye");
    CHECK(one.receive().size() == std::string{"last words;0;"}.size() + 100'000);
    CHECK(one.receive() == "close(4000 as you wish)");
    CHECK(seen.wait(2) == "closing 4000");
}

TEST_CASE("on_connection disconnects at once") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_connection([](connection& c) { c.disconnect(arke::close_code::policy_violation, "not today"); });
    net->on_disconnect([&] { seen.add("gone"); });
    net->on("e", [&] { seen.add("must not run"); });
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request() + masked_frame(0x81, "iris-websocket-message:e;0;"));
    CHECK(one.read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    CHECK(one.read(2 + 2 + 9) == "\x88\x0B\x03\xF0not today");
    one.send(masked_frame(0x88, "\x03\xE8"));
    CHECK(one.read_to_end() == "");
    CHECK(seen.wait(1) == "gone");
}

TEST_CASE("a member that leaves, or disconnects, while its room is told harms nobody") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_connection([](connection& c) {
        c.join("tea");
        c.emit("ready");
    });
    net->on("leave", [](connection& c) {
        c.to("tea").emit("one");
        c.leave("tea");
        c.to("tea").emit("two");
    });
    net->on("go", [](connection& c) {
        c.to("tea").emit("three");
        c.to("tea").disconnect(arke::close_code{4000});
        c.to(arke::all).emit("four");
    });
    net.start();
    client ann{net.port()};
    client bob{net.port()};
    REQUIRE(ann.receive() == "ready;0;");
    REQUIRE(bob.receive() == "ready;0;");
    ann.emit("leave");
    CHECK(ann.receive() == "one;0;");
    CHECK(bob.receive(2) == "one;0; two;0;");
    ann.emit("go");
    CHECK(bob.receive(2) == "three;0; close(4000)");
    CHECK(ann.receive() == "four;0;");
}

TEST_CASE("a handler removes itself, and the connection's other handlers, while it runs") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_connection([&](connection& c) {
        // What the handler captured must outlive its run.
        auto text = std::make_unique<std::string>("a text that is too long for the small buffer of a string");
        auto number = std::make_shared<arke::handler_id>();
        *number = c.on("e", [&c, &seen, number, text = std::move(text)] {
            c.off(*number);
            c.off("e");
            seen.add(std::to_string(text->size()));
            c.on("e", [&c] { c.emit("new one"); });
        });
        c.on("e", [&] { seen.add("must not run"); });
    });
    net.start();
    client one{net.port()};
    one.emit("e");
    one.emit("e");
    CHECK(one.receive() == "new one;0;");
    CHECK(seen.text() == "56");
}

TEST_CASE("a handler stops the server, and everybody hears 1001") {
    const unsigned threads = GENERATE(1U, 3U);
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("stop", [&](connection& c) {
        c.emit("stopping");
        net->stop();
        net->stop();
        c.emit("still here");
    });
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net->on_connection([](connection& c) { c.emit("ready"); });
    net.start(threads);
    client ann{net.port()};
    client bob{net.port()};
    REQUIRE(ann.receive() == "ready;0;");
    REQUIRE(bob.receive() == "ready;0;");
    ann.emit("stop");
    CHECK(ann.receive(3) == "stopping;0; still here;0; close(1001 the server stops)");
    CHECK(bob.receive() == "close(1001 the server stops)");
    CHECK(net.wait() == "");
    CHECK(seen.text() == "1001 1001");
    CHECK_THROWS(raw_client{net.port()});
}

TEST_CASE("a handler destroys the server") {
    const unsigned threads = GENERATE(1U, 2U);
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("end", [&](connection& c) {
        net.owner().reset();
        c.emit("destroyed");
        c.to(arke::all).emit("everybody");
        c.join("tea");
        c.to("tea").emit("tea");
    });
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net.start(threads);
    client one{net.port()};
    one.emit("end");
    CHECK(one.receive(4) == "destroyed;0; everybody;0; tea;0; close(1001 the server stops)");
    CHECK(net.wait() == "");
    CHECK(seen.wait(1) == "1001");
}

TEST_CASE("on_connection destroys the server") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_connection([&](connection& c) {
        net.owner().reset();
        c.emit("destroyed");
    });
    net.start();
    client one{net.port()};
    CHECK(one.receive(2) == "destroyed;0; close(1001 the server stops)");
    CHECK(net.wait() == "");
}

TEST_CASE("on_disconnect destroys the server") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_disconnect([&] { net.owner().reset(); });
    net.start();
    {
        client one{net.port()};
        one.drop();
    }
    CHECK(net.wait() == "");
}

TEST_CASE("a handler's captures are freed on the loop, after on_disconnect") {
    journal seen;
    struct tattler {
        explicit tattler(journal& j) : to{j} {}
        ~tattler() { to.add("freed"); }
        tattler(const tattler&) = delete;
        tattler& operator=(const tattler&) = delete;
        journal& to;
    };
    arke::connection_handle kept;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_connection([&](connection& c) {
        kept = c.handle();
        c.on("e", [t = std::make_shared<tattler>(seen)] {});
        c.on_disconnect([&seen, mine = c.handle()] { seen.add("gone"); });
        c.emit("ready");
    });
    net.start();
    client one{net.port()};
    REQUIRE(one.receive() == "ready;0;");
    one.drop();
    CHECK(seen.wait(2) == "gone freed");  // although a handle is still kept
}

// --------------------------------------------------------------------------------------------------- threads and stop

TEST_CASE("work posted to get_executor runs one at a time with the handlers") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("later", [&](connection& c) {
        const auto handle = c.handle();
        boost::asio::post(c.get_executor(), [handle, &seen] {
            handle.run([&](connection& me) {
                me.join("tea");
                me.emit("later", me.is_joined("tea"));
            });
            handle.join("cake");
            handle.emit("last");
            seen.add("posted");
        });
        c.emit("first");
    });
    net.start(2);
    client one{net.port()};
    one.emit("later");
    CHECK(one.receive(3) == "first;0; later;2;true last;0;");
    CHECK(seen.wait(1) == "posted");
}

TEST_CASE("what runs on the executor uses a connection as a handler does: what it says of rooms is true at once") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_leave([&](connection&, std::string_view room) { seen.add("left:" + std::string{room}); });
    net->on("later", [&](connection& c) {
        boost::asio::post(c.get_executor(), [&c, &seen] {
            seen.add(c.join("tea") ? "in" : "not in");
            seen.add(c.leave("tea") ? "out" : "was not in");
            seen.add(c.leave("tea") ? "out" : "was not in");
        });
    });
    net.start();
    client one{net.port()};
    one.emit("later");
    CHECK(seen.wait(4) == "in left:tea out was not in");
}

TEST_CASE("stop() before listen, before run, twice and from another thread") {
    const auto loop = GENERATE(from_range(all_loops()));
    SECTION("before listen") {
        arke::server server{quiet(loop)};
        server.stop();
        server.stop();
        server.run();
    }
    SECTION("before run") {
        arke::server server{quiet(loop)};
        server.listen("127.0.0.1", 0);
        server.stop();
        server.run(2);
    }
    SECTION("without run") {
        arke::server server{quiet(loop)};
        server.listen("127.0.0.1", 0);
        server.stop();
    }
    SECTION("never") {
        arke::server server{quiet(loop)};
        server.listen("127.0.0.1", 0);
    }
    SECTION("with nobody there") {
        running_server net{quiet(loop)};
        net.start(2);
        CHECK(net.stop() == "");
        net->stop();
    }
    SECTION("from several threads") {
        running_server net{quiet(loop)};
        net.start(2);
        client one{net.port()};
        std::vector<std::thread> threads;
        for (int i = 0; i != 4; ++i) threads.emplace_back([&] { net->stop(); });
        CHECK(one.receive() == "close(1001 the server stops)");
        for (auto& t : threads) t.join();
        CHECK(net.wait() == "");
    }
    SECTION("while run() begins") {
        for (int i = 0; i != 20; ++i) {
            arke::server server{quiet(loop)};
            std::thread other{[&] { server.stop(); }};
            server.run(3);
            other.join();
        }
    }
}

TEST_CASE("other threads speak and look around while run(4) begins") {
    // run() added loops while target::emit() walked them.
    const auto loop = GENERATE(from_range(all_loops()));
    for (int i = 0; i != 20; ++i) {
        arke::server server{quiet(loop)};
        std::atomic<bool> done{false};
        std::thread other{[&] {
            do {
                server.to(arke::all).emit("x");
                server.to("room").emit("x");
                static_cast<void>(server.members("room"));
                static_cast<void>(server.rooms());
            } while (!done);
            server.stop();
        }};
        server.listen("127.0.0.1", 0);
        std::thread stopper{[&] { done = true; }};
        server.run(4);
        stopper.join();
        other.join();
    }
}

TEST_CASE("handles speak from other threads while the server stops") {
    // A loop that ended took its strand away from under a thread that asked it whose turn it is.
    const auto loop = GENERATE(from_range(all_loops()));
    for (int round = 0; round != 5; ++round) {
        running_server net{quiet(loop, {.listener = {.stop_timeout = 20ms}})};
        net->on_connection([](connection& c) { c.emit("ready"); });
        net.start(2);
        client one{net.port()};
        REQUIRE(one.receive() == "ready;0;");
        const auto handles = net->connections();
        std::atomic<bool> done{false};
        std::vector<std::thread> threads;
        for (int i = 0; i != 4; ++i) {
            threads.emplace_back([&] {
                while (!done) {
                    for (const auto& h : handles) {
                        h.emit("x", 1);
                        h.join("tea");
                        h.disconnect();
                    }
                    net->to(arke::all).emit("y");
                }
            });
        }
        net->stop();
        CHECK(net.wait() == "");
        done = true;
        for (auto& t : threads) t.join();
    }
}

TEST_CASE("a peer that does not answer the goodbye holds stop() up for no longer than stop_timeout") {
    auto c = quiet(GENERATE(from_range(all_loops())));
    c.listener.stop_timeout = 50ms;
    running_server net{c};
    journal seen;
    net->on_connection([](connection& c2) { c2.emit("ready"); });
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request());
    one.read_until("ready;0;");
    raw_client halfway{net.port()};
    halfway.send("GET / HTTP/1.1\r\n");
    net->stop();
    CHECK(net.wait() == "");
    CHECK(seen.text() == "1001");
    CHECK(one.ends());
    CHECK(halfway.ends());
}

TEST_CASE("SIGTERM ends run() as stop() does") {
    auto c = quiet(GENERATE(from_range(all_loops())));
    c.listener.stop_on_signals = true;
    journal seen;
    running_server net{c};
    net->on_connection([&](connection& c2) {
        seen.add("here");
        c2.emit("ready");
    });
    net.start(2);
    client one{net.port()};
    REQUIRE(one.receive() == "ready;0;");
    // What came through the kernel orders nothing for the thread sanitizer where an io_uring has sent it.
    REQUIRE(seen.wait(1) == "here");
    std::raise(GENERATE(SIGTERM, SIGINT));
    CHECK(one.receive() == "close(1001 the server stops)");
    CHECK(net.wait() == "");
}

TEST_CASE("what work on the executor throws comes out of run(), and the server has ended") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("throw",
            [](connection& c) { boost::asio::post(c.get_executor(), [] { throw std::runtime_error{"mine"}; }); });
    net.start(2);
    client one{net.port()};
    one.emit("throw");
    CHECK(net.wait() == "mine");
}

#ifdef __linux__
TEST_CASE("servers that are started and stopped a thousand times, over all loops, leak no descriptor") {
    const auto loop = GENERATE(from_range(all_loops()));
    const auto once = [&] {
        running_server net{quiet(loop)};
        net->on_connection([](connection& c) { c.emit("ready"); });
        net.start();
        raw_client one{net.port()};
        one.send(upgrade_request());
        one.read_until("ready;0;");
        raw_client two{net.port()};
        one.drop();
    };
    once();
    const auto before = open_descriptors();
    for (std::size_t i = 0; i <= 1000 / all_loops().size(); ++i) once();
    CHECK(open_descriptors() == before);
}
#endif

// ------------------------------------------------------------------------------------------- inside a caller's context

TEST_CASE("a server lives in a caller's io_context, beside the caller's own timers") {
    const unsigned threads = GENERATE(1U, 4U);
    journal seen;
    application app;
    auto server = std::make_unique<arke::server>(app.context, quiet(GENERATE(from_range(all_loops()))));
    server->on("echo", [](connection& c, std::string v) { c.to(arke::all).emit("echo", v); });
    server->listen("127.0.0.1", 0);
    const auto port = server->port();
    boost::asio::steady_timer timer{app.context, 1ms};
    timer.async_wait([&](const boost::system::error_code&) { seen.add("timer"); });
    app.run(threads);
    {
        client one{port};
        client two{port};
        for (int i = 0; i != 20; ++i) {
            one.emit("echo", std::to_string(i));
            CHECK(one.receive() == "echo;0;" + std::to_string(i));
            CHECK(two.receive() == "echo;0;" + std::to_string(i));
        }
        CHECK(seen.wait(1) == "timer");
        SECTION("stopped first") {
            server->stop();
            CHECK(one.receive() == "close(1001 the server stops)");
            CHECK(two.receive() == "close(1001 the server stops)");
        }
        SECTION("destroyed while the context runs") {
            server.reset();
            CHECK(one.receive() == "close(1001 the server stops)");
            CHECK(two.receive() == "close(1001 the server stops)");
        }
        SECTION("destroyed after the context was stopped") {
            app.context.stop();
            app.join();
            server.reset();
        }
        SECTION("stopped, then the context is stopped before all is said") {
            server->stop();
            app.context.stop();
            app.join();
        }
        SECTION("destroyed, and the context run once more") {
            app.context.stop();
            app.join();
            server.reset();
            app.context.restart();
            app.run(1);
            CHECK(one.receive() == "close(1001 the server stops)");
        }
    }
}

TEST_CASE("a server whose io_context never runs, or is destroyed in the middle, leaves nothing behind") {
    const auto loop = GENERATE(from_range(all_loops()));
    auto context = std::make_unique<boost::asio::io_context>();
    auto server = std::make_unique<arke::server>(*context, quiet(loop));
    auto endpoint = server->endpoint("/other");
    std::vector<arke::connection_handle> kept;
    const auto token = std::make_shared<int>();
    endpoint.on_connection([&](connection& c) {
        c.join("tea");
        // The connection owns the handler, and the handler a handle: nobody but the server's end breaks that ring.
        c.on("e", [token, mine = c.handle()] {});
        kept.push_back(c.handle());
    });
    server->listen("127.0.0.1", 0);
    raw_client one{server->port()};
    one.send(upgrade_request("/other"));
    SECTION("never runs") {}
    SECTION("runs until somebody is there") {
        while (kept.empty()) context->run_one();
        CHECK(endpoint.size() == 1);
        CHECK(token.use_count() == 2);
    }
    SECTION("runs until somebody is there, and is stopped") {
        while (kept.empty()) context->run_one();
        server->stop();
    }
    server.reset();
    context.reset();
    // Peers that were cut with their loop left their names in the rooms.
    CHECK(endpoint.members("tea").empty());
    CHECK(endpoint.rooms().empty());
    CHECK(endpoint.size() == 0);
    CHECK(endpoint.connections().empty());
    CHECK(token.use_count() == 1);
    endpoint.to("tea").emit("x");
    for (const auto& h : kept) {
        CHECK_FALSE(h.is_connected());
        h.emit("x");
        h.disconnect();
    }
    CHECK(one.ends());
}
