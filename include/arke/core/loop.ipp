#pragma once

#include <arke/core/loop.hpp>

namespace arke::core {

ARKE_INLINE void loop::begin_turn() {
    now_ = read_clock();
    turn_began_ = mark_ = ticks();
    if (!has_posts_.load(std::memory_order_relaxed) && late_.empty()) return;
    // What was posted comes first: a thread that posts and then finds itself on this loop must not overtake itself.
    {
        const std::lock_guard lock{inbox_mutex_};
        running_.swap(inbox_);
        has_posts_.store(false, std::memory_order_relaxed);
    }
    for (auto& work : running_) {
        // What fails for want of memory and belongs to one connection ends in stream_user::guarded(). This is the rest, and there
        // is nobody to tell.
        try {
            work();
        } catch (...) {
            counters_.dropped.out_of_memory.add();
        }
    }
    running_.clear();
    if (!late_.empty()) serve_late();
    mark_ = ticks();
}

ARKE_COLD_INLINE void loop::go_on_later(stream_user_ptr user) {
    late_.push_back(std::move(user));
    if (late_.size() != 1) return;
    try {
        wake();
    } catch (...) {
        late_.pop_back();
        throw;
    }
}

// A post for each would be served whole in one turn, and none of it after end_posts().
ARKE_COLD_INLINE void loop::serve_late() noexcept {
    const auto began = ticks();
    for (auto left = late_.size(); left != 0 && ticks() - began < long_round; --left) {
        const auto user = std::move(late_.front());
        late_.pop_front();
        user->tell<&stream_user::go_on>();
    }
    if (late_.empty()) return;
    try {
        wake();
    } catch (...) {
        // The next turn serves them, whatever it is for.
    }
}

ARKE_INLINE void loop::end_turn() {
    for (;;) {
        if (!finished_.empty()) {
            // Their handlers may end others.
            for (std::size_t i = 0; i != finished_.size(); ++i) {
                const auto user = finished_[i];
                user->tell<&stream_user::finish>();
            }
            finished_.clear();
        } else if (!dirty_.empty()) {
            flush_all();
        } else if (!retired_.empty() || !retired_things_.empty()) {
            // Freeing a handler runs the destructors of what it captured, which may do anything a handler may.
            for (std::size_t i = 0; i != retired_.size(); ++i) {
                const auto thing = std::move(retired_[i]);
            }
            retired_.clear();
            const auto things = std::exchange(retired_things_, {});
        } else {
            break;
        }
    }
    buffer_.clear();
    if (waits_for_empty_ && load() == 0) {
        waits_for_empty_ = false;
        auto then = std::exchange(when_empty_, task{});
        then();
    }
    if (wheel_.next() < alarm_) {
        // What is due already is not late for it: the loop has had much to do for others.
        const auto next = std::max({wheel_.next(), no_alarm_before_, now_});
        if (next < alarm_) {
            try {
                set_alarm(next);
                alarm_ = next;
            } catch (...) {
                // No memory for it: the end of the next turn tries again.
                alarm_ = timing_wheel::never;
            }
        }
    }
    counters_.count_turn(ticks() - turn_began_);
}

ARKE_INLINE void loop::flush_all() {
    // A send that fails may end users, but runs no user code, so nothing is added to what is being walked.
    flushing_.swap(dirty_);
    if (in_burst_ != nullptr) in_burst_->tell<&stream_user::flush_turn>();
    for (auto* user : flushing_) user->tell<&stream_user::flush_turn>();
    if (sends_in_batches_) submit();
    flushing_.clear();
    buffer_.clear();
}

}  // namespace arke::core
