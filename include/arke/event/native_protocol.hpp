#pragma once

#include <arke/event/protocol.hpp>

namespace arke {

/// No protocol at all: every message is native, and there are no events. config::native_by_default.
class native_protocol final : public protocol {
public:
    std::string_view name() const noexcept override { return {}; }
    void receive(protocol_user& user, const message_view& message) const override { user.on_native(message); }

private:
    std::optional<form> measure_event(const outgoing&, std::string& why) const override {
        why = "this client takes native messages only, and hears no events";
        return std::nullopt;
    }
    void write_event(char*, const outgoing&) const noexcept override {}
};

}  // namespace arke
