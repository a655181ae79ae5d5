#pragma once

#include <arke/core/byte_stream.hpp>
#include <arke/io/asio_loop.hpp>

#include <array>
#include <memory>
#include <string>

namespace arke::io {

/// A stream of the user's as a transport of a loop: one read into a buffer of its own, one write from a queue of its own, whatever
/// executor the stream has. Its operations end there, and what they bring is told in a turn of the loop.
///
/// It costs some 20 KiB for each connection and two changes of executor for each read and write. A plain socket needs none of that:
/// it joins the loop itself.
class stream_transport final : public foreign_stream,
                               public boost::intrusive_ref_counter<stream_transport, boost::thread_safe_counter> {
public:
    /// What one read may bring, and what may wait to be written.
    static constexpr std::size_t read_size = 16 * 1024;
    static constexpr std::size_t queue_size = 64 * 1024;

    /// Takes over a connected stream for a user. On the loop, in a turn. Null, and the stream closed, where that fails.
    ///
    /// What is queued when the user closes it is written all the same, as the kernel does for a socket, but for `lingers` at most;
    /// it stays a connection of the loop so long.
    static core::transport* attach(asio_loop& on, std::shared_ptr<core::byte_stream> stream, core::stream_user_ptr user,
                                   core::millis lingers) noexcept;

    stream_transport(asio_loop& on, std::shared_ptr<core::byte_stream> stream, core::stream_user_ptr user,
                     core::millis lingers)
        : loop_{&on}, stream_{std::move(stream)}, user_{std::move(user)}, lingers_{lingers} {}

    // core::transport
    core::send_result send(std::span<const core::segment> pieces) override;
    void queue(core::segment piece) override;
    void set_user(core::stream_user_ptr user) override { loop_->retire(std::exchange(user_, std::move(user))); }
    void pause_reads(bool pause) override;
    void shutdown() override;
    void close(bool reset) override;

    // foreign_stream
    const core::stream_user_ptr& user() const noexcept override { return user_; }
    void drop() noexcept override;

private:
    class last_user;

    bool is_idle() const noexcept { return writing_.empty() && waiting_.empty(); }
    bool linger() noexcept;
    void read();
    void write();
    void end_our_direction();
    void on_read(const error_code& ec, std::size_t count);
    void on_written(const error_code& ec);
    void tell_read();
    void tell_end(const error_code& why);

    /// Has f(*this) run in a turn of the loop, unless it is closed by then. From the stream's executor. False: no memory for it.
    template <class F>
    bool in_turn(F f) noexcept;
    void let_go() noexcept;

    asio_loop_ptr loop_;
    std::shared_ptr<core::byte_stream> stream_;
    core::stream_user_ptr user_;
    core::millis lingers_;
    std::array<char, read_size> in_;
    std::size_t came_ = 0;  // of it, and was not told yet
    error_code read_error_;
    std::string waiting_;
    std::string writing_;  // is being written, unless empty
    bool reading_ = false;
    bool has_news_ = false;  // of a read, while reads are paused
    bool paused_ = false;
    bool wants_room_ = false;
    bool shut_ = false;
    bool ended_ = false;
    bool is_last_ = false;  // the user is a last_user
    error_code broken_;
};

}  // namespace arke::io

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/io/stream_transport.ipp>
#endif
