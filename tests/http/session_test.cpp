#include <arke/arke.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;

namespace {

/// A server with its WebSocket at /ws.
running_server& started(running_server& net) {
    net->on_connection([](arke::connection& c) { c.emit("ready"); });
    net.start();
    return net;
}

arke::config at_ws() { return quiet(GENERATE(from_range(all_loops())), {.endpoint = "/ws"}); }

/// The status of the answer to these bytes, and whether the server closes after it: "400 closed".
std::string answer_to(std::uint16_t port, const std::string& bytes) {
    raw_client one{port};
    one.send(bytes);
    const auto reply = one.read_reply(bytes.starts_with("HEAD "));
    if (!reply["connection"].ends_with("close")) return std::to_string(reply.status) + " stays";
    return std::to_string(reply.status) + (one.read_to_end().empty() ? " closed" : " and more");
}

class folder {
public:
    folder() {
        path_ = std::filesystem::temp_directory_path() / ("arke-session-" + arke::core::endpoint::random_id());
        std::filesystem::create_directories(path_);
        std::ofstream{path_ / "index.html"} << "<p>home</p>";
        std::ofstream{path_ / "big.txt"} << std::string(4U << 20U, 'b');
    }
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;
    std::string path() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

}  // namespace

TEST_CASE("what is nowhere is 404, and the connection serves the next request") {
    running_server net{at_ws()};
    started(net);
    raw_client one{net.port()};
    for (int i = 0; i != 3; ++i) {
        const auto reply = one.get("/nothing");
        CHECK(reply.status == 404);
        CHECK(reply["content-type"] == "text/plain; charset=utf-8");
        CHECK(reply["connection"].empty());
        CHECK_FALSE(reply["date"].empty());
        CHECK_FALSE(reply.body.empty());
    }
    const auto head = one.get("/nothing", {}, "HEAD");
    CHECK(head.status == 404);
    CHECK(head["content-length"] != "0");
    CHECK(one.get("/arke.js").status == 200);  // nothing but the head came before
}

TEST_CASE("Connection: close, and HTTP/1.0, end after the answer") {
    running_server net{at_ws()};
    started(net);
    CHECK(answer_to(net.port(), "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") == "404 closed");
    CHECK(answer_to(net.port(), "GET /x HTTP/1.0\r\n\r\n") == "404 closed");
}

TEST_CASE("pipelined requests are answered in order") {
    running_server net{at_ws()};
    started(net);
    raw_client one{net.port()};
    one.send(
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /arke.js HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n" +
        upgrade_request("/ws"));
    CHECK(one.read_reply().status == 404);
    CHECK(one.read_reply()["content-type"] == "text/javascript; charset=utf-8");
    CHECK(one.read_reply().status == 404);
    CHECK(one.read_reply().status == 101);
    CHECK(one.read_until("ready;0;").ends_with("ready;0;"));
}

TEST_CASE("a request in single bytes is the same request") {
    running_server net{at_ws()};
    started(net);
    raw_client one{net.port()};
    for (const char c : std::string{"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"})
        one.send({&c, 1});
    CHECK(one.read_reply().status == 404);
    CHECK(one.read_reply().status == 404);
}

TEST_CASE("a plain request on the WebSocket's path is told how to ask") {
    running_server net{at_ws()};
    started(net);
    raw_client one{net.port()};
    const auto plain = one.get("/ws");
    CHECK(plain.status == 426);
    CHECK(plain["upgrade"] == "websocket");
    CHECK(plain["sec-websocket-version"] == "13");
    CHECK(one.ends());
    raw_client two{net.port()};
    const auto post = two.get("/ws", {}, "POST");
    CHECK(post.status == 405);
    CHECK(post["allow"] == "GET");
    raw_client three{net.port()};
    three.send("HEAD /ws HTTP/1.1\r\nHost: x\r\n\r\n");
    const auto head = three.read_reply(true);
    CHECK(head.status == 405);
    CHECK(three.read_to_end() == "");  // an answer to HEAD has no body
}

TEST_CASE("faulty upgrades are answered by what is wrong, and nothing after them is read") {
    running_server net{at_ws()};
    started(net);
    const std::string smuggled = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    const auto with = [&](const std::string& from, const std::string& to) {
        auto text = upgrade_request("/ws");
        text.replace(text.find(from), from.size(), to);
        return answer_to(net.port(), text + smuggled);
    };
    CHECK(with("Host: localhost\r\n", "") == "400 closed");
    CHECK(with("Host: localhost\r\n", "Host: a\r\nHost: b\r\n") == "400 closed");
    CHECK(with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "") == "400 closed");
    CHECK(with("dGhlIHNhbXBsZSBub25jZQ==", "abc") == "400 closed");
    CHECK(with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") ==
          "400 closed");
    CHECK(with("Version: 13", "Version: 8") == "426 closed");
    CHECK(with("Upgrade: websocket\r\n", "Upgrade: websocket\r\nContent-Length: 5\r\n") == "400 closed");
    CHECK(with("Upgrade: websocket\r\n", "Upgrade: websocket\r\nOrigin: http://evil.com\r\n") == "403 closed");
    raw_client one{net.port()};
    one.send(upgrade_request("/ws", {{"Origin", "http://evil.com"}}) + masked_frame(0x81, "x"));
    const auto reply = one.read_reply();
    CHECK(reply.status == 403);
    CHECK(reply["connection"] == "close");
    CHECK(one.read_to_end() == "");
    raw_client two{net.port()};
    two.send(
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
        "dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 7\r\n\r\n");
    CHECK(two.read_reply()["sec-websocket-version"] == "13");
}

TEST_CASE("requests that two parsers may read in two ways are 400, and nothing after them is read") {
    running_server net{at_ws()};
    started(net);
    const std::string smuggled = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    const std::vector<std::string> table{
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(1, '\0') + "\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        // A number, but none that we could count to; and no list of tokens.
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep alive\r\n\r\n",
        "\x16\x03\x01 a TLS hello",
    };
    for (const auto& bytes : table) {
        CAPTURE(bytes);
        CHECK(answer_to(net.port(), bytes + smuggled) == "400 closed");
    }
}

TEST_CASE("a request with a body is answered, and what follows is not read as a request") {
    running_server net{at_ws()};
    started(net);
    const std::string smuggled = "GET /arke.js HTTP/1.1\r\nHost: x\r\n\r\n";
    const auto length = std::to_string(smuggled.size());
    CHECK(answer_to(net.port(), "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + "\r\n\r\n" + smuggled) ==
          "404 closed");
    CHECK(answer_to(net.port(), "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled) ==
          "404 closed");
    raw_client one{net.port()};
    CHECK(one.get("/a", {{"Content-Length", "0"}}).status == 404);
    CHECK(one.get("/a", {{"Content-Length", "00"}}).status == 404);
}

TEST_CASE("a header block over its bounds is answered by 431 or 414, at the bound it is served") {
    running_server net{at_ws()};
    started(net);
    const auto block = [](std::size_t size) {
        std::string text = "GET /x HTTP/1.1\r\nHost: x\r\nA: ";
        return text + std::string(size - text.size() - 4, 'a') + "\r\n\r\n";
    };
    CHECK(answer_to(net.port(), block(8 * 1024)) == "404 stays");
    CHECK(answer_to(net.port(), block(8 * 1024 + 1)) == "431 closed");
    CHECK(answer_to(net.port(), block(1024 * 1024)) == "431 closed");
    const auto fields = [](int count) {
        std::string text = "GET /x HTTP/1.1\r\nHost: x\r\n";
        for (int i = 1; i != count; ++i) text += "A: b\r\n";
        return text + "\r\n";
    };
    CHECK(answer_to(net.port(), fields(100)) == "404 stays");
    CHECK(answer_to(net.port(), fields(101)) == "431 closed");
    CHECK(answer_to(net.port(), "GET /" + std::string(8 * 1024, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n") == "414 closed");
    CHECK(answer_to(net.port(), "GET /" + std::string(7 * 1024, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n") == "404 stays");
}

TEST_CASE("the JavaScript clients are served with type, tag and 304") {
    running_server net{at_ws()};
    started(net);
    const std::string path = GENERATE("/arke.js", "/iris-ws.js");
    raw_client one{net.port()};
    const auto first = one.get(path);
    CHECK(first.status == 200);
    CHECK(first["content-type"] == "text/javascript; charset=utf-8");
    CHECK(first["cache-control"] == "no-cache");
    CHECK(first["access-control-allow-origin"] == "*");
    CHECK(first.body.size() > 1000);
    const auto tag = first["etag"];
    CHECK(tag.size() > 4);
    CHECK(tag.front() == '"');

    const auto again = one.get(path, {{"If-None-Match", tag}});
    CHECK(again.status == 304);
    CHECK(again["etag"] == tag);
    CHECK(again.body.empty());
    CHECK(one.get(path, {{"If-None-Match", "\"other\", " + tag}}).status == 304);
    CHECK(one.get(path, {{"If-None-Match", "\"other\""}}).status == 200);
    CHECK(one.get(path + "?v=2").status == 200);

    const auto head = one.get(path, {}, "HEAD");
    CHECK(head.status == 200);
    CHECK(head["content-length"] == first["content-length"]);
    const auto post = one.get(path, {}, "POST");
    CHECK(post.status == 405);
    CHECK(post["allow"] == "GET, HEAD");
    CHECK(one.get("/arke.js").status == 200);
}

TEST_CASE("files are served below their prefix, large ones too, and to a client that reads late") {
    const folder pages;
    auto c = at_ws();
    running_server net{c};
    net->files("/", pages.path());
    started(net);
    raw_client one{net.port(), 4096};
    const auto home = one.get("/");
    CHECK(home.status == 200);
    CHECK(home["content-type"].starts_with("text/html"));
    CHECK(home.body == "<p>home</p>");
    CHECK(one.get("/", {{"If-None-Match", home["etag"]}}).status == 304);
    CHECK(one.get("/missing").status == 404);
    CHECK(one.get("/../secret").status != 200);
    CHECK(one.get("/arke.js").body.size() > 1000);
    CHECK(one.get("/big.txt").body.size() == 4U << 20U);
    const auto head = one.get("/big.txt", {}, "HEAD");
    CHECK(head["content-length"] == std::to_string(4U << 20U));
    // Two at once: the second is served when the first is gone.
    one.send(
        "GET /big.txt HTTP/1.1\r\nHost: x\r\n\r\nGET /big.txt HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: "
        "x\r\n\r\n");
    CHECK(one.read_reply().body.size() == 4U << 20U);
    CHECK(one.read_reply().body.size() == 4U << 20U);
    CHECK(one.read_reply().body == "<p>home</p>");
}

TEST_CASE("a client that ends its direction after its request still gets the whole answer") {
    const folder pages;
    running_server net{at_ws()};
    net->files("/", pages.path());
    started(net);
    raw_client one{net.port(), 4096};
    one.send("GET /big.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    one.shutdown();
    CHECK(one.read_reply().body.size() == 4U << 20U);
}
