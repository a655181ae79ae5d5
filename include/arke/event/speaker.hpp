#pragma once

#include <arke/base/bytes.hpp>
#include <arke/base/close_code.hpp>
#include <arke/event/outgoing.hpp>
#include <arke/event/value.hpp>
#include <arke/wire/utf8.hpp>

#include <stdexcept>
#include <string>
#include <string_view>

namespace arke {

namespace detail {

/// Whether bytes go as a text message (config::binary_messages off), which they must then be fit for.
inline outgoing native_bytes(bool binary_messages, bytes_view data) {
    const auto view = as_text(data);
    if (binary_messages) return outgoing::native(false, view);
    if (!wire::is_utf8(view)) {
        throw std::invalid_argument{
            "emit_message(bytes): the bytes are not UTF-8 and binary_messages is off, so they would leave as text; set "
            "config::binary_messages, or pass arke::message_view{data, false}"};
    }
    return outgoing::native(true, view);
}

/// Refuses what a close frame cannot carry.
inline void check_close(close_code code, std::string_view reason) {
    if (!may_be_sent(code)) {
        throw std::invalid_argument{"disconnect(): " + std::to_string(static_cast<unsigned>(code)) +
                                    " may not be sent; use close_code::normal or a number from 3000 to 4999"};
    }
    if (!wire::is_utf8(reason)) throw std::invalid_argument{"disconnect(): the reason is not UTF-8"};
}

inline outgoing native_text(std::string_view text) {
    if (!wire::is_utf8(text)) {
        throw std::invalid_argument{"emit_message(text): the text is not UTF-8; pass arke::bytes for binary data"};
    }
    return outgoing::native(true, text);
}

}  // namespace detail

/// What everything has that speaks to one or many: the emit family.
template <class Derived>
class speaker {
public:
    /// Queues one event for everyone this names. The value is serialised here, once; all receivers share the bytes.
    ///
    /// The same types as a handler takes, and text of any kind. Queued is not received: a peer that reads too slowly is closed at
    /// config::max_outbox_bytes. After the disconnect, and in an empty room: no effect. In a cluster, those of other servers hear it at
    /// most once, and not for certain: see server::cluster().
    ///
    /// Throws std::invalid_argument for text that is not UTF-8 and for a name that is empty or that the protocol cannot carry (of
    /// many receivers: that none of the endpoint's protocols can); then nobody gets it.
    template <class T>
    void emit(std::string_view event, const T& value) const {
        const auto encoded = encode_value(value);
        self().deliver(outgoing::of({event, encoded.kind(), encoded.data()}));
    }
    void emit(std::string_view event) const { self().deliver(outgoing::of({event, value_kind::nothing, {}})); }

    /// The same, but not for those who read so slowly that something waits for them already: what is stale at once (a
    /// position, a level) is better missed than late.
    template <class T>
    void emit_volatile(std::string_view event, const T& value) const {
        const auto encoded = encode_value(value);
        self().deliver(outgoing::of({event, encoded.kind(), encoded.data()}, urgency::now_or_never));
    }

    /// The same, where only the latest counts: an earlier one of the same event and key that still waits for a slow reader is
    /// taken back, and this one waits at the end. Who keeps up hears every one.
    template <class T>
    void emit_latest(std::string_view event, const T& value, std::string_view key = {}) const {
        const auto encoded = encode_value(value);
        self().deliver(outgoing::of({event, encoded.kind(), encoded.data()}, urgency::latest_only, key));
    }

private:
    const Derived& self() const noexcept { return static_cast<const Derived&>(*this); }

protected:
    speaker() = default;
    friend bool operator==(const speaker&, const speaker&) = default;
};

}  // namespace arke
