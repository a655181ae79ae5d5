#include <arke/cluster/nats.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include <unistd.h>

#include "tests/support/backplane_peer.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/nats_scene.hpp"
#include "tests/support/raw_server.hpp"

#ifdef ARKE_CLUSTER_TESTS_TLS
#include "tests/support/certificates.hpp"
#endif

// Who is let in by a server of NATS, and which server by us.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

namespace {

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

}  // namespace

TEST_CASE("nats: user and password, or a token, let us in, and a wrong one is told") {
    const std::string password = "p@ss:\"wo\\rd, %/\t\x1B";
    const auto by_password = broker::nats({"--user", "me", "--pass", password});
    const auto by_token = broker::nats({"--auth", "t:k\"n"});
    const auto at = [](const broker& b) { return "127.0.0.1:" + std::to_string(b.port()); };

    auto config = quick_nats(by_password.url());
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
    backplane_peer nobody{nats_backplane{quick_nats(by_token.url())}};
    REQUIRE(nobody.until([&] { return !nobody.why().empty(); }));
    CHECK(nobody.why().find("Authorization Violation") != std::string::npos);
}

TEST_CASE("nats: what the server does not permit is told") {
    const text_file config{R"(authorization { users = [ { user: u, password: p, permissions: {
        publish: ["ok.>", "also"], subscribe: "ok.>" } } ] })"};
    const auto server = broker::nats({"-c", config.path()});
    const auto url = "nats://u:p@127.0.0.1:" + std::to_string(server.port());
    backplane_peer peer{nats_backplane{quick_nats(url)}};
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

TEST_CASE("nats: a file of credentials that has gone since the start is told, and looked for again") {
    auto server = broker::nats();
    server.kill();
    std::optional<text_file> file{std::in_place, "credentials"};
    auto config = quick_nats(server.url());
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
        backplane_peer peer{nats_backplane{quick_nats("tls://" + at)}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        CHECK(peer.why().find("TLS with NATS at " + at + " failed") != std::string::npos);
    }
    SECTION("another name is refused, unless it is the one that is asked for") {
        const auto other = broker::nats({"--tls", "--tlscert", other_chain.path(), "--tlskey", other_key.path()});
        auto config = quick_nats("tls://127.0.0.1:" + std::to_string(other.port()));
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
        auto config = quick_nats("tls://127.0.0.1:" + std::to_string(strict.port()));
        config.tls = {.ca_file = ca.path(), .certificate_file = client_chain.path(), .key_file = client_key.path()};
        CHECK(backplane_peer{nats_backplane{config}}.connects());
        config.tls.certificate_file = config.tls.key_file = "";
        backplane_peer without{nats_backplane{config}};
        CHECK(without.until([&] { return !without.why().empty(); }));
    }
    SECTION("a server without TLS is refused") {
        const auto plain = broker::nats();
        backplane_peer peer{nats_backplane{quick_nats("tls://127.0.0.1:" + std::to_string(plain.port()))}};
        REQUIRE(peer.until([&] { return !peer.why().empty(); }));
        CHECK(peer.why().find("has no TLS") != std::string::npos);
    }
    SECTION("a handshake that is not answered ends in time") {
        raw_server half{[](raw_peer& p) {
            p.send(R"(INFO {"server_id":"x","version":"2.9.0","proto":1,"max_payload":1048576,"tls_required":true})"
                   "\r\n");
            p.wait_for_end();
        }};
        backplane_peer peer{nats_backplane{quick_nats("tls://127.0.0.1:" + std::to_string(half.port()), 300ms)}};
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
        CHECK(longest < 5'000);  // one that waits does so until the server goes on
        peer->reconnect();
        CHECK(peer.disconnects());
        server.go_on();
        CHECK(peer.connects());
    }
}
#endif
