#include <arke/client.hpp>
#include <arke/server.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include <chrono>
#include <string>
#include <thread>

#include "tests/support/catch.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/raw_server.hpp"
#include "tests/support/running_server.hpp"

// arke::client over wss://, with Arke's own server; tests/peers has others.

using namespace arke::test;
using namespace std::chrono_literals;
using arke::client_config;
using arke::close_code;
using arke::config;
using arke::connection;
using arke::errc;
using arke::error_report;
using arke::loop_kind;
using arke::message_view;
using arke::tls_certificate;

namespace {

const test_certificate& authority() {
    static const test_certificate made{{.subject = "test CA", .names = "", .is_authority = true}};
    return made;
}

const test_certificate& good() {
    static const test_certificate made{{}, authority()};
    return made;
}

tls_certificate pem(const test_certificate& c) { return {.chain = c.chain(), .key = c.key()}; }

config secure(const test_certificate& by, loop_kind loop = loop_kind::automatic, config c = {}) {
    c.listener.tls.certificates = {pem(by)};
    return quiet(loop, std::move(c));
}

client_config trusting(loop_kind loop = loop_kind::automatic, client_config c = {}) {
    if (c.tls.ca.empty()) c.tls.ca = authority().chain();
    c.tls.system_ca = false;
    c.loop = loop;
    c.log = [](std::string_view) {};
    return c;
}

std::string url_of(const running_server& net, const std::string& host = "localhost") {
    return "wss://" + host + ":" + std::to_string(net.port()) + "/";
}

/// What comes of one attempt: "connected", or the sentence.
std::string outcome(const std::string& url, client_config settings) {
    settings.reconnect = false;
    journal heard;
    arke::client c{url, std::move(settings)};
    c.on_connect([&] { heard.add("connected"); });
    c.on_error([&](const error_report& e) {
        heard.add((e.code == errc::tls_failed ? "TLS: " : e.code.message() + ": ") + std::string{e.detail});
    });
    c.start();
    return heard.wait(1);
}

}  // namespace

TEST_CASE("events, requests and native messages over wss") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{secure(good(), loop, {.max_message_size = 1 << 20})};
    net->on("double", [](int n) { return 2 * n; });
    net->on_message([](connection& c, message_view m) { c.emit_message(m); });
    net.start();
    journal heard;
    arke::client c{url_of(net), trusting(loop)};
    c.on_message([&](message_view m) { heard.add(std::to_string(m.data.size())); });
    for (const std::size_t size : {1UL, 125UL, 16'384UL, 16'385UL, 200'000UL, 700'000UL})
        c.emit_message(std::string(size, 'x'));
    c.ask<int>("double", 21, 5s,
               [&](arke::error_code why, int n) { heard.add(why ? why.message() : "answer " + std::to_string(n)); });
    c.start();
    CHECK(heard.wait(7) == "1 125 16384 16385 200000 700000 answer 42");
}

TEST_CASE("a server that is not who it should be is refused, and the error says why") {
    const auto has = [](const std::string& text, const std::string& part) {
        CAPTURE(text);
        CHECK(text.starts_with("TLS: TLS with the server failed: "));
        CHECK(text.find(part) != std::string::npos);
    };
    running_server net{secure(good())};
    net.start();
    CHECK(outcome(url_of(net), trusting()) == "connected");
    CHECK(outcome(url_of(net, "127.0.0.1"), trusting()) == "connected");

    SECTION("another host") {
        const test_certificate other{{.subject = "other", .names = "DNS:other.example,IP:192.0.2.1"}, authority()};
        running_server wrong{secure(other)};
        wrong.start();
        has(outcome(url_of(wrong), trusting()), "is for another host");
        has(outcome(url_of(wrong, "127.0.0.1"), trusting()), "is for another host");
        auto settings = trusting();
        settings.tls.server_name = "other.example";
        CHECK(outcome(url_of(wrong), settings) == "connected");
    }
    SECTION("a name that only looks like it") {
        const test_certificate other{{.subject = "localhost", .names = "DNS:localhost.example"}, authority()};
        running_server wrong{secure(other)};
        wrong.start();
        has(outcome(url_of(wrong), trusting()), "is for another host");
    }
    SECTION("expired") {
        const test_certificate stale{{.begins = -20, .ends = -10}, authority()};
        running_server wrong{secure(stale)};
        wrong.start();
        has(outcome(url_of(wrong), trusting()), "has expired");
    }
    SECTION("not valid yet") {
        const test_certificate early{{.begins = 10}, authority()};
        running_server wrong{secure(early)};
        wrong.start();
        has(outcome(url_of(wrong), trusting()), "is not valid yet");
    }
    SECTION("self-signed") {
        const test_certificate own;
        running_server wrong{secure(own)};
        wrong.start();
        has(outcome(url_of(wrong), trusting()), "is signed by itself");
        auto settings = trusting();
        settings.tls.ca = own.chain();
        CHECK(outcome(url_of(wrong), settings) == "connected");
        // Beside those of the system.
        settings.tls.system_ca = true;
        CHECK(outcome(url_of(wrong), settings) == "connected");
        settings = trusting();
        settings.tls.verify = false;
        CHECK(outcome(url_of(wrong), settings) == "connected");
    }
    SECTION("an unknown authority") {
        const test_certificate stranger{{.subject = "another CA", .names = "", .is_authority = true}};
        const test_certificate by_stranger{{}, stranger};
        running_server wrong{secure(by_stranger)};
        wrong.start();
        has(outcome(url_of(wrong), trusting()), "is signed by an unknown authority");
        CHECK(eventually([&] { return wrong->metrics().tls.failed == 1; }));
        // Those of the system do not know ours either.
        client_config settings;
        settings.log = [](std::string_view) {};
        has(outcome(url_of(net), settings), "is signed by an unknown authority");
    }
    SECTION("no TLS there") {
        running_server plain{quiet(loop_kind::automatic)};
        plain.start();
        has(outcome(url_of(plain), trusting()), "what came is no TLS");
        const auto lost = outcome("ws://localhost:" + std::to_string(net.port()) + "/", trusting());
        CHECK(lost.find("400") != std::string::npos);
    }
    SECTION("a certificate of the client is wanted") {
        auto settings = secure(good());
        settings.listener.tls.verify_clients = arke::client_certificates::require;
        settings.listener.tls.client_ca = authority().chain();
        journal seen;
        running_server strict{settings};
        strict->on_connection([&](connection& c) { seen.add(c.request().tls()->client->subject); });
        strict.start();
        const auto refused = outcome(url_of(strict), trusting());
        has(refused, "wants a certificate of the client");
        auto mine = trusting();
        mine.tls.certificate = pem(test_certificate{{.subject = "ada", .names = ""}, authority()});
        CHECK(outcome(url_of(strict), mine) == "connected");
        CHECK(seen.wait(1) == "CN=ada");
        const test_certificate stranger{{.subject = "another CA", .names = "", .is_authority = true}};
        mine.tls.certificate = pem(test_certificate{{.subject = "ada", .names = ""}, stranger});
        has(outcome(url_of(strict), mine), "the peer refuses the certificate: it does not know the authority");
    }
}

TEST_CASE("a client that comes back resumes its session") {
    journal seen;
    running_server net{secure(good())};
    net->on_connection([&](connection& c) { seen.add(c.request().tls()->resumed ? "resumed" : "full"); });
    net->on("cut", [](connection& c) { c.disconnect(static_cast<close_code>(3000)); });
    net.start();
    const bool resumption = GENERATE(true, false);
    auto settings = trusting(loop_kind::automatic, {.reconnect_delay = 1ms});
    settings.tls.resumption = resumption;
    arke::client c{url_of(net), settings};
    c.on_connect([&](connection& made) { made.emit("cut"); });
    c.start();
    CHECK(seen.wait(3).starts_with(resumption ? "full resumed resumed" : "full full full"));
}

TEST_CASE("through a proxy TLS is spoken with the server, behind the tunnel") {
    running_server net{secure(good())};
    net->on("who", [](connection& c) { return c.request().tls()->version == "TLSv1.3" ? "you" : "nobody"; });
    net.start();
    std::string asked;
    raw_server proxy{[&](raw_peer& p) {
        asked = p.read_head();
        boost::asio::io_context context;
        boost::asio::ip::tcp::socket server{context};
        server.connect({boost::asio::ip::make_address("127.0.0.1"), net.port()});
        p.send("HTTP/1.1 200 Connection established\r\n\r\n");
        std::thread back{[&] {
            std::string bytes(64 * 1024, '\0');
            boost::system::error_code ec;
            while (!ec) {
                const auto count = server.read_some(boost::asio::buffer(bytes), ec);
                p.send(std::string_view{bytes}.substr(0, count));
            }
            p.stream().shutdown(boost::asio::ip::tcp::socket::shutdown_both, ec);
        }};
        boost::system::error_code ec;
        for (auto bytes = p.read_some(); !bytes.empty(); bytes = p.read_some())
            boost::asio::write(server, boost::asio::buffer(bytes), ec);
        server.shutdown(boost::asio::ip::tcp::socket::shutdown_both, ec);
        back.join();
    }};
    journal heard;
    {
        auto settings = trusting();
        settings.proxy = "http://127.0.0.1:" + std::to_string(proxy.port());
        arke::client c{url_of(net), settings};
        c.ask<std::string>("who", 5s,
                           [&](arke::error_code why, const std::string& who) { heard.add(why ? why.message() : who); });
        c.start();
        CHECK(heard.wait(1) == "you");
    }
    CHECK(asked.starts_with("CONNECT localhost:" + std::to_string(net.port()) + " HTTP/1.1\r\n"));
    CHECK(asked.find("wss") == std::string::npos);
}

TEST_CASE("a config of TLS that cannot work is refused when the client is made") {
    const auto refusal = [](const client_config& c) -> std::string {
        try {
            const arke::client made{"wss://localhost/", c};
            return "accepted";
        } catch (const std::invalid_argument& e) {
            return e.what();
        }
    };
    client_config c;
    CHECK(refusal(c) == "accepted");
    c.tls.ca_file = "/nowhere.pem";
    CHECK(refusal(c).find("tls.ca_file \"/nowhere.pem\" cannot be read") != std::string::npos);
    c.tls.ca_file = "";
    c.tls.ca = "hello";
    CHECK(refusal(c).find("tls.ca holds no certificate") != std::string::npos);
    c.tls.ca = "";
    c.tls.certificate.chain = good().chain();
    CHECK(refusal(c).find("tls.certificate has no key; set key_file") != std::string::npos);
}
