#include <array>
#include <fstream>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <arke/event/arke_v1.hpp>
#include "tests/support/catch.hpp"

// The messages are shared with the JavaScript tests; see the head of the file.

namespace {

using arke::event::v1_kind;

const nlohmann::json& golden() {
    static const nlohmann::json all = [] {
        std::ifstream file(ARKE_TESTS_DIR "/golden/arke_v1.json");
        return nlohmann::json::parse(file);
    }();
    return all;
}

std::string from_hex(const std::string& hex) {
    std::string bytes;
    for (std::size_t at = 0; at != hex.size(); at += 2)
        bytes += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
    return bytes;
}

constexpr std::array<std::string_view, 11> kinds{"event", "request",  "answer", "refusal", "join",     "leave",
                                                 "probe", "presence", "native", "unknown", "malformed"};
constexpr std::string_view types = "snbxjv";

struct frame {
    explicit frame(const nlohmann::json& row)
        : is_text{!row.contains("binary")},
          data{is_text ? row.value("data", "") : from_hex(row.at("binary"))},
          bytes{row.at("frame").get<std::string>() + (is_text ? "" : data)},
          read{arke::event::parse_v1(bytes, is_text, unescaped, why)} {}

    bool is_text;
    std::string data;
    std::string bytes;
    std::string unescaped;
    std::string why;
    arke::event::v1_message read;
};

std::string written(const arke::event::v1_message& message) {
    std::string out(arke::event::v1_size(message), '?');
    CHECK(arke::event::write_v1(out.data(), message) == out.data() + out.size());
    return out;
}

}  // namespace

TEST_CASE("every message of arke.v1 is read as what it is, and written as it was") {
    for (const auto& row : golden().at("messages")) {
        INFO(row.dump());
        const frame f{row};
        REQUIRE(f.why.empty());
        REQUIRE(static_cast<std::size_t>(f.read.kind) < kinds.size());
        CHECK(kinds[static_cast<std::size_t>(f.read.kind)] == row.at("kind"));
        CHECK(f.read.id == row.value("id", 0U));
        CHECK(f.read.event.name == row.value("name", ""));
        CHECK(f.read.event.data == f.data);
        if (row.contains("type"))
            CHECK(types[static_cast<std::size_t>(f.read.event.kind)] == row.at("type").get<std::string>().at(0));
        CHECK(written(f.read) == f.bytes);
    }
}

TEST_CASE("what starts as nothing that arke.v1 knows is unknown, and no fault") {
    for (const auto& row : golden().at("unknown")) {
        INFO(row.dump());
        const frame f{row};
        CHECK(f.read.kind == v1_kind::unknown);
        CHECK(f.why.empty());
    }
}

TEST_CASE("what breaks the grammar of arke.v1 is malformed, and the sentence says how") {
    for (const auto& row : golden().at("malformed")) {
        INFO(row.dump());
        const frame f{row};
        CHECK(f.read.kind == v1_kind::malformed);
        CHECK_FALSE(f.why.empty());
    }
}

TEST_CASE("a message that ends anywhere is read within its bounds, and never as another kind") {
    for (const auto& row : golden().at("messages")) {
        const frame whole{row};
        for (std::size_t size = 1; size < whole.bytes.size(); ++size) {
            INFO(row.dump() << " cut at " << size);
            const std::string cut{whole.bytes.substr(0, size)};
            const std::vector<char> exact(cut.begin(), cut.end());  // so that a sanitizer sees a byte too far
            std::string unescaped;
            std::string why;
            const auto read = arke::event::parse_v1({exact.data(), size}, whole.is_text, unescaped, why);
            CHECK((read.kind == whole.read.kind || read.kind == v1_kind::malformed));
            CHECK(why.empty() == (read.kind != v1_kind::malformed));
        }
    }
}

TEST_CASE("an event's name may be anything that is UTF-8, and not empty") {
    std::string why;
    CHECK(arke::event::v1_can_carry("a;b\nc\\ \xC3\xA9", why));
    CHECK_FALSE(arke::event::v1_can_carry("", why));
    CHECK(why.find("name") != std::string::npos);
    why.clear();
    CHECK_FALSE(arke::event::v1_can_carry("\xFF", why));
    CHECK(why.find("UTF-8") != std::string::npos);
}
