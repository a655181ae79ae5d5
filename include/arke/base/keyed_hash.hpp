#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

/// The hash of maps whose keys peers choose: room names, ids, addresses. std::hash has no secret, so that names which all have the
/// same hash are made in seconds, and a map of them costs each look the length of all.

namespace arke::detail {

/// SipHash (Aumasson and Bernstein, 2012) of a text under a key of 128 bits; `Compressions` for each eight bytes, `Finalizations`
/// at the end. Who does not know the key finds no two texts of one hash but by chance.
template <int Compressions, int Finalizations>
std::uint64_t siphash(const std::array<std::uint64_t, 2>& key, std::string_view text) noexcept {
    std::uint64_t a = key[0] ^ 0x736F'6D65'7073'6575U;  // "somepseudorandomlygeneratedbytes"
    std::uint64_t b = key[1] ^ 0x646F'7261'6E64'6F6DU;
    std::uint64_t c = key[0] ^ 0x6C79'6765'6E65'7261U;
    std::uint64_t d = key[1] ^ 0x7465'6462'7974'6573U;
    const auto mix = [&](int rounds) {
        for (int i = 0; i != rounds; ++i) {
            a += b, b = std::rotl(b, 13) ^ a, a = std::rotl(a, 32);
            c += d, d = std::rotl(d, 16) ^ c;
            a += d, d = std::rotl(d, 21) ^ a;
            c += b, b = std::rotl(b, 17) ^ c, c = std::rotl(c, 32);
        }
    };
    const auto take = [&](std::uint64_t word) {
        d ^= word;
        mix(Compressions);
        a ^= word;
    };
    const char* at = text.data();
    std::size_t left = text.size();
    for (; left >= 8; at += 8, left -= 8) {
        std::uint64_t word;
        std::memcpy(&word, at,
                    8);  // in memory order: the published hash where that is little-endian, another as good elsewhere
        take(word);
    }
    std::uint64_t last = 0;
    for (std::size_t i = left; i-- != 0;) last = last << 8U | static_cast<unsigned char>(at[i]);
    take(last | std::uint64_t{text.size()} << 56U);
    c ^= 0xFF;
    mix(Finalizations);
    return a ^ b ^ c ^ d;
}

/// Of this process, from the system.
inline const std::array<std::uint64_t, 2> hash_key = [] {
    std::random_device random;
    const auto word = [&random] { return std::uint64_t{random()} << 32U | random(); };
    return std::array{word(), word()};
}();

/// One and three rounds, as in the maps of Rust and Python. Lets maps of std::string be searched by a view.
struct keyed_hash {
    using is_transparent = void;
    // Not noexcept: libstdc++ then keeps each key's hash instead of making it again with every look.
    std::size_t operator()(std::string_view text) const {
        return static_cast<std::size_t>(siphash<1, 3>(hash_key, text));
    }
};

}  // namespace arke::detail
