#include <arke/core/reconnection.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke;
using core::reconnection;

namespace {

constexpr std::uint32_t most = 0xFFFF'FFFF;

std::string delays(reconnection& r, int count, std::uint32_t chance, core::millis now = 0) {
    std::string all;
    for (int i = 0; i != count; ++i) {
        const auto delay = r.next(now, chance);
        all += (i == 0 ? "" : " ") + (delay ? std::to_string(*delay) : "enough");
    }
    return all;
}

}  // namespace

TEST_CASE("the delay is anything up to a bound that doubles and then stays") {
    reconnection none{{.first = 1000, .most = 30'000}};
    CHECK(delays(none, 8, 0) == "0 0 0 0 0 0 0 0");
    reconnection half{{.first = 1000, .most = 30'000}};
    CHECK(delays(half, 8, most / 2 + 1) == "500 1000 2000 4000 8000 15000 15000 15000");
    reconnection all{{.first = 1000, .most = 30'000}};
    CHECK(delays(all, 8, most) == "999 1999 3999 7999 15999 29999 29999 29999");
}

TEST_CASE("a first bound over the last is the last; bounds of a year do not overflow, after however many attempts") {
    reconnection reversed{{.first = 5000, .most = 100}};
    CHECK(delays(reversed, 2, most) == "99 99");
    constexpr core::millis year = 365LL * 24 * 3600 * 1000;
    reconnection slow{{.first = year, .most = year}};
    for (int i = 0; i != 100; ++i) {
        const auto delay = slow.next(0, most);
        REQUIRE(delay);
        CHECK(*delay > year - 2000);
        CHECK(*delay < year);
    }
}

TEST_CASE("a connection that lasted makes the next attempt the first again, one that was lost at once does not") {
    reconnection r{{.first = 1000, .most = 30'000, .lasted = 5000}};
    CHECK(delays(r, 3, most) == "999 1999 3999");
    r.opened(10'000);
    CHECK(delays(r, 1, most, 14'999) == "7999");
    CHECK(r.attempts() == 4);
    r.opened(20'000);
    CHECK(delays(r, 1, most, 25'000) == "999");
    CHECK(r.attempts() == 1);
    // The time since then is no time of a connection.
    CHECK(delays(r, 1, most, 99'000) == "1999");
    r.reset();
    CHECK(delays(r, 1, most, 99'000) == "999");
}

TEST_CASE(
    "of ten thousand that lose their server together no tenth of a second has more than its share, in any round") {
    constexpr int many = 10'000;
    std::mt19937 chance{7};
    std::vector<reconnection> all(many, reconnection{{.first = 1000, .most = 30'000}});
    for (core::millis bound = 1000; bound <= 30'000; bound = bound == 16'000 ? 30'000 : 2 * bound) {
        std::vector<int> tenths(static_cast<std::size_t>(bound / 100));
        for (auto& one : all) {
            const auto delay = one.next(0, static_cast<std::uint32_t>(chance()));
            REQUIRE(delay);
            REQUIRE(*delay >= 0);
            REQUIRE(*delay < bound);
            ++tenths[static_cast<std::size_t>(*delay / 100)];
        }
        // Six standard deviations about the mean.
        const double mean = static_cast<double>(many) * 100.0 / static_cast<double>(bound);
        INFO(bound);
        CHECK(*std::max_element(tenths.begin(), tenths.end()) < mean + 6 * std::sqrt(mean));
        CHECK(*std::min_element(tenths.begin(), tenths.end()) > mean - 6 * std::sqrt(mean));
        if (bound == 30'000) break;
    }
}

TEST_CASE("after so many attempts in a row it is enough, until a connection has lasted") {
    reconnection r{{.first = 1000, .most = 30'000, .lasted = 5000, .attempts = 2}};
    CHECK(delays(r, 3, most) == "999 1999 enough");
    r.opened(0);
    CHECK(delays(r, 3, most, 5000) == "999 1999 enough");
}

TEST_CASE("a client comes back where the server went away, and stays away where it was told to") {
    for (const unsigned code : {1001U, 1002U, 1003U, 1005U, 1006U, 1007U, 1009U, 1011U, 1012U, 1013U, 3000U, 3999U})
        CHECK(core::comes_back_after(close_code{static_cast<std::uint16_t>(code)}));
    for (const unsigned code : {1000U, 1008U, 4000U, 4999U})
        CHECK_FALSE(core::comes_back_after(close_code{static_cast<std::uint16_t>(code)}));
}
