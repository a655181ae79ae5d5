#include <arke/server.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/beast/_experimental/test/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/websocket/rfc6455.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/foreign_server.hpp"
#include "tests/support/running_server.hpp"

// Connections whose request another HTTP server has read. That one is Beast's, of a few lines, with two threads.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;
namespace beast = boost::beast;
namespace beast_http = boost::beast::http;
namespace asio = boost::asio;

namespace {

using upgrade_taker =
    std::function<void(beast::tcp_stream, const beast_http::request<beast_http::empty_body>&, beast::flat_buffer)>;

/// An AsyncStream of the user's that has no descriptor to take: TLS would be one.
template <class Below>
class wrapped {
public:
    using executor_type = typename Below::executor_type;
    explicit wrapped(Below s) : stream_{std::move(s)} {}
    executor_type get_executor() { return stream_.get_executor(); }
    Below& next_layer() { return stream_; }
    template <class Buffers, class Handler>
    void async_read_some(const Buffers& b, Handler&& h) {
        stream_.async_read_some(b, std::forward<Handler>(h));
    }
    template <class Buffers, class Handler>
    void async_write_some(const Buffers& b, Handler&& h) {
        stream_.async_write_some(b, std::forward<Handler>(h));
    }

private:
    Below stream_;
};
using wrapped_stream = wrapped<beast::tcp_stream>;

/// Holds back what is written to the streams behind it, from the moment that it is shut.
class write_gate {
public:
    void shut() {
        const std::lock_guard lock{mutex_};
        is_shut_ = true;
    }
    void pass(std::function<void(bool)> write) {
        {
            const std::lock_guard lock{mutex_};
            if (is_shut_) return held_.push_back(std::move(write));
        }
        write(true);
    }
    /// Lets through what is held.
    void open() {
        for (auto& write : take()) write(true);
    }
    /// Lets it fail.
    void fail() {
        for (auto& write : take()) write(false);
    }
    bool holds() {
        const std::lock_guard lock{mutex_};
        return !held_.empty();
    }

private:
    std::vector<std::function<void(bool)>> take() {
        const std::lock_guard lock{mutex_};
        is_shut_ = false;
        return std::exchange(held_, {});
    }

    std::mutex mutex_;
    std::vector<std::function<void(bool)>> held_;
    bool is_shut_ = false;
};

class gated_stream {
public:
    using executor_type = beast::tcp_stream::executor_type;
    gated_stream(beast::tcp_stream s, std::shared_ptr<write_gate> gate)
        : stream_{std::make_shared<beast::tcp_stream>(std::move(s))}, gate_{std::move(gate)} {}
    executor_type get_executor() { return stream_->get_executor(); }
    beast::tcp_stream& next_layer() { return *stream_; }
    template <class Buffers, class Handler>
    void async_read_some(const Buffers& b, Handler&& h) {
        stream_->async_read_some(b, std::forward<Handler>(h));
    }
    template <class Buffers, class Handler>
    void async_write_some(const Buffers& b, Handler&& h) {
        // It goes with the stream's executor, on whatever thread the gate is opened.
        gate_->pass([s = stream_, b,
                     h = std::make_shared<std::decay_t<Handler>>(std::forward<Handler>(h))](bool succeeds) mutable {
            const auto on = s->get_executor();
            asio::post(on, [s = std::move(s), b, h = std::move(h), succeeds] {
                if (succeeds)
                    s->async_write_some(b, std::move(*h));
                else
                    (*h)(asio::error::broken_pipe, 0);
            });
        });
    }

private:
    std::shared_ptr<beast::tcp_stream> stream_;
    std::shared_ptr<write_gate> gate_;
};

/// The user's HTTP server: pages are its own, upgrades it hands on.
class beast_server : public foreign_server {
public:
    explicit beast_server(upgrade_taker take)
        : foreign_server{[take = std::move(take)](tcp::socket s) {
              const auto v = std::make_shared<visit>(std::move(s));
              beast_http::async_read(
                  v->stream, v->buffer, v->request, [take, v](beast::error_code failed, std::size_t) {
                      if (failed) return;
                      if (beast::websocket::is_upgrade(v->request))
                          return take(std::move(v->stream), v->request, std::move(v->buffer));
                      v->page.prepare_payload();
                      beast_http::async_write(v->stream, v->page, [v](beast::error_code, std::size_t) {});
                  });
          }} {}

private:
    struct visit {
        explicit visit(tcp::socket s) : stream{std::move(s)} {}
        beast::tcp_stream stream;
        beast::flat_buffer buffer;
        beast_http::request<beast_http::empty_body> request;
        beast_http::response<beast_http::string_body> page{beast_http::status::ok, 11, "a page of Beast's"};
    };
};

void echo(server& s) {
    s.on_connection([](connection& c) { c.emit_message("from " + std::string{c.request().remote_address()}); });
    s.on_message([](connection& c, message_view m) { c.emit_message(m); });
}

/// How the stream is handed over.
enum class by { socket, stream, wrapped };

upgrade_taker taker(server& to, by how) {
    return [&to, how](beast::tcp_stream s, const beast_http::request<beast_http::empty_body>& r,
                      const beast::flat_buffer& b) {
        if (how == by::socket) return to.adopt(s.release_socket(), r, b);
        if (how == by::stream) return to.adopt(std::move(s), r, b);
        to.adopt(wrapped_stream{std::move(s)}, r, b);
    };
}

/// As a stream whose writes pass the gate.
upgrade_taker gated_taker(server& to, std::shared_ptr<write_gate> gate) {
    return [&to, gate](beast::tcp_stream s, const beast_http::request<beast_http::empty_body>& r,
                       const beast::flat_buffer& b) {
        to.adopt(gated_stream{std::move(s), gate}, r, b);
    };
}

/// What asks for a WebSocket, without a server that has read it.
beast_http::request<beast_http::empty_body> an_upgrade() {
    beast_http::request<beast_http::empty_body> r{beast_http::verb::get, "/", 11};
    r.set(beast_http::field::host, "localhost");
    r.set(beast_http::field::upgrade, "websocket");
    r.set(beast_http::field::connection, "Upgrade");
    r.set(beast_http::field::sec_websocket_version, "13");
    r.set(beast_http::field::sec_websocket_key, "dGhlIHNhbXBsZSBub25jZQ==");
    return r;
}

/// A server that listens nowhere, and echoes.
struct echoing {
    explicit echoing(config c) : of{std::move(c)} { echo(of); }
    server of;
};

}  // namespace

TEST_CASE("a connection that was read by Beast's HTTP server becomes one of this server, whatever its stream") {
    const auto how = GENERATE(by::socket, by::stream, by::wrapped);
    echoing net{quiet(GENERATE(from_range(all_loops())),
                      {.endpoint = "/ws", .max_message_size = 4U << 20U, .max_outbox_bytes = 16U << 20U})};
    beast_server pages{taker(net.of, how)};
    const running_loops runs{net.of};
    CHECK(raw_client{pages.port()}.get("/").body == "a page of Beast's");
    client one{pages.port(), "/ws"};
    REQUIRE(one.status() == 101);
    CHECK(one.receive() == "from 127.0.0.1");
    one.send("hello");
    CHECK(one.receive() == "hello");
    const std::string big(3U << 20U, 'b');
    for (int i = 0; i != 3; ++i) one.send(big);
    for (int i = 0; i != 3; ++i) CHECK((one.receive() == big));
    client two{pages.port(), "/ws"};
    CHECK(two.receive() == "from 127.0.0.1");
    CHECK(net.of.metrics().connections == 2);
    one.close();
    CHECK(eventually([&] { return net.of.metrics().sockets == 1; }));
    two.drop();
    CHECK(eventually([&] { return net.of.metrics().sockets == 0; }));
}

TEST_CASE("frames that came with the request are heard") {
    const auto how = GENERATE(by::socket, by::wrapped);
    echoing net{quiet(GENERATE(from_range(all_loops())))};
    beast_server pages{taker(net.of, how)};
    const running_loops runs{net.of};
    raw_client one{pages.port()};
    std::string frames;
    for (int i = 0; i != 50; ++i) frames += masked_frame(0x81, "early " + std::to_string(i));
    one.send(upgrade_request() + frames);
    CHECK(one.read_reply().status == 101);
    CHECK(one.read_until("early 0") ==
          "\x81\x0E"
          "from 127.0.0.1\x81\x07"
          "early 0");
    CHECK(one.read_until("early 49").ends_with("early 49"));
}

TEST_CASE(
    "what the server refuses is answered and closed: another path, a foreign origin, a bad version, one too many") {
    const auto how = GENERATE(by::socket, by::wrapped);
    auto c = quiet(loop_kind::automatic, {.endpoint = "/ws"});
    c.listener.max_connections_per_address = 2;
    echoing net{std::move(c)};
    beast_server pages{taker(net.of, how)};
    const running_loops runs{net.of};
    const auto status = [&](const std::string& path, const header_list& headers = {}) {
        const auto before = net.of.metrics().sockets;
        raw_client one{pages.port()};
        one.send(upgrade_request(path, headers));
        const auto reply = one.read_reply();
        auto seen = std::to_string(reply.status) + (one.ends() ? "" : " stays");
        one.drop();
        // It counts until the server has heard of the end.
        CHECK(eventually([&] { return net.of.metrics().sockets == before; }));
        return seen;
    };
    CHECK(status("/other") == "404");
    CHECK(status("/arke.js") == "404");
    CHECK(status("/ws", {{"Origin", "http://evil.example"}}) == "403");
    CHECK(eventually([&] { return net.of.metrics().sockets == 0; }));
    raw_client one{pages.port()};
    one.send(upgrade_request("/ws"));
    CHECK(one.read_reply().status == 101);
    raw_client two{pages.port()};
    two.send(upgrade_request("/ws"));
    CHECK(two.read_reply().status == 101);
    CHECK(status("/ws") == "429");
    // Eight who do not go may have heard it; past those there is no answer.
    std::vector<std::unique_ptr<raw_client>> stay;
    CHECK(eventually([&] {
        stay.push_back(std::make_unique<raw_client>(pages.port()));
        stay.back()->send(upgrade_request("/ws"));
        return stay.back()->read_reply().status == 0;
    }));
    CHECK(net.of.metrics().turned_away > 0);
}

TEST_CASE("a server in the same io_context takes over too") {
    const auto how = GENERATE(by::socket, by::wrapped);
    std::unique_ptr<server> s;
    {
        beast_server pages{[&](beast::tcp_stream stream, const beast_http::request<beast_http::empty_body>& r,
                               const beast::flat_buffer& b) { taker(*s, how)(std::move(stream), r, b); }};
        s = std::make_unique<server>(pages.context(), quiet(GENERATE(from_range(all_loops()))));
        echo(*s);
        client one{pages.port()};
        CHECK(one.receive() == "from 127.0.0.1");
        one.send("hello");
        CHECK(one.receive() == "hello");
        s->stop(5s);
        CHECK(one.receive() == "close(1001 the server stops)");
        s.reset();
    }
}

TEST_CASE("a stop says goodbye to those that were adopted, and closes who comes later") {
    const auto how = GENERATE(by::socket, by::wrapped);
    echoing net{quiet(GENERATE(from_range(all_loops())))};
    beast_server pages{taker(net.of, how)};
    const running_loops runs{net.of};
    client one{pages.port()};
    CHECK(one.receive() == "from 127.0.0.1");
    net.of.stop(5s);
    CHECK(one.receive() == "close(1001 the server stops)");
    raw_client late{pages.port()};
    late.send(upgrade_request());
    CHECK(late.ends());
}

TEST_CASE("a slow reader of an adopted stream is held to its bound") {
    echoing net{quiet(loop_kind::automatic, {.max_outbox_bytes = 256 * 1024})};
    net.of.on("flood", [](connection& c) {
        for (int i = 0; i != 400; ++i) c.emit_message(std::string(64 * 1024, 'x'));
    });
    beast_server pages{taker(net.of, by::wrapped)};
    const running_loops runs{net.of};
    client one{pages.port()};
    CHECK(one.receive() == "from 127.0.0.1");
    one.emit("flood");
    CHECK(eventually([&] { return net.of.metrics().closed.outbox_full == 1; }));
}

TEST_CASE(
    "what an adopted stream has not written when its client has gone half is written all the same, for close_timeout") {
    // It went lost, up to 64 KiB of it: the answer to who asks, says goodbye and ends its direction.
    const bool is_in_time = GENERATE(true, false);
    echoing net{quiet(loop_kind::automatic, {.close_timeout = is_in_time ? 20s : 50ms})};
    const auto gate = std::make_shared<write_gate>();
    beast_server pages{gated_taker(net.of, gate)};
    const running_loops runs{net.of};
    raw_client one{pages.port()};
    one.send(upgrade_request());
    CHECK(one.read_reply().status == 101);
    one.read_until("from 127.0.0.1");
    gate->shut();
    one.send(masked_frame(0x81, "question") + masked_frame(0x88, "\x03\xE8"));
    one.shutdown();
    CHECK(eventually([&] { return net.of.metrics().sockets == 0; }));
    if (is_in_time) {
        gate->open();
        CHECK(one.read_to_end() == "\x81\x08question\x88\x02\x03\xE8");
    } else {
        CHECK(one.read_to_end() == "");
        gate->fail();
    }
}

TEST_CASE("an adopted stream is read no faster than its rate, and loses nothing for that") {
    echoing net{quiet(loop_kind::automatic, {.max_messages_per_second = 100, .message_burst = 50})};
    beast_server pages{taker(net.of, by::wrapped)};
    const running_loops runs{net.of};
    raw_client one{pages.port()};
    one.send(upgrade_request());
    REQUIRE(one.read_until("from 127.0.0.1").starts_with("HTTP/1.1 101"));
    CHECK(is_echoed_all(one, 70));
    CHECK(net.of.metrics().slowed >= 1);
    one.send(masked_frame(0x81, "still here"));
    CHECK(one.read_until("still here") == "\x81\x0Astill here");
}

#ifdef BOOST_ASIO_HAS_LOCAL_SOCKETS
TEST_CASE("who came by a UNIX-domain socket is known as that, however its stream is handed over") {
    const auto how = GENERATE(by::socket, by::wrapped);
    echoing net{quiet(GENERATE(from_range(all_loops())))};
    asio::io_context context;
    auto work = asio::make_work_guard(context);
    std::thread runs{[&] { context.run(); }};
    {
        const running_loops loops_run{net.of};
        using local = asio::local::stream_protocol;
        local::socket theirs{context};
        local::socket ours{context};
        asio::local::connect_pair(theirs, ours);
        const auto r = an_upgrade();
        if (how == by::socket)
            net.of.adopt(std::move(ours), r, std::string_view{});
        else
            net.of.adopt(wrapped<local::socket>{std::move(ours)}, r, std::string_view{});
        std::string said;
        asio::read_until(theirs, asio::dynamic_buffer(said), "from unix");
        CHECK(said.starts_with("HTTP/1.1 101"));
    }
    work.reset();
    runs.join();
}
#endif

TEST_CASE("an adopted stream whose write fails is closed at once, whoever has said what") {
    const bool has_gone = GENERATE(false, true);
    echoing net{quiet(loop_kind::automatic, {.close_timeout = 60s})};
    const auto gate = std::make_shared<write_gate>();
    beast_server pages{gated_taker(net.of, gate)};
    const running_loops runs{net.of};
    raw_client one{pages.port()};
    one.send(upgrade_request());
    one.read_until("from 127.0.0.1");
    gate->shut();
    one.send(masked_frame(0x81, "question"));
    if (has_gone) {
        one.shutdown();
        CHECK(eventually([&] { return net.of.metrics().sockets == 0; }));
    }
    CHECK(eventually([&] { return gate->holds(); }));
    gate->fail();
    CHECK(one.read_to_end() == "");
    CHECK(eventually([&] { return net.of.metrics().sockets == 0; }));
}

TEST_CASE("a stop does not wait longer than it may for what an adopted stream has not written") {
    echoing net{quiet(loop_kind::automatic, {.close_timeout = 20s})};
    const auto gate = std::make_shared<write_gate>();
    beast_server pages{gated_taker(net.of, gate)};
    raw_client one{pages.port()};
    {
        const running_loops runs{net.of};
        one.send(upgrade_request());
        one.read_until("from 127.0.0.1");
        gate->shut();
        one.send(masked_frame(0x88, "\x03\xE8"));
        one.shutdown();
        CHECK(eventually([&] { return net.of.metrics().sockets == 0; }));
        net.of.stop(20ms);
    }
    CHECK(one.read_to_end() == "");
    gate->fail();
}

TEST_CASE("a stream that breaks at any operation ends its connection and nothing else") {
    for (std::size_t failing = 1; failing != 14; ++failing) {
        beast::test::fail_count breaks{failing};  // operations ask it as long as the context runs
        echoing net{quiet(loop_kind::automatic)};
        asio::io_context context;
        auto work = asio::make_work_guard(context);
        std::thread runs{[&] { context.run(); }};
        {
            const running_loops loops_run{net.of};
            beast::test::stream theirs{context};
            beast::test::stream ours{context, breaks};
            ours.connect(theirs);
            const auto r = an_upgrade();
            net.of.adopt(std::move(ours), r, std::string_view{});
            // Reads and writes.
            for (int i = 0; i != 8; ++i) theirs.append(masked_frame(0x81, "message"));
            theirs.close();
            CHECK(eventually([&] { return net.of.metrics().sockets == 0; }));
        }
        work.reset();
        runs.join();
    }
}

TEST_CASE("an io_context that goes before the connections of its streams takes them with it") {
    echoing net{quiet(GENERATE(from_range(all_loops())))};
    auto pages = std::make_unique<beast_server>(taker(net.of, by::wrapped));
    const running_loops runs{net.of};
    client one{pages->port()};
    CHECK(one.receive() == "from 127.0.0.1");
    pages.reset();
    CHECK(one.receive().starts_with("closed") == false);
    net.of.stop(10ms);
}
