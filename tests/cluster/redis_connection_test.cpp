#include <arke/cluster/redis.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_server.hpp"
#include "tests/support/redis_scene.hpp"

namespace asio = boost::asio;
using namespace arke::test;
using arke::redis_backplane;
using arke::redis_config;
using namespace std::chrono_literals;

namespace {

/// What a setting is refused with.
std::string refusal(const redis_config& settings) {
    try {
        redis_backplane made{settings};
        return "";
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
}

}  // namespace

TEST_CASE("redis: a broker that was killed comes back, and with it all subscriptions; nothing comes twice") {
    auto redis = broker::redis();
    redis_scene s;
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
    CHECK(std::chrono::steady_clock::now() - restarted < 15s);  // no pause is longer than two
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
    redis_scene s;
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
    redis_scene s;
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

TEST_CASE("redis: publishing to a stopped broker never waits, and what waits is counted") {
    auto redis = broker::redis();
    redis_scene s;
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
    CHECK(longest < 5s);  // one that waits does so until the server goes on
    CHECK(a.plane.waiting() > 32'000'000);
    CHECK(a.is_connected);  // the cluster finds it out
    redis.go_on();
    REQUIRE(s.until([&] { return a.plane.waiting() == 0; }));
    REQUIRE(s.settles(a));
    CHECK(a.plane.counts().published == 1'000);
}

TEST_CASE("redis: reconnect() drops the connections to a stopped broker; new ones are not answered, until it goes on") {
    auto redis = broker::redis();
    redis_scene s;
    auto& a = s.join({.url = redis.url(), .connect_timeout = 3s});
    a.subscribe({"c"});
    REQUIRE(s.subscribes(a));
    redis.stop();
    a.plane.reconnect();
    CHECK(a.is_connected);  // never from within a call
    a.plane.reconnect();
    REQUIRE(s.until([&] { return a.reasons.size() == 2; }));
    CHECK(holds(a.reasons[0], "are made anew"));
    CHECK(holds(a.reasons[1], "has not answered for 3000 ms"));
    CHECK_FALSE(a.is_connected);
    redis.go_on();
    REQUIRE(s.connects(a));
    s.publish(a, "c", "here");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));
}

TEST_CASE("redis: a SUBSCRIBE that is never answered ends the connection") {
    auto redis = broker::redis();
    redis_scene s;
    auto& a = s.join({.url = redis.url(), .connect_timeout = 1s});
    REQUIRE(s.connects(a));
    redis.stop();
    a.subscribe({"c"});
    REQUIRE(s.until([&] { return !a.reasons.empty(); }));
    CHECK(holds(a.reasons[0], "has not answered for 1000 ms"));
    redis.go_on();
    REQUIRE(s.subscribes(a));
}

TEST_CASE("redis: when one of the two connections is killed, both are made anew") {
    const auto* const type = GENERATE("pubsub", "normal");
    const auto redis = broker::redis();
    redis_scene s;
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

TEST_CASE("redis: a password is asked for, a wrong one is refused, and the right one lets us in") {
    const auto redis = broker::redis({"--requirepass", "s@cret:/"});
    const auto at = "127.0.0.1:" + std::to_string(redis.port());
    redis_scene s;
    // What they are told first is the refusal, however long that takes.
    auto& without = s.join({.url = redis.url(), .connect_timeout = 20s});
    auto& wrong = s.join({.url = "redis://:nonsense@" + at, .connect_timeout = 20s});
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
    redis_scene s;
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
    redis_scene s;
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
    redis_scene s;
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
    redis_scene s;
    auto& a = s.join_at("redis://no-such-host.invalid");
    REQUIRE(s.until([&] { return !a.reasons.empty(); }));
    CHECK(holds(a.reasons[0], "the address of no-such-host.invalid:6379 is not known"));
}

TEST_CASE("redis: it may be closed in every phase, and then says nothing more and keeps nothing running") {
    auto redis = broker::redis();
    const auto phase = GENERATE(range(0, 40));
    const std::string_view way = GENERATE("closed and run", "closed and destroyed", "destroyed", "destroyed first");
    INFO(phase << " " << way);
    auto context = std::make_unique<asio::io_context>();
    std::optional<redis_node> a{std::in_place, *context, redis_config{.url = redis.url()}};
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
        // Once Redis has come to the end of what it was told.
        const auto end = std::chrono::steady_clock::now() + 20s;
        auto reached = asked(redis, "PUBLISH room.1 x");
        while (reached != ":0" && std::chrono::steady_clock::now() < end) reached = asked(redis, "PUBLISH room.1 x");
        CHECK(reached == ":0");
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
    redis_scene s;
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
    CHECK(std::chrono::steady_clock::now() - began < 5s);  // far less than it would wait
}

TEST_CASE("redis: the user may close it in whatever it is told") {
    auto redis = broker::redis();
    const auto call = GENERATE(range(1, 6));
    redis_scene s;
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

namespace {

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

}  // namespace

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
    // Before all of it has come: nobody makes it keep more than that.
    CHECK(answers(message(200'000).substr(0, 120'000), 16'384) == "broken: a message is larger than max_message_size");
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
        {"", "has not answered for 1000 ms; is it running, and is that its address?"},
        {"+PO", "has not answered for 1000 ms"},
        {"$5000000\r\nabc", "has not answered for 1000 ms"},
    }));
    INFO(r.says);
    raw_server server{[&](raw_peer& p) {
        p.send(r.says);
        p.wait_for_end();
    }};
    redis_scene s;
    auto& a = s.join({.url = "redis://127.0.0.1:" + std::to_string(server.port()),
                      .connect_timeout = 1s,
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
    redis_scene s;
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
    redis_scene s;
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
