#pragma once

#include <algorithm>
#include <charconv>
#include <cstring>

#include <arke/event/arke_v1.hpp>
#include <arke/wire/utf8.hpp>

namespace arke::event {

namespace v1 {

inline constexpr std::string_view kinds = "erafjlpqm";  // in the order of v1_kind
inline constexpr std::string_view types = "snbxjv";     // in the order of value_kind

constexpr bool has_type(v1_kind kind) noexcept { return kind <= v1_kind::answer; }
constexpr bool has_id(v1_kind kind) noexcept { return kind >= v1_kind::request && kind <= v1_kind::leave; }
constexpr bool has_name(v1_kind kind) noexcept { return kind <= v1_kind::refusal && kind != v1_kind::answer; }

/// How many characters of a name are written as two. Nearly every name has none.
inline std::size_t count_escapes(std::string_view name) noexcept {
    std::size_t count = 0;
    for (const char c : name) count += c == '\n' || c == '\\' ? 1U : 0U;
    return count;
}

inline bool unescape(std::string_view name, std::string& out) {
    out.clear();
    for (std::size_t at = 0; at != name.size(); ++at) {
        if (name[at] != '\\') {
            out += name[at];
            continue;
        }
        if (++at == name.size() || (name[at] != '\\' && name[at] != 'n')) return false;
        out += name[at] == 'n' ? '\n' : '\\';
    }
    return true;
}

inline unsigned count_digits(std::uint32_t id) noexcept {
    unsigned count = 1;
    while (id >= 10) {
        id /= 10;
        ++count;
    }
    return count;
}

inline char* copy(char* out, std::string_view from) noexcept { return std::copy(from.begin(), from.end(), out); }

}  // namespace v1

ARKE_INLINE v1_message parse_v1(std::string_view message, bool is_text, std::string& unescaped, std::string& why) {
    v1_message out;
    const auto malformed = [&](std::string_view what) {
        why = what;
        why += detail::printable(message);
        out.kind = v1_kind::malformed;
        return out;
    };
    const char* at = message.data();
    const char* const end = at + message.size();
    const auto kind = at == end ? std::string_view::npos : v1::kinds.find(*at);
    if (kind == std::string_view::npos) {
        out.kind = v1_kind::unknown;
        return out;
    }
    ++at;
    out.kind = static_cast<v1_kind>(kind);
    if (v1::has_type(out.kind)) {
        const auto type = at == end ? std::string_view::npos : v1::types.find(*at);
        if (type == std::string_view::npos) return malformed("there is no type in ");
        out.event.kind = static_cast<value_kind>(type);
        ++at;
        if ((out.event.kind == value_kind::binary) == is_text) return malformed("the type does not fit the frame of ");
    } else if (!is_text && out.kind != v1_kind::native) {
        return malformed("what has to be text came as a binary message: ");
    }
    if (v1::has_id(out.kind)) {
        const auto read = std::from_chars(at, end, out.id);
        if (read.ec != std::errc{} || (*at == '0' && read.ptr != at + 1)) return malformed("there is no number in ");
        at = read.ptr;
        if (at == end || *at != ' ') return malformed("no space ends the number in ");
        ++at;
    }
    const std::string_view rest{at, static_cast<std::size_t>(end - at)};
    if (out.kind == v1_kind::join || out.kind == v1_kind::leave) {
        out.event.name = rest;
        return out;
    }
    if (!v1::has_name(out.kind)) {
        out.event.data = rest;
    } else {
        const auto* const line = rest.empty() ? nullptr : static_cast<const char*>(std::memchr(at, '\n', rest.size()));
        if (line == nullptr) return malformed("no line feed ends the name in ");
        out.event.name = {at, static_cast<std::size_t>(line - at)};
        out.event.data = {line + 1, static_cast<std::size_t>(end - line - 1)};
        if (out.event.name.empty()) return malformed("the name is empty in ");
        if (!is_text && !wire::is_utf8(out.event.name)) return malformed("the name is not UTF-8 in ");
        if (std::memchr(at, '\\', out.event.name.size()) != nullptr) {
            if (!v1::unescape(out.event.name, unescaped)) return malformed("a backslash escapes nothing in ");
            out.event.name = unescaped;
        }
    }
    if (out.event.kind == value_kind::nothing && !out.event.data.empty())
        return malformed("data follows on nothing in ");
    return out;
}

ARKE_INLINE bool v1_can_carry(std::string_view name, std::string& why) {
    if (name.empty()) {
        why = "an event needs a name";
        return false;
    }
    if (!wire::is_utf8(name)) {
        why = "the event name " + detail::printable(name) + " is not UTF-8";
        return false;
    }
    return true;
}

ARKE_INLINE std::size_t v1_size(const v1_message& message) noexcept {
    std::size_t size = 1;
    if (v1::has_type(message.kind)) size += 1;
    if (v1::has_id(message.kind)) size += v1::count_digits(message.id) + 1;
    size += message.event.name.size();
    if (v1::has_name(message.kind)) size += v1::count_escapes(message.event.name) + 1;
    return size + message.event.data.size();
}

ARKE_INLINE char* write_v1(char* out, const v1_message& message) noexcept {
    *out++ = v1::kinds[static_cast<std::size_t>(message.kind)];
    if (v1::has_type(message.kind)) *out++ = v1::types[static_cast<std::size_t>(message.event.kind)];
    if (v1::has_id(message.kind)) {
        out = std::to_chars(out, out + 10, message.id).ptr;
        *out++ = ' ';
    }
    if (!v1::has_name(message.kind) || v1::count_escapes(message.event.name) == 0) {
        out = v1::copy(out, message.event.name);
    } else {
        for (const char c : message.event.name) {
            if (c == '\n' || c == '\\') *out++ = '\\';
            *out++ = c == '\n' ? 'n' : c;
        }
    }
    if (v1::has_name(message.kind)) *out++ = '\n';
    return v1::copy(out, message.event.data);
}

}  // namespace arke::event
