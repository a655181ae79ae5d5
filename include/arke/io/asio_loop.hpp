#pragma once

#include <arke/base/config.hpp>
#include <arke/core/loop.hpp>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace arke::io {

namespace asio = boost::asio;

using native_socket = asio::ip::tcp::socket::native_handle_type;

/// What all loops have in common: a strand of an io_context, which is their one serialising executor, and a timer.
///
/// Whether a caller is on the loop is asked of the strand, never of a thread id: a caller's io_context may have any number
/// of threads.
///
/// Operations under way hold a reference to the loop, so it lives as long as one of them; shut_down() ends them. After that
/// the object is an empty shell that handles may still refer to.
class asio_loop : public core::loop {
public:
    using strand_type = asio::strand<asio::io_context::executor_type>;

    asio_loop(asio::io_context& context, std::size_t index, const listener_config& settings)
        : loop{index, settings.write_buffer_size, clock_now()},
          context_{context},
          strand_{std::in_place, asio::make_strand(context)},
          timer_{std::in_place, context} {}

    /// Empty after shut_down().
    asio::any_io_executor get_executor() override {
        const std::lock_guard lock{strand_mutex_};
        return strand_ ? asio::any_io_executor{*strand_} : asio::any_io_executor{};
    }
    const strand_type& strand() const noexcept { return *strand_; }
    asio::io_context& context() noexcept { return context_; }

    /// Takes over a connected, non-blocking socket. On the loop, in a turn. Where that fails the socket is closed, and the user
    /// is never called.
    virtual core::transport* attach(native_socket socket, core::stream_user_ptr user) = 0;

    /// Who uses the sockets of this loop, those that are closing included. In a turn.
    virtual std::vector<core::stream_user_ptr> users() const = 0;

    /// Ends everything this loop has with the io_context. While no thread runs the io_context, or on the loop.
    virtual void shut_down() {
        end_posts();
        timer_.reset();
        // Other threads may be asking whose turn it is.
        const std::lock_guard lock{strand_mutex_};
        strand_.reset();
    }

    static core::millis clock_now() noexcept {
        return std::chrono::duration_cast<std::chrono::milliseconds>(
                   std::chrono::steady_clock::now().time_since_epoch())
            .count();
    }

protected:
    template <class Self>
    static boost::intrusive_ptr<Self> ref(Self* self) noexcept {
        return boost::intrusive_ptr<Self>{self};
    }

    void wake() override {
        asio::post(*strand_, [self = ref(this)] {
            if (self->strand_) const turn guard{*self};
        });
    }

    bool is_running_here() const noexcept override {
        const std::lock_guard lock{strand_mutex_};
        return strand_ && strand_->running_in_this_thread();
    }

    core::millis read_clock() const noexcept override { return clock_now(); }

    void set_alarm(core::millis at) override {
        if (!timer_) return;
        timer_->expires_at(std::chrono::steady_clock::time_point{std::chrono::milliseconds{at}});
        timer_->async_wait(asio::bind_executor(*strand_, [self = ref(this)](const error_code& ec) {
            if (ec || !self->strand_) return;
            const turn guard{*self};
            self->advance_timers();
        }));
    }

private:
    asio::io_context& context_;
    mutable std::mutex strand_mutex_;  // only shut_down() changes it; a strand must not outlive its io_context
    std::optional<strand_type> strand_;
    std::optional<asio::steady_timer> timer_;
};

using asio_loop_ptr = boost::intrusive_ptr<asio_loop>;

}  // namespace arke::io
