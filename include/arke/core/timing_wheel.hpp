#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
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
        auto& head = heads_[slot];
        entry.previous_ = head.previous_;
        entry.next_ = &head;
        head.previous_->next_ = &entry;
        head.previous_ = &entry;
        used_[slot / 64] |= std::uint64_t{1} << (slot % 64);
    }

    /// Calls due(entry) for all whose time has come; they have left the wheel before. The callback may schedule, cancel and
    /// destroy any entry.
    template <class Due>
    void advance(millis now, Due&& due) {
        const auto target = now / tick;
        if (target <= at_) return;
        // After a long pause every slot is looked at once, not once for every round that was missed.
        auto slot_count = static_cast<std::size_t>(target - at_);
        if (slot_count > slots) slot_count = slots;
        const auto first = static_cast<std::size_t>(at_ + 1);
        at_ = target;
        for (std::size_t i = 0; i < slot_count; ++i) run_slot((first + i) % slots, now, due);
    }

    /// When advance() should be called next; nothing when no entry waits. Early at most by rounds: an entry of a later round
    /// wakes the loop for nothing once in 65 s.
    std::optional<millis> next() const noexcept {
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
        return std::nullopt;
    }

private:
    std::size_t slot_of(millis due) const noexcept {
        auto ticks = (due + tick - 1) / tick;
        if (ticks <= at_) ticks = at_ + 1;
        return static_cast<std::size_t>(ticks) % slots;
    }

    template <class Due>
    void run_slot(std::size_t slot, millis now, Due& due) {
        auto& head = heads_[slot];
        used_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
        if (head.next_ == &head) return;
        // The slot is taken as a whole onto a list of its own, so that what a callback schedules waits for its own tick.
        timer_entry list;
        list.next_ = head.next_;
        list.previous_ = head.previous_;
        list.next_->previous_ = &list;
        list.previous_->next_ = &list;
        head.next_ = head.previous_ = &head;
        while (list.next_ != &list) {
            auto& entry = *list.next_;
            if (entry.due_ > now) {
                schedule(entry, entry.due_);
                continue;
            }
            entry.cancel();
            due(entry);
        }
        list.next_ = list.previous_ = nullptr;
    }

    std::vector<timer_entry> heads_;
    std::array<std::uint64_t, slots / 64> used_{};
    std::int64_t at_;
};

}  // namespace arke::core
