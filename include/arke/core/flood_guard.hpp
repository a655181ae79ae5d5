#pragma once

#include <arke/core/peer.hpp>
#include <arke/core/rate_limit.hpp>

#include <cstdint>
#include <span>
#include <string>

namespace arke::core {

class flood_guard;
using flood_guard_ptr = boost::intrusive_ptr<flood_guard>;

/// Holds a peer to config::max_messages_per_second and max_bytes_per_second. Stands between its transport and it, and only where
/// there is such a bound: others do not know of it.
///
/// It hands on what the bounds allow, to the byte and the frame. By flood::slow the rest of what one read brought is kept, and
/// nothing more is read, until there are tokens again; so what a peer sends too much waits in the kernel, and in the peer.
///
/// It looks at the headers of frames for their length only, and before the peer does: what is wrong with them the peer finds out.
class flood_guard final : public stream_user, public transport {
public:
    /// Null where the peer has no bound.
    static flood_guard_ptr make_for(const peer_ptr& p);

    /// Opens a peer on a transport whose handshake is done, with its guard between when it has one. Returns who is the transport's
    /// user now, and gets what has come already.
    static stream_user& open(const peer_ptr& p, const flood_guard_ptr& guard, transport& t) noexcept;

    explicit flood_guard(const peer_ptr& p);
    ~flood_guard() override;

    // stream_user, towards the transport
    void failed() noexcept override { peer_->failed(); }
    void on_bytes(std::span<char> bytes) override;
    std::span<char> wanted() noexcept override;
    void on_filled(std::size_t count) override;
    void on_sent(const send_result& result) override { peer_->tell<&stream_user::on_sent>(result); }
    void on_writable() override { peer_->tell<&stream_user::on_writable>(); }
    void on_end(error_code why) override;
    void on_timer(millis now) override;
    void on_stop() override { peer_->tell<&stream_user::on_stop>(); }

    // transport, towards the peer
    send_result send(std::span<const segment> pieces) override {
        look_after_close();
        return transport_->send(pieces);
    }
    void queue(segment piece) override {
        look_after_close();
        transport_->queue(piece);
    }
    void set_user(stream_user_ptr) override {}  // a peer asks for neither
    void pause_reads(bool) override {}
    void shutdown() override { transport_->shutdown(); }
    void close(bool reset) override;

private:
    /// Where in a frame the bytes stand that were handed on.
    class frame_position {
    public:
        /// Whether the next byte begins a frame.
        bool is_between() const noexcept { return left_ == 0 && seen_ == 0; }

        /// How much of a payload is to come.
        std::uint64_t left() const noexcept { return left_; }
        void pass(std::size_t count) noexcept { left_ -= count; }

        /// A byte of a header.
        void read(char byte) noexcept;

    private:
        std::uint64_t left_ = 0;
        std::uint64_t size_ = 0;
        std::uint8_t seen_ = 0;  // of the header
        std::uint8_t mask_at_ = 0;
        std::uint8_t end_at_ = 0;
    };

    /// How many bytes may be handed on now. They count as handed on.
    std::size_t take(std::span<const char> bytes) noexcept;

    /// Hands on what may be, and answers the rest.
    std::span<char> hand_on(std::span<char> bytes);
    void hold(std::span<char> rest);

    /// So much is held now, of max_total_message_bytes. False, and as before: there is no room for that.
    bool count(std::size_t bytes) noexcept;
    void look_after_wants() noexcept { has_wants_ = !holding_ && transport_ != nullptr && peer_->has_wants(); }
    void schedule();

    /// From the goodbye on nothing is held back: only the other end's close frame is waited for, behind what it said too much.
    bool is_over() const noexcept { return !peer_->is_open(); }
    void look_after_close() noexcept {
        if (holding_ && is_over()) peer_->on_loop().timers().schedule(*this, peer_->on_loop().now());
    }

    peer_ptr peer_;
    transport* transport_ = nullptr;
    rate messages_;
    rate bytes_;
    token_bucket message_tokens_;
    token_bucket byte_tokens_;
    frame_position at_;
    std::string held_;
    std::size_t held_at_ = 0;  // what is before has been handed on
    std::size_t counted_ = 0;
    bool holding_ = false;
    bool end_waits_ = false;
};

}  // namespace arke::core

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/flood_guard.ipp>
#endif
