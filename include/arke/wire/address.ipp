#pragma once

#include <arke/wire/address.hpp>

#include <algorithm>

namespace arke::wire {

namespace detail {

/// Reads a number of at most `most` digits from the front. False: there is none, or it has a leading zero where those are refused.
ARKE_COLD_INLINE bool take_number(std::string_view& text, unsigned base, std::size_t most, bool zeros, unsigned& out) {
    std::size_t count = 0;
    out = 0;
    for (; count != text.size() && count != most; ++count) {
        const char c = text[count];
        unsigned digit = 0;
        if (c >= '0' && c <= '9')
            digit = static_cast<unsigned>(c - '0');
        else if (base == 16 && c >= 'a' && c <= 'f')
            digit = static_cast<unsigned>(c - 'a') + 10;
        else if (base == 16 && c >= 'A' && c <= 'F')
            digit = static_cast<unsigned>(c - 'A') + 10;
        else
            break;
        out = out * base + digit;
    }
    if (count == 0 || (!zeros && count > 1 && text.front() == '0')) return false;
    text.remove_prefix(count);
    return true;
}

ARKE_COLD_INLINE bool parse_v4(std::string_view text, unsigned char* out) {
    for (int part = 0; part != 4; ++part) {
        if (part != 0) {
            if (!text.starts_with('.')) return false;
            text.remove_prefix(1);
        }
        unsigned value = 0;
        if (!take_number(text, 10, 3, false, value) || value > 255) return false;
        out[part] = static_cast<unsigned char>(value);
    }
    return text.empty();
}

ARKE_COLD_INLINE bool parse_v6(std::string_view text, unsigned char* out) {
    std::array<unsigned char, 16> all{};
    std::size_t size = 0;
    std::optional<std::size_t> gap;
    if (text.starts_with("::")) {
        gap = 0;
        text.remove_prefix(2);
    }
    while (!text.empty()) {
        if (size == 16) return false;
        const auto part = text.substr(0, text.find(':'));
        if (part.size() == text.size() && part.find('.') != part.npos) {
            if (size > 12 || !parse_v4(part, all.data() + size)) return false;
            size += 4;
            text = {};
            break;
        }
        unsigned value = 0;
        if (!take_number(text, 16, 4, true, value)) return false;
        all[size++] = static_cast<unsigned char>(value >> 8U);
        all[size++] = static_cast<unsigned char>(value & 0xFFU);
        if (text.empty()) break;
        if (!text.starts_with(':')) return false;
        text.remove_prefix(1);
        if (text.starts_with(':')) {
            if (gap) return false;
            gap = size;
            text.remove_prefix(1);
        } else if (text.empty()) {
            return false;
        }
    }
    // A gap stands for one group at least.
    if (gap ? size > 14 : size != 16) return false;
    const auto front = gap.value_or(size);
    std::fill(out, out + 16, static_cast<unsigned char>(0));
    std::copy_n(all.data(), front, out);
    std::copy_n(all.data() + front, size - front, out + 16 - (size - front));
    return true;
}

}  // namespace detail

ARKE_COLD_INLINE bool ip_address::is_v4() const noexcept {
    return std::all_of(bytes.begin(), bytes.begin() + 10, [](unsigned char b) { return b == 0; }) &&
           bytes[10] == 0xFF && bytes[11] == 0xFF;
}

ARKE_COLD_INLINE std::string ip_address::text() const {
    std::string out;
    if (is_v4()) {
        for (std::size_t i = 12; i != 16; ++i) {
            if (i != 12) out += '.';
            out += std::to_string(static_cast<unsigned>(bytes[i]));
        }
        return out;
    }
    const auto group = [&](std::size_t i) { return static_cast<unsigned>(bytes[2 * i]) << 8U | bytes[2 * i + 1]; };
    // The longest run of zeros, of two groups at least, and of several the first.
    std::size_t begin = 8;
    std::size_t length = 1;
    for (std::size_t i = 0; i != 8;) {
        std::size_t end = i;
        while (end != 8 && group(end) == 0) ++end;
        if (end - i > length) {
            begin = i;
            length = end - i;
        }
        i = end == i ? i + 1 : end;
    }
    constexpr std::string_view digits = "0123456789abcdef";
    for (std::size_t i = 0; i != 8; ++i) {
        if (i == begin) {
            out += "::";
            i += length - 1;
            continue;
        }
        if (!out.empty() && !out.ends_with(':')) out += ':';
        bool begun = false;
        for (unsigned shift = 16; shift != 0;) {
            shift -= 4;
            const auto digit = group(i) >> shift & 0xFU;
            begun = begun || digit != 0 || shift == 0;
            if (begun) out += digits[digit];
        }
    }
    return out;
}

ARKE_COLD_INLINE ip_address ip_of_bytes(std::span<const unsigned char> bytes) noexcept {
    ip_address made;
    if (bytes.size() == 4) made.bytes[10] = made.bytes[11] = 0xFF;
    std::copy(bytes.begin(), bytes.end(), made.bytes.end() - static_cast<std::ptrdiff_t>(bytes.size()));
    return made;
}

ARKE_COLD_INLINE std::optional<ip_address> parse_ip(std::string_view text) noexcept {
    std::array<unsigned char, 4> v4{};
    if (detail::parse_v4(text, v4.data())) return ip_of_bytes(v4);
    ip_address made;
    if (!detail::parse_v6(text, made.bytes.data())) return std::nullopt;
    return made;
}

ARKE_COLD_INLINE std::optional<ip_address> parse_ip_of_socket(std::string_view text) noexcept {
    return parse_ip(text.substr(0, text.find('%')));
}

ARKE_COLD_INLINE bool network_list::add(std::string_view text) {
    if (text == "unix") {
        has_unix_ = true;
        return true;
    }
    const auto slash = text.find('/');
    const auto address = parse_ip(text.substr(0, slash));
    if (!address) return false;
    // Whether it is of IPv4, the text tells: ::ffff:0:0/96 is written as IPv6 and means all of IPv4.
    const bool is_v4 = text.substr(0, slash).find(':') == std::string_view::npos;
    unsigned bits = is_v4 ? 32 : 128;
    if (slash != text.npos) {
        unsigned given = 0;
        auto rest = text.substr(slash + 1);
        if (!detail::take_number(rest, 10, 3, false, given) || !rest.empty() || given > bits) return false;
        bits = given;
    }
    if (is_v4) bits += 96;
    for (unsigned bit = bits; bit != 128; ++bit) {
        if ((address->bytes[bit / 8] >> (7U - bit % 8) & 1U) != 0) return false;
    }
    networks_.push_back({*address, bits});
    return true;
}

ARKE_COLD_INLINE bool network_list::contains(const ip_address& address) const noexcept {
    return std::any_of(networks_.begin(), networks_.end(), [&](const network& n) {
        const auto whole = n.bits / 8;
        if (!std::equal(n.first.bytes.begin(), n.first.bytes.begin() + whole, address.bytes.begin())) return false;
        const auto rest = n.bits % 8;
        return rest == 0 || (n.first.bytes[whole] ^ address.bytes[whole]) >> (8 - rest) == 0;
    });
}

ARKE_COLD_INLINE bool network_list::contains(std::string_view address) const noexcept {
    if (empty()) return false;
    if (is_unix(address)) return has_unix_;
    const auto ip = parse_ip_of_socket(address);
    return ip && contains(*ip);
}

ARKE_COLD_INLINE bool is_unix(std::string_view address) noexcept {
    return address == "unix" || address.starts_with("unix ");
}

ARKE_COLD_INLINE std::string address_group(std::string_view address) {
    auto ip = parse_ip_of_socket(address);
    if (!ip) return std::string{address};
    if (!ip->is_v4()) std::fill(ip->bytes.begin() + 8, ip->bytes.end(), static_cast<unsigned char>(0));
    return ip->text();
}

}  // namespace arke::wire
