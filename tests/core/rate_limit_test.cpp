#include <arke/core/rate_limit.hpp>
#include <arke/server.hpp>

#include <chrono>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
using core::address_rates;
using core::rate;
using core::token_bucket;

namespace {

metrics of(scripted_server& server) {
    metrics all;
    server.hub().add_metrics(all, true);
    return all;
}

void echo(scripted_server& server) {
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
}

/// Numbers from `first` on, in frames of a client.
std::string numbers(int first, int count) {
    std::string frames;
    for (int n = first; n != first + count; ++n) frames += client_frame(0x81, std::to_string(n));
    return frames;
}

std::string heard_numbers(int first, int count) {
    std::string all;
    for (int n = first; n != first + count; ++n) all += (all.empty() ? "text(" : " text(") + std::to_string(n) + ")";
    return all;
}

/// Lets time pass in steps, so that what the kernel would hold comes in between.
void let_pass(scripted_server& server, std::chrono::milliseconds time) {
    for (; time > 0ms; time -= 20ms) server.pass(20ms);
}

/// How many messages of a transcript.
int count_of(const std::string& heard) {
    int count = 0;
    for (auto at = heard.find("text("); at != std::string::npos; at = heard.find("text(", at + 1)) ++count;
    return count;
}

}  // namespace

// ------------------------------------------------------------------------------------------------------- token buckets

TEST_CASE("a bucket gives its burst at once, and then what its rate brings, in whatever steps time passes") {
    const rate r{100, 5};
    for (const core::millis step : {1, 3, 10, 100}) {
        token_bucket b{r, 1000};
        CHECK(b.tokens(r, 1000) == 5);
        b.take(5);
        CHECK(b.tokens(r, 1000) == 0);
        CHECK(b.wait(r, 1000) == 10);
        int taken = 0;
        core::millis now = 1000;
        while (now < 1000 + 3000) {
            now += step;
            const auto there = b.tokens(r, now);
            CHECK(there <= 5);
            b.take(there);
            taken += static_cast<int>(there);
        }
        CAPTURE(step);
        // What is full loses what it is brought.
        CHECK(taken == (step == 100 ? 30 * 5 : static_cast<int>((now - 1000) / 10)));
    }
}

TEST_CASE("a rate without a burst allows a second's worth at once") {
    const rate r{7, 0};
    CHECK(token_bucket{r, 0}.tokens(r, 0) == 7);
    CHECK_FALSE(rate{}.is_bounded());
}

TEST_CASE("a slow rate is waited for to the millisecond, and no silence is too long") {
    const rate r{3, 1};
    token_bucket b{r, 0};
    b.take(1);
    CHECK(b.wait(r, 0) == 334);
    CHECK(b.wait(r, 333) == 1);
    CHECK(b.wait(r, 334) == 0);
    const rate much{1'000'000'000'000, 0};
    token_bucket large{much, 0};
    large.take(1'000'000'000'000);
    CHECK(large.tokens(much, 1) == 1'000'000'000);
    CHECK(large.tokens(much, std::numeric_limits<core::millis>::max() / 2) == 1'000'000'000'000);
    CHECK(large.is_full(much, std::numeric_limits<core::millis>::max() / 2));
}

TEST_CASE("addresses are counted apart, and one too many is told when to come again") {
    address_rates rates{{2, 3}};
    for (int i = 0; i != 3; ++i) CHECK(rates.enter("a", 1000) == 0);
    CHECK(rates.enter("a", 1000) == 500);
    CHECK(rates.enter("b", 1000) == 0);
    CHECK(rates.enter("a", 1400) == 100);
    CHECK(rates.enter("a", 1500) == 0);
    CHECK(rates.enter("a", 1500) == 500);
}

TEST_CASE("an address is forgotten when it might as well be new") {
    address_rates rates{{1, 2}};
    for (int i = 0; i != 100; ++i) CHECK(rates.enter("x" + std::to_string(i), 1000) == 0);
    CHECK(rates.size() == 100);
    // Each that comes makes two others go.
    for (int i = 0; i != 51; ++i) CHECK(rates.enter("y", 2000 + 1000 * i) == 0);
    CHECK(rates.size() == 1);
}

TEST_CASE("the table of addresses is bounded: one past that, the one that was away for longest is forgotten early") {
    address_rates rates{{1, 1}, 3};
    for (const auto* who : {"a", "b", "c"}) CHECK(rates.enter(who, 1000) == 0);
    CHECK(rates.enter("a", 1000) == 1000);
    CHECK(rates.enter("d", 1000) == 0);
    CHECK(rates.size() == 3);
    CHECK(rates.enter("b", 1000) == 1000);
    CHECK(rates.enter("a", 1000) == 0);
    CHECK(rates.size() == 3);
}

// ---------------------------------------------------------------------------------------------------------- flood::slow

TEST_CASE("messages up to the burst are served at once, the rest of the same read at the rate, in order") {
    scripted_server server{{.max_messages_per_second = 100, .message_burst = 10}};
    echo(server);
    auto& anna = server.connect("anna");
    anna.sends(numbers(0, 10));
    CHECK(anna.heard() == heard_numbers(0, 10));
    CHECK(of(server).slowed == 0);

    auto& ben = server.connect("ben");
    ben.sends(numbers(0, 250));
    CHECK(ben.heard() == heard_numbers(0, 10));
    CHECK(of(server).slowed == 1);
    int so_far = 10;
    for (int i = 0; i != 24; ++i) {
        server.pass(100ms);
        const auto more = ben.heard();
        const auto count = count_of(more);
        CHECK(more == heard_numbers(so_far, count));
        so_far += count;
        // The clock of the timers goes in steps of 16 ms.
        CHECK(so_far <= 10 + 10 * (i + 1));
        CHECK(so_far >= 10 + 10 * (i + 1) - 3);
    }
    CHECK(so_far >= 247);
    // Others were not kept.
    anna.sends(numbers(10, 5));
    CHECK(anna.heard() == heard_numbers(10, 5));
}

TEST_CASE("what comes while a peer is slowed waits outside, and nothing is lost at the end") {
    scripted_server server{{.max_messages_per_second = 50, .message_burst = 1}};
    echo(server);
    diary told{server};
    auto& anna = server.connect("anna");
    anna.sends(numbers(0, 3));
    anna.sends(numbers(3, 3));
    anna.sends(numbers(6, 3));
    CHECK(anna.heard() == heard_numbers(0, 1));
    SECTION("and goes on") {
        let_pass(server, 1000ms);
        CHECK(anna.heard() == heard_numbers(1, 8));
    }
    SECTION("and hangs up") {
        let_pass(server, 1000ms);
        anna.heard();
        anna.sends(numbers(9, 1));
        anna.hangs_up();
        CHECK(anna.heard().ends_with("closed"));
        CHECK(told.read().ends_with("anna gone 1006"));
    }
    SECTION("and hangs up while something waits: that comes first") {
        anna.hangs_up();
        CHECK(anna.heard() == "");
        let_pass(server, 1000ms);
        CHECK(anna.heard() == heard_numbers(1, 8) + " closed");
        CHECK(server.is_freed(anna));
    }
    SECTION("and breaks: that is known at once") {
        anna.vanishes();
        CHECK(told.read().ends_with("Connection reset by peer"));
        let_pass(server, 1000ms);
        CHECK(server.is_freed(anna));
    }
    SECTION("and is disconnected") {
        server.disconnect("anna");
        CHECK(anna.heard() == "close(1000)");
        server.pass(6000ms);
        CHECK(server.is_freed(anna));
    }
}

TEST_CASE(
    "what is held back counts for max_total_message_bytes: past it 1013, and all is given back as it is handed on") {
    // Half a mebibyte of each was held and counted for nothing, and moved at every tick.
    config settings{.max_message_size = 100, .max_messages_per_second = 100, .message_burst = 1};
    settings.listener.max_total_message_bytes = 4000;
    scripted_server server{settings};
    diary seen{server};
    const auto& all_held = server.hub().load()->messages;
    auto& anna = server.connect("anna");
    const auto many = numbers(0, 300);
    REQUIRE(many.size() > 2000);
    REQUIRE(many.size() < 4000);
    anna.sends(many);
    const auto before = all_held.taken();
    CHECK(before > many.size() - 20);
    CHECK(before < many.size());

    auto& ben = server.connect("ben");
    ben.sends(many);
    CHECK(ben.heard() == "close(1013 messages over max_total_message_bytes)");
    CHECK(of(server).closed.messages_full == 1);
    CHECK(all_held.taken() == before);

    auto last = before;
    for (int i = 0; i != 29; ++i) {
        server.pass(100ms);
        CHECK(all_held.taken() < last);
        last = all_held.taken();
    }
    for (int i = 0; i != 500 && last != 0; ++i) {
        server.pass(20ms);
        last = all_held.taken();
    }
    CHECK(last == 0);
    CHECK(anna.heard() == "");
    anna.sends(many);
    CHECK(all_held.taken() > 2000);
    anna.vanishes();
    CHECK(all_held.taken() == 0);
    CHECK(anna.stream().misuse + ben.stream().misuse == "");
}

TEST_CASE("bytes are bounded to the byte, within a frame too") {
    scripted_server server{{.max_message_size = 100'000, .max_bytes_per_second = 1000, .byte_burst = 300}};
    echo(server);
    auto& anna = server.connect("anna");
    // 6 bytes of header each.
    anna.sends(client_frame(0x81, line(94)) + client_frame(0x81, line(94)) + client_frame(0x81, line(94)));
    CHECK(count_of(anna.heard()) == 3);
    CHECK(of(server).received.bytes == 300);
    anna.sends(client_frame(0x81, line(2000)));
    CHECK(of(server).received.bytes == 300);
    server.pass(1000ms);
    CHECK(of(server).received.bytes <= 1300);
    CHECK(of(server).received.bytes >= 1300 - 16);
    CHECK(anna.heard() == "");
    server.pass(1030ms);
    CHECK(anna.heard() == "text(2000 bytes)");
    CHECK(of(server).received.bytes == 300 + 2008);
}

TEST_CASE("control frames and fragments count as messages") {
    scripted_server server{{.max_messages_per_second = 10, .message_burst = 4}};
    echo(server);
    diary told{server};
    auto& anna = server.connect("anna");
    anna.sends(client_frame(0x89, "1") + client_frame(0x89, "2") + client_frame(0x8A, "") + client_frame(0x01, "a") +
               client_frame(0x80, "b") + client_frame(0x89, "3"));
    const std::string first = "anna pings, anna pings, anna pongs";
    CHECK(told.read() == first);
    server.pass(120ms);
    CHECK(told.read() == "anna says ab");
    server.pass(120ms);
    CHECK(told.read() == "anna pings");
}

TEST_CASE("the same at every cut of the input, masked headers of every length included") {
    std::string frames = client_frame(0x81, "short") + client_frame(0x81, line(200)) + client_frame(0x89, "") +
                         client_frame(0x82, line(70'000)) + client_frame(0x81, "end");
    const auto total = frames.size();
    for (std::size_t cut = 0; cut < total; cut += cut < 300 || cut > total - 30 ? 1 : 997) {
        scripted_server server{{.max_message_size = 100'000,
                                .max_messages_per_second = 1000,
                                .message_burst = 2,
                                .max_bytes_per_second = 40'000}};
        diary told{server};
        auto& anna = server.connect("anna");
        anna.sends(frames.substr(0, cut));
        anna.sends(frames.substr(cut));
        let_pass(server, 3000ms);
        REQUIRE(told.read() ==
                "anna says short, anna says xxxxxxxxxxxxxxxxxxxx, anna pings, anna says "
                "xxxxxxxxxxxxxxxxxxxx, anna says end");
        CHECK(of(server).received.bytes == total);
    }
}

TEST_CASE("a peer that is slowed and answers is not taken for dead") {
    scripted_server server{{.pong_timeout = 3s, .max_messages_per_second = 1, .message_burst = 1}};
    echo(server);
    auto& anna = server.connect("anna");
    anna.sends(numbers(0, 30));
    server.pass(29'100ms);
    CHECK(count_of(anna.heard()) >= 28);
    CHECK(server.is_connected("anna"));
}

TEST_CASE("who is held to a rate and reads slowly gets all that waited, and then on_drain is told") {
    scripted_server server{{.max_messages_per_second = 10, .message_burst = 2}};
    std::vector<std::string> drained;
    server.on_drain([&](connection& c) { drained.push_back(c.id()); });
    auto& anna = server.connect("anna");
    server.settle();
    anna.reads_only(5);
    for (int n = 0; n != 3; ++n) {
        server.to("anna").emit_message(line(10));
        server.settle();
    }
    CHECK(anna.self().buffered_amount() == 3 * 12 - 5);
    anna.reads_everything();
    CHECK(anna.heard() == "text(xxxxxxxxxx) text(xxxxxxxxxx) text(xxxxxxxxxx)");
    CHECK(drained == std::vector<std::string>{"anna"});
}

// What was held back stood before the close frame: a slowed peer was always cut at close_timeout.
TEST_CASE("a slowed peer that is told goodbye is heard to its close frame, whatever it has said too much") {
    const bool in_batches = GENERATE(false, true);
    scripted_server server{{.max_messages_per_second = 1, .message_burst = 1}, 1, 16 * 1024, in_batches};
    echo(server);
    auto& anna = server.connect("anna");
    anna.sends(numbers(0, 100));
    CHECK(anna.heard() == heard_numbers(0, 1));
    server.disconnect("anna");
    CHECK(anna.heard() == "close(1000)");
    anna.sends(numbers(100, 100));
    anna.closes(1000);
    CHECK(anna.heard() == "");
    server.pass(20ms);
    CHECK(anna.heard() == "end");
    // One who has not said too much before that, and does now.
    auto& ben = server.connect("ben");
    ben.sends(numbers(0, 1));
    CHECK(ben.heard() == heard_numbers(0, 1));
    server.disconnect("ben");
    CHECK(ben.heard() == "close(1000)");
    ben.sends(numbers(1, 100));
    ben.closes(1000);
    CHECK(ben.heard() == "end");
    ben.hangs_up();
    anna.hangs_up();
    CHECK(anna.heard() == "closed");
    CHECK(of(server).close_timeouts == 0);
    CHECK(server.is_freed(anna));
}

TEST_CASE("what came with the handshake counts too") {
    scripted_server server{{.max_messages_per_second = 10, .message_burst = 2}};
    echo(server);
    auto& anna = server.connect(
        "anna", 0, [](memory_transport&) {}, numbers(0, 5));
    CHECK(anna.heard() == heard_numbers(0, 2));
    server.pass(400ms);
    CHECK(anna.heard() == heard_numbers(2, 3));
}

// --------------------------------------------------------------------------------------------------------- flood::close

TEST_CASE("by flood::close a peer may say its burst, and one message more closes it with 1008") {
    scripted_server server{{.max_messages_per_second = 10, .message_burst = 5, .on_flood = flood::close}};
    echo(server);
    diary told{server};
    auto& anna = server.connect("anna");
    anna.sends(numbers(0, 5));
    CHECK(anna.heard() == heard_numbers(0, 5));
    server.pass(210ms);
    anna.sends(numbers(5, 2));
    CHECK(anna.heard() == heard_numbers(5, 2));
    anna.sends(numbers(7, 100));
    CHECK(anna.heard() == "close(1008 too much at once)");
    CHECK(told.read().ends_with("anna error " + std::to_string(static_cast<int>(errc::flooded)) +
                                ", anna gone 1008 too much at once"));
    CHECK(of(server).closed.flooded == 1);
    CHECK(of(server).slowed == 0);
    // Its own close frame is found behind all the rest.
    anna.sends(numbers(200, 50) + client_frame(0x88, "\x03\xF0"));
    CHECK(anna.heard() == "end");
    anna.hangs_up();
    CHECK(anna.heard() == "closed");
    CHECK(server.is_freed(anna));
}

TEST_CASE("by flood::close the byte that is one too many closes, whether it begins a message or ends one") {
    scripted_server server{{.max_message_size = 10'000, .max_bytes_per_second = 100, .on_flood = flood::close}};
    echo(server);
    auto& anna = server.connect("anna");
    anna.sends(client_frame(0x81, line(94)));
    CHECK(count_of(anna.heard()) == 1);
    anna.sends("\x81");
    CHECK(anna.heard() == "close(1008 too much at once)");
    auto& ben = server.connect("ben");
    ben.sends(client_frame(0x81, line(95)));
    CHECK(ben.heard() == "close(1008 too much at once)");
    auto& carl = server.connect("carl");
    const auto large = client_frame(0x81, line(200));
    carl.sends(large.substr(0, 50));
    carl.sends(large.substr(50, 50));
    CHECK(carl.heard() == "");
    carl.sends(large.substr(100, 1));
    CHECK(carl.heard() == "close(1008 too much at once)");
}

TEST_CASE("the guard works where sends leave in batches") {
    scripted_server server{{.max_messages_per_second = 100, .message_burst = 10}, 1, 16 * 1024, true};
    echo(server);
    auto& anna = server.connect("anna");
    anna.sends(numbers(0, 30));
    CHECK(anna.heard() == heard_numbers(0, 10));
    server.pass(1000ms);
    CHECK(anna.heard() == heard_numbers(10, 20));
}

TEST_CASE("without a bound there is no guard") {
    scripted_server server;
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto& anna = server.connect("anna");
    anna.sends(numbers(0, 5000));
    CHECK(count_of(anna.heard()) == 5000);
    CHECK(of(server).slowed == 0);
}
