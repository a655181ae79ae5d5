#include <arke/client.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/raw_server.hpp"
#include "tests/support/running_server.hpp"

// permessage-deflate over sockets, with Beast and with Arke itself on the other end.

using namespace arke;
using arke::test::all_loops;
using beast_client = arke::test::client;
using arke::test::quiet;
using arke::test::raw_peer;
using arke::test::raw_server;
using arke::test::running_server;
using namespace std::chrono_literals;
namespace websocket = boost::beast::websocket;

namespace {

std::string prices(std::size_t size, int seed = 0) {
    std::string out;
    for (int n = seed; out.size() < size; ++n)
        out += R"({"symbol":"ARKE)" + std::to_string(n % 7) + R"(","price":)" +
               std::to_string(n % 10'007 * 7919 % 10'007) + "},";
    return out.substr(0, size);
}

config compressing(loop_kind loop, compression_config c = {}) {
    c.enabled = true;
    return quiet(loop, {.max_message_size = 4UL << 20U, .compression = c});
}

websocket::permessage_deflate beast_with(bool server_takes_over, bool client_takes_over, int server_bits,
                                         int client_bits) {
    websocket::permessage_deflate o;
    o.client_enable = true;
    o.server_no_context_takeover = !server_takes_over;
    o.client_no_context_takeover = !client_takes_over;
    o.server_max_window_bits = server_bits;
    o.client_max_window_bits = client_bits;
    return o;
}

}  // namespace

TEST_CASE("a client of Beast and the server understand each other, whatever they agree on") {
    const auto loop = GENERATE(from_range(all_loops()));
    for (const bool server_keeps : {false, true}) {
        for (const bool client_keeps : {false, true}) {
            running_server net{compressing(loop, {.send_context_takeover = server_keeps,
                                                  .receive_context_takeover = client_keeps,
                                                  .send_window_bits = server_keeps ? 12 : 15,
                                                  .receive_window_bits = 13})};
            net->on_message([](connection& c, message_view m) { c.emit_message(m); });
            net->on("all", [&] { net->to(all).emit_message(prices(3'000)); });
            net.start();
            for (const auto& offer : {beast_with(true, true, 15, 15), beast_with(false, true, 9, 15),
                                      beast_with(true, false, 15, 9), beast_with(false, false, 10, 12)}) {
                beast_client c{net.port(), "/", {}, 0, offer};
                REQUIRE(c.status() == 101);
                CHECK(c.response_header("Sec-WebSocket-Extensions").starts_with("permessage-deflate"));
                for (const std::size_t size : {0U, 10U, 256U, 1'000U, 1'001U, 40'000U, 300'000U}) {
                    const auto text = prices(size, static_cast<int>(size));
                    c.send(text);
                    CHECK(c.receive() == text);
                }
                c.emit("all");
                CHECK(c.receive() == prices(3'000));
                c.send(prices(2'000), true);
                CHECK(c.receive() == prices(2'000));
                c.send_in_frames_of(64);
                c.send(prices(20'000));
                CHECK(c.receive() == prices(20'000));
                CHECK(c.close());
            }
            const auto m = net->metrics();
            // Beast compresses everything, Arke what is worth it.
            CHECK(m.received.compressed == 4 * 10);
            CHECK(m.sent.compressed == 4 * 8);
            CHECK(m.sent.compressed_bytes < m.sent.inflated_bytes / 2);
        }
    }
}

TEST_CASE("without compression in the config none is agreed on, and with it nobody is forced") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server off{quiet(loop)};
    off.start();
    beast_client offers{off.port(), "/", {}, 0, beast_with(true, true, 15, 15)};
    CHECK(offers.status() == 101);
    CHECK(offers.response_header("Sec-WebSocket-Extensions") == "");

    running_server on{compressing(loop)};
    on->on_message([](connection& c, message_view m) { c.emit_message(m); });
    on.start();
    beast_client offers_none{on.port()};
    CHECK(offers_none.status() == 101);
    CHECK(offers_none.response_header("Sec-WebSocket-Extensions") == "");
    offers_none.send(prices(1'000));
    CHECK(offers_none.receive() == prices(1'000));
    CHECK(on->metrics().sent.compressed == 0);
}

TEST_CASE("past max_total_context_bytes of all endpoints and loops the answer says that there is no takeover") {
    auto settings =
        compressing(GENERATE(from_range(all_loops())), {.receive_context_takeover = true, .receive_window_bits = 11});
    settings.listener.max_total_context_bytes = 2 * 9 * 1024;
    running_server net{settings};
    net->on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto other = settings;
    other.listener = {};
    net->endpoint("/other", other).on_message([](connection& c, message_view m) { c.emit_message(m); });
    net.start(2);
    const auto connect = [&](const char* path) {
        return std::make_unique<beast_client>(net.port(), path, arke::test::header_list{}, 0,
                                              beast_with(true, true, 15, 15));
    };
    const auto talks = [](beast_client& c) {
        for (const int n : {1, 2, 3}) {
            c.send(prices(1'000, n));
            CHECK(c.receive() == prices(1'000, n));
        }
    };
    const auto without = [](beast_client& c) {
        return c.response_header("Sec-WebSocket-Extensions").find("client_no_context_takeover") != std::string::npos;
    };
    auto anna = connect("/");
    auto ben = connect("/other");
    CHECK_FALSE(without(*anna));
    CHECK_FALSE(without(*ben));
    auto cleo = connect("/other");
    CHECK(without(*cleo));
    for (auto* each : {anna.get(), ben.get(), cleo.get()}) talks(*each);
    CHECK(net->metrics().context_bytes == 2 * 9 * 1024);
    CHECK(net->metrics().prometheus().find("\narke_compression_context_bytes 18432\n") != std::string::npos);
    ben.reset();
    CHECK(arke::test::eventually([&] { return net->metrics().context_bytes == 9 * 1024; }));
    auto dora = connect("/");
    CHECK_FALSE(without(*dora));
    talks(*dora);
}

TEST_CASE("one broadcast reaches those who compress and those who do not, over all loops") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server net{compressing(loop, {.send_context_takeover = true})};
    net.start(3);
    std::vector<std::unique_ptr<beast_client>> all_of_them;
    for (int n = 0; n != 12; ++n) {
        all_of_them.push_back(std::make_unique<beast_client>(
            net.port(), "/", arke::test::header_list{}, 0,
            n % 3 == 0 ? websocket::permessage_deflate{} : beast_with(n % 2 == 0, true, n % 3 == 1 ? 15 : 10, 15)));
    }
    CHECK(arke::test::eventually([&] { return net->connections().size() == 12; }));
    for (const std::size_t size : {300U, 5'000U, 200'000U}) {
        net->to(all).emit_message(prices(size));
        for (auto& c : all_of_them) CHECK(c->receive() == prices(size));
    }
    // What is sent at once is counted behind that, by each loop for itself.
    CHECK(arke::test::eventually([&] { return net->metrics().sent.compressed == 3 * 8; }));
}

TEST_CASE("Arke's client compresses with Arke's server, in both directions") {
    const auto loop = GENERATE(from_range(all_loops()));
    for (const bool keeps : {false, true}) {
        running_server net{compressing(loop, {.send_context_takeover = keeps, .receive_context_takeover = keeps})};
        net->on("say", [](std::string text) { return text; });
        net.start();
        client_config settings;
        settings.loop = loop;
        settings.compression = {.enabled = true,
                                .send_context_takeover = true,
                                .receive_context_takeover = true,
                                .send_window_bits = 13,
                                .receive_window_bits = 12};
        arke::client c{"ws://127.0.0.1:" + std::to_string(net.port()) + "/", settings};
        c.start();
        for (int n = 0; n != 20; ++n) {
            const auto text = prices(2'000, n);
            CHECK(c.ask<std::string>("say", text, 20s, boost::asio::use_future).get() == text);
        }
        const auto m = net->metrics();
        CHECK(m.received.compressed == 20);
        CHECK(m.sent.compressed == 20);
        // What goes on from message to message is far shorter.
        CHECK((m.sent.compressed_bytes < m.sent.inflated_bytes / 10) == keeps);
        CHECK((m.received.compressed_bytes < m.received.inflated_bytes / 10) == keeps);
    }
}

TEST_CASE("an answer to the client's offer that is none fails the handshake") {
    const std::vector<std::pair<std::string, std::string>> table{
        {"permessage-deflate; client_max_window_bits", "unknown, said twice, or has a value"},
        {"permessage-deflate; server_max_window_bits=16", "unknown, said twice, or has a value"},
        {"permessage-deflate; server_no_context_takeover; server_no_context_takeover", "said twice"},
        {"permessage-deflate", "without the server_no_context_takeover"},
        {"permessage-deflate; server_no_context_takeover, permessage-deflate", "twice"},
        {"permessage-deflate; server_no_context_takeover, x-other", "the extension x-other"},
        {"permessage-deflate; server_no_context_takeover;", "malformed"},
        {"x-webkit-deflate-frame", "which was not offered"},
    };
    for (const auto& [answer, sentence] : table) {
        INFO(answer);
        raw_server net{[&text = answer](raw_peer& p) {
            const auto head = p.read_head();
            if (head.find("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                          "client_no_context_takeover; client_max_window_bits\r\n") == std::string::npos)
                return;
            p.send(raw_peer::welcome(head, "Sec-WebSocket-Extensions: " + text + "\r\n"));
            p.wait_for_end();
        }};
        boost::asio::io_context context;
        client_config settings;
        settings.reconnect = false;
        settings.compression.enabled = true;
        arke::client c{context, net.url(), settings};
        std::string why;
        c.on_error([&](const error_report& e) { why = e.detail; });
        std::optional<error_code> failed;
        c.async_connect([&](error_code ec) { failed = ec; });
        const auto end = std::chrono::steady_clock::now() + arke::test::patience;
        while (!failed && std::chrono::steady_clock::now() < end) context.run_one_for(100ms);
        REQUIRE(failed);
        CHECK(*failed == errc::handshake_refused);
        INFO(why);
        CHECK(why.find(sentence) != std::string::npos);
    }
}
