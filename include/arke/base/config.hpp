#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arke/base/compile.hpp>
#include <arke/base/tls_config.hpp>

namespace arke {

class request;

/// What happens when config::id_generator names an id that is connected already.
enum class duplicate_id {
    refuse,   ///< The newcomer's handshake is answered with 409; the first connection stays.
    replace,  ///< The newcomer gets the id; the first is closed with 1008.
};

/// What happens to an event or native message that does not fit into config::max_outbox_bytes of a peer that reads slowly.
enum class overflow {
    close,  ///< The peer is closed with 1013.
    drop,   ///< The peer misses it; counted in metrics::dropped. What waits already, and control frames, stay.
    coalesce,  ///< Every event is sent as by emit_latest(): of those of one name that wait, the peer gets only the newest. What
               ///< does not fit all the same closes the peer with 1013.
};

/// What happens to a peer that says more than config::max_messages_per_second or max_bytes_per_second.
enum class flood {
    slow,  ///< It is read no faster than that. What it sends meanwhile waits in the kernel, and then in the peer itself.
    close,  ///< It is closed with 1008.
};

/// Which header a proxy of listener_config::trusted_proxies writes the client's address to. One of the two only: a proxy hands the
/// other on as the client wrote it.
enum class forwarded_header {
    x_forwarded_for,  ///< X-Forwarded-For: a list of addresses.
    forwarded,        ///< Forwarded (RFC 7239): the `for` of each element.
};

/// Which implementation of the event loop serves the connections.
enum class loop_kind {
    automatic,  ///< epoll on Linux, portable elsewhere. Not io_uring, which is quicker with many small messages and dearer in
                ///< memory and with large ones.
    epoll,  ///< One nested edge-triggered epoll set for each loop. Linux only.
    io_uring,  ///< One io_uring for each loop. Linux 6.0 or newer, and Arke built with liburing; where one of them is missing,
               ///< or a sandbox refuses, the loop is quietly the one of `epoll`; server::loop() tells. Linux only.
    portable,  ///< Asio's async_wait for each socket. Works wherever Asio does.
};

/// permessage-deflate (RFC 7692): messages that are compressed on the wire. It pays where bytes are dear and messages alike, such
/// as JSON over mobile networks; a message of 1 kB costs some 15 microseconds.
///
/// Memory: without context takeover nothing for a connection, because one inflater and a compressor for each size of message serve a
/// whole loop, with 0.7 MB at most. With it for each connection, from its first such message to its end:
///
///     receive_context_takeover    7 KiB and the window: 39 KiB with 15 bits, 9 KiB with 11
///     send_context_takeover       6 KiB, four windows and 2^(memory_level + 9): 262 KiB with 15 bits and level 8, 22 KiB with 11 and 4
///
/// That is times the connections, idle ones too: with both as they are, a thousand would keep 0.3 GB. What they keep together is bounded
/// by listener_config::max_total_context_bytes; smaller windows let more of them have one.
struct compression_config {
    /// Whether it is agreed on with those who offer it. A client: whether it is offered.
    bool enabled = false;

    /// Messages of fewer bytes go as they are, and so does what would not become shorter. At least 1.
    std::size_t threshold = 256;

    /// Whether what is sent to a peer may refer to what was sent to it before. What many are told together is compressed once, refers
    /// to nothing, and lets what follows begin anew: in rooms it gains nothing.
    bool send_context_takeover = false;

    /// Whether what a peer sends may refer to what it sent before.
    bool receive_context_takeover = false;

    /// How far back compressed bytes may refer, as a power of two: 9 to 15.
    int send_window_bits = 15;
    int receive_window_bits = 15;

    /// 1 is the quickest, 9 the smallest. 6 takes half as long again as 4, and saves another twentieth.
    int level = 4;

    /// How much a compressor gathers before it writes: 1 to 9.
    int memory_level = 8;

    friend bool operator==(const compression_config&, const compression_config&) = default;
};

/// What belongs to the server as a whole: its sockets, its HTTP side, its end. server::endpoint() refuses a config that
/// changes any of it.
struct listener_config {
    /// How long a client may take from the TCP accept to a finished request, and how long an idle keep-alive connection
    /// may wait for its next one. At the bound: 408 where a part of a request has come, and closed. The same time is left to
    /// on_upgrade(), which the client's request waits for: then 503. Greater than zero.
    std::chrono::milliseconds handshake_timeout{10'000};

    /// Bytes of an HTTP request line and headers together. At the bound: 431, or 414 when the target alone is too long.
    std::size_t max_header_bytes = 8 * 1024;

    /// Header fields of an HTTP request. At the bound: 431.
    std::size_t max_header_fields = 100;

    /// Connections at once, those still in their HTTP part included. At the bound: 503 with Retry-After, for which a client has a
    /// second to ask; where 1,024 wait to hear that, more are closed without an answer.
    std::size_t max_connections = 1'000'000;

    /// Connections at once from one address, those in their HTTP part included; 0 is no bound. Behind a proxy all come from
    /// the proxy's address, so it is off by default. Of IPv6 the first 64 bits are one address. At the bound: 429, which up to
    /// eight of an address may wait to hear at once, a second each; more are closed without an answer, before TLS begins. Where it
    /// is set, no address has more than eight of those who hear 503 at max_connections either.
    std::size_t max_connections_per_address = 0;

    /// Bytes that may wait for all peers together, HTTP clients included. At the bound new connections and requests hear 503, and those
    /// who are closing and those for whom most waits are cut (on_disconnect hears 1013), whichever endpoint and loop they are of, until
    /// an eighth of it is free. Each loop cuts its own, between two turns; sizes that differ by less than an eighth are one.
    ///
    /// Counted are messages, as in max_outbox_bytes, and of HTTP what an answer, a part of a file, and requests that wait behind it take
    /// from 4 KiB on. What has left them for the transport is not, as what the kernel has taken is
    /// not: of a TLS connection 32 KiB that are encrypted already, and beside them what TLS has to say itself, 256 KiB at most and
    /// mostly none, and while HTTP requests wait behind one, what has come of them at once, 128 KiB at most; of an adopted stream that is no socket 64 KiB.
    std::size_t max_total_outbox_bytes = 1024UL * 1024 * 1024;

    /// Connections that the kernel may hold for us before accept. The kernel's own limit also applies.
    int backlog = 4096;

    /// Whether a port is shared with other processes by SO_REUSEPORT. Off, because a second server on the port would
    /// then start silently and take half of the clients.
    bool reuse_port = false;

    /// Whether run() ends on SIGINT and SIGTERM as by stop().
    bool stop_on_signals = true;

    /// How long stop() lets peers take what waits for them and answer the close frame, stop_spread included. At the bound: cut.
    std::chrono::milliseconds stop_timeout{5'000};

    /// Over which time stop() tells peers goodbye, one after another, so that they do not all come back at once; those that
    /// have not been told are served as before. Zero: all at once. Less than stop_timeout.
    std::chrono::milliseconds stop_spread{0};

    /// The path where GET answers with server.metrics() as Prometheus reads it. Empty: nowhere. Whoever can ask can read it: let
    /// a proxy keep strangers away.
    std::string metrics_path{};

    /// The receive buffer that all connections of a loop share, in bytes. At least 4 KiB. Of it 128 KiB at most are read at once from
    /// one connection, the rest of a large message apart, and where handlers take long, less; with loop_kind::io_uring, as much is
    /// served at once.
    std::size_t read_buffer_size = 512 * 1024;

    /// What a loop gathers for its connections within a turn before it sends, in bytes. At least 1 KiB. Larger messages
    /// are sent at once without a copy.
    std::size_t write_buffer_size = 16 * 1024;

    /// The implementation of the loops.
    loop_kind loop = loop_kind::automatic;

    /// Bytes of a request's body, which only routes take. One more: 413, before anything is read where a length announces it.
    std::size_t max_body_size = 1024 * 1024;

    /// Bytes of bodies that are coming or being handled, of all requests together. At the bound: 503 with Retry-After.
    std::size_t max_total_body_bytes = 256UL * 1024 * 1024;

    /// How long the body of a request may take. At the bound: 408 and closed.
    std::chrono::milliseconds body_timeout{30'000};

    /// How long the coroutine of a route may take for its answer; further requests of the connection wait meanwhile. At the
    /// bound: 503 and closed; the coroutine goes on, and its answer is dropped.
    std::chrono::milliseconds answer_timeout{30'000};

    /// The certificates of the ports. Without any they are plain.
    tls_config tls{};

    /// Who may say for whom it speaks: addresses ("10.1.2.3", "::1"), networks ("10.0.0.0/8", "fd00::/8"), and "unix" for all
    /// that comes by UNIX-domain sockets. request::remote_address() is then the client's, and the limits of addresses count
    /// the client. What others say of that is not looked at.
    std::vector<std::string> trusted_proxies{};

    /// The header that the trusted proxies set or add to. The address that counts is the rightmost in it that is not trusted. Neither
    /// the scheme nor the host that a proxy may tell of is used for anything: where it changes Host, list `origins`.
    forwarded_header forwarded = forwarded_header::x_forwarded_for;

    /// Whether connections of the trusted proxies begin with a header of the PROXY protocol (version 2, or 1), before TLS and
    /// HTTP. One that is missing, malformed, longer than 4 KiB or later than handshake_timeout: closed. Connections of others
    /// have none; what looks like one is a bad request. One that names nobody (LOCAL of version 2, UNKNOWN of 1), which is the proxy
    /// itself or somebody whom it does not know, leaves the proxy's address, and there `forwarded` is not looked at.
    bool proxy_protocol = false;

    /// Upgrades that one address may ask for in a second, and, counted apart, TLS handshakes that it may begin; 0 is no bound. The
    /// last 65,536 addresses that came near to it are remembered. At the bound: 429 with Retry-After, and a TLS connection is closed
    /// before it costs anything. UNIX-domain sockets have no address, and no bound.
    std::size_t max_handshakes_per_second = 0;

    /// How many may come at once after a silence. 0: as many as in a second.
    std::size_t handshake_burst = 0;

    /// Bytes that have come of messages which are not whole yet, and those that flood::slow holds back, of all connections together.
    /// One more: close 1013 to its sender. One message alone may have max_message_size, however small this is.
    std::size_t max_total_message_bytes = 256UL * 1024 * 1024;

    /// Bytes that all connections together may keep by compression_config's context takeover, each counted with what it may come to from
    /// its handshake on. With one who would pass it, compression is agreed on without takeover; 0 is so with everybody. Loops look at it each by itself: as many
    /// connections as there are loops may pass it at one moment.
    std::size_t max_total_context_bytes = 256UL * 1024 * 1024;

    friend bool operator==(const listener_config&, const listener_config&) = default;
};

/// Every setting of a server or of one of its endpoints. A plain aggregate with closed defaults: what is left out is safe.
///
///     arke::server server{{.endpoint = "/chat", .max_message_size = 64 * 1024}};
///
/// A config is checked where it is handed over, and refused by std::invalid_argument whose text names the field, the value
/// and the mend. Times are milliseconds. The order of the fields stays as it is.
struct config {
    /// The path of the upgrade, exactly. Empty: this server takes no WebSocket connections, and still serves HTTP.
    std::string endpoint = "/";

    /// How long a peer that has data waiting may take none of it. At the bound: cut, on_disconnect hears 1006.
    std::chrono::milliseconds write_timeout{15'000};

    /// How long nothing at all may be heard of a peer. At the bound: cut, on_disconnect hears 1006. Where this process stood still, what came
    /// meanwhile is heard first, and who had not been pinged is, and has the time that is left after a ping.
    std::chrono::milliseconds pong_timeout{60'000};

    /// After how long a silence a ping is sent. Unset: nine tenths of pong_timeout. Must be below pong_timeout. Each
    /// connection takes a part of its own off, up to a quarter, so that those who came together are not pinged together.
    std::optional<std::chrono::milliseconds> ping_period{};

    /// How long a peer may take to answer our close frame. At the bound: cut.
    std::chrono::milliseconds close_timeout{5'000};

    /// Bytes of one message, all its fragments together. One more: close 1009, before anything is stored. Of a compressed one, what
    /// it inflates to: close 1009 while that goes on. On the wire it may be an eighth longer.
    std::size_t max_message_size = 1024;

    /// Fragments of one message. One more: close 1008.
    std::size_t max_fragments = 65'536;

    /// How long a message may take, from its first frame header to its last byte. At the bound: close 1008. Who sends a byte a
    /// second is never silent for pong_timeout.
    std::chrono::milliseconds message_timeout{60'000};

    /// Levels of nesting in JSON data. One more: the event is reported as errc::wrong_type.
    unsigned max_json_depth = 128;

    /// Bytes that may wait for one peer after the kernel has taken what it takes. At the bound: on_overflow. A single message
    /// larger than this is still taken while nothing waits. An event that a newer one may replace, by emit_latest() or
    /// overflow::coalesce, counts 160 bytes more, and its name and key, because that is what it takes to keep one;
    /// connection::buffered_amount() is without them.
    std::size_t max_outbox_bytes = 1024 * 1024;

    /// What happens at max_outbox_bytes.
    overflow on_overflow = overflow::close;

    /// Rooms that one connection may be in. At the bound join() says no.
    std::size_t max_rooms = 1024;

    /// Bytes of the names of the rooms that one connection is in, all together. At the bound join() says no, as at max_rooms.
    std::size_t max_room_name_bytes = 64 * 1024;

    /// Requests that may be open at once on one connection, in each direction: what ask() waits for, and coroutine handlers that
    /// have not ended. At the bound ask() completes with errc::too_many_requests; a request of the peer is refused as "busy",
    /// an event of the peer for a coroutine handler is reported to on_error and not handled.
    std::size_t max_requests = 1024;

    /// Whether who asked is told the what() of an exception that a handler threw. Off: only that it failed.
    bool reveal_exceptions = false;

    /// Whether clients that offer no subprotocol take native messages only. Off: they speak the events of 2016.
    bool native_by_default = false;

    /// Sent with the upgrade response. Names must be tokens, values free of CR, LF and other control characters.
    std::vector<std::pair<std::string, std::string>> headers{};

    /// Makes the id of a new connection from its request. Runs on the connection's loop. Empty, or returning an empty
    /// string: 89 random bits in letters and digits; in a cluster 59, behind the server's name there. Ids of your own have to be
    /// unique in the whole cluster: two servers do not know of each other's.
    std::function<std::string(const request&)> id_generator{};

    /// What happens when id_generator returns an id that is in use.
    duplicate_id on_duplicate_id = duplicate_id::refuse;

    /// Origins of pages that may connect besides our own ("https://example.com"), or "*" for every page.
    std::vector<std::string> origins{};

    /// Decides about a request instead of `origins`. Unset: an Origin must have the host and port of the Host header or
    /// be listed; a request without an Origin is from no browser and is allowed. Refused: 403.
    std::function<bool(const request&)> check_origin{};

    /// Whether emit_message(bytes) sends a binary message. Off as in 2016: a text message, and bytes that are not UTF-8
    /// are refused by an exception.
    bool binary_messages = false;

    /// Subprotocols that are accepted besides "arke.v1", in no order: the client's preference decides. Connections that choose
    /// one speak what those without a subprotocol do.
    std::vector<std::string> subprotocols{};

    /// What an event's text frame starts with. "go-websocket-message:" serves the pages of that name.
    std::string event_prefix = "iris-websocket-message:";

    /// Whether connection::request() stays for the connection's life. Off, it is empty after on_connection, and each
    /// connection is a few hundred bytes lighter.
    bool keep_request = true;

    /// Where a line for a person goes when nobody listens to on_error. Unset: std::clog, at most ten lines a second.
    /// Called from the loops' threads.
    std::function<void(std::string_view)> log{};

    /// Frames that one peer may send in a second: messages, fragments, pings, pongs; 0 is no bound. At the bound: on_flood.
    std::size_t max_messages_per_second = 0;

    /// How many may come at once after a silence. 0: as many as in a second.
    std::size_t message_burst = 0;

    /// Bytes that one peer may send in a second, frame headers included; 0 is no bound. At the bound: on_flood. A message that
    /// arrives more slowly for that still has message_timeout.
    std::size_t max_bytes_per_second = 0;

    /// How many may come at once after a silence. 0: as many as in a second.
    std::size_t byte_burst = 0;

    /// What happens at max_messages_per_second and max_bytes_per_second.
    flood on_flood = flood::slow;

    /// Compressed messages. Off.
    compression_config compression{};

    /// What concerns the server as a whole.
    listener_config listener{};
};

/// The ping period that is in force: the one set, or nine tenths of pong_timeout.
inline std::chrono::milliseconds effective_ping_period(const config& c) {
    return c.ping_period.value_or(c.pong_timeout * 9 / 10);
}

}  // namespace arke
