// What happens to a cluster when its broker, the way to it, or one of its servers fails. The brokers are real.
#include <arke/arke.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/use_future.hpp>

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

    /// Whether nobody was kept waiting: generous to a loaded machine, and far below any time that somebody waits for a broker.
    bool unhurried() {
        stop();
        return !times_[0].empty() && !times_[1].empty() && during().median < std::max(20.0, 50 * before().median);
    }

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

/// Quick to notice, so that the tests are; and no quicker than a server, or the broker, may stand still where others have this machine too.
/// A question waits for those who are there.
cluster_config quick() { return {.heartbeat_period = 200ms, .node_timeout = 4'000ms, .question_timeout = patience}; }

std::string names_of(const std::vector<node_info>& nodes) {
    std::vector<std::string> names;
    for (const auto& each : nodes) names.push_back(each.name);
    return sorted(std::move(names));
}

/// Who is in a room, as a server of the cluster is told: their ids, then the names of those who have not answered.
std::string members(server& asked, const std::string& room) {
    const auto there = asked.cluster().members(room, boost::asio::use_future).get();
    return sorted(there.ids) + (there.missing.empty() ? "" : ", missing " + names_of(there.missing)) +
           (there.degraded ? ", degraded" : "");
}

/// The servers that answer, in the same way.
std::string nodes(server& asked) {
    const auto there = asked.cluster().nodes(boost::asio::use_future).get();
    return names_of(there.nodes) + (there.missing.empty() ? "" : ", missing " + names_of(there.missing)) +
           (there.degraded ? ", degraded" : "");
}

/// What a server has counted as not told to the others, for whatever reason.
std::uint64_t counted_missing(server& s) {
    const auto m = s.metrics().cluster;
    return m.dropped + m.lost + m.too_big;
}

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
                for (int missed = last_ + 1; missed < number; ++missed) missed_.push_back(missed);
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

    /// Those before the last one that have not come. After join().
    const std::vector<int>& missed() const { return missed_; }

private:
    citizen member_;
    std::vector<int> missed_;
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
                from_.to("count").emit("n", next_.load());
                ++next_;
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

/// What a fault may take away of what is said.
enum class loses {
    nothing,
    what_is_counted,  ///< The broker goes on: whatever it has taken reaches everybody.
    /// And what was under way when it struck. The broker may have taken that, and told who spoke, but not handed it on: nobody can
    /// know. It is what was said, and not heard, until then.
    what_was_under_way,
};

/// Everybody talks while `fails` happens, then `heals`; afterwards all is as before, nobody has heard anything twice, and whoever came or
/// went meanwhile did so for all servers.
void survives(const meeting& at, const char* what, loses allowed, const std::function<void(three_servers&)>& fails,
              const std::function<void(three_servers&)>& heals, bool degrades = true) {
    three_servers city{at, quick()};
    const auto by = at.kind();
    serve_talk(city);
    auto here = city.connect(0, {"count"});
    auto there = city.connect(1, {"count"});
    const auto counts = sorted({here.id(), there.id()});
    std::vector<citizen> stays;
    std::vector<citizen> leaves;
    std::vector<citizen> comes;
    for (const auto i : {0U, 1U, 2U}) {
        stays.push_back(city.connect(i, {"hall"}, "stays" + std::to_string(i)));
        leaves.push_back(city.connect(i, {"hall"}, "leaves" + std::to_string(i)));
    }
    REQUIRE(city.settle());
    for (const auto i : {0U, 1U, 2U}) {
        CHECK(members(city[i], "hall") == "leaves0 leaves1 leaves2 stays0 stays1 stays2");
        CHECK(counted_missing(city[i]) == 0);
    }
    {
        talkers local{city};
        numbers_heard near{std::move(here)};
        numbers_heard far{std::move(there)};
        counting numbers{city[0]};
        CHECK(eventually([&] { return far.count() >= 100; }));
        CHECK(local.talk(100));

        local.next_phase();
        const int heard_before = far.last();
        fails(city);
        // The one that is being said is one of them.
        const int said_by_then = numbers.said() + 1;
        if (degrades) CHECK(eventually([&] { return city[0].metrics().cluster.degraded; }));
        leaves.clear();
        for (const auto i : {0U, 1U, 2U}) comes.push_back(city.connect(i, {"hall"}, "comes" + std::to_string(i)));
        for (const auto i : {0U, 1U, 2U}) CHECK(eventually([&] { return city[i].members("hall").size() == 2; }));
        CHECK(local.talk(200));

        const auto heals_at = clock_type::now();
        heals(city);
        CHECK(all_degraded(city, false));
        CHECK(city.settle());
        const auto healed = std::chrono::duration<double>(clock_type::now() - heals_at).count();
        const int after = numbers.said();
        CHECK(eventually([&] { return far.last() >= after; }));
        CHECK(local.talk(50));
        // No ghosts: everybody who is there, once, whomever one asks.
        for (const auto i : {0U, 1U, 2U}) {
            CHECK(members(city[i], "hall") == "comes0 comes1 comes2 stays0 stays1 stays2");
            CHECK(members(city[i], "count") == counts);
            CHECK(nodes(city[i]) == "server1 server2 server3");
        }
        numbers.stop();
        const int said = numbers.said();
        CHECK(eventually([&] { return far.last() == said - 1 && near.last() == said - 1; }));
        local.print((std::string{name_of(by)} + ", " + what).c_str());
        CHECK(healed < 15);  // the longest pause between two attempts is two seconds; the rest is for a loaded machine
        CHECK(local.all_heard());
        CHECK(local.unhurried());
        CHECK(near.in_order());
        CHECK(near.count() == said);
        CHECK(far.in_order());
        city[0].to("count").emit("over");
        near.join();
        far.join();

        const auto& missed = far.missed();
        const auto under_way = static_cast<std::uint64_t>(
            std::count_if(missed.begin(), missed.end(), [&](int number) { return number < said_by_then; }));
        const auto later = missed.size() - under_way;
        const auto counted = counted_missing(city[0]);
        std::printf(
            "    healed after %.2f s; of %d the other server's member missed %zu; %d were under way when it struck, "
            "of which %llu; counted are %llu\n",
            healed, said, missed.size(), said_by_then - heard_before - 1, static_cast<unsigned long long>(under_way),
            static_cast<unsigned long long>(counted));
        CHECK(missed.size() == static_cast<std::size_t>(said - far.count()));
        CHECK((missed.empty() || missed.front() > heard_before));
        if (allowed == loses::nothing) {
            CHECK(missed.empty());
            CHECK(counted == 0);
        }
        if (allowed == loses::what_is_counted) CHECK(missed.size() <= counted);
        if (allowed == loses::what_was_under_way) CHECK(later <= counted);
    }
    for (std::size_t i = 0; i != 3; ++i) CHECK(city[i].metrics().cluster.nodes == 3);
}

}  // namespace

TEST_CASE("a broker that is killed and started again") {
    survives(
        meeting{real_carrier()}, "broker killed", loses::what_was_under_way, [](auto& city) { city.broker().kill(); },
        [](auto& city) { city.broker().restart(); });
}

TEST_CASE("what a broker has not taken when it is killed is counted one by one, and nothing else is missing") {
    const auto by = real_carrier();
    // Longer than the others take to come back: what is said meanwhile waits for them.
    three_servers city{by, {.heartbeat_period = 200ms, .node_timeout = 10'000ms}};
    auto member = city.connect(1, {"count"});
    REQUIRE(city.settle());
    const auto hears = [&](int from, int to) {
        for (int i = from; i != to; ++i) {
            const auto heard = member.client().receive();
            if (heard != "n;1;" + std::to_string(i)) return heard;
        }
        return std::string{"all"};
    };
    const auto say = [&](int from, int to) {
        for (int i = from; i != to; ++i) city[0].to("count").emit("n", i);
    };
    say(0, 100);
    REQUIRE(hears(0, 100) == "all");
    CHECK(counted_missing(city[0]) == 0);
    // A broker of which nobody knows that it has taken something is taken for one that has not. NATS is asked now and then, for all
    // that went before: the second answer from now on is of a question that was put after all of this.
    for (int answers = 0; answers != 2; ++answers) {
        const auto known = city[0].metrics().cluster.published;
        REQUIRE(eventually([&] { return city[0].metrics().cluster.published > known; }));
    }

    const auto stopped = clock_type::now();
    city.broker().stop();
    say(100, 400);
    // Answered behind what was said: all of it has been handed on to a broker that reads nothing.
    REQUIRE(city[0].cluster().settled(boost::asio::use_future).get());
    CHECK(city[0].metrics().cluster.lost == 0);
    city.broker().kill();
    REQUIRE(all_degraded(city, true));
    const auto down = clock_type::now() - stopped;
    say(400, 700);
    city.broker().restart();
    CHECK(all_degraded(city, false));
    say(700, 800);
    CHECK(hears(400, 800) == "all");

    // A server's own heartbeats count as well: one for each period, and one that was due.
    const auto heartbeats = static_cast<std::uint64_t>(down / 200ms) + 2;
    const auto m = city[0].metrics().cluster;
    std::printf(
        "%s, broker killed: of 300 messages that it had not taken, 300 are missing and %llu counted as lost; at most "
        "%llu were heartbeats\n",
        name_of(by), static_cast<unsigned long long>(m.lost), static_cast<unsigned long long>(heartbeats));
    CHECK(m.lost >= 300);
    CHECK(m.lost <= 300 + heartbeats);
    CHECK(m.dropped == 0);
    CHECK(m.too_big == 0);
}

TEST_CASE("a broker that is stopped for longer than the timeout") {
    survives(
        meeting{real_carrier()}, "broker stopped", loses::what_was_under_way, [](auto& city) { city.broker().stop(); },
        [](auto& city) { city.broker().go_on(); });
}

TEST_CASE("a line to the broker on which nothing passes for longer than any timeout, and then all does again") {
    const meeting at{real_carrier()};
    at.line();
    survives(
        at, "line silent", loses::what_is_counted,
        [&](auto& city) {
            const auto began = clock_type::now();
            at.line().become(bad_line::state::silent);
            // The others see one server less, and it sees nobody.
            CHECK(eventually([&] {
                return city[1].metrics().cluster.nodes == 2 && city[2].metrics().cluster.nodes == 2 &&
                       city[0].metrics().cluster.nodes == 1;
            }));
            CHECK(nodes(city[0]) == "server1, degraded");
            CHECK(members(city[0], "hall") == "leaves0 stays0, degraded");
            for (const auto i : {1U, 2U}) {
                CHECK(nodes(city[i]) == "server2 server3");
                CHECK(members(city[i], "hall") == "leaves1 leaves2 stays1 stays2");
            }
            // The time in which a server is gone, that in which an attempt to connect has failed, and the longest until the next.
            const auto longest = quick().node_timeout + 3'000ms + 2'000ms;
            CHECK(eventually([&] { return clock_type::now() - began > longest; }));
            CHECK(city[0].metrics().cluster.degraded);
        },
        [&](auto&) { at.line().become(bad_line::state::good); });
}

TEST_CASE("a line to the broker that is cut again and again") {
    const meeting at{real_carrier()};
    at.line();
    survives(
        at, "line cut", loses::what_is_counted,
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
        std::uint64_t before = 0;
        const auto look = [&] {
            // What is handed on while it is read may be seen at both places; twice in a row it is not.
            const auto now = city[0].metrics().cluster.waiting_bytes;
            most = std::max(most, std::min(before, now));
            before = now;
        };
        CHECK(eventually([&] {
            for (int i = 0; i != 10; ++i) {
                city[0].to("flood").emit("large", large);
                look();
            }
            const auto m = city[0].metrics().cluster;
            return m.dropped > 1'000 && m.degraded;
        }));
        CHECK(local.talk(200));
        // The bound is looked at by what is said, one message at a time, before the broker's protocol puts its words around it. Beyond
        // it are these words, 64 bytes for each message that waits; one message that is said while others are handed on; and the
        // server's own heartbeats, which go out at a full queue too: one for each period until the timeout, the first, and the
        // hello of the next connection. Of the messages most are the large ones; the others fit only where a large one does not.
        const std::uint64_t bound = settings.max_outgoing_bytes;
        const std::uint64_t messages = bound / large.size() + 2 * large.size() / 50;
        const std::uint64_t heartbeats =
            static_cast<std::uint64_t>(settings.node_timeout / settings.heartbeat_period) + 2;
        const std::uint64_t beyond = messages * 64 + (large.size() + 200) + heartbeats * 256;
        CHECK(most > bound / 2);
        CHECK(most <= bound + beyond);
        at.line().become(bad_line::state::good);
        CHECK(city.settle());
        CHECK(local.talk(50));
        local.print((std::string{name_of(at.kind())} + ", slow line").c_str());
        std::printf("    %llu bytes waited at most, of 262144 and %llu beyond\n", static_cast<unsigned long long>(most),
                    static_cast<unsigned long long>(beyond));
        CHECK(local.all_heard());
        CHECK(local.unhurried());
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

/// Who says something after the broker has dropped its listeners, and before it knows that, says it to nobody.
bool has_noticed(three_servers& city, std::uint64_t connections) {
    return eventually([&] {
        const auto m = city[0].metrics().cluster;
        return m.degraded || m.connections > connections;
    });
}

}  // namespace

TEST_CASE("a broker that drops all connections") {
    survives(
        meeting{carrier::redis}, "connections dropped", loses::what_was_under_way,
        [](auto& city) {
            const auto before = city[0].metrics().cluster.connections;
            // Both in one: nobody comes back in between.
            CHECK(command(city, "CLIENT KILL TYPE normal SKIPME yes\r\nCLIENT KILL TYPE pubsub SKIPME yes")
                      .starts_with(":3"));
            CHECK(has_noticed(city, before));
        },
        [](auto&) {}, false);
}

TEST_CASE("FLUSHALL takes nothing from a cluster") {
    survives(
        meeting{carrier::redis}, "FLUSHALL", loses::nothing,
        [](auto& city) { CHECK(command(city, "FLUSHALL") == "+OK\r\n"); }, [](auto&) {}, false);
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
    s.cluster().on("who", [] { return 4; });
    // It never stops talking, so that it is killed in the midst of it. No faster than the broker hands it on: it is heard until then,
    // and not after.
    std::thread talks{[&] {
        for (int i = 0;; ++i) {
            s.to("count").emit("n", i);
            std::this_thread::sleep_for(200us);  // the load's pace
        }
    }};
    s.run();
}

TEST_CASE("a server that is killed is gone from the others within the stated time, and they go on") {
    const auto by = real_carrier();
    three_servers city{by, quick()};
    for (const auto i : {0, 1, 2}) city[static_cast<std::size_t>(i)].cluster().on("who", [i] { return i + 1; });
    auto member = city.connect(0, {"count"}, "anna");
    auto there = city.connect(1, {"hall"}, "ben");
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
    const auto ask_all = [&](std::size_t asked) {
        return city[asked].cluster().ask<int>("who", 10s, boost::asio::use_future);
    };
    const auto answers = [](const ask_results<int>& results) {
        std::vector<std::string> values;
        for (const auto& each : results.answers) values.push_back(std::to_string(each.value));
        return sorted(std::move(values));
    };
    std::string victim;
    {
        const ended guard{child};
        CHECK(city.settle(4));
        for (int last = -1, i = 0; i != 50; ++i) {
            const auto next = member.client().receive();
            REQUIRE(next.starts_with("n;1;"));
            CHECK(std::stoi(next.substr(4)) > last);
            last = std::stoi(next.substr(4));
        }
        for (const auto& each : city[0].cluster().others()) {
            if (each.name == "victim") victim = each.id;
        }
        REQUIRE_FALSE(victim.empty());
        CHECK(nodes(city[1]) == "server1 server2 server3 victim");
        const auto given = ask_all(0).get();
        CHECK(answers(given) == "2 3 4");
        CHECK(given.missing.empty());
    }
    const auto killed = clock_type::now();
    const auto since_killed = [&] { return std::chrono::duration<double>(clock_type::now() - killed).count(); };
    // Asked while it counts as there: they wait for it as long as that is so, and not for the time that they have.
    auto asked = ask_all(0);
    auto who = city[0].cluster().members("count", boost::asio::use_future);
    auto asked_there = ask_all(2);
    auto who_there = city[2].cluster().members("hall", boost::asio::use_future);
    for (auto* const each : {&who, &who_there}) {
        const auto found = each->get();
        CHECK(sorted(found.ids) == (each == &who ? "anna" : "ben"));
        CHECK(names_of(found.missing) == "victim");
        CHECK_FALSE(found.degraded);
    }
    for (auto* const each : {&asked, &asked_there}) {
        const auto given = each->get();
        CHECK(answers(given) == (each == &asked ? "2 3" : "1 2"));
        REQUIRE(given.missing.size() == 1);
        CHECK(given.missing.front().id == victim);
        CHECK(given.missing.front().why == errc::disconnected);
    }
    const auto answered = since_killed();
    CHECK(city.settle(3));
    const auto took = since_killed();
    std::printf(
        "%s, server killed: who asked was answered after %.2f s, gone from all others after %.2f s (node_timeout 4 s, "
        "heartbeat 0.2 s)\n",
        name_of(by), answered, took);
    // The stated time, and a heartbeat; and three seconds, in which a loaded machine lets every process have its turn.
    CHECK(took < 4 + 0.2 + 3);
    for (const auto i : {0U, 1U, 2U}) {
        CHECK(nodes(city[i]) == "server1 server2 server3");
        CHECK(members(city[i], "count") == "anna");
        CHECK(ask_all(i).get().missing.empty());
        for (const auto& each : city[i].cluster().others()) CHECK(each.id != victim);
    }
    city[1].to("count").emit("over");
    std::string next;
    while ((next = member.client().receive()).starts_with("n;1;")) {
    }
    CHECK(next == "over;0;");
}
