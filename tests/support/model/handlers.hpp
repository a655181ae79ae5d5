#pragma once

#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/support/model/application.hpp"

namespace arke::test::modelling {

/// What the application hears, which is held against what is expected; in most handlers it acts too.
class handlers : public application {
protected:
    handlers(std::span<const std::uint8_t> bytes, bool traced) : application{bytes, traced} { listen(); }

private:
    void listen();
    void over(connection_type& c, close_code code, std::string_view reason);
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
        ids_[r.id] = &r;
        connecting_ = &r;
        count("connected");
        acts(&r);
    });
    s.on("e", [this](connection& c, const std::string& data) {
        heard(of(c), "event", data);
        acts(&of(c));
    });
    s.on("n", [this](connection& c, int number) { heard(of(c), "number", std::to_string(number)); });
    s.on_message([this](connection& c, message_view m) {
        heard(of(c), m.is_text ? "text" : "binary", m.data);
        acts(&of(c));
    });
    s.on_ping([this](connection& c, bytes_view data) {
        auto& r = of(c);
        heard(r, "ping", as_text(data));
        // The pong was sent just before, unless one waits already.
        if (!r.pong_waits) {
            const auto bytes = server_frame(0x8A, as_text(data));
            r.out.push_back({bytes, {}, 0});
            r.out_bytes += bytes.size();
            ++expected_["sent pongs"];
        }
        if (r.is_open() && r.peer->is_lagging()) r.pong_waits = true;
        acts(&r);
    });
    s.on_pong([this](connection& c, bytes_view data) {
        heard(of(c), "pong", as_text(data));
        acts(&of(c));
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
        acts(&r);
    });
    s.on_leave([this](connection& c, std::string_view room) {
        auto& r = of(c);
        const std::string name{room};
        say(r.id, " left ", name);
        require(!r.is_over, r.id + " left " + name + " after on_disconnect");
        if (r.is_open()) {
            const auto due = r.leaving.find(name);
            require(due != r.leaving.end(), r.id + " left " + name + ", and nobody said so");
            if (due != r.leaving.end()) r.leaving.erase(due);
        }
        require(r.rooms.erase(name) == 1, r.id + " left " + name + ", and was not in it");
        acts(&r);
    });
    s.on_disconnect([this](connection_type& c, close_code code, std::string_view reason) { over(c, code, reason); });
    s.on_error([this](connection& c, const error_report& e) {
        auto& r = of(c);
        require(!r.is_over || e.code == errc::handler_threw,
                r.id + " reported after on_disconnect: " + e.code.message());
        require(e.code.category() == category(), "a report of a foreign category");
        const auto what = static_cast<errc>(e.code.value());
        say(r.id, " reports ", e.code.message());
        switch (what) {
            case errc::malformed_event: heard(r, "malformed", ""); break;
            case errc::wrong_type: heard(r, "wrong type", ""); break;
            case errc::unhandled_event: heard(r, "unhandled", ""); break;
            case errc::pong_timeout:
                require(now(r) - r.last_heard >= settings_.pong_timeout.count(), r.id + " timed out and has spoken");
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
                // A pong is written down only when the application hears of the ping.
                if (!r.too_slow && !r.incoming.empty() && r.incoming.front().kind == std::string_view{"ping"} &&
                    settings_.on_overflow != overflow::drop &&
                    waiting(r) + 2 * r.pings_unseen + 2 + r.incoming.front().text.size() > settings_.max_outbox_bytes) {
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

inline void handlers::over(connection_type& c, close_code code, std::string_view reason) {
    auto& r = of(c);
    const auto value = static_cast<unsigned>(code);
    say(r.id, " is over with ", static_cast<std::size_t>(value), " ", reason);
    require(!r.is_over, r.id + " is over twice");
    require(!r.is_open() && !c.is_connected(), r.id + " is over and connected");
    require(r.rooms.empty(), r.id + " is over and in " + (r.rooms.empty() ? "" : *r.rooms.begin()));
    r.is_over = true;
    r.over_at = now(r);
    if (r.is_broken()) r.causes.push_back({1006, "broken"});
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
    if (const auto found = ids_.find(r.id); found != ids_.end() && found->second == &r) ids_.erase(found);
    r.incoming.clear();
    acts(&r);
}

}  // namespace arke::test::modelling
