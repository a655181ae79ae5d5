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

TEST_CASE("a transcript tells what is no frame of a server") {
    CHECK(transcript("\x81\x82xx") == "garbage");
    CHECK(transcript("\xC1\x01x") == "garbage");
    CHECK(transcript("\x83\x01x") == "garbage");
    CHECK(transcript("\x81\x03x") == "...");
    CHECK(transcript("\x81\x7E\x01") == "...");
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

namespace {

/// A protocol that has no events.
class only_native final : public protocol {
public:
    std::string_view name() const noexcept override { return "native"; }
    void receive(protocol_user& user, const message_view& message) const override { user.on_native(message); }
    std::optional<form> measure(const event_view&, std::string& why) const override {
        why = "this protocol has no events";
        return std::nullopt;
    }
    void write(char*, const event_view&) const noexcept override {}
};

}  // namespace

TEST_CASE("who speaks a protocol without the event misses it, which is counted; the others hear it") {
    testing::server server;
    server.hub().add_protocol(std::make_unique<only_native>());
    auto& anna = server.connect("anna");
    auto& loop = server.loop();
    const auto p = server.hub().make(loop, "ben", 1, request{});
    memory_transport stream{loop, p};
    server.in_turn([&] {
        CHECK(server.hub().admit(*p) == core::hub::admission::taken);
        p->greet("");
        p->open(stream);
    });

    server.to(arke::all).emit("news", 1);
    server.to(arke::all).emit_message("everybody");
    CHECK(anna.heard() == "news(1) text(everybody)");
    CHECK(transcript(stream.sent) == "text(everybody)");
    CHECK(server.hub().not_deliverable.load() == 1);
    CHECK_THROWS_AS(server.find("ben").emit("news", 2), std::invalid_argument);
    CHECK(stream.misuse == "");
    stream.drop();
}
