// The codec of arke.v1: what is understood is written as it was read, and what is written is read as it was meant.
#include <arke/event/arke_v1.hpp>
#include <arke/wire/utf8.hpp>

#include <string>

#include "tests/fuzz/finding.hpp"
#include "tests/support/choices.hpp"

using namespace arke;
using arke::event::v1_kind;
using arke::event::v1_message;
using arke::fuzz::require;
using arke::test::choices;

namespace {

std::string written(const v1_message& message) {
    std::string out(event::v1_size(message), '\0');
    require(event::write_v1(out.data(), message) == out.data() + out.size(), "another size than was said");
    return out;
}

void read(const std::string& bytes, bool is_text) {
    std::string unescaped;
    std::string why;
    const auto m = event::parse_v1(bytes, is_text, unescaped, why);
    if (m.kind == v1_kind::malformed) {
        require(!why.empty() && wire::is_utf8(why), "malformed without a reason");
        return;
    }
    require(why.empty(), "a reason against what is understood");
    if (m.kind == v1_kind::unknown || m.kind == v1_kind::probe || m.kind == v1_kind::presence) return;
    require(written(m) == bytes, "a message is written otherwise than it was read");
    if (m.kind == v1_kind::event || m.kind == v1_kind::request) {
        require(!m.event.name.empty(), "a name that is none");
        // A text message was found to be UTF-8 before it came here.
        if (!is_text || wire::is_utf8(bytes))
            require(event::v1_can_carry(m.event.name, why), "what came cannot be sent");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    choices choose{{data, size}};
    v1_message meant;
    meant.kind = static_cast<v1_kind>(choose.below(10));
    meant.id = static_cast<std::uint32_t>(choose.below(1UL << 16U) << 16U | choose.below(1UL << 16U));
    meant.event.kind = static_cast<value_kind>(choose.below(6));
    const auto name_size = choose.below(40);
    const auto left = choose.rest();
    const std::string bytes(left.begin(), left.end());

    for (const bool is_text : {true, false}) {
        read(bytes, is_text);
        for (const char* head : {"es", "ex", "rs", "rx7 ", "rj4294967295 ", "av0 ", "f3 ", "j1 ", "l1 ", "m"})
            read(head + bytes, is_text);
    }

    // What is meant, as far as its kind has it.
    const std::string name{std::string_view{bytes}.substr(0, name_size)};
    const std::string_view rest = std::string_view{bytes}.substr(name.size());
    const bool is_typed =
        meant.kind == v1_kind::event || meant.kind == v1_kind::request || meant.kind == v1_kind::answer;
    if (!is_typed) meant.event.kind = value_kind::text;
    if (meant.kind != v1_kind::answer && meant.kind != v1_kind::native && meant.kind <= v1_kind::leave)
        meant.event.name = name;
    if (meant.kind <= v1_kind::refusal || meant.kind == v1_kind::native) meant.event.data = rest;
    if (is_typed && meant.event.kind == value_kind::nothing) meant.event.data = {};
    if (meant.kind == v1_kind::event || meant.kind == v1_kind::answer || meant.kind > v1_kind::leave) meant.id = 0;
    if (meant.kind == v1_kind::answer) meant.id = static_cast<std::uint32_t>(size);
    std::string why;
    const bool is_named = meant.kind <= v1_kind::refusal && meant.kind != v1_kind::answer;
    if (meant.kind > v1_kind::native || (is_named && !event::v1_can_carry(name, why))) return 0;
    const bool is_text = !(is_typed && meant.event.kind == value_kind::binary);
    const auto text = written(meant);
    std::string unescaped;
    const auto back = event::parse_v1(text, is_text, unescaped, why);
    require(back.kind == meant.kind && back.id == meant.id, "another message comes back");
    require(back.event.name == meant.event.name && back.event.data == meant.event.data,
            "another name or data comes back");
    if (is_typed) require(back.event.kind == meant.event.kind, "another type comes back");
    return 0;
}
