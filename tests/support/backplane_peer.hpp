#pragma once

/// A backplane with a user that writes down what it is told, and an io_context of its own that runs while the test waits.

#include <arke/cluster/backplane.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace arke::test {

class backplane_peer final : public backplane_user {
    template <class Function>
    auto look(Function&& f) const {
        const std::lock_guard lock{mutex_};
        return f();
    }

    template <class Function>
    void note(Function&& f) {
        const std::lock_guard lock{mutex_};
        told_after_close_ = told_after_close_ || is_closed_;
        f();
        // Wakes until().
        if (context_) boost::asio::post(*context_, [] {});
    }

public:
    template <class Backplane>
    explicit backplane_peer(Backplane made) : backplane_{std::make_unique<Backplane>(std::move(made))} {
        backplane_->start(*context_, *strand_, *this);
    }

    backplane_peer(const backplane_peer&) = delete;
    backplane_peer& operator=(const backplane_peer&) = delete;

    ~backplane_peer() { end(); }

    /// Runs what is to run until that is so. False after twenty seconds.
    bool until(const std::function<bool()>& condition, std::chrono::milliseconds patience = std::chrono::seconds{20}) {
        const auto deadline = std::chrono::steady_clock::now() + patience;
        while (!condition()) {
            if (std::chrono::steady_clock::now() >= deadline) return condition();
            // Counts change without a word.
            context_->run_one_for(std::chrono::milliseconds{5});
        }
        return true;
    }

    /// As the cluster calls it: on the executor.
    template <class Function>
    auto call(Function&& f) {
        std::optional<decltype(f(*backplane_))> result;
        boost::asio::post(*strand_, [&] { result.emplace(f(*backplane_)); });
        while (!result) context_->run_one();
        return std::move(*result);
    }

    bool publish(std::string_view channel, std::string_view payload) {
        return call([&](backplane& b) { return b.publish(channel, payload); });
    }

    /// Does not wait for its being in force. The call's number.
    std::uint64_t subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed = {}) {
        return call([&](backplane& b) {
            b.subscribe(added, removed, ++calls_);
            return calls_;
        });
    }

    bool subscribed_to(const std::vector<std::string>& added, const std::vector<std::string>& removed = {}) {
        const auto number = subscribe(added, removed);
        return until([&] { return in_force() >= number; });
    }

    bool is_connected() const {
        return look([&] { return connected_; });
    }
    bool connects() {
        return until([&] { return is_connected(); });
    }
    /// Once more than it was when this was asked last: it may be back already.
    bool disconnects() {
        const bool told = until([&] { return look([&] { return losses_; }) > losses_seen_; });
        losses_seen_ = look([&] { return losses_; });
        return told;
    }

    /// Why it was disconnected last.
    std::string why() const {
        return look([&] { return why_; });
    }
    std::uint64_t in_force() const {
        return look([&] { return in_force_; });
    }
    std::vector<std::string> messages() const {
        return look([&] { return messages_; });
    }
    std::size_t message_count() const {
        return look([&] { return messages_.size(); });
    }

    /// Whatever it was told but messages, in order.
    std::string transcript() const {
        return look([&] { return transcript_; });
    }

    /// It is no more told anything, as a cluster that has ended.
    void close() {
        call([](backplane& b) {
            b.close();
            return true;
        });
        const std::lock_guard lock{mutex_};
        is_closed_ = true;
    }

    bool was_told_after_close() const {
        return look([&] { return told_after_close_; });
    }

    backplane& operator*() { return *backplane_; }
    backplane* operator->() { return backplane_.get(); }

    /// As when a program ends: what still runs is destroyed.
    void destroy_context() {
        work_.reset();
        strand_.reset();
        context_.reset();
    }
    void destroy_backplane() { backplane_.reset(); }

    /// What happens in received(), on whichever thread that is.
    void on_received(std::function<void()> f) {
        const std::lock_guard lock{mutex_};
        on_received_ = std::move(f);
    }

    void received(std::string_view payload) override {
        const auto also = look([&] { return on_received_; });
        if (also) also();
        note([&] { messages_.emplace_back(payload); });
    }
    void connected() override {
        note([&] {
            connected_ = true;
            transcript_ += "connected ";
        });
    }
    void disconnected(std::string_view why) override {
        note([&] {
            if (connected_) ++losses_;
            connected_ = false;
            why_ = why;
            transcript_ += "disconnected ";
        });
    }
    void subscribed(std::uint64_t number) override {
        note([&] {
            in_force_ = number;
            transcript_ += "subscribed(" + std::to_string(number) + ") ";
        });
    }

private:
    void end() {
        if (backplane_) backplane_->close();
        destroy_backplane();
        destroy_context();
    }

    std::unique_ptr<boost::asio::io_context> context_ = std::make_unique<boost::asio::io_context>(1);
    std::optional<cluster_executor> strand_{boost::asio::make_strand(*context_)};
    std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> work_{
        context_->get_executor()};
    std::unique_ptr<backplane> backplane_;
    std::uint64_t calls_ = 0;
    std::uint64_t losses_seen_ = 0;

    mutable std::mutex mutex_;
    std::function<void()> on_received_;
    bool connected_ = false;
    std::uint64_t losses_ = 0;
    bool is_closed_ = false;
    bool told_after_close_ = false;
    std::string why_;
    std::uint64_t in_force_ = 0;
    std::vector<std::string> messages_;
    std::string transcript_;
};

}  // namespace arke::test
