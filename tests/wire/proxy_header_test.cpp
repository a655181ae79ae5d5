#include <arke/wire/proxy_header.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke::wire;
using namespace std::string_literals;

namespace {

const std::string signature{"\r\n\r\n\0\r\nQUIT\n", 12};

/// A header of version 2. The length is that of the rest unless it is given.
std::string v2(char command, char family, const std::string& rest, int length = -1) {
    const auto size = length < 0 ? rest.size() : static_cast<std::size_t>(length);
    return signature + command + family + static_cast<char>(size >> 8U) + static_cast<char>(size & 0xFFU) + rest;
}

const std::string v4_addresses{"\xC0\x00\x02\x07\x0A\x00\x00\x01\x30\x39\x01\xBB", 12};
const std::string v6_addresses =
    "\x20\x01\x0D\xB8"s + std::string(11, '\0') + "\x07" + std::string(15, '\0') + "\x01" + "\xFF\xFE\x01\xBB"s;

/// What a reader makes of bytes that come in two parts: "192.0.2.7 12345 +4" with four bytes left over, "itself", "more", "refused".
std::string read(std::string_view bytes, std::size_t cut) {
    proxy_header_reader reader;
    std::size_t left = 0;
    auto result = proxy_header_reader::result::more;
    for (const auto part : {bytes.substr(0, cut), bytes.substr(cut)}) {
        if (result != proxy_header_reader::result::more) {
            left += part.size();
            continue;
        }
        result = reader.feed(part);
        left += part.size() - reader.consumed();
    }
    if (result == proxy_header_reader::result::more) return "more";
    if (result == proxy_header_reader::result::refused) return "refused";
    std::string text = "itself";
    if (reader.source()) text = reader.source()->text + " " + std::to_string(reader.source()->port);
    return left == 0 ? text : text + " +" + std::to_string(left);
}

std::string read_at_every_cut(std::string_view bytes) {
    const auto whole = read(bytes, bytes.size());
    for (std::size_t cut = 0; cut != bytes.size(); ++cut) {
        const auto parts = read(bytes, cut);
        if (parts != whole) return whole + ", but cut at " + std::to_string(cut) + " " + parts;
    }
    proxy_header_reader reader;
    auto result = proxy_header_reader::result::more;
    for (std::size_t at = 0; at != bytes.size() && result == proxy_header_reader::result::more; ++at)
        result = reader.feed(bytes.substr(at, 1));
    if ((result == proxy_header_reader::result::refused) != (whole == "refused"))
        return whole + ", but not in single bytes";
    return whole;
}

}  // namespace

TEST_CASE("headers say whose bytes follow, at every cut") {
    const auto binary = [](char command, char family, const std::string& rest) { return v2(command, family, rest); };
    const std::vector<std::pair<std::string, std::string>> table{
        {binary('\x21', '\x11', v4_addresses), "192.0.2.7 12345"},
        {binary('\x21', '\x21', v6_addresses), "2001:db8::7 65534"},
        {binary('\x21', '\x31', std::string(216, 'x')), "unix 0"},
        // What follows the addresses is skipped.
        {binary('\x21', '\x11', v4_addresses + "\x04\x00\x03pad"s), "192.0.2.7 12345"},
        {binary('\x21', '\x21', v6_addresses + std::string(500, '\xFF')), "2001:db8::7 65534"},
        {binary('\x21', '\x31', std::string(217, '\0')), "unix 0"},
        // The proxy itself, whatever stands in the rest.
        {binary('\x20', '\x00', ""), "itself"},
        {binary('\x20', '\x11', v4_addresses), "itself"},
        {binary('\x20', '\xFF', "whatever"), "itself"},
        {binary('\x21', '\x00', ""), "itself"},
        {binary('\x21', '\x00', "12345"), "itself"},
        {binary('\x21', '\x10', ""), "itself"},
        {binary('\x21', '\x12', v4_addresses), "itself"},
        {binary('\x21', '\x22', v6_addresses), "itself"},
        {binary('\x21', '\x32', std::string(216, '\0')), "itself"},
        // IPv4 in IPv6.
        {binary('\x21', '\x21',
                std::string(10, '\0') + "\xFF\xFF\xC0\x00\x02\x07"s + std::string(16, '\0') + "\x00\x50\x00\x50"s),
         "192.0.2.7 80"},
        {"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n", "192.0.2.7 12345"},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255 65535"},
        {"PROXY TCP6 2001:DB8::7 ::1 0 443\r\n", "2001:db8::7 0"},
        {"PROXY UNKNOWN\r\n", "itself"},
        {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
         "65535\r\n",
         "itself"},
    };
    for (const auto& [header, said] : table) {
        CAPTURE(header);
        CHECK(read_at_every_cut(header) == said);
        CHECK(read_at_every_cut(header + "GET ") == said + " +4");
    }
}

TEST_CASE("what is no header is refused, at every cut") {
    const std::vector<std::string> table{
        "GET / HTTP/1.1\r\n",
        "\x16\x03\x01\x02",  // a TLS hello
        "P ",
        "PROXY\r\n",
        "PROXX TCP4",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY unknown\r\n",
        "PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 ::1 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY TCP6 ::g ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\rGET",
        "PROXY UNKNOWN " + std::string(200, 'x') + "\r\n",
        signature.substr(0, 11) + "\r",
        v2('\x10', '\x11', v4_addresses),  // version 1 in the form of version 2
        v2('\x22', '\x11', v4_addresses),  // a command that there is not
        v2('\x2F', '\x11', v4_addresses),
        v2('\x21', '\x41', v4_addresses),                // a family that there is not
        v2('\x21', '\x13', v4_addresses),                // a protocol that there is not
        v2('\x21', '\x11', v4_addresses.substr(0, 11)),  // too short for its family
        v2('\x21', '\x12', ""),
        v2('\x21', '\x21', v6_addresses.substr(0, 35)),
        v2('\x21', '\x31', std::string(215, '\0')),
    };
    for (const auto& header : table) {
        CAPTURE(header);
        CHECK(read_at_every_cut(header) == "refused");
    }
}

TEST_CASE("a header of the largest size is read, and of one byte more refused before that byte") {
    const std::string most = v4_addresses + std::string(proxy_header_reader::max_rest - v4_addresses.size(), 'x');
    CHECK(read(v2('\x21', '\x11', most), 1000) == "192.0.2.7 12345");
    CHECK(read(v2('\x20', '\x00', most), 1000) == "itself");
    CHECK(read(v2('\x21', '\x11', "", 4097), 16) == "refused");
    CHECK(read(v2('\x20', '\x00', "", 65'535), 16) == "refused");
    const std::string line = "PROXY UNKNOWN ";
    CHECK(read(line + std::string(107 - 2 - line.size(), 'x') + "\r\n", 20) == "itself");
    CHECK(read(line + std::string(107 - 1 - line.size(), 'x'), 20) == "more");
    CHECK(read(line + std::string(107 - line.size(), 'x'), 20) == "refused");
    CHECK(read(line + std::string(107 - 1 - line.size(), 'x') + "\r\n", 20) == "refused");
}

TEST_CASE("half a header is waited for") {
    for (const std::string& header :
         {"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n"s, v2('\x21', '\x11', v4_addresses + "tlv"),
          v2('\x20', '\x00', "1234"), v2('\x21', '\x31', std::string(216, 'x'))}) {
        for (std::size_t size = 0; size != header.size(); ++size) CHECK(read(header.substr(0, size), 0) == "more");
    }
}
