#include <arke/cluster/redis.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_server.hpp"

namespace asio = boost::asio;
using arke::redis_backplane;
using arke::redis_config;
using arke::test::broker;
using arke::test::raw_peer;
using arke::test::raw_server;
using namespace std::chrono_literals;

namespace {

/// One server of a cluster, as far as a backplane knows one: it writes down what it is told.
class node final : public arke::backplane_user {
public:
    node(asio::io_context& context, redis_config settings) : strand_{asio::make_strand(context)}, plane{settings} {
        plane.start(context, *strand_, *this);
    }

    void received(std::string_view payload) override {
        messages.emplace_back(payload);
        heard();
    }
    void connected() override {
        is_connected = true;
        note("connected");
    }
    void disconnected(std::string_view why) override {
        CHECK(why.size() > 10);
        is_connected = false;
        reasons.emplace_back(why);
        note("disconnected");
    }
    void subscribed(std::uint64_t number) override {
        CHECK(number > in_force);
        in_force = number;
        note("subscribed " + std::to_string(number));
    }

    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed = {}) {
        plane.subscribe(added, removed, ++calls);
    }

    /// Before the io_context that it is of.
    void forget_strand() { strand_.reset(); }

    /// All messages in one.
    std::string text() const {
        std::string all;
        for (const auto& m : messages) all += (all.empty() ? "" : " ") + m;
        return all;
    }

private:
    void note(const std::string& what) {
        diary += (diary.empty() ? "" : ", ") + what;
        heard();
    }
    void heard() {
        CHECK_FALSE(is_closed);
        CHECK(strand_->running_in_this_thread());
        if (on_call) on_call();
    }

    std::optional<arke::cluster_executor> strand_;

public:
    redis_backplane plane;
    std::vector<std::string> messages;
    std::vector<std::string> reasons;
    std::string diary;
    std::uint64_t calls = 0;
    std::uint64_t in_force = 0;
    bool is_connected = false;
    bool is_closed = false;
    std::function<void()> on_call;
};

/// What runs the nodes: until something is so, or for twenty seconds in vain.
struct scene {
    asio::io_context context;
    std::list<node> nodes;

    ~scene() {
        for (auto& each : nodes) each.plane.close();
    }

    node& join(redis_config settings) { return nodes.emplace_back(context, std::move(settings)); }
    node& join_at(const std::string& url) { return join({.url = url}); }

    bool until(const std::function<bool()>& is_so) {
        const auto end = std::chrono::steady_clock::now() + 20s;
        while (!is_so()) {
            if (std::chrono::steady_clock::now() > end) return false;
            context.restart();
            context.run_one_for(20ms);
        }
        return true;
    }
    bool connects(node& n) {
        return until([&] { return n.is_connected; });
    }
    bool subscribes(node& n) {
        return until([&] { return n.in_force == n.calls; });
    }
    /// A node that is connected and subscribed.
    node& member(const std::string& url, const std::vector<std::string>& channels) {
        auto& n = join_at(url);
        n.subscribe(channels);
        REQUIRE(connects(n));
        REQUIRE(subscribes(n));
        return n;
    }
    /// Everything that was published has been heard of.
    bool settles(node& n) {
        return until([&] {
            const auto c = n.plane.counts();
            return c.published + c.lost == published_[&n];
        });
    }
    void publish(node& n, std::string_view channel, std::string_view payload) {
        ++published_[&n];
        CHECK(n.plane.publish(channel, payload));
    }

private:
    std::map<node*, std::uint64_t> published_;
};

/// Asks Redis by a connection of its own, for one line.
std::string asked(const broker& redis, const std::string& command) {
    asio::io_context context;
    asio::ip::tcp::socket s{context};
    s.connect({asio::ip::make_address("127.0.0.1"), redis.port()});
    asio::write(s, asio::buffer(command + "\r\n"));
    std::string line;
    asio::read_until(s, asio::dynamic_buffer(line), "\r\n");
    return line.substr(0, line.find("\r\n"));
}

/// What a setting is refused with.
std::string refusal(const redis_config& settings) {
    try {
        redis_backplane made{settings};
        return "";
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
}

std::vector<std::string> channels(std::size_t count, const std::string& prefix = "room.") {
    std::vector<std::string> all;
    for (std::size_t i = 0; i != count; ++i) all.push_back(prefix + std::to_string(i));
    return all;
}

/// What is read of some bytes that come in pieces of a size.
std::string answers(std::string_view bytes, std::size_t piece, std::size_t most = 100) {
    using kind = arke::detail::redis_answers::kind;
    arke::detail::redis_answers read{most};
    std::string all;
    while (!bytes.empty()) {
        read.feed(bytes.substr(0, piece));
        bytes.remove_prefix(std::min(piece, bytes.size()));
        for (auto next = read.next(); next != kind::none; next = read.next()) {
            switch (next) {
                case kind::none: break;
                case kind::broken: return all + "broken: " + read.text();
                case kind::status: all += "+" + read.text(); break;
                case kind::error: all += "-" + read.text(); break;
                case kind::integer: all += ":" + std::to_string(read.number()); break;
                case kind::message: all += "message " + read.payload(); break;
                case kind::subscribed: all += "subscribed " + std::to_string(read.number()); break;
                case kind::unsubscribed: all += "unsubscribed " + std::to_string(read.number()); break;
            }
            all += ", ";
        }
    }
    return all;
}

bool holds(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

}  // namespace

TEST_CASE("redis: what one server publishes reaches all that are subscribed, and itself, in order") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), {"one", "two"});
    auto& b = s.member(redis.url(), {"two", "three"});

    for (const auto* const channel : {"one", "two", "three", "two", "one"}) {
        s.publish(a, channel, "a:" + std::string{channel});
    }
    REQUIRE(s.until([&] { return a.messages.size() == 4 && b.messages.size() == 3; }));
    CHECK(a.text() == "a:one a:two a:two a:one");
    CHECK(b.text() == "a:two a:three a:two");

    s.publish(b, "one", "b");
    REQUIRE(s.until([&] { return a.messages.size() == 5; }));
    REQUIRE(s.settles(b));
    const auto counts = b.plane.counts();
    CHECK(counts.published == 1);
    CHECK(counts.published_bytes == 1);
    CHECK(counts.received == 3);
    CHECK(counts.received_bytes == 5 + 7 + 5);
    CHECK(counts.lost == 0);
    CHECK(counts.subscriptions == 2);
    CHECK(counts.connections == 1);
    CHECK(b.plane.waiting() == 0);
    CHECK(a.diary == "connected, subscribed 1");
}

TEST_CASE("redis: thousands of messages of one turn keep their order") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), {"c"});
    auto& b = s.member(redis.url(), {"c"});
    for (int i = 0; i != 20'000; ++i) s.publish(a, "c", std::to_string(i));
    CHECK(a.plane.waiting() > 20'000);
    REQUIRE(s.until([&] { return b.messages.size() == 20'000 && a.messages.size() == 20'000; }));
    for (int i = 0; i != 20'000; ++i) REQUIRE(b.messages[static_cast<std::size_t>(i)] == std::to_string(i));
    CHECK(s.settles(a));
}

TEST_CASE(
    "redis: a call of subscribe() is told to be in force when its last channel is, also one that waits for nothing") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.join_at(redis.url());
    a.subscribe({});
    a.subscribe({"x"});
    REQUIRE(s.subscribes(a));
    CHECK(a.diary == "connected, subscribed 2");

    a.subscribe({"y", "z"});
    a.subscribe({});
    a.subscribe({}, {"x", "y"});
    CHECK(a.in_force == 2);  // never from within a call
    REQUIRE(s.subscribes(a));
    a.subscribe({});
    CHECK(a.in_force == 5);
    REQUIRE(s.subscribes(a));
    CHECK(a.plane.counts().subscriptions == 1);
    CHECK(asked(redis, "PUBLISH x 1") == ":0");
    CHECK(asked(redis, "PUBLISH y 1") == ":0");
    CHECK(asked(redis, "PUBLISH z 1") == ":1");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));
    // PING twice, SUBSCRIBE twice, UNSUBSCRIBE.
    CHECK(a.plane.counts().round_trips == 5);
}

TEST_CASE("redis: thousands of channels are subscribed to and left") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), channels(5'000));
    CHECK(a.plane.counts().subscriptions == 5'000);
    for (const auto* const channel : {"room.0", "room.2500", "room.4999"}) s.publish(a, channel, channel);
    REQUIRE(s.until([&] { return a.messages.size() == 3; }));
    a.subscribe({}, channels(4'999));
    REQUIRE(s.subscribes(a));
    CHECK(a.plane.counts().subscriptions == 1);
    for (const auto* const channel : {"room.0", "room.4999"}) s.publish(a, channel, "again");
    REQUIRE(s.settles(a));
    REQUIRE(s.until([&] { return a.messages.size() == 4; }));
    CHECK(a.text() == "room.0 room.2500 room.4999 again");
    CHECK(a.reasons.empty());
}

TEST_CASE("redis: a payload is any bytes, of any size up to the bound") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.join({.url = redis.url(), .max_message_size = 10'000'000});
    a.subscribe({"c"});
    REQUIRE(s.subscribes(a));
    std::string bytes;
    for (int i = 0; i != 1'024; ++i) bytes += static_cast<char>(i);
    std::string large(10'000'000, '\0');
    for (std::size_t i = 0; i < large.size(); i += 7) large[i] = static_cast<char>(i);
    for (const auto& payload : {std::string{}, bytes, std::string{"\r\n$3\r\n"}, large, std::string{"end"}}) {
        s.publish(a, "c", payload);
    }
    REQUIRE(s.until([&] { return a.messages.size() == 5; }));
    CHECK(a.messages[0].empty());
    CHECK(a.messages[1] == bytes);
    CHECK(a.messages[2] == "\r\n$3\r\n");
    CHECK((a.messages[3] == large));
    CHECK(a.messages[4] == "end");
    REQUIRE(s.settles(a));

    CHECK_FALSE(a.plane.publish("c", large + "x"));
    CHECK(a.plane.counts().published == 5);

    // From somebody who has a larger bound.
    auto& b = s.member(redis.url(), {});
    s.publish(b, "c", large + "x");
    REQUIRE(s.until([&] { return !a.reasons.empty(); }));
    CHECK(holds(a.reasons[0], "a message is larger than max_message_size"));
    REQUIRE(s.connects(a));
    CHECK(a.messages.size() == 5);
}

TEST_CASE("redis: a broker that was killed comes back, and with it all subscriptions; nothing comes twice") {
    auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), channels(2'000));
    auto& b = s.member(redis.url(), {"room.1999"});
    s.publish(b, "room.1999", "before");
    REQUIRE(s.until([&] { return a.messages.size() == 1 && b.messages.size() == 1; }));

    redis.kill();
    REQUIRE(s.until([&] { return !a.is_connected && !b.is_connected; }));
    CHECK(a.plane.counts().subscriptions == 0);
    a.subscribe({"new"}, {"room.0"});
    CHECK(a.in_force == 1);

    redis.restart();
    const auto restarted = std::chrono::steady_clock::now();
    REQUIRE(s.connects(a));
    REQUIRE(s.connects(b));
    CHECK(std::chrono::steady_clock::now() - restarted < 5s);
    REQUIRE(s.subscribes(a));
    CHECK(a.plane.counts().subscriptions == 2'000);
    CHECK(a.plane.counts().connections == 2);

    for (const auto* const channel : {"room.1999", "room.0", "new"}) s.publish(b, channel, channel);
    REQUIRE(s.settles(b));
    REQUIRE(s.until([&] { return a.messages.size() == 3 && b.messages.size() == 2; }));
    CHECK(a.text() == "before room.1999 new");
    CHECK(b.text() == "before room.1999");
    CHECK(holds(a.reasons[0], "127.0.0.1:" + std::to_string(redis.port())));
}

TEST_CASE("redis: what was published and not answered when the broker dies is lost, counted, and not sent again") {
    auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), {"c"});
    redis.stop();
    for (int i = 0; i != 100; ++i) s.publish(a, "c", "lost");
    // The kernel takes it.
    REQUIRE(s.until([&] { return a.plane.waiting() == 0; }));
    redis.kill();
    REQUIRE(s.until([&] { return !a.is_connected; }));
    CHECK(a.plane.counts().lost == 100);
    redis.restart();
    REQUIRE(s.connects(a));
    s.publish(a, "c", "new");
    REQUIRE(s.until([&] { return !a.messages.empty(); }));
    REQUIRE(s.settles(a));
    CHECK(a.text() == "new");
    CHECK(a.plane.counts().published == 1);
}

TEST_CASE("redis: without a broker it tries again, says why once, and connects when one comes") {
    auto redis = broker::redis();
    redis.kill();
    scene s;
    auto& a = s.join_at(redis.url());
    a.subscribe({"c"});
    REQUIRE(s.until([&] { return a.reasons.size() == 1; }));
    CHECK(holds(a.reasons[0], "cannot connect to 127.0.0.1:" + std::to_string(redis.port())));
    CHECK(holds(a.reasons[0], "is the server running, and is that its port?"));
    s.context.restart();
    s.context.run_for(500ms);  // some attempts more
    CHECK(a.reasons.size() == 1);
    redis.restart();
    REQUIRE(s.subscribes(a));
    CHECK(a.diary == "disconnected, connected, subscribed 1");
}

TEST_CASE("redis: calls without a broker cost no memory that stays") {
    scene stage;
    auto& a = stage.join_at("redis://127.0.0.1:1");
    a.subscribe({"news"});
    const auto before = arke::test::bytes_held();
    for (int i = 0; i != 10'000; ++i) a.subscribe({}, {});
    CHECK(arke::test::bytes_held() - before < 1'000);
}

TEST_CASE("redis: publishing to a stopped broker never waits, and what waits is counted") {
    auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), {"c"});
    redis.stop();
    const std::string payload(64 * 1024, 'x');
    std::chrono::nanoseconds longest{};
    for (int i = 0; i != 1'000; ++i) {
        const auto began = std::chrono::steady_clock::now();
        s.publish(a, "c", payload);
        s.context.restart();
        s.context.poll();
        longest = std::max(longest, std::chrono::steady_clock::now() - began);
    }
    CHECK(longest < 500ms);
    CHECK(a.plane.waiting() > 32'000'000);
    CHECK(a.is_connected);  // the cluster finds it out
    redis.go_on();
    REQUIRE(s.until([&] { return a.plane.waiting() == 0; }));
    REQUIRE(s.settles(a));
    CHECK(a.plane.counts().published == 1'000);
}

TEST_CASE("redis: reconnect() drops the connections to a stopped broker; new ones are not answered, until it goes on") {
    auto redis = broker::redis();
    scene s;
    auto& a = s.join({.url = redis.url(), .connect_timeout = 300ms});
    a.subscribe({"c"});
    REQUIRE(s.subscribes(a));
    redis.stop();
    a.plane.reconnect();
    CHECK(a.is_connected);  // never from within a call
    a.plane.reconnect();
    REQUIRE(s.until([&] { return a.reasons.size() == 2; }));
    CHECK(holds(a.reasons[0], "are made anew"));
    CHECK(holds(a.reasons[1], "has not answered for 300 ms"));
    CHECK_FALSE(a.is_connected);
    redis.go_on();
    REQUIRE(s.connects(a));
    s.publish(a, "c", "here");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));
}

TEST_CASE("redis: a SUBSCRIBE that is never answered ends the connection") {
    auto redis = broker::redis();
    scene s;
    auto& a = s.join({.url = redis.url(), .connect_timeout = 300ms});
    REQUIRE(s.connects(a));
    redis.stop();
    a.subscribe({"c"});
    REQUIRE(s.until([&] { return !a.reasons.empty(); }));
    CHECK(holds(a.reasons[0], "has not answered for 300 ms"));
    redis.go_on();
    REQUIRE(s.subscribes(a));
}

TEST_CASE("redis: when one of the two connections is killed, both are made anew") {
    const auto* const type = GENERATE("pubsub", "normal");
    const auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), {"c"});
    CHECK(asked(redis, std::string{"CLIENT KILL TYPE "} + type) == ":1");
    REQUIRE(s.until([&] { return !a.is_connected; }));
    CHECK(holds(a.reasons[0], "Redis at 127.0.0.1:"));
    REQUIRE(s.connects(a));
    s.publish(a, "c", "here");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));
    REQUIRE(s.settles(a));
    CHECK(a.diary == "connected, subscribed 1, disconnected, connected");
}

TEST_CASE("redis: FLUSHALL takes nothing away") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), {"c"});
    CHECK(asked(redis, "FLUSHALL") == "+OK");
    s.publish(a, "c", "here");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));
    CHECK(a.reasons.empty());
    CHECK(asked(redis, "DBSIZE") == ":0");
}

TEST_CASE("redis: a password is asked for, a wrong one is refused, and the right one lets us in") {
    const auto redis = broker::redis({"--requirepass", "s@cret:/"});
    const auto at = "127.0.0.1:" + std::to_string(redis.port());
    scene s;
    auto& without = s.join_at(redis.url());
    auto& wrong = s.join_at("redis://:nonsense@" + at);
    auto& right = s.join_at("redis://:s%40cret%3A%2F@" + at);
    auto& apart = s.join({.url = redis.url(), .password = "s@cret:/"});
    REQUIRE(s.connects(right));
    REQUIRE(s.connects(apart));
    REQUIRE(s.until([&] { return !without.reasons.empty() && !wrong.reasons.empty(); }));
    CHECK(without.reasons[0] == "Redis at " + at +
                                    " refuses PING: NOAUTH Authentication required.; give it a password "
                                    "(redis://user:password@host, or redis_config::password)");
    CHECK(wrong.reasons[0] == "Redis at " + at +
                                  " refuses AUTH: WRONGPASS invalid username-password pair or user is "
                                  "disabled.; check user and password");
}

TEST_CASE("redis: a user of its own needs two commands and the channels") {
    const auto redis =
        broker::redis({"--user", "arke", "on", ">secret", "&room.*", "+publish", "+subscribe", "+unsubscribe"});
    const auto at = "arke:secret@127.0.0.1:" + std::to_string(redis.port());
    scene s;
    auto& a = s.member("redis://" + at, {"room.1"});
    s.publish(a, "room.1", "here");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));

    s.publish(a, "elsewhere", "here");
    REQUIRE(s.until([&] { return !a.is_connected; }));
    CHECK(holds(a.reasons[0], "refuses PUBLISH: NOPERM"));
    CHECK(holds(a.reasons[0], "this user needs &* +publish +subscribe +unsubscribe"));
    CHECK(a.plane.counts().lost == 1);
    REQUIRE(s.connects(a));
    a.subscribe({"elsewhere"});
    REQUIRE(s.until([&] { return a.reasons.size() == 2; }));
    CHECK(holds(a.reasons[1], "refuses SUBSCRIBE: NOPERM"));
    a.subscribe({}, {"elsewhere"});
    REQUIRE(s.connects(a));
}

TEST_CASE("redis: the number of a database is selected, and channels are those of all databases") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url() + "/3", {"c"});
    auto& b = s.member(redis.url(), {"c"});
    s.publish(b, "c", "here");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));
    auto& c = s.join_at(redis.url() + "/99");
    REQUIRE(s.until([&] { return !c.reasons.empty(); }));
    CHECK(holds(c.reasons[0], "refuses SELECT: ERR DB index is out of range"));
}

TEST_CASE("redis: a UNIX-domain socket is as good") {
    auto redis = broker::redis();
    scene s;
    auto& a = s.member("redis+unix:" + redis.unix_path(), {"c"});
    s.publish(a, "c", "here");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));
    redis.kill();
    REQUIRE(s.until([&] { return a.reasons.size() >= 2; }));
    CHECK(holds(a.reasons.back(), redis.unix_path()));
    redis.restart();
    REQUIRE(s.connects(a));
}

TEST_CASE("redis: a name that is not known is told") {
    scene s;
    auto& a = s.join_at("redis://no-such-host.invalid");
    REQUIRE(s.until([&] { return !a.reasons.empty(); }));
    CHECK(holds(a.reasons[0], "the address of no-such-host.invalid:6379 is not known"));
}

TEST_CASE("redis: at every split of what it says, the same is read") {
    const std::string good =
        "+OK\r\n-ERR "
        "no\r\n:7\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n"
        "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n";
    const std::string read = "+OK, -ERR no, :7, subscribed 1, message a\r\nb, message , unsubscribed 0, ";
    for (std::size_t piece = 1; piece <= good.size(); ++piece) REQUIRE(answers(good, piece) == read);
    for (std::size_t piece = 1; piece <= good.size(); ++piece)
        REQUIRE(answers(good + "?" + good, piece) == read + "broken: Protocol error, got \"?\" as reply type byte");
    const auto message = [](std::size_t size) {
        return "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$" + std::to_string(size) + "\r\n" + std::string(size, 'x') + "\r\n";
    };
    CHECK(answers(message(100), 7) == "message " + std::string(100, 'x') + ", ");
    CHECK(answers(message(101), 7) == "broken: a message is larger than max_message_size");
    CHECK(answers(message(1), 7, 0) == "broken: it says what it was not asked");
}

TEST_CASE("redis: what answers and is no Redis is told, and never believed") {
    struct row {
        const char* says;
        const char* reason;
    };
    const auto r = GENERATE(values<row>({
        {"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak as a Redis: Protocol error, got \"H\" as reply type byte"},
        {"+PONG\r\n:1\r\n", "it says what it was not asked"},
        {":1\r\n", "it says what it was not asked"},
        {"$4\r\nPONG\r\n", "it says what it was not asked"},
        {"*2147483647\r\n", "it says what it was not asked"},
        {"*3\r\n*3\r\n*3\r\n", "it says what it was not asked"},
        {"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n", "it says what it was not asked"},
        {"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n", "it says what it was not asked"},
        {"*3\r\n$8\r\npmessage\r\n", "it says what it was not asked"},
        {"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", "it says what it was not asked"},
        {"*-1\r\n", "it says what it was not asked"},
        {"$-1\r\n", "it says what it was not asked"},
        {"$-2\r\n", "Bulk string length out of range"},
        {"*x\r\n", "Bad multi-bulk length"},
        {":99999999999999999999999999\r\n", "Bad integer value"},
        {"-ERR max number of clients reached\r\n", "refuses PING: ERR max number of clients reached"},
        {"-LOADING Redis is loading the dataset in memory\r\n", "refuses PING: LOADING Redis is loading"},
        {"-\x1b[31m\xff red\r\n", "refuses PING: ?[31m? red"},
        {"", "has not answered for 200 ms; is it running, and is that its address?"},
        {"+PO", "has not answered for 200 ms"},
        {"$5000000\r\nabc", "has not answered for 200 ms"},
    }));
    INFO(r.says);
    raw_server server{[&](raw_peer& p) {
        p.send(r.says);
        p.wait_for_end();
    }};
    scene s;
    auto& a = s.join({.url = "redis://127.0.0.1:" + std::to_string(server.port()),
                      .connect_timeout = 200ms,
                      .reconnect_delay = 20s,
                      .max_reconnect_delay = 20s});
    a.subscribe({"c"});
    REQUIRE(s.until([&] { return !a.reasons.empty(); }));
    INFO(a.reasons[0]);
    CHECK(holds(a.reasons[0], r.reason));
    CHECK(a.messages.empty());
    CHECK_FALSE(a.is_connected);
    a.plane.close();
}

TEST_CASE("redis: a peer that ends the connection at once, or goes on for ever, is told") {
    struct row {
        std::string first;
        std::string more;
        const char* reason;
    };
    const auto r = GENERATE(values<row>({
        {"", "", "before it was used; is it a Redis, and without TLS?"},
        {"+", std::string(1'000, 'a'), "a line has no end"},
        {"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4000000000\r\n", std::string(60'000, 'a'),
         "a message is larger than max_message_size"},
    }));
    raw_server server{[&](raw_peer& p) {
        p.send(r.first);
        if (r.more.empty()) return;
        boost::system::error_code ec;
        while (!ec) asio::write(p.stream(), asio::buffer(r.more), ec);
    }};
    scene s;
    auto& a = s.join({.url = "redis://127.0.0.1:" + std::to_string(server.port()),
                      .reconnect_delay = 20s,
                      .max_reconnect_delay = 20s,
                      .max_message_size = 3'000'000});
    REQUIRE(s.until([&] { return !a.reasons.empty(); }));
    INFO(a.reasons[0]);
    // The publisher hears it as well, and is told of no messages.
    CHECK((holds(a.reasons[0], r.reason) || holds(a.reasons[0], "it says what it was not asked")));
    a.plane.close();
}

TEST_CASE("redis: nonsense behind a good beginning ends the connection") {
    const auto* const nonsense = GENERATE("+OK\r\n", "hello", ":1\r\n", "-ERR something\r\n", "*1\r\n$1\r\nx\r\n");
    std::atomic<int> connections{0};
    raw_server server{[&](raw_peer& p) {
        ++connections;
        std::string heard;
        while (!holds(heard, "SUBSCRIBE") && !holds(heard, "PUBLISH")) {
            const auto some = p.read_some();
            if (some.empty()) return;
            if (heard.empty()) p.send("+PONG\r\n");
            heard += some;
        }
        if (holds(heard, "SUBSCRIBE")) {
            p.send("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
        } else {
            p.send(nonsense);
        }
        p.wait_for_end();
    }};
    scene s;
    auto& a = s.join({.url = "redis://127.0.0.1:" + std::to_string(server.port()),
                      .reconnect_delay = 20s,
                      .max_reconnect_delay = 20s});
    a.subscribe({"c"});
    REQUIRE(s.subscribes(a));
    CHECK(a.plane.publish("c", "x"));
    if (std::string_view{nonsense} == ":1\r\n") {  // which is none
        REQUIRE(s.until([&] { return a.plane.counts().published == 1; }));
        CHECK(a.is_connected);
    } else {
        REQUIRE(s.until([&] { return !a.is_connected; }));
        CHECK(a.plane.counts().lost == 1);
    }
    CHECK(connections == 2);
    a.plane.close();
}

TEST_CASE("redis: it may be closed in every phase, and then says nothing more and keeps nothing running") {
    auto redis = broker::redis();
    const auto phase = GENERATE(range(0, 40));
    const std::string_view way = GENERATE("closed and run", "closed and destroyed", "destroyed", "destroyed first");
    INFO(phase << " " << way);
    auto context = std::make_unique<asio::io_context>();
    std::optional<node> a{std::in_place, *context, redis_config{.url = redis.url()}};
    a->subscribe(channels(600));
    // Each step of connecting, subscribing, publishing.
    for (int step = 0; step != phase; ++step) {
        context->restart();
        context->run_one_for(50ms);
        if (a->is_connected) a->plane.publish("room.1", std::string(300'000, 'x'));
    }
    if (way == "destroyed first") {
        a->forget_strand();
        a->is_closed = true;
        context.reset();
    } else if (way != "destroyed") {
        a->plane.close();
        a->is_closed = true;
        a->plane.close();
    }
    if (way != "destroyed") {
        CHECK(a->plane.counts().subscriptions == 0);
        CHECK(a->plane.waiting() == 0);
    }
    const auto received = a->plane.counts().received;
    if (way == "closed and run") {
        context->restart();
        context->run_for(10s);
        CHECK(context->stopped());
        CHECK(a->plane.counts().received == received);
        CHECK(asked(redis, "PUBLISH room.1 x") == ":0");
    } else if (way == "destroyed first") {
        a->plane.reconnect();
        a->subscribe({"c"}, {"room.1"});
        a->plane.publish("c", "x");
        CHECK(a->plane.counts().lost > 0);
    }
    a.reset();
    context.reset();
}

TEST_CASE("redis: closed while it waits to try again, or for a broker that does not answer, it keeps nothing running") {
    auto redis = broker::redis();
    const bool is_stopped = GENERATE(true, false);
    is_stopped ? redis.stop() : redis.kill();
    scene s;
    auto& a = s.join({.url = redis.url(), .reconnect_delay = 20s, .max_reconnect_delay = 20s});
    if (!is_stopped) REQUIRE(s.until([&] { return !a.reasons.empty(); }));
    s.context.restart();
    s.context.run_for(20ms);
    a.plane.close();
    a.is_closed = true;
    s.context.restart();
    const auto began = std::chrono::steady_clock::now();
    s.context.run_for(10s);
    CHECK(s.context.stopped());
    CHECK(std::chrono::steady_clock::now() - began < 1s);
}

TEST_CASE("redis: the user may close it in whatever it is told") {
    auto redis = broker::redis();
    const auto call = GENERATE(range(1, 6));
    scene s;
    auto& a = s.join_at(redis.url());
    a.subscribe({"c"});
    int calls = 0;
    a.on_call = [&] {
        if (a.is_connected && a.messages.empty()) a.plane.publish("c", "x");
        if (++calls == 4) redis.kill();
        if (calls != call) return;
        a.plane.close();
        a.is_closed = true;
    };
    REQUIRE(s.until([&] { return a.is_closed; }));
    s.context.restart();
    s.context.run_for(5s);
    CHECK(s.context.stopped());
    CHECK(calls == call);
}

TEST_CASE("redis: what was published before close() is handed on") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), {});
    auto& b = s.member(redis.url(), {"c"});
    for (int i = 0; i != 100; ++i) s.publish(a, "c", "bye");
    a.plane.close();
    a.is_closed = true;
    REQUIRE(s.until([&] { return b.messages.size() == 100; }));
}

TEST_CASE("redis: subscribing and publishing within a call is heard") {
    const auto redis = broker::redis();
    scene s;
    auto& a = s.member(redis.url(), {"c"});
    int left = 100;
    a.on_call = [&] {
        if (left-- > 0) {
            a.subscribe({"c" + std::to_string(left)}, {"c" + std::to_string(left + 1)});
            s.publish(a, "c", "again");
        }
    };
    s.publish(a, "c", "first");
    REQUIRE(s.until([&] { return a.messages.size() == 101; }));
    REQUIRE(s.settles(a));
    REQUIRE(s.subscribes(a));
    CHECK(a.messages.size() == 101);
    CHECK(a.plane.counts().subscriptions == 2);
}

TEST_CASE("redis: settings that cannot work are refused with a sentence") {
    CHECK(refusal({}) == "");
    CHECK(holds(refusal({.url = "rediss://localhost"}), "redis_config::url cannot be used: it asks for TLS"));
    CHECK(holds(refusal({.url = "nats://localhost"}), "it does not begin with redis://"));
    CHECK(holds(refusal({.username = "ada"}), "redis_config::username has no password"));
    CHECK(holds(refusal({.connect_timeout = 0ms}), "redis_config::connect_timeout"));
    CHECK(holds(refusal({.reconnect_delay = 0ms}), "redis_config::reconnect_delay"));
    CHECK(holds(refusal({.reconnect_delay = 3s}), "max_reconnect_delay not below it"));
    CHECK(holds(refusal({.max_message_size = 0}), "redis_config::max_message_size"));
    CHECK_THROWS_AS(redis_backplane{"redis://"}, std::invalid_argument);
}

TEST_CASE("redis: through a connection of a few bytes at a time everything arrives, in order") {
    const auto redis = broker::redis();
    scene s;
    // Between a node and its broker: a kilobyte each way, and then others have their turn.
    using tcp = asio::ip::tcp;
    struct pipe {
        tcp::socket from;
        tcp::socket to;
    };
    std::array<char, 1'024> bytes{};
    std::list<pipe> pipes;
    std::function<void(tcp::socket&, tcp::socket&)> carry = [&](tcp::socket& from, tcp::socket& to) {
        from.async_wait(tcp::socket::wait_read, [&](const boost::system::error_code& ec) {
            boost::system::error_code end = ec;
            const auto size = end ? 0 : from.read_some(asio::buffer(bytes), end);
            if (end) return;
            asio::write(to, asio::buffer(bytes.data(), size), end);
            if (!end) carry(from, to);
        });
    };
    tcp::acceptor acceptor{s.context, {asio::ip::make_address("127.0.0.1"), 0}};
    acceptor.set_option(asio::socket_base::receive_buffer_size{4'096});
    std::function<void()> accept = [&] {
        acceptor.async_accept([&](const boost::system::error_code& ec, tcp::socket peer) {
            if (ec) return;
            auto& p = pipes.emplace_back(pipe{std::move(peer), tcp::socket{s.context}});
            p.to.connect({asio::ip::make_address("127.0.0.1"), redis.port()});
            carry(p.from, p.to);
            carry(p.to, p.from);
            accept();
        });
    };
    accept();

    auto& slow = s.member("redis://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port()), channels(100));
    auto& other = s.member(redis.url(), {"room.7"});
    std::size_t most = 0;
    for (int i = 0; i != 300; ++i) {
        s.publish(slow, "room.7", std::to_string(i) + std::string(20'000, ' '));
        most = std::max(most, slow.plane.waiting());
    }
    CHECK(most > 5'000'000);
    REQUIRE(s.until([&] { return other.messages.size() == 300 && slow.messages.size() == 300; }));
    for (std::size_t i = 0; i != 300; ++i) {
        REQUIRE(std::stoul(other.messages[i]) == i);
        REQUIRE(std::stoul(slow.messages[i]) == i);
    }
    REQUIRE(s.settles(slow));
    CHECK(slow.plane.waiting() == 0);
    CHECK(slow.reasons.empty());
    // What carries is destroyed before what it carries between.
    for (auto& each : s.nodes) each.plane.close();
    acceptor.close();
    pipes.clear();
    s.context.restart();
    s.context.run_for(5s);
}

TEST_CASE("redis: an io_context of several threads runs it, and any thread looks at its counts") {
    const auto redis = broker::redis();
    struct member final : arke::backplane_user {
        std::atomic<int> heard{0};
        std::atomic<std::uint64_t> in_force{0};
        void received(std::string_view) override { ++heard; }
        void connected() override {}
        void disconnected(std::string_view) override {}
        void subscribed(std::uint64_t number) override { in_force = number; }
    };
    asio::io_context context;
    auto work = asio::make_work_guard(context);
    std::array<member, 2> users;
    std::vector<std::unique_ptr<redis_backplane>> planes;
    std::vector<arke::cluster_executor> strands;
    for (auto& user : users) {
        strands.push_back(asio::make_strand(context));
        planes.push_back(std::make_unique<redis_backplane>(redis.url()));
        planes.back()->start(context, strands.back(), user);
        planes.back()->subscribe({"c"}, {}, 1);
    }
    std::vector<std::thread> threads;
    for (int i = 0; i != 3; ++i) threads.emplace_back([&] { context.run(); });
    const auto until = [](const auto& is_so) {
        const auto end = std::chrono::steady_clock::now() + 20s;
        while (!is_so() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
        return is_so();
    };
    CHECK(until([&] { return users[0].in_force == 1 && users[1].in_force == 1; }));
    for (int i = 0; i != 500; ++i) {
        for (std::size_t n = 0; n != 2; ++n) asio::post(strands[n], [&, n] { planes[n]->publish("c", "x"); });
    }
    const auto sum = [&](auto what) { return planes[0]->counts().*what + planes[1]->counts().*what; };
    CHECK(until([&] {
        return users[0].heard == 1'000 && users[1].heard == 1'000 && sum(&arke::backplane_counts::published) == 1'000 &&
               planes[0]->waiting() + planes[1]->waiting() == 0;
    }));
    CHECK(sum(&arke::backplane_counts::received) == 2'000);
    for (std::size_t n = 0; n != 2; ++n) asio::post(strands[n], [&, n] { planes[n]->close(); });
    work.reset();
    for (auto& t : threads) t.join();
    strands.clear();
}

TEST_CASE("redis: without memory at any one time it goes on, if need be by new connections") {
    const auto redis = broker::redis();
    struct counting final : arke::backplane_user {
        std::size_t heard = 0;
        std::uint64_t in_force = 0;
        bool is_connected = false;
        void received(std::string_view) override { ++heard; }
        void connected() override { is_connected = true; }
        void disconnected(std::string_view) override { is_connected = false; }
        void subscribed(std::uint64_t number) override { in_force = number; }
    };
    const auto wanted = channels(20);
    bool struck = true;
    std::size_t nth = 0;
    for (; struck && nth != 2'000; ++nth) {
        asio::io_context context;
        counting user;
        redis_backplane plane{
            {.url = redis.url(), .connect_timeout = 500ms, .reconnect_delay = 1ms, .max_reconnect_delay = 1ms}};
        const auto strand = asio::make_strand(context);
        std::uint64_t calls = 0;
        std::uint64_t published = 0;
        const auto until = [&](const auto& is_so) {
            const auto end = std::chrono::steady_clock::now() + 20s;
            while (!is_so() && std::chrono::steady_clock::now() < end) {
                context.restart();
                // What a connector needs, or what the strand does.
                try {
                    context.run_one_for(20ms);
                } catch (const std::bad_alloc&) {
                }
            }
            return is_so();
        };
        bool is_started = false;
        {
            const arke::test::memory_shortage shortage{nth};
            try {
                plane.start(context, strand, user);
                is_started = true;
                plane.subscribe(wanted, {}, ++calls);
                until([&] { return user.in_force == calls || shortage.struck(); });
                if (user.is_connected) {
                    ++published;
                    plane.publish("room.1", "x");
                    until([&] { return user.heard == 1 || shortage.struck(); });
                }
            } catch (const std::bad_alloc&) {
            }
            struck = shortage.struck();
        }
        INFO(nth);
        if (!is_started) continue;
        plane.subscribe(wanted, {}, ++calls);
        REQUIRE(until([&] { return user.is_connected && user.in_force == calls; }));
        CHECK(plane.counts().subscriptions == wanted.size());
        const auto heard = user.heard;
        ++published;
        CHECK(plane.publish("room.2", "y"));
        REQUIRE(until([&] { return user.heard > heard; }));
        REQUIRE(until([&] { return plane.counts().published + plane.counts().lost == published; }));
        plane.close();
    }
    CHECK(nth > 50);
    CHECK_FALSE(struck);
}

TEST_CASE("redis: a message costs no memory of its own") {
    const auto redis = broker::redis();
    scene s;
    struct counting final : arke::backplane_user {
        std::size_t heard = 0;
        bool is_connected = false;
        void received(std::string_view) override { ++heard; }
        void connected() override { is_connected = true; }
        void disconnected(std::string_view) override {}
        void subscribed(std::uint64_t) override {}
    } user;
    redis_backplane plane{redis.url()};
    plane.start(s.context, asio::make_strand(s.context), user);
    plane.subscribe({"c"}, {}, 1);
    REQUIRE(s.until([&] { return user.is_connected; }));
    const std::string payload(1'000, 'x');
    const auto rounds = [&](std::size_t count) {
        const auto before = arke::test::allocations();
        for (std::size_t i = 0; i != count; ++i) {
            const auto heard = user.heard + 100;
            for (int n = 0; n != 100; ++n) plane.publish("c", payload);
            while (user.heard != heard) s.context.run_one();
        }
        return arke::test::allocations() - before;
    };
    rounds(10);
    // Of ten thousand messages: a block for each 64 that are not answered yet, and some for each round.
    CHECK(rounds(100) < 2'000);
    plane.close();
}
