// Handlers with tests of their own, without sockets and sleeps: a ticker whose slow readers get the latest prices only.
//
//     tested_ticker PORT       serves: a client says "watch" with a symbol, and "price" with {symbol, price}
//     tested_ticker --test     runs the tests
//
// The tests need no framework; in one, EXPECT is its own macro.

#include <arke/arke.hpp>
#include <arke/testing.hpp>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

struct quote {
    std::string symbol;
    double price = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(quote, symbol, price)

/// All that the program does with its server, so that the tests can do it with theirs.
void serve_ticker(arke::endpoint& ticker) {
    ticker.on("watch", [](arke::connection& c, const std::string& symbol) { c.join(symbol); });
    ticker.on("price", [&ticker](const quote& q) { ticker.to(q.symbol).emit_latest("price", q, q.symbol); });
    ticker.on_leave([&ticker](std::string_view symbol) {
        ticker.to(std::string{symbol}).emit("watchers", ticker.members(symbol).size());
    });
}

// ------------------------------------------------------------------------------------------------------------ the tests

int failures = 0;

#define EXPECT(what)                                                         \
    do {                                                                     \
        if (what) break;                                                     \
        ++failures;                                                          \
        std::cerr << __FILE__ << ":" << __LINE__ << ": not so: " #what "\n"; \
    } while (false)

void those_who_watch_hear_the_price() {
    arke::testing::server server;
    serve_ticker(server);
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    anna.emits("watch", "tea");
    ben.emits("price", quote{"tea", 4.5});
    EXPECT(anna.heard() == R"(price({"price":4.5,"symbol":"tea"}))");
    EXPECT(ben.heard().empty());
}

void a_slow_reader_gets_the_latest_price_of_each_symbol() {
    arke::testing::server server;
    serve_ticker(server);
    auto& slow = server.connect();
    slow.emits("watch", "tea");
    slow.emits("watch", "gin");
    slow.reads_only(0);
    auto& market = server.connect();
    for (int i = 0; i != 100; ++i) {
        market.emits("price", quote{"tea", 4.0 + i});
        market.emits("price", quote{"gin", 20.0 + i});
    }
    slow.reads_everything();
    // The first had begun to be sent.
    EXPECT(slow.heard() == R"(price({"price":4.0,"symbol":"tea"}) price({"price":103.0,"symbol":"tea"}) )"
                           R"(price({"price":119.0,"symbol":"gin"}))");
}

void who_falls_silent_is_gone_and_the_others_hear_of_it() {
    using namespace std::chrono_literals;
    arke::testing::server server{{.pong_timeout = 10s}};
    serve_ticker(server);
    auto& here = server.connect("here");
    here.emits("watch", "tea");
    server.connect("silent").emits("watch", "tea");
    server.pass(9500ms);
    EXPECT(here.heard() == "ping()");
    here.pongs();
    server.pass(1s);
    EXPECT(here.heard() == "watchers(1)");
    EXPECT(!server.find("silent").is_connected());
}

int run_tests() {
    those_who_watch_hear_the_price();
    a_slow_reader_gets_the_latest_price_of_each_symbol();
    who_falls_silent_is_gone_and_the_others_hear_of_it();
    std::cout << (failures == 0 ? "all tests passed" : "tests failed") << std::endl;
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char** argv) {
    if (argc > 1 && std::string_view{argv[1]} == "--test") return run_tests();
    arke::server server{{.endpoint = "/"}};
    serve_ticker(server);
    server.listen("127.0.0.1", argc > 1 ? std::atoi(argv[1]) : 8080);
    std::cout << "ws://localhost:" << server.port() << "/" << std::endl;
    server.run();
}
