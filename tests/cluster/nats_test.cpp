#include <arke/cluster/nats.hpp>

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/backplane_peer.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/nats_scene.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

std::string refusal_of(const nats_config& config) {
    try {
        const nats_backplane made{config};
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
    return "taken";
}

}  // namespace

TEST_CASE("nats: a message reaches everybody who is subscribed to its channel, and its sender too") {
    const auto server = broker::nats();
    backplane_peer one{nats_backplane{server.url()}}, other{nats_backplane{server.url()}};
    REQUIRE(one.connects());
    REQUIRE(other.connects());
    REQUIRE(one.subscribed_to({"a.room", "another"}));
    REQUIRE(other.subscribed_to({"a.room"}));
    CHECK(one.publish("another", "for one"));
    CHECK(one.publish("a.room", "for both"));
    CHECK(one.publish("nobody", "for none"));
    CHECK(one.until([&] { return one.messages() == texts{"for one", "for both"}; }));
    CHECK(other.until([&] { return other.messages() == texts{"for both"}; }));
    CHECK(one.until([&] { return one->counts().published == 3; }));
    const auto counts = one->counts();
    CHECK(counts.published_bytes == 23);
    CHECK(counts.received == 2);
    CHECK(counts.received_bytes == 15);
    CHECK(counts.lost == 0);
    CHECK(counts.subscriptions == 2);
    CHECK(counts.connections == 1);
    CHECK(counts.round_trips >= 2);
    CHECK(one->waiting() == 0);
}

TEST_CASE("nats: messages of one server keep their order over all channels") {
    const auto server = broker::nats();
    backplane_peer sender{nats_backplane{server.url()}}, receiver{nats_backplane{server.url()}};
    REQUIRE(sender.connects());
    texts channels, expected;
    for (int i = 0; i != 50; ++i) channels.push_back("channel." + std::to_string(i));
    REQUIRE(receiver.subscribed_to(channels));
    for (std::size_t i = 0; i != 20'000; ++i) {
        expected.push_back(std::to_string(i));
        sender->publish(channels[i * 7 % channels.size()], expected.back());
    }
    REQUIRE(receiver.until([&] { return receiver.message_count() >= expected.size(); }));
    CHECK(receiver.messages() == expected);
}

TEST_CASE("nats: subscriptions are said to be in force in the order of their calls, those before the connection too") {
    const auto server = broker::nats();
    backplane_peer sender{nats_backplane{server.url()}}, peer{nats_backplane{server.url()}};
    peer.subscribe({"before"});
    peer.subscribe({});
    REQUIRE(sender.connects());
    REQUIRE(peer.until([&] { return peer.in_force() == 2; }));
    CHECK(peer.transcript().starts_with("connected subscribed("));
    REQUIRE(peer.subscribed_to({"x", "y"}));
    REQUIRE(peer.subscribed_to({"z"}, {"x", "before"}));
    CHECK(peer->counts().subscriptions == 2);
    for (const auto* channel : {"before", "x", "y", "z"}) sender.publish(channel, channel);
    CHECK(peer.until([&] { return peer.messages() == texts{"y", "z"}; }));
    for (int i = 0; i != 200; ++i) peer.subscribe({"some." + std::to_string(i)}, {});
    CHECK(peer.until([&] { return peer.in_force() == 204; }));
}

TEST_CASE("nats: thousands of channels cost no thread") {
    const auto server = broker::nats();
    backplane_peer sender{nats_backplane{server.url()}}, peer{nats_backplane{server.url()}};
    REQUIRE(sender.connects());
    REQUIRE(peer.subscribed_to({"first"}));
    const auto before = thread_count();
    texts channels;
    for (int i = 0; i != 5'000; ++i) channels.push_back("room.number-" + std::to_string(i));
    REQUIRE(peer.subscribed_to(channels));
    CHECK(thread_count() <= before);  // fewer where one of an earlier test has ended
    for (const auto& channel : channels) sender->publish(channel, channel);
    REQUIRE(peer.until([&] { return peer.message_count() == channels.size(); }));
    CHECK(peer.messages() == channels);
    REQUIRE(peer.subscribed_to({}, channels));
    CHECK(peer->counts().subscriptions == 1);
}

TEST_CASE("nats: a payload is any bytes, as many as the server takes") {
    const auto server = broker::nats();
    backplane_peer peer{nats_backplane{server.url()}};
    REQUIRE(peer.subscribed_to({"bytes"}));
    std::string every_byte;
    for (int i = 0; i != 256; ++i) every_byte += static_cast<char>(i);
    const std::string largest(1'048'576, 'x');
    CHECK(peer.publish("bytes", every_byte));
    CHECK(peer.publish("bytes", ""));
    CHECK(peer.publish("bytes", "\r\nPING\r\n-ERR 'no'\r\n"));
    CHECK(peer.publish("bytes", largest));
    CHECK_FALSE(peer.publish("bytes", largest + "x"));
    CHECK(peer.publish("bytes", "last"));
    CHECK(peer.until([&] { return peer.message_count() == 5; }));
    CHECK(peer.messages() == texts{every_byte, "", "\r\nPING\r\n-ERR 'no'\r\n", largest, "last"});
    CHECK(peer.is_connected());
}

TEST_CASE("nats: settings that cannot work are refused with a sentence") {
    CHECK(refusal_of({.url = ""}).find("begin with nats:// or tls://") != std::string::npos);
    CHECK(refusal_of({.url = "http://a"}).find("begin with nats:// or tls://") != std::string::npos);
    CHECK(refusal_of({.url = "nats://"}).find("the host is missing") != std::string::npos);
    CHECK(refusal_of({.url = "nats://a:0"}).find("from 1 to 65535") != std::string::npos);
    CHECK(refusal_of({.url = "nats://a:b:c"}).find("from 1 to 65535") != std::string::npos);
    CHECK(refusal_of({.url = "nats://a,"}).find("begin with nats://") != std::string::npos);
    CHECK(refusal_of({.url = "nats://a/b"}).find("nothing follows") != std::string::npos);
    CHECK(refusal_of({.url = "nats://@a"}).find("nothing stands before the '@'") != std::string::npos);
    CHECK(refusal_of({.url = "nats://me:secret@a b"}).find("secret") == std::string::npos);
    CHECK(refusal_of({.url = "nats://a, tls://u:p%40@[::1]:1 ,nats://t@c"}) == "taken");
    CHECK(refusal_of({.username = "u", .token = "t"}).find("leave one of them empty") != std::string::npos);
    CHECK(refusal_of({.password = "p"}).find("no username") != std::string::npos);
    CHECK(refusal_of({.username = "u", .credentials_file = "f"}).find("leave one of them empty") != std::string::npos);
    CHECK(refusal_of({.tls = {.ca_file = "f", .ca = "t"}}).find("leave one of them empty") != std::string::npos);
    CHECK(refusal_of({.tls = {.key_file = "f"}}).find("both") != std::string::npos);
    CHECK(refusal_of({.connect_timeout = 0ms}).find("longer than nothing") != std::string::npos);
    CHECK(refusal_of({.reconnect_delay = 2s, .max_reconnect_delay = 1s}).find("not longer than") != std::string::npos);
    CHECK_THROWS_AS(backplane_peer{nats_backplane{{.credentials_file = "/no/such"}}}, std::invalid_argument);
    CHECK_THROWS_AS(backplane_peer{nats_backplane{{.tls = {.ca_file = "/no/such"}}}}, std::invalid_argument);
}
