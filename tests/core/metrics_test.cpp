#include <arke/server.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

metrics of(scripted_server& server) {
    metrics all;
    server.hub().add_metrics(all, true);
    return all;
}

/// One sample of the text.
std::string sample(const std::string& text, const std::string& name) {
    const auto at = text.find("\n" + name + " ");
    if (at == std::string::npos) return "missing";
    const auto from = at + name.size() + 2;
    return text.substr(from, text.find('\n', from) - from);
}

}  // namespace

TEST_CASE("messages and bytes are counted by kind, in and out") {
    scripted_server server;
    server.on("double", [](connection& c, int n) { c.emit("doubled", 2 * n); });
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto& anna = server.connect("anna");
    const auto greeting = of(server).sent.bytes;
    anna.emits("double", 21);
    anna.says("text");
    anna.sends(client_frame(0x82, "binary"));
    anna.sends(client_frame(0x01, "frag") + client_frame(0x80, "ments"));
    anna.pings("p");
    anna.pongs();
    server.in_turn([&] { anna.self().ping(); });
    server.to(arke::all).emit("news", 1);
    const auto sent = anna.bytes().size();
    anna.heard();
    const auto m = of(server);
    CHECK(m.received.events == 1);
    CHECK(m.received.texts == 2);
    CHECK(m.received.binaries == 1);
    CHECK(m.received.pings == 1);
    CHECK(m.received.pongs == 1);
    CHECK(m.sent.events == 2);
    CHECK(m.sent.texts == 2);
    CHECK(m.sent.binaries == 1);
    CHECK(m.sent.pings == 1);
    CHECK(m.sent.pongs == 1);
    CHECK(m.received.bytes ==
          client_frame(0x81, anna.event_text("double", "21", 1)).size() + 10 + 12 + 10 + 11 + 7 + 6);
    CHECK(m.sent.bytes == greeting + anna.bytes().size());
    CHECK(sent < anna.bytes().size());
    CHECK(m.connections == 1);
    CHECK(m.sockets == 1);
    CHECK(m.loops.size() == 1);
    CHECK(m.loops[0].sockets == 1);
}

TEST_CASE("each end of a connection is counted once, by its reason") {
    scripted_server server{{.write_timeout = 1s,
                            .pong_timeout = 10s,
                            .close_timeout = 1s,
                            .max_message_size = 100,
                            .message_timeout = 2s,
                            .max_outbox_bytes = 50,
                            .on_duplicate_id = duplicate_id::replace}};
    const auto end = [&](auto how) {
        auto& c = server.connect("x");
        c.heard();
        how(c);
        server.pass(30s);
        CHECK(c.stream().is_closed);
    };
    end([](client& c) { c.closes(1000); });
    end([&](client& c) { server.in_turn([&] { c.self().disconnect(); }); });
    end([&](client&) { server.in_turn([&] { server.to(arke::all).disconnect(close_code::going_away); }); });
    end([&](client& c) {
        server.in_turn([&] { static_cast<core::stream_user&>(server.hub().find("x").operator*()).on_stop(); });
        c.closes(1001);
    });
    end([](client& c) { c.hangs_up(); });
    end([](client& c) { c.vanishes(); });
    end([](client& c) { c.sends("\x81\x01x"); });
    end([](client& c) { c.says(line(101)); });
    end([&](client& c) {
        c.reads_only(0);
        for (int n = 0; n != 3; ++n) {
            server.to("x").emit_message(line(40));
            server.settle();
        }
    });
    end([](client&) {});
    end([&](client& c) {
        c.reads_only(0);
        server.to("x").emit_message(line(40));
    });
    end([](client& c) { c.sends(client_frame(0x01, "begun")); });
    end([&](client&) { server.connect("x").closes(1000); });
    const auto m = of(server);
    CHECK(m.closed.by_peer == 2);
    CHECK(m.closed.by_server == 2);
    CHECK(m.closed.stopping == 1);
    CHECK(m.closed.broken == 2);
    CHECK(m.closed.frame_violation == 1);
    CHECK(m.closed.message_too_big == 1);
    CHECK(m.closed.outbox_full == 1);
    CHECK(m.closed.pong_timeout == 1);
    CHECK(m.closed.write_timeout == 1);
    CHECK(m.closed.message_timeout == 1);
    CHECK(m.closed.replaced == 1);
    CHECK(m.closed.out_of_memory == 0);
    CHECK(m.close_timeouts > 0);
    CHECK(m.connections == 0);
    CHECK(m.outbox_bytes == 0);
}

TEST_CASE("messages that are not whole have a bound for all together: at it they come, past it 1013") {
    // Nothing bounded them but max_message_size for each connection.
    scripted_server server{{.max_message_size = 1000, .listener = {.max_total_message_bytes = 1500}}};
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    auto& cleo = server.connect("cleo");
    const auto taken = [&] { return server.hub().load()->messages.taken(); };
    const auto all_but_the_last = [](std::size_t size) {
        auto frame = client_frame(0x81, line(size + 1));
        frame.pop_back();
        return frame;
    };
    anna.sends(all_but_the_last(999));
    ben.sends(all_but_the_last(501));
    CHECK(taken() == 1500);
    cleo.says(line(1000));
    CHECK(cleo.heard() == "text(1000 bytes)");
    cleo.sends(all_but_the_last(1));
    CHECK(cleo.heard() == "close(1013 messages over max_total_message_bytes) end");
    CHECK(of(server).closed.messages_full == 1);
    // What makes a message whole always finds room.
    anna.sends(client_frame(0x81, line(1000)).substr(2 + 2 + 4 + 999));
    CHECK(anna.heard() == "text(1000 bytes)");
    CHECK(taken() == 501);
    ben.vanishes();
    CHECK(taken() == 0);
    auto& dora = server.connect("dora");
    dora.sends(client_frame(0x01, line(1000)));
    CHECK(taken() == 1000);
    // Who says goodbye in the midst of a message is read no further: nothing of it is kept until the stream ends.
    dora.closes(1000);
    CHECK(taken() == 0);
}

TEST_CASE("what has come of a message is forgotten with its connection, whoever still holds that") {
    scripted_server server{
        {.max_message_size = 1000, .message_timeout = 1s, .listener = {.max_total_message_bytes = 1500}}};
    const auto taken = [&] { return server.hub().load()->messages.taken(); };
    auto almost = client_frame(0x81, line(1000));
    almost.pop_back();
    std::vector<connection_handle> kept;
    server.on_connection([&](connection& c) { kept.push_back(c.handle()); });
    server.on_message([](connection& c, message_view) { c.disconnect(); });
    auto& anna = server.connect("anna");
    SECTION("when the peer vanishes") {
        anna.sends(almost);
        CHECK(taken() == 999);
        anna.vanishes();
    }
    SECTION("when it took too long, though the peer has not answered the close frame") {
        anna.sends(almost);
        CHECK(taken() == 999);
        server.pass(1s + 50ms);
        CHECK(anna.heard() == "close(1008 a message that took longer than message_timeout) end");
    }
    SECTION("when the server has closed it, and the peer does not answer") {
        // Until then it is read on, for the peer's close frame.
        if (GENERATE(true, false)) {
            anna.sends(client_frame(0x81, "bye") + almost);
        } else {
            anna.sends(almost);
            server.in_turn([&] { kept.front().disconnect(); });
        }
        CHECK(taken() == 999);
        server.pass(server.settings().close_timeout + 50ms);
    }
    CHECK(taken() == 0);
    auto& ben = server.connect("ben");
    ben.sends(almost);
    CHECK(taken() == 999);
    CHECK(ben.heard() == "");
}

TEST_CASE("errors are counted by kind, reported or not") {
    scripted_server server{{.max_rooms = 1}};
    server.on("number", [](int) {});
    server.on("throws", [] { throw std::runtime_error{"no"}; });
    auto& anna = server.connect("anna");
    anna.emits("number", "one");
    anna.emits("throws");
    anna.emits("nobody");
    anna.says(std::string{iris_prefix});
    server.in_turn([&] {
        CHECK(anna.self().join("one"));
        CHECK_FALSE(anna.self().join("two"));
    });
    const auto m = of(server);
    CHECK(m.errors.wrong_type == 1);
    CHECK(m.errors.handler_threw == 1);
    CHECK(m.errors.unhandled_event == 1);
    CHECK(m.errors.malformed_event == 1);
    CHECK(m.errors.other == 1);
}

TEST_CASE("what waits is counted for all, and every turn by its time") {
    scripted_server server;
    auto& anna = server.connect("anna");
    auto& ben = server.connect("ben");
    for (auto* c : {&anna, &ben}) c->reads_only(5);
    server.to(arke::all).emit_message(line(100));
    server.settle();
    CHECK(of(server).outbox_bytes == 2 * (102 - 5));
    anna.reads_everything();
    CHECK(of(server).outbox_bytes == 97);
    ben.vanishes();
    const auto m = of(server);
    CHECK(m.outbox_bytes == 0);
    CHECK(m.loops[0].turns > 3);
    std::uint64_t by_time = 0;
    for (const auto n : m.loops[0].turns_by_time) by_time += n;
    CHECK(by_time == m.loops[0].turns);
}

TEST_CASE("a handler that blocks shows in the longest handler, the longest turn and its step") {
    scripted_server server;
    server.on_message([] {
        const auto end = std::chrono::steady_clock::now() + 15ms;
        while (std::chrono::steady_clock::now() < end) {
        }
    });
    auto& anna = server.connect("anna");
    anna.pings();
    const auto before = of(server).loops[0];
    anna.says("block");
    const auto after = of(server).loops[0];
    CHECK(after.longest_handler >= 14ms);
    CHECK(after.longest_turn >= after.longest_handler);
    CHECK(after.busy - before.busy >= 14ms);
    const auto slow = [](const loop_metrics& l) {
        return l.turns_by_time[2] + l.turns_by_time[3] + l.turns_by_time[4];
    };
    CHECK(slow(after) > slow(before));  // another turn may be slow where others have this machine too
}

TEST_CASE("the text for Prometheus has every figure, each family once with its type") {
    scripted_server server{{}, 2};
    auto& anna = server.connect("anna");
    anna.says("x");
    anna.closes(1000);
    const auto text = "\n" + of(server).prometheus();
    CHECK(sample(text, "arke_connections") == "0");
    CHECK(sample(text, "arke_messages_received_total{kind=\"text\"}") == "1");
    CHECK(sample(text, "arke_closed_total{reason=\"peer\"}") == "1");
    CHECK(sample(text, "arke_closed_total{reason=\"broken\"}") == "0");
    CHECK(sample(text, "arke_http_answers_total{status=\"503\"}") == "0");
    CHECK(sample(text, "arke_loop_sockets{loop=\"1\"}") == "0");
    CHECK(sample(text, "arke_loop_turn_seconds_count{loop=\"0\"}") ==
          sample(text, "arke_loop_turn_seconds_bucket{loop=\"0\",le=\"+Inf\"}"));
    CHECK(sample(text, "arke_loop_longest_turn_seconds{loop=\"0\"}") != "missing");
    std::size_t families = 0;
    for (auto at = text.find("# TYPE "); at != std::string::npos; at = text.find("# TYPE ", at + 1)) {
        ++families;
        const auto family = text.substr(at, text.find(' ', at + 7) - at + 1);
        CHECK(text.find(family, at + 1) == std::string::npos);
    }
    CHECK(families == 29);
    CHECK(text.ends_with("\n"));
}

TEST_CASE("the text for Prometheus has a cluster's figures where there is one") {
    metrics m;
    CHECK(m.prometheus().find("arke_cluster") == std::string::npos);
    m.cluster = {.present = true,
                 .settled = true,
                 .degraded = true,
                 .nodes = 1,
                 .waiting_bytes = 14,
                 .published = 2,
                 .published_bytes = 3,
                 .received = 4,
                 .received_bytes = 5,
                 .delivered = 6,
                 .dropped = 7,
                 .too_big = 8,
                 .lost = 9,
                 .malformed = 10,
                 .newer = 11,
                 .duplicates = 12,
                 .late_answers = 13,
                 .subscriptions = 15,
                 .round_trips = 16,
                 .connections = 17,
                 .degradations = 18};
    const auto text = m.prometheus();
    // Every figure is in its own place, each family once with what it is and its type: dashboards are made of these names.
    CHECK(text.substr(text.find("# HELP arke_cluster")) ==
          R"(# HELP arke_cluster_degraded Whether nothing comes back from the broker.
# TYPE arke_cluster_degraded gauge
arke_cluster_degraded 1
# HELP arke_cluster_settled Whether everybody here hears what others say in the rooms joined so far.
# TYPE arke_cluster_settled gauge
arke_cluster_settled 1
# HELP arke_cluster_nodes Servers that are there, this one included.
# TYPE arke_cluster_nodes gauge
arke_cluster_nodes 1
# HELP arke_cluster_waiting_bytes What waits for the broker.
# TYPE arke_cluster_waiting_bytes gauge
arke_cluster_waiting_bytes 14
# HELP arke_cluster_subscriptions Channels that are subscribed to.
# TYPE arke_cluster_subscriptions gauge
arke_cluster_subscriptions 15
# HELP arke_cluster_published_total Messages that the broker has taken.
# TYPE arke_cluster_published_total counter
arke_cluster_published_total 2
# HELP arke_cluster_published_bytes_total Bytes that the broker has taken.
# TYPE arke_cluster_published_bytes_total counter
arke_cluster_published_bytes_total 3
# HELP arke_cluster_received_total Messages from the broker.
# TYPE arke_cluster_received_total counter
arke_cluster_received_total 4
# HELP arke_cluster_received_bytes_total Bytes from the broker.
# TYPE arke_cluster_received_bytes_total counter
arke_cluster_received_bytes_total 5
# HELP arke_cluster_delivered_total Emits of other servers that were told here.
# TYPE arke_cluster_delivered_total counter
arke_cluster_delivered_total 6
# HELP arke_cluster_missed_total Messages that the other servers miss.
# TYPE arke_cluster_missed_total counter
arke_cluster_missed_total{reason="dropped"} 7
arke_cluster_missed_total{reason="too_big"} 8
arke_cluster_missed_total{reason="lost"} 9
# HELP arke_cluster_ignored_total Messages from the broker that were passed over.
# TYPE arke_cluster_ignored_total counter
arke_cluster_ignored_total{reason="malformed"} 10
arke_cluster_ignored_total{reason="newer"} 11
arke_cluster_ignored_total{reason="duplicate"} 12
arke_cluster_ignored_total{reason="late_answer"} 13
# HELP arke_cluster_round_trips_total Times that the broker was asked something.
# TYPE arke_cluster_round_trips_total counter
arke_cluster_round_trips_total 16
# HELP arke_cluster_connections_total Times that the broker was connected to.
# TYPE arke_cluster_connections_total counter
arke_cluster_connections_total 17
# HELP arke_cluster_degradations_total Times that the broker was lost.
# TYPE arke_cluster_degradations_total counter
arke_cluster_degradations_total 18
)");
}

TEST_CASE("an answer of a status that has no place of its own counts with the others") {
    core::counters c;
    c.count_answer(200);
    c.count_answer(418);
    metrics m;
    core::add(m, c);
    CHECK(m.answered(200) == 1);
    CHECK(m.answered(500) == 0);
    CHECK(m.answered(599) == 1);
    CHECK(m.prometheus().find("arke_http_answers_total{status=\"other\"} 1\n") != std::string::npos);
}
