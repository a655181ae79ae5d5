// The chat over https:// and wss://: certificates from files, read again on SIGHUP.
//
//   tls_chat [PORT] [CHAIN KEY]      PORT 8443 unless given, 0 for any; the files are certificate.pem and key.pem unless given
//
// examples/run makes them, signed by themselves: a browser asks once whether to go on. Who renews real ones (certbot
// --deploy-hook "pkill -HUP tls_chat") has them read again, and nobody in the chat notices.
#include <arke/tls.hpp>

#include "../chat/house.hpp"

#include <boost/asio/signal_set.hpp>

#include <csignal>
#include <cstdint>
#include <exception>
#include <functional>
#include <iostream>
#include <string>

int main(int argc, char** argv) try {
#ifdef ARKE_EXAMPLES_DIR
    const std::string pages = ARKE_EXAMPLES_DIR "/chat/public";
#else
    const std::string pages = "public";
#endif
    const std::string chain = argc > 2 ? argv[2] : "certificate.pem";
    const std::string key = argc > 3 ? argv[3] : "key.pem";

    chat::house house;
    chat::server server{arke::config{
        .endpoint = "/my_endpoint",
        .max_message_size = 8 * 1024,
        .listener = {.max_connections = 1000, .tls = {.certificates = {{.chain_file = chain, .key_file = key}}}},
    }};
    server.files("/", pages);
    house.open(server);
    server.listen("0.0.0.0", argc > 1 ? chat::port_from(argv[1]) : std::uint16_t{8443});
    std::cout << "https://localhost:" << server.port() << "/" << std::endl;

#ifdef SIGHUP
    boost::asio::signal_set renewed{server.get_executor(), SIGHUP};
    std::function<void()> wait = [&] {
        renewed.async_wait([&](const boost::system::error_code& stopped, int) {
            if (stopped) return;
            try {
                server.reload();
                std::cout << "certificates read again" << std::endl;
            } catch (const std::exception& e) {
                std::cerr << "the old certificates stay: " << e.what() << std::endl;
            }
            wait();
        });
    };
    wait();
#endif
    server.run();
} catch (const std::exception& e) {
    std::cerr << "tls_chat: " << e.what() << "\n";
    return 1;
}
