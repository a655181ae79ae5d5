// Native messages: text comes back as text, binary as binary.
//
//     echo PORT [max_message_size]

#include <arke/arke.hpp>

#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 8080;
    const auto max_message_size = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024 * 1024;

    arke::server server{{.endpoint = "/", .max_message_size = max_message_size, .keep_request = false}};
    server.on_message([](arke::connection& c, arke::message_view message) { c.emit_message(message); });
    server.listen("127.0.0.1", port);
    std::cout << "ws://localhost:" << server.port() << "/" << std::endl;
    server.run();
}
