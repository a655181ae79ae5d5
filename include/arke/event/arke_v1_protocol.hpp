#pragma once

#include <arke/base/compile.hpp>
#include <arke/event/protocol.hpp>

namespace arke {

/// The protocol of Arke's own clients: events, requests in both directions, native messages. The grammar is in arke_v1.hpp.
class arke_v1_protocol final : public protocol {
public:
    arke_v1_protocol() : protocol{"m"} {}

    std::string_view name() const noexcept override { return "arke.v1"; }
    void receive(protocol_user& user, const message_view& message) const override;

private:
    std::optional<form> measure_event(const outgoing& out, std::string& why) const override;
    void write_event(char* to, const outgoing& out) const noexcept override;
};

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/event/arke_v1_protocol.ipp>
#endif
