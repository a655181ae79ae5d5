#include <arke/wire/utf8.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.hpp"

using arke::wire::is_utf8;
using arke::wire::utf8_validator;

namespace {

/// What a text is, decoded the slow way, by numbers and not by tables of bytes: how many bytes from the start may still
/// become valid, and whether the whole is.
struct judgement {
    std::size_t good = 0;
    bool whole = true;
};

judgement judge(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const auto byte = [&](std::size_t n) {
            return static_cast<std::uint32_t>(static_cast<unsigned char>(text[n]));
        };
        const std::uint32_t lead = byte(at);
        if (lead < 0x80) {
            ++at;
            continue;
        }
        const unsigned size = lead >> 5 == 0b110 ? 2 : lead >> 4 == 0b1110 ? 3 : lead >> 3 == 0b11110 ? 4 : 0;
        if (size == 0) return {at, false};
        // The least and the greatest code point that can still come of what was read decide about each byte.
        const std::uint32_t least = size == 2 ? 0x80 : size == 3 ? 0x800 : 0x10000;
        const std::uint32_t greatest = size == 2 ? 0x7FF : size == 3 ? 0xFFFF : 0x10FFFF;
        std::uint32_t point = lead & (0x7Fu >> size);
        for (unsigned n = 0; n < size; ++n) {
            if (n != 0) {
                if (at + n == text.size()) return {text.size(), false};
                if (byte(at + n) >> 6 != 0b10) return {at + n, false};
                point = point << 6 | (byte(at + n) & 0x3F);
            }
            const unsigned bits = 6 * (size - 1 - n);
            const std::uint32_t from = point << bits;
            const std::uint32_t to = from | ((1u << bits) - 1);
            if (to < least || from > greatest || (from >= 0xD800 && to <= 0xDFFF)) return {at + n, false};
        }
        at += size;
    }
    return {text.size(), true};
}

/// Bytewise, how many bytes the validator takes before it says no.
std::size_t bytes_taken(std::string_view text) {
    utf8_validator validator;
    std::size_t taken = 0;
    while (taken < text.size() && validator.write(text.substr(taken, 1))) ++taken;
    return taken;
}

/// The first text on which the validator and the reference differ, whole or bytewise; empty when there is none.
std::string first_difference(std::string_view text) {
    const auto expected = judge(text);
    utf8_validator validator;
    const bool taken = validator.write(text);
    const bool agrees = taken == (expected.good == text.size()) && (taken && validator.complete()) == expected.whole &&
                        bytes_taken(text) == expected.good;
    return agrees ? std::string{} : std::string{text};
}

std::string bytes(std::initializer_list<unsigned> values) {
    std::string out;
    for (const auto value : values) out += static_cast<char>(value);
    return out;
}

}  // namespace

TEST_CASE("every sequence of one to three bytes is judged as a decoder by numbers does") {
    std::string difference;
    for (unsigned a = 0; a < 256 && difference.empty(); ++a) {
        difference = first_difference(bytes({a}));
        for (unsigned b = 0; b < 256 && difference.empty(); ++b) {
            difference = first_difference(bytes({a, b}));
            if (a < 0x80 && b < 0x80) continue;
            for (unsigned c = 0; c < 256 && difference.empty(); ++c) difference = first_difference(bytes({a, b, c}));
        }
    }
    CHECK(difference == "");
}

TEST_CASE("sequences of four bytes are judged rightly at their boundaries") {
    std::string difference;
    for (unsigned a = 0xEE; a < 0x100; ++a) {
        for (unsigned b : {0x00u, 0x7Fu, 0x80u, 0x8Fu, 0x90u, 0x9Fu, 0xA0u, 0xBFu, 0xC0u, 0xFFu}) {
            for (unsigned c : {0x00u, 0x7Fu, 0x80u, 0xBFu, 0xC0u, 0xFFu}) {
                for (unsigned d : {0x00u, 0x7Fu, 0x80u, 0xBFu, 0xC0u, 0xFFu}) {
                    if (difference.empty()) difference = first_difference(bytes({a, b, c, d}));
                    if (difference.empty()) difference = first_difference(bytes({a, b, c, d, 'x'}));
                }
            }
        }
    }
    CHECK(difference == "");
}

TEST_CASE("a wrong byte is refused where it stands") {
    struct row {
        const char* what;
        std::string text;
        std::size_t good;
    };
    const row table[] = {
        {"a continuation without a lead", bytes({'a', 0x80}), 1},
        {"an overlong slash", bytes({0xC0, 0xAF}), 0},
        {"an overlong NUL in three bytes", bytes({0xE0, 0x80, 0x80}), 1},
        {"an overlong code point in four bytes", bytes({0xF0, 0x8F, 0xBF, 0xBF}), 1},
        {"a surrogate", bytes({0xED, 0xA0, 0x80}), 1},
        {"over U+10FFFF", bytes({0xF4, 0x90, 0x80, 0x80}), 1},
        {"a lead that leads nowhere", bytes({0xF5, 0x80, 0x80, 0x80}), 0},
        {"a lead after a lead", bytes({0xE2, 0x82, 0xC3, 0xA9}), 2},
    };
    for (const auto& row : table) {
        INFO(row.what);
        CHECK(bytes_taken(row.text) == row.good);
        CHECK_FALSE(is_utf8(row.text));
        CHECK_FALSE(is_utf8("padding that lets the quick path run first " + row.text));
        CHECK_FALSE(is_utf8(row.text + " padding that would be valid by itself"));
    }
}

TEST_CASE("a valid text stays valid at every split into three") {
    const std::string text =
        "gr\u00fc\u00df dich, \u4e16\u754c! \U0001F600 and thirty-two bytes of plain ASCII, then \u00e9\U0010FFFF";
    REQUIRE(is_utf8(text));
    std::size_t failures = 0;
    for (std::size_t a = 0; a <= text.size(); ++a) {
        for (std::size_t b = a; b <= text.size(); ++b) {
            utf8_validator validator;
            const bool taken = validator.write(std::string_view{text}.substr(0, a)) &&
                               validator.write(std::string_view{text}.substr(a, b - a)) &&
                               validator.write(std::string_view{text}.substr(b));
            if (!taken || !validator.complete()) ++failures;
        }
    }
    CHECK(failures == 0);
}

TEST_CASE("a wrong byte is found at every place and every split of a text") {
    std::size_t missed = 0;
    for (std::size_t size = 1; size < 80; ++size) {
        for (std::size_t at = 0; at < size; ++at) {
            std::string text(size, 'a');
            text[at] = '\xFF';
            if (is_utf8(text)) ++missed;
            utf8_validator validator;
            const auto half = size / 2;
            if (validator.write(std::string_view{text}.substr(0, half)) &&
                validator.write(std::string_view{text}.substr(half))) {
                ++missed;
            }
        }
    }
    CHECK(missed == 0);
}

TEST_CASE("random mixtures are judged as the reference does, at random splits") {
    std::mt19937 random{2016};
    const std::vector<std::string> pieces = {"a",
                                             "hello world, this is",
                                             "\u00e9",
                                             "\u20ac",
                                             "\U0001F600",
                                             "0123456789abcdef",
                                             bytes({0x80}),
                                             bytes({0xE2, 0x82}),
                                             bytes({0xED, 0xA0}),
                                             bytes({0xF4, 0x90})};
    std::string difference;
    for (int round = 0; round < 20'000 && difference.empty(); ++round) {
        std::string text;
        // Mostly good pieces, else every text would fail at once.
        for (auto count = random() % 12; count > 0; --count)
            text += pieces[random() % (random() % 8 == 0 ? pieces.size() : 6)];
        difference = first_difference(text);

        utf8_validator validator;
        bool taken = true;
        for (std::string_view rest = text; taken && !rest.empty();) {
            const auto size = 1 + random() % rest.size();
            taken = validator.write(rest.substr(0, size));
            rest.remove_prefix(size);
        }
        if ((taken && validator.complete()) != judge(text).whole) difference = text;
    }
    CHECK(difference == "");
}

TEST_CASE("a cut code point is taken but not complete") {
    utf8_validator validator;
    CHECK(validator.complete());
    CHECK(validator.write(bytes({'x', 0xE2, 0x82})));
    CHECK_FALSE(validator.complete());
    CHECK(validator.write(""));
    CHECK(validator.write(bytes({0xAC})));
    CHECK(validator.complete());
}

TEST_CASE("after a wrong byte nothing is taken until reset") {
    utf8_validator validator;
    CHECK_FALSE(validator.write(bytes({0xFF})));
    CHECK_FALSE(validator.write("fine"));
    CHECK_FALSE(validator.write(bytes({0x80})));
    CHECK_FALSE(validator.write(""));
    CHECK_FALSE(validator.complete());
    validator.reset();
    CHECK(validator.write("fine"));
    CHECK(validator.complete());
}

TEST_CASE("bytes and NUL are text like any other, and the state stays small") {
    CHECK(is_utf8(""));
    CHECK(is_utf8(std::string_view{"a\0b", 3}));
    utf8_validator validator;
    CHECK(validator.write(arke::as_bytes("\u00e9")));
    static_assert(sizeof(utf8_validator) <= 4);
}
