#pragma once

#include <arke/core/metrics.hpp>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace arke {

namespace detail {

/// Calls f(family, what it is, label, value) for every field, families together.
template <class Metrics, class F>
void visit_metrics(Metrics& m, F&& f) {
    f("arke_accepted_total", "TCP connections that were taken", "", m.accepted);
    f("arke_turned_away_total", "TCP connections that were closed without an answer", "", m.turned_away);
    f("arke_tls_handshakes_total", "TLS handshakes that were done", "", m.tls.handshakes);
    f("arke_tls_resumed_total", "TLS handshakes that resumed a session", "", m.tls.resumed);
    f("arke_tls_failed_total", "TLS handshakes that failed", "", m.tls.failed);
    for (std::size_t i = 0; i != m.answers.size(); ++i) {
        const auto status = m.statuses[i] == 0 ? std::string{"other"} : std::to_string(m.statuses[i]);
        const auto label = "status=\"" + status + "\"";
        f("arke_http_answers_total", "Answers of the HTTP side; 101 is an upgrade", label.c_str(), m.answers[i]);
    }
    const auto traffic = [&](const char* family, const char* help, auto& t) {
        f(family, help, "kind=\"event\"", t.events);
        f(family, help, "kind=\"request\"", t.requests);
        f(family, help, "kind=\"answer\"", t.answers);
        f(family, help, "kind=\"text\"", t.texts);
        f(family, help, "kind=\"binary\"", t.binaries);
        f(family, help, "kind=\"ping\"", t.pings);
        f(family, help, "kind=\"pong\"", t.pongs);
    };
    traffic("arke_messages_received_total", "Messages of peers", m.received);
    f("arke_bytes_received_total", "Bytes of peers, frame headers included", "", m.received.bytes);
    traffic("arke_messages_sent_total", "Messages handed to connections", m.sent);
    f("arke_bytes_sent_total", "Bytes that the kernel took, frame headers included", "", m.sent.bytes);
    const auto compressed = [&](const char* direction, auto& t) {
        const std::string end = std::string{direction} + "_total";
        f(("arke_compressed_messages_" + end).c_str(), "Messages that were compressed on the wire", "", t.compressed);
        const auto bytes = "arke_compressed_bytes_" + end;
        f(bytes.c_str(), "Bytes of such messages, headers apart", "form=\"compressed\"", t.compressed_bytes);
        f(bytes.c_str(), "Bytes of such messages, headers apart", "form=\"inflated\"", t.inflated_bytes);
    };
    compressed("received", m.received);
    compressed("sent", m.sent);

    const char* family = "arke_closed_total";
    const char* help = "Ends of WebSocket connections";
    f(family, help, "reason=\"peer\"", m.closed.by_peer);
    f(family, help, "reason=\"server\"", m.closed.by_server);
    f(family, help, "reason=\"stopping\"", m.closed.stopping);
    f(family, help, "reason=\"broken\"", m.closed.broken);
    f(family, help, "reason=\"frame_violation\"", m.closed.frame_violation);
    f(family, help, "reason=\"message_too_big\"", m.closed.message_too_big);
    f(family, help, "reason=\"outbox_full\"", m.closed.outbox_full);
    f(family, help, "reason=\"pong_timeout\"", m.closed.pong_timeout);
    f(family, help, "reason=\"write_timeout\"", m.closed.write_timeout);
    f(family, help, "reason=\"message_timeout\"", m.closed.message_timeout);
    f(family, help, "reason=\"replaced\"", m.closed.replaced);
    f(family, help, "reason=\"out_of_memory\"", m.closed.out_of_memory);
    f(family, help, "reason=\"flooded\"", m.closed.flooded);
    f(family, help, "reason=\"messages_full\"", m.closed.messages_full);
    f("arke_close_timeouts_total", "Closing handshakes that were cut", "", m.close_timeouts);
    f("arke_cut_answers_total", "HTTP connections that were cut for what waited for them", "", m.cut_answers);
    f("arke_slowed_total", "Times that a peer was not read for a while, because it says too much", "", m.slowed);
    f("arke_bad_proxy_headers_total", "Connections of trusted proxies without a header of the PROXY protocol", "",
      m.bad_proxy_headers);

    family = "arke_dropped_total";
    help = "Messages that somebody was meant to hear and did not";
    f(family, help, "reason=\"overflow\"", m.dropped.overflow);
    f(family, help, "reason=\"not_ready\"", m.dropped.not_ready);
    f(family, help, "reason=\"superseded\"", m.dropped.superseded);
    f(family, help, "reason=\"not_deliverable\"", m.dropped.not_deliverable);
    f(family, help, "reason=\"late_answer\"", m.dropped.late_answers);
    f(family, help, "reason=\"out_of_memory\"", m.dropped.out_of_memory);

    family = "arke_errors_total";
    help = "What was reported to on_error, ends of connections apart";
    f(family, help, "kind=\"malformed_event\"", m.errors.malformed_event);
    f(family, help, "kind=\"unknown_message\"", m.errors.unknown_message);
    f(family, help, "kind=\"wrong_type\"", m.errors.wrong_type);
    f(family, help, "kind=\"unhandled_event\"", m.errors.unhandled_event);
    f(family, help, "kind=\"handler_threw\"", m.errors.handler_threw);
    f(family, help, "kind=\"other\"", m.errors.other);
}

inline std::size_t status_index(int status) noexcept {
    const auto& all = metrics::statuses;
    const auto found = std::find(all.begin(), all.end(), status);
    return static_cast<std::size_t>((found == all.end() ? all.end() - 1 : found) - all.begin());
}

/// Writes samples, and before the first of a family what it is.
class prometheus_text {
public:
    template <class Value>
    void add(std::string_view family, std::string_view help, const char* type, std::string_view label, Value value,
             std::string_view suffix = {}) {
        if (family != family_) {
            family_ = family;
            text_.append("# HELP ").append(family).append(" ").append(help).append(".\n# TYPE ");
            text_.append(family).append(" ").append(type).append("\n");
        }
        text_.append(family).append(suffix);
        if (!label.empty()) text_.append("{").append(label).append("}");
        // Not by a stream or printf: those follow the locale.
        std::array<char, 32> number{};
        const auto end = std::to_chars(number.data(), number.data() + number.size(), value).ptr;
        text_.append(" ").append(number.data(), end).append("\n");
    }

    std::string take() { return std::move(text_); }

private:
    std::string text_;
    std::string family_;
};

inline double seconds(std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e9; }

}  // namespace detail

ARKE_COLD_INLINE std::uint64_t metrics::answered(int status) const noexcept {
    return answers[detail::status_index(status)];
}

ARKE_COLD_INLINE std::string metrics::prometheus() const {
    detail::prometheus_text out;
    out.add("arke_connections", "Open WebSocket connections", "gauge", {}, connections);
    out.add("arke_sockets", "All connections, in HTTP and closing ones included", "gauge", {}, sockets);
    out.add("arke_outbox_bytes", "What waits for peers that read slowly", "gauge", {}, outbox_bytes);
    out.add("arke_compression_context_bytes", "What connections may keep by context takeover", "gauge", {},
            context_bytes);
    detail::visit_metrics(*this, [&](const char* family, const char* help, const char* label, std::uint64_t value) {
        out.add(family, help, "counter", label, value);
    });
    const auto each_loop = [&](auto&& f) {
        for (std::size_t i = 0; i != loops.size(); ++i) f("loop=\"" + std::to_string(i) + "\"", loops[i]);
    };
    each_loop([&](const std::string& label, const loop_metrics& l) {
        out.add("arke_loop_sockets", "Connections of a loop", "gauge", label, l.sockets);
    });
    each_loop([&](const std::string& label, const loop_metrics& l) {
        constexpr std::string_view family = "arke_loop_turn_seconds";
        constexpr std::string_view help = "Time of a loop's turns";
        std::uint64_t so_far = 0;
        for (std::size_t i = 0; i != l.turns_by_time.size(); ++i) {
            so_far += l.turns_by_time[i];
            static constexpr std::array<std::string_view, 5> bounds{"0.001", "0.01", "0.1", "1", "+Inf"};
            out.add(family, help, "histogram", label + ",le=\"" + std::string{bounds[i]} + "\"", so_far, "_bucket");
        }
        out.add(family, help, "histogram", label, detail::seconds(l.busy), "_sum");
        out.add(family, help, "histogram", label, so_far, "_count");
    });
    each_loop([&](const std::string& label, const loop_metrics& l) {
        out.add("arke_loop_longest_turn_seconds", "The longest turn since the start", "gauge", label,
                detail::seconds(l.longest_turn));
    });
    each_loop([&](const std::string& label, const loop_metrics& l) {
        out.add("arke_loop_longest_handler_seconds", "The longest that the input of one connection took", "gauge",
                label, detail::seconds(l.longest_handler));
    });
    if (!cluster.present) return out.take();
    const auto gauge = [&](const char* family, const char* help, std::uint64_t value) {
        out.add(family, help, "gauge", {}, value);
    };
    const auto count = [&](const char* family, const char* help, const char* label, std::uint64_t value) {
        out.add(family, help, "counter", label, value);
    };
    gauge("arke_cluster_degraded", "Whether nothing comes back from the broker", cluster.degraded ? 1 : 0);
    gauge("arke_cluster_settled", "Whether everybody here hears what others say in the rooms joined so far",
          cluster.settled ? 1 : 0);
    gauge("arke_cluster_nodes", "Servers that are there, this one included", cluster.nodes);
    gauge("arke_cluster_waiting_bytes", "What waits for the broker", cluster.waiting_bytes);
    gauge("arke_cluster_subscriptions", "Channels that are subscribed to", cluster.subscriptions);
    count("arke_cluster_published_total", "Messages that the broker has taken", "", cluster.published);
    count("arke_cluster_published_bytes_total", "Bytes that the broker has taken", "", cluster.published_bytes);
    count("arke_cluster_received_total", "Messages from the broker", "", cluster.received);
    count("arke_cluster_received_bytes_total", "Bytes from the broker", "", cluster.received_bytes);
    count("arke_cluster_delivered_total", "Emits of other servers that were told here", "", cluster.delivered);
    constexpr const char* missed = "arke_cluster_missed_total";
    constexpr const char* missed_help = "Messages that the other servers miss";
    count(missed, missed_help, "reason=\"dropped\"", cluster.dropped);
    count(missed, missed_help, "reason=\"too_big\"", cluster.too_big);
    count(missed, missed_help, "reason=\"lost\"", cluster.lost);
    constexpr const char* ignored = "arke_cluster_ignored_total";
    constexpr const char* ignored_help = "Messages from the broker that were passed over";
    count(ignored, ignored_help, "reason=\"malformed\"", cluster.malformed);
    count(ignored, ignored_help, "reason=\"newer\"", cluster.newer);
    count(ignored, ignored_help, "reason=\"duplicate\"", cluster.duplicates);
    count(ignored, ignored_help, "reason=\"late_answer\"", cluster.late_answers);
    count("arke_cluster_round_trips_total", "Times that the broker was asked something", "", cluster.round_trips);
    count("arke_cluster_connections_total", "Times that the broker was connected to", "", cluster.connections);
    count("arke_cluster_degradations_total", "Times that the broker was lost", "", cluster.degradations);
    return out.take();
}

namespace core {

ARKE_COLD_INLINE void counters::count_answer(int status) noexcept { answers[detail::status_index(status)].add(); }

ARKE_COLD_INLINE double counters::nanoseconds_per_tick() const noexcept {
    const auto passed = ticks() - first_tick_;
    const auto time = std::chrono::steady_clock::now() - first_moment_;
    return passed == 0 ? 0 : static_cast<double>(std::chrono::nanoseconds{time}.count()) / static_cast<double>(passed);
}

ARKE_COLD_INLINE std::chrono::nanoseconds counters::duration(std::uint64_t took) const noexcept {
    return std::chrono::nanoseconds{static_cast<std::int64_t>(static_cast<double>(took) * nanoseconds_per_tick())};
}

ARKE_COLD_INLINE std::size_t counters::step_of(std::uint64_t took) noexcept {
    const auto per_tick = nanoseconds_per_tick();
    const std::chrono::nanoseconds time{static_cast<std::int64_t>(static_cast<double>(took) * per_tick)};
    const std::chrono::nanoseconds shortest{loop_metrics::steps.front()};
    if (per_tick > 0) short_turn_ = static_cast<std::uint64_t>(static_cast<double>(shortest.count()) / per_tick);
    std::size_t step = 0;
    while (step != loop_metrics::steps.size() && time > loop_metrics::steps[step]) ++step;
    return step;
}

ARKE_COLD_INLINE loop_metrics counters::snapshot(std::uint64_t sockets) const {
    const auto per_tick = nanoseconds_per_tick();
    const auto time = [per_tick](const counter& c) {
        return std::chrono::nanoseconds{static_cast<std::int64_t>(static_cast<double>(c.get()) * per_tick)};
    };
    loop_metrics made{sockets, turns.get(), time(busy), time(longest_turn), time(longest_handler)};
    for (std::size_t i = 0; i != turns_by_time.size(); ++i) made.turns_by_time[i] = turns_by_time[i].get();
    return made;
}

ARKE_COLD_INLINE void add(metrics& to, const counters& from) {
    std::vector<std::uint64_t*> sums;
    detail::visit_metrics(to, [&](auto, auto, auto, std::uint64_t& sum) { sums.push_back(&sum); });
    auto sum = sums.begin();
    detail::visit_metrics(from, [&](auto, auto, auto, const counter& c) { **sum++ += c.get(); });
}

}  // namespace core
}  // namespace arke
