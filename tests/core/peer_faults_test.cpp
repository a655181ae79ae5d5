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

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

// ----------------------------------------------------------------------------------------------------- writes that fail

namespace {

/// One connection's life, with every way of sending in it, over a stream that the caller has prepared. What was sent, and how
/// often on_disconnect ran.
struct life {
    std::string sent;
    int operations = 0;
    int disconnects = 0;
    bool was_freed = false;

    template <class Prepare, class Afterwards>
    life(Prepare prepare, Afterwards afterwards) {
        scripted_server server{{.max_outbox_bytes = 1'000'000}, 1, 1024};
        server.on_disconnect([this](connection& c) { disconnects += c.id() == "anna" ? 1 : 0; });
        server.on_message([&](connection& c, message_view m) {
            c.emit("echo", m.data);
            c.to(arke::all).emit("said", m.data);
        });
        server.on_connection([](connection& c) { c.emit("welcome", c.id()); });
        auto& anna = server.connect("anna", 0, prepare);
        server.settle();
        server.connect("ben");
        const auto go_on = [&] { return server.is_connected("anna"); };
        if (go_on()) {
            server.in_turn([&] {
                anna.self().emit("small", 1);
                server.to(arke::all).emit("all", 2);
                anna.self().emit_message(line(600, 'a'));
                server.to(arke::all).emit_message(line(300, 'b'));
                anna.self().emit("small", line(400, 'c'));
                anna.self().emit("small", line(450, 'd'));
                anna.self().emit("small", line(420, 'e'));  // the turn buffer is full: what it holds goes first
                anna.self().ping();
            });
        }
        server.settle();
        if (go_on()) anna.sends(client_frame(0x81, "one") + client_frame(0x89, "p") + client_frame(0x81, "two"));
        server.settle();
        if (go_on()) server.in_turn([&] { anna.self().disconnect(close_code::normal, "the end"); });
        anna.closes(1000);
        afterwards(anna);
        server.settle();
        sent = anna.stream().sent;
        operations = anna.stream().operations;
        CHECK((anna.stream().is_closed || anna.stream().is_shut || anna.stream().waits_for_room()));
        if (!anna.stream().is_closed) anna.hangs_up();
        server.settle();
        was_freed = server.is_freed(anna);
    }
};

const auto no_change = [](auto&) {};

}  // namespace

TEST_CASE("whichever write fails, what was sent is whole and in order, and the connection ends once") {
    // After a failed write of what the turn had gathered, later writes of the same turn went out, and left a gap in the stream.
    const life good{no_change, no_change};
    REQUIRE(good.operations > 5);
    REQUIRE(good.disconnects == 1);
    for (int n = 0; n != good.operations; ++n) {
        const life broken{[n](memory_transport& t) { t.fails_at = n; }, no_change};
        INFO("operation " << n);
        CHECK(good.sent.starts_with(broken.sent));
        CHECK(broken.sent.size() < good.sent.size());
        CHECK(broken.operations == n + 1);
        CHECK(broken.disconnects == 1);
        CHECK(broken.was_freed);
    }
}

TEST_CASE("whichever write is short, at whichever byte, the rest follows in order") {
    const life good{no_change, no_change};
    for (std::size_t n = 0; n < good.sent.size(); ++n) {
        const life slow{[n](memory_transport& t) { t.room = n; }, [](client& c) { c.reads_everything(); }};
        REQUIRE(slow.sent == good.sent);
        REQUIRE(slow.disconnects == 1);
        REQUIRE(slow.was_freed);
    }
}

TEST_CASE("a stream that takes a few bytes at a time gets all of them") {
    const life good{no_change, no_change};
    for (const std::size_t n : {1U, 2U, 7U, 100U, 999U}) {
        const life slow{[n](memory_transport& t) { t.most_at_once = n; },
                        [](client& c) {
                            while (c.stream().waits_for_room()) c.reads_everything();
                        }};
        CHECK(slow.sent == good.sent);
        CHECK(slow.disconnects == 1);
        CHECK(slow.was_freed);
    }
}

TEST_CASE("a stream that is short and then breaks keeps the beginning, whichever write it is") {
    const life good{no_change, no_change};
    for (std::size_t room = 0; room < good.sent.size(); room += 37) {
        for (int n = 1; n != 6; ++n) {
            const life broken{[&](memory_transport& t) {
                                  t.room = room;
                                  t.fails_at = n;
                              },
                              [](client& c) { c.reads_everything(); }};
            REQUIRE(good.sent.starts_with(broken.sent));
            REQUIRE(broken.disconnects == 1);
            REQUIRE(broken.was_freed);
        }
    }
}

TEST_CASE("a stream that fails a write and never tells its end is cut at write_timeout") {
    scripted_server server{{.write_timeout = 15s}};
    diary told{server};
    auto& anna = server.connect("anna");
    anna.stream().fails_at = anna.stream().operations;
    server.in_turn([&] { anna.self().emit_message("lost"); });
    server.loop().pass(16'000);  // and not settle(), which would tell it
    CHECK(told.text.ends_with("anna gone 1006 the peer took no byte for write_timeout"));
    CHECK(anna.stream().is_closed);
}

// ----------------------------------------------------------------------------------------------------- against a model

namespace {

/// Random sends to connections and rooms, with streams that take what they like, against the plainest possible model: a string
/// for each connection, and a set for each room.
void compare_with_model(unsigned seed, std::size_t write_buffer_size, bool one_turn_each) {
    constexpr std::size_t people = 6;
    const std::vector<std::string> rooms = {"red", "green", "blue"};
    std::mt19937 random{seed};
    const auto any = [&](std::size_t below) { return static_cast<std::size_t>(random() % below); };

    scripted_server server{{.max_message_size = 5000, .max_outbox_bytes = 100'000'000}, 1, write_buffer_size};
    std::vector<client*> clients;
    std::map<std::string, std::string> expected;
    std::map<std::string, std::set<std::string>> members;
    for (std::size_t n = 0; n != people; ++n) {
        clients.push_back(&server.connect("p" + std::to_string(n)));
        expected["p" + std::to_string(n)];
    }
    server.on_message([&](connection& c, message_view m) {
        c.emit_message(m);
        expected[c.id()] += server_frame(m.is_text ? 0x81 : 0x82, m.data);
    });
    int number = 0;

    const auto act = [&] {
        auto& me = *clients[any(people)];
        const auto my_id = me.self().id();
        std::string text = std::to_string(number++) + ":";
        text.resize(text.size() + (any(4) == 0 ? any(3000) : any(60)), static_cast<char>('a' + any(26)));
        const auto event = server_frame(0x81, std::string{iris_prefix} + "e;0;" + text);
        switch (any(10)) {
            case 0:
            case 1:
                me.self().emit("e", text);
                expected[my_id] += event;
                break;
            case 2:
                me.self().emit_message(text);
                expected[my_id] += server_frame(0x81, text);
                break;
            case 3: {
                const auto& name = rooms[any(rooms.size())];
                CHECK(me.self().join(name));
                members[name].insert(my_id);
                break;
            }
            case 4: {
                const auto& name = rooms[any(rooms.size())];
                CHECK(me.self().leave(name) == (members[name].erase(my_id) != 0));
                break;
            }
            case 5:
            case 6: {
                const auto& name = rooms[any(rooms.size())];
                me.self().to(name).emit("e", text);
                for (const auto& id : members[name]) expected[id] += event;
                break;
            }
            case 7: {
                const auto& name = rooms[any(rooms.size())];
                const auto& other = rooms[any(rooms.size())];
                me.self().to(name, other, my_id).emit("e", text);
                std::set<std::string> all{my_id};
                all.insert(members[name].begin(), members[name].end());
                all.insert(members[other].begin(), members[other].end());
                for (const auto& id : all) expected[id] += event;
                break;
            }
            case 8: {
                const auto& name = rooms[any(rooms.size())];
                me.self().to(arke::not_me).except(name).emit("e", text);
                for (auto& [id, stream] : expected) {
                    if (id != my_id && !members[name].contains(id)) stream += event;
                }
                break;
            }
            default: {
                std::string burst;
                for (std::size_t n = any(3); n != 0; --n) burst += client_frame(0x82, text);
                if (!burst.empty()) me.sends(burst);  // in the same turn: what was gathered leaves early
                break;
            }
        }
    };

    for (int turn = 0; turn != 150; ++turn) {
        if (one_turn_each) {
            server.in_turn(act);
        } else {
            server.in_turn([&] {
                for (std::size_t n = any(12); n != 0; --n) act();
            });
        }
        auto& c = *clients[any(people)];
        switch (any(5)) {
            case 0: c.reads_only(any(2000)); break;
            case 1: c.reads(any(4000)); break;
            case 2: c.reads_everything(); break;
            default: break;
        }
    }
    for (auto* c : clients) {
        c->reads_everything();
        INFO("seed " << seed << ", turn buffer " << write_buffer_size);
        REQUIRE(c->bytes() == expected[c->self().id()]);
        REQUIRE(c->self().buffered_amount() == 0);
    }
    for (const auto& name : rooms) {
        auto ids = server.members(name);
        REQUIRE(std::set<std::string>(ids.begin(), ids.end()) == members[name]);
    }
}

}  // namespace

TEST_CASE("direct and shared frames keep their order for everyone, whatever the streams take") {
    for (unsigned seed = 0; seed != 15; ++seed) {
        for (const std::size_t size :
             {std::size_t{1024}, std::size_t{1500}, std::size_t{4096}, std::size_t{16 * 1024}}) {
            compare_with_model(seed, size, seed % 4 == 0);
        }
    }
}

TEST_CASE("whatever happens to a connection in whatever order, it ends once and nothing follows its close") {
    for (unsigned seed = 0; seed != 400; ++seed) {
        INFO("seed " << seed);
        std::mt19937 random{seed};
        scripted_server server{{.max_outbox_bytes = 3000}, 1, 1024};
        int disconnects = 0;
        int late = 0;
        bool over = false;
        server.on_disconnect([&] {
            ++disconnects;
            over = true;
        });
        server.on_message([&](connection& c, message_view m) {
            late += over;
            if (m.data == "quit") c.disconnect();
            c.emit_message(m);
        });
        server.on_ping([&] { late += over; });
        auto& anna = server.connect("anna");
        const auto handle = server.find("anna");
        for (int n = 0; n != 25; ++n) {
            switch (random() % 14) {
                case 0: anna.says("hello"); break;
                case 1: anna.pings(line(100)); break;
                case 2: anna.sends(client_frame(0x81, line(900))); break;
                case 3: anna.reads_only(random() % 500); break;
                case 4: anna.reads(random() % 500); break;
                case 5: anna.reads_everything(); break;
                case 6: server.pass(std::chrono::milliseconds{random() % 9000}); break;
                case 7: handle.emit_message(line(random() % 1500)); break;
                case 8: server.to(arke::all).emit("all", line(random() % 1500)); break;
                case 9:
                    if (random() % 4 == 0) handle.disconnect();
                    break;
                case 10:
                    if (random() % 4 == 0) anna.closes(1000);
                    break;
                case 11:
                    if (random() % 4 == 0)
                        anna.sends(random() % 2 == 0 ? client_frame(0x83, "") : client_frame(0x81, "quit"));
                    break;
                case 12:
                    if (random() % 8 == 0) anna.hangs_up();
                    break;
                default:
                    if (random() % 8 == 0) anna.stream().fails_at = anna.stream().operations;
                    break;
            }
            if (random() % 2 == 0) server.settle();
        }
        anna.reads_everything();
        const auto heard = anna.heard();
        REQUIRE(heard.find("garbage") == std::string::npos);
        if (const auto close = heard.find("close("); close != std::string::npos) {
            REQUIRE(heard.find('(', close + 6) == std::string::npos);
        }
        if (!anna.stream().is_closed) anna.vanishes();
        server.settle();
        REQUIRE(disconnects == 1);
        REQUIRE(late == 0);
    }
}
