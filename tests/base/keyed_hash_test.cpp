#include <arke/base/keyed_hash.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <string>

#include "tests/support/catch.hpp"

using arke::detail::siphash;

TEST_CASE("the texts of SipHash's authors have their hashes") {
    // Key and text are the bytes 0, 1, 2, ...
    const std::array<std::uint64_t, 2> key{0x0706'0504'0302'0100U, 0x0F0E'0D0C'0B0A'0908U};
    std::string text;
    for (char c = 0; c != 15; ++c) text += c;

    CHECK(siphash<2, 4>(key, "") == 0x726F'DB47'DD0E'0E31U);
    CHECK(siphash<2, 4>(key, text.substr(0, 1)) == 0x74F8'39C5'93DC'67FDU);
    CHECK(siphash<2, 4>(key, text.substr(0, 7)) == 0xAB02'00F5'8B01'D137U);
    CHECK(siphash<2, 4>(key, text.substr(0, 8)) == 0x93F5'F579'9A93'2462U);
    CHECK(siphash<2, 4>(key, text) == 0xA129'CA61'49BE'45E5U);
}

#ifdef __GLIBCXX__
TEST_CASE("names that are made to have one hash have as many as they are") {
    // Rooms were found by std::hash, whose seed everybody knows: forty connections that joined a thousand such rooms each held a loop
    // for twenty seconds. This runs the standard library's hash of 16 bytes backwards.
    constexpr std::uint64_t by = 0xC6A4'A793'5BD1'E995U;
    std::uint64_t back = by;  // Newton: each step doubles the bits that are right
    for (int i = 0; i != 5; ++i) back *= 2 - by * back;
    const auto mixed = [](std::uint64_t x) { return x ^ x >> 47U; };

    std::set<std::size_t> common;
    std::set<std::size_t> own;
    for (std::uint64_t first = 1; first <= 1000; ++first) {
        const auto state = (0xC70F'6907U ^ 16 * by ^ mixed(first * by) * by) * by;
        const auto second = mixed(state * back) * back;
        std::string name(16, '\0');
        std::memcpy(name.data(), &first, 8);
        std::memcpy(name.data() + 8, &second, 8);
        common.insert(std::hash<std::string>{}(name));
        own.insert(arke::detail::keyed_hash{}(name));
    }

    CHECK(common.size() == 1);
    CHECK(own.size() == 1000);
}
#endif
