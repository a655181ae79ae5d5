#pragma once

#include <arke/base/compile.hpp>
#include <arke/base/error.hpp>
#include <arke/core/timing_wheel.hpp>
#include <arke/wire/tls_session.hpp>

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

namespace arke::core {

/// Bytes to send. They belong to the caller and are valid during the call.
using segment = std::string_view;

/// What a send did at once.
struct send_result {
    std::size_t sent = 0;  ///< Less than was given: the rest stays with the caller until on_writable().
    error_code error{};    ///< The stream is broken; on_end() follows on the next turn at the latest.
};

/// Who uses a transport: first an HTTP session, after the upgrade a peer. The transport owns a reference until close().
/// All calls come on the loop, within a turn, and by tell(): what one connection throws, mostly because there is no memory
/// for it, ends that connection and nobody else's.
class stream_user : public boost::intrusive_ref_counter<stream_user, boost::thread_safe_counter>, public timer_entry {
public:
    stream_user() = default;
    stream_user(const stream_user&) = delete;
    stream_user& operator=(const stream_user&) = delete;
    virtual ~stream_user() = default;

    /// Calls one of those below; failed() when it throws.
    template <auto What, class... Args>
    ARKE_ALWAYS_INLINE void tell(Args&&... args) noexcept {
        guarded([&] { (this->*What)(std::forward<Args>(args)...); });
    }

    /// Does something for this connection; failed() when it throws.
    template <class F>
    ARKE_ALWAYS_INLINE void guarded(F&& f) noexcept {
        try {
            f();
        } catch (...) {
            failed();
        }
    }

    /// Ends it at once, with what memory there is. Does nothing after the end.
    virtual void failed() noexcept = 0;

    /// Bytes have come. They may be changed, and are valid during the call only: they stand in the buffer of the loop.
    virtual void on_bytes(std::span<char> bytes) = 0;

    /// Whether wanted() is worth asking before the next read.
    bool has_wants() const noexcept { return has_wants_; }

    /// Memory that the next bytes should rather be read to. May be empty.
    virtual std::span<char> wanted() noexcept { return {}; }

    /// The first `count` bytes of wanted() were read.
    virtual void on_filled(std::size_t count) { static_cast<void>(count); }

    /// What became of transport::queue(), before the loop empties its turn buffer.
    virtual void on_sent(const send_result& result) { static_cast<void>(result); }

    /// There is room again after a short send.
    virtual void on_writable() = 0;

    /// What loop::go_on_later() was asked for.
    virtual void go_on() {}

    /// Whether it does nothing any more but wait for its end.
    virtual bool is_ending() const noexcept { return false; }

    /// Too much waits for all, and for this one the most: ends it at once.
    virtual void cut_too_slow() { failed(); }

    /// The peer ended its direction (no error), or the stream broke. Comes once; the user answers with close().
    virtual void on_end(error_code why) = 0;

    /// The time that was asked for has come.
    virtual void on_timer(millis now) = 0;

    /// The server stops: say goodbye.
    virtual void on_stop() = 0;

    /// The turn ends: what was gathered is to be sent. Called where loop::add_dirty() was; runs no user code.
    virtual void flush_turn() {}

    /// The turn ends: the last handlers are to run. Called where loop::add_finished() was.
    virtual void finish() {}

protected:
    bool has_wants_ = false;
};

using stream_user_ptr = boost::intrusive_ptr<stream_user>;

/// A connected byte stream: a socket, a socket behind TLS, a script in a test. On its loop only.
class transport {
public:
    virtual ~transport() = default;

    /// Sends as much as is taken without waiting. Must not be called between a short send, or one with an
    /// error, and on_writable().
    virtual send_result send(std::span<const segment> pieces) = 0;

    /// The same for one piece of the turn buffer, together with those of the loop's other transports: on_sent() comes within
    /// loop::submit(). Only while the loop flushes, and where it says that it sends in batches.
    virtual void queue(segment piece) { static_cast<void>(piece); }

    /// Hands the stream over to another user: the HTTP session to the connection that it has become.
    virtual void set_user(stream_user_ptr user) = 0;

    /// Stops and resumes on_bytes(). What the peer sends meanwhile waits in the kernel.
    virtual void pause_reads(bool pause) = 0;

    /// Ends our direction; the peer's goes on until on_end().
    virtual void shutdown() = 0;

    /// Ends both directions and lets go of the user. No upcall follows. `reset` tells the peer that data was lost.
    virtual void close(bool reset) = 0;

    /// What TLS has agreed on, once its handshake is done; null of a plain stream.
    virtual tls_session_ptr tls() const { return {}; }
};

}  // namespace arke::core
