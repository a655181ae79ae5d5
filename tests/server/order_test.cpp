#include <arke/arke.hpp>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;
using arke::connection;

namespace {

enum class way { one_loop, four_loops, callers_context };

/// A server in one of the ways in which its loops get threads, with connections that have said "ready".
class fixture {
public:
    explicit fixture(way how) {
        const auto loop = GENERATE(from_range(all_loops()));
        // Much is said, and who hears it may be slow: nobody is cut for that before the goodbye behind it.
        auto c = quiet(loop, {.write_timeout = std::chrono::minutes{1},
                              .close_timeout = std::chrono::minutes{1},
                              .max_outbox_bytes = 64U << 20U,
                              .id_generator = [](const arke::request& r) { return r.query("id").value_or(""); }});
        if (how == way::callers_context) {
            context_ = std::make_unique<boost::asio::io_context>();
            server_ = std::make_unique<arke::server>(*context_, c);
        } else {
            server_ = std::make_unique<arke::server>(c);
        }
        server_->on_connection([](connection& one) { one.emit("ready"); });
        server_->listen("127.0.0.1", 0);
        if (how == way::callers_context) {
            for (int i = 0; i != 4; ++i) threads_.emplace_back([this] { context_->run(); });
        } else {
            threads_.emplace_back([this, how] { server_->run(how == way::one_loop ? 1 : 4); });
        }
    }

    ~fixture() {
        server_->stop();
        clients_.clear();
        for (auto& t : threads_) t.join();
    }
    fixture(const fixture&) = delete;
    fixture& operator=(const fixture&) = delete;

    arke::server& server() { return *server_; }

    /// Names them "c0", "c1", ...
    void connect(std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            clients_.push_back(std::make_unique<client>(server_->port(), "/?id=c" + std::to_string(clients_.size())));
            REQUIRE(clients_.back()->receive() == "ready;0;");
        }
    }
    client& operator[](std::size_t i) { return *clients_[i]; }
    std::size_t size() const { return clients_.size(); }

    /// What a client hears up to the event "end", without "name;tag;".
    std::vector<std::string> heard(std::size_t i) {
        std::vector<std::string> all;
        for (;;) {
            const auto text = clients_[i]->receive();
            if (text == "end;0;") return all;
            all.push_back(text.substr(text.rfind(';') + 1));
            if (text == "end" || text == "timeout" || text.starts_with("close(")) return all;
        }
    }

private:
    std::unique_ptr<boost::asio::io_context> context_;
    std::unique_ptr<arke::server> server_;
    std::vector<std::thread> threads_;
    std::vector<std::unique_ptr<client>> clients_;
};

/// Messages are "thread.number". Whether each thread's stand in order, without a gap and none twice, from its first to `count`.
std::string disorder_of(const std::vector<std::string>& heard, int threads, int count) {
    std::map<int, int> next;
    for (const auto& text : heard) {
        const auto dot = text.find('.');
        if (dot == std::string::npos) return "heard " + text;
        const int thread = std::stoi(text.substr(0, dot));
        const int number = std::stoi(text.substr(dot + 1));
        if (next[thread] != number) {
            return "of thread " + std::to_string(thread) + " came " + std::to_string(number) + ", not " +
                   std::to_string(next[thread]);
        }
        ++next[thread];
    }
    for (int t = 0; t != threads; ++t) {
        if (next[t] != count) return "of thread " + std::to_string(t) + " came only " + std::to_string(next[t]);
    }
    return "";
}

void in_threads(int count, const std::function<void(int)>& work) {
    std::vector<std::thread> threads;
    for (int i = 0; i != count; ++i) threads.emplace_back([&work, i] { work(i); });
    for (auto& t : threads) t.join();
}

}  // namespace

TEST_CASE("a join followed by an emit of the same thread reaches the one who joined") {
    fixture net{GENERATE(way::one_loop, way::four_loops, way::callers_context)};
    net.connect(4);
    auto& s = net.server();
    SECTION("from outside") {
        in_threads(4, [&](int t) {
            const auto id = "c" + std::to_string(t);
            for (int i = 0; i != 100; ++i) {
                const auto room = "room" + std::to_string(t);
                s.join(id, room);
                s.to(room).emit("n", std::to_string(t) + "." + std::to_string(i));
                s.leave(id, room);
                s.to(room).emit("n", "nobody");
            }
            s.to(id).emit("end");
        });
        for (std::size_t i = 0; i != 4; ++i) {
            const auto mine = net.heard(i);
            CHECK(mine.size() == 100);
            for (std::size_t n = 0; n != mine.size(); ++n) {
                if (mine[n] != std::to_string(i) + "." + std::to_string(n))
                    FAIL("c" << i << " heard " << mine[n] << " at " << n);
            }
        }
    }
    SECTION("from a handler, of a connection that may live elsewhere") {
        s.on("go", [&](connection& c) {
            for (int i = 0; i != 100; ++i) {
                s.join("c3", "tea");
                c.to("tea").emit("n", "0." + std::to_string(i));
                s.leave("c3", "tea");
                c.to("tea").emit("n", "nobody");
            }
            c.to("c3").emit("end");
        });
        net[0].emit("go");
        CHECK(disorder_of(net.heard(3), 1, 100) == "");
    }
    SECTION("of a handler about itself") {
        s.on("go", [](connection& c) {
            for (int i = 0; i != 100; ++i) {
                c.join("tea");
                c.to("tea").emit("n", "0." + std::to_string(i));
                c.leave("tea");
                c.to("tea").emit("n", "nobody");
            }
            c.emit("end");
        });
        net[0].emit("go");
        CHECK(disorder_of(net.heard(0), 1, 100) == "");
    }
}

TEST_CASE("each receiver hears the emits of eight threads in each thread's order, exactly once") {
    fixture net{GENERATE(way::one_loop, way::four_loops, way::callers_context)};
    net.connect(6);
    auto& s = net.server();
    for (int i = 0; i != 6; ++i) {
        REQUIRE(s.join("c" + std::to_string(i), "tea"));
        if (i % 2 == 0) REQUIRE(s.join("c" + std::to_string(i), "cake"));
    }
    constexpr int count = 120;
    in_threads(8, [&](int t) {
        std::vector<arke::connection_handle> handles;
        for (int i = 0; i != 6; ++i) handles.push_back(s.find("c" + std::to_string(i)));
        for (int i = 0; i != count; ++i) {
            const auto text = std::to_string(t) + "." + std::to_string(i);
            // One message in turn by each way of naming the same six.
            switch (i % 5) {
                case 0: s.to(arke::all).emit("n", text); break;
                case 1: s.to("tea").emit("n", text); break;
                case 2: s.to("tea", "cake").emit("n", text); break;
                case 3:
                    for (const auto& h : handles) h.emit("n", text);
                    break;
                default: s.to("c0", "c1", "c2", "c3", "c4", "c5", "cake").emit("n", text); break;
            }
        }
    });
    s.to(arke::all).emit("end");
    for (std::size_t i = 0; i != 6; ++i) CHECK(disorder_of(net.heard(i), 8, count) == "");
}

TEST_CASE(
    "each receiver hears the beginning of what each of eight threads emits, in order, while it and the server close") {
    fixture net{GENERATE(way::one_loop, way::four_loops, way::callers_context)};
    constexpr int receivers = 6;
    net.connect(receivers);
    auto& s = net.server();
    for (int i = 0; i != receivers; ++i) REQUIRE(s.join("c" + std::to_string(i), "tea"));
    std::atomic<bool> done{false};
    std::atomic<int> said{0};
    std::vector<std::thread> speakers;
    for (int t = 0; t != 8; ++t) {
        speakers.emplace_back([&, t] {
            std::vector<arke::connection_handle> handles;
            for (int i = 0; i != receivers; ++i) handles.push_back(s.find("c" + std::to_string(i)));
            // Each message once to each of the six, by each way of naming them. Bounded, for those who read slowly.
            for (int i = 0; i != 2'000 && !done; ++i) {
                const auto text = std::to_string(t) + "." + std::to_string(i);
                switch (i % 3) {
                    case 0: s.to(arke::all).emit("n", text); break;
                    case 1: s.to("tea").emit("n", text); break;
                    default:
                        for (const auto& h : handles) h.emit("n", text);
                        break;
                }
                ++said;
            }
        });
    }
    std::vector<std::vector<std::string>> all(receivers);
    std::vector<std::thread> readers;
    for (std::size_t i = 0; i != receivers; ++i) {
        if (i != 1) readers.emplace_back([&, i] { all[i] = net.heard(i); });
    }
    // Three are closed one after another, from here or by themselves, and the server stops under the others.
    for (int i = 0; i != 3; ++i) {
        const auto before = said.load();
        CHECK(eventually([&] { return said > before + 50 || said == 16'000; }));
        if (i == 1)
            net[1].drop();
        else
            s.disconnect("c" + std::to_string(i), arke::close_code{4000}, "enough");
    }
    const auto before = said.load();
    CHECK(eventually([&] { return said > before + 50 || said == 16'000; }));
    s.stop(std::chrono::minutes{1});
    for (auto& t : readers) t.join();
    done = true;
    for (auto& t : speakers) t.join();
    for (std::size_t i = 0; i != receivers; ++i) {
        if (i == 1) continue;
        auto& heard = all[i];
        REQUIRE_FALSE(heard.empty());
        const auto end = heard.back();
        heard.pop_back();
        CHECK(end == (i == 0 || i == 2 ? "close(4000 enough)" : "close(1001 the server stops)"));
        // disorder_of() finds gaps, repetitions and strangers; how far each thread came is its own.
        CHECK(disorder_of(heard, 0, 0) == "");
        CHECK_FALSE(heard.empty());
    }
}

TEST_CASE("except, not_me and members of two rooms are right on every loop") {
    fixture net{GENERATE(way::one_loop, way::four_loops, way::callers_context)};
    net.connect(8);
    auto& s = net.server();
    // c0-c5 in tea, c3-c7 in cake, c4 in quiet.
    for (int i = 0; i != 8; ++i) {
        const auto id = "c" + std::to_string(i);
        if (i <= 5) s.join(id, "tea");
        if (i >= 3) s.join(id, "cake");
    }
    s.join("c4", "quiet");
    s.on("go", [](connection& c) {
        c.to("tea", "cake").emit("n", "both");
        c.to("tea", "cake").except("quiet").emit("n", "loud");
        c.to("tea", arke::not_me).emit("n", "tea not me");
        c.to(arke::not_me).except("tea").emit("n", "not tea");
        c.to(arke::all).except("c1", arke::id{"c7"}).emit("n", "all but two");
        c.to("tea", "c0", "c0", arke::all).emit("n", "once");
        c.to(arke::broadcast).emit("n", "broadcast");
        c.to(arke::all).emit("end");
    });
    net[0].emit("go");
    std::vector<std::string> all;
    for (std::size_t i = 0; i != 8; ++i) {
        std::string line;
        for (const auto& text : net.heard(i)) line += (line.empty() ? "" : ",") + text;
        all.push_back(line);
    }
    CHECK(all == std::vector<std::string>{
                     "both,loud,all but two,once",
                     "both,loud,tea not me,once,broadcast",
                     "both,loud,tea not me,all but two,once,broadcast",
                     "both,loud,tea not me,all but two,once,broadcast",
                     "both,tea not me,all but two,once,broadcast",
                     "both,loud,tea not me,all but two,once,broadcast",
                     "both,loud,not tea,all but two,once,broadcast",
                     "both,loud,not tea,once,broadcast",
                 });
}

TEST_CASE("handlers on several loops emit to one room, and each receiver hears each sender in order") {
    fixture net{GENERATE(way::one_loop, way::four_loops, way::callers_context)};
    auto& s = net.server();
    s.on("say", [](connection& c, std::string text) { c.to("tea").emit("n", text); });
    s.on("end", [](connection& c) { c.to("tea").emit("n", "end of " + c.id()); });
    net.connect(4);
    for (int i = 0; i != 4; ++i) s.join("c" + std::to_string(i), "tea");
    constexpr int count = 150;
    in_threads(4, [&](int t) {
        for (int i = 0; i != count; ++i)
            net[static_cast<std::size_t>(t)].emit("say", std::to_string(t) + "." + std::to_string(i));
        net[static_cast<std::size_t>(t)].emit("end");
    });
    for (std::size_t i = 0; i != 4; ++i) {
        std::vector<std::string> all;
        for (int ends = 0; ends != 4;) {
            const auto text = net[i].receive();
            if (text == "timeout" || text == "end") break;
            if (text.find("end of") != std::string::npos)
                ++ends;
            else
                all.push_back(text.substr(text.rfind(';') + 1));
        }
        CHECK(disorder_of(all, 4, count) == "");
    }
}

TEST_CASE("those who stay hear everything while others join, leave and disconnect at random") {
    std::atomic<int> gone{0};
    fixture net{GENERATE(way::one_loop, way::four_loops, way::callers_context)};
    auto& s = net.server();
    s.on_disconnect([&](connection& c) {
        ++gone;
        c.to("tea").emit("left");
    });
    s.on_leave([](connection& c) { c.to("cake").emit("noise"); });
    net.connect(3);
    for (int i = 0; i != 3; ++i) s.join("c" + std::to_string(i), "tea");
    constexpr int count = 150;
    std::atomic<bool> done{false};
    std::atomic<int> visitors{0};
    // Visitors come and go by themselves, or are thrown out.
    std::vector<std::thread> restless;
    for (int t = 0; t != 2; ++t) {
        restless.emplace_back([&, t] {
            std::minstd_rand random{static_cast<unsigned>(t + 1)};
            do {
                client one{s.port(), "/?id=v" + std::to_string(t) + "-" + std::to_string(++visitors)};
                if (random() % 2 == 0) one.receive();
                if (random() % 3 == 0)
                    one.close();
                else if (random() % 2 == 0)
                    one.drop();
                else
                    one.emit("x");
            } while (!done);
        });
    }
    restless.emplace_back([&] {
        std::minstd_rand random{7};
        do {
            for (const auto& h : s.connections()) {
                if (!h.id().starts_with("v")) continue;
                switch (random() % 6) {
                    case 0: h.disconnect(); break;
                    case 1: h.leave("tea"); break;
                    case 2: h.join("cake"); break;
                    default: h.join("tea"); break;
                }
            }
            static_cast<void>(s.members("tea"));
            static_cast<void>(s.rooms());
        } while (!done);
    });
    in_threads(8, [&](int t) {
        for (int i = 0; i != count; ++i) {
            const auto text = std::to_string(t) + "." + std::to_string(i);
            if (i % 2 == 0)
                s.to("tea").emit("n", text);
            else
                s.to("tea", "cake").except("nobody").emit("n", text);
        }
    });
    done = true;
    for (auto& t : restless) t.join();
    s.to("c0", "c1", "c2").emit("end");
    for (std::size_t i = 0; i != 3; ++i) {
        auto all = net.heard(i);
        std::erase(all, std::string{});  // the goodbyes of the visitors
        CHECK(disorder_of(all, 8, count) == "");
    }
    CHECK(eventually([&] { return s.size() == 3; }));
    CHECK(eventually([&] { return s.members("tea").size() == 3; }));
    CHECK(eventually([&] { return s.rooms() == std::vector<std::string>{"tea"}; }));
}
