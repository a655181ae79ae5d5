#include <arke/io/acceptor.hpp>
#include <arke/server.hpp>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

TEST_CASE("metrics() tells what clients did, over all loops and endpoints") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server server{quiet(loop)};
    server->on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto other = server->endpoint("/other");
    other.on("hello", [](connection& c) { c.to(arke::all).emit("hi"); });
    server.start(2);
    {
        test::client ann{server.port()};
        test::client ben{server.port(), "/other"};
        test::client dan{server.port(), "/other"};
        ann.send("text");
        ann.send("binary", true);
        CHECK(ann.receive(2) == "text binary");
        ben.emit("hello");
        CHECK(ben.receive() == "hi;0;");
        CHECK(dan.receive() == "hi;0;");
        raw_client http{server.port()};
        CHECK(http.get("/nowhere").status == 404);
        CHECK(http.get("/arke.js").status == 200);
        raw_client foreign{server.port()};
        CHECK(foreign
                  .get("/", {{"Upgrade", "websocket"},
                             {"Connection", "Upgrade"},
                             {"Sec-WebSocket-Version", "13"},
                             {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
                             {"Origin", "https://elsewhere.example"}})
                  .status == 403);
        const auto now = server->metrics();
        CHECK(now.connections == 3);
        CHECK(now.loops.size() == 2);
        CHECK(now.accepted == 5);
        CHECK(now.answered(101) == 3);
        CHECK(now.answered(200) == 1);
        CHECK(now.answered(404) == 1);
        CHECK(now.answered(403) == 1);
        CHECK(now.received.texts == 1);
        CHECK(now.received.binaries == 1);
        CHECK(now.received.events == 1);
        CHECK(now.sent.events == 2);
        CHECK(now.sent.texts == 1);
        CHECK(now.sent.binaries == 1);
        ann.close();
    }
    CHECK(eventually([&] { return server->metrics().sockets == 0; }));
    const auto end = server->metrics();
    CHECK(end.connections == 0);
    CHECK(end.closed.by_peer == 1);
    CHECK(end.closed.broken == 2);
}

TEST_CASE("metrics_path answers with the text for Prometheus, and only there") {
    config settings = quiet(GENERATE(from_range(all_loops())));
    SECTION("where it is set") {
        settings.listener.metrics_path = "/metrics";
        running_server server{settings};
        server.start();
        test::client ann{server.port()};
        raw_client http{server.port()};
        const auto answer = http.get("/metrics");
        CHECK(answer.status == 200);
        CHECK(answer["content-type"] == "text/plain; version=0.0.4; charset=utf-8");
        CHECK(answer.body.find("\narke_connections 1\n") != std::string::npos);
        CHECK(http.get("/metrics", {}, "HEAD").body == "");
        CHECK(http.get("/metrics", {}, "DELETE").status == 405);
        CHECK(http.get("/metrics/x").status == 404);
    }
    SECTION("off by default") {
        running_server server{settings};
        server.start();
        raw_client http{server.port()};
        CHECK(http.get("/metrics").status == 404);
    }
}

TEST_CASE("an address has max_connections_per_address connections and not one more, until one goes") {
    config settings = quiet(GENERATE(from_range(all_loops())));
    settings.listener.max_connections_per_address = 3;
    running_server server{settings};
    server.start(2);
    test::client ann{server.port()};
    test::client ben{server.port()};
    raw_client page{server.port()};
    CHECK(page.get("/nowhere").status == 404);
    const auto answer = within_a_second([&] {
        raw_client fourth{server.port()};
        auto heard = fourth.get("/nowhere");
        CHECK(fourth.ends());
        return heard;
    });
    CHECK(answer.status == 429);
    CHECK(answer["retry-after"] == "30");
    CHECK(within_a_second([&] { return test::client{server.port()}.status(); }) == 429);
    SECTION("a page goes") { page.drop(); }
    SECTION("a WebSocket goes") { ann.close(); }
    SECTION("one goes without a word") { ben.drop(); }
    // The places of those who were refused are given back in their own time.
    CHECK(eventually([&] { return test::client{server.port()}.status() == 101; }));
}

#ifdef __linux__

TEST_CASE("one address past its bound takes eight places more at the most, and the others are served") {
    // Those who were to be refused counted for no address: one that said nothing took all of max_connections.
    config settings = quiet(GENERATE(from_range(all_loops())));
    settings.listener.max_connections = 20;
    settings.listener.max_connections_per_address = 3;
    settings.listener.handshake_timeout = 60s;
    running_server server{settings};
    server.start(2);
    std::vector<std::unique_ptr<raw_client>> silent;
    for (int i = 0; i != 60; ++i) silent.push_back(std::make_unique<raw_client>(server.port()));
    // By the order of accept() all of them are through when this one is.
    raw_client other{server.port(), 0, "127.0.0.2"};
    other.send(upgrade_request());
    CHECK(other.read_reply().status == 101);
    const auto now = server->metrics();
    CHECK(now.accepted == 61);
    CHECK(now.sockets <= 3 + 8 + 1);
    CHECK(now.turned_away > 0);
    // Whoever is neither served nor refused is gone at once, and the refused soon: in less than handshake_timeout.
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t i = 3; i != silent.size(); ++i) CHECK(silent[i]->read_to_end().empty());
    CHECK(std::chrono::steady_clock::now() - begin < patience);
    CHECK(eventually([&] { return server->metrics().sockets == 4; }));
}

TEST_CASE("where it is full one address takes eight of the places for those who hear so, and the others hear it too") {
    config settings = quiet(loop_kind::automatic);
    settings.listener.max_connections = 1;
    settings.listener.max_connections_per_address = 1;
    running_server server{settings};
    server.start();
    test::client one{server.port()};
    std::vector<std::unique_ptr<raw_client>> silent;
    for (int i = 0; i != 60; ++i) silent.push_back(std::make_unique<raw_client>(server.port()));
    CHECK(within_a_second([&] { return raw_client{server.port(), 0, "127.0.0.2"}.get("/").status; }) == 503);
    CHECK(server->metrics().sockets <= 1 + 8 + 1);
    CHECK(server->metrics().turned_away > 0);
}

#endif

TEST_CASE("while more waits for all than may, new ones hear 503, and then the largest is cut") {
    config settings = quiet(GENERATE(from_range(all_loops())), {.max_outbox_bytes = 64UL << 20U});
    settings.listener.max_total_outbox_bytes = 1UL << 20U;
    running_server server{settings};
    std::promise<void> waits;
    std::promise<void> go;
    server->on("much", [&](connection& c) {
        c.emit_message(std::string(32UL << 20U, 'x'));
        waits.set_value();
        // Nobody is cut before the turn is over.
        go.get_future().wait_for(patience);
    });
    server.start(2);
    // The first loop has the acceptor; the second connection is the other's.
    test::client first{server.port()};
    raw_client slow{server.port(), 4096};
    slow.send(upgrade_request());
    slow.read_until("\r\n\r\n");
    slow.send(masked_frame(0x81, "iris-websocket-message:much;0;"));
    REQUIRE(waits.get_future().wait_for(patience) == std::future_status::ready);
    CHECK(server->metrics().outbox_bytes > 1UL << 20U);
    const auto answer = raw_client{server.port()}.get("/nowhere");
    CHECK(answer.status == 503);
    CHECK(answer["retry-after"] != "");
    go.set_value();
    CHECK(eventually([&] { return server->metrics().outbox_bytes == 0; }));
    CHECK(eventually([&] { return server->metrics().closed.outbox_full == 1; }));
    CHECK(raw_client{server.port()}.get("/nowhere").status == 404);
}

TEST_CASE("who is refused at the end of the handshake is a connection until the socket is closed") {
    running_server server{named(GENERATE(from_range(all_loops())), {.on_duplicate_id = duplicate_id::refuse})};
    server->on_message([](connection& c, message_view m) { c.emit_message(m); });
    server.start();
    test::client ann{server.port(), "/?id=ann"};
    raw_client other{server.port()};
    other.send(upgrade_request("/?id=ann"));
    CHECK(other.read_until("\r\n\r\n").starts_with("HTTP/1.1 409"));
    // What was made for it and not taken has gone when the next is served.
    ann.send("next");
    CHECK(ann.receive() == "next");
    CHECK(server->metrics().sockets == 2);
    other.drop();
    CHECK(eventually([&] { return server->metrics().sockets == 1; }));
}
