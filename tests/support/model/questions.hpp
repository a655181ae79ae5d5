#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "tests/support/model/deliveries.hpp"

namespace arke::test::modelling {

/// What the server asks its clients, from the call until it is over.
class questions : public deliveries {
protected:
    using deliveries::deliveries;

    static std::string told(errc what) { return "error " + std::to_string(static_cast<int>(what)); }
    static std::string told(const error_code& why) { return "error " + std::to_string(why.value()); }

    /// What who asks is told of a reply.
    static std::string told(const question& q, const reply& by) {
        if (by.refused == errc::refused && q.wants == question::what::number_or_refusal) return "refused: " + by.data;
        if (by.refused) return told(*by.refused);
        if (q.wants == question::what::nothing) return "done";
        const bool is_number = by.data.find_first_not_of("0123456789") == std::string::npos;
        return is_number ? by.data : told(errc::bad_answer);
    }

    /// Says what becomes of it, right before the core does it.
    void put(question& q);

    /// Whether an answer would still be taken. What is asked of many times out without a word.
    bool is_open(const record& r, std::uint32_t id) {
        const auto found = r.open_questions.find(id);
        if (found == r.open_questions.end()) return false;
        const auto& q = *found->second;
        return !q.is_of_many || !must_have_timed_out(q);
    }
    bool must_have_timed_out(const question& q) { return now(*q.of) >= std::max(q.due + ticks, in_time_from_); }
    bool may_have_timed_out(const question& q) { return q.is_of_many && now(*q.of) >= q.due; }

    /// Nobody can say whether those have timed out yet.
    bool is_unclear(const record& r) {
        for (const auto& [id, q] : r.open_questions) {
            if (may_have_timed_out(*q) && is_open(r, id)) return true;
        }
        return false;
    }

    /// One of many is over, which is told later.
    void keep(question& q, std::string result) {
        q.of->open_questions.erase(q.id);
        q.is_over = true;
        q.result = std::move(result);
    }

    void survey_is_over(survey& s, std::multiset<std::string> results);
    void check_questions();

    static constexpr core::millis ticks = 48;  // three of the wheel
};

inline void questions::put(question& q) {
    auto& r = *q.of;
    const auto fail = [&q](errc why) {
        q.fails = why;
        q.result = told(why);
        q.is_over = q.is_of_many;
    };
    if (!r.is_open()) return fail(errc::disconnected);
    if (!r.is_v1 || !is_name(q.name)) return fail(errc::not_deliverable);
    if (r.open_questions.size() >= settings_.max_requests) return fail(errc::too_many_requests);
    note n{only_v1(request_frame(r.next_question, q.name, q.data)), "sent requests"};
    n.asks = r.next_question;
    // Whether it would find room is asked of its plain form.
    if (settings_.on_overflow != overflow::close) flush_as_one_send_would(r, n, n.in[1]);
    sample(r);
    if (settings_.on_overflow != overflow::close && r.peer->is_lagging() && !has_room_for(r, n.in[1].size()))
        return fail(errc::outbox_full);
    q.is_put = true;
    q.id = r.next_question++;
    q.due = now(r) + q.timeout;
    r.open_questions[q.id] = &q;
    hand_alone(r, n);
}

inline void questions::survey_is_over(survey& s, std::multiset<std::string> results) {
    require(!s.is_over, "the answers of many are told twice");
    s.is_over = true;
    require(&s != asking_, "the answers of many are told within the call that asks");
    require(server_->loop(s.home).in_turn(), "the answers of many are told on another loop");
    count("asked many");
    for (auto* const q : s.members) {
        if (!q->is_over && may_have_timed_out(*q)) keep(*q, told(errc::ask_timeout));
        auto found = results.find(q->of->id + " " + q->result);
        if (found == results.end() && q->may_have_timed_out)
            found = results.find(q->of->id + " " + told(errc::ask_timeout));
        require(q->is_over && found != results.end(),
                "the answers of many have no \"" + q->result + "\" of " + q->of->id);
        if (found != results.end()) results.erase(found);
    }
    require(results.empty(), "the answers of many have too much: " + (results.empty() ? "" : *results.begin()));
}

/// At rest.
inline void questions::check_questions() {
    for (auto& q : questions_) {
        if (q.is_over) continue;
        require(q.is_put && q.of->is_open() && q.of->open_questions.contains(q.id),
                "a request to " + q.of->id + " was never over");
        require(q.is_of_many || !must_have_timed_out(q), "a request to " + q.of->id + " did not time out");
    }
    for (auto& s : surveys_) {
        bool is_waiting = false;
        for (auto* const q : s.members) is_waiting = is_waiting || (!q->is_over && is_open(*q->of, q->id));
        require(s.is_over || is_waiting, "many were asked, and their answers are never told");
    }
}

}  // namespace arke::test::modelling
