#pragma once

#include <arke/wire/sha1.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace arke::wire {

namespace detail {

ARKE_COLD_INLINE void sha1_block(std::array<std::uint32_t, 5>& state, const unsigned char* block) noexcept {
    std::array<std::uint32_t, 80> w;
    for (std::size_t n = 0; n < 16; ++n, block += 4) {
        w[n] = std::uint32_t{block[0]} << 24 | std::uint32_t{block[1]} << 16 | std::uint32_t{block[2]} << 8 | block[3];
    }
    for (std::size_t n = 16; n < 80; ++n) w[n] = std::rotl(w[n - 3] ^ w[n - 8] ^ w[n - 14] ^ w[n - 16], 1);

    auto [a, b, c, d, e] = state;
    for (std::size_t n = 0; n < 80; ++n) {
        std::uint32_t mix = 0;
        std::uint32_t constant = 0;
        if (n < 20) {
            mix = (b & c) | (~b & d);
            constant = 0x5A827999;
        } else if (n < 40) {
            mix = b ^ c ^ d;
            constant = 0x6ED9EBA1;
        } else if (n < 60) {
            mix = (b & c) | (b & d) | (c & d);
            constant = 0x8F1BBCDC;
        } else {
            mix = b ^ c ^ d;
            constant = 0xCA62C1D6;
        }
        const std::uint32_t sum = std::rotl(a, 5) + mix + e + constant + w[n];
        e = d;
        d = c;
        c = std::rotl(b, 30);
        b = a;
        a = sum;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

}  // namespace detail

ARKE_COLD_INLINE std::array<char, 20> sha1(std::string_view data) noexcept {
    std::array<std::uint32_t, 5> state{0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    const std::uint64_t bits = std::uint64_t{data.size()} * 8;

    for (; data.size() >= 64; data.remove_prefix(64)) {
        detail::sha1_block(state, reinterpret_cast<const unsigned char*>(data.data()));
    }

    // The rest, a one bit, zeros, and the length in bits at the end of the last block.
    std::array<unsigned char, 128> tail{};
    if (!data.empty()) std::memcpy(tail.data(), data.data(), data.size());
    tail[data.size()] = 0x80;
    const std::size_t size = data.size() < 56 ? 64 : 128;
    for (std::size_t n = 0; n < 8; ++n) tail[size - 1 - n] = static_cast<unsigned char>(bits >> 8 * n);
    for (std::size_t at = 0; at < size; at += 64) detail::sha1_block(state, tail.data() + at);

    std::array<char, 20> digest;
    for (std::size_t n = 0; n < 20; ++n) digest[n] = static_cast<char>(state[n / 4] >> (24 - 8 * (n % 4)) & 0xFF);
    return digest;
}

}  // namespace arke::wire
