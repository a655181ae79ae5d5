#pragma once

#include <arke/event/event_view.hpp>

#include <cstdint>
#include <string_view>

namespace arke {

/// What becomes of an event where others wait before it for the same peer.
enum class urgency : std::uint8_t {
    normal,        ///< It waits too.
    now_or_never,  ///< It is dropped: emit_volatile().
    latest_only,   ///< It waits until a newer one of the same key comes: emit_latest().
};

/// Why there is no answer. The words stand on the wire: arke_v1.hpp.
enum class refusal_reason : std::uint8_t {
    refused,     ///< The application says no: arke::refuse(), or on_join().
    unhandled,   ///< Nobody answers this event.
    wrong_type,  ///< The data does not convert to what the handler takes.
    failed,      ///< The handler threw.
    busy,        ///< Too many requests are open.
};

/// What somebody wants to say, not yet in the words of any protocol. Views only.
struct outgoing {
    enum class what : std::uint8_t { event, request, join, leave, answer, refusal, text, binary };

    what is = what::event;
    urgency how = urgency::normal;
    refusal_reason reason = refusal_reason::refused;
    std::uint32_t id = 0;    ///< Of a request, and of what answers it.
    event_view event{};      ///< The name of a join or leave is the room; the data of a refusal is its text.
    std::string_view key{};  ///< With urgency::latest_only, beside the event's name.

    static outgoing of(const event_view& e, urgency how = urgency::normal, std::string_view key = {}) noexcept {
        return {what::event, how, {}, 0, e, key};
    }
    static outgoing native(bool is_text, std::string_view data) noexcept {
        return {is_text ? what::text : what::binary, {}, {}, 0, {{}, {}, data}, {}};
    }
    static outgoing request(std::uint32_t id, const event_view& e) noexcept {
        return {what::request, {}, {}, id, e, {}};
    }
    static outgoing join(std::string_view room) noexcept { return {what::join, {}, {}, 0, {room, {}, {}}, {}}; }
    static outgoing leave(std::string_view room) noexcept { return {what::leave, {}, {}, 0, {room, {}, {}}, {}}; }
    static outgoing answer(std::uint32_t id, value_kind kind, std::string_view data) noexcept {
        return {what::answer, {}, {}, id, {{}, kind, data}, {}};
    }
    static outgoing refusal(std::uint32_t id, refusal_reason reason, std::string_view text) noexcept {
        return {what::refusal, {}, reason, id, {{}, {}, text}, {}};
    }

    bool is_native() const noexcept { return is >= what::text; }

    /// Whether it belongs to a request, so that one who waits would miss it.
    bool is_awaited() const noexcept { return is == what::answer || is == what::refusal; }
};

}  // namespace arke
