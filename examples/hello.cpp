// The shortest server: what one page says, every page of the room hears.
#include <arke/arke.hpp>

#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
    arke::server server{{.endpoint = "/my_endpoint"}};

    server.on_connection([](arke::connection& c) {
        c.join("room1");
        c.on("chat", [&c](std::string message) { c.to("room1").emit("chat", "From: " + c.id() + ": " + message); });
    });

    server.listen("127.0.0.1", argc > 1 ? std::atoi(argv[1]) : 8080);
    std::cout << "ws://localhost:" << server.port() << "/my_endpoint" << std::endl;
    server.run();
}
