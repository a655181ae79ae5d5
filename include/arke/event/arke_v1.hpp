#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <arke/base/compile.hpp>
#include <arke/event/event_view.hpp>

/// The protocol arke.v1: events, requests and their answers in both directions, native messages. Pure: bytes in, views out.
///
///     message  = "e" type name LF data           an event
///              | "r" type id SP name LF data     a request: whoever gets it sends "a" or "f" of the same id, once
///              | "a" type id SP data             the answer to a request
///              | "f" id SP reason LF text        no answer, and why: a word for the program, a text for people
///              | "j" id SP room                  a client asks to enter a room; answered by "a" (type "v") or "f"
///              | "l" id SP room                  a client asks to leave it; answered the same way
///              | "p" | "q"                       are you there? I am: for clients that see no pings
///              | "m" data                        a native message
///              | other                           from a later version: skipped and counted
///     type     = "s" text | "n" integer | "b" boolean | "j" JSON | "x" bytes | "v" nothing (no data follows)
///     id       = "0" | 1*10DIGIT                below 2^32, without zeros in front; not that of another open request
///     name     = 1*(any character)              with "\" written as "\\" and LF as "\n"
///     reason   = "refused" | "unhandled" | "wrong-type" | "failed" | "busy" | other, which is read as "refused"
///     data     = the rest, as it is
///
/// A message with type "x" is a binary one, so that bytes go as they are; so is a native message of bytes. All others are text.
/// The header is UTF-8 in both. Each side counts its ids by itself: an answer names the request of who receives it.
///
/// The first letter and the type are all that is looked at before the payload's own reader; data is never scanned here.
namespace arke::event {

enum class v1_kind : std::uint8_t {
    event,
    request,
    answer,
    refusal,
    join,
    leave,
    probe,
    presence,
    native,
    unknown,
    malformed
};

/// A message of arke.v1, or one to be written. Views of what it was read from.
struct v1_message {
    v1_kind kind = v1_kind::event;
    std::uint32_t id = 0;  ///< Of a request, an answer, a refusal, a join or leave.
    event_view
        event{};  ///< Its name: of an event or a request; a refusal's reason; the room. A refusal's text is `data`.
};

/// Takes a message apart. A name that had to be unescaped stands in `unescaped`, which must live as long as `out`. Where it is
/// malformed, `why` says what is wrong. Allocates only for those two.
v1_message parse_v1(std::string_view message, bool is_text, std::string& unescaped, std::string& why);

/// Whether an event or request of this name can be written: not empty, UTF-8. Otherwise `why` says so.
bool v1_can_carry(std::string_view name, std::string& why);

/// How many bytes write_v1() writes.
std::size_t v1_size(const v1_message& message) noexcept;

/// Writes it to `out`, which has room for v1_size() bytes. Returns the end.
char* write_v1(char* out, const v1_message& message) noexcept;

}  // namespace arke::event

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/event/arke_v1.ipp>
#endif
