#pragma once

#include <arke/wire/base64.hpp>
#include <arke/wire/handshake.hpp>
#include <arke/wire/request.ipp>
#include <arke/wire/sha1.hpp>

#include <algorithm>
#include <array>

namespace arke::wire {

namespace detail {

inline constexpr auto token_bytes = [] {
    std::array<bool, 256> table{};
    for (unsigned c = '0'; c <= '9'; ++c) table[c] = true;
    for (unsigned c = 'A'; c <= 'Z'; ++c) table[c] = table[c + 'a' - 'A'] = true;
    for (const char c : std::string_view{"!#$%&'*+-.^_`|~"}) table[static_cast<unsigned char>(c)] = true;
    return table;
}();

constexpr bool is_value_byte(unsigned char byte) noexcept { return byte == '\t' || (byte >= 0x20 && byte != 0x7F); }

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

/// Calls `visit` with each element of a comma-separated header value, trimmed, until it returns true.
template <class Visit>
bool any_element(std::string_view list, Visit visit) {
    for (bool last = false; !last;) {
        const auto comma = list.find(',');
        last = comma == list.npos;
        const auto element = trimmed(list.substr(0, comma));
        if (!element.empty() && visit(element)) return true;
        if (!last) list.remove_prefix(comma + 1);
    }
    return false;
}

ARKE_COLD_INLINE bool lists_token(const request& r, std::string_view name, std::string_view token) {
    for (const auto& entry : r.headers()) {
        if (same_ignoring_case(entry.name, name) &&
            any_element(entry.value, [&](std::string_view element) { return same_ignoring_case(element, token); })) {
            return true;
        }
    }
    return false;
}

/// The host and, where one is written, the port of "name:port".
struct authority {
    std::string_view host;
    std::optional<unsigned> port;
};

// No userinfo, no comma, no space: a strict grammar leaves nothing over which two parties could disagree about the host.
ARKE_COLD_INLINE std::optional<authority> read_authority(std::string_view text) noexcept {
    authority out;
    if (text.starts_with('[')) {
        const auto bracket = text.find(']');
        if (bracket == text.npos || bracket < 3) return std::nullopt;
        out.host = text.substr(0, bracket + 1);
        for (const char c : out.host.substr(1, bracket - 1)) {
            if (hex_digit(c) < 0 && c != ':' && c != '.') return std::nullopt;
        }
    } else {
        out.host = text.substr(0, text.find(':'));
        if (out.host.empty()) return std::nullopt;
        for (const char c : out.host) {
            if (!is_digit(c) && !(lower(c) >= 'a' && lower(c) <= 'z') && c != '-' && c != '.' && c != '_' && c != '~' &&
                c != '%') {
                return std::nullopt;
            }
        }
    }

    const auto rest = text.substr(out.host.size());
    if (rest.empty()) return out;
    if (rest.front() != ':' || rest.size() > 6) return std::nullopt;
    unsigned port = 0;
    for (const char c : rest.substr(1)) {
        if (!is_digit(c)) return std::nullopt;
        port = port * 10 + static_cast<unsigned>(c - '0');
    }
    if (port > 65535) return std::nullopt;
    if (rest.size() > 1) out.port = port;
    return out;
}

/// The port that a scheme means where none is written; 0 for a scheme that no page of the web has.
ARKE_COLD_INLINE unsigned default_port(std::string_view scheme) noexcept {
    return same_ignoring_case(scheme, "http") ? 80 : same_ignoring_case(scheme, "https") ? 443 : 0;
}

/// Whether "scheme://host:port" and nothing more names the same host and port as a Host header.
ARKE_COLD_INLINE bool names_host(std::string_view origin, std::string_view host_header) noexcept {
    const auto colon = origin.find("://");
    if (colon == origin.npos) return false;
    const auto implied = default_port(origin.substr(0, colon));
    const auto site = read_authority(origin.substr(colon + 3));
    const auto host = read_authority(host_header);
    return implied != 0 && site && host && same_ignoring_case(site->host, host->host) &&
           site->port.value_or(implied) == host->port.value_or(implied);
}

ARKE_COLD_INLINE bool is_number(std::string_view text) noexcept {
    return !text.empty() && text.size() < 20 && std::all_of(text.begin(), text.end(), is_digit);
}

/// What is wrong with a Transfer-Encoding that is not "chunked" alone (RFC 9112 §6.1): with another coding inside, the body has
/// an end and only nobody here can read it.
ARKE_COLD_INLINE header_fault fault_of_coding(std::string_view value) noexcept {
    const auto comma = value.rfind(',');
    if (comma == value.npos || !same_ignoring_case(trimmed(value.substr(comma + 1)), "chunked"))
        return header_fault::bad_transfer_encoding;
    bool known = false;
    bool strange = false;
    any_element(value.substr(0, comma), [&](std::string_view element) {
        known = known || same_ignoring_case(element, "chunked");
        strange = strange || element.find_first_of(" \t\"") != element.npos;
        return false;
    });
    return known || strange ? header_fault::bad_transfer_encoding : header_fault::unknown_coding;
}

/// "/path", "*" for OPTIONS, or "http://host/path". The form of CONNECT is for proxies.
ARKE_COLD_INLINE bool is_target(std::string_view method, std::string_view target) noexcept {
    if (target.starts_with('/')) return true;
    if (target == "*") return method == "OPTIONS";
    const auto from = authority_begin(target);
    if (from == target.npos || default_port(target.substr(0, from - 3)) == 0) return false;
    const auto size = std::min(target.find_first_of("/?", from), target.size()) - from;
    return read_authority(target.substr(from, size)).has_value();
}

}  // namespace detail

ARKE_COLD_INLINE bool is_token(std::string_view text) noexcept {
    return !text.empty() && std::all_of(text.begin(), text.end(),
                                        [](char c) { return detail::token_bytes[static_cast<unsigned char>(c)]; });
}

ARKE_COLD_INLINE bool is_field_value(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(),
                       [](char c) { return detail::is_value_byte(static_cast<unsigned char>(c)); });
}

ARKE_COLD_INLINE std::string accept_key(std::string_view key) {
    std::string joined{key};
    joined += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const auto digest = sha1(joined);
    return base64({digest.data(), digest.size()});
}

ARKE_COLD_INLINE std::string_view reason_phrase(int status) noexcept {
    switch (status) {
        case 100: return "Continue";
        case 101: return "Switching Protocols";
        case 200: return "OK";
        case 201: return "Created";
        case 202: return "Accepted";
        case 203: return "Non-Authoritative Information";
        case 204: return "No Content";
        case 205: return "Reset Content";
        case 206: return "Partial Content";
        case 300: return "Multiple Choices";
        case 301: return "Moved Permanently";
        case 302: return "Found";
        case 303: return "See Other";
        case 304: return "Not Modified";
        case 307: return "Temporary Redirect";
        case 308: return "Permanent Redirect";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 402: return "Payment Required";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 406: return "Not Acceptable";
        case 407: return "Proxy Authentication Required";
        case 408: return "Request Timeout";
        case 409: return "Conflict";
        case 410: return "Gone";
        case 411: return "Length Required";
        case 412: return "Precondition Failed";
        case 413: return "Content Too Large";
        case 414: return "URI Too Long";
        case 415: return "Unsupported Media Type";
        case 416: return "Range Not Satisfiable";
        case 417: return "Expectation Failed";
        case 421: return "Misdirected Request";
        case 422: return "Unprocessable Content";
        case 425: return "Too Early";
        case 426: return "Upgrade Required";
        case 428: return "Precondition Required";
        case 429: return "Too Many Requests";
        case 431: return "Request Header Fields Too Large";
        case 451: return "Unavailable For Legal Reasons";
        case 500: return "Internal Server Error";
        case 501: return "Not Implemented";
        case 502: return "Bad Gateway";
        case 503: return "Service Unavailable";
        case 504: return "Gateway Timeout";
        case 505: return "HTTP Version Not Supported";
        default: return {};
    }
}

ARKE_COLD_INLINE http_refusal refuse_http(int status, std::string_view sentence,
                                          std::vector<std::pair<std::string, std::string>> headers) {
    http_refusal out{status, std::string{reason_phrase(status)}, std::string{sentence} + '\n', std::move(headers)};
    out.headers.emplace_back("Content-Type", "text/plain; charset=utf-8");
    // An Upgrade header must be named in Connection (RFC 9110 §7.8).
    const bool upgrade = std::any_of(out.headers.begin(), out.headers.end(),
                                     [](const auto& entry) { return same_ignoring_case(entry.first, "upgrade"); });
    out.headers.emplace_back("Connection", upgrade ? "upgrade, close" : "close");
    return out;
}

ARKE_COLD_INLINE http_refusal refusal_of(header_fault fault) {
    switch (fault) {
        case header_fault::bad_request_line:
            return refuse_http(400, "The request line is not \"METHOD /target HTTP/1.1\".");
        case header_fault::unsupported_version: return refuse_http(505, "This server speaks HTTP/1.1.");
        case header_fault::target_too_long: return refuse_http(414, "The target of the request is too long.");
        case header_fault::block_too_large:
            return refuse_http(431, "The request line and headers together are too long.");
        case header_fault::too_many_fields: return refuse_http(431, "The request has too many headers.");
        case header_fault::too_many_empty_lines:
            return refuse_http(400, "There are too many empty lines before the request.");
        case header_fault::folded_line: return refuse_http(400, "A header is folded over two lines.");
        case header_fault::bare_line_feed:
            return refuse_http(400, "A line ends with LF alone; it must end with CR LF.");
        case header_fault::bare_carriage_return: return refuse_http(400, "A CR stands without its LF.");
        case header_fault::control_byte: return refuse_http(400, "The request contains a control character.");
        case header_fault::space_before_colon:
            return refuse_http(400, "A space stands between a header's name and its colon.");
        case header_fault::bad_field_name:
            return refuse_http(400, "A header's name is not a token followed by a colon.");
        case header_fault::unfinished: return refuse_http(400, "The headers do not end with one empty line.");
        case header_fault::no_host: return refuse_http(400, "The request has no Host header.");
        case header_fault::several_hosts: return refuse_http(400, "The request has several Host headers.");
        case header_fault::bad_host: return refuse_http(400, "The Host header is not \"name\" or \"name:port\".");
        case header_fault::length_and_encoding:
            return refuse_http(400, "Content-Length and Transfer-Encoding exclude each other.");
        case header_fault::bad_transfer_encoding:
            return refuse_http(400, "The only Transfer-Encoding here is \"chunked\".");
        case header_fault::unknown_coding: return refuse_http(501, "The only Transfer-Encoding here is \"chunked\".");
        case header_fault::bad_content_length: return refuse_http(400, "The Content-Length is not one number.");
    }
    return refuse_http(400, "The request is malformed.");
}

ARKE_COLD_INLINE void header_scanner::refuse(header_fault why) noexcept {
    state_ = state::refused;
    fault_ = why;
}

ARKE_COLD_INLINE void header_scanner::refuse_byte(unsigned char byte, header_fault otherwise) noexcept {
    if (byte == '\n') return refuse(header_fault::bare_line_feed);
    // A tab and a CR have faults of their own, which depend on where they stand.
    const bool control = (byte < 0x20 && byte != '\t' && byte != '\r') || byte == 0x7F;
    refuse(control ? header_fault::control_byte : otherwise);
}

ARKE_COLD_INLINE void header_scanner::take(unsigned char byte) noexcept {
    switch (state_) {
        case state::leading:
            if (byte == '\r') {
                state_ = state::leading_end;
                return;
            }
            begin_ = seen_ - 1;
            state_ = state::method;
            [[fallthrough]];
        case state::method:
            if (detail::token_bytes[byte]) {
                if (++part_ > 32) refuse(header_fault::bad_request_line);
            } else if (byte == ' ' && part_ != 0) {
                state_ = state::target;
                part_ = 0;
            } else {
                refuse_byte(byte, header_fault::bad_request_line);
            }
            return;
        case state::leading_end:
            if (byte != '\n') return refuse(header_fault::bare_carriage_return);
            state_ = state::leading;
            if (++empty_lines_ > 4) refuse(header_fault::too_many_empty_lines);
            return;
        case state::target:
            if (byte > 0x20 && byte < 0x7F) {
                if (++part_ > limits_.max_target) refuse(header_fault::target_too_long);
            } else if (byte == ' ' && part_ != 0) {
                state_ = state::version;
                part_ = 0;
            } else {
                refuse_byte(byte, header_fault::bad_request_line);
            }
            return;
        case state::version:
            if (byte > 0x20 && byte < 0x7F) {
                if (++part_ > 8) refuse(header_fault::bad_request_line);
            } else if (byte == '\r' && part_ == 8) {
                state_ = state::line_end;
            } else {
                refuse_byte(byte, header_fault::bad_request_line);
            }
            return;
        case state::line_end:
            if (byte != '\n') return refuse(header_fault::bare_carriage_return);
            state_ = state::line_start;
            return;
        case state::line_start:
            if (byte == '\r') {
                state_ = state::block_end;
            } else if (byte == ' ' || byte == '\t') {
                refuse(header_fault::folded_line);
            } else if (!detail::token_bytes[byte]) {
                refuse_byte(byte, header_fault::bad_field_name);
            } else if (++fields_ > limits_.max_fields) {
                refuse(header_fault::too_many_fields);
            } else {
                state_ = state::name;
            }
            return;
        case state::name:
            if (detail::token_bytes[byte]) return;
            if (byte == ':') {
                state_ = state::value;
            } else if (byte == ' ' || byte == '\t') {
                refuse(header_fault::space_before_colon);
            } else {
                refuse_byte(byte, header_fault::bad_field_name);
            }
            return;
        case state::value:
            if (detail::is_value_byte(byte)) return;
            if (byte == '\r') {
                state_ = state::line_end;
            } else {
                refuse_byte(byte, header_fault::control_byte);
            }
            return;
        case state::block_end:
            if (byte != '\n') return refuse(header_fault::bare_carriage_return);
            state_ = state::complete;
            return;
        case state::complete:
        case state::refused: return;
    }
}

ARKE_COLD_INLINE header_scanner::result header_scanner::feed(std::string_view bytes) noexcept {
    for (const char byte : bytes) {
        if (state_ >= state::complete) break;
        // The skipped empty lines have their own bound.
        if (state_ > state::leading_end && seen_ - begin_ >= limits_.max_header_bytes) {
            refuse(state_ == state::target ? header_fault::target_too_long : header_fault::block_too_large);
            break;
        }
        ++seen_;
        take(static_cast<unsigned char>(byte));
    }
    return state_ == state::complete ? result::complete : state_ == state::refused ? result::refused : result::more;
}

ARKE_COLD_INLINE std::optional<header_fault> find_header_fault(std::string_view block, const header_limits& limits) {
    header_scanner scanner{limits};
    const auto scanned = scanner.feed(block);
    if (scanned == header_scanner::result::refused) return scanner.fault();
    if (scanned == header_scanner::result::more || scanner.end() != block.size()) return header_fault::unfinished;

    // The scanner has settled the form of each line, so what is cut here need not be tested again.
    auto rest = block.substr(scanner.begin());
    const auto next_line = [&rest] {
        const auto size = rest.find("\r\n");
        const auto line = rest.substr(0, size);
        rest.remove_prefix(size + 2);
        return line;
    };

    const auto first = next_line();
    const auto method = first.substr(0, first.find(' '));
    const auto version = first.substr(first.rfind(' ') + 1);
    const auto target = first.substr(method.size() + 1, first.size() - method.size() - version.size() - 2);
    if (!version.starts_with("HTTP/") || !detail::is_digit(version[5]) || version[6] != '.' ||
        !detail::is_digit(version[7])) {
        return header_fault::bad_request_line;
    }
    if (version != "HTTP/1.1" && version != "HTTP/1.0") return header_fault::unsupported_version;
    if (!detail::is_target(method, target)) return header_fault::bad_request_line;

    std::size_t hosts = 0;
    std::size_t lengths = 0;
    std::size_t encodings = 0;
    std::optional<header_fault> fault;
    for (auto line = next_line(); !line.empty(); line = next_line()) {
        const auto name = line.substr(0, line.find(':'));
        const auto value = trimmed(line.substr(name.size() + 1));
        if (same_ignoring_case(name, "host")) {
            ++hosts;
            if (!value.empty() && !detail::read_authority(value)) fault = header_fault::bad_host;
        } else if (same_ignoring_case(name, "content-length")) {
            ++lengths;
            if (!detail::is_number(value)) fault = header_fault::bad_content_length;
        } else if (same_ignoring_case(name, "transfer-encoding")) {
            ++encodings;
            if (!same_ignoring_case(value, "chunked")) fault = detail::fault_of_coding(value);
        }
    }

    const bool old = version == "HTTP/1.0";
    if (hosts > 1) return header_fault::several_hosts;
    if (hosts == 0 && !old) return header_fault::no_host;
    if (lengths != 0 && encodings != 0) return header_fault::length_and_encoding;
    if (encodings > 1 || (encodings == 1 && old)) return header_fault::bad_transfer_encoding;
    // RFC 9110 §8.6 lets one take two that are equal; a client that means well sends one.
    if (lengths > 1) return header_fault::bad_content_length;
    return fault;
}

ARKE_COLD_INLINE std::optional<http_refusal> check_header_block(std::string_view block, const header_limits& limits) {
    const auto fault = find_header_fault(block, limits);
    return fault ? std::optional{refusal_of(*fault)} : std::nullopt;
}

ARKE_COLD_INLINE std::optional<http_refusal> check_upgrade(const request& r) {
    if (r.method() != "GET") {
        return refuse_http(405, "A WebSocket connection begins with GET.", {{"Allow", "GET"}});
    }

    const auto hosts = r.header_values("host");
    if (hosts.size() != 1) return refusal_of(hosts.empty() ? header_fault::no_host : header_fault::several_hosts);
    const auto host = detail::read_authority(hosts.front());
    if (!host) return refusal_of(header_fault::bad_host);
    // A target that brings its own host would overrule the Host header, by which Origin is judged.
    if (const auto from = detail::authority_begin(r.target()); from != std::string_view::npos) {
        const auto origin = r.target().substr(0, std::min(r.target().find_first_of("/?", from), r.target().size()));
        if (!detail::names_host(origin, hosts.front()))
            return refuse_http(400, "The target and the Host header name different hosts.");
    }

    if (r.has_header("transfer-encoding")) return refuse_http(400, "An upgrade request has no body.");
    for (const auto length : r.header_values("content-length")) {
        if (length.empty() || length.find_first_not_of('0') != length.npos) {
            return refuse_http(400, "An upgrade request has no body.");
        }
    }

    const auto upgrade_required = [](std::string_view sentence) {
        return refuse_http(426, sentence, {{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}});
    };
    // In HTTP/1.0 the Upgrade header must be ignored (RFC 9110 §7.8), which leaves a plain GET.
    if (r.version() < 11 || !detail::lists_token(r, "upgrade", "websocket") ||
        !detail::lists_token(r, "connection", "upgrade")) {
        return upgrade_required("This address serves WebSocket connections.");
    }
    if (const auto versions = r.header_values("sec-websocket-version");
        versions.size() != 1 || versions.front() != "13") {
        return upgrade_required("This server speaks version 13 of WebSocket.");
    }

    const auto keys = r.header_values("sec-websocket-key");
    if (keys.size() != 1) return refuse_http(400, "The request must have one Sec-WebSocket-Key.");
    if (!is_base64_of_16_bytes(keys.front()))
        return refuse_http(400, "The Sec-WebSocket-Key is not sixteen bytes in base64.");
    return std::nullopt;
}

ARKE_COLD_INLINE bool same_origin(const request& r) {
    const auto origins = r.header_values("origin");
    if (origins.empty()) return true;
    const auto hosts = r.header_values("host");
    return origins.size() == 1 && hosts.size() == 1 && detail::names_host(origins.front(), hosts.front());
}

ARKE_COLD_INLINE bool origin_listed(std::string_view origin, std::span<const std::string> origins) noexcept {
    return std::any_of(origins.begin(), origins.end(), [origin](const std::string& listed) {
        return listed == "*" || same_ignoring_case(listed, origin);
    });
}

ARKE_COLD_INLINE std::optional<std::string> choose_subprotocol(std::span<const std::string_view> offered,
                                                               std::span<const std::string_view> supported) {
    std::optional<std::string> chosen;
    const auto take = [&](std::string_view element) {
        if (std::find(supported.begin(), supported.end(), element) == supported.end() || !is_token(element))
            return false;
        chosen = element;
        return true;
    };
    for (const auto value : offered) {
        if (detail::any_element(value, take)) break;
    }
    return chosen;
}

}  // namespace arke::wire
