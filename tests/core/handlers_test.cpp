#include <arke/server.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;

TEST_CASE("all handlers of an event run, the endpoint's first, in the order they were added") {
    scripted_server server;
    auto& anna = server.connect("anna");
    std::string ran;
    anna.self().on("e", [&] { ran += "c1 "; });
    server.on("e", [&] { ran += "s1 "; });
    anna.self().on("e", [&] { ran += "c2 "; });
    server.on("e", [&] { ran += "s2 "; });
    server.on("other", [&] { ran += "other "; });
    anna.emits("e", "");
    CHECK(ran == "s1 s2 c1 c2 ");
}

TEST_CASE("a handler of one connection does not hear another's events") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    std::string ran;
    anna.self().on("e", [&](std::string text) { ran += text; });
    anna.emits("e", "a");
    ben.emits("e", "b");
    CHECK(ran == "a");
    CHECK(server.unhandled_events() == 1);
}

TEST_CASE("a handler may remove itself, and what it captured lives until it returns") {
    for (const bool of_server : {false, true}) {
        scripted_server server;
        auto& anna = server.connect("anna");
        const auto held = std::make_shared<std::string>("captured");
        int ran = 0;
        handler_id self{};
        const std::function<void()> remove = [&] { of_server ? server.off(self) : anna.self().off(self); };
        const auto handler = [copy = held, &ran, &remove] {
            remove();
            ++ran;
            CHECK(*copy == "captured");
        };
        self = of_server ? server.on("e", handler) : anna.self().on("e", handler);
        const auto others = held.use_count();
        anna.emits("e", "");
        anna.emits("e", "");
        CHECK(ran == 1);
        // Gone, but for the one that stands here; the endpoint's loops look at its handlers when they next need them.
        CHECK(held.use_count() == others - 1);
    }
}

TEST_CASE("a handler may remove a later one, which then does not run, and an earlier one") {
    scripted_server server;
    auto& anna = server.connect("anna");
    std::string ran;
    std::vector<handler_id> ids;
    auto& c = anna.self();
    ids.push_back(c.on("e", [&] { ran += "1 "; }));
    ids.push_back(c.on("e", [&] {
        ran += "2 ";
        CHECK(c.off(ids[2]) == (ran == "1 2 "));
        c.off(ids[0]);
    }));
    ids.push_back(c.on("e", [&] { ran += "3 "; }));
    ids.push_back(c.on("e", [&] { ran += "4 "; }));
    anna.emits("e", "");
    CHECK(ran == "1 2 4 ");
    anna.emits("e", "");
    CHECK(ran == "1 2 4 2 4 ");
}

TEST_CASE("a handler that is added while its event runs waits for the next time") {
    for (const bool of_server : {false, true}) {
        scripted_server server;
        auto& anna = server.connect("anna");
        std::string ran;
        int added = 0;
        const auto add = [&](auto f) { of_server ? server.on("e", f) : anna.self().on("e", f); };
        add([&] {
            ran += "first ";
            // Enough that the list must grow under the feet of the one who runs it.
            for (int n = 0; n != 20 && added < 20; ++n, ++added) {
                const auto later = [&ran] { ran += "+"; };
                of_server ? server.on("e", later) : anna.self().on("e", later);
                of_server ? server.on("new event", later) : anna.self().on("new event " + std::to_string(n), later);
            }
        });
        add([&] { ran += "last "; });
        anna.emits("e", "");
        CHECK(ran == "first last ");
        ran.clear();
        anna.emits("e", "");
        CHECK(ran == "first last " + std::string(20, '+'));
    }
}

TEST_CASE("handlers are removed by their id, whatever they hear") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& c = anna.self();
    std::string ran;
    std::vector<handler_id> ids = {
        c.on("e", [&] { ran += "event "; }),      c.on_any([&](const event_view&) { ran += "any "; }),
        c.on_message([&] { ran += "message "; }), c.on_ping([&] { ran += "ping "; }),
        c.on_pong([&] { ran += "pong "; }),       c.on_leave([&] { ran += "leave "; }),
        c.on_error([&] { ran += "error "; }),     c.on_disconnect([&] { ran += "disconnect "; }),
    };
    const auto everything_happens = [&] {
        anna.emits("e", "");
        anna.emits("unknown", "");
        anna.says("message");
        anna.pings();
        anna.pongs();
        server.in_turn([&] {
            c.join("tea");
            c.leave("tea");
        });
        anna.says("iris-websocket-message:malformed");
        return std::exchange(ran, {});
    };
    CHECK(everything_happens() == "event any message ping pong leave error ");
    for (const auto id : ids) CHECK(c.off(id));
    for (const auto id : ids) CHECK_FALSE(c.off(id));
    CHECK_FALSE(c.off(handler_id{999}));
    CHECK(everything_happens() == "");
    anna.hangs_up();
    CHECK(ran == "");
}

TEST_CASE("off(event) removes all handlers of the event that the connection has, and only those") {
    scripted_server server;
    auto& anna = server.connect("anna");
    std::string ran;
    server.on("e", [&] { ran += "server "; });
    anna.self().on("e", [&] { ran += "1 "; });
    anna.self().on("e", [&] {
        ran += "2 ";
        anna.self().off("e");
    });
    anna.self().on("e", [&] { ran += "3 "; });
    anna.self().on("other", [&] { ran += "other "; });
    anna.self().off("unknown");
    anna.emits("e", "");
    anna.emits("e", "");
    anna.emits("other", "");
    CHECK(ran == "server 1 2 server other ");
    server.off("e");
    anna.emits("e", "");
    CHECK(ran == "server 1 2 server other ");
}

TEST_CASE("an event may have one handler that answers and any number that do not") {
    scripted_server server;
    auto& anna = server.connect("anna");
    for (const bool of_server : {false, true}) {
        const auto on = [&](auto f) { return of_server ? server.on("ask", f) : anna.self().on("ask", f); };
        const auto answering = on([] { return 1; });
        on([] {});
        CHECK_THROWS_AS(on([] { return 2; }), std::logic_error);
        on([] {});
        CHECK((of_server ? server.off(answering) : anna.self().off(answering)));
        on([] { return 3; });
        CHECK_THROWS_AS(on([] { return 4; }), std::logic_error);
    }
    CHECK_THROWS_AS(server.on("", [] {}), std::invalid_argument);
}

TEST_CASE("handlers that throw are reported, each, and the others run") {
    scripted_server server;
    std::string ran;
    server.on_error([&](const error_report& e) {
        CHECK(e.code == errc::handler_threw);
        ran += std::string{e.event} + "!" + std::string{e.detail} + " ";
    });
    server.on("e", [] { throw std::runtime_error{"one"}; });
    server.on("e", [] { throw 2; });
    server.on("e", [&] { ran += "three "; });
    server.on_message([] { throw std::runtime_error{"message"}; });
    server.on_disconnect([] { throw std::runtime_error{"disconnect"}; });
    server.on_connection([] { throw std::runtime_error{"connection"}; });
    auto& anna = server.connect("anna");
    anna.emits("e", "");
    anna.says("x");
    CHECK(server.is_connected("anna"));
    anna.hangs_up();
    CHECK(ran == "!connection e!one e!something that is no std::exception three !message !disconnect ");
}

TEST_CASE("an on_error that throws is a line in the log, and so is an error that nobody hears") {
    scripted_server server;
    auto& anna = server.connect("anna");
    server.on("e", [] { throw std::runtime_error{"unheard of"}; });
    anna.emits("e", "");
    CHECK(server.log().find("unheard of") != std::string::npos);
    server.on_error([] { throw std::runtime_error{"again"}; });
    anna.emits("e", "");
    CHECK(server.log().find("on_error threw") != std::string::npos);
    CHECK(server.is_connected("anna"));
}

TEST_CASE("the handlers of a connection go with it, on its loop, when on_disconnect has run") {
    scripted_server server;
    auto& anna = server.connect("anna");
    const auto handle = server.find("anna");
    struct on_destruction {
        std::function<void()> run;
        ~on_destruction() { run(); }
    };
    std::string order;
    anna.self().on("e", [last = std::shared_ptr<on_destruction>{new on_destruction{[&] {
                             CHECK(server.loop().in_turn());
                             order += "freed ";
                         }}}] {});
    anna.self().on_disconnect([&] { order += "disconnect "; });
    anna.hangs_up();
    CHECK(order == "disconnect freed ");
    CHECK_FALSE(server.is_freed(anna));  // the handle holds the bare object
}

TEST_CASE("what a handler captured may emit while it is destroyed") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    struct farewell {
        scripted_server& server;
        ~farewell() { server.to("ben").emit("farewell"); }
    };
    anna.self().on("e", [last = std::shared_ptr<farewell>{new farewell{server}}] {});
    anna.hangs_up();
    CHECK(ben.heard() == "farewell()");
}
