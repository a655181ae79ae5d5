#include <arke/arke.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
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
using arke::http_request;
using arke::response;
namespace asio = boost::asio;

namespace {

struct order {
    std::string item;
    int count = 0;
};

void from_json(const nlohmann::json& from, order& to) {
    from.at("item").get_to(to.item);
    from.at("count").get_to(to.count);
}

arke::config at_ws() { return quiet(GENERATE(from_range(all_loops())), {.endpoint = "/ws"}); }

std::string chunked(const std::string& line, const std::string& chunks) {
    return line + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks;
}

std::string with_body(const std::string& line, const std::string& body, const std::string& more = {}) {
    return line + " HTTP/1.1\r\nHost: x\r\n" + more + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
}

}  // namespace

TEST_CASE("a route answers by text, JSON, status, headers and cookies") {
    running_server net{at_ws()};
    net->get("/text", [] { return response::text("hello"); });
    net->get("/json", [](const http_request& r) {
        return response::json({{"item", r.query("item").value_or("none")}, {"from", r.remote_address()}});
    });
    net->get("/html", [] { return response::html("<p>x</p>").header("Cache-Control", "max-age=5"); });
    net->get("/cookie",
             [] { return response::redirect("/text").cookie("seen", "1").cookie("b", "2", {.secure = true}); });
    net->get("/gone", [] { return response{410}; });
    net->get("/nothing", [] { return response{204}; });
    net->del("/text", [](const http_request& r) { return response::text(std::string{r.method()}); });
    net->get("/below/*", [](const http_request& r) { return response::text(std::string{r.below()}); });
    net->get("/teapot", [] { return response{418}; });
    net->get("/links", [] { return response{204}.add_header("Link", "</a>").add_header("link", "</b>"); });
    net.start();
    raw_client one{net.port()};

    const auto text = one.get("/text");
    CHECK(text.status == 200);
    CHECK(text["content-type"] == "text/plain; charset=utf-8");
    CHECK(text["content-length"] == "5");
    CHECK(text["connection"].empty());
    CHECK_FALSE(text["date"].empty());
    CHECK(text.body == "hello");
    CHECK(one.get("/links")["link"] == "</a>,</b>");

    const auto json = one.get("/json?item=tea");
    CHECK(json["content-type"] == "application/json");
    CHECK(json.body == R"({"from":"127.0.0.1","item":"tea"})");
    CHECK(one.get("/html")["cache-control"] == "max-age=5");

    const auto cookie = one.get("/cookie");
    CHECK(cookie.status == 303);
    CHECK(cookie["location"] == "/text");
    CHECK(cookie["set-cookie"] == "seen=1; Path=/; SameSite=Lax; HttpOnly,b=2; Path=/; SameSite=Lax; Secure; HttpOnly");

    CHECK(one.get("/gone").status == 410);
    const auto nothing = one.get("/nothing");
    CHECK(nothing.status == 204);
    CHECK(nothing.headers.count("content-length") == 0);
    CHECK(one.get("/text", {}, "DELETE").body == "DELETE");
    CHECK(one.get("/below/a/b%2Fc?x=/y").body == "a/b%2Fc");
    CHECK(one.get("/below/").body == "");
    CHECK(one.get("/below").status == 404);
    CHECK(one.get("/teapot").status == 418);

    const auto head = one.get("/text", {}, "HEAD");
    CHECK(head.status == 200);
    CHECK(head["content-length"] == "5");
    CHECK(one.get("/text").body == "hello");  // nothing but the head came before

    const auto post = one.get("/text", {}, "POST");
    CHECK(post.status == 405);
    CHECK(post["allow"] == "GET, HEAD, DELETE, OPTIONS");
    const auto options = one.get("/text", {}, "OPTIONS");
    CHECK(options.status == 204);
    CHECK(options["allow"] == "GET, HEAD, DELETE, OPTIONS");
    CHECK(one.get("/ws", {}, "OPTIONS").status == 405);
    CHECK(one.ends());

    CHECK(net->metrics().answered(303) == 1);
    CHECK(net->metrics().answered(204) == 3);
    CHECK(net->metrics().answered(418) == 2);  // with 410, which has no place of its own either
}

TEST_CASE("what a handler says of a file is not said of the sentence that there is in its place") {
    // A browser kept the 404 of a picture that was put there a moment later for a year, as a picture.
    running_server net{at_ws()};
    net->get("/lost", [] {
        return response::file("/nowhere/lost.png")
            .header("Content-Type", "image/png")
            .header("Cache-Control", "max-age=31536000, immutable")
            .header("etag", "\"1\"")
            .header("X-Asked", "yes")
            .cookie("seen", "1");
    });
    net.start();
    raw_client one{net.port()};
    const auto lost = one.get("/lost");
    CHECK(lost.status == 404);
    CHECK(lost["content-type"] == "text/plain; charset=utf-8");
    CHECK(lost["cache-control"] == "");
    CHECK(lost["etag"] == "");
    CHECK(lost["x-asked"] == "yes");
    CHECK(lost["set-cookie"].starts_with("seen=1"));
}

TEST_CASE("routes come before files, and a path that only others' methods have is still a file") {
    const auto folder = std::filesystem::temp_directory_path() / ("arke-routes-" + arke::core::endpoint::random_id());
    std::filesystem::create_directories(folder);
    std::ofstream{folder / "index.html"} << "home";
    std::ofstream{folder / "a.txt"} << "file";
    std::ofstream{folder / "page.html"} << "<p>page</p>";
    {
        running_server net{at_ws()};
        net->files("/", folder.string());
        net->post("/*", [] { return response::text("posted"); });
        net->get("/b", [] { return response::text("route"); });
        net->get("/page", [&] { return response::file(folder / "page.html").header("Cache-Control", "no-store"); });
        net->get("/lost", [&] { return response::file(folder / "lost.html"); });
        net.start();
        raw_client one{net.port()};
        CHECK(one.get("/").body == "home");
        CHECK(one.get("/a.txt").body == "file");
        CHECK(one.get("/b").body == "route");
        CHECK(one.get("/a.txt", {}, "POST").body == "posted");
        CHECK(one.get("/a.txt", {}, "PUT")["allow"] == "POST, OPTIONS");
        const auto page = one.get("/page");
        CHECK(page.body == "<p>page</p>");
        CHECK(page["content-type"] == "text/html; charset=utf-8");
        CHECK(page["cache-control"] == "no-store");
        CHECK(one.get("/page", {{"Range", "bytes=3-6"}}).body == "page");
        CHECK(one.get("/page", {{"If-None-Match", page["etag"]}}).status == 304);
        CHECK(one.get("/page", {}, "HEAD")["content-length"] == "11");
        CHECK(one.get("/lost").status == 404);
    }
    std::filesystem::remove_all(folder);
}

TEST_CASE("the body of a request comes whole, by its length and in chunks, and the next request follows") {
    running_server net{at_ws()};
    net->post("/echo", [](const http_request& r) { return response::text(std::string{r.body()}); });
    net->post("/order", [](const http_request& r) {
        const auto wanted = r.json<order>();
        return response::json({{"sum", wanted.count * 7}}, 201);
    });
    net.start();
    raw_client one{net.port()};
    one.send(with_body("POST /echo", "abc") + chunked("POST /echo", "2\r\nde\r\n1;x=y\r\nf\r\n0\r\nA: b\r\n\r\n") +
             with_body("POST /echo", "") + with_body("POST /echo", "GET / HTTP/1.1\r\n\r\n") +
             with_body("POST /order", R"({"item":"tea","count":6})"));
    CHECK(one.read_reply().body == "abc");
    CHECK(one.read_reply().body == "def");
    CHECK(one.read_reply().body == "");
    CHECK(one.read_reply().body == "GET / HTTP/1.1\r\n\r\n");
    const auto sum = one.read_reply();
    CHECK(sum.status == 201);
    CHECK(sum.body == R"({"sum":42})");
    for (const char c : with_body("POST /echo", "in single bytes") + chunked("POST /echo", "3\r\nabc\r\n0\r\n\r\n"))
        one.send({&c, 1});
    CHECK(one.read_reply().body == "in single bytes");
    CHECK(one.read_reply().body == "abc");

    one.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 00\r\n\r\n");
    CHECK(one.read_reply().status == 200);

    one.send(with_body("POST /order", "{"));
    const auto bad = one.read_reply();
    CHECK(bad.status == 400);
    CHECK(bad.body.starts_with("The body of the request does not fit:"));
    one.send(with_body("POST /order", R"({"item":"tea"})"));
    CHECK(one.read_reply().status == 400);
    one.send(with_body("POST /order", std::string(129, '[')));
    CHECK(one.read_reply().status == 400);
    one.send(with_body("POST /echo", "still here"));
    CHECK(one.read_reply().body == "still here");
}

TEST_CASE(
    "a body at max_body_size is taken, one byte more is 413 before it is read, and nothing after it is a request") {
    auto c = at_ws();
    c.listener.max_body_size = 100'000;
    running_server net{c};
    net->post("/size", [](const http_request& r) { return response::text(std::to_string(r.body().size())); });
    net.start();
    raw_client one{net.port()};
    one.send(with_body("POST /size", std::string(100'000, 'x')));
    CHECK(one.read_reply().body == "100000");
    one.send(chunked("POST /size", "186A0\r\n" + std::string(100'000, 'x') + "\r\n0\r\n\r\n"));
    CHECK(one.read_reply().body == "100000");
    one.send("POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n");
    const auto refused = one.read_reply();
    CHECK(refused.status == 413);
    CHECK(refused["connection"] == "close");
    CHECK(one.ends());

    raw_client two{net.port()};
    two.send(chunked("POST /size", "186A1\r\n") + "GET /size HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(two.read_reply().status == 413);
    CHECK(two.read_to_end() == "");
    raw_client three{net.port()};
    three.send(chunked("POST /size", "x\r\n") + "GET /size HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(three.read_reply().status == 400);
    CHECK(three.read_to_end() == "");
    raw_client four{net.port()};
    four.send("GET /size HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcdeGET /size HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(four.read_reply().status == 405);
    CHECK(four.read_to_end() == "");
    CHECK(net->metrics().answered(413) == 2);
}

TEST_CASE("100 Continue comes where the body will be read, and nowhere else") {
    auto c = at_ws();
    c.listener.max_body_size = 10;
    running_server net{c};
    net->post("/echo", [](const http_request& r) { return response::text(std::string{r.body()}); });
    net.start();
    const auto asks = [](const std::string& line, int length, const std::string& version = "1.1") {
        return line + " HTTP/" + version +
               "\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n";
    };
    raw_client one{net.port()};
    one.send(asks("POST /echo", 3));
    CHECK(one.read_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
    one.send("abc");
    CHECK(one.read_reply().body == "abc");
    one.send(asks("POST /echo", 3) + "def");  // who does not wait is not told
    CHECK(one.read_reply().body == "def");
    one.send(asks("POST /echo", 0));
    CHECK(one.read_reply().status == 200);
    one.send(asks("POST /echo", 11));
    CHECK(one.read_reply().status == 413);
    CHECK(one.read_to_end() == "");

    raw_client two{net.port()};
    two.send(asks("POST /nowhere", 3));
    CHECK(two.read_reply().status == 404);
    CHECK(two.read_to_end() == "");
    raw_client three{net.port()};
    three.send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\nContent-Length: 1\r\n\r\na");
    CHECK(three.read_reply().status == 417);
    CHECK(three.read_to_end() == "");
    raw_client four{net.port()};
    four.send(asks("POST /echo", 3, "1.0"));
    four.send("abc");
    const auto old = four.read_reply();
    CHECK(old.body == "abc");
    CHECK(old["connection"] == "close");
}

TEST_CASE("a body that does not come in its time is 408, and what was never begun ends silently") {
    auto c = at_ws();
    c.listener.body_timeout = 3s;
    c.listener.handshake_timeout = 3s;
    running_server net{c};
    net->post("/echo", [](const http_request& r) { return response::text(std::string{r.body()}); });
    net.start();
    raw_client body{net.port()};
    body.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
    raw_client head{net.port()};
    head.send("POST /echo HTTP/1.1\r\n");
    raw_client silent{net.port()};
    raw_client kept{net.port()};
    CHECK(kept.get("/nothing").status == 404);
    const auto late = body.read_reply();
    CHECK(late.status == 408);
    CHECK(late["connection"] == "close");
    CHECK(body.ends());
    CHECK(head.read_reply().status == 408);
    CHECK(head.ends());
    CHECK(silent.read_to_end() == "");
    CHECK(kept.read_to_end() == "");
}

TEST_CASE("what a handler throws is 500 and in the log, unless it is meant for the client") {
    journal log;
    auto c = at_ws();
    c.log = [&](std::string_view line) { log.add("[" + std::string{line} + "]"); };
    c.reveal_exceptions = GENERATE(false, true);
    running_server net{c};
    net->get("/throws", []() -> response { throw std::runtime_error{"a secret"}; });
    net->get("/later", [](const http_request&) -> asio::awaitable<response> {
        co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
        throw std::runtime_error{"a later secret"};
    });
    net->get("/odd", []() -> response { throw 7; });
    net->get("/refuses", []() -> response { throw arke::http_error{409, "It is sold."}; });
    net->get("/text", [] { return response::json("\xFF"); });
    net.start();
    raw_client one{net.port()};
    const auto thrown = one.get("/throws");
    CHECK(thrown.status == 500);
    CHECK((thrown.body.find("secret") != std::string::npos) == c.reveal_exceptions);
    CHECK(one.get("/later").status == 500);
    CHECK(one.get("/odd").status == 500);
    CHECK(one.get("/text").status == 500);
    const auto refused = one.get("/refuses");
    CHECK(refused.status == 409);
    CHECK(refused.body == "It is sold.\n");
    CHECK(log.wait(4).starts_with(
        "[the handler of GET \"/throws\" failed: a secret] [the handler of GET \"/later\" failed: "
        "a later secret] [the handler of GET \"/odd\" failed: by something"));
    CHECK(log.size() == 4);
}

TEST_CASE("a coroutine may answer later; pipelined requests wait for it, and others do not") {
    gate open;
    running_server net{at_ws()};
    net->get("/later", [&](const http_request& r) -> asio::awaitable<response> {
        co_await open.wait();
        co_return response::text("later " + std::string{r.target()});
    });
    net->get("/now", [] { return response::text("now"); });
    net.start();
    raw_client one{net.port()};
    one.send(
        "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /now HTTP/1.1\r\nHost: x\r\n\r\nHEAD /later HTTP/1.1\r\nHost: "
        "x\r\n\r\n");
    raw_client two{net.port()};
    CHECK(two.get("/now").body == "now");
    one.send("GET /now HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(two.get("/now").body == "now");
    open.open();
    CHECK(one.read_reply().body == "later /later");
    CHECK(one.read_reply().body == "now");
    CHECK(one.read_reply(true)["content-length"] == "12");
    CHECK(one.read_reply().body == "now");
}

TEST_CASE("a client that ends its direction after its request still gets the answer of a coroutine") {
    gate open;
    journal seen;
    running_server net{at_ws()};
    net->post("/later", [&](const http_request& r) -> asio::awaitable<response> {
        seen.add("begins");
        co_await open.wait();
        co_return response::text(std::string(300'000, r.body().front()));
    });
    net.start();
    raw_client one{net.port(), 4096};
    one.send(with_body("POST /later", "x") + with_body("POST /later", "y"));
    one.shutdown();
    seen.wait(1);
    open.open();
    CHECK(one.read_reply().body == std::string(300'000, 'x'));
    CHECK(one.read_reply().body == std::string(300'000, 'y'));
    CHECK(one.ends());
}

TEST_CASE("a coroutine that takes longer than answer_timeout is 503, and its answer goes nowhere") {
    gate open;
    journal seen;
    auto c = at_ws();
    c.listener.answer_timeout = 50ms;
    running_server net{c};
    net->get("/later", [&](const http_request& r) -> asio::awaitable<response> {
        co_await open.wait();
        seen.add(std::string{r.path()});
        co_return response::text("late");
    });
    net.start();
    raw_client one{net.port()};
    const auto late = one.get("/later");
    CHECK(late.status == 503);
    CHECK(late["connection"] == "close");
    CHECK(one.read_to_end() == "");
    open.open();
    CHECK(seen.wait(1) == "/later");
    CHECK(raw_client{net.port()}.get("/later").body == "late");
}

TEST_CASE("a coroutine outlives its client, which counts as a connection until it is over") {
    gate open;
    journal seen;
    auto c = at_ws();
    c.listener.max_connections = 2;
    running_server net{c};
    net->post("/later", [&](const http_request& r) -> asio::awaitable<response> {
        seen.add("begins");
        co_await open.wait();
        seen.add(std::string{r.body()});
        co_return response::text("nobody hears");
    });
    net.start();
    for (int i = 0; i != 2; ++i) {
        raw_client one{net.port()};
        one.send(with_body("POST /later", "kept"));
        seen.wait(static_cast<std::size_t>(i) + 1);
        one.reset();
    }
    CHECK(within_a_second([&] { return raw_client{net.port()}.get("/x").status; }) == 503);
    open.open();
    CHECK(seen.wait(4) == "begins begins kept kept");
    CHECK(eventually([&] { return raw_client{net.port()}.get("/x").status == 404; }));
}

TEST_CASE("stop() waits for a coroutine up to stop_timeout, and one that never ends does not keep it") {
    gate open;
    journal seen;
    auto c = at_ws();
    const bool ends = GENERATE(true, false);
    c.listener.stop_timeout = ends ? 5000ms : 50ms;
    running_server net{c};
    net->get("/later", [&](const http_request&) -> asio::awaitable<response> {
        seen.add("begins");
        co_await open.wait();
        co_return response::text("the last");
    });
    net.start();
    raw_client one{net.port()};
    one.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    seen.wait(1);
    net->stop();
    if (ends) {
        open.open();
        const auto reply = one.read_reply();
        CHECK(reply.body == "the last");
        CHECK(reply["connection"] == "close");
    }
    CHECK(one.read_to_end() == "");
}

TEST_CASE("a route is refused where it could not be reached, and where the server is serving already") {
    const auto refusal = [](auto&& f) -> std::string {
        try {
            f();
            return "taken";
        } catch (const std::logic_error& e) {
            return e.what();
        }
    };
    const auto answer = [] { return response{}; };
    arke::server made{{.listener = {.metrics_path = "/metrics"}}};
    CHECK(refusal([&] { made.get("/", answer); }).find("{.endpoint = \"/ws\"}") != std::string::npos);
    CHECK(refusal([&] { made.get("/arke.js", answer); }).find("by the server itself") != std::string::npos);
    CHECK(refusal([&] { made.get("/metrics", answer); }).find("by the server itself") != std::string::npos);
    CHECK(refusal([&] { made.get("/a", answer); }) == "taken");
    CHECK(refusal([&] { made.endpoint("/a"); }).find("is a route already") != std::string::npos);
    CHECK(refusal([&] { made.get("/b", std::function<response()>{}); }).find("is empty") != std::string::npos);

    running_server net{at_ws()};
    net.start();
    CHECK(raw_client{net.port()}.get("/late").status == 404);
    CHECK(refusal([&] { net->get("/late", answer); }).find("route(): the server is serving") != std::string::npos);
}

TEST_CASE("an answer refuses what could not be sent, where it is said") {
    const auto refusal = [](auto&& f) -> std::string {
        try {
            f();
            return "taken";
        } catch (const std::invalid_argument& e) {
            return e.what();
        }
    };
    CHECK(refusal([] { response{199}; }).find("use 200 to 599") != std::string::npos);
    CHECK(refusal([] { response{600}; }).find("600") != std::string::npos);
    CHECK(refusal([] { response::error(302); }).find("use 400 to 599") != std::string::npos);
    CHECK(refusal([] { arke::http_error(200, "x"); }).find("use 400 to 599") != std::string::npos);
    for (const auto* value : {"a\r\nSet-Cookie: b", "a\nb", "a\rb", "\x01"}) {
        CHECK(refusal([&] { response{}.header("X", value); }).find("leave out CR, LF") != std::string::npos);
    }
    const std::string with_nul("a\0b", 3);
    CHECK(refusal([&] { response{}.header("X", with_nul); }).find("leave out CR") != std::string::npos);
    CHECK(refusal([] { response::redirect("/x\r\nA: b"); }).find("leave out CR, LF") != std::string::npos);
    CHECK(refusal([] { response{}.header("X Y", "a"); }).find("use letters") != std::string::npos);
    for (const auto* ours : {"Content-Length", "transfer-encoding", "Connection", "Date", "Upgrade"}) {
        CHECK(refusal([&] { response{}.header(ours, "1"); }).find("the server's to set") != std::string::npos);
    }
    for (const auto* value : {"a b", "a;b", "a,b", "a\"b", "a\\b", "a\r\n", "\xC3\xA9"}) {
        CAPTURE(value);
        CHECK(refusal([&] { response{}.cookie("c", value); }).find("encode it") != std::string::npos);
    }
    CHECK(refusal([] { response{}.cookie("c", "v", {.path = "/a; Domain=evil"}); }).find("leave out spaces") !=
          std::string::npos);
    response twice;
    twice.header("X", "1").header("x", "2").add_header("Y", "3").add_header("Y", "4");
    CHECK(twice.header("X") == "2");
    CHECK(twice.headers().size() == 3);
}

TEST_CASE("what could not be sent is refused, however it is said, and nothing of it is on the wire") {
    // Headers, redirects and cookies: CR, LF and NUL alone and together, in each of their parts.
    std::vector<std::string> parts;
    for (const auto* broken : {"a\r\nInjected: 1", "a\nInjected: 1", "a\rInjected: 1", "a\r\n\r\nInjected"})
        parts.emplace_back(broken);
    parts.push_back(std::string{"a\0Injected", 10});
    std::atomic<int> refused{0};
    std::atomic<int> tried{0};
    const auto tries = [&](auto&& f) {
        ++tried;
        try {
            f();
        } catch (const std::invalid_argument&) {
            ++refused;
        }
    };
    const auto spoil = [&](response& r) {
        for (const auto& bad : parts) {
            tries([&] { r.header("X", bad); });
            tries([&] { r.header(bad, "x"); });
            tries([&] { r.add_header("X", bad); });
            tries([&] { r.add_header(bad, "x"); });
            tries([&] { r.cookie(bad, "v"); });
            tries([&] { r.cookie("c", bad); });
            tries([&] { r.cookie("c", "v", {.path = "/" + bad}); });
            tries([&] { r.cookie("c", "v", {.domain = bad}); });
            tries([&] { r.cookie("c", "v", {.same_site = bad}); });
            tries([&] { r = response::redirect("/" + bad); });
        }
    };
    running_server net{at_ws()};
    net->get("/caught", [&] {
        response r = response::text("fine");
        spoil(r);
        return r;
    });
    net->get("/thrown", [&](const http_request& r) {
        return response::redirect("/" + parts[std::stoul(std::string{*r.query("n")})]);
    });
    net->on_upgrade([&](arke::upgrade& u) {
        for (const auto& bad : parts) {
            tries([&] { u.add_header("X", bad); });
            tries([&] { u.add_header(bad, "x"); });
            tries([&] { u.cookie(bad, "v"); });
            tries([&] { u.cookie("c", bad); });
            tries([&] { u.cookie("c", "v", {.path = bad}); });
            tries([&] { u.choose(bad); });
        }
    });
    net.start();
    const auto bytes_of = [&](const std::string& request, std::size_t expected) {
        refused = tried = 0;
        raw_client one{net.port()};
        one.send(request);
        auto bytes = one.read_until("\r\n\r\n");
        one.shutdown();
        bytes += one.read_to_end();
        CHECK(bytes.find("Injected") == std::string::npos);
        CHECK(bytes.find('\0') == std::string::npos);
        CHECK(bytes.find("Set-Cookie") == std::string::npos);
        // Each CR has its LF, and each LF its CR.
        for (std::size_t at = 0; (at = bytes.find_first_of("\r\n", at)) < bytes.find("\r\n\r\n") + 4; at += 2)
            CHECK(bytes.compare(at, 2, "\r\n") == 0);
        CHECK(tried == static_cast<int>(expected));
        CHECK(refused == tried.load());
        return bytes.substr(0, 12);
    };
    const std::string end = " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    CHECK(bytes_of("GET /caught" + end, 10 * parts.size()) == "HTTP/1.1 200");
    for (std::size_t n = 0; n != parts.size(); ++n)
        CHECK(bytes_of("GET /thrown?n=" + std::to_string(n) + end, 0) == "HTTP/1.1 500");
    CHECK(bytes_of(upgrade_request("/ws", {{"Sec-WebSocket-Protocol", "chat"}}), 6 * parts.size()) == "HTTP/1.1 101");
    CHECK(net.stop() == "");
}
