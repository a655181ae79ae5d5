#pragma once

#include <arke/io/acceptor.hpp>
#include <arke/io/asio_loop.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace arke::io {

/// What came of an attempt: a socket, non-blocking and without Nagle's delay, or an error and a sentence about it.
struct connected {
    error_code error{};
    std::string why{};
    std::optional<owned_socket> socket{};
    std::string address{};
    std::uint16_t port = 0;
};

/// The order in which addresses are tried (RFC 8305 §4): the families take turns, beginning with that of the first. At most 16.
std::vector<asio::ip::tcp::endpoint> in_turns(const std::vector<asio::ip::tcp::endpoint>& addresses);

/// Where a connector runs: a loop, or a strand of some other io_context, which outlives the connector.
struct connector_place {
    asio::io_context& context;
    asio_loop::strand_type strand;
    asio_loop_ptr loop{};

    connector_place(asio::io_context& c, asio_loop::strand_type s) : context{c}, strand{std::move(s)} {}
    connector_place(asio_loop& on) : context{on.context()}, strand{on.strand()}, loop{&on} {}
};

/// One attempt to connect: looks up the name, then tries one address after another, the next one as soon as one fails or has
/// taken a quarter of a second (RFC 8305 §5). The first that answers is it; the others are dropped.
///
/// It has no deadline: whoever has one calls cancel(). On the strand.
class connector : public std::enable_shared_from_this<connector> {
public:
    using on_done = std::function<void(connected)>;

    static constexpr std::chrono::milliseconds head_start{250};

    /// Calls `done` once, on the strand and never from within; not after cancel(). It must not hold what holds the connector.
    static std::shared_ptr<connector> start(const connector_place& on, const std::string& host, std::uint16_t port,
                                            on_done done);
    static std::shared_ptr<connector> start(const connector_place& on,
                                            const std::vector<asio::ip::tcp::endpoint>& addresses, on_done done);

    /// The same to a UNIX-domain socket.
    static std::shared_ptr<connector> start_unix(const connector_place& on, const std::string& path, on_done done);

    void cancel();

    connector(const connector_place& on, on_done done);

private:
    using tcp = asio::ip::tcp;
    using socket = asio::basic_stream_socket<tcp, own_executor>;

    template <class F>
    strand_handler on_strand(F f) const {
        return {*strand_, nullptr, std::move(f)};
    }

    /// A step of it, unless it is over. Where there is no memory for the step, that is what came of the attempt.
    template <class F>
    void step(F&& f) {
        if (!done_) return;
        try {
            f();
        } catch (const std::bad_alloc&) {
            if (!done_) throw;  // it was not ours
            finish({errc::out_of_memory, "no memory"});
        }
    }

    void look_up(const std::string& host, std::uint16_t port);
    void try_all(const std::vector<tcp::endpoint>& addresses);
    void try_next();
    void try_unix();
    void on_connected(std::size_t index, const error_code& ec);
    void finish(connected what);

    asio::io_context& context_;
    std::optional<asio_loop::strand_type> strand_;  // until it is done: a strand must not outlive its io_context
    asio_loop_ptr loop_;                            // lives as long
    on_done done_;
    std::string what_;  // as whoever asked wrote it
    std::optional<asio::ip::basic_resolver<tcp, own_executor>> resolver_;
    std::optional<own_timer> timer_;
    std::vector<tcp::endpoint> addresses_;
    std::vector<socket> sockets_;  // by address, as far as they have been tried
    std::size_t failed_ = 0;
    error_code first_error_;
    std::string errors_;
};

}  // namespace arke::io

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/io/connector.ipp>
#endif
