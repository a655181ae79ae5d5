#include <algorithm>
#include <arke/arke.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;
using namespace std::chrono_literals;
using arke::config;
using arke::connection;

namespace {

struct order {
    std::string item;
    int count = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

/// Three clients, ann and bob in "tea", bob and cy in "cake".
struct company {
    explicit company(arke::loop_kind loop, unsigned threads = 1) : net{named(loop)} {
        // The names to tell, the others with a minus: "*" is all, "!" not_me.
        net->on("to", [](connection& c, std::vector<std::string> names) {
            const auto is_except = [](const std::string& n) { return n.starts_with('-'); };
            const auto split = std::stable_partition(names.begin(), names.end(), std::not_fn(is_except));
            const std::vector<std::string> to(names.begin(), split);
            auto whom = to.size() == 2 ? (to[1] == "!" ? c.to(to[0], arke::not_me) : c.to(to[0], to[1]))
                        : to[0] == "*" ? c.to(arke::all)
                        : to[0] == "!" ? c.to(arke::not_me)
                                       : c.to(to[0]);
            for (auto n = split; n != names.end(); ++n) whom.except(n->substr(1));
            whom.emit("said");
            c.to(arke::all).emit("end");
        });
        net->on_connection([](connection& c) {
            if (c.id() != "cy") c.join("tea");
            if (c.id() != "ann") c.join("cake");
            c.emit("ready");
        });
        net.start(threads);
        for (auto* name : {"ann", "bob", "cy"}) {
            clients.push_back(std::make_unique<client>(net.port(), std::string{"/?id="} + name));
            REQUIRE(clients.back()->receive() == "ready;0;");
        }
    }

    /// Who was told, when the client of this number sends to these names: "ann bob".
    std::string told(std::size_t from, const std::string& names) {
        clients[from]->emit("to", names, 4);
        return heard();
    }

    std::string heard() {
        std::string all;
        const std::vector<std::string> ids{"ann", "bob", "cy"};
        for (std::size_t i = 0; i != 3; ++i) {
            for (auto message = clients[i]->receive(); message != "end;0;"; message = clients[i]->receive()) {
                all += (all.empty() ? "" : " ") + (message == "said;0;" ? ids[i] : message);
                if (message == "timeout" || message == "end") return all;
            }
        }
        return all;
    }

    running_server net;
    std::vector<std::unique_ptr<client>> clients;
};

}  // namespace

// ------------------------------------------------------------------------------------------------------------- handlers

TEST_CASE("a server tells which loop it has") {
    const auto loop = GENERATE(from_range(all_loops()));
    CHECK(arke::server{named(loop)}.loop() == loop);
    CHECK(arke::server{}.loop() == all_loops().front());
}

TEST_CASE("handlers of every value type hear what a client sends, and their values travel back") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("nothing", [](connection& c) { c.emit("nothing"); });
    net->on("string", [](connection& c, std::string v) { c.emit("string", v); });
    net->on("view", [](connection& c, std::string_view v) { c.emit("view", v); });
    net->on("int", [](connection& c, int v) { c.emit("int", v); });
    net->on("int64", [](connection& c, std::int64_t v) { c.emit("int64", v); });
    net->on("double", [](connection& c, double v) { c.emit("double", v); });
    net->on("bool", [](connection& c, bool v) { c.emit("bool", v); });
    net->on("bytes", [](connection& c, const arke::bytes& v) { c.emit("bytes", v); });
    net->on("vector", [](connection& c, const std::vector<int>& v) { c.emit("vector", v); });
    net->on("order", [](connection& c, order o) { c.emit("order", order{o.item, o.count + 1}); });
    net->on("json", [](connection& c, nlohmann::json v) { c.emit("json", v); });
    net->on<std::string>("generic", [](auto& c, const auto& v) { c.emit("generic", v); });
    net->on("literal", [](connection& c) { c.emit("literal", "text, not a bool"); });
    net.start();

    client one{net.port()};
    REQUIRE(one.status() == 101);
    const auto answer = [&](std::string_view event, std::string_view data, int tag) {
        one.emit(event, data, tag);
        return one.receive();
    };
    CHECK(answer("nothing", "", 0) == "nothing;0;");
    CHECK(answer("string", "a;b", 0) == "string;0;a;b");
    CHECK(answer("view", "\xC3\xA4", 0) == "view;0;\xC3\xA4");
    CHECK(answer("int", "-7", 1) == "int;1;-7");
    CHECK(answer("int64", "9007199254740993", 1) == "int64;1;9007199254740993");
    CHECK(answer("double", "1.5", 1) == "double;4;1.5");
    CHECK(answer("bool", "true", 1) == "bool;2;true");
    CHECK(answer("bytes", "", 0) == "bytes;3;");
    CHECK(answer("vector", "[1,2]", 4) == "vector;4;[1,2]");
    CHECK(answer("order", R"({"item":"tea","count":6})", 4) == R"(order;4;{"count":7,"item":"tea"})");
    CHECK(answer("json", R"({"a":null})", 4) == R"(json;4;{"a":null})");
    CHECK(answer("generic", "x", 0) == "generic;0;x");
    CHECK(answer("literal", "", 0) == "literal;0;text, not a bool");
}

TEST_CASE("several handlers of an event run in the order they were added, the server's first, and can be removed") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    const auto first = net->on("e", [](connection& c) { c.emit("server 1"); });
    net->on("e", [](connection& c) { c.emit("server 2"); });
    net->on("off server", [&] { net->off(first); });
    net->on_connection([](connection& c) {
        c.on("e", [&c] { c.emit("own 1"); });
        const auto second = c.on("e", [&c] { c.emit("own 2"); });
        c.on("off own", [&c, second] { c.emit(c.off(second) ? "removed" : "was gone"); });
        c.on("off all", [&c] { c.off("e"); });
        c.on("once", [&c, number = std::make_shared<arke::handler_id>()]() mutable {
            *number = c.on("e", [&c, number] {
                c.emit("once");
                c.off(*number);
            });
        });
        c.on("done", [&c] { c.emit("done"); });
    });
    net.start();
    client one{net.port()};
    const auto answers = [&](std::initializer_list<const char*> events) {
        for (const auto* event : events) one.emit(event);
        one.emit("done");
        std::string all;
        for (auto m = one.receive(); m != "done;0;" && m != "timeout" && m != "end"; m = one.receive()) {
            all += (all.empty() ? "" : ", ") + m.substr(0, m.find(';'));
        }
        return all;
    };
    CHECK(answers({"e"}) == "server 1, server 2, own 1, own 2");
    CHECK(answers({"off own", "off own"}) == "removed, was gone");
    CHECK(answers({"e"}) == "server 1, server 2, own 1");
    CHECK(answers({"off server", "e"}) == "server 2, own 1");
    CHECK(answers({"once", "e", "e"}) == "server 2, own 1, once, server 2, own 1");
    CHECK(answers({"off all", "e"}) == "server 2");
    CHECK_FALSE(net->off(first));
}

TEST_CASE("on_message hears what is no event, text as text and binary as binary") {
    const bool binary = GENERATE(false, true);
    running_server net{quiet(GENERATE(from_range(all_loops())), {.binary_messages = binary})};
    net->on_message([](connection& c, arke::message_view m) {
        c.emit_message(m);
        if (m.is_text) {
            c.emit_message(m.text());
            c.emit_message(m.bytes());
        }
    });
    net.start();
    client one{net.port()};
    one.send("hello");
    CHECK(one.receive() == "hello");
    CHECK_FALSE(one.got_binary());
    CHECK(one.receive() == "hello");
    CHECK_FALSE(one.got_binary());
    CHECK(one.receive() == "hello");
    CHECK(one.got_binary() == binary);  // emit_message(bytes) follows binary_messages
    one.send(std::string_view{"\xFF\0\x01", 3}, true);
    CHECK(one.receive() == std::string_view{"\xFF\0\x01", 3});
    CHECK(one.got_binary());
    one.send("");
    CHECK(one.receive(3) == "  ");
}

TEST_CASE("bytes that are not UTF-8 are refused by an exception where they would leave as text") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("try", [&](connection& c) {
        const arke::bytes bad{std::byte{0xFF}};
        const auto attempt = [&](auto&& f) {
            try {
                f();
                seen.add("sent");
            } catch (const std::invalid_argument&) {
                seen.add("refused");
            }
        };
        attempt([&] { c.emit_message(bad); });
        attempt([&] { c.emit_message("\xFF"); });
        attempt([&] { c.emit("e", "\xFF"); });
        attempt([&] { c.emit("a;b"); });
        attempt([&] { c.to(arke::all).emit(""); });
        attempt([&] { c.to(arke::all).emit_message(bad); });
        attempt([&] { c.handle().emit("a;b"); });
        attempt([&] { c.disconnect(arke::close_code::no_status); });
        attempt([&] { c.disconnect(arke::close_code::normal, "\xFF"); });
        attempt([&] { c.emit_message(arke::message_view{"\xFF", false}); });
    });
    net.start();
    client one{net.port()};
    one.emit("try");
    CHECK(seen.wait(10) == "refused refused refused refused refused refused refused refused refused sent");
    CHECK(one.receive() == "\xFF");
}

TEST_CASE("a target refuses a close code or a reason that cannot be sent where it is called") {
    // target::disconnect() passed them on unchecked, and the exception came out of the loop's run().
    running_server net{named(GENERATE(from_range(all_loops())))};
    net.start();
    client one{net.port(), "/?id=ann"};
    CHECK_THROWS_AS(net->to("ann").disconnect(arke::close_code::abnormal), std::invalid_argument);
    CHECK_THROWS_AS(net->to("ann").disconnect(arke::close_code::normal, "\xFF"), std::invalid_argument);
    CHECK_THROWS_AS(net->to("nobody").disconnect(arke::close_code::abnormal), std::invalid_argument);
    CHECK_THROWS_AS(net->find("ann").disconnect(arke::close_code::abnormal), std::invalid_argument);
    net->to("ann").disconnect(arke::close_code{4000}, "bye");
    CHECK(one.receive() == "close(4000 bye)");
    CHECK(net.stop() == "");
}

TEST_CASE("an event without a handler goes to on_any, or is counted, and reported where on_error is set") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("known", [](connection& c) { c.emit("ok"); });
    net.start();
    client one{net.port()};
    one.emit("unknown");
    one.emit("known");
    CHECK(one.receive() == "ok;0;");
    CHECK(net->unhandled_events() == 1);
    net->on_error([&](const arke::error_report& e) { seen.add(e.code.message() + ": " + std::string{e.event}); });
    one.emit("other");
    CHECK(seen.wait(1) == "nobody listens to this event: other");
    const auto any = net->on_any([](connection& c, const arke::event_view& e) {
        c.emit("any", std::string{e.name} + "=" + std::string{e.data});
    });
    one.emit("third", "x");
    CHECK(one.receive() == "any;0;third=x");
    net->off(any);
    one.emit("fourth");
    one.emit("known");
    CHECK(one.receive() == "ok;0;");
    CHECK(net->unhandled_events() == 3);
}

TEST_CASE("on_error hears of data that does not convert and of frames that are malformed; the connection stays") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("number", [](connection& c, int n) { c.emit("number", n); });
    net->on_error([&](connection&, const arke::error_report& e) {
        seen.add(e.code == arke::errc::wrong_type        ? "wrong_type:" + std::string{e.event}
                 : e.code == arke::errc::malformed_event ? "malformed"
                                                         : e.code.message());
    });
    net.start();
    client one{net.port()};
    one.emit("number", "seven");
    one.send("iris-websocket-message:nothing");
    one.emit("number", "7", 1);
    CHECK(one.receive() == "number;1;7");
    CHECK(seen.text() == "wrong_type:number malformed");
}

TEST_CASE("where nobody listens to on_error, a line goes to config::log") {
    journal lines;
    running_server net{quiet(GENERATE(from_range(all_loops())),
                             {.log = [&](std::string_view line) { lines.add(std::string{line}); }})};
    net->on("number", [](int) {});
    net.start();
    client one{net.port()};
    one.emit("number", "seven");
    CHECK(lines.wait(1).find("event \"number\": the data does not convert") != std::string::npos);
}

TEST_CASE("a log that throws harms nobody") {
    // config::log threw through the loop, and run() ended with its exception.
    running_server net{quiet(GENERATE(from_range(all_loops())),
                             {.log = [](std::string_view) { throw std::runtime_error{"disk full"}; }})};
    net->on("number", [](connection& c, int n) { c.emit("number", n); });
    net.start();
    client one{net.port()};
    one.emit("number", "seven");
    one.emit("number", "7");
    CHECK(one.receive() == "number;1;7");
    one.drop();  // so that nobody is waited for
    CHECK(net.stop() == "");
}

TEST_CASE("on_ping and on_pong hear the peer's control frames; pings are answered") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_ping([&](arke::bytes_view data) { seen.add("ping:" + std::string{arke::as_text(data)}); });
    net->on_connection([&](connection& c) {
        c.on_pong([&](arke::bytes data) { seen.add("pong:" + std::string{arke::as_text(data)}); });
        c.ping(arke::as_bytes("hello"));
    });
    net->on("done", [](connection& c) { c.emit("done"); });
    net.start();
    client one{net.port()};
    one.ping("abc");
    one.emit("done");
    CHECK(one.receive() == "done;0;");
    CHECK(one.controls() == "ping(hello)pong(abc)");
    one.emit("done");
    CHECK(one.receive() == "done;0;");
    const auto text = seen.wait(2);
    CHECK((text == "ping:abc pong:hello" || text == "pong:hello ping:abc"));
}

TEST_CASE("on_disconnect runs once, with code and reason, after the connection has left its rooms") {
    journal seen;
    running_server net{named(GENERATE(from_range(all_loops())))};
    net->on_connection([&](connection& c) {
        c.join("tea");
        c.join("cake");
        c.on_leave([&](std::string_view room) { seen.add("left:" + std::string{room}); });
        c.on_disconnect([&](connection& gone, arke::close_code code, std::string_view reason) {
            seen.add("gone:" + std::to_string(static_cast<int>(code)) + ":" + std::string{reason} + ":" +
                     std::to_string(gone.rooms().size()) + ":" + sorted(net->members("tea")) + ":" +
                     (gone.is_connected() ? "open" : "over"));
            gone.to("tea").emit("left", gone.id());
        });
        c.emit("ready");
    });
    net.start();
    client ann{net.port(), "/?id=ann"};
    REQUIRE(ann.receive() == "ready;0;");
    SECTION("when the client closes") {
        client bob{net.port(), "/?id=bob"};
        REQUIRE(bob.receive() == "ready;0;");
        bob.close(4001, "enough");
        CHECK(seen.wait(3) == "left:tea left:cake gone:4001:enough:0:ann:over");
    }
    SECTION("when the client vanishes") {
        client bob{net.port(), "/?id=bob"};
        REQUIRE(bob.receive() == "ready;0;");
        bob.drop();
        CHECK(seen.wait(3) == "left:tea left:cake gone:1006::0:ann:over");
    }
    SECTION("when the server closes") {
        client bob{net.port(), "/?id=bob"};
        REQUIRE(bob.receive() == "ready;0;");
        CHECK(net->disconnect("bob", arke::close_code{4002}, "out"));
        CHECK(bob.receive() == "close(4002 out)");
        CHECK(seen.wait(3) == "left:tea left:cake gone:4002:out:0:ann:over");
    }
    CHECK(ann.receive() == "left;0;bob");
    CHECK(eventually([&] { return net->size() == 1; }));
    CHECK(seen.size() == 3);
}

TEST_CASE("after disconnect() no handler of the same message runs any more") {
    // The second handler of an event ran although the first had closed the connection.
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on("e", [&](connection& c) {
        seen.add("first");
        c.disconnect();
    });
    net->on("e", [&] { seen.add("second"); });
    net->on_message([&](connection& c) {
        seen.add("first");
        c.disconnect();
    });
    net->on_message([&] { seen.add("second"); });
    net->on_connection([&](connection& c) { c.on("e", [&] { seen.add("own"); }); });
    net->on_disconnect([&] { seen.add("gone"); });
    net->on_disconnect([&] { seen.add("gone2"); });
    net.start();
    client one{net.port()};
    one.emit("e");
    one.emit("e");
    CHECK(one.receive() == "close(1000)");
    CHECK(seen.wait(3) == "first gone gone2");
    client two{net.port()};
    two.send("native");
    CHECK(two.receive() == "close(1000)");
    CHECK(seen.wait(6) == "first gone gone2 first gone gone2");
}

TEST_CASE("a session is made with the connection, of the user's type, and lives as long") {
    struct player {
        int score = 0;
        std::shared_ptr<int> alive{};
    };
    const auto token = std::make_shared<int>();
    basic_running_server<player> net{quiet(GENERATE(from_range(all_loops())))};
    using connection_type = arke::basic_connection<player>;
    net->on_connection([&](connection_type& c) {
        c.session().alive = token;
        c.on("score", [](connection_type& mine, int n) { mine.emit("score", mine.session().score += n); });
    });
    net->on("plain", [](connection& c) { c.emit("plain"); });
    net.start();
    {
        client one{net.port()};
        client two{net.port()};
        one.emit("score", "2");
        one.emit("score", "3");
        CHECK(one.receive(2) == "score;1;2 score;1;5");
        two.emit("score", "1");
        two.emit("plain");
        CHECK(two.receive(2) == "score;1;1 plain;0;");
        CHECK(token.use_count() == 3);
        one.close();
        two.drop();
    }
    CHECK(eventually([&] { return token.use_count() == 1; }));
}

// -------------------------------------------------------------------------------------------------------------- targets

TEST_CASE("a handler reaches an id, a room, several, all, all but itself, and leaves out whom it excepts") {
    company all{GENERATE(from_range(all_loops()))};
    CHECK(all.told(0, R"(["bob"])") == "bob");
    CHECK(all.told(0, R"(["ann"])") == "ann");
    CHECK(all.told(0, R"(["tea"])") == "ann bob");
    CHECK(all.told(2, R"(["tea"])") == "ann bob");
    CHECK(all.told(0, R"(["tea","cake"])") == "ann bob cy");
    CHECK(all.told(0, R"(["cy","tea"])") == "ann bob cy");
    CHECK(all.told(0, R"(["*"])") == "ann bob cy");
    CHECK(all.told(0, R"(["!"])") == "bob cy");
    CHECK(all.told(0, R"(["tea","!"])") == "bob");
    CHECK(all.told(2, R"(["tea","!"])") == "ann bob");
    CHECK(all.told(0, R"(["*","-bob"])") == "ann cy");
    CHECK(all.told(0, R"(["*","-cake"])") == "ann");
    CHECK(all.told(0, R"(["tea","cake","-tea"])") == "cy");
    CHECK(all.told(0, R"(["nobody"])") == "");
    CHECK(all.told(0, R"(["*","-nobody"])") == "ann bob cy");
}

TEST_CASE("another thread reaches the same through the server") {
    company all{GENERATE(from_range(all_loops())), 2};
    const auto told = [&](auto&& emit) {
        emit(*all.net.owner());
        all.net->to(arke::all).emit("end");
        return all.heard();
    };
    using server = arke::server;
    CHECK(told([](server& s) { s.to("bob").emit("said"); }) == "bob");
    CHECK(told([](server& s) { s.to("tea").emit("said"); }) == "ann bob");
    CHECK(told([](server& s) { s.to("tea", "cake", "ann").emit("said"); }) == "ann bob cy");
    CHECK(told([](server& s) { s.to(arke::all).emit("said"); }) == "ann bob cy");
    CHECK(told([](server& s) { s.to(arke::all).except("tea").emit("said"); }) == "cy");
    CHECK(told([](server& s) { s.to(arke::all).except("tea", "cy").emit("said"); }) == "");
    CHECK(told([](server& s) { s.to(arke::room{"bob"}).emit("said"); }) == "");
    CHECK(told([](server& s) { s.to(arke::id{"tea"}).emit("said"); }) == "");
    CHECK(told([](server& s) { s.to(arke::id{"cy"}, arke::room{"tea"}).emit("said"); }) == "ann bob cy");
    CHECK(told([](server& s) { s.to("tea").emit_message("native"); }) == "native native");
    CHECK(told([](server& s) { s.to("tea").emit("n", 7); }) == "n;1;7 n;1;7");
    CHECK(told([](server& s) { s.find("cy").emit("said"); }) == "cy");
}

TEST_CASE("another thread joins, leaves, counts, finds and disconnects") {
    company all{GENERATE(from_range(all_loops())), 2};
    auto& s = *all.net.owner();
    CHECK(s.size() == 3);
    CHECK(sorted(s.rooms()) == "cake tea");
    CHECK(sorted(s.members("tea")) == "ann bob");
    CHECK(s.members("nowhere").empty());
    std::vector<std::string> ids;
    for (const auto& c : s.connections()) ids.push_back(c.id());
    CHECK(sorted(ids) == "ann bob cy");

    CHECK(s.join("cy", "tea"));
    CHECK_FALSE(s.join("nobody", "tea"));
    CHECK_FALSE(s.join("cy", "ann"));  // nobody listens to what is meant for one
    CHECK(s.join("cy", "tea"));        // a second time changes nothing
    s.to("tea").emit("said");
    s.to(arke::all).emit("end");
    CHECK(all.heard() == "ann bob cy");

    CHECK(s.leave("bob", "tea"));
    CHECK_FALSE(s.leave("nobody", "tea"));
    s.to("tea").emit("said");
    s.to(arke::all).emit("end");
    CHECK(all.heard() == "ann cy");
    CHECK(sorted(s.members("tea")) == "ann cy");

    s.to("tea").leave("tea");
    s.to(arke::all).join("new");
    s.to("new").emit("said");
    s.to(arke::all).emit("end");
    CHECK(all.heard() == "ann bob cy");
    CHECK(sorted(s.rooms()) == "cake new");

    const auto bob = s.find("bob");
    CHECK(bob.is_connected());
    CHECK(s.is_connected("bob"));
    CHECK(s.disconnect("bob", arke::close_code{4000}, "bye"));
    CHECK(all.clients[1]->receive() == "close(4000 bye)");
    CHECK_FALSE(s.disconnect("nobody"));
    CHECK(eventually([&] { return !bob.is_connected(); }));
    CHECK_FALSE(s.is_connected("bob"));
    CHECK(s.size() == 2);
    CHECK_FALSE(s.find("bob").is_connected());
    s.to("cake").disconnect();
    CHECK(all.clients[2]->receive() == "close(1000)");
    CHECK(eventually([&] { return s.size() == 1; }));
    CHECK(sorted(s.rooms()) == "new");
}

TEST_CASE("a connection knows its rooms, joins none twice, and none of another's name") {
    journal seen;
    running_server net{named(GENERATE(from_range(all_loops())), {})};
    net->on_connection([&](connection& c) {
        const auto yes = [](bool b) { return std::string{b ? "yes" : "no"}; };
        c.on("go", [&c, &seen, yes] {
            std::string said;  // one call in each statement: operands of + have no order
            said += yes(c.join("tea"));
            said += yes(c.join("tea"));
            said += yes(c.join("cake"));
            seen.add("join:" + said);
            said = yes(c.join("bob"));
            said += yes(c.join(c.id()));
            seen.add("taken:" + said);
            seen.add("in:" + yes(c.is_joined("tea")) + yes(c.is_joined("none")));
            said = yes(c.leave("tea"));
            said += yes(c.leave("tea"));
            seen.add("leave:" + said);
            seen.add(sorted(c.rooms()));
        });
        c.on_error(
            [&](const arke::error_report& e) { seen.add(e.code == arke::errc::name_taken ? "name_taken" : "other"); });
        c.emit("ready");
    });
    net.start();
    client bob{net.port(), "/?id=bob"};
    REQUIRE(bob.receive() == "ready;0;");
    client ann{net.port(), "/?id=ann"};
    ann.emit("go");
    CHECK(seen.wait(6) == "join:yesyesyes name_taken taken:noyes in:yesno leave:yesno ann cake");
}

TEST_CASE("max_rooms is the most rooms that a connection is in") {
    journal seen;
    running_server net{quiet(GENERATE(from_range(all_loops())), {.max_rooms = 2})};
    net->on_connection([&](connection& c) {
        c.on_error([&](const arke::error_report& e) {
            seen.add(e.code == arke::errc::too_many_rooms ? "too_many" : "other");
        });
        const bool a = c.join("a"), b = c.join("b"), d = c.join("d");
        c.leave("a");
        const bool again = c.join("d");
        seen.add(std::string{a ? "1" : "0"} + (b ? "1" : "0") + (d ? "1" : "0") + (again ? "1" : "0"));
    });
    net.start();
    client one{net.port()};
    CHECK(seen.wait(2) == "too_many 1101");
}

TEST_CASE("a handle may be used after the disconnect, and after the server is gone") {
    std::vector<arke::connection_handle> handles;
    arke::connection_handle empty;
    CHECK_FALSE(empty.is_connected());
    CHECK(empty.id().empty());
    empty.emit("x");
    empty.disconnect();
    {
        company all{GENERATE(from_range(all_loops()))};
        handles = all.net->connections();
        REQUIRE(handles.size() == 3);
        journal seen;
        for (const auto& h : handles) h.run([&](connection& c) { seen.add(c.is_connected() ? "open" : "over"); });
        CHECK(seen.wait(3) == "open open open");
        for (const auto& h : handles) h.disconnect();
        for (auto& c : all.clients) CHECK(c->receive() == "close(1000)");
        CHECK(eventually([&] { return all.net->size() == 0; }));
        for (const auto& h : handles) {
            CHECK_FALSE(h.is_connected());
            CHECK_FALSE(h.join("tea"));
            CHECK_FALSE(h.leave("tea"));
            h.emit("x", 1);
            h.emit_message("x");
            h.disconnect();
            h.run([](connection&) { throw std::runtime_error{"must not run"}; });
        }
        CHECK(handles[0] == handles[0]);
        CHECK_FALSE(handles[0] == handles[1]);
    }
    for (const auto& h : handles) {
        CHECK_FALSE(h);
        CHECK(h.id().size() >= 2);
        CHECK_FALSE(h.join("tea"));
        h.emit("x", 1);
        h.emit_message("x");
        h.disconnect();
        h.run([](connection&) { throw std::runtime_error{"must not run"}; });
    }
}
