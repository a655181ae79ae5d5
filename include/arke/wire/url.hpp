#pragma once

/// Where a client connects to, or a cluster's Redis is, as a text taken apart and checked. Pure; nothing is looked up.
///
///     url        = ( "ws" / "wss" ) "://" authority [ path ] [ "?" query ]
///                / ( "ws" / "wss" ) "+unix:" [ "//" ] file [ ":" path [ "?" query ] ]
///     file       = "/" *( any byte but ":" and NUL )   as it is: nothing is decoded
///     proxy      = "http://" [ user [ ":" password ] "@" ] authority [ "/" ]
///     redis      = "redis://" [ [ user ] ":" password "@" ] authority [ "/" [ database ] ]
///                / "redis+unix:" [ "//" ] file
///     database   = 1*5( DIGIT )
///     authority  = host [ ":" port ]
///     host       = 1*( ALPHA / DIGIT / "-" / "." / "_" ) / "[" IPv6 "]"
///     path       = "/" *( %x21-7E )           without "#", as a request line carries it
///
/// Stricter than RFC 3986 on purpose: a URL that two readers could take for two hosts is refused.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <arke/base/compile.hpp>

namespace arke::wire {

struct host_and_port {
    std::string host;  ///< Of IPv6 without its brackets.
    std::uint16_t port = 0;
    bool is_ipv6 = false;

    /// "name:port", "[v6]:port".
    std::string text() const {
        return (is_ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(static_cast<unsigned>(port));
    }
};

struct url {
    host_and_port at;
    std::string target = "/";  ///< Path and query.
    bool is_secure = false;
    std::string socket_path{};  ///< Of a UNIX-domain socket; `at` is then "localhost".

    /// Where it leads, for a person.
    std::string place() const { return socket_path.empty() ? at.text() : socket_path; }

    /// What the Host header says: the port only where it is not the scheme's own.
    std::string host_header() const {
        auto text = at.text();
        if (at.port == (is_secure ? 443 : 80)) text.erase(text.rfind(':'));
        return text;
    }
};

struct proxy_url {
    host_and_port at;
    std::string credentials;  ///< "user:password", decoded; empty where there are none.
};

struct redis_url {
    host_and_port at;
    std::string user;      ///< Decoded, as the password is; empty: that of the server's default.
    std::string password;  ///< Empty: none.
    unsigned database = 0;
    std::string socket_path{};  ///< Of a UNIX-domain socket; `at` is then "localhost".

    /// Where it leads, for a person: without the password.
    std::string place() const { return socket_path.empty() ? at.text() : socket_path; }
};

/// Nothing, and a sentence that says what to mend, for a text that is no such URL.
std::optional<url> parse_url(std::string_view text, std::string& why);
std::optional<proxy_url> parse_proxy(std::string_view text, std::string& why);
std::optional<redis_url> parse_redis(std::string_view text, std::string& why);

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/url.ipp>
#endif
