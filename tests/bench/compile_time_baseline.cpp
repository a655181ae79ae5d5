// What a program pays anyway that builds on Asio, Beast's HTTP and nlohmann/json: one of each, used once and in the plainest
// way. tests/bench/compile_time measures everything else as a multiple of this.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>

#include <iostream>
#include <sstream>
#include <string>

namespace asio = boost::asio;
namespace http = boost::beast::http;

int main(int argc, char** argv) {
    const std::string input = argc > 1 ? argv[1] : "GET /?{\"a\":1} HTTP/1.1\r\nHost: localhost\r\n\r\n";

    http::request_parser<http::string_body> parser;
    boost::system::error_code ec;
    parser.put(asio::buffer(input), ec);

    const auto query = std::string{parser.get().target()}.substr(2);
    auto json = nlohmann::json::parse(query, nullptr, false);
    json["error"] = ec.message();

    http::response<http::string_body> response{http::status::ok, parser.get().version()};
    response.set(http::field::content_type, "application/json");
    response.body() = json.dump();
    response.prepare_payload();
    std::ostringstream text;
    text << response;

    asio::io_context context;
    asio::ip::tcp::acceptor acceptor{context, {asio::ip::address_v4::loopback(), 0}};
    std::size_t written = 0;
    acceptor.async_accept([&](const boost::system::error_code& failed, asio::ip::tcp::socket socket) {
        if (!failed) written = asio::write(socket, asio::buffer(text.str()));
    });
    asio::ip::tcp::socket client{context};
    client.connect(acceptor.local_endpoint());
    context.run();
    std::cout << written << " bytes\n";
}
