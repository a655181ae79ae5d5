#include <arke/wire/forwarded.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke::wire;

namespace {

std::string joined(const std::vector<std::string>& nodes) {
    std::string all;
    for (const auto& n : nodes) all += (all.empty() ? "" : " | ") + (n.empty() ? "?" : n);
    return all;
}

std::string node(std::string_view text) {
    const auto n = parse_node(text);
    return n ? n->address.text() + " " + std::to_string(n->port) : "none";
}

network_list trusting(const std::vector<std::string>& who) {
    network_list list;
    for (const auto& each : who) REQUIRE(list.add(each));
    return list;
}

/// Who asks, when it came by 10.0.0.1 of a trusted 10.0.0.0/8.
std::string client(const std::vector<std::string>& nodes) {
    const auto found = client_of({"10.0.0.1", 5}, nodes, trusting({"10.0.0.0/8"}));
    return found.address + " " + std::to_string(found.port);
}

}  // namespace

TEST_CASE("a node is an address with or without a port") {
    CHECK(node("192.0.2.7") == "192.0.2.7 0");
    CHECK(node("192.0.2.7:1234") == "192.0.2.7 1234");
    CHECK(node("[2001:db8::7]") == "2001:db8::7 0");
    CHECK(node("[2001:db8::7]:1234") == "2001:db8::7 1234");
    CHECK(node("2001:db8::7") == "2001:db8::7 0");
    CHECK(node("192.0.2.7:_hidden") == "192.0.2.7 0");
    CHECK(node("[::ffff:192.0.2.7]:80") == "192.0.2.7 80");
    for (const auto* none :
         {"", "unknown", "_hidden", "_hidden:80", "192.0.2.7:", "192.0.2.7:65536", "192.0.2.7:x", "[192.0.2.7]", "[::1",
          "[::1]x", "[::1]:", "::1]", "localhost", "192.0.2.7:_", "192.0.2.7 1"}) {
        CAPTURE(none);
        CHECK(node(none) == "none");
    }
}

TEST_CASE("X-Forwarded-For is a list, over several headers too") {
    CHECK(joined(x_forwarded_nodes({"a"})) == "a");
    CHECK(joined(x_forwarded_nodes({"a, b ,c"})) == "a | b | c");
    CHECK(joined(x_forwarded_nodes({"a,", " ,b", "", "c"})) == "a | b | c");
    CHECK(joined(x_forwarded_nodes({})) == "");
}

TEST_CASE("Forwarded has the nodes of its elements, quoted or not") {
    const std::vector<std::pair<std::string, std::string>> table{
        {"for=192.0.2.7", "192.0.2.7"},
        {"For=\"[2001:db8:cafe::17]:4711\"", "[2001:db8:cafe::17]:4711"},
        {"for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"},
        {"proto=http; by=203.0.113.43 ;for=192.0.2.60", "192.0.2.60"},
        {"for=192.0.2.43, for=198.51.100.17", "192.0.2.43 | 198.51.100.17"},
        {"for=192.0.2.43,for=\"[::1]\" , for=unknown,for=_gazonk", "192.0.2.43 | [::1] | unknown | _gazonk"},
        {"for=\"a\\\"b\\\\c\"", "a\"b\\c"},
        {"for=\"a,b;c\";by=x, for=d", "a,b;c | d"},
        {"for=1.2.3.4;", "1.2.3.4"},
        {", ,for=a,, for=b,", "a | b"},
        {"", ""},
        // An element of somebody who says nothing of whom he has it from.
        {"for=a, proto=https", "a | ?"},
        {"proto=https, for=a", "? | a"},
        {"for=a;ext=\"x, for=b\"", "a"},
        // No grammar: of this header nothing counts from there on.
        {"for", "?"},
        {"for=", "?"},
        {"for=\"a", "?"},
        {"for=\"a\\", "?"},
        {"for=a b, for=c", "?"},
        {"for=\"a\"b, for=c", "?"},
        {"=a", "?"},
        {"for=a;for=b, for=c", "?"},
        {"for=a, for=\", for=b", "a | ?"},
        {"for=6.6.6.6;x=\", for=\"[2001:db8::1]\"", "?"},
    };
    for (const auto& [header, nodes] : table) {
        CAPTURE(header);
        CHECK(joined(forwarded_nodes({header})) == nodes);
    }
    CHECK(joined(forwarded_nodes({"for=a", "for=\"", "for=c, for=d"})) == "a | ? | c | d");
}

TEST_CASE("who asks is the rightmost that is not trusted") {
    CHECK(client({}) == "10.0.0.1 5");
    CHECK(client({"192.0.2.7"}) == "192.0.2.7 0");
    CHECK(client({"6.6.6.6", "192.0.2.7:80"}) == "192.0.2.7 80");
    CHECK(client({"6.6.6.6", "192.0.2.7", "10.0.0.9"}) == "192.0.2.7 0");
    CHECK(client({"6.6.6.6", "10.0.0.8", "192.0.2.7", "10.0.0.9:1"}) == "192.0.2.7 0");
    // All trusted: the first of them asks for itself.
    CHECK(client({"10.0.0.8", "10.0.0.9:7"}) == "10.0.0.8 0");
}

TEST_CASE("who hides counts as the proxy that hides it, and what stands left of that is not believed") {
    CHECK(client({"unknown"}) == "10.0.0.1 5");
    CHECK(client({"6.6.6.6", "_hidden"}) == "10.0.0.1 5");
    CHECK(client({"6.6.6.6", "rubbish", "10.0.0.9:7"}) == "10.0.0.9 7");
    CHECK(client({"6.6.6.6", ""}) == "10.0.0.1 5");
}

TEST_CASE("somebody who is not trusted says nothing about others") {
    const auto found = client_of({"192.0.2.1", 5}, {"6.6.6.6"}, trusting({"10.0.0.0/8"}));
    CHECK(found.address == "192.0.2.1");
    CHECK(found.port == 5);
    CHECK(client_of({"unix"}, {"192.0.2.7"}, trusting({"unix"})).address == "192.0.2.7");
    CHECK(client_of({"unix"}, {"192.0.2.7"}, trusting({"10.0.0.0/8"})).address == "unix");
    CHECK(client_of({"::ffff:10.1.1.1"}, {"192.0.2.7"}, trusting({"10.0.0.0/8"})).address == "192.0.2.7");
}
