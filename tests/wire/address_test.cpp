#include <arke/wire/address.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke::wire;

namespace {

std::string again(std::string_view text) {
    const auto ip = parse_ip(text);
    return ip ? ip->text() : "none";
}

}  // namespace

TEST_CASE("an address comes back as RFC 5952 writes it") {
    const std::vector<std::pair<std::string, std::string>> table{
        {"192.0.2.7", "192.0.2.7"},
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"::ffff:192.0.2.7", "192.0.2.7"},
        {"::FFFF:c000:207", "192.0.2.7"},
        {"::", "::"},
        {"::1", "::1"},
        {"1::", "1::"},
        {"2001:DB8::0007", "2001:db8::7"},
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"},
        {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
        {"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
        {"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"},
    };
    for (const auto& [text, same] : table) {
        CAPTURE(text);
        CHECK(again(text) == same);
        CHECK(again(again(text)) == same);
    }
}

TEST_CASE("what is no address is none") {
    for (const auto* text : {"",
                             "1",
                             "1.2.3",
                             "1.2.3.4.5",
                             "1.2.3.256",
                             "01.2.3.4",
                             "1.2.3.4 ",
                             " 1.2.3.4",
                             "1.2.3.+4",
                             "0x1.2.3.4",
                             "1.2.3.",
                             ".1.2.3.4",
                             "1..2.3",
                             ":",
                             ":::",
                             "1:",
                             ":1",
                             "1::2::3",
                             "1:2:3:4:5:6:7",
                             "1:2:3:4:5:6:7:8:9",
                             "12345::",
                             "g::",
                             "[::1]",
                             "::1%eth0",
                             "1:2:3:4:5:6:7:8::",
                             "::1:2:3:4:5:6:7:8",
                             "1.2.3.4::",
                             "::1.2.3",
                             "::1.2.3.4:5",
                             "1:2:3:4:5:6:7:1.2.3.4",
                             "localhost",
                             "1:::2"}) {
        CAPTURE(text);
        CHECK(again(text) == "none");
    }
}

TEST_CASE("a network holds what has its prefix, to the bit") {
    const std::vector<std::pair<std::string, std::vector<std::pair<std::string, bool>>>> table{
        {"10.0.0.0/8",
         {{"10.255.255.255", true}, {"11.0.0.0", false}, {"9.255.255.255", false}, {"::ffff:10.1.2.3", true}}},
        {"192.0.2.128/25", {{"192.0.2.128", true}, {"192.0.2.127", false}}},
        {"192.0.2.7", {{"192.0.2.7", true}, {"192.0.2.6", false}, {"::ffff:192.0.2.7", true}}},
        {"0.0.0.0/0", {{"1.2.3.4", true}, {"::1", false}, {"unix", false}}},
        {"::/0", {{"1.2.3.4", true}, {"::1", true}, {"unix", false}}},
        {"::1", {{"::1", true}, {"::1%lo", true}, {"::2", false}}},
        {"2001:db8::/33", {{"2001:db8:7fff::1", true}, {"2001:db8:8000::", false}}},
        {"fe80::/10", {{"fe80::1%eth0", true}, {"fec0::1", false}}},
        {"unix", {{"unix", true}, {"127.0.0.1", false}, {"", false}}},
    };
    for (const auto& [network, addresses] : table) {
        network_list list;
        REQUIRE(list.add(network));
        for (const auto& [address, is_in] : addresses) {
            CAPTURE(network, address);
            CHECK(list.contains(std::string_view{address}) == is_in);
        }
    }
}

TEST_CASE("a list refuses what is no network, and is empty until something is in it") {
    network_list list;
    CHECK(list.empty());
    for (const auto* text : {"", "10.0.0.0/33", "10.0.0.1/8", "::/129", "::1/64", "10.0.0.0/", "10.0.0.0/08",
                             "10.0.0.0/-1", "/8", "UNIX", "example.com", "10.0.0.0/8/8", "10.0.0.0 /8"}) {
        CAPTURE(text);
        CHECK_FALSE(list.add(text));
    }
    CHECK(list.empty());
    CHECK_FALSE(list.contains(std::string_view{"10.0.0.0"}));
}

TEST_CASE("addresses are counted in groups: one of IPv4, or the first 64 bits of IPv6") {
    CHECK(address_group("192.0.2.7") == "192.0.2.7");
    CHECK(address_group("::ffff:192.0.2.7") == "192.0.2.7");
    CHECK(address_group("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::");
    CHECK(address_group("2001:db8:1:2:ffff::1") == "2001:db8:1:2::");
    CHECK(address_group("2001:db8:1:3::1") != address_group("2001:db8:1:2::1"));
    CHECK(address_group("fe80::1%eth0") == "fe80::");
    CHECK(address_group("unix") == "unix");
}
