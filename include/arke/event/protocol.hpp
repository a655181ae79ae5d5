#pragma once

#include <arke/event/event_view.hpp>
#include <arke/event/outgoing.hpp>
#include <arke/wire/frame.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace arke {

/// What a protocol keeps for one connection, when it needs to keep anything.
class protocol_state {
public:
    virtual ~protocol_state() = default;
};

/// The connection as its protocol sees it.
class protocol_user {
public:
    virtual void on_event(const event_view& event) = 0;
    virtual void on_request(std::uint32_t id, const event_view& event) = 0;
    virtual void on_answer(std::uint32_t id, const event_view& answer) = 0;
    virtual void on_refusal(std::uint32_t id, refusal_reason reason, std::string_view text) = 0;
    virtual void on_join_request(std::uint32_t id, std::string_view room) = 0;
    virtual void on_leave_request(std::uint32_t id, std::string_view room) = 0;
    virtual void on_native(const message_view& message) = 0;
    virtual void on_malformed(std::string_view why) = 0;

    /// A message of a kind that a later version of the protocol may know.
    virtual void on_unknown() = 0;

    /// Sends a message of the protocol's own, as it is: an acknowledgement, a heartbeat.
    virtual void send_as_is(bool is_text, std::string_view data) = 0;

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
    /// `native_prefix` is what native messages start with: nothing, where they need not be told from others.
    explicit protocol(std::string_view native_prefix = {}) : native_prefix_{native_prefix} {}
    protocol(const protocol&) = delete;
    protocol& operator=(const protocol&) = delete;
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

    /// The message that would carry this; nothing, and a sentence, when the protocol cannot carry it.
    std::optional<form> measure(const outgoing& out, std::string& why) const {
        if (!out.is_native()) return measure_event(out, why);
        return form{out.is == outgoing::what::text ? wire::opcode::text : wire::opcode::binary,
                    native_prefix_.size() + out.event.data.size()};
    }

    /// Writes its frame: the header, and as many bytes as measure() said.
    void write_frame(char* to, const form& f, const outgoing& out) const noexcept {
        to = wire::write_frame_header(to, f.code, f.size);
        if (!out.is_native()) return write_event(to, out);
        to = std::copy(native_prefix_.begin(), native_prefix_.end(), to);
        if (!out.event.data.empty()) std::memcpy(to, out.event.data.data(), out.event.data.size());
    }

    /// Whether native messages are as the application gives them, so that their frames are the same in all such protocols.
    bool has_bare_natives() const noexcept { return native_prefix_.empty(); }
    bool is_bare(const outgoing& out) const noexcept { return out.is_native() && has_bare_natives(); }

private:
    /// The same for what is no native message.
    virtual std::optional<form> measure_event(const outgoing& out, std::string& why) const = 0;
    virtual void write_event(char* to, const outgoing& out) const noexcept = 0;

    std::string_view native_prefix_;
};

}  // namespace arke
