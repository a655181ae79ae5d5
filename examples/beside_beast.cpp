// Beside an HTTP server of your own, made with Beast: it reads the requests and serves its pages; upgrades are handed over.
//
//     beside_beast [PORT]

#include <arke/arke.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket/rfc6455.hpp>

#include <cstdlib>
#include <iostream>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

asio::awaitable<void> serve(tcp::socket socket, arke::server& events) {
    beast::tcp_stream stream{std::move(socket)};
    beast::flat_buffer buffer;
    for (bool stays = true; stays;) {
        http::request<http::string_body> request;
        stream.expires_after(std::chrono::seconds{30});
        co_await http::async_read(stream, buffer, request, asio::use_awaitable);

        // From here on it is a connection of Arke's: who has come, who may, and what is said.
        if (beast::websocket::is_upgrade(request)) co_return events.adopt(std::move(stream), request, buffer);

        const bool is_home = request.target() == "/";
        http::response<http::string_body> page{is_home ? http::status::ok : http::status::not_found, request.version()};
        page.set(http::field::content_type, "text/html");
        page.body() = is_home ? "<h1>A page of Beast's</h1>" : "Nothing here.";
        page.keep_alive(stays = request.keep_alive());
        page.prepare_payload();
        co_await http::async_write(stream, page, asio::use_awaitable);
    }
}

asio::awaitable<void> listen(tcp::acceptor& acceptor, arke::server& events) {
    for (;;) {
        auto socket = co_await acceptor.async_accept(asio::use_awaitable);
        // Who goes in the midst of a request ends its own coroutine.
        co_spawn(acceptor.get_executor(), serve(std::move(socket), events), asio::detached);
    }
}

int main(int argc, char** argv) {
    asio::io_context context;
    // In the same io_context. It listens nowhere itself; one with loops of its own would do as well.
    arke::server events{context, {.endpoint = "/events"}};
    events.on("hello", [](arke::connection& c, std::string name) {
        c.join("guests");
        c.to("guests").emit("welcome", name + " from " + std::string{c.request().remote_address()});
    });

    const auto port = static_cast<unsigned short>(argc > 1 ? std::atoi(argv[1]) : 8080);
    tcp::acceptor acceptor{context, {asio::ip::make_address("127.0.0.1"), port}};
    co_spawn(context, listen(acceptor, events), asio::detached);
    std::cout << "http://localhost:" << acceptor.local_endpoint().port() << "/" << std::endl;

    asio::signal_set signals{context, SIGINT, SIGTERM};
    signals.async_wait([&](const boost::system::error_code&, int) {
        acceptor.close();
        events.stop();
    });
    context.run();
}
