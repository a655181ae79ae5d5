#pragma once

#include <arke/base/config.hpp>
#include <arke/core/loop.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/recycling_allocator.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace arke::io {

namespace asio = boost::asio;

using native_socket = asio::ip::tcp::socket::native_handle_type;

// The io_context's own executor, not any_io_executor: that one is instantiated for each operation that is named by it.
using own_executor = asio::io_context::executor_type;
using own_timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, own_executor>;

/// Memory for the few operations of the io_context that a loop always has under way: its wake-ups, its alarm, its acceptors.
/// They go on where there is none left. Any thread.
class handler_memory : public boost::intrusive_ref_counter<handler_memory, boost::thread_safe_counter> {
public:
    void* take(std::size_t size) {
        auto free = free_.load(std::memory_order_relaxed);
        while (size <= block_size && free != 0) {
            const auto first = free & (~free + 1);
            if (!free_.compare_exchange_weak(free, free & ~first, std::memory_order_acquire)) continue;
            return blocks_[static_cast<std::size_t>(std::countr_zero(first))].data();
        }
        return ::operator new(size);
    }

    void give_back(void* memory) noexcept {
        const auto at = static_cast<block*>(memory) - blocks_.data();
        if (at < 0 || at >= static_cast<std::ptrdiff_t>(block_count)) return ::operator delete(memory);
        free_.fetch_or(std::uint32_t{1} << at, std::memory_order_release);
    }

private:
    static constexpr std::size_t block_size = 384;
    static constexpr std::size_t block_count = 32;
    struct alignas(std::max_align_t) block : std::array<unsigned char, block_size> {};

    std::atomic<std::uint32_t> free_{~std::uint32_t{0}};
    std::array<block, block_count> blocks_;
};

/// What Asio is told of it. Without one: as Asio likes it, which is what operations of sockets have.
template <class T>
class handler_allocator {
public:
    using value_type = T;

    explicit handler_allocator(boost::intrusive_ptr<handler_memory> from) noexcept : from_{std::move(from)} {}
    template <class U>
    handler_allocator(const handler_allocator<U>& other) noexcept : from_{other.from_} {}

    T* allocate(std::size_t n) {
        if (!from_) return asio::recycling_allocator<T>{}.allocate(n);
        return static_cast<T*>(from_->take(n * sizeof(T)));
    }
    void deallocate(T* memory, std::size_t n) noexcept {
        if (!from_) return asio::recycling_allocator<T>{}.deallocate(memory, n);
        from_->give_back(memory);
    }

    template <class U>
    bool operator==(const handler_allocator<U>& other) const noexcept {
        return from_ == other.from_;
    }

private:
    template <class U>
    friend class handler_allocator;
    boost::intrusive_ptr<handler_memory> from_;
};

/// Where others have posted to a strand while a handler ran there, Asio needs memory to go on, by its recycling allocator and in
/// a destructor: without any the program would end. So a handler keeps some of it meanwhile, which is there again afterwards.
class memory_for_the_strand {
public:
    memory_for_the_strand() noexcept {
        try {
            memory_ = asio::recycling_allocator<unsigned char>{}.allocate(size);
        } catch (...) {
            // Then Asio may have less luck, or more.
        }
    }
    memory_for_the_strand(const memory_for_the_strand&) = delete;
    memory_for_the_strand& operator=(const memory_for_the_strand&) = delete;
    ~memory_for_the_strand() {
        if (memory_ != nullptr) asio::recycling_allocator<unsigned char>{}.deallocate(memory_, size);
    }

private:
    static constexpr std::size_t size = 256;
    unsigned char* memory_ = nullptr;
};

/// What is done on a loop's strand when an operation of the io_context is over.
///
/// One type for all of them, because half of what a program with Arke compiles are Asio's templates, and those are made anew
/// for each type of handler.
class strand_handler {
public:
    using executor_type = asio::strand<own_executor>;
    using allocator_type = handler_allocator<void>;

    /// `f` is called with the error_code if it takes one.
    template <class F>
    strand_handler(executor_type on, boost::intrusive_ptr<handler_memory> memory, F f)
        : on_{std::move(on)}, memory_{std::move(memory)} {
        static_assert(sizeof(F) <= sizeof place_ && alignof(F) <= alignof(void*) &&
                      std::is_nothrow_move_constructible_v<F>);
        ::new (static_cast<void*>(place_.data())) F(std::move(f));
        run_ = [](void* what, const error_code& ec) {
            if constexpr (std::is_invocable_v<F&, const error_code&>) {
                (*static_cast<F*>(what))(ec);
            } else {
                (*static_cast<F*>(what))();
            }
        };
        move_ = [](void* from, void* to) noexcept {
            auto& moved = *static_cast<F*>(from);
            if (to != nullptr) ::new (to) F(std::move(moved));
            moved.~F();
        };
    }
    // What it is moved from keeps its allocator: by that Asio gives back the memory of an operation that did not begin.
    strand_handler(strand_handler&& other) noexcept
        : on_{std::move(other.on_)},
          memory_{other.memory_},
          run_{other.run_},
          move_{std::exchange(other.move_, nullptr)} {
        if (move_ != nullptr) move_(other.place_.data(), place_.data());
    }
    strand_handler& operator=(strand_handler&&) = delete;
    ~strand_handler() {
        if (move_ != nullptr) move_(place_.data(), nullptr);
    }

    executor_type get_executor() const noexcept { return on_; }
    allocator_type get_allocator() const noexcept { return allocator_type{memory_}; }

    void operator()(const error_code& ec = {}) {
        const memory_for_the_strand kept;
        run_(place_.data(), ec);
    }
    template <class Detail>
    void operator()(const error_code& ec, Detail) {
        (*this)(ec);
    }

private:
    executor_type on_;
    boost::intrusive_ptr<handler_memory> memory_;
    alignas(void*) std::array<unsigned char, 48> place_;
    void (*run_)(void*, const error_code&);
    void (*move_)(void*, void*) noexcept;
};

/// How much is read at once from one connection: what its handlers serve in about a millisecond, so that one that always has
/// more to say does not keep the others waiting. It begins with little, because nobody knows yet what the handlers do with it.
class fair_share {
public:
    /// At least 1 KiB.
    std::size_t bytes(std::size_t most) const noexcept { return std::min(most, std::size_t{1024} << step_); }

    /// A share grows by what costs little, and what comes next may cost much: no more than 128 KiB are served before that is known.
    static constexpr std::uint8_t last_step = 7;

    /// Around the serving of what was read. `is_full`: it was as much as it may be, so there is probably more. `most`: as for
    /// bytes().
    class serving {
    public:
        serving(fair_share& of, core::loop& on, bool is_full, std::size_t most = ~std::size_t{0}) noexcept
            : of_{of}, on_{on}, began_{on.mark()}, most_{most}, is_full_{is_full} {}
        serving(const serving&) = delete;
        serving& operator=(const serving&) = delete;
        ~serving() {
            // By the mark that is made anyway, where a peer was served. A few small messages may take long: for what they inflate to, or what is done with
            // them.
            if (on_.mark() == began_) on_.note_served();
            const auto took = on_.mark() - began_;
            if (is_full_ || took > suspicious) of_.note(on_.counters().duration(took), is_full_, most_);
        }

    private:
        static constexpr std::uint64_t suspicious = 500'000;  // ticks: less than half a millisecond, wherever

        fair_share& of_;
        core::loop& on_;
        std::uint64_t began_;
        std::size_t most_;
        bool is_full_;
    };

private:
    ARKE_COLD void note(std::chrono::nanoseconds took, bool is_full, std::size_t most) noexcept {
        if (took < std::chrono::microseconds{500}) {
            if (is_full && step_ != last_step && std::size_t{1024} << step_ < most) ++step_;
        } else {
            for (auto enough = std::chrono::milliseconds{2}; took > enough && step_ != 0; enough *= 2) --step_;
        }
    }

    std::uint8_t step_ = 2;
};

/// A connection of a loop that is none of its own sockets.
class foreign_stream : public core::transport {
public:
    virtual const core::stream_user_ptr& user() const noexcept = 0;

    /// The loop ends: no turn, no upcalls.
    virtual void drop() noexcept = 0;

private:
    friend class asio_loop;
    std::size_t place_ = 0;
};

/// What all loops have in common: a strand of an io_context, which is their one serialising executor, and a timer.
///
/// Whether a caller is on the loop is asked of the strand, never of a thread id: a caller's io_context may have any number
/// of threads.
///
/// Operations under way hold a reference to the loop, so it lives as long as one of them; shut_down() ends them. After that
/// the object is an empty shell that handles may still refer to.
class asio_loop : public core::loop {
public:
    using strand_type = asio::strand<own_executor>;

    asio_loop(asio::io_context& context, std::size_t index, const listener_config& settings,
              bool sends_in_batches = false)
        : loop{index, settings.write_buffer_size, clock_now(), sends_in_batches},
          context_{context},
          strand_{std::in_place, asio::make_strand(context)},
          timer_{std::in_place, context} {}

    /// Where a user's own work runs one at a time with the handlers of this loop's connections. Empty after shut_down(). Any
    /// thread.
    template <class Executor>
    Executor get_executor() const {
        const std::lock_guard lock{strand_mutex_};
        return strand_ ? Executor{*strand_} : Executor{};
    }
    const strand_type& strand() const noexcept { return *strand_; }
    asio::io_context& context() noexcept { return context_; }

    /// Has f() or f(error_code) run on the strand when an operation is over. There is memory for the operation: for those of the
    /// loop itself, of which there are few at a time.
    template <class F>
    strand_handler on_strand(F f) const {
        return {*strand_, memory_, std::move(f)};
    }

    /// The same for an operation that belongs to one connection.
    template <class F>
    strand_handler on_strand_for_one(F f) const {
        return {*strand_, nullptr, std::move(f)};
    }

    /// Has f() run on the strand, later; not at all after shut_down(). Any thread.
    template <class F>
    void post_to_strand(F f) const {
        const std::lock_guard lock{strand_mutex_};
        if (strand_) asio::post(on_strand(std::move(f)));
    }

    /// Which one this is. What was asked for may have been refused.
    virtual loop_kind kind() const noexcept = 0;

    /// Takes over a connected, non-blocking socket. On the loop, in a turn. Where that fails the socket is closed, and the user
    /// is never called.
    virtual core::transport* attach(native_socket socket, core::stream_user_ptr user) = 0;

    /// Has the loop itself accept from a listening socket. `taken` gets each socket, non-blocking; or, once and as the last
    /// thing, the negative of an errno. On the loop. False: this loop leaves that to the caller.
    virtual bool accept_from(native_socket listening, std::function<void(int)> taken) {
        static_cast<void>(listening);
        static_cast<void>(taken);
        return false;
    }

    /// Ends that, and the listening. `taken` is not called any more. On the loop, or while no thread runs the io_context.
    virtual void stop_accepting(native_socket listening) { static_cast<void>(listening); }

    /// Who uses the connections of this loop, those that are closing included. In a turn.
    std::vector<core::stream_user_ptr> users() const {
        std::vector<core::stream_user_ptr> all;
        all.reserve(load());
        for (const auto* s : streams_) all.push_back(s->user());
        add_users(all);
        return all;
    }

    /// A stream that is no socket of this loop is one of its connections from now on, and no more. In a turn. Its place is kept
    /// by whoever adds it; shut_down() drops it.
    void add_stream(foreign_stream& s) {
        core::make_room(streams_, 1);
        add_load();
        s.place_ = streams_.size();
        streams_.push_back(&s);
    }
    void remove_stream(foreign_stream& s) noexcept {
        streams_.back()->place_ = s.place_;
        streams_[s.place_] = streams_.back();
        streams_.pop_back();
        remove_load();
    }

    /// Ends everything this loop has with the io_context. While no thread runs the io_context, or on the loop.
    virtual void shut_down() {
        end_posts();
        drop_late();
        for (auto* s : std::exchange(streams_, {})) {
            remove_load();
            s->drop();
        }
        timer_.reset();
        // Other threads may be asking whose turn it is.
        const std::lock_guard lock{strand_mutex_};
        strand_.reset();
    }

    static core::millis clock_now() noexcept {
        return std::chrono::duration_cast<std::chrono::milliseconds>(
                   std::chrono::steady_clock::now().time_since_epoch())
            .count();
    }

protected:
    template <class Self>
    static boost::intrusive_ptr<Self> ref(Self* self) noexcept {
        return boost::intrusive_ptr<Self>{self};
    }

    /// Who uses the loop's own sockets.
    virtual void add_users(std::vector<core::stream_user_ptr>& to) const = 0;

    // Once at a time: turns that begin by themselves empty the inbox too, and what posts again would add one wake-up for each.
    void wake() override {
        if (wakes_.exchange(true)) return;
        try {
            post_to_strand([self = ref(this)] {
                self->wakes_ = false;
                if (self->strand_) const turn guard{*self};
            });
        } catch (...) {
            wakes_ = false;
            throw;
        }
    }

    bool is_running_here() const noexcept override {
        const std::lock_guard lock{strand_mutex_};
        return strand_ && strand_->running_in_this_thread();
    }

    core::millis read_clock() const noexcept override { return clock_now(); }

    void set_alarm(core::millis at) override {
        if (!timer_) return;
        timer_->expires_at(std::chrono::steady_clock::time_point{std::chrono::milliseconds{at}});
        timer_->async_wait(on_strand([self = ref(this)](const error_code& ec) {
            if (ec || !self->strand_) return;
            const turn guard{*self};
            self->advance_timers();
        }));
    }

private:
    asio::io_context& context_;
    const boost::intrusive_ptr<handler_memory> memory_{new handler_memory};
    mutable std::mutex strand_mutex_;  // only shut_down() changes it; a strand must not outlive its io_context
    std::optional<strand_type> strand_;
    std::optional<own_timer> timer_;
    std::atomic<bool> wakes_{false};
    std::vector<foreign_stream*> streams_;
};

using asio_loop_ptr = boost::intrusive_ptr<asio_loop>;

}  // namespace arke::io
