#include <arke/client.hpp>
#include <arke/server.hpp>

#include <boost/asio/local/stream_protocol.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/running_server.hpp"
#include "tests/support/tls_client.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

/// Everybody's authority, and what it has signed.
struct authority {
    test_certificate own{{.subject = "test CA", .names = "", .is_authority = true}};
    test_certificate server{{}, own};
};

const authority& ca() {
    static const authority made;
    return made;
}

tls_certificate pem(const test_certificate& c) { return {.chain = c.chain(), .key = c.key()}; }

config secure(loop_kind loop, config c = {}) {
    if (c.listener.tls.certificates.empty()) c.listener.tls.certificates = {pem(ca().server)};
    return quiet(loop, std::move(c));
}

tls_wish trusting() { return {.ca = ca().own.chain()}; }

void echo(running_server& server) {
    server->on_message([](connection& c, message_view m) { c.emit_message(m); });
}

std::string refusal_of(const tls_config& tls) {
    try {
        config c;
        c.listener.tls = tls;
        const server made{c};
        return "accepted";
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
}

/// What a client says first.
std::string hello_of_a_client() {
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context{SSL_CTX_new(TLS_client_method()), &SSL_CTX_free};
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl{SSL_new(context.get()), &SSL_free};
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_connect(ssl.get());
    char* at = nullptr;
    const auto size = BIO_get_mem_data(SSL_get_wbio(ssl.get()), &at);
    return {at, static_cast<std::size_t>(size)};
}

/// A file that is gone after the test.
class file {
public:
    explicit file(std::string name, const std::string& text) : name_{std::move(name)} { write(text); }
    ~file() { std::remove(name_.c_str()); }
    file(const file&) = delete;
    file& operator=(const file&) = delete;
    void write(const std::string& text) const { std::ofstream{name_, std::ios::binary} << text; }
    const std::string& name() const { return name_; }

private:
    std::string name_;
};

}  // namespace

TEST_CASE("a WebSocket over TLS: small, large, pipelined, and its closing handshake") {
    running_server server{secure(GENERATE(from_range(all_loops())), {.max_message_size = 1 << 20})};
    echo(server);
    server.start();
    tls_client client{server.port(), trusting()};
    REQUIRE(client.is_connected());
    CHECK(client.version() == "TLSv1.3");
    CHECK(client.peer() == "localhost");
    REQUIRE(client.upgrade());
    client.say("hello");
    CHECK(client.hear() == "hello");
    std::string many;
    for (int i = 0; i != 500; ++i) many += masked_frame(0x81, std::to_string(i));
    client.send(many);
    std::string expected;
    for (int i = 0; i != 500; ++i) {
        const auto text = std::to_string(i);
        expected += std::string{"\x81"} + static_cast<char>(text.size()) + text;
    }
    CHECK(client.read(expected.size()) == expected);
    const std::string large(65'000, 'l');
    for (int i = 0; i != 20; ++i) client.send(masked_frame(0x82, large));
    for (int i = 0; i != 20; ++i) {
        REQUIRE(client.read(4).size() == 4);
        REQUIRE(client.read(large.size()) == large);
    }
    client.send(masked_frame(0x88, "\x03\xE8"));
    CHECK(client.read_all() == "\x88\x02\x03\xE8");
    CHECK(client.why() == "end");
    const auto m = server->metrics();
    CHECK(m.tls.handshakes == 1);
    CHECK(m.tls.failed == 0);
    CHECK(m.closed.by_peer == 1);
}

TEST_CASE("HTTP over TLS, and over a plain port beside it") {
    running_server server{secure(GENERATE(from_range(all_loops())))};
    server.start();
    const auto secure_port = server.port();
    CHECK(server.stop() == "");
    running_server both{secure(loop_kind::automatic)};
    both->listen("127.0.0.1", 0, security::plain);
    const auto plain_port = both->port();
    both.start();
    CHECK(secure_port != 0);
    tls_client client{both.port(), trusting()};
    client.send("GET /arke.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const auto answer = client.read_all();
    CHECK(answer.starts_with("HTTP/1.1 200"));
    CHECK(client.why() == "end");
    raw_client plain{plain_port};
    plain.send("GET /arke.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    CHECK(plain.read_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
    // Each on the other's port.
    raw_client lost{both.port()};
    lost.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(lost.read_until("here.").starts_with("HTTP/1.1 400"));
    CHECK(lost.ends());
    tls_client also_lost{plain_port};
    CHECK_FALSE(also_lost.is_connected());
    CHECK(both->metrics().tls.failed == 1);
}

TEST_CASE("old versions and weak ciphers are refused") {
    running_server server{secure(loop_kind::automatic)};
    server.start();
    for (const int version : {TLS1_VERSION, TLS1_1_VERSION}) {
        tls_client old{server.port(), {.minimum = version, .maximum = version}};
        CHECK_FALSE(old.is_connected());
        CHECK(old.why() == "tlsv1 alert protocol version");
    }
    for (const auto* ciphers : {"AES256-GCM-SHA384:AES128-SHA", "ECDHE-ECDSA-AES256-SHA"}) {
        tls_client weak{server.port(), {.maximum = TLS1_2_VERSION, .ciphers = ciphers}};
        CHECK_FALSE(weak.is_connected());
        CHECK(weak.why() == "sslv3 alert handshake failure");
    }
    tls_client good{server.port(), {.ca = ca().own.chain(), .maximum = TLS1_2_VERSION}};
    CHECK(good.version() == "TLSv1.2");
    REQUIRE(eventually([&] { return server->metrics().tls.failed == 4; }));

    running_server newest{secure(loop_kind::automatic, {.listener = {.tls = {.certificates = {pem(ca().server)},
                                                                             .minimum_version = tls_version::v1_3}}})};
    newest.start();
    CHECK_FALSE(tls_client{newest.port(), {.maximum = TLS1_2_VERSION}}.is_connected());
    CHECK(tls_client{newest.port()}.is_connected());
}

TEST_CASE("ALPN: http/1.1 is agreed on, and who wants only something else is told") {
    running_server server{secure(loop_kind::automatic)};
    server.start();
    CHECK(tls_client{server.port(), {.protocols = "\x02h2\x08http/1.1"}}.protocol() == "http/1.1");
    CHECK(tls_client{server.port()}.protocol() == "");
    tls_client other{server.port(), {.protocols = "\x02h2"}};
    CHECK_FALSE(other.is_connected());
    CHECK(other.why() == "tlsv1 alert no application protocol");
}

TEST_CASE("the name that is asked for chooses the certificate, and the first is for all others") {
    const test_certificate a{{.subject = "a", .names = "DNS:a.example,DNS:also-a.example"}, ca().own};
    const test_certificate b{{.subject = "b", .names = "DNS:*.b.example"}, ca().own};
    journal names;
    running_server server{secure(loop_kind::automatic, {.listener = {.tls = {.certificates = {pem(a), pem(b)}}}})};
    server->on_connection([&](connection& c) { names.add(c.request().tls()->server_name); });
    server.start();
    const auto shown_to = [&](const std::string& name) { return tls_client{server.port(), {.name = name}}.peer(); };
    CHECK(shown_to("a.example") == "a");
    CHECK(shown_to("also-a.example") == "a");
    CHECK(shown_to("x.b.example") == "b");
    CHECK(shown_to("X.B.Example") == "b");
    CHECK(shown_to("c.example") == "a");
    CHECK(shown_to("") == "a");
    tls_client client{server.port(), {.name = "x.b.example"}};
    CHECK(client.upgrade());
    CHECK(names.wait(1) == "x.b.example");
}

TEST_CASE("what stands between a certificate and the authority is sent along") {
    const test_certificate between{{.subject = "between", .names = "", .is_authority = true}, ca().own};
    const test_certificate server_own{{}, between};
    for (const bool is_sent : {true, false}) {
        tls_certificate shown{.chain = server_own.chain() + (is_sent ? between.chain() : ""), .key = server_own.key()};
        running_server server{secure(loop_kind::automatic, {.listener = {.tls = {.certificates = {shown}}}})};
        server.start();
        CHECK(tls_client{server.port(), trusting()}.is_connected() == is_sent);
    }
}

TEST_CASE("clients show certificates: readable in request(), and refused where they do not verify") {
    const auto policy = GENERATE(client_certificates::request, client_certificates::require);
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    const test_certificate ada{
        {.subject = "ada", .names = "email:ada@example.com,URI:spiffe://example/ada,IP:192.0.2.7,IP:2001:db8::A7"},
        ca().own};
    const test_certificate other_authority{{.subject = "other CA", .names = "", .is_authority = true}};
    const test_certificate eve{{.subject = "ada", .names = ""}, other_authority};
    journal seen;
    running_server server{secure(loop_kind::automatic, {.listener = {.tls = {.certificates = {pem(ca().server)},
                                                                             .verify_clients = policy,
                                                                             .client_ca = ca().own.chain()}}})};
    server->on_connection([&](connection& c) {
        const auto& who = c.request().tls()->client;
        if (!who) return seen.add("nobody");
        std::string line = who->subject;
        for (const auto& name : who->names) line += "," + name;
        line += who->pem.starts_with("-----BEGIN CERTIFICATE-----") ? ",pem" : ",no pem";
        seen.add(line + "," + std::to_string(who->fingerprint.size()));
    });
    server.start();
    tls_wish wish{.ca = ca().own.chain(), .chain = ada.chain(), .key = ada.key(), .maximum = version};
    {
        tls_client client{server.port(), wish};
        REQUIRE(client.upgrade());
        CHECK(seen.wait(1) ==
              "CN=ada,email:ada@example.com,URI:spiffe://example/ada,IP:192.0.2.7,"
              "IP:2001:0db8:0000:0000:0000:0000:0000:00a7,pem,64");
    }
    wish.chain = eve.chain();
    wish.key = eve.key();
    {
        tls_client client{server.port(), wish};
        CHECK_FALSE((client.is_connected() && client.upgrade()));
    }
    wish.chain = "";
    tls_client client{server.port(), wish};
    const bool is_taken = client.is_connected() && client.upgrade();
    CHECK(is_taken == (policy == client_certificates::request));
    if (is_taken) CHECK(seen.wait(2).ends_with(" nobody"));
}

TEST_CASE("a client resumes its session, unless that is off or the certificates have been read again") {
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    const bool resumption = GENERATE(true, false);
    running_server server{secure(
        loop_kind::automatic, {.listener = {.tls = {.certificates = {pem(ca().server)}, .resumption = resumption}}})};
    echo(server);
    server.start();
    std::shared_ptr<SSL_SESSION> session;
    const auto resumes = [&] {
        tls_client client{server.port(), {.maximum = version, .session = session}};
        REQUIRE(client.upgrade());
        client.say("x");
        CHECK(client.hear() == "x");
        session = client.session();
        return client.is_resumed();
    };
    CHECK_FALSE(resumes());
    CHECK(resumes() == resumption);
    CHECK(server->metrics().tls.resumed == (resumption ? 1 : 0));
    server->reload();
    CHECK_FALSE(resumes());
}

TEST_CASE("reload() gives new connections new certificates, and drops none") {
    const test_certificate old{{.subject = "old"}, ca().own};
    const test_certificate fresh{{.subject = "new"}, ca().own};
    const file chain{"arke_tls_test_chain.pem", old.chain()};
    const file key{"arke_tls_test_key.pem", old.key()};
    running_server server{
        secure(GENERATE(from_range(all_loops())),
               {.listener = {.tls = {.certificates = {{.chain_file = chain.name(), .key_file = key.name()}}}}})};
    echo(server);
    server.start();
    tls_client stays{server.port(), trusting()};
    REQUIRE(stays.upgrade());
    CHECK(stays.peer() == "old");
    // What cannot work changes nothing.
    chain.write(fresh.chain());
    CHECK_THROWS_AS(server->reload(), std::invalid_argument);
    CHECK(tls_client{server.port()}.peer() == "old");
    key.write(fresh.key());
    server->reload();
    CHECK(tls_client{server.port()}.peer() == "new");
    server->reload({.certificates = {pem(old)}});
    CHECK(tls_client{server.port()}.peer() == "old");
    server->reload();
    CHECK(tls_client{server.port()}.peer() == "old");
    CHECK_THROWS_AS(server->reload(tls_config{}), std::invalid_argument);
    CHECK_THROWS_AS(server->reload({.certificates = {pem(old)}, .client_ca = ca().own.chain()}), std::invalid_argument);
    stays.say("still here");
    CHECK(stays.hear() == "still here");
    running_server plain{quiet(loop_kind::automatic)};
    CHECK_THROWS_AS(plain->reload(), std::logic_error);
    CHECK_THROWS_AS(plain->listen("127.0.0.1", 0, security::tls), std::invalid_argument);
}

TEST_CASE(
    "reload() again and again under traffic and handshakes: nobody is dropped, and each handshake has one or the "
    "other") {
    const test_certificate old{{.subject = "old"}, ca().own};
    const test_certificate fresh{{.subject = "new"}, ca().own};
    std::atomic<int> gone{0};
    running_server server{
        secure(GENERATE(from_range(all_loops())), {.listener = {.tls = {.certificates = {pem(old)}}}})};
    echo(server);
    server->on_disconnect([&](close_code code, std::string_view) { gone += code == close_code::normal ? 0 : 1; });
    server.start(2);
    std::vector<std::unique_ptr<tls_client>> here;
    for (int i = 0; i != 12; ++i) {
        here.push_back(std::make_unique<tls_client>(server.port(), trusting()));
        REQUIRE(here.back()->upgrade());
    }
    // Catch2's macros are not for other threads: they count.
    std::atomic<bool> done{false};
    std::atomic<int> echoes{0};
    std::atomic<int> wrong{0};
    std::atomic<int> shown_old{0};
    std::atomic<int> shown_new{0};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t != 2; ++t) {
        threads.emplace_back([&, t] {
            for (int n = 0; !done; ++n) {
                const auto text = std::to_string(n);
                for (std::size_t i = t; i < here.size(); i += 2) here[i]->say(text);
                for (std::size_t i = t; i < here.size(); i += 2) (here[i]->hear() == text ? echoes : wrong)++;
            }
        });
        threads.emplace_back([&] {
            std::shared_ptr<SSL_SESSION> session;
            for (int n = 0; !done; ++n) {
                // Every other one wants its session back.
                tls_client one{server.port(), {.ca = ca().own.chain(), .session = n % 2 == 0 ? nullptr : session}};
                if (!one.upgrade() || !one.say("x") || one.hear() != "x") {
                    ++wrong;
                    continue;
                }
                session = one.session();
                if (one.is_resumed()) {
                } else if (one.peer() == "old") {
                    ++shown_old;
                } else if (one.peer() == "new") {
                    ++shown_new;
                } else {
                    ++wrong;
                }
                one.send(masked_frame(0x88, "\x03\xE8"));
                one.read_all();
            }
        });
    }
    int reloads = 0;
    const auto enough = [&] { return reloads >= 50 && echoes > 200 && shown_old > 5 && shown_new > 5; };
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!enough() && std::chrono::steady_clock::now() < end) {
        server->reload({.certificates = {pem(++reloads % 2 == 0 ? old : fresh)}});
        // Half of them right behind one another, half in the midst of handshakes.
        const auto before = shown_old + shown_new;
        if (reloads % 4 == 0) eventually([&] { return shown_old + shown_new > before || wrong != 0; });
        if (reloads % 4 == 1) {
            CHECK_THROWS_AS(server->reload({.certificates = {{.chain = old.chain(), .key = fresh.key()}}}),
                            std::invalid_argument);
        }
    }
    done = true;
    for (auto& t : threads) t.join();
    CHECK(enough());
    CHECK(wrong == 0);
    CHECK(gone == 0);
    CHECK(server->metrics().tls.failed == 0);
    for (auto& one : here) {
        one->say("still here");
        CHECK(one->hear() == "still here");
    }
}

TEST_CASE("a client that stalls at any byte of the hello is gone at handshake_timeout") {
    config settings = secure(GENERATE(from_range(all_loops())));
    settings.listener.handshake_timeout = 3s;
    running_server server{settings};
    echo(server);
    server.start();
    tls_client canary{server.port(), trusting()};
    REQUIRE(canary.upgrade());
    const auto began = std::chrono::steady_clock::now();
    const auto hello = hello_of_a_client();
    REQUIRE(hello.size() > 150);
    std::vector<std::unique_ptr<raw_client>> held;
    for (std::size_t said = 0; said != hello.size(); ++said) {
        held.push_back(std::make_unique<raw_client>(server.port()));
        held.back()->send(hello.substr(0, said));
    }
    canary.say("meanwhile");
    CHECK(canary.hear() == "meanwhile");
    for (auto& each : held) CHECK(each->ends());
    // To the millisecond it is in tests/tls/tls_stream_test.cpp: here with patience, for others have this machine too.
    const auto took = std::chrono::steady_clock::now() - began;
    CHECK(took >= 3s);
    CHECK(took < 3s + patience);
    CHECK(server->metrics().tls.failed == held.size());
    canary.say("after all");
    CHECK(canary.hear() == "after all");
    // And one that has shaken hands and then says nothing.
    tls_client silent{server.port(), trusting()};
    REQUIRE(silent.is_connected());
    CHECK(silent.read_all() == "");
    CHECK(silent.why() == "end");
}

TEST_CASE("TCP that ends without close_notify is 1006") {
    journal ends;
    running_server server{secure(GENERATE(from_range(all_loops())))};
    server->on_disconnect([&](close_code code, std::string_view why) {
        ends.add(std::to_string(static_cast<unsigned>(code)) + (why.empty() ? "" : " ") + std::string{why});
    });
    server.start();
    tls_client client{server.port(), trusting()};
    REQUIRE(client.upgrade());
    client.cut();
    CHECK(ends.wait(1).find("1006 the stream ended without TLS's goodbye") == 0);
}

TEST_CASE("stop() says goodbye through TLS, and cuts who does not answer") {
    running_server server{secure(GENERATE(from_range(all_loops())), {.listener = {.stop_timeout = 200ms}})};
    server.start();
    tls_client client{server.port(), trusting()};
    REQUIRE(client.upgrade());
    tls_client silent{server.port(), trusting()};
    REQUIRE(silent.is_connected());
    raw_client stalled{server.port()};
    REQUIRE(eventually([&] { return server->metrics().sockets == 3; }));
    CHECK(server.stop() == "");
    CHECK(client.read(4) == std::string{"\x88\x12\x03\xE9", 4});
    CHECK(stalled.ends());
}

#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
TEST_CASE("TLS on a UNIX-domain socket") {
    const auto path = std::filesystem::temp_directory_path() / ("arke-tls-" + core::endpoint::random_id());
    running_server server{secure(GENERATE(from_range(all_loops())))};
    echo(server);
    server->listen_unix(path.string());
    server.start();
    tls_client client{asio::local::stream_protocol::endpoint{path.string()}, trusting()};
    REQUIRE(client.upgrade());
    client.say("hello");
    CHECK(client.hear() == "hello");
    client.cut();  // so that nobody is waited for
    CHECK(server.stop() == "");
    CHECK_FALSE(std::filesystem::exists(path));
}
#endif

TEST_CASE("behind a proxy that says who comes, TLS begins behind its header") {
    config settings = secure(GENERATE(from_range(all_loops())));
    settings.listener.trusted_proxies = {"127.0.0.1"};
    settings.listener.proxy_protocol = true;
    journal seen;
    running_server server{settings};
    server->on_connection([&](connection& c) {
        seen.add(std::string{c.request().remote_address()} + " " + std::string{c.request().tls()->version});
    });
    server.start();
    auto wish = trusting();
    wish.preface = "PROXY TCP4 192.0.2.7 127.0.0.1 12345 443\r\n";
    tls_client client{server.port(), wish};
    REQUIRE(client.upgrade());
    CHECK(seen.wait(1) == "192.0.2.7 TLSv1.3");
    CHECK_FALSE(tls_client{server.port(), trusting()}.is_connected());
}

TEST_CASE("a slow reader over TLS meets the same bounds") {
    running_server server{secure(GENERATE(from_range(all_loops())), {.max_outbox_bytes = 64 * 1024})};
    journal ends;
    server->on_disconnect(
        [&](close_code code, std::string_view) { ends.add(std::to_string(static_cast<unsigned>(code))); });
    server->on_message([](connection& c, message_view) {
        for (int i = 0; i != 2000 && c.is_connected(); ++i) c.emit_message(std::string(16'000, 'x'));
    });
    server.start();
    tls_client client{server.port(), trusting()};
    REQUIRE(client.upgrade());
    client.say("go");
    CHECK(ends.wait(1) == "1013");
}

TEST_CASE("what cannot work is refused by a sentence that says what to do") {
    const auto good = pem(ca().server);
    const auto has = [](const std::string& text, const std::string& part) {
        CAPTURE(text);
        CHECK(text.find(part) != std::string::npos);
    };
    has(refusal_of({.certificates = {{.chain_file = "/nowhere.pem", .key = good.key}}}),
        "\"/nowhere.pem\" cannot be read");
    has(refusal_of({.certificates = {{.key = good.key}}}), "has no chain; set chain_file");
    has(refusal_of({.certificates = {{.chain = good.chain}}}), "has no key; set key_file");
    has(refusal_of({.certificates = {{.chain_file = "a", .chain = "b", .key = good.key}}}),
        "has both chain_file and chain");
    has(refusal_of({.certificates = {{.chain = "hello", .key = good.key}}}), "holds no certificate; it is to be PEM");
    has(refusal_of({.certificates = {{.chain = good.chain, .key = good.chain}}}), "holds no private key");
    has(refusal_of({.certificates = {{.chain = good.chain, .key = ca().own.key()}}}),
        "the key belongs to another certificate");
    auto broken = good;
    broken.chain[60] = '!';
    has(refusal_of({.certificates = {broken}}), "cannot be read");
    auto locked = good;
    locked.key = ca().server.encrypted_key("secret");
    has(refusal_of({.certificates = {locked}}), "is encrypted; set key_password");
    locked.key_password = "wrong";
    has(refusal_of({.certificates = {locked}}), "cannot be decrypted; is key_password");
    locked.key_password = "secret";
    CHECK(refusal_of({.certificates = {locked}}) == "accepted");
    has(refusal_of({.certificates = {good}, .verify_clients = client_certificates::require}), "set client_ca_file");
    has(refusal_of({.certificates = {good}, .client_ca = good.chain}), "verify_clients is none");
    has(refusal_of({.certificates = {good},
                    .verify_clients = client_certificates::require,
                    .client_ca_file = "a",
                    .client_ca = good.chain}),
        "has both client_ca_file and client_ca");
    has(refusal_of({.verify_clients = client_certificates::require, .client_ca = good.chain}), "certificates is empty");
    has(refusal_of({.certificates = {good},
                    .verify_clients = client_certificates::require,
                    .client_ca_file = "a",
                    .client_ca = good.chain}),
        "has both client_ca_file and client_ca");
    has(refusal_of(
            {.certificates = {good}, .verify_clients = client_certificates::require, .client_ca_file = "/nowhere"}),
        "client_ca_file \"/nowhere\" cannot be read");
}

TEST_CASE("an expired certificate is taken, and said") {
    const test_certificate stale{{.subject = "stale", .begins = -20, .ends = -10}, ca().own};
    journal lines;
    config c = secure(loop_kind::automatic, {.listener = {.tls = {.certificates = {pem(stale)}}}});
    c.log = [&](std::string_view line) { lines.add(std::string{line}); };
    const server made{c};
    CHECK(lines.text() == "TLS: certificates[0] (CN=stale) has expired; clients will refuse it");
}

TEST_CASE("TLS handshakes of one address have the bound of handshakes: one more is closed before it begins") {
    running_server server{secure(GENERATE(from_range(all_loops())),
                                 {.listener = {.max_handshakes_per_second = 1, .handshake_burst = 3}})};
    echo(server);
    server.start();
    for (int i = 0; i != 3; ++i) CHECK(tls_client{server.port(), trusting()}.is_connected());
    // The next, or where the machine takes a second for some of them, one behind it.
    CHECK(eventually([&] { return !tls_client{server.port(), trusting()}.is_connected(); }));
    CHECK(server->metrics().turned_away == 1);
    CHECK(server->metrics().tls.failed == 0);
}

TEST_CASE("behind a proxy that says who comes, the bound of TLS handshakes is the client's") {
    config settings = secure(loop_kind::automatic, {.listener = {.max_handshakes_per_second = 1}});
    settings.listener.trusted_proxies = {"127.0.0.1"};
    settings.listener.proxy_protocol = true;
    running_server server{settings};
    server.start();
    auto wish = trusting();
    wish.preface = "PROXY TCP4 192.0.2.7 127.0.0.1 12345 443\r\n";
    CHECK(tls_client{server.port(), wish}.is_connected());
    CHECK(eventually([&] { return !tls_client{server.port(), wish}.is_connected(); }));
    CHECK(server->metrics().turned_away == 1);
    wish.preface = "PROXY TCP4 192.0.2.8 127.0.0.1 12345 443\r\n";
    CHECK(tls_client{server.port(), wish}.is_connected());
}

TEST_CASE("past max_connections_per_address some hear 429 over TLS, and more are closed before it begins") {
    // Each of them was given a handshake.
    running_server server{secure(GENERATE(from_range(all_loops())), {.listener = {.max_connections_per_address = 1}})};
    echo(server);
    server.start();
    tls_client one{server.port(), trusting()};
    REQUIRE(one.is_connected());
    CHECK(within_a_second([&] {
              tls_client two{server.port(), trusting()};
              two.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
              return two.read_until("\r\n");
          }).starts_with("HTTP/1.1 429"));
    CHECK(server->metrics().turned_away == 0);
    std::vector<std::unique_ptr<raw_client>> silent;
    CHECK(eventually([&] {
        // As many as may wait, at once: each does so for a second.
        for (int i = 0; i != 8; ++i) silent.push_back(std::make_unique<raw_client>(server.port()));
        return !tls_client{server.port(), trusting()}.is_connected();
    }));
    // One that leaves may still hold its place when a silent one comes, which is then turned away, too.
    CHECK(server->metrics().turned_away > 0);
}
