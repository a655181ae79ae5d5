#pragma once

#include <arke/io/acceptor.hpp>

#include <boost/asio/local/stream_protocol.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#ifdef __linux__
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#endif
#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#endif

namespace arke::io {

ARKE_COLD_INLINE void close_socket(native_socket socket) noexcept {
#ifdef __linux__
    ::close(socket);
#else
    asio::io_context unused;
    asio::ip::tcp::socket owner{unused};
    error_code ignored;
    owner.assign(asio::ip::tcp::v4(), socket, ignored);
#endif
}

ARKE_COLD_INLINE std::optional<remote_end> remote_end_of(native_socket socket) {
    asio::generic::stream_protocol::endpoint remote;
#ifdef _WIN32
    auto size = static_cast<int>(remote.capacity());
#else
    auto size = static_cast<socklen_t>(remote.capacity());
#endif
    if (::getpeername(socket, remote.data(), &size) != 0) return std::nullopt;
    const auto family = remote.data()->sa_family;
#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
    if (family == AF_UNIX) {
        remote_end found{"unix"};
#ifdef __linux__
        ucred who{};
        socklen_t who_size = sizeof who;
        if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &who_size) == 0) {
            found.address +=
                " " + std::to_string(who.pid) + " " + std::to_string(who.uid) + " " + std::to_string(who.gid);
        }
#endif
        return found;
    }
#endif
    if (family != AF_INET && family != AF_INET6) return std::nullopt;
    asio::ip::tcp::endpoint ip;
    std::memcpy(ip.data(), remote.data(), std::min<std::size_t>(static_cast<std::size_t>(size), ip.capacity()));
    return remote_end{ip.address().to_string(), ip.port()};
}

ARKE_COLD_INLINE socket_file::socket_file([[maybe_unused]] std::string path) {
#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
    struct ::stat made {};
    if (::lstat(path.c_str(), &made) != 0) return;
    path_ = std::move(path);
    device_ = made.st_dev;
    number_ = made.st_ino;
#endif
}

ARKE_COLD_INLINE void socket_file::remove() noexcept {
#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
    struct ::stat there {};
    if (!path_.empty() && ::lstat(path_.c_str(), &there) == 0 && there.st_dev == device_ && there.st_ino == number_)
        ::unlink(path_.c_str());
    path_.clear();
#endif
}

ARKE_COLD_INLINE std::string socket_file::make_way([[maybe_unused]] const std::string& path) {
#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
    struct ::stat there {};
    if (::lstat(path.c_str(), &there) != 0) return {};
    if (!S_ISSOCK(there.st_mode))
        return "there is something at that path that is no socket; move it away, or choose another";
    asio::io_context unused;
    asio::local::stream_protocol::socket knock{unused};
    error_code ec;
    // One whose queue is full is alive too, and is not waited for.
    knock.open({}, ec);
    knock.non_blocking(true, ec);
    knock.connect(asio::local::stream_protocol::endpoint{path}, ec);
    if (ec != asio::error::connection_refused)
        return "another server listens on it; stop that one, or choose another path";
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        return "a server that has ended left its socket there, and it cannot be removed: " +
               error_code{errno, boost::system::system_category()}.message();
    }
#endif
    return {};
}

ARKE_COLD_INLINE acceptor::acceptor(asio_loop& on, on_accept accept, on_trouble trouble)
    : loop_{&on}, accept_{std::move(accept)}, trouble_{std::move(trouble)} {}

ARKE_COLD_INLINE std::shared_ptr<acceptor> acceptor::listen(asio_loop& on, const std::string& address,
                                                            std::uint16_t port, const listener_config& settings,
                                                            on_accept accept, on_trouble trouble) {
    const auto where = address + ":" + std::to_string(port);
    const auto fail = [&](const std::string& what) {
        throw std::runtime_error{"arke: cannot listen on " + where + ": " + what};
    };
    error_code ec;
    const auto ip = asio::ip::make_address(address, ec);
    if (ec) fail("\"" + address + "\" is no IP address; write one such as \"127.0.0.1\", \"0.0.0.0\" or \"::\"");
    const asio::ip::tcp::endpoint endpoint{ip, port};

    auto made = std::make_shared<acceptor>(on, std::move(accept), std::move(trouble));
    auto& a = made->acceptor_.emplace(on.context());
    made->pause_.emplace(on.context());
    a.open(asio::generic::stream_protocol{endpoint.protocol()}, ec);
    if (ec) fail(ec.message() + "; is this kind of address switched off on this machine?");
#ifndef _WIN32
    // Lets a server that was just stopped start again; on Windows it would let two servers share the port.
    a.set_option(asio::socket_base::reuse_address{true}, ec);
#endif
    if (settings.reuse_port) {
#ifdef SO_REUSEPORT
        using reuse_port = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;
        a.set_option(reuse_port{true}, ec);
        if (ec) fail("the system refuses reuse_port: " + ec.message());
#else
        fail("this system has no SO_REUSEPORT; leave listener.reuse_port off");
#endif
    }
    a.bind(endpoint, ec);
    if (ec == asio::error::address_in_use)
        fail("the port is in use; stop the other server, choose another port, or 0 for any free one");
    if (ec == asio::error::access_denied) fail("no permission; ports below 1024 need root or CAP_NET_BIND_SERVICE");
    if (ec == error_code{asio::error::address_family_not_supported} ||
        ec == boost::system::errc::address_not_available) {
        fail("no interface of this machine has that address");
    }
    if (ec) fail(ec.message());
    a.listen(settings.backlog, ec);
    if (ec == asio::error::address_in_use)
        fail("the port is in use; stop the other server, choose another port, or 0 for any free one");
    if (ec) fail(ec.message());
    a.non_blocking(true);
    asio::ip::tcp::endpoint local;
    const auto bound = a.local_endpoint();
    std::memcpy(local.data(), bound.data(), std::min(bound.size(), local.capacity()));
    made->port_ = local.port();
    start(made);
    return made;
}

ARKE_COLD_INLINE void acceptor::start(const std::shared_ptr<acceptor>& a) {
    if (a->loop_->kind() == loop_kind::io_uring) {
        a->loop_->post_to_strand([a] { a->begin(); });
    } else {
        a->wait();
    }
}

ARKE_COLD_INLINE std::shared_ptr<acceptor> acceptor::listen_unix([[maybe_unused]] asio_loop& on,
                                                                 const std::string& path,
                                                                 [[maybe_unused]] unsigned mode,
                                                                 [[maybe_unused]] const listener_config& settings,
                                                                 [[maybe_unused]] on_accept accept,
                                                                 [[maybe_unused]] on_trouble trouble) {
    const auto fail = [&](const std::string& what) {
        throw std::runtime_error{"arke: cannot listen on the UNIX-domain socket \"" + path + "\": " + what};
    };
#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
    if (path.empty() || path.find('\0') != std::string::npos)
        fail("that is no path of a file; write one such as \"/run/arke.sock\"");
    constexpr std::size_t most = sizeof(sockaddr_un::sun_path) - 1;
    if (path.size() > most) {
        fail("the path has " + std::to_string(path.size()) + " bytes, and the system takes " + std::to_string(most) +
             "; choose a shorter one");
    }
    if (mode > 0777) fail("the mode has more than the nine bits of permissions; write one such as 0660");
    if (const auto why = socket_file::make_way(path); !why.empty()) fail(why);
    const asio::local::stream_protocol::endpoint endpoint{path};
    auto made = std::make_shared<acceptor>(on, std::move(accept), std::move(trouble));
    auto& a = made->acceptor_.emplace(on.context());
    made->pause_.emplace(on.context());
    error_code ec;
    a.open(asio::generic::stream_protocol{endpoint.protocol()}, ec);
    if (ec) fail(ec.message());
    a.bind(endpoint, ec);
    if (ec == boost::system::errc::no_such_file_or_directory) fail("the folder does not exist; make it");
    if (ec == boost::system::errc::not_a_directory) fail("what should be the folder is a file");
    if (ec == asio::error::access_denied) fail("no permission to make a file in that folder");
    if (ec == asio::error::address_in_use) fail("another server has just taken the path");
    if (ec) fail(ec.message());
    made->file_ = socket_file{path};
    // Before it listens, so that nobody comes by a mode that was not meant.
    if (::chmod(path.c_str(), static_cast<mode_t>(mode)) != 0)
        fail("its mode cannot be set: " + error_code{errno, boost::system::system_category()}.message());
    a.listen(settings.backlog, ec);
    if (ec) fail(ec.message());
    a.non_blocking(true);
    start(made);
    return made;
#else
    fail("this system has none that Asio knows of");
    return nullptr;
#endif
}

ARKE_COLD_INLINE void acceptor::close() {
    if (acceptor_ && std::exchange(loop_accepts_, false)) loop_->stop_accepting(acceptor_->native_handle());
    pause_.reset();
    acceptor_.reset();
    file_.remove();
}

ARKE_COLD_INLINE void acceptor::begin() {
    if (!acceptor_) return;
    try {
        loop_accepts_ = loop_->accept_from(acceptor_->native_handle(),
                                           [self = shared_from_this()](int result) { self->on_taken(result); });
    } catch (...) {
        // No memory for it: to wait for the socket needs none.
    }
    if (!loop_accepts_) wait();
}

ARKE_COLD_INLINE void acceptor::on_taken([[maybe_unused]] int result) {
#ifdef __linux__
    if (result < 0) {
        // Out of descriptors, it says so also when nobody waits. Here that is told apart.
        loop_accepts_ = false;
        return accept_all();
    }
    hand_over(result);
#endif
}

ARKE_COLD_INLINE void acceptor::hand_over(native_socket socket) noexcept {
    owned_socket own{socket};
    try {
        // Whoever has no address has gone again.
        auto remote = remote_end_of(socket);
        if (!remote) return;
#ifdef __linux__
        // Refused by a UNIX-domain socket, which has no such delay.
        const int on = 1;
        ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
#endif
        accept_({std::move(own), std::move(remote->address), remote->port});
    } catch (...) {
        // No memory for it: it is closed, and the next may have more luck.
    }
}

ARKE_COLD_INLINE void acceptor::wait() {
    acceptor_->async_wait(asio::socket_base::wait_read,
                          loop_->on_strand([self = shared_from_this()](const error_code& ec) {
                              if (ec || !self->acceptor_) return;
                              self->accept_all();
                          }));
}

ARKE_COLD_INLINE void acceptor::pause(const error_code& why) {
    const auto second = asio_loop::clock_now() / 1000;
    if (std::exchange(last_trouble_, second) != second) {
        trouble_("cannot accept connections: " + why.message() + "; raise the limit on open files (ulimit -n)");
    }
    pause_->expires_after(std::chrono::milliseconds{250});
    pause_->async_wait(loop_->on_strand([self = shared_from_this()](const error_code& ec) {
        if (ec || !self->acceptor_) return;
        self->accept_all();
    }));
}

ARKE_COLD_INLINE void acceptor::accept_all() {
    // Bounded, so that a storm of connections does not starve those that are there.
    for (int i = 0; i != 256; ++i) {
        native_socket made{};
        error_code ec;
#ifdef __linux__
        // accept4 rather than Asio's accept, which would add the socket to the io_context's reactor and take it out again.
        made = ::accept4(acceptor_->native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (made < 0) ec = error_code{errno, boost::system::system_category()};
#else
        asio::generic::stream_protocol::socket socket{loop_->context()};
        acceptor_->accept(socket, ec);
        if (!ec) {
            error_code ignored;
            socket.set_option(asio::ip::tcp::no_delay{true}, ignored);
            made = socket.release(ec);
        }
#endif
        // Back to the loop only when there was somebody: it would at once be out of descriptors again.
        if (ec == asio::error::would_block || ec == asio::error::try_again) return i != 0 ? begin() : wait();
        if (ec == boost::system::errc::too_many_files_open ||
            ec == boost::system::errc::too_many_files_open_in_system || ec == boost::system::errc::no_buffer_space ||
            ec == boost::system::errc::not_enough_memory) {
            return pause(ec);
        }
        // Whatever else it is (ECONNABORTED, EPERM by a firewall) concerns that one client.
        if (ec) continue;
        hand_over(made);
        if (!acceptor_) return;
    }
    wait();
}

}  // namespace arke::io
