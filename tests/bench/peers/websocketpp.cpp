// The benchmark's server on websocketpp, one thread. C++14: Debian's 0.8.2 does not compile as C++20.
//
//     websocketpp PORT
//
// A message "S" subscribes to the room, one that begins with B goes to the room, everything else is echoed, text as text
// and binary as binary. The config is the one for a single thread: no locks, no logging, no extensions.

#include <websocketpp/concurrency/none.hpp>
#include <websocketpp/config/asio_no_tls.hpp>
#include <websocketpp/logger/stub.hpp>
#include <websocketpp/server.hpp>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <set>
#include <string>

namespace {

struct config : websocketpp::config::asio {
    typedef config type;
    typedef websocketpp::config::asio base;

    typedef websocketpp::concurrency::none concurrency_type;
    typedef base::request_type request_type;
    typedef base::response_type response_type;
    typedef base::message_type message_type;
    typedef base::con_msg_manager_type con_msg_manager_type;
    typedef base::endpoint_msg_manager_type endpoint_msg_manager_type;
    typedef websocketpp::log::stub alog_type;
    typedef websocketpp::log::stub elog_type;
    typedef base::rng_type rng_type;

    struct transport_config : base::transport_config {
        typedef config::concurrency_type concurrency_type;
        typedef config::alog_type alog_type;
        typedef config::elog_type elog_type;
        typedef base::request_type request_type;
        typedef base::response_type response_type;
        typedef websocketpp::transport::asio::basic_socket::endpoint socket_type;
        static bool const enable_multithreading = false;
    };
    typedef websocketpp::transport::asio::endpoint<transport_config> transport_type;

    static const std::size_t max_message_size = 16 * 1024 * 1024;
    static const bool enable_extensions = false;
    // What one read takes: the default of 16 KiB, which is part of each connection, would read a 64 KiB message in pieces.
    static const std::size_t connection_read_buffer_size = 64 * 1024;
};

using server = websocketpp::server<config>;
using handle = websocketpp::connection_hdl;

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2) {
        std::cerr << "websocketpp PORT\n";
        return 2;
    }
    server s;
    std::set<handle, std::owner_less<handle>> room;

    s.init_asio();
    s.set_reuse_addr(true);
    s.set_listen_backlog(4096);
    s.set_tcp_pre_init_handler([&s](handle h) {
        websocketpp::lib::asio::error_code ignored;
        s.get_con_from_hdl(h)->get_raw_socket().set_option(websocketpp::lib::asio::ip::tcp::no_delay{true}, ignored);
    });
    s.set_close_handler([&room](handle h) { room.erase(h); });
    s.set_message_handler([&](handle h, server::message_ptr message) {
        const std::string& text = message->get_payload();
        websocketpp::lib::error_code ignored;
        if (text == "S") {
            room.insert(h);
        } else if (!text.empty() && text[0] == 'B') {
            for (const handle& member : room) s.send(member, text, message->get_opcode(), ignored);
        } else {
            s.send(h, text, message->get_opcode(), ignored);
        }
    });

    websocketpp::lib::asio::signal_set signals{s.get_io_service(), SIGINT, SIGTERM};
    signals.async_wait([&s](const websocketpp::lib::asio::error_code&, int) { s.stop(); });

    s.listen(websocketpp::lib::asio::ip::tcp::endpoint{websocketpp::lib::asio::ip::address_v4::loopback(),
                                                       static_cast<std::uint16_t>(std::atoi(argv[1]))});
    s.start_accept();
    std::cout << "listening on " << argv[1] << std::endl;
    s.run();
} catch (const std::exception& e) {
    std::cerr << "websocketpp: " << e.what() << '\n';
    return 1;
}
