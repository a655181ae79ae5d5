#include <arke/arke.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"

using arke::config;
using namespace std::chrono_literals;

namespace {

std::string refusal_of(const config& c) {
    try {
        const arke::server made{c};
        return "accepted";
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
}

bool names_all(const std::string& text, const std::vector<std::string>& parts) {
    for (const auto& part : parts) {
        if (text.find(part) == std::string::npos) return false;
    }
    return true;
}

struct bad_value {
    std::function<void(config&)> spoil;
    std::string field;
    std::string value;
    std::string mend;
};

}  // namespace

TEST_CASE("each bad value of a config is refused by a sentence that names the field, the value and the mend") {
    const std::vector<bad_value> table{
        {[](config& c) { c.endpoint = "chat"; }, "endpoint", "chat", "starts with '/'"},
        {[](config& c) { c.endpoint = "/a b"; }, "endpoint", "/a b", "leave out spaces"},
        {[](config& c) { c.endpoint = "/a?b"; }, "endpoint", "/a?b", "leave out"},
        {[](config& c) { c.endpoint = "/a#b"; }, "endpoint", "/a#b", "leave out"},
        {[](config& c) { c.endpoint = "/\xC3\xA4"; }, "endpoint", "/", "ASCII"},
        {[](config& c) { c.write_timeout = 0ms; }, "write_timeout", "0 ms", "greater than zero"},
        {[](config& c) { c.message_timeout = 0ms; }, "message_timeout", "0 ms", "greater than zero"},
        {[](config& c) { c.pong_timeout = -1ms; }, "pong_timeout", "-1 ms", "greater than zero"},
        {[](config& c) { c.ping_period = 60'000ms; }, "ping_period", "60000 ms", "below pong_timeout"},
        {[](config& c) { c.ping_period = 60'001ms; }, "ping_period", "60001 ms", "below pong_timeout"},
        {[](config& c) { c.ping_period = 0ms; }, "ping_period", "0 ms", "greater than zero"},
        {[](config& c) { c.pong_timeout = 1ms; }, "ping_period", "0 ms", "leave it unset"},
        {[](config& c) { c.close_timeout = 0ms; }, "close_timeout", "0 ms", "greater than zero"},
        {[](config& c) { c.max_message_size = 0; }, "max_message_size", "0", "1 or more"},
        {[](config& c) { c.max_fragments = 0; }, "max_fragments", "0", "1 or more"},
        {[](config& c) { c.max_json_depth = 0; }, "max_json_depth", "0", "1 or more"},
        {[](config& c) { c.max_outbox_bytes = 0; }, "max_outbox_bytes", "0", "1 or more"},
        {[](config& c) {
             c.headers = {{"X Y", "v"}};
         },
         "headers", "X Y", "use letters"},
        {[](config& c) {
             c.headers = {{"", "v"}};
         },
         "headers", "\"\"", "use letters"},
        {[](config& c) {
             c.headers = {{"X", "a\r\nSet-Cookie: b"}};
         },
         "headers", "Set-Cookie", "leave out CR, LF"},
        {[](config& c) {
             c.headers = {{"X", std::string{"a\0b", 3}}};
         },
         "headers", "X", "control characters"},
        {[](config& c) { c.subprotocols = {"chat room"}; }, "subprotocols", "chat room", "without spaces"},
        {[](config& c) {
             c.headers = {{"X", "a\nSet-Cookie: b"}};
         },
         "headers", "Set-Cookie", "leave out CR, LF"},
        {[](config& c) {
             c.headers = {{"X", "a\rSet-Cookie: b"}};
         },
         "headers", "Set-Cookie", "leave out CR, LF"},
        {[](config& c) {
             c.headers = {{"X\r\nSet-Cookie", "b"}};
         },
         "headers", "Set-Cookie", "use letters"},
        {[](config& c) {
             c.headers = {{std::string{"X\0Y", 3}, "b"}};
         },
         "headers", "X", "use letters"},
        {[](config& c) { c.subprotocols = {"a,b"}; }, "subprotocols", "a,b", "commas"},
        {[](config& c) { c.subprotocols = {"a\r\nSet-Cookie: b"}; }, "subprotocols", "Set-Cookie", "without spaces"},
        {[](config& c) {
             c.subprotocols = {"fine", "a\n"};
         },
         "subprotocols", "a", "without spaces"},
        {[](config& c) { c.subprotocols = {"a\r"}; }, "subprotocols", "a", "without spaces"},
        {[](config& c) {
             c.subprotocols = {std::string{"a\0b", 3}};
         },
         "subprotocols", "a", "without spaces"},
        {[](config& c) { c.subprotocols = {""}; }, "subprotocols", "\"\"", "without spaces"},
        {[](config& c) { c.origins = {"example.com"}; }, "origins", "example.com", "https://example.com"},
        {[](config& c) { c.max_messages_per_second = 1'000'000'000'001; }, "max_messages_per_second",
         "1,000,000,000,000", "0 for no bound"},
        {[](config& c) { c.message_burst = 5; }, "message_burst", "5", "set both"},
        {[](config& c) { c.byte_burst = 5; }, "byte_burst", "5", "set both"},
        {[](config& c) {
             c.max_bytes_per_second = 1;
             c.byte_burst = 1'000'000'000'001;
         },
         "byte_burst", "1,000,000,000,000", "0 for no bound"},
        {[](config& c) { c.listener.handshake_burst = 7; }, "listener.handshake_burst", "7", "set both"},
        {[](config& c) {
             c.listener.trusted_proxies = {"10.0.0.0/8", "10.0.0.1/8"};
         },
         "listener.trusted_proxies", "10.0.0.1/8", "without bits behind its prefix"},
        {[](config& c) { c.listener.trusted_proxies = {"proxy.example"}; }, "listener.trusted_proxies", "proxy.example",
         "write an address"},
        {[](config& c) { c.listener.proxy_protocol = true; }, "listener.proxy_protocol", "trusted_proxies",
         "list the proxies"},
        {[](config& c) { c.event_prefix = ""; }, "event_prefix", "empty", "give it a text"},
        {[](config& c) { c.event_prefix = "\xFF"; }, "event_prefix", "not UTF-8", "text messages"},
        {[](config& c) { c.listener.handshake_timeout = 0ms; }, "listener.handshake_timeout", "0 ms",
         "greater than zero"},
        {[](config& c) { c.listener.stop_timeout = -5ms; }, "listener.stop_timeout", "-5 ms", "greater than zero"},
        {[](config& c) { c.listener.max_total_body_bytes = 0; }, "listener.max_total_body_bytes", "0", "1 or more"},
        {[](config& c) { c.listener.max_total_message_bytes = 0; }, "listener.max_total_message_bytes", "0",
         "1 or more"},
        {[](config& c) { c.listener.body_timeout = 0ms; }, "listener.body_timeout", "0 ms", "greater than zero"},
        {[](config& c) { c.listener.answer_timeout = -1ms; }, "listener.answer_timeout", "-1 ms", "greater than zero"},
        {[](config& c) { c.listener.max_header_bytes = 255; }, "listener.max_header_bytes", "255", "256 or more"},
        {[](config& c) { c.listener.max_header_fields = 7; }, "listener.max_header_fields", "7", "8 or more"},
        {[](config& c) { c.listener.max_connections = 0; }, "listener.max_connections", "0", "1 or more"},
        {[](config& c) { c.listener.backlog = 0; }, "listener.backlog", "0", "1 or more"},
        {[](config& c) { c.listener.read_buffer_size = 4095; }, "listener.read_buffer_size", "4095", "4096 or more"},
        {[](config& c) { c.listener.write_buffer_size = 1023; }, "listener.write_buffer_size", "1023", "1024 or more"},
        {[](config& c) { c.listener.write_buffer_size = 0x4000'0001; }, "listener.write_buffer_size", "1 GiB", "KiB"},
        {[](config& c) { c.listener.stop_spread = -1ms; }, "listener.stop_spread", "-1 ms", "from zero"},
        {[](config& c) { c.listener.stop_spread = 5000ms; }, "listener.stop_spread", "5000 ms", "below stop_timeout"},
        {[](config& c) { c.listener.metrics_path = c.endpoint; }, "listener.metrics_path", "\"/\"",
         "a path of their own"},
        {[](config& c) { c.listener.max_total_outbox_bytes = 0; }, "listener.max_total_outbox_bytes", "0", "1 or more"},
        {[](config& c) { c.compression.threshold = 0; }, "compression.threshold", "0", "1 or more"},
        {[](config& c) { c.compression.send_window_bits = 8; }, "compression.send_window_bits", "8", "from 9 to 15"},
        {[](config& c) { c.compression.send_window_bits = 16; }, "compression.send_window_bits", "16", "from 9 to 15"},
        {[](config& c) { c.compression.receive_window_bits = 8; }, "compression.receive_window_bits", "8",
         "from 9 to 15"},
        {[](config& c) { c.compression.receive_window_bits = 16; }, "compression.receive_window_bits", "16",
         "from 9 to 15"},
        {[](config& c) { c.compression.level = 0; }, "compression.level", "0", "from 1 to 9"},
        {[](config& c) { c.compression.level = 10; }, "compression.level", "10", "from 1 to 9"},
        {[](config& c) { c.compression.memory_level = 0; }, "compression.memory_level", "0", "from 1 to 9"},
        {[](config& c) { c.compression.memory_level = 10; }, "compression.memory_level", "10", "from 1 to 9"},
    };
    for (const auto& row : table) {
        config c;
        row.spoil(c);
        const auto text = refusal_of(c);
        CAPTURE(row.field, row.value, row.mend, text);
        CHECK(names_all(text, {"arke::config: ", row.field, row.value, row.mend}));
    }
}

TEST_CASE("values at their bounds are accepted") {
    CHECK(refusal_of({}) == "accepted");
    CHECK(refusal_of({.endpoint = ""}) == "accepted");
    CHECK(refusal_of({.pong_timeout = 2ms, .ping_period = 1ms}) == "accepted");
    CHECK(refusal_of({.max_message_size = 1, .max_fragments = 1, .max_json_depth = 1, .max_outbox_bytes = 1}) ==
          "accepted");
    CHECK(refusal_of({.listener = {.max_header_bytes = 256,
                                   .max_header_fields = 8,
                                   .read_buffer_size = 4096,
                                   .write_buffer_size = 1024}}) == "accepted");
}

TEST_CASE("a ping period that is unset is nine tenths of the pong timeout") {
    CHECK(arke::effective_ping_period({}) == 54s);
    CHECK(arke::effective_ping_period({.pong_timeout = 10s}) == 9s);
    CHECK(arke::effective_ping_period({.ping_period = 1s}) == 1s);
}

TEST_CASE("an endpoint's config is checked like the server's, and may not change the listener") {
    arke::server server;
    const auto refusal = [&](const std::string& path, const config& c) -> std::string {
        try {
            server.endpoint(path, c);
            return "accepted";
        } catch (const std::invalid_argument& e) {
            return e.what();
        }
    };
    CHECK(names_all(refusal("other", {}), {"endpoint", "other", "starts with '/'"}));
    CHECK(names_all(refusal("", {}), {"path is empty", "starts with '/'"}));
    CHECK(names_all(refusal("/", {}), {"\"/\" is there already", "another path"}));
    CHECK(names_all(refusal("/x", {.max_fragments = 0}), {"max_fragments"}));
    CHECK(names_all(refusal("/x", {.listener = {.backlog = 1}}), {"listener group", "server's config"}));
    CHECK(refusal("/x", {}) == "accepted");
    CHECK(names_all(refusal("/x", {}), {"\"/x\" is there already"}));
}

TEST_CASE("a port that is none is refused") {
    arke::server server;
    for (const int port : {-1, 65536}) CHECK_THROWS_AS(server.listen("127.0.0.1", port), std::invalid_argument);
    CHECK(server.port() == 0);
}

TEST_CASE("a server's executor is that of its first loop") {
    boost::asio::io_context context;
    arke::server server{context};
    bool ran = false;
    boost::asio::post(server.get_executor(), [&] { ran = true; });
    while (!ran && context.run_one_for(10s) != 0) {
    }
    CHECK(ran);
}
