#pragma once

/// Base64 (RFC 4648 §4), as far as the handshake needs it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace arke::wire {

inline constexpr std::string_view base64_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The padded base64 of `data`.
inline std::string base64(std::string_view data) {
    std::string out;
    out.reserve((data.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < data.size(); at += 3) {
        std::uint32_t group = 0;
        for (std::size_t n = 0; n < 3; ++n) {
            group = group << 8 | (at + n < data.size() ? static_cast<unsigned char>(data[at + n]) : 0u);
        }
        for (std::size_t n = 0; n < 4; ++n) {
            out += at + n > data.size() ? '=' : base64_alphabet[group >> (18 - 6 * n) & 63];
        }
    }
    return out;
}

/// Whether `text` has the form of sixteen bytes in base64: 22 letters of the alphabet and "==".
///
/// The unused bits of the last letter are not looked at: clients exist that draw 22 random letters, and nobody decodes a key.
inline bool is_base64_of_16_bytes(std::string_view text) noexcept {
    return text.size() == 24 && text.ends_with("==") &&
           text.substr(0, 22).find_first_not_of(base64_alphabet) == text.npos;
}

}  // namespace arke::wire
