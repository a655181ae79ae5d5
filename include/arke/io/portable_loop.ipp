#pragma once

#include <arke/io/acceptor.hpp>
#include <arke/io/portable_loop.hpp>

#include <boost/container/small_vector.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/generic/stream_protocol.hpp>

#include <boost/system/system_error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <exception>
#include <utility>

namespace arke::io {

/// One connected socket. Waits under way hold a reference to it.
class portable_loop::socket final : public core::transport,
                                    public boost::intrusive_ref_counter<socket, boost::thread_safe_counter> {
public:
    using stream = asio::basic_stream_socket<asio::generic::stream_protocol, own_executor>;

    socket(portable_loop& on, stream s, core::stream_user_ptr user)
        : loop_{&on}, stream_{std::move(s)}, user_{std::move(user)} {}

    std::size_t place_ = 0;
    bool in_ready_ = false;

    /// False: no memory for it.
    bool begin() noexcept {
        try {
            stream_.non_blocking(true);
            wait_to_read();
            return true;
        } catch (...) {
            return false;
        }
    }

    void wait_to_read() {
        if (reading_ || paused_ || ended_ || !user_) return;
        const pending now{reading_};
        stream_.async_wait(stream::wait_read, loop_->on_strand_for_one([self = ref(this)](const error_code& ec) {
            self->reading_ = !ec;
            if (ec || !self->user_) return;
            self->is_readable_ = true;
            self->loop_->serve(*self);
        }));
    }

    /// What it was found ready for. In a turn: what that began with may have closed it, or paused it.
    void serve() {
        in_ready_ = false;
        if (std::exchange(is_writable_, false)) {
            writing_ = false;
            if (user_) user_->tell<&core::stream_user::on_writable>();
        }
        if (std::exchange(is_readable_, false)) {
            reading_ = false;
            if (user_ && !paused_) read();
        }
    }

    core::send_result send(std::span<const core::segment> pieces) override {
        if (!user_) return {0, asio::error::bad_descriptor};
        boost::container::small_vector<asio::const_buffer, 16> parts;
        std::size_t total = 0;
        for (const auto& piece : pieces) {
            parts.emplace_back(piece.data(), piece.size());
            total += piece.size();
        }
        error_code ec;
        const auto sent = stream_.write_some(parts, ec);
        if (ec == asio::error::would_block || ec == asio::error::try_again) ec = {};
        if (ec) {
            end_soon(ec);
            return {0, ec};
        }
        if (sent < total) wait_to_write();
        return {sent, {}};
    }

    void set_user(core::stream_user_ptr user) override { loop_->retire(std::exchange(user_, std::move(user))); }

    void pause_reads(bool pause) override {
        paused_ = pause;
        wait_to_read();
    }

    void shutdown() override {
        error_code ignored;
        stream_.shutdown(stream::shutdown_send, ignored);
    }

    void close(bool reset) override {
        if (!user_) return;
        error_code ignored;
        if (reset) stream_.set_option(asio::socket_base::linger{true, 0}, ignored);
        stream_.close(ignored);
        auto* const last = loop_->sockets_.back();
        last->place_ = place_;
        loop_->sockets_[place_] = last;
        loop_->sockets_.pop_back();
        loop_->remove_load();
        loop_->retire(std::exchange(user_, nullptr));
        loop_->retire(boost::intrusive_ptr<socket>{this, false});
    }

    const core::stream_user_ptr& user() const noexcept { return user_; }

    /// For shut_down(): no turn, no upcalls.
    void drop() {
        error_code ignored;
        stream_.close(ignored);
        loop_->remove_load();
        user_->cancel();
        user_.reset();
        intrusive_ptr_release(this);
    }

private:
    /// Sets a flag, and takes it back when there was no memory for what it tells.
    class pending {
    public:
        explicit pending(bool& flag) : flag_{flag} { flag_ = true; }
        pending(const pending&) = delete;
        pending& operator=(const pending&) = delete;
        ~pending() {
            if (std::uncaught_exceptions() != exceptions_) flag_ = false;
        }

    private:
        bool& flag_;
        int exceptions_ = std::uncaught_exceptions();
    };

    void read() noexcept {
        const auto own = user_->has_wants() ? user_->wanted() : std::span<char>{};
        const auto share = share_.bytes(loop_->buffer_size_);
        const std::array<asio::mutable_buffer, 2> parts{asio::buffer(own.data(), own.size()),
                                                        asio::buffer(loop_->buffer_.get(), share)};
        error_code ec;
        auto taken = own.empty() ? stream_.read_some(asio::buffer(parts[1]), ec) : stream_.read_some(parts, ec);
        if (ec == asio::error::would_block || ec == asio::error::try_again) return read_on();
        if (ec) {
            ended_ = true;
            return user_->tell<&core::stream_user::on_end>(ec == asio::error::eof ? error_code{} : ec);
        }
        {
            const fair_share::serving now{share_, *loop_, taken == own.size() + share, loop_->buffer_size_};
            if (!own.empty()) {
                const auto filled = std::min(taken, own.size());
                user_->tell<&core::stream_user::on_filled>(filled);
                taken -= filled;
            }
            if (taken != 0 && user_)
                user_->tell<&core::stream_user::on_bytes>(std::span<char>{loop_->buffer_.get(), taken});
        }
        if (user_) read_on();
    }

    /// By the present user: it may be another than the one that was told of the last bytes.
    void read_on() noexcept {
        user_->guarded([this] { wait_to_read(); });
    }

    void wait_to_write() {
        if (writing_) return;
        const pending now{writing_};
        stream_.async_wait(stream::wait_write, loop_->on_strand_for_one([self = ref(this)](const error_code& ec) {
            self->writing_ = !ec;
            if (ec || !self->user_) return;
            self->is_writable_ = true;
            self->loop_->serve(*self);
        }));
    }

    /// A send failed, within a call of the user: the end comes in a turn of its own.
    void end_soon(error_code why) {
        if (ended_) return;
        const pending now{ended_};
        // Not by the inbox, which takes nothing any more while the server stops.
        loop_->post_to_strand([self = ref(this), why] {
            if (!self->user_) return;
            const core::loop::turn guard{*self->loop_};
            if (self->user_) self->user_->tell<&core::stream_user::on_end>(why);
        });
    }

    boost::intrusive_ptr<portable_loop> loop_;
    stream stream_;
    core::stream_user_ptr user_;
    fair_share share_;
    bool reading_ = false;
    bool writing_ = false;
    bool is_readable_ = false;
    bool is_writable_ = false;
    bool paused_ = false;
    bool ended_ = false;
};

ARKE_INLINE portable_loop::portable_loop(asio::io_context& context, std::size_t index, const listener_config& settings)
    : asio_loop{context, index, settings},
      buffer_{std::make_unique_for_overwrite<char[]>(settings.read_buffer_size)},
      buffer_size_{settings.read_buffer_size} {}

ARKE_INLINE portable_loop::~portable_loop() = default;

ARKE_INLINE void portable_loop::add_users(std::vector<core::stream_user_ptr>& to) const {
    for (const auto* s : sockets_) to.push_back(s->user());
}

ARKE_INLINE void portable_loop::serve(socket& s) {
    const auto now = core::ticks();
    // Whatever else was done since the last may have been done in the same round.
    if (now - served_at_ > long_round) round_began_ = now;
    const bool waits = !ready_.empty();
    if (waits || now - round_began_ > long_round) {
        if (std::exchange(s.in_ready_, true)) return;
        ready_.emplace_back(&s);
        if (!waits && !run_again()) serve_ready();
        return;
    }
    {
        const turn guard{*this};
        s.serve();
    }
    served_at_ = core::ticks();  // behind the end of the turn, which sends
}

/// A post comes behind the next look of the io_context. False: there is no memory for it.
ARKE_INLINE bool portable_loop::run_again() noexcept {
    try {
        post_to_strand([self = ref(this)] { self->serve_ready(); });
        return true;
    } catch (...) {
        return false;
    }
}

ARKE_INLINE void portable_loop::serve_ready() {
    do {
        round_began_ = core::ticks();
        std::size_t next = 0;
        // In each turn others may be attached, and the loop may be shut down.
        while (next < ready_.size() && core::ticks() - round_began_ < long_round) {
            const auto s = std::move(ready_[next++]);
            const turn guard{*this};
            s->serve();
        }
        served_at_ = core::ticks();
        ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(std::min(next, ready_.size())));
    } while (!ready_.empty() && !run_again());
}

ARKE_INLINE void portable_loop::shut_down() {
    waiting().clear();
    ready_.clear();
    for (auto* s : std::exchange(sockets_, {})) s->drop();
    asio_loop::shut_down();
}

ARKE_INLINE core::transport* portable_loop::attach(native_socket fd, core::stream_user_ptr user) {
    boost::intrusive_ptr<socket> made;
    bool is_owned = false;
    try {
        socket::stream stream{context()};
        // The protocol only serves for what Asio would open itself; this socket is open.
        error_code ec;
        stream.assign(asio::generic::stream_protocol{asio::ip::tcp::v4()}, fd, ec);
        if (ec) throw boost::system::system_error{ec};
        is_owned = true;
        made.reset(new socket{*this, std::move(stream), std::move(user)});
        core::make_room(sockets_, 1);
        core::make_room(ready_, sockets_.size() + 1);  // each once
        add_load();
    } catch (...) {
        if (!is_owned) close_socket(fd);
        return nullptr;
    }
    made->place_ = sockets_.size();
    sockets_.push_back(made.get());
    auto* const s = made.detach();
    if (s->begin()) return s;
    s->close(true);
    return nullptr;
}

}  // namespace arke::io
