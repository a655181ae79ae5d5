#include <arke/arke.hpp>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/cluster.hpp"

using namespace arke;
using namespace arke::test;

TEST_CASE("everybody who is named, on whatever server, hears it once, and nobody else") {
    three_servers city{any_carrier()};
    // Two on each server; dan has an id of the application's own.
    std::vector<citizen> crowd;
    crowd.push_back(city.connect(0, {"red"}));
    crowd.push_back(city.connect(0, {"blue"}));
    crowd.push_back(city.connect(1, {"red", "blue"}));
    crowd.push_back(city.connect(1, {}, "dan"));
    crowd.push_back(city.connect(2, {"red"}));
    crowd.push_back(city.connect(2, {"red"}));
    REQUIRE(city.settle());
    const auto id_of = [&](std::size_t i) { return crowd[i].id(); };
    CHECK(id_of(3) == "dan");
    CHECK(id_of(0).size() == 15);

    struct row {
        const char* who;  // hears it: a digit for each
        std::function<void(const server& from, const char* event)> says;
    };
    const std::vector<row> rows{
        {"0245", [](auto& s, auto e) { s.to("red").emit(e); }},
        {"0245", [](auto& s, auto e) { s.to(room{"red"}).emit(e, std::string(5'000, 'x')); }},
        {"01245", [](auto& s, auto e) { s.to("red", "blue").emit(e); }},
        {"045", [](auto& s, auto e) { s.to("red").except("blue").emit(e); }},
        {"025", [&](auto& s, auto e) { s.to("red").except(id{id_of(4)}).emit(e); }},
        {"02", [&](auto& s, auto e) { s.to("red").except(id_of(4), id_of(5)).emit(e); }},
        {"012345", [](auto& s, auto e) { s.to(arke::all).emit(e); }},
        {"13", [](auto& s, auto e) { s.to(arke::all).except("red").except("blu").emit(e); }},
        {"01245", [](auto& s, auto e) { s.to(arke::all).except("dan").emit(e); }},
        {"4", [&](auto& s, auto e) { s.to(id_of(4)).emit(e); }},
        {"4", [&](auto& s, auto e) { s.to(id{id_of(4)}).emit(e); }},
        {"", [&](auto& s, auto e) { s.to(room{id_of(4)}).emit(e); }},
        {"012345", [&](auto& s, auto e) { s.to(id_of(0), id_of(1), id_of(2), id_of(3), id_of(4), id_of(5)).emit(e); }},
        {"1245", [&](auto& s, auto e) { s.to(id_of(1), "red").except(id_of(0)).emit(e); }},
        {"3", [](auto& s, auto e) { s.to("dan").emit(e); }},
        {"3", [](auto& s, auto e) { s.to(id{"dan"}).emit(e); }},
        {"", [](auto& s, auto e) { s.to(room{"dan"}).emit(e); }},
        {"", [](auto& s, auto e) { s.to("green").emit(e); }},
        {"", [](auto& s, auto e) { s.to(id{"red"}).emit(e); }},
        {"0245", [](auto& s, auto e) { s.to("red", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11").emit(e); }},
        {"0245", [](auto& s, auto e) { s.to("red").emit_volatile(e, 1); }},
        {"0245", [](auto& s, auto e) { s.to("red").emit_latest(e, 1.5, "key"); }},
    };
    std::vector<std::string> expected(crowd.size());
    for (std::size_t from = 0; from != 3; ++from) {
        for (std::size_t i = 0; i != rows.size(); ++i) {
            const auto event = "row" + std::to_string(i) + "by" + std::to_string(from);
            rows[i].says(city[from], event.c_str());
            for (const char* who = rows[i].who; *who != 0; ++who) {
                auto& list = expected[static_cast<std::size_t>(*who - '0')];
                list += (list.empty() ? "" : " ") + event;
            }
        }
        // One server after another, so that the order is known.
        city.end();
        for (std::size_t i = 0; i != crowd.size(); ++i) {
            INFO("client " << i << " said by server " << from);
            CHECK(crowd[i].heard(3) == std::exchange(expected[i], {}));
        }
    }
    for (std::size_t i = 0; i != 3; ++i) {
        const auto m = city[i].metrics().cluster;
        CHECK(m.dropped + m.lost + m.too_big + m.malformed + m.newer == 0);
    }
}

TEST_CASE("a connection speaks to the others on all servers, and not to itself") {
    three_servers city{any_carrier()};
    auto a = city.connect(0, {"talk"});
    auto b = city.connect(0, {"talk"});
    auto c = city.connect(1, {"talk"});
    auto d = city.connect(2);
    REQUIRE(city.settle());
    a.client().emit("others", "everybody");
    a.client().emit("roommates", "talk");
    // It has been heard when the server answers.
    a.join("done");
    city.end();
    CHECK(a.heard(3).empty());
    CHECK(b.heard(3) == "everybody talk");
    CHECK(c.heard(3) == "everybody talk");
    CHECK(d.heard(3) == "everybody");
}

TEST_CASE("connections of other servers join, leave and go") {
    three_servers city{any_carrier()};
    auto a = city.connect(0);
    auto b = city.connect(1, {"hall"});
    auto c = city.connect(2, {"hall"});
    REQUIRE(city.settle());
    city[0].to(b.id()).join("lounge");
    city[0].to("hall").leave("hall");
    REQUIRE(eventually([&] { return !city[1].members("lounge").empty() && city[2].members("hall").empty(); }));
    REQUIRE(city.settle());
    city[2].to("lounge").emit("in lounge");
    city[2].to("hall").emit("in hall");
    city.end();
    CHECK(a.heard(3).empty());
    CHECK(b.heard(3) == "in lounge");
    CHECK(c.heard(3).empty());
    city[0].to(c.id()).disconnect(close_code::policy_violation, "enough");
    CHECK(c.client().receive() == "close(1008 enough)");
    city[2].to("lounge").disconnect();
    CHECK(b.client().receive() == "close(1000)");
}

TEST_CASE("what one server says in a room keeps its order, and none is missing or doubled") {
    three_servers city{any_carrier()};
    auto b = city.connect(1, {"stream"});
    auto c = city.connect(2, {"stream", "stream2"});
    REQUIRE(city.settle());
    constexpr int count = 3'000;
    for (int i = 0; i != count; ++i) city[0].to("stream", i % 2 == 0 ? "stream2" : "stream3").emit("n", i);
    std::string expected;
    for (auto* each : {&b, &c}) {
        int in_order = 0;
        for (int i = 0; i != count; ++i) in_order += each->client().receive() == "n;1;" + std::to_string(i) ? 1 : 0;
        CHECK(in_order == count);
    }
    city.end();
    CHECK(b.heard(3).empty());
    CHECK(c.heard(3).empty());
}

TEST_CASE("values arrive as what they are, in the words of each protocol") {
    three_servers city{any_carrier()};
    auto old = city.connect(1, {"mixed"});
    test::client modern{city.port(2), "/", {{"Sec-WebSocket-Protocol", "arke.v1"}}};
    REQUIRE(modern.receive().starts_with("esid\n"));
    modern.send("esjoin\nmixed");
    CHECK(modern.receive() == "evjoined\n");
    REQUIRE(city.settle());
    const auto in_room = city[0].to("mixed");
    in_room.emit("text", "a \xE2\x82\xAC");
    in_room.emit("number", -7);
    in_room.emit("flag", true);
    in_room.emit("json", nlohmann::json{{"a", 1}});
    in_room.emit("nothing");
    in_room.emit("bytes", bytes{std::byte{0xFF}, std::byte{0}});
    in_room.emit_message("native");
    CHECK(old.client().receive(5) == "text;0;a \xE2\x82\xAC number;1;-7 flag;2;true json;4;{\"a\":1} nothing;0;");
    CHECK(old.client().receive() == "native");  // its protocol has no bytes
    CHECK(modern.receive(5) == "estext\na \xE2\x82\xAC ennumber\n-7 ebflag\ntrue ejjson\n{\"a\":1} evnothing\n");
    CHECK(modern.receive() == std::string{"exbytes\n\xFF\0", 10});
    CHECK(modern.receive() == "mnative");
}

TEST_CASE("a room may have any name, and reaches no other") {
    three_servers city{any_carrier()};
    std::vector<std::string> names{"*",
                                   ">",
                                   "a.b",
                                   "a b",
                                   " ",
                                   ".",
                                   "..",
                                   "a.*",
                                   "a.>",
                                   "$SYS.>",
                                   "a\nb",
                                   "a\r\nPUB x 1",
                                   "\xF0\x9F\x98\x80",
                                   "=",
                                   "room.*",
                                   "{a}",
                                   "?",
                                   "[a-z]",
                                   "\\",
                                   std::string(65'000, 'l'),
                                   std::string(64'999, 'l') + "k"};
    std::vector<citizen> crowd;
    for (std::size_t i = 0; i != names.size(); ++i)
        crowd.push_back(city.connect(1 + i % 2, {}, "member" + std::to_string(i)));
    for (std::size_t i = 0; i != names.size(); ++i) city[1 + i % 2].join("member" + std::to_string(i), names[i]);
    REQUIRE(city.settle());
    for (std::size_t i = 0; i != names.size(); ++i) city[0].to(room{names[i]}).emit("for" + std::to_string(i));
    city.end();
    for (std::size_t i = 0; i != names.size(); ++i) {
        INFO("room " << i);
        CHECK(crowd[i].heard(3) == "for" + std::to_string(i));
    }
    for (std::size_t i = 0; i != 3; ++i) CHECK_FALSE(city[i].metrics().cluster.degraded);
}

TEST_CASE("a server that stops says goodbye, and the others go on") {
    three_servers city{any_carrier()};
    auto a = city.connect(0, {"hall"});
    auto b = city.connect(1, {"hall"});
    REQUIRE(city.settle());
    city.stop(2);
    REQUIRE(eventually([&] { return city[0].metrics().cluster.nodes == 2 && city[1].metrics().cluster.nodes == 2; }));
    city[0].to("hall").emit("still here");
    for (auto* each : {&a, &b}) CHECK(each->client().receive() == "still here;0;");
}

TEST_CASE("clusters of two prefixes share a broker and hear nothing of each other") {
    const meeting at{any_carrier()};
    three_servers one{at, {.prefix = "one"}};
    three_servers two{at, {.prefix = "two.b"}};
    auto a = one.connect(1, {"hall"});
    auto b = two.connect(1, {"hall"});
    REQUIRE(one.settle());
    REQUIRE(two.settle());
    one[0].to("hall").emit("from one");
    two[0].to("hall").emit("from two");
    one.end();
    two.end();
    CHECK(a.heard(3) == "from one");
    CHECK(b.heard(3) == "from two");
}

TEST_CASE("endpoints of one server have rooms of their own in the cluster too") {
    const meeting at{any_carrier()};
    std::deque<running_server> servers;
    std::deque<endpoint> admins;
    for (int i = 0; i != 2; ++i) {
        auto& s = servers.emplace_back(quiet(loop_kind::automatic));
        at.join(s.server());
        admins.push_back(s->endpoint("/admin", config{.log = [](std::string_view) {}}));
        for (auto* each : {static_cast<endpoint*>(&s.server()), &admins.back()})
            each->on_connection([](connection& c) {
                c.join("hall");
                c.emit("ready");
            });
        s.start();
    }
    test::client user{servers[1].port(), "/"};
    test::client admin{servers[1].port(), "/admin"};
    CHECK(user.receive() == "ready;0;");
    CHECK(admin.receive() == "ready;0;");
    REQUIRE(eventually([&] {
        return std::all_of(servers.begin(), servers.end(), [](auto& s) {
            const auto m = s->metrics().cluster;
            return m.nodes == 2 && m.settled;
        });
    }));
    servers[0]->to("hall").emit("users");
    admins[0].to("hall").emit("admins");
    servers[0]->to(arke::all).emit("end");
    admins[0].to(arke::all).emit("end");
    CHECK(user.receive(2) == "users;0; end;0;");
    CHECK(admin.receive(2) == "admins;0; end;0;");
}

TEST_CASE("a server is in one cluster, and says so before it serves") {
    in_process_broker broker;
    arke::server s{quiet(loop_kind::automatic)};
    s.cluster(in_process_backplane{broker});
    CHECK_THROWS_WITH(s.cluster(in_process_backplane{broker}),
                      "arke: cluster(): this server is in a cluster already; give it one backplane");
    CHECK_THROWS_AS(arke::server{quiet(loop_kind::automatic)}.cluster(in_process_backplane{broker}, {.prefix = "a b"}),
                    std::invalid_argument);
    running_server late{quiet(loop_kind::automatic)};
    late.start();
    REQUIRE(eventually([&] {
        try {
            late->cluster(in_process_backplane{broker});
        } catch (const std::logic_error&) {
            return true;
        }
        return false;
    }));
}

TEST_CASE("a server of a cluster that never runs, or lives in an io_context that goes, leaves nothing behind") {
    const auto by = any_carrier();
    const meeting at{by};
    SECTION("it never runs") {
        arke::server s{quiet(loop_kind::automatic)};
        at.join(s);
        s.to("hall").emit("nobody");
    }
    SECTION("it is stopped before") {
        arke::server s{quiet(loop_kind::automatic)};
        at.join(s);
        s.stop();
        s.run();
        s.to("hall").emit("nobody");
    }
    SECTION("the io_context of the caller runs for a while") {
        boost::asio::io_context context;
        connection_handle kept;
        target aim = [&] {
            arke::server s{context, quiet(loop_kind::automatic)};
            at.join(s);
            s.listen("127.0.0.1", 0);
            context.run_for(std::chrono::milliseconds{50});
            auto made = s.to("hall");
            made.emit("somebody");
            context.run_for(std::chrono::milliseconds{20});
            return made;
        }();
        context.run_for(std::chrono::milliseconds{50});
        aim.emit("too late");
    }
    SECTION("the io_context goes without another run") {
        auto context = std::make_unique<boost::asio::io_context>();
        auto s = std::make_unique<arke::server>(*context, quiet(loop_kind::automatic));
        at.join(*s);
        s->listen("127.0.0.1", 0);
        context->run_for(std::chrono::milliseconds{50});
        s.reset();
        context.reset();
    }
}

namespace {

/// A backplane that a test speaks for.
struct puppet {
    struct strings {
        std::string refusal;
        std::atomic<int> asked{0};
        std::atomic<int> reconnects{0};
        std::atomic<bool> has_no_memory{false};
        std::atomic<backplane_user*> user{nullptr};
    };

    class plane final : public backplane {
    public:
        explicit plane(std::shared_ptr<strings> by) : by_{std::move(by)} {}
        void start(boost::asio::io_context&, const cluster_executor&, backplane_user& user) override {
            if (!by_->refusal.empty()) throw std::invalid_argument{by_->refusal};
            by_->user = &user;
        }
        bool publish(std::string_view, std::string_view) override {
            ++by_->asked;
            return true;
        }
        void subscribe(const std::vector<std::string>&, const std::vector<std::string>&, std::uint64_t) override {
            if (by_->has_no_memory.exchange(false)) throw std::bad_alloc{};
            ++by_->asked;
        }
        void reconnect() override { ++by_->reconnects; }
        void close() noexcept override {}

    private:
        std::shared_ptr<strings> by_;
    };

    std::shared_ptr<strings> by = std::make_shared<strings>();
    plane hand() const { return plane{by}; }
};

}  // namespace

TEST_CASE("a backplane that does not start is asked for nothing, and those here are told as before") {
    puppet p;
    p.by->refusal = "there is no such file";
    journal log;
    config c;
    c.log = [&](std::string_view line) { log.add(std::string{line}); };
    running_server s{quiet(loop_kind::automatic, c)};
    s->cluster(p.hand());
    s->on_connection([](connection& each) {
        each.join("hall");
        each.emit("ready");
    });
    s.start();
    test::client user{s.port(), "/"};
    CHECK(user.receive() == "ready;0;");
    s->to("hall").emit("word");
    CHECK(user.receive() == "word;0;");
    CHECK(s->metrics().cluster.degraded);
    CHECK(log.wait(1) == "cluster: degraded: there is no such file");
    s.stop();
    CHECK(p.by->asked == 0);
}

TEST_CASE("what a backplane had no memory for is asked of it again") {
    puppet p;
    p.by->has_no_memory = true;
    journal log;
    config c;
    c.log = [&](std::string_view line) { log.add(std::string{line}); };
    running_server s{quiet(loop_kind::automatic, c)};
    s->cluster(p.hand());
    s.start();
    CHECK(log.wait(1) == "cluster: std::bad_alloc");
    CHECK(eventually([&] { return p.by->asked == 1; }));
}

TEST_CASE("what comes on another thread waits for a busy loop up to a bound") {
    puppet p;
    running_server s{quiet(loop_kind::automatic)};
    s->cluster(p.hand());
    s.start();
    REQUIRE(eventually([&] { return p.by->user != nullptr; }));
    std::promise<void> busy;
    boost::asio::post(s->get_executor(), [wait = busy.get_future().share()] { wait.wait(); });
    const std::string message(1024 * 1024, 'x');
    for (int i = 0; i != 200; ++i) p.by->user.load()->received(message);
    busy.set_value();
    CHECK(eventually([&] { return p.by->reconnects == 1; }));
    CHECK(s->metrics().cluster.malformed == 63);
    p.by->user.load()->received(message);
    CHECK(eventually([&] { return s->metrics().cluster.malformed == 64; }));
}

TEST_CASE("without the broker everybody here is told as before, and the others when it is back") {
    const meeting at{carrier::in_process};
    three_servers city{at};
    auto a = city.connect(0, {"hall"});
    auto b = city.connect(1, {"hall"});
    REQUIRE(city.settle());
    at.in_process().set_reachable(false);
    REQUIRE(eventually([&] { return city[0].metrics().cluster.degraded && city[1].metrics().cluster.degraded; }));
    city[0].to("hall").emit("alone");
    CHECK(a.client().receive() == "alone;0;");
    at.in_process().set_reachable(true);
    REQUIRE(city.settle());
    city[0].to("hall").emit("together");
    CHECK(a.client().receive() == "together;0;");
    CHECK(b.client().receive(2) == "alone;0; together;0;");
}
