#pragma once

#include <arke/core/handlers.hpp>
#include <arke/core/hub.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace arke::core {

/// Refuses a config whose values cannot work, by std::invalid_argument with a sentence that says what to change.
void check_config(const config& c);

/// A hub with the handlers that a server keeps for all connections of an endpoint.
class endpoint : public hub {
public:
    using make_peer = peer* (*)(endpoint&, loop&, std::string id, std::size_t protocol, request r, void* session);

    /// Checks the config.
    endpoint(config settings, make_peer maker);

    /// `session`: the data of the connection's user, to be moved from; null for fresh ones.
    peer_ptr make(loop& on, std::string id, std::size_t protocol, request r, void* session = nullptr);

    /// Before the loop runs.
    void add_loop(loop& on) {
        hub::add_loop(on);
        caches_.emplace_back();
    }

    /// The handlers as they are now; what is returned stays until the turn ends. On a loop, in a turn.
    ARKE_ALWAYS_INLINE const handler_set& handlers(loop& on) {
        auto& cache = caches_[on.index()];
        if (cache.version != version_.load(std::memory_order_acquire)) refresh(cache, on);
        return *cache.handlers;
    }

    /// Changes a copy of the handlers, which the loops then take up. Any thread. `f` may throw: nothing is changed then.
    template <class F>
    auto change(F&& f) {
        const std::lock_guard lock{handlers_mutex_};
        auto copy = std::make_shared<handler_set>(*handlers_);
        struct publish {
            endpoint& self;
            std::shared_ptr<handler_set>& copy;
            int exceptions = std::uncaught_exceptions();
            ~publish() {
                if (std::uncaught_exceptions() != exceptions) return;
                self.handlers_ = std::move(copy);
                self.version_.fetch_add(1, std::memory_order_release);
            }
        } done{*this, copy};
        return f(*copy);
    }

    /// A line for a person: to config::log, or to std::clog, at most ten a second.
    void log(std::string_view line);

    /// The same for a line that is still to be made, where nothing may be thrown.
    template <class F>
    void try_to_log(F&& make_line) noexcept {
        try {
            log(make_line());
        } catch (...) {
            // A log that throws has nobody to be told to.
        }
    }

    /// An id nobody can guess.
    static std::string random_id();

    /// The same for a new connection: in a cluster it begins with the name of this server there.
    std::string make_id() const {
        auto id = random_id();
        if (const auto& cluster = link()) id.replace(0, cluster->id_prefix().size(), cluster->id_prefix());
        return id;
    }

private:
    struct cached {
        std::uint64_t version = ~std::uint64_t{0};
        std::shared_ptr<const handler_set> handlers;
    };

    void refresh(cached& c, loop& on) noexcept;

    make_peer make_;
    std::mutex handlers_mutex_;
    std::shared_ptr<const handler_set> handlers_ = std::make_shared<handler_set>();
    std::atomic<std::uint64_t> version_{0};
    std::vector<cached> caches_;

    std::mutex log_mutex_;
    std::int64_t log_second_ = 0;
    unsigned log_lines_ = 0;
    unsigned log_dropped_ = 0;
};

using endpoint_ptr = boost::intrusive_ptr<endpoint>;

}  // namespace arke::core

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/endpoint.ipp>
#endif
