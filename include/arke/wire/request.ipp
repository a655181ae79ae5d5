#pragma once

#include <arke/wire/request.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace arke {

namespace wire {

namespace detail {

constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

constexpr int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    const char l = lower(c);
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

/// Where the authority of a target in absolute form begins ("http://" before it); npos for any other target.
ARKE_COLD_INLINE std::size_t authority_begin(std::string_view target) noexcept {
    if (target.starts_with('/')) return target.npos;
    const auto scheme = target.find("://");
    return scheme == target.npos || target.find_first_of("/?") < scheme ? target.npos : scheme + 3;
}

/// The path of a target, a view of it that may be empty.
ARKE_COLD_INLINE std::string_view path_of(std::string_view target) noexcept {
    if (const auto authority = authority_begin(target); authority != target.npos) {
        const auto path = target.find_first_of("/?", authority);
        target.remove_prefix(path == target.npos ? target.size() : path);
    }
    return target.substr(0, target.find('?'));
}

}  // namespace detail

ARKE_COLD_INLINE bool same_ignoring_case(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    for (std::size_t n = 0; n < a.size(); ++n) {
        if (detail::lower(a[n]) != detail::lower(b[n])) return false;
    }
    return true;
}

ARKE_COLD_INLINE std::string_view trimmed(std::string_view text) noexcept {
    while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
    while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
    return text;
}

ARKE_COLD_INLINE std::string percent_decoded(std::string_view text, bool plus_is_space) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t n = 0; n < text.size(); ++n) {
        if (text[n] == '%' && n + 2 < text.size()) {
            const int high = detail::hex_digit(text[n + 1]);
            const int low = detail::hex_digit(text[n + 2]);
            if (high >= 0 && low >= 0) {
                out += static_cast<char>(high * 16 + low);
                n += 2;
                continue;
            }
        }
        out += text[n] == '+' && plus_is_space ? ' ' : text[n];
    }
    return out;
}

}  // namespace wire

ARKE_COLD_INLINE request::request(std::string_view method, std::string_view target, unsigned version,
                                  const std::vector<std::pair<std::string_view, std::string_view>>& headers,
                                  std::string_view remote_address, std::uint16_t remote_port, tls_session_ptr tls)
    : port_{remote_port}, version_{static_cast<std::uint16_t>(version)}, tls_{std::move(tls)} {
    std::size_t total = method.size() + target.size() + remote_address.size();
    for (const auto& [name, value] : headers)
        total += 2 * sizeof(std::uint32_t) + name.size() + wire::trimmed(value).size();
    if (total > std::numeric_limits<std::uint32_t>::max()) throw std::length_error{"arke::request: larger than 4 GiB"};

    method_size_ = static_cast<std::uint32_t>(method.size());
    target_size_ = static_cast<std::uint32_t>(target.size());
    address_size_ = static_cast<std::uint32_t>(remote_address.size());

    block_.reserve(total);
    block_.append(method).append(target).append(remote_address);
    for (const auto& [name, raw] : headers) {
        const auto value = wire::trimmed(raw);
        for (const std::size_t size : {name.size(), value.size()}) {
            const auto narrow = static_cast<std::uint32_t>(size);
            char text[sizeof narrow];
            std::memcpy(text, &narrow, sizeof narrow);
            block_.append(text, sizeof text);
        }
        block_.append(name).append(value);
    }
}

ARKE_COLD_INLINE void request::field_iterator::read() noexcept {
    field_ = {};
    if (rest_.empty()) return;
    std::uint32_t name = 0;
    std::uint32_t value = 0;
    std::memcpy(&name, rest_.data(), sizeof name);
    std::memcpy(&value, rest_.data() + sizeof name, sizeof value);
    field_ = {rest_.substr(prefix, name), rest_.substr(prefix + name, value)};
}

ARKE_COLD_INLINE std::string_view request::path() const noexcept {
    const auto path = wire::detail::path_of(target());
    return path.empty() && target_size_ != 0 ? std::string_view{"/"} : path;
}

ARKE_COLD_INLINE std::optional<request::process> request::remote_process() const noexcept {
    auto text = part(method_size_ + target_size_, address_size_);
    if (!text.starts_with("unix ")) return std::nullopt;
    process found;
    const auto take = [&](auto& number) {
        text.remove_prefix(std::min(text.find(' ') + 1, text.size()));
        std::from_chars(text.data(), text.data() + text.size(), number);
    };
    take(found.id);
    take(found.user);
    take(found.group);
    return found;
}

ARKE_COLD_INLINE std::string request::decoded_path() const { return wire::percent_decoded(path()); }

ARKE_COLD_INLINE std::string_view request::query_string() const noexcept {
    const auto text = target();
    const auto mark = text.find('?');
    return mark == text.npos ? std::string_view{} : text.substr(mark + 1);
}

ARKE_COLD_INLINE std::optional<std::string> request::query(std::string_view name) const {
    for (auto rest = query_string(); !rest.empty();) {
        const auto pair = rest.substr(0, rest.find('&'));
        rest.remove_prefix(pair.size() == rest.size() ? pair.size() : pair.size() + 1);
        const auto key = pair.substr(0, pair.find('='));
        if (pair.empty() || wire::percent_decoded(key, true) != name) continue;
        return wire::percent_decoded(key.size() == pair.size() ? std::string_view{} : pair.substr(key.size() + 1),
                                     true);
    }
    return std::nullopt;
}

ARKE_COLD_INLINE std::string_view request::header(std::string_view name) const noexcept {
    for (const auto& entry : headers()) {
        if (wire::same_ignoring_case(entry.name, name)) return entry.value;
    }
    return {};
}

ARKE_COLD_INLINE std::vector<std::string_view> request::header_values(std::string_view name) const {
    std::vector<std::string_view> values;
    for (const auto& entry : headers()) {
        if (wire::same_ignoring_case(entry.name, name)) values.push_back(entry.value);
    }
    return values;
}

ARKE_COLD_INLINE bool request::has_header(std::string_view name) const noexcept {
    for (const auto& entry : headers()) {
        if (wire::same_ignoring_case(entry.name, name)) return true;
    }
    return false;
}

ARKE_COLD_INLINE std::optional<std::string> request::cookie(std::string_view name) const {
    for (const auto& entry : headers()) {
        if (!wire::same_ignoring_case(entry.name, "cookie")) continue;
        for (auto rest = entry.value; !rest.empty();) {
            const auto pair = rest.substr(0, rest.find(';'));
            rest.remove_prefix(pair.size() == rest.size() ? pair.size() : pair.size() + 1);
            const auto equals = pair.find('=');
            if (equals == pair.npos || wire::trimmed(pair.substr(0, equals)) != name) continue;
            auto value = wire::trimmed(pair.substr(equals + 1));
            if (value.size() >= 2 && value.starts_with('"') && value.ends_with('"'))
                value = value.substr(1, value.size() - 2);
            return std::string{value};
        }
    }
    return std::nullopt;
}

}  // namespace arke
