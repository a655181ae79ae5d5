#pragma once

/// Something that coroutines of a server wait for, and the test opens.

#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <memory>
#include <mutex>
#include <vector>

namespace arke::test {

/// Threads: wait() on loops, open() any.
class gate {
public:
    boost::asio::awaitable<void> wait() {
        namespace asio = boost::asio;
        const auto mine = std::make_shared<asio::steady_timer>(co_await asio::this_coro::executor,
                                                               asio::steady_timer::time_point::max());
        if (!add(mine)) co_return;
        boost::system::error_code ignored;
        co_await mine->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }

    void open() {
        const std::lock_guard lock{mutex_};
        is_open_ = true;
        for (const auto& each : waiting_) {
            // On its loop, where it waits.
            if (const auto timer = each.lock()) boost::asio::post(timer->get_executor(), [timer] { timer->cancel(); });
        }
    }

private:
    bool add(const std::shared_ptr<boost::asio::steady_timer>& timer) {
        const std::lock_guard lock{mutex_};
        waiting_.push_back(timer);
        return !is_open_;
    }

    std::mutex mutex_;
    bool is_open_ = false;
    std::vector<std::weak_ptr<boost::asio::steady_timer>> waiting_;
};

}  // namespace arke::test
