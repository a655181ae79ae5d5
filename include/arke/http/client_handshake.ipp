#pragma once

#include <arke/event/event_view.hpp>
#include <arke/http/client_handshake.hpp>
#include <arke/wire/base64.hpp>
#include <arke/wire/handshake.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>

#include <algorithm>
#include <array>
#include <random>

namespace arke::http {

namespace detail {

/// As it is where it is plain text, else in quotes and escaped.
inline std::string shown(std::string_view text) {
    auto quoted = arke::detail::printable(text, 200);
    return quoted.size() == text.size() + 2 ? std::string{text} : quoted;
}

/// Whether a comma-separated list names this token, whatever its case.
inline bool names_token(std::string_view list, std::string_view token) {
    for (;;) {
        const auto comma = list.find(',');
        if (wire::same_ignoring_case(wire::trimmed(list.substr(0, comma)), token)) return true;
        if (comma == list.npos) return false;
        list.remove_prefix(comma + 1);
    }
}

}  // namespace detail

ARKE_COLD_INLINE std::string random_key() {
    std::random_device random;
    std::string bytes;
    for (int i = 0; i != 4; ++i) {
        const auto word = random();
        for (int shift = 0; shift != 32; shift += 8) bytes += static_cast<char>(word >> shift & 0xFFU);
    }
    return wire::base64(bytes);
}

ARKE_COLD_INLINE std::string upgrade_request(std::string_view host, std::string_view target, std::string_view key,
                                             const std::vector<std::string>& subprotocols, const header_fields& extra,
                                             const std::optional<wire::deflate_terms>& deflate) {
    std::string text = "GET ";
    text.append(target).append(" HTTP/1.1\r\nHost: ").append(host);
    text += "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ";
    text += key;
    for (const auto& name : subprotocols)
        text.append(&name == &subprotocols.front() ? "\r\nSec-WebSocket-Protocol: " : ", ").append(name);
    if (deflate) text += "\r\nSec-WebSocket-Extensions: " + wire::offer_deflate(*deflate);
    for (const auto& [name, value] : extra) text += "\r\n" + name + ": " + value;
    return text + "\r\n\r\n";
}

ARKE_COLD_INLINE std::string connect_request(std::string_view authority, std::string_view credentials) {
    std::string text = "CONNECT ";
    text.append(authority).append(" HTTP/1.1\r\nHost: ").append(authority);
    if (!credentials.empty()) text += "\r\nProxy-Authorization: Basic " + wire::base64(credentials);
    return text + "\r\n\r\n";
}

ARKE_COLD_INLINE std::string find_header_fault(const header_fields& extra) {
    constexpr std::array<std::string_view, 10> own{"Host",
                                                   "Upgrade",
                                                   "Connection",
                                                   "Sec-WebSocket-Version",
                                                   "Sec-WebSocket-Key",
                                                   "Content-Length",
                                                   "Transfer-Encoding",
                                                   "Sec-WebSocket-Extensions",
                                                   "Sec-WebSocket-Protocol",
                                                   "Sec-WebSocket-Accept"};
    for (const auto& [name, value] : extra) {
        if (!wire::is_token(name)) return "the name " + arke::detail::printable(name) + "; use letters, digits and -";
        if (!wire::is_field_value(value)) {
            return "for " + name + " the value " + arke::detail::printable(value) +
                   "; leave out CR, LF and other control characters";
        }
        const auto is_it = [&n = name](std::string_view o) { return wire::same_ignoring_case(o, n); };
        if (std::any_of(own.begin(), own.end(), is_it))
            return name + ", which is the handshake's own; subprotocols have a field of their own";
    }
    return {};
}

ARKE_COLD_INLINE std::vector<std::string_view> reply::values(std::string_view name) const {
    std::vector<std::string_view> all;
    for (const auto& [n, value] : fields) {
        if (wire::same_ignoring_case(n, name)) all.emplace_back(value);
    }
    return all;
}

ARKE_COLD_INLINE std::string reply::text() const {
    return std::to_string(status) + (reason.empty() ? "" : " " + detail::shown(reason));
}

ARKE_COLD_INLINE reply_reader::result reply_reader::fail(std::string why) {
    why_ = std::move(why);
    return result::failed;
}

ARKE_COLD_INLINE reply_reader::result reply_reader::feed(std::string_view bytes) {
    if (!why_.empty()) return result::failed;
    in_ += bytes;
    for (;;) {
        constexpr std::string_view version = "HTTP/1.";
        const auto known = std::min(in_.size(), version.size());
        if (std::string_view{in_}.substr(0, known) != version.substr(0, known))
            return fail("what answers is no HTTP/1.1; is that the right port, and does it want TLS (wss://)?");
        const auto end = in_.find("\r\n\r\n", scanned_);
        const auto size = interim_ + (end == in_.npos ? in_.size() : end + 4);
        if (size > max_bytes_) {
            return fail("the headers of the answer are longer than max_header_bytes (" + std::to_string(max_bytes_) +
                        ")");
        }
        if (end == in_.npos) {
            scanned_ = in_.size() < 3 ? 0 : in_.size() - 3;
            return result::more;
        }
        const auto block = in_.substr(0, end + 4);
        in_.erase(0, end + 4);
        scanned_ = 0;
        if (!parse(block)) return result::failed;
        if (reply_.status >= 200 || reply_.status == 101) return result::complete;
        interim_ += block.size();
    }
}

ARKE_COLD_INLINE bool reply_reader::parse(std::string_view block) {
    boost::beast::http::response_parser<boost::beast::http::empty_body> parser;
    parser.header_limit(static_cast<std::uint32_t>(max_bytes_ + 1));
    parser.skip(true);  // a body is not read: the connection ends instead
    boost::system::error_code ec;
    parser.put(boost::asio::buffer(block.data(), block.size()), ec);
    if (ec && !parser.is_header_done()) {
        fail("what answers is no HTTP/1.1: " + ec.message());
        return false;
    }
    const auto& head = parser.get();
    reply_ = {static_cast<int>(head.result_int()), {head.reason().data(), head.reason().size()}, {}};
    for (const auto& f : head) {
        reply_.fields.emplace_back(std::string{f.name_string().data(), f.name_string().size()},
                                   std::string{f.value().data(), f.value().size()});
    }
    if (reply_.fields.size() <= max_fields_) return true;
    fail("the answer has more headers than max_header_fields (" + std::to_string(max_fields_) + ")");
    return false;
}

ARKE_COLD_INLINE std::string find_upgrade_fault(const reply& answer, std::string_view key,
                                                const std::vector<std::string>& offered,
                                                std::optional<std::string>& chosen,
                                                std::optional<wire::deflate_terms>& deflate) {
    chosen.reset();
    const auto deflate_offer = std::exchange(deflate, std::nullopt);
    if (answer.status != 101) {
        const auto first = [&](std::string_view name) {
            const auto all = answer.values(name);
            return all.empty() ? std::string{} : detail::shown(all.front());
        };
        const auto begin = "the server answered " + answer.text();
        switch (answer.status) {
            case 301:
            case 302:
            case 303:
            case 307:
            case 308:
                return begin + " and points to " + first("Location") +
                       "; redirects are not followed: connect to that address";
            case 400: return begin + ": it does not understand the request; is it a WebSocket server?";
            case 401: return begin + ": it wants to know who you are; send a header such as Authorization";
            case 403: return begin + ": it does not let you in; check Origin and what else the headers say about you";
            case 404: return begin + ": there is no WebSocket at this path; check the path of the URL";
            case 426: return begin + ": it wants another protocol; is it a WebSocket server of version 13?";
            case 429:
            case 503: return begin + ": it takes no more connections for now; try again later";
            default: break;
        }
        if (answer.status < 300) return begin + " and no 101: it took the request for one of a page; check the path";
        return begin + " instead of accepting the WebSocket";
    }
    const auto names = [&](std::string_view field, std::string_view token) {
        const auto all = answer.values(field);
        return std::any_of(all.begin(), all.end(), [&](auto list) { return detail::names_token(list, token); });
    };
    constexpr std::string_view mend = "; it is no WebSocket server, or something between has changed its answer";
    if (!names("Upgrade", "websocket"))
        return "the server's 101 does not say \"Upgrade: websocket\"" + std::string{mend};
    if (!names("Connection", "upgrade"))
        return "the server's 101 does not say \"Connection: Upgrade\"" + std::string{mend};
    const auto accept = answer.values("Sec-WebSocket-Accept");
    if (accept.size() != 1 || accept.front() != wire::accept_key(key))
        return "the Sec-WebSocket-Accept of the server is not that of our key" + std::string{mend};
    const auto extensions = answer.values("Sec-WebSocket-Extensions");
    if (deflate_offer) {
        if (auto why = wire::find_deflate_fault(extensions, *deflate_offer, deflate); !why.empty()) return why;
    } else {
        for (const auto extension : extensions) {
            if (extension.empty()) continue;
            return "the server has chosen the extension " + detail::shown(extension) + ", which was not offered";
        }
    }
    const auto protocols = answer.values("Sec-WebSocket-Protocol");
    if (protocols.empty()) return {};
    if (protocols.size() != 1 || std::find(offered.begin(), offered.end(), protocols.front()) == offered.end()) {
        return "the server has chosen the subprotocol " + detail::shown(protocols.front()) +
               ", which was not offered; add it to subprotocols where it is meant";
    }
    chosen = protocols.front();
    return {};
}

ARKE_COLD_INLINE std::string find_tunnel_fault(const reply& answer) {
    if (answer.status >= 200 && answer.status < 300) return {};
    const auto begin = "the proxy answered " + answer.text();
    if (answer.status == 407) return begin + ": it wants a user and a password; write http://user:password@host:port";
    return begin + ": it does not let us through to the server";
}

}  // namespace arke::http
