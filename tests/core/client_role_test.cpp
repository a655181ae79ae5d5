#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/conformance/cases.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

// The same engine as a client: it masks what it sends, and wants frames without masks. The other end is the test.

using namespace arke;
using namespace arke::test::conformance;
using arke::test::scripted_server;
namespace wire = arke::wire;

namespace {

class scripted_client : public scripted_server {
public:
    explicit scripted_client(config settings = {}, bool sends_in_batches = false)
        : scripted_server{std::move(settings), 1, 16 * 1024, sends_in_batches} {
        hub().become_client();
    }
};

/// What a client sent, as a server would have sent it: without the masks, which are counted. Anything that is not masked, or cut,
/// is "not masked".
struct unmasked {
    std::string bytes;
    std::set<std::string> keys;
    std::size_t frames = 0;

    explicit unmasked(std::string_view in) {
        const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(in[i])); };
        while (!in.empty()) {
            if (in.size() < 6 || (byte(1) & 0x80U) == 0) {
                bytes += "not masked";
                return;
            }
            std::size_t at = 2;
            std::size_t size = byte(1) & 0x7FU;
            if (size >= 126) {
                at += size == 126 ? 2 : 8;
                size = 0;
                for (std::size_t i = 2; i != at; ++i) size = size << 8U | byte(i);
            }
            const std::string key{in.substr(at, 4)};
            std::string payload{in.substr(at + 4, size)};
            for (std::size_t i = 0; i != payload.size(); ++i) payload[i] = static_cast<char>(payload[i] ^ key[i % 4]);
            bytes += test::server_frame(static_cast<unsigned>(byte(0)), payload);
            keys.insert(key);
            ++frames;
            in.remove_prefix(at + 4 + payload.size());
        }
    }
};

std::string line(std::string_view what, std::string_view payload) {
    std::string out{what};
    return out.append("(").append(payload).append(")\n");
}

std::string said(testing::client& one) {
    const unmasked sent{one.bytes()};
    return test::transcript(sent.bytes);
}

}  // namespace

TEST_CASE("a client takes each case of RFC 6455 that a server sends as it should, and answers in masks") {
    for (const auto& c : all_cases()) {
        INFO(c.group << ": " << c.name);
        scripted_client client{{.max_message_size = c.limits.max_message_size,
                                .max_fragments = c.limits.max_fragments,
                                .max_outbox_bytes = 64UL << 20U}};
        std::string heard;
        client.on_message([&](connection& self, message_view m) {
            heard += line(m.is_text ? "text" : "binary", m.data);
            self.emit_message(m);
        });
        client.on_ping([&](bytes_view payload) { heard += line("ping", as_text(payload)); });
        client.on_pong([&](bytes_view payload) { heard += line("pong", as_text(payload)); });
        client.on_disconnect([&](close_code code, std::string_view reason) {
            heard += line("gone " + std::to_string(static_cast<unsigned>(code)), reason);
        });
        client.on_error([](const error_report&) {});

        constexpr const char* names[] = {"text", "binary", "ping", "pong"};
        std::string expected;
        for (const auto& e : c.heard) expected += line(names[static_cast<unsigned>(e.what)], e.payload);
        auto right = c;
        if (c.end) {
            if (c.end->is_fault) right.end->text = c.end->text_to_server;
            expected += line("gone " + std::to_string(c.end->code), right.end->text);
        }
        const auto bytes = bytes_of(c, sender::server);
        for (const std::size_t piece : {bytes.size(), std::size_t{bytes.size() < 3000 ? 1U : 997U}}) {
            heard.clear();
            auto& one = client.connect();
            for (std::size_t at = 0; at < bytes.size(); at += piece) one.sends(bytes.substr(at, piece));
            const unmasked sent{one.bytes()};
            CHECK((heard == expected));
            CHECK((sent.bytes == answers_to(right)));
        }
    }
}

TEST_CASE("whatever a client says, by whichever way it leaves, is masked, each frame by a key of its own") {
    const bool sends_in_batches = GENERATE(false, true);
    scripted_client client{{.binary_messages = true}, sends_in_batches};
    auto& one = client.connect();
    auto& two = client.connect_v1();
    const std::string large(20'000, 'x');   // more than the turn buffer holds
    const std::string medium(10'000, 'y');  // more than half of it
    client.in_turn([&] {
        for (auto* each : {&one, &two}) {
            auto& c = each->self();
            c.emit("small", 1);
            c.emit_message("text");
            c.emit("medium", medium);
            c.emit_message(as_bytes(large));
            c.emit("large", large);
            c.emit("small", 2);
            c.emit_latest("newest", 3);
            c.ping(as_bytes("now"));
            c.to(arke::all).emit("all", 4);
        }
    });
    const unmasked sent{one.bytes()};
    CHECK(test::transcript(sent.bytes) ==
          "small(1) text(text) medium(10000 bytes) binary(20000 bytes) large(20000 bytes) small(2) newest(3) ping(now) "
          "all(4) all(4)");
    CHECK(sent.frames == 10);
    CHECK(sent.keys.size() == 10);
    const unmasked v1{two.bytes()};
    CHECK(testing::transcript(v1.bytes, {}) ==
          "all(4) small(1) text(text) medium(10000 bytes) binary(20000 bytes) large(20000 bytes) small(2) newest(3) "
          "ping(now) all(4)");
    client.in_turn([&] { one.self().disconnect(close_code{4001}, "enough"); });
    CHECK(said(one).ends_with(" close(4001 enough)"));
}

TEST_CASE("what a client says while the server does not read is masked too, and comes in order") {
    using namespace std::chrono_literals;
    scripted_client client{{.pong_timeout = 10s, .ping_period = 4s}};
    auto& one = client.connect();
    one.reads_only(3);
    client.in_turn([&] { one.self().emit("first", 1); });
    client.in_turn([&] {
        auto& c = one.self();
        c.emit("second", std::string(300, 'x'));
        c.emit_volatile("missed", 1);
        c.emit_latest("price", 1);
        c.emit_latest("price", 2);
        c.emit_message("text");
    });
    one.sends(test::server_frame(0x89, "are you there?"));
    client.pass(5s);  // its own ping waits as well
    client.in_turn([&] { one.self().disconnect(); });
    one.reads_everything();
    const unmasked sent{one.bytes()};
    CHECK(test::transcript(sent.bytes) ==
          "first(1) second(300 bytes) price(2) text(text) pong(are you there?) ping() close(1000)");
    CHECK(sent.keys.size() == sent.frames);
}

TEST_CASE("a client that hears a masked frame closes with 1002, as one that hears none where it should be a server") {
    scripted_client client;
    auto& one = client.connect();
    one.sends(testing::client_frame(0x81, "masked"));
    CHECK(said(one).starts_with("close(1002"));
}
