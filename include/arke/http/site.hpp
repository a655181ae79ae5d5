#pragma once

#include <arke/base/config.hpp>
#include <arke/core/endpoint.hpp>
#include <arke/http/file_folder.hpp>
#include <arke/http/routes.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace arke::http {

/// What a server answers with: its endpoints, its routes and its files. Filled before it serves, then read by all loops.
struct site {
    listener_config listener;
    std::vector<core::endpoint_ptr> endpoints;
    route_table routes;
    std::vector<std::unique_ptr<file_folder>> folders;
    std::atomic<bool> stopping{false};

    /// Of requests whose handlers have not ended, too.
    std::atomic<std::size_t> body_bytes{0};

    /// Shared with the endpoints.
    std::shared_ptr<core::server_load> load = std::make_shared<core::server_load>();

    /// The endpoint whose path this is, exactly; null when there is none.
    core::endpoint* endpoint_at(std::string_view path) const noexcept {
        for (const auto& e : endpoints) {
            if (!e->settings().endpoint.empty() && e->settings().endpoint == path) return e.get();
        }
        return nullptr;
    }

    /// Whether the server itself answers at this path, so that no route could.
    bool is_taken(std::string_view path) const noexcept {
        return endpoint_at(path) != nullptr || path == "/arke.js" || path == "/iris-ws.js" ||
               (!listener.metrics_path.empty() && path == listener.metrics_path);
    }

    arke::metrics metrics() const {
        arke::metrics all;
        for (const auto& e : endpoints) e->add_metrics(all, e == endpoints.front());
        return all;
    }

    /// The folder with the longest prefix of this target; null when there is none.
    const file_folder* folder_at(std::string_view target) const {
        const file_folder* best = nullptr;
        for (const auto& f : folders) {
            if (f->matches(target) && (best == nullptr || f->prefix().size() > best->prefix().size())) best = f.get();
        }
        return best;
    }
};

/// How much of site::body_bytes one request has.
class body_share {
public:
    explicit body_share(std::shared_ptr<site> of) : site_{std::move(of)} {}
    body_share(body_share&& other) noexcept : site_{std::move(other.site_)}, bytes_{std::exchange(other.bytes_, 0)} {}
    body_share& operator=(body_share&&) = delete;
    ~body_share() {
        if (bytes_ != 0) site_->body_bytes.fetch_sub(bytes_, std::memory_order_relaxed);
    }

    /// False: there are more bodies than may be.
    bool grow_to(std::size_t bytes) noexcept {
        const auto more = bytes - std::exchange(bytes_, bytes);
        return site_->body_bytes.fetch_add(more, std::memory_order_relaxed) + more <=
               site_->listener.max_total_body_bytes;
    }

private:
    std::shared_ptr<site> site_;
    std::size_t bytes_ = 0;
};

}  // namespace arke::http
