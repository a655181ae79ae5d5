// What happens to a cluster when its broker, the way to it, or one of its servers fails. The brokers are real.
#include <arke/arke.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/cluster.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

using clock_type = std::chrono::steady_clock;

/// Two on one server who talk all the while: nobody may keep them waiting.
class talkers {
public:
    explicit talkers(three_servers& city) {
        listener_.emplace(city.connect(0, {"local"}));
        speaker_.emplace(city.connect(0));
        thread_ = std::thread{[this] { run(); }};
    }
    ~talkers() { stop(); }
    talkers(const talkers&) = delete;
    talkers& operator=(const talkers&) = delete;

    /// From now on times are of another phase.
    void next_phase() { during_ = true; }

    /// Waits until there are so many more words; false when they do not come.
    bool talk(int words) {
        const int until = said_ + words;
        return eventually([&] { return said_ >= until; });
    }

    void stop() {
        stopping_ = true;
        if (thread_.joinable()) thread_.join();
    }

    struct figures {
        double median;
        double most;
        std::size_t count;
    };
    figures before() { return of(times_[0]); }
    figures during() { return of(times_[1]); }
    bool all_heard() const { return all_heard_; }

    void print(const char* what) {
        stop();
        const auto b = before();
        const auto d = during();
        std::printf(
            "%s: local latency before %.2f ms median, %.2f most (%zu); during %.2f ms median, %.2f most (%zu)\n", what,
            b.median, b.most, b.count, d.median, d.most, d.count);
    }

private:
    void run() {
        for (int i = 0; !stopping_; ++i) {
            const auto began = clock_type::now();
            const auto word = "w" + std::to_string(i);
            // By the server, to the room: to everybody in it on all servers.
            if (!speaker_->client().emit("say", word) || listener_->client().receive() != "said;0;" + word) {
                all_heard_ = false;
                return;
            }
            times_[during_ ? 1 : 0].push_back(
                std::chrono::duration<double, std::milli>(clock_type::now() - began).count());
            ++said_;
            std::this_thread::sleep_for(1ms);  // the load's pace
        }
    }
    static figures of(std::vector<double> times) {
        if (times.empty()) return {};
        std::sort(times.begin(), times.end());
        return {times[times.size() / 2], times.back(), times.size()};
    }

    std::optional<citizen> listener_;
    std::optional<citizen> speaker_;
    std::vector<double> times_[2];
    std::atomic<bool> during_{false};
    std::atomic<bool> stopping_{false};
    std::atomic<bool> all_heard_{true};
    std::atomic<int> said_{0};
    std::thread thread_;
};

carrier real_carrier() {
    const auto c = GENERATE(from_range(real_carriers()));
    CAPTURE(name_of(c));
    return c;
}

/// Quick to notice, so that the tests are.
cluster_config quick() { return {.heartbeat_period = 200ms, .node_timeout = 1'000ms}; }

/// Numbers that a member hears: each at most once and in order.
class numbers_heard {
public:
    explicit numbers_heard(citizen member) : member_{std::move(member)} {
        thread_ = std::thread{[this] {
            for (;;) {
                const auto next = member_.client().receive();
                if (!next.starts_with("n;1;")) {
                    if (next == "timeout") continue;
                    return;
                }
                const int number = std::stoi(next.substr(4));
                if (number <= last_) in_order_ = false;
                last_ = number;
                ++count_;
            }
        }};
    }
    /// By an event that ends it: city.to(all).emit("over").
    ~numbers_heard() {
        if (thread_.joinable()) thread_.join();
    }
    void join() { thread_.join(); }

    int last() const { return last_; }
    int count() const { return count_; }
    bool in_order() const { return in_order_; }

private:
    citizen member_;
    std::atomic<int> last_{-1};
    std::atomic<int> count_{0};
    std::atomic<bool> in_order_{true};
    std::thread thread_;
};

/// Says numbers in a room from the first server, while something fails.
class counting {
public:
    explicit counting(server& from) : from_{from} {
        thread_ = std::thread{[this] {
            while (!stopping_) {
                from_.to("count").emit("n", next_.fetch_add(1));
                std::this_thread::sleep_for(200us);  // the load's pace
            }
        }};
    }
    ~counting() { stop(); }
    void stop() {
        stopping_ = true;
        if (thread_.joinable()) thread_.join();
    }
    int said() const { return next_; }

private:
    server& from_;
    std::atomic<int> next_{0};
    std::atomic<bool> stopping_{false};
    std::thread thread_;
};

void serve_talk(three_servers& city) {
    city[0].on("say", [](connection& c, const std::string& word) { c.to("local").emit("said", word); });
}

bool all_degraded(three_servers& city, bool degraded) {
    return eventually([&] {
        for (std::size_t i = 0; i != 3; ++i) {
            if (city[i].metrics().cluster.degraded != degraded) return false;
        }
        return true;
    });
}

/// Everybody talks while `fails` happens, then `heals`; afterwards all is as before, and nobody has heard anything twice.
void survives(const meeting& at, const char* what, const std::function<void(three_servers&)>& fails,
              const std::function<void(three_servers&)>& heals, bool degrades = true) {
    three_servers city{at, quick()};
    const auto by = at.kind();
    serve_talk(city);
    auto here = city.connect(0, {"count"});
    auto there = city.connect(1, {"count"});
    REQUIRE(city.settle());
    {
        talkers local{city};
        numbers_heard near{std::move(here)};
        numbers_heard far{std::move(there)};
        counting numbers{city[0]};
        CHECK(eventually([&] { return far.count() >= 100; }));
        CHECK(local.talk(100));

        local.next_phase();
        fails(city);
        if (degrades) CHECK(eventually([&] { return city[0].metrics().cluster.degraded; }));
        CHECK(local.talk(200));

        const auto heals_at = clock_type::now();
        heals(city);
        CHECK(all_degraded(city, false));
        CHECK(city.settle());
        const auto healed = std::chrono::duration<double>(clock_type::now() - heals_at).count();
        const int after = numbers.said();
        CHECK(eventually([&] { return far.last() >= after; }));
        CHECK(local.talk(50));
        numbers.stop();
        const int said = numbers.said();
        CHECK(eventually([&] { return far.last() == said - 1 && near.last() == said - 1; }));
        local.print((std::string{name_of(by)} + ", " + what).c_str());
        std::printf("    healed after %.2f s; of %d the other server's member heard %d\n", healed, said, far.count());
        CHECK(healed < 5);
        CHECK(local.all_heard());
        CHECK(near.in_order());
        CHECK(near.count() == said);
        CHECK(far.in_order());
        city[0].to("count").emit("over");
        near.join();
        far.join();
        // Who spoke knows what the others may have missed, but for what the broker had taken and not handed on when it was killed.
        const auto m = city[0].metrics().cluster;
        CHECK(static_cast<std::uint64_t>(said - far.count()) <= m.dropped + m.lost + m.too_big + 20);
    }
    // No ghosts: everybody who is there once.
    for (std::size_t i = 0; i != 3; ++i) CHECK(city[i].metrics().cluster.nodes == 3);
}

}  // namespace

TEST_CASE("a broker that is killed and started again") {
    survives(
        meeting{real_carrier()}, "broker killed", [](auto& city) { city.broker().kill(); },
        [](auto& city) { city.broker().restart(); });
}

TEST_CASE("a broker that is stopped for longer than the timeout") {
    survives(
        meeting{real_carrier()}, "broker stopped", [](auto& city) { city.broker().stop(); },
        [](auto& city) { city.broker().go_on(); });
}

TEST_CASE("a line to the broker on which nothing passes for longer than the timeout, and then all does again") {
    const meeting at{real_carrier()};
    at.line();
    survives(
        at, "line silent",
        [&](auto& city) {
            at.line().become(bad_line::state::silent);
            // The others see one server less, and it sees nobody.
            CHECK(eventually([&] {
                return city[1].metrics().cluster.nodes == 2 && city[2].metrics().cluster.nodes == 2 &&
                       city[0].metrics().cluster.nodes == 1;
            }));
        },
        [&](auto&) { at.line().become(bad_line::state::good); });
}

TEST_CASE("a line to the broker that is cut again and again") {
    const meeting at{real_carrier()};
    at.line();
    survives(
        at, "line cut",
        [&](auto& city) {
            for (std::uint64_t i = 0; i != 5; ++i) {
                const auto before = city[0].metrics().cluster.connections;
                at.line().cut();
                CHECK(eventually([&] { return city[0].metrics().cluster.connections > before; }));
            }
        },
        [](auto&) {}, false);
}

TEST_CASE(
    "a line of a kilobyte a second: what waits is bounded, what does not fit is counted, and nobody here notices") {
    const meeting at{real_carrier()};
    at.line();
    auto settings = quick();
    settings.max_outgoing_bytes = 256 * 1024;
    three_servers city{at, settings};
    serve_talk(city);
    auto far = city.connect(1, {"flood"});
    REQUIRE(city.settle());
    {
        talkers local{city};
        CHECK(local.talk(100));
        local.next_phase();
        at.line().become(bad_line::state::slow);
        const std::string large(2'000, 'x');
        std::uint64_t most = 0;
        CHECK(eventually([&] {
            for (int i = 0; i != 10; ++i) city[0].to("flood").emit("large", large);
            const auto m = city[0].metrics().cluster;
            most = std::max(most, m.waiting_bytes);
            return m.dropped > 1'000 && m.degraded;
        }));
        CHECK(local.talk(200));
        CHECK(most <= 256 * 1024 + 64 * 1024);
        at.line().become(bad_line::state::good);
        CHECK(city.settle());
        CHECK(local.talk(50));
        local.print((std::string{name_of(at.kind())} + ", slow line").c_str());
        std::printf("    %llu bytes waited at most, of 262144\n", static_cast<unsigned long long>(most));
        CHECK(local.all_heard());
    }
    city[0].to("flood").emit("over");
    std::string next;
    while ((next = far.client().receive()).starts_with("large;")) {
    }
    CHECK(next == "over;0;");
}

#ifdef ARKE_TESTS_REDIS
namespace {

/// A command to the broker beside those of the servers; what it answers.
std::string command(three_servers& city, const std::string& words) {
    raw_client c{city.broker().port()};
    c.send(words + "\r\n");
    return c.read_until("\r\n");
}

}  // namespace

TEST_CASE("a broker that drops all connections") {
    survives(
        meeting{carrier::redis}, "connections dropped",
        [](auto& city) {
            CHECK(command(city, "CLIENT KILL TYPE pubsub SKIPME yes").starts_with(":3"));
            CHECK(command(city, "CLIENT KILL TYPE normal SKIPME yes").starts_with(":"));
        },
        [](auto&) {}, false);
}

TEST_CASE("FLUSHALL takes nothing from a cluster") {
    survives(
        meeting{carrier::redis}, "FLUSHALL", [](auto& city) { CHECK(command(city, "FLUSHALL") == "+OK\r\n"); },
        [](auto&) {}, false);
}

TEST_CASE("garbage, other versions and strangers' words in the channels are passed over") {
    three_servers city{carrier::redis};
    auto member = city.connect(1, {"hall"});
    REQUIRE(city.settle());
    CHECK(command(city, "PUBLISH arke.nodes garbage") == ":3\r\n");
    CHECK(command(city, "PUBLISH arke.room.=2F.hall {event:x}") == ":1\r\n");
    CHECK(command(city, "PUBLISH arke.all.=2F \"\\xae\\x09newer\"") == ":3\r\n");
    REQUIRE(eventually([&] { return city[1].metrics().cluster.malformed == 2; }));
    REQUIRE(eventually([&] { return city[2].metrics().cluster.newer == 1; }));
    city.end();
    CHECK(member.heard(3).empty());
}
#endif

TEST_CASE("a server for another test", "[.node]") {
    // Runs until it is killed.
    const auto* url = std::getenv("ARKE_TESTS_BROKER");
    if (url == nullptr) return;  // nobody has started it for that
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    arke::server s{quiet(loop_kind::automatic)};
    const cluster_config settings = [] {
        auto c = quick();
        c.name = "victim";
        return c;
    }();
#ifdef ARKE_TESTS_REDIS
    if (std::string_view{url}.starts_with("redis")) s.cluster(redis_backplane{url}, settings);
#endif
#ifdef ARKE_TESTS_NATS
    if (std::string_view{url}.starts_with("nats")) s.cluster(nats_backplane{url}, settings);
#endif
    // It never stops talking, so that it is killed in the midst of it.
    std::thread talks{[&] {
        for (int i = 0;; ++i) s.to("count").emit("n", i);
    }};
    s.run();
}

TEST_CASE("a server that is killed is gone from the others within the stated time, and they go on") {
    const auto by = real_carrier();
    three_servers city{by, quick()};
    auto member = city.connect(0, {"count"});
    const auto url = city.broker().url();
    ::setenv("ARKE_TESTS_BROKER", url.c_str(), 1);
    const auto self = std::filesystem::read_symlink("/proc/self/exe").string();
    const auto child = ::fork();
    if (child == 0) {
        ::close_range(3, ~0U, 0);
        ::execl(self.c_str(), self.c_str(), "[.node]", nullptr);
        ::_exit(127);
    }
    REQUIRE(child > 0);
    struct ended {
        pid_t pid;
        ~ended() {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    };
    {
        const ended guard{child};
        CHECK(city.settle(4));
        for (int last = -1, i = 0; i != 50; ++i) {
            const auto next = member.client().receive();
            REQUIRE(next.starts_with("n;1;"));
            CHECK(std::stoi(next.substr(4)) > last);
            last = std::stoi(next.substr(4));
        }
    }
    const auto killed = clock_type::now();
    CHECK(city.settle(3));
    const auto took = std::chrono::duration<double>(clock_type::now() - killed).count();
    std::printf("%s, server killed: gone from the others after %.2f s (node_timeout 1 s, heartbeat 0.2 s)\n",
                name_of(by), took);
    CHECK(took < 5);
    city[1].to("count").emit("over");
    std::string next;
    while ((next = member.client().receive()).starts_with("n;1;")) {
    }
    CHECK(next == "over;0;");
}
