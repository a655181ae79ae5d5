#pragma once

#include <arke/io/stream_transport.hpp>

#include <boost/asio/error.hpp>

#include <algorithm>
#include <utility>

namespace arke::io {

/// Who has a stream when its user has gone and it still writes: it only waits. What comes is read, because it is the peer's goodbye,
/// or would hold up the peer that is to read.
class stream_transport::last_user final : public core::stream_user {
public:
    explicit last_user(stream_transport& of) : of_{of} {}
    void failed() noexcept override { of_.close(true); }
    void on_bytes(std::span<char>) override {}
    void on_writable() override {}
    void on_end(error_code why) override {
        if (why) of_.close(true);
    }
    void on_timer(core::millis) override { of_.close(true); }
    void on_stop() override {}

private:
    stream_transport& of_;
};

ARKE_COLD_INLINE core::transport* stream_transport::attach(asio_loop& on, std::shared_ptr<core::byte_stream> stream,
                                                           core::stream_user_ptr user, core::millis lingers) noexcept {
    try {
        boost::intrusive_ptr<stream_transport> made{new stream_transport{on, stream, std::move(user), lingers}};
        on.add_stream(*made);
        auto* const t = made.detach();
        try {
            t->read();
        } catch (...) {
            t->close(true);
            return nullptr;
        }
        return t;
    } catch (...) {
        stream->close();
        return nullptr;
    }
}

template <class F>
bool stream_transport::in_turn(F f) noexcept {
    try {
        loop_->post_to_strand([self = boost::intrusive_ptr<stream_transport>{this}, f] {
            if (!self->user_) return;
            const core::loop::turn guard{*self->loop_};
            if (self->user_) f(*self);
        });
        return true;
    } catch (...) {
        return false;
    }
}

ARKE_COLD_INLINE void stream_transport::read() {
    if (reading_ || has_news_ || paused_ || ended_ || !user_) return;
    stream_->read_some(
        in_.data(), in_.size(),
        [self = boost::intrusive_ptr<stream_transport>{this}, stream = stream_](error_code ec, std::size_t n) {
            if (!self->in_turn([ec, n](stream_transport& s) { s.on_read(ec, n); })) stream->close();
        });
    reading_ = true;
}

ARKE_COLD_INLINE void stream_transport::on_read(const error_code& ec, std::size_t count) {
    reading_ = false;
    has_news_ = true;
    came_ = count;
    read_error_ = ec;
    if (!paused_) tell_read();
}

ARKE_COLD_INLINE void stream_transport::tell_read() {
    has_news_ = false;
    // The user may take another's place, or go.
    const boost::intrusive_ptr<stream_transport> self{this};
    if (const auto count = std::exchange(came_, 0); count != 0)
        user_->tell<&core::stream_user::on_bytes>(std::span<char>{in_.data(), count});
    if (user_ && read_error_) return tell_end(read_error_);
    if (user_) user_->guarded([this] { read(); });
}

ARKE_COLD_INLINE void stream_transport::tell_end(const error_code& why) {
    if (std::exchange(ended_, true)) return;
    user_->tell<&core::stream_user::on_end>(why == asio::error::eof ? error_code{} : why);
}

ARKE_COLD_INLINE core::send_result stream_transport::send(std::span<const core::segment> pieces) {
    if (!user_) return {0, asio::error::bad_descriptor};
    if (broken_) return {0, broken_};
    std::size_t taken = 0;
    for (const auto& piece : pieces) {
        const auto room = queue_size - std::min(queue_size, waiting_.size() + writing_.size());
        const auto part = piece.substr(0, room);
        waiting_ += part;
        taken += part.size();
        if (part.size() == piece.size()) continue;
        wants_room_ = true;
        break;
    }
    write();
    return {taken, {}};
}

ARKE_COLD_INLINE void stream_transport::queue(core::segment piece) {
    const auto result = send({&piece, 1});
    if (user_) user_->tell<&core::stream_user::on_sent>(result);
}

ARKE_COLD_INLINE void stream_transport::write() {
    if (!writing_.empty() || waiting_.empty()) return;
    writing_.swap(waiting_);
    stream_->write(writing_,
                   [self = boost::intrusive_ptr<stream_transport>{this}, stream = stream_](error_code ec, std::size_t) {
                       if (!self->in_turn([ec](stream_transport& s) { s.on_written(ec); })) stream->close();
                   });
}

ARKE_COLD_INLINE void stream_transport::on_written(const error_code& ec) {
    writing_.clear();
    if (ec) {
        broken_ = ec;
        waiting_.clear();
        return is_last_ ? close(true) : tell_end(ec);
    }
    user_->guarded([this] {
        write();
        if (writing_.empty() && (shut_ || is_last_)) end_our_direction();
    });
    // All that there was is with the stream: the next part is not smaller than it must be.
    if (user_ && wants_room_ && writing_.size() + waiting_.size() < queue_size) {
        wants_room_ = false;
        user_->tell<&core::stream_user::on_writable>();
    }
}

ARKE_COLD_INLINE void stream_transport::pause_reads(bool pause) {
    paused_ = pause;
    if (pause || !user_) return;
    if (!has_news_) return read();
    // Not from within a call of the user.
    const bool is_coming = in_turn([](stream_transport& s) {
        if (s.has_news_ && !s.paused_) s.tell_read();
    });
    if (!is_coming) stream_->close();
}

ARKE_COLD_INLINE void stream_transport::shutdown() {
    shut_ = true;
    if (is_idle() && !broken_) end_our_direction();
}

ARKE_COLD_INLINE void stream_transport::end_our_direction() {
    shut_ = false;
    stream_->shut_down(
        [self = boost::intrusive_ptr<stream_transport>{this}, stream = stream_](error_code, std::size_t both) {
            const bool is_told = self->in_turn([both](stream_transport& s) {
                if (s.is_last_)
                    s.close(false);
                else if (both != 0)
                    s.tell_end({});
            });
            if (!is_told) stream->close();
        });
}

/// False: nothing is left to write, or there is no memory for it.
ARKE_COLD_INLINE bool stream_transport::linger() noexcept {
    if (is_idle() || broken_ || is_last_ || lingers_ <= 0) return false;
    try {
        loop_->make_room_to_retire();
        core::stream_user_ptr last{new last_user{*this}};
        loop_->timers().schedule(*last, loop_->now() + lingers_);
        loop_->retire(std::exchange(user_, std::move(last)));
    } catch (...) {
        return false;
    }
    is_last_ = true;
    paused_ = has_news_ = false;
    user_->guarded([this] { read(); });
    return true;
}

ARKE_COLD_INLINE void stream_transport::close(bool reset) {
    if (!user_ || (!reset && linger())) return;
    loop_->remove_stream(*this);
    stream_->close();
    let_go();
    if (is_last_) user_->cancel();
    loop_->retire(std::exchange(user_, nullptr));
    loop_->retire(boost::intrusive_ptr<stream_transport>{this, false});
}

ARKE_COLD_INLINE void stream_transport::drop() noexcept {
    try {
        stream_->close();
    } catch (...) {
        // No memory for it: it ends with the last operation.
    }
    let_go();
    user_->cancel();
    user_.reset();
    intrusive_ptr_release(this);
}

// What the loop has under way may be freed with its io_context, and later than the one that the stream lives in.
ARKE_COLD_INLINE void stream_transport::let_go() noexcept { const auto gone = std::exchange(stream_, nullptr); }

}  // namespace arke::io
