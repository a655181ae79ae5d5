#pragma once

#include <arke/connection.hpp>

#include <algorithm>
#include <new>
#include <stdexcept>

namespace arke {

namespace detail {

/// What the exception that is being handled says.
inline std::string current_text() {
    try {
        throw;
    } catch (const std::exception& e) {
        return e.what();
    } catch (...) {
        return {};
    }
}

}  // namespace detail

// -------------------------------------------------------------------------------------------------------------- target

ARKE_INLINE void target::deliver(const outgoing& out) const {
    owner_->check(out);
    owner_->deliver(to_, out);
}

ARKE_INLINE void target::emit_message(std::string_view text) const { deliver(detail::native_text(text)); }

ARKE_INLINE void target::emit_message(bytes_view data) const {
    deliver(detail::native_bytes(owner_->settings().binary_messages, data));
}

ARKE_COLD_INLINE core::loop_ptr target::home() const {
    return speaker_ ? core::loop_ptr{&speaker_->on_loop()} : owner_->first_loop();
}

ARKE_COLD_INLINE void target::ask_each(const std::function<core::requests::pointer(const std::string& id)>& make,
                                       const message_ptr& request, std::chrono::milliseconds timeout) const {
    owner_->for_each(to_, [make, request, timeout](core::peer& p) {
        connection::of(p).put(make(p.id()), request->view(), timeout);
    });
}

ARKE_COLD_INLINE void detail::act_here(core::endpoint& on, const core::address& to, const core::action& what) {
    using is = core::action::what;
    switch (what.is) {
        case is::disconnect:
            on.for_each(to, [what](core::peer& p) { connection::of(p).disconnect(what.code, what.text); });
            break;
        case is::join:
            on.for_each(
                to, [room = what.text](core::peer& p) { connection::of(p).join(room); }, what.text);
            break;
        case is::leave: on.for_each(to, [room = what.text](core::peer& p) { connection::of(p).leave(room); }); break;
    }
}

ARKE_COLD_INLINE void target::act(const core::action& what) const {
    detail::act_here(*owner_, to_, what);
    if (const auto& link = owner_->link()) link->act(to_, what);
}

ARKE_COLD_INLINE void target::disconnect(close_code code, std::string_view reason) const {
    detail::check_close(code, reason);  // here: on the loops an exception would meet nobody
    act({core::action::what::disconnect, code, std::string{reason}});
}

ARKE_COLD_INLINE void target::join(std::string_view room) const {
    act({core::action::what::join, {}, std::string{room}});
}

ARKE_COLD_INLINE void target::leave(std::string_view room) const {
    act({core::action::what::leave, {}, std::string{room}});
}

// -------------------------------------------------------------------------------------------------------------- handle

ARKE_COLD_INLINE bool connection_handle::is_connected() const {
    return peer_ && connection::of(*peer_).endpoint().find(peer_->id()) == peer_;
}

ARKE_INLINE const std::string& connection_handle::id() const noexcept {
    static const std::string none;
    return peer_ ? peer_->id() : none;
}

ARKE_INLINE void connection_handle::deliver(const outgoing& out) const {
    if (peer_) connection::of(*peer_).deliver(out);
}

ARKE_INLINE void connection_handle::emit_message(std::string_view text) const { deliver(detail::native_text(text)); }

ARKE_INLINE void connection_handle::emit_message(bytes_view data) const {
    if (peer_) deliver(detail::native_bytes(peer_->owner().settings().binary_messages, data));
}

ARKE_COLD_INLINE void connection_handle::disconnect(close_code code, std::string_view reason) const {
    if (peer_) connection::of(*peer_).disconnect(code, reason);
}

ARKE_COLD_INLINE bool connection_handle::join(std::string_view room) const {
    return is_connected() && connection::of(*peer_).endpoint().join(*peer_, room) == core::hub::joined::yes;
}

ARKE_COLD_INLINE bool connection_handle::leave(std::string_view room) const {
    if (!is_connected()) return false;
    if (peer_->on_loop().in_turn()) return connection::of(*peer_).leave(room);
    return connection::of(*peer_).endpoint().leave(*peer_, room);
}

// ---------------------------------------------------------------------------------------------------------- connection

ARKE_INLINE connection::connection(core::endpoint& owner, core::loop& on, std::string id, std::size_t protocol,
                                   arke::request r)
    : peer{owner, on, std::move(id), protocol}, request_{std::make_unique<arke::request>(std::move(r))} {}

ARKE_INLINE connection::~connection() = default;

ARKE_COLD_INLINE const arke::request& connection::request() const noexcept {
    static const arke::request none;
    return request_ ? *request_ : none;
}

ARKE_COLD_INLINE core::handler_set& connection::own_handlers() {
    if (!own_handlers_) own_handlers_ = std::make_unique<core::handler_set>();
    return *own_handlers_;
}

ARKE_COLD_INLINE bool connection::off(handler_id handler) {
    if (!own_handlers_) return false;
    // It may be running, so there must be room to keep it before it is taken out.
    on_loop().make_room_to_retire();
    auto taken = own_handlers_->remove(handler);
    if (!taken) return false;
    on_loop().retire(std::move(taken));
    own_handlers_->compact();
    return true;
}

ARKE_COLD_INLINE void connection::off(std::string_view event) {
    if (!own_handlers_) return;
    on_loop().make_room_to_retire(own_handlers_->count_of(event));
    own_handlers_->remove_event(event, [this](auto taken) { on_loop().retire(std::move(taken)); });
    own_handlers_->compact();
}

ARKE_INLINE void connection::deliver(const outgoing& out) {
    auto& home = on_loop();
    std::string why;
    if (home.in_turn()) {
        if (!send(out, why)) throw std::invalid_argument{why};
        return;
    }
    if (!owner().protocol_at(protocol_index()).measure(out, why)) throw std::invalid_argument{why};
    home.dispatch([held = core::peer_ptr{this}, m = message_ptr{new message{out}}] {
        held->guarded([&] {
            std::string ignored;
            static_cast<void>(held->send(m->view(), ignored));
        });
    });
}

ARKE_INLINE void connection::emit_message(std::string_view text) {
    const auto out = detail::native_text(text);
    send_native(true, out.event.data);
}

ARKE_INLINE void connection::emit_message(bytes_view data) {
    const auto out = detail::native_bytes(owner().settings().binary_messages, data);
    send_native(out.is == outgoing::what::text, out.event.data);
}

/// The shortest way, for what is said most: no protocol has a word in it.
ARKE_INLINE void connection::send_native(bool is_text, std::string_view data) {
    if (on_loop().in_turn() && owner().protocol_at(protocol_index()).has_bare_natives())
        return send(is_text ? wire::opcode::text : wire::opcode::binary, data);
    deliver(outgoing::native(is_text, data));
}

ARKE_COLD_INLINE void connection::ping(bytes_view payload) {
    if (payload.size() > wire::max_control_payload)
        throw std::invalid_argument{"ping(): a ping carries at most 125 bytes"};
    on_loop().dispatch([held = core::peer_ptr{this}, data = std::string{as_text(payload)}] {
        of(*held).send(wire::opcode::ping, data);
    });
}

ARKE_INLINE bool connection::join(std::string_view room) {
    if (on_loop().is_between_turns()) {
        const core::loop::turn guard{on_loop()};
        return join(room);
    }
    const auto result = endpoint().join(*this, room);
    if (result == core::hub::joined::name_taken) {
        raise({errc::name_taken, {}, detail::printable(room), {}});
    } else if (result == core::hub::joined::too_many) {
        raise({errc::too_many_rooms, {}, detail::printable(room), {}});
    }
    return result == core::hub::joined::yes;
}

ARKE_INLINE bool connection::leave(std::string_view room) {
    if (on_loop().is_between_turns()) {
        const core::loop::turn guard{on_loop()};
        return leave(room);
    }
    if (!on_loop().in_turn()) return endpoint().leave(*this, room);
    const std::string name{room};  // the room may be gone, and its name with it
    if (!endpoint().leave(*this, name)) return false;
    left(name);
    return true;
}

ARKE_INLINE bool connection::is_joined(std::string_view room) const {
    return endpoint().shard_of(on_loop()).is_joined(*this, room);
}

ARKE_COLD_INLINE std::vector<std::string> connection::rooms() const { return joined_rooms(); }

ARKE_COLD_INLINE void connection::disconnect(close_code code, std::string_view reason) {
    detail::check_close(code, reason);
    auto& home = on_loop();
    if (home.in_turn()) return close(code, reason);
    home.dispatch([held = core::peer_ptr{this}, code, text = std::string{reason}] { held->close(code, text); });
}

// ------------------------------------------------------------------------------------------------------------ requests

ARKE_COLD_INLINE core::requests& connection::own_requests() {
    if (!requests_) requests_ = std::make_unique<core::requests>();
    return *requests_;
}

ARKE_INLINE void detail::put_request(const core::peer_ptr& to, const core::requests::pointer& request, message_ptr what,
                                     std::chrono::milliseconds timeout) noexcept {
    // Nothing may be thrown at a coroutine that is about to wait. Where the request goes no further, its end tells who waits.
    try {
        if (!to) return;
        to->on_loop().dispatch([to, request, what = std::move(what), timeout] {
            to->guarded([&] { connection::of(*to).put(request, what->view(), timeout); });
        });
    } catch (...) {
    }
}

ARKE_COLD_INLINE void detail::put_to_nobody(const core::endpoint_ptr& at,
                                            const core::requests::pointer& request) noexcept {
    try {
        const auto home = at ? at->first_loop() : nullptr;
        if (!home || !request->needs_loop()) return;
        home->post([at, request] {
            try {
                request->complete(errc::disconnected, {});
            } catch (...) {
                at->try_to_log([] { return std::string{"a handler of ask() threw"}; });
            }
        });
    } catch (...) {
        // As where the loop has ended.
    }
}

ARKE_COLD_INLINE unsigned detail::json_depth_of(const core::peer_ptr& to) {
    return to ? to->owner().settings().max_json_depth : decode_limits{}.max_json_depth;
}

ARKE_INLINE void connection::put(const core::requests::pointer& request, const outgoing& what,
                                 std::chrono::milliseconds timeout) {
    if (!is_open()) return complete_later(request, errc::disconnected);
    const auto& limits = owner().settings();
    auto numbered = what;
    try {
        std::string why;
        numbered.id = requests_ ? requests_->next_id() : 0;
        const auto form = owner().protocol_at(protocol_index()).measure(numbered, why);
        if (!form) return complete_later(request, errc::not_deliverable, why);
        auto& table = own_requests();
        if (table.open() >= limits.max_requests) return complete_later(request, errc::too_many_requests);
        if (limits.on_overflow != overflow::close && !takes(wire::frame_header_size(form->size) + form->size))
            return complete_later(request, errc::outbox_full);
        constexpr core::millis for_ever = core::millis{1} << 40;
        numbered.id = table.add(request, on_loop().now() + std::min<core::millis>(timeout.count(), for_ever));
    } catch (const std::bad_alloc&) {
        return complete_later(request, errc::out_of_memory);
    }
    std::string ignored;
    static_cast<void>(send(numbered, ignored));
    if (is_open()) schedule();
}

ARKE_INLINE void connection::complete(core::open_request& request, error_code why, const event_view& answer) {
    guard({}, [&] { request.complete(why, answer); });
}

/// No handler runs within the call that asks.
ARKE_COLD_INLINE void connection::complete_later(const core::requests::pointer& request, error_code why,
                                                 std::string_view text) {
    try {
        on_loop().post([held = core::peer_ptr{this}, request, why, kept = std::string{text}] {
            of(*held).complete(*request, why, {{}, value_kind::text, kept});
        });
    } catch (const std::bad_alloc&) {
        guard({}, [&] { request->complete(why, {}, true); });
    }
}

ARKE_INLINE core::millis connection::requests_due() const noexcept {
    return requests_ ? requests_->next_due() : core::timing_wheel::never;
}

ARKE_COLD_INLINE void connection::expire_requests(core::millis now) {
    while (is_open() && requests_) {
        const auto late = requests_->take_due(now);
        if (!late) return;
        complete(*late, errc::ask_timeout);
    }
}

ARKE_INLINE void connection::on_answer(std::uint32_t id, const event_view& answer) {
    on_loop().counters().received.answers.add();
    const auto request = requests_ ? requests_->take(id) : nullptr;
    if (!request) return on_loop().counters().dropped.late_answers.add();
    complete(*request, {}, answer);
}

ARKE_COLD_INLINE void connection::on_refusal(std::uint32_t id, refusal_reason reason, std::string_view text) {
    on_loop().counters().received.answers.add();
    const auto request = requests_ ? requests_->take(id) : nullptr;
    if (!request) return on_loop().counters().dropped.late_answers.add();
    complete(*request, detail::error_of(reason), {{}, value_kind::text, text});
}

ARKE_INLINE void connection::on_request(std::uint32_t id, const event_view& event) {
    on_loop().counters().received.requests.add();
    if (requests_ && requests_->is_postponed(id)) return on_malformed("the number of a request is still in use");
    asked now{*this, id};
    dispatch(event, &now);
}

/// Whether a handler of this event returns a value.
ARKE_COLD_INLINE bool connection::has_answer(std::string_view event) {
    bool answers = false;
    const auto look = [&](const core::handler_set& set) {
        if (const auto found = set.events.find(event); found != set.events.end())
            found->second.run([&](const event_handler& h) { answers = answers || h.answers(); });
    };
    look(endpoint().handlers(on_loop()));
    if (own_handlers_) look(*own_handlers_);
    return answers;
}

ARKE_INLINE void connection::settle(asked& by, bool heard) {
    // Of a coroutine that would say no more than that it is done, nobody waits for the end where another handler has failed.
    if (!by.open_ || (by.use_ != 0 && (by.answers_ || !by.noted_))) return;
    if (by.noted_)
        by.refuse(*by.noted_, by.noted_text_);
    else if (!heard)
        by.refuse(refusal_reason::unhandled, {});
    else
        by.answer(value_kind::nothing, {});
}

ARKE_COLD_INLINE void connection::on_join_request(std::uint32_t id, std::string_view room) {
    on_loop().counters().received.requests.add();
    if (requests_ && requests_->is_postponed(id)) return on_malformed("the number of a request is still in use");
    asked now{*this, id, room};
    const event_view event{room, value_kind::text, room};
    const decode_limits limits{};
    std::string why;
    event_call call{*this, event, limits, &now, why};
    const auto decide = [&](event_handler& h) {
        try {
            if (!h.run(call)) now.note(refusal_reason::wrong_type, why);
        } catch (...) {
            raise_current({});
            now.note(refusal_reason::failed, detail::current_text());
        }
    };
    const core::peer_ptr held{this};
    if (own_handlers_ && !own_handlers_->join.empty()) {
        ++own_handlers_->running;
        own_handlers_->join.run(decide);
        --own_handlers_->running;
        own_handlers_->compact();
    } else {
        endpoint().handlers(on_loop()).join.run(decide);
    }
    if (now.is_open()) now.refuse(now.noted_.value_or(refusal_reason::refused), now.noted_text_);
}

ARKE_COLD_INLINE void connection::on_leave_request(std::uint32_t id, std::string_view room) {
    on_loop().counters().received.requests.add();
    if (requests_ && requests_->is_postponed(id)) return on_malformed("the number of a request is still in use");
    asked now{*this, id};
    // Where the application has put it, it stays.
    if (!requests_ || !requests_->may_leave(room)) return now.refuse(refusal_reason::refused, {});
    leave(room);
    now.answer(value_kind::nothing, {});
}

ARKE_INLINE bool connection::asked::close() {
    if (!std::exchange(open_, false)) return false;
    return use_ == 0 || (of_->requests_ && of_->requests_->settle(id_, use_));
}

ARKE_INLINE void connection::asked::answer(value_kind kind, std::string_view data) {
    if (joins_) {
        if (kind == value_kind::boolean && data != "true") return refuse(refusal_reason::refused, {});
        if (!of_->is_open() || !of_->join(room_)) return refuse(refusal_reason::refused, {});
        of_->own_requests().allow_to_leave(room_);
        kind = value_kind::nothing;
        data = {};
    }
    if (!close()) return;
    std::string why;
    static_cast<void>(of_->send(outgoing::answer(id_, kind, data), why));
}

ARKE_COLD_INLINE void connection::asked::refuse(refusal_reason reason, std::string_view text) {
    if (!close()) return;
    std::string why;
    if (!wire::is_utf8(text)) text = {};
    static_cast<void>(of_->send(outgoing::refusal(id_, reason, text), why));
}

ARKE_COLD_INLINE void connection::asked::note(refusal_reason reason, std::string_view text) {
    if (noted_) return;
    noted_ = reason;
    if (reason != refusal_reason::failed || of_->owner().settings().reveal_exceptions) noted_text_ = text;
}

ARKE_COLD_INLINE connection::asked connection::asked::postpone(bool answers) {
    answers_ = answers;
    use_ = of_->own_requests().postpone(id_);
    return *this;
}

ARKE_COLD_INLINE bool connection::later::may_begin(event_call& call) {
    auto& c = call.self;
    if (c.own_requests().running < c.owner().settings().max_requests) return true;
    c.raise({errc::too_many_requests, call.event.name, "more coroutine handlers run than max_requests", {}});
    if (call.sink != nullptr) static_cast<asked*>(call.sink)->note(refusal_reason::busy, {});
    return false;
}

ARKE_COLD_INLINE connection::later::later(boost::intrusive_ptr<handler_base> keep, event_call& call, bool answers)
    : peer_{&call.self}, handler_{std::move(keep)}, event_{call.event.name} {
    auto& c = call.self;
    // That it is done is an answer where no other handler has a better one.
    if (auto* by = static_cast<asked*>(call.sink); by != nullptr && by->is_open() && (answers || !c.has_answer(event_)))
        asked_.emplace(by->postpone(answers));
    ++c.own_requests().running;
}

/// It goes before it has ended: what it waited for was dropped. Or all ends, and nobody is on the loop.
ARKE_COLD_INLINE connection::later::~later() {
    if (!peer_) return;
    auto& on = peer_->on_loop();
    if (!on.in_turn() && !on.is_between_turns()) return;
    try {
        end(std::make_exception_ptr(std::runtime_error{"the coroutine was destroyed before its end"}),
            [](answer_sink&) {});
    } catch (...) {
        // No memory to tell it.
    }
}

ARKE_COLD_INLINE void connection::later::finish(connection& c, const std::exception_ptr& thrown,
                                                const std::function<void(answer_sink&)>& give) {
    if (c.requests_) --c.requests_->running;
    try {
        if (thrown) std::rethrow_exception(thrown);
        if (asked_) give(*asked_);
    } catch (...) {
        c.raise_current(event_);
        if (!asked_) return;
        asked_->note(refusal_reason::failed, detail::current_text());
        asked_->refuse(*asked_->noted_, asked_->noted_text_);
    }
}

// ------------------------------------------------------------------------------------------------------------- running

template <class List, class... Args>
void connection::run(List core::handler_set::*list, const Args&... args) {
    // A handler that disconnects is the last to run, but for what belongs to the end itself.
    constexpr bool to_the_end = std::is_same_v<List, decltype(core::handler_set::leave)> ||
                                std::is_same_v<List, decltype(core::handler_set::disconnect)>;
    const auto one = [&](auto& h) {
        if (!to_the_end && !is_open()) return;
        try {
            h.run(*this, args...);
        } catch (...) {
            raise_current({});
        }
    };
    // One loop for both lists: a second call would keep compilers from inlining the first.
    const auto& shared = endpoint().handlers(on_loop()).*list;
    for (const auto* now = &shared;;) {
        now->run(one);
        if (!own_handlers_) return;
        auto& own = *own_handlers_;
        if (now != &shared) {
            --own.running;
            return own.compact();
        }
        now = &(own.*list);
        if (now->empty()) return;
        ++own.running;
    }
}

ARKE_INLINE void connection::begin() {
    owner().protocol_at(protocol_index()).opened(*this);
    run(&core::handler_set::connection);
    if (!owner().settings().keep_request) request_.reset();
}

ARKE_INLINE void connection::received(const message_view& message) {
    owner().protocol_at(protocol_index()).receive(*this, message);
}

ARKE_INLINE void connection::on_event(const event_view& event) {
    on_loop().counters().received.events.add();
    dispatch(event, nullptr);
}

ARKE_INLINE void connection::dispatch(const event_view& event, asked* by) {
    const decode_limits limits{owner().settings().max_json_depth};
    std::string why;
    event_call call{*this, event, limits, by, why};
    bool heard = false;
    const auto one = [&](event_handler& h) {
        if (!is_open()) return;  // one before it disconnected
        heard = true;
        try {
            if (h.run(call)) return;
            raise({errc::wrong_type, event.name, why, {}});
            if (by != nullptr) by->note(refusal_reason::wrong_type, why);
        } catch (...) {
            raise_current(event.name);
            if (by != nullptr) by->note(refusal_reason::failed, detail::current_text());
        }
    };

    const auto& shared = endpoint().handlers(on_loop());
    for (const auto* set = &shared;;) {
        if (const auto found = set->events.find(event.name); found != set->events.end()) found->second.run(one);
        if (!own_handlers_) break;
        if (set != &shared) {
            --own_handlers_->running;
            own_handlers_->compact();
            break;
        }
        set = own_handlers_.get();
        ++own_handlers_->running;
    }
    if (by != nullptr) settle(*by, heard);
    if (heard || !is_open()) return;

    const bool any = !endpoint().handlers(on_loop()).any.empty() || (own_handlers_ && !own_handlers_->any.empty());
    if (any) return run(&core::handler_set::any, event);
    endpoint().unhandled.fetch_add(1, std::memory_order_relaxed);
    const bool listening =
        !endpoint().handlers(on_loop()).error.empty() || (own_handlers_ && !own_handlers_->error.empty());
    if (listening) raise({errc::unhandled_event, event.name, "nobody listens to this event", {}});
}

ARKE_INLINE void connection::on_native(const message_view& message) {
    auto& received = on_loop().counters().received;
    (message.is_text ? received.texts : received.binaries).add();
    run(&core::handler_set::message, message);
}

ARKE_INLINE void connection::on_malformed(std::string_view why) { raise({errc::malformed_event, {}, why, {}}); }

ARKE_COLD_INLINE void connection::on_unknown() { on_loop().counters().errors.unknown_message.add(); }

ARKE_COLD_INLINE void connection::send_as_is(bool is_text, std::string_view data) {
    send(is_text ? wire::opcode::text : wire::opcode::binary, data);
}

ARKE_INLINE void connection::received_ping(std::string_view payload) {
    run(&core::handler_set::ping, as_bytes(payload));
}

ARKE_INLINE void connection::received_pong(std::string_view payload) {
    run(&core::handler_set::pong, as_bytes(payload));
}

ARKE_COLD_INLINE void connection::drained() { run(&core::handler_set::drain); }

ARKE_INLINE void connection::left(std::string_view room) {
    if (requests_) requests_->left(room);
    run(&core::handler_set::leave, room);
}

ARKE_COLD_INLINE void connection::finish() {
    if (is_open()) {
        // The loop was taken from under it. No handler runs; but those that hold a handle to this connection hold themselves.
        requests_.reset();
        own_handlers_.reset();
        protocol_state_.reset();
        return;
    }
    const auto how = ending_.get();
    const auto code = how != nullptr ? how->code : close_code::abnormal;
    const auto by = how != nullptr ? how->by : errc::out_of_memory;
    const std::string_view text = how != nullptr ? how->text : std::string_view{};
    if (by != errc{}) raise({by, {}, text, {}});
    if (how != nullptr) {
        for (const auto& room : how->left_rooms) left(room);
    }
    if (const auto open = std::move(requests_)) {
        while (const auto request = open->take_any()) complete(*request, errc::disconnected);
    }
    run(&core::handler_set::disconnect, code, text);
    // What the handlers captured goes now, on this loop; a handle that somebody keeps holds only the bare object.
    const auto freed = std::move(own_handlers_);
    protocol_state_.reset();
}

ARKE_COLD_INLINE void connection::raise_current(std::string_view event) noexcept {
    try {
        throw;
    } catch (const std::exception& e) {
        raise({errc::handler_threw, event, e.what(), std::current_exception()});
    } catch (...) {
        raise({errc::handler_threw, event, "something that is no std::exception", std::current_exception()});
    }
}

ARKE_COLD_INLINE void connection::count(const error_report& report) noexcept {
    // The others are ends, which are counted where they happen; and the unhandled, which may have no report.
    if (report.code.category() != category()) return;
    auto& errors = on_loop().counters().errors;
    switch (static_cast<errc>(report.code.value())) {
        case errc::malformed_event: return errors.malformed_event.add();
        case errc::wrong_type: return errors.wrong_type.add();
        case errc::handler_threw: return errors.handler_threw.add();
        case errc::name_taken:
        case errc::too_many_requests:
        case errc::too_many_rooms: return errors.other.add();
        default: return;
    }
}

ARKE_COLD_INLINE void connection::raise(const error_report& report) noexcept {
    if (on_loop().in_turn()) count(report);
    bool heard = false;
    const auto one = [&](notify_handler<const error_report&>& h) {
        heard = true;
        try {
            h.run(*this, report);
        } catch (...) {
            endpoint().try_to_log([&] { return "on_error threw for connection " + id(); });
        }
    };
    endpoint().handlers(on_loop()).error.run(one);
    if (own_handlers_) {
        auto& own = *own_handlers_;
        ++own.running;
        own.error.run(one);
        --own.running;
        own.compact();
    }
    if (heard) return;
    endpoint().try_to_log([&] {
        std::string line = "connection " + detail::printable(id());
        if (!report.event.empty()) line += ", event " + detail::printable(report.event);
        line += ": " + report.code.message();
        if (!report.detail.empty() && report.detail != report.code.message())
            line += ": " + detail::printable(report.detail, 200);
        return line;
    });
}

}  // namespace arke
