#pragma once

#include <arke/io/acceptor.hpp>

#include <stdexcept>

#ifdef __linux__
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
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
    a.open(endpoint.protocol(), ec);
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
    made->port_ = a.local_endpoint().port();
    if (on.kind() == loop_kind::io_uring) {
        on.post_to_strand([made] { made->begin(); });
    } else {
        made->wait();
    }
    return made;
}

ARKE_COLD_INLINE void acceptor::close() {
    if (acceptor_ && std::exchange(loop_accepts_, false)) loop_->stop_accepting(acceptor_->native_handle());
    pause_.reset();
    acceptor_.reset();
}

ARKE_COLD_INLINE void acceptor::begin() {
    if (!acceptor_) return;
    try {
        loop_accepts_ = loop_->kind() == loop_kind::io_uring &&
                        loop_->accept_from(acceptor_->native_handle(),
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
    asio::ip::tcp::endpoint remote;
    auto size = static_cast<socklen_t>(remote.capacity());
    // Whoever has no address has gone again.
    if (::getpeername(result, remote.data(), &size) != 0) return close_socket(result);
    remote.resize(size);
    hand_over(result, remote);
#endif
}

ARKE_COLD_INLINE void acceptor::hand_over(native_socket socket, const asio::ip::tcp::endpoint& remote) noexcept {
#ifdef __linux__
    const int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
#endif
    owned_socket own{socket};
    try {
        std::string address = remote.address().to_string();
        accept_({std::move(own), std::move(address), remote.port()});
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
        asio::ip::tcp::endpoint remote;
#ifdef __linux__
        // accept4 rather than Asio's accept, which would add the socket to the io_context's reactor and take it out again.
        socklen_t size = static_cast<socklen_t>(remote.capacity());
        made = ::accept4(acceptor_->native_handle(), remote.data(), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (made < 0) {
            ec = error_code{errno, boost::system::system_category()};
        } else {
            remote.resize(size);
        }
#else
        asio::ip::tcp::socket socket{loop_->context()};
        acceptor_->accept(socket, remote, ec);
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
        hand_over(made, remote);
        if (!acceptor_) return;
    }
    wait();
}

}  // namespace arke::io
