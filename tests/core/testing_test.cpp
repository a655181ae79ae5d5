#include <arke/testing.hpp>

#include <memory>
#include <stdexcept>
#include <string>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;

TEST_CASE("a stream whose reads are paused keeps what arrives, in order, until they go on") {
    scripted_server server;
    diary heard{server};
    auto& anna = server.connect("anna");
    anna.stream().pause_reads(true);
    anna.says("one");
    anna.says("two");
    CHECK(heard.read() == "");
    anna.stream().pause_reads(false);
    CHECK(heard.read() == "anna says one, anna says two");
    CHECK_FALSE(anna.stream().catch_up());
}

// The end was told at once, and what had arrived before it was lost.
TEST_CASE("the end of a stream whose reads are paused is heard behind what it keeps, and not before they go on") {
    scripted_server server;
    diary heard{server};
    auto& anna = server.connect("anna");
    anna.stream().pause_reads(true);
    anna.says("one");
    anna.hangs_up();
    CHECK(heard.read() == "");
    anna.stream().pause_reads(false);
    CHECK(heard.read() == "anna says one, anna gone 1006");
}

TEST_CASE("a transcript tells what is no frame of a server") {
    CHECK(transcript("\x81\x82xx") == "garbage");
    CHECK(transcript("\xC1\x01x") == "garbage");
    CHECK(transcript("\x83\x01x") == "garbage");
    CHECK(transcript("\x81\x03x") == "...");
    CHECK(transcript("\x81\x7E\x01") == "...");
    CHECK(testing::transcript("\x81\x02zz", {}) == "garbage");
    CHECK(testing::transcript("\x81\x05"
                              "as7 x\x81\x02rx",
                              {}) == "answer 7(x) garbage");
}

TEST_CASE("a client that has agreed on compression tells what it cannot inflate") {
    scripted_server server{{.compression = {.enabled = true}}};
    auto& anna = server.connect_deflating("anna");
    server.to("anna").emit_message("hello");
    CHECK(anna.heard() == "text(hello)");
    server.in_turn([&] {
        const std::string_view frame{"\xC1\x02\xFF\xFF"};
        anna.stream().send({&frame, 1});
    });
    CHECK(anna.heard() == "garbage");
}

TEST_CASE("what a connection is told outside of a turn leaves with the next one") {
    scripted_server server;
    auto& anna = server.connect("anna");
    anna.heard();
    anna.self().emit_message("text");
    anna.self().emit_message(message_view{"as it came", false});
    CHECK(anna.stream().sent.ends_with(client::greeting));
    CHECK(anna.heard() == "text(text) binary(as it came)");
}

TEST_CASE("a ping of 126 bytes is refused, and nothing is sent") {
    scripted_server server;
    auto& anna = server.connect("anna");
    server.in_turn([&] {
        CHECK_THROWS_AS(anna.self().ping(as_bytes(std::string(126, 'p'))), std::invalid_argument);
        anna.self().ping(as_bytes(std::string(125, 'p')));
    });
    CHECK(anna.heard() == "ping(125 bytes)");
}

TEST_CASE("who speaks a protocol without the event misses it, which is counted; the others hear it") {
    scripted_server server{{.native_by_default = true}};
    auto& anna = server.connect_v1("anna");
    auto& ben = server.connect("ben");

    server.to(arke::all).emit("news", 1);
    server.to(arke::all).emit_message("everybody");
    CHECK(anna.heard() == "news(1) text(everybody)");
    CHECK(ben.heard() == "text(everybody)");
    CHECK(server.hub().not_deliverable.load() == 1);
    CHECK_THROWS_AS(server.find("ben").emit("news", 2), std::invalid_argument);
}
