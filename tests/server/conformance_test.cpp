#include <arke/arke.hpp>
#include <arke/testing.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/conformance/cases.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test::conformance;
using arke::close_code;
using arke::connection;
using arke::message_view;
using arke::test::all_loops;
using arke::test::header_list;
using arke::test::journal;
using arke::test::quiet;
using arke::test::raw_client;
using arke::test::running_server;
using arke::test::upgrade_request;

namespace {

constexpr std::string_view asked = "as you asked";

/// Sends every message back, and closes where it is told to.
void echo(arke::server& s) {
    s.on_message([](connection& c, message_view m) {
        if (m.is_text && m.data == "close") return c.disconnect(close_code{4001}, asked);
        c.emit_message(m);
    });
    s.on_ping([](connection& c, arke::bytes_view payload) {
        if (arke::as_text(payload) == "close") c.disconnect(close_code{4001}, asked);
    });
}

arke::config with(const bounds& b, arke::loop_kind loop) {
    return quiet(
        loop,
        {.max_message_size = b.max_message_size, .max_fragments = b.max_fragments, .max_outbox_bytes = 256UL << 20U});
}

/// Somebody who does nothing wrong, and whose messages come back.
class canary {
public:
    explicit canary(std::uint16_t port) : client_{port} {}

    std::string sings() {
        const auto song = std::to_string(++songs_ % 10);  // one byte: it fits every bound
        client_.send(song);
        return client_.receive() == song ? "all is well" : "it fell silent";
    }

private:
    arke::test::client client_;
    int songs_ = 0;
};

std::string short_text(std::string_view bytes) {
    const auto text = arke::testing::transcript(bytes, arke::test::client::prefix);
    return text.size() < 1000 ? text : text.substr(0, 1000) + "...";
}

/// What the server answers to bytes that arrive in these pieces, up to the end of its direction.
std::string answers_to(std::uint16_t port, std::string_view bytes, std::size_t piece) {
    raw_client one{port};
    if (!one.send(upgrade_request())) return "no upgrade";
    if (!one.read_until("\r\n\r\n").starts_with("HTTP/1.1 101")) return "no upgrade";
    // Whoever has been told the end may not be listened to any more.
    for (std::size_t at = 0; at < bytes.size() && one.send(bytes.substr(at, piece)); at += piece) {
    }
    return one.read_to_end();
}

}  // namespace

TEST_CASE("over sockets, on each loop, each case of RFC 6455 is answered with exactly these bytes, whole and chopped") {
    const auto loop = GENERATE(from_range(all_loops()));
    std::vector<bounds> all_bounds;
    for (const auto& c : all_cases()) {
        if (std::find(all_bounds.begin(), all_bounds.end(), c.limits) == all_bounds.end())
            all_bounds.push_back(c.limits);
    }
    for (const auto& limits : all_bounds) {
        running_server net{with(limits, loop)};
        echo(net.server());
        net.start();
        canary bird{net.port()};
        for (const auto& c : all_cases()) {
            if (c.limits != limits) continue;
            auto bytes = bytes_of(c, sender::client);
            const auto size = bytes.size();
            bytes += bytes_of(frame{0x81, ""}, sender::client) + bytes_of(frame{0x88, "\x03\xE8"}, sender::client);
            const auto right = answers_to(c) + (c.end ? "" : server_frame(0x81, "") + server_frame(0x88, "\x03\xE8"));
            for (const auto piece : {bytes.size(), size < 64 ? std::size_t{1} : size / 7}) {
                const auto heard = answers_to(net.port(), bytes, piece);
                INFO(c.group << ": " << c.name << ", in pieces of " << piece);
                CHECK(short_text(heard) == short_text(right));
                CHECK((heard == right));
            }
        }
        CHECK(bird.sings() == "all is well");
    }
}

TEST_CASE("over sockets a closing handshake has one outcome, whoever begins it and whatever comes after") {
    running_server net{with({}, GENERATE(from_range(all_loops())))};
    echo(net.server());
    net.start();
    canary bird{net.port()};
    for (const auto& c : closing_cases()) {
        std::string bytes;
        for (const auto& f : c.frames) bytes += bytes_of(f, sender::client);
        for (const auto piece : {bytes.size(), std::max<std::size_t>(1, bytes.size() / 60)}) {
            INFO(c.name << ", in pieces of " << piece);
            CHECK(short_text(answers_to(net.port(), bytes, piece)) + " end" == c.answer);
        }
    }
    CHECK(bird.sings() == "all is well");
}

TEST_CASE("all cases that are right come back in one stream, whatever its pieces") {
    std::string bytes;
    std::string right;
    for (const auto& c : all_cases()) {
        if (c.end || c.limits != bounds{}) continue;
        bytes += bytes_of(c, sender::client);
        right += answers_to(c);
    }
    bytes += bytes_of(frame{0x88, "\x03\xE8"}, sender::client);
    right += server_frame(0x88, "\x03\xE8");
    running_server net{with({}, GENERATE(from_range(all_loops())))};
    echo(net.server());
    net.start();
    for (const std::size_t piece : {bytes.size(), std::size_t{100'000}, std::size_t{4093}}) {
        CHECK((answers_to(net.port(), bytes, piece) == right));
    }
}

// ------------------------------------------------------------------------------------- Beast's client on the other end

namespace {

/// An echo server that writes down how connections end.
struct telling_server {
    journal ends;
    running_server net;

    telling_server() : net{with({}, GENERATE(from_range(all_loops())))} {
        echo(net.server());
        net->on_disconnect([this](close_code code, std::string_view reason) {
            ends.add(std::to_string(static_cast<unsigned>(code)) + (reason.empty() ? "" : ":") + std::string{reason});
        });
    }

    std::uint16_t start() {
        net.start();
        return net.port();
    }
};

}  // namespace

TEST_CASE("Beast's client sends messages of every size in frames of every size, and gets them back") {
    telling_server server;
    const auto port = server.start();
    for (const std::size_t frame_size : {0U, 8U, 125U, 126U, 4096U, 65'536U}) {
        arke::test::client one{port};
        if (frame_size != 0) one.send_in_frames_of(frame_size);
        for (const std::size_t size :
             {0U, 1U, 7U, 8U, 9U, 125U, 126U, 127U, 1000U, 65'535U, 65'536U, 65'537U, 500'000U}) {
            if (frame_size != 0 && size > 2000 * frame_size) continue;
            for (const bool binary : {false, true}) {
                const std::string payload(size, binary ? '\xFE' : 'a');
                INFO(size << " bytes in frames of " << frame_size);
                REQUIRE(one.send(payload, binary));
                CHECK((one.receive() == payload));
                CHECK(one.got_binary() == binary);
            }
        }
        std::string expected;
        for (int n = 0; n != 300; ++n) {
            one.send(std::to_string(n));
            expected += (n == 0 ? "" : " ") + std::to_string(n);
        }
        CHECK(one.receive(300) == expected);
        CHECK(one.close());
    }
    CHECK(server.ends.wait(6) == "1000 1000 1000 1000 1000 1000");
}

TEST_CASE("Beast's client and the server ping each other, asked and by themselves") {
    journal heard;
    telling_server server;
    server.net->on_ping([&](connection& c, arke::bytes_view payload) {
        heard.add(std::to_string(payload.size()));
        if (heard.size() == 5) c.ping(arke::as_bytes("mine"));
    });
    server.net->on_pong([](connection& c, arke::bytes_view payload) { c.emit_message(arke::as_text(payload)); });
    arke::test::client one{server.start()};
    std::string pongs;
    for (const std::size_t size : {0U, 1U, 124U, 125U}) {
        const std::string payload(size, 'p');
        REQUIRE(one.ping(payload));
        pongs += "pong(" + payload + ")";
    }
    one.send_fragments({"some", " of", " it"});
    CHECK(one.receive() == "some of it");
    CHECK(one.controls() == pongs);
    one.ping_in_silence(std::chrono::seconds{5});
    CHECK(one.receive() == "mine");
    CHECK(heard.wait(5).starts_with("0 1 124 125 0"));
}

TEST_CASE("Beast's client closes with each code, and is answered") {
    telling_server server;
    const auto port = server.start();
    std::string expected;
    std::size_t count = 0;
    for (const unsigned code : {1000U, 1001U, 1003U, 1008U, 1011U, 3000U, 4999U}) {
        for (const std::string reason : {"", "au_revoir_\xC3\xA9"}) {
            arke::test::client one{port};
            CHECK(one.close(static_cast<std::uint16_t>(code), reason));
            expected += (count++ == 0 ? "" : " ") + std::to_string(code) + (reason.empty() ? "" : ":") + reason;
            CHECK(server.ends.wait(count) == expected);
        }
    }
}

TEST_CASE("the server closes, or both at once, and Beast's client is content") {
    telling_server server;
    arke::test::client told{server.start()};
    told.send("close");
    CHECK(told.receive() == "close(4001 as you asked)");
    // Before it has read our close, it sends its own.
    arke::test::client both{server.net.port()};
    both.send("close");
    CHECK(both.close(1000));
    CHECK(server.ends.wait(2) == "4001:as you asked 4001:as you asked");
}
