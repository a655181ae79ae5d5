#pragma once

#include <cmath>
#include <exception>
#include <stdexcept>

#include <arke/event/value.hpp>
#include <arke/wire/utf8.hpp>

namespace arke::detail {

// ---- sending

ARKE_INLINE void refuse_value(const char* sentence) { throw std::invalid_argument(sentence); }

ARKE_INLINE encoded_value encode_text(std::string_view text) {
    if (!wire::is_utf8(text))
        throw std::invalid_argument("the text " + printable(text) +
                                    " is not UTF-8; send bytes (arke::as_bytes) or convert it");
    return encoded_value::borrowed(value_kind::text, text);
}

template <class Json>
encoded_value encode_document(const Json& document) {
    try {
        return encoded_value::owned(value_kind::json, document.dump());
    } catch (const nlohmann::json::type_error&) {  // the only one that dump() knows
        throw std::invalid_argument("a string inside of the JSON is not UTF-8; convert it before it is sent");
    }
}

// ---- reading

ARKE_INLINE std::string_view trimmed(std::string_view data) {
    constexpr std::string_view white = " \t\n\v\f\r";
    const std::size_t first = data.find_first_not_of(white);
    if (first == std::string_view::npos) return {};
    return data.substr(first, data.find_last_not_of(white) - first + 1);
}

/// The number's text for from_chars, which knows no plus; empty where a second sign follows it.
ARKE_INLINE std::string_view without_plus(std::string_view number) {
    if (!number.starts_with('+')) return number;
    number.remove_prefix(1);
    return number.starts_with('-') || number.starts_with('+') ? std::string_view{} : number;
}

ARKE_INLINE bool read_boolean(std::string_view data, bool& out, std::string& why) {
    const std::string_view word = trimmed(data);
    if (word == "true" || word == "false") {
        out = word == "true";
        return true;
    }
    why = printable(data) + " is neither true nor false";
    return false;
}

/// One integer of 64 bits, all of the text. Says whether there is one, and if so whether it fits.
template <class Integer>
bool read_digits(std::string_view data, Integer least, Integer most, Integer& out, std::string& why) {
    const std::string_view text = without_plus(trimmed(data));
    Integer read = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read);
    if constexpr (std::is_unsigned_v<
                      Integer>) {  // a minus is no number to from_chars; to us it is one that does not fit, or 0
        if (text.starts_with('-')) {
            Integer magnitude = 0;
            const auto below = std::from_chars(text.data() + 1, text.data() + text.size(), magnitude);
            end = below.ptr;
            error = below.ec == std::errc{} && magnitude != 0 ? std::errc::result_out_of_range : below.ec;
        }
    }
    if (text.empty() || end != text.data() + text.size() || error == std::errc::invalid_argument) {
        why = printable(data) + " is not an integer";
        return false;
    }
    if (error != std::errc{} || read < least || read > most) {
        why = printable(data) + " is not between " + std::to_string(least) + " and " + std::to_string(most);
        return false;
    }
    out = read;
    return true;
}

ARKE_INLINE bool read_integer(std::string_view data, std::int64_t least, std::int64_t most, std::int64_t& out,
                              std::string& why) {
    return read_digits<std::int64_t>(data, least, most, out, why);
}

ARKE_INLINE bool read_natural(std::string_view data, std::uint64_t most, std::uint64_t& out, std::string& why) {
    return read_digits<std::uint64_t>(data, 0, most, out, why);
}

/// Whether a decimal number that fits no floating-point type is too small rather than too large.
ARKE_INLINE bool is_tiny(std::string_view number) {
    const std::size_t e = number.find_first_of("eE");
    const std::string_view mantissa = number.substr(0, e);
    const std::size_t first = mantissa.find_first_of("123456789");
    if (first == std::string_view::npos) return true;
    const std::size_t point = std::min(mantissa.find('.'), mantissa.size());
    std::int64_t magnitude = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first);
    if (e != std::string_view::npos) {
        const std::string_view exponent = without_plus(number.substr(e + 1));
        std::int64_t power = 0;
        if (std::from_chars(exponent.data(), exponent.data() + exponent.size(), power).ec != std::errc{} ||
            power > 1'000'000'000'000 || power < -1'000'000'000'000)
            return exponent.starts_with('-');
        magnitude += power;
    }
    return magnitude <= 0;
}

template <class Floating>
bool read_number(std::string_view data, Floating& out, std::string& why) {
    const std::string_view text = without_plus(trimmed(data));
    Floating read = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read);
    if (text.empty() || end != text.data() + text.size() || error == std::errc::invalid_argument ||
        (error == std::errc{} && !std::isfinite(read))) {  // from_chars reads "inf" and "nan"
        why = printable(data) + " is not a number";
        return false;
    }
    if (error != std::errc{}) {
        if (!is_tiny(text)) {
            why = printable(data) + " is too large a number";
            return false;
        }
        read = text.starts_with('-') ? Floating(-0.0) : Floating(0.0);
    }
    out = read;
    return true;
}

ARKE_INLINE bool read_floating(std::string_view data, float& out, std::string& why) {
    return read_number(data, out, why);
}
ARKE_INLINE bool read_floating(std::string_view data, double& out, std::string& why) {
    return read_number(data, out, why);
}
ARKE_INLINE bool read_floating(std::string_view data, long double& out, std::string& why) {
    return read_number(data, out, why);
}

/// Whether JSON nests no deeper than `most`. One pass and no stack, so that depth costs a hostile peer as much as us. Looks at
/// brackets outside of strings only; whether they match is the parser's question.
ARKE_INLINE bool nests_within(std::string_view text, unsigned most) {
    unsigned depth = 0;
    bool in_string = false;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        if (in_string) {
            if (c == '\\')
                ++at;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > most) return false;
        } else if ((c == ']' || c == '}') && depth > 0) {
            --depth;
        }
    }
    return true;
}

template <class Json>
bool read_document(const event_view& event, const decode_limits& limits, bool guess, Json& out, std::string& why) {
    const bool is_json =
        event.kind == value_kind::json || event.kind == value_kind::integer || event.kind == value_kind::boolean;
    if (is_json || guess) {
        // What is shorter than the bound cannot nest deeper.
        if (event.data.size() > limits.max_json_depth && !nests_within(event.data, limits.max_json_depth)) {
            why = "the JSON " + printable(event.data, 20) + " is nested deeper than " +
                  std::to_string(limits.max_json_depth) + " levels";
            return false;
        }
        out = Json::parse(event.data.begin(), event.data.end(), nullptr, false);
        if (!out.is_discarded()) return true;
    }
    if (event.kind == value_kind::json) {
        why = printable(event.data) + " is not JSON";
        return false;
    }
    if (event.kind == value_kind::binary &&
        !wire::is_utf8(event.data)) {  // a JSON string of it could never be written again
        why = "the bytes " + printable(event.data) + " are neither JSON nor UTF-8 text";
        return false;
    }
    out = event.data;
    return true;
}

ARKE_INLINE void explain_failed_conversion(std::string& why) {
    try {
        throw;
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception& e) {
        std::string_view what = e.what();
        if (what.starts_with("[json.exception.")) what.remove_prefix(std::min(what.find("] "), what.size() - 2) + 2);
        std::string safe = printable(what, 120);  // a from_json may have put the peer's words into it
        why = "the data does not convert: " + safe.substr(1, safe.rfind('"') - 1);
    } catch (...) {
        why = "the data does not convert: its from_json threw what is no std::exception";
    }
}

#ifdef ARKE_SEPARATE_COMPILATION
template encoded_value encode_document(const nlohmann::json&);
template encoded_value encode_document(const nlohmann::ordered_json&);
template bool read_document(const event_view&, const decode_limits&, bool, nlohmann::json&, std::string&);
#endif

}  // namespace arke::detail
