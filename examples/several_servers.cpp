// Several endpoints on one port, each with connections, handlers and rooms of its own, and a second server on another port.
//
//     several_servers PORT [ADMIN_PORT]

#include <arke/arke.hpp>

#include <cstdlib>
#include <iostream>
#include <thread>

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 8080;
    const int admin_port = argc > 2 ? std::atoi(argv[2]) : 0;

    arke::server server{{.endpoint = "/news"}};
    server.on_connection([](arke::connection& c) { c.join("readers"); });

    // On the same port, and strangers to the readers: "readers" here is another room.
    auto ticker = server.endpoint("/ticker", {.max_message_size = 64});
    ticker.on_connection([](arke::connection& c) { c.join("readers"); });
    ticker.on("price", [](arke::connection& c, double price) { c.to("readers").emit("price", price); });

    // Signals stop the server whose run() is on the main thread; that one stops the other.
    arke::server admin{{.endpoint = "/admin", .listener = {.stop_on_signals = false}}};
    admin.on("publish", [&](arke::connection& c, const std::string& headline) {
        server.to("readers").emit("headline", headline);  // from the admin's thread: any thread may
        c.emit("published", server.size());
    });

    server.listen("127.0.0.1", port);
    admin.listen("127.0.0.1", admin_port);
    std::cout << "ws://localhost:" << server.port() << "/news and /ticker, ws://localhost:" << admin.port() << "/admin"
              << std::endl;

    std::thread admin_thread{[&] { admin.run(); }};
    server.run();
    admin.stop();
    admin_thread.join();
}
