#include <arke/arke.hpp>
#include <arke/http/session.hpp>
#include <arke/testing.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace arke::test;
using namespace std::chrono_literals;
using arke::testing::memory_transport;

namespace {

using namespace std::string_literals;

constexpr std::string_view key = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a server sent, in short: the status of each answer, with what its headers say of the WebSocket, then frames.
std::string told(std::string_view bytes) {
    std::string out;
    const auto add = [&](const std::string& what) { out += (out.empty() ? "" : " ") + what; };
    while (bytes.starts_with("HTTP/1.1 ")) {
        const auto size = bytes.find("\r\n\r\n");
        if (size == bytes.npos) return out + " cut";
        const std::string head{bytes.substr(0, size + 2)};
        bytes.remove_prefix(size + 4);
        const auto value = [&](const std::string& name) -> std::string {
            const auto at = head.find("\r\n" + name + ": ");
            if (at == head.npos) return {};
            const auto from = at + name.size() + 4;
            return head.substr(from, head.find("\r\n", from) - from);
        };
        add(head.substr(9, 3));
        if (head.starts_with("HTTP/1.1 101")) {
            if (value("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") add("with another key");
            if (value("Upgrade") != "websocket" || value("Connection") != "Upgrade") add("and no upgrade");
            if (!value("Sec-WebSocket-Extensions").empty()) add("with an extension");
            if (const auto chosen = value("Sec-WebSocket-Protocol"); !chosen.empty()) add("for " + chosen);
            break;
        }
        if (const auto version = value("Sec-WebSocket-Version"); !version.empty()) add("version " + version);
        if (const auto allowed = value("Allow"); !allowed.empty()) add("allows " + allowed);
        const auto connection = value("Connection");
        if (connection.ends_with("close")) add("close");
        const auto length = std::stoul("0" + value("Content-Length"));
        if (bytes.size() < length && !bytes.empty()) return out + " cut";
        bytes.remove_prefix(std::min<std::size_t>(length, bytes.size()));
    }
    if (!bytes.empty()) add(arke::testing::transcript(bytes, client::prefix));
    return out;
}

arke::config settings() {
    return {.endpoint = "/ws",
            .origins = {"https://good.com"},
            .subprotocols = {"chat", "game"},
            .log = [](std::string_view) {}};
}

void echo(arke::endpoint& e) {
    e.on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });
}

/// A folder with a page in it, and a secret beside it.
class pages {
public:
    pages() {
        const auto& base = base_.path();
        std::filesystem::create_directories(base / "site");
        std::ofstream{base / "site" / "page.txt"} << "page";
        std::ofstream{base / "secret.txt"} << "secret";
        std::filesystem::create_symlink(base / "secret.txt", base / "site" / "link.txt");
    }

    std::string site() const { return (base_.path() / "site").string(); }

private:
    temporary_folder base_;
};

/// The HTTP side of a server without sockets.
class memory_server {
public:
    explicit memory_server(const std::string& folder = {}, arke::config c = settings()) : server_{std::move(c)} {
        echo(server_);
        server_.hub().share_load(site_->load);
        site_->listener = server_.settings().listener;
        site_->endpoints.emplace_back(&server_.hub());
        if (!folder.empty()) site_->folders.push_back(std::make_unique<arke::http::file_folder>("/files/", folder));
    }
    ~memory_server() {
        for (auto& t : streams_) t->drop();
    }
    memory_server(const memory_server&) = delete;
    memory_server& operator=(const memory_server&) = delete;

    memory_transport& connect() {
        auto& on = server_.loop();
        boost::intrusive_ptr<arke::http::session> made;
        on.in_turn_do([&] {
            made.reset(new arke::http::session{site_, on, "192.0.2.1", 50'000});
            streams_.push_back(std::make_unique<memory_transport>(on, made));
            made->start(*streams_.back());
        });
        return *streams_.back();
    }

    /// What is answered to bytes in these pieces, and whether the server then ends its direction.
    std::string answers(std::string_view bytes, std::size_t first, std::size_t piece) {
        auto& stream = connect();
        stream.arrives(bytes.substr(0, first));
        for (std::size_t at = first; at < bytes.size() && !stream.is_closed; at += piece)
            stream.arrives(bytes.substr(at, piece));
        auto out = told(stream.sent) + (stream.is_closed ? " closed" : stream.is_shut ? " end" : "");
        if (!stream.misuse.empty()) out += " misuse: " + stream.misuse;
        if (!stream.is_closed) stream.ends();
        if (!stream.is_closed) out += " stays after the end";
        streams_.pop_back();
        return out;
    }

    void pass(std::chrono::milliseconds time) { server_.pass(time); }

private:
    arke::testing::server server_;
    std::shared_ptr<arke::http::site> site_ = std::make_shared<arke::http::site>();
    std::vector<std::unique_ptr<memory_transport>> streams_;
};

/// One request, what follows it, and what is answered.
struct row {
    int fault;  ///< The row of the list of faults that it belongs to, for whoever looks it up.
    std::string name;
    std::string request;
    std::string answer;
};

const std::string next_request = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
const std::string first_frame = masked_frame(0x81, "hi");
const std::string refused = "400 close end";

/// The upgrade with one of its lines in another way, and others behind it.
std::string upgrade(std::string_view line = {}, std::string_view instead = {}, std::string_view more = {}) {
    auto text = upgrade_request("/ws");
    if (!line.empty()) text.replace(text.find(line), line.size(), instead);
    return text.insert(text.size() - 2, more);
}

std::string request(std::string_view lines, std::string_view first = "GET /nothing HTTP/1.1") {
    return std::string{first} + "\r\nHost: localhost\r\n" + std::string{lines} + "\r\n";
}

std::string key_line(std::string_view value) { return "Sec-WebSocket-Key: " + std::string{value} + "\r\n"; }

std::vector<row> all_rows() {
    const auto accepted = "101 text(hi)"s;
    const auto not_served = "404 404"s;
    const auto old_version = "426 version 13 close end"s;
    const auto our_key = key_line(key);
    const auto host = "Host: localhost\r\n"s;
    const auto upgrade_line = "Upgrade: websocket\r\n"s;
    const auto connection_line = "Connection: Upgrade\r\n"s;
    const auto version_line = "Sec-WebSocket-Version: 13\r\n"s;
    const auto nul = std::string(1, '\0');
    std::vector<row> t;

    // --- the upgrade as it may be written
    const auto good = [&](const std::string& name, const std::string& text, const std::string& answer = {}) {
        t.push_back({0, name, text + first_frame, answer.empty() ? accepted : answer});
    };
    good("an upgrade", upgrade());
    good("an upgrade after empty lines", "\r\n\r\n" + upgrade());
    good("Upgrade in capitals", upgrade("websocket", "WebSocket"));
    good("Upgrade among others", upgrade("websocket", "h2c, websocket"));
    good("Upgrade in two headers", upgrade("Upgrade: websocket", "Upgrade: h2c\r\nupgrade: websocket"));
    good("Connection of a browser", upgrade("Connection: Upgrade", "Connection: keep-alive, Upgrade"));
    good("Connection in lower case", upgrade("Connection: Upgrade", "connection:upgrade"));
    good("Connection in two headers", upgrade("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade"));
    good("no space after colons", upgrade("Version: 13", "Version:13"));
    good("much space around values", upgrade("Version: 13", "Version: \t 13 \t "));
    good("a body of no bytes", upgrade({}, {}, "Content-Length: 0\r\n"));
    good("a query", upgrade("/ws", "/ws?a=b&c=%00"));
    good("the target in its absolute form", upgrade("/ws", "http://localhost/ws"));
    good("a subprotocol that nobody speaks", upgrade({}, {}, "Sec-WebSocket-Protocol: other\r\n"));
    good("subprotocols, the second of which is spoken",
         upgrade({}, {}, "Sec-WebSocket-Protocol: other, game, chat\r\n"), "101 for game text(hi)");
    good("headers that nobody knows", upgrade({}, {}, "X-A: \xC3\xA9\r\nX-B:\r\nCookie: a=b; c=d\r\n"));

    // --- 1: Host and key
    const auto bad = [&](int fault, const std::string& name, const std::string& text,
                         const std::string& answer = refused) {
        t.push_back({fault, name, text + first_frame + next_request, answer});
    };
    bad(1, "no Host", upgrade(host, ""));
    bad(1, "an empty Host", upgrade("Host: localhost", "Host:"));
    bad(1, "two Hosts", upgrade(host, host + "Host: other\r\n"));
    bad(1, "two Hosts that are equal", upgrade(host, host + "host: localhost\r\n"));
    bad(1, "a Host of two", upgrade("Host: localhost", "Host: localhost, other"));
    bad(1, "a Host with a user", upgrade("Host: localhost", "Host: a@localhost"));
    bad(1, "a Host with a path", upgrade("Host: localhost", "Host: localhost/ws"));
    bad(1, "a Host with a port that is none", upgrade("Host: localhost", "Host: localhost:99999"));
    bad(1, "a target of another host", upgrade("/ws", "http://other/ws"));
    bad(1, "no key", upgrade(our_key, ""));
    bad(1, "two keys", upgrade(our_key, our_key + key_line("AAAAAAAAAAAAAAAAAAAAAA==")));
    bad(1, "two keys that are equal", upgrade(our_key, our_key + our_key));
    for (const auto wrong : {"", "abc", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=",
                             "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25j!Q==", "dGhlIHNhbXBsZSBub25j-Q==",
                             "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZTE=",
                             "dGhlIHNhbXBsZSBub25jZTEy", "dGhlIHNhbXBs ZSBub25jZQ==", "=====================ZQ=="}) {
        bad(1, "the key \""s + wrong + "\"", upgrade(our_key, key_line(wrong)));
    }

    // --- 2: the version
    for (const auto version :
         {"0", "7", "8", "12", "14", "013", "13.0", "1 3", "13, 8", "8, 13", "+13", "", "thirteen"}) {
        bad(2, "version \""s + version + "\"", upgrade("Version: 13", "Version: "s + version), old_version);
    }
    bad(2, "no version", upgrade(version_line, ""), old_version);
    bad(2, "two versions", upgrade(version_line, version_line + "Sec-WebSocket-Version: 8\r\n"), old_version);
    bad(2, "two versions that are equal", upgrade(version_line, version_line + version_line), old_version);

    // --- 3: no upgrade, other methods
    bad(3, "a plain GET", request("", "GET /ws HTTP/1.1"), old_version);
    bad(3, "no Upgrade", upgrade(upgrade_line, ""), old_version);
    bad(3, "another Upgrade", upgrade("websocket", "h2c"), old_version);
    bad(3, "an Upgrade that begins so", upgrade("websocket", "websocket2"), old_version);
    bad(3, "no Connection", upgrade(connection_line, ""), old_version);
    bad(3, "Connection: close", upgrade("Connection: Upgrade", "Connection: close"), old_version);
    bad(3, "a Connection that ends so", upgrade("Connection: Upgrade", "Connection: no-upgrade"), old_version);
    bad(3, "an upgrade of HTTP/1.0", upgrade("HTTP/1.1", "HTTP/1.0"), old_version);
    for (const auto method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "GETS", "BREW"}) {
        bad(3, std::string{method} + " on the WebSocket's path", upgrade("GET", method), "405 allows GET close end");
    }

    // --- 4: bounds
    const auto padded = [&](std::size_t size) {
        const auto empty = request("A: \r\n");
        return request("A: " + std::string(size - empty.size(), 'a') + "\r\n");
    };
    const auto fields = [&](int count) {
        std::string lines;
        for (int i = 1; i != count; ++i) lines += "A: b\r\n";
        return request(lines);
    };
    const auto target = [&](std::size_t size) {
        return request("", "GET /" + std::string(size - 1, 'x') + " HTTP/1.1");
    };
    t.push_back({4, "8 KiB of headers", padded(8192) + next_request, not_served});
    t.push_back({4, "8 KiB of headers and a byte", padded(8193) + next_request, "431 close end"});
    t.push_back({4, "64 KiB of headers", padded(65'536) + next_request, "431 close end"});
    t.push_back({4, "100 headers", fields(100) + next_request, not_served});
    t.push_back({4, "101 headers", fields(101) + next_request, "431 close end"});
    t.push_back({4, "5,000 headers", fields(5000) + next_request, "431 close end"});
    t.push_back({4, "a long target", target(8000) + next_request, not_served});
    t.push_back({4, "a target that leaves no room for the rest", target(8190) + next_request, "414 close end"});
    t.push_back({4, "a target over 8 KiB", target(8193) + next_request, "414 close end"});
    t.push_back({4, "a target of 64 KiB", target(65'536) + next_request, "414 close end"});
    t.push_back({4, "an upgrade of 8 KiB",
                 upgrade({}, {}, "A: " + std::string(8192 - upgrade().size() - 5, 'a') + "\r\n") + first_frame,
                 accepted});
    t.push_back({4, "an upgrade of 8 KiB and a byte",
                 upgrade({}, {}, "A: " + std::string(8193 - upgrade().size() - 5, 'a') + "\r\n") + first_frame,
                 "431 close end"});

    // --- 5: two lengths, bodies
    const auto body = [&](const std::string& name, const std::string& lines, const std::string& answer = refused) {
        bad(5, name, request(lines, "POST /nothing HTTP/1.1"), answer);
    };
    body("a length and an encoding", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n");
    body("an encoding and a length", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n");
    body("a length of none and an encoding", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n");
    for (const auto encoding :
         {"xchunked", "chunked, identity", "identity", "chunked, chunked", "chunked;a=b", "\"chunked\"", "chunk", ""}) {
        body("the encoding \""s + encoding + "\"", "Transfer-Encoding: "s + encoding + "\r\n");
    }
    body("an encoding that nobody here can read", "Transfer-Encoding: gzip, chunked\r\n", "501 close end");
    body("two encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n");
    for (const auto length : {"-1", "+1", "0x10", "1 0", "3, 3", "1e1", "99999999999999999999", "", "three"}) {
        body("the length \""s + length + "\"", "Content-Length: "s + length + "\r\n");
    }
    body("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n");
    body("two lengths that are equal", "Content-Length: 3\r\nContent-Length: 3\r\n");
    body("a body of a length", "Content-Length: 36\r\n", "404 close end");
    body("a body in chunks", "Transfer-Encoding: chunked\r\n", "404 close end");
    bad(5, "an upgrade with a body of a length", upgrade({}, {}, "Content-Length: 5\r\n"));
    bad(5, "an upgrade with a body in chunks", upgrade({}, {}, "Transfer-Encoding: chunked\r\n"));
    bad(5, "an upgrade with a length and an encoding",
        upgrade({}, {}, "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"));

    // --- 6: the grammar of HTTP/1.1
    const auto line = [&](const std::string& name, const std::string& text, const std::string& answer = refused) {
        bad(6, name, text, answer);
    };
    line("a folded header", upgrade({}, {}, "A: b\r\n c\r\n"));
    line("a header folded by a tab", upgrade({}, {}, "A: b\r\n\tc\r\n"));
    line("a folded first header", "GET /ws HTTP/1.1\r\n Host: localhost\r\n\r\n");
    line("LF alone ends the request line", "GET /ws HTTP/1.1\nHost: localhost\r\n\r\n");
    line("LF alone ends a header", upgrade({}, {}, "A: b\n"));
    line("LF alone ends the block", "GET /ws HTTP/1.1\r\nHost: localhost\r\n\n");
    line("CR alone within a header", upgrade({}, {}, "A: b\rc\r\n"));
    line("CR alone ends a header", upgrade({}, {}, "A: b\rB: c\r\n"));
    line("NUL in a value", upgrade({}, {}, "A: b" + nul + "c\r\n"));
    line("NUL in a name", upgrade({}, {}, "A" + nul + ": b\r\n"));
    line("NUL in the target", upgrade("/ws", "/ws" + nul));
    line("NUL in the method", upgrade("GET", "G" + nul + "ET"));
    line("another control character", upgrade({}, {}, "A: \x01\r\n"));
    line("DEL", upgrade({}, {}, "A: \x7F\r\n"));
    line("a space before the colon", upgrade({}, {}, "A : b\r\n"));
    line("a tab before the colon", upgrade({}, {}, "A\t: b\r\n"));
    line("a space before Host's colon", upgrade("Host:", "Host :"));
    line("no colon", upgrade({}, {}, "A\r\n"));
    line("no name", upgrade({}, {}, ": b\r\n"));
    line("a name that is no token", upgrade({}, {}, "A(b): c\r\n"));
    line("two spaces in the request line", upgrade("GET /ws", "GET  /ws"));
    line("a tab in the request line", upgrade("GET /ws", "GET\t/ws"));
    line("a space at the end of the request line", upgrade("HTTP/1.1", "HTTP/1.1 "));
    line("a space before the method", " " + upgrade());
    line("no version", upgrade(" HTTP/1.1", ""));
    line("a version that is none", upgrade("HTTP/1.1", "HTTP/1.x"));
    line("a version in lower case", upgrade("HTTP/1.1", "http/1.1"));
    line("another protocol", upgrade("HTTP/1.1", "HTTQ/1.1"));
    line("HTTP/2.0", upgrade("HTTP/1.1", "HTTP/2.0"), "505 close end");
    line("HTTP/0.9", upgrade("HTTP/1.1", "HTTP/0.9"), "505 close end");
    line("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 close end");
    line("five empty lines", "\r\n\r\n\r\n\r\n\r\n" + upgrade());
    line("a hello of TLS", "\x16\x03\x01\x02\x00\x01\x00"s);
    line("a frame without a request", "");
    line("a target without its slash", upgrade("/ws", "ws"));
    line("a target of another scheme", upgrade("/ws", "ftp://localhost/ws"));
    line("bytes over 127 in the target", upgrade("/ws", "/\xC3\xA9"));
    line("CONNECT", request("", "CONNECT localhost:80 HTTP/1.1"));

    // --- 7: frames before the 101
    t.push_back({7, "frames before the 101",
                 upgrade() + first_frame + masked_frame(0x89, "p") + masked_frame(0x01, "a") + masked_frame(0x80, "b"),
                 "101 text(hi) pong(p) text(ab)"});
    t.push_back(
        {7, "a close before the 101", upgrade() + masked_frame(0x88, "\x03\xE8") + first_frame, "101 close(1000) end"});
    t.push_back({7, "a broken rule before the 101",
                 upgrade() + first_frame +
                     "\x83\x80"
                     "mask",
                 "101 text(hi) close(1002 a reserved opcode) end"});
    t.push_back({7, "half a frame before the 101", upgrade() + first_frame.substr(0, 5), "101"});
    t.push_back({7, "requests, an upgrade and frames at once",
                 next_request + "GET /arke.js HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade() + first_frame,
                 "404 200 101 text(hi)"});

    // --- 8: Origin
    const auto origin = [&](const std::string& value, bool may) {
        const auto text = upgrade({}, {}, "Origin: " + value + "\r\n");
        may ? good("the origin " + value, text) : bad(8, "the origin " + value, text, "403 close end");
    };
    for (const auto ours :
         {"http://localhost", "https://localhost:443", "http://LOCALHOST:80", "https://localhost", "https://good.com"})
        origin(ours, true);
    for (const auto foreign : {"null",
                               "",
                               "http://good.com",
                               "https://good.com:444",
                               "https://good.com.evil",
                               "https://evil-good.com",
                               "http://localhost.evil",
                               "http://evil.localhost",
                               "http://localhost:81",
                               "http://localhost@evil",
                               "http://evil@localhost",
                               "https://good.com/",
                               "https://good.com, http://localhost",
                               "localhost",
                               "//localhost",
                               "file://",
                               "*",
                               "http://localhost/evil",
                               "http://localhost:80:80",
                               "http://localhost#",
                               "javascript://localhost"}) {
        origin(foreign, false);
    }
    bad(8, "two origins of ours", upgrade({}, {}, "Origin: http://localhost\r\nOrigin: http://localhost\r\n"),
        "403 close end");

    // --- 10: offers of extensions
    const auto offer = [&](const std::string& name, const std::string& value) {
        t.push_back({10, name, upgrade({}, {}, "Sec-WebSocket-Extensions: " + value + "\r\n") + first_frame, accepted});
    };
    std::string many = "permessage-deflate";
    for (int i = 1; i != 200; ++i) many += ",x;a;b=" + std::to_string(i) + ";c=\"d\"";
    offer("200 offers", many);
    offer("window bits of 7", "permessage-deflate; server_max_window_bits=7");
    offer("window bits of 16", "permessage-deflate; client_max_window_bits=16");
    offer("a quote that is not closed", "permessage-deflate; a=\"b");
    offer("a parameter twice", "permessage-deflate; server_no_context_takeover; server_no_context_takeover");
    offer("nothing but commas", std::string(4000, ','));
    offer("nothing but quotes", std::string(4000, '"'));

    // --- 11: ways out of a folder
    const auto file = [&](const std::string& path, const std::string& answer) {
        t.push_back({11, "the file " + path, request("", "GET /files/" + path + " HTTP/1.1") + next_request, answer});
    };
    file("page.txt", "200 404");
    for (const auto way : {"../secret.txt",
                           "..",
                           "%2e%2e/secret.txt",
                           "%2E%2E%2Fsecret.txt",
                           "..%2fsecret.txt",
                           "..%5csecret.txt",
                           "..\\secret.txt",
                           "%252e%252e/secret.txt",
                           "page.txt%00",
                           "page.txt%00.html",
                           "%00",
                           "/etc/passwd",
                           "//etc/passwd",
                           "/../secret.txt",
                           ".//../secret.txt",
                           "page.txt/../../secret.txt",
                           "page.txt/",
                           "link.txt",
                           "....//secret.txt",
                           ".%2e/secret.txt"}) {
        file(way, not_served);
    }
    return t;
}

/// How many bytes of a request come first where it is cut in two: every number, or in a long one some.
std::vector<std::size_t> cuts_of(std::size_t size) {
    std::vector<std::size_t> cuts;
    const auto step = std::max<std::size_t>(1, size / 500);
    for (std::size_t at = 1; at < size; at += step) cuts.push_back(at);
    return cuts;
}

}  // namespace

TEST_CASE("each request has one answer, whole, at every cut and byte by byte, and nothing behind a fault is read") {
    const pages folder;
    memory_server server{folder.site()};
    const auto rows = all_rows();
    CHECK(rows.size() > 200);
    for (const auto& r : rows) {
        INFO("row " << r.fault << ", " << r.name << ":\n" << r.request.substr(0, 500));
        const auto size = r.request.size();
        CHECK(server.answers(r.request, size, 1) == r.answer);
        CHECK(server.answers(r.request, 0, 1) == r.answer);
        std::string wrong;
        for (const auto at : cuts_of(size)) {
            const auto answer = server.answers(r.request, at, size);
            if (answer != r.answer && wrong.empty()) wrong = "cut at " + std::to_string(at) + ": " + answer;
        }
        CHECK(wrong == "");
    }
}

TEST_CASE("over sockets, on each loop, each request has the same answer, whole and chopped; others connect meanwhile") {
    const pages folder;
    running_server net{quiet(GENERATE(from_range(all_loops())), settings())};
    echo(net.server());
    net->files("/files/", folder.site());
    net.start();
    client canary{net.port(), "/ws"};
    for (const auto& r : all_rows()) {
        // A stream that goes on is ended by the client.
        const bool goes_on = !r.answer.ends_with(" end");
        const auto size = r.request.size();
        for (const auto piece : {size, size < 400 ? std::size_t{1} : size / 16}) {
            INFO("row " << r.fault << ", " << r.name << ", in pieces of " << piece << ":\n"
                        << r.request.substr(0, 500));
            raw_client one{net.port()};
            for (std::size_t at = 0; at < size && one.send(std::string_view{r.request}.substr(at, piece));
                 at += piece) {
            }
            if (goes_on) one.shutdown();
            CHECK(told(one.read_to_end()) + (goes_on ? "" : " end") == r.answer);
        }
    }
    canary.send("all is well");
    CHECK(canary.receive() == "all is well");
}

TEST_CASE(
    "row 12: a thousand clients that send a byte a second are closed at handshake_timeout; others connect meanwhile") {
    memory_server server;
    const auto request = upgrade();
    std::vector<memory_transport*> drips;
    for (int n = 0; n != 1000; ++n) drips.push_back(&server.connect());
    for (std::size_t second = 0; second != 10; ++second) {
        for (auto* one : drips) {
            CHECK_FALSE(one->is_closed);
            one->arrives(std::string_view{request}.substr(second, 1));
        }
        CHECK(server.connect().sent.empty());
        server.pass(second == 9 ? 999ms : 1000ms);
        CHECK(server.answers(request + first_frame, request.size(), 100) == "101 text(hi)");
    }
    server.pass(200ms);
    for (auto* one : drips) {
        CHECK(one->is_closed);
        CHECK(told(one->sent) == "408 close");
    }
}
