#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/scripted_server.hpp"

// Requests in both directions, without sockets. Coroutine handlers and other completion tokens need a real executor: they are in
// tests/server/requests_test.cpp.

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

struct order {
    std::string item;
    int count = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

struct greedy {};
void from_json(const nlohmann::json&, greedy&) { throw std::bad_alloc{}; }

/// What an asker hears: "42" or "error 16".
struct ear {
    std::vector<std::string> heard;

    template <class T>
    auto of() {
        return [this](error_code why, T value) {
            if (why)
                heard.push_back("error " + std::to_string(why.value()));
            else
                heard.push_back(nlohmann::json(value).dump());
        };
    }
    auto done() {
        return [this](error_code why) { heard.push_back(why ? "error " + std::to_string(why.value()) : "done"); };
    }
    std::string read() {
        std::string all;
        for (const auto& one : std::exchange(heard, {})) all += (all.empty() ? "" : ", ") + one;
        return all;
    }
};

std::string error(errc what) { return "error " + std::to_string(static_cast<int>(what)); }

}  // namespace

// ---------------------------------------------------------------------------------------------- what the peer asks

TEST_CASE("whoever asks gets what the handler returns, under the number of the request") {
    struct row {
        const char* what;
        std::function<void(endpoint&)> serve;
        std::function<void(client&)> ask;
        const char* heard;
    };
    testing::server server{{.reveal_exceptions = GENERATE(false, true)}};
    const bool reveals = server.settings().reveal_exceptions;
    const std::vector<row> table{
        {"a number", [](endpoint& e) { e.on("buy", [](order o) { return o.count * 7; }); },
         [](client& c) {
             c.asks(1, "buy", order{"tea", 6});
         },
         "answer 1(42)"},
        {"a text", [](endpoint& e) { e.on("name", [](connection& c) { return c.id(); }); },
         [](client& c) { c.asks(4294967295U, "name"); }, "answer 4294967295(anna)"},
        {"JSON", [](endpoint& e) { e.on("get", [] {
                                       return order{"tea", 6};
                                   }); }, [](client& c) { c.asks(2, "get"); },
         R"(answer 2({"count":6,"item":"tea"}))"},
        {"bytes", [](endpoint& e) { e.on("get", [] { return bytes{std::byte{0xFF}}; }); },
         [](client& c) { c.asks(2, "get"); }, "answer 2(\xFF)"},
        {"nothing, which says that it is done", [](endpoint& e) { e.on("do", [] {}); },
         [](client& c) { c.asks(2, "do"); }, "answer 2()"},
        {"an answer that might have been a refusal",
         [](endpoint& e) { e.on("buy", [](int n) -> answer<int> { return n; }); },
         [](client& c) { c.asks(3, "buy", 5); }, "answer 3(5)"},
        {"a refusal", [](endpoint& e) { e.on("buy", [](int) -> answer<int> { return refuse("sold out"); }); },
         [](client& c) { c.asks(3, "buy", 5); }, "refusal 3(refused sold out)"},
        {"a refusal of something that is only done",
         [](endpoint& e) { e.on("do", []() -> answer<> { return refuse("no"); }); }, [](client& c) { c.asks(3, "do"); },
         "refusal 3(refused no)"},
        {"that it is done, and might have been refused",
         [](endpoint& e) { e.on("do", []() -> answer<> { return {}; }); }, [](client& c) { c.asks(3, "do"); },
         "answer 3()"},
        {"that the handler threw",
         [](endpoint& e) { e.on("buy", [](int) -> int { throw std::runtime_error{"no till"}; }); },
         [](client& c) { c.asks(3, "buy", 5); }, reveals ? "refusal 3(failed no till)" : "refusal 3(failed)"},
        {"that a handler of several threw, when none answers",
         [](endpoint& e) {
             e.on("buy", [](int) { throw std::runtime_error{"no till"}; });
             e.on("buy", [](int) {});
         },
         [](client& c) { c.asks(3, "buy", 5); }, reveals ? "refusal 3(failed no till)" : "refusal 3(failed)"},
        {"the answer, when another handler threw",
         [](endpoint& e) {
             e.on("buy", [](int) { throw std::runtime_error{"no till"}; });
             e.on("buy", [](int n) { return n; });
         },
         [](client& c) { c.asks(3, "buy", 5); }, "answer 3(5)"},
        {"that the data is of another type", [](endpoint& e) { e.on("buy", [](int n) { return n; }); },
         [](client& c) { c.asks(3, "buy", "five"); }, "refusal 3(wrong-type \"five\" is not an integer)"},
        {"that nobody listens", [](endpoint&) {}, [](client& c) { c.asks(3, "buy", 5); }, "refusal 3(unhandled)"},
        {"that nobody answers, though somebody hears of everything",
         [](endpoint& e) { e.on_any([](const event_view&) {}); }, [](client& c) { c.asks(3, "buy", 5); },
         "refusal 3(unhandled)"},
        {"an answer to an event of any name", [](endpoint& e) { e.on("a;b\nc\\", [] { return 1; }); },
         [](client& c) { c.asks(3, "a;b\nc\\"); }, "answer 3(1)"},
    };
    for (const auto& r : table) {
        DYNAMIC_SECTION(r.what) {
            r.serve(server);
            auto& anna = server.connect_v1("anna");
            r.ask(anna);
            CHECK(anna.heard() == r.heard);
            CHECK(anna.heard() == "");
        }
    }
}

TEST_CASE("an event with the same handlers is answered to nobody") {
    scripted_server server;
    int calls = 0;
    server.on("buy", [&](int n) {
        ++calls;
        return n;
    });
    auto& anna = server.connect_v1("anna");
    auto& ben = server.connect("ben");
    anna.emits("buy", 1);
    ben.emits("buy", 2);
    CHECK(calls == 2);
    CHECK(anna.heard() + ben.heard() == "");
}

TEST_CASE("a handler that disconnects who asked answers nobody, and the others hear nothing of it") {
    scripted_server server;
    server.on("buy", [](connection& c) {
        c.disconnect();
        return 1;
    });
    auto& anna = server.connect_v1("anna");
    anna.asks(1, "buy");
    CHECK(anna.heard() == "close(1000)");
    anna.closes(1000);
}

TEST_CASE("an answer that is no UTF-8 is reported, and who asked hears that the handler failed") {
    scripted_server server;
    diary heard{server};
    server.on("name", [] { return std::string{"\xFF"}; });
    auto& anna = server.connect_v1("anna");
    anna.asks(1, "name");
    CHECK(anna.heard() == "refusal 1(failed)");
    CHECK(heard.read() == "anna error " + std::to_string(static_cast<int>(errc::handler_threw)));
}

// --------------------------------------------------------------------------------------------- what the server asks

TEST_CASE("what a peer answers reaches who asked, as the type that was asked for") {
    scripted_server server;
    ear ears;
    auto& anna = server.connect_v1("anna");
    server.in_turn([&] {
        auto& c = anna.self();
        c.ask<int>("count", 2s, ears.of<int>());
        c.ask<std::string>("name", 1, 2s, ears.of<std::string>());
        c.ask<order>("order", "tea", 2s, ears.of<order>());
        c.ask<void>("do", true, 2s, ears.done());
        c.emit("then", 1);
    });
    CHECK(anna.heard() == "count?0() name?1(1) order?2(tea) do?3(true) then(1)");
    anna.answers(2, order{"tea", 6});
    anna.answers(1, "Anna");
    anna.answers(0, 7);
    anna.answers(3);
    CHECK(ears.read() == R"({"count":6,"item":"tea"}, "Anna", 7, done)");
}

TEST_CASE("each way in which there is no answer has an error, and each request completes once") {
    struct row {
        const char* what;
        std::function<void(scripted_server&, client&)> happens;
        errc heard;
    };
    const std::vector<row> table{
        {"a refusal", [](auto&, auto& c) { c.refuses(0, refusal_reason::refused, "no"); }, errc::refused},
        {"nobody listens there", [](auto&, auto& c) { c.refuses(0, refusal_reason::unhandled); },
         errc::unhandled_event},
        {"the wrong type", [](auto&, auto& c) { c.refuses(0, refusal_reason::wrong_type); }, errc::wrong_type},
        {"a failure", [](auto&, auto& c) { c.refuses(0, refusal_reason::failed); }, errc::handler_threw},
        {"too much to do", [](auto&, auto& c) { c.refuses(0, refusal_reason::busy); }, errc::too_many_requests},
        {"a reason that nobody knows", [](auto&, auto& c) { c.says("f0 later\nask again"); }, errc::refused},
        {"an answer that does not convert", [](auto&, auto& c) { c.answers(0, "seven"); }, errc::bad_answer},
        {"no answer in time", [](auto& s, auto&) { s.pass(2016ms); }, errc::ask_timeout},
        {"a close frame", [](auto&, auto& c) { c.closes(1000); }, errc::disconnected},
        {"the end of the stream", [](auto&, auto& c) { c.hangs_up(); }, errc::disconnected},
        {"a broken stream", [](auto&, auto& c) { c.vanishes(); }, errc::disconnected},
        {"our disconnect", [](auto& s, auto& c) { s.in_turn([&] { c.self().disconnect(); }); }, errc::disconnected},
        {"a broken frame", [](auto&, auto& c) { c.sends(client_frame(0x83, "x")); }, errc::disconnected},
    };
    for (const auto& r : table) {
        DYNAMIC_SECTION(r.what) {
            scripted_server server;
            ear ears;
            auto& anna = server.connect_v1("anna");
            server.in_turn([&] { anna.self().ask<int>("count", 2s, ears.of<int>()); });
            CHECK(anna.heard() == "count?0()");
            CHECK(ears.read() == "");
            r.happens(server, anna);
            server.settle();
            CHECK(ears.read() == error(r.heard));
            anna.answers(0, 7);
            server.pass(10s);
            CHECK(ears.read() == "");
        }
    }
}

TEST_CASE("asked for an answer<T>, a refusal is no error and has its text") {
    scripted_server server;
    auto& anna = server.connect_v1("anna");
    std::string got;
    const auto ask = [&] {
        server.in_turn([&] {
            anna.self().ask<answer<int>>("buy", 1s, [&](error_code why, const answer<int>& a) {
                got = why ? why.message() : a ? std::to_string(*a) : "refused: " + a.why();
            });
        });
    };
    ask();
    anna.refuses(0, refusal_reason::refused, "sold out");
    CHECK(got == "refused: sold out");
    ask();
    anna.answers(1, 7);
    CHECK(got == "7");
    ask();
    anna.refuses(2, refusal_reason::unhandled);
    CHECK(got == make_error_code(errc::unhandled_event).message());
}

TEST_CASE("a timeout is kept to the tick of the timers, and those of others do not move it") {
    scripted_server server;
    ear ears;
    auto& anna = server.connect_v1("anna");
    server.in_turn([&] {
        anna.self().ask<int>("slow", 5s, ears.of<int>());
        anna.self().ask<int>("quick", 1s, ears.of<int>());
    });
    server.pass(999ms);
    CHECK(ears.read() == "");
    server.pass(17ms);
    CHECK(ears.read() == error(errc::ask_timeout));
    server.pass(3983ms);
    CHECK(ears.read() == "");
    server.pass(17ms);
    CHECK(ears.read() == error(errc::ask_timeout));
    anna.heard();
}

TEST_CASE("an answer after the timeout, a second one, and one to nothing are dropped and counted") {
    scripted_server server;
    diary heard{server};
    ear ears;
    auto& anna = server.connect_v1("anna");
    server.in_turn([&] {
        anna.self().ask<int>("a", 1s, ears.of<int>());
        anna.self().ask<int>("b", 9s, ears.of<int>());
    });
    server.pass(2s);
    CHECK(ears.read() == error(errc::ask_timeout));
    anna.answers(0, 1);
    anna.answers(1, 2);
    anna.answers(1, 3);
    anna.refuses(77, refusal_reason::refused);
    CHECK(ears.read() == "2");
    CHECK(server.loop().counters().dropped.late_answers.get() == 3);
    CHECK(server.loop().counters().received.answers.get() == 4);
    CHECK(heard.read() == "");
    anna.heard();
}

TEST_CASE("an answer and its timeout at once complete a request once") {
    scripted_server server;
    ear ears;
    auto& anna = server.connect_v1("anna");
    auto& ben = server.connect_v1("ben");
    SECTION("after the timeout and before the tick that would tell of it, the answer counts") {
        server.in_turn([&] { anna.self().ask<int>("a", 1s, ears.of<int>()); });
        server.pass(1s);
        anna.answers(0, 7);
        CHECK(ears.read() == "7");
        server.pass(16ms);
        anna.answers(0, 8);
        CHECK(ears.read() == "");
        CHECK(server.loop().counters().dropped.late_answers.get() == 1);
    }
    SECTION("in the turn of the tick, one comes before its timeout is told, and after it") {
        // The first whose time has come brings the answers to all, its own among them: two requests of one peer, one of another.
        const bool bens_first = GENERATE(false, true);
        std::string told;
        int calls = 0;
        const auto note = [&](char who) {
            return [&, who](error_code why, int value) {
                told += who;
                told += why ? "!" : std::to_string(value);
                CHECK((!why || why == errc::ask_timeout));
                if (++calls != 1) return;
                anna.answers(0, 1);
                anna.answers(1, 2);
                ben.answers(0, 3);
            };
        };
        server.in_turn([&] {
            if (bens_first) ben.self().ask<int>("c", 1s, note('c'));
            anna.self().ask<int>("a", 1s, note('a'));
            anna.self().ask<int>("b", 1s, note('b'));
            if (!bens_first) ben.self().ask<int>("c", 1s, note('c'));
        });
        server.pass(1'016ms);
        server.pass(10s);
        INFO(told);
        CHECK(calls == 3);
        for (const char who : {'a', 'b', 'c'}) CHECK(std::count(told.begin(), told.end(), who) == 1);
        // The answer to what has timed out is late, and that to what was not yet told of in time.
        const auto timed_out = std::count(told.begin(), told.end(), '!');
        CHECK(timed_out == 1);
        CHECK(server.loop().counters().dropped.late_answers.get() == 1);
    }
    SECTION("the peer that answers is gone in the same turn") {
        server.in_turn([&] {
            anna.self().ask<int>("a", 1s, [&](error_code, int) { ben.closes(1000); });
            ben.self().ask<int>("b", 1s, ears.of<int>());
        });
        server.pass(1'016ms);
        server.pass(10s);
        const auto heard = ears.read();
        CHECK((heard == error(errc::disconnected) || heard == error(errc::ask_timeout)));
    }
    anna.heard();
    ben.heard();
}

TEST_CASE("the end of a connection completes each of a thousand open requests, once, before on_disconnect") {
    scripted_server server;
    auto& anna = server.connect_v1("anna");
    std::vector<int> completed(1000);
    bool gone = false;
    server.on_disconnect([&] { gone = true; });
    server.in_turn([&] {
        for (auto& count : completed) {
            anna.self().ask<int>("count", 1s, [&count, &gone](error_code why, int) {
                CHECK(why == errc::disconnected);
                CHECK_FALSE(gone);
                ++count;
            });
        }
    });
    for (std::uint32_t id = 0; id != 10; ++id) CHECK_FALSE(gone);
    anna.vanishes();
    server.pass(5s);
    CHECK(gone);
    CHECK(std::count(completed.begin(), completed.end(), 1) == 1000);
}

TEST_CASE("at max_requests ask() fails, and goes on when an answer has come") {
    scripted_server server{{.max_requests = 2}};
    ear ears;
    auto& anna = server.connect_v1("anna");
    const auto ask = [&] { server.in_turn([&] { anna.self().ask<int>("count", 1s, ears.of<int>()); }); };
    ask();
    ask();
    CHECK(anna.heard() == "count?0() count?1()");
    ask();
    CHECK(anna.heard() == "");
    CHECK(ears.read() == error(errc::too_many_requests));
    anna.answers(0, 5);
    ask();
    CHECK(anna.heard() == "count?2()");
    CHECK(ears.read() == "5");
}

TEST_CASE("nothing completes within the call that asks, not even what cannot be sent") {
    scripted_server server;
    auto& page = server.connect("a page of 2016");
    bool in_call = false;
    std::string got;
    server.in_turn([&] {
        in_call = true;
        page.self().ask<int>("count", 1s, [&](error_code why, int) {
            CHECK_FALSE(in_call);
            got = why.message();
        });
        in_call = false;
    });
    server.settle();
    CHECK(got == make_error_code(errc::not_deliverable).message());
    CHECK(page.heard() == "");
}

TEST_CASE("who asks after the end hears so; a handle of nobody too") {
    scripted_server server;
    ear ears;
    auto& anna = server.connect_v1("anna");
    const auto handle = server.find("anna");
    anna.vanishes();
    handle.ask<int>("count", 1s, ears.of<int>());
    server.settle();
    CHECK(ears.read() == error(errc::disconnected));
    CHECK_THROWS_AS(handle.ask<int>("count", 0ms, ears.of<int>()), std::invalid_argument);
    CHECK_THROWS_AS(handle.ask<int>("count", "\xFF", 1s, ears.of<int>()), std::invalid_argument);
    CHECK(ears.read() == "");
}

TEST_CASE("who asks somebody that find() did not find hears so, on the server's loop") {
    scripted_server server;
    ear ears;
    const auto nobody = server.find("nobody");
    CHECK(nobody == connection_handle{});
    nobody.ask<int>("count", 1s, ears.of<int>());
    CHECK(ears.read() == "");
    server.settle();
    CHECK(ears.read() == error(errc::disconnected));
    nobody.ask<int>("count", 1s, [](error_code, int) { throw std::runtime_error{"thrown"}; });
    server.settle();
    CHECK(server.log() == "a handler of ask() threw\n");
    connection_handle{}.ask<int>("count", 1s, ears.of<int>());
    server.settle();
    CHECK(ears.read() == "");
}

TEST_CASE("an answer that there is no memory to read still completes its request") {
    scripted_server server;
    std::string got;
    auto& anna = server.connect_v1("anna");
    server.in_turn(
        [&] { anna.self().ask<greedy>("count", 1s, [&](error_code why, const greedy&) { got = why.message(); }); });
    anna.answers(0, 7);
    CHECK(got == make_error_code(errc::out_of_memory).message());
    CHECK(anna.self().is_connected());
    anna.heard();
}

TEST_CASE("a completion may ask again, disconnect, and throw, which is reported") {
    scripted_server server;
    diary heard{server};
    auto& anna = server.connect_v1("anna");
    std::vector<int> got;
    server.in_turn([&] {
        anna.self().ask<int>("one", 1s, [&](error_code, int n) {
            got.push_back(n);
            anna.self().ask<int>("two", 1s, [&](error_code, int m) {
                got.push_back(m);
                anna.self().ask<int>("three", 1s, [&](error_code why, int) {
                    CHECK(why == errc::disconnected);
                    got.push_back(3);
                });
                anna.self().disconnect();
                throw std::runtime_error{"thrown"};
            });
        });
    });
    anna.answers(0, 1);
    anna.answers(1, 2);
    CHECK(anna.heard() == "one?0() two?1() three?2() close(1000)");
    CHECK(got == std::vector{1, 2, 3});
    CHECK(heard.read() == "anna error " + std::to_string(static_cast<int>(errc::handler_threw)) + ", anna gone 1000");
    anna.closes(1000);
}

TEST_CASE("an expiring request may end the connection and with it the others") {
    scripted_server server;
    auto& anna = server.connect_v1("anna");
    ear ears;
    server.in_turn([&] {
        anna.self().ask<int>("a", 1s, [&](error_code, int) { anna.self().disconnect(); });
        anna.self().ask<int>("b", 1s, ears.of<int>());
    });
    server.pass(1100ms);
    CHECK(ears.read() == error(errc::disconnected));
    CHECK(anna.heard() == "a?0() b?1() close(1000)");
    anna.closes(1000);
}

TEST_CASE("a slow reader that is kept is not asked more than its outbox holds; its answers end one that never reads") {
    scripted_server server{{.max_outbox_bytes = 100, .on_overflow = overflow::drop}};
    diary heard{server};
    ear ears;
    server.on("get", [] { return line(80); });
    auto& anna = server.connect_v1("anna");
    anna.reads_only(0);
    server.in_turn([&] {
        anna.self().emit("first", line(50));
        anna.self().ask<int>("count", line(60), 1s, ears.of<int>());
    });
    server.in_turn([&] { anna.self().ask<int>("count", line(60), 1s, ears.of<int>()); });
    server.settle();
    CHECK(ears.read() == error(errc::outbox_full));
    CHECK(heard.read() == "");
    anna.asks(0, "get");
    CHECK(heard.read() ==
          "anna error " + std::to_string(static_cast<int>(errc::outbox_full)) + ", anna gone 1013 too slow");
    CHECK(ears.read() == error(errc::disconnected));
    anna.reads_everything();
    anna.closes(1000);
}

// It went unsent, and was told only at the timeout, or ended the peer.
TEST_CASE(
    "a slow reader that is kept is not asked what its outbox cannot hold by a few bytes, or what shows that it is "
    "slow") {
    scripted_server server{
        {.max_outbox_bytes = 1000, .on_overflow = GENERATE(overflow::drop, overflow::coalesce)}, 1, 1024};
    diary heard{server};
    ear ears;
    auto& anna = server.connect_v1("anna");
    anna.reads_only(0);
    SECTION("the frame's header is the last straw") {
        server.in_turn([&] { anna.self().emit("first", line(900)); });
        const auto left = 1000 - anna.self().buffered_amount();
        server.in_turn(
            [&] { anna.self().ask<int>("q", line(left - 2 - 5), 1s, ears.of<int>()); });  // "rs0 q", line feed
        server.settle();
        CHECK(ears.read() == error(errc::outbox_full));
    }
    SECTION("the turn's buffer is full, and it shows that nothing leaves it") {
        server.in_turn([&] {
            anna.self().emit("first", line(450));
            anna.self().emit("second", line(450));
            anna.self().ask<int>("q", line(300), 1s, ears.of<int>());
        });
        server.settle();
        CHECK(ears.read() == error(errc::outbox_full));
    }
    CHECK(heard.read() == "");
    CHECK(server.loop().counters().dropped.overflow.get() == 0);
    anna.reads_everything();
    server.settle();
}

// ------------------------------------------------------------------------------------------------------------- rooms

TEST_CASE("a room is asked: who answered what, and who did not and why") {
    scripted_server server{{}, 2};
    auto& anna = server.connect_v1("anna", 0);
    auto& ben = server.connect_v1("ben", 1);
    auto& cleo = server.connect_v1("cleo", 0);
    auto& dan = server.connect_v1("dan", 1);
    auto& page = server.connect("eve", 0);
    for (const char* id : {"anna", "ben", "cleo", "dan", "eve"}) server.join(id, "jury");
    server.settle();

    std::optional<ask_results<std::string>> got;
    server.to("jury").ask<std::string>("vote", "guilty?", 3s, [&](ask_results<std::string> r) { got = std::move(r); });
    CHECK(anna.heard() == "vote?0(guilty?)");
    CHECK(ben.heard() == "vote?0(guilty?)");
    CHECK(page.heard() == "");
    anna.answers(0, "yes");
    ben.answers(0, "no");
    cleo.vanishes();
    server.settle();
    CHECK_FALSE(got);
    server.pass(3100ms);
    REQUIRE(got);
    std::vector<std::string> heard_of;
    for (const auto& g : got->answers) heard_of.push_back(g.id + " " + g.value);
    for (const auto& m : got->missing) heard_of.push_back(m.id + " " + error(static_cast<errc>(m.why.value())));
    std::sort(heard_of.begin(), heard_of.end());
    CHECK(heard_of == std::vector<std::string>{"anna yes", "ben no", "cleo " + error(errc::disconnected),
                                               "dan " + error(errc::ask_timeout),
                                               "eve " + error(errc::not_deliverable)});
    dan.heard();
}

TEST_CASE("a room of nobody answers at once, and not within the call") {
    scripted_server server;
    auto& anna = server.connect_v1("anna");
    bool in_call = true;
    int calls = 0;
    server.in_turn([&] {
        anna.self().to("nobody").ask<int>("vote", 1s, [&](const ask_results<int>& r) {
            CHECK_FALSE(in_call);
            CHECK(r.answers.empty());
            CHECK(r.missing.empty());
            ++calls;
        });
        in_call = false;
    });
    server.settle();
    CHECK(calls == 1);
    // Who throws there is in the log, and the loop goes on.
    server.to("nobody").ask<int>("vote", 1s, [](const ask_results<int>&) { throw std::runtime_error{"thrown"}; });
    server.settle();
    CHECK(server.log() == "a handler of ask() threw\n");
}

TEST_CASE("a room's answers are complete as soon as all have answered") {
    scripted_server server;
    auto& anna = server.connect_v1("anna");
    auto& ben = server.connect_v1("ben");
    std::size_t answers = 0;
    server.in_turn([&] {
        anna.self().to(arke::not_me).ask<int>("vote", 1h, [&](const ask_results<int>& r) {
            answers = r.answers.size();
        });
    });
    ben.answers(0, 1);
    server.settle();
    CHECK(answers == 1);
    CHECK(anna.heard() == "");
}

TEST_CASE("a client enters the rooms that on_join allows, and leaves those that it asked for") {
    scripted_server server;
    auto& anna = server.connect_v1("anna");
    SECTION("without on_join it enters none") {
        anna.speaks([] {
            auto join = outgoing::join("news");
            join.id = 5;
            return join;
        }());
        CHECK(anna.heard() == "refusal 5(refused)");
        CHECK(server.members("news").empty());
    }
    SECTION("with one") {
        server.on_join([](connection& c, std::string_view room) -> answer<> {
            if (c.is_joined("banned")) return refuse("banned");
            if (room == "throws") throw std::runtime_error{"no"};
            if (room == "news" || room == "a\nroom") return {};
            return refuse("no such room");
        });
        anna.says("j0 news");
        CHECK(anna.heard() == "answer 0()");
        CHECK(server.members("news") == std::vector<std::string>{"anna"});
        anna.says("j0 news");
        anna.says("j1 a\nroom");
        anna.says("j2 other");
        anna.says("j3 throws");
        anna.says("j4 anna");
        CHECK(
            anna.heard() ==
            "answer 0() answer 1() refusal 2(refused no such room) refusal 3(failed) refusal 4(refused no such room)");
        server.to("news").emit("flash", 1);
        CHECK(anna.heard() == "flash(1)");
        anna.says("l5 news");
        anna.says("l6 news");
        CHECK(anna.heard() == "answer 5() refusal 6(refused)");
        CHECK(server.members("news").empty());
    }
    SECTION("where the application has put it, it stays") {
        server.in_turn([&] { anna.self().join("muted"); });
        anna.says("l0 muted");
        CHECK(anna.heard() == "refusal 0(refused)");
        CHECK(server.members("muted") == std::vector<std::string>{"anna"});
    }
    SECTION("the connection's own on_join decides instead of the endpoint's; bool will do") {
        server.on_join([](std::string) { return false; });
        server.in_turn([&] { anna.self().on_join([](std::string_view room) { return room == "own"; }); });
        anna.says("j0 own");
        anna.says("j1 other");
        CHECK(anna.heard() == "answer 0() refusal 1(refused)");
    }
    SECTION("one decides: a second is refused, and so is one that says nothing") {
        server.on_join([](std::string) { return true; });
        CHECK_THROWS_AS(server.on_join([](std::string) { return true; }), std::logic_error);
        CHECK_THROWS_AS(server.on_join([](std::string) {}), std::invalid_argument);
    }
    SECTION("at max_rooms it hears no") {
        scripted_server small{{.max_rooms = 1}};
        small.on_join([](std::string) { return true; });
        auto& ben = small.connect_v1("ben");
        ben.says("j0 one");
        ben.says("j1 two");
        CHECK(ben.heard() == "answer 0() refusal 1(refused)");
    }
}

// ---------------------------------------------------------------------------------------------- the protocol's own

TEST_CASE("a page of 2016 and a client of arke.v1 hear the same events, each in its own words") {
    scripted_server server{{.binary_messages = true}};
    auto& page = server.connect("page");
    auto& anna = server.connect_v1("anna");
    for (const char* id : {"page", "anna"}) server.join(id, "room");
    server.to("room").emit("chat", "hello");
    server.to("room").emit("order", order{"tea", 6});
    server.to("room").emit_message("native");
    server.to("room").emit_message(as_bytes("\x01"));
    server.to("room").emit("a;b", 1);
    server.to("room").emit("raw", as_bytes("\xFF"));
    CHECK(page.heard() == R"(chat(hello) order({"count":6,"item":"tea"}) text(native) binary()"
                          "\x01)");
    CHECK(anna.heard() == R"(chat(hello) order({"count":6,"item":"tea"}) text(native) binary()"
                          "\x01) a;b(1) raw(\xFF)");
    CHECK(server.hub().not_deliverable.load() == 2);
}

// It was counted.
TEST_CASE("one who is gone misses nothing that its protocol could not have carried") {
    scripted_server server;
    auto& page = server.connect("page");
    server.find("page").disconnect();
    server.to("page").emit("a;b", 1);
    CHECK(page.heard() == "close(1000)");
    CHECK(server.hub().not_deliverable.load() == 0);
    page.closes(1000);
}

TEST_CASE("a probe is answered, what is unknown is skipped and counted, what is malformed is reported") {
    scripted_server server;
    diary heard{server};
    auto& anna = server.connect_v1("anna");
    anna.says("p");
    anna.says("q");
    CHECK(anna.heard() == "present()");
    anna.says("zebra");
    anna.says("");
    CHECK(server.loop().counters().errors.unknown_message.get() == 2);
    CHECK(heard.read() == "");
    anna.says("e?");
    CHECK(heard.read() == "anna error " + std::to_string(static_cast<int>(errc::malformed_event)));
    anna.says("mhello");
    CHECK(heard.read() == "anna says hello");
    CHECK(anna.heard() == "");
}
