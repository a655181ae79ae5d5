#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/one_node.hpp"

using namespace arke;
using namespace arke::test;
using cluster::envelope;
using kind = cluster::envelope::kind;

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
        answer.count = 1;
        a.made->received(two.bytes(answer), a.now);
        CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) TwoOf(z 1) done");
        a.made->received(two.bytes(answer), a.now);
        cluster_metrics counted;
        a.made->add_metrics(counted);
        CHECK(counted.late_answers == 1);
    }
    SECTION("all, for whom one that has answered and gone is none to wait for") {
        a.made->received(one.hello(kind::goodbye), a.now);
        CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) ");
        answer.count = 1;
        a.made->received(two.bytes(answer), a.now);
        CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) TwoOf(z 1) done");
    }
    SECTION("all, but one without a part of its answer") {
        // The end of the list came without the beginning, which the broker had dropped, and it was taken for the whole list.
        a.made->received(two.bytes(answer), a.now);
        CHECK(asked->heard_all == "OneOf(x y 3) OneOf(z 3) TwoOf(z 3) done without TwoOf");
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
