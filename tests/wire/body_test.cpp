#include <arke/wire/body.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.hpp"

using arke::wire::body_fault;
using arke::wire::body_reader;

namespace {

constexpr std::size_t most = 16;

/// "abc, rest 3": the body and how much was left behind it; "413" or what else is answered; "more".
std::string read(std::optional<std::uint64_t> length, std::string_view bytes, std::size_t piece) {
    body_reader reader{length, most};
    std::size_t at = 0;
    while (at != bytes.size() && reader.state() == body_reader::result::more) {
        reader.feed(bytes.substr(at, piece));
        at += reader.consumed();
    }
    switch (reader.state()) {
        case body_reader::result::more: return "more";
        case body_reader::result::refused: return std::to_string(arke::wire::refusal_of(reader.fault()).status);
        case body_reader::result::complete: break;
    }
    auto text = reader.take();
    for (auto& c : text) c = c == '\0' ? '0' : c;
    return text + ", rest " + std::to_string(bytes.size() - at);
}

}  // namespace

TEST_CASE("a body of a length ends with it, and one byte more than may be is refused before it is read") {
    for (std::size_t piece = 1; piece != 8; ++piece) {
        CAPTURE(piece);
        CHECK(read(0, "GET", piece) == ", rest 3");
        CHECK(read(3, "abcGET", piece) == "abc, rest 3");
        CHECK(read(3, "ab", piece) == "more");
        CHECK(read(most, "0123456789abcdefGET", piece) == "0123456789abcdef, rest 3");
        CHECK(read(most + 1, "", piece) == "413");
        CHECK(read(9'999'999'999'999'999'999U, "", piece) == "413");
    }
}

TEST_CASE("a body in chunks is the same in any pieces, and what is no chunk is refused") {
    struct row {
        std::string bytes;
        std::string seen;
    };
    const std::string long_text(body_reader::max_overhead, 'x');
    const std::vector<row> table{
        {"3\r\nabc\r\n0\r\n\r\nGET", "abc, rest 3"},
        {"0\r\n\r\nGET", ", rest 3"},
        {"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc, rest 0"},
        {"A\r\n0123456789\r\n6\r\nabcdef\r\n0\r\n\r\n", "0123456789abcdef, rest 0"},
        {"a\r\n0123456789\r\n0\r\n\r\n", "0123456789, rest 0"},
        {"0003\r\nabc\r\n000\r\n\r\n", "abc, rest 0"},
        {"3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", "abc, rest 0"},
        {"3\r\nabc\r\n0\r\nTrailer: x\r\nOther:\r\n\r\nGET", "abc, rest 3"},
        {std::string{"2\r\n\0\0\r\n0\r\n\r\n", 12}, "00, rest 0"},
        {"5\r\n\r\n0\r\n\r\n0\r\n\r\n", "\r\n0\r\n, rest 0"},
        // unfinished
        {"", "more"},
        {"3", "more"},
        {"3\r\nab", "more"},
        {"3\r\nabc\r\n0\r\n", "more"},
        {"3\r\nabc\r\n0\r\nTrailer: x\r\n", "more"},
        // too large, as soon as it is known
        {"11\r\n", "413"},
        {"10\r\n0123456789abcdef\r\n1\r\n", "413"},
        {"FFFFFFFFFFFFFFFF\r\n", "413"},
        {"7FFFFFFFFFFFFFFF\r\n", "413"},
        // no chunk
        {"00000000000000003\r\n", "400"},
        {"10000000000000000\r\n", "400"},
        {"\r\n", "400"},
        {"x\r\n", "400"},
        {"0x3\r\n", "400"},
        {"-1\r\n", "400"},
        {"+3\r\n", "400"},
        {" 3\r\n", "400"},
        {"3 \r\n", "400"},
        {"3\t;a\r\n", "400"},
        {"3\n", "400"},
        {"3\rabc", "400"},
        {"3;a\nb", "400"},
        {"3;a" + std::string(1, '\0') + "\r\n", "400"},
        {"3\r\nabcd\r\n", "400"},
        {"3\r\nabc\n0\r\n\r\n", "400"},
        {"3\r\nabc0\r\n\r\n", "400"},
        {"3\r\nabc\r0\r\n", "400"},
        {";a\r\n", "400"},
        {"0\r\nno trailer\r\n\r\n", "400"},
        {"0\r\n: x\r\n\r\n", "400"},
        {"0\r\n folded\r\n\r\n", "400"},
        {"0\r\nA: b\n\r\n", "400"},
        {"0\r\nA: " + std::string(1, '\0') + "\r\n\r\n", "400"},
        {"0\r\n\n", "400"},
        {"0\r\n\rx", "400"},
        // more than anybody needs
        {"1;" + long_text + "\r\na\r\n0\r\n\r\n", "a, rest 0"},
        {"1;" + long_text + "x\r\na\r\n0\r\n\r\n", "400"},
        {"0\r\nA:" + long_text.substr(4) + "\r\n\r\n", ", rest 0"},
        {"0\r\nA:" + long_text.substr(3) + "\r\n\r\n", "400"},
    };
    for (const auto& [bytes, seen] : table) {
        CAPTURE(bytes.substr(0, 60));
        for (const std::size_t piece : {1U, 2U, 3U, 5U, 100'000U}) {
            CAPTURE(piece);
            CHECK(read(std::nullopt, bytes, piece) == seen);
        }
    }
}
