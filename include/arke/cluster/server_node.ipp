#pragma once

#include <arke/cluster/server_node.hpp>

#if defined(__unix__)
#include <unistd.h>
#endif

namespace arke::cluster {

namespace detail {

inline cluster_config with_name(cluster_config settings) {
    if (!settings.name.empty()) return settings;
#if defined(__unix__)
    std::array<char, 80> host{};
    if (::gethostname(host.data(), host.size() - 1) == 0 && wire::is_utf8(host.data())) settings.name = host.data();
    settings.name += "-" + std::to_string(::getpid());
#endif
    return settings;
}

/// Not `first ? first->settings().x : config{}.x`, within a constructor: g++ 12 destroys that temporary again where an exception
/// leaves the constructor.
inline const config& settings_of(const core::endpoint_ptr& first) {
    static const config defaults;
    return first ? first->settings() : defaults;
}

}  // namespace detail

ARKE_COLD_INLINE server_node::server_node(const core::cluster_place& place, std::unique_ptr<backplane> carrier,
                                          cluster_config settings, std::function<void(std::string_view)> log)
    : held_{place.loop},
      loop_{&static_cast<io::asio_loop&>(*place.loop)},
      first_{place.endpoints.empty() ? core::endpoint_ptr{} : place.endpoints.front()},
      log_{std::move(log)},
      act_here_{place.act_here},
      carrier_{std::move(carrier)},
      node_{detail::with_name(std::move(settings)), *this, *carrier_, first_ != nullptr},
      events_{node_, *loop_, detail::settings_of(first_).max_requests, detail::settings_of(first_).max_json_depth,
              [this](std::string_view line) { server_node::log(line); }} {}

ARKE_COLD_INLINE void server_node::begin(const core::cluster_place& place) {
    for (const auto& e : place.endpoints) add(e);
    timer_.emplace(loop_->context());
    loop_->post_to_strand([self = shared_from_this()] {
        if (self->closed_) return;
        const core::loop::turn guard{*self->loop_};
        try {
            self->carrier_->start(self->loop_->context(), self->loop_->strand(), *self);
            self->started_ = true;
        } catch (const std::exception& e) {
            return self->give_up(e.what());
        }
        self->work();
    });
}

ARKE_COLD_INLINE void server_node::add(const core::endpoint_ptr& endpoint) {
    node_.add(endpoint, {shared_from_this(), &node_});
}

/// It has not started, and will not: nothing is asked of it any more.
ARKE_COLD_INLINE void server_node::give_up(const std::string& why) noexcept {
    try {
        node_.give_up(loop_->now(), why);
        state_changed(node_.state());
    } catch (...) {
        // No memory to say it.
    }
}

ARKE_COLD_INLINE void server_node::close() noexcept {
    if (std::exchange(closed_, true)) return;
    timer_.reset();
    try {
        node_.close(loop_->clock());
        events_.clear();
    } catch (...) {
        // No memory: the others notice by the silence.
    }
    first_.reset();  // it holds this
    burst_.reset();
}

template <class F>
void server_node::hop(F&& f) {
    if (loop_->in_turn() || loop_->is_between_turns()) {
        loop_->dispatch([&] {
            if (!closed_) f();
        });
    } else {
        loop_->post([self = shared_from_this(), f = std::forward<F>(f)]() mutable {
            if (!self->closed_) f();
        });
    }
}

ARKE_INLINE void server_node::received(std::string_view payload) {
    if (loop_->in_turn() || loop_->is_between_turns()) {
        loop_->dispatch([&] {
            if (!closed_) node_.received(payload, loop_->now());
        });
    } else {
        // Here is no end of what can wait, as there is where somebody reads a socket on the loop.
        const auto size = payload.size() + sizeof(core::task) + 128;
        const auto before = unheard_.fetch_add(size, std::memory_order_relaxed);
        if (before != 0 && before + size > most_unheard) {
            unheard_.fetch_sub(size, std::memory_order_relaxed);
            return overrun();
        }
        loop_->post([self = shared_from_this(), size, bytes = std::string{payload}] {
            self->unheard_.fetch_sub(size, std::memory_order_relaxed);
            if (!self->closed_) self->node_.received(bytes, self->loop_->now());
        });
    }
}

/// Messages were missed. So it is told as if the line had broken, and what more of them waits is dropped with that.
ARKE_COLD_INLINE void server_node::overrun() {
    if (is_overrun_.exchange(true)) return;
    loop_->post([self = shared_from_this()] {
        self->is_overrun_ = false;
        if (self->closed_) return;
        self->log("cluster: messages come faster than this server takes them, and some were missed");
        self->carrier_->reconnect();
    });
}

ARKE_COLD_INLINE void server_node::connected() {
    hop([this] { node_.connected(loop_->now()); });
}

ARKE_COLD_INLINE void server_node::disconnected(std::string_view why) {
    hop([this, text = std::string{why}] { node_.disconnected(text, loop_->now()); });
}

ARKE_COLD_INLINE void server_node::subscribed(std::uint64_t number) {
    hop([this, number] { node_.subscribed(number); });
}

ARKE_COLD_INLINE void server_node::wake() noexcept {
    try {
        // Later, and not within the call: many messages of a turn go to the broker together.
        loop_->post_to_strand([self = shared_from_this()] { self->work(); });
    } catch (...) {
        // The next heartbeat does it.
    }
}

ARKE_COLD_INLINE void server_node::work() {
    if (closed_ || !started_) return;
    core::millis next = core::timing_wheel::never;
    const core::loop::turn guard{*loop_};
    try {
        next = node_.work(loop_->now());
    } catch (const std::exception& e) {
        log(std::string{"cluster: "} + e.what());
        next = loop_->now() + 100;
    }
    if (!timer_ || next == core::timing_wheel::never) return;
    timer_->expires_at(std::chrono::steady_clock::time_point{std::chrono::milliseconds{next}});
    timer_->async_wait(loop_->on_strand([self = shared_from_this()](const error_code& ec) {
        if (!ec) self->work();
    }));
}

ARKE_COLD_INLINE void server_node::log(std::string_view line) noexcept {
    try {
        if (log_)
            log_(line);
        else if (first_)
            first_->log(line);
    } catch (...) {
        // A log that throws has nobody to be told to.
    }
}

ARKE_COLD_INLINE void server_node::state_changed(const cluster_state& state) {
    log(state.degraded ? "cluster: degraded: " + state.why : std::string{"cluster: the broker is there"});
    events_.state_changed(state);
}

}  // namespace arke::cluster

namespace arke::core {

ARKE_COLD_INLINE std::shared_ptr<cluster_member> make_cluster_member(const cluster_place& place,
                                                                     std::unique_ptr<backplane> carrier,
                                                                     cluster_config settings) {
    auto made = std::make_shared<cluster::server_node>(place, std::move(carrier), std::move(settings));
    made->begin(place);
    return made;
}

}  // namespace arke::core
