#pragma once

#include <arke/io/io_uring_loop.hpp>

#if defined(__linux__) && defined(ARKE_HAS_IO_URING)

#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace arke::io {

/// The memory that a ring's receives are filled into: pieces that go to the kernel and come back.
///
/// Incremental: a piece is filled by one receive after another, each where the last one ended, so that small messages of
/// thousands of sockets need few pieces, and a large message still meets a large one. Where that place is, only the order of
/// the completions tells. Hence just for a ring whose completions are made within our own calls: elsewhere a full completion
/// queue may change the order, and bytes would go to the wrong connection. (Linux 6.12; liburing 2.3 has no name for it.)
class receive_buffers {
public:
    receive_buffers() = default;
    receive_buffers(const receive_buffers&) = delete;
    receive_buffers& operator=(const receive_buffers&) = delete;
    ~receive_buffers() {
        if (memory_ != MAP_FAILED) ::munmap(memory_, mapped_);
    }

    /// Gives `total` bytes to the ring. False, where the kernel won't have them.
    bool open(::io_uring& ring, std::size_t total, bool incremental) {
        return (incremental && try_open(ring, total, true)) || try_open(ring, total, false);
    }

    /// From now on no receive finds memory here. Refused in a thread that the ring does not belong to.
    void withdraw(::io_uring& ring) {
        registration r{};
        ::io_uring_register(static_cast<unsigned>(ring.ring_fd), IORING_UNREGISTER_PBUF_RING, &r, 1);
    }

    bool is_incremental() const noexcept { return incremental_; }

    /// A part that the ring does not have.
    std::span<char> own() const noexcept { return {data_ + (mask_ + 1) * piece_, own_}; }

    /// Pieces that no completion we have seen has used.
    std::size_t free() const noexcept { return free_; }

    /// A completion that used a piece has come.
    void note_used() noexcept {
        if (!incremental_) --free_;
    }

    /// The bytes of a completion, in the order of completions.
    std::span<char> filled(unsigned id, std::size_t count) noexcept {
        return {data_ + id * piece_ + (incremental_ ? used_[id] : 0), count};
    }

    /// The bytes of that completion are not needed any more.
    void give_back(unsigned id, std::size_t count) noexcept {
        if (incremental_) {
            used_[id] += static_cast<std::uint32_t>(count);
            if (used_[id] < piece_) return;
            used_[id] = 0;
        } else {
            ++free_;
        }
        add(id);
    }

private:
    // As the kernel has them. liburing's own differ between its versions, and some have the entries at the wrong place in C++.
    struct registration {
        std::uint64_t address;
        std::uint32_t entries;
        std::uint16_t group;
        std::uint16_t flags;
        std::array<std::uint64_t, 3> reserved;
    };
    struct entry {
        std::uint64_t address;
        std::uint32_t size;
        std::uint16_t id;
        std::uint16_t tail;  // of the ring, in the first entry
    };

    bool try_open(::io_uring& ring, std::size_t total, bool incremental) {
        // Incremental, eight are enough for the kernel to have some while we read others. Else every ready socket takes one.
        own_ = std::min<std::size_t>(total / 4, 256 * 1024);
        total -= own_;
        const auto wanted = incremental ? std::min<std::size_t>(total / 1024, 8) : total / 3072;
        const auto count = std::clamp<std::size_t>(std::bit_floor(wanted), 2, 16 * 1024);
        piece_ = std::min<std::size_t>(total / count, 1U << 30U);
        const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
        const auto ring_size = (count * sizeof(entry) + page - 1) / page * page;
        if (memory_ != MAP_FAILED) ::munmap(memory_, mapped_);
        mapped_ = ring_size + count * piece_ + own_;
        memory_ = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory_ == MAP_FAILED) return false;
        entries_ = static_cast<entry*>(memory_);
        data_ = static_cast<char*>(memory_) + ring_size;
        mask_ = static_cast<unsigned>(count) - 1;
        incremental_ = incremental;
        constexpr std::uint16_t consumed_incrementally = 2;
        registration r{};
        r.address = reinterpret_cast<std::uintptr_t>(memory_);
        r.entries = static_cast<std::uint32_t>(count);
        r.flags = incremental ? consumed_incrementally : 0;
        if (::io_uring_register(static_cast<unsigned>(ring.ring_fd), IORING_REGISTER_PBUF_RING, &r, 1) != 0)
            return false;
        tail_ = 0;
        free_ = count;
        used_.assign(incremental ? count : 0, 0);
        for (unsigned id = 0; id != count; ++id) add(id);
        return true;
    }

    void add(unsigned id) noexcept {
        auto& e = entries_[tail_ & mask_];
        e.address = reinterpret_cast<std::uintptr_t>(data_ + id * piece_);
        e.size = static_cast<std::uint32_t>(piece_);
        e.id = static_cast<std::uint16_t>(id);
        __atomic_store_n(&entries_[0].tail, ++tail_, __ATOMIC_RELEASE);
    }

    void* memory_ = MAP_FAILED;
    std::size_t mapped_ = 0;
    entry* entries_ = nullptr;
    char* data_ = nullptr;
    std::size_t piece_ = 0;
    std::size_t own_ = 0;
    std::size_t free_ = 0;
    std::vector<std::uint32_t> used_;
    unsigned mask_ = 0;
    std::uint16_t tail_ = 0;
    bool incremental_ = false;
};

class io_uring_loop final : public asio_loop {
public:
    io_uring_loop(asio::io_context& context, std::size_t index, const listener_config& settings)
        : asio_loop{context, index, settings, true} {}
    ~io_uring_loop() override { io_uring_loop::shut_down(); }

    /// False where there is no such ring for us. Once, before all else.
    bool open(const listener_config& settings, bool one_thread);

    /// Begins to watch. Once.
    void start();

    loop_kind kind() const noexcept override { return loop_kind::io_uring; }
    core::transport* attach(native_socket socket, core::stream_user_ptr user) override;
    void add_users(std::vector<core::stream_user_ptr>& to) const override;
    void shut_down() override;
    bool accept_from(native_socket listening, std::function<void(int)> taken) override;
    void stop_accepting(native_socket listening) override;

private:
    static constexpr int rounds_per_wake_up = 8;
    static constexpr std::size_t completions_per_round = 512;
    static constexpr unsigned submissions = 1024;

    class socket;

    /// What a completion belongs to, in the low bits of its user_data; above them stands the pointer, or the place in the batch.
    enum class kind_of : std::uint64_t { nothing, receive, send, room, accept, bytes };
    static constexpr std::uint64_t kind_mask = 7;
    static constexpr unsigned place_bits = 24;

    struct completion {
        std::uint64_t data;
        std::int32_t result;
        std::uint32_t flags;

        kind_of kind() const noexcept { return static_cast<kind_of>(data & kind_mask); }
        template <class T>
        T& of() const noexcept {
            return *reinterpret_cast<T*>(static_cast<std::uintptr_t>(data & ~kind_mask));
        }
        bool is_last() const noexcept { return (flags & IORING_CQE_F_MORE) == 0; }
        bool has_buffer() const noexcept { return (flags & IORING_CQE_F_BUFFER) != 0; }
    };

    /// One send of the batch that goes out together.
    struct queued {
        socket* from;
        core::segment piece;
        bool answered;
    };

    struct listening_socket {
        int fd;  // -1: not wanted any more
        std::function<void(int)> taken;
        bool armed;
    };

    template <class T>
    static std::uint64_t name(T& of, kind_of kind) noexcept {
        return reinterpret_cast<std::uintptr_t>(&of) | static_cast<std::uint64_t>(kind);
    }

    void watch();
    void run();
    void run_again() noexcept;
    void run_later() noexcept;
    bool run_round();
    void submit() override;
    ::io_uring_sqe* next_sqe();
    bool cancel(std::uint64_t what);
    void prepare();
    int enter();
    void exchange();
    void reap();
    queued* find_queued(std::uint64_t data);
    static void answer(queued& q, ssize_t result);
    void send_the_rest();
    void handle(const completion& c);
    void handle_accept(const completion& c);
    void look_at(socket& s);
    void add_starving(socket& s);
    void add_ready(socket& s);
    /// Whether the ring has something that was not taken from it.
    bool has_news() const noexcept {
        return ::io_uring_cq_ready(&ring_) != 0 || has_flag(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    }
    /// Completions found no room in the queue; the kernel keeps them until it is called again.
    bool has_overflow() const noexcept { return has_flag(IORING_SQ_CQ_OVERFLOW); }
    bool has_flag(unsigned flag) const noexcept {
        return (__atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE) & flag) != 0;
    }
    /// The kernel has not taken all, for lack of memory.
    bool is_refused() const noexcept { return ::io_uring_sq_ready(&ring_) != 0; }
    bool needs_exchange() const noexcept { return !changed_.empty() || !starving_.empty() || listens_anew_; }
    bool has_work() const noexcept { return next_ != completions_.size() || needs_exchange() || !ready_.empty(); }

    ::io_uring ring_{};
    receive_buffers buffers_;
    std::optional<asio::posix::basic_stream_descriptor<own_executor>> watched_;
    bool open_ = false;
    bool deferred_ = false;  // the kernel works for us within our calls only
    bool disabled_ = false;  // until the first call of the thread that it will belong to
    bool running_ = false;
    bool run_posted_ = false;
    bool waits_ = false;              // for retry_
    std::optional<own_timer> retry_;  // where the kernel refuses
    bool preparing_ = false;
    bool listens_anew_ = false;
    std::uint32_t batch_number_ = 0;
    std::uint32_t round_ = 0;
    std::vector<queued> batch_;
    std::vector<completion> completions_;  // taken from the ring, from next_ on not yet served
    std::size_t next_ = 0;
    std::vector<socket*> sockets_;
    std::vector<socket*> closing_;  // closed, and still named by requests or by the lists here
    std::vector<socket*> garbage_;
    std::vector<socket*> deleting_;
    std::vector<socket*> changed_;  // whose requests are to be made or cancelled
    std::vector<socket*> arranging_;
    std::vector<socket*> starving_;  // whose receive found no buffer and had got none before
    std::vector<socket*> ready_;     // that have something to tell without a completion
    std::vector<socket*> serving_;
    std::vector<std::unique_ptr<listening_socket>> listening_;
};

/// One connected socket. It lives until the kernel and the lists of the loop have forgotten it.
class io_uring_loop::socket final : public core::transport {
public:
    socket(io_uring_loop& on, int fd, core::stream_user_ptr user) : fd_{fd}, loop_{on}, user_{std::move(user)} {}

    core::send_result send(std::span<const core::segment> pieces) override {
        if (fd_ < 0) return {0, error_code{EBADF, boost::system::system_category()}};
        std::array<iovec, 64> parts;
        const std::size_t count = std::min(pieces.size(), parts.size());
        std::size_t total = 0;
        for (std::size_t i = 0; i != count; ++i) {
            parts[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
            total += pieces[i].size();
        }
        ssize_t sent = 0;
        do {
            if (count == 1) {
                sent = ::send(fd_, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
            } else {
                msghdr message{};
                message.msg_iov = parts.data();
                message.msg_iovlen = count;
                sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
            }
        } while (sent < 0 && errno == EINTR);
        return judge(sent < 0 ? -errno : sent, total);
    }

    void queue(core::segment piece) override {
        if (fd_ < 0) return;
        auto* const sqe = loop_.next_sqe();
        if (sqe == nullptr) return on_sent(piece.size(), send_now(piece));
        // Answered only when not all of it was taken; MSG_WAITALL makes that a failure, and MSG_DONTWAIT one without waiting.
        ::io_uring_prep_send(sqe, fd_, piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        const auto place = loop_.batch_.size();
        sqe->user_data = (std::uint64_t{loop_.batch_number_} << (place_bits + 3)) | (std::uint64_t{place} << 3U) |
                         static_cast<std::uint64_t>(kind_of::send);
        loop_.batch_.push_back({this, piece, false});
        queued_ = true;
    }

    void on_sent(std::size_t size, ssize_t result) {
        queued_ = false;
        const auto told = judge(result, size);
        if (user_) user_->tell<&core::stream_user::on_sent>(told);
    }

    ssize_t send_now(core::segment piece) const noexcept {
        const auto sent = ::send(fd_, piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        return sent < 0 ? -errno : sent;
    }

    void set_user(core::stream_user_ptr user) override { loop_.retire(std::exchange(user_, std::move(user))); }

    void pause_reads(bool pause) override {
        if (paused_ == pause) return;
        paused_ = pause;
        loop_.look_at(*this);
        if (!pause && (held_ || end_waits_ || broken_ != 0)) loop_.add_ready(*this);
    }

    void shutdown() override {
        if (fd_ >= 0) ::shutdown(fd_, SHUT_WR);
    }

    void close(bool reset) override {
        if (fd_ < 0) return;
        // A send that the kernel has not seen names the descriptor, which is somebody else's soon.
        auto user = std::exchange(user_, nullptr);
        if (queued_) loop_.submit();
        withdraw();
        if (reset) {
            const linger now{1, 0};
            ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        // The socket itself closes when its receive is cancelled, which the same turn's call does.
        ::close(std::exchange(fd_, -1));
        held_.reset();
        move_to(loop_.sockets_, loop_.closing_);
        loop_.remove_load();
        loop_.retire(std::move(user));
        if (receiving_ || waiting_for_bytes_ || waiting_for_room_) {
            loop_.look_at(*this);
        } else {
            go_if_forgotten();
        }
    }

    /// Makes the requests be what they should be.
    void arrange() {
        const bool open = fd_ >= 0;
        // While something is held the rest waits in the kernel, and in the peer.
        const bool wants_bytes = open && !paused_ && !ended_ && !held_;
        const bool wants_receive = wants_bytes && !reads_itself_;
        const bool wants_wait = wants_bytes && reads_itself_;
        // One of the two, and the other only when the first is over: else bytes would overtake each other.
        if (wants_receive && !receiving_ && !waiting_for_bytes_) {
            auto* const sqe = loop_.next_sqe();
            if (sqe == nullptr) return loop_.look_at(*this);
            ::io_uring_prep_recv_multishot(sqe, fd_, nullptr, 0, 0);
            sqe->flags |= IOSQE_BUFFER_SELECT;
            sqe->buf_group = 0;
            sqe->user_data = name(*this, kind_of::receive);
            receiving_ = true;
            cancels_receive_ = false;
            fed_ = false;
        } else if (!wants_receive && receiving_ && !cancels_receive_) {
            if (!loop_.cancel(name(*this, kind_of::receive))) return loop_.look_at(*this);
            cancels_receive_ = true;
        }
        if (wants_wait && !waiting_for_bytes_ && !receiving_) {
            auto* const sqe = loop_.next_sqe();
            if (sqe == nullptr) return loop_.look_at(*this);
            ::io_uring_prep_poll_add(sqe, fd_, POLLIN | POLLRDHUP);
            sqe->user_data = name(*this, kind_of::bytes);
            waiting_for_bytes_ = true;
            cancels_bytes_ = false;
        } else if (!wants_wait && waiting_for_bytes_ && !cancels_bytes_) {
            if (!loop_.cancel(name(*this, kind_of::bytes))) return loop_.look_at(*this);
            cancels_bytes_ = true;
        }
        const bool wants_room = open && wants_room_;
        if (wants_room && !waiting_for_room_) {
            auto* const sqe = loop_.next_sqe();
            if (sqe == nullptr) return loop_.look_at(*this);
            ::io_uring_prep_poll_add(sqe, fd_, POLLOUT);
            sqe->user_data = name(*this, kind_of::room);
            waiting_for_room_ = true;
            cancels_wait_ = false;
        } else if (!wants_room && waiting_for_room_ && !cancels_wait_) {
            if (!loop_.cancel(name(*this, kind_of::room))) return loop_.look_at(*this);
            cancels_wait_ = true;
        }
        go_if_forgotten();
    }

    void on_receive(const completion& c) {
        if (c.is_last()) receiving_ = false;
        if (c.has_buffer()) {
            const auto id = c.flags >> IORING_CQE_BUFFER_SHIFT;
            const auto count = static_cast<std::size_t>(std::max(c.result, 0));
            if (fd_ >= 0 && count != 0) hear(loop_.buffers_.filled(id, count));
            loop_.buffers_.give_back(id, count);
            if (fd_ >= 0 && !reads_itself_ && is_much(count)) {
                reads_itself_ = true;
                small_reads_ = 0;
                loop_.look_at(*this);
            }
        }
        if (c.result <= 0 && fd_ >= 0) {
            switch (-c.result) {
                // Cancelled by us, or because the thread has ended that made it.
                case ECANCELED:
                case EINTR:
                case EAGAIN: break;
                case ENOBUFS:
                    if (!fed_) return loop_.add_starving(*this);
                    break;
                default: end(-c.result); break;
            }
        }
        if (receiving_) return;
        if (fd_ >= 0) {
            loop_.look_at(*this);
        } else {
            go_if_forgotten();
        }
    }

    /// There is something to read, or was.
    void on_bytes(const completion& c) {
        waiting_for_bytes_ = false;
        if (fd_ < 0) return go_if_forgotten();
        loop_.look_at(*this);
        // Bytes that were held come first; what is in the kernel is told of again.
        if (c.result < 0 || paused_ || held_ || ended_) return;
        const auto wanted = user_->has_wants() ? user_->wanted() : std::span<char>{};
        auto rest = loop_.buffers_.own();
        rest = rest.first(share_.bytes(rest.size()));
        std::array<iovec, 2> parts{iovec{wanted.data(), wanted.size()}, iovec{rest.data(), rest.size()}};
        const auto count = wanted.empty() ? ::recv(fd_, rest.data(), rest.size(), MSG_DONTWAIT)
                                          : ::readv(fd_, parts.data(), static_cast<int>(parts.size()));
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
        if (count <= 0) return end(count == 0 ? 0 : errno);
        auto taken = static_cast<std::size_t>(count);
        const bool is_full = taken == wanted.size() + rest.size();
        {
            const fair_share::serving now{share_, loop_, is_full, loop_.buffers_.own().size()};
            if (!wanted.empty()) {
                const auto filled = std::min(taken, wanted.size());
                user_->tell<&core::stream_user::on_filled>(filled);
                taken -= filled;
            }
            if (taken != 0 && fd_ >= 0) user_->tell<&core::stream_user::on_bytes>(rest.first(taken));
        }
        if (fd_ < 0) return;
        if (is_full || is_much(static_cast<std::size_t>(count))) {
            small_reads_ = 0;
        } else if (++small_reads_ == 8) {
            reads_itself_ = false;
        }
    }

    void on_room(const completion& c) {
        waiting_for_room_ = false;
        if (fd_ < 0) return go_if_forgotten();
        if (c.result >= 0 && wants_room_) {
            wants_room_ = false;
            return user_->tell<&core::stream_user::on_writable>();
        }
        loop_.look_at(*this);
    }

    /// Tells what waited for this: bytes that were held, the end, or what a failing send has begun.
    void serve() {
        if (fd_ < 0) return go_if_forgotten();
        if (paused_) return;
        if (held_) {
            // What was told in this round was its share.
            if (round_ == loop_.round_) return loop_.add_ready(*this);
            tell_held();
            if (held_ && !paused_) loop_.add_ready(*this);
        }
        if (fd_ < 0 || paused_ || held_) return;
        if (end_waits_) {
            end_waits_ = false;
            return tell_end();
        }
        if (broken_ == 0 || ended_) return;
        // What the peer said before is still heard, if the kernel has it.
        char byte = 0;
        const auto left = ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (left > 0) {
            loop_.look_at(*this);
            return loop_.add_ready(*this);
        }
        const int why = left == 0 ? 0 : errno;
        end(why == EAGAIN ? int{broken_} : why);
        if (fd_ >= 0) loop_.look_at(*this);
    }

    /// What was to cancel its requests may have been lost.
    void cancel_again() {
        if (!cancels_receive_ && !cancels_bytes_ && !cancels_wait_) return;
        cancels_receive_ = cancels_bytes_ = cancels_wait_ = false;
        loop_.look_at(*this);
    }

    const core::stream_user_ptr& user() const noexcept { return user_; }

    /// For shut_down(): no turn, no upcalls.
    void drop() {
        // At once, and not when the ring has come to its end.
        ::shutdown(fd_, SHUT_RDWR);
        ::close(std::exchange(fd_, -1));
        loop_.remove_load();
        user_->cancel();
        user_.reset();
    }

    std::uint32_t place_ = 0;
    bool in_changed_ : 1 = false;  // or among the starving
    bool in_ready_ : 1 = false;

    void go_if_forgotten() {
        if (fd_ >= 0 || gone_ || receiving_ || waiting_for_bytes_ || waiting_for_room_ || queued_ || in_changed_ ||
            in_ready_)
            return;
        gone_ = true;
        // Somebody further up the stack may be using it.
        move_to(loop_.closing_, loop_.garbage_);
    }

private:
    core::send_result judge(ssize_t result, std::size_t size) {
        if (result >= 0) {
            const auto sent = static_cast<std::size_t>(result);
            if (sent < size) want_room();
            return {sent, {}};
        }
        const int why = static_cast<int>(-result);
        if (why == EAGAIN || why == EWOULDBLOCK || why == ENOBUFS || why == EINTR || why == ECANCELED) {
            want_room();
            return {};
        }
        broken_ = static_cast<std::uint16_t>(why);
        if (fd_ >= 0) loop_.add_ready(*this);
        return {0, error_code{why, boost::system::system_category()}};
    }

    void want_room() {
        wants_room_ = true;
        loop_.look_at(*this);
    }

    /// Large messages are better read by ourselves, one socket after another and straight to where they belong: from the ring's
    /// memory each would be copied once more, and many at once push each other out of the cache before we come to them.
    bool is_much(std::size_t count) const {
        constexpr std::size_t much = 8 * 1024;
        return count >= much || (user_->has_wants() && user_->wanted().size() >= much);
    }

    void hear(std::span<char> bytes) {
        fed_ = true;
        if (!paused_ && !held_) {
            if (round_ != loop_.round_) {
                round_ = loop_.round_;
                heard_ = 0;
            }
            heard_ += static_cast<std::uint32_t>(bytes.size());
            if (heard_ <= share_.bytes(everything)) {
                const fair_share::serving measured{share_, loop_, false};
                return user_->tell<&core::stream_user::on_bytes>(bytes);
            }
            bytes = tell_share(bytes);
            if (bytes.empty()) return;
        }
        hold(bytes);
    }

    /// More than its share of this round has come: tells what is left of the share, and answers the rest, which is for the rounds
    /// after. One that says so much is better read by ourselves, and only as much as is told at once.
    ARKE_COLD std::span<char> tell_share(std::span<char> bytes) {
        const auto before = heard_ - bytes.size();
        const auto share = share_.bytes(everything);
        const auto now = share - std::min(share, before);
        if (now != 0) {
            const fair_share::serving measured{share_, loop_, before == 0, loop_.buffers_.own().size()};
            user_->tell<&core::stream_user::on_bytes>(bytes.first(now));
        }
        if (fd_ < 0) return {};
        reads_itself_ = true;
        small_reads_ = 0;
        if (!paused_) loop_.add_ready(*this);
        return bytes.subspan(now);
    }

    /// Keeps a copy, so that the others have the ring's memory. What comes now the kernel has read already, or reads until it is
    /// told to stop, at the end of this round.
    ARKE_COLD void hold(std::span<char> bytes) {
        user_->guarded([&] {
            if (!held_) held_ = std::make_unique<held_bytes>();
            auto& [all, told] = *held_;
            all.erase(0, std::exchange(told, 0));
            all.append(bytes.data(), bytes.size());
        });
        // It may have been told to stop before, between two of its reads, where it found nothing to cancel.
        cancels_receive_ = false;
        if (fd_ >= 0) loop_.look_at(*this);
    }

    /// One share of what is held.
    void tell_held() {
        // It may be closed meanwhile.
        auto held = std::move(held_);
        const auto left = std::span<char>{held->all}.subspan(held->told);
        const auto now = left.first(share_.bytes(left.size()));
        held->told += now.size();
        {
            const fair_share::serving measured{share_, loop_, now.size() != left.size(), loop_.buffers_.own().size()};
            user_->tell<&core::stream_user::on_bytes>(now);
        }
        if (fd_ < 0) return;
        if (now.size() != left.size()) {
            held_ = std::move(held);
        } else {
            loop_.look_at(*this);
        }
    }

    void end(int why) {
        if (ended_) return;
        ended_ = true;
        end_ = static_cast<std::uint16_t>(why);
        if (paused_ || held_) {
            end_waits_ = true;
        } else {
            tell_end();
        }
    }

    void tell_end() {
        user_->tell<&core::stream_user::on_end>(end_ == 0 ? error_code{}
                                                          : error_code{end_, boost::system::system_category()});
    }

    /// Takes back requests that the kernel would not take when they were made: they name the descriptor too.
    void withdraw() noexcept {
        auto& sq = loop_.ring_.sq;
        for (unsigned i = *sq.khead; i != sq.sqe_tail; ++i) {
            auto& sqe = sq.sqes[i & *sq.kring_mask];
            if (sqe.user_data == name(*this, kind_of::receive)) {
                receiving_ = false;
            } else if (sqe.user_data == name(*this, kind_of::bytes)) {
                waiting_for_bytes_ = false;
            } else if (sqe.user_data == name(*this, kind_of::room)) {
                waiting_for_room_ = false;
            } else {
                continue;
            }
            ::io_uring_prep_nop(&sqe);
            sqe.user_data = static_cast<std::uint64_t>(kind_of::nothing);
        }
    }

    void move_to(std::vector<socket*>& from, std::vector<socket*>& to) {
        auto* const last = from.back();
        last->place_ = place_;
        from[place_] = last;
        from.pop_back();
        place_ = static_cast<std::uint32_t>(to.size());
        to.push_back(this);
    }

    static constexpr auto everything = static_cast<std::size_t>(-1);

    struct held_bytes {
        std::string all;
        std::size_t told = 0;  // of them
    };

    bool receiving_ : 1 = false;  // the kernel has the request, or completions of it wait here
    bool cancels_receive_ : 1 = false;
    bool fed_ : 1 = false;           // by the receive that is under way
    bool reads_itself_ : 1 = false;  // has a wait for bytes instead of a receive
    bool waiting_for_bytes_ : 1 = false;
    bool cancels_bytes_ : 1 = false;
    std::uint8_t small_reads_ : 4 = 0;
    bool waiting_for_room_ : 1 = false;
    bool cancels_wait_ : 1 = false;
    bool wants_room_ : 1 = false;
    bool queued_ : 1 = false;
    bool paused_ : 1 = false;
    bool ended_ : 1 = false;
    bool end_waits_ : 1 = false;
    bool gone_ : 1 = false;
    fair_share share_;
    std::uint16_t end_ = 0;     // what a receive said, once ended_
    std::uint16_t broken_ = 0;  // what a send said
    int fd_;
    io_uring_loop& loop_;
    core::stream_user_ptr user_;
    std::unique_ptr<held_bytes> held_;  // what came while reads were paused, or was more than its share
    std::uint32_t round_ = 0;           // in which it was told something from the ring
    std::uint32_t heard_ = 0;           // in that round
};

// ------------------------------------------------------------------------------------------------------------ the ring

ARKE_INLINE bool io_uring_loop::open(const listener_config& settings, bool one_thread) {
    constexpr unsigned always = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
    constexpr unsigned deferred =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED;
    constexpr unsigned cooperative = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    // With several threads none of the two: a thread that computes would keep the loop's bytes from the others.
    const std::array<unsigned, 2> ways{one_thread ? deferred : 0U, one_thread ? cooperative : 0U};
    io_uring_params p{};
    for (const auto way : ways) {
        p = {};
        p.flags = always | way;
        p.cq_entries = 8 * submissions;
        open_ = ::io_uring_queue_init_params(submissions, &ring_, &p) == 0;
        if (open_) break;
    }
    if (!open_) return false;
    deferred_ = disabled_ = (p.flags & IORING_SETUP_DEFER_TASKRUN) != 0;

    constexpr unsigned features = IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL;
    bool usable = (p.features & features) == features;
    if (auto* const probe = ::io_uring_get_probe_ring(&ring_)) {
        // Multishot receives have no name to ask for. This one came with them, in Linux 6.0.
        usable = usable && ::io_uring_opcode_supported(probe, IORING_OP_SEND_ZC) != 0;
        ::io_uring_free_probe(probe);
    } else {
        usable = false;
    }
    // A sandbox may refuse one call and let others pass.
    if (const int entered = ::io_uring_enter(static_cast<unsigned>(ring_.ring_fd), 0, 0, 0, nullptr); entered != 0)
        usable = usable && disabled_ && entered == -EBADFD;
    usable = usable && buffers_.open(ring_, settings.read_buffer_size, deferred_);
    completions_.reserve(p.cq_entries);
    // A ring whose work is deferred does not wake those who poll it: it makes a completion only when it is asked.
    int watched = -1;
    if (usable)
        watched = deferred_ ? ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : ::fcntl(ring_.ring_fd, F_DUPFD_CLOEXEC, 0);
    if (watched >= 0) watched_.emplace(context(), watched);
    if (watched < 0 || (deferred_ && ::io_uring_register_eventfd(&ring_, watched) != 0)) {
        open_ = false;
        watched_.reset();
        ::io_uring_queue_exit(&ring_);
        return false;
    }
    return true;
}

ARKE_INLINE void io_uring_loop::start() {
    // In the thread that will run the loop, which is perhaps not this one.
    post_to_strand([self = ref(this)] {
        if (!self->open_) return;
        self->run();
        if (self->open_) self->watch();
    });
}

ARKE_INLINE void io_uring_loop::add_users(std::vector<core::stream_user_ptr>& to) const {
    for (const auto* s : sockets_) to.push_back(s->user());
}

ARKE_INLINE void io_uring_loop::shut_down() {
    waiting().clear();
    if (open_) {
        // The ring ends some time after it is closed, and until then a receive may still be filled, where one runs in the
        // thread that made it. Without memory it cannot. Where the ring belongs to another thread, only that one's calls could.
        open_ = false;
        buffers_.withdraw(ring_);
        for (const auto& l : listening_) {
            if (l->fd >= 0) ::shutdown(l->fd, SHUT_RDWR);
        }
        reap();
        for (; next_ != completions_.size(); ++next_) {
            const auto& c = completions_[next_];
            if (c.kind() == kind_of::accept && c.result >= 0) ::close(c.result);
        }
        watched_.reset();
        retry_.reset();
        ::io_uring_queue_exit(&ring_);
        for (auto* list : {&changed_, &starving_, &ready_, &serving_}) list->clear();
        auto sockets = std::exchange(sockets_, {});
        for (auto* s : sockets) s->drop();
        for (auto* list : {&sockets, &closing_, &garbage_, &deleting_}) {
            for (auto* s : std::exchange(*list, {})) delete s;
        }
        // What they capture may hold the last reference to this.
        const auto gone = std::exchange(listening_, {});
    }
    asio_loop::shut_down();
}

ARKE_INLINE core::transport* io_uring_loop::attach(native_socket fd, core::stream_user_ptr user) {
    if (!open_) {
        ::close(fd);
        return nullptr;
    }
    std::unique_ptr<socket> made;
    try {
        made = std::make_unique<socket>(*this, fd, std::move(user));
        const auto alive = sockets_.size() + closing_.size() + garbage_.size() + 1;
        for (auto* list :
             {&sockets_, &closing_, &garbage_, &deleting_, &changed_, &arranging_, &starving_, &ready_, &serving_}) {
            core::make_room(*list, alive);
        }
        core::make_room(batch_, alive);
        add_load();
    } catch (...) {
        ::close(fd);
        return nullptr;
    }
    auto* const s = made.release();
    s->place_ = static_cast<std::uint32_t>(sockets_.size());
    sockets_.push_back(s);
    look_at(*s);
    return s;
}

ARKE_INLINE bool io_uring_loop::accept_from(native_socket listening, std::function<void(int)> taken) {
    if (!open_) return false;
    listening_.push_back(std::make_unique<listening_socket>(listening_socket{listening, std::move(taken), false}));
    listens_anew_ = true;
    if (!running_) run_again();
    return true;
}

ARKE_INLINE void io_uring_loop::stop_accepting(native_socket listening) {
    for (auto& l : listening_) {
        if (l->fd != listening) continue;
        l->fd = -1;
        // Ends the request from whatever thread, and what it would still accept.
        ::shutdown(listening, SHUT_RDWR);
        const auto gone = std::exchange(l->taken, nullptr);
        if (!l->armed) l.reset();
        break;
    }
    std::erase(listening_, nullptr);
}

// ---------------------------------------------------------------------------------------------------- to and from the kernel

/// Null, where the kernel takes none: it is out of memory.
ARKE_INLINE ::io_uring_sqe* io_uring_loop::next_sqe() {
    for (int attempt = 0; attempt != 8; ++attempt) {
        if (auto* const sqe = ::io_uring_get_sqe(&ring_)) return sqe;
        enter();
        reap();
    }
    return nullptr;
}

ARKE_INLINE bool io_uring_loop::cancel(std::uint64_t what) {
    auto* const sqe = next_sqe();
    if (sqe == nullptr) return false;
    ::io_uring_prep_cancel64(sqe, what, 0);
    sqe->user_data = static_cast<std::uint64_t>(kind_of::nothing);
    return true;
}

/// Writes down what the kernel is to be told beside the sends.
ARKE_INLINE void io_uring_loop::prepare() {
    if (std::exchange(preparing_, true)) return;
    // Those that got nothing come before those that emptied the buffers, and no more of them than there is something for.
    const auto meals = std::max<std::size_t>(buffers_.free() * (buffers_.is_incremental() ? 32 : 1), 1);
    const auto served = std::min(meals, starving_.size());
    for (std::size_t i = 0; i != served; ++i) {
        starving_[i]->in_changed_ = false;
        starving_[i]->arrange();
    }
    starving_.erase(starving_.begin(), starving_.begin() + static_cast<std::ptrdiff_t>(served));
    arranging_.swap(changed_);
    for (auto* s : arranging_) {
        s->in_changed_ = false;
        s->arrange();
    }
    arranging_.clear();
    if (std::exchange(listens_anew_, false)) {
        for (const auto& l : listening_) {
            if (l->armed || l->fd < 0) continue;
            auto* const sqe = next_sqe();
            if (sqe == nullptr) {
                listens_anew_ = true;
                break;
            }
            ::io_uring_prep_multishot_accept(sqe, l->fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            sqe->user_data = name(*l, kind_of::accept);
            l->armed = true;
        }
    }
    preparing_ = false;
}

ARKE_INLINE int io_uring_loop::enter() {
    // Not by liburing's function, which its library 2.3 forgets to export.
    if (std::exchange(disabled_, false))
        ::io_uring_register(static_cast<unsigned>(ring_.ring_fd), IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    int result = 0;
    do {
        result = ::io_uring_submit_and_get_events(&ring_);
    } while (result == -EINTR);
    return result;
}

ARKE_INLINE void io_uring_loop::exchange() {
    prepare();
    enter();
    reap();
}

/// Takes what the kernel has answered. Sends are told of at once, the rest waits for a round.
ARKE_INLINE void io_uring_loop::reap() {
    for (;;) {
        const unsigned head = __atomic_load_n(ring_.cq.khead, __ATOMIC_RELAXED);
        if (head == io_uring_smp_load_acquire(ring_.cq.ktail)) break;
        const auto& cqe = ring_.cq.cqes[head & *ring_.cq.kring_mask];
        const completion c{cqe.user_data, cqe.res, cqe.flags};
        ::io_uring_cq_advance(&ring_, 1);
        switch (c.kind()) {
            case kind_of::nothing: break;
            case kind_of::send:
                if (auto* const q = find_queued(c.data)) answer(*q, c.result);
                break;
            default:
                if (c.kind() == kind_of::receive && c.has_buffer()) buffers_.note_used();
                completions_.push_back(c);
                break;
        }
    }
    if (!running_ && open_ && next_ != completions_.size()) run_again();
}

ARKE_INLINE io_uring_loop::queued* io_uring_loop::find_queued(std::uint64_t data) {
    const auto place = static_cast<std::size_t>((data >> 3U) & ((1U << place_bits) - 1));
    if (data >> (place_bits + 3) != batch_number_ || place >= batch_.size() || batch_[place].answered) return nullptr;
    return &batch_[place];
}

ARKE_INLINE void io_uring_loop::answer(queued& q, ssize_t result) {
    q.answered = true;
    q.from->on_sent(q.piece.size(), result);
}

ARKE_INLINE void io_uring_loop::submit() {
    if (batch_.empty()) return;
    prepare();
    // Sends do not wait. What the kernel has taken off the queue is done, and what it says nothing of was sent whole: unless
    // it has not found room yet to say so.
    int failures = 0;
    do {
        if (enter() < 0 && ++failures == 8) send_the_rest();
        reap();
    } while ((::io_uring_sq_ready(&ring_) != 0 || has_overflow()) && failures < 16);
    for (std::size_t i = 0; i < batch_.size(); ++i) {
        if (!batch_[i].answered) answer(batch_[i], static_cast<ssize_t>(batch_[i].piece.size()));
    }
    batch_.clear();
    batch_number_ = (batch_number_ + 1) & 0xFFFF'FFFFU;
}

/// The kernel takes nothing, for lack of memory: sends go without it, and the rest is asked for again.
ARKE_INLINE void io_uring_loop::send_the_rest() {
    auto& sq = ring_.sq;
    bool lost_cancels = false;
    for (unsigned i = *sq.khead; i != sq.sqe_tail; ++i) {
        const auto& sqe = sq.sqes[i & *sq.kring_mask];
        switch (const completion c{sqe.user_data, -ECANCELED, 0}; c.kind()) {
            case kind_of::nothing: lost_cancels = true; break;
            case kind_of::send:
                if (auto* const q = find_queued(c.data)) answer(*q, q->from->send_now(q->piece));
                break;
            // As if the kernel had cancelled it.
            default: completions_.push_back(c); break;
        }
    }
    // The kernel looks at its own head and our tail only when it is called.
    sq.sqe_head = sq.sqe_tail = *sq.khead;
    __atomic_store_n(sq.ktail, sq.sqe_tail, __ATOMIC_RELEASE);
    if (lost_cancels) {
        for (const auto* list : {&sockets_, &closing_}) {
            for (auto* s : *list) s->cancel_again();
        }
    }
    if (!running_ && next_ != completions_.size()) run_again();
}

// ---------------------------------------------------------------------------------------------------------------- rounds

ARKE_INLINE void io_uring_loop::watch() {
    watched_->async_wait(asio::posix::descriptor_base::wait_read, on_strand([self = ref(this)](const error_code& ec) {
                             if (ec || !self->open_) return;
                             // The ring is looked at in any case: how often it called does not matter.
                             std::uint64_t calls = 0;
                             if (self->deferred_ && ::read(self->watched_->native_handle(), &calls, sizeof calls) < 0)
                                 calls = 0;
                             self->run();
                             if (self->open_) self->watch();
                         }));
}

ARKE_INLINE void io_uring_loop::run_again() noexcept {
    if (std::exchange(run_posted_, true)) return;
    try {
        post_to_strand([self = ref(this)] {
            self->run_posted_ = false;
            if (self->open_ && (self->has_work() || self->has_news())) self->run();
        });
    } catch (...) {
        // No memory for it: the next wake-up serves them.
        run_posted_ = false;
    }
}

/// At once would be again and again, while others may give the memory back.
ARKE_INLINE void io_uring_loop::run_later() noexcept {
    if (std::exchange(waits_, true)) return;
    try {
        if (!retry_) retry_.emplace(context());
        retry_->expires_after(std::chrono::milliseconds{10});
        retry_->async_wait(on_strand([self = ref(this)](const error_code& ec) {
            self->waits_ = false;
            if (!ec && self->open_) self->run();
        }));
    } catch (...) {
        // As in run_again().
        waits_ = false;
    }
}

ARKE_INLINE void io_uring_loop::run() {
    running_ = true;
    if (deferred_) ::io_uring_cq_eventfd_toggle(&ring_, false);
    const auto began = core::ticks();
    for (int round = 0; round != rounds_per_wake_up && open_ && run_round(); ++round) {
        if (core::ticks() - began > long_round) break;
    }
    if (open_ && needs_exchange()) exchange();
    running_ = false;
    deleting_.swap(garbage_);
    for (auto* s : deleting_) delete s;
    deleting_.clear();
    if (!open_) return;
    if (deferred_) {
        ::io_uring_cq_eventfd_toggle(&ring_, true);
        // What came before that was told to nobody.
        std::atomic_thread_fence(std::memory_order_seq_cst);
    }
    if (next_ != completions_.size() || !ready_.empty() || has_news() || (needs_exchange() && !is_refused()))
        run_again();
    else if (is_refused())
        run_later();
}

/// Whether another round has something to do.
ARKE_INLINE bool io_uring_loop::run_round() {
    if (next_ == completions_.size()) {
        completions_.clear();
        next_ = 0;
        exchange();
    }
    if (next_ == completions_.size() && ready_.empty()) return false;
    {
        const turn guard{*this};
        ++round_;
        auto began = mark();
        const auto end = std::min(completions_.size(), next_ + completions_per_round);
        while (next_ < end && mark() - began < long_round && (next_ % 16 != 0 || core::ticks() - began < long_round)) {
            const auto c = completions_[next_++];
            handle(c);
        }
        began = core::ticks();
        serving_.swap(ready_);
        std::size_t i = 0;
        // After shut_down() there is none.
        while (i < serving_.size() && core::ticks() - began < long_round) {
            auto* const s = serving_[i++];
            s->in_ready_ = false;
            s->serve();
        }
        // The rest is served before those who were served already.
        if (i < serving_.size())
            ready_.insert(ready_.begin(), serving_.begin() + static_cast<std::ptrdiff_t>(i), serving_.end());
        serving_.clear();
    }
    return open_ && (has_work() || has_news());
}

ARKE_INLINE void io_uring_loop::handle(const completion& c) {
    switch (c.kind()) {
        case kind_of::receive: c.of<socket>().on_receive(c); break;
        case kind_of::bytes: c.of<socket>().on_bytes(c); break;
        case kind_of::room: c.of<socket>().on_room(c); break;
        case kind_of::accept: handle_accept(c); break;
        default: break;
    }
}

ARKE_INLINE void io_uring_loop::handle_accept(const completion& c) {
    auto& l = c.of<listening_socket>();
    // It may be told to stop by what it calls.
    auto taken = std::exchange(l.taken, nullptr);
    const bool failed = c.result < 0 && c.result != -ECANCELED;
    if (c.is_last()) {
        l.armed = false;
        if (failed) l.fd = -1;
        listens_anew_ = true;
        if (l.fd < 0) std::erase_if(listening_, [&](const auto& each) { return each.get() == &l; });
    }
    if (!taken) {
        if (c.result >= 0) ::close(c.result);
        return;
    }
    if (c.result >= 0 || failed) taken(c.result);
    for (const auto& each : listening_) {
        if (each.get() == &l && l.fd >= 0 && !l.taken) l.taken = std::move(taken);
    }
}

ARKE_INLINE void io_uring_loop::look_at(socket& s) {
    if (s.in_changed_) return;
    s.in_changed_ = true;
    changed_.push_back(&s);
    if (!running_) run_again();
}

ARKE_INLINE void io_uring_loop::add_starving(socket& s) {
    if (s.in_changed_) return;
    s.in_changed_ = true;
    starving_.push_back(&s);
}

ARKE_INLINE void io_uring_loop::add_ready(socket& s) {
    if (s.in_ready_) return;
    s.in_ready_ = true;
    ready_.push_back(&s);
    if (!running_) run_again();
}

}  // namespace arke::io

#endif

namespace arke::io {

ARKE_INLINE asio_loop_ptr make_io_uring_loop([[maybe_unused]] asio::io_context& context,
                                             [[maybe_unused]] std::size_t index,
                                             [[maybe_unused]] const listener_config& settings,
                                             [[maybe_unused]] bool one_thread) {
#if defined(__linux__) && defined(ARKE_HAS_IO_URING)
    boost::intrusive_ptr<io_uring_loop> made{new io_uring_loop{context, index, settings}};
    if (made->open(settings, one_thread)) {
        made->start();
        return made;
    }
#endif
    return {};
}

}  // namespace arke::io
