// Arke inside an application's own io_context, beside its own timers.
//
//     embedded PORT

#include <arke/arke.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 8080;

    boost::asio::io_context context;
    arke::server server{context, {.endpoint = "/"}};
    server.on("echo", [](arke::connection& c, std::string_view text) { c.emit("echo", text); });
    server.listen("127.0.0.1", port);
    std::cout << "ws://localhost:" << server.port() << "/" << std::endl;

    // The application's own work in the same loop: a clock that tells everybody.
    boost::asio::steady_timer timer{context};
    int ticks = 0;
    std::function<void()> tick = [&] {
        timer.expires_after(std::chrono::milliseconds{250});
        timer.async_wait([&](boost::system::error_code ec) {
            if (ec) return;
            server.to(arke::all).emit("tick", ++ticks);
            tick();
        });
    };
    tick();

    boost::asio::signal_set signals{context, SIGINT, SIGTERM};
    signals.async_wait([&](boost::system::error_code, int) {
        timer.cancel();
        server.stop();  // the io_context runs out of work when the last connection is gone
    });
    context.run();
}
