#pragma once

#include <arke/core/endpoint.hpp>
#include <arke/event/arke_v1_protocol.hpp>
#include <arke/event/iris_protocol.hpp>
#include <arke/event/native_protocol.hpp>
#include <arke/wire/address.hpp>
#include <arke/wire/handshake.hpp>

#include <array>
#include <chrono>
#include <iostream>
#include <random>
#include <stdexcept>

namespace arke::core {

ARKE_COLD_INLINE void check_config(const config& c) {
    const auto refuse = [](const std::string& text) { throw std::invalid_argument{"arke::config: " + text}; };
    const auto at_least = [&](const char* field, auto value, auto least) {
        if (value < least) {
            refuse(std::string{field} + " is " + std::to_string(value) + "; set it to " + std::to_string(least) +
                   " or more");
        }
    };
    const auto positive = [&](const char* field, std::chrono::milliseconds value) {
        constexpr std::chrono::milliseconds year =
            std::chrono::hours{24 * 365};  // far below where sums of times overflow
        if (value.count() <= 0 || value > year) {
            refuse(std::string{field} + " is " + std::to_string(value.count()) +
                   " ms; set a time greater than zero, and a year at most");
        }
    };

    const auto check_path = [&](const std::string& field, const std::string& path) {
        if (!path.empty() && path.front() != '/')
            refuse(field + " is \"" + path + "\"; write a path that starts with '/', or \"\" for none");
        for (const char ch : path) {
            const auto byte = static_cast<unsigned char>(ch);
            if (byte <= 0x20 || byte >= 0x7F || ch == '?' || ch == '#') {
                refuse(field + " is \"" + detail::printable(path) +
                       "\"; it is compared with the path of a request, so leave out spaces, '?', '#' and what is not "
                       "ASCII");
            }
        }
    };
    check_path("endpoint", c.endpoint);
    positive("write_timeout", c.write_timeout);
    positive("message_timeout", c.message_timeout);
    positive("pong_timeout", c.pong_timeout);
    positive("close_timeout", c.close_timeout);
    const auto ping = effective_ping_period(c);
    if (ping.count() <= 0 || ping >= c.pong_timeout) {
        refuse("ping_period is " + std::to_string(ping.count()) + " ms and pong_timeout " +
               std::to_string(c.pong_timeout.count()) +
               " ms; set ping_period greater than zero and below pong_timeout, or leave it unset");
    }
    at_least("max_message_size", c.max_message_size, std::size_t{1});
    at_least("max_fragments", c.max_fragments, std::size_t{1});
    at_least("max_json_depth", c.max_json_depth, 1U);
    at_least("max_outbox_bytes", c.max_outbox_bytes, std::size_t{1});
    at_least("max_requests", c.max_requests, std::size_t{1});
    if (c.event_prefix.empty())
        refuse("event_prefix is empty; native messages could not be told from events, so give it a text");
    if (!wire::is_utf8(c.event_prefix)) refuse("event_prefix is not UTF-8; it stands in text messages");
    for (const auto& [name, value] : c.headers) {
        if (!wire::is_token(name)) {
            refuse("headers holds the name \"" + detail::printable(name) + "\"; use letters, digits and -");
        }
        if (!wire::is_field_value(value)) {
            refuse("headers holds for " + name + " the value \"" + detail::printable(value) +
                   "\"; leave out CR, LF and other control characters");
        }
    }
    for (const auto& name : c.subprotocols) {
        if (!wire::is_token(name)) {
            refuse("subprotocols holds \"" + detail::printable(name) +
                   "\"; use letters, digits, '.' and '-', without spaces or commas");
        }
    }
    for (const auto& origin : c.origins) {
        if (origin != "*" && origin.find("://") == std::string::npos) {
            refuse("origins holds \"" + detail::printable(origin) +
                   "\"; write scheme and host as in \"https://example.com\", or \"*\"");
        }
    }

    // What a bucket of such a size counts, in thousandths, must fit into 64 bits.
    const auto check_rate = [&](const std::string& field, std::size_t rate, const std::string& burst_field,
                                std::size_t burst) {
        constexpr std::uint64_t most = 1'000'000'000'000;
        if (rate > most || burst > most)
            refuse((rate > most ? field : burst_field) + " is over 1,000,000,000,000; set it to 0 for no bound");
        if (rate == 0 && burst != 0)
            refuse(burst_field + " is " + std::to_string(burst) + " and " + field +
                   " is 0; set both, or leave both out");
    };
    check_rate("max_messages_per_second", c.max_messages_per_second, "message_burst", c.message_burst);
    check_rate("max_bytes_per_second", c.max_bytes_per_second, "byte_burst", c.byte_burst);

    const auto& z = c.compression;
    at_least("compression.threshold", z.threshold, std::size_t{1});
    const auto between = [&](const char* field, int value, int least, int most) {
        if (value < least || value > most) {
            refuse(std::string{field} + " is " + std::to_string(value) + "; set it from " + std::to_string(least) +
                   " to " + std::to_string(most));
        }
    };
    between("compression.send_window_bits", z.send_window_bits, 9, 15);
    between("compression.receive_window_bits", z.receive_window_bits, 9, 15);
    between("compression.level", z.level, 1, 9);
    between("compression.memory_level", z.memory_level, 1, 9);

    const auto& l = c.listener;
    positive("listener.handshake_timeout", l.handshake_timeout);
    positive("listener.stop_timeout", l.stop_timeout);
    positive("listener.body_timeout", l.body_timeout);
    at_least("listener.max_total_body_bytes", l.max_total_body_bytes, std::size_t{1});
    positive("listener.answer_timeout", l.answer_timeout);
    if (l.stop_spread.count() < 0 || l.stop_spread >= l.stop_timeout) {
        refuse("listener.stop_spread is " + std::to_string(l.stop_spread.count()) + " ms and stop_timeout " +
               std::to_string(l.stop_timeout.count()) +
               " ms; set stop_spread from zero to below stop_timeout, so that the last to be told has time to go");
    }
    at_least("listener.max_header_bytes", l.max_header_bytes, std::size_t{256});
    at_least("listener.max_header_fields", l.max_header_fields, std::size_t{8});
    at_least("listener.max_connections", l.max_connections, std::size_t{1});
    at_least("listener.max_total_outbox_bytes", l.max_total_outbox_bytes, std::size_t{1});
    at_least("listener.max_total_message_bytes", l.max_total_message_bytes, std::size_t{1});
    check_path("listener.metrics_path", l.metrics_path);
    if (!l.metrics_path.empty() && l.metrics_path == c.endpoint)
        refuse("listener.metrics_path is the endpoint \"" + c.endpoint + "\"; give the metrics a path of their own");
    at_least("listener.backlog", l.backlog, 1);
    at_least("listener.read_buffer_size", l.read_buffer_size, std::size_t{4096});
    at_least("listener.write_buffer_size", l.write_buffer_size, std::size_t{1024});
    if (l.write_buffer_size > 0x4000'0000)
        refuse("listener.write_buffer_size is over 1 GiB; a few hundred KiB are plenty");
    if (const auto fault = detail::find_fault(l.tls, "listener.tls"); !fault.empty()) refuse(fault);
    check_rate("listener.max_handshakes_per_second", l.max_handshakes_per_second, "listener.handshake_burst",
               l.handshake_burst);
    for (const auto& each : l.trusted_proxies) {
        if (wire::network_list{}.add(each)) continue;
        refuse("listener.trusted_proxies holds \"" + detail::printable(each) +
               "\"; write an address (\"10.1.2.3\"), a network without bits behind its prefix (\"10.0.0.0/8\", "
               "\"fd00::/8\"), or \"unix\"");
    }
    if (l.proxy_protocol && l.trusted_proxies.empty())
        refuse(
            "listener.proxy_protocol is on and trusted_proxies is empty; list the proxies that begin with its header");
#ifndef __linux__
    if (l.loop == loop_kind::epoll) refuse("listener.loop is epoll, which only Linux has; use loop_kind::automatic");
    if (l.loop == loop_kind::io_uring)
        refuse("listener.loop is io_uring, which only Linux has; use loop_kind::automatic");
#endif
}

ARKE_COLD_INLINE endpoint::endpoint(config settings, make_peer maker)
    : hub{(check_config(settings), std::move(settings))}, make_{maker} {
    if (this->settings().native_by_default)
        add_protocol(std::make_unique<native_protocol>());
    else
        add_protocol(std::make_unique<iris_protocol>(this->settings().event_prefix));
    add_protocol(std::make_unique<arke_v1_protocol>());
}

ARKE_COLD_INLINE peer_ptr endpoint::make(loop& on, std::string id, std::size_t protocol, request r, void* session) {
    return peer_ptr{make_(*this, on, std::move(id), protocol, std::move(r), session)};
}

ARKE_COLD_INLINE void endpoint::refresh(cached& c, loop& on) noexcept {
    // The old set may be running: it goes when the turn ends. Without memory for that it serves on.
    try {
        if (c.handlers) on.retire(c.handlers);
    } catch (...) {
        return;
    }
    const std::lock_guard lock{handlers_mutex_};
    c.handlers = handlers_;
    c.version = version_.load(std::memory_order_relaxed);
}

ARKE_COLD_INLINE void endpoint::log(std::string_view line) {
    const auto now =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
    unsigned dropped = 0;
    {
        const std::lock_guard lock{log_mutex_};
        if (now != log_second_) {
            log_second_ = now;
            log_lines_ = 0;
            dropped = std::exchange(log_dropped_, 0U);
        }
        if (++log_lines_ > 10) {
            ++log_dropped_;
            return;
        }
    }
    std::string text{line};
    if (dropped != 0) text += " (and " + std::to_string(dropped) + " more before)";
    if (settings().log) {
        // What it throws has nobody left to be told.
        try {
            settings().log(text);
        } catch (...) {
        }
    } else {
        text += '\n';
        std::clog << "arke: " + text << std::flush;
    }
}

ARKE_COLD_INLINE std::string endpoint::random_id() {
    // 15 characters of 62 are 89 bits, and fit into a std::string without a further allocation.
    constexpr std::string_view letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    thread_local std::random_device source;
    std::string id;
    while (id.size() != cluster_link::generated_id_size) {
        // Five characters for each draw: 62^5 divides 2^32 with a remainder that is thrown away.
        constexpr std::uint32_t range = 62U * 62U * 62U * 62U * 62U;
        constexpr std::uint32_t limit = ~std::uint32_t{0} / range * range;
        std::uint32_t draw = source();
        if (draw >= limit) continue;
        for (int i = 0; i != 5; ++i) {
            id += letters[draw % 62];
            draw /= 62;
        }
    }
    return id;
}

}  // namespace arke::core
