#pragma once

#include <arke/wire/address.hpp>
#include <arke/wire/proxy_header.hpp>

#include <algorithm>

namespace arke::wire {

namespace detail {

inline constexpr std::string_view proxy_signature{"\r\n\r\n\0\r\nQUIT\n", 12};
inline constexpr std::size_t proxy_v2_head = 16;

/// Reads "word " from the front.
inline std::string_view take_word(std::string_view& text) noexcept {
    const auto word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    return word;
}

inline bool parse_proxy_port(std::string_view text, std::uint16_t& out) noexcept {
    unsigned value = 0;
    if (!take_number(text, 10, 5, false, value) || !text.empty() || value > 65'535) return false;
    out = static_cast<std::uint16_t>(value);
    return true;
}

}  // namespace detail

ARKE_COLD_INLINE proxy_header_reader::result proxy_header_reader::feed(std::string_view bytes) {
    consumed_ = 0;
    while (result_ == result::more && consumed_ != bytes.size()) {
        if (skip_ != 0) {
            const auto now = std::min(skip_, bytes.size() - consumed_);
            consumed_ += now;
            skip_ -= now;
            if (skip_ == 0) result_ = result::complete;
            continue;
        }
        kept_[size_++] = bytes[consumed_++];
        // The two begin differently.
        result_ = kept_[0] == 'P' ? take_text() : take_binary();
    }
    return result_;
}

ARKE_COLD_INLINE proxy_header_reader::result proxy_header_reader::take_text() {
    constexpr std::string_view begin = "PROXY ";
    const std::string_view so_far{kept_.data(), size_};
    if (size_ <= begin.size()) return begin.starts_with(so_far) ? result::more : refuse();
    const char last = so_far.back();
    const bool after_return = so_far[size_ - 2] == '\r';
    if ((last == '\n') != after_return) return refuse();
    if (last == '\n') return read_line();
    return size_ == max_text ? refuse() : result::more;
}

ARKE_COLD_INLINE proxy_header_reader::result proxy_header_reader::read_line() {
    std::string_view line{kept_.data(), size_ - 2};
    line.remove_prefix(6);
    const auto family = detail::take_word(line);
    if (family == "UNKNOWN") return result::complete;
    const bool is_v4 = family == "TCP4";
    if (!is_v4 && family != "TCP6") return refuse();
    const auto from = detail::take_word(line);
    const auto to = detail::take_word(line);
    const auto source = parse_ip(from);
    const auto is_of_family = [&](std::string_view text) { return (text.find(':') == text.npos) == is_v4; };
    if (!source || !parse_ip(to) || !is_of_family(from) || !is_of_family(to)) return refuse();
    address found{source->text()};
    std::uint16_t other = 0;
    const auto port = detail::take_word(line);
    if (!detail::parse_proxy_port(port, found.port) || !detail::parse_proxy_port(line, other)) return refuse();
    source_ = std::move(found);
    return result::complete;
}

ARKE_COLD_INLINE proxy_header_reader::result proxy_header_reader::take_binary() {
    using detail::proxy_signature;
    using detail::proxy_v2_head;
    if (size_ <= proxy_signature.size())
        return kept_[size_ - 1] == proxy_signature[size_ - 1] ? result::more : refuse();
    const auto byte = [this](std::size_t at) { return static_cast<unsigned>(static_cast<unsigned char>(kept_[at])); };
    const bool is_local = byte(12) == 0x20;
    if (!is_local && byte(12) != 0x21) return refuse();
    if (size_ < proxy_v2_head) return result::more;
    const auto rest = static_cast<std::size_t>(byte(14) << 8U | byte(15));
    const auto family = byte(13) >> 4U;
    const auto protocol = byte(13) & 0xFU;
    if (rest > max_rest) return refuse();
    // What is needed of the addresses: the whole of them, but of UNIX nothing.
    std::size_t addresses = 0;
    if (!is_local) {
        if (family > 3 || protocol > 2) return refuse();
        constexpr std::array<std::size_t, 4> sizes{0, 12, 36, 216};
        if (protocol != 0 && rest < sizes[family]) return refuse();
        if (protocol == 1) addresses = family == 3 ? 0 : sizes[family];
    }
    if (size_ < proxy_v2_head + addresses) return result::more;
    if (!is_local && protocol == 1 && family == 3) source_ = address{"unix"};
    if (addresses != 0) {
        const auto width = family == 1 ? std::size_t{4} : std::size_t{16};
        const auto* const at = reinterpret_cast<const unsigned char*>(kept_.data()) + proxy_v2_head;
        source_ = address{ip_of_bytes({at, width}).text(),
                          static_cast<std::uint16_t>(at[2 * width] << 8U | at[2 * width + 1])};
    }
    skip_ = rest - addresses;
    return skip_ == 0 ? result::complete : result::more;
}

}  // namespace arke::wire
