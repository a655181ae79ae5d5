#pragma once

#include <arke/core/endpoint.hpp>
#include <arke/http/upgrade_call.hpp>
#include <arke/wire/deflate.hpp>
#include <arke/wire/handshake.hpp>

#include <optional>
#include <string>
#include <utility>

namespace arke::http {

/// A request on its way to become a connection: what is decided about it, and in which order.
///
///     check()     is it an upgrade, may its page connect, which subprotocol
///     on_upgrade  where there is a handler: whatever it likes, see arke::upgrade
///     make()      the id, compression or not, the peer, and the answer that the peer begins with
///
/// What config's functions throw comes through. On the loop, in a turn.
class handshake {
public:
    handshake(core::endpoint& to, request asked) : to_{&to}, asked_{std::move(asked)} {}

    core::endpoint& to() const noexcept { return *to_; }

    /// Why there will be no connection; nullopt when there may be one.
    std::optional<wire::http_refusal> check();

    /// What is asked of on_upgrade(); null where nobody is.
    upgrade_ptr ask(core::loop& on, upgrade_handler& handler, upgrade::settled then) const {
        return handler.make(on, asked_, subprotocol_, std::move(then));
    }

    /// After check(), once. The peer still has to be admitted. `agreed`: what on_upgrade() has made of it.
    core::peer_ptr make(core::loop& on, upgrade* agreed = nullptr);

private:
    std::string greeting(const upgrade* agreed) const;

    core::endpoint_ptr to_;
    request asked_;
    std::optional<std::string> subprotocol_;
    std::optional<wire::deflate_answer> deflate_;
};

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/upgrade.ipp>
#endif
