#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <arke/base/bytes.hpp>
#include <arke/base/compile.hpp>

namespace arke {

/// What an event's data is said to be. The numbers are the type tags of the 2016 wire, but for `nothing`, which it writes as
/// an empty text.
///
/// It is what the sender says, not what the receiver gets: a handler's parameter decides that, because the 2016 client
/// tags true, "5" and 1.5 as integers.
enum class value_kind : std::uint8_t {
    text = 0,     ///< UTF-8 text, or nothing at all when it is empty.
    integer = 1,  ///< A decimal number.
    boolean = 2,  ///< true or false.
    binary = 3,   ///< Binary data, raw.
    json = 4,     ///< A JSON document.
    nothing = 5,  ///< No data: an event that is sent without a value. Read as an empty text.
};

/// One event as it came or will go: views of bytes that live elsewhere, for the duration of a call.
struct event_view {
    std::string_view name;
    value_kind kind = value_kind::text;
    std::string_view data;
};

/// A native message, one that is no event. It views the receive buffer and lives for the handler's call only.
struct message_view {
    std::string_view data;
    bool is_text = true;  ///< Whether it came as a text message, which is then valid UTF-8.

    std::string_view text() const noexcept { return data; }
    bytes_view bytes() const noexcept { return as_bytes(data); }
};

namespace detail {

/// Remote data between quotation marks as it may stand in a log: at most `limit` bytes of it, cut between characters, with
/// control characters and everything that is not UTF-8 escaped.
std::string printable(std::string_view data, std::size_t limit = 60);

}  // namespace detail
}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/event/event_view.ipp>
#endif
