#include <arke/cluster/nats.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "tests/support/allocations.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/nats_scene.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

namespace {

/// A user whom the backplane's own threads tell, and who takes their memory away.
class shortening final : public backplane_user {
public:
    void received(std::string_view) override {
        note([&] { ++heard_; });
    }
    /// On the thread of the answers.
    void connected() override {
        const bool is_struck = shortage_of_answers_ && shortage_of_answers_->struck();
        shortage_of_answers_.reset();
        note([&] {
            is_connected_ = true;
            answers_struck_ = is_struck;
        });
    }
    /// On the thread of the connection.
    void disconnected(std::string_view why) override {
        if (shortage_ && shortage_->struck()) ++strikes_;
        shortage_.reset();
        note([&] {
            is_connected_ = false;
            why_ = why;
            ++losses_;
        });
        if (const auto nth = next_.exchange(none); nth != none) shortage_.emplace(nth);
    }
    /// On that of the answers.
    void subscribed(std::uint64_t number) override {
        if (const auto nth = next_of_answers_.exchange(none); nth != none) shortage_of_answers_.emplace(nth);
        note([&] { in_force_ = number; });
    }

    template <class F>
    bool until(F is_so) {
        std::unique_lock lock{mutex_};
        return changed_.wait_for(lock, 20s, is_so);
    }
    template <class T>
    T look(T shortening::*at) {
        const std::lock_guard lock{mutex_};
        return this->*at;
    }

    // Under until(), or by look().
    bool is_connected_ = false;
    std::uint64_t in_force_ = 0;
    std::size_t heard_ = 0;
    std::size_t losses_ = 0;
    std::string why_;
    bool answers_struck_ = false;

    static constexpr std::size_t none = ~std::size_t{0};
    std::atomic<std::size_t> next_{none};             ///< How soon memory is missing, from the next disconnected() on.
    std::atomic<std::size_t> next_of_answers_{none};  ///< And from the next subscribed() on.
    std::atomic<std::size_t> strikes_{0};

private:
    template <class F>
    void note(F f) {
        const std::lock_guard lock{mutex_};
        f();
        changed_.notify_all();
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<memory_shortage> shortage_, shortage_of_answers_;
};

}  // namespace

TEST_CASE("nats: without memory at any one time the thread of the connection goes on, by a new one") {
    // It ended the process.
    const auto server = broker::nats();
    boost::asio::io_context context;
    shortening user;
    auto config = quick_nats(server.url());
    config.reconnect_delay = config.max_reconnect_delay = 1ms;
    config.name = "a name that needs memory of its own, as long as it is";
    nats_backplane plane{config};
    plane.start(context, boost::asio::make_strand(context), user);
    std::uint64_t calls = 0;
    std::size_t nth = 0;
    for (; nth != 1'000; ++nth) {
        INFO(nth);
        const auto channel = [](std::size_t n) { return "a.channel.with.a.name.of.some.length." + std::to_string(n); };
        if (nth == 0) {
            plane.subscribe({channel(0)}, {}, ++calls);
            REQUIRE(user.until([&] { return user.is_connected_ && user.in_force_ == calls; }));
        }
        const auto losses = user.look(&shortening::losses_);
        user.next_ = nth;
        plane.reconnect();
        plane.subscribe({channel(nth + 1)}, {channel(nth)}, ++calls);
        REQUIRE(user.until([&] { return user.losses_ > losses; }));
        // Of the round before: nothing was missing any more.
        if (user.strikes_ < nth) break;
        REQUIRE(user.until([&] { return user.is_connected_ && user.in_force_ == calls; }));
        CHECK(plane.counts().subscriptions == 1);
        const auto heard = user.look(&shortening::heard_);
        while (user.look(&shortening::heard_) == heard) {
            REQUIRE(user.until([&] { return user.is_connected_; }));
            const auto lost = plane.counts().lost;
            plane.publish(channel(nth + 1), "x");
            REQUIRE(user.until([&] { return user.heard_ > heard || plane.counts().lost > lost; }));
        }
    }
    CHECK(nth > 3);
    CHECK(nth != 1'000);
    plane.close();
}

TEST_CASE("nats: without memory to say that the server does not answer it is given up all the same") {
    // The thread of the answers ended the process.
    auto server = broker::nats();
    boost::asio::io_context context;
    shortening user;
    auto config = quick_nats(server.url(), 10s);
    config.answer_timeout = 300ms;
    nats_backplane plane{config};
    plane.start(context, boost::asio::make_strand(context), user);
    user.next_of_answers_ = 0;
    plane.subscribe({"a"}, {}, 1);
    REQUIRE(user.until([&] { return user.in_force_ == 1; }));
    server.stop();
    REQUIRE(user.until([&] { return user.losses_ == 1; }));
    const auto why = user.look(&shortening::why_);
    server.go_on();
    CHECK(user.until([&] { return user.is_connected_; }));
    // Under the thread sanitizer there is always memory for a std::string.
    const bool struck = user.look(&shortening::answers_struck_);
    CHECK(why == (struck ? "no memory left" : "NATS has not answered for 300 ms"));
    plane.close();
}

TEST_CASE("nats: without memory to start it throws, leaves no thread behind, and may be started again") {
    const auto server = broker::nats();
    boost::asio::io_context context;
    shortening user;
    nats_backplane plane{quick_nats(server.url())};
    {
        nats_backplane first{server.url()};  // nats.c's own threads are there from the first one on
        first.start(context, boost::asio::make_strand(context), user);
        REQUIRE(user.until([&] { return user.is_connected_; }));
    }
    const auto before = thread_count();
    bool is_started = false;
    for (std::size_t nth = 0; !is_started; ++nth) {
        const auto strand = boost::asio::make_strand(context);
        try {
            const memory_shortage shortage{nth};
            plane.start(context, strand, user);
            is_started = true;
        } catch (const std::bad_alloc&) {
        }
        if (is_started) break;
        // One that has ended is to be seen for a moment more.
        const auto end = steady::now() + 20s;
        while (thread_count() > before && steady::now() < end) std::this_thread::yield();
        CHECK(thread_count() <= before);
    }
    plane.subscribe({"a"}, {}, 1);
    CHECK(user.until([&] { return user.in_force_ == 1; }));
    plane.close();
}
