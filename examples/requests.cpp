// Questions and answers in both directions, with coroutines: a server and a client of it in one program.
//
//     requests [PORT]
//
// Without a port the two talk and the program ends; with one the server goes on, and other clients may ask too.

#include <arke/arke.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;

struct order {
    std::string item;
    int count = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

void serve(arke::server& shop) {
    // What a handler returns is the answer.
    shop.on("add", [](const std::pair<int, int>& both) { return both.first + both.second; });

    // It may also refuse.
    shop.on("price", [](const std::string& item) -> arke::answer<int> {
        if (item != "tea") return arke::refuse("there is no " + item);
        return 7;
    });

    // A coroutine answers when it ends. This one asks back meanwhile.
    shop.on("buy", [](arke::connection& c, order o) -> asio::awaitable<std::string> {
        if (!co_await c.ask<bool>("sure", std::to_string(o.count * 7) + " for " + o.item, 5s)) co_return "another time";
        asio::steady_timer packing{co_await asio::this_coro::executor, 10ms};
        co_await packing.async_wait(asio::use_awaitable);
        co_return "here you are";
    });
}

asio::awaitable<void> go_shopping(arke::client& c) {
    co_await c.async_connect();
    std::cout << "2 + 3 is " << co_await c.ask<int>("add", std::pair{2, 3}, 2s) << std::endl;

    const auto price = co_await c.ask<arke::answer<int>>("price", "gin", 2s);
    std::cout << "gin: " << (price ? std::to_string(*price) : price.why()) << std::endl;

    const order wish{"tea", 6};
    std::cout << "buying: " << co_await c.ask<std::string>("buy", wish, 2s) << std::endl;

    try {
        co_await c.ask<int>("sing", 2s);
    } catch (const boost::system::system_error& e) {
        std::cout << "singing: " << e.code().message() << std::endl;
    }
    c.disconnect();
}

int main(int argc, char** argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 0;
    asio::io_context context;
    arke::server shop{context, {.endpoint = "/"}};
    serve(shop);
    shop.listen("127.0.0.1", port);
    const auto url = "ws://localhost:" + std::to_string(shop.port()) + "/";
    std::cout << url << std::endl;

    std::optional<arke::client> customer{std::in_place, context, url};
    customer->on("sure", [](const std::string& question) {
        std::cout << "asked: " << question << "?" << std::endl;
        return true;
    });

    asio::signal_set signals{context, SIGINT, SIGTERM};
    signals.async_wait([&](auto, int) { shop.stop(); });
    int status = EXIT_SUCCESS;
    asio::co_spawn(context, go_shopping(*customer), [&](const std::exception_ptr& failed) {
        if (failed) status = EXIT_FAILURE;
        customer.reset();
        if (!failed && argc > 1) return;
        shop.stop();
        signals.cancel();
    });
    context.run();
    return status;
}
