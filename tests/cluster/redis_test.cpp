#include <arke/cluster/redis.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/redis_scene.hpp"

namespace asio = boost::asio;
using namespace arke::test;
using arke::redis_backplane;
using arke::redis_config;
using namespace std::chrono_literals;

TEST_CASE("redis: what one server publishes reaches all that are subscribed, and itself, in order") {
    const auto redis = broker::redis();
    redis_scene s;
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
    redis_scene s;
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
    redis_scene s;
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
    redis_scene s;
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
    redis_scene s;
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

TEST_CASE("redis: FLUSHALL takes nothing away") {
    const auto redis = broker::redis();
    redis_scene s;
    auto& a = s.member(redis.url(), {"c"});
    CHECK(asked(redis, "FLUSHALL") == "+OK");
    s.publish(a, "c", "here");
    REQUIRE(s.until([&] { return a.messages.size() == 1; }));
    CHECK(a.reasons.empty());
    CHECK(asked(redis, "DBSIZE") == ":0");
}

TEST_CASE("redis: what was published before close() is handed on") {
    const auto redis = broker::redis();
    redis_scene s;
    auto& a = s.member(redis.url(), {});
    auto& b = s.member(redis.url(), {"c"});
    for (int i = 0; i != 100; ++i) s.publish(a, "c", "bye");
    a.plane.close();
    a.is_closed = true;
    REQUIRE(s.until([&] { return b.messages.size() == 100; }));
}

TEST_CASE("redis: subscribing and publishing within a call is heard") {
    const auto redis = broker::redis();
    redis_scene s;
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

TEST_CASE("redis: through a connection of a few bytes at a time everything arrives, in order") {
    const auto redis = broker::redis();
    redis_scene s;
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

TEST_CASE("redis: calls without a broker cost no memory that stays") {
    redis_scene stage;
    auto& a = stage.join_at("redis://127.0.0.1:1");
    a.subscribe({"news"});
    const auto before = bytes_held();
    for (int i = 0; i != 10'000; ++i) a.subscribe({}, {});
    CHECK(bytes_held() - before < 1'000);
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
            const memory_shortage shortage{nth};
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

TEST_CASE("redis: without memory for what is published or heard it is counted, or the connection made anew") {
    const auto redis = broker::redis();
    redis_scene s;
    auto& a = s.join({.url = redis.url(), .reconnect_delay = 1ms, .max_reconnect_delay = 1ms});
    std::uint64_t said = 0;
    bool struck = true;
    for (std::size_t nth = 0; struck; ++nth) {
        REQUIRE(s.connects(a));
        {
            const memory_shortage shortage{nth};
            for (int i = 0; i != 100; ++i) static_cast<void>(a.plane.publish("c", "x"));
            struck = shortage.struck();
        }
        said += 100;
        INFO(nth);
        REQUIRE(s.until([&] { return a.plane.counts().published + a.plane.counts().lost == said; }));
    }
    CHECK(a.plane.counts().lost > 0);
    CHECK(a.plane.counts().published > 0);

    // The text of a message is the first thing that asks for memory.
    arke::detail::redis_answers read{1'000};
    read.feed("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$100\r\n" + std::string(100, 'x') + "\r\n");
    bool has_struck = false;
    bool has_thrown = false;
    {
        const memory_shortage shortage{0};
        try {
            read.next();
        } catch (const std::bad_alloc&) {
            has_thrown = true;
        }
        has_struck = shortage.struck();  // never under the thread sanitizer
    }
    CHECK(has_thrown == has_struck);
}

TEST_CASE("redis: a message costs no memory of its own") {
    const auto redis = broker::redis();
    redis_scene s;
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
        const auto before = allocations();
        for (std::size_t i = 0; i != count; ++i) {
            const auto heard = user.heard + 100;
            for (int n = 0; n != 100; ++n) plane.publish("c", payload);
            while (user.heard != heard) s.context.run_one();
        }
        return allocations() - before;
    };
    rounds(10);
    // Of ten thousand messages: a block for each 64 that are not answered yet, and some for each round.
    CHECK(rounds(100) < 2'000);
    plane.close();
}
