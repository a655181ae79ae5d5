#pragma once

/// Somebody at a broker within the process who is no server of ours: it says and hears envelopes, and nothing by itself.

#include <arke/cluster/envelope.hpp>
#include <arke/cluster/in_process.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace arke::test {

class raw_node final : public backplane_user {
public:
    /// `hears` gets the envelopes of others, in this node's thread.
    explicit raw_node(const in_process_broker& at, std::string tag = "Raw01",
                      std::function<void(raw_node&, const cluster::envelope&)> hears = {})
        : hears_{std::move(hears)},
          tag_{std::move(tag)},
          on_{boost::asio::make_strand(context_)},
          carrier_{at},
          work_{boost::asio::make_work_guard(context_)} {
        carrier_.start(context_, on_, *this);
        carrier_.subscribe({channels_.nodes(), channels_.node(tag_)}, {}, 1);
        thread_ = std::thread{[this] { context_.run(); }};
    }
    ~raw_node() {
        boost::asio::post(on_, [this] {
            carrier_.close();
            work_.reset();
        });
        thread_.join();
    }
    raw_node(const raw_node&) = delete;
    raw_node& operator=(const raw_node&) = delete;

    const std::string& tag() const noexcept { return tag_; }
    const cluster::channel_names& channels() const noexcept { return channels_; }

    /// Says it to a channel. Any thread.
    void say(const std::string& channel, cluster::envelope e) {
        const std::lock_guard lock{mutex_};
        e.from = id_;
        e.sequence = ++sequence_;
        carrier_.publish(channel, cluster::encode(e));
    }

    /// Makes the servers take it for one of them; and for one that has gone.
    void appear(cluster::envelope::kind is = cluster::envelope::kind::hello) {
        cluster::envelope e;
        e.is = is;
        e.tag = tag_;
        e.name_of_node = "raw";
        say(channels_.nodes(), std::move(e));
    }
    void disappear() { appear(cluster::envelope::kind::goodbye); }

    void received(std::string_view payload) override {
        cluster::envelope e;
        if (cluster::decode(payload, e) == cluster::decoded::yes && e.from != id_ && hears_) hears_(*this, e);
    }
    void connected() override {}
    void disconnected(std::string_view) override {}
    void subscribed(std::uint64_t) override {}

private:
    std::function<void(raw_node&, const cluster::envelope&)> hears_;
    std::string tag_;
    cluster::channel_names channels_{"arke"};
    cluster::sender_id id_ = cluster::sender_id::make();
    std::mutex mutex_;
    std::uint64_t sequence_ = 0;
    boost::asio::io_context context_{1};
    cluster_executor on_;
    in_process_backplane carrier_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    std::thread thread_;
};

}  // namespace arke::test
