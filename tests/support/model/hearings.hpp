#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "tests/support/model/deliveries.hpp"

namespace arke::test::modelling {

/// What the application is to hear of each client.
class hearings : public deliveries {
protected:
    using deliveries::deliveries;

    void heard(record& r, const char* kind, std::string_view text);
};

inline void hearings::heard(record& r, const char* kind, std::string_view text) {
    say(r.id, " was heard: ", kind, " ", text);
    require(r.is_open() && !r.is_over, r.id + " is heard and is gone: " + kind);
    if (r.incoming.empty()) return require(false, r.id + " is heard and was silent: " + kind);
    const auto due = std::move(r.incoming.front());
    r.incoming.pop_front();
    require(due.kind == std::string_view{kind} && due.text == text, "heard of " + r.id + ": " + kind + " " +
                                                                        detail::printable(text) + " instead of " +
                                                                        due.kind + " " + detail::printable(due.text));
    count(std::string{"heard "} + kind);
}

}  // namespace arke::test::modelling
