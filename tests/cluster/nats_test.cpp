#include <arke/cluster/emitter.hpp>
#include <arke/cluster/nats.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/backplane_peer.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/raw_server.hpp"

#ifdef ARKE_CLUSTER_TESTS_TLS
#include "tests/support/certificates.hpp"
#endif

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

namespace {

using texts = std::vector<std::string>;

double milliseconds_since(steady::time_point began) {
    return std::chrono::duration<double, std::milli>(steady::now() - began).count();
}

std::size_t thread_count() {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{"/proc/self/task"}, {}));
}

std::string url_of(const raw_server& server) { return "nats://127.0.0.1:" + std::to_string(server.port()); }

constexpr std::string_view info =
    R"(INFO {"server_id":"x","version":"2.9.0","proto":1,"max_payload":1048576,"headers":true})"
    "\r\n";

/// Short times, for what is tried again and again.
nats_config quick(std::string url, std::chrono::milliseconds connect_timeout = 5s) {
    return {.url = std::move(url),
            .connect_timeout = connect_timeout,
            .reconnect_delay = 10ms,
            .max_reconnect_delay = 50ms};
}

/// A file with that text, for as long as the test.
class text_file {
public:
    explicit text_file(std::string_view text) {
        path_ = (std::filesystem::temp_directory_path() / "arke-nats-XXXXXX").string();
        const int file = ::mkstemp(path_.data());
        const auto written = ::write(file, text.data(), text.size());
        ::close(file);
        REQUIRE(written == static_cast<ssize_t>(text.size()));
    }
    text_file(const text_file&) = delete;
    text_file& operator=(const text_file&) = delete;
    ~text_file() { std::filesystem::remove(path_); }

    const std::string& path() const { return path_; }

private:
    std::string path_;
};

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
    CHECK(longest < 1'000);  // one that waits does so until the server goes on
    CHECK(peer->waiting() > 40'000'000);
    const auto began = steady::now();
    peer->reconnect();
    CHECK(milliseconds_since(began) < 1'000);
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
    nats_config config{.url = server.url(), .connect_timeout = 500ms, .answer_timeout = 300ms};
    backplane_peer peer{nats_backplane{config}};
    REQUIRE(peer.connects());
    server.stop();
    REQUIRE(peer.disconnects());
    CHECK(peer.why() == "NATS has not answered for 300 ms");
    server.go_on();
    CHECK(peer.connects());
}

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

TEST_CASE("nats: user and password, or a token, let us in, and a wrong one is told") {
    const std::string password = "p@ss:\"wo\\rd, %/\t\x1B";
    const auto by_password = broker::nats({"--user", "me", "--pass", password});
    const auto by_token = broker::nats({"--auth", "t:k\"n"});
    const auto at = [](const broker& b) { return "127.0.0.1:" + std::to_string(b.port()); };

    auto config = quick(by_password.url());
    config.username = "me";
    config.password = password;
    CHECK(backplane_peer{nats_backplane{config}}.connects());
    CHECK(backplane_peer{nats_backplane{"nats://me:p%40ss:%22wo%5Crd%2C %25%2F%09%1B@" + at(by_password)}}.connects());
    config.password = "another";
    backplane_peer wrong{nats_backplane{config}};
    REQUIRE(wrong.until([&] { return !wrong.why().empty(); }));
    CHECK(wrong.why() ==
          "NATS at " + at(by_password) + " refuses the user, password, token or credentials: Authorization Violation");
    CHECK(wrong.why().find("another") == std::string::npos);
    CHECK(wrong.transcript().find("connected ") == 3);  // of "disconnected"

    CHECK(backplane_peer{nats_backplane{"nats://t%3Ak%22n@" + at(by_token)}}.connects());
    CHECK(backplane_peer{nats_backplane{{.url = by_token.url(), .token = "t:k\"n"}}}.connects());
    backplane_peer nobody{nats_backplane{quick(by_token.url())}};
    REQUIRE(nobody.until([&] { return !nobody.why().empty(); }));
    CHECK(nobody.why().find("Authorization Violation") != std::string::npos);
}

TEST_CASE("nats: what the server does not permit is told") {
    const text_file config{R"(authorization { users = [ { user: u, password: p, permissions: {
        publish: ["ok.>", "also"], subscribe: "ok.>" } } ] })"};
    const auto server = broker::nats({"-c", config.path()});
    const auto url = "nats://u:p@127.0.0.1:" + std::to_string(server.port());
    backplane_peer peer{nats_backplane{quick(url)}};
    REQUIRE(peer.subscribed_to({"ok.a"}));
    REQUIRE(peer.publish("ok.a", "x"));
    REQUIRE(peer.until([&] { return peer.message_count() == 1; }));
    SECTION("to publish") {
        REQUIRE(peer.publish("no", "x"));
        REQUIRE(peer.disconnects());
        CHECK(peer.why() == "NATS says: Permissions Violation for Publish to \"no\"");
    }
    SECTION("to subscribe") {
        peer.subscribe({"also"});
        REQUIRE(
            peer.until([&] { return peer.why().starts_with("NATS says: Permissions Violation for Subscription"); }));
        CHECK(peer.why().find("also") != std::string::npos);
    }
    // And it comes back.
    peer.subscribe({}, {"also"});
    CHECK(peer.connects());
}

TEST_CASE("nats: without a server it is told why, and connects when one comes") {
    auto server = broker::nats();
    server.kill();
    const auto began = steady::now();
    backplane_peer peer{nats_backplane{quick(server.url())}};
    CHECK(milliseconds_since(began) < 1'000);
    peer.subscribe({"a"});
    REQUIRE(peer.until([&] { return !peer.why().empty(); }));
    CHECK(peer.why() == "no NATS server accepts connections at 127.0.0.1:" + std::to_string(server.port()));
    server.restart();
    REQUIRE(peer.connects());
    CHECK(peer.until([&] { return peer.in_force() == 1; }));
    backplane_peer unknown{nats_backplane{quick("nats://no-such-host.invalid")}};
    REQUIRE(unknown.until([&] { return !unknown.why().empty(); }));
    CHECK(unknown.why() == "no NATS server accepts connections at no-such-host.invalid:4222");
}

TEST_CASE("nats: a file of credentials that has gone since the start is told, and looked for again") {
    auto server = broker::nats();
    server.kill();
    std::optional<text_file> file{std::in_place, "credentials"};
    auto config = quick(server.url());
    config.credentials_file = file->path();
    backplane_peer peer{nats_backplane{config}};
    const auto says = [&](std::string_view words) {
        return peer.until([&] { return peer.why().find(words) != std::string::npos; });
    };
    REQUIRE(says("no NATS server accepts connections"));
    file.reset();
    REQUIRE(says("cannot be read"));
    CHECK(says(config.credentials_file));
    std::ofstream{config.credentials_file} << "credentials";
    CHECK(says("no NATS server accepts connections"));
    std::filesystem::remove(config.credentials_file);
}

TEST_CASE("nats: when the user could not hear a message, the connection is made anew") {
    const auto server = broker::nats();
    backplane_peer peer{nats_backplane{quick(server.url())}};
    REQUIRE(peer.subscribed_to({"a"}));
    std::atomic<bool> has_memory{false};
    peer.on_received([&] {
        if (!has_memory.exchange(true)) throw std::bad_alloc{};
    });
    REQUIRE(peer.publish("a", "missed"));
    REQUIRE(peer.disconnects());
    REQUIRE(peer.connects());
    REQUIRE(peer.publish("a", "heard"));
    CHECK(peer.until([&] { return peer.messages() == texts{"heard"}; }));
}

TEST_CASE("nats: what a server takes no more by the time that it comes to it is lost, and nothing else") {
    // Alone in its turn it was counted as written: nothing was sent, which nats.c took for the end of the connection.
    raw_server server{[](raw_peer& p) {
        p.send(info);
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
    backplane_peer peer{nats_backplane{quick(url_of(server))}};
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

TEST_CASE("nats: one of several servers is enough") {
    const auto server = broker::nats();
    auto dead = broker::nats();
    dead.kill();
    backplane_peer peer{nats_backplane{quick(dead.url() + ", " + server.url() + "," + dead.url())}};
    CHECK(peer.connects());
}

TEST_CASE("nats: the servers of a cluster name each other, and one that dies is replaced") {
    std::random_device chance;
    const auto route = "nats://127.0.0.1:" + std::to_string(32'000 + chance() % 700);
    auto first = broker::nats({"--cluster", route, "--cluster_name", "c"});
    const auto second = broker::nats({"--cluster", "nats://127.0.0.1:-1", "--cluster_name", "c", "--routes", route});
    backplane_peer other{nats_backplane{second.url()}};
    REQUIRE(other.until([&] { return first.log().find("Route connection created") != std::string::npos; }));
    REQUIRE(other.subscribed_to({"a"}));
    backplane_peer peer{nats_backplane{quick(first.url())}};
    REQUIRE(peer.subscribed_to({"b"}));
    first.kill();
    REQUIRE(peer.disconnects());
    REQUIRE(peer.connects());
    REQUIRE(other.publish("b", "found"));
    CHECK(peer.until([&] { return peer.messages() == texts{"found"}; }));
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
        why = "has not let us in within 300 ms";
        script = [](raw_peer& p) { p.wait_for_end(); };
    }
    SECTION("it says its name, and nothing more") {
        // nats.c 3.4 would wait for ever, and take all memory.
        why = "is no NATS server";
        script = [](raw_peer& p) {
            p.send(info);
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
            p.send(info);
            p.read_some();
        };
    }
    std::atomic<int> attempts{0};
    raw_server server{[&](raw_peer& p) {
        ++attempts;
        script(p);
    }};
    backplane_peer peer{nats_backplane{quick(url_of(server), 300ms)}};
    CHECK(peer.until([&] { return attempts >= 3; }));
    CAPTURE(peer.why());
    CHECK(peer.why().find(why) != std::string::npos);
    CHECK(peer.transcript().find(" connected") == std::string::npos);
}

TEST_CASE("nats: nonsense behind a good beginning ends the connection") {
    raw_server server{[&](raw_peer& p) {
        p.send(info);
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
    backplane_peer peer{nats_backplane{quick(url_of(server))}};
    REQUIRE(peer.connects());
    REQUIRE(peer.publish("a", "x"));
    REQUIRE(peer.disconnects());
    CHECK(peer.why().find("has ended the connection") != std::string::npos);
    CHECK(peer->counts().lost == 1);
    CHECK(peer.connects());
}

TEST_CASE("nats: a slow connection is no broken one: what waits is counted, and all of it arrives") {
    const auto broker = broker::nats();
    std::atomic<std::size_t> passed{0};
    raw_server proxy{[&](raw_peer& p) { pass_on_slowly(p, broker.port(), passed); }};
    backplane_peer receiver{nats_backplane{broker.url()}};
    REQUIRE(receiver.subscribed_to({"a"}));
    nats_config config{.url = url_of(proxy)};
    backplane_peer sender{nats_backplane{config}};
    REQUIRE(sender.connects());
    const std::string payload(10'000, 'x');
    double longest = 0;
    for (std::size_t i = 0; i != 1'000; ++i) {
        const auto began = steady::now();
        REQUIRE(sender->publish("a", payload));
        longest = std::max(longest, milliseconds_since(began));
    }
    CHECK(longest < 1'000);  // one that waits does so until the server goes on
    CHECK(sender->waiting() > 2'000'000);
    const bool all_came = receiver.until([&] { return receiver.message_count() == 1'000; });
    CAPTURE(passed.load(), receiver.message_count(), sender->waiting(), sender.transcript(), sender.why());
    CHECK(all_came);
    CHECK(sender.until([&] { return sender->counts().published == 1'000; }));
    CHECK(sender->waiting() == 0);
    CHECK(sender.transcript() == "connected ");
}

TEST_CASE("nats: when messages were dropped because this process took none, the connection is made anew") {
    const auto server = broker::nats();
    backplane_peer sender{nats_backplane{server.url()}}, receiver{nats_backplane{quick(server.url())}};
    REQUIRE(sender.connects());
    REQUIRE(receiver.subscribed_to({"a"}));
    std::mutex busy;
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

TEST_CASE("nats: it may be closed in every phase, in a moment, and says nothing more") {
    auto server = broker::nats();
    raw_server silent{[](raw_peer& p) { p.wait_for_end(); }};
    raw_server half{[](raw_peer& p) {
        p.send(info);
        p.wait_for_end();
    }};
    const auto closes = [](backplane_peer& peer) {
        const auto began = steady::now();
        peer.close();
        CHECK(milliseconds_since(began) < 600);
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
        backplane_peer peer{nats_backplane{quick(url_of(silent), 300ms)}};
        peer.until([] { return false; }, 30ms);
        closes(peer);
    }
    SECTION("while it waits for a server that has said its name") {
        backplane_peer peer{nats_backplane{quick(url_of(half), 300ms)}};
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
        backplane_peer peer{nats_backplane{quick(url_of(silent), 300ms)}};
        peer.until([] { return false; }, 30ms);
        ends(peer);
    }
    SECTION("without a server") {
        server.kill();
        backplane_peer peer{nats_backplane{quick(server.url())}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        ends(peer);
    }
}

namespace {

/// A user whom the backplane's own threads tell, and who takes their memory away.
class shortening final : public backplane_user {
public:
    void received(std::string_view) override {
        note([&] { ++heard_; });
    }
    /// On the thread of the answers.
    void connected() override {
        const bool is_struck = shortage_of_answers_ && shortage_of_answers_->struck();
        shortage_of_answers_.reset();
        note([&] {
            is_connected_ = true;
            answers_struck_ = is_struck;
        });
    }
    /// On the thread of the connection.
    void disconnected(std::string_view why) override {
        if (shortage_ && shortage_->struck()) ++strikes_;
        shortage_.reset();
        note([&] {
            is_connected_ = false;
            why_ = why;
            ++losses_;
        });
        if (const auto nth = next_.exchange(none); nth != none) shortage_.emplace(nth);
    }
    /// On that of the answers.
    void subscribed(std::uint64_t number) override {
        if (const auto nth = next_of_answers_.exchange(none); nth != none) shortage_of_answers_.emplace(nth);
        note([&] { in_force_ = number; });
    }

    template <class F>
    bool until(F is_so) {
        std::unique_lock lock{mutex_};
        return changed_.wait_for(lock, 20s, is_so);
    }
    template <class T>
    T look(T shortening::*at) {
        const std::lock_guard lock{mutex_};
        return this->*at;
    }

    // Under until(), or by look().
    bool is_connected_ = false;
    std::uint64_t in_force_ = 0;
    std::size_t heard_ = 0;
    std::size_t losses_ = 0;
    std::string why_;
    bool answers_struck_ = false;

    static constexpr std::size_t none = ~std::size_t{0};
    std::atomic<std::size_t> next_{none};             ///< How soon memory is missing, from the next disconnected() on.
    std::atomic<std::size_t> next_of_answers_{none};  ///< And from the next subscribed() on.
    std::atomic<std::size_t> strikes_{0};

private:
    template <class F>
    void note(F f) {
        const std::lock_guard lock{mutex_};
        f();
        changed_.notify_all();
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<memory_shortage> shortage_, shortage_of_answers_;
};

}  // namespace

TEST_CASE("nats: without memory at any one time the thread of the connection goes on, by a new one") {
    // It ended the process.
    const auto server = broker::nats();
    boost::asio::io_context context;
    shortening user;
    auto config = quick(server.url());
    config.reconnect_delay = config.max_reconnect_delay = 1ms;
    config.name = "a name that needs memory of its own, as long as it is";
    nats_backplane plane{config};
    plane.start(context, boost::asio::make_strand(context), user);
    std::uint64_t calls = 0;
    std::size_t nth = 0;
    for (; nth != 1'000; ++nth) {
        INFO(nth);
        const auto channel = [](std::size_t n) { return "a.channel.with.a.name.of.some.length." + std::to_string(n); };
        if (nth == 0) {
            plane.subscribe({channel(0)}, {}, ++calls);
            REQUIRE(user.until([&] { return user.is_connected_ && user.in_force_ == calls; }));
        }
        const auto losses = user.look(&shortening::losses_);
        user.next_ = nth;
        plane.reconnect();
        plane.subscribe({channel(nth + 1)}, {channel(nth)}, ++calls);
        REQUIRE(user.until([&] { return user.losses_ > losses; }));
        // Of the round before: nothing was missing any more.
        if (user.strikes_ < nth) break;
        REQUIRE(user.until([&] { return user.is_connected_ && user.in_force_ == calls; }));
        CHECK(plane.counts().subscriptions == 1);
        const auto heard = user.look(&shortening::heard_);
        while (user.look(&shortening::heard_) == heard) {
            REQUIRE(user.until([&] { return user.is_connected_; }));
            const auto lost = plane.counts().lost;
            plane.publish(channel(nth + 1), "x");
            REQUIRE(user.until([&] { return user.heard_ > heard || plane.counts().lost > lost; }));
        }
    }
    CHECK(nth > 3);
    CHECK(nth != 1'000);
    plane.close();
}

TEST_CASE("nats: without memory to say that the server does not answer it is given up all the same") {
    // The thread of the answers ended the process.
    auto server = broker::nats();
    boost::asio::io_context context;
    shortening user;
    auto config = quick(server.url(), 500ms);
    config.answer_timeout = 300ms;
    nats_backplane plane{config};
    plane.start(context, boost::asio::make_strand(context), user);
    user.next_of_answers_ = 0;
    plane.subscribe({"a"}, {}, 1);
    REQUIRE(user.until([&] { return user.in_force_ == 1; }));
    server.stop();
    REQUIRE(user.until([&] { return user.losses_ == 1; }));
    const auto why = user.look(&shortening::why_);
    server.go_on();
    CHECK(user.until([&] { return user.is_connected_; }));
    // Under the thread sanitizer there is always memory for a std::string.
    const bool struck = user.look(&shortening::answers_struck_);
    CHECK(why == (struck ? "no memory left" : "NATS has not answered for 300 ms"));
    plane.close();
}

TEST_CASE("nats: without memory to start it throws, leaves no thread behind, and may be started again") {
    const auto server = broker::nats();
    boost::asio::io_context context;
    shortening user;
    nats_backplane plane{quick(server.url())};
    {
        nats_backplane first{server.url()};  // nats.c's own threads are there from the first one on
        first.start(context, boost::asio::make_strand(context), user);
        REQUIRE(user.until([&] { return user.is_connected_; }));
    }
    const auto before = thread_count();
    bool is_started = false;
    for (std::size_t nth = 0; !is_started; ++nth) {
        const auto strand = boost::asio::make_strand(context);
        try {
            const memory_shortage shortage{nth};
            plane.start(context, strand, user);
            is_started = true;
        } catch (const std::bad_alloc&) {
        }
        if (is_started) break;
        // One that has ended is to be seen for a moment more.
        const auto end = steady::now() + 20s;
        while (thread_count() > before && steady::now() < end) std::this_thread::yield();
        CHECK(thread_count() <= before);
    }
    plane.subscribe({"a"}, {}, 1);
    CHECK(user.until([&] { return user.in_force_ == 1; }));
    plane.close();
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

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ARKE_TEST_WATCHES_FILES  // a number that is another's meanwhile is a race to it
#endif
#endif
#ifndef ARKE_TEST_WATCHES_FILES
TEST_CASE("nats: a server that says only its name is left, also by a program that opens files all the while") {
    // nats.c waits for ever, in a socket whose number is guessed, and looked for where it was another's.
    std::atomic<int> attempts{0};
    raw_server half{[&](raw_peer& p) {
        ++attempts;
        p.send(info);
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
        backplane_peer peer{nats_backplane{quick(url_of(half), 200ms)}};
        CHECK(peer.until([&] { return attempts >= 6; }));
        CHECK(peer.why().find("is no NATS server") != std::string::npos);
    }
    is_over = true;
    opens.join();
}
#endif

#ifdef ARKE_CLUSTER_TESTS_TLS
TEST_CASE("nats: TLS asks for a certificate of the server's name") {
    const test_certificate authority{{.subject = "authority", .names = "", .is_authority = true}};
    const test_certificate good{{}, authority}, other_name{{.subject = "other", .names = "DNS:other"}, authority};
    const test_certificate of_client{{.subject = "client", .names = "DNS:client"}, authority};
    const text_file ca{authority.chain()}, good_chain{good.chain()}, good_key{good.key()};
    const text_file other_chain{other_name.chain()}, other_key{other_name.key()};
    const text_file client_chain{of_client.chain()}, client_key{of_client.key()};
    const auto server = broker::nats({"--tls", "--tlscert", good_chain.path(), "--tlskey", good_key.path()});
    const auto at = "127.0.0.1:" + std::to_string(server.port());
    SECTION("it works") {
        backplane_peer peer{nats_backplane{{.url = "tls://" + at, .tls = {.ca_file = ca.path()}}}};
        REQUIRE(peer.subscribed_to({"a"}));
        texts said;
        for (int i = 0; i != 200; ++i) said.push_back(std::string(50'000, static_cast<char>('a' + i % 26)));
        for (const auto& each : said) REQUIRE(peer->publish("a", each));
        CHECK(peer.until([&] { return peer.message_count() == said.size(); }));
        CHECK(peer.messages() == said);
    }
    SECTION("a server that has TLS only gets it without being asked for") {
        backplane_peer peer{nats_backplane{{.url = "nats://" + at, .tls = {.ca = authority.chain()}}}};
        CHECK(peer.connects());
    }
    SECTION("an authority that nobody knows is refused") {
        backplane_peer peer{nats_backplane{quick("tls://" + at)}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        CHECK(peer.why().find("TLS with NATS at " + at + " failed") != std::string::npos);
    }
    SECTION("another name is refused, unless it is the one that is asked for") {
        const auto other = broker::nats({"--tls", "--tlscert", other_chain.path(), "--tlskey", other_key.path()});
        auto config = quick("tls://127.0.0.1:" + std::to_string(other.port()));
        config.tls.ca_file = ca.path();
        backplane_peer peer{nats_backplane{config}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        CHECK(peer.why().find("TLS with NATS") != std::string::npos);
        config.tls.server_name = "other";
        CHECK(backplane_peer{nats_backplane{config}}.connects());
        config.tls.server_name = "";
        config.tls.verify = false;
        CHECK(backplane_peer{nats_backplane{config}}.connects());
    }
    SECTION("a server that asks for a certificate gets ours") {
        const auto strict = broker::nats(
            {"--tlsverify", "--tlscert", good_chain.path(), "--tlskey", good_key.path(), "--tlscacert", ca.path()});
        auto config = quick("tls://127.0.0.1:" + std::to_string(strict.port()));
        config.tls = {.ca_file = ca.path(), .certificate_file = client_chain.path(), .key_file = client_key.path()};
        CHECK(backplane_peer{nats_backplane{config}}.connects());
        config.tls.certificate_file = config.tls.key_file = "";
        backplane_peer without{nats_backplane{config}};
        CHECK(without.until([&] { return !without.why().empty(); }));
    }
    SECTION("a server without TLS is refused") {
        const auto plain = broker::nats();
        backplane_peer peer{nats_backplane{quick("tls://127.0.0.1:" + std::to_string(plain.port()))}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        CHECK(peer.why().find("has no TLS") != std::string::npos);
    }
    SECTION("a handshake that is not answered ends in time") {
        raw_server half{[](raw_peer& p) {
            p.send(R"(INFO {"server_id":"x","version":"2.9.0","proto":1,"max_payload":1048576,"tls_required":true})"
                   "\r\n");
            p.wait_for_end();
        }};
        backplane_peer peer{nats_backplane{quick("tls://127.0.0.1:" + std::to_string(half.port()), 300ms)}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        CHECK(peer.why().find("TLS with NATS") != std::string::npos);
    }
    SECTION("a server that is stopped does not make publishing wait") {
        backplane_peer peer{nats_backplane{{.url = "tls://" + at, .tls = {.ca_file = ca.path()}}}};
        REQUIRE(peer.connects());
        server.stop();
        double longest = 0;
        for (int i = 0; i != 300; ++i) {
            const auto began = steady::now();
            REQUIRE(peer->publish("a", std::string(65'536, 'x')));
            longest = std::max(longest, milliseconds_since(began));
        }
        CHECK(longest < 1'000);  // one that waits does so until the server goes on
        peer->reconnect();
        CHECK(peer.disconnects());
        server.go_on();
        CHECK(peer.connects());
    }
}
#endif
