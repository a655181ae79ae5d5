#include <arke/client.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>

#include "tests/support/catch.hpp"
#include "tests/support/held_port.hpp"
#include "tests/support/raw_server.hpp"
#include "tests/support/running_server.hpp"

using arke::client_config;
using arke::close_code;
using arke::connection;
using arke::errc;
using arke::error_report;
using arke::loop_kind;
using arke::test::all_loops;
using arke::test::eventually;
using arke::test::held_port;
using arke::test::journal;
using arke::test::patience;
using arke::test::quiet;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

/// A server that is killed and started again on its port, which nobody else gets meanwhile. What its clients say is counted.
class mortal_server {
public:
    explicit mortal_server(loop_kind loop) : loop_{loop} {}
    ~mortal_server() { kill(); }
    mortal_server(const mortal_server&) = delete;
    mortal_server& operator=(const mortal_server&) = delete;

    void start() {
        server_ = std::make_unique<arke::server>(quiet(loop_));
        server_->on_join([](connection&, std::string_view room) { return room == "room"; });
        server_->on("say", [this](int who) { count("say", who); });
        server_->on("late", [this](int who) { count("late", who); });
        server_->on("again", [this](int who) { count("again", who); });
        server_->on("buy", [](int n) { return n * 7; });
        server_->on("go", [](connection& c, int code) { c.disconnect(close_code{static_cast<std::uint16_t>(code)}); });
        server_->listen("127.0.0.1", port_.port());
        thread_ = std::thread{[s = server_.get()] { s->run(); }};
    }

    void kill() {
        if (!server_) return;
        server_->stop(0ms);
        thread_.join();
        server_.reset();
    }

    arke::server& operator*() { return *server_; }
    std::string url() const { return "ws://127.0.0.1:" + std::to_string(port_.port()); }

    std::vector<int> said(const std::string& what) {
        const std::lock_guard lock{mutex_};
        return said_[what];
    }

private:
    void count(const char* what, int who) {
        const std::lock_guard lock{mutex_};
        auto& counts = said_[what];
        if (counts.size() <= static_cast<std::size_t>(who)) counts.resize(static_cast<std::size_t>(who) + 1);
        ++counts[static_cast<std::size_t>(who)];
    }

    loop_kind loop_;
    held_port port_;
    std::unique_ptr<arke::server> server_;
    std::thread thread_;
    std::mutex mutex_;
    std::map<std::string, std::vector<int>> said_;
};

client_config back_soon(loop_kind loop) {
    client_config c;
    c.reconnect_delay = 1ms;
    c.max_reconnect_delay = 20ms;
    c.close_timeout = 200ms;
    c.loop = loop;
    c.log = [](std::string_view) {};
    return c;
}

}  // namespace

TEST_CASE("two hundred clients of a server that is killed and started again all come back, one after another") {
    constexpr std::size_t many = 200;
    using clock = std::chrono::steady_clock;
    mortal_server net{loop_kind::automatic};
    net.start();

    struct one {
        std::unique_ptr<arke::client> c;
        int errors = 0;
        int connects = 0;
        int reconnects = 0;
        std::vector<int> heard;
        clock::time_point back{};
    };
    asio::io_context context;
    std::vector<one> all(many);
    for (std::size_t i = 0; i != many; ++i) {
        auto& each = all[i];
        const int who = static_cast<int>(i);
        client_config c;
        c.reconnect_delay = 500ms;
        c.max_reconnect_delay = 2s;
        c.log = [](std::string_view) {};
        each.c = std::make_unique<arke::client>(context, net.url(), std::move(c));
        each.c->on_error([&each](const error_report&) { ++each.errors; });
        each.c->on_connect([&each] { ++each.connects; });
        each.c->on_reconnect([&each, who](connection& self) {
            ++each.reconnects;
            each.back = clock::now();
            self.emit("again", who);
        });
        each.c->on("tick", [&each](int n) { each.heard.push_back(n); });
        each.c->join("room");
        each.c->connect();
    }
    clock::duration longest_stall{};
    const auto run_until = [&](auto&& holds) {
        const auto end = clock::now() + patience;
        for (auto now = clock::now(); !holds() && now < end;) {
            context.run_one_for(20ms);
            const auto before = std::exchange(now, clock::now());
            longest_stall = std::max(longest_stall, now - before);
        }
        return holds();
    };
    const auto every = [&](auto&& holds) { return std::all_of(all.begin(), all.end(), holds); };
    REQUIRE(run_until([&] { return (*net).members("room").size() == many; }));
    (*net).to("room").emit("tick", 1);
    REQUIRE(run_until([&] { return every([](const one& o) { return o.heard.size() == 1; }); }));

    net.kill();
    REQUIRE(run_until([&] { return every([](const one& o) { return !o.c->is_connected(); }); }));
    for (std::size_t i = 0; i != many; ++i) {
        all[i].c->emit("say", static_cast<int>(i));
        all[i].c->emit_within(1ms, "late", static_cast<int>(i));
        all[i].c->emit_volatile("late", static_cast<int>(i));
    }
    // Each has tried in vain.
    REQUIRE(run_until([&] { return every([](const one& o) { return o.errors != 0; }); }));

    net.start();
    const auto begin = clock::now();
    longest_stall = {};
    // How long the server's loop takes to do what it is asked counts, too.
    const auto is_done = std::make_shared<std::atomic<bool>>(true);
    auto asked = begin;
    const auto is_asked_until = [&](auto holds) {
        return run_until([&] {
            if (is_done->exchange(false)) {
                const auto before = std::exchange(asked, clock::now());
                longest_stall = std::max(longest_stall, asked - before);
                asio::post((*net).get_executor(), [is_done] { *is_done = true; });
            }
            return holds();
        });
    };
    REQUIRE(is_asked_until([&] { return (*net).members("room").size() == many; }));
    (*net).to("room").emit("tick", 2);
    REQUIRE(is_asked_until([&] { return every([](const one& o) { return o.heard.size() == 2; }); }));
    const auto is_heard_of_all = [&](const std::string& what) {
        const auto counts = net.said(what);
        return counts.size() == many && std::count(counts.begin(), counts.end(), 0) == 0;
    };
    REQUIRE(run_until([&] { return is_heard_of_all("say") && is_heard_of_all("again"); }));

    // What was said in between came once, what was late not at all, and nobody connected more often than he had to.
    CHECK(net.said("say") == std::vector<int>(many, 1));
    CHECK(net.said("again") == std::vector<int>(many, 1));
    CHECK(net.said("late").empty());
    CHECK(every([](const one& o) {
        return o.connects == 2 && o.reconnects == 1 && o.heard == std::vector<int>{1, 2};
    }));

    // Not all at once: the bounds are 500 to 2000 ms, so no tenth of a second has more than a part of them.
    std::map<long, std::size_t> histogram;
    for (const auto& each : all) {
        const auto after = std::chrono::duration_cast<std::chrono::milliseconds>(each.back - begin).count();
        ++histogram[std::max<long>(0, static_cast<long>(after)) / 100];
    }
    std::cout << "200 clients came back, by tenths of a second:";
    std::size_t most = 0;
    for (const auto& [tenth, count] : histogram) {
        std::cout << " " << tenth << ":" << count;
        most = std::max(most, count);
    }
    std::cout << std::endl;
    // Where the machine stood still for a while, they come when it goes on.
    if (longest_stall > 200ms) return;
    CHECK(histogram.size() >= 4);
    CHECK(most <= many / 2);
}

TEST_CASE("a client does not come back after 1000, 1008 and an application's code, and says so; after others it does") {
    mortal_server net{loop_kind::automatic};
    net.start();
    for (const int code : {1000, 1008, 4000, 1001, 1011, 3000}) {
        INFO(code);
        journal heard;
        arke::client c{net.url(), back_soon(loop_kind::automatic)};
        c.on_disconnect([&](close_code why, std::string_view, bool again) {
            heard.add(std::to_string(static_cast<int>(why)) + (again ? " again" : " the end"));
        });
        c.on_reconnect([&] { heard.add("back"); });
        c.start();
        c.emit("go", code);
        const bool again = code != 1000 && code != 1008 && code < 4000;
        CHECK(heard.wait(again ? 2 : 1) == std::to_string(code) + (again ? " again back" : " the end"));
        // Where it has ended it can be asked to begin again.
        if (again) continue;
        c.connect();
        CHECK(heard.wait(2) == std::to_string(code) + " the end back");
    }
}

TEST_CASE("a question that was asked is not asked again, one that waits is asked after the reconnection") {
    const auto loop = GENERATE(from_range(all_loops()));
    mortal_server net{loop};
    net.start();
    arke::client c{net.url(), back_soon(loop)};
    journal heard;
    c.on_disconnect([&] { heard.add("gone"); });
    c.start();
    CHECK(c.ask<int>("buy", 1, 10s, asio::use_future).get() == 7);
    net.kill();
    CHECK(heard.wait(1) == "gone");
    auto waits = c.ask<int>("buy", 2, 10s, asio::use_future);
    net.start();
    REQUIRE(waits.wait_for(patience) == std::future_status::ready);
    CHECK(waits.get() == 14);
    CHECK(c.dropped() == 0);
}

TEST_CASE(
    "rooms are entered again but those that were left or refused, and who awaits one is told by the next connection") {
    const auto loop = GENERATE(from_range(all_loops()));
    mortal_server net{loop};
    net.start();
    arke::client c{net.url(), back_soon(loop)};
    journal heard;
    c.on_error([&](const error_report& e) { heard.add(std::string{e.detail}); });
    c.on_disconnect([&] { heard.add("gone"); });
    c.join("room");
    c.join("secret");
    c.start();
    CHECK(heard.wait(1) == "the room \"secret\" is not entered");
    CHECK(eventually([&] { return (*net).members("room").size() == 1; }));
    net.kill();
    net.start();
    CHECK(eventually([&] { return (*net).members("room").size() == 1; }));
    c.leave("room");
    CHECK(eventually([&] { return (*net).members("room").empty(); }));
    auto again = c.async_join("room", asio::use_future);
    REQUIRE(again.wait_for(patience) == std::future_status::ready);
    CHECK_NOTHROW(again.get());
    CHECK(eventually([&] { return (*net).members("room").size() == 1; }));
}

TEST_CASE("a server that goes without a word is noticed by the silence, and come back to") {
    std::atomic<int> came{0};
    arke::test::raw_server net{[&](arke::test::raw_peer& p) {
        const auto head = p.read_head();
        if (head.empty()) return;
        ++came;
        p.send(arke::test::raw_peer::welcome(head));
        p.wait_for_end();  // no pong
    }};
    auto settings = back_soon(loop_kind::automatic);
    settings.pong_timeout = 100ms;
    settings.ping_period = 40ms;
    arke::client c{net.url(), settings};
    journal heard;
    c.on_error([&](const error_report& e) { heard.add(e.code == errc::pong_timeout ? "silent" : e.code.message()); });
    c.on_disconnect([&](close_code code, std::string_view, bool again) {
        heard.add(std::to_string(static_cast<int>(code)) + (again ? " again" : ""));
    });
    c.start();
    CHECK(heard.wait(4).starts_with("silent 1006 again silent 1006 again"));
    CHECK(came >= 2);
}
