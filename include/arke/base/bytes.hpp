#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace arke {

/// Owned binary data. As an event's value it travels as bytes; std::vector<std::uint8_t> is a JSON array of numbers.
using bytes = std::vector<std::byte>;

/// Binary data that somebody else owns.
using bytes_view = std::span<const std::byte>;

inline bytes_view as_bytes(std::string_view text) noexcept {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline std::string_view as_text(bytes_view data) noexcept {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
}

}  // namespace arke
