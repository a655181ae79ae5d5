#include <arke/arke.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;
using namespace std::chrono_literals;
using arke::config;
using arke::connection;

TEST_CASE("two endpoints on one port have handlers, connections, rooms and configs of their own") {
    running_server net{named(GENERATE(from_range(all_loops())), {.endpoint = "/one"})};
    auto other = net->endpoint("/two", {.max_message_size = 40,
                                        .id_generator = [](const arke::request&) { return "ann"; },
                                        .log = [](std::string_view) {}});
    net->on("where", [](connection& c) { c.emit("one"); });
    other.on("where", [](connection& c) { c.emit("two"); });
    net->on_connection([](connection& c) { c.join("tea"); });
    other.on_connection([](connection& c) { c.join("tea"); });
    net.start(2);
    client one{net.port(), "/one?id=ann"};
    client two{net.port(), "/two"};
    one.emit("where");
    CHECK(one.receive() == "one;0;");
    two.emit("where");
    CHECK(two.receive() == "two;0;");
    net->to("tea").emit("to one");
    other.to("tea").emit("to two");
    net->to("ann").emit("end");
    other.to("ann").emit("end");
    CHECK(one.receive(2) == "to one;0; end;0;");
    CHECK(two.receive(2) == "to two;0; end;0;");
    CHECK(net->size() == 1);
    CHECK(other.size() == 1);
    one.send(std::string(100, 'x'));
    two.send(std::string(100, 'x'));
    CHECK(two.receive() == "close(1009 a message over max_message_size)");
    one.emit("where");
    CHECK(one.receive() == "one;0;");
    client neither{net.port(), "/three"};
    CHECK(neither.status() == 404);
}

TEST_CASE("an endpoint is usable, and says so that nobody is there, after its server is gone") {
    auto server = std::make_unique<arke::server>(quiet(GENERATE(from_range(all_loops()))));
    auto other = server->endpoint("/two");
    server.reset();
    other.to(arke::all).emit("x");
    other.to("room").emit("x");
    CHECK(other.size() == 0);
    CHECK(other.members("room").empty());
    CHECK(other.connections().empty());
    CHECK_FALSE(other.join("a", "b"));
}

TEST_CASE("several servers listen on several ports, one server on several") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server first{quiet(loop)};
    running_server second{quiet(loop)};
    first->on("who", [](connection& c) { c.emit("first"); });
    second->on("who", [](connection& c) { c.emit("second"); });
    first->listen("127.0.0.1", 0);
    const auto extra = first->port();
    first.start();
    second.start();
    CHECK(extra != 0);
    CHECK(extra != first.port());
    CHECK(first.port() != second.port());
    const std::vector<std::pair<std::uint16_t, std::string>> table{
        {extra, "first;0;"}, {first.port(), "first;0;"}, {second.port(), "second;0;"}};
    for (const auto& [port, answer] : table) {
        client one{port};
        one.emit("who");
        CHECK(one.receive() == answer);
    }
}

TEST_CASE("listen says what is wrong with an address or a port") {
    const auto loop = GENERATE(from_range(all_loops()));
    arke::server server{quiet(loop)};
    CHECK(server.port() == 0);
    server.listen("127.0.0.1", 0);
    const auto port = server.port();
    arke::server late{quiet(loop)};
    const auto refusal = [&](const std::string& address, std::uint16_t at) -> std::string {
        try {
            late.listen(address, at);
            return "listens";
        } catch (const std::runtime_error& e) {
            return e.what();
        }
    };
    CHECK(refusal("127.0.0.1", port) ==
          "arke: cannot listen on 127.0.0.1:" + std::to_string(port) +
              ": the port is in use; stop the other server, choose another port, or 0 for any free one");
    CHECK(refusal("localhost", 0).find("\"localhost\" is no IP address; write one such as \"127.0.0.1\"") !=
          std::string::npos);
    CHECK(refusal("", 0).find("is no IP address") != std::string::npos);
    CHECK(refusal("192.0.2.1", 0).find("no interface of this machine has that address") != std::string::npos);
    CHECK(refusal("127.0.0.1", 0) == "listens");
}

TEST_CASE("two servers share a port where both ask for it") {
    auto c = quiet(GENERATE(from_range(all_loops())));
    c.listener.reuse_port = true;
    arke::server first{c};
    arke::server second{c};
    first.listen("127.0.0.1", 0);
    CHECK_NOTHROW(second.listen("127.0.0.1", first.port()));
}

TEST_CASE("the configured headers are sent with the upgrade") {
    running_server net{
        quiet(GENERATE(from_range(all_loops())), {.headers = {{"X-Server", "arke"}, {"X-Two", "a, b"}}})};
    net.start();
    client one{net.port()};
    CHECK(one.response_header("X-Server") == "arke");
    CHECK(one.response_header("X-Two") == "a, b");
}

TEST_CASE("ids are random, or what id_generator makes of the request") {
    journal seen;
    running_server net{named(GENERATE(from_range(all_loops())))};
    net->on_connection([&](connection& c) { seen.add(c.id()); });
    net.start();
    client a{net.port(), "/?id=ann"};
    CHECK(seen.wait(1) == "ann");
    client b{net.port()};
    const auto two = seen.wait(2);
    CHECK(two.size() == 4 + 15);
    client c{net.port()};
    const auto three = seen.wait(3);
    CHECK(three.size() == 4 + 15 + 1 + 15);
    CHECK(three.substr(4, 15) != three.substr(20));
}

TEST_CASE("a second connection of an id is refused, or replaces the first") {
    const auto loop = GENERATE(from_range(all_loops()));
    journal seen;
    SECTION("refused") {
        running_server net{named(loop)};
        net->on("who", [](connection& c) { c.emit("still here"); });
        net.start(2);
        client first{net.port(), "/?id=ann"};
        client second{net.port(), "/?id=ann"};
        CHECK(second.status() == 409);
        first.emit("who");
        CHECK(first.receive() == "still here;0;");
        CHECK(net->size() == 1);
        first.close();
        CHECK(eventually([&] { return net->size() == 0 && !net->is_connected("ann"); }));
        client third{net.port(), "/?id=ann"};
        CHECK(third.status() == 101);
    }
    SECTION("replaced") {
        running_server net{named(loop, {.on_duplicate_id = arke::duplicate_id::replace})};
        net->on_connection([&](connection& c) { c.join("tea"); });
        net->on_disconnect(
            [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
        net->on_error([&](const arke::error_report& e) {
            seen.add(e.code == arke::errc::replaced ? "replaced" : e.code.message());
        });
        net.start(2);
        client first{net.port(), "/?id=ann"};
        client second{net.port(), "/?id=ann"};
        CHECK(second.status() == 101);
        CHECK(first.receive() == "close(1008 replaced by a newer connection with the same id)");
        CHECK(seen.wait(2) == "replaced 1008");
        net->to("ann").emit("hello");
        net->to("tea").emit("room");
        CHECK(second.receive(2) == "hello;0; room;0;");
        CHECK(net->size() == 1);
        CHECK(net->members("tea").size() == 1);
    }
}

TEST_CASE("a generator or an origin check that throws refuses one handshake, whatever it throws") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop, {.id_generator = [](const arke::request& r) -> std::string {
                                 if (r.query("bad") == "std") throw std::runtime_error{"no id"};
                                 if (r.query("bad") == "utf8") return "\xFF";
                                 if (r.query("bad") == "int") throw 7;
                                 return {};
                             }})};
    net.start();
    CHECK(client{net.port(), "/?bad=std"}.status() == 500);
    CHECK(client{net.port(), "/?bad=utf8"}.status() == 500);
    CHECK(client{net.port(), "/?bad=int"}.status() == 500);
    CHECK(client{net.port()}.status() == 101);
    CHECK(net.stop() == "");
}

TEST_CASE("pages of other origins are refused unless the config lists them") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop, {.origins = {"https://good.com"}})};
    net.start();
    const auto status = [&](const std::string& origin) {
        return client{net.port(), "/", {{"Origin", origin}}}.status();
    };
    CHECK(client{net.port()}.status() == 101);
    CHECK(status("http://localhost:" + std::to_string(net.port())) == 101);
    CHECK(status("https://good.com") == 101);
    CHECK(status("https://good.com.evil") == 403);
    CHECK(status("https://evil.com") == 403);
    CHECK(status("http://localhost:1") == 403);
    CHECK(status("null") == 403);
}

TEST_CASE("check_origin decides instead of the list; * lets every page in") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server strict{quiet(loop, {.origins = {"*"}, .check_origin = [](const arke::request& r) {
                                           return r.header("Origin") == "https://only.com";
                                       }})};
    running_server open{quiet(loop, {.origins = {"*"}})};
    strict.start();
    open.start();
    CHECK(client{strict.port(), "/", {{"Origin", "https://only.com"}}}.status() == 101);
    CHECK(client{strict.port(), "/", {{"Origin", "https://other.com"}}}.status() == 403);
    CHECK(client{strict.port()}.status() == 403);
    CHECK(client{open.port(), "/", {{"Origin", "https://other.com"}}}.status() == 101);
}

TEST_CASE("the client's first subprotocol that the server supports is chosen") {
    running_server net{quiet(GENERATE(from_range(all_loops())), {.subprotocols = {"chat", "game"}})};
    net->on("e", [](connection& c) { c.emit("e"); });
    net.start();
    const auto chosen = [&](const std::string& offered) {
        client one{net.port(), "/", {{"Sec-WebSocket-Protocol", offered}}};
        one.emit("e");
        CHECK(one.receive() == "e;0;");
        return one.response_header("Sec-WebSocket-Protocol");
    };
    CHECK(chosen("game, chat") == "game");
    CHECK(chosen("other, chat") == "chat");
    CHECK(chosen("other") == "");
}

TEST_CASE("pages with another event prefix are served by event_prefix") {
    running_server net{quiet(GENERATE(from_range(all_loops())), {.event_prefix = "go-websocket-message:"})};
    net->on("e", [](connection& c, std::string v) { c.emit("e", v); });
    net->on_message([](connection& c, arke::message_view m) { c.emit_message(m); });
    net.start();
    client one{net.port()};
    one.send("go-websocket-message:e;0;x");
    CHECK(one.receive() == "go-websocket-message:e;0;x");
    one.send("iris-websocket-message:e;0;x");
    CHECK(one.receive() == "e;0;x");  // a native message, sent back as it came
}

TEST_CASE("a connection knows the request that opened it, and forgets it where keep_request is off") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool keep = GENERATE(true, false);
    journal seen;
    running_server net{quiet(loop, {.endpoint = "/chat", .keep_request = keep})};
    const auto describe = [](const connection& c) {
        const auto& r = c.request();
        return std::string{r.path()} + "|" + r.query("name").value_or("-") + "|" + std::string{r.header("X-Token")} +
               "|" + r.cookie("lang").value_or("-") + "|" + std::string{r.remote_address()} + "|" +
               (r.remote_port() != 0 ? "port" : "0");
    };
    net->on_connection([&](connection& c) { seen.add(describe(c)); });
    net->on("again", [&](connection& c) { seen.add(describe(c)); });
    net.start();
    client one{net.port(), "/chat?name=Ada+L.&x=%41", {{"X-Token", "t0"}, {"Cookie", "a=b; lang=el"}}};
    CHECK(seen.wait(1) == "/chat|Ada L.|t0|el|127.0.0.1|port");
    one.emit("again");
    const std::string line = "/chat|Ada L.|t0|el|127.0.0.1|port";
    CHECK(seen.wait(2) == line + " " + (keep ? line : "|-||-||0"));
}

TEST_CASE("an empty endpoint serves HTTP and no WebSocket") {
    running_server net{quiet(GENERATE(from_range(all_loops())), {.endpoint = ""})};
    net.start();
    CHECK(client{net.port()}.status() == 404);
    CHECK(raw_client{net.port()}.get("/arke.js").status == 200);
    raw_client one{net.port()};
    CHECK(one.get("/").status == 404);
}

TEST_CASE("a server is not changed while it serves, runs once, and not inside a caller's io_context") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{quiet(loop)};
    net->on("ready", [](connection& c) { c.emit("ready"); });
    net.start();
    client one{net.port()};
    one.emit("ready");
    REQUIRE(one.receive() == "ready;0;");
    CHECK_THROWS_AS(net->endpoint("/late"), std::logic_error);
    CHECK_THROWS_AS(net->files("/", "."), std::logic_error);
    CHECK_THROWS_AS(net->run(), std::logic_error);
    boost::asio::io_context context;
    arke::server inside{context, quiet(loop)};
    CHECK_THROWS_AS(inside.run(), std::logic_error);
    arke::server idle{quiet(loop)};
    CHECK_THROWS_AS(idle.run(0), std::invalid_argument);
    idle.stop();
    CHECK_THROWS_AS(idle.listen("127.0.0.1", 0), std::logic_error);
}
