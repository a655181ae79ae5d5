#pragma once

#include <utility>

#include <arke/event/iris.hpp>
#include <arke/wire/utf8.hpp>

namespace arke::event {

ARKE_INLINE iris_parse parse_iris(std::string_view text, std::string_view prefix, event_view& out, std::string& why) {
    if (!text.starts_with(prefix)) return iris_parse::native;

    const std::string_view rest{text.data() + prefix.size(), text.size() - prefix.size()};
    const auto malformed = [&](std::string_view what) {
        why = what;
        why += detail::printable(rest);
        return iris_parse::malformed;
    };
    const std::size_t name_end = rest.find(';');
    if (name_end == std::string_view::npos) return malformed("no ';' ends the event name in ");
    if (name_end == 0) return malformed("the event name is empty in ");
    const auto type = rest.data() + name_end + 1;
    if (rest.size() < name_end + 3 || type[1] != ';' || type[0] < '0' || type[0] > '4') {
        return malformed(rest.find(';', name_end + 1) == std::string_view::npos ? "no ';' ends the type in "
                                                                                : "the type is none of 0 to 4 in ");
    }
    out.name = {rest.data(), name_end};
    out.kind = static_cast<value_kind>(type[0] - '0');
    out.data = {type + 2, rest.size() - name_end - 3};
    return iris_parse::event;
}

ARKE_INLINE bool iris_can_carry(const event_view& event, std::string& why) {
    const auto refuse = [&](std::string what) {
        why = std::move(what);
        return false;
    };
    if (event.name.empty()) return refuse("an event needs a name");
    if (event.name.find(';') != std::string_view::npos)
        return refuse("the event name " + detail::printable(event.name) +
                      " has a ';', which ends a name in the iris protocol");
    if (!wire::is_utf8(event.name)) return refuse("the event name " + detail::printable(event.name) + " is not UTF-8");
    if (event.kind == value_kind::binary && !wire::is_utf8(event.data))
        return refuse("the data of " + detail::printable(event.name) +
                      " is not UTF-8, and the iris protocol sends text only; encode it, as base64 for example");
    return true;
}

}  // namespace arke::event
