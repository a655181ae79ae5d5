// What tests/peers/tls.mjs tests: an echo over TLS that reads its certificates again when it is asked to.
//
//     tls_server PORT FOLDER [require|request]
//
// FOLDER holds first.pem, first.key, second.pem and second.key, and ca.pem, by which clients are verified.

#include <arke/tls.hpp>

#include <arke/server.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>

int main(int argc, char** argv) try {
    if (argc < 3) {
        std::cerr << "tls_server PORT FOLDER [require|request]\n";
        return 2;
    }
    const std::string folder = argv[2];
    const std::string clients = argc > 3 ? argv[3] : "";
    arke::config settings{.max_message_size = 4 << 20};
    auto& tls = settings.listener.tls;
    for (const std::string name : {"first", "second"})
        tls.certificates.push_back(
            {.chain_file = folder + "/" + name + ".pem", .key_file = folder + "/" + name + ".key"});
    if (!clients.empty()) {
        tls.verify_clients =
            clients == "require" ? arke::client_certificates::require : arke::client_certificates::request;
        tls.client_ca_file = folder + "/ca.pem";
    }
    arke::server server{settings};
    server.on_message([&server](arke::connection& c, arke::message_view m) {
        if (m.data == "reload") {
            try {
                server.reload();
                c.emit_message("reloaded");
            } catch (const std::exception& e) {
                c.emit_message(e.what());
            }
        } else if (m.data == "who") {
            const auto& session = *c.request().tls();
            std::string text{session.version};
            text += " " + session.server_name + (session.resumed ? " resumed " : " full ");
            text += session.client ? session.client->subject : "nobody";
            c.emit_message(text);
        } else {
            c.emit_message(m);
        }
    });
    server.listen("127.0.0.1", std::atoi(argv[1]));
    const auto secure = server.port();
    server.listen("127.0.0.1", 0, arke::security::plain);
    std::cout << "wss://localhost:" << secure << "/ ws://localhost:" << server.port() << "/" << std::endl;
    server.run(2);
} catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 1;
}
