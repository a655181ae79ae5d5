#include <arke/server.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

// Who asks, behind proxies that are trusted and behind others: the header of the PROXY protocol, X-Forwarded-For and Forwarded,
// and the limits of addresses, which count the client.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

/// A server that says who a connection is: "192.0.2.7 12345".
config telling(loop_kind loop, std::vector<std::string> trusted, bool proxy_protocol = false) {
    auto c = quiet(loop);
    c.listener.trusted_proxies = std::move(trusted);
    c.listener.proxy_protocol = proxy_protocol;
    return c;
}

running_server& started(running_server& net) {
    net->on_connection([](connection& c) {
        c.emit_message(std::string{c.request().remote_address()} + " " + std::to_string(c.request().remote_port()) +
                       "!");
    });
    net.start();
    return net;
}

/// What the server answers to these bytes: who it takes us for, the status that it refuses with, or "closed".
std::string said_to(std::uint16_t port, const std::string& bytes) {
    raw_client one{port};
    one.send(bytes);
    const auto reply = one.read_reply();
    if (reply.status == 0) return "closed";
    if (reply.status != 101) return std::to_string(reply.status);
    one.read(2);
    return one.read_until("!");
}

std::string with(const std::string& name, const std::string& value) { return upgrade_request("/", {{name, value}}); }

const std::string v2_header = std::string{"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0F", 16} +
                              std::string{"\xC0\x00\x02\x07\x0A\x00\x00\x01\x30\x39\x01\xBB", 12} + "\x04" +
                              std::string(2, '\0');
const std::string v1_header = "PROXY TCP6 2001:db8::7 ::1 12345 443\r\n";

}  // namespace

// ---------------------------------------------------------------------------------------------------- the PROXY protocol

TEST_CASE("a trusted proxy says by its header whose bytes follow, whole or byte by byte") {
    running_server net{telling(GENERATE(from_range(all_loops())), {"127.0.0.1"}, true)};
    started(net);
    CHECK(said_to(net.port(), v2_header + upgrade_request()) == "192.0.2.7 12345!");
    CHECK(said_to(net.port(), v1_header + upgrade_request()) == "2001:db8::7 12345!");
    raw_client slow{net.port()};
    for (const char c : v2_header + upgrade_request()) slow.send({&c, 1});
    CHECK(slow.read_reply().status == 101);
    slow.read(2);
    CHECK(slow.read_until("!") == "192.0.2.7 12345!");
    // A proxy that asks for itself.
    const auto itself = said_to(net.port(), std::string{"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16} + upgrade_request());
    CHECK(itself.starts_with("127.0.0.1 "));
    CHECK(net->metrics().bad_proxy_headers == 0);
}

TEST_CASE("of whom the header does not name, no header of HTTP is believed either") {
    // A proxy says LOCAL or UNKNOWN also of clients whose address it does not know: by X-Forwarded-For they could be anybody.
    auto c = telling(loop_kind::automatic, {"127.0.0.1", "10.0.0.0/8"}, true);
    c.listener.forwarded = GENERATE(forwarded_header::x_forwarded_for, forwarded_header::forwarded);
    running_server net{std::move(c)};
    started(net);
    const auto claim = upgrade_request("/", {{"X-Forwarded-For", "192.0.2.66"}, {"Forwarded", "for=192.0.2.66"}});
    for (const auto& header : {std::string{"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16},
                               std::string{"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0", 16}, std::string{"PROXY UNKNOWN\r\n"}})
        CHECK(said_to(net.port(), header + claim).starts_with("127.0.0.1 "));
    // Who is named, and is a trusted proxy too, speaks for others as before.
    CHECK(said_to(net.port(), "PROXY TCP4 10.0.0.9 127.0.0.1 1 2\r\n" + claim) == "192.0.2.66 0!");
}

TEST_CASE("a trusted proxy that sends no header is closed without an answer, and counted") {
    running_server net{telling(GENERATE(from_range(all_loops())), {"127.0.0.0/8"}, true)};
    started(net);
    CHECK(said_to(net.port(), upgrade_request()) == "closed");
    CHECK(said_to(net.port(), "PROXY TCP4 999.0.2.7 ::1 1 2\r\n" + upgrade_request()) == "closed");
    CHECK(net->metrics().bad_proxy_headers == 2);
}

TEST_CASE("a header that is not there in time is not waited for, and what follows has what is left of that time") {
    auto c = telling(GENERATE(from_range(all_loops())), {"127.0.0.1"}, true);
    c.listener.handshake_timeout = 3s;
    running_server net{std::move(c)};
    started(net);
    raw_client one{net.port()};
    one.send(v1_header.substr(0, 10));
    raw_client two{net.port()};
    two.send(v1_header + "GET / HT");
    CHECK(one.read_to_end() == "");
    CHECK(two.read_to_end().starts_with("HTTP/1.1 408"));
    CHECK(net->metrics().bad_proxy_headers == 1);
}

TEST_CASE("of others the header is a bad request") {
    running_server net{telling(GENERATE(from_range(all_loops())), {"10.0.0.0/8"}, true)};
    started(net);
    CHECK(said_to(net.port(), v1_header + upgrade_request()) == "400");
    CHECK(said_to(net.port(), v2_header + upgrade_request()) == "400");
    CHECK(said_to(net.port(), upgrade_request()).starts_with("127.0.0.1 "));
    CHECK(net->metrics().bad_proxy_headers == 0);
}

TEST_CASE("the limits of addresses count whom the header names") {
    auto c = telling(loop_kind::automatic, {"127.0.0.1"}, true);
    c.listener.max_connections_per_address = 1;
    running_server net{std::move(c)};
    started(net);
    raw_client first{net.port()};
    first.send(v1_header + upgrade_request());
    CHECK(first.read_reply().status == 101);
    CHECK(said_to(net.port(), v1_header + upgrade_request()) == "429");
    CHECK(said_to(net.port(), v2_header + upgrade_request()) == "192.0.2.7 12345!");
    // IPv6 counts by its first half.
    CHECK(said_to(net.port(), "PROXY TCP6 2001:db8::8 ::1 1 443\r\n" + upgrade_request()) == "429");
    // Some of an address may wait to hear 429; past those it is closed, and the others are served.
    std::vector<std::unique_ptr<raw_client>> silent;
    CHECK(eventually([&] {
        silent.push_back(std::make_unique<raw_client>(net.port()));
        silent.back()->send(v1_header);
        return said_to(net.port(), v1_header + upgrade_request()) == "closed";
    }));
    CHECK(net->metrics().turned_away > 0);
    CHECK(said_to(net.port(), v2_header + upgrade_request()) == "192.0.2.7 12345!");
    silent.clear();
    first.drop();
    CHECK(eventually([&] { return said_to(net.port(), v1_header + upgrade_request()).starts_with("2001:db8::7"); }));
}

// ------------------------------------------------------------------------------------------------------ forwarded headers

TEST_CASE("X-Forwarded-For of a trusted proxy names who asks: the rightmost that is not trusted") {
    running_server net{telling(GENERATE(from_range(all_loops())), {"127.0.0.1", "10.0.0.0/8"})};
    started(net);
    CHECK(said_to(net.port(), with("X-Forwarded-For", "192.0.2.7")) == "192.0.2.7 0!");
    CHECK(said_to(net.port(), with("x-forwarded-for", "6.6.6.6, 192.0.2.7:99 , 10.0.0.9")) == "192.0.2.7 99!");
    CHECK(said_to(net.port(), upgrade_request("/", {{"X-Forwarded-For", "6.6.6.6"},
                                                    {"X-Forwarded-For", "192.0.2.8"}})) == "192.0.2.8 0!");
    CHECK(said_to(net.port(), upgrade_request()).starts_with("127.0.0.1 "));
    // The other header is handed on as a client wrote it: nobody looks at it.
    CHECK(said_to(net.port(), with("Forwarded", "for=6.6.6.6")).starts_with("127.0.0.1 "));
}

TEST_CASE("Forwarded does the same where the config says that the proxies write it") {
    auto c = telling(loop_kind::automatic, {"127.0.0.1"});
    c.listener.forwarded = forwarded_header::forwarded;
    running_server net{std::move(c)};
    started(net);
    CHECK(said_to(net.port(), with("Forwarded", "for=6.6.6.6, for=\"[2001:db8::7]:99\";proto=https")) ==
          "2001:db8::7 99!");
    CHECK(said_to(net.port(), with("Forwarded", "for=6.6.6.6, for=_hidden")).starts_with("127.0.0.1 "));
    CHECK(said_to(net.port(), with("X-Forwarded-For", "6.6.6.6")).starts_with("127.0.0.1 "));
}

TEST_CASE("of others neither header is believed") {
    running_server net{telling(loop_kind::automatic, {"10.0.0.0/8"})};
    started(net);
    CHECK(said_to(net.port(), with("X-Forwarded-For", "192.0.2.7")).starts_with("127.0.0.1 "));
    running_server plain{quiet(loop_kind::automatic)};
    started(plain);
    CHECK(said_to(plain.port(), with("X-Forwarded-For", "192.0.2.7")).starts_with("127.0.0.1 "));
}

TEST_CASE("behind a trusted proxy each client has its own bound of connections, and the proxy none") {
    auto c = telling(GENERATE(from_range(all_loops())), {"127.0.0.1"});
    c.listener.max_connections_per_address = 1;
    running_server net{std::move(c)};
    started(net);
    raw_client first{net.port()};
    first.send(with("X-Forwarded-For", "192.0.2.7"));
    CHECK(first.read_reply().status == 101);
    CHECK(said_to(net.port(), with("X-Forwarded-For", "192.0.2.7")) == "429");
    CHECK(said_to(net.port(), with("X-Forwarded-For", "192.0.2.8")) == "192.0.2.8 0!");
    raw_client another{net.port()};
    another.send(upgrade_request());
    CHECK(another.read_reply().status == 101);
    CHECK(said_to(net.port(), upgrade_request()).starts_with("127.0.0.1 "));
    first.drop();
    CHECK(eventually([&] { return said_to(net.port(), with("X-Forwarded-For", "192.0.2.7")) == "192.0.2.7 0!"; }));
}

// ------------------------------------------------------------------------------------------------- handshakes per second

TEST_CASE("an address may upgrade so often in a second, and once more is 429 that says when") {
    auto c = telling(GENERATE(from_range(all_loops())), {});
    c.listener.max_handshakes_per_second = 1;
    c.listener.handshake_burst = 3;
    running_server net{std::move(c)};
    started(net);
    const auto began = std::chrono::steady_clock::now();
    int let_in = 0;
    for (bool is_refused = false; !is_refused && let_in != 100;) {
        raw_client one{net.port()};
        one.send(upgrade_request());
        const auto reply = one.read_reply();
        is_refused = reply.status != 101;
        if (!is_refused) {
            ++let_in;
            continue;
        }
        CHECK(reply.status == 429);
        CHECK(reply["retry-after"] == "1");
        CHECK(one.ends());
    }
    CHECK(let_in >= 3);
    // And one more for each second that a slow machine took for them.
    CHECK(let_in <= 3 + std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    CHECK(net->metrics().answered(429) == 1);
    // Pages and scripts are no handshakes.
    raw_client two{net.port()};
    CHECK(two.get("/arke.js").status == 200);
    CHECK(eventually([&] { return said_to(net.port(), upgrade_request()).starts_with("127.0.0.1 "); }));
}

TEST_CASE("behind a trusted proxy the handshakes of each client are counted apart, and the proxy's own not at all") {
    auto c = telling(loop_kind::automatic, {"127.0.0.1"});
    c.listener.max_handshakes_per_second = 1;
    running_server net{std::move(c)};
    started(net);
    CHECK(said_to(net.port(), with("X-Forwarded-For", "192.0.2.7")) == "192.0.2.7 0!");
    // The next is in time, or where the machine is slow, one behind it.
    CHECK(eventually([&] { return said_to(net.port(), with("X-Forwarded-For", "192.0.2.7")) == "429"; }));
    CHECK(said_to(net.port(), with("X-Forwarded-For", "192.0.2.8")) == "192.0.2.8 0!");
    for (int i = 0; i != 5; ++i) CHECK(said_to(net.port(), upgrade_request()).starts_with("127.0.0.1 "));
}

TEST_CASE("a flood over a socket is read no faster than its rate") {
    auto c = quiet(GENERATE(from_range(all_loops())), {.max_messages_per_second = 100, .message_burst = 50});
    running_server net{std::move(c)};
    net->on_message([](connection& who, message_view m) { who.emit_message(m); });
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request());
    REQUIRE(one.read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    const auto began = std::chrono::steady_clock::now();
    CHECK(is_echoed_all(one, 70));
    // 50 at once, the others at 100 a second: slower than any machine sends them.
    CHECK(std::chrono::steady_clock::now() - began >= 195ms);
    CHECK(net->metrics().slowed >= 1);
    one.send(masked_frame(0x81, "still here"));
    CHECK(one.read_until("still here") == "\x81\x0Astill here");
}

// Its answer was held back like all that it says, and it was cut.
TEST_CASE("who is held to a rate is told goodbye like all others, also while it is slowed") {
    running_server net{quiet(GENERATE(from_range(all_loops())), {.max_messages_per_second = 1, .message_burst = 1})};
    net->on_message([](connection& who, message_view m) { who.emit_message(m); });
    net.start();
    client one{net.port()};
    // More than would be in time within any patience.
    one.send("first");
    for (int i = 0; i != 60; ++i) one.send("too soon");
    CHECK(one.receive() == "first");
    net->stop();
    auto heard = one.receive();
    while (heard == "too soon") heard = one.receive();
    CHECK(heard == "close(1001 the server stops)");
    CHECK(net.wait() == "");
}
