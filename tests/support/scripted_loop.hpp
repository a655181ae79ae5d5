#pragma once

#include <arke/core/loop.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

namespace arke::test {

class scripted_transport;

/// A loop without sockets, whose clock is turned by hand. Turns begin where the test says so.
class scripted_loop final : public core::loop {
public:
    explicit scripted_loop(std::size_t index = 0, std::size_t write_buffer_size = 16 * 1024,
                           bool sends_in_batches = false)
        : loop{index, write_buffer_size, first_moment, sends_in_batches} {}


    /// Does something in a turn, as if a socket had become readable.
    template <class F>
    void in_turn_do(F&& f) {
        const turn guard{*this};
        f();
    }

    /// Whether another thread would have woken this loop; then it has its turn.
    bool run_posts() {
        if (!std::exchange(woken_, false)) return false;
        const turn guard{*this};
        return true;
    }

    /// Lets time pass. The alarm goes off when it is due, and alarms that follow from it.
    void pass(core::millis time) {
        const auto until = time_ + time;
        while (alarm_ && *alarm_ <= until) {
            time_ = std::max(time_, *alarm_);
            alarm_.reset();
            ++alarms;
            in_turn_do([this] { advance_timers(); });
        }
        time_ = until;
    }

    core::millis time() const noexcept { return time_; }
    std::optional<core::millis> alarm() const noexcept { return alarm_; }

    int alarms = 0;   ///< How often the alarm went off.
    int batches = 0;  ///< How often sends left together.

    /// For transports: this one has something queued.
    void add_queued(scripted_transport& by) { queued_.push_back(&by); }

private:
    static constexpr core::millis first_moment = 1'000'000;

    void wake() override { woken_ = true; }
    bool is_running_here() const noexcept override { return false; }
    core::millis read_clock() const noexcept override { return time_; }
    void set_alarm(core::millis at) override { alarm_ = at; }
    void submit() override;

    core::millis time_ = first_moment;
    std::optional<core::millis> alarm_;
    bool woken_ = false;
    std::vector<scripted_transport*> queued_;
};

/// A stream whose other end is a script. What is sent is kept; how much of it is taken, and what breaks, is said beforehand.
///
/// It holds its user to the rules of core::transport: nothing is sent between a short send and on_writable(), after an error,
/// after shutdown() or after close(), nothing empty is sent, and all happens within a turn.
class scripted_transport final : public core::transport {
public:
    static constexpr std::size_t everything = std::numeric_limits<std::size_t>::max();

    scripted_transport(scripted_loop& on, core::stream_user_ptr user) : loop_{on}, user_{std::move(user)} {
        loop_.add_load();
    }
    scripted_transport(const scripted_transport&) = delete;
    scripted_transport& operator=(const scripted_transport&) = delete;

    // --- the script

    std::size_t room = everything;          ///< Bytes that are still taken.
    std::size_t most_at_once = everything;  ///< Bytes that one operation takes.
    int fails_at = -1;  ///< The operation, counted from 0, that takes nothing because the stream is broken.

    /// The other end reads, so that there is room for more.
    void makes_room(std::size_t more) {
        room = more == everything ? more : room + more;
        if (!waits_for_room_ || more == 0) return;
        waits_for_room_ = false;
        loop_.in_turn_do([this] {
            if (user_) user_->on_writable();
        });
    }

    /// Bytes arrive; the user's own memory is filled first, as a loop does it.
    void arrives(std::string_view bytes) {
        loop_.in_turn_do([&] {
            if (!user_) return;
            // In memory of its own, so that whoever keeps a view of it is found out.
            std::vector<char> buffer(bytes.begin(), bytes.end());
            std::span<char> rest{buffer};
            if (const auto own = user_->wanted(); !own.empty()) {
                const auto count = std::min(own.size(), rest.size());
                std::copy_n(rest.begin(), count, own.begin());
                rest = rest.subspan(count);
                if (count != 0) user_->on_filled(count);
            }
            if (user_ && !rest.empty()) user_->on_bytes(rest);
        });
    }

    /// The other end has nothing more to say, or the stream breaks.
    void ends(error_code why = {}) {
        loop_.in_turn_do([&] {
            if (user_) user_->on_end(why);
        });
    }

    /// What a broken stream tells its user on the next turn.
    bool end_if_broken() {
        if (!broken_ || !user_) return false;
        ends(std::exchange(broken_, {}));
        return true;
    }

    // --- the record

    std::string sent;
    int operations = 0;
    bool is_shut = false;
    bool is_closed = false;
    bool was_reset = false;

    // --- core::transport

    core::send_result send(std::span<const core::segment> pieces) override {
        CHECK(loop_.in_turn());
        CHECK_FALSE(waits_for_room_);
        CHECK_FALSE(is_shut);
        CHECK_FALSE(is_closed);
        CHECK_FALSE(pieces.empty());
        CHECK_FALSE(broken_);
        if (operations++ == fails_at) {
            broken_ = error_code{boost::system::errc::broken_pipe, boost::system::generic_category()};
            return {0, broken_};
        }
        std::size_t total = 0;
        std::size_t taken = 0;
        std::size_t may_take = std::min(room, most_at_once);
        for (const auto piece : pieces) {
            CHECK_FALSE(piece.empty());
            total += piece.size();
            const auto part = std::min(piece.size(), may_take);
            sent += piece.substr(0, part);
            taken += part;
            may_take -= part;
        }
        if (room != everything) room -= taken;
        if (taken != total) waits_for_room_ = true;
        return {taken, {}};
    }

    void queue(core::segment piece) override {
        CHECK(queued_.empty());
        queued_ = piece;
        loop_.add_queued(*this);
    }
    void send_queued() {
        const auto piece = std::exchange(queued_, {});
        const auto result = send({&piece, 1});
        if (user_) user_->on_sent(result);
    }

    void set_user(core::stream_user_ptr user) override { loop_.retire(std::exchange(user_, std::move(user))); }
    void pause_reads(bool) override {}

    void shutdown() override {
        CHECK(loop_.in_turn());
        CHECK_FALSE(is_shut);
        CHECK_FALSE(is_closed);
        is_shut = true;
    }

    void close(bool reset) override {
        CHECK(loop_.in_turn());
        CHECK_FALSE(is_closed);
        is_closed = true;
        was_reset = reset;
        loop_.remove_load();
        loop_.retire(std::exchange(user_, nullptr));
    }

    /// The loop has ended: no turn, no upcalls.
    void drop() {
        if (std::exchange(is_closed, true)) return;
        loop_.remove_load();
        user_.reset();
    }

    bool waits_for_room() const noexcept { return waits_for_room_; }

private:
    scripted_loop& loop_;
    core::stream_user_ptr user_;
    bool waits_for_room_ = false;
    error_code broken_;
    core::segment queued_;
};

inline void scripted_loop::submit() {
    if (queued_.empty()) return;
    ++batches;
    for (auto* each : std::exchange(queued_, {})) each->send_queued();
}

}  // namespace arke::test
