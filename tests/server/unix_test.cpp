#include <arke/arke.hpp>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>

#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

/// A folder of its own for a test's sockets.
class folder {
public:
    std::string file(const std::string& name = "x.sock") const { return (place_.path() / name).string(); }

private:
    temporary_folder place_;
};

/// A server on a UNIX-domain socket that echoes, in a thread of its own.
class unix_server {
public:
    explicit unix_server(const std::string& path, config c = quiet(loop_kind::automatic), unsigned mode = 0660)
        : server_{std::move(c)} {
        server_.on_message([](connection& who, message_view m) { who.emit_message(m); });
        server_.on("who", [](connection& who) {
            const auto p = who.request().remote_process();
            return std::string{who.request().remote_address()} + " " +
                   (p ? std::to_string(p->id) + " " + std::to_string(p->user) + " " + std::to_string(p->group)
                      : "nobody");
        });
        server_.listen_unix(path, mode);
        thread_ = std::thread{[this] { server_.run(); }};
    }
    ~unix_server() { stop(); }
    unix_server(const unix_server&) = delete;
    unix_server& operator=(const unix_server&) = delete;

    server& get() { return server_; }
    void stop() {
        server_.stop();
        if (thread_.joinable()) thread_.join();
    }

private:
    server server_;
    std::thread thread_;
};

/// Bytes over a UNIX-domain socket; blocking.
class unix_stream {
public:
    explicit unix_stream(const std::string& path) : socket_{context_} {
        socket_.connect(boost::asio::local::stream_protocol::endpoint{path});
    }
    void send(std::string_view bytes) { boost::asio::write(socket_, boost::asio::buffer(bytes.data(), bytes.size())); }
    std::string read_until(const std::string& mark) {
        boost::system::error_code ec;
        const auto size = boost::asio::read_until(socket_, boost::asio::dynamic_buffer(in_), mark, ec);
        return in_.substr(0, size);
    }

private:
    boost::asio::io_context context_;
    boost::asio::local::stream_protocol::socket socket_;
    std::string in_;
};

std::string refusal_of(const std::string& path, unsigned mode = 0660) {
    try {
        server made{quiet(loop_kind::automatic)};
        made.listen_unix(path, mode);
        return "listens";
    } catch (const std::runtime_error& e) {
        return e.what();
    }
}

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("events and questions go over a UNIX-domain socket, and the server knows whose process asks") {
    const auto loop = GENERATE(from_range(all_loops()));
    folder place;
    unix_server there{place.file(), quiet(loop)};
    client_config settings;
    settings.loop = loop;
    journal heard;
    arke::client c{"ws+unix://" + place.file() + ":/", settings};
    c.on_message([&](message_view m) { heard.add(std::string{m.data}); });
    c.start();
    auto who = c.ask<std::string>("who", 10s, boost::asio::use_future);
    CHECK(who.get() ==
          "unix " + std::to_string(::getpid()) + " " + std::to_string(::getuid()) + " " + std::to_string(::getgid()));
    c.emit_message("hello");
    CHECK(heard.wait(1) == "hello");
}

TEST_CASE("large messages pass both ways, though a UNIX-domain socket takes little at once") {
    const auto loop = GENERATE(from_range(all_loops()));
    constexpr std::size_t size = 3U << 20U;
    folder place;
    unix_server there{place.file(), quiet(loop, {.max_message_size = size + 100, .max_outbox_bytes = 4 * size})};
    client_config settings;
    settings.loop = loop;
    settings.max_message_size = size + 100;  // what arke.v1 adds
    settings.max_outbox_bytes = 4 * size;
    settings.max_queue_bytes = 4 * size;
    journal heard;
    arke::client c{"ws+unix://" + place.file(), settings};
    std::string big(size, '\0');
    for (std::size_t i = 0; i != size; ++i) big[i] = static_cast<char>('a' + (i * 2654435761U >> 13U) % 26);
    c.on_message([&](message_view m) { heard.add(m.data == big ? "same" : "other"); });
    c.on_error([&](const error_report& e) { heard.add(e.code.message() + ": " + std::string{e.detail}); });
    c.start();
    for (int i = 0; i != 3; ++i) c.emit_message(big);
    CHECK(heard.wait(3) == "same same same");
}

TEST_CASE("HTTP is served there too") {
    const auto loop = GENERATE(from_range(all_loops()));
    folder place;
    unix_server there{place.file(), quiet(loop)};
    unix_stream one{place.file()};
    one.send("GET /arke.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(one.read_until("\r\n").starts_with("HTTP/1.1 200"));
}

TEST_CASE("the file has the mode that was asked for, and goes with the server") {
    folder place;
    unix_server there{place.file(), quiet(loop_kind::automatic), 0600};
    struct stat made {};
    REQUIRE(::stat(place.file().c_str(), &made) == 0);
    CHECK((made.st_mode & 0777U) == 0600U);
    unix_stream one{place.file()};
    one.send("GET /arke.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(one.read_until("\r\n").starts_with("HTTP/1.1 200"));
    there.stop();
    CHECK_FALSE(fs::exists(place.file()));
}

TEST_CASE("a socket that a server has left is replaced; one that is listened on, or is something else, is not") {
    folder place;
    {
        boost::asio::io_context context;
        boost::asio::local::stream_protocol::acceptor left{context, {place.file()}};
    }
    REQUIRE(fs::exists(place.file()));
    {
        unix_server there{place.file()};
        CHECK(says(refusal_of(place.file()), "another server listens on it; stop that one"));
        CHECK(fs::exists(place.file()));
    }
    std::ofstream{place.file("text")} << "precious";
    CHECK(says(refusal_of(place.file("text")), "something at that path that is no socket"));
    CHECK(fs::file_size(place.file("text")) == 8);
}

TEST_CASE("a path that cannot be is refused with a sentence that says what to do") {
    folder place;
    const std::size_t most = sizeof(sockaddr_un::sun_path) - 1;
    const auto longest = place.file(std::string(most - place.file("").size(), 'x'));
    REQUIRE(longest.size() == most);
    CHECK(refusal_of(longest) == "listens");
    CHECK(says(refusal_of(longest + "x"), "the path has 108 bytes, and the system takes 107; choose a shorter one"));
    CHECK(says(refusal_of(place.file("missing/x.sock")), "the folder does not exist; make it"));
    CHECK(says(refusal_of(""), "that is no path of a file"));
    CHECK(says(refusal_of(place.file(), 01777), "the mode has more than"));
    CHECK_FALSE(fs::exists(place.file()));
}

TEST_CASE("a server takes its own file down, and not that of another who has replaced it") {
    folder place;
    unix_server first{place.file()};
    fs::remove(place.file());
    unix_server second{place.file()};
    first.stop();
    CHECK(fs::exists(place.file()));
    unix_stream one{place.file()};
    one.send("GET /arke.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(one.read_until("\r\n").starts_with("HTTP/1.1 200"));
}

TEST_CASE("limits of addresses do not count those who have none, and a trusted proxy may come that way") {
    folder place;
    auto c = quiet(loop_kind::automatic);
    c.listener.max_connections_per_address = 1;
    c.listener.max_handshakes_per_second = 1;
    c.listener.trusted_proxies = {"unix"};
    unix_server there{place.file(), std::move(c)};
    there.get().on_connection(
        [](connection& who) { who.emit_message(std::string{who.request().remote_address()} + "!"); });
    unix_stream one{place.file()};
    unix_stream two{place.file()};
    for (auto* each : {&one, &two}) {
        each->send(upgrade_request());
        CHECK(says(each->read_until("unix!"), "101"));
    }
    unix_stream proxied{place.file()};
    proxied.send(upgrade_request("/", {{"X-Forwarded-For", "192.0.2.7"}}));
    CHECK(says(proxied.read_until("192.0.2.7!"), "101"));
    // The next, or where the machine takes a second for it, one behind it.
    CHECK(eventually([&] {
        unix_stream again{place.file()};
        again.send(upgrade_request("/", {{"X-Forwarded-For", "192.0.2.7"}}));
        return says(again.read_until("\r\n"), "429");
    }));
}

TEST_CASE("a client says what is wrong with a socket that it cannot reach") {
    folder place;
    client_config settings;
    settings.reconnect = false;
    for (const auto& [path, why] : {std::pair{place.file(), "is the server running"},
                                    std::pair{"/" + std::string(200, 'x'), "choose a shorter path"}}) {
        arke::client c{"ws+unix://" + path + ":/", settings};
        journal heard;
        c.on_error([&](const error_report& e) { heard.add(std::string{e.detail}); });
        c.run();
        CHECK(says(heard.wait(1), "cannot connect to the UNIX-domain socket " + path));
        CHECK(says(heard.text(), why));
    }
    settings.proxy = "http://127.0.0.1:3128";
    CHECK_THROWS_AS((arke::client{"ws+unix:///x", settings}), std::invalid_argument);
}

#endif
