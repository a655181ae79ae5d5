#include <arke/io/connector.hpp>
#include <arke/io/make_loop.hpp>

#include <algorithm>
#include <chrono>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "tests/support/catch.hpp"
#include "tests/support/held_port.hpp"

namespace asio = boost::asio;
namespace io = arke::io;
using tcp = asio::ip::tcp;
using namespace std::chrono_literals;

namespace {

std::string in_turns(const std::vector<const char*>& addresses) {
    std::vector<tcp::endpoint> all;
    for (const auto* a : addresses) all.emplace_back(asio::ip::make_address(a), std::uint16_t{1});
    std::string text;
    for (const auto& e : io::in_turns(all)) text += (text.empty() ? "" : " ") + e.address().to_string();
    return text;
}

tcp::endpoint local(std::uint16_t port = 0) { return {asio::ip::make_address("127.0.0.1"), port}; }

struct scene {
    asio::io_context context;
    io::asio_loop_ptr loop = io::make_loop(context, 0, {}, true);
    std::optional<io::connected> result;

    ~scene() { loop->shut_down(); }

    io::connector::on_done done() {
        return [this](io::connected what) { result.emplace(std::move(what)); };
    }
    void wait() {
        const auto end = std::chrono::steady_clock::now() + 20s;
        while (!result && std::chrono::steady_clock::now() < end) context.run_one_for(20ms);
    }

    /// An address at which nobody listens.
    tcp::endpoint nobody() { return local(held_.emplace_back().port()); }

private:
    std::list<arke::test::held_port> held_;
};

/// An address that does not answer: a listener that takes no one more.
struct silent {
    tcp::acceptor acceptor;
    std::vector<std::unique_ptr<tcp::socket>> waiting;

    explicit silent(asio::io_context& context) : acceptor{context} {
        acceptor.open(tcp::v4());
        acceptor.bind(local());
        acceptor.listen(0);
        for (int i = 0; i != 8; ++i) {
            waiting.push_back(std::make_unique<tcp::socket>(context));
            waiting.back()->async_connect(acceptor.local_endpoint(), [](const boost::system::error_code&) {});
        }
    }
};

}  // namespace

TEST_CASE("a strand is as good as a loop: whoever has only that connects by it") {
    asio::io_context context;
    std::optional<io::connected> result;
    tcp::acceptor server{context, local()};
    const auto strand = asio::make_strand(context);
    const auto c =
        io::connector::start({context, strand}, "127.0.0.1", server.local_endpoint().port(), [&](io::connected what) {
            CHECK(strand.running_in_this_thread());
            result.emplace(std::move(what));
        });
    CHECK_FALSE(result);
    context.run_for(20s);
    REQUIRE(result);
    CHECK(result->why == "");
    CHECK(result->address == "127.0.0.1");
    CHECK(result->socket);
}

TEST_CASE("addresses take turns by their families, beginning with that of the first; at most sixteen are tried") {
    CHECK(in_turns({}).empty());
    CHECK(in_turns({"::1"}) == "::1");
    CHECK(in_turns({"::1", "::2", "127.0.0.1", "::3", "127.0.0.2"}) == "::1 127.0.0.1 ::2 127.0.0.2 ::3");
    CHECK(in_turns({"127.0.0.1", "127.0.0.2", "::1"}) == "127.0.0.1 ::1 127.0.0.2");
    CHECK(in_turns({"127.0.0.1", "127.0.0.2"}) == "127.0.0.1 127.0.0.2");
    CHECK(io::in_turns(std::vector<tcp::endpoint>(40, local(1))).size() == 16);
}

TEST_CASE("the next address is tried as soon as one fails, and the socket is for the loop") {
    std::chrono::nanoseconds shortest = 20s;  // others have this machine too
    for (int round = 0; round != 5 && shortest >= 200ms; ++round) {
        scene s;
        tcp::acceptor there{s.context, local()};
        const auto begin = std::chrono::steady_clock::now();
        const auto c =
            io::connector::start(*s.loop, std::vector{s.nobody(), s.nobody(), there.local_endpoint()}, s.done());
        CHECK_FALSE(s.result);
        s.wait();
        REQUIRE(s.result);
        CHECK_FALSE(s.result->error);
        CHECK(s.result->port == there.local_endpoint().port());
        CHECK(s.result->address == "127.0.0.1");
        REQUIRE(s.result->socket);
        shortest = std::min<std::chrono::nanoseconds>(shortest, std::chrono::steady_clock::now() - begin);
    }
    CHECK(shortest < 200ms);
}

TEST_CASE("an address that does not answer has a quarter of a second, then the next is tried too") {
    scene s;
    tcp::acceptor there{s.context, local()};
    const silent first{s.context};
    const auto begin = std::chrono::steady_clock::now();
    const auto c =
        io::connector::start(*s.loop, std::vector{first.acceptor.local_endpoint(), there.local_endpoint()}, s.done());
    s.wait();
    REQUIRE(s.result);
    CHECK_FALSE(s.result->error);
    CHECK(s.result->port == there.local_endpoint().port());
    CHECK(std::chrono::steady_clock::now() - begin >= io::connector::head_start);
}

TEST_CASE("where all fail, the first error is told, and each address with its own") {
    scene s;
    const auto c = io::connector::start(*s.loop, std::vector{s.nobody(), s.nobody()}, s.done());
    s.wait();
    REQUIRE(s.result);
    CHECK(s.result->error == asio::error::connection_refused);
    CHECK(s.result->why.find("Connection refused (127.0.0.1), Connection refused (127.0.0.1)") != std::string::npos);
    CHECK_FALSE(s.result->socket);
}

TEST_CASE("after cancel() nothing is told, whatever was under way") {
    scene s;
    tcp::acceptor there{s.context, local()};
    const silent mute{s.context};
    const std::vector<std::vector<tcp::endpoint>> all{
        {there.local_endpoint()}, {s.nobody()}, {mute.acceptor.local_endpoint(), there.local_endpoint()}};
    for (const auto& addresses : all) {
        for (int steps = 0; steps != 4; ++steps) {
            const auto c = io::connector::start(*s.loop, addresses, s.done());
            for (int i = 0; i != steps && !s.result; ++i) s.context.run_one_for(1ms);
            if (s.result) {
                s.result.reset();
                continue;
            }
            c->cancel();
            s.context.run_for(5ms);
            CHECK_FALSE(s.result);
        }
    }
    const auto named = io::connector::start(*s.loop, "localhost", 1, s.done());
    named->cancel();
    s.context.run_for(50ms);
    CHECK_FALSE(s.result);
}
