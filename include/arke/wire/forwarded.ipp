#pragma once

#include <arke/wire/forwarded.hpp>
#include <arke/wire/handshake.hpp>
#include <arke/wire/request.hpp>

#include <utility>

namespace arke::wire {

ARKE_COLD_INLINE std::optional<forwarded_node> parse_node(std::string_view text) noexcept {
    forwarded_node found;
    auto address = text;
    std::string_view port;
    bool has_port = false;
    if (text.starts_with('[')) {
        const auto end = text.find(']');
        if (end == text.npos) return std::nullopt;
        address = text.substr(1, end - 1);
        if (address.find(':') == address.npos) return std::nullopt;
        port = text.substr(end + 1);
        has_port = !port.empty();
        if (has_port && !port.starts_with(':')) return std::nullopt;
    } else if (const auto colon = text.find(':'); colon != text.npos && text.find(':', colon + 1) == text.npos) {
        // One colon only: of IPv4 the port's.
        address = text.substr(0, colon);
        port = text.substr(colon);
        has_port = true;
    }
    const auto ip = parse_ip(address);
    if (!ip) return std::nullopt;
    found.address = *ip;
    if (!has_port) return found;
    port.remove_prefix(1);
    unsigned value = 0;
    auto rest = port;
    if (detail::take_number(rest, 10, 5, true, value) && rest.empty()) {
        if (value > 65'535) return std::nullopt;
        found.port = static_cast<std::uint16_t>(value);
        return found;
    }
    // A port may be hidden behind a name too (RFC 7239 §6).
    if (port.size() < 2 || port.front() != '_') return std::nullopt;
    return found;
}

ARKE_COLD_INLINE std::vector<std::string> x_forwarded_nodes(const std::vector<std::string_view>& headers) {
    std::vector<std::string> nodes;
    for (auto rest : headers) {
        for (;;) {
            const auto part = rest.substr(0, rest.find(','));
            if (const auto node = trimmed(part); !node.empty()) nodes.emplace_back(node);
            if (part.size() == rest.size()) break;
            rest.remove_prefix(part.size() + 1);
        }
    }
    return nodes;
}

namespace detail {

/// One pair of an element. False: it is none.
ARKE_COLD_INLINE bool take_pair(std::string_view& text, std::string_view& name, std::string& value) {
    const auto skip = [&] { text = text.substr(std::min(text.find_first_not_of(" \t"), text.size())); };
    const auto equals = text.find('=');
    if (equals == text.npos) return false;
    name = text.substr(0, equals);
    if (!is_token(name)) return false;
    text.remove_prefix(equals + 1);
    value.clear();
    if (!text.starts_with('"')) {
        const auto end = std::min(text.find_first_of(",; \t"), text.size());
        value = text.substr(0, end);
        text.remove_prefix(end);
        skip();
        // Quotes are required around colons and brackets, and often left out.
        return !value.empty() && value.find_first_of("\"\\=") == value.npos;
    }
    text.remove_prefix(1);
    while (!text.empty() && text.front() != '"') {
        if (text.front() == '\\') text.remove_prefix(1);
        if (text.empty()) return false;
        value += text.front();
        text.remove_prefix(1);
    }
    if (text.empty()) return false;
    text.remove_prefix(1);
    skip();
    return true;
}

}  // namespace detail

ARKE_COLD_INLINE std::vector<std::string> forwarded_nodes(const std::vector<std::string_view>& headers) {
    std::vector<std::string> nodes;
    for (auto rest : headers) {
        rest = trimmed(rest);
        while (!rest.empty()) {
            std::string node;
            bool is_told = false;
            bool is_sound = true;
            bool is_empty = true;
            for (;;) {
                rest = rest.substr(std::min(rest.find_first_not_of(" \t"), rest.size()));
                if (rest.empty() || rest.front() == ',') break;  // an empty element, or a ';' at its end
                is_empty = false;
                std::string_view name;
                std::string value;
                if (!detail::take_pair(rest, name, value)) {
                    is_sound = false;
                    break;
                }
                if (same_ignoring_case(name, "for")) {
                    is_sound = is_sound && !std::exchange(is_told, true);
                    node = std::move(value);
                }
                if (!rest.starts_with(';')) break;
                rest.remove_prefix(1);
            }
            if (!rest.empty() && !rest.starts_with(',')) is_sound = false;
            // Where it ends, and so what stands behind it, cannot be told: none of this header counts.
            if (!is_sound) {
                nodes.emplace_back();
                break;
            }
            // Without a "for" it stays empty: who was before this proxy nobody knows.
            if (!is_empty) nodes.push_back(std::move(node));
            if (!rest.empty()) rest.remove_prefix(1);
        }
    }
    return nodes;
}

ARKE_COLD_INLINE forwarded_client client_of(forwarded_client last, const std::vector<std::string>& nodes,
                                            const network_list& trusted) {
    for (auto node = nodes.rbegin(); node != nodes.rend() && trusted.contains(std::string_view{last.address}); ++node) {
        const auto told = parse_node(*node);
        if (!told) break;
        last = {told->address.text(), told->port};
    }
    return last;
}

}  // namespace arke::wire
