#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <arke/base/close_code.hpp>
#include <arke/base/error.hpp>
#include <arke/event/handler.hpp>
#include "tests/support/catch.hpp"

namespace {

/// Stands in for the connection, which is a layer above.
struct peer {
    peer() = default;
    peer(const peer&) = delete;
    peer& operator=(const peer&) = delete;
    std::string heard;
};

/// Stands in for a connection with the user's session.
struct session_peer : peer {
    int visits = 0;
};

struct order {
    std::string item;
    int count = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

/// A type that views the document it is read from.
struct label {
    std::string_view text;
};
void from_json(const nlohmann::json& j, label& out) { out.text = j.get_ref<const std::string&>(); }

struct uncopied {
    explicit uncopied(int n) : number(std::make_unique<int>(n)) {}
    std::unique_ptr<int> number;
};

}  // namespace

template <>
struct nlohmann::adl_serializer<uncopied> {
    static uncopied from_json(const json& j) { return uncopied(j.get<int>()); }
};

namespace {

using arke::value_kind;

struct answers final : arke::answer_sink {
    std::string got = "nothing";
    void answer(value_kind kind, std::string_view data) override {
        got = std::to_string(static_cast<int>(kind)) + ' ' + std::string(data);
    }
    void refuse(arke::refusal_reason reason, std::string_view text) override {
        got = "refused " + std::to_string(static_cast<int>(reason)) + ' ' + std::string(text);
    }
};

using handler_ptr = boost::intrusive_ptr<arke::basic_event_handler<peer>>;

template <class F>
handler_ptr make(F&& f) {
    return arke::detail::make_basic_event_handler<peer, session_peer>(std::forward<F>(f));
}

template <class T, class F>
handler_ptr make_as(F&& f) {
    return arke::detail::make_basic_event_handler_as<T, peer, session_peer>(std::forward<F>(f));
}

/// Runs a handler for some data: what it wrote to the peer, or why it was not called.
std::string run(const handler_ptr& handler, std::string_view data = {}, value_kind kind = value_kind::text) {
    session_peer self;
    std::string why;
    const arke::event_view event{"e", kind, data};
    const arke::decode_limits limits;
    arke::basic_event_call<peer> call{self, event, limits, nullptr, why};
    return handler->run(call) ? self.heard : why;
}

/// Asks a handler: what it answers.
std::string ask(const handler_ptr& handler, std::string_view data = {}) {
    session_peer self;
    std::string why;
    answers sink;
    const arke::event_view event{"e", value_kind::text, data};
    const arke::decode_limits limits;
    arke::basic_event_call<peer> call{self, event, limits, &sink, why};
    return handler->run(call) ? sink.got : why;
}

void free_function(peer& p, int n) { p.heard = std::to_string(n); }
void free_noexcept(peer& p) noexcept { p.heard = "called"; }

struct functor {
    void operator()(peer& p, const std::string& text) const { p.heard = text; }
};

}  // namespace

TEST_CASE("a handler takes nothing, the connection, a value, or both") {
    int calls = 0;
    CHECK(run(make([&] { ++calls; }), "ignored").empty());
    CHECK(calls == 1);
    CHECK(run(make([](peer& p) { p.heard = "here"; })) == "here");
    CHECK(run(make([&](int n) { calls = n; }), "7").empty());
    CHECK(calls == 7);
    CHECK(run(make([](peer& p, int n) { p.heard = std::to_string(n + 1); }), "7") == "8");
}

TEST_CASE("the connection may be taken as its own type or a base, also const") {
    CHECK(run(make([](session_peer& p) { p.heard = std::to_string(p.visits); })) == "0");
    CHECK(run(make([](const session_peer&, int) {}), "1").empty());
    CHECK(run(make([](const peer&) {})).empty());
}

TEST_CASE("the parameter's type decides what is decoded") {
    CHECK(run(make([](peer& p, std::string s) { p.heard = s; }), "tea") == "tea");
    CHECK(run(make([](peer& p, const std::string& s) { p.heard = s; }), "tea") == "tea");
    CHECK(run(make([](peer& p, std::string&& s) { p.heard = std::move(s); }), "tea") == "tea");
    CHECK(run(make([](peer& p, std::string_view s) { p.heard = s; }), "tea") == "tea");
    CHECK(run(make([](peer& p, arke::bytes_view s) { p.heard = arke::as_text(s); }), "tea") == "tea");
    CHECK(run(make([](peer& p, const arke::bytes& s) { p.heard = arke::as_text(s); }), "tea") == "tea");
    CHECK(run(make([](peer& p, bool b) { p.heard = b ? "yes" : "no"; }), "true", value_kind::integer) == "yes");
    CHECK(run(make([](peer& p, double d) { p.heard = d == 1.5 ? "yes" : "no"; }), "1.5", value_kind::integer) == "yes");
    CHECK(run(make([](peer& p, const nlohmann::json& j) { p.heard = j.dump(); }), "[1]", value_kind::json) == "[1]");
    CHECK(run(make([](peer& p, const order& o) { p.heard = o.item; }), R"({"item":"tea","count":1})") == "tea");
    CHECK(run(make([](peer& p, std::vector<int> v) { p.heard = std::to_string(v.size()); }), "[1,2]") == "2");
}

TEST_CASE("data that does not convert never reaches the function") {
    bool called = false;
    CHECK(run(make([&](int) { called = true; }), "12x") == "\"12x\" is not an integer");
    CHECK(run(make([&](peer&, order) { called = true; }), "{}", value_kind::json) ==
          "the data does not convert: key 'item' not found");
    CHECK_FALSE(called);
}

TEST_CASE("a view is of the event's own bytes") {
    const std::string data = "tea";
    const void* seen = nullptr;
    run(make([&](std::string_view s) { seen = s.data(); }), data);
    CHECK(seen == data.data());
}

TEST_CASE("a type that views its JSON may do so while the handler runs") {
    CHECK(run(make([](peer& p, label l) { p.heard = l.text; }), "\"long enough to be on the heap\"") ==
          "long enough to be on the heap");
}

TEST_CASE("a value may be move-only and have no default constructor") {
    CHECK(run(make([](peer& p, uncopied u) { p.heard = std::to_string(*u.number); }), "5") == "5");
    CHECK(run(make([](peer& p, uncopied&& u) { p.heard = std::to_string(*u.number); }), "5") == "5");
}

TEST_CASE("functions, functors, std::function, mutable, noexcept and move-only lambdas are handlers") {
    CHECK(run(make(free_function), "3") == "3");
    CHECK(run(make(&free_noexcept)) == "called");
    CHECK(run(make(functor{}), "tea") == "tea");
    const functor constant;
    CHECK(run(make(constant), "tea") == "tea");
    CHECK(run(make(std::function<void(peer&, int)>(free_function)), "3") == "3");
    CHECK(run(make([](peer& p) noexcept { p.heard = "x"; })) == "x");
    CHECK(run(make([n = std::make_unique<int>(4)](peer& p) { p.heard = std::to_string(*n); })) == "4");

    const auto counting = make([n = 0](peer& p) mutable { p.heard = std::to_string(++n); });
    CHECK(run(counting) == "1");
    CHECK(run(counting) == "2");
}

TEST_CASE("a handler that is empty is refused where it is registered") {
    CHECK_THROWS_AS(make(std::function<void(int)>()), std::invalid_argument);
    CHECK_THROWS_AS(make(static_cast<void (*)(int)>(nullptr)), std::invalid_argument);
    CHECK_THROWS_AS((make_as<int>(std::function<void(int)>())), std::invalid_argument);
}

TEST_CASE("a returned value answers who asked, and nobody else") {
    int calls = 0;
    const auto price = make([&](order o) {
        ++calls;
        return o.count * 7;
    });
    CHECK(price->answers());
    CHECK(ask(price, R"({"item":"tea","count":6})") == "1 42");
    CHECK(run(price, R"({"item":"tea","count":6})").empty());
    CHECK(calls == 2);
    CHECK(ask(price, "x").starts_with("the data does not convert"));
}

TEST_CASE("an answer may be of any type that can be sent") {
    static const std::string kept = "kept";
    CHECK(ask(make([] { return "literal"; })) == "0 literal");
    CHECK(ask(make([]() -> const std::string& { return kept; })) == "0 kept");
    CHECK(ask(make([](std::string s) { return s + '!'; }), "tea") == "0 tea!");
    CHECK(ask(make([](std::string_view s) { return s; }), "tea") == "0 tea");
    CHECK(ask(make([] { return true; })) == "2 true");
    CHECK(ask(make([](peer&) { return order{"tea", 1}; })) == R"(4 {"count":1,"item":"tea"})");
    CHECK(ask(make([] { return nullptr; })) == "4 null");
}

TEST_CASE("a handler that returns nothing does not answer") {
    const auto quiet = make([](int) {});
    CHECK_FALSE(quiet->answers());
    CHECK(ask(quiet, "1") == "nothing");
}

TEST_CASE("what a handler throws passes through, as does an answer that cannot be sent") {
    CHECK_THROWS_AS(run(make([] { throw std::runtime_error("no"); })), std::runtime_error);
    CHECK_THROWS_AS(ask(make([] { return std::string("\xff"); })), std::invalid_argument);
}

TEST_CASE("a named type makes a generic handler possible") {
    CHECK(run(make_as<int>([](auto& p, auto n) { p.heard = std::to_string(n + 1); }), "7") == "8");
    CHECK(run(make_as<std::string>([](peer& p, const auto& s) { p.heard = s; }), "tea") == "tea");
    CHECK(ask(make_as<int>([](auto n) { return n * 2; }), "4") == "1 8");
    CHECK(ask(make_as<const std::string&>([](auto&& s) { return s.size(); }), "four") == "1 4");
    CHECK(run(make_as<int>([](auto) {}), "x") == "\"x\" is not an integer");
    CHECK(run(make_as<uncopied>([](peer& p, auto u) { p.heard = std::to_string(*u.number); }), "5") == "5");
}

TEST_CASE("a named type of void stands for no value") {
    CHECK(run(make_as<void>([](auto& p) { p.heard = "here"; }), "ignored") == "here");
    CHECK(ask(make_as<void>([] { return 1; }), "ignored") == "1 1");
}

TEST_CASE("a handler may drop the last other reference to itself while it runs") {
    handler_ptr handler;
    handler = make([&handler, text = std::string("still here, and not on the stack")](peer& p) {
        handler.reset();
        p.heard = text;
    });
    const handler_ptr running = handler;  // as whoever runs it does
    CHECK(run(running) == "still here, and not on the stack");
    CHECK(running->use_count() == 1);
}

TEST_CASE("a notification is called with the first form that fits") {
    using arke::close_code;
    const auto told = [](auto f) {
        session_peer self;
        arke::detail::make_basic_notify_handler<peer, session_peer, close_code, std::string_view>(std::move(f))
            ->run(self, close_code::going_away, "bye");
        return self.heard;
    };
    std::string seen;
    CHECK(told([](peer& p, close_code, std::string_view why) { p.heard = why; }) == "bye");
    CHECK(told([](session_peer& p, close_code c, std::string why) {
              p.heard = why + std::to_string(static_cast<int>(c));
          }) == "bye1001");
    CHECK(told([&](close_code, std::string_view why) { seen = why; }).empty());
    CHECK(seen == "bye");
    CHECK(told([&](close_code, const std::string& why) { seen = why + '!'; }).empty());
    CHECK(seen == "bye!");
    CHECK(told([](peer& p) { p.heard = "only me"; }) == "only me");
    CHECK(told([&] { seen = "nothing"; }).empty());
    CHECK(seen == "nothing");
    CHECK(told([](auto&... all) { static_assert(sizeof...(all) <= 1); }).empty());
}

TEST_CASE("a notification hears references, bytes and messages, and what it returns is nobody's") {
    peer self;
    const arke::error_report report{arke::errc::wrong_type, "chat", "why"};
    arke::detail::make_basic_notify_handler<peer, peer, const arke::error_report&>([](peer& p,
                                                                                      const arke::error_report& e) {
        p.heard = e.detail;
    })->run(self, report);
    CHECK(self.heard == "why");
    arke::detail::make_basic_notify_handler<peer, peer, const arke::error_report&>([&](arke::error_report e) {
        self.heard = e.event;
    })->run(self, report);
    CHECK(self.heard == "chat");
    arke::detail::make_basic_notify_handler<peer, peer, arke::bytes_view>([](peer& p, arke::bytes b) {
        p.heard = arke::as_text(b);
        return 5;
    })->run(self, arke::as_bytes("ping"));
    CHECK(self.heard == "ping");
    arke::detail::make_basic_notify_handler<peer, peer, arke::message_view>([](peer& p, arke::message_view m) {
        p.heard = m.text();
    })->run(self, {"native", true});
    CHECK(self.heard == "native");
    arke::detail::make_basic_notify_handler<peer, peer>([n = std::make_unique<int>(1)](peer& p) mutable {
        p.heard = std::to_string(++*n);
    })->run(self);
    CHECK(self.heard == "2");
    CHECK_THROWS_AS((arke::detail::make_basic_notify_handler<peer, peer>(std::function<void()>())),
                    std::invalid_argument);
}
