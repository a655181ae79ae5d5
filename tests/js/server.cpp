// What the JavaScript client is tested against: tests/js/with_server.mjs and tests/browser/client.mjs.
//
//     arke_js_server PORT
//
// Prints its address, and then a line for each "count" that it gets, so that what was delivered outlives a server that is killed.

#include <arke/arke.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace asio = boost::asio;
using namespace std::chrono_literals;

struct order {
    std::string item;
    int count;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

/// What the server is to ask the page, and how long it waits.
struct question {
    std::string event;
    int value;
    int timeout;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(question, event, value, timeout)

namespace {

asio::awaitable<int> after(std::chrono::milliseconds time, int value) {
    asio::steady_timer timer{co_await asio::this_coro::executor, time};
    co_await timer.async_wait(asio::use_awaitable);
    co_return value;
}

}  // namespace

int main(int argc, char** argv) {
    arke::config settings{.endpoint = "/ws"};
    settings.max_message_size = 64 * 1024;
    settings.max_requests = 2000;
    settings.pong_timeout = 20s;
    arke::server server{std::move(settings)};

    // The client asks.
    server.on("buy", [](const order& o) -> arke::answer<int> {
        if (o.item == "moon") return arke::refuse("sold out");
        return o.count * 7;
    });
    server.on("throw", []() -> int { throw std::runtime_error{"secret"}; });
    server.on("nothing", [] {});
    server.on("bytes", [](arke::bytes b) { return b; });
    server.on("text", [](std::string text) { return text; });
    server.on("large", [](std::uint64_t n) { return n; });
    server.on("slow", [](int ms) -> asio::awaitable<int> { return after(std::chrono::milliseconds{ms}, ms); });
    server.on("cut", [](arke::connection& c) { c.disconnect(arke::close_code::going_away, "cut"); });
    server.on("end",
              [](arke::connection& c, int code) { c.disconnect(static_cast<arke::close_code>(code), "the end"); });

    // The server asks.
    server.on("ask me", [](arke::connection& c, const question& q) {
        c.ask<arke::answer<int>>(q.event, q.value, std::chrono::milliseconds{q.timeout},
                                 [&c](arke::error_code why, const arke::answer<int>& a) {
                                     c.emit("asked", why              ? why.message()
                                                     : a.is_refused() ? "refused " + a.why()
                                                                      : "answer " + std::to_string(*a));
                                 });
    });
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
