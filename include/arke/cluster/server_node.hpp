#pragma once

#include <arke/cluster/backplane.hpp>
#include <arke/cluster/node.hpp>
#include <arke/core/cluster_member.hpp>
#include <arke/io/asio_loop.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace arke::cluster {

/// A node on a server's first loop: gives it time, its backplane a place, and what comes by it a turn of the loop.
class server_node final : public core::cluster_member,
                          public backplane_user,
                          private node_host,
                          public std::enable_shared_from_this<server_node> {
public:
    /// `carrier` may be null. begin() follows.
    server_node(const core::cluster_place& place, std::unique_ptr<backplane> carrier, cluster_config settings);

    /// Joins the endpoints to it and has the backplane connect, later on the loop.
    void begin(const core::cluster_place& place);

    cluster::node& node() noexcept { return node_; }
    io::asio_loop& loop() noexcept { return *loop_; }
    const core::endpoint_ptr& first_endpoint() const noexcept { return first_; }

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

    /// Who hears of events of other servers, and of the state. On the loop; set before it runs, or on it.
    std::function<void(const node_info& from, const envelope& event)> on_event;
    std::function<void(const cluster_state& state)> on_state;

private:
    // node_host
    void wake() noexcept override;
    void log(std::string_view line) noexcept override;
    void act_here(core::endpoint& on, const core::address& to, const core::action& what) override {
        act_here_(on, to, what);
    }
    void state_changed(const cluster_state& state) override;
    void heard(const node_info& from, const envelope& event) override {
        if (on_event) on_event(from, event);
    }

    /// On the loop, in a turn: now, or posted with what it needs by then.
    template <class F>
    void hop(F&& f);
    void work();

    core::loop_ptr held_;
    io::asio_loop* loop_;
    core::endpoint_ptr first_;
    void (*act_here_)(core::endpoint&, const core::address&, const core::action&);
    std::unique_ptr<backplane> carrier_;
    std::optional<io::own_timer> timer_;
    std::optional<core::loop::turn> burst_;
    bool started_ = false;
    bool closed_ = false;
    cluster::node node_;
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
