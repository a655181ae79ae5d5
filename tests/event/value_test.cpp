#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <arke/event/value.hpp>
#include "tests/support/catch.hpp"

namespace shop {

struct order {
    std::string item;
    int count = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

enum class colour { none, red, green };
NLOHMANN_JSON_SERIALIZE_ENUM(colour, {{colour::none, nullptr}, {colour::red, "red"}, {colour::green, "green"}})

enum class plain { a, b };

struct rude {};
inline void from_json(const nlohmann::json&, rude&) { throw 42; }

struct chatty {};
inline void from_json(const nlohmann::json&, chatty&) { throw std::runtime_error("no\nway"); }

struct stranger {};

/// Made from JSON, never empty.
struct ticket {
    explicit ticket(int n) : number(n) {}
    int number;
};

}  // namespace shop

template <>
struct nlohmann::adl_serializer<shop::ticket> {
    static shop::ticket from_json(const json& j) { return shop::ticket(j.at("number").get<int>()); }
};

namespace {

using arke::encode_value;
using arke::value_kind;

std::string sent(const arke::encoded_value& v) {
    constexpr std::array names = {"text", "integer", "boolean", "bytes", "json"};
    return std::string(names[static_cast<std::size_t>(v.kind())]) + ' ' + std::string(v.data());
}

template <class T>
std::string refused(const T& value) {
    try {
        encode_value(value);
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
    return "sent";
}

/// What a T reads from data, as JSON text; or why it can't.
template <class T>
std::string read(std::string_view data, value_kind kind = value_kind::text, unsigned depth = 128) {
    T value{};
    std::string why;
    if (!arke::decode_value({"e", kind, data}, {depth}, value, why)) return why;
    CHECK(why.empty());
    return nlohmann::json(value).dump();
}

constexpr auto tag_integer = value_kind::integer;
constexpr auto tag_json = value_kind::json;
constexpr auto tag_bytes = value_kind::binary;

template <class T>
constexpr bool sends = arke::emittable<T>;
template <class T>
constexpr bool reads = arke::receivable<T>;

static_assert(sends<char[6]> && sends<char*> && sends<const char*> && sends<std::string> && sends<std::string_view>);
static_assert(sends<bool> && sends<std::vector<bool>::reference> && sends<std::int8_t> && sends<std::uint64_t>);
static_assert(sends<float> && sends<double> && sends<long double> && sends<std::nullptr_t>);
static_assert(sends<arke::bytes> && sends<arke::bytes_view> && sends<std::span<std::byte>> &&
              sends<std::array<std::byte, 4>>);
static_assert(sends<nlohmann::json> && sends<nlohmann::ordered_json> && sends<shop::order> && sends<shop::colour>);
static_assert(sends<std::vector<shop::order>> && sends<std::map<std::string, int>> && sends<std::tuple<int, bool>>);
static_assert(sends<int[3]> && sends<const std::string&>);

static_assert(!sends<char> && !sends<wchar_t> && !sends<char8_t> && !sends<char16_t> && !sends<char32_t>);
static_assert(!sends<std::u8string> && !sends<std::wstring_view> && !sends<const char16_t*> && !sends<char8_t[3]>);
static_assert(!sends<int*> && !sends<void*> && !sends<void (*)()> && !sends<int shop::order::*>);
static_assert(!sends<std::byte> && !sends<shop::plain> && !sends<shop::stranger> &&
              !sends<std::vector<shop::stranger>>);

static_assert(reads<std::string> && reads<const std::string&> && reads<std::string_view> && reads<bool> &&
              reads<std::int8_t>);
static_assert(reads<float> && reads<arke::bytes> && reads<arke::bytes_view> && reads<nlohmann::json> &&
              reads<shop::order>);
static_assert(reads<shop::colour> && reads<shop::ticket> && reads<std::vector<shop::order>>);
static_assert(!reads<char> && !reads<const char*> && !reads<std::u16string> && !reads<shop::plain> &&
              !reads<std::byte>);
static_assert(!sends<void> && !reads<void>);
static_assert(!reads<shop::stranger> && !reads<std::span<std::byte>> && !reads<std::array<std::byte, 2>> &&
              !reads<int*>);

}  // namespace

TEST_CASE("strings of every kind are text, never a bool, and are not copied") {
    const std::string owned = "tea";
    char buffer[8] = "tea";
    const char* pointer = owned.c_str();
    CHECK(sent(encode_value("tea")) == "text tea");
    CHECK(sent(encode_value(buffer)) == "text tea");
    CHECK(sent(encode_value(pointer)) == "text tea");
    CHECK(sent(encode_value(std::string_view("t\0a", 3))) == std::string("text t\0a", 8));
    CHECK(sent(encode_value("")) == "text ");
    CHECK(encode_value(owned).data().data() == owned.data());
    CHECK(encode_value(pointer).data().data() == pointer);
}

TEST_CASE("a char array without a terminator is read to its end only") {
    const char full[3] = {'t', 'e', 'a'};
    CHECK(sent(encode_value(full)) == "text tea");
}

TEST_CASE("nothing is empty text") { CHECK(sent(encode_value()) == "text "); }

TEST_CASE("bools, also those of a vector, are boolean") {
    std::vector<bool> flags = {true};
    CHECK(sent(encode_value(true)) == "boolean true");
    CHECK(sent(encode_value(false)) == "boolean false");
    CHECK(sent(encode_value(flags[0])) == "boolean true");
}

TEST_CASE("integers of every width are decimal") {
    CHECK(sent(encode_value(std::int8_t{-128})) == "integer -128");
    CHECK(sent(encode_value(std::uint8_t{65})) == "integer 65");
    CHECK(sent(encode_value(std::numeric_limits<std::int64_t>::min())) == "integer -9223372036854775808");
    CHECK(sent(encode_value(std::numeric_limits<std::uint64_t>::max())) == "integer 18446744073709551615");
}

TEST_CASE("floating point is the shortest JSON number that reads back the same") {
    CHECK(sent(encode_value(0.1)) == "json 0.1");
    CHECK(sent(encode_value(0.1f)) == "json 0.1");
    CHECK(sent(encode_value(5.0)) == "json 5");
    CHECK(sent(encode_value(1e300)) == "json 1e+300");
    for (const double d : {1.0 / 3, 5e-324, std::numeric_limits<double>::max(), -2.5e-10})
        CHECK(nlohmann::json::parse(encode_value(d).data()).get<double>() == d);
    CHECK(encode_value(-std::numeric_limits<long double>::denorm_min()).data().size() < 32);
}

TEST_CASE("a number without a JSON form is refused") {
    const auto sentence = "a number that is infinite or not a number has no JSON form; send nullptr or text instead";
    CHECK(refused(std::numeric_limits<double>::infinity()) == sentence);
    CHECK(refused(-std::numeric_limits<float>::infinity()) == sentence);
    CHECK(refused(std::numeric_limits<double>::quiet_NaN()) == sentence);
}

TEST_CASE("bytes are sent raw and are not copied") {
    const arke::bytes raw = {std::byte{0xff}, std::byte{0}};
    const std::array<std::byte, 2> fixed = {std::byte{0xff}, std::byte{0}};
    CHECK(sent(encode_value(raw)) == std::string("bytes \xff\0", 8));
    CHECK(sent(encode_value(fixed)) == std::string("bytes \xff\0", 8));
    CHECK(encode_value(arke::bytes_view(raw)).data().data() == reinterpret_cast<const char*>(raw.data()));
    CHECK(sent(encode_value(arke::bytes{})) == "bytes ");
}

TEST_CASE("everything else that nlohmann knows is JSON") {
    CHECK(sent(encode_value(nullptr)) == "json null");
    CHECK(sent(encode_value(nlohmann::json("text"))) == "json \"text\"");
    CHECK(sent(encode_value(shop::order{"tea", 6})) == R"(json {"count":6,"item":"tea"})");
    CHECK(sent(encode_value(std::vector<shop::order>{{"tea", 6}})) == R"(json [{"count":6,"item":"tea"}])");
    CHECK(sent(encode_value(std::map<std::string, int>{{"a", 1}})) == R"(json {"a":1})");
    CHECK(sent(encode_value(std::vector<std::uint8_t>{1, 2})) == "json [1,2]");
    CHECK(sent(encode_value(std::vector<bool>{true, false})) == "json [true,false]");
    CHECK(sent(encode_value(shop::colour::red)) == "json \"red\"");
    CHECK(sent(encode_value(nlohmann::ordered_json{{"z", 1}, {"a", 2}})) == R"(json {"z":1,"a":2})");
}

TEST_CASE("a JSON array stays one, however it is sent") {
    // nlohmann makes [[1]] of json{array} in braces
    const nlohmann::json array = {1};
    CHECK(sent(encode_value(array)) == "json [1]");
    CHECK(sent(encode_value(std::vector<nlohmann::json>{1})) == "json [1]");
}

TEST_CASE("text that is not UTF-8 is refused wherever it stands") {
    CHECK(refused("caf\xe9") == "the text \"caf\\xe9\" is not UTF-8; send bytes (arke::as_bytes) or convert it");
    CHECK(refused(std::string("\xc0\x80")) != "sent");
    CHECK(refused(nlohmann::json{{"a", "\xff"}}) ==
          "a string inside of the JSON is not UTF-8; convert it before it is sent");
    CHECK(refused(shop::order{"\xff", 1}) != "sent");
    CHECK(refused(static_cast<const char*>(nullptr)) == "a null char* is not text; send \"\" or nullptr instead");
}

TEST_CASE("an encoded value stays right when it is copied and moved") {
    for (auto make : {+[] { return encode_value(12345); },
                      +[] {
                          return encode_value(nlohmann::json{1, 2});
                      },
                      +[] { return encode_value("literal"); }, +[] { return encode_value(); }}) {
        auto first = make();
        const std::string expected = sent(first);
        auto copy = first;
        auto moved = std::move(first);
        CHECK(sent(copy) == expected);
        CHECK(sent(moved) == expected);
        copy = encode_value(7);
        CHECK(sent(copy) == "integer 7");
        copy = std::move(moved);
        CHECK(sent(copy) == expected);
    }
}

TEST_CASE("strings and bytes get the data as it is, whatever it is said to be") {
    for (int k = 0; k <= 4; ++k) {
        const auto kind = static_cast<value_kind>(k);
        CHECK(read<std::string>(" {5} ", kind) == "\" {5} \"");
        arke::bytes raw;
        arke::bytes_view view;
        std::string_view text, data = "a;b";
        std::string why;
        REQUIRE(arke::decode_value({"e", kind, data}, {}, raw, why));
        REQUIRE(arke::decode_value({"e", kind, data}, {}, view, why));
        REQUIRE(arke::decode_value({"e", kind, data}, {}, text, why));
        CHECK(arke::as_text(raw) == data);
        CHECK(static_cast<const void*>(view.data()) == data.data());
        CHECK(text.data() == data.data());
    }
}

TEST_CASE("a bool is true or false and nothing else") {
    CHECK(read<bool>("true", tag_integer) == "true");
    CHECK(read<bool>(" \tfalse\r\n") == "false");
    for (const char* no : {"", "1", "0", "True", "yes", "tru", "true false", "\"true\"", "null"}) {
        INFO(no);
        CHECK(read<bool>(no).ends_with(" is neither true nor false"));
    }
}

TEST_CASE("an integer is all of the text, within the range of its type") {
    CHECK(read<int>("12") == "12");
    CHECK(read<int>(" +12\n") == "12");
    CHECK(read<int>("-0") == "0");
    CHECK(read<int>("007") == "7");
    CHECK(read<std::int8_t>("-128") == "-128");
    CHECK(read<std::int8_t>("128") == "\"128\" is not between -128 and 127");
    CHECK(read<std::uint8_t>("255") == "255");
    CHECK(read<std::uint8_t>("256") == "\"256\" is not between 0 and 255");
    CHECK(read<unsigned>("-0") == "0");
    CHECK(read<unsigned>("-1") == "\"-1\" is not between 0 and 4294967295");
    CHECK(read<std::int64_t>("-9223372036854775808") == "-9223372036854775808");
    CHECK(read<std::int64_t>("9223372036854775808").starts_with("\"9223372036854775808\" is not between"));
    CHECK(read<std::uint64_t>("18446744073709551615") == "18446744073709551615");
    CHECK(read<std::uint64_t>("18446744073709551616").starts_with("\"18446744073709551616\" is not between"));
    CHECK(read<std::uint64_t>("-99999999999999999999").find("is not between") != std::string::npos);
    for (const char* no : {"",    " ",   "+",   "-",   "+-1",  "-+1",  "++1",   "--1",  "12x", "x",
                           "1 2", "1.5", "1.0", "1e3", "0x10", "true", "\"5\"", "null", "- 1", "\xd9\xa3"}) {
        INFO(no);
        CHECK(read<int>(no).ends_with(" is not an integer"));
        CHECK(read<unsigned>(no).ends_with(" is not an integer"));
    }
    CHECK(read<int>("12x") == "\"12x\" is not an integer");
}

TEST_CASE("floating point is any finite decimal number") {
    CHECK(read<double>("5") == "5.0");
    CHECK(read<double>(" +1.5 ") == "1.5");
    CHECK(read<double>("-.5") == "-0.5");
    CHECK(read<double>("5.") == "5.0");
    CHECK(read<double>("1e+21", tag_integer) == "1e+21");
    CHECK(read<double>("1E-7") == "1e-07");
    CHECK(read<float>("0.1") == nlohmann::json(0.1f).dump());
    CHECK(read<long double>("2.5") == "2.5");
    for (const char* no : {"", " ", "+", ".", "e5", "1e", "+-1", "inf", "-Infinity", "nan", "NAN(1)", "0x10", "0x1p3",
                           "1,5", "1.5x", "1 2", "true"}) {
        INFO(no);
        CHECK(read<double>(no).ends_with(" is not a number"));
    }
}

TEST_CASE("a number that is too large is refused, one that is too small is zero") {
    CHECK(read<double>("1e400") == "\"1e400\" is too large a number");
    CHECK(read<double>("-1e99999999999999999999999") == "\"-1e99999999999999999999999\" is too large a number");
    CHECK(read<float>("1e39") == "\"1e39\" is too large a number");
    CHECK(read<double>('1' + std::string(400, '0')).ends_with(" is too large a number"));
    CHECK(read<double>("0." + std::string(400, '0') + "1e800").ends_with(" is too large a number"));
    CHECK(read<double>("1e-400") == "0.0");
    CHECK(read<double>("-1e-400") == "-0.0");
    CHECK(read<double>("1e-99999999999999999999999") == "0.0");
    CHECK(read<double>("0." + std::string(400, '0') + "1") == "0.0");
    CHECK(read<double>('1' + std::string(400, '0') + "e-800") == "0.0");
    CHECK(read<float>("1e-60") == "0.0");
}

TEST_CASE("a JSON handler gets text as a string and parses the rest") {
    using nlohmann::json;
    CHECK(read<json>("{\"a\":1}") == R"("{\"a\":1}")");
    CHECK(read<json>("5", tag_bytes) == "\"5\"");
    CHECK(read<json>("5", tag_integer) == "5");
    CHECK(read<json>("1e400", tag_integer) == "\"1e400\"");
    CHECK(read<json>("007", tag_integer) == "\"007\"");
    CHECK(read<json>("", tag_integer) == "\"\"");
    CHECK(read<json>("true", tag_integer) == "true");
    CHECK(read<json>("no", value_kind::boolean) == "\"no\"");
    CHECK(read<json>(" [1, {}] ", tag_json) == "[1,{}]");
    CHECK(read<json>("{x", tag_json) == "\"{x\" is not JSON");
    CHECK(read<json>("", tag_json) == "\"\" is not JSON");
    CHECK(read<json>("1 2", tag_json) == "\"1 2\" is not JSON");
    CHECK(read<json>("\xff", tag_bytes) == "the bytes \"\\xff\" are neither JSON nor UTF-8 text");
}

TEST_CASE("a type of the user's is read from JSON, whatever the tag says") {
    CHECK(read<shop::order>(R"({"item":"tea","count":6})", tag_json) == R"({"count":6,"item":"tea"})");
    CHECK(read<shop::order>(R"({"item":"tea","count":6})") == R"({"count":6,"item":"tea"})");
    CHECK(read<std::vector<int>>("[1,2]", tag_bytes) == "[1,2]");
    CHECK(read<std::map<std::string, int>>("{\"a\":1}", tag_json) == "{\"a\":1}");
    CHECK(read<shop::colour>("red") == "\"red\"");
    CHECK(read<shop::colour>("\"red\"", tag_json) == "\"red\"");
    CHECK(read<shop::order>(R"({"item":"tea"})", tag_json) == "the data does not convert: key 'count' not found");
    CHECK(read<shop::order>("[]", tag_json).starts_with("the data does not convert: "));
    CHECK(read<shop::order>("hello").starts_with("the data does not convert: "));
    CHECK(read<shop::order>("{", tag_json) == "\"{\" is not JSON");
}

TEST_CASE("whatever a from_json throws is a reason, not an exception") {
    std::string why;
    shop::rude rude;
    CHECK_FALSE(arke::decode_value({"e", tag_json, "1"}, {}, rude, why));
    CHECK(why == "the data does not convert: its from_json threw what is no std::exception");
    shop::chatty chatty;
    CHECK_FALSE(arke::decode_value({"e", tag_json, "1"}, {}, chatty, why));
    CHECK(why == "the data does not convert: no\\nway");
}

TEST_CASE("a type without a default constructor is read") {
    shop::ticket ticket(0);
    std::string why;
    REQUIRE(arke::decode_value({"e", tag_json, R"({"number":7})"}, {}, ticket, why));
    CHECK(ticket.number == 7);
}

TEST_CASE("JSON may nest to its bound and no deeper, and brackets in strings are no nesting") {
    const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
    using nlohmann::json;
    CHECK(read<json>(nested(3), tag_json, 3) == "[[[]]]");
    CHECK(read<json>(nested(4), tag_json, 3) == "the JSON \"[[[[]]]]\" is nested deeper than 3 levels");
    CHECK(read<json>(R"({"a":{"b":1}})", tag_json, 1).ends_with("is nested deeper than 1 levels"));
    CHECK(read<json>(R"({"a":{}})", tag_json, 2) == R"({"a":{}})");
    CHECK(read<json>(R"(["[[[[\"[[["])", tag_json, 1) == R"(["[[[[\"[[["])");
    CHECK(read<json>(R"(["\\",[]])", tag_json, 1).ends_with("is nested deeper than 1 levels"));
    CHECK(read<json>("[[],[],[]]", tag_json, 2) == "[[],[],[]]");
    CHECK(read<json>("]]]][[", tag_json, 2) == "\"]]]][[\" is not JSON");
    CHECK(read<std::vector<int>>(nested(1'000'000), value_kind::text).ends_with("is nested deeper than 128 levels"));
    CHECK(read<json>(std::string(1'000'000, '{'), tag_json).ends_with("is nested deeper than 128 levels"));
    CHECK(read<json>(nested(1000)) ==
          '"' + nested(1000) + '"');  // text for a JSON handler is a string and is not parsed
}

TEST_CASE("a reason quotes at most sixty bytes of what the peer sent") {
    CHECK(read<int>(std::string(5000, 'x')) == '"' + std::string(60, 'x') + "\"... is not an integer");
    CHECK(read<int>("a\x1b[2J") == "\"a\\x1b[2J\" is not an integer");
}
