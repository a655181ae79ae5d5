#include <arke/server.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

// ------------------------------------------------------------------------------------------------------------ beginning

TEST_CASE("the handshake's answer comes first, then what on_connection says") {
    scripted_server server;
    server.on_connection([](connection& c) { c.emit("welcome", c.id()); });
    auto& anna = server.connect("anna");
    CHECK(anna.stream().sent.starts_with(client::greeting));
    CHECK(anna.heard() == "welcome(anna)");
    CHECK(anna.stream().operations == 1);
}

TEST_CASE("frames that came with the handshake are handled after on_connection") {
    scripted_server server;
    diary told{server};
    server.on_connection([&](connection& c) {
        c.emit_message("first");
        told.add("connected");
    });
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto& anna = server.connect(
        "anna", 0, [](memory_transport&) {}, client_frame(0x81, "early"));
    CHECK(told.read() == "connected, anna says early");
    CHECK(anna.heard() == "text(first) text(early)");
}

TEST_CASE("a connection that on_connection refuses hears why") {
    scripted_server server;
    diary told{server};
    server.on_connection([](connection& c) { c.disconnect(close_code::policy_violation, "full"); });
    auto& anna = server.connect(
        "anna", 0, [](memory_transport&) {}, client_frame(0x81, "early"));
    CHECK(told.read() == "anna gone 1008 full");
    CHECK(anna.heard() == "close(1008 full)");
}

TEST_CASE("everything that one burst of input causes leaves in one send") {
    scripted_server server;
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto& anna = server.connect("anna");
    const int before = anna.stream().operations;
    std::string burst;
    for (int n = 0; n != 16; ++n) burst += client_frame(0x81, std::to_string(n));
    anna.sends(burst);
    CHECK(anna.stream().operations == before + 1);
    CHECK(anna.heard().ends_with("text(14) text(15)"));
}

// ------------------------------------------------------------------------------------------------ the closing handshake

TEST_CASE("a client that closes is answered with its code, and our direction ends") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    anna.closes(4321, "bye");
    CHECK(told.read() == "anna gone 4321 bye");
    CHECK(anna.heard() == "close(4321) end");
    CHECK_FALSE(server.is_connected("anna"));
    anna.hangs_up();
    CHECK(anna.heard() == "closed");
    CHECK(server.is_freed(anna));
    CHECK(told.read() == "");
}

TEST_CASE("a close without a code is answered without one") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    anna.sends(client_frame(0x88, ""));
    CHECK(told.read() == "anna gone 1005");
    CHECK(anna.heard() == "close() end");
}

TEST_CASE("a server that closes waits for the client's close before it ends") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    server.disconnect("anna", close_code{4000}, "enough");
    CHECK(anna.heard() == "close(4000 enough)");
    CHECK(told.read() == "anna gone 4000 enough");
    anna.closes(4000);
    CHECK(anna.heard() == "end");
    anna.hangs_up();
    CHECK(anna.heard() == "closed");
    CHECK(server.is_freed(anna));
    CHECK(told.read() == "");
}

TEST_CASE("when both close at once neither answers") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    server.in_turn([&] { anna.self().disconnect(); });
    anna.closes(1001);
    CHECK(anna.heard() == "close(1000) end");
    CHECK(told.read() == "anna gone 1000");

    // Within one turn, before our frame has left.
    auto& ben = server.connect("ben");
    server.in_turn([&] {
        ben.self().disconnect(close_code{3001});
        ben.closes(1001);
    });
    CHECK(ben.heard() == "close(3001) end");
    CHECK(told.read() == "ben gone 3001");
}

TEST_CASE("a handler that closes its connection is the last that hears of it") {
    scripted_server server;
    diary told{server};
    server.on_message([](connection& c, message_view m) {
        if (m.data == "quit") c.disconnect(close_code::normal, "as you wish");
    });
    auto& anna = server.connect("anna");
    anna.sends(client_frame(0x81, "one") + client_frame(0x81, "quit") + client_frame(0x81, "two") +
               client_frame(0x89, "") + client_frame(0x8A, "") + client::close_frame(1000) +
               client_frame(0x81, "three"));
    CHECK(told.read() == "anna says one, anna says quit, anna gone 1000 as you wish");
    CHECK(anna.heard() == "close(1000 as you wish) end");
}

TEST_CASE("after a close nothing is an event, and a thousand closes get one answer") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    std::string burst = client_frame(0x81, "before");
    for (int n = 0; n != 1000; ++n) burst += client::close_frame(1000);
    anna.sends(burst + client_frame(0x81, "after"));
    anna.says("later");
    anna.closes(1000);
    CHECK(told.read() == "anna says before, anna gone 1000");
    CHECK(anna.heard() == "close(1000) end");
}

TEST_CASE("what was sent before a close still goes out, and nothing after it") {
    scripted_server server;
    auto& anna = server.connect("anna");
    anna.reads_only(0);
    server.in_turn([&] {
        anna.self().emit("one", 1);
        anna.self().emit_message(line(5000));
        anna.self().disconnect(close_code::normal, "done");
        anna.self().emit("two", 2);
        anna.self().ping();
        anna.self().disconnect(close_code{4000}, "again");
    });
    CHECK(anna.heard() == "");
    anna.closes(1000);
    CHECK(anna.heard() == "");  // our direction must not end before all is sent
    anna.reads(100);
    anna.reads_everything();
    CHECK(anna.heard() == "one(1) text(5000 bytes) close(1000 done) end");
}

TEST_CASE("a close that is never answered is cut at close_timeout") {
    scripted_server server{{.close_timeout = 5s}};
    diary told{server};
    auto& anna = server.connect("anna");
    server.disconnect("anna");
    CHECK(told.read() == "anna gone 1000");
    server.pass(4999ms);
    anna.says("still talking");
    CHECK(anna.heard() == "close(1000)");
    server.pass(17ms);
    CHECK(anna.heard() == "closed");
    CHECK(server.is_freed(anna));
    CHECK(told.read() == "");
}

TEST_CASE("a client that closes and stays is cut at close_timeout") {
    scripted_server server{{.close_timeout = 5s}};
    auto& anna = server.connect("anna");
    anna.closes(1000);
    CHECK(anna.heard() == "close(1000) end");
    server.pass(4999ms);
    anna.says("still talking");
    CHECK(anna.heard() == "");
    server.pass(17ms);
    CHECK(anna.heard() == "closed");
}

TEST_CASE("a client that takes the last bytes drop by drop has close_timeout for all of them") {
    scripted_server server{{.write_timeout = 1s, .close_timeout = 5s}};
    auto& anna = server.connect("anna");
    anna.reads_only(0);
    server.in_turn([&] {
        anna.self().emit_message(line(1000));
        anna.self().disconnect();
    });
    for (int n = 0; n != 6; ++n) {
        CHECK_FALSE(anna.stream().is_closed);
        server.pass(900ms);
        anna.reads(1);
    }
    CHECK(anna.stream().is_closed);
    CHECK(anna.stream().was_reset);
}

TEST_CASE("a stream that ends without a close is abnormal, however politely") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    anna.hangs_up();
    CHECK(told.read() == "anna gone 1006");
    CHECK(anna.heard() == "closed");
    ben.vanishes();
    CHECK(told.read() == "ben gone 1006 Connection reset by peer");
    CHECK(ben.heard() == "closed");
    CHECK(server.is_freed(anna));
    CHECK(server.is_freed(ben));
}

TEST_CASE("what a client said before it ended its direction is answered, also within one turn") {
    // Where the end came in the turn of the last bytes, the answers of that turn were dropped, the 101 among them.
    const bool sends_in_batches = GENERATE(false, true);
    scripted_server server{{}, 1, 16 * 1024, sends_in_batches};
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    const auto hangs_up_with = [&](const std::string& bytes) {
        client* who = nullptr;
        server.in_turn([&] {
            who = &server.connect();
            who->sends(bytes);
            who->hangs_up();
        });
        CHECK(who->stream().sent.starts_with(client::greeting));
        return who->heard();
    };
    CHECK(hangs_up_with(client_frame(0x81, "last words")) == "text(last words) closed");
    CHECK(hangs_up_with(client_frame(0x88, "\x03\xE8")) == "close(1000) closed");
    CHECK(hangs_up_with(client_frame(0x83, "")) == "close(1002 a reserved opcode) closed");
    CHECK(hangs_up_with(client_frame(0x81, "cut").substr(0, 7)) == "closed");
}

TEST_CASE("the server's stop says 1001 to everyone") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    server.in_turn([&] {
        server.find("anna").run([](connection& c) { c.disconnect(close_code::going_away, "the server stops"); });
    });
    CHECK(anna.heard() == "close(1001 the server stops)");
    CHECK(told.read() == "anna gone 1001 the server stops");
}

TEST_CASE("a close reason is cut between code points") {
    const auto reason_sent = [](const std::string& reason) {
        scripted_server server;
        auto& anna = server.connect("anna");
        server.disconnect("anna", close_code::normal, reason);
        server.settle();
        const auto frame = anna.bytes();
        REQUIRE(frame.size() >= 4);
        REQUIRE(frame.size() == 2U + static_cast<unsigned char>(frame[1]));
        return std::string{frame.substr(4)};
    };
    CHECK(reason_sent(line(123)) == line(123));
    CHECK(reason_sent(line(124)) == line(123));
    CHECK(reason_sent(line(10'000)) == line(123));
    const std::string wave = "\xF0\x9F\x91\x8B";
    for (std::size_t before = 117; before <= 124; ++before) {
        const auto fits = before + 4 <= 123;
        CHECK(reason_sent(line(before) + wave + wave) == line(std::min<std::size_t>(before, 123)) + (fits ? wave : ""));
    }
    CHECK(reason_sent(line(119) + wave) == line(119) + wave);
}

// --------------------------------------------------------------------------------------------------------------- faults

TEST_CASE("a client that breaks the rules hears why, and nothing else of it is read") {
    const auto after = [](const std::string& bytes, config settings = {}) {
        scripted_server server{std::move(settings)};
        diary told{server};
        auto& anna = server.connect("anna");
        anna.sends(client_frame(0x81, "good") + bytes + client_frame(0x81, "later"));
        anna.says("much later");
        auto text = told.read();
        CHECK(text.starts_with("anna says good, anna error "));
        CHECK(text.find("later") == std::string::npos);
        CHECK(std::count(text.begin(), text.end(), ',') == 2);
        return anna.heard();
    };
    CHECK(after(server_frame(0x81, "x")) == "close(1002 an unmasked frame from a client) end");
    CHECK(after(client_frame(0xC1, "x")) == "close(1002 a reserved bit without an extension) end");
    CHECK(after(client_frame(0x83, "x")) == "close(1002 a reserved opcode) end");
    CHECK(after(client_frame(0x80, "x")) == "close(1002 a continuation of nothing) end");
    CHECK(after(client_frame(0x09, "x")) == "close(1002 a control frame in fragments) end");
    CHECK(after(client_frame(0x89, line(126))) == "close(1002 a control frame over 125 bytes) end");
    CHECK(after(client_frame(0x81, "\xFF")) == "close(1007 text that is not UTF-8) end");
    CHECK(after(client_frame(0x81, line(1025))) == "close(1009 a message over max_message_size) end");
    CHECK(after(client_frame(0x01, "a") + client_frame(0x80, "b"), {.max_fragments = 1}) ==
          "close(1008 a message of more than max_fragments) end");
    CHECK(after(client_frame(0x88, "x")) == "close(1002 a close frame of one byte) end");
    CHECK(after(client::close_frame(1005)) == "close(1002 a close code that may not be sent) end");
    CHECK(after(client::close_frame(1000, "\xFF")) == "close(1007 a close reason that is not UTF-8) end");
}

TEST_CASE("a fault while we wait for the client's close ends it without a second close frame") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    server.disconnect("anna");
    CHECK(anna.heard() == "close(1000)");
    anna.sends(client_frame(0x83, "x"));
    CHECK(anna.heard() == "end");
    CHECK(told.read() == "anna gone 1000");
}

TEST_CASE("a message may come through the memory that the reader wants") {
    scripted_server server{{.max_message_size = 100'000}};
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto& anna = server.connect("anna");
    const auto frames = client_frame(0x81, line(60'000)) + client_frame(0x81, "next") + client_frame(0x88, "");
    for (std::size_t at = 0; at < frames.size(); at += 7777) anna.sends(std::string_view{frames}.substr(at, 7777));
    CHECK(anna.heard() == "text(60000 bytes) text(next) close() end");
}

// ------------------------------------------------------------------------------------------------------------- the outbox

TEST_CASE("a full outbox closes only its own connection") {
    scripted_server server{{.max_outbox_bytes = 100}};
    diary told{server};
    auto& fast = server.connect("fast");
    auto& slow = server.connect("slow");
    for (const auto* id : {"fast", "slow"}) server.join(id, "room");
    server.settle();
    slow.reads_only(0);

    for (const int n : {1, 2, 3, 4}) {
        server.to("room").emit("tick", n);
        server.settle();
    }

    CHECK(fast.heard() == "tick(1) tick(2) tick(3) tick(4)");
    CHECK(told.read() ==
          "slow error " + std::to_string(static_cast<int>(errc::outbox_full)) + ", slow gone 1013 too slow");
    CHECK(server.members("room") == std::vector<std::string>{"fast"});
    slow.reads_everything();
    CHECK(slow.heard() == "tick(1) tick(2) tick(3) close(1013 too slow) end");
}

TEST_CASE("an outbox takes max_outbox_bytes and not one more") {
    const auto hears = [](std::size_t second) {
        scripted_server server{{.max_outbox_bytes = 100}};
        auto& anna = server.connect("anna");
        anna.reads_only(0);
        server.in_turn([&] { anna.self().emit_message(line(48)); });
        CHECK(anna.self().buffered_amount() == 50);
        server.in_turn([&] { anna.self().emit_message(line(second)); });
        anna.reads_everything();
        return anna.heard();
    };
    const std::string first = "text(" + line(48) + ")";
    CHECK(hears(48) == first + " " + first);
    CHECK(hears(49) == first + " close(1013 too slow) end");
}

TEST_CASE("every way of sending minds the bound of the outbox") {
    // Direct and small, direct and large, to a room and small, to a room and large, a ping.
    const std::vector<std::function<void(connection&)>> ways = {
        [](connection& c) { c.emit_message(line(90)); },
        [](connection& c) { c.emit_message(line(5000)); },
        [](connection& c) { c.emit("event", line(90)); },
        [](connection& c) { c.emit("event", line(5000)); },
        [](connection& c) { c.to(arke::all).emit("event", line(90)); },
        [](connection& c) { c.to(arke::all).emit("event", line(5000)); },
        [](connection& c) { c.ping(as_bytes(line(90))); },
    };
    for (std::size_t n = 0; n != ways.size(); ++n) {
        INFO("way " << n);
        scripted_server server{{.max_outbox_bytes = 100}, 1, 1024};
        auto& anna = server.connect("anna");
        anna.reads_only(0);
        server.in_turn([&] { ways[n](anna.self()); });  // a single one is taken while nothing waits
        CHECK(server.is_connected("anna"));
        server.in_turn([&] { ways[n](anna.self()); });
        CHECK_FALSE(server.is_connected("anna"));
        anna.reads_everything();
        const auto heard = anna.heard();
        CHECK(heard.ends_with(" close(1013 too slow) end"));
        CHECK(std::count(heard.begin(), heard.end(), '(') == 2);
    }
}

TEST_CASE("a ping flood from a client that never reads holds one pong") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& canary = server.connect("canary");
    anna.reads_only(0);
    // It has left for a stream that takes none of it. Only then is it known that she does not read, and one more waits.
    anna.pings("first");
    CHECK(anna.self().buffered_amount() == 7);
    for (int n = 0; n != 10'000; ++n) {
        anna.pings(std::to_string(n));
        CHECK(anna.self().buffered_amount() == 7 + 3);
    }
    canary.pings("tweet");
    CHECK(canary.heard() == "pong(tweet)");
    anna.reads_everything();
    CHECK(anna.heard() == "pong(first) pong(0)");
    anna.pings("again");
    CHECK(anna.heard() == "pong(again)");
}

TEST_CASE("a ping flood within one burst is closed by backpressure or bounded by the turn buffer") {
    constexpr std::size_t pong = 2 + 100;
    constexpr std::size_t buffer = 16 * 1024;
    const auto flood = [](scripted_server& server) -> client& {
        auto& anna = server.connect("anna");
        anna.reads_only(0);
        std::string burst;
        for (int n = 0; n != 20'000; ++n) burst += client_frame(0x89, line(100));
        anna.sends(burst);
        return anna;
    };
    SECTION("below the bound of the outbox: what the buffer of a turn holds, and one that waits") {
        scripted_server server{{.max_outbox_bytes = 20'000}};
        auto& canary = server.connect("canary");
        auto& anna = flood(server);
        CHECK(anna.self().buffered_amount() == buffer / pong * pong + pong);
        for (int n = 0; n != 100; ++n) anna.pings(line(100));
        CHECK(anna.self().buffered_amount() == buffer / pong * pong + pong);
        canary.pings("tweet");
        CHECK(canary.heard() == "pong(tweet)");
        server.pass(16s);
        CHECK(anna.heard() == "reset");
        CHECK(server.is_connected("canary"));
    }
    SECTION("at the bound: by backpressure") {
        scripted_server server{{.max_outbox_bytes = buffer}};
        diary told{server};
        auto& anna = flood(server);
        const auto heard = told.read();
        CHECK(heard.ends_with(", anna error " + std::to_string(static_cast<int>(errc::outbox_full)) +
                              ", anna gone 1013 too slow"));
        // Of the others of the burst nobody hears.
        CHECK(static_cast<std::size_t>(std::count(heard.begin(), heard.end(), ',')) < buffer / pong + 3);
        anna.reads_everything();
        CHECK(anna.heard().ends_with("close(1013 too slow) end"));
    }
}

TEST_CASE("pings are answered with what they carried, and the application hears of them") {
    scripted_server server;
    diary told{server};
    auto& anna = server.connect("anna");
    anna.pings("abc");
    anna.pongs("unasked");
    CHECK(anna.heard() == "pong(abc)");
    CHECK(told.read() == "anna pings, anna pongs");
}

TEST_CASE("a ping whose pong overflows the outbox is the last that is heard of") {
    // on_ping ran for a connection that was over.
    scripted_server server{{.max_outbox_bytes = 10}};
    diary told{server};
    auto& anna = server.connect("anna");
    anna.reads_only(0);
    server.in_turn([&] { anna.self().emit_message("12345678"); });
    anna.pings();
    CHECK(told.read() ==
          "anna error " + std::to_string(static_cast<int>(errc::outbox_full)) + ", anna gone 1013 too slow");
}

TEST_CASE("a payload is not copied for those who lag") {
    // Everyone's share of a large frame is counted by its own bytes, but the memory is one frame's: nothing is taken off it
    // until the last has read.
    scripted_server server{{.max_outbox_bytes = 10'000'000}};
    std::vector<client*> readers;
    for (int n = 0; n != 20; ++n) {
        readers.push_back(&server.connect("r" + std::to_string(n)));
        readers.back()->reads_only(static_cast<std::size_t>(n) * 1000);
    }
    server.to(arke::all).emit_message(line(50'000));
    server.settle();
    for (auto* r : readers) r->reads_everything();
    for (auto* r : readers) CHECK(r->heard() == "text(50000 bytes)");

    // Nor for those who take the beginning of it, by what is held for all of them.
    for (auto* r : readers) r->reads_only(0);
    server.to(arke::all).emit_message("x");
    server.settle();
    const auto before = bytes_held();
    server.to(arke::all).emit_message(line(50'000));
    server.settle();
    CHECK(bytes_held() - before < 50'000 + 20 * 1'000);
    CHECK(server.hub().load()->waiting.load() == 20 * (50'000 + 4 + 3));
    for (auto* r : readers) r->reads_everything();
    for (auto* r : readers) CHECK(r->heard() == "text(x) text(50000 bytes)");
}

TEST_CASE("of a room of a thousand the one that never reads meets its bound, and the others lose nothing") {
    const auto on_overflow = GENERATE(overflow::close, overflow::drop);
    const std::size_t size =
        GENERATE(std::size_t{100}, std::size_t{2'000});  // copied from the turn's buffer, and shared
    constexpr int rounds = 12;
    scripted_server server{{.max_outbox_bytes = 10 * size, .on_overflow = on_overflow}, 1, 1024};
    std::vector<client*> members;
    for (int n = 0; n != 1'000; ++n) {
        members.push_back(&server.connect("m" + std::to_string(n)));
        server.join(members.back()->self().id(), "room");
    }
    server.settle();
    constexpr std::size_t lagging = 500;
    members[lagging]->reads_only(0);
    std::string expected;
    for (int n = 0; n != rounds; ++n) {
        server.to("room").emit_message(line(size, static_cast<char>('a' + n)));
        server.settle();
        expected += server_frame(0x81, line(size, static_cast<char>('a' + n)));
    }
    std::size_t complete = 0;
    for (auto* m : members) complete += m->bytes() == expected ? 1 : 0;
    CHECK(complete == 999);
    // Nine messages with their headers fit into the bound of ten without.
    const auto frame = size + (size < 126 ? 2 : 4);
    auto& slow = *members[lagging];
    CHECK(server.is_connected("m500") == (on_overflow == overflow::drop));
    if (on_overflow == overflow::drop) CHECK(server.loop().counters().dropped.overflow.get() == rounds - 9);
    CHECK(server.size() == (on_overflow == overflow::drop ? 1'000 : 999));
    slow.reads_everything();
    CHECK(slow.bytes().substr(0, 9 * frame) == std::string_view{expected}.substr(0, 9 * frame));
    CHECK(slow.bytes().size() == 9 * frame + (on_overflow == overflow::drop ? 0 : 2 + 2 + 8));
}

TEST_CASE("a thousand that lag hold one copy of a large payload together, and small ones each its own") {
    const auto held_for = [](std::size_t size) {
        scripted_server server{{.max_outbox_bytes = 10'000'000}};
        std::vector<client*> members;
        for (int n = 0; n != 1'000; ++n) {
            members.push_back(&server.connect("m" + std::to_string(n)));
            members.back()->reads_only(0);
        }
        server.to(arke::all).emit_message("x");  // now all of them lag, and have an outbox
        server.settle();
        const auto before = bytes_held();
        server.to(arke::all).emit_message(line(size));
        server.settle();
        const auto held = bytes_held() - before;
        std::size_t complete = 0;
        for (std::size_t n = 0; n < members.size(); n += 10) {
            members[n]->reads_everything();
            complete += members[n]->bytes() == server_frame(0x81, "x") + server_frame(0x81, line(size)) ? 1 : 0;
        }
        CHECK(complete == 100);
        return held;
    };
    // A place in a list for each.
    const auto large = held_for(50'000);
    CHECK(large < 50'000 + 1'000 * 500);
    CHECK(large - held_for(10'000) < 41'000);
    CHECK(held_for(4'000) < 1'000 * 3 * 4'000);
    CHECK(held_for(4'000) > 1'000 * 4'000);
}

TEST_CASE("a message larger than the turn buffer keeps its place") {
    const bool in_batches = GENERATE(false, true);
    for (const std::size_t room :
         {std::size_t{0}, std::size_t{1}, std::size_t{700}, std::size_t{3000}, memory_transport::everything}) {
        scripted_server server{{.max_outbox_bytes = 1'000'000}, 1, 1024, in_batches};
        auto& anna = server.connect("anna");
        auto& ben = server.connect("ben");
        anna.reads_only(room);
        server.in_turn([&] {
            anna.self().emit("small", 1);
            anna.self().emit_message(line(2500));
            server.to(arke::all).emit("all", 2);
            anna.self().emit("event", line(3000));
            server.to(arke::all).emit("all", line(4000));
            anna.self().emit("small", 3);
            std::string gone = "this memory is not used after the call, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
            gone.resize(2000, 'y');
            anna.self().emit_message(gone);
            gone.assign(gone.size(), '?');
        });
        anna.reads_everything();
        CHECK(anna.bytes().find('?') == std::string_view::npos);
        CHECK(anna.heard() ==
              "small(1) text(2500 bytes) all(2) event(3000 bytes) all(4000 bytes) small(3) text(2000 bytes)");
        CHECK(ben.heard() == "all(2) all(4000 bytes)");
    }
}

TEST_CASE("a reader that stops and goes loses nothing and hears nothing twice") {
    scripted_server server{{.max_outbox_bytes = 1'000'000}, 1, 1024, GENERATE(false, true)};
    auto& anna = server.connect("anna");
    std::string expected;
    std::mt19937 random{5};
    anna.reads_only(0);
    for (int n = 0; n != 500; ++n) {
        server.in_turn([&] {
            for (unsigned i = random() % 4; i != 0; --i) {
                const auto text = std::to_string(n) + line(random() % 300);
                expected += server_frame(0x81, text);
                if (random() % 2 == 0) {
                    anna.self().emit_message(text);
                } else {
                    server.to(arke::all).emit_message(text);
                }
            }
        });
        if (random() % 3 == 0) anna.reads(random() % 900);
    }
    anna.reads_everything();
    CHECK(anna.bytes() == expected);
}

TEST_CASE("where the loop sends in batches, what a turn says leaves together at its end") {
    scripted_server server{{}, 1, 16 * 1024, true};
    server.on_message([](connection& c, message_view m) {
        c.emit_message(m);
        c.to(arke::not_me).emit("others", 1);
    });
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    auto& carl = server.connect("carl");
    auto& dora = server.connect("dora");
    for (auto* c : {&anna, &ben, &carl, &dora}) c->heard();
    ben.reads_only(5);
    carl.stream().fails_at = carl.stream().operations;
    const auto before = server.loop().batches;
    const auto operations = anna.stream().operations;
    anna.says("one");
    CHECK(server.loop().batches == before + 1);
    CHECK(anna.stream().operations == operations + 1);
    CHECK(anna.heard() == "text(one)");
    CHECK(dora.heard() == "others(1)");
    ben.reads_everything();
    CHECK(ben.heard() == "others(1)");
    server.settle();
    CHECK_FALSE(server.is_connected("carl"));
    CHECK(server.size() == 3);
}
