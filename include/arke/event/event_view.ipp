#pragma once

#include <arke/event/event_view.hpp>
#include <arke/wire/utf8.hpp>

namespace arke::detail {

ARKE_COLD_INLINE std::string printable(std::string_view data, std::size_t limit) {
    constexpr std::string_view digits = "0123456789abcdef";
    const auto length_at = [&](std::size_t at) -> std::size_t {  // of a character we show as it is, 0 for one to escape
        const auto lead = static_cast<unsigned char>(data[at]);
        if (lead < 0x80) return lead >= 0x20 && lead != 0x7f ? 1 : 0;
        const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        if (length > data.size() - at || !wire::is_utf8(data.substr(at, length))) return 0;
        if (lead == 0xc2 && static_cast<unsigned char>(data[at + 1]) < 0xa0)
            return 0;  // C1 controls move terminals too
        return length;
    };

    std::string out = "\"";
    std::size_t at = 0;
    while (at < data.size()) {
        const std::size_t length = length_at(at);
        if (at + (length == 0 ? 1 : length) > limit) break;
        const char c = data[at];
        if (length == 0) {
            const auto value = static_cast<unsigned char>(c);
            if (c == '\n')
                out += "\\n";
            else if (c == '\r')
                out += "\\r";
            else if (c == '\t')
                out += "\\t";
            else
                ((out += "\\x") += digits[value >> 4]) += digits[value & 15];
        } else {
            if (c == '"' || c == '\\') out += '\\';
            out += data.substr(at, length);
        }
        at += length == 0 ? 1 : length;
    }
    out += '"';
    if (at < data.size()) out += "...";
    return out;
}

}  // namespace arke::detail
