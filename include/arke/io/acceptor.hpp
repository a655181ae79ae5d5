#pragma once

#include <arke/base/config.hpp>
#include <arke/io/asio_loop.hpp>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace arke::io {

void close_socket(native_socket socket) noexcept;

/// A socket that is closed when nobody takes it.
class owned_socket {
public:
    explicit owned_socket(native_socket s) noexcept : socket_{s} {}
    owned_socket(owned_socket&& other) noexcept
        : socket_{other.socket_}, is_taken_{std::exchange(other.is_taken_, true)} {}
    owned_socket& operator=(owned_socket&&) = delete;
    ~owned_socket() {
        if (!is_taken_) close_socket(socket_);
    }

    native_socket take() noexcept {
        is_taken_ = true;
        return socket_;
    }

private:
    native_socket socket_;
    bool is_taken_ = false;
};

/// Who connected, and by which socket: non-blocking, without Nagle's delay.
struct accepted {
    owned_socket socket;
    std::string address;  ///< As request keeps it: an IP address, or "unix" and the process.
    std::uint16_t port;
};

/// The other end of a connected socket, of either kind. Nothing: it has gone again, or is of neither.
struct remote_end {
    std::string address;
    std::uint16_t port = 0;
};
std::optional<remote_end> remote_end_of(native_socket socket);

/// Where UNIX-domain sockets may stand, and what becomes of what is there: nothing listens on it any more, so it goes.
///
/// A file is taken down only by who put it there: another server may have replaced it.
class socket_file {
public:
    /// Makes way for a file at that path. A sentence when that cannot be, which fits behind "cannot listen on ...: ".
    static std::string make_way(const std::string& path);

    socket_file() = default;
    /// For a socket that was just bound to it.
    explicit socket_file(std::string path);
    socket_file(socket_file&& other) noexcept { swap(other); }
    socket_file& operator=(socket_file&& other) noexcept {
        swap(other);
        return *this;
    }
    ~socket_file() { remove(); }

    void remove() noexcept;

private:
    void swap(socket_file& other) noexcept {
        path_.swap(other.path_);
        std::swap(device_, other.device_);
        std::swap(number_, other.number_);
    }

    std::string path_;  // empty: none
    std::uint64_t device_ = 0;
    std::uint64_t number_ = 0;
};

/// One listening socket. Hands out what connects, on the executor of the loop it was made for.
///
/// A loop that can accepts by itself, until there is trouble; else this waits for the socket and accepts what is there.
///
/// When the process or the system is out of descriptors it pauses and tries again four times a second: an accept loop that
/// just retries takes a core.
class acceptor : public std::enable_shared_from_this<acceptor> {
public:
    using on_accept = std::function<void(accepted)>;
    using on_trouble = std::function<void(const std::string& sentence)>;

    /// Listens. Throws std::runtime_error with a sentence that says what to do: for an address that is none, a port in use, a
    /// missing permission.
    static std::shared_ptr<acceptor> listen(asio_loop& on, const std::string& address, std::uint16_t port,
                                            const listener_config& settings, on_accept accept, on_trouble trouble);

    /// The same on a UNIX-domain socket, whose file gets this mode.
    static std::shared_ptr<acceptor> listen_unix(asio_loop& on, const std::string& path, unsigned mode,
                                                 const listener_config& settings, on_accept accept, on_trouble trouble);

    /// 0 of a UNIX-domain socket.
    std::uint16_t port() const noexcept { return port_; }

    /// Accepts no more. On its loop, or while nothing runs the io_context.
    void close();

    acceptor(asio_loop& on, on_accept accept, on_trouble trouble);

private:
    void begin();
    void wait();
    void on_taken(int result);
    void hand_over(native_socket socket) noexcept;
    static void start(const std::shared_ptr<acceptor>& a);
    void pause(const error_code& why);
    void accept_all();

    asio_loop_ptr loop_;
    std::optional<asio::basic_socket_acceptor<asio::generic::stream_protocol, own_executor>> acceptor_;
    socket_file file_;
    std::optional<own_timer> pause_;
    on_accept accept_;
    on_trouble trouble_;
    std::uint16_t port_ = 0;
    std::int64_t last_trouble_ = -1;
    bool loop_accepts_ = false;
};

}  // namespace arke::io

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/io/acceptor.ipp>
#endif
