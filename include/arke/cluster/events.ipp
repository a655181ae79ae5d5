#pragma once

#include <arke/cluster/events.hpp>
#include <arke/cluster/node.ipp>
#include <arke/event/ask.hpp>

#include <stdexcept>

namespace arke::cluster {

namespace detail {

/// What the exception that is being handled says.
inline std::string text_of_current() {
    try {
        throw;
    } catch (const std::exception& e) {
        return e.what();
    } catch (...) {
        return "something that is no std::exception";
    }
}

}  // namespace detail

// ------------------------------------------------------------------------------------------------------------ handlers

ARKE_COLD_INLINE handler_id server_events::add(std::string_view event,
                                               boost::intrusive_ptr<server_event_handler> handler) {
    if (event.empty()) throw std::invalid_argument{"cluster().on(): an event needs a name"};
    const std::lock_guard lock{mutex_};
    if (handler->answers() && has_answer(event)) {
        throw std::logic_error{
            "cluster().on(\"" + std::string{event} +
            "\"): a handler of this event returns an answer already; one that asks takes one answer, so let the second "
            "handler return void"};
    }
    auto changed = std::make_shared<table>(*table_);
    const handler_id id{++changed->last_id};
    changed->events[std::string{event}].add(id, std::move(handler));
    table_ = std::move(changed);
    return id;
}

ARKE_COLD_INLINE handler_id server_events::add(boost::intrusive_ptr<state_handler> handler) {
    const std::lock_guard lock{mutex_};
    auto changed = std::make_shared<table>(*table_);
    const handler_id id{++changed->last_id};
    changed->state.add(id, std::move(handler));
    table_ = std::move(changed);
    return id;
}

ARKE_COLD_INLINE bool server_events::off(handler_id handler) {
    core::any_handler_list::pointer taken;  // what it has captured goes when the lock is open again
    std::shared_ptr<const table> before;
    const std::lock_guard lock{mutex_};
    auto changed = std::make_shared<table>(*table_);
    taken = changed->state.remove(handler);
    for (auto& [name, list] : changed->events) {
        if (taken) break;
        taken = list.remove(handler);
    }
    if (!taken) return false;
    changed->state.compact();
    for (auto& [name, list] : changed->events) list.compact();
    std::erase_if(changed->events, [](const auto& each) { return each.second.empty(); });
    before = std::exchange(table_, std::move(changed));
    return true;
}

ARKE_COLD_INLINE void server_events::clear() {
    auto none = std::make_shared<const table>();
    const std::lock_guard lock{mutex_};
    table_.swap(none);  // freed when the lock is open again
}

/// With the table locked.
ARKE_COLD_INLINE bool server_events::has_answer(std::string_view event) const {
    bool answers = false;
    if (const auto found = table_->events.find(event); found != table_->events.end())
        found->second.run([&](const server_event_handler& h) { answers = answers || h.answers(); });
    return answers;
}

ARKE_COLD_INLINE void server_events::raise(const node_info& from, std::string_view event, error_code code,
                                           std::string_view detail) const {
    try {
        auto line = "cluster: server " + arke::detail::printable(from.id) + ", event " +
                    arke::detail::printable(event) + ": " + code.message();
        if (!detail.empty()) line += ": " + arke::detail::printable(detail, 200);
        log_(line);
    } catch (...) {
        // No memory for a log.
    }
}

// -------------------------------------------------------------------------------------------------------------- running

ARKE_COLD_INLINE void server_events::heard(const std::shared_ptr<server_events>& self, const node_info& from,
                                           const envelope& e) {
    const auto handlers = self->current();
    const auto of = std::make_shared<heard_event>(self, from, e);
    const event_view event{of->event(), e.what.event.kind, e.what.event.data};
    const auto found = handlers->events.find(event.name);
    const bool has_any = found != handlers->events.end();
    if (!has_any) {
        self->unhandled_.fetch_add(1, std::memory_order_relaxed);
        return of->settle(false);
    }
    std::string why;
    basic_event_call<node_info> call{*of, event, self->limits_, of->is_asked() ? of.get() : nullptr, why};
    found->second.run([&](server_event_handler& h) {
        try {
            if (h.run(call)) return;
            self->raise(*of, event.name, errc::wrong_type, why);
            of->note(refusal_reason::wrong_type, why);
        } catch (...) {
            const auto text = detail::text_of_current();
            self->raise(*of, event.name, errc::handler_threw, text);
            of->note(refusal_reason::failed, text);
        }
    });
    of->settle(true);
}

ARKE_COLD_INLINE void server_events::state_changed(const cluster_state& state) {
    const auto handlers = current();
    handlers->state.run([&](state_handler& h) {
        try {
            h.run(state);
        } catch (...) {
            try {
                log_("cluster: a handler of on_state() threw: " + detail::text_of_current());
            } catch (...) {
                // No memory for a log.
            }
        }
    });
}

// ------------------------------------------------------------------------------------------------------------ answering

ARKE_COLD_INLINE void heard_event::answer(value_kind kind, std::string_view data) {
    if (!close()) return;
    envelope e;
    e.is = envelope::kind::answer;
    e.what = outgoing::answer(0, kind, data);
    send(std::move(e));
}

ARKE_COLD_INLINE void heard_event::refuse(refusal_reason reason, std::string_view text) {
    if (!close()) return;
    envelope e;
    e.is = envelope::kind::refusal;
    e.what = outgoing::refusal(0, reason, wire::is_utf8(text) ? text : std::string_view{});
    send(std::move(e));
}

ARKE_COLD_INLINE void heard_event::send(envelope e) {
    // It becomes a part of a channel's name.
    if (!detail::is_tag(asker_)) return;
    e.number = number_;
    in_->node_.send(in_->node_.channels().node(asker_), std::move(e));
}

ARKE_COLD_INLINE void heard_event::note(refusal_reason reason, std::string_view text) {
    if (noted_) return;
    noted_ = reason;
    noted_text_ = text;
}

ARKE_COLD_INLINE void heard_event::settle(bool heard) {
    // Of a coroutine that would say no more than that it is done, nobody waits for the end where another handler has failed.
    if (!is_open_ || (is_postponed_ && (answers_later_ || !noted_))) return;
    if (noted_)
        refuse(*noted_, noted_text_);
    else if (!heard)
        refuse(refusal_reason::unhandled, {});
    else
        answer(value_kind::nothing, {});
}

// ----------------------------------------------------------------------------------------------------------- coroutines

ARKE_COLD_INLINE std::shared_ptr<heard_event> running_handler::may_begin(const basic_event_call<node_info>& call) {
    auto of = static_cast<heard_event&>(call.self).shared_from_this();
    auto& in = *of->in_;
    if (in.running_ < in.max_running_) return of;
    in.raise(*of, of->event(), errc::too_many_requests, "more coroutine handlers run than max_requests");
    of->note(refusal_reason::busy, {});
    return nullptr;
}

ARKE_COLD_INLINE running_handler::running_handler(boost::intrusive_ptr<handler_base> keep,
                                                  std::shared_ptr<heard_event> of, bool answers)
    : handler_{std::move(keep)}, event_{std::move(of)} {
    const auto& in = *event_->in_;
    // That it is done is an answer where no other handler has a better one.
    const auto others_answer = [&] {
        const std::lock_guard lock{in.mutex_};
        return in.has_answer(event_->event());
    };
    is_answer_ = event_->is_asked() && event_->is_open_ && !event_->is_postponed_ && (answers || !others_answer());
    if (is_answer_) {
        event_->is_postponed_ = true;
        event_->answers_later_ = answers;
    }
    ++event_->in_->running_;
}

/// It goes before it has ended: what it waited for was dropped. Or all ends, and nobody is on the loop.
ARKE_COLD_INLINE running_handler::~running_handler() {
    if (!event_) return;
    const auto& on = event_->in_->loop_;
    if (!on.in_turn() && !on.is_between_turns()) return;
    try {
        end(std::make_exception_ptr(std::runtime_error{"the coroutine was destroyed before its end"}),
            [](answer_sink&) {});
    } catch (...) {
        // No memory to tell it.
    }
}

ARKE_COLD_INLINE void running_handler::finish(heard_event& of, const std::exception_ptr& thrown,
                                              const std::function<void(answer_sink&)>& give) const {
    --of.in_->running_;
    try {
        if (thrown) std::rethrow_exception(thrown);
        if (is_answer_) give(of);
    } catch (...) {
        const auto text = detail::text_of_current();
        of.in_->raise(of, of.event(), errc::handler_threw, text);
        if (!is_answer_) return;
        of.note(refusal_reason::failed, text);
        of.refuse(*of.noted_, of.noted_text_);
    }
}

}  // namespace arke::cluster
