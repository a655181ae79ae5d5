#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include <arke/event/iris.hpp>
#include <arke/event/value.hpp>
#include "tests/support/catch.hpp"

// The frames are shared with the JavaScript tests; see the head of the file.

namespace {

const nlohmann::json& golden() {
    static const nlohmann::json all = [] {
        std::ifstream file(ARKE_TESTS_DIR "/golden/iris.json");
        return nlohmann::json::parse(file);
    }();
    return all;
}

std::string text_of(const nlohmann::json& row, const char* field) { return row.at(field).get<std::string>(); }

template <class T>
nlohmann::json outcome(const arke::event_view& event) {
    T value{};
    std::string why;
    if (arke::decode_value(event, {}, value, why)) return value;
    REQUIRE_FALSE(why.empty());
    return {{"error", true}};
}

struct frame {
    explicit frame(const nlohmann::json& row) : text(text_of(row, "frame")) {
        parsed = arke::event::parse_iris(text, prefix, event, why);
    }

    std::string prefix = text_of(golden(), "prefix");
    std::string text;
    arke::event_view event;
    std::string why;
    arke::event::iris_parse parsed;
};

}  // namespace

TEST_CASE("every frame of a 2016 page reaches a handler of each type, or is reported") {
    REQUIRE_FALSE(golden().at("from_client").empty());
    for (const auto& row : golden().at("from_client")) {
        INFO(row.dump());
        const frame f(row);
        REQUIRE(f.parsed == arke::event::iris_parse::event);
        CHECK(f.event.name == text_of(row, "event"));
        CHECK(static_cast<int>(f.event.kind) == row.at("tag"));
        CHECK(f.event.data == text_of(row, "data"));

        const auto& as = row.at("as");
        CHECK(outcome<std::string>(f.event) == as.at("string"));
        CHECK(outcome<int>(f.event) == as.at("int"));
        CHECK(outcome<double>(f.event) == as.at("double"));
        CHECK(outcome<bool>(f.event) == as.at("bool"));
        CHECK(outcome<nlohmann::json>(f.event) == as.at("json"));
    }
}

TEST_CASE("every frame for a 2016 page is written byte for byte") {
    REQUIRE_FALSE(golden().at("from_server").empty());
    for (const auto& row : golden().at("from_server")) {
        INFO(row.dump());
        const std::string name = text_of(row, "event"), data = text_of(row, "data"),
                          prefix = text_of(golden(), "prefix");
        const arke::event_view event{name, static_cast<arke::value_kind>(row.at("tag").get<int>()), data};
        std::string why;
        REQUIRE(arke::event::iris_can_carry(event, why));

        std::string out(arke::event::iris_size(prefix, event), '?');
        CHECK(arke::event::write_iris(out.data(), prefix, event) == out.data() + out.size());
        CHECK(out == text_of(row, "frame"));
    }
}

TEST_CASE("every malformed frame is reported with a reason") {
    REQUIRE_FALSE(golden().at("malformed").empty());
    for (const auto& row : golden().at("malformed")) {
        INFO(row.dump());
        const frame f(row);
        CHECK(f.parsed == arke::event::iris_parse::malformed);
        CHECK_FALSE(f.why.empty());
    }
}

TEST_CASE("values of C++ get the tag and the data that the golden frames show") {
    const auto sent = [](const arke::encoded_value& v) {
        return std::to_string(static_cast<int>(v.kind())) + ';' + std::string(v.data());
    };
    const auto raw = [](std::string_view text) { return arke::as_bytes(text); };
    const nlohmann::json cpp = {
        {"std::string(\"hello\")", sent(arke::encode_value("hello"))},
        {"std::string(\"\")", sent(arke::encode_value(""))},
        {"no value", sent(arke::encode_value())},
        {"std::string(\"a;b;;c;\")", sent(arke::encode_value("a;b;;c;"))},
        {"std::string(\"5\")", sent(arke::encode_value("5"))},
        {"std::string of UTF-8", sent(arke::encode_value("Grüße, 世界 🚀"))},
        {"int 5", sent(arke::encode_value(5))},
        {"int 0", sent(arke::encode_value(0))},
        {"int -7", sent(arke::encode_value(-7))},
        {"std::int64_t 9007199254740991", sent(arke::encode_value(std::int64_t{9007199254740991}))},
        {"std::int64_t 9007199254740993", sent(arke::encode_value(std::int64_t{9007199254740993}))},
        {"std::int64_t -9223372036854775808", sent(arke::encode_value(std::numeric_limits<std::int64_t>::min()))},
        {"bool true", sent(arke::encode_value(true))},
        {"bool false", sent(arke::encode_value(false))},
        {"double 1.5", sent(arke::encode_value(1.5))},
        {"nlohmann::json null", sent(arke::encode_value(nlohmann::json(nullptr)))},
        {"nlohmann::json {\"name\":\"Ann;\"}", sent(arke::encode_value(nlohmann::json{{"name", "Ann;"}}))},
        {"std::vector<int>{1, 2, 3}", sent(arke::encode_value(std::vector<int>{1, 2, 3}))},
        {"bytes of \"raw;\"", sent(arke::encode_value(raw("raw;")))},
        {"empty bytes", sent(arke::encode_value(arke::bytes{}))},
    };
    for (const auto& row : golden().at("from_server")) {
        INFO(row.dump());
        REQUIRE(cpp.contains(text_of(row, "cpp")));  // a new row needs a new line above
        CHECK(cpp.at(text_of(row, "cpp")) == std::to_string(row.at("tag").get<int>()) + ';' + text_of(row, "data"));
    }
}
