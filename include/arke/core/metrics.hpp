#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <arke/base/compile.hpp>

namespace arke {

/// Messages by kind, and the bytes of everything: frames with their headers, handshakes not.
template <class Count>
struct traffic_metrics {
    Count events{};
    Count requests{};  ///< Requests to join or leave a room included.
    Count answers{};   ///< Refusals included.
    Count texts{};     ///< Native text messages.
    Count binaries{};  ///< Native binary messages.
    Count pings{};
    Count pongs{};
    Count bytes{};
    Count
        compressed{};  ///< Of the messages above, those that were compressed on the wire; and their bytes without headers,
    Count compressed_bytes{};  ///< as they were on the wire,
    Count inflated_bytes{};    ///< and as they are otherwise.
};

/// What has happened since the start. `Count` is a number in a snapshot, and a counter where a loop counts.
template <class Count>
struct event_metrics {
    Count accepted{};  ///< TCP connections that were taken.
    /// Of these, closed without an answer: while stopping, far over max_connections or max_connections_per_address, or by TLS over
    /// max_handshakes_per_second.
    Count turned_away{};

    /// TLS, of the ports and clients that have it.
    struct {
        Count handshakes{};  ///< Done, those that resumed included.
        Count resumed{};     ///< Of these, without the costly part.
        Count failed{};      ///< Refused, broken, or given up by either side.
    } tls;

    /// Answers of the HTTP side, by status; 101 is an upgrade. A status that is not in `statuses` counts as the last, which is
    /// none.
    static constexpr std::array statuses{101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307,
                                         308, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415,
                                         416, 417, 422, 426, 429, 431, 500, 501, 503, 505, 0};
    std::array<Count, statuses.size()> answers{};

    traffic_metrics<Count> received;
    traffic_metrics<Count> sent;  ///< Messages that were handed to a connection, bytes that the kernel has taken.

    /// Why open connections ended, each once.
    struct {
        Count by_peer{};          ///< The peer's close frame.
        Count by_server{};        ///< disconnect().
        Count stopping{};         ///< stop(), 1001.
        Count broken{};           ///< The stream ended or broke without a close frame.
        Count frame_violation{};  ///< errc::frame_violation.
        Count message_too_big{};  ///< errc::message_too_big.
        Count
            outbox_full{};  ///< errc::outbox_full: over max_outbox_bytes, or among the largest at max_total_outbox_bytes.
        Count pong_timeout{};     ///< errc::pong_timeout.
        Count write_timeout{};    ///< errc::write_timeout.
        Count message_timeout{};  ///< errc::message_timeout.
        Count replaced{};         ///< errc::replaced.
        Count out_of_memory{};    ///< errc::out_of_memory.
        Count flooded{};          ///< errc::flooded: by flood::close.
        Count messages_full{};    ///< errc::messages_full.
    } closed;
    Count close_timeouts{};  ///< Closing handshakes that were cut at close_timeout.
    Count cut_answers{};     ///< HTTP connections that were cut for what waited for them, at max_total_outbox_bytes.
    Count slowed{};          ///< Times that a peer was not read for a while, by flood::slow.
    Count
        bad_proxy_headers{};  ///< Connections of trusted proxies that were closed for want of a header of the PROXY protocol.

    /// What somebody was meant to hear and did not.
    struct {
        Count overflow{};         ///< By overflow::drop, at max_outbox_bytes.
        Count not_ready{};        ///< By emit_volatile(), because something waited.
        Count superseded{};       ///< By a newer one of emit_latest() or overflow::coalesce.
        Count not_deliverable{};  ///< The receiver's protocol cannot carry the event.
        Count late_answers{};     ///< Nobody waits for them any more, or ever did.
        Count out_of_memory{};    ///< Posted by another thread to a loop that had no memory to do it.
    } dropped;

    /// What was reported to on_error, ends of connections apart.
    struct {
        Count malformed_event{};
        Count unknown_message{};  ///< Of a kind that a later version may know. Skipped, and not reported.
        Count wrong_type{};
        Count unhandled_event{};  ///< Reported or not.
        Count handler_threw{};
        Count other{};
    } errors;
};

/// One loop.
struct loop_metrics {
    std::uint64_t sockets = 0;  ///< Connections, those in their HTTP part and the closing ones included.
    std::uint64_t turns = 0;
    std::chrono::nanoseconds busy{};          ///< Spent in turns.
    std::chrono::nanoseconds longest_turn{};  ///< Since the start. What blocks a loop shows here.
    std::chrono::nanoseconds
        longest_handler{};  ///< The longest that the input of one connection took, with all handlers.

    /// Turns by their time: up to 1 ms, 10 ms, 100 ms, 1 s, and longer.
    static constexpr std::array<std::chrono::milliseconds, 4> steps{
        std::chrono::milliseconds{1}, std::chrono::milliseconds{10}, std::chrono::milliseconds{100},
        std::chrono::milliseconds{1000}};
    std::array<std::uint64_t, steps.size() + 1> turns_by_time{};
};

/// A server's share in a cluster. Emits that the others miss are dropped, too_big or lost; emits count here once, also for many rooms.
struct cluster_metrics {
    bool present = false;     ///< Whether there is a cluster. Without one the rest is zero, and Prometheus is not told.
    bool settled = false;     ///< Whether everybody here hears what others say in the rooms joined so far.
    bool degraded = false;    ///< cluster_state::degraded.
    std::uint64_t nodes = 0;  ///< Servers that are there, this one included.
    std::uint64_t waiting_bytes = 0;  ///< What waits for the broker.
    std::uint64_t published = 0;  ///< Messages that the broker has taken; one for each channel that an emit goes to.
    std::uint64_t published_bytes = 0;
    std::uint64_t received = 0;  ///< Messages that came from it, our own included.
    std::uint64_t received_bytes = 0;
    std::uint64_t delivered = 0;  ///< Emits of others that were told here.
    /// Emits over cluster_config::max_outgoing_bytes, volatile ones without the broker, and what memory was missing for.
    std::uint64_t dropped = 0;
    std::uint64_t too_big = 0;        ///< Emits that are larger than the broker takes.
    std::uint64_t lost = 0;           ///< Messages that were under way when the connection to the broker broke.
    std::uint64_t malformed = 0;      ///< What came and is not of Arke.
    std::uint64_t newer = 0;          ///< What came and is of a later version.
    std::uint64_t duplicates = 0;     ///< What came again, and was passed over.
    std::uint64_t late_answers = 0;   ///< Answers of other servers for which nobody waits any more.
    std::uint64_t subscriptions = 0;  ///< Channels that are subscribed to.
    std::uint64_t round_trips = 0;    ///< Times that the broker was asked something, publishing not counted.
    std::uint64_t connections = 0;    ///< Times that the broker was connected to.
    std::uint64_t degradations = 0;   ///< Times that `degraded` became true.
};

/// What server.metrics() returns: a snapshot by value. Loops count without locks, so figures of one moment may differ by what
/// happens while they are read.
struct metrics : event_metrics<std::uint64_t> {
    std::uint64_t connections = 0;  ///< Open WebSocket connections, of all endpoints.
    std::uint64_t sockets = 0;      ///< All connections, those in their HTTP part and the closing ones included.
    std::uint64_t outbox_bytes =
        0;  ///< What waits for peers that read slowly. A frame that many wait for counts for each.
    std::uint64_t context_bytes = 0;  ///< What connections may keep by context takeover.
    std::vector<loop_metrics> loops;
    cluster_metrics cluster;

    std::uint64_t answered(int status) const noexcept;

    /// The same in the text format of Prometheus (version 0.0.4).
    std::string prometheus() const;
};

namespace core {

/// A number that one thread at a time changes and all may read. No locked instruction.
class counter {
public:
    ARKE_ALWAYS_INLINE void add(std::uint64_t n = 1) noexcept { value_.store(get() + n, std::memory_order_relaxed); }
    ARKE_ALWAYS_INLINE void raise_to(std::uint64_t n) noexcept {
        if (n > get()) value_.store(n, std::memory_order_relaxed);
    }
    ARKE_ALWAYS_INLINE std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{0};
};

/// A clock that is read for every read of a socket, hence the processor's own where there is one: a call of steady_clock is as
/// dear as a short message. Only durations, only for metrics.
inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_ia32_rdtsc();
#else
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

/// What one loop counts. Changed on the loop only.
struct counters : event_metrics<counter> {
    counter turns;
    counter busy;  // ticks, as the next two
    counter longest_turn;
    counter longest_handler;
    std::array<counter, loop_metrics::steps.size() + 1> turns_by_time;

    void count_answer(int status) noexcept;

    /// A turn that took so many ticks is over.
    void count_turn(std::uint64_t took) noexcept {
        turns.add();
        busy.add(took);
        longest_turn.raise_to(took);
        // Nearly always the first. The rate becomes known with time; in the first instant it is a guess.
        std::size_t step = 0;
        if (took > short_turn_) step = step_of(took);
        turns_by_time[step].add();
    }

    loop_metrics snapshot(std::uint64_t sockets) const;

    /// A call to the system: for what has taken long.
    std::chrono::nanoseconds duration(std::uint64_t ticks) const noexcept;

private:
    std::size_t step_of(std::uint64_t took) noexcept;
    double nanoseconds_per_tick() const noexcept;

    const std::uint64_t first_tick_ = ticks();
    const std::chrono::steady_clock::time_point first_moment_ = std::chrono::steady_clock::now();
    std::uint64_t short_turn_ = 100'000;
};

/// Adds what a loop has counted.
void add(metrics& to, const counters& from);

}  // namespace core
}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/metrics.ipp>
#endif
