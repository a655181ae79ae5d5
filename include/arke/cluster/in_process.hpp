#pragma once

#include <arke/cluster/handle.hpp>

#include <boost/asio/post.hpp>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace arke {

/// A broker within the process, for tests of what several servers do together. Copies mean the same one.
///
/// Threads: any.
class in_process_broker {
public:
    in_process_broker() : shared_{std::make_shared<shared>()} {}

    /// Cuts everybody off, and has them back.
    void set_reachable(bool reachable) const {
        const std::lock_guard lock{shared_->mutex};
        shared_->reachable = reachable;
        for (const auto& each : shared_->members) {
            each->post([reachable](backplane_user& user) {
                if (reachable)
                    user.connected();
                else
                    user.disconnected("the broker was made unreachable");
            });
        }
    }

private:
    friend class in_process_backplane;
    struct member : std::enable_shared_from_this<member> {
        std::optional<cluster_executor> on;
        backplane_user* user = nullptr;  // on the executor; null after close()
        std::set<std::string, std::less<>> channels;
        backplane_counts counts;

        /// Never within the call: who is told something may publish.
        template <class F>
        void post(F f) {
            boost::asio::post(*on, [self = shared_from_this(), f = std::move(f)] {
                if (self->user != nullptr) f(*self->user);
            });
        }
    };
    struct shared {
        std::mutex mutex;
        std::vector<std::shared_ptr<member>> members;
        bool reachable = true;
    };
    std::shared_ptr<shared> shared_;
};

/// Carries messages between servers of one process. The simplest backplane there is, and so the one to read before writing one.
class in_process_backplane final : public backplane {
public:
    explicit in_process_backplane(const in_process_broker& by) : shared_{by.shared_} {}

    void start(boost::asio::io_context&, const cluster_executor& on, backplane_user& user) override {
        const std::lock_guard lock{shared_->mutex};
        me_->on = on;
        me_->user = &user;
        shared_->members.push_back(me_);
        if (!shared_->reachable) return;
        ++me_->counts.connections;
        me_->post([](backplane_user& u) { u.connected(); });
    }

    bool publish(std::string_view channel, std::string_view payload) override {
        const std::lock_guard lock{shared_->mutex};
        ++me_->counts.published;
        me_->counts.published_bytes += payload.size();
        if (!shared_->reachable) return true;
        const auto copy = std::make_shared<const std::string>(payload);
        for (const auto& each : shared_->members) {
            if (!each->channels.contains(channel)) continue;
            ++each->counts.received;
            each->counts.received_bytes += payload.size();
            each->post([copy](backplane_user& user) { user.received(*copy); });
        }
        return true;
    }

    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                   std::uint64_t number) override {
        const std::lock_guard lock{shared_->mutex};
        me_->channels.insert(added.begin(), added.end());
        for (const auto& each : removed) me_->channels.erase(each);
        me_->counts.subscriptions = me_->channels.size();
        ++me_->counts.round_trips;
        me_->post([number](backplane_user& user) { user.subscribed(number); });
    }

    void close() noexcept override {
        const std::lock_guard lock{shared_->mutex};
        std::erase(shared_->members, me_);
        me_->user = nullptr;
        me_->on.reset();
    }

    std::size_t waiting() const noexcept override { return 0; }

    backplane_counts counts() const noexcept override {
        const std::lock_guard lock{shared_->mutex};
        return me_->counts;
    }

private:
    std::shared_ptr<in_process_broker::shared> shared_;
    std::shared_ptr<in_process_broker::member> me_ = std::make_shared<in_process_broker::member>();
};

}  // namespace arke
