#pragma once

#include <arke/event/iris.hpp>
#include <arke/event/protocol.hpp>

#include <utility>

namespace arke {

/// The protocol of the pages of 2016: text frames with a prefix, everything else native. The grammar is in iris.hpp.
class iris_protocol final : public protocol {
public:
    explicit iris_protocol(std::string prefix) : prefix_{std::move(prefix)} {}

    std::string_view name() const noexcept override { return {}; }

    void receive(protocol_user& user, const message_view& message) const override {
        // A binary message is never an event: its data would not be known to be UTF-8.
        if (!message.is_text) return user.on_native(message);
        event_view event;
        std::string why;
        switch (event::parse_iris(message.data, prefix_, event, why)) {
            case event::iris_parse::native: return user.on_native(message);
            case event::iris_parse::event: return user.on_event(event);
            case event::iris_parse::malformed: return user.on_malformed(why);
        }
    }

private:
    std::optional<form> measure_event(const outgoing& out, std::string& why) const override {
        if (out.is != outgoing::what::event) {
            why = "this client speaks the protocol of 2016, which has no requests";
            return std::nullopt;
        }
        // Text, numbers and JSON were checked, or made, where they became an event's data; and nearly every name is ASCII.
        const auto& event = out.event;
        unsigned not_plain = event.name.empty() || event.kind == value_kind::binary ? 1 : 0;
        for (const char c : event.name) not_plain |= (c == ';' ? 1U : 0U) | (static_cast<unsigned char>(c) & 0x80U);
        if (not_plain != 0 && !event::iris_can_carry(event, why)) return std::nullopt;
        return form{wire::opcode::text, event::iris_size(prefix_, event)};
    }

    void write_event(char* to, const outgoing& out) const noexcept override {
        event::write_iris(to, prefix_, out.event);
    }

    std::string prefix_;
};

}  // namespace arke
