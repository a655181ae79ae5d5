#include <arke/client.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/use_future.hpp>

#include "tests/support/catch.hpp"
#include "tests/support/held_port.hpp"
#include "tests/support/own_client.hpp"
#include "tests/support/raw_server.hpp"
#include "tests/support/running_server.hpp"

// What comes of an attempt of the client to connect: with Arke's own server, through proxies, and with servers of a few lines that do
// what no honest one does.

using arke::answer;
using arke::client_config;
using arke::connection;
using arke::errc;
using arke::error_report;
using arke::loop_kind;
using arke::message_view;
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

TEST_CASE("a server that answers otherwise than by a WebSocket is refused, with a sentence that says what to do") {
    struct row {
        const char* name;
        std::function<void(raw_peer&, const std::string&)> answer;
        const char* sentence;
    };
    const auto status = [](const char* line) {
        return [line](raw_peer& p, const std::string&) { p.send(std::string{"HTTP/1.1 "} + line + "\r\n\r\n"); };
    };
    const auto welcome = [](std::string more) {
        return [more](raw_peer& p, const std::string& head) { p.send(raw_peer::welcome(head, more)); };
    };
    const row table[] = {
        {"404", status("404 Not Found"), "the server answered 404 Not Found: there is no WebSocket at this path"},
        {"401", status("401 Unauthorized"), "it wants to know who you are"},
        {"403", status("403 Forbidden"), "it does not let you in"},
        {"426", status("426 Upgrade Required\r\nUpgrade: h2c"), "is it a WebSocket server of version 13?"},
        {"429", status("429 Too Many Requests"), "try again later"},
        {"503", status("503 Service Unavailable"), "try again later"},
        {"200", status("200 OK\r\nContent-Length: 5"), "the server answered 200 OK and no 101"},
        {"500", status("500 \xFF[31mred"), "the server answered 500 \"\\xff[31mred\""},
        {"control bytes", status("500 \x1B[31mred"), "what answers is no HTTP/1.1"},
        {"301", status("301 Moved Permanently\r\nLocation: ws://elsewhere/"),
         "points to ws://elsewhere/; redirects are not followed"},
        {"302", status("302 Found\r\nLocation: ws://elsewhere/"),
         "points to ws://elsewhere/; redirects are not followed"},
        {"no HTTP", [](raw_peer& p, const std::string&) { p.send("SSH-2.0-OpenSSH_9.2\r\n"); },
         "what answers is no HTTP/1.1"},
        {"bad HTTP", [](raw_peer& p, const std::string&) { p.send("HTTP/1.1 nonsense\r\n\r\n"); },
         "what answers is no HTTP/1.1"},
        {"an end", [](raw_peer& p, const std::string&) { p.stream().close(); },
         "the server ended the connection before it answered"},
        {"another key",
         [](raw_peer& p, const std::string&) {
             p.send(
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
         },
         "the Sec-WebSocket-Accept of the server is not that of our key"},
        {"two accepts",
         [](raw_peer& p, const std::string& head) {
             p.send(raw_peer::welcome(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
         },
         "the Sec-WebSocket-Accept of the server is not that of our key"},
        {"no Upgrade",
         [](raw_peer& p, const std::string& head) {
             auto text = raw_peer::welcome(head);
             p.send(text.replace(text.find("websocket"), 9, "h2c"));
         },
         "does not say \"Upgrade: websocket\""},
        {"no Connection",
         [](raw_peer& p, const std::string& head) {
             auto text = raw_peer::welcome(head);
             p.send(text.replace(text.find("Connection: Upgrade"), 19, "Connection: close"));
         },
         "does not say \"Connection: Upgrade\""},
        {"an extension", welcome("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
         "the extension permessage-deflate"},
        {"a subprotocol", welcome("Sec-WebSocket-Protocol: chat\r\n"), "the subprotocol chat, which was not offered"},
        {"two subprotocols", welcome("Sec-WebSocket-Protocol: arke.v1\r\nSec-WebSocket-Protocol: arke.v1\r\n"),
         "which was not offered"},
        {"long headers", welcome("X: " + std::string(9000, 'x') + "\r\n"), "longer than max_header_bytes (8192)"},
        {"endless headers",
         [](raw_peer& p, const std::string&) {
             p.send("HTTP/1.1 101 Switching Protocols\r\nX: ");
             p.send(std::string(9000, 'x'));
         },
         "longer than max_header_bytes (8192)"},
        {"many headers",
         [](raw_peer& p, const std::string& head) {
             std::string more;
             for (int i = 0; i != 101; ++i) more += "a: b\r\n";
             p.send(raw_peer::welcome(head, more));
         },
         "more headers than max_header_fields (100)"},
        {"endless interim answers",
         [](raw_peer& p, const std::string&) {
             for (int i = 0; i != 1000; ++i) p.send("HTTP/1.1 103 Early Hints\r\n\r\n");
         },
         "longer than max_header_bytes (8192)"},
    };
    for (const auto& r : table) {
        INFO(r.name);
        std::atomic<bool> is_over{false};
        raw_server net{[&](raw_peer& p) {
            const auto head = p.read_head();
            if (head.empty()) return;
            r.answer(p, head);
            if (p.stream().is_open()) p.wait_for_end();
            is_over = true;
        }};
        asio::io_context context;
        arke::client c{context, net.url(), on_loop(loop_kind::automatic)};
        std::vector<std::string> sentences;
        int completed = 0;
        std::string happened;
        c.on_error([&](const error_report& e) { sentences.emplace_back(e.detail); });
        c.on_connect([&] { happened += "connect "; });
        c.on_reconnect([&] { happened += "reconnect "; });
        c.on_disconnect([&] { happened += "disconnect "; });
        c.on_message([&] { happened += "message "; });
        std::optional<arke::error_code> why;
        c.async_connect([&](arke::error_code ec) {
            why = ec;
            ++completed;
        });
        const auto end = std::chrono::steady_clock::now() + arke::test::patience;
        while (!why && std::chrono::steady_clock::now() < end) context.run_one_for(100ms);
        // What else there were to come has come by the time that the server sees the end.
        while (!is_over && std::chrono::steady_clock::now() < end) context.run_one_for(10ms);
        context.poll();
        CHECK(is_over);
        REQUIRE(why);
        CHECK(*why == errc::handshake_refused);
        CHECK(completed == 1);
        CHECK(happened == "");
        CHECK_FALSE(c.is_connected());
        CHECK(net.connections() == 1);
        REQUIRE(sentences.size() == 1);
        const auto& sentence = sentences.front();
        INFO(sentence);
        CHECK(sentence.find(r.sentence) != std::string::npos);
        CHECK(sentence.find('\x1B') == std::string::npos);
    }
}

TEST_CASE(
    "a handshake in pieces, after interim answers, with frames right behind it, is one; its request says all it "
    "should") {
    std::string request;
    raw_server net{[&](raw_peer& p) {
        const auto head = p.read_head();
        if (head.empty()) return;
        request = head;
        auto text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" +
                    raw_peer::welcome(head, "sec-websocket-protocol: chat\r\n") + "\x81\x05hello" + "\x82\x02";
        // As some proxies write it.
        text.replace(text.find("Connection: Upgrade"), 19, "connection: keep-alive,UPGRADE");
        for (const char c : text) p.send({&c, 1});
        p.send("hi");
        p.wait_for_end();
    }};
    asio::io_context context;
    arke::client c{context, net.url("/chat?room=a%20b"),
                   on_loop(loop_kind::automatic, {.headers = {{"Authorization", "Bearer x"}, {"Origin", "http://me"}},
                                                  .subprotocols = {"chat"}})};
    std::string heard;
    c.on_message([&](message_view m) { heard += (m.is_text ? "text " : "binary ") + std::string{m.data} + " "; });
    c.connect();
    const auto end = std::chrono::steady_clock::now() + arke::test::patience;
    while (heard != "text hello binary hi " && std::chrono::steady_clock::now() < end) context.run_one_for(100ms);
    CHECK(heard == "text hello binary hi ");
    const auto key = raw_peer::header(request, "Sec-WebSocket-Key");
    CHECK(key.size() == 24);
    CHECK(
        request ==
        "GET /chat?room=a%20b HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(net.port()) +
            "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key +
            "\r\nSec-WebSocket-Protocol: arke.v1, chat\r\nAuthorization: Bearer x\r\nOrigin: http://me\r\n\r\n");
    c.disconnect();
    while (c.is_connected()) context.run_one_for(100ms);
    context.run_for(20ms);
}

TEST_CASE("where the server chooses no subprotocol the client speaks the events of 2016") {
    raw_server net{[&](raw_peer& p) {
        const auto head = p.read_head();
        if (head.empty()) return;
        p.send(raw_peer::welcome(head) +
               "\x81\x21"
               "iris-websocket-message:price;1;42");
        p.wait_for_end();
    }};
    asio::io_context context;
    arke::client c{context, net.url(), on_loop(loop_kind::automatic)};
    int price = 0;
    c.on("price", [&](int n) { price = n; });
    std::string asked;
    std::string failed;
    c.on_error([&](const error_report& e) { failed += e.code.message() + ":" + std::string{e.event} + " "; });
    c.ask<int>("buy", 5s, [&](arke::error_code why, int) { asked = why.message(); });
    c.emit("semi;colon", 1);  // arke.v1 could carry it
    c.connect();
    const auto end = std::chrono::steady_clock::now() + arke::test::patience;
    while ((price == 0 || asked.empty()) && std::chrono::steady_clock::now() < end) context.run_one_for(100ms);
    CHECK(price == 42);
    CHECK(asked == message_of(errc::not_deliverable));
    CHECK(failed == message_of(errc::not_deliverable) + ":semi;colon ");
    CHECK(c.dropped() == 1);
}

TEST_CASE("an attempt takes no longer than connect_timeout, and connect() goes on trying") {
    std::atomic<int> came{0};
    raw_server net{[&](raw_peer& p) {
        if (++came <= 2) return p.wait_for_end();  // no word
        const auto head = p.read_head();
        if (head.empty()) return;
        p.send(raw_peer::welcome(head));
        p.wait_for_end();
    }};
    journal heard;
    arke::client c{net.url(), on_loop(loop_kind::automatic,
                                      {.connect_timeout = 500ms, .reconnect_delay = 1ms, .close_timeout = 50ms})};
    c.on_error([&](const error_report& e) { heard.add(e.code.message()); });
    c.on_connect([&] { heard.add("connected"); });
    c.start();
    const auto late = message_of(errc::connect_timeout);
    // The third is in time, or where the machine is slow, one behind it.
    CHECK(eventually([&] { return heard.text().ends_with(" connected"); }));
    CHECK(heard.text().starts_with(late + " " + late + " "));
}

TEST_CASE("after max_attempts the client gives up: run() returns, and who waits is told") {
    const held_port nobody;
    arke::client c{"ws://127.0.0.1:" + std::to_string(nobody.port()),
                   on_loop(loop_kind::automatic, {.reconnect_delay = 1ms, .max_attempts = 2})};
    int errors = 0;
    c.on_error([&](const error_report&) { ++errors; });
    std::string asked;
    c.ask<int>("buy", 1h, [&](arke::error_code why, int) { asked = why.message(); });
    c.run();
    CHECK(errors == 3);
    CHECK(asked == message_of(errc::disconnected));
}

TEST_CASE("a proxy is asked for a tunnel, and told who we are; what it refuses is said") {
    running_server net{quiet(loop_kind::automatic)};
    net->on("buy", [](int n) { return n * 7; });
    net.start();
    std::mutex mutex;
    std::string request;
    raw_server proxy{[&](raw_peer& p) {
        const auto head = p.read_head();
        if (head.empty()) return;
        {
            const std::lock_guard lock{mutex};
            request = head;
        }
        if (raw_peer::header(head, "Proxy-Authorization").empty())
            return p.send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
        asio::io_context context;
        asio::ip::tcp::socket there{context};
        there.connect(arke::test::local(net.port()));
        p.send("HTTP/1.1 200 Connection established\r\n\r\n");
        std::thread back{[&] {
            std::string bytes(4096, '\0');
            boost::system::error_code ec;
            for (;;) {
                const auto size = there.read_some(asio::buffer(bytes), ec);
                if (ec) break;
                p.send({bytes.data(), size});
            }
            p.stream().shutdown(asio::ip::tcp::socket::shutdown_send, ec);
        }};
        for (;;) {
            const auto bytes = p.read_some();
            boost::system::error_code ec;
            if (bytes.empty()) {
                there.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
                break;
            }
            asio::write(there, asio::buffer(bytes), ec);
        }
        back.join();
    }};
    const auto at = "127.0.0.1:" + std::to_string(proxy.port());
    {
        arke::client c{url_of(net), on_loop(loop_kind::automatic, {.proxy = "http://ada:se%40cret@" + at})};
        c.start();
        CHECK(outcome(c.ask<int>("buy", 6, 5s, asio::use_future)) == "42");
        const std::lock_guard lock{mutex};
        const auto there = "127.0.0.1:" + std::to_string(net.port());
        CHECK(request == "CONNECT " + there + " HTTP/1.1\r\nHost: " + there +
                             "\r\nProxy-Authorization: Basic YWRhOnNlQGNyZXQ=\r\n\r\n");
    }
    journal heard;
    arke::client stranger{url_of(net), on_loop(loop_kind::automatic, {.proxy = "http://" + at})};
    stranger.on_error([&](const error_report& e) { heard.add(std::string{e.detail}); });
    stranger.start();
    CHECK(heard.wait(1).starts_with("the proxy answered 407 Proxy Authentication Required: it wants a user"));
    raw_server strict{[&](raw_peer& p) {
        if (!p.read_head().empty()) p.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }};
    journal refused;
    arke::client other{url_of(net),
                       on_loop(loop_kind::automatic, {.proxy = "http://127.0.0.1:" + std::to_string(strict.port())})};
    other.on_error([&](const error_report& e) { refused.add(std::string{e.detail}); });
    other.start();
    CHECK(refused.wait(1).starts_with("the proxy answered 403 Forbidden: it does not let us through to the server"));
}

TEST_CASE("a name with several addresses: the first that answers is it") {
    // Of "localhost" some systems have an IPv6 address first; nobody listens there.
    running_server net{quiet(loop_kind::automatic)};
    net->on("buy", [](int n) { return n * 7; });
    net.start();
    arke::client c{"ws://localhost:" + std::to_string(net.port()), on_loop(loop_kind::automatic)};
    c.start();
    CHECK(outcome(c.ask<int>("buy", 6, 5s, asio::use_future)) == "42");
}

TEST_CASE("a name that is none is an error with its name in it") {
    asio::io_context context;
    arke::client c{context, "ws://no-such-host.invalid:1", on_loop(loop_kind::automatic)};
    std::string sentence;
    c.on_error([&](const error_report& e) { sentence = e.detail; });
    std::optional<arke::error_code> why;
    c.async_connect([&](arke::error_code ec) { why = ec; });
    while (!why) context.run_one();
    CHECK(*why);
    CHECK(sentence.find("no-such-host.invalid:1") != std::string::npos);
}

TEST_CASE("a URL or a config that cannot work is refused with a sentence") {
    const auto refusal = [](const std::string& url, client_config settings = {}) {
        try {
            arke::client c{url, std::move(settings)};
            return std::string{"none"};
        } catch (const std::invalid_argument& e) {
            return std::string{e.what()};
        }
    };
    CHECK(refusal("ws://localhost") == "none");
    CHECK(refusal("localhost").find("\"localhost\" is no WebSocket URL: it does not begin with ws://") !=
          std::string::npos);
    CHECK(refusal("wss://localhost").find("wss:// needs TLS") != std::string::npos);
    CHECK(refusal("ws://h", {.headers = {{"Host", "x"}}}).find("headers holds Host, which is the handshake's own") !=
          std::string::npos);
    CHECK(refusal("ws://h", {.headers = {{"A B", "x"}}}).find("headers holds the name") != std::string::npos);
    for (const std::string bad : {"x\r\nB: y", "x\nB: y", "x\rB: y"}) {
        CHECK(refusal("ws://h", {.headers = {{"A", bad}}}).find("leave out CR, LF") != std::string::npos);
        CHECK(refusal("ws://h", {.headers = {{bad, "x"}}}).find("headers holds the name") != std::string::npos);
        CHECK(refusal("ws://h", {.subprotocols = {bad}}).find("subprotocols holds") != std::string::npos);
        CHECK(refusal("ws://h/" + bad) != "none");
    }
    const std::string with_nul("x\0y", 3);
    CHECK(refusal("ws://h", {.headers = {{"A", with_nul}}}).find("leave out CR, LF") != std::string::npos);
    CHECK(refusal("ws://h", {.headers = {{with_nul, "x"}}}).find("headers holds the name") != std::string::npos);
    CHECK(refusal("ws://h", {.subprotocols = {with_nul}}).find("subprotocols holds") != std::string::npos);
    CHECK(refusal("ws://h/" + with_nul) != "none");
    CHECK(refusal("ws://h", {.subprotocols = {"a b"}}).find("subprotocols holds") != std::string::npos);
    CHECK(refusal("ws://h", {.proxy = "http://user:secret@p"}).find("the port is missing") != std::string::npos);
    CHECK(refusal("ws://h", {.proxy = "http://user:secret@p"}).find("secret") == std::string::npos);
    CHECK(refusal("ws://h", {.connect_timeout = 0ms}).find("connect_timeout is 0 ms") != std::string::npos);
    CHECK(refusal("ws://h", {.max_queue = 0}).find("max_queue is 0") != std::string::npos);
    CHECK(refusal("ws://h", {.max_queue_bytes = 0}).find("max_queue_bytes is 0") != std::string::npos);
    CHECK(refusal("ws://h", {.queue_ttl = -1ms}).find("queue_ttl is -1 ms") != std::string::npos);
}
