#include <arke/core/waiting_room.hpp>

#include <memory>
#include <string>
#include <string_view>

#include "tests/support/catch.hpp"

using namespace arke;
using core::waiting_room;

namespace {

/// A waiting room and what it said, as a text.
struct scene {
    waiting_room room;
    std::string log;

    explicit scene(const waiting_room::bounds& b = {}) : room{b} {}

    void say(std::string_view name, std::string_view data = {}, urgency how = urgency::normal,
             core::millis due = core::timing_wheel::never, core::millis now = 0, std::string_view key = {}) {
        waiting_room::entry e{
            message_ptr{new message{outgoing::of({name, value_kind::text, data}, how, key)}}, {}, due};
        const auto how_it_went = room.add(e, now, [this](waiting_room::entry& late) { let_go(late); });
        if (how_it_went == waiting_room::added::not_ready) note("not ready", std::string{name});
        if (how_it_went == waiting_room::added::full) {
            CHECK(e.what);
            note("full", std::string{name});
        }
    }

    void let_go(const waiting_room::entry& late) { note("late", std::string{late.what->view().event.name}); }
    void let_go(core::millis now) {
        room.take_late(now, [this](waiting_room::entry& late) { let_go(late); });
    }

    void note(const std::string& what, const std::string& name) { log += what + "(" + name + ") "; }

    std::string taken() {
        std::string all;
        while (const auto e = room.take()) {
            const auto out = e->what->view();
            all += std::string{out.event.name} + "(" + std::string{out.event.data} + ") ";
        }
        CHECK(room.bytes() == 0);
        return all;
    }
};

}  // namespace

TEST_CASE("what waits leaves in the order in which it came; what is volatile does not wait") {
    scene s;
    s.say("a", "1");
    s.say("b", "2", urgency::now_or_never);
    s.say("c", "3");
    CHECK(s.log == "not ready(b) ");
    CHECK(s.room.size() == 2);
    CHECK(s.taken() == "a(1) c(3) ");
}

TEST_CASE("of those that say only the newest, the newest of each name and key waits, at the end") {
    scene s;
    s.say("price", "1", urgency::latest_only);
    s.say("price", "2", urgency::latest_only, core::timing_wheel::never, 0, "tea");
    s.say("price", "3");
    s.say("price", "4", urgency::latest_only);
    CHECK(s.taken() == "price(2) price(3) price(4) ");
}

// The older one was dropped before it was known that the newer had no room, and neither was sent.
TEST_CASE("of those that say only the newest, one that has no room leaves the one that waits") {
    scene s{{.messages = 2, .bytes = 20}};
    s.say("price", "1", urgency::latest_only);
    s.say("other", "12345");
    s.say("price", "12345678901234", urgency::latest_only);
    CHECK(s.log == "full(price) ");
    CHECK(s.room.bytes() == 16);
    // Where everything is full, taking a place takes none.
    s.say("price", "23456", urgency::latest_only);
    CHECK(s.room.bytes() == 20);
    CHECK(s.log == "full(price) ");
    CHECK(s.taken() == "other(12345) price(23456) ");
}

TEST_CASE("one that says only the newest finds room where the older one is too late, as where any other is") {
    scene s{{.messages = 100, .bytes = 12}};
    s.say("a", "123", urgency::normal, 100);
    s.say("price", "1", urgency::latest_only, 100);
    s.say("price", "1234567", urgency::latest_only, core::timing_wheel::never, 100);
    CHECK(s.log == "late(a) late(price) ");
    CHECK(s.taken() == "price(1234567) ");
}

TEST_CASE("at its bounds it takes no more, neither messages nor bytes, and first drops what is late") {
    scene few{{.messages = 2, .bytes = 1000}};
    few.say("a", {}, urgency::normal, 100);
    few.say("b");
    few.say("c", {}, urgency::normal, core::timing_wheel::never, 99);
    few.say("d", {}, urgency::normal, core::timing_wheel::never, 100);
    CHECK(few.log == "full(c) late(a) ");
    CHECK(few.taken() == "b() d() ");

    scene small{{.messages = 100, .bytes = 10}};
    small.say("a", "1234");
    small.say("b", "1234");
    CHECK(small.room.bytes() == 10);
    small.say("c");
    CHECK(small.log == "full(c) ");
    CHECK(small.taken() == "a(1234) b(1234) ");
    small.say("d", "123456789");
    CHECK(small.taken() == "d(123456789) ");
    small.say("e", "1234567890");
    CHECK(small.log == "full(c) full(e) ");
}

TEST_CASE("it says when something is late, and gives it out then") {
    scene s;
    CHECK(s.room.next_due() == core::timing_wheel::never);
    s.say("a", {}, urgency::normal, 300);
    s.say("b");
    s.say("c", {}, urgency::normal, 200);
    CHECK(s.room.next_due() == 200);
    s.say("d", {}, urgency::normal, 250);
    s.let_go(199);
    CHECK(s.log == "");
    s.let_go(250);
    s.let_go(250);
    CHECK(s.log == "late(c) late(d) ");
    CHECK(s.room.next_due() == 300);
    CHECK(s.taken() == "a() b() ");
}

TEST_CASE("what is for the connection that ends is told from what is said behind it, and replaced by nothing of that") {
    scene s;
    CHECK_FALSE(s.room.is_at_next());
    s.say("a");
    s.say("price", "1", urgency::latest_only);
    s.say("late", {}, urgency::normal, 100);
    s.room.mark_last();
    s.say("price", "2", urgency::latest_only);
    s.say("price", "3", urgency::latest_only);
    s.say("b");
    CHECK_FALSE(s.room.is_at_next());
    s.let_go(100);
    CHECK(s.room.take()->what->view().event.name == "a");
    CHECK_FALSE(s.room.is_at_next());
    s.room.take_all([](const waiting_room::entry& e) { return e.is_last; },
                    [&](const waiting_room::entry& e) { s.let_go(e); });
    CHECK(s.log == "late(late) late(price) ");
    CHECK(s.room.is_at_next());
    CHECK(s.taken() == "price(3) b() ");
}
