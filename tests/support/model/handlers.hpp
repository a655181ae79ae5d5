#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/model/application.hpp"

namespace arke::test::modelling {

/// What the application hears, which is held against what is expected; in most handlers it acts too.
class handlers : public application {
protected:
    handlers(std::span<const std::uint8_t> bytes, bool traced) : application{bytes, traced} { listen(); }

private:
    void listen();
    void agree(record& r);
    void over(connection_type& c, close_code code, std::string_view reason);

    /// What a handler does that may be asked: whoever asked hears that it failed.
    void acts_for(record& r, const hearing& due) {
        try {
            acts(&r);
        } catch (const std::exception& e) {
            if (due.asked) failed_ = failure{&r, *due.asked, e.what()};
            throw;
        } catch (...) {
            if (due.asked) failed_ = failure{&r, *due.asked, ""};
            throw;
        }
    }

    /// When the endpoint's handler has ended, however it has, those of the connection have their turn.
    class then_own {
    public:
        then_own(record& r, hears what, std::string_view text, bool is_quiet = false)
            : of_{r}, round_{what, std::string{text}, is_quiet, {}, what == hears::error && r.is_over} {}
        then_own(const then_own&) = delete;
        then_own& operator=(const then_own&) = delete;
        ~then_own() {
            for (auto& h : of_.own) {
                if (h.what == round_.what && !h.is_removed) round_.due.push_back(&h);
            }
            if (!round_.due.empty()) of_.rounds.push_back(std::move(round_));
        }

    private:
        record& of_;
        round round_;
    };

    struct failure {
        record* of;
        std::uint32_t id;
        std::string text;
    };
    std::optional<failure> failed_;  // until it is reported
};

inline void handlers::listen() {
    auto& s = *server_;
    s.on_connection([this](connection_type& c) {
        c.session() = std::make_shared<int>(static_cast<int>(records_.size()));
        auto& r = records_.emplace_back();
        r.id = c.id();
        r.client = &server_->clients().back();
        r.self = &c;
        r.peer = server_->hub().find(c.id());
        r.handle = c.handle();
        r.alive = c.session();
        r.loop = r.peer->on_loop().index();
        r.last_heard = now(r);
        r.is_v1 = connecting_speaks_v1_;
        r.client->stream().room = connecting_room_;
        agree(r);
        r.bytes_bucket = {slows() ? 0 : bytes_bound().burst * 1000, now(r)};
        r.frames_bucket = {slows() ? 0 : frames_bound().burst * 1000, now(r)};
        r.handed_at = now(r);
        ids_[r.id] = &r;
        connecting_ = &r;
        count("connected");
        acts(&r);
    });
    s.on("e", [this](connection& c, const std::string& data) {
        auto& r = of(c);
        const auto due = heard(r, "event", data);
        // Whoever asked hears of it when all have run: they add nothing to it.
        const then_own next{r, hears::event, data, due.asked.has_value()};
        acts_for(r, due);
        if (due.asked) expect_answer(r, *due.asked, 'v', "");
    });
    s.on("n", [this](connection& c, int number) {
        auto& r = of(c);
        const auto due = heard(r, "number", std::to_string(number));
        if (due.asked) expect_answer(r, *due.asked, 'v', "");
    });
    s.on("echo", [this](connection& c, const std::string& data) {
        auto& r = of(c);
        const auto due = heard(r, "echo", data);
        acts_for(r, due);
        if (due.asked) expect_answer(r, *due.asked, 's', data);
        return data;
    });
    s.on("odd", [this](connection& c, int number) -> answer<bool> {
        auto& r = of(c);
        const auto due = heard(r, "odd", std::to_string(number));
        acts_for(r, due);
        const bool refuses = number % 3 == 0;
        if (due.asked && refuses) expect_refusal(r, *due.asked, "refused", "threes");
        if (due.asked && !refuses) expect_answer(r, *due.asked, 'b', number % 2 == 1 ? "true" : "false");
        if (refuses) return refuse("threes");
        return number % 2 == 1;
    });
    if (has_own_handlers_) {
        s.on_any([this](connection& c, const event_view& e) {
            auto& r = of(c);
            heard(r, "unhandled", "");
            const then_own next{r, hears::any, e.data};
            acts(&r);
        });
    }
    s.on_join([this](connection& c, std::string_view room) -> answer<> {
        auto& r = of(c);
        const std::string name{room};
        const auto due = heard(r, "join", name);
        acts_for(r, due);
        if (!due.asked) return {};
        if (choices_.one_in(4)) {
            expect_refusal(r, *due.asked, "refused", "no");
            return refuse("no");
        }
        // It enters when this has returned.
        if (enters(r, name)) {
            r.asked_rooms.insert(name);
            expect_answer(r, *due.asked, 'v', "");
        } else {
            expect_refusal(r, *due.asked, "refused", "");
        }
        return {};
    });
    s.on_message([this](connection& c, message_view m) {
        auto& r = of(c);
        heard(r, m.is_text ? "text" : "binary", m.data);
        const then_own next{r, hears::message, m.data};
        acts(&r);
    });
    s.on_ping([this](connection& c, bytes_view data) {
        auto& r = of(c);
        heard(r, "ping", as_text(data));
        const then_own next{r, hears::ping, as_text(data)};
        // The pong was sent just before, unless one waits already.
        if (!r.pong_waits) {
            expect(r, server_frame(0x8A, as_text(data)), "sent pongs");
        }
        if (r.is_open() && r.peer->is_lagging()) r.pong_waits = true;
        acts(&r);
    });
    s.on_pong([this](connection& c, bytes_view data) {
        auto& r = of(c);
        heard(r, "pong", as_text(data));
        const then_own next{r, hears::pong, as_text(data)};
        acts(&r);
    });
    s.on_drain([this](connection& c) {
        auto& r = of(c);
        parse(r);
        require(r.is_open() && !r.is_over, r.id + " drained, and is gone");
        require(r.was_lagging, r.id + " drained, and had taken everything before");
        require(c.buffered_amount() == 0 && waiting(r) == 0, r.id + " drained, and something waits");
        r.pong_waits = false;
        r.was_lagging = false;
        ++r.drains;
        count("drained");
        const then_own next{r, hears::drain, ""};
        acts(&r);
    });
    s.on_leave([this](connection& c, std::string_view room) {
        auto& r = of(c);
        const std::string name{room};
        say(r.id, " left ", name);
        require(!r.is_over, r.id + " left " + name + " after on_disconnect");
        if (speaking_ == &r && depth_ == 0 && r.is_open()) catch_up(r);
        std::optional<std::uint32_t> asked;
        if (is_leaving(r, name)) {
            asked = heard(r, "leave", name).asked;
        } else if (r.is_open()) {
            const auto due = r.leaving.find(name);
            require(due != r.leaving.end(), r.id + " left " + name + ", and nobody said so");
            if (due != r.leaving.end()) r.leaving.erase(due);
        }
        require(r.rooms.erase(name) == 1, r.id + " left " + name + ", and was not in it");
        r.asked_rooms.erase(name);
        const then_own next{r, hears::leave, name, asked.has_value()};
        if (!asked) return acts(&r);
        // Whoever asked has left, whatever its handler does.
        try {
            acts(&r);
        } catch (...) {
            expect_answer(r, *asked, 'v', "");
            throw;
        }
        expect_answer(r, *asked, 'v', "");
    });
    s.on_disconnect([this](connection_type& c, close_code code, std::string_view reason) { over(c, code, reason); });
    s.on_error([this](connection& c, const error_report& e) {
        auto& r = of(c);
        require(!r.is_over || e.code == errc::handler_threw,
                r.id + " reported after on_disconnect: " + e.code.message());
        require(e.code.category() == category(), "a report of a foreign category");
        const auto what = static_cast<errc>(e.code.value());
        say(r.id, " reports ", e.code.message());
        const then_own next{r, hears::error, e.code.message(), true};
        switch (what) {
            case errc::malformed_event: heard(r, "malformed", ""); break;
            case errc::wrong_type:
                if (const auto due = heard(r, "wrong type", ""); due.asked)
                    expect_refusal(r, *due.asked, "wrong-type", std::string{e.detail});
                break;
            case errc::handler_threw:
                if (const auto by = std::exchange(failed_, {}))
                    expect_refusal(*by->of, by->id, "failed", settings_.reveal_exceptions ? by->text : "");
                break;
            case errc::unhandled_event: heard(r, "unhandled", ""); break;
            case errc::pong_timeout:
                require(now(r) - r.last_heard >= settings_.pong_timeout.count(), r.id + " timed out and has spoken");
                require(slows() || r.pings_seen + r.pings_unseen != r.pings_before_silence,
                        r.id + " timed out and was not asked");
                r.causes.push_back({1006, "pong_timeout"});
                r.cut_off = true;
                break;
            case errc::write_timeout:
                require(now(r) - r.progress >= settings_.write_timeout.count() - step,
                        r.id + " timed out and has read");
                r.causes.push_back({1006, "write_timeout"});
                r.cut_off = true;
                break;
            case errc::outbox_full:
                // What is sent before it is heard of, as a pong, is written down only then.
                if (!r.too_slow && is_full_by_itself(r)) {
                    r.causes.push_back({1013, "outbox_full", "too slow"});
                    r.too_slow = true;
                }
                if (!r.too_slow && max_waiting_ != 0) {
                    count("relieved");
                    r.causes.push_back({1013, "outbox_full", "too slow"});
                    r.cut_off = true;
                }
                break;
            default: break;
        }
        ++expected_["reported " + std::to_string(e.code.value())];
        if (choices_.one_in(64)) throw std::runtime_error{"planned, in on_error"};
    });
}

/// What the handshake makes of the client's offer.
inline void handlers::agree(record& r) {
    const auto& offer = connecting_offer_;
    const auto& ready = settings_.compression;
    r.deflates = ready.enabled && *offer.text != 0;
    require(r.peer->deflates() == r.deflates, r.id + " compresses, or does not");
    if (!r.deflates) return;
    r.terms.send_takeover = ready.send_context_takeover && offer.server_takes_over;
    r.terms.send_window_bits = static_cast<std::uint8_t>(std::min(ready.send_window_bits, offer.server_bits));
    const bool may_be_small = offer.names_client_bits;
    r.terms.receive_window_bits =
        static_cast<std::uint8_t>(may_be_small ? std::min(ready.receive_window_bits, offer.client_bits) : 15);
    r.terms.receive_takeover = ready.receive_context_takeover && offer.client_takes_over &&
                               r.terms.receive_window_bits <= ready.receive_window_bits;
    const auto& told = r.client->terms();
    require(wire::deflate_terms{told.receive_takeover, told.send_takeover, told.receive_window_bits,
                                told.send_window_bits} == r.terms,
            r.id + " has agreed on other terms of compression");
    if (r.terms.send_takeover) r.context.emplace(ready.level, r.terms.send_window_bits, ready.memory_level);
    r.inflates_with.emplace(r.terms.send_window_bits);
    count("connected compressing");
}

inline void handlers::over(connection_type& c, close_code code, std::string_view reason) {
    auto& r = of(c);
    const auto value = static_cast<unsigned>(code);
    say(r.id, " is over with ", static_cast<std::size_t>(value), " ", reason);
    require(!r.is_over, r.id + " is over twice");
    require(!r.is_open() && !c.is_connected(), r.id + " is over and connected");
    require(r.rooms.empty(), r.id + " is over and in " + (r.rooms.empty() ? "" : *r.rooms.begin()));
    r.is_over = true;
    r.over_at = now(r);
    if (r.is_broken() || r.hung_up_at) r.causes.push_back({1006, "broken"});
    const cause* why = nullptr;
    for (const auto& each : r.causes) {
        if (each.code != value || (each.reason && *each.reason != reason)) continue;
        if (why == nullptr || (each.reason && !why->reason)) why = &each;
    }
    require(why != nullptr, r.id + " is over with " + std::to_string(value) + " " + detail::printable(reason) +
                                ", for which there is no reason");
    if (why != nullptr) {
        r.ended = {value, why->counted, std::string{reason}};
        r.closed_by_itself = why->counted == std::string_view{"by_peer"};
        ++expected_[std::string{"closed "} + why->counted];
        count(std::string{"closed "} + why->counted);
    }
    if (value == 1006) r.cut_off = true;
    if (speaking_ == &r && why != nullptr &&
        (r.closed_by_itself || std::string_view{why->counted} == "frame_violation" ||
         std::string_view{why->counted} == "message_too_big" || std::string_view{why->counted} == "flooded"))
        catch_up(r);
    while (!r.open_questions.empty()) {
        auto& q = *r.open_questions.begin()->second;
        require(q.is_of_many, "a request to " + r.id + " was not over before it");
        q.may_have_timed_out = may_have_timed_out(q);
        keep(q, told(errc::disconnected));
    }
    if (const auto found = ids_.find(r.id); found != ids_.end() && found->second == &r) ids_.erase(found);
    r.incoming.clear();
    const then_own next{r, hears::disconnect, reason};
    acts(&r);
}

}  // namespace arke::test::modelling
