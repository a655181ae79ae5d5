#include <arke/server.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

namespace {

using client_ptr = std::unique_ptr<test::client>;

std::vector<client_ptr> connect(running_server& server, std::size_t count) {
    std::vector<client_ptr> clients;
    for (std::size_t i = 0; i != count; ++i) clients.push_back(std::make_unique<test::client>(server.port()));
    return clients;
}

}  // namespace

TEST_CASE("a stop that is spread tells peers one after another, and serves the others meanwhile") {
    const auto loop = GENERATE(from_range(all_loops()));
    config settings = quiet(loop);
    settings.listener.stop_timeout = 10s;
    settings.listener.stop_spread = 400ms;
    running_server server{settings};
    server->on_message([](connection& c, message_view m) { c.emit_message(m); });
    journal gone;
    server->on_disconnect(
        [&](connection&, close_code code, std::string_view) { gone.add(std::to_string(static_cast<int>(code))); });
    server.start(GENERATE(1U, 2U));
    auto clients = connect(server, 40);
    const auto began = steady::now();
    server->stop();
    std::vector<double> told;
    bool somebody_was_served = false;
    for (auto& c : clients) {
        // Whoever was not told yet gets an answer; a close that crosses the message is as good.
        if (c->send("still there?") && c->receive() == "still there?") {
            somebody_was_served = true;
            CHECK(c->receive() == "close(1001 the server stops)");
        }
        told.push_back(std::chrono::duration<double>(steady::now() - began).count());
    }
    CHECK(server.wait() == "");
    const auto took = steady::now() - began;
    CHECK(somebody_was_served);
    CHECK(took >= 300ms);
    CHECK(took < 8s);
    CHECK(gone.size() == 40);
    CHECK(gone.text().find_first_not_of("10 ") == std::string::npos);
    CHECK(server->metrics().closed.stopping == 40);
}

TEST_CASE("what waits for a slow reader still goes out in a stop, before the goodbye") {
    config settings = quiet(GENERATE(from_range(all_loops())), {.max_outbox_bytes = 16UL << 20U});
    settings.listener.stop_timeout = 15s;
    running_server server{settings};
    server.start();
    test::client slow{server.port(), "/", {}, 4096};
    const std::string big(8UL << 20U, 'x');
    REQUIRE(eventually([&] { return server->size() == 1; }));
    server->to(arke::all).emit_message(big);
    REQUIRE(eventually([&] { return server->metrics().outbox_bytes != 0; }));
    server->stop();
    CHECK(slow.receive() == big);
    CHECK(slow.receive() == "close(1001 the server stops)");
    CHECK(server.wait() == "");
}

TEST_CASE("a peer that does not answer is cut at the stop's own deadline, and a second call shortens it") {
    const auto loop = GENERATE(from_range(all_loops()));
    config settings = quiet(loop);
    settings.listener.stop_timeout = 60s;
    settings.close_timeout = 60s;
    running_server server{settings};
    server.start();
    raw_client silent{server.port()};
    silent.send(upgrade_request());
    CHECK(silent.read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    REQUIRE(eventually([&] { return server->size() == 1; }));
    const auto began = steady::now();
    SECTION("by its argument") { server->stop(100ms); }
    SECTION("by a second call") {
        server->stop();
        server->stop(100ms);
    }
    SECTION("by a second call that is spread still longer, and so changes nothing but the deadline") {
        server->stop(50s, 40s);
        server->stop(100ms, 40s);
    }
    SECTION("at once") { server->stop(0ms); }
    CHECK(server.wait() == "");
    CHECK(steady::now() - began < 10s);
    // Told, and then cut.
    const auto end = silent.read_to_end();
    CAPTURE(end);
    CHECK(end.find("the server stops") != std::string::npos);
    CHECK(end.find("timeout") == std::string::npos);
}

TEST_CASE("a call that gives more time than the first changes nothing") {
    config settings = quiet(loop_kind::automatic);
    settings.close_timeout = 60s;
    running_server server{settings};
    server.start();
    raw_client silent{server.port()};
    silent.send(upgrade_request());
    silent.read_until("\r\n\r\n");
    REQUIRE(eventually([&] { return server->size() == 1; }));
    const auto began = steady::now();
    server->stop(100ms);
    server->stop(60s);
    CHECK(server.wait() == "");
    CHECK(steady::now() - began < 10s);
}

TEST_CASE("while a stop is spread nobody new comes in") {
    config settings = quiet(GENERATE(from_range(all_loops())));
    settings.listener.stop_timeout = 20s;
    settings.listener.stop_spread = 300ms;
    running_server server{settings};
    server.start();
    auto clients = connect(server, 4);
    raw_client waiting{server.port()};
    CHECK(waiting.get("/nowhere").status == 404);
    server->stop();
    // The connection that was there is told 503 or finds its end; a new one finds no listener.
    waiting.send(upgrade_request());
    const auto answer = waiting.read_reply().status;
    CHECK((answer == 503 || answer == 0));
    const auto connects = [&] {
        try {
            raw_client late{server.port()};
            return late.get("/").status != 0;
        } catch (const boost::system::system_error&) {
            return false;
        }
    };
    CHECK(eventually([&] { return !connects(); }));
    for (auto& c : clients) CHECK(c->receive() == "close(1001 the server stops)");
    CHECK(server.wait() == "");
}

TEST_CASE("stop works from a handler, spread, and in the midst of a turn that goes on") {
    config settings = quiet(GENERATE(from_range(all_loops())));
    running_server server{settings};
    server->on_message([&](connection& c, message_view m) {
        server->stop(5s, 50ms);
        c.emit_message(m);
    });
    server.start(2);
    auto clients = connect(server, 6);
    clients.front()->send("stop");
    CHECK(clients.front()->receive() == "stop");
    for (auto& c : clients) CHECK(c->receive() == "close(1001 the server stops)");
    CHECK(server.wait() == "");
}

TEST_CASE("a second SIGTERM cuts at once") {
    config settings = quiet(loop_kind::automatic);
    settings.listener.stop_on_signals = true;
    settings.listener.stop_timeout = 60s;
    settings.close_timeout = 60s;
    running_server server{settings};
    server.start();
    raw_client silent{server.port()};
    silent.send(upgrade_request());
    silent.read_until("\r\n\r\n");
    REQUIRE(eventually([&] { return server->size() == 1; }));
    const auto began = steady::now();
    std::raise(SIGTERM);
    REQUIRE(eventually([&] { return server->metrics().closed.stopping == 1; }));
    std::raise(SIGTERM);
    CHECK(server.wait() == "");
    CHECK(steady::now() - began < 15s);
}

TEST_CASE("a server is destroyed, and its io_context, in the midst of a stop that is spread") {
    auto context = std::make_unique<boost::asio::io_context>();
    auto owner = std::make_unique<arke::server>(*context, quiet(GENERATE(from_range(all_loops()))));
    owner->listen("127.0.0.1", 0);
    const auto port = owner->port();
    std::thread running{[&] { context->run(); }};
    std::vector<client_ptr> clients;
    for (int i = 0; i != 8; ++i) clients.push_back(std::make_unique<test::client>(port));
    owner->stop(10s, 5s);
    SECTION("the server first") {
        owner.reset();
        context->stop();
        running.join();
        context.reset();
    }
    SECTION("the io_context stops first") {
        context->stop();
        running.join();
        owner.reset();
        context.reset();
    }
    SECTION("the io_context goes first") {
        context->stop();
        running.join();
        context.reset();
        owner.reset();
    }
    for (auto& c : clients) {
        const auto end = c->receive();
        CHECK((end == "end" || end.starts_with("close(1001")));
    }
}
