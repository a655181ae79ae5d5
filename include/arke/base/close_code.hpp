#pragma once

#include <cstdint>

namespace arke {

/// Why a WebSocket connection ended (RFC 6455 §7.4.1). Any value from 3000 to 4999 may be cast to it: those belong to
/// libraries and applications.
enum class close_code : std::uint16_t {
    normal = 1000,            ///< The purpose is fulfilled.
    going_away = 1001,        ///< The server stops, or the browser leaves the page.
    protocol_error = 1002,    ///< The peer broke the framing rules.
    unsupported_data = 1003,  ///< A kind of message that the endpoint does not take.
    no_status = 1005,         ///< The peer's close frame held no code. Never on the wire.
    abnormal = 1006,          ///< The connection broke without a close frame, or a deadline cut it. Never on the wire.
    invalid_payload = 1007,   ///< Text that is not UTF-8.
    policy_violation = 1008,  ///< A bound was passed that has no code of its own.
    message_too_big = 1009,   ///< A message over config::max_message_size.
    internal_error = 1011,    ///< The server failed, not the peer.
    try_again_later = 1013,   ///< The outbox was full: the peer reads too slowly for what it asked to hear.
};

/// Whether a close frame may carry this code (RFC 6455 §7.4: 1004, 1005, 1006 and 1015 may not; 3000 to 4999 may).
constexpr bool may_be_sent(close_code code) noexcept {
    const auto value = static_cast<std::uint16_t>(code);
    return (value >= 1000 && value <= 1003) || (value >= 1007 && value <= 1014) || (value >= 3000 && value <= 4999);
}

}  // namespace arke
