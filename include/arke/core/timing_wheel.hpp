#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace arke::core {

/// Milliseconds of a steady clock. The core never reads a clock; it is told.
using millis = std::int64_t;

/// A place in a timing wheel. Leaves it by itself when destroyed.
class timer_entry {
public:
    timer_entry() = default;
    timer_entry(const timer_entry&) = delete;
    timer_entry& operator=(const timer_entry&) = delete;
    ~timer_entry() { cancel(); }

    bool is_scheduled() const noexcept { return next_ != nullptr; }
    millis due() const noexcept { return due_; }

    void cancel() noexcept {
        if (next_ == nullptr) return;
        previous_->next_ = next_;
        next_->previous_ = previous_;
        next_ = previous_ = nullptr;
    }

private:
    friend class timing_wheel;
    timer_entry* next_ = nullptr;
    timer_entry* previous_ = nullptr;
    millis due_ = 0;
};

/// The deadlines of all connections of a loop, at a resolution of 16 ms: an entry comes due at the first tick that is not
/// before its time, never early.
///
/// Scheduling and cancelling touch two neighbours, whatever the number of entries; a tick touches what is due, and what
/// shares its slot from a later round (every 65 s). Entries that come due together are spread over the slots by their own
/// times, so a million pings are a few hundred in each tick.
class timing_wheel {
public:
    static constexpr millis tick = 16;
    static constexpr std::size_t slots = 4096;

    explicit timing_wheel(millis now = 0) : heads_(slots), at_{now / tick} {
        for (auto& head : heads_) head.next_ = head.previous_ = &head;
    }
    timing_wheel(const timing_wheel&) = delete;
    timing_wheel& operator=(const timing_wheel&) = delete;
    ~timing_wheel() {
        for (auto& head : heads_) {
            while (head.next_ != &head) head.next_->cancel();
            head.next_ = head.previous_ = nullptr;
        }
    }

    /// Sets or moves an entry.
    void schedule(timer_entry& entry, millis due) noexcept {
        entry.cancel();
        entry.due_ = due;
        const auto slot = slot_of(due);
        link(entry, heads_[slot]);
        used_[slot / 64] |= std::uint64_t{1} << (slot % 64);
        next_ = std::min(next_, std::max((due + tick - 1) / tick, at_ + 1) * tick);
    }

    /// Calls due(entry) for those whose time has come, `most` of them; they have left the wheel before. The callback may
    /// schedule, cancel and destroy any entry. Where more are due, next() is not after `now`.
    template <class Due>
    void advance(millis now, Due&& due, std::size_t most = std::numeric_limits<std::size_t>::max()) {
        const auto target = now / tick;
        if (target <= at_) return;
        // After a long pause every slot is looked at once, not once for every round that was missed.
        auto at = std::max(at_, target - static_cast<std::int64_t>(slots));
        at_ = target;
        while (at != target && run_slot(static_cast<std::size_t>(at + 1) % slots, now, due, most)) ++at;
        at_ = at;
        next_ = find_next();
    }

    /// When advance() should be called next; `never` when no entry waits. It may be early: by an entry of a later round, once
    /// in 65 s, and by one that was cancelled.
    millis next() const noexcept { return next_; }

    static constexpr millis never = std::numeric_limits<millis>::max();

private:
    millis find_next() const noexcept {
        const auto start = static_cast<std::size_t>(at_ + 1) % slots;
        for (std::size_t step = 0; step < slots;) {
            const auto slot = (start + step) % slots;
            const auto word = used_[slot / 64] >> (slot % 64);
            if (word == 0) {
                step += 64 - slot % 64;
                continue;
            }
            step += static_cast<std::size_t>(std::countr_zero(word));
            if (step >= slots) break;
            return (at_ + 1 + static_cast<millis>(step)) * tick;
        }
        return never;
    }

    std::size_t slot_of(millis due) const noexcept {
        auto ticks = (due + tick - 1) / tick;
        if (ticks <= at_) ticks = at_ + 1;
        return static_cast<std::size_t>(ticks) % slots;
    }

    /// False: `most` is used up and the slot is not.
    template <class Due>
    bool run_slot(std::size_t slot, millis now, Due& due, std::size_t& most) {
        auto& head = heads_[slot];
        used_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
        if (head.next_ == &head) return true;
        // The slot is taken as a whole onto a list of its own, so that what a callback schedules waits for its own tick.
        timer_entry list;
        splice(head, list);
        while (list.next_ != &list && most != 0) {
            --most;
            auto& entry = *list.next_;
            if (entry.due_ > now) {
                schedule(entry, entry.due_);
                continue;
            }
            entry.cancel();
            due(entry);
        }
        const bool done = list.next_ == &list;
        if (!done) {
            // What is left goes before what was scheduled for this slot meanwhile, a round later.
            timer_entry later;
            splice(head, later);
            splice(list, head);
            while (later.next_ != &later) {
                auto& entry = *later.next_;
                entry.cancel();
                link(entry, head);
            }
            later.next_ = later.previous_ = nullptr;
            used_[slot / 64] |= std::uint64_t{1} << (slot % 64);
        }
        list.next_ = list.previous_ = nullptr;
        return done;
    }

    static void link(timer_entry& entry, timer_entry& head) noexcept {
        entry.previous_ = head.previous_;
        entry.next_ = &head;
        head.previous_->next_ = &entry;
        head.previous_ = &entry;
    }

    /// Moves all entries of one list to an empty one.
    static void splice(timer_entry& from, timer_entry& to) noexcept {
        if (from.next_ == &from) {
            to.next_ = to.previous_ = &to;
            return;
        }
        to.next_ = from.next_;
        to.previous_ = from.previous_;
        to.next_->previous_ = &to;
        to.previous_->next_ = &to;
        from.next_ = from.previous_ = &from;
    }

    std::vector<timer_entry> heads_;
    std::array<std::uint64_t, slots / 64> used_{};
    std::int64_t at_;
    millis next_ = never;
};

}  // namespace arke::core
