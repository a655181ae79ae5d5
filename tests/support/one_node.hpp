#pragma once

/// A node of a cluster without a clock and without a broker, and what another server would say to it.

#include <arke/cluster/node.hpp>
#include <arke/testing.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

namespace arke::test {

inline constexpr auto in_room = core::name::kind::room;

/// A broker that does what the test says, and a log of what it was asked to do.
struct scripted_backplane final : backplane {
    void start(boost::asio::io_context&, const cluster_executor&, backplane_user&) override {}
    bool publish(std::string_view channel, std::string_view payload) override {
        if (is_short_of_memory) throw std::bad_alloc{};
        if (payload.size() > max_payload) return false;
        published.emplace_back(channel, payload);
        return true;
    }
    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                   std::uint64_t number) override {
        // All of it or, without memory, nothing.
        auto next = channels;
        bool is_sound = true;
        for (const auto& each : added) is_sound = next.insert(each).second && is_sound;
        for (const auto& each : removed) is_sound = next.erase(each) == 1 && is_sound;
        if (!is_sound) FAIL_CHECK("a channel is added twice, or left and never added");
        channels.swap(next);
        additions += static_cast<int>(added.size());
        ++calls;
        last_number = number;
    }
    void reconnect() override { ++reconnects; }
    void close() noexcept override { closed = true; }
    std::size_t waiting() const noexcept override { return waits; }
    backplane_counts counts() const noexcept override {
        if (when_counted) when_counted();
        return {};
    }

    std::vector<std::pair<std::string, std::string>> published;
    std::set<std::string> channels;
    int calls = 0;
    int additions = 0;
    int reconnects = 0;
    bool closed = false;
    std::uint64_t last_number = 0;
    std::size_t waits = 0;
    std::function<void()> when_counted;
    std::size_t max_payload = 1'000'000;
    bool is_short_of_memory = false;
};

/// A node with an endpoint that has connections without sockets, and a clock that the test turns.
struct one_node final : cluster::node_host {
    explicit one_node(cluster_config settings = {}, config endpoint_settings = {.endpoint = "/chat"})
        : server{std::move(endpoint_settings)},
          made{std::make_shared<cluster::node>(std::move(settings), *this, broker)} {
        made->add(endpoint(), made);
    }
    ~one_node() { made->close(now); }

    core::endpoint_ptr endpoint() { return core::endpoint_ptr{&server.hub()}; }

    void work() {
        server.settle();
        next = made->work(now);
    }

    /// Connected, and its own hello has come back.
    void connect() {
        work();
        made->connected(now);
        made->subscribed(broker.last_number);
        echo();
    }

    /// The broker hands back what was published since the last time, to those who are subscribed to its channel.
    void echo() {
        const auto all = take();
        for (const auto& [channel, bytes] : all) {
            if (broker.channels.contains(channel)) made->received(bytes, now);
        }
    }
    std::vector<std::pair<std::string, std::string>> take() { return std::exchange(broker.published, {}); }

    /// Who said what to which channel, own signs of life left out.
    std::string said() {
        std::string all;
        for (const auto& [channel, bytes] : take()) {
            cluster::envelope e;
            REQUIRE(cluster::decode(bytes, e) == cluster::decoded::yes);
            if (e.is == cluster::envelope::kind::heartbeat || e.is == cluster::envelope::kind::hello) continue;
            all += (all.empty() ? "" : " ") + channel;
        }
        return all;
    }

    void wake() noexcept override { ++wakes; }
    void log(std::string_view line) noexcept override { logged += std::string{line} + "\n"; }
    void act_here(core::endpoint& on, const core::address& to, const core::action& what) override {
        arke::detail::act_here(on, to, what);
    }
    void state_changed(const cluster_state& state) override {
        states += state.degraded ? "degraded(" + state.why + ") " : "well ";
    }
    void heard(const node_info& from, const cluster::envelope& event) override {
        events += from.id + ":" + std::string{event.what.event.name} + " ";
    }

    scripted_backplane broker;
    arke::testing::server server;
    std::shared_ptr<cluster::node> made;
    core::millis now = 1'000;
    core::millis next = 0;
    int wakes = 0;
    std::string logged;
    std::string states;
    std::string events;
};

/// What another server would say.
struct other_server {
    std::string tag = "Other";
    cluster::sender_id id = cluster::sender_id::make();
    std::uint64_t sequence = 0;

    std::string bytes(cluster::envelope e) {
        e.from = id;
        e.sequence = ++sequence;
        return cluster::encode(e);
    }
    std::string hello(cluster::envelope::kind is = cluster::envelope::kind::hello) {
        cluster::envelope e;
        e.is = is;
        e.tag = tag;
        e.name_of_node = "the other";
        e.number = 3;
        return bytes(e);
    }
    std::string say(core::name::kind is, std::string_view to, std::string_view event, std::string_view data = {}) {
        cluster::envelope e;
        e.is = cluster::envelope::kind::deliver;
        e.endpoint = "/chat";
        e.to = {{is, to}};
        e.what = outgoing::of({event, value_kind::text, data});
        return bytes(e);
    }
};

}  // namespace arke::test
