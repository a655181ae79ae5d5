#pragma once

#ifdef __linux__

#include <arke/io/epoll_loop.hpp>

#include <boost/system/system_error.hpp>

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

namespace arke::io {

/// One connected socket. Frees itself at the end of the turn in which it was closed: events of the same round may still
/// point to it.
class epoll_loop::socket final : public core::transport,
                                 public boost::intrusive_ref_counter<socket, boost::thread_unsafe_counter> {
public:
    socket(epoll_loop& on, int fd, core::stream_user_ptr user) : loop_{on}, fd_{fd}, user_{std::move(user)} {}

    void on_events(std::uint32_t events) {
        if (fd_ < 0) return;
        if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) hung_up_ = true;
        if ((events & EPOLLOUT) != 0 && wants_room_) go_on();
        if (fd_ >= 0 && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) read();
    }

    /// The same when the loop has time again, for an edge does not come twice.
    void postpone(std::uint32_t events) noexcept {
        if (fd_ < 0) return;
        if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) hung_up_ = true;
        if ((events & EPOLLOUT) != 0) has_room_ = true;
        loop_.add_ready(*this);
    }

    void serve() {
        if (has_room_) go_on();
        read();
    }

    void go_on() {
        has_room_ = false;
        if (!wants_room_) return;
        wants_room_ = false;
        user_->tell<&core::stream_user::on_writable>();
        loop_.note_served();
    }

    /// One read. What it did not take stays on the list of the ready.
    void read() {
        if (fd_ < 0) return;
        if (paused_) {
            missed_ = true;
            return;
        }
        auto own = user_->has_wants() ? user_->wanted() : std::span<char>{};
        std::size_t capacity = share_.bytes(loop_.buffer_size_);
        ssize_t count = 0;
        if (own.empty()) {
            do {
                count = ::recv(fd_, loop_.buffer_.get(), capacity, 0);
            } while (count < 0 && errno == EINTR);
        } else {
            const std::array<iovec, 2> parts{iovec{own.data(), own.size()}, iovec{loop_.buffer_.get(), capacity}};
            capacity += own.size();
            do {
                count = ::readv(fd_, parts.data(), 2);
            } while (count < 0 && errno == EINTR);
        }
        if (count <= 0) {
            if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
            const error_code why = count == 0 ? error_code{} : error_code{errno, boost::system::system_category()};
            user_->tell<&core::stream_user::on_end>(why);
            loop_.note_served();
            return;
        }
        auto taken = static_cast<std::size_t>(count);
        // A read that did not fill the buffer has drained the socket, except of the end that the edge announced.
        const bool is_full = taken == capacity;
        const bool more = is_full || hung_up_;
        {
            const fair_share::serving now{share_, loop_, is_full, loop_.buffer_size_};
            if (!own.empty()) {
                own = own.first(std::min(taken, own.size()));
                user_->tell<&core::stream_user::on_filled>(own.size());
                taken -= own.size();
            }
            if (taken != 0 && fd_ >= 0)
                user_->tell<&core::stream_user::on_bytes>(std::span<char>{loop_.buffer_.get(), taken});
        }
        if (more && fd_ >= 0) loop_.add_ready(*this);
    }

    core::send_result send(std::span<const core::segment> pieces) override {
        if (fd_ < 0) return {0, error_code{EBADF, boost::system::system_category()}};
        std::size_t total = 0;
        ssize_t sent = 0;
        if (pieces.size() == 1) {
            total = pieces[0].size();
            do {
                sent = ::send(fd_, pieces[0].data(), total, MSG_NOSIGNAL);
            } while (sent < 0 && errno == EINTR);
        } else {
            std::array<iovec, 64> parts;
            msghdr message{};
            message.msg_iov = parts.data();
            for (; message.msg_iovlen != std::min(pieces.size(), parts.size()); ++message.msg_iovlen) {
                const auto piece = pieces[message.msg_iovlen];
                parts[message.msg_iovlen] = {const_cast<char*>(piece.data()), piece.size()};
                total += piece.size();
            }
            do {
                sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
            } while (sent < 0 && errno == EINTR);
        }
        if (sent < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) {
                wants_room_ = true;
                return {};
            }
            // The next read tells why.
            const error_code why{errno, boost::system::system_category()};
            hung_up_ = true;
            loop_.add_ready(*this);
            return {0, why};
        }
        const auto done = static_cast<std::size_t>(sent);
        if (done < total) wants_room_ = true;
        return {done, {}};
    }

    void set_user(core::stream_user_ptr user) override { loop_.retire(std::exchange(user_, std::move(user))); }

    void pause_reads(bool pause) override {
        paused_ = pause;
        // The edge that came meanwhile does not come again.
        if (pause || !missed_) return;
        missed_ = false;
        loop_.add_ready(*this);
    }

    void shutdown() override {
        if (fd_ >= 0) ::shutdown(fd_, SHUT_WR);
    }

    void close(bool reset) override {
        if (fd_ < 0) return;
        if (reset) {
            const linger now{1, 0};
            ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        ::close(std::exchange(fd_, -1));
        auto* const last = loop_.sockets_.back();
        last->place_ = place_;
        loop_.sockets_[place_] = last;
        loop_.sockets_.pop_back();
        loop_.remove_load();
        if (in_ready_) {
            // The list points to it: it is skipped there, and released.
            intrusive_ptr_add_ref(this);
        }
        loop_.retire(std::exchange(user_, nullptr));
        loop_.retire(boost::intrusive_ptr<socket>{this, false});
    }

    const core::stream_user_ptr& user() const noexcept { return user_; }

    /// For shut_down(): no turn, no upcalls.
    void drop() {
        ::close(std::exchange(fd_, -1));
        loop_.remove_load();
        user_->cancel();
        user_.reset();
        intrusive_ptr_release(this);
    }

    bool is_open() const noexcept { return fd_ >= 0; }

    // Ordered so that a socket is 40 bytes.
    std::uint32_t place_ = 0;

private:
    epoll_loop& loop_;
    int fd_;
    bool wants_room_ : 1 = false;
    bool hung_up_ : 1 = false;
    bool paused_ : 1 = false;
    bool missed_ : 1 = false;
    bool has_room_ : 1 = false;
    fair_share share_;

public:
    bool in_ready_ : 1 = false;

private:
    core::stream_user_ptr user_;
};

ARKE_INLINE epoll_loop::epoll_loop(asio::io_context& context, std::size_t index, const listener_config& settings)
    : asio_loop{context, index, settings},
      buffer_{std::make_unique_for_overwrite<char[]>(settings.read_buffer_size)},
      buffer_size_{settings.read_buffer_size} {
    set_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (set_fd_ < 0) {
        throw boost::system::system_error{error_code{errno, boost::system::system_category()},
                                          "arke: epoll_create1 failed; raise the limit on open files (ulimit -n)"};
    }
    set_.emplace(context, set_fd_);
}

ARKE_INLINE epoll_loop::~epoll_loop() { epoll_loop::shut_down(); }

ARKE_INLINE void epoll_loop::add_users(std::vector<core::stream_user_ptr>& to) const {
    for (const auto* s : sockets_) to.push_back(s->user());
}

ARKE_INLINE void epoll_loop::shut_down() {
    waiting().clear();
    for (auto* s : std::exchange(ready_, {})) {
        if (!s->is_open()) intrusive_ptr_release(s);
    }
    for (auto* s : std::exchange(sockets_, {})) s->drop();
    set_.reset();
    set_fd_ = -1;
    asio_loop::shut_down();
}

ARKE_INLINE void epoll_loop::start() { watch(); }

ARKE_INLINE core::transport* epoll_loop::attach(native_socket fd, core::stream_user_ptr user) {
    std::unique_ptr<socket> made;
    try {
        made = std::make_unique<socket>(*this, fd, std::move(user));
        core::make_room(sockets_, 1);
        core::make_room(ready_, sockets_.size() + 1);
        core::make_room(serving_, sockets_.size() + 1);
        add_load();
    } catch (...) {
        ::close(fd);
        return nullptr;
    }
    epoll_event wanted{};
    wanted.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    wanted.data.ptr = made.get();
    if (set_fd_ < 0 || ::epoll_ctl(set_fd_, EPOLL_CTL_ADD, fd, &wanted) != 0) {
        ::close(fd);
        remove_load();
        return nullptr;
    }
    auto* const s = made.release();
    intrusive_ptr_add_ref(s);
    s->place_ = static_cast<std::uint32_t>(sockets_.size());
    sockets_.push_back(s);
    return s;
}

ARKE_INLINE void epoll_loop::watch() {
    set_->async_wait(asio::posix::descriptor_base::wait_read, on_strand([self = ref(this)](const error_code& ec) {
                         if (!ec && self->set_) self->on_wake_up();
                     }));
}

ARKE_INLINE void epoll_loop::run_again() noexcept {
    if (std::exchange(run_posted_, true)) return;
    try {
        post_to_strand([self = ref(this)] {
            self->run_posted_ = false;
            if (!self->set_) return;
            self->run_rounds();
            if (self->set_ && !self->ready_.empty()) self->run_again();
        });
    } catch (...) {
        // No memory for it: the next wake-up serves them.
        run_posted_ = false;
    }
}

ARKE_INLINE void epoll_loop::on_wake_up() {
    run_rounds();
    if (!set_) return;
    if (!ready_.empty()) run_again();
    watch();
}

ARKE_INLINE void epoll_loop::run_rounds() {
    running_ = true;
    const auto began = core::ticks();
    for (int round = 0; round != rounds_per_wake_up && set_ && run_round() != 0; ++round) {
        if (core::ticks() - began > long_round) break;
    }
    running_ = false;
}

ARKE_INLINE int epoll_loop::run_round() {
    const turn guard{*this};
    const auto began = mark();
    const int count = ::epoll_wait(set_fd_, events_.data(), events_per_round, 0);
    const auto told = std::span{events_}.first(static_cast<std::size_t>(std::max(count, 0)));
    auto next = told.begin();
    for (; next != told.end() && mark() - began < long_round; ++next)
        static_cast<socket*>(next->data.ptr)->on_events(next->events);
    for (; next != told.end(); ++next) static_cast<socket*>(next->data.ptr)->postpone(next->events);
    const auto ready = ready_.size();
    if (ready != 0) serve_ready();
    return count + static_cast<int>(ready);
}

/// One read for each that had more than its share: the others come first in the next round.
ARKE_INLINE void epoll_loop::serve_ready() {
    const auto began = core::ticks();
    serving_.swap(ready_);
    std::size_t i = 0;
    // After shut_down() what is left is only let go.
    while (i != serving_.size() && (!set_ || core::ticks() - began < long_round)) {
        auto* const s = serving_[i++];
        s->in_ready_ = false;
        if (s->is_open()) {
            s->serve();
        } else {
            intrusive_ptr_release(s);
        }
    }
    // The rest is served before those who were served already.
    const auto rest = std::remove_if(serving_.begin() + static_cast<std::ptrdiff_t>(i), serving_.end(), [](socket* s) {
        if (s->is_open()) return false;
        intrusive_ptr_release(s);
        return true;
    });
    ready_.insert(ready_.begin(), serving_.begin() + static_cast<std::ptrdiff_t>(i), rest);
    serving_.clear();
}

ARKE_INLINE void epoll_loop::add_ready(socket& s) noexcept {
    if (s.in_ready_) return;
    s.in_ready_ = true;
    ready_.push_back(&s);
    if (!running_) run_again();
}

}  // namespace arke::io

#endif
