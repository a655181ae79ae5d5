#pragma once

#include <arke/event/event_view.hpp>
#include <arke/wire/frame.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace arke {

struct answer_sink;

/// What a protocol keeps for one connection, when it needs to keep anything.
class protocol_state {
public:
    virtual ~protocol_state() = default;
};

/// The connection as its protocol sees it.
class protocol_user {
public:
    virtual void on_event(const event_view& event, answer_sink* asked) = 0;
    virtual void on_native(const message_view& message) = 0;
    virtual void on_malformed(std::string_view why) = 0;

    /// Sends a message of the protocol's own: an answer, an acknowledgement, a heartbeat.
    virtual void send_message(bool is_text, std::string_view data) = 0;

    /// The protocol's own state of this connection; empty until the protocol fills it.
    virtual std::unique_ptr<protocol_state>& state() noexcept = 0;

protected:
    ~protocol_user() = default;
};

/// How events become messages, chosen for each connection at its upgrade.
///
/// One object serves all connections of an endpoint, on all threads, so it holds nothing that changes. It is more than a
/// pair of encode and decode: protocols with handshakes or heartbeats inside the payload answer for themselves, through
/// protocol_user.
class protocol {
public:
    virtual ~protocol() = default;

    /// The subprotocol of the handshake that chooses this protocol. Empty: chosen where the client offers none.
    virtual std::string_view name() const noexcept = 0;

    /// A connection has been accepted; whatever the protocol sends now comes before anything else.
    virtual void opened(protocol_user&) const {}

    /// Every message of the peer comes here first.
    virtual void receive(protocol_user& user, const message_view& message) const = 0;

    struct form {
        wire::opcode code;
        std::size_t size;
    };

    /// The size of the message that would carry this event; nothing, and a sentence, when the protocol cannot carry it.
    virtual std::optional<form> measure(const event_view& event, std::string& why) const = 0;

    /// Writes exactly as many bytes as measure() said.
    virtual void write(char* out, const event_view& event) const noexcept = 0;
};

}  // namespace arke
