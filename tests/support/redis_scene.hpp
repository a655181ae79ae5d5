#pragma once

/// Backplanes at a real Redis, whose users write down what they are told, and an io_context that runs while the test waits.

#include <arke/cluster/redis.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"

namespace arke::test {

/// One server of a cluster, as far as a backplane knows one: it writes down what it is told.
class redis_node final : public backplane_user {
public:
    redis_node(boost::asio::io_context& context, redis_config settings)
        : strand_{boost::asio::make_strand(context)}, plane{settings} {
        plane.start(context, *strand_, *this);
    }

    void received(std::string_view payload) override {
        messages.emplace_back(payload);
        heard();
    }
    void connected() override {
        is_connected = true;
        note("connected");
    }
    void disconnected(std::string_view why) override {
        CHECK(why.size() > 10);
        is_connected = false;
        reasons.emplace_back(why);
        note("disconnected");
    }
    void subscribed(std::uint64_t number) override {
        CHECK(number > in_force);
        in_force = number;
        note("subscribed " + std::to_string(number));
    }

    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed = {}) {
        plane.subscribe(added, removed, ++calls);
    }

    /// Before the io_context that it is of.
    void forget_strand() { strand_.reset(); }

    /// All messages in one.
    std::string text() const {
        std::string all;
        for (const auto& m : messages) all += (all.empty() ? "" : " ") + m;
        return all;
    }

private:
    void note(const std::string& what) {
        diary += (diary.empty() ? "" : ", ") + what;
        heard();
    }
    void heard() {
        CHECK_FALSE(is_closed);
        CHECK(strand_->running_in_this_thread());
        if (on_call) on_call();
    }

    std::optional<cluster_executor> strand_;

public:
    redis_backplane plane;
    std::vector<std::string> messages;
    std::vector<std::string> reasons;
    std::string diary;
    std::uint64_t calls = 0;
    std::uint64_t in_force = 0;
    bool is_connected = false;
    bool is_closed = false;
    std::function<void()> on_call;
};

/// What runs the nodes: until something is so, or for twenty seconds in vain.
struct redis_scene {
    boost::asio::io_context context;
    std::list<redis_node> nodes;

    ~redis_scene() {
        for (auto& each : nodes) each.plane.close();
    }

    redis_node& join(redis_config settings) { return nodes.emplace_back(context, std::move(settings)); }
    redis_node& join_at(const std::string& url) { return join({.url = url}); }

    bool until(const std::function<bool()>& is_so) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{20};
        while (!is_so()) {
            if (std::chrono::steady_clock::now() > end) return false;
            context.restart();
            context.run_one_for(std::chrono::milliseconds{20});
        }
        return true;
    }
    bool connects(redis_node& n) {
        return until([&] { return n.is_connected; });
    }
    bool subscribes(redis_node& n) {
        return until([&] { return n.in_force == n.calls; });
    }
    /// A node that is connected and subscribed.
    redis_node& member(const std::string& url, const std::vector<std::string>& channels) {
        auto& n = join_at(url);
        n.subscribe(channels);
        REQUIRE(connects(n));
        REQUIRE(subscribes(n));
        return n;
    }
    /// Everything that was published has been heard of.
    bool settles(redis_node& n) {
        return until([&] {
            const auto c = n.plane.counts();
            return c.published + c.lost == published_[&n];
        });
    }
    void publish(redis_node& n, std::string_view channel, std::string_view payload) {
        ++published_[&n];
        CHECK(n.plane.publish(channel, payload));
    }

private:
    std::map<redis_node*, std::uint64_t> published_;
};

/// Asks Redis by a connection of its own, for one line.
inline std::string asked(const broker& redis, const std::string& command) {
    boost::asio::io_context context;
    boost::asio::ip::tcp::socket s{context};
    s.connect({boost::asio::ip::make_address("127.0.0.1"), redis.port()});
    boost::asio::write(s, boost::asio::buffer(command + "\r\n"));
    std::string line;
    boost::asio::read_until(s, boost::asio::dynamic_buffer(line), "\r\n");
    return line.substr(0, line.find("\r\n"));
}

inline std::vector<std::string> channels(std::size_t count, const std::string& prefix = "room.") {
    std::vector<std::string> all;
    for (std::size_t i = 0; i != count; ++i) all.push_back(prefix + std::to_string(i));
    return all;
}

inline bool holds(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

}  // namespace arke::test
