#pragma once

#include <arke/base/compile.hpp>
#include <arke/core/compression.hpp>
#include <arke/core/metrics.hpp>
#include <arke/core/outbox.hpp>
#include <arke/core/timing_wheel.hpp>
#include <arke/core/transport.hpp>

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace arke::core {

/// Something to do once, on a loop. Move-only.
class task {
public:
    task() = default;

    template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, task>) explicit task(F&& f)
        : body_{std::make_unique<holder<std::remove_cvref_t<F>>>(std::forward<F>(f))} {}

    void operator()() { body_->run(); }

private:
    struct base {
        virtual ~base() = default;
        virtual void run() = 0;
    };
    template <class F>
    struct holder final : base {
        explicit holder(F f) : f_{std::move(f)} {}
        void run() override { f_(); }
        F f_;
    };
    std::unique_ptr<base> body_;
};

/// Room for `more`, so that adding them cannot fail.
template <class Vector>
void make_room(Vector& in, std::size_t more) {
    if (in.capacity() - in.size() < more) in.reserve(std::max(in.size() + more, 2 * in.capacity()));
}

/// The frames of one turn, one after another, for all peers of a loop. What many peers are told stands here once.
class turn_buffer {
public:
    explicit turn_buffer(std::size_t capacity)
        : data_{std::make_unique_for_overwrite<char[]>(capacity)}, capacity_{capacity} {}

    std::size_t size() const noexcept { return size_; }
    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t room() const noexcept { return capacity_ - size_; }
    char* at(std::size_t offset) noexcept { return data_.get() + offset; }

    /// Room for `size` more bytes, which the caller has checked is there.
    char* append(std::size_t size) noexcept { return data_.get() + std::exchange(size_, size_ + size); }

    /// What stands before this is told to several peers: take_back() does not pass it.
    void pin() noexcept { pinned_ = size_; }

    /// The bytes from `begin` to the end are sent and were of one peer's alone.
    void take_back(std::size_t begin) noexcept {
        if (begin >= pinned_) size_ = begin;
    }

    void clear() noexcept { size_ = pinned_ = 0; }

private:
    std::unique_ptr<char[]> data_;
    std::size_t capacity_;
    std::size_t size_ = 0;
    std::size_t pinned_ = 0;
};

/// One event loop as the core sees it: turns, a clock that stands still within a turn, deadlines, and an inbox.
///
/// Everything that happens to the connections of a loop happens in a turn, and a loop has one turn at a time, whatever number
/// of threads run its io_context. A turn begins with what other threads have posted, and ends by calling the handlers of
/// what was closed, sending what was gathered, and only then freeing what nobody holds any more.
///
/// Threads: post() and is_current() any; the rest in a turn. The object outlives its io_context when handles refer to it;
/// post() then answers false.
class loop : public boost::intrusive_ref_counter<loop, boost::thread_safe_counter> {
public:
    loop(std::size_t index, std::size_t write_buffer_size, millis now, bool sends_in_batches = false)
        : index_{index}, sends_in_batches_{sends_in_batches}, buffer_{write_buffer_size}, wheel_{now}, now_{now} {}
    loop(const loop&) = delete;
    loop& operator=(const loop&) = delete;
    virtual ~loop() = default;

    std::size_t index() const noexcept { return index_; }

    /// Whether the caller is in a turn of this loop.
    bool in_turn() const noexcept { return current_ == this; }

    /// Whether the caller is on this loop without a turn: in something that its executor runs. What it does there begins one.
    bool is_between_turns() const noexcept { return !in_turn() && is_running_here(); }

    /// Has `work` done in a later turn; in order with what the same thread posted before. False: the loop has ended.
    template <class F>
    bool post(F&& work) {
        return push(task{std::forward<F>(work)});
    }

    /// Does `work` now where the caller is on this loop (in a turn, or in something run by its executor), else posts it.
    template <class F>
    void dispatch(F&& work) {
        if (in_turn()) {
            work();
        } else if (is_between_turns()) {
            const turn guard{*this};
            work();
        } else {
            push(task{std::forward<F>(work)});
        }
    }

    /// A turn, while it lives. One within another is no turn of its own.
    class turn {
    public:
        explicit turn(loop& l) : loop_{l}, outer_{current_} {
            if (outer_ == &loop_) return;
            current_ = &loop_;
            loop_.begin_turn();
        }
        ~turn() {
            if (outer_ == &loop_) return;
            loop_.end_turn();
            current_ = outer_;
        }
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;

    private:
        loop& loop_;
        loop* outer_;
    };

    /// The time at which this turn began.
    millis now() const noexcept { return now_; }

    /// The time at this moment. A call to the system: now() is for what happens often.
    millis clock() const noexcept { return read_clock(); }

    timing_wheel& timers() noexcept { return wheel_; }
    turn_buffer& buffer() noexcept { return buffer_; }

    /// The user has something to send at the end of the turn. Once until it was flushed, and there is room: add_load().
    void add_dirty(stream_user& user) noexcept { dirty_.push_back(&user); }

    /// The user says by itself when it has sent what it gathers from now on: end_burst(). Unless flush_all() comes first.
    void begin_burst(stream_user& user) noexcept { in_burst_ = &user; }
    void end_burst() noexcept { in_burst_ = nullptr; }
    bool is_in_burst(const stream_user& user) const noexcept { return in_burst_ == &user; }

    /// Sends everything that was gathered, and empties the turn buffer.
    void flush_all();

    /// Whether what peers gather is best left to the end of the turn, because the loop then sends it all at once.
    bool sends_in_batches() const noexcept { return sends_in_batches_; }

    /// The user's last handlers are to run before the turn ends. Once, and there is room: add_load().
    void add_finished(stream_user_ptr user) noexcept { finished_.push_back(std::move(user)); }

    /// Keeps something until the turn ends: it may be in use further up the stack. There is room for the user and the
    /// transport of each connection: add_load(); for more by make_room_to_retire().
    template <class T>
    void retire(boost::intrusive_ptr<T> thing) noexcept {
        retired_.emplace_back(thing.detach(), [](void* what) { intrusive_ptr_release(static_cast<T*>(what)); });
    }
    void retire(std::shared_ptr<const void> thing) { retired_things_.push_back(std::move(thing)); }

    /// Has go_on() called in a later turn, when others have had theirs. In a turn.
    void go_on_later(stream_user_ptr user);

    /// What has taken so long, in ticks(), leaves the rest to the next turn, and the io_context has its own: timers, signals and the work
    /// of others wait for that. Some milliseconds.
    static constexpr std::uint64_t long_round = 10'000'000;

    /// What waits for those of this loop who lag. In a turn.
    backlogs& waiting() noexcept { return waiting_; }

    /// Whether this loop is to cut those for whom most waits, and has not done so yet. Any thread.
    std::atomic<bool>& relief_asked() noexcept { return relief_asked_; }

    /// Connections of this loop, those in their HTTP part included. Any thread.
    std::size_t load() const noexcept { return load_.load(std::memory_order_relaxed); }

    /// One more connection, before anything else is done for it. Makes room in the lists that it needs later, when there may be no
    /// memory and no way back; nobody touches that room before. On the loop.
    void add_load() {
        make_room(dirty_, load() + 1);
        make_room(flushing_, load() + 1);
        make_room(finished_, load() + 1);
        make_room(retired_, 2 * (load() + 1));
        load_.fetch_add(1, std::memory_order_relaxed);
    }

    /// So many things more can be retired than the connections need at their ends.
    void make_room_to_retire(std::size_t more = 1) { make_room(retired_, 2 * load() + more); }
    void remove_load() noexcept { load_.fetch_sub(1, std::memory_order_relaxed); }

    /// Made when the first message needs it.
    core::compression& compression() {
        if (!compression_) compression_ = std::make_unique<core::compression>();
        return *compression_;
    }

    /// What has happened on this loop. Changed on the loop, read by any thread.
    core::counters& counters() noexcept { return counters_; }

    /// The input of one connection has been served.
    void note_served() noexcept {
        const auto now = ticks();
        counters_.longest_handler.raise_to(now - std::exchange(mark_, now));
    }

    /// When that last was, or this turn began: ticks().
    std::uint64_t mark() const noexcept { return mark_; }

    /// What the filters of this loop's streams share during a call; empty until the first of them puts something there.
    std::shared_ptr<void>& filter_memory() noexcept { return filter_memory_; }

    /// Has `then` done once this loop has no connections; at the end of that turn. In a turn.
    void when_empty(task then) {
        when_empty_ = std::move(then);
        waits_for_empty_ = true;
    }

    /// No post is taken from now on, and what was posted is dropped. Any thread.
    void end_posts() {
        std::vector<task> dropped;
        const std::lock_guard lock{inbox_mutex_};
        ended_ = true;
        dropped.swap(inbox_);
    }

protected:
    /// For the end: no turn, no upcalls.
    void drop_late() noexcept {
        while (!late_.empty()) late_.pop_front();
    }

    /// Has a turn begin soon. Any thread; for a post it is called with the inbox locked, so that it never comes after end_posts().
    virtual void wake() = 0;

    /// Whether the caller runs in something that the executor runs.
    virtual bool is_running_here() const noexcept = 0;

    virtual millis read_clock() const noexcept = 0;

    /// Sends what transports have queued, and tells each of their users. Called only where sends_in_batches().
    virtual void submit() {}

    /// Has advance_timers() called in a turn at that time. Replaces the time set before.
    virtual void set_alarm(millis at) = 0;

    void advance_timers() {
        const auto late = now_ - std::exchange(alarm_, timing_wheel::never);
        // A process that stood still (a migrated machine, a debugger, a handler that blocks) has not read what came meanwhile: that is
        // heard first, or who has answered in time would be given up for silent. Not again and again: a loop that is always late has
        // its timers too.
        if (late >= standstill && put_off_ < (late > longest_catch_up ? 3 : 1)) {
            ++put_off_;
            no_alarm_before_ = now_ + std::min(late, longest_catch_up);
            return;
        }
        put_off_ = 0;
        // A great many that come due at once are served in parts, between which sockets are.
        constexpr std::size_t part = 64;
        const auto began = ticks();
        do {
            wheel_.advance(
                now_,
                [this](timer_entry& entry) { static_cast<stream_user&>(entry).tell<&stream_user::on_timer>(now_); },
                part);
        } while (wheel_.next() <= now_ && ticks() - began < long_round);
    }

private:
    bool push(task work) {
        const std::lock_guard lock{inbox_mutex_};
        if (ended_) return false;
        inbox_.push_back(std::move(work));
        has_posts_.store(true, std::memory_order_relaxed);  // before the loop can wake and look
        if (inbox_.size() == 1) {
            try {
                wake();
            } catch (...) {
                work = std::exchange(inbox_.back(), task{});
                inbox_.pop_back();
                throw;
            }
        }
        return true;
    }

    void begin_turn();
    void end_turn();
    void serve_late() noexcept;

    constinit inline static thread_local loop* current_ = nullptr;

    std::size_t index_;
    bool sends_in_batches_;
    turn_buffer buffer_;
    timing_wheel wheel_;
    millis now_;
    millis alarm_ = timing_wheel::never;
    static constexpr millis standstill = 50;
    static constexpr millis longest_catch_up = 1000;
    millis no_alarm_before_ = 0;
    int put_off_ = 0;  // how often, one after another

    std::vector<stream_user*> dirty_;
    std::vector<stream_user*> flushing_;
    stream_user* in_burst_ = nullptr;
    std::vector<stream_user_ptr> finished_;
    using retired = std::unique_ptr<void, void (*)(void*)>;
    std::vector<retired> retired_;
    std::vector<std::shared_ptr<const void>> retired_things_;
    std::deque<stream_user_ptr> late_;
    backlogs waiting_;
    std::atomic<bool> relief_asked_{false};
    std::atomic<std::size_t> load_{0};
    std::shared_ptr<void> filter_memory_;
    core::counters counters_;
    std::unique_ptr<core::compression> compression_;
    std::uint64_t turn_began_ = 0;  // ticks, as the next
    std::uint64_t mark_ = 0;        // when the last connection had been served

    task when_empty_;
    bool waits_for_empty_ = false;

    std::mutex inbox_mutex_;
    std::vector<task> inbox_;
    std::vector<task> running_;
    std::atomic<bool> has_posts_{false};
    bool ended_ = false;
};

using loop_ptr = boost::intrusive_ptr<loop>;

}  // namespace arke::core

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/loop.ipp>
#endif
