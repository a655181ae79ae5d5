#include <arke/cluster/node.hpp>
#include <arke/testing.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"

using namespace arke;
using cluster::envelope;
using core::millis;
using kind = cluster::envelope::kind;

namespace {

/// A broker that does what the test says, and a log of what it was asked to do.
struct scripted_backplane final : backplane {
    void start(boost::asio::io_context&, const cluster_executor&, backplane_user&) override {}
    bool publish(std::string_view channel, std::string_view payload) override {
        if (payload.size() > max_payload) return false;
        published.emplace_back(channel, payload);
        return true;
    }
    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                   std::uint64_t number) override {
        // All of it or, without memory, nothing.
        auto next = channels;
        bool is_sound = true;
        for (const auto& each : added) is_sound = next.insert(each).second && is_sound;
        for (const auto& each : removed) is_sound = next.erase(each) == 1 && is_sound;
        if (!is_sound) FAIL_CHECK("a channel is added twice, or left and never added");
        channels.swap(next);
        additions += static_cast<int>(added.size());
        ++calls;
        last_number = number;
    }
    void reconnect() override { ++reconnects; }
    void close() noexcept override { closed = true; }
    std::size_t waiting() const noexcept override { return waits; }
    backplane_counts counts() const noexcept override { return {}; }

    std::vector<std::pair<std::string, std::string>> published;
    std::set<std::string> channels;
    int calls = 0;
    int additions = 0;
    int reconnects = 0;
    bool closed = false;
    std::uint64_t last_number = 0;
    std::size_t waits = 0;
    std::size_t max_payload = 1'000'000;
};

/// A node with an endpoint that has connections without sockets, and a clock that the test turns.
struct one_node final : cluster::node_host {
    explicit one_node(cluster_config settings = {}, config endpoint_settings = {.endpoint = "/chat"})
        : server{std::move(endpoint_settings)},
          made{std::make_shared<cluster::node>(std::move(settings), *this, &broker)} {
        made->add(endpoint(), made);
    }
    ~one_node() { made->close(now); }

    core::endpoint_ptr endpoint() { return core::endpoint_ptr{&server.hub()}; }

    void work() {
        server.settle();
        next = made->work(now);
    }

    /// Connected, and its own hello has come back.
    void connect() {
        work();
        made->connected(now);
        made->subscribed(broker.last_number);
        echo();
    }

    /// The broker hands back what was published since the last time, to those who are subscribed to its channel.
    void echo() {
        const auto all = take();
        for (const auto& [channel, bytes] : all) {
            if (broker.channels.contains(channel)) made->received(bytes, now);
        }
    }
    std::vector<std::pair<std::string, std::string>> take() { return std::exchange(broker.published, {}); }

    /// Who said what to which channel, own signs of life left out.
    std::string said() {
        std::string all;
        for (const auto& [channel, bytes] : take()) {
            envelope e;
            REQUIRE(cluster::decode(bytes, e) == cluster::decoded::yes);
            if (e.is == kind::heartbeat || e.is == kind::hello) continue;
            all += (all.empty() ? "" : " ") + channel;
        }
        return all;
    }

    void wake() noexcept override { ++wakes; }
    void log(std::string_view line) noexcept override { logged += std::string{line} + "\n"; }
    void act_here(core::endpoint& on, const core::address& to, const core::action& what) override {
        detail::act_here(on, to, what);
    }
    void state_changed(const cluster_state& state) override {
        states += state.degraded ? "degraded(" + state.why + ") " : "well ";
    }
    void heard(const node_info& from, const envelope& event) override {
        events += from.id + ":" + std::string{event.what.event.name} + " ";
    }

    scripted_backplane broker;
    testing::server server;
    std::shared_ptr<cluster::node> made;
    millis now = 1'000;
    millis next = 0;
    int wakes = 0;
    std::string logged;
    std::string states;
    std::string events;
};

/// What another server would say.
struct other_server {
    std::string tag = "Other";
    cluster::sender_id id = cluster::sender_id::make();
    std::uint64_t sequence = 0;

    std::string bytes(envelope e) {
        e.from = id;
        e.sequence = ++sequence;
        return cluster::encode(e);
    }
    std::string hello(kind is = kind::hello) {
        envelope e;
        e.is = is;
        e.tag = tag;
        e.name_of_node = "the other";
        e.number = 3;
        return bytes(e);
    }
    std::string say(core::name::kind is, std::string_view to, std::string_view event, std::string_view data = {}) {
        envelope e;
        e.is = kind::deliver;
        e.endpoint = "/chat";
        e.to = {{is, to}};
        e.what = outgoing::of({event, value_kind::text, data});
        return bytes(e);
    }
};

constexpr auto any = core::name::kind::any;
constexpr auto in_room = core::name::kind::room;

}  // namespace

TEST_CASE("a sequence number passes once, in whatever order, as long as it is not too old") {
    cluster::sequence_window w;
    CHECK(w.accept(5));
    CHECK_FALSE(w.accept(5));
    CHECK(w.accept(7));
    CHECK(w.accept(6));
    CHECK_FALSE(w.accept(6));
    CHECK_FALSE(w.accept(7));
    CHECK(w.accept(1'030));
    CHECK(w.accept(7 + 1));
    CHECK_FALSE(w.accept(8));
    CHECK_FALSE(w.accept(6));  // too old to be told
    CHECK(w.accept(1'000'000));
    CHECK_FALSE(w.accept(1'030));
    CHECK(w.accept(1'000'000 - 1'023));
    CHECK_FALSE(w.accept(1'000'000 - 1'024));
    for (std::uint64_t n = 1'000'001; n != 1'003'000; ++n) CHECK(w.accept(n));
    for (std::uint64_t n = 1'002'000; n != 1'003'000; ++n) CHECK_FALSE(w.accept(n));
}

TEST_CASE("a node listens to all nodes, to itself, to its endpoint, and to the rooms that have members here") {
    one_node a;
    a.work();
    CHECK(a.broker.channels == std::set<std::string>{"arke.nodes", "arke.node." + a.made->tag(), "arke.all.=2Fchat"});
    auto& c = a.server.connect();
    auto& d = a.server.connect();
    REQUIRE(a.server.find(c.self().id()).join("lobby"));
    REQUIRE(a.server.find(d.self().id()).join("lobby"));
    a.work();
    CHECK(a.broker.channels.contains("arke.room.=2Fchat.lobby"));
    CHECK(a.broker.calls == 2);
    CHECK(a.broker.channels.size() == 4);  // and to no id that a server has made

    SECTION("until some time after the last has left") {
        c.hangs_up();
        a.now += 100;
        a.work();
        d.hangs_up();
        a.work();
        CHECK(a.broker.channels.contains("arke.room.=2Fchat.lobby"));
        a.now += 9'999;
        a.work();
        CHECK(a.broker.channels.contains("arke.room.=2Fchat.lobby"));
        a.now += 1;
        a.work();
        CHECK_FALSE(a.broker.channels.contains("arke.room.=2Fchat.lobby"));
    }
    SECTION("who comes back in time changes nothing at the broker") {
        const auto calls = a.broker.calls;
        a.server.to("lobby").leave("lobby");
        a.work();
        a.now += 5'000;
        a.work();
        a.server.find(c.self().id()).join("lobby");
        a.work();
        a.now += 20'000;
        a.work();
        CHECK(a.broker.calls == calls);
        CHECK(a.broker.channels.contains("arke.room.=2Fchat.lobby"));
    }
}

TEST_CASE("many joins of a turn are one call, and rooms that come and go within it none") {
    one_node a;
    a.work();
    const auto calls = a.broker.calls;
    auto& c = a.server.connect();
    const auto handle = a.server.find(c.self().id());
    for (int i = 0; i != 500; ++i) handle.join("room" + std::to_string(i));
    for (int i = 0; i != 250; ++i) handle.leave("room" + std::to_string(i));
    a.work();
    CHECK(a.broker.calls == calls + 1);
    CHECK(a.broker.additions == 3 + 250);
}

TEST_CASE("no more rooms linger than may") {
    one_node a{{.max_lingering = 10}};
    a.work();
    auto& c = a.server.connect();
    const auto handle = a.server.find(c.self().id());
    for (int i = 0; i != 100; ++i) handle.join("room" + std::to_string(i));
    a.work();
    for (int i = 0; i != 100; ++i) handle.leave("room" + std::to_string(i));
    a.work();
    CHECK(a.broker.channels.size() == 3 + 10);
}

TEST_CASE("no subscription is lost or kept for want of memory") {
    // Each time that memory is asked for fails in its turn.
    for (std::size_t nth = 0;; ++nth) {
        one_node a{{.subscription_linger = std::chrono::milliseconds{0}}};
        bool struck = false;
        const auto work = [&] {
            a.server.settle();
            {
                const test::memory_shortage no_more{nth};
                try {
                    a.made->work(a.now);
                } catch (const std::bad_alloc&) {
                }
                struck = struck || no_more.struck();
            }
            a.now += 1;
            a.made->work(a.now);
        };
        work();
        CHECK(a.broker.channels.size() == 3);
        auto& c = a.server.connect();
        const auto handle = a.server.find(c.self().id());
        handle.join("kept");
        handle.join("left");
        work();
        CHECK(a.broker.channels.size() == 5);
        handle.leave("left");
        handle.join("last");
        work();
        a.now += 1;
        a.made->work(a.now);
        CHECK(a.broker.channels.contains("arke.room.=2Fchat.kept"));
        CHECK(a.broker.channels.contains("arke.room.=2Fchat.last"));
        CHECK(a.broker.channels.size() == 5);
        if (!struck) break;
    }
}

TEST_CASE("more changes than can be noted are found by looking at everything") {
    one_node a;
    a.work();
    auto& c = a.server.connect();
    const auto handle = a.server.find(c.self().id());
    handle.join("kept");
    a.server.in_turn([&] {
        for (int i = 0; i != 33'000; ++i) {
            handle.join("passing");
            handle.leave("passing");
        }
    });
    handle.join("last");
    a.work();
    CHECK(a.broker.channels.contains("arke.room.=2Fchat.kept"));
    CHECK(a.broker.channels.contains("arke.room.=2Fchat.last"));
    CHECK_FALSE(a.broker.channels.contains("arke.room.=2Fchat.passing"));
}

TEST_CASE("ids that a server makes say where their connections are; the application's own are listened to as rooms") {
    config settings{.endpoint = "/chat"};
    settings.id_generator = [](const request& r) { return r.query("id").value_or(""); };
    one_node a{{}, settings};
    a.work();
    auto& made = a.server.connect();
    CHECK(made.self().id().size() == 15);
    CHECK(made.self().id().starts_with(a.made->tag()));
    auto& own = a.server.connect("ann");
    a.work();
    CHECK(a.broker.channels.contains("arke.room.=2Fchat.ann"));
    own.hangs_up();
    a.work();
    a.now += 10'000;
    a.work();
    CHECK_FALSE(a.broker.channels.contains("arke.room.=2Fchat.ann"));
}

TEST_CASE("what is said goes where its receivers may be, and nowhere else") {
    one_node a;
    a.connect();
    other_server other;
    a.made->received(other.hello(), a.now);
    auto& c = a.server.connect();
    const auto said = [&](auto&& aim) {
        aim();
        a.work();
        return a.said();
    };
    const auto channel_of = [](const std::string& name) { return "arke.room.=2Fchat." + name; };
    CHECK(said([&] { a.server.to("lobby").emit("x"); }) == channel_of("lobby"));
    CHECK(said([&] { a.server.to(arke::room{"lobby"}).emit("x"); }) == channel_of("lobby"));
    CHECK(said([&] { a.server.to(arke::all).emit("x"); }) == "arke.all.=2Fchat");
    CHECK(said([&] { a.server.to("a", "b").except("c").emit("x"); }) == channel_of("a") + " " + channel_of("b"));
    CHECK(said([&] { a.server.to("lobby").join("other"); }) == channel_of("lobby"));
    CHECK(said([&] { a.server.to("lobby").disconnect(); }) == channel_of("lobby"));
    // One who is here is nowhere else.
    CHECK(said([&] { a.server.to(c.self().id()).emit("x"); }).empty());
    CHECK(said([&] { a.server.to(arke::id{c.self().id()}, "lobby").emit("x"); }) == channel_of("lobby"));
    // One with an id of another server's is there.
    CHECK(said([&] { a.server.to("Other0123456789").emit("x"); }) == "arke.node.Other");
    CHECK(said([&] { a.server.to("Other0123456789", "Other9876543210").emit("x"); }) == "arke.node.Other");
    // A server that is not known yet, or an id of the application's own.
    CHECK(said([&] { a.server.to("Nobdy0123456789").emit("x"); }) ==
          "arke.node.Nobdy " + channel_of("Nobdy0123456789"));
    // Of our own, and gone: only a room could have that name.
    const auto gone = a.made->tag() + "0123456789";
    CHECK(said([&] { a.server.to(arke::id{gone}).emit("x"); }).empty());
    CHECK(said([&] { a.server.to(gone).emit("x"); }) == channel_of(gone));
    // So many that all had better look.
    CHECK(said([&] { a.server.to("1", "2", "3", "4", "5", "6", "7", "8", "9").emit("x"); }) == "arke.all.=2Fchat");
}

TEST_CASE("nobody hears what is meant for one who is on another server, by joining a room of that id") {
    one_node a;
    a.connect();
    other_server other;
    auto& early = a.server.connect();
    auto& late = a.server.connect();
    const std::string there = "Other0123456789";
    CHECK(a.server.find(early.self().id()).join(there));
    a.made->received(other.hello(), a.now);
    CHECK_FALSE(a.server.find(late.self().id()).join(there));
    a.server.to(there).emit("secret");
    CHECK(early.heard().empty());
    CHECK(late.heard().empty());
    a.server.to(arke::room{there}).emit("public");
    CHECK(early.heard() == "public()");
}

TEST_CASE("what another server says is heard by those it names here, each once") {
    one_node a;
    auto& c = a.server.connect();
    auto& d = a.server.connect();
    a.server.find(c.self().id()).join("lobby");
    a.server.find(c.self().id()).join("attic");
    a.server.find(d.self().id()).join("lobby");
    a.connect();
    other_server other;
    a.made->received(other.say(in_room, "lobby", "hi", "all"), a.now);
    CHECK(c.heard() == "hi(all)");
    CHECK(d.heard() == "hi(all)");

    SECTION("by an id, which comes before a room") {
        a.made->received(other.say(any, d.self().id(), "psst"), a.now);
        CHECK(c.heard().empty());
        CHECK(d.heard() == "psst()");
    }
    SECTION("once, where two of their rooms are named") {
        envelope e;
        e.is = kind::deliver;
        e.endpoint = "/chat";
        e.to = {{any, "lobby"}, {in_room, "attic"}};
        e.except = {{any, d.self().id()}};
        e.what = outgoing::of({"two", value_kind::nothing, {}});
        a.made->received(other.bytes(e), a.now);
        CHECK(c.heard() == "two()");
        CHECK(d.heard().empty());
    }
    SECTION("once, where it comes by two channels") {
        const auto bytes = other.say(in_room, "lobby", "again");
        a.made->received(bytes, a.now);
        a.made->received(bytes, a.now);
        CHECK(c.heard() == "again()");
        cluster_metrics counted;
        a.made->add_metrics(counted);
        CHECK(counted.duplicates == 1);
        CHECK(counted.delivered == 2);
    }
    SECTION("not at another endpoint") {
        envelope e;
        e.is = kind::deliver;
        e.endpoint = "/";
        e.everyone = true;
        e.what = outgoing::of({"elsewhere", value_kind::nothing, {}});
        a.made->received(other.bytes(e), a.now);
        CHECK(c.heard().empty());
    }
    SECTION("and does not go back to the broker") {
        a.take();
        a.made->received(other.say(in_room, "lobby", "hi"), a.now);
        a.work();
        CHECK(a.said().empty());
    }
}

TEST_CASE("another server has connections join, leave and go") {
    one_node a;
    auto& c = a.server.connect();
    a.connect();
    other_server other;
    envelope e;
    e.endpoint = "/chat";
    e.to = {{any, c.self().id()}};
    e.is = kind::join;
    e.text = "lobby";
    a.made->received(other.bytes(e), a.now);
    a.server.settle();
    CHECK(a.server.members("lobby") == std::vector<std::string>{c.self().id()});
    e.is = kind::leave;
    a.made->received(other.bytes(e), a.now);
    a.server.settle();
    CHECK(a.server.members("lobby").empty());
    e.is = kind::disconnect;
    e.code = close_code::policy_violation;
    e.text = "out";
    a.made->received(other.bytes(e), a.now);
    CHECK(c.heard() == "close(1008 out)");
}

TEST_CASE("garbage, a foreign version and our own words in a channel are passed over and counted") {
    one_node a;
    auto& c = a.server.connect();
    a.server.find(c.self().id()).join("lobby");
    a.connect();
    a.server.to("lobby").emit("own");
    a.work();
    CHECK(c.heard() == "own()");
    a.echo();
    CHECK(c.heard().empty());
    a.made->received("garbage", a.now);
    other_server other;
    auto newer = other.say(in_room, "lobby", "x");
    newer[1] = 9;
    a.made->received(newer, a.now);
    cluster_metrics counted;
    a.made->add_metrics(counted);
    CHECK(counted.malformed == 1);
    CHECK(counted.newer == 1);
    CHECK(c.heard().empty());
}

TEST_CASE("a node is well when its own word has come back from the broker") {
    one_node a;
    a.work();
    CHECK(a.made->state().degraded);
    a.made->connected(a.now);
    CHECK(a.made->state().degraded);
    a.echo();
    CHECK_FALSE(a.made->state().degraded);
    CHECK(a.states == "well ");

    SECTION("and degraded when it does not any more; then the backplane is to connect anew") {
        for (int i = 0; i != 4; ++i) {
            a.now += 1'000;
            a.work();
            a.take();
        }
        CHECK_FALSE(a.made->state().degraded);
        a.now += 1'000;
        a.work();
        CHECK(a.states == "well degraded(the broker has not answered for 5000 ms) ");
        CHECK(a.broker.reconnects == 1);
        a.take();
        a.now += 10'000;
        a.work();
        CHECK(a.broker.reconnects == 1);
        CHECK(a.take().empty());
        a.made->connected(a.now);
        a.echo();
        CHECK(a.states == "well degraded(the broker has not answered for 5000 ms) well ");
    }
    SECTION("that is, after node_timeout and no later") {
        a.now = a.next;
        a.work();
        a.now += 300;  // which is how late its word comes back
        a.echo();
        const auto heard = a.now;
        while (a.broker.reconnects == 0 && a.now < 60'000) {
            a.now = a.next;
            a.work();
        }
        CHECK(a.now == heard + 5'000);
    }
    SECTION("but not because its own loop was busy") {
        a.now += 60'000;
        a.work();
        CHECK_FALSE(a.made->state().degraded);
        CHECK(a.broker.reconnects == 0);
        a.echo();
        a.now += 4'999;
        a.work();
        CHECK_FALSE(a.made->state().degraded);
    }
    SECTION("nor when it had been well for long before") {
        for (int i = 0; i != 100; ++i) {
            a.now += 1'000;
            a.work();
            a.echo();
        }
        a.now += 7'000;
        a.work();
        CHECK(a.broker.reconnects == 0);
        for (int i = 0; i != 2; ++i) {
            a.now += 1'000;
            a.work();
        }
        CHECK_FALSE(a.made->state().degraded);
        a.now += 1'000;
        a.work();
        CHECK(a.made->state().degraded);
    }
    SECTION("and degraded when the backplane says so") {
        a.made->disconnected("refused", a.now);
        CHECK(a.states == "well degraded(refused) ");
        CHECK(a.made->state() == cluster_state{true, "refused"});
    }
}

TEST_CASE("what is said without the broker waits up to a bound, and then is told here only") {
    one_node a{{.max_outgoing_bytes = 65'536}};
    auto& c = a.server.connect();
    a.server.find(c.self().id()).join("lobby");
    a.work();
    for (int i = 0; i != 10; ++i) {
        a.server.to("lobby").emit("say", std::string(9'000, 'x'));
        CHECK(c.heard() == "say(9000 bytes)");
    }
    a.work();
    CHECK(a.broker.published.empty());
    cluster_metrics counted;
    a.made->add_metrics(counted);
    CHECK(counted.dropped == 3);
    CHECK(counted.waiting_bytes < 65'536);
    a.made->connected(a.now);
    CHECK(a.broker.published.size() == 1 + 7);
    a.take();

    // What the backplane holds counts too.
    a.broker.waits = 60'000;
    a.server.to("lobby").emit("say", std::string(9'000, 'x'));
    a.work();
    CHECK(a.broker.published.empty());
    a.broker.waits = 0;
    a.server.to("lobby").emit("say", std::string(9'000, 'x'));
    a.work();
    CHECK(a.broker.published.size() == 1);
}

TEST_CASE("what is stale at once does not wait for the broker") {
    one_node a;
    a.work();
    a.server.to("lobby").emit_volatile("position", 1);
    a.server.to("lobby").emit("word");
    a.connect();
    a.work();
    CHECK(a.said().empty());  // it went out when the broker was there
    cluster_metrics counted;
    a.made->add_metrics(counted);
    CHECK(counted.dropped == 1);
    a.server.to("lobby").emit_volatile("position", 2);
    a.work();
    CHECK(a.said() == "arke.room.=2Fchat.lobby");
}

TEST_CASE("what waits for the broker waits for the others too, who come back to it one by one, but not for ever") {
    one_node a;
    a.connect();
    other_server one{.tag = "OneOf"};
    other_server two{.tag = "TwoOf"};
    other_server gone{.tag = "GoneX"};
    for (auto* each : {&one, &two, &gone}) a.made->received(each->hello(), a.now);
    a.made->received(gone.hello(kind::goodbye), a.now);
    a.made->disconnected("killed", a.now);
    a.now += 30'000;
    a.work();
    a.server.to("lobby").emit("held");
    a.work();
    a.take();
    a.made->connected(a.now);
    CHECK(a.said().empty());
    a.made->received(one.hello(), a.now);
    a.server.to("lobby").emit("held too");
    a.server.to("lobby").emit_volatile("stale by then", 1);
    a.work();
    CHECK(a.said().empty());

    SECTION("until all are back") {
        a.made->received(two.hello(), a.now);
        CHECK(a.said() == "arke.room.=2Fchat.lobby arke.room.=2Fchat.lobby");
    }
    SECTION("or for node_timeout") {
        a.now += 4'999;
        a.work();
        CHECK(a.said().empty());
        a.now += 1;
        a.work();
        CHECK(a.said() == "arke.room.=2Fchat.lobby arke.room.=2Fchat.lobby");
    }
    SECTION("or until they say goodbye, or we do") {
        a.made->close(a.now);
        CHECK(a.said() == "arke.room.=2Fchat.lobby arke.room.=2Fchat.lobby arke.nodes");
    }
}

TEST_CASE("what a broker has kept of a connection before comes too late") {
    one_node a;
    a.connect();
    a.server.to("lobby").emit("before");
    a.work();
    const auto before = a.take();
    a.made->disconnected("stopped", a.now);
    a.made->connected(a.now);
    a.server.to("lobby").emit("after");
    a.work();
    const auto after = a.take();

    one_node b;
    auto& c = b.server.connect();
    b.server.find(c.self().id()).join("lobby");
    b.connect();
    for (const auto& [channel, bytes] : after) b.made->received(bytes, b.now);
    for (const auto& [channel, bytes] : before) b.made->received(bytes, b.now);
    CHECK(c.heard() == "after()");
}

TEST_CASE("what a broker has kept for minutes of a message for two rooms is heard once") {
    one_node a;
    auto& c = a.server.connect();
    for (const auto* room : {"lobby", "attic"}) a.server.find(c.self().id()).join(room);
    a.connect();
    other_server other;
    a.made->received(other.hello(), a.now);
    const auto said = other.say(in_room, "lobby", "word");
    a.made->received(said, a.now);
    CHECK(c.heard() == "word()");
    a.made->disconnected("stopped", a.now);
    for (int i = 0; i != 600; ++i) {
        a.now += 1'000;
        a.work();
    }
    a.made->connected(a.now);
    a.echo();
    a.now += 1'000;
    a.work();
    a.made->received(said, a.now);
    CHECK(c.heard().empty());
}

TEST_CASE("what is larger than the broker takes is said, and counted") {
    one_node a;
    a.connect();
    a.broker.max_payload = 1'000;
    a.server.to("lobby").emit("say", std::string(2'000, 'x'));
    a.server.to("lobby").emit("say", "short");
    a.work();
    CHECK(a.broker.published.size() == 1);
    CHECK(a.logged.find("larger than the broker takes") != std::string::npos);
    cluster_metrics counted;
    a.made->add_metrics(counted);
    CHECK(counted.too_big == 1);
}

TEST_CASE("other servers are there as long as they say so") {
    one_node a;
    a.connect();
    other_server other;
    a.take();
    a.made->received(other.hello(), a.now);
    CHECK(a.made->others() == std::vector<node_info>{{"Other", "the other", 3}});
    // Who says hello hears from us at once.
    REQUIRE(a.broker.published.size() == 1);
    CHECK(a.broker.published.front().first == "arke.node.Other");  // and nobody else: all come back at once
    for (int i = 0; i != 10; ++i) {
        a.now += 1'000;
        a.work();
        a.echo();
        a.made->received(other.hello(kind::heartbeat), a.now);
    }
    CHECK(a.made->others().size() == 1);

    SECTION("until a silence of node_timeout, and no longer") {
        const auto heard = a.now;
        while (a.now < heard + 5'000) {
            a.now = std::min(a.next, heard + 5'000);
            a.work();
            a.echo();
        }
        CHECK(a.made->others().size() == 1);
        a.now = a.next;
        a.work();
        CHECK(a.made->others().empty());
        CHECK(a.now == heard + 5'001);
    }
    SECTION("or a little longer where nobody looks") {
        for (int i = 0; i != 5; ++i) {
            a.now += 1'000;
            a.work();
            a.echo();
        }
        CHECK(a.made->others().size() == 1);
        a.now += 1'000;
        a.work();
        CHECK(a.made->others().empty());
        a.made->received(other.hello(kind::heartbeat), a.now);
        CHECK(a.made->others().size() == 1);
    }
    SECTION("until they say goodbye") {
        a.made->received(other.hello(kind::goodbye), a.now);
        CHECK(a.made->others().empty());
    }
    SECTION("and no more of them than may be") {
        one_node b{{.max_nodes = 3}};
        b.connect();
        for (int i = 0; i != 10; ++i) {
            other_server each;
            each.tag = "Node" + std::to_string(i);
            b.now += 1;
            b.made->received(each.hello(), b.now);
        }
        b.now += 1'000;
        b.work();
        CHECK(b.made->others().size() == 3);
    }
    SECTION("what is no name in UTF-8, or too long, is none: it may be shown to people") {
        for (const auto& name : {std::string(99, 'x') + "\xC3\xA9", std::string{"\xFF"}}) {
            envelope e;
            e.is = kind::heartbeat;
            e.tag = other.tag;
            e.name_of_node = name;
            a.made->received(other.bytes(e), a.now);
            a.now += 1'000;
            a.work();
            a.echo();
            CHECK(a.made->others() == std::vector<node_info>{{"Other", "", 0}});
        }
    }
    SECTION("what is no tag is no server: it would become a part of a channel's name") {
        other_server liar;
        liar.tag = "a.>";
        a.made->received(liar.hello(), a.now);
        CHECK(a.made->others().size() == 1);
    }
}

namespace {

struct recorded_question final : cluster::question {
    void heard(const node_info& from, const envelope& answer) override {
        heard_all += from.id + "(";
        for (const auto& id : answer.ids) heard_all += std::string{id} + " ";
        heard_all += std::to_string(answer.count) + ") ";
    }
    void done(std::vector<node_info> missing, bool is_degraded) override {
        heard_all += "done";
        for (const auto& n : missing) heard_all += " without " + n.id;
        if (is_degraded) heard_all += " degraded";
    }
    std::string heard_all;
};

}  // namespace

TEST_CASE("a question goes to all servers that are there, and names those who do not answer in time") {
    one_node a;
    a.connect();
    other_server one{.tag = "OneOf"};
    other_server two{.tag = "TwoOf"};
    a.made->received(one.hello(), a.now);
    a.made->received(two.hello(), a.now);
    a.take();
    const auto asked = std::make_shared<recorded_question>();
    envelope e;
    e.is = kind::members;
    e.endpoint = "/chat";
    e.text = "lobby";
    a.made->ask({}, e, asked, std::chrono::milliseconds{2'000});
    a.work();
    REQUIRE(a.broker.published.size() == 1);
    envelope question;
    const auto sent = a.take();
    REQUIRE(cluster::decode(sent.front().second, question) == cluster::decoded::yes);
    CHECK(question.tag == a.made->tag());

    envelope answer;
    answer.is = kind::listed;
    answer.number = question.number;
    answer.count = 3;
    answer.more = true;
    answer.ids = {"x", "y"};
    a.made->received(one.bytes(answer), a.now);
    answer.more = false;
    answer.ids = {"z"};
    a.made->received(one.bytes(answer), a.now);
    CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) ");

    SECTION("all") {
        a.made->received(two.bytes(answer), a.now);
        CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) TwoOf(z 3) done");
        a.made->received(two.bytes(answer), a.now);
        cluster_metrics counted;
        a.made->add_metrics(counted);
        CHECK(counted.late_answers == 1);
    }
    SECTION("not all") {
        CHECK(a.next <= a.now + 2'000);
        a.now += 1'999;
        a.work();
        a.echo();
        CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) ");
        a.now += 1;
        a.work();
        CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) done without TwoOf");
    }
    SECTION("or until the end of the cluster here") {
        a.made->close(a.now);
        CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) done without TwoOf degraded");
    }
}

TEST_CASE("a question is answered with what is here") {
    one_node a;
    auto& c = a.server.connect();
    a.server.find(c.self().id()).join("lobby");
    a.connect();
    other_server other;
    envelope e;
    e.is = kind::members;
    e.number = 17;
    e.tag = "Other";
    e.endpoint = "/chat";
    e.text = "lobby";
    a.made->received(other.bytes(e), a.now);
    a.work();
    auto sent = a.take();
    REQUIRE(sent.size() == 1);
    CHECK(sent.front().first == "arke.node.Other");
    envelope answer;
    REQUIRE(cluster::decode(sent.front().second, answer) == cluster::decoded::yes);
    CHECK(answer.number == 17);
    CHECK(answer.ids == std::vector<std::string_view>{c.self().id()});

    SECTION("in parts that every broker takes") {
        for (int i = 0; i != 20'000; ++i) a.server.find(a.server.connect().self().id()).join("lobby");
        a.work();
        a.take();
        a.made->received(other.bytes(e), a.now);
        a.work();
        std::size_t ids = 0;
        sent = a.take();
        CHECK(sent.size() == 2);
        for (const auto& [channel, bytes] : sent) {
            CHECK(bytes.size() < 300'000);
            REQUIRE(cluster::decode(bytes, answer) == cluster::decoded::yes);
            ids += answer.ids.size();
            CHECK(answer.more == (&bytes != &sent.back().second));
            CHECK(answer.count == 20'001);
        }
        CHECK(ids == 20'001);
    }
    SECTION("but not to a channel that somebody makes up") {
        e.tag = "nodes.>";
        a.made->received(other.bytes(e), a.now);
        a.work();
        CHECK(a.said().empty());
    }
}

TEST_CASE("a node that closes says goodbye, and is silent then") {
    one_node a;
    auto& c = a.server.connect();
    a.connect();
    a.server.to("lobby").emit("last words");
    a.made->close(a.now);
    CHECK(a.broker.closed);
    const auto sent = a.take();
    REQUIRE(sent.size() == 2);
    envelope e;
    REQUIRE(cluster::decode(sent.back().second, e) == cluster::decoded::yes);
    CHECK(e.is == kind::goodbye);
    const auto wakes = a.wakes;
    a.server.find(c.self().id()).join("lobby");
    a.server.to("lobby").emit("too late");
    a.work();
    CHECK(a.broker.published.empty());
    CHECK(a.wakes == wakes);
}

TEST_CASE("a config that cannot work is refused with a sentence") {
    const auto why = [](const cluster_config& c) -> std::string {
        try {
            cluster::check_config(c);
        } catch (const std::invalid_argument& e) {
            return e.what();
        }
        return "taken";
    };
    using std::chrono::milliseconds;
    CHECK(why({}) == "taken");
    CHECK(why({.prefix = "shop.v2-a_b"}) == "taken");
    CHECK(why({.prefix = ""}) == "arke::cluster_config: prefix has 0 bytes; give it 1 to 60");
    CHECK(why({.prefix = "a b"}) ==
          "arke::cluster_config: prefix is \"a b\"; use letters, digits, '-', '_', and single dots between them");
    CHECK(why({.prefix = "a..b"}) != "taken");
    CHECK(why({.prefix = ".a"}) != "taken");
    CHECK(why({.heartbeat_period = milliseconds{0}}) ==
          "arke::cluster_config: heartbeat_period is 0 ms; set a time greater than zero, and a day at most");
    CHECK(why({.node_timeout = milliseconds{1'500}}) ==
          "arke::cluster_config: node_timeout is 1500 ms and heartbeat_period 1000 ms; set node_timeout to twice "
          "heartbeat_period or more");
    CHECK(why({.subscription_linger = milliseconds{-1}}) != "taken");
    CHECK(why({.max_outgoing_bytes = 1}) != "taken");
    CHECK(why({.max_nodes = 1}) != "taken");
    CHECK(why({.max_questions = 0}) != "taken");
    CHECK(why({.name = std::string(101, 'x')}) != "taken");
    CHECK(why({.name = "caf\xE9"}).find("which is not UTF-8") != std::string::npos);
}

TEST_CASE("a question that another thread asks at any moment is known before its answer comes") {
    one_node a;
    a.connect();
    other_server other;
    a.made->received(other.hello(), a.now);
    constexpr int count = 3'000;
    std::vector<std::shared_ptr<recorded_question>> asked;
    for (int i = 0; i != count; ++i) asked.push_back(std::make_shared<recorded_question>());
    std::thread asker{[&] {
        for (const auto& each : asked) {
            envelope e;
            e.is = kind::nodes;
            a.made->ask({}, e, each, std::chrono::milliseconds{60'000});
        }
    }};
    int answered = 0;
    while (answered != count) {
        a.made->work(a.now);
        for (const auto& [channel, bytes] : a.take()) {
            envelope e;
            REQUIRE(cluster::decode(bytes, e) == cluster::decoded::yes);
            if (e.is != kind::nodes) continue;
            envelope answer;
            answer.is = kind::listed;
            answer.number = e.number;
            a.made->received(other.bytes(answer), a.now);
            ++answered;
        }
    }
    asker.join();
    a.made->work(a.now);
    cluster_metrics counted;
    a.made->add_metrics(counted);
    CHECK(counted.late_answers == 0);
    for (const auto& each : asked) CHECK(each->heard_all == "Other(0) done");
}
