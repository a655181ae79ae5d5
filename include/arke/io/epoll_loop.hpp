#pragma once

#ifdef __linux__

#include <arke/io/asio_loop.hpp>

#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include <sys/epoll.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace arke::io {

/// The loop for Linux: an edge-triggered epoll set of its own, which the io_context watches as a single descriptor.
///
/// Each socket is added once and never modified, so a message costs one recv and one send; what a wake-up costs beside (the
/// io_context's own epoll_wait, ours, and the renewal of the watch) is shared by all sockets that were ready. A wake-up
/// serves a bounded number of rounds, so that timers and posts of the io_context get their turn.
class epoll_loop final : public asio_loop {
public:
    epoll_loop(asio::io_context& context, std::size_t index, const listener_config& settings);
    ~epoll_loop() override;

    /// Begins to watch. Once.
    void start();

    loop_kind kind() const noexcept override { return loop_kind::epoll; }
    core::transport* attach(native_socket socket, core::stream_user_ptr user) override;
    void add_users(std::vector<core::stream_user_ptr>& to) const override;
    void shut_down() override;

private:
    static constexpr int rounds_per_wake_up = 8;
    static constexpr int events_per_round = 512;

    class socket;

    void watch();
    void run_again() noexcept;
    void on_wake_up();
    void run_rounds();
    int run_round();
    void serve_ready();
    void add_ready(socket& s) noexcept;

    std::unique_ptr<char[]> buffer_;
    std::size_t buffer_size_;
    std::optional<asio::posix::basic_stream_descriptor<own_executor>> set_;
    int set_fd_ = -1;
    std::array<epoll_event, events_per_round> events_;
    std::vector<socket*> sockets_;
    std::vector<socket*> ready_;  // those that may have more to read than they were allowed to
    std::vector<socket*> serving_;
    bool running_ = false;
    bool run_posted_ = false;
};

}  // namespace arke::io

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/io/epoll_loop.ipp>
#endif

#endif
