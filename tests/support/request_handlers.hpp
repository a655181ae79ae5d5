#pragma once

/// What answers the requests of tests/golden/requests.json: a server's handlers, and how it asks the client back.

#include <arke/server.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>

namespace arke::test {

struct order {
    std::string item;
    int count;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

/// What the server is to ask the client, and how long it waits.
struct question {
    std::string event;
    int value;
    int timeout;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(question, event, value, timeout)

/// How the table calls an error.
inline std::string word_of(error_code why) {
    if (why == errc::refused) return "refused";
    if (why == errc::handler_threw) return "failed";
    if (why == errc::unhandled_event) return "unhandled";
    if (why == errc::wrong_type) return "wrong-type";
    if (why == errc::bad_answer) return "bad-answer";
    if (why == errc::ask_timeout) return "timeout";
    if (why == errc::disconnected) return "disconnected";
    return why.message();
}

inline boost::asio::awaitable<answer<int>> answer_after(int ms) {
    if (ms == -1) co_return refuse("in the past");
    if (ms < 0) throw std::runtime_error{"secret"};
    boost::asio::steady_timer timer{co_await boost::asio::this_coro::executor, std::chrono::milliseconds{ms}};
    co_await timer.async_wait(boost::asio::use_awaitable);
    co_return ms;
}

inline void serve_requests(endpoint& server) {
    server.on("buy", [](const order& o) -> answer<int> {
        if (o.item == "moon") return refuse("sold out");
        return o.count * 7;
    });
    server.on("text", [](std::string text) { return text; });
    server.on("json", [](nlohmann::json value) { return value; });
    server.on("not", [](bool value) { return !value; });
    server.on("nothing", [] {});
    server.on("throw", []() -> int { throw std::runtime_error{"secret"}; });
    server.on("any;name\nat \\all", [](int n) { return n + 1; });
    server.on("slow", [](int ms) { return answer_after(ms); });

    // "asked" tells how it ended: "answer 42", "refused sold out", "timeout".
    server.on("ask me", [](connection& c, const question& q) {
        c.ask<answer<int>>(q.event, q.value, std::chrono::milliseconds{q.timeout},
                           [&c](error_code why, const answer<int>& a) {
                               c.emit("asked", why              ? word_of(why)
                                               : a.is_refused() ? "refused " + a.why()
                                                                : "answer " + std::to_string(*a));
                           });
    });
}

}  // namespace arke::test
