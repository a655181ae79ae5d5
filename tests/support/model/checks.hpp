#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "tests/support/model/clients.hpp"

namespace arke::test::modelling {

/// What holds whenever everything has come to rest.
class checks : public clients {
protected:
    using clients::clients;

    void check_at_rest();

private:
    void check_metrics();
};

inline void checks::check_at_rest() {
    server_->settle();
    std::map<std::string, std::set<std::string>> rooms;
    std::size_t open = 0;
    std::size_t total = 0;
    bool all_known = true;
    for (auto& r : records_) {
        end_rounds(r);
        if (!r.peer) {
            const bool kept = std::any_of(kept_.begin(), kept_.end(), [&](const auto& k) { return k.first == &r; });
            require(kept || r.alive.expired(), r.id + " is over, and somebody holds it");
            continue;
        }
        sample(r);
        auto& stream = r.client->stream();
        require(stream.misuse.empty(), r.id + "'s stream: " + stream.misuse);
        require(r.is_open() || r.is_over, r.id + " ended, and on_disconnect did not run");
        require(r.is_open() == r.self->is_connected(), r.id + " does not know whether it is connected");
        if (r.is_open()) {
            require(!r.must_end, r.id + " was to end");
            ++open;
            total += r.peer->kept();
            for (const auto& room : r.rooms) rooms[room].insert(r.id + "/" + std::to_string(r.loop));
            const auto joined = r.self->rooms();
            require(std::set<std::string>(joined.begin(), joined.end()) == r.rooms && joined.size() == r.rooms.size(),
                    r.id + " is in other rooms");
            require(r.peer->is_lagging() == (stream.waits_for_room() || r.is_broken()),
                    r.id + " does not know whether it lags");
            require(r.self->buffered_amount() == (r.peer->is_lagging() ? waiting(r) + 2 * r.pings_unseen : 0),
                    r.id + " does not know what waits");
            require(!r.handle.is_connected() || server_->find(r.id) == r.handle, r.id + " is not found");
        } else {
            all_known = all_known && stream.is_closed;
        }
        const bool flowed = !stream.waits_for_room() && !stream.was_reset && !r.is_broken() && !r.cut_off;
        if (flowed) {
            while (r.next != r.out.size() && r.out[r.next].withdrawn) ++r.next;
            require(r.next == r.out.size(),
                    r.id + " was not sent " + (r.next == r.out.size() ? "" : detail::printable(r.out[r.next].bytes)));
            require(r.parsed == stream.sent.size(), r.id + " was sent half a frame");
            if (r.is_over) {
                std::string payload;
                if (r.ended.code != 1005)
                    payload = {static_cast<char>(r.ended.code >> 8U), static_cast<char>(r.ended.code)};
                if (!r.closed_by_itself) payload += r.ended.reason.value_or("");
                require(r.close_frame == server_frame(0x88, payload), r.id + " was sent another close frame, or none");
                if (r.closed_by_itself) require(stream.is_shut || stream.is_closed, r.id + " is not told the end");
            }
        }
        if (r.is_over && stream.is_closed) {
            // Nothing more can come of it.
            r.handle = {};
            r.peer = nullptr;
            r.self = nullptr;
            r.out.clear();
        }
    }
    server_->settle();
    require(server_->size() == open,
            "the server has " + std::to_string(server_->size()) + " connections instead of " + std::to_string(open));
    const auto names = server_->rooms();
    require(names.size() == rooms.size(),
            std::to_string(names.size()) + " rooms instead of " + std::to_string(rooms.size()));
    for (const auto& [name, members] : rooms) {
        const auto told = server_->members(name);
        std::multiset<std::string> expected;
        for (const auto& m : members) expected.insert(m.substr(0, m.find('/')));
        require(std::multiset<std::string>(told.begin(), told.end()) == expected,
                "room " + name + " has other members");
    }
    const auto load = server_->hub().load()->waiting.load();
    require(!all_known || load == total, std::to_string(load) + " bytes wait instead of " + std::to_string(total));
    // Those who are closing cannot be cut for it.
    require(max_waiting_ == 0 || !all_known || load <= max_waiting_, std::to_string(load) + " bytes wait in all");
    check_questions();
    check_metrics();
}

inline void checks::check_metrics() {
    metrics m;
    server_->hub().add_metrics(m, true);
    const auto is = [&](const char* name, std::uint64_t told) {
        require(told == expected_[name],
                std::string{name} + " is " + std::to_string(told) + " instead of " + std::to_string(expected_[name]));
    };
    is("sent events", m.sent.events);
    is("sent requests", m.sent.requests);
    is("sent answers", m.sent.answers);
    is("sent texts", m.sent.texts);
    is("sent binaries", m.sent.binaries);
    is("received events", m.received.events);
    is("received requests", m.received.requests);
    is("received answers", m.received.answers);
    is("unknown messages", m.errors.unknown_message);
    is("sent compressed", m.sent.compressed);
    is("sent compressed_bytes", m.sent.compressed_bytes);
    is("sent inflated_bytes", m.sent.inflated_bytes);
    is("received compressed", m.received.compressed);
    is("received compressed_bytes", m.received.compressed_bytes);
    is("received inflated_bytes", m.received.inflated_bytes);
    is("dropped not_deliverable", m.dropped.not_deliverable);
    is("dropped late_answers", m.dropped.late_answers);
    is("dropped not_ready", m.dropped.not_ready);
    is("dropped overflow", m.dropped.overflow);
    is("dropped superseded", m.dropped.superseded);
    is("closed by_peer", m.closed.by_peer);
    is("closed by_server", m.closed.by_server);
    is("closed stopping", m.closed.stopping);
    is("closed broken", m.closed.broken);
    is("closed frame_violation", m.closed.frame_violation);
    is("closed message_too_big", m.closed.message_too_big);
    is("closed outbox_full", m.closed.outbox_full);
    is("closed flooded", m.closed.flooded);
    require(m.slowed == 0 || slows(), "somebody was slowed without a reason");
    is("closed pong_timeout", m.closed.pong_timeout);
    is("closed write_timeout", m.closed.write_timeout);
    is("closed replaced", m.closed.replaced);
    const auto reported = [&](errc code) { return expected_["reported " + std::to_string(static_cast<int>(code))]; };
    for (const auto code : {errc::handler_threw, errc::name_taken, errc::too_many_rooms}) {
        const auto due = due_report(code);
        require(reported(code) == due, make_error_code(code).message() + ": " + std::to_string(reported(code)) +
                                           " reports instead of " + std::to_string(due));
    }
    require(m.errors.handler_threw == reported(errc::handler_threw), "handlers that threw are not counted");
    require(m.errors.wrong_type == counts_["heard wrong type"] + counts_["asked wrong type"],
            "wrong types are not counted");
    require(m.errors.malformed_event == counts_["heard malformed"], "malformed events are not counted");
    // With on_any none is unhandled.
    require(
        m.errors.unhandled_event == (has_own_handlers_ ? 0 : counts_["heard unhandled"] + counts_["asked unhandled"]),
        "unhandled events are not counted");
    require(m.received.texts == counts_["heard text"], "received texts are not counted");
    require(m.received.binaries == counts_["heard binary"], "received binaries are not counted");
    std::uint64_t sent = 0;
    for (auto& c : server_->clients()) sent += c.was_refused() ? 0 : c.stream().sent.size();
    require(m.sent.bytes == sent, "sent bytes are not counted");
    require(m.connections == server_->size(), "connections are not counted");
    const auto ends = m.closed.by_peer + m.closed.by_server + m.closed.stopping + m.closed.broken +
                      m.closed.frame_violation + m.closed.message_too_big + m.closed.outbox_full +
                      m.closed.pong_timeout + m.closed.write_timeout + m.closed.replaced + m.closed.out_of_memory +
                      m.closed.flooded;
    require(counts_["connected"] == ends + m.connections, "connections and ends do not add up");
}

}  // namespace arke::test::modelling
