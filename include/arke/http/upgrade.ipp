#pragma once

#include <arke/http/upgrade.hpp>

#include <cstddef>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace arke::http {

ARKE_COLD_INLINE std::optional<wire::http_refusal> handshake::check() {
    const auto& settings = to_->settings();
    if (auto refusal = wire::check_upgrade(asked_)) return refusal;
    const bool welcome = settings.check_origin ? settings.check_origin(asked_)
                                               : wire::same_origin(asked_) ||
                                                     wire::origin_listed(asked_.header("Origin"), settings.origins);
    if (!welcome) return wire::refuse_http(403, "Pages of this origin may not connect here.");

    // Names of protocols first, then those that the application only wants to be agreed on.
    std::vector<std::string_view> supported;
    for (std::size_t i = 0; i != to_->protocol_count(); ++i) {
        if (!to_->protocol_at(i).name().empty()) supported.push_back(to_->protocol_at(i).name());
    }
    supported.insert(supported.end(), settings.subprotocols.begin(), settings.subprotocols.end());
    subprotocol_ = wire::choose_subprotocol(asked_.header_values("Sec-WebSocket-Protocol"), supported);
    return std::nullopt;
}

ARKE_COLD_INLINE core::peer_ptr handshake::make(core::loop& on, upgrade* agreed) {
    const auto& settings = to_->settings();
    std::string id = agreed != nullptr ? agreed->id() : std::string{};
    if (id.empty() && settings.id_generator) id = settings.id_generator(asked_);
    if (id.empty()) id = to_->make_id();
    if (!wire::is_utf8(id)) throw std::runtime_error{"id_generator returned an id that is not UTF-8"};
    if (agreed != nullptr) subprotocol_ = agreed->subprotocol();
    std::size_t protocol = 0;
    for (std::size_t i = 0; subprotocol_ && i != to_->protocol_count(); ++i) {
        if (to_->protocol_at(i).name() == *subprotocol_) protocol = i;
    }
    deflate_ = to_->accept_deflate(asked_.header_values("Sec-WebSocket-Extensions"));
    const auto answer = greeting(agreed);
    auto made =
        to_->make(on, std::move(id), protocol, std::move(asked_), agreed != nullptr ? agreed->own_session() : nullptr);
    made->greet(answer);
    if (deflate_) made->use_deflate(deflate_->terms);
    return made;
}

ARKE_COLD_INLINE std::string handshake::greeting(const upgrade* agreed) const {
    std::string text =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    text += wire::accept_key(asked_.header("Sec-WebSocket-Key"));
    if (subprotocol_) text += "\r\nSec-WebSocket-Protocol: " + *subprotocol_;
    if (deflate_) text += "\r\nSec-WebSocket-Extensions: " + deflate_->header;
    for (const auto& [name, value] : to_->settings().headers) text += "\r\n" + name + ": " + value;
    if (agreed != nullptr) {
        for (const auto& [name, value] : agreed->headers()) text += "\r\n" + name + ": " + value;
    }
    return text + "\r\n\r\n";
}

}  // namespace arke::http
