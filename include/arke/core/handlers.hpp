#pragma once

#include <arke/base/close_code.hpp>
#include <arke/base/error.hpp>
#include <arke/core/hub.hpp>
#include <arke/event/handler.hpp>

#include <array>
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
class any_handler_list {
public:
    using pointer = boost::intrusive_ptr<handler_base>;

    bool empty() const noexcept { return entries_.empty(); }

    /// Takes a handler out; null when there is none of that id. It may be running, so somebody keeps it. Its place stays until
    /// compact().
    pointer remove(handler_id id);

    std::size_t size() const noexcept { return entries_.size(); }

    /// Takes all out, and gives each to f(pointer).
    template <class F>
    void clear(F&& f) {
        for (auto& e : entries_) {
            if (e.handler) f(std::exchange(e.handler, nullptr));
        }
    }

    /// Closes the gaps. Not while the list runs.
    void compact();

protected:
    struct entry {
        handler_id id;
        pointer handler;
    };
    std::vector<entry> entries_;
};

/// The same, of one kind of handler.
template <class Handler>
class handler_list : public any_handler_list {
public:
    void add(handler_id id, boost::intrusive_ptr<Handler> h) { entries_.push_back({id, std::move(h)}); }

    /// Calls f(handler) for each. Entries are looked up by their place: the list may grow under the feet of a handler.
    template <class F>
    void run(F&& f) const {
        for (std::size_t i = 0, count = entries_.size(); i != count; ++i) {
            if (auto* h = entries_[i].handler.get()) f(static_cast<Handler&>(*h));
        }
    }
};

/// All handlers of a connection, or those that a server keeps for all of its connections.
struct handler_set {
    std::unordered_map<std::string, handler_list<event_handler>, name_hash, std::equal_to<>> events;
    handler_list<event_handler> join;  // what decides, at most one
    handler_list<notify_handler<event_view>> any;
    handler_list<notify_handler<>> connection;
    handler_list<notify_handler<message_view>> message;
    handler_list<notify_handler<close_code, std::string_view>> disconnect;
    handler_list<notify_handler<const error_report&>> error;
    handler_list<notify_handler<std::string_view>> leave;
    handler_list<notify_handler<bytes_view>> ping;
    handler_list<notify_handler<bytes_view>> pong;
    handler_list<notify_handler<>> drain;
    handler_list<handler_base> upgrade;  // what decides, at most one; the HTTP side knows what it is

    std::uint64_t last_id = 0;
    unsigned running = 0;  // handlers of this set that are on the stack
    bool has_gaps = false;

    handler_id next_id() noexcept { return handler_id{++last_id}; }

    /// Throws std::logic_error when the event has an answering handler already and this one answers too: the peer that asks
    /// takes one answer.
    handler_id add_event(std::string_view event, event_handler_ptr handler);

    /// Throws std::logic_error when there is one already.
    handler_id add_join(event_handler_ptr handler);

    /// As before.
    handler_id add_upgrade(boost::intrusive_ptr<handler_base> handler);

    /// Takes a handler out, of whatever it is a handler; null when there is none of that id.
    any_handler_list::pointer remove(handler_id id);

    /// Takes all handlers of an event out, and gives each to f(pointer), at most as many as count_of(): they may be running.
    template <class F>
    void remove_event(std::string_view event, F&& f) {
        const auto found = events.find(event);
        if (found == events.end()) return;
        has_gaps = true;
        found->second.clear(f);
    }
    std::size_t count_of(std::string_view event) const {
        const auto found = events.find(event);
        return found == events.end() ? 0 : found->second.size();
    }

    /// Closes the gaps, unless a handler is on the stack.
    void compact();

private:
    std::array<any_handler_list*, 11> lists() noexcept {
        return {&join, &upgrade, &any, &connection, &message, &disconnect, &error, &leave, &ping, &pong, &drain};
    }
};

}  // namespace core
}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/handlers.ipp>
#endif
