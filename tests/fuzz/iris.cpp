// The iris codec: what is an event is written as it was read, and what can be carried is read as it was written.
#include <arke/event/iris.hpp>
#include <arke/wire/utf8.hpp>

#include <algorithm>
#include <string>

#include "tests/fuzz/finding.hpp"
#include "tests/support/choices.hpp"

using namespace arke;
using arke::event::iris_parse;
using arke::fuzz::require;
using arke::test::choices;

namespace {

std::string written(std::string_view prefix, const event_view& event) {
    std::string out(event::iris_size(prefix, event), '\0');
    require(event::write_iris(out.data(), prefix, event) == out.data() + out.size(), "another size than was said");
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    choices choose{{data, size}};
    const std::string prefix = choose.of<const char*>({"iris-websocket-message:", "p", ";", "\xC3\xA4;"});
    const auto kind = static_cast<value_kind>(choose.below(5));
    const auto name_size = choose.below(40);
    const auto left = choose.rest();
    const std::string bytes(left.begin(), left.end());

    // As it comes, and with the prefix before it.
    for (const auto& text : {bytes, prefix + bytes}) {
        event_view event;
        std::string why;
        switch (event::parse_iris(text, prefix, event, why)) {
            case iris_parse::native:
                require(!text.starts_with(prefix), "an event that is taken for a native message");
                break;
            case iris_parse::event:
                require(why.empty(), "an event that is malformed");
                require(!event.name.empty() && event.name.find(';') == std::string_view::npos, "a name that is none");
                require(written(prefix, event) == text, "an event is written otherwise than it was read");
                if (wire::is_utf8(text)) require(event::iris_can_carry(event, why), "what came cannot be sent");
                break;
            case iris_parse::malformed:
                require(text.starts_with(prefix) && !why.empty(), "malformed without a reason");
                require(wire::is_utf8(why), "a reason that is not UTF-8");
                break;
        }
    }

    const auto name = std::string_view{bytes}.substr(0, name_size);
    const event_view event{name, kind, std::string_view{bytes}.substr(name.size())};
    std::string why;
    if (event::iris_can_carry(event, why)) {
        require(why.empty(), "a reason against what can be carried");
        event_view back;
        const auto text = written(prefix, event);
        require(event::parse_iris(text, prefix, back, why) == iris_parse::event, "what was written is no event");
        require(back.name == event.name && back.kind == event.kind && back.data == event.data,
                "another event comes back");
    } else {
        require(!why.empty() && wire::is_utf8(why), "refused without a reason");
    }
    return 0;
}
