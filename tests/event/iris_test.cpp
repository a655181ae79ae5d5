#include <string>

#include <arke/event/iris.hpp>
#include "tests/support/catch.hpp"

namespace {

using arke::event_view;
using arke::value_kind;

/// What becomes of a text with the prefix "p:", in one line.
std::string parsed(std::string_view text, std::string_view prefix = "p:") {
    event_view event;
    std::string why;
    switch (arke::event::parse_iris(text, prefix, event, why)) {
        case arke::event::iris_parse::native: return "native";
        case arke::event::iris_parse::malformed: return why;
        case arke::event::iris_parse::event: break;
    }
    return std::string(event.name) + '|' + std::to_string(static_cast<int>(event.kind)) + '|' + std::string(event.data);
}

std::string written(const event_view& event, std::string_view prefix = "p:") {
    std::string out(arke::event::iris_size(prefix, event), '?');
    CHECK(arke::event::write_iris(out.data(), prefix, event) == out.data() + out.size());
    return out;
}

std::string refusal(const event_view& event) {
    std::string why;
    return arke::event::iris_can_carry(event, why) ? "carried" : why;
}

}  // namespace

TEST_CASE("an event ends its name and its type at the first two semicolons, the rest is data") {
    CHECK(parsed("p:chat;0;hello") == "chat|0|hello");
    CHECK(parsed("p:chat;0;") == "chat|0|");
    CHECK(parsed("p:chat;4;a;b;;") == "chat|4|a;b;;");
    CHECK(parsed("p:;;;") != "native");
}

TEST_CASE("text that does not start with the whole prefix is native") {
    CHECK(parsed("") == "native");
    CHECK(parsed("p") == "native");
    CHECK(parsed("P:chat;0;") == "native");
    CHECK(parsed(" p:chat;0;") == "native");
    CHECK(parsed("chat;0;x") == "native");
}

TEST_CASE("an empty prefix makes every text an event or malformed") {
    CHECK(parsed("chat;0;x", "") == "chat|0|x");
    CHECK(parsed("hello", "") == "no ';' ends the event name in \"hello\"");
}

TEST_CASE("what has the prefix and then not the grammar is malformed and says where") {
    CHECK(parsed("p:") == "no ';' ends the event name in \"\"");
    CHECK(parsed("p:chat") == "no ';' ends the event name in \"chat\"");
    CHECK(parsed("p:;0;x") == "the event name is empty in \";0;x\"");
    CHECK(parsed("p:chat;0") == "no ';' ends the type in \"chat;0\"");
    for (const char* tag : {"", "5", "9", "x", "/", ":", "00", "-1", " 1"})
        CHECK(parsed(std::string("p:c;") + tag + ";d") ==
              std::string("the type is none of 0 to 4 in \"c;") + tag + ";d\"");
}

TEST_CASE("a prefix of an event is never an event, at every cut before the second semicolon") {
    const std::string whole = "p:chat;1;5";
    for (std::size_t cut = 0; cut < whole.rfind(';') + 1; ++cut) {
        INFO(cut);
        CHECK(parsed(whole.substr(0, cut)).find('|') == std::string::npos);
    }
}

TEST_CASE("what is written is read back the same") {
    for (int kind = 0; kind <= 4; ++kind) {
        const event_view event{"na me", static_cast<value_kind>(kind), "da;ta"};
        CHECK(parsed(written(event)) == "na me|" + std::to_string(kind) + "|da;ta");
    }
    CHECK(written({"chat", value_kind::text, {}}, "") == "chat;0;");
}

TEST_CASE("what the grammar cannot carry is refused before it is written") {
    CHECK(refusal({"chat", value_kind::text, "x;y"}) == "carried");
    CHECK(refusal({"chat", value_kind::binary, {}}) == "carried");
    CHECK(refusal({"", value_kind::text, "x"}) == "an event needs a name");
    CHECK(refusal({"a;b", value_kind::text, "x"}) ==
          "the event name \"a;b\" has a ';', which ends a name in the iris protocol");
    CHECK(refusal({"a\xff", value_kind::text, "x"}) == "the event name \"a\\xff\" is not UTF-8");
    CHECK(refusal({"raw", value_kind::binary, "\xff"}) ==
          "the data of \"raw\" is not UTF-8, and the iris protocol sends text only; encode it, as base64 for example");
}

TEST_CASE("quoted remote data is short, printable and cut between characters") {
    using arke::detail::printable;
    CHECK(printable("plain") == "\"plain\"");
    CHECK(printable("a\"b\\c") == "\"a\\\"b\\\\c\"");
    CHECK(printable(std::string_view("\n\r\t\0\x1b\x7f", 6)) == "\"\\n\\r\\t\\x00\\x1b\\x7f\"");
    CHECK(printable("Gr\xc3\xbc\xc3\x9f"
                    "e") ==
          "\"Gr\xc3\xbc\xc3\x9f"
          "e\"");
    CHECK(printable("\xc2\x9b"
                    "2J") ==
          "\"\\xc2\\x9b"
          "2J\"");  // a C1 control, which terminals obey
    CHECK(printable("\xff\xc3") == "\"\\xff\\xc3\"");
    CHECK(printable(std::string(60, 'x')) == '"' + std::string(60, 'x') + '"');
    CHECK(printable(std::string(61, 'x')) == '"' + std::string(60, 'x') + "\"...");
    CHECK(printable("ab\xc3\xbc", 3) == "\"ab\"...");
}
