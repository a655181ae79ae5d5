#pragma once

#include <arke/core/flood_guard.hpp>

#include <algorithm>

namespace arke::core {

ARKE_COLD_INLINE void flood_guard::frame_position::read(char byte) noexcept {
    const auto value = static_cast<unsigned char>(byte);
    ++seen_;
    if (seen_ == 2) {
        const unsigned size = value & 0x7FU;
        mask_at_ = static_cast<std::uint8_t>(2 + (size == 126 ? 2 : size == 127 ? 8 : 0));
        end_at_ = static_cast<std::uint8_t>(mask_at_ + ((value & 0x80U) != 0 ? 4 : 0));
        size_ = size < 126 ? size : 0;
    } else if (seen_ > 2 && seen_ <= mask_at_) {
        size_ = size_ << 8U | value;
    }
    if (seen_ < 2 || seen_ != end_at_) return;
    seen_ = 0;
    left_ = size_;
}

ARKE_COLD_INLINE flood_guard_ptr flood_guard::make_for(const peer_ptr& p) {
    const auto& c = p->owner().settings();
    if (c.max_messages_per_second == 0 && c.max_bytes_per_second == 0) return nullptr;
    return flood_guard_ptr{new flood_guard{p}};
}

ARKE_COLD_INLINE stream_user& flood_guard::open(const peer_ptr& p, const flood_guard_ptr& guard,
                                                transport& t) noexcept {
    if (!guard) {
        t.set_user(p);
        p->open(t);
        return *p;
    }
    guard->transport_ = &t;
    t.set_user(guard);
    p->open(*guard);
    return *guard;
}

ARKE_COLD_INLINE flood_guard::flood_guard(const peer_ptr& p)
    : peer_{p},
      messages_{p->owner().settings().max_messages_per_second, p->owner().settings().message_burst},
      bytes_{p->owner().settings().max_bytes_per_second, p->owner().settings().byte_burst},
      message_tokens_{messages_, p->on_loop().now()},
      byte_tokens_{bytes_, p->on_loop().now()} {}

ARKE_COLD_INLINE flood_guard::~flood_guard() {
    // The loop has ended without a word: a handle may keep the peer longer than the loop's timers.
    if (transport_ != nullptr) peer_->cancel();
    count(0);
}

ARKE_COLD_INLINE std::size_t flood_guard::take(std::span<const char> bytes) noexcept {
    if (is_over()) return bytes.size();
    const auto now = peer_->on_loop().now();
    std::size_t most = bytes.size();
    if (bytes_.is_bounded())
        most = std::min(most, static_cast<std::size_t>(std::max<std::int64_t>(byte_tokens_.tokens(bytes_, now), 0)));
    auto frames = messages_.is_bounded() ? message_tokens_.tokens(messages_, now) : 0;
    std::size_t taken = 0;
    while (taken != most) {
        if (at_.left() != 0) {
            const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(at_.left(), most - taken));
            at_.pass(step);
            taken += step;
            continue;
        }
        if (messages_.is_bounded() && at_.is_between()) {
            if (frames < 1) break;
            --frames;
            message_tokens_.take(1);
        }
        at_.read(bytes[taken++]);
    }
    if (bytes_.is_bounded()) byte_tokens_.take(static_cast<std::int64_t>(taken));
    return taken;
}

ARKE_COLD_INLINE std::span<char> flood_guard::hand_on(std::span<char> bytes) {
    while (!bytes.empty()) {
        const auto now = bytes.first(take(bytes));
        bytes = bytes.subspan(now.size());
        if (!now.empty()) peer_->tell<&stream_user::on_bytes>(now);
        if (transport_ == nullptr) return {};
        if (bytes.empty() || peer_->owner().settings().on_flood == flood::slow) break;
        peer_->close(close_code::policy_violation, "too much at once", errc::flooded);
    }
    return bytes;
}

ARKE_COLD_INLINE void flood_guard::on_bytes(std::span<char> bytes) {
    if (auto rest = hand_on(bytes); !rest.empty()) {
        if (count(rest.size())) {
            hold(rest);
        } else {
            peer_->close(close_code::try_again_later, "messages over max_total_message_bytes", errc::messages_full);
            hand_on(rest);  // all of it
        }
    }
    look_after_wants();
}

ARKE_COLD_INLINE bool flood_guard::count(std::size_t bytes) noexcept {
    auto* const budget = peer_->owner().limits().budget;
    if (budget == nullptr) return true;
    if (bytes > counted_ && !budget->take(bytes - counted_)) return false;
    if (bytes < counted_) budget->give_back(counted_ - bytes);
    counted_ = bytes;
    return true;
}

ARKE_COLD_INLINE void flood_guard::hold(std::span<char> rest) {
    held_.assign(rest.data(), rest.size());
    if (!holding_) {
        holding_ = true;
        peer_->on_loop().counters().slowed.add();
        transport_->pause_reads(true);
    }
    schedule();
}

ARKE_COLD_INLINE void flood_guard::schedule() {
    const auto now = peer_->on_loop().now();
    millis wait = 1;
    if (bytes_.is_bounded()) wait = std::max(wait, byte_tokens_.wait(bytes_, now));
    if (messages_.is_bounded() && at_.is_between()) wait = std::max(wait, message_tokens_.wait(messages_, now));
    peer_->on_loop().timers().schedule(*this, now + wait);
}

ARKE_COLD_INLINE void flood_guard::on_timer(millis) {
    if (!holding_ || transport_ == nullptr) return;
    // The peer may be closed meanwhile.
    auto held = std::move(held_);
    const auto rest = hand_on(std::span<char>{held}.subspan(held_at_));
    if (transport_ == nullptr) return;
    count(rest.size());
    held_at_ = held.size() - rest.size();
    if (!rest.empty()) {
        // It goes by little at a time, and moves when half of it is gone.
        if (held_at_ >= rest.size()) {
            held = std::string{rest.data(), rest.size()};
            held_at_ = 0;
        }
        held_ = std::move(held);
        return schedule();
    }
    holding_ = false;
    held_at_ = 0;
    look_after_wants();
    transport_->pause_reads(false);
    if (end_waits_ && transport_ != nullptr) peer_->tell<&stream_user::on_end>(error_code{});
}

ARKE_COLD_INLINE std::span<char> flood_guard::wanted() noexcept {
    if (holding_ || transport_ == nullptr) return {};
    auto own = peer_->wanted();
    if (is_over() || !bytes_.is_bounded() || own.empty()) return own;
    const auto tokens = std::max<std::int64_t>(byte_tokens_.tokens(bytes_, peer_->on_loop().now()), 0);
    return own.first(std::min(own.size(), static_cast<std::size_t>(tokens)));
}

ARKE_COLD_INLINE void flood_guard::on_filled(std::size_t count) {
    if (!is_over()) {
        at_.pass(count);
        if (bytes_.is_bounded()) byte_tokens_.take(static_cast<std::int64_t>(count));
    }
    peer_->tell<&stream_user::on_filled>(count);
    look_after_wants();
}

ARKE_COLD_INLINE void flood_guard::on_end(error_code why) {
    if (!holding_ || why) return peer_->tell<&stream_user::on_end>(why);
    // What it said before comes first.
    end_waits_ = true;
}

ARKE_COLD_INLINE void flood_guard::close(bool reset) {
    cancel();
    count(0);
    if (auto* t = std::exchange(transport_, nullptr)) t->close(reset);
}

}  // namespace arke::core
