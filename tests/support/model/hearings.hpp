#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/model/questions.hpp"

namespace arke::test::modelling {

/// What the application is to hear of each client.
class hearings : public questions {
protected:
    using questions::questions;

    /// It is heard, and was to be.
    hearing heard(record& r, std::string_view kind, std::string_view text);

    /// A request is over, as who asked is told.
    void is_over(question& q, error_code why, const std::string& result);

    /// What the core has done with the words of this client without telling anybody. Before the model takes notice of anything
    /// else that its words have caused.
    void catch_up(record& r) { catch_up(r, false); }

    /// The same, of one whose outbox is full: by an answer that nobody heard of?
    bool is_full_by_itself(record& r);

    /// Where the client leaves a room by itself.
    bool is_leaving(const record& r, std::string_view room) const {
        return speaking_ == &r && depth_ == 0 && r.is_open() && !r.incoming.empty() &&
               r.incoming.front().kind == std::string_view{"leave"} && r.incoming.front().text == room;
    }

    /// By flood::slow: so much has been handed on by now, and that is no more than may be.
    void note_handed(record& r, std::size_t end, std::size_t whole);

    /// By flood::slow: all that was said is heard in its time.
    void check_held(record& r);

private:
    void catch_up(record& r, bool while_it_fits);

    core::millis time_for(std::size_t bytes, std::size_t whole) const {
        const auto by = bytes_bound();
        const auto of = frames_bound();
        core::millis time = 0;
        if (by.per_second != 0) time += static_cast<core::millis>(bytes) * 1000 / by.per_second;
        if (of.per_second != 0) time += static_cast<core::millis>(whole) * (1000 / of.per_second + ticks);
        return time;
    }

    /// It has come, compressed or not.
    void note_inflated(const hearing& h) {
        if (h.deflated == 0) return;
        ++expected_["received compressed"];
        expected_["received compressed_bytes"] += h.deflated;
        expected_["received inflated_bytes"] += h.inflated;
        count("inflated");
    }

    /// What the core sends before it tells, or without telling.
    static std::string sent_before(const hearing& h) {
        const std::string_view kind = h.kind;
        if (kind == "ping") return server_frame(0x8A, h.text);
        if (kind == "unhandled" && h.asked) return refusal_frame(*h.asked, "unhandled", "");
        if (kind == "leave") return refusal_frame(*h.asked, "refused", "");
        return {};
    }
};

inline void hearings::catch_up(record& r, bool while_it_fits) {
    for (; !r.incoming.empty(); note_inflated(r.incoming.front()), r.incoming.pop_front()) {
        const auto& next = r.incoming.front();
        const std::string_view kind = next.kind;
        if (kind == "unknown") {
            expected_["unknown messages"] += next.text == "q" ? 0 : 1;
        } else if (kind == "answer") {
            const auto id = next.replies->id;
            if (is_open(r, id)) {
                auto& q = *r.open_questions[id];
                if (!q.is_of_many) return;
                keep(q, told(q, *next.replies));
            } else {
                ++expected_["dropped late_answers"];
                count("answered late");
            }
            ++expected_["received answers"];
        } else if (kind == "leave" && !r.asked_rooms.contains(next.text)) {
            const auto frame = sent_before(next);
            if (while_it_fits && !has_room_for(r, by_itself(r, frame).size())) return;
            expect(r, frame, "sent answers");
            ++expected_["received requests"];
            count("refused to leave");
        } else {
            return;
        }
    }
}

inline void hearings::note_handed(record& r, std::size_t end, std::size_t whole) {
    const auto flows = [&](bucket& b, const bound& by, std::size_t more, const char* of_what) {
        if (by.per_second == 0) return;
        // All of it has come since the last time, and not all of it now.
        const auto level = b.level + static_cast<std::int64_t>(more) * 1000 - by.per_second * (now(r) - b.at);
        b.level = std::max<std::int64_t>(0, level);
        b.at = now(r);
        require(b.level <= by.burst * 1000, r.id + " is heard with more " + of_what + " than may be");
    };
    if (end > r.handed) flows(r.bytes_bucket, bytes_bound(), end - r.handed, "bytes");
    if (whole > r.frames_handed) flows(r.frames_bucket, frames_bound(), whole - r.frames_handed, "frames");
    r.handed = std::max(r.handed, end);
    r.frames_handed = std::max(r.frames_handed, whole);
    r.handed_at = now(r);
}

inline void hearings::check_held(record& r) {
    constexpr core::millis late = 400;
    if (r.hung_up_at) {
        const auto rest = time_for(r.outbound_begin - r.handed, r.frames_said - r.frames_handed);
        require(now(r) < std::max(r.handed_at, *r.hung_up_at) + rest + late, r.id + " hung up and is open");
    } else if (!r.incoming.empty()) {
        const auto& next = r.incoming.front();
        const auto due = time_for(next.end - r.handed, next.frames - r.frames_handed);
        require(now(r) < std::max(r.handed_at, next.sent_at) + due + late,
                r.id + " was slowed and is not heard: " + next.kind);
    }
}

inline bool hearings::is_full_by_itself(record& r) {
    // What is held back comes at any time. Who is cut, because others need the memory, is closed without more.
    const bool may_be_cut = max_waiting_ != 0 && r.client->stream().is_closed;
    if (speaking_ != &r && (!slows() || may_be_cut)) return false;
    catch_up(r, true);
    if (r.incoming.empty()) return false;
    const auto& next = r.incoming.front();
    const bool is_ping = next.kind == std::string_view{"ping"};
    const auto frame = sent_before(next);
    if (frame.empty() || (is_ping && settings_.on_overflow == overflow::drop) ||
        has_room_for(r, by_itself(r, frame).size() + 2))  // an automatic ping may stand before it that nobody has seen
        return false;
    if (next.asked) ++expected_["received requests"];
    note_inflated(next);
    return true;
}

inline hearing hearings::heard(record& r, std::string_view kind, std::string_view text) {
    say(r.id, " was heard: ", kind, " ", text);
    if (speaking_ == &r) catch_up(r);
    require(r.is_open() && !r.is_over, r.id + " is heard and is gone: " + std::string{kind});
    if (r.incoming.empty()) {
        require(false, r.id + " is heard and was silent: " + std::string{kind});
        return {"", ""};
    }
    auto due = std::move(r.incoming.front());
    r.incoming.pop_front();
    note_inflated(due);
    if (slows()) {
        r.last_heard = now(r);
        note_handed(r, due.end, due.frames);
    }
    require(due.kind == kind && due.text == text, "heard of " + r.id + ": " + std::string{kind} + " " +
                                                      detail::printable(text) + " instead of " + due.kind + " " +
                                                      detail::printable(due.text));
    count((due.asked ? "asked " : "heard ") + std::string{kind});
    if (due.asked)
        ++expected_["received requests"];
    else if (kind == "event" || kind == "number" || kind == "wrong type" || kind == "unhandled")
        ++expected_["received events"];
    if (kind == "unhandled" && due.asked) expect(r, sent_before(due), "sent answers");
    return due;
}

inline void hearings::is_over(question& q, error_code why, const std::string& result) {
    auto& r = *q.of;
    say(r.id, "'s request is over: ", result);
    require(!q.is_over, "a request to " + r.id + " is over twice");
    require(&q != asking_, "a request to " + r.id + " is over within the call that asks");
    require(server_->loop(r.loop).in_turn(), "a request to " + r.id + " is over on another loop");
    q.is_over = true;
    count("request over: " + (why ? why.message() : std::string{"answered"}));
    if (q.fails)
        return require(result == q.result, r.id + "'s request is over with " + result + " instead of " + q.result);
    require(q.is_put, "a request to " + r.id + " is over before it was put");
    if (why == errc::disconnected) {
        require(!r.is_open() && !r.is_over, r.id + "'s request is over as if it were gone");
    } else if (why == errc::ask_timeout) {
        require(r.is_open() && now(r) >= q.due, r.id + "'s request timed out too early");
    } else {
        const auto by = heard(r, "answer", std::to_string(q.id)).replies;
        if (!by) return;
        ++expected_["received answers"];
        require(is_open(r, q.id) && result == told(q, *by), r.id + "'s request is over with " + result);
    }
    require(r.open_questions.erase(q.id) == 1, "a request to " + r.id + " was not open");
}

}  // namespace arke::test::modelling
