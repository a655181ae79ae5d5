#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/support/frame.hpp"
#include "tests/support/model/hearings.hpp"

namespace arke::test::modelling {

/// What the application does, in its handlers and outside of them.
class application : public hearings {
protected:
    using hearings::hearings;

    record* any_of(bool must_be_open);
    record* any_record() { return any_of(false); }
    record* any_open() { return any_of(true); }
    std::string any_name();
    std::string any_room() { return "r" + std::to_string(choices_.below(4)); }
    std::string text();
    std::string noise(std::size_t size) const;
    meant any_meant(record* speaker);
    note any_note(std::string& event, std::string& data, std::string& key);
    question& any_question(record* r);
    void act(record* me);
    void acts(record* me, bool may_throw = true);
    void hand_to_many(const meant& m, const note& n);
    void emit_to_many(record* me);
    void emit_to_one(record* me);
    void message_to_many(record* me);
    void message_to_one(record* me);
    void join_one(record* me);
    void leave_one(record* me);
    void join_many(record* me);
    void leave_many(record* me);
    void disconnect_many(record* me);
    void disconnect_one(record* me);
    void run_on_one();
    void keep_or_drop_a_handle();
    void ping_self(record& me);
    void ask_one(record* me);
    void ask_many(record* me);
    void change_handlers(record* me);
    void add_handler(record& r);
    void run_own(record& r, own_handler& h, std::string_view text);
    void end_rounds(record& r);
    static bool may_be_cut_short(const record& r, const round& one) {
        return one.may_be_late || (!r.is_open() && !is_to_the_end(one.what));
    }

    template <class Ask>
    void ask_as_it_wants(const Ask& ask, question& q);
};

/// One whose connection is not freed, and may be over.
inline record* application::any_of(bool must_be_open) {
    std::vector<record*> all;
    for (auto& r : records_) {
        if (must_be_open ? r.is_open() : r.peer != nullptr) all.push_back(&r);
    }
    return all.empty() ? nullptr : all[choices_.below(all.size())];
}

inline std::string application::any_name() {
    const auto n = choices_.below(20);
    return n < 11 ? "r" + std::to_string(n % 4) : n < 19 ? "c" + std::to_string(n - 11) : "nobody";
}

/// What compresses by a quarter, or to nothing where the same has gone before.
inline std::string application::noise(std::size_t size) const {
    std::string made;
    auto state = static_cast<std::uint32_t>(sequence_ % 3);
    while (made.size() != size) {
        state = state * 1'664'525U + 1'013'904'223U;
        made += static_cast<char>('0' + (state >> 24U) % 75);
    }
    return made;
}

inline std::string application::text() {
    const auto size = choices_.of<std::size_t>({0, 1, 7, 20, 100, 126, 300, 600, 1200, 3000});
    ++sequence_;
    if (settings_.compression.enabled && choices_.below(3) == 1) return std::to_string(sequence_) + ":" + noise(size);
    return std::to_string(sequence_) + ":" + std::string(size, static_cast<char>('a' + sequence_ % 26));
}

inline meant application::any_meant(record* speaker) {
    using core::name;
    if (speaker != nullptr && !speaker->is_open()) speaker = nullptr;
    const auto made = [&]() -> meant {
        const auto one = any_name();
        switch (choices_.below(speaker != nullptr ? 9 : 6)) {
            case 0:
            case 5: return {server_->to(arke::all), true};
            case 1: return {server_->to(one), false, nullptr, {{name::kind::any, one}}};
            case 2: {
                const auto other = any_name();
                return {server_->to(one, other), false, nullptr, {{name::kind::any, one}, {name::kind::any, other}}};
            }
            case 3: return {server_->to(arke::id{one}), false, nullptr, {{name::kind::id, one}}};
            case 4: return {server_->to(arke::room{one}), false, nullptr, {{name::kind::room, one}}};
            case 6: return {speaker->self->to(arke::not_me), true, speaker};
            case 7: return {speaker->self->to(one, arke::not_me), false, speaker, {{name::kind::any, one}}};
            default: return {speaker->self->to(arke::broadcast, arke::all), true, speaker};
        }
    };
    auto m = made();
    for (auto more = choices_.of<std::size_t>({0, 0, 0, 1, 2}); more != 0; --more) {
        const auto one = any_name();
        switch (choices_.below(3)) {
            case 0:
                m.to.except(one);
                m.except.push_back({name::kind::any, one});
                break;
            case 1:
                m.to.except(arke::id{one});
                m.except.push_back({name::kind::id, one});
                break;
            default:
                m.to.except(arke::room{one});
                m.except.push_back({name::kind::room, one});
                break;
        }
    }
    return m;
}

inline note application::any_note(std::string& event, std::string& data, std::string& key) {
    event = choices_.of<const char*>({"e", "f", "position"});
    data = text();
    key = choices_.of<const char*>({"", "x", "y"});
    if (choices_.one_in(16)) event = choices_.of<const char*>({"a;b", "a;b", "", "\xFF", "a\nb\\"});
    note n{event_frames(settings_.event_prefix, event, data), "sent events"};
    n.how = choices_.of({urgency::normal, urgency::normal, urgency::latest_only, urgency::now_or_never});
    if (n.how != urgency::latest_only) key.clear();
    n.key = event + '\0' + key;
    return n;
}

/// Says it by the function of its urgency, and whether it was refused.
template <class To>
bool model_emit(To& to, urgency how, const std::string& event, const std::string& data, const std::string& key) {
    try {
        switch (how) {
            case urgency::normal: to.emit(event, data); break;
            case urgency::now_or_never: to.emit_volatile(event, data); break;
            case urgency::latest_only: to.emit_latest(event, data, key); break;
        }
    } catch (const std::invalid_argument&) {
        return false;
    }
    return true;
}

inline void application::hand_to_many(const meant& m, const note& n) {
    const auto a = resolve(m);
    // A flush may have others relieved, which comes before what they are told then.
    for (const auto loop : a.loops) {
        if (server_->loop(loop).in_turn()) flush_as_a_delivery_would(loop);
    }
    for (const auto loop : a.loops) {
        on_loop(loop, [this, a, n, loop] {
            flush_as_a_delivery_would(loop);
            for (auto* const r : chosen(a, loop)) hand(*r, n);
        });
    }
}

inline void application::emit_to_many(record* me) {
    std::string event;
    std::string data;
    std::string key;
    auto n = any_note(event, data, key);
    n.is_for_many = true;
    auto m = any_meant(me);
    say("emits ", event, " ", data, " to ", m, ", urgency ", static_cast<std::size_t>(n.how));
    // What one of the protocols can carry is taken; who speaks the other misses it.
    const bool is_taken = is_name(event);
    if (is_taken) hand_to_many(m, n);
    require(model_emit(m.to, n.how, event, data, key) == is_taken, "emit(" + event + ") was refused, or not");
}

inline void application::emit_to_one(record* me) {
    std::string event;
    std::string data;
    std::string key;
    auto n = any_note(event, data, key);
    auto* const r = me != nullptr && choices_.below(2) == 0 ? me : any_record();
    if (r == nullptr) return;
    say("emits ", event, " ", data, " to ", r->id, ", urgency ", static_cast<std::size_t>(n.how));
    // What cannot be said is not noticed where nobody hears it any more.
    const bool is_taken = !words(*r, n).empty();
    if (!is_taken && !r->is_open()) return;
    if (is_taken) {
        on_loop(r->loop, [this, r, n] { hand_alone(*r, n); });
    }
    const bool by_reference = r == me && server_->loop(r->loop).in_turn() && choices_.below(2) == 0;
    const bool said =
        by_reference ? model_emit(*r->self, n.how, event, data, key) : model_emit(r->handle, n.how, event, data, key);
    require(said == is_taken, "emit(" + event + ") was refused, or not");
}

inline void application::message_to_many(record* me) {
    const bool is_binary = choices_.below(2) == 1;
    const auto data = text();
    auto m = any_meant(me);
    const bool as_text = !is_binary || !settings_.binary_messages;
    note n{native_frames(as_text, data), as_text ? "sent texts" : "sent binaries", {}, {}, true};
    n.is_for_many = true;
    say("messages ", data, " to ", m);
    hand_to_many(m, n);
    if (is_binary) {
        m.to.emit_message(as_bytes(data));
    } else {
        m.to.emit_message(data);
    }
}

inline void application::message_to_one(record* me) {
    const bool is_binary = choices_.below(2) == 1;
    const auto data = text();
    auto* const r = me != nullptr && choices_.below(2) == 0 ? me : any_record();
    if (r == nullptr) return;
    say("messages ", data, " to ", r->id);
    const bool by_reference = r == me && server_->loop(r->loop).in_turn();
    // A message_view keeps its kind, whatever the config says.
    const bool as_it_is = choices_.one_in(3);
    const bool as_text = as_it_is ? !is_binary : !is_binary || !settings_.binary_messages;
    const note n{native_frames(as_text, data), as_text ? "sent texts" : "sent binaries", {}, {}, true};
    on_loop(r->loop, [this, r, n] { hand_alone(*r, n); });
    const auto tell = [&](auto& to) {
        if (as_it_is) return to.emit_message(message_view{data, !is_binary});
        if (is_binary) return to.emit_message(as_bytes(data));
        to.emit_message(data);
    };
    if (by_reference) {
        tell(*r->self);
    } else {
        tell(r->handle);
    }
}

inline void application::join_one(record* me) {
    auto* const r = me != nullptr && choices_.below(3) != 0 ? me : any_record();
    if (r == nullptr) return;
    const auto room = choices_.below(3) != 2 ? any_room() : any_name();
    say(r->id, " joins ", room);
    const bool here = server_->loop(r->loop).in_turn();
    const bool taken = is_taken(room, *r);
    if (here) {
        const bool by_reference = r == me && choices_.below(2) == 0;
        bool joins = by_reference ? enters(*r, room) : is_reachable(*r);
        if (!by_reference && joins && !r->rooms.contains(room)) {
            joins = r->rooms.size() < settings_.max_rooms && !taken;
            if (joins) r->rooms.insert(room);
        }
        const bool did = by_reference ? r->self->join(room) : r->handle.join(room);
        require(did == joins, r->id + (did ? " joined " : " did not join ") + room);
        return;
    }
    const bool joins = is_reachable(*r) && !taken;
    if (joins) {
        ++pending_[room][r->loop];
        server_->loop(r->loop).post([this, r, room] {
            --pending_[room][r->loop];
            if (r->is_open() && r->rooms.size() < settings_.max_rooms) r->rooms.insert(room);
        });
    }
    require(r->handle.join(room) == joins, r->id + " joins " + room + " from outside, or does not");
}

inline void application::leave_one(record* me) {
    auto* const r = me != nullptr && choices_.below(3) != 0 ? me : any_record();
    if (r == nullptr) return;
    auto room = any_room();
    if (!r->rooms.empty() && choices_.below(3) != 0) room = *r->rooms.begin();
    say(r->id, " leaves ", room);
    if (server_->loop(r->loop).in_turn()) {
        const bool by_reference = r == me && choices_.below(2) == 0;
        const bool leaves = (by_reference ? r->is_open() : is_reachable(*r)) && r->rooms.contains(room);
        if (leaves) r->leaving.insert(room);
        const bool did = by_reference ? r->self->leave(room) : r->handle.leave(room);
        require(did == leaves, r->id + (did ? " left " : " did not leave ") + room);
        return;
    }
    const bool reaches = is_reachable(*r);
    if (reaches) {
        server_->loop(r->loop).post([r, room] {
            if (r->is_open() && r->rooms.contains(room)) r->leaving.insert(room);
        });
    }
    require(r->handle.leave(room) == reaches, r->id + " leaves " + room + " from outside, or does not");
}

inline void application::join_many(record* me) {
    auto m = any_meant(me);
    const auto room = choices_.below(3) != 2 ? any_room() : any_name();
    const auto a = resolve(m);
    say(m, " join ", room);
    for (const auto loop : a.loops) {
        ++pending_[room][loop];
        on_loop(loop, [this, a, loop, room] {
            for (auto* const r : chosen(a, loop)) enters(*r, room);
        });
    }
    m.to.join(room);
    for (const auto loop : a.loops) on_loop(loop, [this, room, loop] { --pending_[room][loop]; });
}

inline void application::leave_many(record* me) {
    auto m = any_meant(me);
    const auto room = any_room();
    const auto a = resolve(m);
    say(m, " leave ", room);
    std::vector<std::pair<std::size_t, std::function<void()>>> told;
    // What handlers do on this loop may reach the others before this does, and change who is meant there.
    const bool reaches_others_late =
        a.loops.size() > 1 &&
        std::any_of(a.loops.begin(), a.loops.end(), [this](std::size_t loop) { return server_->loop(loop).in_turn(); });
    for (const auto loop : a.loops) {
        const auto who = std::make_shared<std::vector<record*>>();
        const auto before = std::make_shared<std::size_t>(0);
        const bool is_late = reaches_others_late && !server_->loop(loop).in_turn();
        on_loop(loop, [this, a, loop, room, who, before, is_late] {
            *who = chosen(a, loop);
            for (auto& r : records_) {
                if (r.loop == loop && (is_late || std::find(who->begin(), who->end(), &r) != who->end()))
                    r.leaving.insert(room);
            }
            *before = acts_done_;
        });
        told.emplace_back(loop, [this, room, who, before] {
            for (auto* const r : *who) {
                // Whoever was in is out, unless a handler has changed it meanwhile.
                require(*before != acts_done_ || !r->rooms.contains(room), r->id + " is still in " + room);
            }
        });
    }
    const auto acts_before = acts_done_;
    m.to.leave(room);
    // A handler that ran meanwhile has posted things of its own before this.
    if (acts_before != acts_done_) return;
    for (auto& [loop, check] : told) on_loop(loop, std::move(check));
}

inline void application::disconnect_many(record* me) {
    auto m = any_meant(me);
    const auto code = choices_.of({1000U, 1001U, 1011U, 3000U, 4999U});
    const std::string reason = choices_.of<const char*>({"", "enough", "auf Wiederh\xC3\xB6ren"});
    const auto a = resolve(m);
    say("disconnects ", m, " with ", static_cast<std::size_t>(code));
    for (const auto loop : a.loops) {
        on_loop(loop, [this, a, loop, code, reason] {
            for (auto* const r : chosen(a, loop)) {
                r->causes.push_back({code, "by_server", reason});
                r->must_end = true;
            }
        });
    }
    m.to.disconnect(static_cast<close_code>(code), reason);
}

inline void application::disconnect_one(record* me) {
    auto* const r = me != nullptr && choices_.below(3) != 0 ? me : any_record();
    if (r == nullptr) return;
    const auto code = choices_.of({1000U, 1001U, 1011U, 3000U, 4999U});
    const std::string reason = choices_.of<const char*>({"", "enough", "auf Wiederh\xC3\xB6ren"});
    say("disconnects ", r->id, " with ", static_cast<std::size_t>(code));
    on_loop(r->loop, [r, code, reason] {
        if (!r->is_open()) return;
        r->causes.push_back({code, "by_server", reason});
        r->must_end = true;
    });
    if (r == me && server_->loop(r->loop).in_turn() && choices_.below(2) == 0) {
        r->self->disconnect(static_cast<close_code>(code), reason);
        require(!r->self->is_connected(), r->id + " is connected after disconnect()");
    } else {
        r->handle.disconnect(static_cast<close_code>(code), reason);
    }
}

inline void application::run_on_one() {
    auto* const r = any_record();
    if (r == nullptr) return;
    say("runs something on ", r->id);
    const auto did = std::make_shared<int>(-1);
    on_loop(r->loop, [r, did] { *did = r->is_open() ? 1 : 0; });
    r->handle.run([this, r, did](connection& c) {
        require(*did == 1 && &c == static_cast<connection*>(r->self), "run() ran for " + r->id + ", which is gone");
        *did = 0;
        acts(r);
    });
    on_loop(r->loop, [this, r, did] { require(*did == 0, "run() did not run for " + r->id); });
}

inline void application::keep_or_drop_a_handle() {
    if (kept_.size() > 4 || (!kept_.empty() && choices_.below(2) == 0)) {
        kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(choices_.below(kept_.size())));
    } else if (auto* const r = any_record()) {
        kept_.emplace_back(r, r->handle);
    }
    for (auto& [r, handle] : kept_) {
        require(handle.id() == r->id && handle.is_connected() == is_reachable(*r),
                "the handle of " + r->id + " does not know");
        // Nobody hears it where the connection is gone; where it is not, emit_to_one() does the same.
        if (!handle.is_connected() && !r->is_open()) {
            handle.emit("e", "into the void");
            handle.disconnect();
            require(!handle.join("r0") && !handle.leave("r0"), "a handle of " + r->id + ", which is gone, joins");
        }
    }
}

inline void application::ping_self(record& me) {
    const auto data = "p" + std::to_string(++sequence_);
    say("pings ", me.id, " ", data);
    note n{both(server_frame(0x89, data)), "sent pings"};
    n.is_control = true;
    hand_alone(me, n);
    me.self->ping(as_bytes(data));
}

inline question& application::any_question(record* r) {
    using std::chrono::milliseconds;
    questions_.push_back({r, choices_.of<const char*>({"quote", "quote", "vote", "a;b", "a\nb\\"}), text()});
    auto& q = questions_.back();
    if (choices_.one_in(32)) q.name = choices_.of<const char*>({"", "\xFF"});
    q.timeout = choices_.of<core::millis>({1000, 5000, 30, 100, 300});
    return q;
}

/// By ask(asked type, callback).
template <class Ask>
void application::ask_as_it_wants(const Ask& ask, question& q) {
    const auto token = std::make_shared<int>(0);
    q.alive = token;
    const auto end = [this, &q, token](error_code why, const std::string& result) {
        is_over(q, why, why ? told(why) : result);
        acts(q.of);
    };
    using wanted = answer<int>;
    switch (q.wants) {
        case question::what::number: return ask(int{}, [end](error_code why, int n) { end(why, std::to_string(n)); });
        case question::what::number_or_refusal:
            return ask(wanted{}, [end](error_code why, const wanted& a) {
                end(why, a ? std::to_string(*a) : "refused: " + a.why());
            });
        case question::what::nothing: return ask(nullptr, [end](error_code why) { end(why, "done"); });
    }
}

inline void application::ask_one(record* me) {
    auto* const r = me != nullptr && choices_.below(2) == 0 ? me : any_record();
    if (r == nullptr) return;
    auto& q = any_question(r);
    q.wants = choices_.of({question::what::number, question::what::number_or_refusal, question::what::nothing});
    say("asks ", r->id, " for ", q.name, " ", q.data, " within ", static_cast<std::size_t>(q.timeout));
    on_loop(r->loop, [this, &q] { put(q); });
    const bool by_reference = r == me && server_->loop(r->loop).in_turn() && choices_.below(2) == 0;
    const std::chrono::milliseconds timeout{q.timeout};
    const auto before = std::exchange(asking_, &q);
    ask_as_it_wants(
        [&]<class T, class Done>(T, Done done) {
            using wanted = std::conditional_t<std::is_same_v<T, std::nullptr_t>, void, T>;
            if (by_reference)
                r->self->template ask<wanted>(q.name, q.data, timeout, std::move(done));
            else
                r->handle.template ask<wanted>(q.name, q.data, timeout, std::move(done));
        },
        q);
    asking_ = before;
}

inline void application::ask_many(record* me) {
    auto m = any_meant(me);
    const auto like = any_question(nullptr);
    questions_.pop_back();
    // Nobody is told when one of many times out, so it must not matter where few may be open.
    const auto timeout = settings_.max_requests < 1000 ? core::millis{3'600'000} : like.timeout;
    say("asks ", m, " for ", like.name, " ", like.data, " within ", static_cast<std::size_t>(timeout));
    // Who is asked on this loop may be the one too many that has those cut for whom most waits, before the others are asked.
    if (max_waiting_ != 0 && server_->loop_count() > 1 && is_in_turn()) return;
    auto& s = surveys_.emplace_back();
    s.home = m.not_me != nullptr ? m.not_me->loop : 0;
    const bool is_taken = is_name(like.name);
    if (is_taken) {
        const auto a = resolve(m);
        for (const auto loop : a.loops) {
            on_loop(loop, [this, a, loop, like, timeout, &s] {
                // Who is asked before leaves the buffer to who is asked after.
                server_->loop(loop).flush_all();
                // Whom the call has found and who is gone by now is told as missing.
                for (auto* const r : chosen(a, loop, true)) {
                    auto& q = questions_.emplace_back(like);
                    q.of = r;
                    q.timeout = timeout;
                    q.is_of_many = true;
                    put(q);
                    s.members.push_back(&q);
                }
            });
        }
    }
    const auto token = std::make_shared<int>(0);
    s.alive = token;
    const auto before = std::exchange(asking_, &s);
    bool is_said = true;
    try {
        m.to.ask<int>(like.name, like.data, std::chrono::milliseconds{timeout},
                      [this, &s, token](const ask_results<int>& told_to_us) {
                          std::multiset<std::string> results;
                          for (const auto& one : told_to_us.answers)
                              results.insert(one.id + " " + std::to_string(one.value));
                          for (const auto& one : told_to_us.missing) results.insert(one.id + " " + told(one.why));
                          survey_is_over(s, std::move(results));
                          acts(nullptr, false);
                      });
    } catch (const std::invalid_argument&) {
        is_said = false;
        s.is_over = true;
    }
    asking_ = before;
    require(is_said == is_taken, "ask(" + like.name + ") was refused, or not");
}

inline void application::add_handler(record& r) {
    auto& h = r.own.emplace_back();
    h.what = choices_.of({hears::event, hears::message, hears::ping, hears::leave, hears::disconnect, hears::error,
                          hears::any, hears::pong, hears::drain});
    const auto token = std::make_shared<int>(0);
    h.alive = token;
    auto& c = *r.self;
    const auto run = [this, &r, &h, token](std::string_view text) { run_own(r, h, text); };
    switch (h.what) {
        case hears::event: h.id = c.on("e", [run](const std::string& data) { run(data); }); break;
        case hears::any: h.id = c.on_any([run](const event_view& e) { run(e.data); }); break;
        case hears::message: h.id = c.on_message([run](message_view m) { run(m.data); }); break;
        case hears::ping: h.id = c.on_ping([run](bytes_view data) { run(as_text(data)); }); break;
        case hears::pong: h.id = c.on_pong([run](bytes_view data) { run(as_text(data)); }); break;
        case hears::drain: h.id = c.on_drain([run] { run(""); }); break;
        case hears::leave: h.id = c.on_leave([run](std::string_view room) { run(room); }); break;
        case hears::disconnect:
            h.id = c.on_disconnect([run](close_code, std::string_view reason) { run(reason); });
            break;
        case hears::error: h.id = c.on_error([run](const error_report& e) { run(e.code.message()); }); break;
    }
}

/// Those that hear it are added and removed, also while they run.
inline void application::change_handlers(record* me) {
    auto* const r = me != nullptr && choices_.below(3) != 0 ? me : any_open();
    if (r == nullptr || !r->is_open() || !server_->loop(r->loop).in_turn()) return;
    std::vector<own_handler*> there;
    for (auto& h : r->own) {
        if (!h.is_removed) there.push_back(&h);
    }
    const auto what = choices_.below(8);
    if (what == 7) {
        say(r->id, " has no handlers of e any more");
        for (auto* const h : there) h->is_removed = h->is_removed || h->what == hears::event;
        r->self->off("e");
    } else if (there.size() < 6 && (what < 5 || there.empty())) {
        add_handler(*r);
        say(r->id, " has one more handler of ", static_cast<std::size_t>(r->own.back().what));
    } else {
        auto& h = *there[choices_.below(there.size())];
        say(r->id, " has one handler less of ", static_cast<std::size_t>(h.what));
        h.is_removed = true;
        require(r->self->off(h.id), r->id + " does not know its handler");
        require(!r->self->off(h.id), r->id + " has removed a handler twice");
        count("removed own handlers");
    }
}

/// One of a connection's own handlers runs.
inline void application::run_own(record& r, own_handler& h, std::string_view text) {
    const auto runs = r.id + "'s own handler runs ";
    require(!h.is_removed, runs + "and was removed");
    require(r.is_open() || is_to_the_end(h.what), runs + "and it is over");
    for (; !r.rounds.empty(); r.rounds.pop_back()) {
        auto& due = r.rounds.back().due;
        std::erase_if(due, [](const auto* each) { return each->is_removed; });
        if (!due.empty() && due.front() == &h) break;
        require(due.empty() || may_be_cut_short(r, r.rounds.back()), runs + "before another's turn");
    }
    if (r.rounds.empty()) return require(false, runs + "out of turn");
    auto& now = r.rounds.back();
    require(now.text == text, runs + "with " + detail::printable(text) + " instead of " + detail::printable(now.text));
    now.due.erase(now.due.begin());
    count("ran own handlers");
    if (!now.is_quiet) acts(&r);
}

/// At rest, all have run.
inline void application::end_rounds(record& r) {
    for (auto& one : r.rounds) {
        for (auto* const h : one.due)
            require(h->is_removed || may_be_cut_short(r, one), r.id + "'s own handler did not run");
    }
    r.rounds.clear();
    const bool is_gone = r.is_over || !r.peer;
    for (auto& h : r.own)
        require(h.alive.expired() == (h.is_removed || is_gone), r.id + "'s own handler is kept, or is not");
    if (is_gone) r.own.clear();
    std::erase_if(r.own, [](const auto& h) { return h.is_removed; });
}

inline void application::act(record* me) {
    ++acts_done_;
    ++depth_;
    if (has_own_handlers_ && choices_.below(6) == 1) {
        change_handlers(me);
        --depth_;
        return;
    }
    switch (choices_.below(24)) {
        case 0:
        case 1:
        case 2:
        case 3: emit_to_many(me); break;
        case 4:
        case 5:
        case 6: emit_to_one(me); break;
        case 7: message_to_many(me); break;
        case 8:
        case 9: message_to_one(me); break;
        case 10:
        case 11:
        case 12: join_one(me); break;
        case 13: leave_one(me); break;
        case 14: join_many(me); break;
        case 15: leave_many(me); break;
        case 16:
            if (const auto n = choices_.below(16); n > 12) {
                disconnect_one(me);
            } else if (n == 12) {
                disconnect_many(me);
            }
            break;
        case 17: run_on_one(); break;
        case 18: keep_or_drop_a_handle(); break;
        case 19:
        case 20:
        case 21: ask_one(me); break;
        case 22: ask_many(me); break;
        default:
            if (me != nullptr && me->is_open() && server_->loop(me->loop).in_turn()) ping_self(*me);
            break;
    }
    --depth_;
}

/// What a handler does.
inline void application::acts(record* me, bool may_throw) {
    // Where others get their turn, all that this one has said has been served.
    if (depth_ == 0 && speaking_ != nullptr && speaking_ != me && speaking_->is_open()) catch_up(*speaking_);
    if (depth_ > 3 || stops_talking_) return;
    for (auto n = choices_.of<std::size_t>({0, 0, 0, 1, 1, 2}); n != 0; --n) act(me);
    if (!may_throw) return;
    const auto thrown = choices_.below(40);
    if (thrown < 38) return;
    ++due_report(errc::handler_threw);
    say(me->id, "'s handler throws");
    if (thrown == 38) throw std::runtime_error{"planned"};
    throw 7;
}

}  // namespace arke::test::modelling
