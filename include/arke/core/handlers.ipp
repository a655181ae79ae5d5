#pragma once

#include <arke/core/handlers.hpp>

#include <stdexcept>

namespace arke::core {

ARKE_COLD_INLINE any_handler_list::pointer any_handler_list::remove(handler_id id) {
    for (auto& e : entries_) {
        if (e.id == id && e.handler) return std::exchange(e.handler, nullptr);
    }
    return nullptr;
}

ARKE_COLD_INLINE void any_handler_list::compact() {
    std::erase_if(entries_, [](const entry& e) { return !e.handler; });
}

ARKE_COLD_INLINE any_handler_list::pointer handler_set::remove(handler_id id) {
    any_handler_list::pointer taken;
    for (auto* list : lists()) {
        if (!taken) taken = list->remove(id);
    }
    for (auto& [name, list] : events) {
        if (!taken) taken = list.remove(id);
    }
    has_gaps = has_gaps || taken;
    return taken;
}

ARKE_COLD_INLINE void handler_set::compact() {
    if (running != 0 || !has_gaps) return;
    for (auto* list : lists()) list->compact();
    for (auto& [name, list] : events) list.compact();
    std::erase_if(events, [](const auto& e) { return e.second.empty(); });
    has_gaps = false;
}

ARKE_COLD_INLINE handler_id handler_set::add_join(event_handler_ptr handler) {
    bool taken = false;
    join.run([&](const event_handler&) { taken = true; });
    if (taken) {
        throw std::logic_error{
            "on_join(): there is a handler that decides already; let one decide about all rooms, or remove it by "
            "off()"};
    }
    const auto id = next_id();
    join.add(id, std::move(handler));
    return id;
}

ARKE_COLD_INLINE handler_id handler_set::add_upgrade(boost::intrusive_ptr<handler_base> handler) {
    bool taken = false;
    upgrade.run([&](const handler_base&) { taken = true; });
    if (taken) {
        throw std::logic_error{
            "on_upgrade(): there is a handler that decides already; let one decide about all upgrades, or remove it by "
            "off()"};
    }
    const auto id = next_id();
    upgrade.add(id, std::move(handler));
    return id;
}

ARKE_COLD_INLINE handler_id handler_set::add_event(std::string_view event, event_handler_ptr handler) {
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
