#include <arke/client.hpp>
#include <arke/server.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/read.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#ifdef __linux__
#include <netinet/in.h>
#include <netinet/tcp.h>
#endif

#include "tests/support/catch.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/foreign_server.hpp"
#include "tests/support/running_server.hpp"

// TLS of others: connections of a Beast server with asio::ssl::stream, taken over. And Arke's own behind the PROXY protocol and on
// a UNIX-domain socket.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace beast = boost::beast;

namespace {

struct authority {
    test_certificate own{{.subject = "test CA", .names = "", .is_authority = true}};
    test_certificate server{{}, own};
};

const authority& ca() {
    static const authority made;
    return made;
}

/// The user's HTTPS server; each upgrade goes to another's.
class https_server : public foreign_server {
public:
    explicit https_server(server& to) : foreign_server{serves(to), false} {}

private:
    using stream = asio::ssl::stream<tcp::socket>;
    using context_ptr = std::shared_ptr<asio::ssl::context>;
    struct visit {
        visit(tcp::socket s, context_ptr c) : of{std::move(c)}, over{std::move(s), *of} {}
        context_ptr of;
        stream over;
        beast::flat_buffer buffer;
        beast::http::request<beast::http::empty_body> request;
    };

    static std::function<void(tcp::socket)> serves(server& to) {
        return [&to, tls = server_context()](tcp::socket s) {
            const auto v = std::make_shared<visit>(std::move(s), tls);
            v->over.async_handshake(stream::server, [&to, v](beast::error_code failed) {
                if (failed) return;
                beast::http::async_read(v->over, v->buffer, v->request, [&to, v](beast::error_code bad, std::size_t) {
                    if (!bad) to.adopt(std::move(v->over), v->request, v->buffer);
                });
            });
        };
    }

    static context_ptr server_context() {
        const auto made = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
        made->use_certificate_chain(asio::buffer(ca().server.chain()));
        made->use_private_key(asio::buffer(ca().server.key()), asio::ssl::context::pem);
        return made;
    }
};

client_config trusting() {
    client_config c;
    c.tls.ca = ca().own.chain();
    c.log = [](std::string_view) {};
    c.max_message_size = c.max_outbox_bytes = c.max_queue_bytes = 16U << 20U;
    return c;
}

void replies(server& s) {
    s.on("who", [](connection& c) { return std::string{c.request().remote_address()}; });
    s.on_message([](connection& c, message_view m) { c.emit_message(m); });
}

}  // namespace

TEST_CASE("connections over an asio::ssl::stream of another server are taken over, and closed with TLS's own goodbye") {
    server events{
        quiet(GENERATE(from_range(all_loops())), {.max_message_size = 4U << 20U, .max_outbox_bytes = 16U << 20U})};
    replies(events);
    https_server pages{events};
    const running_loops runs{events};
    arke::client c{"wss://localhost:" + std::to_string(pages.port()) + "/", trusting()};
    journal heard;
    const std::string big(3U << 20U, 'b');
    c.on_message([&](message_view m) { heard.add(m.data == big ? "big" : std::string{m.data}); });
    c.on_disconnect(
        [&](close_code code, std::string_view, bool) { heard.add(std::to_string(static_cast<unsigned>(code))); });
    c.start();
    CHECK(c.ask<std::string>("who", 10s, asio::use_future).get() == "127.0.0.1");
    c.emit_message("small");
    c.emit_message(big);
    c.emit_message("end");
    CHECK(heard.wait(3) == "small big end");
    c.disconnect();
    CHECK(heard.wait(4) == "small big end 1000");
    CHECK(eventually([&] { return events.metrics().sockets == 0; }));
    CHECK(events.metrics().close_timeouts == 0);
}

TEST_CASE("behind the PROXY protocol TLS begins after the header, and the client is known") {
    auto settings = quiet(GENERATE(from_range(all_loops())));
    settings.listener.tls.certificates = {{.chain = ca().server.chain(), .key = ca().server.key()}};
    settings.listener.trusted_proxies = {"127.0.0.1"};
    settings.listener.proxy_protocol = true;
    server events{std::move(settings)};
    replies(events);
    events.on_connection([](connection& c) { c.emit_message(std::string{c.request().remote_address()} + "!"); });
    events.listen("127.0.0.1", 0);
    const running_loops runs{events};
    // The header and TLS's first flight in one segment, or in two.
    [[maybe_unused]] const bool at_once = GENERATE(true, false);
    asio::io_context context;
    asio::ssl::context trusts{asio::ssl::context::tls_client};
    trusts.add_certificate_authority(asio::buffer(ca().own.chain()));
    asio::ssl::stream<tcp::socket> stream{context, trusts};
    stream.next_layer().connect({asio::ip::make_address("127.0.0.1"), events.port()});
#ifdef __linux__
    if (at_once) {
        const int on = 1;
        ::setsockopt(stream.next_layer().native_handle(), IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    }
#endif
    asio::write(stream.next_layer(), asio::buffer(std::string{"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n"}));
    stream.handshake(asio::ssl::stream_base::client);
    asio::write(stream, asio::buffer(upgrade_request()));
    std::string in;
    asio::read_until(stream, asio::dynamic_buffer(in), "192.0.2.7!");
    CHECK(in.starts_with("HTTP/1.1 101"));
}

TEST_CASE("wss+unix: TLS over a UNIX-domain socket") {
    const auto path = "/tmp/arke-tls-" + core::endpoint::random_id();
    auto settings = quiet(GENERATE(from_range(all_loops())));
    settings.listener.tls.certificates = {{.chain = ca().server.chain(), .key = ca().server.key()}};
    server events{std::move(settings)};
    replies(events);
    events.listen_unix(path);
    const running_loops runs{events};
    arke::client c{"wss+unix://" + path + ":/", trusting()};
    c.start();
    CHECK(c.ask<std::string>("who", 10s, asio::use_future).get() == "unix");
}
