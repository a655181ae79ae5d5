#include <arke/arke.hpp>
#include <arke/client.hpp>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <future>
#include <stdexcept>
#include <string>
#include <utility>

#include <boost/asio/use_future.hpp>

#include "tests/support/catch.hpp"
#include "tests/support/request_handlers.hpp"
#include "tests/support/running_server.hpp"

// The table of requests that Node and Chromium go through too: tests/golden/requests.json.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

const nlohmann::json& table() {
    static const nlohmann::json all = [] {
        std::ifstream file(ARKE_TESTS_DIR "/golden/requests.json");
        return nlohmann::json::parse(file);
    }();
    return all;
}

using reply = answer<nlohmann::json>;

/// Asks with the kind of value that the JSON is.
std::future<reply> ask(arke::client& c, const nlohmann::json& row) {
    const auto event = row.at("event").get<std::string>();
    const std::chrono::milliseconds timeout{row.value("timeout", 20'000)};
    if (!row.contains("data")) return c.ask<reply>(event, timeout, asio::use_future);
    const auto& data = row.at("data");
    if (data.is_string()) return c.ask<reply>(event, data.get<std::string>(), timeout, asio::use_future);
    if (data.is_boolean()) return c.ask<reply>(event, data.get<bool>(), timeout, asio::use_future);
    if (data.is_number_integer()) return c.ask<reply>(event, data.get<std::int64_t>(), timeout, asio::use_future);
    return c.ask<reply>(event, data, timeout, asio::use_future);
}

nlohmann::json ended(std::future<reply> asked) {
    try {
        const auto got = asked.get();
        if (!got) return {{"error", "refused"}, {"text", got.why()}};
        return {{"answer", *got}};
    } catch (const boost::system::system_error& e) {
        return {{"error", word_of(e.code())}};
    }
}

nlohmann::json meant(const nlohmann::json& row) {
    if (!row.contains("error")) return {{"answer", row.at("answer")}};
    nlohmann::json end{{"error", row.at("error")}};
    if (row.contains("text")) end["text"] = row.at("text");
    return end;
}

}  // namespace

TEST_CASE("requests of a C++ client and of its server end as the table says") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    serve_requests(net.server());
    net.start();

    arke::client c{"ws://127.0.0.1:" + std::to_string(net.port()) + "/"};
    c.on("double", [](int n) { return n * 2; });
    c.on("later", [](int n) -> asio::awaitable<int> {
        asio::steady_timer timer{co_await asio::this_coro::executor, 5ms};
        co_await timer.async_wait(asio::use_awaitable);
        co_return n * 3;
    });
    c.on("refuse", []() -> answer<int> { return refuse("sold out"); });
    c.on("throw", []() -> int { throw std::runtime_error{"secret"}; });
    c.on("text", [] { return "no number"; });
    c.on("slow", []() -> asio::awaitable<int> {
        asio::steady_timer timer{co_await asio::this_coro::executor, 1h};
        co_await timer.async_wait(asio::use_awaitable);
        co_return 1;
    });
    journal heard;
    c.on_error([](const error_report&) {});
    c.on("asked", [&](std::string how) { heard.add(std::move(how)); });
    c.start();

    for (const auto& row : table().at("client_asks")) {
        INFO(row.dump());
        auto end = ended(ask(c, row));
        // Nothing is read as an empty text where JSON was asked for.
        if (row.contains("answer") && row.at("answer").is_null())
            CHECK(end == nlohmann::json{{"answer", ""}});
        else
            CHECK(end == meant(row));
    }
    std::string told;
    std::size_t count = 0;
    for (const auto& row : table().at("server_asks")) {
        const question q{row.at("event"), 21, row.value("timeout", 20'000)};
        c.emit("ask me", q);
        std::string end =
            row.contains("error") ? row.at("error").get<std::string>() : "answer " + row.at("answer").dump();
        if (row.contains("text")) end += " " + row.at("text").get<std::string>();
        told += (told.empty() ? "" : " ") + end;
        CHECK(heard.wait(++count) == told);
    }
}
