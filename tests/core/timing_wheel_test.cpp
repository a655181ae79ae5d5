#include <arke/core/timing_wheel.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"

using arke::core::millis;
using arke::core::timer_entry;
using arke::core::timing_wheel;

namespace {

/// An entry with a name, and what it does when it comes due.
struct alarm_clock : timer_entry {
    explicit alarm_clock(std::string n = {}) : name{std::move(n)} {}
    std::string name;
    std::function<void()> then;
};

/// Advances a wheel and tells who came due.
std::string advance(timing_wheel& wheel, millis now) {
    std::string due;
    wheel.advance(now, [&](timer_entry& entry) {
        auto& a = static_cast<alarm_clock&>(entry);
        CHECK_FALSE(a.is_scheduled());
        due += (due.empty() ? "" : " ") + a.name;
        if (a.then) a.then();
    });
    return due;
}

constexpr millis tick = timing_wheel::tick;
constexpr millis full_round = tick * static_cast<millis>(timing_wheel::slots);

}  // namespace

TEST_CASE("an entry comes due never early and at most a tick late") {
    for (const millis start : {millis{0}, millis{5}, millis{1'000'003}}) {
        for (millis delay = 1; delay != 100; ++delay) {
            timing_wheel wheel{start};
            alarm_clock a{"a"};
            wheel.schedule(a, start + delay);
            millis now = start;
            while (advance(wheel, now).empty() && now < start + 1000) ++now;
            REQUIRE(now >= start + delay);
            REQUIRE(now < start + delay + tick);
        }
    }
}

TEST_CASE("what is due already comes at the next tick") {
    timing_wheel wheel{1000};
    alarm_clock past{"past"}, now{"now"};
    wheel.schedule(past, 3);
    wheel.schedule(now, 1000);
    CHECK(advance(wheel, 1000 + tick) == "past now");
}

TEST_CASE("an entry of a later round waits for it") {
    timing_wheel wheel;
    alarm_clock soon{"soon"}, later{"later"}, much_later{"much later"};
    wheel.schedule(soon, 160);
    wheel.schedule(later, 160 + full_round);
    wheel.schedule(much_later, 160 + 2 * full_round);
    CHECK(advance(wheel, 160) == "soon");
    CHECK(advance(wheel, 160 + full_round - 1) == "");
    CHECK(advance(wheel, 160 + full_round) == "later");
    CHECK(advance(wheel, 160 + 2 * full_round - tick) == "");
    CHECK(advance(wheel, 160 + 2 * full_round) == "much later");
}

TEST_CASE("after a long pause everything that was missed comes once") {
    timing_wheel wheel;
    std::vector<std::unique_ptr<alarm_clock>> alarms;
    for (millis due = 1; due < 3 * full_round; due += 1000) {
        alarms.push_back(std::make_unique<alarm_clock>("x"));
        wheel.schedule(*alarms.back(), due);
    }
    alarm_clock future{"future"};
    wheel.schedule(future, 10 * full_round + 100);

    const auto due = advance(wheel, 10 * full_round);
    CHECK(due.size() == alarms.size() * 2 - 1);
    CHECK(due.find("future") == std::string::npos);
    CHECK(advance(wheel, 10 * full_round + 100 + tick) == "future");
}

TEST_CASE("an entry is moved and taken out") {
    timing_wheel wheel;
    alarm_clock a{"a"}, b{"b"};
    wheel.schedule(a, 100);
    wheel.schedule(b, 100);
    wheel.schedule(a, 500);
    CHECK(a.due() == 500);
    CHECK(a.is_scheduled());
    CHECK(advance(wheel, 400) == "b");
    a.cancel();
    a.cancel();
    CHECK_FALSE(a.is_scheduled());
    CHECK(advance(wheel, 1000) == "");
}

TEST_CASE("an entry leaves by itself when it is destroyed") {
    timing_wheel wheel;
    alarm_clock stays{"stays"};
    {
        alarm_clock goes{"goes"};
        wheel.schedule(goes, 100);
        wheel.schedule(stays, 100);
    }
    CHECK(advance(wheel, 200) == "stays");
}

TEST_CASE("entries may outlive their wheel") {
    alarm_clock a{"a"};
    {
        timing_wheel wheel;
        wheel.schedule(a, 100);
    }
    CHECK_FALSE(a.is_scheduled());
}

TEST_CASE("a callback may cancel, move and destroy whatever it likes") {
    timing_wheel wheel;
    alarm_clock first{"first"}, cancelled{"cancelled"}, moved{"moved"}, last{"last"};
    auto destroyed = std::make_unique<alarm_clock>("destroyed");
    auto itself = std::make_unique<alarm_clock>("itself");
    first.then = [&] {
        cancelled.cancel();
        destroyed.reset();
        wheel.schedule(moved, 300);
    };
    itself->then = [&] { itself.reset(); };
    for (auto* a : {&first, &cancelled, destroyed.get(), &moved, itself.get(), &last}) wheel.schedule(*a, 100);
    CHECK(advance(wheel, 112) == "first itself last");
    CHECK(advance(wheel, 299) == "");
    CHECK(advance(wheel, 304) == "moved");
}

TEST_CASE("what a callback schedules for now comes at the next tick, not in a circle") {
    timing_wheel wheel;
    alarm_clock again{"again"};
    again.then = [&] { wheel.schedule(again, 0); };
    wheel.schedule(again, 10);
    CHECK(advance(wheel, 16) == "again");
    CHECK(advance(wheel, 31) == "");
    CHECK(advance(wheel, 32) == "again");
    CHECK(advance(wheel, 32 + 20 * full_round) == "again");
}

TEST_CASE("next() tells when to come back") {
    timing_wheel wheel{1000};
    CHECK(wheel.next() == timing_wheel::never);
    alarm_clock a{"a"}, b{"b"};
    wheel.schedule(a, 2000);
    wheel.schedule(b, 1500);
    CHECK(wheel.next() == 1504);
    CHECK(advance(wheel, wheel.next()) == "b");
    CHECK(wheel.next() == 2000);
    CHECK(advance(wheel, wheel.next()) == "a");
    CHECK(wheel.next() == timing_wheel::never);
}

TEST_CASE("next() is never late, wherever the hand of the wheel stands") {
    std::mt19937 random{3};
    for (int n = 0; n != 2000; ++n) {
        const millis start = static_cast<millis>(random() % 200'000);
        const millis delay = 1 + static_cast<millis>(random()) % (full_round - tick);
        timing_wheel wheel{start};
        alarm_clock a{"a"};
        wheel.schedule(a, start + delay);
        REQUIRE(wheel.next() != timing_wheel::never);
        REQUIRE(wheel.next() >= start + delay);
        REQUIRE(wheel.next() < start + delay + 2 * tick);
        REQUIRE(advance(wheel, wheel.next()) == "a");
    }
}

TEST_CASE("whoever follows next() meets every entry in time") {
    std::mt19937 random{4};
    timing_wheel wheel;
    std::vector<std::unique_ptr<alarm_clock>> alarms;
    millis now = 0;
    std::size_t met = 0;
    for (int n = 0; n != 3000; ++n) {
        alarms.push_back(std::make_unique<alarm_clock>());
        wheel.schedule(*alarms.back(), static_cast<millis>(random() % static_cast<unsigned>(3 * full_round)));
    }
    int wakes = 0;
    while (wheel.next() != timing_wheel::never) {
        REQUIRE(wheel.next() > now);
        now = wheel.next();
        ++wakes;
        wheel.advance(now, [&](timer_entry& entry) {
            ++met;
            REQUIRE(entry.due() <= now);
            REQUIRE(now < entry.due() + tick + (entry.due() == 0 ? tick : 0));
        });
    }
    CHECK(met == alarms.size());
    CHECK(wakes < 2 * 3000 + 3 * 4096);
}

TEST_CASE("what comes due at once is met in parts, nothing twice and nothing late") {
    timing_wheel wheel;
    std::vector<std::unique_ptr<alarm_clock>> alarms;
    for (int n = 0; n != 1000; ++n) {
        alarms.push_back(std::make_unique<alarm_clock>());
        wheel.schedule(*alarms.back(), n < 900 ? 1000 : 1040);
    }
    std::vector<std::size_t> parts;
    std::size_t again = 0;
    for (int turn = 0; turn != 5; ++turn) {
        std::size_t met = 0;
        wheel.advance(
            1050,
            [&](timer_entry& entry) {
                ++met;
                // One of them comes back a whole round later, into the slot that is being emptied.
                if (again++ == 0) wheel.schedule(entry, 1000 + full_round);
            },
            300);
        parts.push_back(met);
        CHECK((wheel.next() <= 1050) == (turn < 3));
    }
    CHECK(parts == std::vector<std::size_t>{300, 300, 300, 100, 0});
    std::size_t rest = 0;
    wheel.advance(1000 + full_round + tick, [&](timer_entry&) { ++rest; });
    CHECK(rest == 1);
}
