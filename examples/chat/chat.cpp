// A chat to open in a browser: names, rooms, who is here, private messages.
//
//   chat [PORT] [FOLDER]      PORT 8080 unless given, 0 for any; FOLDER holds the pages
//
// house.hpp says what its pages and it say to each other.
#include "house.hpp"

#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

int main(int argc, char** argv) try {
#ifdef ARKE_EXAMPLES_DIR
    std::string folder = ARKE_EXAMPLES_DIR "/chat/public";
#else
    std::string folder = "public";
#endif
    if (argc > 2) folder = argv[2];

    chat::house house;
    chat::server server{arke::config{
        .endpoint = "/my_endpoint",
        .max_message_size = 8 * 1024,
        .listener = {.max_connections = 1000},
    }};
    server.files("/", folder);
    house.open(server);

    server.listen("0.0.0.0", argc > 1 ? chat::port_from(argv[1]) : std::uint16_t{8080});
    std::cout << "http://localhost:" << server.port() << "/" << std::endl;
    server.run();
} catch (const std::exception& e) {
    std::cerr << "chat: " << e.what() << "\n";
    return 1;
}
