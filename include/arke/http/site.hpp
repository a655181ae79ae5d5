#pragma once

#include <arke/base/config.hpp>
#include <arke/core/endpoint.hpp>
#include <arke/http/file_folder.hpp>
#include <arke/http/routes.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace arke::http {

/// What a server answers with: its endpoints, its routes and its files. Filled before it serves, then read by all loops.
struct site {
    listener_config listener;
    std::vector<core::endpoint_ptr> endpoints;
    route_table routes;
    std::vector<std::unique_ptr<file_folder>> folders;
    std::atomic<bool> stopping{false};

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

}  // namespace arke::http
