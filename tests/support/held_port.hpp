#pragma once

/// A port of 127.0.0.1 at which nobody listens, and which nobody else is given: who connects is refused. One of ours may listen there all
/// the same, with SO_REUSEADDR, as often as it likes.

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <cstdint>

namespace arke::test {

class held_port {
public:
    held_port() : socket_{context_, boost::asio::ip::tcp::v4()} {
        socket_.set_option(boost::asio::socket_base::reuse_address{true});
        socket_.bind({boost::asio::ip::make_address("127.0.0.1"), 0});
    }

    std::uint16_t port() const { return socket_.local_endpoint().port(); }

private:
    boost::asio::io_context context_;
    boost::asio::ip::tcp::socket socket_;
};

}  // namespace arke::test
