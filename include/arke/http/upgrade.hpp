#pragma once

#include <arke/core/endpoint.hpp>
#include <arke/wire/handshake.hpp>

#include <cstddef>
#include <optional>
#include <string>

namespace arke::http {

/// A request on its way to become a connection: what is decided about it, and in which order.
///
///     check()     is it an upgrade, may its page connect, which subprotocol
///     make()      the id, the peer, and the answer that the peer begins with
///
/// What config's functions throw comes through. On the loop, in a turn.
class upgrade {
public:
    /// Both outlive it.
    upgrade(core::endpoint& to, const request& asked) : to_{to}, asked_{asked} {}

    /// Why there will be no connection; nullopt when there may be one.
    std::optional<wire::http_refusal> check();

    /// After check(). The peer still has to be admitted.
    core::peer_ptr make(core::loop& on) const;

private:
    std::string greeting() const;

    core::endpoint& to_;
    const request& asked_;
    std::optional<std::string> subprotocol_;
    std::size_t protocol_ = 0;
};

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/upgrade.ipp>
#endif
