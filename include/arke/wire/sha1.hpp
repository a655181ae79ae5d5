#pragma once

/// SHA-1 (FIPS 180-4), which RFC 6455 asks for in the accept key. It proves there that the server speaks WebSocket and hides
/// nothing; it must not be used for anything that has to stay secret or unforgeable.

#include <array>
#include <string_view>

#include <arke/base/compile.hpp>

namespace arke::wire {

/// The digest of `data`.
std::array<char, 20> sha1(std::string_view data) noexcept;

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/sha1.ipp>
#endif
