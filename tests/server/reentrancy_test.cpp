// What handlers may do, in each kind of handler: throw anything, close their connection, stop the server, destroy it.
#include <arke/arke.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;
using namespace std::chrono_literals;
using arke::connection;

namespace {

/// Every kind of handler.
enum class kind { connection, event, typed, any, message, ping, pong, leave, drain, error, disconnect };

constexpr std::array kinds{kind::connection, kind::event, kind::typed, kind::any,   kind::message,   kind::ping,
                           kind::pong,       kind::leave, kind::drain, kind::error, kind::disconnect};

std::string name_of(kind k) {
    constexpr std::array names{"connection", "event", "typed", "any",   "message",   "ping",
                               "pong",       "leave", "drain", "error", "disconnect"};
    return names.at(static_cast<std::size_t>(k));
}

/// Adds a handler of this kind to the endpoint, and what makes a client's "go" bring it about.
void add(arke::server& server, kind k, const std::function<void(connection&)>& act) {
    switch (k) {
        case kind::connection: server.on_connection(act); break;
        case kind::event: server.on("event", act); break;
        case kind::typed: server.on("typed", [act](connection& c, int) { act(c); }); break;
        case kind::any: server.on_any([act](connection& c, const arke::event_view&) { act(c); }); break;
        case kind::message: server.on_message([act](connection& c, arke::message_view) { act(c); }); break;
        case kind::ping: server.on_ping(act); break;
        case kind::pong:
            server.on_pong(act);
            server.on("event", [](connection& c) {
                c.ping();
                c.emit("pinged");
            });
            break;
        case kind::leave:
            server.on_leave([act](connection& c, std::string_view) { act(c); });
            server.on("event", [](connection& c) {
                c.join("tea");
                c.leave("tea");
            });
            break;
        case kind::drain:
            server.on_drain(act);
            server.on("event", [](connection& c) {
                for (int i = 0; i != 800; ++i) c.emit_message(std::string(16'000, 'x'));
            });
            break;
        case kind::error: server.on_error([act](connection& c, const arke::error_report&) { act(c); }); break;
        case kind::disconnect: server.on_disconnect(act); break;
    }
}

/// Lets a client do what brings a handler of this kind about.
void provoke(client& c, kind k, running_server& net) {
    switch (k) {
        case kind::drain:
            c.emit("event");
            // Whoever reads at once may keep up, and then nothing drains.
            REQUIRE(eventually([&] { return net->metrics().outbox_bytes != 0; }));
            break;
        case kind::connection: break;
        case kind::typed: c.emit("typed", "7", 1); break;
        case kind::any: c.emit("unknown"); break;
        case kind::message: c.send("native"); break;
        case kind::ping: c.ping("p"); break;
        case kind::error: c.emit("number", "none"); break;
        case kind::disconnect: c.drop(); break;
        case kind::pong:
            c.emit("event");
            c.receive();  // It answers pings while it reads.
            break;
        default: c.emit("event"); break;
    }
}

/// The last that a client hears.
std::string last_of(client& c) {
    auto text = c.receive();
    while (text != "end" && text != "timeout" && !text.starts_with("close(")) text = c.receive();
    return text;
}

bool keeps_connection(kind k) { return k != kind::disconnect; }

arke::config settings_of(arke::loop_kind loop) {
    auto settings = quiet(loop, {.max_outbox_bytes = 64U << 20U});
    settings.listener.stop_timeout = 5s;
    return settings;
}

}  // namespace

TEST_CASE("whatever a handler of whatever kind throws is reported, its connection stays, and so do the others") {
    const auto loop = GENERATE(from_range(all_loops()));
    const bool is_std = GENERATE(true, false);
    for (const auto k : kinds) {
        CAPTURE(name_of(k), is_std, static_cast<int>(loop));
        running_server net{settings_of(loop)};
        std::atomic<int> threw{0};
        std::atomic<int> reported{0};
        net->on("number", [](connection&, int) {});
        net->on("alive", [](connection& c) { c.emit("alive"); });
        // First the one who listens: an on_error that throws is not reported to itself.
        net->on_error([&](connection&, const arke::error_report& e) {
            if (e.code == arke::errc::handler_threw) ++reported;
        });
        add(*net.owner(), k, [&](connection&) {
            ++threw;
            if (is_std) throw std::runtime_error{"thrown"};
            throw 7;
        });
        net.start();
        client other{net.port()};
        client one{net.port()};
        provoke(one, k, net);
        CHECK(eventually([&] {
            // What drains is what is read.
            if (k == kind::drain && threw == 0) one.receive();
            return threw != 0;
        }));
        // An on_error that throws is a line in the log.
        if (k != kind::error) {
            CHECK(eventually([&] { return reported != 0; }));
            CHECK(net->metrics().errors.handler_threw >= 1);
        }
        if (keeps_connection(k)) {
            one.emit("alive");
            auto text = one.receive();
            while (text.starts_with("xxx")) text = one.receive();
            CHECK(text == "alive;0;");
        }
        other.emit("alive");
        CHECK(other.receive() == "alive;0;");
        one.drop();
        other.drop();
        CHECK(net.stop() == "");
    }
}

TEST_CASE("a handler of whatever kind closes its own connection, stops the server, or destroys it") {
    enum class deed { closes, stops, destroys };
    const auto loop = GENERATE(from_range(all_loops()));
    const auto does = GENERATE(deed::closes, deed::stops, deed::destroys);
    const unsigned threads = GENERATE(1U, 2U);
    for (const auto k : kinds) {
        CAPTURE(name_of(k), static_cast<int>(does), threads, static_cast<int>(loop));
        running_server net{settings_of(loop)};
        std::atomic<bool> is_done{false};
        std::atomic<int> afterwards{0};
        net->on("number", [](connection&, int) {});
        net->on_connection([](connection& c) { c.emit("ready"); });
        // The other one is there before, and does nothing that brings it about.
        std::atomic<bool> armed{false};
        add(*net.owner(), k, [&](connection& c) {
            if (!armed || is_done.exchange(true)) return;
            switch (does) {
                case deed::closes: c.disconnect(arke::close_code{4000}, "as it likes"); break;
                case deed::stops: net->stop(); break;
                case deed::destroys: net.owner().reset(); break;
            }
            // What it holds is still good.
            c.emit("after");
            c.join("cake");
            c.to("cake").emit("after");
            c.to(arke::all).emit("after");
            c.leave("cake");
            ++afterwards;
        });
        net.start(threads);
        client other{net.port()};
        REQUIRE(other.receive() == "ready;0;");
        armed = true;
        client one{net.port()};
        provoke(one, k, net);
        if (keeps_connection(k)) {
            const auto last = last_of(one);
            if (does == deed::closes) {
                CHECK(last == "close(4000 as it likes)");
            } else {
                CHECK(last == "close(1001 the server stops)");
            }
        }
        CHECK(eventually([&] { return afterwards == 1; }));
        if (does == deed::closes) {
            CHECK(eventually([&] { return net->size() == 1; }));
            net->stop();
        }
        CHECK(last_of(other) == "close(1001 the server stops)");
        CHECK(net.wait() == "");
    }
}

TEST_CASE("a handler that blocks shows in the metrics of its loop while it blocks nobody on the others") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    std::atomic<bool> blocked{false};
    std::atomic<bool> may_go_on{false};
    net->on("block", [&](connection& c) {
        blocked = true;
        const auto end = std::chrono::steady_clock::now() + 600ms;
        eventually([&] { return may_go_on && std::chrono::steady_clock::now() > end; });
        c.emit("done");
    });
    net->on("alive", [](connection& c) { c.emit("alive"); });
    net.start(2);
    // The second comes to the other loop, because that has fewer. Whatever that does, it waits for.
    client one{net.port()};
    const auto began = std::chrono::steady_clock::now();
    client two{net.port()};
    two.emit("alive");
    REQUIRE(two.receive() == "alive;0;");
    one.emit("block");
    REQUIRE(eventually([&] { return blocked.load(); }));
    two.emit("alive");
    CHECK(two.receive() == "alive;0;");
    const auto waited = std::chrono::steady_clock::now() - began;
    may_go_on = true;
    CHECK(one.receive() == "done;0;");
    CHECK(eventually([&] {
        const auto its = net->metrics().loops.at(0);
        return its.longest_handler >= 500ms && its.longest_turn >= 500ms;
    }));
    CHECK(net->metrics().loops.at(1).longest_handler < waited + 500ms);
    CHECK(net->metrics().prometheus().find("arke_loop_longest_handler_seconds{loop=\"0\"}") != std::string::npos);
}
