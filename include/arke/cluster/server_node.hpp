#pragma once

#include <arke/cluster/backplane.hpp>
#include <arke/cluster/events.hpp>
#include <arke/cluster/node.hpp>
#include <arke/core/cluster_member.hpp>
#include <arke/io/asio_loop.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace arke::cluster {

/// A node on a server's first loop: gives it time, its backplane a place, and what comes by it a turn of the loop. The same for a
/// process that is no server: then there are no endpoints.
class server_node final : public core::cluster_member,
                          public backplane_user,
                          private node_host,
                          public std::enable_shared_from_this<server_node> {
public:
    /// `log` takes what is told to people; empty: the first endpoint's. begin() follows.
    server_node(const core::cluster_place& place, std::unique_ptr<backplane> carrier, cluster_config settings,
                std::function<void(std::string_view)> log = {});

    /// Joins the endpoints to it and has the backplane connect, later on the loop.
    void begin(const core::cluster_place& place);

    cluster::node& node() noexcept { return node_; }
    std::shared_ptr<server_events> events() { return {shared_from_this(), &events_}; }

    // core::cluster_member
    void add(const core::endpoint_ptr& endpoint) override;
    void close() noexcept override;
    void add_metrics(metrics& to) const override { node_.add_metrics(to.cluster); }

    // backplane_user
    void received(std::string_view payload) override;
    void begin_burst() override { burst_.emplace(*loop_); }
    void end_burst() noexcept override { burst_.reset(); }
    void connected() override;
    void disconnected(std::string_view why) override;
    void subscribed(std::uint64_t number) override;

private:
    // node_host
    void wake() noexcept override;
    void log(std::string_view line) noexcept override;
    void act_here(core::endpoint& on, const core::address& to, const core::action& what) override {
        act_here_(on, to, what);
    }
    void state_changed(const cluster_state& state) override;
    void heard(const node_info& from, const envelope& event) override { server_events::heard(events(), from, event); }

    /// On the loop, in a turn: now, or posted with what it needs by then.
    template <class F>
    void hop(F&& f);
    void work();
    void give_up(const std::string& why) noexcept;
    void overrun();

    /// What may wait for the loop that came on other threads.
    static constexpr std::size_t most_unheard = 64UL * 1024 * 1024;

    core::loop_ptr held_;
    io::asio_loop* loop_;
    core::endpoint_ptr first_;  // null: this is no server
    std::function<void(std::string_view)> log_;
    void (*act_here_)(core::endpoint&, const core::address&, const core::action&);
    std::unique_ptr<backplane> carrier_;
    std::optional<io::own_timer> timer_;
    std::optional<core::loop::turn> burst_;
    bool started_ = false;
    bool closed_ = false;
    std::atomic<std::size_t> unheard_{0};
    std::atomic<bool> is_overrun_{false};
    cluster::node node_;
    server_events events_;
};

}  // namespace arke::cluster

namespace arke {

/// What server.cluster() calls: found by the type of its arguments, so that a server includes nothing of a cluster.
namespace core {
std::shared_ptr<cluster_member> make_cluster_member(const cluster_place& place, std::unique_ptr<backplane> carrier,
                                                    cluster_config settings);
}

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/cluster/server_node.ipp>
#endif
