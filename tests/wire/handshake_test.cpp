#include <arke/wire/base64.hpp>
#include <arke/wire/handshake.hpp>
#include <arke/wire/sha1.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke::wire;
using arke::request;

namespace {

using fields = std::vector<std::pair<std::string_view, std::string_view>>;

const fields good_upgrade = {
    {"Host", "example.com"},
    {"Upgrade", "websocket"},
    {"Connection", "Upgrade"},
    {"Sec-WebSocket-Version", "13"},
    {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
};

/// The good upgrade with one header replaced, or left out when `value` is nullptr.
fields with(std::string_view name, const char* value) {
    auto out = good_upgrade;
    std::erase_if(out, [&](const auto& entry) { return entry.first == name; });
    if (value) out.emplace_back(name, value);
    return out;
}

/// The good upgrade with one header more.
fields and_also(std::string_view name, std::string_view value) {
    auto out = good_upgrade;
    out.emplace_back(name, value);
    return out;
}

int upgrade_status(const fields& headers, std::string_view method = "GET", unsigned version = 11,
                   std::string_view target = "/chat") {
    const auto refusal = check_upgrade(request{method, target, version, headers});
    return refusal ? refusal->status : 101;
}

std::string header(const http_refusal& refusal, std::string_view name) {
    for (const auto& [key, value] : refusal.headers) {
        if (key == name) return value;
    }
    return "none";
}

std::string hex(const std::array<char, 20>& digest) {
    std::string out;
    for (const char c : digest) {
        for (const int shift : {4, 0}) out += "0123456789abcdef"[static_cast<unsigned char>(c) >> shift & 15];
    }
    return out;
}

/// The fault of a block, or nullopt.
std::optional<header_fault> fault_of(std::string_view block) { return find_header_fault(block); }

std::string block_with(std::string_view lines) {
    return "GET /chat HTTP/1.1\r\nHost: example.com\r\n" + std::string{lines} + "\r\n";
}

request from(std::string_view origin, std::string_view host) {
    return {"GET", "/", 11, {{"Host", host}, {"Origin", origin}}};
}

std::string chosen(std::vector<std::string_view> offered, std::vector<std::string_view> supported) {
    return choose_subprotocol(offered, supported).value_or("none");
}

const std::string real_request =
    "GET /my_endpoint?x=1 HTTP/1.1\r\nHost: localhost:8080\r\nConnection: keep-alive, Upgrade\r\nPragma: no-cache\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nUpgrade: websocket\r\nOrigin: http://localhost:8080\r\n"
    "Sec-WebSocket-Version: 13\r\nAccept-Language: de-DE,de;q=0.9\r\nCookie: a=\"b c\"; d=\xC3\xA9\r\nX-Empty:\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

}  // namespace

TEST_CASE("SHA-1 and base64 agree with their standards") {
    CHECK(hex(sha1("")) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    CHECK(hex(sha1("abc")) == "a9993e364706816aba3e25717850c26c9cd0d89d");
    CHECK(hex(sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
          "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    CHECK(hex(sha1(std::string(1'000'000, 'a'))) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    // The padding changes its form at 55, 56 and 64 bytes.
    CHECK(hex(sha1(std::string(55, 'a'))) == "c1c8bbdc22796e28c0e15163d20899b65621d65a");
    CHECK(hex(sha1(std::string(56, 'a'))) == "c2db330f6083854c99d4b5bfb6e8f29f201be699");
    CHECK(hex(sha1(std::string(64, 'a'))) == "0098ba824b5c16427bd7a1122a5a442a25ec644d");

    const std::pair<std::string_view, std::string_view> table[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xFF\xFE\xFD", "//79"},
    };
    for (const auto& [plain, encoded] : table) CHECK(base64(plain) == encoded);
}

TEST_CASE("the accept key is the one of RFC 6455") {
    CHECK(accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST_CASE("a key is 22 letters of base64 and two equals signs") {
    CHECK(is_base64_of_16_bytes("dGhlIHNhbXBsZSBub25jZQ=="));
    CHECK(is_base64_of_16_bytes("++++//////++++//////zz=="));
    for (const auto wrong : {"", "abc", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ",
                             "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZQ= ", "dGhlIHNhbXBsZSBub25j-Q==",
                             "dGhlIHNhbXBsZSBub=5jZQ==", "dGhlIHNhbXBsZSBub25jZ1MJ"}) {
        INFO(wrong);
        CHECK_FALSE(is_base64_of_16_bytes(wrong));
    }
}

TEST_CASE("a correct upgrade passes, however it is written") {
    CHECK(upgrade_status(good_upgrade) == 101);
    CHECK(upgrade_status(with("Upgrade", "WebSocket")) == 101);
    CHECK(upgrade_status(with("Upgrade", "h2c, websocket")) == 101);
    CHECK(upgrade_status(with("Connection", "keep-alive, Upgrade")) == 101);
    CHECK(upgrade_status(with("Connection", ",, keep-alive ,upgrade,")) == 101);
    CHECK(upgrade_status(and_also("Connection", "keep-alive")) == 101);
    CHECK(upgrade_status(with("Host", "[::1]:8080")) == 101);
    CHECK(upgrade_status(and_also("Content-Length", "0")) == 101);
    CHECK(upgrade_status(good_upgrade, "GET", 11, "http://EXAMPLE.com:80/chat") == 101);
}

TEST_CASE("what is no correct upgrade is refused with the right status") {
    struct row {
        const char* what;
        int expected;
        int status;
    };
    const row table[] = {
        {"POST", 405, upgrade_status(good_upgrade, "POST")},
        {"HEAD", 405, upgrade_status(good_upgrade, "HEAD")},
        {"get", 405, upgrade_status(good_upgrade, "get")},
        {"HTTP/1.0", 426, upgrade_status(good_upgrade, "GET", 10)},
        {"no Host", 400, upgrade_status(with("Host", nullptr))},
        {"an empty Host", 400, upgrade_status(with("Host", ""))},
        {"a Host with userinfo", 400, upgrade_status(with("Host", "a@b"))},
        {"two Hosts", 400, upgrade_status(and_also("host", "example.com"))},
        {"another host in the target", 400, upgrade_status(good_upgrade, "GET", 11, "http://other.com/chat")},
        {"a plain GET", 426, upgrade_status({{"Host", "example.com"}})},
        {"no Upgrade", 426, upgrade_status(with("Upgrade", nullptr))},
        {"another Upgrade", 426, upgrade_status(with("Upgrade", "h2c"))},
        {"an Upgrade that only begins so", 426, upgrade_status(with("Upgrade", "websocket2"))},
        {"no Connection", 426, upgrade_status(with("Connection", nullptr))},
        {"another Connection", 426, upgrade_status(with("Connection", "keep-alive"))},
        {"a Connection that only contains it", 426, upgrade_status(with("Connection", "no-upgrade"))},
        {"no version", 426, upgrade_status(with("Sec-WebSocket-Version", nullptr))},
        {"version 8", 426, upgrade_status(with("Sec-WebSocket-Version", "8"))},
        {"version 013", 426, upgrade_status(with("Sec-WebSocket-Version", "013"))},
        {"versions in one header", 426, upgrade_status(with("Sec-WebSocket-Version", "13, 8"))},
        {"two versions", 426, upgrade_status(and_also("Sec-WebSocket-Version", "8"))},
        {"no key", 400, upgrade_status(with("Sec-WebSocket-Key", nullptr))},
        {"two keys", 400, upgrade_status(and_also("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="))},
        {"a short key", 400, upgrade_status(with("Sec-WebSocket-Key", "abc"))},
        {"a key that is no base64", 400, upgrade_status(with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j!Q=="))},
        {"a body by length", 400, upgrade_status(and_also("Content-Length", "5"))},
        {"a body by a strange length", 400, upgrade_status(and_also("Content-Length", "+0"))},
        {"a body in chunks", 400, upgrade_status(and_also("Transfer-Encoding", "chunked"))},
        {"a body in some encoding", 400, upgrade_status(and_also("Transfer-Encoding", "identity"))},
    };
    for (const auto& row : table) {
        INFO(row.what);
        CHECK(row.status == row.expected);
    }
}

TEST_CASE("a refusal says what to do instead") {
    const auto method = check_upgrade(request{"POST", "/", 11, good_upgrade});
    REQUIRE(method);
    CHECK(method->reason == "Method Not Allowed");
    CHECK(header(*method, "Allow") == "GET");
    CHECK(header(*method, "Connection") == "close");

    for (const auto& headers : {with("Sec-WebSocket-Version", "7"), with("Upgrade", nullptr)}) {
        const auto upgrade = check_upgrade(request{"GET", "/", 11, headers});
        REQUIRE(upgrade);
        CHECK(upgrade->reason == "Upgrade Required");
        CHECK(header(*upgrade, "Sec-WebSocket-Version") == "13");
        CHECK(header(*upgrade, "Upgrade") == "websocket");
        CHECK(header(*upgrade, "Connection") == "upgrade, close");
        CHECK(header(*upgrade, "Content-Type") == "text/plain; charset=utf-8");
        CHECK_FALSE(upgrade->body.empty());
    }
}

TEST_CASE("a page of another site is told from one of our own") {
    struct row {
        std::string_view origin, host;
        bool same;
    };
    const row table[] = {
        {"http://good.com", "good.com", true},
        {"https://good.com", "good.com", true},
        {"http://GOOD.com", "good.COM", true},
        {"http://good.com:8080", "good.com:8080", true},
        {"http://good.com", "good.com:80", true},
        {"http://good.com:80", "good.com", true},
        {"https://good.com", "good.com:443", true},
        {"https://good.com:443", "good.com", true},
        {"https://good.com:8443", "good.com:8443", true},
        {"http://[::1]:8080", "[::1]:8080", true},
        {"http://[2001:DB8::7]", "[2001:db8::7]", true},
        {"http://127.0.0.1:1", "127.0.0.1:1", true},
        {"null", "good.com", false},
        {"null", "null", false},
        {"", "good.com", false},
        {"good.com", "good.com", false},
        {"//good.com", "good.com", false},
        {"http://evil.com", "good.com", false},
        {"http://good.com.evil", "good.com", false},
        {"http://evilgood.com", "good.com", false},
        {"http://evil.good.com", "good.com", false},
        {"http://good.com", "evil.good.com", false},
        {"http://good.com:8080", "good.com", false},
        {"http://good.com", "good.com:8080", false},
        {"http://good.com:8080", "good.com:8081", false},
        {"https://good.com", "good.com:80", false},
        {"http://good.com", "good.com:443", false},
        {"https://good.com:80", "good.com", false},
        {"http://good.com@evil.com", "good.com", false},
        {"http://evil.com@good.com", "good.com", false},
        {"http://good.com:80@evil.com", "good.com", false},
        {"http://evil.com/good.com", "good.com", false},
        {"http://good.com/", "good.com", false},
        {"http://good.com#", "good.com", false},
        {"http://good.com?", "good.com", false},
        {"http://good.com\\.evil.com", "good.com", false},
        {"http://good.com:99999", "good.com:99999", false},
        {"http://good.com:65616", "good.com", false},  // 80 + 65536
        {"http://good.com:8o", "good.com:8o", false},
        {"http://", "", false},
        {"http://:80", ":80", false},
        {"http://[::1", "[::1", false},
        {"http://[::1]x", "[::1]x", false},
        {"http://[]", "[]", false},
        {"http://::1", "::1", false},
        {"http://good.com http://evil.com", "good.com", false},
        {"http://good.com, http://evil.com", "good.com", false},
        {"chrome-extension://good.com", "good.com", false},
        {"file://", "good.com", false},
        {"javascript://good.com", "good.com", false},
    };
    for (const auto& row : table) {
        INFO(row.origin << " / " << row.host);
        CHECK(same_origin(from(row.origin, row.host)) == row.same);
    }
}

TEST_CASE("a request without an Origin is from no browser, one with two from no honest one") {
    CHECK(same_origin(request{"GET", "/", 11, {{"Host", "good.com"}}}));
    CHECK_FALSE(same_origin(
        request{"GET", "/", 11, {{"Host", "good.com"}, {"Origin", "http://good.com"}, {"origin", "http://good.com"}}}));
    CHECK_FALSE(same_origin(request{"GET", "/", 11, {{"Origin", "http://good.com"}}}));
}

TEST_CASE("a listed origin must be the whole origin") {
    const std::vector<std::string> listed = {"https://a.com", "http://B.com:81"};
    CHECK(origin_listed("https://a.com", listed));
    CHECK(origin_listed("HTTP://b.COM:81", listed));
    for (const auto other : {"http://a.com", "https://a.com.evil", "https://a.com:443", "a.com", "", "null", "*"}) {
        INFO(other);
        CHECK_FALSE(origin_listed(other, listed));
    }
    const std::vector<std::string> all = {"*"};
    CHECK(origin_listed("https://anything", all));
    CHECK(origin_listed("null", all));
    CHECK_FALSE(origin_listed("https://a.com", {}));
}

TEST_CASE("the client's preference decides about the subprotocol") {
    CHECK(chosen({"arke.v1"}, {"arke.v1"}) == "arke.v1");
    CHECK(chosen({"b, a"}, {"a", "b"}) == "b");
    CHECK(chosen({"x", "y, a"}, {"a", "b"}) == "a");
    CHECK(chosen({" ,\t b\t,, a"}, {"a", "b"}) == "b");
    CHECK(chosen({"A"}, {"a"}) == "none");
    CHECK(chosen({"a b"}, {"a b", "a"}) == "none");
    CHECK(chosen({"a\r\nX: y"}, {"a\r\nX: y"}) == "none");
    CHECK(chosen({"ab"}, {"a"}) == "none");
    CHECK(chosen({""}, {""}) == "none");
    CHECK(chosen({}, {"a"}) == "none");
    CHECK(chosen({"a"}, {}) == "none");
    CHECK(chosen({std::string(100'000, ',')}, {"a"}) == "none");
}

TEST_CASE("tokens and header values are told from what splits a response") {
    for (const auto good : {"a", "X-Header", "arke.v1", "!#$%&'*+-.^_`|~09azAZ"}) CHECK(is_token(good));
    for (const auto bad :
         {"", "a b", "a:b", "a\r", "a\n", "a,b", "\"a\"", "a/b", "a(b", "\xC3\xA9", "a\t", "a=b", "a;b"}) {
        INFO(bad);
        CHECK_FALSE(is_token(bad));
    }
    CHECK_FALSE(is_token(std::string_view{"a\0", 2}));

    for (const auto good : {"", "a b", "a\tb", "caf\xC3\xA9", "\"x\"; y=z"}) CHECK(is_field_value(good));
    for (const auto bad : {"a\rb", "a\nb", "a\r\nX: y", "\x01", "\x7F", "\x1B[0m"}) CHECK_FALSE(is_field_value(bad));
    CHECK_FALSE(is_field_value(std::string_view{"a\0b", 3}));
}

TEST_CASE("an honest header block has no fault") {
    CHECK(fault_of(real_request) == std::nullopt);
    CHECK(fault_of(block_with("")) == std::nullopt);
    CHECK(fault_of("\r\n\r\n" + block_with("")) == std::nullopt);
    CHECK(fault_of(block_with("Content-Length: 12\r\n")) == std::nullopt);
    CHECK(fault_of(block_with("Transfer-Encoding: Chunked\r\n")) == std::nullopt);
    CHECK(fault_of("GET / HTTP/1.0\r\n\r\n") == std::nullopt);
    CHECK(fault_of("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") == std::nullopt);
    CHECK(fault_of("GET http://a:80/x HTTP/1.1\r\nHost: a\r\n\r\n") == std::nullopt);
    CHECK(fault_of("GET / HTTP/1.1\r\nHost:\r\n\r\n") == std::nullopt);
    CHECK(check_header_block(real_request) == std::nullopt);
}

TEST_CASE("a header block that two parsers could read in two ways is refused") {
    using enum header_fault;
    struct row {
        std::string block;
        header_fault fault;
        int status;
    };
    const std::string nul(1, '\0');
    const row table[] = {
        // the request line
        {"GET / HTTP/1.1\r\n\r\n", no_host, 400},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", bad_request_line, 400},
        {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET /\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET\r\n\r\n", bad_request_line, 400},
        {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET / http/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET / HTTP/1.12\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET / HTTP/1.\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", unsupported_version, 505},
        {"GET / HTTP/0.9\r\nHost: a\r\n\r\n", unsupported_version, 505},
        {"GET x HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET /\xC3\xA9 HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", bad_request_line, 400},
        {"GET /" + nul + " HTTP/1.1\r\nHost: a\r\n\r\n", control_byte, 400},
        {std::string(33, 'A') + " / HTTP/1.1\r\n\r\n", bad_request_line, 400},
        {"\x16\x03\x01\x02", control_byte, 400},
        {"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", too_many_empty_lines, 400},
        // line ends
        {"GET / HTTP/1.1\nHost: a\n\n", bare_line_feed, 400},
        {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", bare_line_feed, 400},
        {block_with("A: b\nC: d\r\n"), bare_line_feed, 400},
        {block_with("A: b\rC: d\r\n"), bare_carriage_return, 400},
        {block_with("A: b\r\r\n"), bare_carriage_return, 400},
        {block_with("A: b\r\n\n"), bare_line_feed, 400},
        {block_with("\r"), bare_carriage_return, 400},
        {"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", bare_carriage_return, 400},
        {block_with("A: b\r\n c\r\n"), folded_line, 400},
        {block_with("A: b\r\n\tc\r\n"), folded_line, 400},
        {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", folded_line, 400},
        // names and values
        {block_with("A : b\r\n"), space_before_colon, 400},
        {block_with("A\t: b\r\n"), space_before_colon, 400},
        {block_with(": b\r\n"), bad_field_name, 400},
        {block_with("A\r\n"), bad_field_name, 400},
        {block_with("A(: b\r\n"), bad_field_name, 400},
        {block_with("A\xC3\xA9: b\r\n"), bad_field_name, 400},
        {block_with("A b: c\r\n"), space_before_colon, 400},
        {block_with("A" + nul + ": b\r\n"), control_byte, 400},
        {block_with("A: b" + nul + "\r\n"), control_byte, 400},
        {block_with("A: \x01\r\n"), control_byte, 400},
        {block_with("A: \x7F\r\n"), control_byte, 400},
        // framing
        {block_with("host: example.com\r\n"), several_hosts, 400},
        {"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", several_hosts, 400},
        {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", bad_host, 400},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", bad_host, 400},
        {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", bad_host, 400},
        {block_with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), length_and_encoding, 400},
        {block_with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), length_and_encoding, 400},
        {block_with("transfer-encoding: xchunked\r\nContent-Length: 3\r\n"), length_and_encoding, 400},
        {block_with("Transfer-Encoding: xchunked\r\n"), bad_transfer_encoding, 400},
        {block_with("Transfer-Encoding: gzip, chunked\r\n"), unknown_coding, 501},
        {block_with("Transfer-Encoding: gzip, x, Chunked\r\n"), unknown_coding, 501},
        {block_with("Transfer-Encoding: gzip, chunked, chunked\r\n"), bad_transfer_encoding, 400},
        {block_with("Transfer-Encoding: chunked, gzip\r\n"), bad_transfer_encoding, 400},
        {block_with("Transfer-Encoding: a b, chunked\r\n"), bad_transfer_encoding, 400},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", bad_transfer_encoding, 400},
        {block_with("Transfer-Encoding: chunked, chunked\r\n"), bad_transfer_encoding, 400},
        {block_with("Transfer-Encoding: chunked;q=1\r\n"), bad_transfer_encoding, 400},
        {block_with("Transfer-Encoding: \"chunked\"\r\n"), bad_transfer_encoding, 400},
        {block_with("Transfer-Encoding: \x0B"
                    "chunked\r\n"),
         control_byte, 400},
        {block_with("Transfer-Encoding:\r\n"), bad_transfer_encoding, 400},
        {block_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), bad_transfer_encoding, 400},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", bad_transfer_encoding, 400},
        {block_with("Content-Length: 3\r\nContent-Length: 4\r\n"), bad_content_length, 400},
        {block_with("Content-Length: 3\r\nContent-Length: 3\r\n"), bad_content_length, 400},
        {block_with("Content-Length: 3, 3\r\n"), bad_content_length, 400},
        {block_with("Content-Length: -1\r\n"), bad_content_length, 400},
        {block_with("Content-Length: +1\r\n"), bad_content_length, 400},
        {block_with("Content-Length: 0x10\r\n"), bad_content_length, 400},
        {block_with("Content-Length: 1 0\r\n"), bad_content_length, 400},
        {block_with("Content-Length:\r\n"), bad_content_length, 400},
        {block_with("Content-Length: 99999999999999999999\r\n"), bad_content_length, 400},
        // no block
        {"", unfinished, 400},
        {"GET / HTTP/1.1\r\nHost: a\r\n", unfinished, 400},
        {block_with("") + "X", unfinished, 400},
    };
    for (const auto& row : table) {
        INFO(row.block);
        const auto fault = fault_of(row.block);
        REQUIRE(fault);
        CHECK(static_cast<int>(*fault) == static_cast<int>(row.fault));
        const auto refusal = check_header_block(row.block);
        REQUIRE(refusal);
        CHECK(refusal->status == row.status);
        CHECK(header(*refusal, "Connection") == "close");
        CHECK_FALSE(refusal->reason.empty());
        CHECK_FALSE(refusal->body.empty());
    }
}

TEST_CASE("the bounds of a header block hold at the bound and one past it") {
    const auto status = [](std::string_view block, header_limits limits) {
        const auto refusal = check_header_block(block, limits);
        return refusal ? refusal->status : 200;
    };
    const auto fields_of = [](std::size_t count) {
        std::string lines;
        for (std::size_t n = 1; n < count; ++n) lines += "A: b\r\n";  // Host is the first
        return block_with(lines);
    };
    CHECK(status(fields_of(100), {}) == 200);
    CHECK(status(fields_of(101), {}) == 431);

    const auto sized = [](std::size_t size) {
        const auto frame = block_with("A: \r\n").size();
        return block_with("A: " + std::string(size - frame, 'x') + "\r\n");
    };
    REQUIRE(sized(8192).size() == 8192);
    CHECK(status(sized(8192), {}) == 200);
    CHECK(status("\r\n\r\n" + sized(8192), {}) == 200);
    CHECK(status(sized(8193), {}) == 431);

    const auto target_of = [](std::size_t size) {
        return "GET /" + std::string(size - 1, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n";
    };
    CHECK(status(target_of(1000), {.max_target = 1000}) == 200);
    CHECK(status(target_of(1001), {.max_target = 1000}) == 414);
    CHECK(status(target_of(8193), {}) == 414);
    CHECK(status(target_of(8192), {.max_header_bytes = 16 * 1024}) == 200);
    CHECK(status(target_of(8193), {.max_header_bytes = 16 * 1024}) == 414);
}

TEST_CASE("the end of a header block is found at every split, and what follows is left alone") {
    for (const std::string before : {"", "\r\n", "\r\n\r\n\r\n\r\n"}) {
        const auto bytes = before + real_request + "\x81\x85 first frame";
        std::size_t wrong = 0;
        for (std::size_t a = 0; a <= bytes.size(); ++a) {
            header_scanner scanner;
            auto result = scanner.feed(std::string_view{bytes}.substr(0, a));
            const bool early = a < before.size() + real_request.size();
            if (early != (result == header_scanner::result::more)) ++wrong;
            result = scanner.feed(std::string_view{bytes}.substr(a));
            if (result != header_scanner::result::complete || scanner.begin() != before.size() ||
                scanner.end() != before.size() + real_request.size()) {
                ++wrong;
            }
        }
        CHECK(wrong == 0);

        header_scanner scanner;
        std::size_t fed = 0;
        while (scanner.feed(std::string_view{bytes}.substr(fed, 1)) == header_scanner::result::more) ++fed;
        CHECK(fed + 1 == before.size() + real_request.size());
        CHECK(scanner.feed("more") == header_scanner::result::complete);
        CHECK(scanner.end() == fed + 1);
    }
}

TEST_CASE("the scanner refuses at the first wrong byte and stays so until reset") {
    header_scanner scanner;
    CHECK(scanner.feed("GET / HTTP/1.1") == header_scanner::result::more);
    CHECK(scanner.feed("\n") == header_scanner::result::refused);
    CHECK(scanner.fault() == header_fault::bare_line_feed);
    CHECK(scanner.feed(real_request) == header_scanner::result::refused);
    scanner.reset();
    CHECK(scanner.feed(real_request) == header_scanner::result::complete);
    CHECK(scanner.end() == real_request.size());
    CHECK(scanner.feed("") == header_scanner::result::complete);
}

TEST_CASE("endless headers and an endless target are cut at the bound, however they drip") {
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{100'000}}) {
        const std::pair<std::string, header_fault> table[] = {
            {"GET / HTTP/1.1\r\nA: " + std::string(100'000, 'x'), header_fault::block_too_large},
            {"GET / HTTP/1.1\r\n" + std::string(100'000, 'x'), header_fault::block_too_large},
            {"GET /" + std::string(100'000, 'x'), header_fault::target_too_long},
        };
        for (const auto& [bytes, fault] : table) {
            header_scanner scanner;
            std::string_view rest = bytes;
            while (!rest.empty() && scanner.feed(rest.substr(0, piece)) == header_scanner::result::more) {
                rest.remove_prefix(std::min(piece, rest.size()));
            }
            CHECK(scanner.feed("") == header_scanner::result::refused);
            CHECK(scanner.fault() == fault);
            CHECK(scanner.end() <= 8192);
        }
    }
}

TEST_CASE("every status has a phrase of its own, as RFC 9110, 6585, 7725 and 8470 name them, and no other has any") {
    std::string all;
    std::set<std::string_view> phrases;
    for (int status = 0; status != 1000; ++status) {
        const auto phrase = arke::wire::reason_phrase(status);
        if (phrase.empty()) continue;
        CAPTURE(status);
        CHECK(arke::wire::is_field_value(phrase));
        CHECK(phrases.insert(phrase).second);
        all += std::to_string(status) + " ";
    }
    CHECK(all ==
          "100 101 200 201 202 203 204 205 206 300 301 302 303 304 307 308 400 401 402 403 404 405 406 407 408 409 410 "
          "411 412 413 414 415 416 417 421 422 425 426 428 429 431 451 500 501 502 503 504 505 ");
}
