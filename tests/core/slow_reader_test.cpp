#include <arke/server.hpp>

#include <algorithm>
#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

// ------------------------------------------------------------------------------------------------------------ overflow

TEST_CASE("with overflow::drop a slow reader misses what does not fit, whole messages, and stays") {
    scripted_server server{{.max_outbox_bytes = 100, .on_overflow = overflow::drop}};
    diary heard{server};
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    server.to(arke::all).join("room");
    anna.heard();
    anna.reads_only(0);
    // An event n(…) of 30 bytes of data is a frame of 58: the first is in the kernel's way, and one more does not fit.
    for (int n = 0; n != 4; ++n) {
        server.to("room").emit("n", std::to_string(n) + line(29));
        server.settle();
    }
    CHECK(ben.heard() == "n(0" + line(29) + ") n(1" + line(29) + ") n(2" + line(29) + ") n(3" + line(29) + ")");
    CHECK(heard.read() == "");
    anna.reads_everything();
    CHECK(anna.heard() == "n(0" + line(29) + ")");
    server.to("room").emit("n", "after");
    CHECK(anna.heard() == "n(after)");
    CHECK(server.loop().counters().dropped.overflow.get() == 3);
    CHECK(server.loop().counters().sent.events.get() == 7);
}

TEST_CASE("with overflow::drop native messages are dropped too, and a pong is not") {
    scripted_server server{{.max_outbox_bytes = 10, .on_overflow = overflow::drop}};
    auto& anna = server.connect("anna");
    anna.heard();
    anna.reads_only(0);
    server.to("anna").emit_message("123456789");
    server.settle();
    server.to("anna").emit_message("no room");
    server.in_turn([&] { anna.self().emit_message("none here"); });
    anna.pings("are you there?");
    anna.reads_everything();
    CHECK(anna.heard() == "text(123456789) pong(are you there?)");
    CHECK(server.loop().counters().dropped.overflow.get() == 2);
}

TEST_CASE("emit_latest leaves a slow reader the newest of each event and key, in the order of the emits") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    server.settle();
    anna.reads_only(0);
    const auto everybody = server.to(arke::all);
    everybody.emit("hello", 0);
    everybody.emit_latest("price", 1, "tea");
    everybody.emit_latest("price", 2, "milk");
    everybody.emit("between", 0);
    everybody.emit_latest("price", 3, "tea");
    everybody.emit_latest("price", 4);
    everybody.emit_latest("level", 5, "tea");
    everybody.emit_latest("price", 6, "tea");
    server.settle();
    CHECK(ben.heard() == "hello(0) price(1) price(2) between(0) price(3) price(4) level(5) price(6)");
    anna.reads_everything();
    // The first one of "tea" was on its way to the kernel with the turn's batch when the stream fell short.
    CHECK(anna.heard() == "hello(0) price(1) price(2) between(0) price(3) price(4) level(5) price(6)");

    anna.reads_only(0);
    for (int n = 0; n != 5; ++n) {
        everybody.emit_latest("price", n, "tea");
        server.settle();
        everybody.emit_latest("price", 10 + n, "milk");
        server.settle();
        everybody.emit("note", n);
        server.settle();
    }
    anna.reads_everything();
    // price(0) is what fell short; from then on it is the newest alone.
    CHECK(anna.heard() == "price(0) note(0) note(1) note(2) note(3) price(4) price(14) note(4)");
    CHECK(server.loop().counters().dropped.superseded.get() == 7);
    CHECK(ben.heard().size() > 100);
}

TEST_CASE("what has begun to be sent is not taken back") {
    scripted_server server;
    auto& anna = server.connect("anna");
    server.settle();
    anna.reads_only(0);
    const auto to = server.to("anna");
    to.emit("first", 0);
    server.settle();
    to.emit_latest("price", 1);
    server.settle();
    const auto first = server_frame(0x81, std::string{iris_prefix} + "first;1;0").size();
    for (std::size_t more = 1; more != 10; ++more) {
        anna.reads(more == 1 ? first + 1 : 1);
        to.emit_latest("price", static_cast<int>(more) + 1);
        server.settle();
    }
    anna.reads_everything();
    CHECK(anna.heard() == "first(0) price(1) price(10)");
}

TEST_CASE("latest values of many keys, again and again, keep the outbox at one frame for each") {
    scripted_server server{{.max_outbox_bytes = 100'000}};
    auto& anna = server.connect("anna");
    server.settle();
    anna.reads_only(0);
    server.to("anna").emit("first", 0);
    server.settle();
    std::size_t most = 0;
    for (int n = 0; n != 5000; ++n) {
        server.to("anna").emit_latest("v", n, std::to_string(n % 100));
        server.settle();
        if (n == 99) most = anna.self().buffered_amount();
    }
    CHECK(anna.self().buffered_amount() <= most + 3 * 100);
    anna.reads_everything();
    std::string expected = "first(0)";
    for (int n = 4900; n != 5000; ++n) expected += " v(" + std::to_string(n) + ")";
    CHECK(anna.heard() == expected);
}

// The older one was taken back before it was known that the newer had no room, and a slow reader heard neither.
TEST_CASE("with overflow::drop a latest value that does not fit leaves the one that waits") {
    scripted_server server{{.max_outbox_bytes = 150 + 166, .on_overflow = overflow::drop}};
    auto& anna = server.connect("anna");
    server.settle();
    anna.reads_only(0);
    for (const auto& data : {line(10), std::string{"1"}, line(120), std::string{"2"}, line(120)}) {
        server.to("anna").emit_latest("price", data, data.size() == 10 ? "other" : "");
        server.settle();
    }
    CHECK(server.loop().counters().dropped.superseded.get() == 1);
    CHECK(server.loop().counters().dropped.overflow.get() == 2);
    anna.reads_everything();
    CHECK(anna.heard() == "price(" + line(10) + ") price(2)");
}

// Small frames with keys were counted by their bytes, a tenth of what they took: 47 MB were 541.
TEST_CASE("a latest value that waits counts for what it takes to keep, in the bound of one and in that of all") {
    scripted_server server{{.max_outbox_bytes = 20'000, .on_overflow = overflow::drop}};
    auto& anna = server.connect("anna");
    server.settle();
    anna.reads_only(0);
    server.in_turn([&] { anna.self().emit_message("first"); });
    const auto now = [&] { return server.hub().load()->waiting.load(); };
    const auto before = now();
    std::size_t amount = 0;
    server.in_turn([&] {
        for (int n = 0; n != 1000; ++n) anna.self().emit_latest("k", n, std::to_string(n));
        amount = anna.self().buffered_amount();
    });
    const auto waits = 1000 - server.loop().counters().dropped.overflow.get();
    CHECK(waits > 80);
    CHECK(waits < 120);
    CHECK(now() <= 20'000);
    CHECK(now() - before > waits * 150);
    CHECK(amount < waits * 50);  // what is to be sent
    // A newer one takes the place of what it replaces.
    server.in_turn([&] { anna.self().emit_latest("k", 9, "0"); });
    CHECK(server.loop().counters().dropped.superseded.get() == 1);
    anna.reads_everything();
    CHECK(now() == 0);
}

// What was gathered in the turn, and the greeting, passed for bytes that wait for a slow reader.
TEST_CASE("nothing waits for a connection whose stream takes all, in the midst of a turn too") {
    scripted_server server;
    std::vector<std::size_t> amounts;
    server.on_connection([&](connection& c) { amounts.push_back(c.buffered_amount()); });
    server.on_message([&](connection& c, message_view m) {
        c.emit_message(m);
        server.to("anna").emit_message("between");
        c.emit_message(m);
        amounts.push_back(c.buffered_amount());
    });
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    ben.says("hello");
    CHECK(amounts == std::vector<std::size_t>{0, 0, 0});
    CHECK(ben.heard() == "text(hello) text(hello)");
    CHECK(anna.heard() == "text(between)");
}

TEST_CASE("with overflow::coalesce every event is the latest of its name, and what does not fit closes") {
    scripted_server server{{.max_outbox_bytes = 1000, .on_overflow = overflow::coalesce}};
    diary heard{server};
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben", 0, [](memory_transport& t) { t.room = client::greeting.size(); });
    server.settle();
    anna.reads_only(0);
    for (int n = 0; n != 50; ++n) {
        server.to(arke::all).emit("position", n);
        server.settle();
        server.to("anna").emit("speed", 100 + n);
        server.settle();
    }
    anna.reads_everything();
    CHECK(anna.heard() == "position(0) position(49) speed(149)");
    for (int n = 0; n != 8; ++n) {
        server.to("ben").emit("event" + std::to_string(n), 0);
        server.settle();
    }
    CHECK(heard.read() ==
          "ben error " + std::to_string(static_cast<int>(errc::outbox_full)) + ", ben gone 1013 too slow");
    ben.reads_everything();
    CHECK(ben.heard().ends_with("close(1013 too slow) end"));
}

TEST_CASE("emit_volatile is for those who keep up") {
    scripted_server server{{}, 2};
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben", 1);
    server.settle();
    anna.reads_only(0);
    server.to(arke::all).emit("kept", 1);
    server.settle();
    server.to(arke::all).emit_volatile("tick", 2);
    server.find("anna").emit_volatile("tick", 3);
    server.in_turn([&] { anna.self().emit_volatile("tick", 4); });
    CHECK(ben.heard() == "kept(1) tick(2)");
    anna.reads_everything();
    CHECK(anna.heard() == "kept(1)");
    server.to(arke::all).emit_volatile("tick", 5);
    CHECK(anna.heard() == "tick(5)");
    CHECK(server.loop().counters().dropped.not_ready.get() == 3);
}

TEST_CASE("a large event has the same urgency as a small one, for one and for many") {
    scripted_server server{{.max_outbox_bytes = 1'000'000}, 2, 1024};
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben", 1);
    server.settle();
    for (auto* c : {&anna, &ben}) c->reads_only(0);
    server.to(arke::all).emit("first", 0);
    server.settle();
    for (int n = 0; n != 3; ++n) {
        server.to(arke::all).emit_latest("big", line(3000, static_cast<char>('a' + n)));
        server.to(arke::all).emit_volatile("gone", line(3000));
        server.in_turn([&] { anna.self().emit_latest("own", line(3000, static_cast<char>('a' + n))); });
        server.settle();
    }
    for (auto* c : {&anna, &ben}) c->reads_everything();
    CHECK(anna.heard() == "first(0) big(3000 bytes) own(3000 bytes)");
    CHECK(ben.heard() == "first(0) big(3000 bytes)");
    CHECK(anna.bytes().find("ccccc") != std::string_view::npos);
    CHECK(anna.bytes().find("bbbbb") == std::string_view::npos);
}

// -------------------------------------------------------------------------------------------------------------- on_drain

TEST_CASE("on_drain runs when everything that waited has left, and a producer goes on there") {
    scripted_server server;
    int next = 0;
    const auto produce = [&next](connection& c) {
        while (next != 1000 && c.buffered_amount() == 0) {
            c.emit("n", next++);
            // A handler's own output waits for the end of the turn; a chunk a turn is what a producer sends.
            if (next % 10 == 0) break;
        }
    };
    server.on_drain(produce);
    server.on("go", produce);
    auto& anna = server.connect("anna");
    anna.reads_only(100);
    anna.emits("go");
    int times = 0;
    while (anna.stream().waits_for_room() && ++times != 1000) {
        CHECK(anna.self().buffered_amount() < 1000);
        anna.reads(300);
    }
    anna.reads_everything();
    std::string expected;
    for (int n = 0; n != next; ++n) expected += (n == 0 ? "n(" : " n(") + std::to_string(n) + ")";
    CHECK(next > 10);
    CHECK(anna.heard() == expected);
}

TEST_CASE("on_drain of a connection can be removed, and is silent after the end") {
    scripted_server server;
    auto& anna = server.connect("anna");
    int drained = 0;
    handler_id added{};
    server.in_turn([&] { added = anna.self().on_drain([&](connection&) { ++drained; }); });
    const auto lag = [&] {
        anna.reads_only(0);
        server.in_turn([&] { anna.self().emit_message("x"); });
    };
    lag();
    anna.reads_everything();
    CHECK(drained == 1);
    lag();
    server.in_turn([&] { CHECK(anna.self().off(added)); });
    anna.reads_everything();
    CHECK(drained == 1);
    server.in_turn([&] { anna.self().on_drain([&] { ++drained; }); });
    lag();
    server.in_turn([&] { anna.self().disconnect(); });
    anna.reads_everything();
    CHECK(drained == 1);
}

// ---------------------------------------------------------------------------------------------- the bound on all together

TEST_CASE("over max_total_outbox_bytes those for whom most waits are cut, the others keep what waits") {
    config settings{.max_outbox_bytes = 100'000};
    settings.listener.max_total_outbox_bytes = 80'000;
    scripted_server server{settings};
    server.hub().load()->max_waiting = settings.listener.max_total_outbox_bytes;
    diary heard{server};
    std::vector<client*> clients;
    for (int n = 0; n != 8; ++n) {
        clients.push_back(&server.connect("c" + std::to_string(n)));
        server.settle();
        clients.back()->reads_only(0);
        server.find("c" + std::to_string(n)).emit_message(line(2000 * static_cast<std::size_t>(n + 1)));
    }
    server.settle();
    // 2, 4, … 16 thousand are 72.
    CHECK(server.hub().load()->waiting.load() == 72'000 + 8 * 4);
    CHECK(heard.read() == "");
    server.find("c0").emit_message(line(9000));
    CHECK(heard.read() == "c7 error 8, c7 gone 1013 too slow");
    CHECK(clients[7]->stream().is_closed);
    CHECK(server.hub().load()->waiting.load() < 70'000);
    for (int n = 0; n != 7; ++n) clients[static_cast<std::size_t>(n)]->reads_everything();
    CHECK(clients[0]->heard() == "text(2000 bytes) text(9000 bytes)");
    CHECK(clients[6]->heard() == "text(14000 bytes)");
    CHECK(server.hub().load()->waiting.load() == 0);
    CHECK(server.loop().counters().closed.outbox_full.get() == 1);
}

// The loop that noticed cut its own: all those of loop 1 went, for whom least waited, and none of the large ones.
TEST_CASE("over max_total_outbox_bytes the largest are cut on whichever loop they are, and no others") {
    scripted_server server{{.max_outbox_bytes = 100'000}, 3};
    server.hub().load()->max_waiting = 200'000;
    std::vector<client*> large;
    std::vector<client*> small;
    for (int n = 0; n != 10; ++n) {
        large.push_back(&server.connect("large" + std::to_string(n), n % 2 == 0 ? 0 : 2));
        small.push_back(&server.connect("small" + std::to_string(n), 1));
    }
    server.settle();
    for (int n = 0; n != 10; ++n) {
        large[static_cast<std::size_t>(n)]->reads_only(0);
        small[static_cast<std::size_t>(n)]->reads_only(0);
        server.find("large" + std::to_string(n)).emit_message(line(19'600));
    }
    server.settle();
    for (int n = 0; n != 10; ++n) server.find("small" + std::to_string(n)).emit_message(line(14'000));
    server.settle();
    const auto closed = [](const std::vector<client*>& of) {
        return std::count_if(of.begin(), of.end(), [](auto* c) { return c->stream().is_closed; });
    };
    CHECK(closed(small) == 0);
    CHECK(closed(large) == 9);
    CHECK(server.hub().load()->waiting.load() <= 175'000);
    for (auto* c : small) {
        c->reads_everything();
        CHECK(c->heard() == "text(14000 bytes)");
    }
}

TEST_CASE("a broadcast over the bound of all ends with many cut at once, and the rest and the fast lose nothing") {
    scripted_server server{{.max_outbox_bytes = 100'000}};
    server.hub().load()->max_waiting = 50'000;
    std::vector<client*> slow;
    for (int n = 0; n != 100; ++n) {
        slow.push_back(&server.connect("slow" + std::to_string(n)));
        server.settle();
        slow.back()->reads_only(0);
    }
    auto& fast = server.connect("fast");
    for (int n = 0; n != 3; ++n) {
        server.to(arke::all).emit_message(line(400));
        server.settle();
    }
    CHECK(fast.heard() == "text(400 bytes) text(400 bytes) text(400 bytes)");
    CHECK(server.hub().load()->waiting.load() <= 50'000);
    CHECK(server.hub().load()->waiting.load() > 40'000);
    int left = 0;
    for (auto* c : slow) {
        if (c->stream().is_closed) continue;
        ++left;
        c->reads_everything();
        CHECK(c->heard() == "text(400 bytes) text(400 bytes) text(400 bytes)");
    }
    CHECK(left > 30);
    CHECK(left < 50);
}
