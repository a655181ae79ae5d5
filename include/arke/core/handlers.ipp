#pragma once

#include <arke/core/handlers.hpp>

#include <stdexcept>

namespace arke::core {

ARKE_INLINE handler_id handler_set::add_event(std::string_view event, event_handler_ptr handler) {
    if (event.empty()) throw std::invalid_argument{"on(): an event needs a name; on_message() hears what is no event"};
    auto& list = events[std::string{event}];
    if (handler->answers()) {
        bool answered = false;
        list.run([&](const event_handler& h) { answered = answered || h.answers(); });
        if (answered) {
            throw std::logic_error{
                "on(\"" + std::string{event} +
                "\"): a handler of this event returns an answer already; one that asks takes one answer, "
                "so let the second handler return void"};
        }
    }
    const auto id = next_id();
    list.add(id, std::move(handler));
    return id;
}

}  // namespace arke::core
