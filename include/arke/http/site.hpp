#pragma once

#include <arke/base/config.hpp>
#include <arke/core/cluster_member.hpp>
#include <arke/core/endpoint.hpp>
#include <arke/core/rate_limit.hpp>
#include <arke/http/file_folder.hpp>
#include <arke/http/routes.hpp>
#include <arke/wire/address.hpp>
#include <arke/wire/forwarded.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
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

    /// Null: this server is alone.
    std::shared_ptr<core::cluster_member> cluster;

    /// Of requests whose handlers have not ended, too.
    std::atomic<std::size_t> body_bytes{0};

    /// Whose word about others counts.
    wire::network_list trusted;

    /// How often each address may ask for an upgrade; nothing: as often as it likes.
    std::optional<core::address_rates> handshakes;

    /// The same for TLS handshakes, which come before anybody is asked for anything and cost a hundred times as much.
    std::optional<core::address_rates> tls_handshakes;

    /// Takes the settings over. Before the server serves.
    void configure(const listener_config& settings) {
        listener = settings;
        load->max_waiting = settings.max_total_outbox_bytes;
        load->max_per_address = settings.max_connections_per_address;
        load->max_contexts = settings.max_total_context_bytes;
        load->messages.most = settings.max_total_message_bytes;
        for (const auto& each : settings.trusted_proxies) trusted.add(each);
        const core::rate most{settings.max_handshakes_per_second, settings.handshake_burst};
        if (!most.is_bounded()) return;
        handshakes.emplace(most);
        tls_handshakes.emplace(most);
    }

    /// Whether limits of addresses count this one: it is known, and no proxy's.
    bool counts(std::string_view address) const noexcept {
        return !address.empty() && !wire::is_unix(address) && !trusted.contains(address);
    }

    /// Whether this address may begin one more TLS handshake now; it counts then.
    bool may_begin_tls(std::string_view address, core::millis now) {
        return !tls_handshakes || !counts(address) || tls_handshakes->enter(wire::address_group(address), now) == 0;
    }

    /// What there is for one more connection, by the number of them alone.
    core::server_load::place room() const noexcept {
        // So many more are told that it is full; past that there is not even time for an answer.
        constexpr std::size_t polite = 1024;
        const auto there = load->connections.load(std::memory_order_relaxed);
        if (there < listener.max_connections) return core::server_load::place::served;
        return there - listener.max_connections < polite ? core::server_load::place::refused
                                                         : core::server_load::place::none;
    }

    /// What one more connection of this address hears: nothing, but is closed; 0, when it is served; or the status of a refusal. It
    /// counts for its address until it goes, unless it is no address that is counted.
    std::optional<int> enter(const core::stream_user& who, std::string_view address, bool is_full = false) const {
        auto its = is_full ? core::server_load::place::refused : core::server_load::place::served;
        if (load->max_per_address != 0 && counts(address))
            its = load->enter(who, wire::address_group(address), is_full);
        switch (its) {
            case core::server_load::place::served: return 0;
            case core::server_load::place::refused: return is_full ? 503 : 429;
            default: return std::nullopt;
        }
    }

    /// Whose request it is that came from somebody with these headers.
    template <class Fields>
    wire::forwarded_client client_of(wire::forwarded_client from, const Fields& fields) const {
        if (!trusted.contains(std::string_view{from.address})) return from;
        const bool is_list = listener.forwarded == forwarded_header::x_forwarded_for;
        std::vector<std::string_view> headers;
        for (const auto& [name, value] : fields) {
            if (wire::same_ignoring_case(name, is_list ? "X-Forwarded-For" : "Forwarded")) headers.push_back(value);
        }
        return wire::client_of(std::move(from),
                               is_list ? wire::x_forwarded_nodes(headers) : wire::forwarded_nodes(headers), trusted);
    }

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
        if (cluster) cluster->add_metrics(all);
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
