#include <arke/cluster/emitter.hpp>
#include <arke/cluster/nats.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/backplane_peer.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/nats_scene.hpp"
#include "tests/support/raw_server.hpp"

// How a backplane at NATS ends: by close(), by its destructor, and before or after its io_context.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

TEST_CASE("nats: what was published just before close() is handed on, and nothing is told after it") {
    const auto server = broker::nats();
    backplane_peer receiver{nats_backplane{server.url()}};
    REQUIRE(receiver.subscribed_to({"a"}));
    for (std::size_t round = 0; round != 20; ++round) {
        backplane_peer sender{nats_backplane{server.url()}};
        REQUIRE(sender.subscribed_to({"a"}));
        for (int i = 0; i != 100; ++i) sender->publish("a", std::string(1'000, 'x'));
        sender.close();
        REQUIRE(receiver.until([&] { return receiver.message_count() == (round + 1) * 100; }));
        CHECK_FALSE(sender.was_told_after_close());
    }
}

TEST_CASE("nats: it may be closed in every phase, in a moment, and says nothing more") {
    auto server = broker::nats();
    raw_server silent{[](raw_peer& p) { p.wait_for_end(); }};
    raw_server half{[](raw_peer& p) {
        p.send(nats_info);
        p.wait_for_end();
    }};
    const auto closes = [](backplane_peer& peer) {
        const auto began = steady::now();
        peer.close();
        CHECK(milliseconds_since(began) < 5'000);
        peer.close();
        peer.until([] { return false; }, 20ms);
        CHECK_FALSE(peer.was_told_after_close());
    };
    SECTION("before it was started") { nats_backplane{server.url()}.close(); }
    SECTION("at once") {
        for (int i = 0; i != 20; ++i) {
            backplane_peer peer{nats_backplane{server.url()}};
            closes(peer);
        }
    }
    SECTION("connected") {
        backplane_peer peer{nats_backplane{server.url()}};
        REQUIRE(peer.subscribed_to({"a"}));
        for (int i = 0; i != 100; ++i) peer->publish("a", "x");
        closes(peer);
    }
    SECTION("while it waits for a server that says nothing") {
        backplane_peer peer{nats_backplane{quick_nats(nats_url(silent), 300ms)}};
        peer.until([] { return false; }, 30ms);
        closes(peer);
    }
    SECTION("while it waits for a server that has said its name") {
        backplane_peer peer{nats_backplane{quick_nats(nats_url(half), 300ms)}};
        peer.until([] { return false; }, 30ms);
        closes(peer);
    }
    SECTION("between two attempts") {
        server.kill();
        backplane_peer peer{nats_backplane{{.url = server.url(), .reconnect_delay = 1h, .max_reconnect_delay = 1h}}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        closes(peer);
    }
    SECTION("while much waits for a server that is stopped") {
        backplane_peer peer{nats_backplane{server.url()}};
        REQUIRE(peer.connects());
        server.stop();
        for (int i = 0; i != 200; ++i) REQUIRE(peer->publish("a", std::string(100'000, 'x')));
        closes(peer);
    }
    SECTION("while little waits for a server that is stopped") {
        backplane_peer peer{nats_backplane{server.url()}};
        REQUIRE(peer.connects());
        server.stop();
        REQUIRE(peer->publish("a", "x"));
        closes(peer);
    }
    SECTION("after the server has gone") {
        backplane_peer peer{nats_backplane{server.url()}};
        REQUIRE(peer.connects());
        server.kill();
        closes(peer);
    }
}

TEST_CASE("nats: its io_context may be destroyed before it, in every phase") {
    auto server = broker::nats();
    raw_server silent{[](raw_peer& p) { p.wait_for_end(); }};
    const bool closed_before = GENERATE(false, true);
    const auto ends = [&](backplane_peer& peer) {
        if (closed_before) peer.close();
        peer.destroy_context();
        peer.destroy_backplane();
    };
    SECTION("at once") {
        backplane_peer peer{nats_backplane{server.url()}};
        ends(peer);
    }
    SECTION("connected, with something to publish") {
        backplane_peer peer{nats_backplane{server.url()}};
        REQUIRE(peer.subscribed_to({"a"}));
        peer->publish("a", "x");
        ends(peer);
    }
    SECTION("while it connects") {
        backplane_peer peer{nats_backplane{quick_nats(nats_url(silent), 300ms)}};
        peer.until([] { return false; }, 30ms);
        ends(peer);
    }
    SECTION("without a server") {
        server.kill();
        backplane_peer peer{nats_backplane{quick_nats(server.url())}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        ends(peer);
    }
}

TEST_CASE("nats: close() waits for no server, as a loop calls it; destroying it waits for a moment") {
    // It waited on the loop until a server that was stopped had answered, or for 0.2 seconds.
    auto server = broker::nats();
    double shortest = 1'000;
    for (int round = 0; round != 5 && shortest > 50; ++round) {
        backplane_peer peer{nats_backplane{server.url()}};
        REQUIRE(peer.connects());
        server.stop();
        REQUIRE(peer.publish("a", "x"));
        const auto began = steady::now();
        peer.close();
        shortest = std::min(shortest, milliseconds_since(began));
        const auto closed = steady::now();
        peer.destroy_backplane();
        CHECK(milliseconds_since(closed) < 5'000);
        CHECK_FALSE(peer.was_told_after_close());
        server.go_on();
    }
    CHECK(shortest <= 50);
}

TEST_CASE(
    "nats: an emitter in the caller's io_context ends without holding that up, and its threads end by themselves") {
    // They were waited for on the loop, a third of a second where the server was stopped.
    auto server = broker::nats();
    {
        backplane_peer first{nats_backplane{server.url()}};  // nats.c's own threads are there from the first one on
        REQUIRE(first.subscribed_to({"first"}));
    }
    const auto before = thread_count();
    double shortest = 1'000;
    for (int round = 0; round != 5 && shortest > 50; ++round) {
        boost::asio::io_context context;
        std::optional<emitter> out;
        out.emplace(context, nats_backplane{server.url()});
        const auto end = steady::now() + 20s;
        while (out->state().degraded && steady::now() < end) context.run_one_for(10ms);
        REQUIRE_FALSE(out->state().degraded);
        server.stop();
        out->to("red").emit("x");
        context.poll();
        const auto began = steady::now();
        out.reset();
        context.run();  // until nothing of it is left there
        shortest = std::min(shortest, milliseconds_since(began));
        const auto threads_end = steady::now() + 20s;
        while (thread_count() > before && steady::now() < threads_end) std::this_thread::yield();
        CHECK(thread_count() <= before);
        server.go_on();
    }
    CHECK(shortest <= 50);
}
