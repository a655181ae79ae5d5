#pragma once

#include <arke/io/connector.hpp>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include <algorithm>

#ifdef __linux__
#include <fcntl.h>
#endif
#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
#include <sys/un.h>
#endif

namespace arke::io {

ARKE_COLD_INLINE std::vector<asio::ip::tcp::endpoint> in_turns(const std::vector<asio::ip::tcp::endpoint>& addresses) {
    constexpr std::size_t most = 16;
    std::vector<asio::ip::tcp::endpoint> ordered;
    std::vector<bool> used(addresses.size());
    // The first is of no family yet, so that it is taken whatever it is.
    std::optional<bool> last;
    while (ordered.size() != std::min(most, addresses.size())) {
        std::size_t chosen = addresses.size();
        for (std::size_t i = 0; i != addresses.size(); ++i) {
            if (used[i]) continue;
            if (chosen == addresses.size()) chosen = i;
            if (!last || addresses[i].address().is_v6() != *last) {
                chosen = i;
                break;
            }
        }
        used[chosen] = true;
        last = addresses[chosen].address().is_v6();
        ordered.push_back(addresses[chosen]);
    }
    return ordered;
}

ARKE_COLD_INLINE connector::connector(const connector_place& on, on_done done)
    : context_{on.context}, strand_{on.strand}, loop_{on.loop}, done_{std::move(done)} {}

ARKE_COLD_INLINE std::shared_ptr<connector> connector::start(const connector_place& on, const std::string& host,
                                                             std::uint16_t port, on_done done) {
    auto made = std::make_shared<connector>(on, std::move(done));
    made->what_ = host + ":" + std::to_string(static_cast<unsigned>(port));
    error_code ec;
    const auto ip = asio::ip::make_address(host, ec);
    if (ec)
        made->look_up(host, port);
    else
        made->try_all({{ip, port}});
    return made;
}

ARKE_COLD_INLINE std::shared_ptr<connector> connector::start(const connector_place& on,
                                                             const std::vector<tcp::endpoint>& addresses,
                                                             on_done done) {
    auto made = std::make_shared<connector>(on, std::move(done));
    made->what_ = "the server";
    made->try_all(addresses);
    return made;
}

ARKE_COLD_INLINE std::shared_ptr<connector> connector::start_unix(const connector_place& on, const std::string& path,
                                                                  on_done done) {
    auto made = std::make_shared<connector>(on, std::move(done));
    // Not from within start().
    made->what_ = path;
    asio::post(made->on_strand([made] { made->step([&] { made->try_unix(); }); }));
    return made;
}

ARKE_COLD_INLINE void connector::try_unix() {
    error_code ec = asio::error::operation_not_supported;
    const char* mend = "this system has none that Asio knows of";
#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
    using local = asio::local::stream_protocol;
    mend = "is the server running, and may this user write to that file?";
    if (what_.size() >= sizeof(sockaddr_un::sun_path)) {
        ec = asio::error::name_too_long;
        mend = "choose a shorter path";
    } else {
        asio::basic_stream_socket<local, own_executor> s{context_};
        s.open(local{}, ec);
        // At once: a server whose queue is full does not keep this loop.
        if (!ec) s.native_non_blocking(true, ec);
        if (!ec) s.non_blocking(true, ec);
        if (!ec) s.connect(local::endpoint{what_}, ec);
        if (!ec) {
            connected made{{}, {}, {}, "unix", 0};
            const auto native = s.release(ec);
            if (!ec) {
#ifdef __linux__
                ::fcntl(native, F_SETFD, FD_CLOEXEC);
#endif
                made.socket.emplace(native);
                return finish(std::move(made));
            }
        }
    }
#endif
    finish({ec, "cannot connect to the UNIX-domain socket " + what_ + ": " + ec.message() + "; " + mend});
}

ARKE_COLD_INLINE void connector::cancel() {
    done_ = nullptr;
    resolver_.reset();
    timer_.reset();
    sockets_.clear();
    strand_.reset();
}

ARKE_COLD_INLINE void connector::look_up(const std::string& host, std::uint16_t port) {
    resolver_.emplace(context_);
    resolver_->async_resolve(
        host, std::to_string(static_cast<unsigned>(port)), asio::ip::resolver_base::numeric_service,
        asio::bind_executor(
            *strand_, [self = shared_from_this()](const error_code& ec, const tcp::resolver::results_type& found) {
                self->step([&] {
                    if (ec) {
                        return self->finish({ec, "the address of " + self->what_ + " is not known: " + ec.message() +
                                                     "; check the name, and that this machine can look it up"});
                    }
                    std::vector<tcp::endpoint> addresses;
                    for (const auto& each : found) addresses.push_back(each.endpoint());
                    self->try_all(addresses);
                });
            }));
}

ARKE_COLD_INLINE void connector::try_all(const std::vector<tcp::endpoint>& addresses) {
    addresses_ = in_turns(addresses);
    sockets_.reserve(addresses_.size());
    timer_.emplace(context_);
    // Not from within start().
    asio::post(on_strand([self = shared_from_this()] { self->step([&] { self->try_next(); }); }));
}

ARKE_COLD_INLINE void connector::try_next() {
    if (failed_ == addresses_.size()) {
        return finish(
            {first_error_ ? first_error_ : error_code{asio::error::host_not_found},
             "cannot connect to " + what_ + ": " + errors_ + "; is the server running, and is that its port?"});
    }
    if (sockets_.size() == addresses_.size()) return;
    const auto index = sockets_.size();
    auto& s = sockets_.emplace_back(context_);
    s.async_connect(addresses_[index], on_strand([self = shared_from_this(), index](const error_code& ec) {
                        self->step([&] { self->on_connected(index, ec); });
                    }));
    if (sockets_.size() == addresses_.size()) return;
    timer_->expires_after(head_start);
    timer_->async_wait(on_strand([self = shared_from_this()](const error_code& ec) {
        if (!ec) self->step([&] { self->try_next(); });
    }));
}

ARKE_COLD_INLINE void connector::on_connected(std::size_t index, const error_code& ec) {
    error_code failed = ec;
    auto& s = sockets_[index];
    if (!failed) {
        const auto& to = addresses_[index];
        error_code ignored;
        s.set_option(tcp::no_delay{true}, ignored);
        s.native_non_blocking(true, failed);
        connected made{{}, {}, {}, to.address().to_string(), to.port()};
        if (!failed) {
            const auto native = s.release(failed);
            if (!failed) {
#ifdef __linux__
                ::fcntl(native, F_SETFD, FD_CLOEXEC);
#endif
                made.socket.emplace(native);
                return finish(std::move(made));
            }
        }
    }
    if (!first_error_) first_error_ = failed;
    if (!errors_.empty()) errors_ += ", ";
    errors_ += failed.message() + " (" + addresses_[index].address().to_string() + ")";
    ++failed_;
    error_code ignored;
    s.close(ignored);
    // The head start of a later one goes on where that is still under way.
    if (failed_ == sockets_.size()) {
        timer_->cancel();
        try_next();
    }
}

ARKE_COLD_INLINE void connector::finish(connected what) {
    const auto done = std::exchange(done_, nullptr);
    cancel();
    done(std::move(what));
}

}  // namespace arke::io
