#include <chrono>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/one_node.hpp"

using namespace arke;
using namespace arke::test;
using cluster::envelope;
using kind = cluster::envelope::kind;

namespace {

constexpr auto any = core::name::kind::any;

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

TEST_CASE("who has come back at another server is told by the one where the dead connection is, too") {
    // An id of the application's own that was connected here was looked for here only: until pong_timeout it heard nothing.
    config settings{.endpoint = "/chat"};
    settings.id_generator = [](const request& r) { return r.query("id").value_or(""); };
    one_node here{{}, settings};
    one_node there{{}, settings};
    here.connect();
    there.connect();
    auto& dead = here.server.connect("ann");
    auto& back = there.server.connect("ann");
    const auto passes_on = [&] {
        here.work();
        std::string channels;
        for (const auto& [channel, bytes] : here.take()) {
            channels += channel;
            there.made->received(bytes, there.now);
        }
        return channels;
    };
    here.server.to("ann").emit("word");
    CHECK(dead.heard() == "word()");
    CHECK(passes_on() == "arke.room.=2Fchat.ann");
    CHECK(back.heard() == "word()");

    // Who is in a room of that name is not meant, as if both were here.
    auto& ben = there.server.connect("ben");
    back.hangs_up();
    REQUIRE(there.server.find("ben").join("ann"));
    here.server.to("ann").emit("secret");
    passes_on();
    CHECK(ben.heard().empty());

    // An id that a server has made comes back nowhere.
    auto& made = here.server.connect();
    here.server.to(made.self().id()).emit("word");
    CHECK(passes_on().empty());
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

TEST_CASE("what goes to the backplane while the figures are read is counted once") {
    one_node a;
    a.connect();
    a.server.to("lobby").emit("say", std::string(1'000, 'x'));
    cluster_metrics before;
    a.made->add_metrics(before);
    REQUIRE(before.waiting_bytes > 1'000);
    // As the loop does, while another thread reads.
    a.broker.when_counted = [&] {
        a.work();
        for (const auto& [channel, bytes] : a.take()) a.broker.waits += bytes.size();
    };
    cluster_metrics meanwhile;
    a.made->add_metrics(meanwhile);
    CHECK(a.broker.waits > 1'000);
    CHECK(meanwhile.waiting_bytes == before.waiting_bytes);
    a.broker.when_counted = nullptr;
    cluster_metrics after;
    a.made->add_metrics(after);
    CHECK(after.waiting_bytes == a.broker.waits);
}

TEST_CASE("what is stale at once does not wait for the broker") {
    one_node a;
    a.work();
    a.server.to("lobby").emit_volatile("position", 1);
    a.server.to("lobby").emit("word");
    // What is for one who is here was counted as missed by the other servers.
    a.server.to(a.server.connect().self().id()).emit_volatile("position", 1);
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

TEST_CASE("what is not handed on for want of memory is counted, and what is said then goes out") {
    // The one that the memory was missing for was not counted.
    one_node a;
    a.connect();
    a.broker.is_short_of_memory = true;
    for (int i = 0; i != 3; ++i) a.server.to("lobby").emit("lost");
    CHECK_THROWS_AS(a.work(), std::bad_alloc);
    cluster_metrics counted;
    a.made->add_metrics(counted);
    CHECK(counted.dropped == 3);
    a.broker.is_short_of_memory = false;
    a.server.to("lobby").emit("new");
    a.work();
    CHECK(a.said() == "arke.room.=2Fchat.lobby");
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
