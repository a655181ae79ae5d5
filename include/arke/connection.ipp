#pragma once

#include <arke/connection.hpp>

#include <stdexcept>

namespace arke {

namespace detail {

/// Whether bytes go as a text message (config::binary_messages off), which they must then be fit for.
inline outgoing native_bytes(const config& settings, bytes_view data) {
    const auto view = as_text(data);
    if (settings.binary_messages) return outgoing::native(false, view);
    if (!wire::is_utf8(view)) {
        throw std::invalid_argument{
            "emit_message(bytes): the bytes are not UTF-8 and binary_messages is off, so they would leave as text; set "
            "config::binary_messages, or pass arke::message_view{data, false}"};
    }
    return outgoing::native(true, view);
}

/// Refuses what a close frame cannot carry.
inline void check_close(close_code code, std::string_view reason) {
    if (!may_be_sent(code)) {
        throw std::invalid_argument{"disconnect(): " + std::to_string(static_cast<unsigned>(code)) +
                                    " may not be sent; use close_code::normal or a number from 3000 to 4999"};
    }
    if (!wire::is_utf8(reason)) throw std::invalid_argument{"disconnect(): the reason is not UTF-8"};
}

inline outgoing native_text(std::string_view text) {
    if (!wire::is_utf8(text)) {
        throw std::invalid_argument{"emit_message(text): the text is not UTF-8; pass arke::bytes for binary data"};
    }
    return outgoing::native(true, text);
}

}  // namespace detail

// -------------------------------------------------------------------------------------------------------------- target

ARKE_INLINE void target::deliver(const outgoing& out) const {
    owner_->check(out);
    owner_->deliver(to_, out);
}

ARKE_INLINE void target::emit_message(std::string_view text) const { deliver(detail::native_text(text)); }

ARKE_INLINE void target::emit_message(bytes_view data) const {
    deliver(detail::native_bytes(owner_->settings(), data));
}

ARKE_COLD_INLINE void target::disconnect(close_code code, std::string_view reason) const {
    detail::check_close(code, reason);  // here: on the loops an exception would meet nobody
    owner_->for_each(to_,
                     [code, text = std::string{reason}](core::peer& p) { connection::of(p).disconnect(code, text); });
}

ARKE_COLD_INLINE void target::join(std::string_view room) const {
    owner_->for_each(
        to_, [text = std::string{room}](core::peer& p) { connection::of(p).join(text); }, room);
}

ARKE_COLD_INLINE void target::leave(std::string_view room) const {
    owner_->for_each(to_, [text = std::string{room}](core::peer& p) { connection::of(p).leave(text); });
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
    if (peer_) deliver(detail::native_bytes(peer_->owner().settings(), data));
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
    auto taken = own_handlers_->remove(handler);
    if (!taken) return false;
    on_loop().retire(std::make_shared<decltype(taken)>(std::move(taken)));
    own_handlers_->compact();
    return true;
}

ARKE_COLD_INLINE void connection::off(std::string_view event) {
    if (!own_handlers_) return;
    auto taken = own_handlers_->remove_event(event);
    on_loop().retire(std::make_shared<decltype(taken)>(std::move(taken)));
    own_handlers_->compact();
}

ARKE_INLINE void connection::deliver(const outgoing& out) {
    auto& home = on_loop();
    std::string why;
    if (home.in_turn()) {
        if (!send(out, why)) throw std::invalid_argument{why};
        return;
    }
    if (!out.measure(owner().protocol_at(protocol_index()), why)) throw std::invalid_argument{why};
    home.dispatch([held = core::peer_ptr{this}, m = message_ptr{new message{out}}] {
        held->guarded([&] {
            std::string ignored;
            static_cast<void>(held->send(m->view(), ignored));
        });
    });
}

ARKE_INLINE void connection::emit_message(std::string_view text) {
    const auto out = detail::native_text(text);
    send_message(out.is_text, out.event.data);
}

ARKE_INLINE void connection::emit_message(bytes_view data) {
    const auto out = detail::native_bytes(owner().settings(), data);
    send_message(out.is_text, out.event.data);
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

ARKE_INLINE void connection::on_event(const event_view& event, answer_sink* asked) {
    on_loop().counters().received.events.add();
    const decode_limits limits{owner().settings().max_json_depth};
    std::string why;
    event_call call{*this, event, limits, asked, why};
    bool heard = false;
    const auto one = [&](event_handler& h) {
        if (!is_open()) return;  // one before it disconnected
        heard = true;
        try {
            if (!h.run(call)) raise({errc::wrong_type, event.name, why, {}});
        } catch (...) {
            raise_current(event.name);
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

ARKE_INLINE void connection::send_message(bool is_text, std::string_view data) {
    if (!on_loop().in_turn()) return post_message(is_text, data);
    send(is_text ? wire::opcode::text : wire::opcode::binary, data);
}

ARKE_INLINE void connection::post_message(bool is_text, std::string_view data) {
    deliver(outgoing::native(is_text, data));
}

ARKE_INLINE void connection::received_ping(std::string_view payload) {
    run(&core::handler_set::ping, as_bytes(payload));
}

ARKE_INLINE void connection::received_pong(std::string_view payload) {
    run(&core::handler_set::pong, as_bytes(payload));
}

ARKE_COLD_INLINE void connection::drained() { run(&core::handler_set::drain); }

ARKE_INLINE void connection::left(std::string_view room) { run(&core::handler_set::leave, room); }

ARKE_COLD_INLINE void connection::finish() {
    if (is_open()) {
        // The loop was taken from under it. No handler runs; but those that hold a handle to this connection hold themselves.
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
