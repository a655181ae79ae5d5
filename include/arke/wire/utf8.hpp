#pragma once

/// Whether bytes are UTF-8, also when they arrive in pieces.
///
///     U+0000   .. U+007F    00-7F
///     U+0080   .. U+07FF    C2-DF  80-BF
///     U+0800   .. U+FFFF    E0     A0-BF  80-BF
///                           E1-EC  80-BF  80-BF
///                           ED     80-9F  80-BF           (no surrogates)
///                           EE-EF  80-BF  80-BF
///     U+10000  .. U+10FFFF  F0     90-BF  80-BF  80-BF
///                           F1-F3  80-BF  80-BF  80-BF
///                           F4     80-8F  80-BF  80-BF
///
/// Only the second byte has bounds of its own, so three bytes of state say all: how many follow, and the next one's bounds.

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <arke/base/bytes.hpp>

namespace arke::wire {

/// Validates UTF-8 piece by piece. Every text message of a peer passes through one, so it is small and quick: ASCII goes 32
/// bytes at a time, and a whole code point is read without touching the state.
///
/// Threads: one at a time. Holds no reference to what it was given.
class utf8_validator {
public:
    /// Takes the next bytes. False at the first byte that no continuation could make valid, and then until reset().
    bool write(std::string_view text) noexcept;
    bool write(bytes_view data) noexcept { return write(as_text(data)); }

    /// Whether what was written ends between two code points, and all of it was valid.
    bool complete() const noexcept { return need_ == 0; }

    /// Begins a new text.
    void reset() noexcept { *this = {}; }

private:
    static constexpr std::uint64_t high_bits = 0x8080'8080'8080'8080;

    static std::uint64_t load(const unsigned char* at) noexcept {
        std::uint64_t word;
        std::memcpy(&word, at, sizeof word);
        return word;
    }

    static int ascii_before(std::uint64_t high) noexcept {
        return (std::endian::native == std::endian::little ? std::countr_zero(high) : std::countl_zero(high)) / 8;
    }

    static bool follows(unsigned char byte) noexcept { return (byte & 0xC0) == 0x80; }

    // No byte lies between these bounds, so a failure lasts without a flag that the good case would have to test.
    bool fail() noexcept {
        need_ = 1;
        low_ = 0xFF;
        high_ = 0x00;
        return false;
    }

    bool begin(unsigned char lead) noexcept;
    bool next(unsigned char byte) noexcept;

    std::uint8_t need_ = 0;    // bytes of the code point that are still to come
    std::uint8_t low_ = 0x80;  // the bounds of the next one
    std::uint8_t high_ = 0xBF;
};

/// Whether all of a text of at least eight bytes is ASCII. For short texts that is mostly the whole answer.
inline bool is_ascii(std::string_view text) noexcept {
    constexpr std::uint64_t high_bits = 0x8080'8080'8080'8080;
    const auto load = [](const char* at) {
        std::uint64_t word = 0;
        std::memcpy(&word, at, 8);
        return word;
    };
    // The last eight overlap with what came before.
    const char* at = text.data();
    const char* const last = at + text.size() - 8;
    std::uint64_t all = load(last);
    for (; last - at > 8; at += 16) all |= load(at) | load(at + 8);
    if (at < last) all |= load(at);
    return (all & high_bits) == 0;
}

/// Whether all of `text` is UTF-8.
inline bool is_utf8(std::string_view text) noexcept {
    if (text.size() >= 8 && text.size() <= 256 && is_ascii(text)) return true;
    utf8_validator validator;
    return validator.write(text) && validator.complete();
}

inline bool utf8_validator::begin(unsigned char lead) noexcept {
    if (lead < 0xC2 || lead > 0xF4) return fail();
    need_ = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    low_ = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    high_ = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return true;
}

inline bool utf8_validator::next(unsigned char byte) noexcept {
    if (byte < low_ || byte > high_) return fail();
    --need_;
    low_ = 0x80;
    high_ = 0xBF;
    return true;
}

inline bool utf8_validator::write(std::string_view text) noexcept {
    const auto* at = reinterpret_cast<const unsigned char*>(text.data());
    const auto* const end = at + text.size();

    if (need_ != 0) {
        if (low_ > high_) return false;
        while (at != end && need_ != 0) {
            if (!next(*at++)) return false;
        }
    }

    for (;;) {
        while (end - at >= 32) {
            if (((load(at) | load(at + 8) | load(at + 16) | load(at + 24)) & high_bits) != 0) break;
            at += 32;
        }
        while (end - at >= 8) {
            const auto high = load(at) & high_bits;
            if (high != 0) {
                at += ascii_before(high);
                break;
            }
            at += 8;
        }
        // Fewer than eight are left, or a lead byte stands here. For the former one look back over the last eight will do
        // if they are ASCII too, which in short messages they nearly always are.
        if (at != end && *at < 0x80) {
            if (text.size() >= 8 && (load(end - 8) & high_bits) == 0) return true;
            while (at != end && *at < 0x80) ++at;
        }
        if (at == end) return true;

        do {
            const unsigned char lead = *at;
            if (end - at < 4) {
                if (!begin(*at++)) return false;
                while (at != end && need_ != 0) {
                    if (!next(*at++)) return false;
                }
            } else if (lead < 0xE0) {
                if (lead < 0xC2 || !follows(at[1])) return fail();
                at += 2;
            } else if (lead < 0xF0) {
                const unsigned char low = lead == 0xE0 ? 0xA0 : 0x80;
                const unsigned char high = lead == 0xED ? 0x9F : 0xBF;
                if (at[1] < low || at[1] > high || !follows(at[2])) return fail();
                at += 3;
            } else {
                const unsigned char low = lead == 0xF0 ? 0x90 : 0x80;
                const unsigned char high = lead == 0xF4 ? 0x8F : 0xBF;
                if (lead > 0xF4 || at[1] < low || at[1] > high || !follows(at[2]) || !follows(at[3])) return fail();
                at += 4;
            }
        } while (at != end && *at >= 0x80);
    }
}

}  // namespace arke::wire
