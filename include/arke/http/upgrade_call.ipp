#pragma once

#include <arke/http/upgrade_call.hpp>
#include <arke/wire/handshake.hpp>
#include <arke/wire/utf8.hpp>

#include <algorithm>
#include <stdexcept>

namespace arke {

ARKE_COLD_INLINE std::vector<std::string> upgrade::subprotocols() const {
    std::vector<std::string> offered;
    for (auto list : request_.header_values("Sec-WebSocket-Protocol")) {
        for (bool last = false; !last;) {
            const auto comma = list.find(',');
            last = comma == list.npos;
            const auto name = wire::trimmed(list.substr(0, comma));
            if (wire::is_token(name)) offered.emplace_back(name);
            if (!last) list.remove_prefix(comma + 1);
        }
    }
    return offered;
}

ARKE_COLD_INLINE void upgrade::choose(std::string_view name) {
    const auto offered = subprotocols();
    if (std::find(offered.begin(), offered.end(), name) == offered.end()) {
        throw std::invalid_argument{"arke: upgrade::choose(): the client does not offer " + detail::printable(name) +
                                    ", and would end the connection; choose one of subprotocols()"};
    }
    subprotocol_ = name;
}

ARKE_COLD_INLINE void upgrade::set_id(std::string id) {
    if (id.empty() || !wire::is_utf8(id)) {
        throw std::invalid_argument{"arke: upgrade::set_id(): " + detail::printable(id) +
                                    " is no id; give a text in UTF-8 that is not empty"};
    }
    id_ = std::move(id);
}

ARKE_COLD_INLINE void upgrade::add_header(std::string_view name, std::string_view value) {
    detail::check_header("upgrade::add_header()", name, value);
    if (constexpr std::string_view ours = "sec-websocket-";
        wire::same_ignoring_case(name.substr(0, ours.size()), ours)) {
        throw std::invalid_argument{"arke: upgrade::add_header(): " + std::string{name} +
                                    " is the server's to set; leave it out, and choose() a subprotocol"};
    }
    headers_.emplace_back(name, value);
}

ARKE_COLD_INLINE void upgrade::cookie(std::string_view name, std::string_view value, const cookie_options& how) {
    add_header("Set-Cookie", detail::cookie_text(name, value, how));
}

}  // namespace arke
