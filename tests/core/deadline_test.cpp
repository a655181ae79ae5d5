#include <arke/server.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

TEST_CASE("who is silent is pinged after ping_period, and cut after pong_timeout") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    server.pass(53'990ms);
    CHECK(anna.heard() == "");
    server.pass(26ms);
    CHECK(anna.heard() == "ping()");
    server.pass(5'960ms);
    CHECK(anna.heard() == "");
    CHECK(server.is_connected("anna"));
    server.pass(40ms);
    CHECK(told.read() == "anna error " + std::to_string(static_cast<int>(errc::pong_timeout)) +
                             ", anna gone 1006 nothing was heard from the peer for pong_timeout");
    CHECK(anna.heard() == "closed");
    CHECK(server.is_freed(anna));
}

TEST_CASE("whoever answers pings stays") {
    scripted_server server{{.pong_timeout = 10s, .ping_period = 4s}};
    diary told{server};
    auto& anna = server.connect("anna");
    std::string heard;
    for (int seconds = 0; seconds != 60; ++seconds) {
        server.pass(1s);
        if (const auto text = anna.heard(); !text.empty()) {
            heard += text + " ";
            anna.pongs();
        }
    }
    CHECK(heard.starts_with("ping() ping() "));
    CHECK(heard.size() / 7 >= 11);
    CHECK(heard.size() / 7 <= 15);
    CHECK(server.is_connected("anna"));
}

// A server that was stopped for longer than pong_timeout lost everybody: those whose pong it had not read, and those whom it had not asked.
TEST_CASE("a loop that stood still hears what came meanwhile before it gives anybody up, and asks who was not asked") {
    scripted_server server{{.pong_timeout = 10s, .ping_period = 4s}};
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    server.pass(4100ms);
    CHECK(anna.heard() == "ping()");
    CHECK(ben.heard() == "ping()");
    auto& cleo = server.connect("cleo");
    server.stand_still(60s);
    server.pass(0ms);
    anna.pongs();
    CHECK(server.size() == 3);
    server.pass(1100ms);
    CHECK(server.is_connected("anna"));
    CHECK(ben.heard() == "closed");
    CHECK(cleo.heard() == "ping()");
    // Who does not answer has the usual time, but no more.
    server.pass(5800ms);
    CHECK(server.is_connected("cleo"));
    server.pass(1500ms);
    CHECK(cleo.heard() == "closed");
}

TEST_CASE("nor where a deadline comes at the end of the standstill, or the next standstill is right behind") {
    scripted_server server{{.pong_timeout = 10s, .ping_period = 4s}};
    auto& anna = server.connect("anna");
    server.pass(8300ms);
    CHECK(anna.heard() == "ping()");
    SECTION("at its end") {
        server.stand_still(1800ms);
        server.pass(0ms);
    }
    SECTION("right behind") {
        for (int i = 0; i != 3; ++i) {
            server.stand_still(20s);
            server.pass(0ms);
        }
    }
    anna.pongs();
    server.pass(1100ms);
    CHECK(server.is_connected("anna"));
}

TEST_CASE("a loop that is late each time gives up who is silent all the same") {
    scripted_server server{{.pong_timeout = 10s, .ping_period = 4s}};
    auto& anna = server.connect("anna");
    server.pass(4100ms);
    CHECK(anna.heard() == "ping()");
    for (int i = 0; i != 8; ++i) {
        server.stand_still(1s);
        server.pass(0ms);
    }
    CHECK(anna.heard() == "closed");
}

TEST_CASE("whatever is heard counts as a sign of life, part of a frame too") {
    scripted_server server{{.pong_timeout = 10s, .ping_period = 9s, .message_timeout = 1h}};
    auto& anna = server.connect("anna");
    const auto frame = client_frame(0x81, line(50));
    for (const char byte : frame) {
        server.pass(8s);
        anna.sends({&byte, 1});
    }
    CHECK(anna.heard() == "");
    CHECK(server.is_connected("anna"));
}

TEST_CASE("an unfinished message and then silence is cut at pong_timeout") {
    scripted_server server{{.pong_timeout = 10s}};
    auto& anna = server.connect("anna");
    anna.sends(client_frame(0x01, "begun"));
    auto& ben = server.connect("ben");
    ben.sends(client_frame(0x81, "begun").substr(0, 8));
    server.pass(9'984ms);
    CHECK(anna.heard() == "ping()");
    CHECK(ben.heard() == "ping()");
    CHECK(server.size() == 2);
    server.pass(32ms);
    CHECK(anna.heard() == "closed");
    CHECK(ben.heard() == "closed");
}

TEST_CASE("a message that is not whole after message_timeout closes its sender, however steadily it comes") {
    // A byte a second was heard for ever, and held its connection and its memory for as long.
    scripted_server server{{.message_timeout = 20s}};
    diary told{server};
    auto& anna = server.connect("anna");
    const std::string code = std::to_string(static_cast<int>(errc::message_timeout));
    SECTION("in one frame") {
        const auto frame = client_frame(0x81, line(500));
        anna.sends(std::string_view{frame}.substr(0, 8));
        std::size_t at = 8;
        for (; at != 27; ++at) {
            server.pass(1s);
            anna.sends({&frame[at], 1});
        }
        CHECK(anna.heard() == "");
        CHECK(server.is_connected("anna"));
        server.pass(990ms);
        CHECK(server.is_connected("anna"));
        server.pass(26ms);
    }
    SECTION("in fragments, with pings between them") {
        anna.sends(client_frame(0x01, "begun"));
        for (int seconds = 0; seconds != 19; ++seconds) {
            server.pass(1s);
            anna.sends(client_frame(0x89, "p"));
            anna.sends(client_frame(0x00, "on"));
            CHECK(anna.heard() == "pong(p)");
            CHECK(told.read() == "anna pings");
        }
        server.pass(1'016ms);
    }
    CHECK(told.read() == "anna error " + code + ", anna gone 1008 a message that took longer than message_timeout");
    CHECK(anna.heard() == "close(1008 a message that took longer than message_timeout) end");
    CHECK_FALSE(server.is_connected("anna"));
}

TEST_CASE("each message has the whole message_timeout, and none between them") {
    scripted_server server{{.pong_timeout = 10min, .message_timeout = 20s}};
    auto& anna = server.connect("anna");
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    const auto frame = client_frame(0x81, "hello");
    for (int turn = 0; turn != 4; ++turn) {
        anna.sends(std::string_view{frame}.substr(0, 9));
        server.pass(19s);
        anna.sends(std::string_view{frame}.substr(9));
        CHECK(anna.heard() == "text(hello)");
        server.pass(25s);
    }
    CHECK(server.is_connected("anna"));
}

TEST_CASE("what the server sends is no sign of the client's life") {
    scripted_server server{{.pong_timeout = 10s}};
    server.connect("anna");
    for (int seconds = 0; seconds != 11; ++seconds) {
        server.pass(1s);
        server.to("anna").emit("tick");
    }
    CHECK_FALSE(server.is_connected("anna"));
}

TEST_CASE("who takes no byte for write_timeout is cut") {
    scripted_server server{{.write_timeout = 15s}};
    diary told{server};
    auto& anna = server.connect("anna");
    anna.reads_only(5);
    server.to("anna").emit_message("hello there");
    server.settle();
    server.pass(14'990ms);
    CHECK(server.is_connected("anna"));
    server.pass(26ms);
    CHECK(told.read() == "anna error " + std::to_string(static_cast<int>(errc::write_timeout)) +
                             ", anna gone 1006 the peer took no byte for write_timeout");
    CHECK(anna.heard() == "... reset");  // reset: what it was sent did not all arrive
}

TEST_CASE("who takes a little now and then is not cut") {
    scripted_server server{{.write_timeout = 15s, .pong_timeout = 1000s}};
    auto& anna = server.connect("anna");
    anna.reads_only(0);
    server.to("anna").emit_message(line(100));
    server.settle();
    for (int n = 0; n != 20; ++n) {
        server.pass(14s);
        anna.reads(1);
    }
    CHECK(server.is_connected("anna"));
    anna.reads_everything();
    CHECK(anna.heard() == "text(100 bytes)");
    server.pass(100s);
    CHECK(server.is_connected("anna"));
}

TEST_CASE("room that brings no progress does not put write_timeout off") {
    scripted_server server{{.write_timeout = 15s}};
    auto& anna = server.connect("anna");
    anna.reads_only(0);
    server.to("anna").emit_message("hello");
    server.settle();
    server.pass(10s);
    anna.stream().most_at_once = 0;
    anna.reads(1);  // writable, and then it is not
    server.pass(5'010ms);
    CHECK_FALSE(server.is_connected("anna"));
}

TEST_CASE("a ping that falls due while the client lags is sent all the same") {
    // It was left out, so that a client which read slowly and then well was cut without having been asked.
    scripted_server server{{.write_timeout = 15s, .pong_timeout = 60s}};
    auto& anna = server.connect("anna");
    server.pass(50s);
    anna.reads_only(0);
    server.to("anna").emit_message("slowly");
    server.settle();
    server.pass(5s);
    anna.reads_everything();
    CHECK(anna.heard() == "text(slowly) ping()");
    anna.pongs();
    server.pass(50s);
    CHECK(server.is_connected("anna"));
    CHECK(anna.heard() == "");
}

TEST_CASE("the alarm is set for deadlines and not for messages") {
    scripted_server server;
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto& anna = server.connect("anna");
    const auto alarm = server.loop().alarm();
    for (int n = 0; n != 100; ++n) anna.says("hello");
    CHECK(server.loop().alarm() == alarm);
    CHECK(server.loop().alarms == 0);
    server.pass(50s);
    anna.says("here");
    server.pass(53s);
    CHECK(server.loop().alarms <= 2);
}
