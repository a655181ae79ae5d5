#pragma once

#include <arke/base/close_code.hpp>
#include <arke/base/error.hpp>
#include <arke/core/hub.hpp>
#include <arke/event/handler.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

namespace arke {

/// Names a handler that was added, for off(). Never zero.
enum class handler_id : std::uint64_t {};

namespace core {

/// Handlers in the order they were added. A handler may remove itself, others, and add new ones while it runs; a new one
/// waits for the next time.
template <class Handler>
class handler_list {
public:
    using pointer = boost::intrusive_ptr<Handler>;

    bool empty() const noexcept { return entries_.empty(); }
    void add(handler_id id, pointer h) { entries_.push_back({id, std::move(h)}); }

    /// Calls f(handler) for each. Entries are looked up by their place: the list may grow under the feet of a handler.
    template <class F>
    void run(F&& f) const {
        for (std::size_t i = 0, count = entries_.size(); i != count; ++i) {
            if (auto* h = entries_[i].handler.get()) f(*h);
        }
    }

    /// Takes a handler out; it goes to `retire`, because it may be running. Its place stays until compact().
    template <class Retire>
    bool remove(handler_id id, Retire&& retire) {
        for (auto& e : entries_) {
            if (e.id != id || !e.handler) continue;
            retire(std::move(e.handler));
            e.handler.reset();
            return true;
        }
        return false;
    }

    template <class Retire>
    void clear(Retire&& retire) {
        for (auto& e : entries_) {
            if (e.handler) retire(std::move(e.handler));
            e.handler.reset();
        }
    }

    /// Closes the gaps. Not while the list runs.
    void compact() {
        std::erase_if(entries_, [](const entry& e) { return !e.handler; });
    }

private:
    struct entry {
        handler_id id;
        pointer handler;
    };
    std::vector<entry> entries_;
};

/// All handlers of a connection, or those that a server keeps for all of its connections.
struct handler_set {
    std::unordered_map<std::string, handler_list<event_handler>, name_hash, std::equal_to<>> events;
    handler_list<notify_handler<event_view>> any;
    handler_list<notify_handler<>> connection;
    handler_list<notify_handler<message_view>> message;
    handler_list<notify_handler<close_code, std::string_view>> disconnect;
    handler_list<notify_handler<const error_report&>> error;
    handler_list<notify_handler<std::string_view>> leave;
    handler_list<notify_handler<bytes_view>> ping;
    handler_list<notify_handler<bytes_view>> pong;

    std::uint64_t last_id = 0;
    unsigned running = 0;  // handlers of this set that are on the stack
    bool has_gaps = false;

    handler_id next_id() noexcept { return handler_id{++last_id}; }

    /// Throws std::logic_error when the event has an answering handler already and this one answers too: the peer that asks
    /// takes one answer.
    handler_id add_event(std::string_view event, event_handler_ptr handler);

    template <class Retire>
    bool remove(handler_id id, Retire&& retire) {
        bool done = false;
        for_each_list([&](auto& list) { done = done || list.remove(id, retire); });
        has_gaps = has_gaps || done;
        return done;
    }

    template <class Retire>
    void remove_event(std::string_view event, Retire&& retire) {
        if (const auto found = events.find(event); found != events.end()) {
            found->second.clear(retire);
            has_gaps = true;
        }
    }

    void compact() {
        if (running != 0 || !has_gaps) return;
        for_each_list([](auto& list) { list.compact(); });
        std::erase_if(events, [](const auto& e) { return e.second.empty(); });
        has_gaps = false;
    }

private:
    template <class F>
    void for_each_list(F&& f) {
        for (auto& [name, list] : events) f(list);
        f(any), f(connection), f(message), f(disconnect), f(error), f(leave), f(ping), f(pong);
    }
};

}  // namespace core
}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/handlers.ipp>
#endif
