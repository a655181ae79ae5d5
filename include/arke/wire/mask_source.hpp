#pragma once

/// Keys for the masks of a client's frames, which nobody may be able to foresee (RFC 6455 §5.3): the ChaCha20 key stream (RFC 8439
/// §2.3) of a secret. Sixteen keys cost one block, and none costs a call of the system.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <arke/base/compile.hpp>

namespace arke::wire {

/// The 64 bytes that ChaCha20 makes of a state, as words.
constexpr std::array<std::uint32_t, 16> chacha20_block(const std::array<std::uint32_t, 16>& state) noexcept {
    auto x = state;
    const auto quarter = [&x](std::size_t a, std::size_t b, std::size_t c, std::size_t d) {
        x[a] += x[b], x[d] = std::rotl(x[d] ^ x[a], 16);
        x[c] += x[d], x[b] = std::rotl(x[b] ^ x[c], 12);
        x[a] += x[b], x[d] = std::rotl(x[d] ^ x[a], 8);
        x[c] += x[d], x[b] = std::rotl(x[b] ^ x[c], 7);
    };
    for (int round = 0; round != 10; ++round) {
        for (std::size_t i = 0; i != 4; ++i) quarter(i, 4 + i, 8 + i, 12 + i);
        for (std::size_t i = 0; i != 4; ++i) quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
    }
    for (std::size_t i = 0; i != 16; ++i) x[i] += state[i];
    return x;
}

/// One at a time; not for several threads.
class mask_source {
public:
    using secret = std::array<std::uint32_t, 8>;

    explicit mask_source(const secret& seed) noexcept {
        for (std::size_t i = 0; i != 8; ++i) state_[4 + i] = seed[i];
    }

    /// The mask's bytes in memory order, as apply_mask() takes them.
    std::uint32_t next() noexcept {
        if (used_ == block_.size()) {
            block_ = chacha20_block(state_);
            if (++state_[12] == 0) ++state_[13];
            used_ = 0;
        }
        return block_[used_++];
    }

private:
    std::array<std::uint32_t, 16> state_{0x6170'7865, 0x3320'646E, 0x7962'2D32, 0x6B20'6574};  // "expand 32-byte k"
    std::array<std::uint32_t, 16> block_{};
    std::size_t used_ = block_.size();
};

}  // namespace arke::wire
