#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace arke {

/// A server's share in a cluster: server.cluster(backplane, config). What is left out is sound. Checked where it is handed over,
/// and refused by std::invalid_argument whose text names the field, the value and the mend.
struct cluster_config {
    /// What nodes() calls this server, for people. Empty: the host's name and the number of the process.
    std::string name{};

    /// What the names of all channels begin with. Servers of one prefix and one broker are one cluster; give each cluster that
    /// shares a broker one of its own. Letters, digits, '-', '_', and '.' between them; at most 60.
    std::string prefix = "arke";

    /// How often a server tells the others that it is there. Its own message comes back by the broker, and shows that all works.
    std::chrono::milliseconds heartbeat_period{1'000};

    /// After what silence a server counts as gone from nodes() and from answers; and after what silence of the broker, which then
    /// is reconnected to, this one counts as degraded. At least twice heartbeat_period.
    std::chrono::milliseconds node_timeout{5'000};

    /// How long members(), size() and nodes() wait for the others. Who has not answered by then is named as missing.
    std::chrono::milliseconds question_timeout{2'000};

    /// How long a room that has lost its last member here stays subscribed to, in case somebody comes back.
    std::chrono::milliseconds subscription_linger{10'000};

    /// How many rooms may wait for that. At the bound the first of them are left at once.
    std::size_t max_lingering = 10'000;

    /// Bytes that may wait for the broker: because it takes them slowly, or because there is no connection. At the bound what is said
    /// further is told here only, and counted as dropped.
    std::size_t max_outgoing_bytes = 16UL * 1024 * 1024;

    /// Servers, and other senders, that are remembered. At the bound the one that has been silent the longest is forgotten.
    std::size_t max_nodes = 4'096;

    /// Questions that may be open at once. At the bound a further one is answered at once, by this server alone, and all others are
    /// missing.
    std::size_t max_questions = 10'000;

    friend bool operator==(const cluster_config&, const cluster_config&) = default;
};

/// How a server's cluster is at a moment.
struct cluster_state {
    /// Nothing comes back from the broker: the others hear us late or not at all, and we them. Here all goes on.
    bool degraded = true;
    std::string why{};  ///< For people; empty where it is not degraded.

    friend bool operator==(const cluster_state&, const cluster_state&) = default;
};

/// A server of the cluster, or another sender.
struct node_info {
    std::string id{};    ///< Five letters and digits, new at each start; what the ids of its connections begin with.
    std::string name{};  ///< cluster_config::name.
    std::uint64_t connections = 0;

    friend bool operator==(const node_info&, const node_info&) = default;
};

}  // namespace arke
