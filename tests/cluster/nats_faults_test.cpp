#include <arke/cluster/nats.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <poll.h>
#include <unistd.h>

#include "tests/support/backplane_peer.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/nats_scene.hpp"
#include "tests/support/raw_server.hpp"
#include "tests/support/sanitizer.hpp"

// Servers of NATS that die, stop, say nonsense or are none, and the way to them.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

namespace {

/// Passes on what comes for a server, a little at a time; what the server says at once. `passed` counts the bytes.
void pass_on_slowly(raw_peer& from, std::uint16_t port, std::atomic<std::size_t>& passed) {
    namespace asio = boost::asio;
    asio::io_context context;
    asio::ip::tcp::socket to{context};
    to.connect({asio::ip::make_address("127.0.0.1"), port});
    // Not less: in a window of one read the kernel sends a tenth as fast at times.
    from.stream().set_option(asio::socket_base::receive_buffer_size{131'072});
    std::string bytes(16'384, ' ');
    boost::system::error_code ec;
    for (auto next = steady::now(); !ec;) {
        const bool is_time = steady::now() >= next;
        pollfd both[2]{{from.stream().native_handle(), static_cast<short>(is_time ? POLLIN : 0), 0},
                       {to.native_handle(), POLLIN, 0}};
        ::poll(both, 2, is_time ? -1 : 5);
        if ((both[0].revents & POLLIN) != 0) {
            const auto size = from.stream().read_some(asio::buffer(bytes), ec);
            if (!ec) asio::write(to, asio::buffer(bytes, size), ec);
            passed += size;
            next = steady::now() + 10ms;
        } else if ((both[0].revents & (POLLHUP | POLLERR)) != 0) {
            return;
        }
        if (!ec && (both[1].revents & POLLIN) != 0) {
            const auto size = to.read_some(asio::buffer(bytes), ec);
            if (!ec) asio::write(from.stream(), asio::buffer(bytes, size), ec);
        }
    }
}

/// Where a server takes the others of its cluster, by its own words: it says so some time after it is ready.
std::string route_of(const broker& server) {
    constexpr std::string_view words = "Listening for route connections on ";
    for (const auto end = steady::now() + 20s; steady::now() < end; std::this_thread::yield()) {
        const auto log = server.log();
        const auto at = log.find(words);
        const auto line_end = log.find('\n', at);
        if (at == std::string::npos || line_end == std::string::npos) continue;
        return "nats://" + log.substr(at + words.size(), line_end - at - words.size());
    }
    return "";
}

}  // namespace

TEST_CASE("nats: after a restart of the server everything is in force again, and nothing comes twice") {
    auto server = broker::nats();
    backplane_peer one{nats_backplane{server.url()}}, other{nats_backplane{server.url()}};
    REQUIRE(one.connects());
    REQUIRE(other.subscribed_to({"a", "b"}));
    REQUIRE(one.publish("a", "before"));
    REQUIRE(other.until([&] { return other.messages() == texts{"before"}; }));
    server.kill();
    REQUIRE(one.disconnects());
    REQUIRE(other.disconnects());
    CHECK(one.why().find("127.0.0.1:" + std::to_string(server.port())) != std::string::npos);
    other.subscribe({"c"}, {"b"});
    CHECK(other.in_force() == 1);
    server.restart();
    REQUIRE(one.connects());
    REQUIRE(other.connects());
    CHECK(other.until([&] { return other.in_force() == 2; }));
    for (const auto* channel : {"a", "b", "c"}) one.publish(channel, channel);
    CHECK(other.until([&] { return other.message_count() == 3; }));
    CHECK(other.messages() == texts{"before", "a", "c"});
    CHECK(one->counts().connections == 2);
}

TEST_CASE("nats: what was published to a server that dies is lost or was taken, and is never sent again") {
    auto server = broker::nats();
    backplane_peer peer{nats_backplane{server.url()}};
    REQUIRE(peer.subscribed_to({"a"}));
    server.stop();
    for (int i = 0; i != 1'000; ++i) REQUIRE(peer.publish("a", std::to_string(i) + std::string(1'000, ' ')));
    server.kill();
    REQUIRE(peer.disconnects());
    CHECK(peer.publish("a", "said to nobody"));
    const auto counts = peer->counts();
    CHECK(counts.published + counts.lost == 1'001);
    CHECK(peer->waiting() == 0);
    server.restart();
    REQUIRE(peer.connects());
    REQUIRE(peer.publish("a", "new"));
    REQUIRE(peer.until([&] { return !peer.messages().empty() && peer.messages().back() == "new"; }));
    auto came = peer.messages();
    CHECK(std::count(came.begin(), came.end(), "said to nobody") == 0);
    std::sort(came.begin(), came.end());
    CHECK(std::adjacent_find(came.begin(), came.end()) == came.end());
}

TEST_CASE("nats: publishing to a server that is stopped never waits, and a new connection is made when it goes on") {
    auto server = broker::nats();
    backplane_peer peer{nats_backplane{server.url()}};
    REQUIRE(peer.subscribed_to({"a"}));
    server.stop();
    const std::string payload(65'536, 'x');
    double longest = 0;
    for (int i = 0; i != 1'024; ++i) {
        const auto began = steady::now();
        REQUIRE(peer->publish("a", payload));
        longest = std::max(longest, milliseconds_since(began));
    }
    CAPTURE(longest);
    CHECK(longest < 5'000);  // one that waits does so until the server goes on
    CHECK(peer->waiting() > 40'000'000);
    const auto began = steady::now();
    peer->reconnect();
    CHECK(milliseconds_since(began) < 5'000);
    REQUIRE(peer.disconnects());
    CHECK(peer->waiting() == 0);
    CHECK(peer->counts().lost == 1'024);
    // It accepts, and says nothing.
    REQUIRE(peer.until([&] { return peer.why().find("has not let us in") != std::string::npos; }));
    server.go_on();
    REQUIRE(peer.connects());
    REQUIRE(peer.publish("a", "new"));
    CHECK(peer.until([&] { return !peer.messages().empty() && peer.messages().back() == "new"; }));
}

TEST_CASE("nats: a server that does not answer is given up without being told to") {
    auto server = broker::nats();
    nats_config config{.url = server.url(), .connect_timeout = 10s, .answer_timeout = 300ms};
    backplane_peer peer{nats_backplane{config}};
    REQUIRE(peer.connects());
    server.stop();
    REQUIRE(peer.disconnects());
    CHECK(peer.why() == "NATS has not answered for 300 ms");
    server.go_on();
    CHECK(peer.connects());
}

TEST_CASE("nats: without a server it is told why, and connects when one comes") {
    auto server = broker::nats();
    server.kill();
    const auto began = steady::now();
    backplane_peer peer{nats_backplane{quick_nats(server.url())}};
    CHECK(milliseconds_since(began) < 5'000);
    peer.subscribe({"a"});
    REQUIRE(peer.until([&] { return !peer.why().empty(); }));
    CHECK(peer.why() == "no NATS server accepts connections at 127.0.0.1:" + std::to_string(server.port()));
    server.restart();
    REQUIRE(peer.connects());
    CHECK(peer.until([&] { return peer.in_force() == 1; }));
    backplane_peer unknown{nats_backplane{quick_nats("nats://no-such-host.invalid")}};
    REQUIRE(unknown.until([&] { return !unknown.why().empty(); }));
    CHECK(unknown.why() == "no NATS server accepts connections at no-such-host.invalid:4222");
}

TEST_CASE("nats: one of several servers is enough") {
    const auto server = broker::nats();
    auto dead = broker::nats();
    dead.kill();
    backplane_peer peer{nats_backplane{quick_nats(dead.url() + ", " + server.url() + "," + dead.url())}};
    CHECK(peer.connects());
}

TEST_CASE("nats: the servers of a cluster name each other, and one that dies is replaced") {
    auto first = broker::nats({"--cluster", "nats://127.0.0.1:-1", "--cluster_name", "c"});
    const auto route = route_of(first);
    const auto second = broker::nats({"--cluster", "nats://127.0.0.1:-1", "--cluster_name", "c", "--routes", route});
    backplane_peer other{nats_backplane{second.url()}};
    // What the first greets with names the second: a moment after their connection is there.
    REQUIRE(other.until([&] {
        return raw_client{first.port()}.read_until("\r\n").find(":" + std::to_string(second.port())) !=
               std::string::npos;
    }));
    REQUIRE(other.subscribed_to({"a"}));
    backplane_peer peer{nats_backplane{quick_nats(first.url())}};
    REQUIRE(peer.subscribed_to({"b"}));
    first.kill();
    REQUIRE(peer.disconnects());
    REQUIRE(peer.connects());
    REQUIRE(other.publish("b", "found"));
    CHECK(peer.until([&] { return peer.messages() == texts{"found"}; }));
}

TEST_CASE("nats: when the user could not hear a message, the connection is made anew") {
    const auto server = broker::nats();
    std::atomic<bool> has_memory{false};
    backplane_peer peer{nats_backplane{quick_nats(server.url())}};
    REQUIRE(peer.subscribed_to({"a"}));
    peer.on_received([&] {
        if (!has_memory.exchange(true)) throw std::bad_alloc{};
    });
    REQUIRE(peer.publish("a", "missed"));
    REQUIRE(peer.disconnects());
    REQUIRE(peer.connects());
    REQUIRE(peer.publish("a", "heard"));
    CHECK(peer.until([&] { return peer.messages() == texts{"heard"}; }));
}

TEST_CASE("nats: when messages were dropped because this process took none, the connection is made anew") {
    const auto server = broker::nats();
    std::mutex busy;
    backplane_peer sender{nats_backplane{server.url()}}, receiver{nats_backplane{quick_nats(server.url())}};
    REQUIRE(sender.connects());
    REQUIRE(receiver.subscribed_to({"a"}));
    receiver.on_received([&] { const std::lock_guard wait{busy}; });
    const auto is_lost = [&] { return receiver.transcript().find("disconnected") != std::string::npos; };
    // Whether enough had come before it took messages again, nobody can see from here.
    for (int round = 0; round != 20 && !is_lost(); ++round) {
        {
            const std::lock_guard is_busy{busy};
            const auto before = sender->counts().published;
            for (int i = 0; i != 200'000; ++i) static_cast<void>(sender->publish("a", "x"));
            REQUIRE(sender.until([&] { return sender->counts().published == before + 200'000; }));
        }
        receiver.until(is_lost, 1s);
    }
    REQUIRE(is_lost());
    CHECK(receiver.why().find("were dropped") != std::string::npos);
    CHECK(receiver.connects());
}

TEST_CASE("nats: what a server takes no more by the time that it comes to it is lost, and nothing else") {
    // Alone in its turn it was counted as written: nothing was sent, which nats.c took for the end of the connection.
    raw_server server{[](raw_peer& p) {
        p.send(nats_info);
        std::string said;
        for (auto more = p.read_some(); !more.empty(); more = p.read_some()) {
            said += more;
            for (auto end = said.find("\r\n"); end != std::string::npos; end = said.find("\r\n")) {
                const auto line = said.substr(0, end);
                said.erase(0, end + 2);
                if (line == "PING") p.send("PONG\r\n");
                if (!line.starts_with("PUB tell ")) continue;
                p.send(R"(INFO {"server_id":"x","version":"2.9.0","proto":1,"max_payload":10})"
                       "\r\nMSG told 1 2\r\nok\r\n");
            }
        }
    }};
    backplane_peer peer{nats_backplane{quick_nats(nats_url(server))}};
    REQUIRE(peer.subscribed_to({"told"}));
    REQUIRE(peer.publish("tell", "x"));
    REQUIRE(peer.until([&] { return peer.messages() == texts{"ok"}; }));
    CHECK(peer.publish("a", "larger than ten bytes"));
    CHECK(peer.until([&] { return peer->counts().lost == 1; }));
    CHECK(peer.publish("a", "smaller"));
    CHECK(peer.until([&] { return peer->counts().published == 2; }));
    CAPTURE(peer.why());
    CHECK(peer->counts().lost == 1);
    CHECK(peer->waiting() == 0);
    CHECK(peer.is_connected());
}

TEST_CASE("nats: a slow connection is no broken one: what waits is counted, and all of it arrives") {
    const auto broker = broker::nats();
    std::atomic<std::size_t> passed{0};
    raw_server proxy{[&](raw_peer& p) { pass_on_slowly(p, broker.port(), passed); }};
    backplane_peer receiver{nats_backplane{broker.url()}};
    REQUIRE(receiver.subscribed_to({"a"}));
    nats_config config{.url = nats_url(proxy)};
    backplane_peer sender{nats_backplane{config}};
    REQUIRE(sender.connects());
    const std::string payload(10'000, 'x');
    double longest = 0;
    for (std::size_t i = 0; i != 1'000; ++i) {
        const auto began = steady::now();
        REQUIRE(sender->publish("a", payload));
        longest = std::max(longest, milliseconds_since(began));
    }
    CHECK(longest < 5'000);  // one that waits does so until the server goes on
    CHECK(sender->waiting() > 2'000'000);
    const bool all_came = receiver.until([&] { return receiver.message_count() == 1'000; }, 60s);
    CAPTURE(passed.load(), receiver.message_count(), sender->waiting(), sender.transcript(), sender.why());
    CHECK(all_came);
    CHECK(sender.until([&] { return sender->counts().published == 1'000; }));
    CHECK(sender->waiting() == 0);
    CHECK(sender.transcript() == "connected ");
}

TEST_CASE("nats: a peer that is no server of NATS is told, and tried again") {
    std::string why;
    raw_server::script script;
    SECTION("it speaks another protocol") {
        why = "is no NATS server";
        script = [](raw_peer& p) {
            p.send("HTTP/1.1 400 Bad Request\r\n\r\n");
            p.wait_for_end();
        };
    }
    SECTION("it sends whatever comes to its mind") {
        why = "is no NATS server";
        script = [](raw_peer& p) {
            for (int i = 0; i != 100; ++i) p.send(std::string(1'000, static_cast<char>(i)));
            p.wait_for_end();
        };
    }
    SECTION("it says something of NATS that is none") {
        why = "JSON";
        script = [](raw_peer& p) {
            p.send("INFO {\"max_payload\":[]\r\n");
            p.wait_for_end();
        };
    }
    SECTION("it says nothing") {
        why = "has not let us in within 1000 ms";
        script = [](raw_peer& p) { p.wait_for_end(); };
    }
    SECTION("it says its name, and nothing more") {
        // nats.c 3.4 would wait for ever, and take all memory.
        why = "is no NATS server";
        script = [](raw_peer& p) {
            p.send(nats_info);
            p.wait_for_end();
        };
    }
    SECTION("it goes at once") {
        why = "has closed the connection before it let us in";
        script = [](raw_peer&) {};
    }
    SECTION("it goes before it lets us in") {
        why = "is no NATS server";
        script = [](raw_peer& p) {
            p.send(nats_info);
            p.read_some();
        };
    }
    std::atomic<int> attempts{0};
    raw_server server{[&](raw_peer& p) {
        ++attempts;
        script(p);
    }};
    backplane_peer peer{nats_backplane{quick_nats(nats_url(server), 1s)}};
    CHECK(peer.until([&] { return attempts >= 3; }));
    CAPTURE(peer.why());
    // At this attempt, or where the machine was slow for it, at another.
    CHECK(peer.until([&] { return peer.why().find(why) != std::string::npos; }));
    CHECK(peer.transcript().find(" connected") == std::string::npos);
}

TEST_CASE("nats: nonsense behind a good beginning ends the connection") {
    raw_server server{[&](raw_peer& p) {
        p.send(nats_info);
        for (std::string said; said.find("PUB a") == std::string::npos;) {
            const auto more = p.read_some();
            if (more.empty()) return;
            said += more;
            for (auto at = said.find("PING\r\n"); at != std::string::npos; at = said.find("PING\r\n")) {
                said.erase(0, at + 6);
                p.send("PONG\r\n");
            }
        }
        p.send("MSG a\r\n\1\2\3");
        p.wait_for_end();
    }};
    backplane_peer peer{nats_backplane{quick_nats(nats_url(server))}};
    REQUIRE(peer.connects());
    REQUIRE(peer.publish("a", "x"));
    REQUIRE(peer.disconnects());
    CHECK(peer.why().find("has ended the connection") != std::string::npos);
    CHECK(peer->counts().lost == 1);
    CHECK(peer.connects());
}

// A number of a file that is another's meanwhile is a race to it.
#ifndef ARKE_TEST_HAS_THREAD_SANITIZER
TEST_CASE("nats: a server that says only its name is left, also by a program that opens files all the while") {
    // nats.c waits for ever, in a socket whose number is guessed, and looked for where it was another's.
    std::atomic<int> attempts{0};
    raw_server half{[&](raw_peer& p) {
        ++attempts;
        p.send(nats_info);
        p.wait_for_end();
    }};
    std::atomic<bool> is_over{false};
    std::thread opens{[&] {
        std::vector<int> files;
        while (!is_over) {
            files.push_back(::dup(0));
            if (files.size() < 50) continue;
            for (const int each : files) ::close(each);
            files.clear();
        }
        for (const int each : files) ::close(each);
    }};
    {
        backplane_peer peer{nats_backplane{quick_nats(nats_url(half), 200ms)}};
        CHECK(peer.until([&] { return attempts >= 6; }));
        CHECK(peer.until([&] { return peer.why().find("is no NATS server") != std::string::npos; }));
    }
    is_over = true;
    opens.join();
}
#endif
