#pragma once

#include <arke/wire/request.hpp>
#include <arke/wire/url.hpp>

#include <algorithm>

namespace arke::wire {

namespace detail {

/// Reads "host:port". A port of 0 stands for one that is not written.
ARKE_COLD_INLINE bool read_host_and_port(std::string_view text, host_and_port& out, std::string& why) {
    const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    const auto is_number = [](char c) { return c >= '0' && c <= '9'; };
    out.is_ipv6 = text.starts_with('[');
    if (out.is_ipv6) {
        const auto end = text.find(']');
        if (end == text.npos) {
            why = "the '[' of an IPv6 address has no ']'";
            return false;
        }
        out.host = text.substr(1, end - 1);
        const bool fits = std::count(out.host.begin(), out.host.end(), ':') >= 2 && out.host.size() <= 45 &&
                          out.host.find_first_not_of("0123456789abcdefABCDEF:.") == std::string::npos;
        if (!fits) {
            why = "what stands in brackets is no IPv6 address (one with a zone is not supported)";
            return false;
        }
        text.remove_prefix(end + 1);
    } else {
        out.host = text.substr(0, text.find(':'));
        if (out.host.empty()) {
            why = "the host is missing";
            return false;
        }
        const auto is_part = [&](char c) { return is_letter(c) || is_number(c) || c == '-' || c == '.' || c == '_'; };
        if (out.host.size() > 253 || !std::all_of(out.host.begin(), out.host.end(), is_part)) {
            why =
                "a host is made of at most 253 letters, digits, '-', '.' and '_'; write other names as their xn-- form";
            return false;
        }
        text.remove_prefix(out.host.size());
    }
    out.port = 0;
    if (text.empty()) return true;
    const auto digits = text.substr(1);
    unsigned port = 0;
    if (digits.size() <= 5 && std::all_of(digits.begin(), digits.end(), is_number)) {
        for (const char c : digits) port = port * 10 + static_cast<unsigned>(c - '0');
    }
    if (text.front() != ':' || port == 0 || port > 65535) {
        why = "the port is none; write a number from 1 to 65535 behind the ':'";
        return false;
    }
    out.port = static_cast<std::uint16_t>(port);
    return true;
}

}  // namespace detail

namespace detail {

/// Reads path and query.
ARKE_COLD_INLINE bool read_target(std::string_view target, std::string& out, std::string& why) {
    if (target.find('#') != target.npos) {
        why = "it holds a '#': a fragment is never sent (write %23 where the character is meant)";
        return false;
    }
    for (const char c : target) {
        if (c > 0x20 && c < 0x7F) continue;
        why = "the path or the query holds a space, a control character or one that is not ASCII; write it as %XX";
        return false;
    }
    out = target.starts_with('/') ? "" : "/";
    out += target;
    return true;
}

}  // namespace detail

ARKE_COLD_INLINE std::optional<url> parse_url(std::string_view text, std::string& why) {
    url out;
    if (const auto kind = text.substr(0, text.find("+unix:")); kind.size() <= 3 && kind.size() != text.size()) {
        out.is_secure = same_ignoring_case(kind, "wss");
        if (!out.is_secure && !same_ignoring_case(kind, "ws")) {
            why = "it does not begin with ws+unix: or wss+unix:";
            return std::nullopt;
        }
        text.remove_prefix(kind.size() + 6);
        if (text.starts_with("//")) text.remove_prefix(2);
        const auto file = text.substr(0, text.find(':'));
        if (!file.starts_with('/') || file.find('\0') != file.npos) {
            why = "it names no file; write ws+unix:///run/arke.sock:/path";
            return std::nullopt;
        }
        out.at = {"localhost", static_cast<std::uint16_t>(out.is_secure ? 443 : 80)};
        out.socket_path = file;
        if (!detail::read_target(text.substr(std::min(file.size() + 1, text.size())), out.target, why))
            return std::nullopt;
        return out;
    }
    const auto scheme = text.substr(0, text.find("://"));
    out.is_secure = same_ignoring_case(scheme, "wss");
    if (scheme.size() == text.size() || (!out.is_secure && !same_ignoring_case(scheme, "ws"))) {
        why = "it does not begin with ws:// or wss://";
        return std::nullopt;
    }
    text.remove_prefix(scheme.size() + 3);
    const auto authority = text.substr(0, text.find_first_of("/?#"));
    if (authority.find('@') != authority.npos) {
        why = "it holds a user; send credentials by a header (Authorization)";
        return std::nullopt;
    }
    if (!detail::read_host_and_port(authority, out.at, why)) return std::nullopt;
    if (out.at.port == 0) out.at.port = out.is_secure ? 443 : 80;
    if (!detail::read_target(text.substr(authority.size()), out.target, why)) return std::nullopt;
    return out;
}

ARKE_COLD_INLINE std::optional<proxy_url> parse_proxy(std::string_view text, std::string& why) {
    proxy_url out;
    constexpr std::string_view scheme = "http://";
    if (!same_ignoring_case(text.substr(0, scheme.size()), scheme)) {
        why = "it does not begin with http://";
        return std::nullopt;
    }
    text.remove_prefix(scheme.size());
    if (text.ends_with('/')) text.remove_suffix(1);
    if (const auto at = text.rfind('@'); at != text.npos) {
        const auto user = text.substr(0, text.find(':'));
        if (user.size() > at) {
            out.credentials = percent_decoded(text.substr(0, at)) + ":";
        } else {
            out.credentials =
                percent_decoded(user) + ":" + percent_decoded(text.substr(user.size() + 1, at - user.size() - 1));
        }
        text.remove_prefix(at + 1);
    }
    if (!detail::read_host_and_port(text, out.at, why)) return std::nullopt;
    if (out.at.port == 0) {
        why = "the port is missing; proxies have none of their own";
        return std::nullopt;
    }
    return out;
}

ARKE_COLD_INLINE std::optional<redis_url> parse_redis(std::string_view text, std::string& why) {
    redis_url out;
    constexpr std::string_view scheme = "redis://";
    constexpr std::string_view unix_scheme = "redis+unix:";
    if (same_ignoring_case(text.substr(0, unix_scheme.size()), unix_scheme)) {
        text.remove_prefix(unix_scheme.size());
        if (text.starts_with("//")) text.remove_prefix(2);
        if (!text.starts_with('/') || text.find('\0') != text.npos) {
            why = "it names no file; write redis+unix:///run/redis/redis-server.sock";
            return std::nullopt;
        }
        out.at = {"localhost", 6379};
        out.socket_path = text;
        return out;
    }
    if (same_ignoring_case(text.substr(0, text.find("://")), "rediss")) {
        why =
            "it asks for TLS, which Arke does not speak with Redis; let a proxy beside this program (stunnel) do that, "
            "and "
            "write redis:// with the proxy's address";
        return std::nullopt;
    }
    if (!same_ignoring_case(text.substr(0, scheme.size()), scheme)) {
        why = "it does not begin with redis:// or redis+unix:";
        return std::nullopt;
    }
    text.remove_prefix(scheme.size());
    auto authority = text.substr(0, text.find_first_of("/?#"));
    text.remove_prefix(authority.size());
    if (const auto at = authority.rfind('@'); at != authority.npos) {
        const auto colon = authority.find(':');
        if (colon > at || colon + 1 == at) {
            why = "it has an '@' and no password; write redis://user:password@host, or redis://:password@host";
            return std::nullopt;
        }
        out.user = percent_decoded(authority.substr(0, colon));
        out.password = percent_decoded(authority.substr(colon + 1, at - colon - 1));
        authority.remove_prefix(at + 1);
    }
    if (!detail::read_host_and_port(authority, out.at, why)) return std::nullopt;
    if (out.at.port == 0) out.at.port = 6379;
    if (text.starts_with('/')) text.remove_prefix(1);
    if (text.size() > 5 || text.find_first_not_of("0123456789") != text.npos) {
        why = "behind the host stands something else than '/' and the number of a database";
        return std::nullopt;
    }
    for (const char c : text) out.database = out.database * 10 + static_cast<unsigned>(c - '0');
    return out;
}

}  // namespace arke::wire
