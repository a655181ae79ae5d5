#include <arke/server.hpp>

#include <algorithm>
#include <ctime>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

/// Sorted, because a room has no order.
std::string names(std::vector<std::string> all) {
    std::sort(all.begin(), all.end());
    std::string out;
    for (const auto& one : all) out += (out.empty() ? "" : " ") + one;
    return out;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------- rooms

TEST_CASE("a room is made by its first member and goes with its last") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    server.in_turn([&] {
        CHECK(anna.self().join("tea"));
        CHECK(ben.self().join("tea"));
        CHECK(ben.self().join("cake"));
        CHECK(ben.self().is_joined("tea"));
        CHECK(names(ben.self().rooms()) == "cake tea");
    });
    CHECK(names(server.rooms()) == "cake tea");
    CHECK(names(server.members("tea")) == "anna ben");
    CHECK(names(server.members("nowhere")) == "");
    server.in_turn([&] {
        CHECK(ben.self().leave("tea"));
        CHECK_FALSE(ben.self().leave("tea"));
        CHECK_FALSE(ben.self().leave("nowhere"));
        CHECK_FALSE(ben.self().is_joined("tea"));
    });
    CHECK(names(server.members("tea")) == "anna");
    server.in_turn([&] { CHECK(anna.self().leave("tea")); });
    CHECK(names(server.rooms()) == "cake");
}

TEST_CASE("an emit reaches the members of a room and nobody else") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    auto& carl = server.connect("carl");
    server.join("anna", "tea");
    server.join("ben", "tea");
    server.to("tea").emit("poured", 1);
    server.to("nowhere").emit("lost");
    CHECK(anna.heard() == "poured(1)");
    CHECK(ben.heard() == "poured(1)");
    CHECK(carl.heard() == "");
}

TEST_CASE("a second join delivers once, and one leave is enough") {
    scripted_server server;
    auto& anna = server.connect("anna");
    for (int n = 0; n != 3; ++n) CHECK(server.join("anna", "tea"));
    server.in_turn([&] { CHECK(anna.self().join("tea")); });
    server.to("tea").emit("one");
    CHECK(anna.heard() == "one()");
    CHECK(names(server.members("tea")) == "anna");
    server.leave("anna", "tea");
    server.to("tea").emit("two");
    CHECK(anna.heard() == "");
    CHECK(names(server.rooms()) == "");
}

TEST_CASE("whoever is meant twice hears it once") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    for (const auto* room : {"tea", "cake"}) {
        server.join("anna", room);
        server.join("ben", room);
    }
    server.leave("ben", "cake");
    server.to("tea", "cake", "anna", "anna", "tea").emit("once");
    CHECK(anna.heard() == "once()");
    CHECK(ben.heard() == "once()");
    server.to(arke::all, "tea", "anna").emit("again");
    CHECK(anna.heard() == "again()");
    CHECK(ben.heard() == "again()");
}

TEST_CASE("an id comes before a room of the same name") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& spy = server.connect("spy");
    server.join("spy", "ben");  // in time: nobody is called ben yet
    auto& ben = server.connect("ben");
    server.to("ben").emit("private");
    server.to(arke::id{"ben"}).emit("by id");
    server.to(arke::room{"ben"}).emit("by room");
    server.to(arke::id{"nobody"}).emit("lost");
    server.to(arke::room{"anna"}).emit("lost");
    CHECK(ben.heard() == "private() by id()");
    CHECK(spy.heard() == "by room()");
    CHECK(anna.heard() == "");
}

TEST_CASE("nobody joins a room that is named like another connection") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    error_code reported;
    server.on_error([&](const error_report& e) { reported = e.code; });
    server.in_turn([&] { CHECK_FALSE(anna.self().join("ben")); });
    CHECK(reported == errc::name_taken);
    CHECK_FALSE(server.join("anna", "ben"));
    server.settle();
    server.to("ben").emit("private");
    server.to(arke::room{"ben"}).emit("nobody");
    CHECK(anna.heard() == "");
    CHECK(ben.heard() == "private()");
    server.in_turn([&] { CHECK(anna.self().join("anna")); });  // its own is
    server.to("anna").emit("once");
    CHECK(anna.heard() == "once()");
}

TEST_CASE(
    "a room may be named like somebody who has gone: what is said to that name is heard there, and to that id "
    "nowhere") {
    scripted_server server;
    auto& anna = server.connect("anna");
    server.connect("ben").hangs_up();
    server.in_turn([&] { CHECK(anna.self().join("ben")); });
    server.to("ben").emit("to the name");
    server.to(arke::id{"ben"}).emit("private");
    CHECK(anna.heard() == "to the name()");
    // He is back, and the name is his again.
    auto& ben = server.connect("ben");
    server.to("ben").emit("to the name");
    server.to(arke::id{"ben"}).emit("private");
    CHECK(anna.heard() == "");
    CHECK(ben.heard() == "to the name() private()");
}

TEST_CASE("a connection may be in max_rooms rooms and not in one more") {
    scripted_server server{{.max_rooms = 2}};
    auto& anna = server.connect("anna");
    error_code reported;
    server.on_error([&](const error_report& e) { reported = e.code; });
    server.in_turn([&] {
        CHECK(anna.self().join("a"));
        CHECK(anna.self().join("b"));
        CHECK_FALSE(reported);
        CHECK_FALSE(anna.self().join("c"));
        CHECK(reported == errc::too_many_rooms);
        CHECK(anna.self().join("a"));
    });
    server.join("anna", "d");  // from outside that is only known later
    server.settle();
    CHECK(names(server.rooms()) == "a b");
}

// Names had no bound: a connection in max_rooms rooms of 60,000 bytes each was 235 MB.
TEST_CASE("the names of a connection's rooms are max_room_name_bytes together and not one more") {
    scripted_server server{{.max_room_name_bytes = 10}};
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    std::string reported;
    server.on_error([&](const error_report& e) {
        if (e.code == errc::too_many_rooms) reported += std::string{e.detail} + " ";
    });
    server.in_turn([&] {
        CHECK_FALSE(anna.self().join("eleven byte"));
        CHECK(anna.self().join("12345"));
        CHECK_FALSE(anna.self().join("123456"));
        CHECK(anna.self().join("67890"));
        CHECK(anna.self().join("12345"));
        CHECK_FALSE(anna.self().join("x"));
        CHECK(anna.self().leave("67890"));
        CHECK(anna.self().join("abcd"));
        CHECK(anna.self().join("x"));
        CHECK(ben.self().join("its own 10"));
    });
    CHECK(reported == R"("eleven byte" "123456" "x" )");
    server.join("anna", "y");  // from outside that is only known later
    server.to(arke::all).join("z");
    server.settle();
    CHECK(names(server.rooms()) == "12345 abcd its own 10 x");
}

// Each room that was left was looked for among all those of another member: the square of max_rooms for one that goes.
TEST_CASE("leaving all rooms takes no longer where others are in the same ones") {
    constexpr int rooms = 4000;
    const auto time_of = [](bool shared) {
        std::clock_t best = std::numeric_limits<std::clock_t>::max();
        for (int round = 0; round != 3; ++round) {
            scripted_server server{{.max_rooms = rooms}};
            auto& anna = server.connect("anna");
            auto& ben = server.connect("ben");
            server.in_turn([&] {
                for (int n = 0; n != rooms; ++n) anna.self().join(std::to_string(n));
                for (int n = rooms; shared && n-- != 0;) ben.self().join(std::to_string(n));
                const auto begin = std::clock();
                anna.self().disconnect();
                best = std::min(best, std::clock() - begin);
            });
            CHECK(server.rooms().size() == (shared ? rooms : 0));
            server.in_turn([&] { ben.self().disconnect(); });
            CHECK(server.rooms().empty());
        }
        return best;
    };
    CHECK(time_of(true) < 3 * std::max<std::clock_t>(time_of(false), 100));
}

TEST_CASE("except and not_me leave out") {
    scripted_server server;
    std::map<std::string, client*> people;
    for (const auto* id : {"anna", "ben", "carl", "dora"}) people[id] = &server.connect(id);
    for (const auto* id : {"anna", "ben", "carl"}) server.join(id, "tea");
    for (const auto* id : {"carl", "dora"}) server.join(id, "cake");
    server.settle();
    const auto hears = [&](auto&& emit) {
        server.in_turn([&] { emit(people["anna"]->self()); });
        std::string who;
        for (auto& [id, c] : people) {
            if (c->heard() == "x()") who += (who.empty() ? "" : " ") + id;
        }
        return who;
    };
    CHECK(hears([](connection& c) { c.to(arke::all).emit("x"); }) == "anna ben carl dora");
    CHECK(hears([](connection& c) { c.to(arke::not_me).emit("x"); }) == "ben carl dora");
    CHECK(hears([](connection& c) { c.to(arke::broadcast).emit("x"); }) == "ben carl dora");
    CHECK(hears([](connection& c) { c.to("tea", arke::not_me).emit("x"); }) == "ben carl");
    CHECK(hears([](connection& c) { c.to("tea").emit("x"); }) == "anna ben carl");
    CHECK(hears([](connection& c) { c.to("tea", "cake", arke::not_me).emit("x"); }) == "ben carl dora");
    CHECK(hears([](connection& c) { c.to("tea").except("ben").emit("x"); }) == "anna carl");
    CHECK(hears([](connection& c) { c.to("tea").except("cake").emit("x"); }) == "anna ben");
    CHECK(hears([](connection& c) { c.to(arke::all).except("tea", "dora").emit("x"); }) == "");
    CHECK(hears([](connection& c) { c.to("tea", arke::not_me).except("cake", "ben").emit("x"); }) == "");
    CHECK(hears([](connection& c) { c.to("anna", arke::not_me).emit("x"); }) == "");
    CHECK(hears([](connection& c) { c.to("ben").except(arke::room{"ben"}).emit("x"); }) == "ben");
    CHECK(hears([](connection& c) { c.to("tea").except(arke::id{"cake"}).emit("x"); }) == "anna ben carl");
    CHECK(hears([](connection& c) { c.to("tea").except("nobody", "nowhere").emit("x"); }) == "anna ben carl");
}

TEST_CASE("an event that no protocol carries is refused where it is emitted, and nobody hears of it") {
    scripted_server server;
    auto& anna = server.connect("anna");
    CHECK_THROWS_AS(server.to("anna").emit("\xFF"), std::invalid_argument);
    CHECK_THROWS_AS(server.to("anna").emit("text", "\xFF"), std::invalid_argument);
    server.to("anna").emit("semi;colon");  // she does not speak arke.v1, in which that is a name
    server.settle();
    CHECK(server.hub().not_deliverable.load() == 1);
    server.in_turn([&] {
        CHECK_THROWS_AS(anna.self().emit("semi;colon"), std::invalid_argument);
        CHECK_THROWS_AS(anna.self().emit(""), std::invalid_argument);
        CHECK_THROWS_AS(anna.self().to(arke::all).emit_message("\xFF"), std::invalid_argument);
        CHECK_THROWS_AS(anna.self().emit_message("\xFF"), std::invalid_argument);
    });
    CHECK(anna.heard() == "");
}

// ------------------------------------------------------------------------------------------------- while a room is told

TEST_CASE("peers whose outbox is full end in the middle of a broadcast, and the others hear all of it") {
    scripted_server server{{.max_outbox_bytes = 200}};
    std::vector<client*> clients;
    int gone = 0;
    server.on_disconnect([&](connection& c) {
        ++gone;
        CHECK(c.rooms().empty());
        c.to("room").emit("left", c.id());
    });
    for (int n = 0; n != 20; ++n) {
        clients.push_back(&server.connect("p" + std::to_string(n)));
        server.join(clients.back()->self().id(), "room");
    }
    server.settle();
    const auto is_slow = [](int n) { return n % 3 == 0 || n == 19; };
    for (int n = 0; n != 20; ++n) {
        if (is_slow(n)) clients[static_cast<std::size_t>(n)]->reads_only(0);
    }
    server.in_turn([&] { server.to("room").emit("one", std::string(100, 'x')); });
    server.in_turn([&] {
        server.to("room").emit("two", std::string(100, 'x'));
        server.to("room").emit("three");
    });
    CHECK(gone == 8);
    for (int n = 0; n != 20; ++n) {
        auto& c = *clients[static_cast<std::size_t>(n)];
        if (!is_slow(n)) {
            CHECK(c.heard() ==
                  "one(100 bytes) two(100 bytes) three() left(p0) left(p3) left(p6) left(p9) left(p12) left(p15) "
                  "left(p18) left(p19)");
        } else {
            c.reads_everything();
            CHECK(c.heard() == "one(100 bytes) close(1013 too slow) end");
        }
    }
    CHECK(server.size() == 12);
    CHECK(server.members("room").size() == 12);
}

TEST_CASE("the same for everybody and for several rooms, where members are marked") {
    scripted_server server{{.max_outbox_bytes = 100}};
    auto& slow = server.connect("slow");
    auto& fast = server.connect("fast");
    auto& also_slow = server.connect("also slow");
    for (auto* c : {&slow, &fast, &also_slow}) {
        server.join(c->self().id(), "a");
        server.join(c->self().id(), "b");
    }
    server.settle();
    slow.reads_only(0);
    also_slow.reads_only(0);
    server.in_turn([&] { server.to(arke::all).emit("one", std::string(70, 'x')); });
    server.in_turn([&] { server.to("a", "b", "slow").emit("two"); });
    CHECK(fast.heard() == "one(70 bytes) two()");
    CHECK(names(server.members("a")) == "fast");
    CHECK(names(server.members("b")) == "fast");
    CHECK(server.size() == 1);
}

TEST_CASE("a handler may leave the room that it is told of, or disconnect itself and others") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    auto& carl = server.connect("carl");
    for (const auto* id : {"anna", "ben", "carl"}) server.join(id, "tea");
    server.settle();
    server.on("go", [&](connection& c) {
        c.to("tea").emit("before", c.id());
        c.leave("tea");
        c.to("tea").emit("after", c.id());
        server.disconnect("carl");
        c.to("tea").emit("last", c.id());
        c.disconnect();
        c.to("tea").emit("from beyond", c.id());
        c.emit("not sent");
    });
    anna.emits("go", "");
    CHECK(anna.heard() == "before(anna) close(1000)");
    CHECK(ben.heard() == "before(anna) after(anna) last(anna) from beyond(anna)");
    CHECK(carl.heard() == "before(anna) after(anna) close(1000)");
    CHECK(names(server.members("tea")) == "ben");
}

TEST_CASE("who joins while a room is told of something hears what is said from then on") {
    scripted_server server{{.max_outbox_bytes = 100}, 2};
    auto& anna = server.connect("anna");
    auto& slow = server.connect("slow");
    auto& guest = server.connect("guest");
    auto& far = server.connect("far", 1);
    for (const auto* id : {"anna", "slow", "far"}) server.join(id, "tea");
    server.settle();
    SECTION("of two in one handler: the one before the emit hears it, the one behind does not") {
        auto& late = server.connect("late");
        server.on("go", [&](connection& c) {
            guest.self().join("tea");
            c.to("tea").emit("one");
            late.self().join("tea");
            c.to("tea").emit("two");
        });
        anna.emits("go");
        CHECK(anna.heard() == "one() two()");
        CHECK(guest.heard() == "one() two()");
        CHECK(late.heard() == "two()");
    }
    SECTION("in a handler of somebody whom that very message ends") {
        server.on_error([&](const error_report&) { guest.self().join("tea"); });
        server.on_disconnect([&](connection& c) {
            guest.self().join("tea");
            c.to("tea").emit("left", c.id());
        });
        slow.reads_only(0);
        server.in_turn([&] { server.to("tea").emit("one", line(60)); });
        server.in_turn([&] {
            server.to("tea").emit("two", line(60));
            server.to("tea").emit("three");
        });
        CHECK_FALSE(server.is_connected("slow"));
        CHECK(anna.heard() == "one(" + line(60) + ") two(" + line(60) + ") three() left(slow)");
        CHECK(guest.heard() == "left(slow)");
        CHECK(far.heard() == "one(" + line(60) + ") two(" + line(60) + ") three() left(slow)");
        CHECK(names(server.members("tea")) == "anna far guest");
    }
    SECTION("in a handler of on_leave") {
        server.on_leave([&] { guest.self().join("tea"); });
        server.on("go", [&](connection& c) {
            c.to("tea").emit("one");
            c.leave("tea");
            c.to("tea").emit("two");
        });
        slow.emits("go");
        CHECK(slow.heard() == "one()");
        CHECK(anna.heard() == "one() two()");
        CHECK(guest.heard() == "two()");
    }
    SECTION("on another loop: who is a member when that loop takes it up hears it") {
        auto& there = server.connect("there", 1);
        auto& later = server.connect("later", 1);
        server.settle();
        server.in_turn([&] { anna.self().to("tea").emit("one"); });
        server.join("later", "tea");  // posted behind it
        server.loop(1).in_turn_do([] {});
        server.in_turn([&] { there.self().join("tea"); }, 1);
        server.in_turn([&] { anna.self().to("tea").emit("two"); });
        CHECK(far.heard() == "one() two()");
        CHECK(later.heard() == "two()");
        CHECK(there.heard() == "two()");
    }
    slow.reads_everything();
}

TEST_CASE("on_leave hears of each room, at the disconnect too, and c.to(room) tells the others then") {
    scripted_server server;
    std::string left;
    server.on_leave([&](connection& c, std::string_view room) { left += c.id() + "<" + std::string{room} + " "; });
    server.on_disconnect([&](connection& c) {
        left += "gone ";
        c.to("tea").emit("left", c.id());
    });
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    server.in_turn([&] {
        for (const auto* room : {"tea", "cake", "sugar"}) anna.self().join(room);
        ben.self().join("tea");
        anna.self().leave("cake");
    });
    CHECK(left == "anna<cake ");
    anna.hangs_up();
    CHECK(ben.heard() == "left(anna)");
    CHECK(left == "anna<cake anna<tea anna<sugar gone ");
    server.leave("ben", "tea");  // from outside
    server.settle();
    CHECK(left.ends_with("gone ben<tea "));
}

TEST_CASE("members come and go at random, and the rooms stay what they should be") {
    for (unsigned seed = 0; seed != 20; ++seed) {
        std::mt19937 random{seed};
        scripted_server server;
        std::map<std::string, client*> here;
        std::map<std::string, std::set<std::string>> expected;
        int number = 0;
        for (int n = 0; n != 300; ++n) {
            const std::string room = "r" + std::to_string(random() % 5);
            const auto some = [&] {
                return std::next(here.begin(), static_cast<std::ptrdiff_t>(random() % here.size()));
            };
            const auto act = random() % 8;
            if (here.empty() || (act == 0 && here.size() < 10)) {
                const auto id = "p" + std::to_string(number++);
                here[id] = &server.connect(id);
            } else if (act == 1) {
                const auto who = some();
                who->second->vanishes();
                for (auto& [name, ids] : expected) ids.erase(who->first);
                here.erase(who);
            } else if (act < 5) {
                const auto id = some()->first;
                CHECK(server.join(id, room));
                expected[room].insert(id);
            } else {
                const auto id = some()->first;
                server.leave(id, room);
                expected[room].erase(id);
            }
            server.settle();
            std::size_t rooms = 0;
            for (const auto& [name, ids] : expected) {
                rooms += ids.empty() ? 0 : 1;
                REQUIRE(names(server.members(name)) == names({ids.begin(), ids.end()}));
            }
            REQUIRE(server.rooms().size() == rooms);
            REQUIRE(server.size() == here.size());
        }
    }
}

// ------------------------------------------------------------------------------------------------------------------ ids

TEST_CASE("a connection is found by its id while it is open") {
    scripted_server server;
    auto& anna = server.connect("anna");
    CHECK(server.find("anna").id() == "anna");
    CHECK_FALSE(server.find("nobody"));
    CHECK(server.size() == 1);
    CHECK(server.connections().size() == 1);
    const auto handle = server.find("anna");
    CHECK(handle.is_connected());
    server.disconnect("anna");
    server.settle();
    CHECK_FALSE(handle.is_connected());
    CHECK_FALSE(server.is_connected("anna"));
    CHECK(server.size() == 0);
    CHECK(handle.id() == "anna");
    handle.emit("nothing");
    handle.disconnect();
    CHECK_FALSE(handle.join("tea"));
    CHECK(anna.heard() == "close(1000)");
    CHECK(server.rooms().empty());
}

TEST_CASE("a second connection of an id is refused, and the first one stays") {
    scripted_server server;
    auto& first = server.connect("anna");
    auto& second = server.connect("anna");
    CHECK(second.was_refused());
    CHECK(server.is_freed(second));
    server.to("anna").emit("hello");
    CHECK(first.heard() == "hello()");
    CHECK(server.size() == 1);
    first.hangs_up();
    CHECK_FALSE(server.connect("anna").was_refused());
}

TEST_CASE("a second connection of an id replaces the first where the config says so") {
    for (const std::size_t second_loop : {std::size_t{0}, std::size_t{1}}) {
        scripted_server server{{.on_duplicate_id = duplicate_id::replace}, 2};
        error_code reported;
        int gone = 0;
        server.on_error([&](const error_report& e) { reported = e.code; });
        server.on_disconnect([&](close_code code, std::string_view) {
            ++gone;
            CHECK(code == close_code::policy_violation);
        });
        auto& first = server.connect("anna");
        server.join("anna", "tea");
        server.settle();
        auto& second = server.connect("anna", second_loop);
        CHECK_FALSE(second.was_refused());
        CHECK(first.heard() == "close(1008 replaced by a newer connection with the same id)");
        CHECK(reported == errc::replaced);
        CHECK(gone == 1);
        CHECK(server.size() == 1);
        CHECK(server.rooms().empty());
        server.to("anna").emit("hello");
        CHECK(second.heard() == "hello()");
        CHECK(first.heard() == "");
        first.hangs_up();
        CHECK(server.is_connected("anna"));
    }
}

// -------------------------------------------------------------------------------------------------------- several loops

TEST_CASE("a join and then an emit of one thread reaches the one who joined, on every loop") {
    scripted_server server{{}, 3};
    std::vector<client*> clients;
    for (std::size_t n = 0; n != 6; ++n) clients.push_back(&server.connect("p" + std::to_string(n), n % 3));
    for (auto* c : clients) {
        server.join(c->self().id(), "tea");  // posted, and not yet run
        server.to("tea").emit("in", c->self().id());
    }
    CHECK(names(server.rooms()) == "tea");
    CHECK(clients[0]->heard() == "in(p0) in(p1) in(p2) in(p3) in(p4) in(p5)");
    CHECK(clients[4]->heard() == "in(p4) in(p5)");
    CHECK(clients[5]->heard() == "in(p5)");
    for (auto* c : clients) c->heard();
    for (auto* c : clients) {
        server.leave(c->self().id(), "tea");
        server.to("tea").emit("out", c->self().id());
    }
    CHECK(clients[0]->heard() == "");
    CHECK(clients[3]->heard() == "out(p0) out(p1) out(p2)");
    CHECK(server.rooms().empty());
}

TEST_CASE("a handler's joins and emits reach the other loops in order, and its own at once") {
    scripted_server server{{}, 2};
    auto& here = server.connect("here", 0);
    auto& there = server.connect("there", 1);
    server.on("go", [&](connection& c) {
        server.join("there", "tea");
        c.join("tea");
        c.to("tea").emit("one");
        c.to("there").emit("two");
        c.to("tea", arke::not_me).emit("three");
        server.leave("there", "tea");
        c.to("tea").emit("four");
        server.find("there").emit("five");
    });
    here.emits("go", "");
    CHECK(here.heard() == "one() four()");
    CHECK(there.heard() == "one() two() three() five()");
}

TEST_CASE("except and not_me hold on other loops too") {
    scripted_server server{{}, 2};
    auto& anna = server.connect("anna", 0);
    auto& ben = server.connect("ben", 1);
    auto& carl = server.connect("carl", 1);
    for (const auto* id : {"anna", "ben", "carl"}) server.join(id, "tea");
    server.join("carl", "cake");
    server.settle();
    server.in_turn([&] {
        anna.self().to("tea", "cake", arke::not_me).emit("one");
        anna.self().to(arke::all).except("cake").emit("two");
        anna.self().to(arke::all).except("ben").emit("three");
    });
    // The speaker's turn may be over, and on another loop than its own.
    server.in_turn([&] { anna.self().to(arke::not_me).emit("four"); }, 1);
    CHECK(anna.heard() == "two() three()");
    CHECK(ben.heard() == "one() two() four()");
    CHECK(carl.heard() == "one() three() four()");
}

TEST_CASE("a loop takes a message up at the beginning of its next turn") {
    scripted_server server{{}, 2};
    auto& anna = server.connect("anna", 1);
    server.join("anna", "tea");
    server.to("tea").emit("one");
    CHECK(anna.bytes().empty());
    server.in_turn([] {}, 0);
    CHECK(anna.bytes().empty());
    server.in_turn(
        [&] {
            CHECK(anna.self().is_joined("tea"));
            anna.self().emit("two");
        },
        1);
    CHECK(anna.heard() == "one() two()");

    server.to("tea").emit("three");
    server.in_turn([&] { anna.self().disconnect(); }, 1);
    server.to("tea").emit("four");
    CHECK(anna.heard() == "three() close(1000)");
}

TEST_CASE("large messages go to all loops") {
    scripted_server server{{}, 2, 1024};
    auto& anna = server.connect("anna", 0);
    auto& ben = server.connect("ben", 1);
    server.in_turn([&] {
        server.to(arke::all).emit("large", std::string(5000, 'x'));
        server.to(arke::all).emit_message(std::string(3000, 'x'));
        server.to(arke::all).emit("small");
    });
    CHECK(anna.heard() == "large(5000 bytes) text(3000 bytes) small()");
    CHECK(ben.heard() == "large(5000 bytes) text(3000 bytes) small()");
}

TEST_CASE("what is posted to a loop that has ended is dropped") {
    scripted_server server{{}, 2};
    auto& anna = server.connect("anna", 1);
    server.loop(1).end_posts();
    server.to("anna").emit("lost");
    server.to(arke::all).emit("lost");
    CHECK_FALSE(server.join("anna", "tea"));
    CHECK(server.rooms().empty());
    CHECK(anna.heard() == "");
}

TEST_CASE("a target does things with each connection on its own loop") {
    scripted_server server{{}, 2};
    auto& anna = server.connect("anna", 0);
    auto& ben = server.connect("ben", 1);
    auto& carl = server.connect("carl", 1);
    server.to("anna", "ben").join("tea");
    server.settle();
    CHECK(names(server.members("tea")) == "anna ben");
    server.to("tea").except("anna").leave("tea");
    server.settle();
    CHECK(names(server.members("tea")) == "anna");
    server.to(arke::all).except("carl").disconnect(close_code{4000}, "out");
    CHECK(anna.heard() == "close(4000 out)");
    CHECK(ben.heard() == "close(4000 out)");
    CHECK(carl.heard() == "");
}

TEST_CASE("nothing is left of connections that are over") {
    scripted_server server{{}, 2};
    std::vector<client*> clients;
    for (std::size_t n = 0; n != 40; ++n) {
        clients.push_back(&server.connect("p" + std::to_string(n), n % 2));
        clients.back()->self().on("event", [keeps = std::make_shared<int>(1), handle = server.find("nobody")] {});
        server.join("p" + std::to_string(n), "room " + std::to_string(n % 3));
        server.join("p" + std::to_string(n), "p" + std::to_string(n));
    }
    server.settle();
    for (std::size_t n = 0; n != 40; ++n) {
        switch (n % 4) {
            case 0: clients[n]->hangs_up(); break;
            case 1: clients[n]->vanishes(); break;
            case 2:
                clients[n]->closes(1000);
                clients[n]->hangs_up();
                break;
            default:
                server.disconnect("p" + std::to_string(n));
                server.pass(6s);
                break;
        }
    }
    server.settle();
    CHECK(server.size() == 0);
    CHECK(server.connections().empty());
    CHECK(server.rooms().empty());
    for (auto* c : clients) CHECK(server.is_freed(*c));
    for (std::size_t n = 0; n != 2; ++n) CHECK(server.loop(n).load() == 0);
}

TEST_CASE("when_empty waits for the last connection, and then for nothing") {
    scripted_server server;
    auto& anna = server.connect("anna");
    int times = 0;
    server.in_turn([&] { server.loop().when_empty(core::task{[&] { ++times; }}); });
    CHECK(times == 0);
    anna.hangs_up();
    CHECK(times == 1);
    server.in_turn([] {});
    CHECK(times == 1);
}
