#include <arke/arke.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/gate.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

arke::config plain(arke::config c = {}) { return quiet(GENERATE(from_range(all_loops())), std::move(c)); }

struct user {
    std::string name;
    std::unique_ptr<int> owned;  // moved, never copied
};

std::string refusal(const std::function<void()>& f) {
    try {
        f();
        return "taken";
    } catch (const std::logic_error& e) {
        return e.what();
    }
}

}  // namespace

TEST_CASE("on_upgrade says no with any status, headers and body, and the connection ends") {
    running_server net{plain()};
    net->on_upgrade([](arke::upgrade& u) {
        const auto token = u.request().query("token");
        if (!token) return u.refuse(401, "Sign in first.");
        if (*token == "bad")
            u.refuse(arke::response::json({{"why", "bad token"}}, 403).header("WWW-Authenticate", "x"));
        if (*token == "old") u.refuse(arke::response::redirect("/login").cookie("token", "", {.max_age = 0s}));
    });
    net->on_connection([](arke::connection& c) { c.emit("ready"); });
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request("/") + masked_frame(0x81, "x"));
    const auto none = one.read_reply();
    CHECK(none.status == 401);
    CHECK(none.body == "Sign in first.\n");
    CHECK(none["connection"] == "close");
    CHECK(one.read_to_end() == "");
    raw_client two{net.port()};
    two.send(upgrade_request("/?token=bad"));
    const auto bad = two.read_reply();
    CHECK(bad.status == 403);
    CHECK(bad["www-authenticate"] == "x");
    CHECK(bad.body == R"({"why":"bad token"})");
    CHECK(two.ends());
    raw_client three{net.port()};
    three.send(upgrade_request("/?token=old"));
    const auto old = three.read_reply();
    CHECK(old.status == 303);
    CHECK(old["set-cookie"] == "token=; Path=/; Max-Age=0; SameSite=Lax; HttpOnly");
    client four{net.port(), "/?token=good"};
    CHECK(four.receive() == "ready;0;");
    CHECK(net->size() == 1);
}

TEST_CASE("on_upgrade sets headers, cookies, the subprotocol and the id") {
    auto c = plain({.headers = {{"X-All", "1"}}, .subprotocols = {"chat"}});
    c.id_generator = [](const arke::request&) { return std::string{"generated"}; };
    journal seen;
    running_server net{c};
    net->on_upgrade([&](arke::upgrade& u) {
        std::string offered = u.subprotocol().value_or("none") + " of";
        for (const auto& each : u.subprotocols()) offered += " " + each;
        seen.add(offered);
        u.add_header("X-One", "2");
        u.cookie("session", "abc");
        if (u.request().query("game")) u.choose("game");
        if (const auto id = u.request().query("id")) u.set_id(*id);
    });
    net->on_connection([](arke::connection& conn) { conn.emit("ready", conn.id()); });
    net.start();
    client one{net.port(), "/?id=ann", {{"Sec-WebSocket-Protocol", "other, chat, game"}}};
    CHECK(one.status() == 101);
    CHECK(one.response_header("X-All") == "1");
    CHECK(one.response_header("X-One") == "2");
    CHECK(one.response_header("Set-Cookie") == "session=abc; Path=/; SameSite=Lax; HttpOnly");
    CHECK(one.response_header("Sec-WebSocket-Protocol") == "chat");
    CHECK(one.receive() == "ready;0;ann");
    client two{net.port(), "/?game", {{"Sec-WebSocket-Protocol", "other, chat, game"}}};
    CHECK(two.response_header("Sec-WebSocket-Protocol") == "game");
    CHECK(two.receive() == "ready;0;generated");
    client three{net.port(), "/?id=carl"};
    CHECK(three.receive() == "ready;0;carl");
    CHECK(seen.wait(3) == "chat of other chat game chat of other chat game none of");
    raw_client four{net.port()};
    four.send(upgrade_request("/?id=ann"));
    CHECK(four.read_reply().status == 409);
    raw_client five{net.port()};
    five.send(upgrade_request("/?game"));  // which it does not offer
    CHECK(five.read_reply().status == 500);
}

TEST_CASE("on_upgrade may choose arke.v1, which is then spoken, or leave it") {
    running_server net{plain()};
    net->on_upgrade([](arke::upgrade& u) {
        if (u.request().query("other")) u.choose("other");
    });
    net->on("hello", [](arke::connection& c) { c.emit("ready", 7); });
    net.start();
    client one{net.port(), "/", {{"Sec-WebSocket-Protocol", "arke.v1, other"}}};
    one.send("evhello\n");
    CHECK(one.receive() == "enready\n7");
    client two{net.port(), "/?other", {{"Sec-WebSocket-Protocol", "arke.v1, other"}}};
    CHECK(two.response_header("Sec-WebSocket-Protocol") == "other");
    two.emit("hello");
    CHECK(two.receive() == "ready;1;7");
}

TEST_CASE("on_upgrade fills the session that the connection has") {
    basic_running_server<user> net{plain()};
    net->on_upgrade([](arke::basic_upgrade<user>& u) -> asio::awaitable<void> {
        co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
        u.session().name = u.request().query("name").value_or("nobody");
        u.session().owned = std::make_unique<int>(42);
    });
    net->on_connection([](arke::basic_connection<user>& c) {
        c.emit("ready", c.session().name + " " + std::to_string(*c.session().owned));
    });
    net.start(2);
    client one{net.port(), "/?name=ann"};
    CHECK(one.receive() == "ready;0;ann 42");
    client two{net.port(), "/"};
    CHECK(two.receive() == "ready;0;nobody 42");
}

TEST_CASE("a coroutine of on_upgrade blocks nobody, and what the client sends meanwhile waits for the connection") {
    gate open;
    running_server net{plain()};
    net->on_upgrade([&](arke::upgrade& u) -> asio::awaitable<void> {
        if (u.request().query("slow")) co_await open.wait();
        u.add_header("X-Late", "yes");
    });
    net->on_connection([](arke::connection& c) { c.emit("ready"); });
    net->on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });
    net.start();
    raw_client slow{net.port()};
    slow.send(upgrade_request("/?slow") + masked_frame(0x81, "first"));
    client quick{net.port()};
    CHECK(quick.receive() == "ready;0;");
    slow.send(masked_frame(0x81, "second"));
    CHECK(net->size() == 1);
    open.open();
    const auto accepted = slow.read_reply();
    CHECK(accepted.status == 101);
    CHECK(accepted["x-late"] == "yes");
    CHECK(slow.read_until("second").ends_with("first\x81\x06second"));
}

TEST_CASE("on_upgrade comes after the checks of the upgrade and of its origin, and its failure is 500 and in the log") {
    journal seen;
    journal log;
    auto c = plain();
    c.log = [&](std::string_view line) { log.add("[" + std::string{line} + "]"); };
    c.id_generator = [](const arke::request& r) -> std::string {
        if (r.query("id")) throw std::runtime_error{"no more ids"};
        return {};
    };
    running_server net{c};
    net->on_upgrade([&](arke::upgrade& u) -> asio::awaitable<void> {
        seen.add(std::string{u.request().target()});
        co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
        if (u.request().query("throws")) throw std::runtime_error{"no database"};
    });
    net.start();
    const auto status = [&](const std::string& text) {
        raw_client one{net.port()};
        one.send(text);
        const auto reply = one.read_reply();
        return std::to_string(reply.status) + (reply.status == 101 || one.ends() ? "" : " stays");
    };
    CHECK(status("GET / HTTP/1.1\r\nHost: x\r\n\r\n") == "426");
    CHECK(status(upgrade_request("/", {{"Origin", "http://evil.com"}})) == "403");
    CHECK(status(upgrade_request("/?throws")) == "500");
    CHECK(status(upgrade_request("/?fine")) == "101");
    CHECK(status(upgrade_request("/?id")) == "500");
    CHECK(seen.wait(3) == "/?throws /?fine /?id");
    CHECK(log.wait(2) == "[a handshake failed: no database] [a handshake failed: no more ids]");
}

TEST_CASE("a coroutine of on_upgrade has handshake_timeout, and one whose client has gone is forgotten") {
    gate open;
    journal seen;
    auto c = plain();
    c.listener.handshake_timeout = 3s;
    running_server net{c};
    net->on_upgrade([&](arke::upgrade&) -> asio::awaitable<void> {
        seen.add("begins");
        co_await open.wait();
        seen.add("ends");
    });
    net->on_connection([&](arke::connection&) { seen.add("connected"); });
    net.start();
    raw_client late{net.port()};
    late.send(upgrade_request());
    CHECK(late.read_reply().status == 503);
    CHECK(late.ends());
    {
        raw_client gone{net.port()};
        gone.send(upgrade_request());
        seen.wait(2);
        gone.reset();
    }
    CHECK(eventually([&] { return net->metrics().loops[0].sockets == 0; }));
    open.open();
    CHECK(seen.wait(4) == "begins begins ends ends");
    client next{net.port()};
    CHECK(next.status() == 101);
    CHECK(seen.wait(7) == "begins begins ends ends begins ends connected");
}

TEST_CASE("stop() ends an upgrade that somebody decides about") {
    gate open;
    journal seen;
    running_server net{plain()};
    net->on_upgrade([&](arke::upgrade&) -> asio::awaitable<void> {
        seen.add("begins");
        co_await open.wait();
    });
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request());
    seen.wait(1);
    net->stop();
    CHECK(one.read_reply().status == 503);
    CHECK(one.ends());
    CHECK(net.stop() == "");
}

TEST_CASE("each endpoint has its own on_upgrade, at most one, which may be taken away") {
    auto c = plain({.endpoint = "/a"});
    running_server net{c};
    auto b = net->endpoint("/b");
    net->on_upgrade([](arke::upgrade& u) { u.refuse(401); });
    const auto second = b.on_upgrade([](arke::upgrade& u) { u.refuse(402); });
    CHECK(refusal([&] { b.on_upgrade([](arke::upgrade&) {}); }).find("decides already") != std::string::npos);
    net.start();
    const auto status = [&](const std::string& path) {
        raw_client one{net.port()};
        one.send(upgrade_request(path));
        return one.read_reply().status;
    };
    CHECK(status("/a") == 401);
    CHECK(status("/b") == 402);
    CHECK(b.off(second));
    CHECK(eventually([&] { return status("/b") == 101; }));
    CHECK(status("/a") == 401);
}

TEST_CASE("an upgrade refuses what could not be sent, where it is said") {
    std::vector<std::string> said;
    running_server net{plain()};
    net->on_upgrade([&](arke::upgrade& u) {
        said.clear();
        said.push_back(refusal([&] { u.add_header("X", "a\r\nB: c"); }));
        said.push_back(refusal([&] { u.add_header("Sec-WebSocket-Accept", "x"); }));
        said.push_back(refusal([&] { u.add_header("Connection", "x"); }));
        said.push_back(refusal([&] { u.cookie("a", "b c"); }));
        said.push_back(refusal([&] { u.set_id(""); }));
        said.push_back(refusal([&] { u.set_id("\xFF"); }));
        said.push_back(refusal([&] { u.choose("chat"); }));
        said.push_back(refusal([&] { u.refuse(99); }));
    });
    net.start();
    CHECK(client{net.port()}.status() == 101);
    CHECK(net.stop() == "");
    const std::vector<std::string> parts{
        "leave out CR, LF", "choose() a subprotocol", "the server's to set", "encode it", "is no id",
        "is no id",         "does not offer",         "400 to 599"};
    REQUIRE(said.size() == parts.size());
    for (std::size_t i = 0; i != parts.size(); ++i) {
        CAPTURE(said[i]);
        CHECK(said[i].find(parts[i]) != std::string::npos);
    }
}

TEST_CASE("a coroutine of on_upgrade keeps its handler until it is over, also when that is taken off meanwhile") {
    // What it had captured went with the handler, and the coroutine used it all the same.
    gate open;
    journal seen;
    running_server net{plain()};
    auto captured = std::make_shared<std::string>("ann");
    const std::weak_ptr<std::string> still = captured;
    const auto handler =
        net->on_upgrade([&open, &seen, captured = std::move(captured)](arke::upgrade& u) -> asio::awaitable<void> {
            seen.add("begins");
            co_await open.wait();
            if (captured) u.set_id(*captured);
        });
    net->on_connection([](arke::connection& c) { c.emit("ready", c.id()); });
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request("/"));
    CHECK(seen.wait(1) == "begins");
    CHECK(net->off(handler));
    client two{net.port()};  // the loop knows that it is off
    CHECK(two.receive().starts_with("ready"));
    CHECK_FALSE(still.expired());
    open.open();
    CHECK(one.read_until("ready;0;ann").find("101 Switching") != std::string::npos);
    CHECK(eventually([&] { return still.expired(); }));
}
