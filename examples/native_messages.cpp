// Messages that are no events, for clients that speak plain WebSocket: a picture board. Text names the picture, binary
// messages are its bytes, and everybody else gets both.
//
//     native_messages PORT

#include <arke/arke.hpp>

#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 8080;

    arke::server server{{.endpoint = "/", .max_message_size = 4 * 1024 * 1024, .binary_messages = true}};
    server.on_message([](arke::connection& c, arke::message_view message) {
        c.to(arke::not_me).emit_message(message);
        const auto what = message.is_text ? "text" : "binary";
        c.emit_message("took " + std::to_string(message.data.size()) + " bytes of " + what);
    });
    server.listen("127.0.0.1", port);
    std::cout << "ws://localhost:" << server.port() << "/" << std::endl;
    server.run();
}
