// What the JavaScript client is tested against: tests/js/with_server.mjs and tests/browser/client.mjs.
//
//     arke_js_server PORT
//
// Prints its address, and then a line for each "count" that it gets, so that what was delivered outlives a server that is killed.

#include <arke/server.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

#include "tests/support/request_handlers.hpp"

using namespace std::chrono_literals;

int main(int argc, char** argv) {
    arke::config settings{.endpoint = "/ws"};
    settings.max_message_size = 64 * 1024;
    settings.max_requests = 2000;
    // Whoever offers it, as browsers and ws do, has all that is said here compressed, and notices nothing.
    settings.compression = {
        .enabled = true, .threshold = 16, .send_context_takeover = true, .receive_context_takeover = true};
    arke::server server{std::move(settings)};

    arke::test::serve_requests(server);
    server.on("bytes", [](arke::bytes b) { return b; });
    server.on("large", [](std::uint64_t n) { return n; });
    server.on("cut", [](arke::connection& c) { c.disconnect(arke::close_code::going_away, "cut"); });
    server.on("end",
              [](arke::connection& c, int code) { c.disconnect(static_cast<arke::close_code>(code), "the end"); });

    std::atomic<int> completed{0};
    server.on("ask me often", [&completed](arke::connection& c, int times) {
        for (int n = 0; n < times; ++n) {
            c.ask<int>("never", n, 10s, [&completed](arke::error_code why, int) {
                if (why == arke::errc::disconnected) ++completed;
            });
        }
        c.emit("asked often", times);
    });
    server.on("completed", [&completed] { return completed.load(); });

    // Rooms.
    server.on_join([](std::string_view room) -> arke::answer<void> {
        if (room == "news") return {};
        return arke::refuse("members only");
    });
    server.on("tell", [&server](const std::string& text) { server.to("news").emit("told", text); });

    server.on("chat", [](arke::connection& c, const std::string& text) { c.emit("chat", text); });
    server.on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });
    server.on("count", [](const std::string& what) { std::cout << "count " << what << std::endl; });

    server.listen("127.0.0.1", argc > 1 ? std::atoi(argv[1]) : 0);
    std::cout << "ws://localhost:" << server.port() << "/ws" << std::endl;
    server.run();
}
