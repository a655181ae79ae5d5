#include <arke/cluster/channel.hpp>
#include <arke/cluster/envelope.hpp>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke;
using cluster::decode;
using cluster::decoded;
using cluster::encode;
using cluster::envelope;
using kind = cluster::envelope::kind;

namespace {

envelope from_somebody(kind is) {
    envelope e;
    e.is = is;
    for (std::size_t i = 0; i != 16; ++i) e.from.bytes[i] = static_cast<char>(0xF0 + i);
    e.sequence = 0x0102'0304'0506'0708;
    return e;
}

envelope aimed(kind is) {
    auto e = from_somebody(is);
    e.endpoint = "/chat";
    e.to = {{core::name::kind::any, "room"},
            {core::name::kind::id, std::string_view{"a\0b", 3}},
            {core::name::kind::room, ""}};
    e.except = {{core::name::kind::room, "quiet"}};
    return e;
}

/// One of each kind.
std::vector<envelope> all_kinds() {
    std::vector<envelope> all;
    auto deliver = aimed(kind::deliver);
    deliver.what = outgoing::of({"price", value_kind::json, R"({"eur":1.5})"}, urgency::latest_only, "gold");
    all.push_back(deliver);
    auto everyone = from_somebody(kind::deliver);
    everyone.everyone = true;
    everyone.what = outgoing::native(false, std::string_view{"\xFF\x00", 2});
    all.push_back(everyone);
    auto disconnect = aimed(kind::disconnect);
    disconnect.code = static_cast<close_code>(4321);
    disconnect.text = "enough";
    all.push_back(disconnect);
    for (const auto is : {kind::join, kind::leave}) {
        all.push_back(aimed(is));
        all.back().text = "lounge";
    }
    for (const auto is : {kind::heartbeat, kind::hello, kind::goodbye}) {
        auto e = from_somebody(is);
        e.tag = "Ab3dE";
        e.name_of_node = "host-1";
        e.number = 123'456;
        all.push_back(e);
    }
    for (const auto is : {kind::members, kind::size, kind::nodes}) {
        auto e = from_somebody(is);
        e.number = 1U << 31U;
        e.tag = "Ab3dE";
        if (is != kind::nodes) {
            e.endpoint = "/";
            e.text = "room";
        }
        all.push_back(e);
    }
    auto event = from_somebody(kind::event);
    event.number = 7;
    event.tag = "Ab3dE";
    event.what = outgoing::of({"reload", value_kind::integer, "42"});
    all.push_back(event);
    auto listed = from_somebody(kind::listed);
    listed.number = ~std::uint64_t{0};
    listed.more = true;
    listed.count = 3;
    listed.ids = {"a", "", "ccc"};
    all.push_back(listed);
    auto answer = from_somebody(kind::answer);
    answer.number = 7;
    answer.what = outgoing::answer(0, value_kind::binary, "\x80");
    all.push_back(answer);
    auto refusal = from_somebody(kind::refusal);
    refusal.number = 7;
    refusal.what = outgoing::refusal(0, refusal_reason::busy, "later");
    all.push_back(refusal);
    return all;
}

}  // namespace

TEST_CASE("an envelope of each kind is read as it was written") {
    for (const auto& e : all_kinds()) {
        const auto bytes = encode(e);
        INFO(static_cast<int>(e.is));
        envelope back;
        REQUIRE(decode(bytes, back) == decoded::yes);
        CHECK(back.is == e.is);
        CHECK(back.from == e.from);
        CHECK(back.sequence == e.sequence);
        CHECK(back.endpoint == e.endpoint);
        CHECK(back.everyone == e.everyone);
        CHECK(back.text == e.text);
        CHECK(back.tag == e.tag);
        CHECK(back.name_of_node == e.name_of_node);
        CHECK(back.number == e.number);
        CHECK(back.more == e.more);
        CHECK(back.count == e.count);
        CHECK(back.ids == e.ids);
        CHECK(back.code == e.code);
        CHECK(back.what.event.name == e.what.event.name);
        CHECK(back.what.event.data == e.what.event.data);
        CHECK(back.what.key == e.what.key);
        CHECK(back.what.how == e.what.how);
        CHECK(back.what.event.kind == e.what.event.kind);
        REQUIRE(back.to.size() == e.to.size());
        for (std::size_t i = 0; i != e.to.size(); ++i) {
            CHECK(back.to[i].is == e.to[i].is);
            CHECK(back.to[i].text == e.to[i].text);
        }
        REQUIRE(back.except.size() == e.except.size());
        // What was read writes the same bytes again.
        CHECK((e.is == kind::deliver || e.is == kind::refusal || encode(back) == bytes));
    }
}

TEST_CASE("an envelope that is cut anywhere, or has a byte too many, is malformed") {
    for (const auto& e : all_kinds()) {
        const auto bytes = encode(e);
        envelope back;
        for (std::size_t size = 0; size != bytes.size(); ++size) {
            INFO(static_cast<int>(e.is) << " cut at " << size);
            CHECK(decode(std::string_view{bytes}.substr(0, size), back) == decoded::malformed);
        }
        CHECK(decode(bytes + "x", back) == decoded::malformed);
    }
}

TEST_CASE("what is of another version or of an unknown kind is newer; what is not ours is malformed") {
    auto bytes = encode(aimed(kind::join));
    envelope back;
    auto changed = bytes;
    changed[1] = 2;
    CHECK(decode(changed, back) == decoded::newer);
    changed = bytes;
    changed[2] = 100;
    CHECK(decode(changed, back) == decoded::newer);
    changed[2] = 0;
    CHECK(decode(changed, back) == decoded::malformed);
    CHECK(decode("{\"room\":\"a\"}", back) == decoded::malformed);
    CHECK(decode("", back) == decoded::malformed);
}

TEST_CASE("a number of more than 64 bits is malformed") {
    envelope e;
    e.is = kind::nodes;
    e.number = ~std::uint64_t{0};
    e.tag = "abcde";
    auto bytes = encode(e);
    envelope back;
    REQUIRE(decode(bytes, back) == decoded::yes);
    CHECK(back.number == ~std::uint64_t{0});
    // Its last byte holds the topmost bit, and no more.
    const auto last = bytes.find('\x01', bytes.find("\xFF\xFF\xFF"));
    REQUIRE(last != std::string::npos);
    bytes[last] = '\x02';
    CHECK(decode(bytes, back) == decoded::malformed);
    bytes[last] = '\xFF';
    CHECK(decode(bytes, back) == decoded::malformed);
}

TEST_CASE("a text that is not UTF-8 would end the connections of browsers, so its envelope is malformed") {
    envelope back;
    auto e = aimed(kind::deliver);
    e.what = outgoing::of({"event", value_kind::text, "\xC3\x28"});
    CHECK(decode(encode(e), back) == decoded::malformed);
    e.what = outgoing::of({"event", value_kind::binary, "\xC3\x28"});
    CHECK(decode(encode(e), back) == decoded::yes);
    e.what = outgoing::of({"ev\xFFnt", value_kind::binary, ""});
    CHECK(decode(encode(e), back) == decoded::malformed);
    e.what = outgoing::native(true, "\xFF");
    CHECK(decode(encode(e), back) == decoded::malformed);
    auto bye = aimed(kind::disconnect);
    bye.text = "\xFF";
    CHECK(decode(encode(bye), back) == decoded::malformed);
}

TEST_CASE("a code that no close frame may carry is malformed") {
    envelope back;
    auto bye = aimed(kind::disconnect);
    for (const int code : {0, 999, 1004, 1005, 1006, 1015, 2999, 5000}) {
        INFO(code);
        bye.code = static_cast<close_code>(code);
        CHECK(decode(encode(bye), back) == decoded::malformed);
    }
}

TEST_CASE("requests, answers and controls are no events that go to rooms") {
    envelope back;
    auto e = aimed(kind::deliver);
    for (const auto is : {outgoing::what::request, outgoing::what::join, outgoing::what::leave, outgoing::what::answer,
                          outgoing::what::refusal}) {
        e.what.is = is;
        CHECK(decode(encode(e), back) == decoded::malformed);
    }
}

TEST_CASE("a sequence is written later into what was encoded") {
    auto bytes = encode(aimed(kind::join));
    cluster::set_sequence(bytes, 0xFEDC'BA98'7654'3210);
    envelope back;
    REQUIRE(decode(bytes, back) == decoded::yes);
    CHECK(back.sequence == 0xFEDC'BA98'7654'3210);
}

TEST_CASE("each room has a channel of its own, which Redis and NATS can name") {
    const cluster::channel_names names{"arke"};
    CHECK(names.nodes() == "arke.nodes");
    CHECK(names.node("Ab3dE") == "arke.node.Ab3dE");
    CHECK(names.everyone("/") == "arke.all.=2F");
    CHECK(names.room("/chat", "lobby") == "arke.room.=2Fchat.lobby");

    std::vector<std::string> rooms{"",
                                   "*",
                                   ">",
                                   "a.b",
                                   "a b",
                                   "a\nb",
                                   "a\r\nb",
                                   "=",
                                   "==",
                                   "=2E",
                                   ".",
                                   "room",
                                   "Room",
                                   "\xF0\x9F\x98\x80",
                                   "~",
                                   "a*b",
                                   "a>b",
                                   "..",
                                   std::string(1, '\0'),
                                   std::string{"a\0b", 3}};
    for (const std::size_t size : {100U, 119U, 120U, 121U, 300U, 65'536U}) {
        rooms.emplace_back(size, 'x');
        rooms.emplace_back(size, ' ');
    }
    std::set<std::string> channels;
    for (const auto& room : rooms) {
        const auto channel = names.room(std::string(300, '/'), room);
        CHECK(channel.size() <= 250);
        CHECK(channel.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=~.") ==
              std::string::npos);
        CHECK(std::count(channel.begin(), channel.end(), '.') == 3);
        CHECK(channel.find("..") == std::string::npos);
        CHECK(channel.back() != '.');
        CHECK(channels.insert(channel).second);
    }
}
