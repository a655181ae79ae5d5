#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include <arke/base/compile.hpp>
#include <arke/event/event_view.hpp>

/// The event protocol of 2016, as the iris-ws.js of those years speaks it. Pure: text in, views out.
///
///     message = event | native
///     event   = prefix name ";" tag ";" data        in a text message
///     prefix  = config::event_prefix                "iris-websocket-message:" unless changed
///     name    = 1*(any character but ";")           there is no escape
///     tag     = "0" text | "1" integer | "2" boolean | "3" bytes | "4" JSON
///     data    = the rest, as it is; may be empty and may hold ";"
///     native  = what does not start with prefix
///
/// All of it is UTF-8, the bytes too, because the frame is a text message. The data need not be what the tag says:
/// browsers send true as name;1;true.
namespace arke::event {

enum class iris_parse {
    native,     ///< Does not start with the prefix: a message of the application's own.
    event,      ///< An event; `out` holds it.
    malformed,  ///< The prefix and then not the grammar; `why` says what is wrong.
};

/// Takes a text message apart. `out` views `text`, and is set only for an event, `why` only for what is malformed.
/// Allocates for what is malformed only.
iris_parse parse_iris(std::string_view text, std::string_view prefix, event_view& out, std::string& why);

/// Whether an event fits into the grammar: a name that is not empty, has no ";" and is UTF-8, and data that is UTF-8.
/// Where it does not, `why` says so and what to do instead. write_iris() relies on it and does not ask again.
bool iris_can_carry(const event_view& event, std::string& why);

/// How many bytes write_iris() writes.
constexpr std::size_t iris_size(std::string_view prefix, const event_view& event) noexcept {
    return prefix.size() + event.name.size() + event.data.size() + 3;
}

/// Writes the text message to `out`, which must have room for iris_size() bytes. Returns the end of what was written.
constexpr char* write_iris(char* out, std::string_view prefix, const event_view& event) noexcept {
    out = std::copy(prefix.begin(), prefix.end(), out);
    out = std::copy(event.name.begin(), event.name.end(), out);
    *out++ = ';';
    *out++ = event.kind == value_kind::nothing ? '0' : static_cast<char>('0' + static_cast<int>(event.kind));
    *out++ = ';';
    return std::copy(event.data.begin(), event.data.end(), out);
}

}  // namespace arke::event

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/event/iris.ipp>
#endif
