#pragma once

#include <boost/system/error_category.hpp>
#include <boost/system/error_code.hpp>
#include <exception>
#include <string>
#include <string_view>

namespace arke {

using error_code = boost::system::error_code;

/// What can go wrong with a message or a connection without being the program's fault. Remote input never throws into
/// user code; it arrives here.
enum class errc {
    malformed_event = 1,  ///< A frame with the event prefix that does not follow the grammar.
    wrong_type,           ///< The data does not convert to the handler's parameter.
    unhandled_event,      ///< Nobody listens to the event. Counted; reported only where on_error is set.
    handler_threw,        ///< A handler left by an exception. The connection stays open.
    not_deliverable,      ///< The receiver's protocol cannot carry this event.
    frame_violation,      ///< The peer broke the framing rules (close 1002, 1007, 1008).
    message_too_big,      ///< A message over config::max_message_size (close 1009).
    outbox_full,          ///< More waits for the peer than config::max_outbox_bytes, or it is among those for whom most
                          ///< waits at listener_config::max_total_outbox_bytes (close 1013).
    pong_timeout,         ///< Nothing was heard for config::pong_timeout.
    write_timeout,        ///< The peer took no byte for config::write_timeout.
    close_timeout,        ///< The peer did not answer our close frame in time.
    replaced,             ///< Another connection took over this id (config::on_duplicate_id).
    name_taken,           ///< A room name that is another connection's id.
    too_many_rooms,       ///< A join over config::max_rooms or max_room_name_bytes.
    out_of_memory,        ///< No memory for something of this connection (close 1011, where that can still be said).
    refused,              ///< The peer's application refuses to answer.
    ask_timeout,          ///< No answer came in time.
    disconnected,         ///< The connection ended before the answer came, or was not there.
    bad_answer,           ///< The answer does not convert to the type that was asked for.
    too_many_requests,    ///< More requests are open, or more coroutine handlers run, than config::max_requests.
    connect_timeout,      ///< A client had no connection within client_config::connect_timeout.
    handshake_refused,    ///< The server, or the proxy, did not accept a client's WebSocket.
    queue_full,           ///< More waits for a client's connection than client_config::max_queue or max_queue_bytes.
    message_timeout,      ///< A message took longer than config::message_timeout (close 1008).
    flooded,  ///< The peer said more than config::max_messages_per_second or max_bytes_per_second allow (close 1008).
    tls_failed,     ///< The server is not who it should be, or TLS came to nothing for another reason.
    messages_full,  ///< With this one, all messages that are not whole would pass listener_config::max_total_message_bytes
                    ///< (close 1013).
};

namespace detail {

class arke_category final : public boost::system::error_category {
public:
    const char* name() const noexcept override { return "arke"; }

    std::string message(int value) const override {
        switch (static_cast<errc>(value)) {
            case errc::malformed_event: return "the frame has the event prefix but not its form";
            case errc::wrong_type: return "the data does not convert to the handler's type";
            case errc::unhandled_event: return "nobody listens to this event";
            case errc::handler_threw: return "a handler threw";
            case errc::not_deliverable: return "the receiver's protocol cannot carry this event";
            case errc::frame_violation: return "the peer broke the WebSocket framing rules";
            case errc::message_too_big: return "the message is larger than max_message_size";
            case errc::outbox_full: return "more waits for the peer than may";
            case errc::pong_timeout: return "nothing was heard from the peer for pong_timeout";
            case errc::write_timeout: return "the peer took no byte for write_timeout";
            case errc::close_timeout: return "the peer did not answer the close frame";
            case errc::replaced: return "another connection took over this id";
            case errc::name_taken: return "the room name is another connection's id";
            case errc::too_many_rooms:
                return "the connection is in all the rooms that max_rooms and max_room_name_bytes allow";
            case errc::out_of_memory: return "there was no memory for something of this connection";
            case errc::refused: return "the peer refuses to answer";
            case errc::ask_timeout: return "no answer came in time";
            case errc::disconnected: return "the connection ended before the answer came";
            case errc::bad_answer: return "the answer does not convert to the type that was asked for";
            case errc::too_many_requests: return "more requests are open than max_requests";
            case errc::connect_timeout: return "there was no connection within connect_timeout";
            case errc::handshake_refused: return "the server did not accept the WebSocket";
            case errc::queue_full: return "more waits for the connection than may";
            case errc::message_timeout: return "the message took longer than message_timeout";
            case errc::flooded: return "the peer says more in a second than it may";
            case errc::tls_failed: return "TLS failed";
            case errc::messages_full: return "more messages are coming in parts than may";
        }
        return "unknown";
    }
};

}  // namespace detail

inline const boost::system::error_category& category() noexcept {
    static const detail::arke_category instance;
    return instance;
}

inline error_code make_error_code(errc value) noexcept { return {static_cast<int>(value), category()}; }

/// What on_error hears. The views live for the call only.
struct error_report {
    error_code code;                 ///< What went wrong.
    std::string_view event;          ///< The event it happened in, or empty.
    std::string_view detail;         ///< One sentence for a person; may quote the exception's what().
    std::exception_ptr exception{};  ///< The exception, for errc::handler_threw.
};

}  // namespace arke

namespace boost::system {
template <>
struct is_error_code_enum<arke::errc> : std::true_type {};
}  // namespace boost::system
