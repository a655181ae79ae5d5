#pragma once

#include <arke/cluster/handle.hpp>
#include <arke/event/arke_v1_protocol.hpp>

#include <algorithm>
#include <stdexcept>

namespace arke::cluster {

ARKE_COLD_INLINE void add_answer(cluster_members& to, const node_info&, const envelope& e) {
    to.ids.insert(to.ids.end(), e.ids.begin(), e.ids.end());
}

ARKE_COLD_INLINE void add_answer(cluster_size& to, const node_info&, const envelope& e) {
    to.size += static_cast<std::size_t>(e.count);
}

ARKE_COLD_INLINE void add_answer(cluster_nodes& to, const node_info& from, const envelope& e) {
    const node_info made{from.id, from.name, e.count};
    const auto by_id = [](const node_info& a, const node_info& b) { return a.id < b.id; };
    to.nodes.insert(std::upper_bound(to.nodes.begin() + 1, to.nodes.end(), made, by_id), made);
}

ARKE_COLD_INLINE void check_event(const event_view& event) {
    static const arke_v1_protocol protocol;
    std::string why;
    if (!protocol.measure(outgoing::of(event), why)) throw std::invalid_argument{why};
}

ARKE_COLD_INLINE void emit_to_servers(node& by, std::string_view one, const event_view& event) {
    envelope e;
    e.is = envelope::kind::event;
    e.tag = by.tag();
    e.what = outgoing::of(event);
    by.send(one.empty() ? by.channels().nodes() : by.channels().node(one), std::move(e));
}

}  // namespace arke::cluster

namespace arke {

ARKE_COLD_INLINE void server_speaker::send(const event_view& event) const {
    cluster::check_event(event);
    if (by_) cluster::emit_to_servers(by_->node(), one_, event);
}

ARKE_COLD_INLINE void server_target::start(std::shared_ptr<cluster::question> then, const message& request,
                                           std::chrono::milliseconds timeout) const {
    if (!by_) {
        std::vector<node_info> missing;
        if (!one_.empty()) missing.push_back({one_, {}, 0});
        return then->done(std::move(missing), false);
    }
    cluster::envelope e;
    e.is = cluster::envelope::kind::event;
    e.what = request.view();
    by_->node().ask(one_, std::move(e), std::move(then), timeout);
}

ARKE_COLD_INLINE node_info cluster_handle::self() const {
    return by_ ? by_->node().self() : node_info{{}, {}, owner_->size()};
}

ARKE_COLD_INLINE std::vector<node_info> cluster_handle::others() const {
    return by_ ? by_->node().others() : std::vector<node_info>{};
}

ARKE_COLD_INLINE cluster_state cluster_handle::state() const {
    return by_ ? by_->node().state() : cluster_state{false, {}};
}

ARKE_COLD_INLINE bool cluster_handle::off(handler_id handler) { return by_ && by_->events()->off(handler); }

ARKE_COLD_INLINE std::uint64_t cluster_handle::unhandled_events() const noexcept {
    return by_ ? by_->events()->unhandled() : 0;
}

ARKE_COLD_INLINE handler_id cluster_handle::add(std::string_view event,
                                                boost::intrusive_ptr<cluster::server_event_handler> handler) {
    return by_ ? by_->events()->add(event, std::move(handler)) : handler_id{1};
}

ARKE_COLD_INLINE handler_id cluster_handle::add(boost::intrusive_ptr<cluster::state_handler> handler) {
    return by_ ? by_->events()->add(std::move(handler)) : handler_id{1};
}

ARKE_COLD_INLINE std::chrono::milliseconds cluster_handle::question_timeout() const {
    return by_ ? by_->node().settings().question_timeout : cluster_config{}.question_timeout;
}

ARKE_COLD_INLINE void cluster_handle::start_waiting(std::chrono::milliseconds timeout,
                                                    std::function<void(bool)> then) const {
    if (!by_) return then(true);
    by_->node().await(cluster::node::milestone::settled, timeout, std::move(then));
}

ARKE_COLD_INLINE void cluster_handle::answer_here(const listing& what, cluster_members& to) const {
    if (const auto on = by_ ? by_->node().endpoint_of(what.path) : owner_) to.ids = on->members(what.room);
}

ARKE_COLD_INLINE void cluster_handle::answer_here(const listing& what, cluster_size& to) const {
    if (const auto on = by_ ? by_->node().endpoint_of(what.path) : owner_) to.size = on->members(what.room).size();
}

ARKE_COLD_INLINE void cluster_handle::answer_here(const listing&, cluster_nodes& to) const {
    to.nodes.push_back(self());
}

ARKE_COLD_INLINE void cluster_handle::start(std::shared_ptr<cluster::question> then, const listing& what) const {
    if (!by_) return then->done({}, false);
    cluster::envelope e;
    e.is = what.is;
    e.endpoint = what.path;
    e.text = what.room;
    by_->node().ask({}, std::move(e), std::move(then), question_timeout());
}

}  // namespace arke
