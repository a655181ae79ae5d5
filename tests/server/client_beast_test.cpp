#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>

#include <string>

#include "tests/support/catch.hpp"
#include "tests/support/client_checks.hpp"
#include "tests/support/raw_server.hpp"

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace websocket = boost::beast::websocket;

namespace {

/// What client_checks.hpp asks of a server, by Beast.
void serve_by_beast(arke::test::raw_peer& peer) {
    boost::beast::flat_buffer buffer;
    http::request<http::empty_body> request;
    boost::system::error_code ec;
    http::read(peer.stream(), buffer, request, ec);
    if (ec) return;
    websocket::stream<asio::ip::tcp::socket&> stream{peer.stream()};
    const bool offered = request["Sec-WebSocket-Protocol"] == "chat";
    stream.set_option(websocket::stream_base::decorator([offered](websocket::response_type& r) {
        if (offered) r.set(http::field::sec_websocket_protocol, "chat");
    }));
    stream.read_message_max(4U << 20U);
    stream.accept(request, ec);
    const auto say = [&](const std::string& text) { stream.write(asio::buffer(text), ec); };
    while (!ec) {
        boost::beast::flat_buffer in;
        stream.read(in, ec);
        if (ec) return;
        const auto message = boost::beast::buffers_to_string(in.data());
        stream.text(stream.got_text());
        if (stream.got_text() && message == "fragments") {
            stream.write_some(false, asio::buffer("three ", 6), ec);
            stream.ping("between", ec);
            stream.write_some(false, asio::buffer("parts ", 6), ec);
            stream.write_some(true, asio::buffer("here", 4), ec);
        } else if (stream.got_text() && message == "close") {
            stream.close({websocket::close_code{4002}, "as you asked"}, ec);
        } else if (stream.got_text() && message == "drop") {
            stream.next_layer().close(ec);
            return;
        } else if (stream.got_text() && message == "protocol") {
            say(offered ? "chat" : "none");
        } else {
            say(message);
        }
    }
}

}  // namespace

TEST_CASE("the client does with a server of Beast what it is asked to do with all") {
    const arke::test::raw_server net{serve_by_beast};
    CHECK(arke::test::wrong_with_client_of(net.url()) == "");
}
