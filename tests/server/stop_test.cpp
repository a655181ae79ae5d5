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
    settings.listener.stop_spread = 1s;
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
    // Where this machine stood still until most had been told, nobody could be.
    CHECK((somebody_was_served || told.front() > 0.5));
    CHECK(took >= 750ms);
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

TEST_CASE(
    "stop() while two hundred send: each hears 1001, it is done by its deadline, and no handler runs afterwards") {
    constexpr std::size_t polite = 160;    // each waits for its echo
    constexpr std::size_t talkative = 40;  // these send, and read only when it is over
    constexpr std::size_t many = polite + talkative;
    config settings = quiet(GENERATE(from_range(all_loops())), {.max_outbox_bytes = 64UL << 20U});
    settings.listener.stop_timeout = 60s;
    settings.close_timeout = 60s;
    running_server server{settings};
    // Whoever is called says whether it was too late.
    std::atomic<bool> over{false};
    std::atomic<int> too_late{0};
    std::atomic<std::size_t> connected{0};
    std::atomic<std::size_t> gone{0};
    std::atomic<std::size_t> stopped{0};
    std::atomic<std::size_t> messages{0};
    const auto note = [&] { too_late += over ? 1 : 0; };
    server->on_connection([&](connection& c) {
        note();
        ++connected;
        c.join("all");
    });
    server->on_message([&](connection& c, message_view m) {
        note();
        c.emit_message(m);
        if (++messages % 50 == 0) c.to("all").emit("news", 1);
    });
    server->on_ping([&] { note(); });
    server->on_leave([&] { note(); });
    server->on_error([&](const error_report&) { note(); });
    server->on_disconnect([&](connection&, close_code code, std::string_view) {
        note();
        ++gone;
        stopped += code == close_code::going_away ? 1 : 0;
    });
    server.start(GENERATE(1U, 2U));

    auto clients = connect(server, polite);
    std::vector<std::unique_ptr<raw_client>> talkers;
    for (std::size_t i = 0; i != talkative; ++i) {
        talkers.push_back(std::make_unique<raw_client>(server.port()));
        talkers.back()->send(upgrade_request());
        REQUIRE(talkers.back()->read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    }
    std::atomic<bool> stopping{false};
    std::atomic<std::size_t> told{0};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t != 3; ++t) {
        threads.emplace_back([&, t] {
            std::vector<test::client*> mine;
            for (std::size_t i = t; i < polite; i += 3) mine.push_back(clients[i].get());
            while (!mine.empty()) {
                for (auto* c : mine) c->send("x");
                std::erase_if(mine, [&](auto* c) {
                    const auto heard = c->receive();
                    told += heard == "close(1001 the server stops)" ? 1 : 0;
                    return heard.starts_with("close(") || heard == "end" || heard == "timeout";
                });
            }
        });
    }
    threads.emplace_back([&] {
        const auto burst = masked_frame(0x81, "one") + masked_frame(0x81, "two") + masked_frame(0x89, "?");
        while (!stopping) {
            for (auto& c : talkers) c->send(burst);
        }
        for (auto& c : talkers) {
            told += c->read_until("the server stops").ends_with("the server stops") ? 1 : 0;
            c->send(masked_frame(0x88, "\x03\xE9"));
        }
        for (auto& c : talkers) {
            c->read_to_end();
            c->drop();
        }
    });
    CHECK(eventually([&] { return messages > 10 * many; }));
    const auto began = steady::now();
    server->stop();
    stopping = true;
    CHECK(server.wait() == "");
    over = true;
    const auto took = steady::now() - began;
    const auto handled = messages.load();
    for (auto& t : threads) t.join();
    CHECK(told == many);
    CHECK(took < 60s + 5s);
    CHECK(connected == many);
    CHECK(gone == many);
    CHECK(stopped == many);
    CHECK(server->metrics().closed.stopping == many);
    CHECK(server->size() == 0);
    server.owner().reset();
    CHECK(messages == handled);
    CHECK(too_late == 0);
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
