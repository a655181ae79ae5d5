#include <arke/arke.hpp>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;
using namespace std::chrono_literals;
using arke::config;
using arke::connection;

namespace {

void echo(arke::server& s) {
    s.on_message([](connection& c, arke::message_view m) { c.emit_message(m); });
    s.on_connection([](connection& c) { c.emit("ready"); });
}

std::string code_of(const arke::error_report& e) {
    return e.code == arke::errc::pong_timeout    ? "pong_timeout"
           : e.code == arke::errc::write_timeout ? "write_timeout"
           : e.code == arke::errc::outbox_full   ? "outbox_full"
                                                 : e.code.message();
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------ messages

TEST_CASE("a message of max_message_size is taken, one byte more closes with 1009; others lose nothing") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    echo(net.server());
    net.start();
    client canary{net.port()};
    client one{net.port()};
    REQUIRE(canary.receive() == "ready;0;");
    REQUIRE(one.receive() == "ready;0;");
    const std::string most(1024, 'a');
    one.send(most);
    CHECK(one.receive() == most);
    one.send_fragments({std::string(1000, 'a'), std::string(24, 'a')});
    CHECK(one.receive() == most);
    SECTION("in one frame") {
        one.send(most + "a");
        CHECK(one.receive() == "close(1009 a message over max_message_size)");
    }
    SECTION("in fragments") {
        one.send_fragments({std::string(1000, 'a'), std::string(25, 'a')});
        CHECK(one.receive() == "close(1009 a message over max_message_size)");
    }
    canary.send("tweet");
    CHECK(canary.receive() == "tweet");
}

TEST_CASE("10 MiB travel both ways where the config allows it, several in flight") {
    constexpr std::size_t size = 10U << 20U;
    running_server net{
        quiet(GENERATE(from_range(all_loops())), {.max_message_size = size, .max_outbox_bytes = 4 * size})};
    echo(net.server());
    net->on("make", [](connection& c, std::size_t n) { c.to(arke::all).emit("made", std::string(n, 'z')); });
    net.start();
    client one{net.port()};
    REQUIRE(one.receive() == "ready;0;");
    std::string big(size, '\0');
    for (std::size_t i = 0; i != size; ++i) big[i] = static_cast<char>((i * 2654435761U) >> 13U);
    one.send(big, true);
    CHECK((one.receive() == big));
    one.emit("make", std::to_string(size - 100));
    one.emit("make", std::to_string(size));
    one.send("small");
    CHECK(one.receive().size() == std::string{"made;0;"}.size() + size - 100);
    CHECK(one.receive().size() == std::string{"made;0;"}.size() + size);
    CHECK(one.receive() == "small");
}

TEST_CASE("fragments with control frames between them are one message") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    echo(net.server());
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request());
    one.read_until("ready;0;");
    one.send(masked_frame(0x01, "one ") + masked_frame(0x89, "ping") + masked_frame(0x00, "\xC3") +
             masked_frame(0x80, "\xA4"));
    CHECK(one.read(6) == "\x8A\x04ping");
    CHECK(one.read(8) == "\x81\x06one \xC3\xA4");
}

TEST_CASE("many messages at once, and one byte at a time, are the same messages in order") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    echo(net.server());
    net.start();
    std::string frames;
    std::string answers;
    for (int i = 0; i != 200; ++i) {
        const auto text = "message " + std::to_string(i);
        frames += masked_frame(0x81, text);
        answers += std::string{"\x81"} + static_cast<char>(text.size()) + text;
    }
    SECTION("at once") {
        raw_client one{net.port()};
        one.send(upgrade_request());
        one.read_until("ready;0;");
        one.send(frames);
        CHECK(one.read(answers.size()) == answers);
    }
    SECTION("with the request, before the 101") {
        raw_client one{net.port()};
        one.send(upgrade_request() + frames);
        one.read_until("ready;0;");
        CHECK(one.read(answers.size()) == answers);
    }
    SECTION("one byte at a time") {
        raw_client one{net.port()};
        for (const char c : upgrade_request()) one.send({&c, 1});
        one.read_until("ready;0;");
        for (const char c : frames.substr(0, 400)) one.send({&c, 1});
        one.send(frames.substr(400));
        CHECK(one.read(answers.size()) == answers);
    }
}

TEST_CASE("a peer that breaks the framing rules is told the code; others lose nothing") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    echo(net.server());
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net.start();
    client canary{net.port()};
    REQUIRE(canary.receive() == "ready;0;");
    const std::vector<std::pair<std::string, std::string>> table{
        {"\x81\x01x", "1002"},                     // not masked
        {masked_frame(0xC1, "x"), "1002"},         // a reserved bit
        {masked_frame(0x83, "x"), "1002"},         // a reserved opcode
        {masked_frame(0x80, "x"), "1002"},         // a continuation of nothing
        {masked_frame(0x81, "\xFF"), "1007"},      // no UTF-8
        {masked_frame(0x88, "\x03"), "1002"},      // a close with half a code
        {masked_frame(0x88, "\x03\xEC"), "1002"},  // 1004
        {std::string{"\x81\xFF\x80\0\0\0\0\0\0\0mask", 14}, "1002"},
        {std::string{"\x81\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFFmask", 14}, "1009"},
    };
    std::string all;
    for (std::size_t i = 0; i != table.size(); ++i) {
        raw_client one{net.port()};
        one.send(upgrade_request());
        one.read_until("ready;0;");
        CAPTURE(i);
        one.send(table[i].first);
        const auto head = one.read(4);
        REQUIRE(head.size() == 4);
        CHECK(head[0] == '\x88');
        const auto code = static_cast<unsigned char>(head[2]) * 256 + static_cast<unsigned char>(head[3]);
        CHECK(std::to_string(code) == table[i].second);
        all += (i == 0 ? "" : " ") + table[i].second;
        CHECK(seen.wait(i + 1) == all);
        CHECK(one.ends());
    }
    canary.send("tweet");
    CHECK(canary.receive() == "tweet");
}

TEST_CASE("of a thousand pings to a server one socket long, each is answered and the order is kept") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    echo(net.server());
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request());
    one.read_until("ready;0;");
    std::string pings;
    std::string pongs;
    for (int i = 0; i != 1000; ++i) {
        pings += masked_frame(0x89, "p");
        pongs += "\x8A\x01p";
    }
    one.send(pings + masked_frame(0x81, "x"));
    CHECK(one.read(pongs.size() + 3) == pongs + "\x81\x01x");
}

// ----------------------------------------------------------------------------------------------------------- deadlines

TEST_CASE("pings are sent after ping_period of silence, and a peer that answers stays") {
    // After a pong the next look at the connection came only when pong_timeout would have passed since the ping.
    const auto pong_timeout = GENERATE(3000ms, 5000ms);
    // For longer than the one, in less than the other.
    const std::size_t enough = pong_timeout == 3000ms ? 180 : 15;
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())), {.pong_timeout = pong_timeout, .ping_period = 20ms})};
    net->on_pong([&](connection& c) {
        seen.add("pong");
        if (seen.size() == enough) c.emit("enough");
    });
    net.start();
    const auto begin = std::chrono::steady_clock::now();
    client one{net.port()};
    CHECK(one.receive() == "enough;0;");
    CHECK(one.controls().starts_with("ping()ping()"));
    if (pong_timeout > 3s) CHECK(std::chrono::steady_clock::now() - begin < pong_timeout);
}

TEST_CASE("a peer that answers nothing is cut at pong_timeout; one that talks stays") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())), {.pong_timeout = 3s, .ping_period = 40ms})};
    echo(net.server());
    net->on_error([&](const arke::error_report& e) { seen.add(code_of(e)); });
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net.start();
    raw_client silent{net.port()};
    silent.send(upgrade_request());
    silent.read_until("ready;0;");
    client talker{net.port()};
    REQUIRE(talker.receive() == "ready;0;");
    while (seen.size() != 2 && talker.send("I am here") && talker.receive() == "I am here") {
    }
    CHECK(seen.wait(2) == "pong_timeout 1006");
    CHECK(silent.read(2) == std::string_view{"\x89\0", 2});
    CHECK(silent.read_to_end() == "");
    talker.send("and I stay");
    CHECK(talker.receive() == "and I stay");
}

TEST_CASE("a peer that never reads is closed at max_outbox_bytes with 1013, and the others lose nothing") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool together = GENERATE(true, false);
    journal seen;
    running_server net{quiet(loop, {.close_timeout = 100ms, .max_outbox_bytes = 256 * 1024})};
    net->on_connection([](connection& c) {
        c.join("tea");
        c.emit("ready");
    });
    net->on_error([&](const arke::error_report& e) { seen.add(code_of(e)); });
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net->on_leave([&] { seen.add("left"); });
    net->on("flood", [&](connection& c) {
        const std::string text(16 * 1024, 'f');
        if (together) {
            c.to("tea").emit("flood", text);
        } else {
            for (const auto& h : net->connections()) h.emit("flood", text);
        }
    });
    net.start();
    client slow{net.port(), "/", {}, 4096};
    client fast{net.port()};
    REQUIRE(slow.receive() == "ready;0;");
    REQUIRE(fast.receive() == "ready;0;");
    std::size_t heard = 0;
    std::size_t sent = 0;
    // The kernel takes some megabytes before it says stop.
    for (; net->size() == 2 && sent != 4000; ++sent) {
        fast.emit("flood");
        heard += fast.receive().size() == 16 * 1024 + 8 ? 1U : 0U;
    }
    CHECK(heard == sent);
    CHECK(seen.wait(3) == "outbox_full left 1013");
    fast.emit("flood");
    CHECK(fast.receive().size() == 16 * 1024 + 8);
}

TEST_CASE("a peer that reads again before the bound gets everything, in order") {
    running_server net{quiet(GENERATE(from_range(all_loops())), {.max_outbox_bytes = 64U << 20U})};
    net->on("flood", [](connection& c, int count) {
        for (int i = 0; i != count; ++i) c.emit("n", std::to_string(i) + std::string(10'000, '.'));
        c.emit("waits", c.buffered_amount() > 0);
    });
    net.start();
    client one{net.port(), "/", {}, 4096};
    one.emit("flood", "2000");
    one.ping("x");
    int right = 0;
    for (int i = 0; i != 2000; ++i) {
        if (one.receive().substr(4, std::to_string(i).size() + 1) == std::to_string(i) + ".") ++right;
    }
    CHECK(right == 2000);
    CHECK(one.receive() == "waits;2;true");
}

TEST_CASE("a peer that takes none of what waits for it is cut at write_timeout") {
    journal seen;
    running_server net{
        quiet(GENERATE(from_range(all_loops())), {.write_timeout = 60ms, .max_outbox_bytes = 64U << 20U})};
    net->on_error([&](const arke::error_report& e) { seen.add(code_of(e)); });
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net->on("flood", [](connection& c) {
        for (int i = 0; i != 2000; ++i) c.emit("n", std::string(10'000, '.'));
    });
    net.start();
    client slow{net.port(), "/", {}, 4096};
    slow.emit("flood");
    CHECK(seen.wait(2) == "write_timeout 1006");
    client other{net.port()};
    CHECK(other.status() == 101);
}

TEST_CASE("a peer that does not answer our close frame is cut at close_timeout") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())), {.close_timeout = 40ms})};
    net->on_connection([](connection& c) { c.disconnect(); });
    net->on_disconnect(
        [&](arke::close_code code, std::string_view) { seen.add(std::to_string(static_cast<int>(code))); });
    net.start();
    raw_client one{net.port()};
    one.send(upgrade_request());
    one.read_until("\r\n\r\n");
    CHECK(one.read(4) == "\x88\x02\x03\xE8");
    CHECK(one.ends());
    CHECK(seen.wait(1) == "1000");
}

TEST_CASE("a client that does not finish its request is closed at handshake_timeout; others connect meanwhile") {
    auto c = quiet(GENERATE(from_range(all_loops())));
    c.listener.handshake_timeout = 3s;
    running_server net{c};
    echo(net.server());
    net.start();
    raw_client silent{net.port()};
    raw_client slow{net.port()};
    slow.send("GET / HTTP/1.1\r\nHost: x");
    raw_client idle{net.port()};
    CHECK(idle.get("/nothing").status == 404);
    client other{net.port()};
    CHECK(other.receive() == "ready;0;");
    CHECK(silent.read_to_end() == "");
    CHECK(slow.read_to_end().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    CHECK(idle.read_to_end() == "");
    other.send("I stay");
    CHECK(other.receive() == "I stay");
}

TEST_CASE("one that sends its request byte by byte gets no longer than handshake_timeout for all of it") {
    auto c = quiet(GENERATE(from_range(all_loops())));
    c.listener.handshake_timeout = 60ms;
    running_server net{c};
    net.start();
    raw_client drip{net.port()};
    const auto begin = std::chrono::steady_clock::now();
    drip.send("GET / HTTP/1.1\r\nX: ");
    bool alive = true;
    while (alive && std::chrono::steady_clock::now() - begin < patience) alive = drip.send("x");
    CHECK_FALSE(alive);
}

TEST_CASE("past max_connections a client hears 503 and when to come back, until somebody goes") {
    auto c = quiet(GENERATE(from_range(all_loops())));
    c.listener.max_connections = 2;
    running_server net{c};
    echo(net.server());
    net.start(2);
    client one{net.port()};
    client two{net.port()};
    REQUIRE(one.receive() == "ready;0;");
    REQUIRE(two.receive() == "ready;0;");
    const auto reply = within_a_second([&] {
        raw_client three{net.port()};
        three.send(upgrade_request());
        auto heard = three.read_reply();
        CHECK(three.ends());
        return heard;
    });
    CHECK(reply.status == 503);
    CHECK(reply["retry-after"] == "5");
    one.send("fine");
    CHECK(one.receive() == "fine");
    two.close();
    CHECK(eventually([&] { return client{net.port()}.status() == 101; }));
    one.send("fine");
    CHECK(one.receive() == "fine");
}

TEST_CASE("who always has more to say gets less of it served at once, and the others' turn comes") {
    running_server server{quiet(GENERATE(from_range(all_loops())))};
    constexpr int all = 40'000;  // 320 kB
    std::atomic<bool> waits{false};
    std::atomic<bool> all_there{false};
    std::atomic<int> served{0};
    std::atomic<int> before{-1};
    server->on_message([&](arke::message_view m) {
        if (m.data == "wait") {
            waits = true;
            // Not for ever, where the kernel does not take all of it.
            const auto end = std::chrono::steady_clock::now() + 5s;
            while (!all_there && std::chrono::steady_clock::now() < end) std::this_thread::yield();
            return;
        }
        if (m.data == "other") {
            before = served.load();
            return;
        }
        ++served;
        // Handlers that take their time: 20 us each.
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds{20};
        while (std::chrono::steady_clock::now() < end) {
        }
    });
    server.start();
    client other{server.port()};
    raw_client flood{server.port()};
    flood.send(upgrade_request());
    REQUIRE(flood.read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    std::string frames;
    for (int i = 0; i != all; ++i) frames += masked_frame(0x81, "ab");
    // The kernel has all of it before the loop comes to it: the flood, and then what the other says.
    other.send("wait");
    CHECK(eventually([&] { return waits.load(); }));
    CHECK(flood.send(frames));
    other.send("other");
    all_there = true;
    CHECK(eventually([&] { return served == all && before >= 0; }));
    // One read of what is there would be nearly all of them.
    CHECK(before < all / 2);
}
