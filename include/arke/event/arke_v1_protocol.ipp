#pragma once

#include <arke/event/arke_v1.hpp>
#include <arke/event/arke_v1_protocol.hpp>

#include <array>

namespace arke {

namespace detail {

inline constexpr std::array<std::string_view, 5> refusal_words{"refused", "unhandled", "wrong-type", "failed", "busy"};

inline refusal_reason reason_of(std::string_view word) noexcept {
    for (std::size_t i = 0; i != refusal_words.size(); ++i) {
        if (refusal_words[i] == word) return static_cast<refusal_reason>(i);
    }
    return refusal_reason::refused;
}

inline event::v1_message v1_of(const outgoing& out) noexcept {
    switch (out.is) {
        case outgoing::what::request: return {event::v1_kind::request, out.id, out.event};
        case outgoing::what::join: return {event::v1_kind::join, out.id, {out.event.name, value_kind::text, {}}};
        case outgoing::what::leave: return {event::v1_kind::leave, out.id, {out.event.name, value_kind::text, {}}};
        case outgoing::what::answer: return {event::v1_kind::answer, out.id, {{}, out.event.kind, out.event.data}};
        case outgoing::what::refusal:
            return {event::v1_kind::refusal,
                    out.id,
                    {refusal_words[static_cast<std::size_t>(out.reason)], value_kind::text, out.event.data}};
        default: return {event::v1_kind::event, 0, out.event};
    }
}

}  // namespace detail

ARKE_INLINE void arke_v1_protocol::receive(protocol_user& user, const message_view& message) const {
    std::string unescaped;
    std::string why;
    const auto m = event::parse_v1(message.data, message.is_text, unescaped, why);
    switch (m.kind) {
        case event::v1_kind::event: return user.on_event(m.event);
        case event::v1_kind::request: return user.on_request(m.id, m.event);
        case event::v1_kind::answer: return user.on_answer(m.id, m.event);
        case event::v1_kind::refusal: return user.on_refusal(m.id, detail::reason_of(m.event.name), m.event.data);
        case event::v1_kind::join: return user.on_join_request(m.id, m.event.name);
        case event::v1_kind::leave: return user.on_leave_request(m.id, m.event.name);
        case event::v1_kind::probe: return user.send_as_is(true, "q");
        case event::v1_kind::presence: return;
        case event::v1_kind::native: return user.on_native({m.event.data, message.is_text});
        case event::v1_kind::unknown: return user.on_unknown();
        case event::v1_kind::malformed: return user.on_malformed(why);
    }
}

ARKE_INLINE std::optional<protocol::form> arke_v1_protocol::measure_event(const outgoing& out, std::string& why) const {
    if (out.is == outgoing::what::event || out.is == outgoing::what::request) {
        // Nearly every name is ASCII.
        unsigned not_plain = out.event.name.empty() ? 1 : 0;
        for (const char c : out.event.name) not_plain |= static_cast<unsigned char>(c) & 0x80U;
        if (not_plain != 0 && !event::v1_can_carry(out.event.name, why)) return std::nullopt;
    }
    const bool is_binary = out.is != outgoing::what::refusal && out.event.kind == value_kind::binary;
    return form{is_binary ? wire::opcode::binary : wire::opcode::text, event::v1_size(detail::v1_of(out))};
}

ARKE_INLINE void arke_v1_protocol::write_event(char* to, const outgoing& out) const noexcept {
    event::write_v1(to, detail::v1_of(out));
}

}  // namespace arke
