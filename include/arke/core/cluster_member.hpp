#pragma once

#include <arke/core/endpoint.hpp>

#include <memory>

namespace arke::core {

/// A server's share in a cluster, as the server knows it. The layer above makes it, of a backplane.
class cluster_member {
public:
    virtual ~cluster_member() = default;

    /// Another endpoint, before the first connection.
    virtual void add(const endpoint_ptr& endpoint) = 0;

    /// Tells the others goodbye, and lets go of everything. On the first loop, or when nothing runs it any more; again is no more.
    virtual void close() noexcept = 0;

    virtual void add_metrics(metrics& to) const = 0;
};

/// What a server gives to who makes one: its first loop, its endpoints, and what it does with those who are connected to it.
struct cluster_place {
    loop_ptr loop;
    std::vector<endpoint_ptr> endpoints;
    void (*act_here)(endpoint& on, const address& to, const action& what) = nullptr;
};

}  // namespace arke::core
