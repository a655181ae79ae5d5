#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/model/handlers.hpp"

namespace arke::test::modelling {

/// What the clients do: they come, speak, read and go.
class clients : public handlers {
protected:
    using handlers::handlers;

    void connect();
    deflate_offer any_offer();
    reply any_reply(record& r);
    std::string word_of(errc refused);
    void compose(record& r);
    std::size_t may_say(record& r, std::string_view bytes);
    void send_some(record& r);
    void read_some(record& r);
};

inline void clients::connect() {
    const auto id = "c" + std::to_string(choices_.below(8));
    const auto loop = choices_.below(server_->loop_count());
    const auto room = choices_.of<std::size_t>({0, 0, 0, 5, 40, 200});
    connecting_speaks_v1_ = choices_.below(2) == 1;
    if (holder(id) != nullptr && !choices_.one_in(4)) return;
    // What was posted may end the holder of the id first.
    while (server_->loop(loop).run_posts()) {
    }
    auto* const old = holder(id);
    const bool refused = old != nullptr && settings_.on_duplicate_id == duplicate_id::refuse;
    say(id, connecting_speaks_v1_ ? " connects by arke.v1 to loop " : " connects to loop ", loop);
    if (old != nullptr && !refused) {
        old->causes.push_back({1008, "replaced", "replaced by a newer connection with the same id"});
        old->must_end = true;
    }
    connecting_ = nullptr;
    connecting_id_ = id;
    connecting_room_ = room != 0 ? room : testing::memory_transport::everything;
    std::vector<std::pair<std::string_view, std::string_view>> headers{{"Host", "example.com"}};
    if (connecting_speaks_v1_) headers.emplace_back("Sec-WebSocket-Protocol", "arke.v1");
    connecting_offer_ = settings_.compression.enabled ? any_offer() : deflate_offer{""};
    if (*connecting_offer_.text != 0) headers.emplace_back("Sec-WebSocket-Extensions", connecting_offer_.text);
    const auto& client = server_->connect(request{"GET", "/", 11, headers, "192.0.2.1", 50'000}, loop);
    require(client.was_refused() == refused, id + (refused ? " was not refused" : " was refused"));
    require((connecting_ == nullptr) == refused, id + " was heard of, or not");
    if (refused) count("refused");
}

inline deflate_offer clients::any_offer() {
    return choices_.of<deflate_offer>(
        {{"permessage-deflate; client_max_window_bits"},
         {""},
         {"permessage-deflate", true, true, 15, 15, false},
         {"x, permessage-deflate; server_max_window_bits=9; client_max_window_bits=10", true, true, 9, 10},
         {"permessage-deflate; server_no_context_takeover; client_no_context_takeover", false, false, 15, 15, false},
         {"permessage-deflate; server_max_window_bits=8; client_max_window_bits=8", true, true, 8, 8}});
}

/// To a request that came to it, most often; it may have been answered before, or be none at all.
inline reply clients::any_reply(record& r) {
    reply by{static_cast<std::uint32_t>(choices_.below(16)), {}, choices_.of<const char*>({"42", "7", "seven"})};
    if (!r.to_answer.empty() && !choices_.one_in(8)) {
        const auto at = r.to_answer.begin() + static_cast<std::ptrdiff_t>(choices_.below(r.to_answer.size()));
        by.id = *at;
        if (!choices_.one_in(8)) r.to_answer.erase(at);
    }
    if (choices_.below(2) == 0) return by;
    by.refused = choices_.of({errc::refused, errc::refused, errc::unhandled_event, errc::wrong_type,
                              errc::handler_threw, errc::too_many_requests});
    by.data = choices_.of<const char*>({"", "sold out"});
    return by;
}

inline std::string clients::word_of(errc refused) {
    switch (refused) {
        case errc::unhandled_event: return "unhandled";
        case errc::wrong_type: return "wrong-type";
        case errc::handler_threw: return "failed";
        case errc::too_many_requests: return "busy";
        default: return choices_.of<const char*>({"refused", "refused", "later"});
    }
}

/// Adds a message to what the client is about to send.
inline void clients::compose(record& r) {
    std::string bytes;
    hearing what{"", ""};
    std::optional<unsigned> ends_with;
    const auto begin = r.outbound_begin + r.outbound.size();
    const auto max = settings_.max_message_size;
    // Whole, or in fragments with a ping between them.
    const auto message = [&](unsigned opcode, std::string payload) {
        if (payload.size() > max) ends_with = 1009;
        if (r.deflates && !payload.empty() && choices_.below(2) == 1) {
            what.inflated = payload.size();
            payload = r.client->deflated(payload);
            what.deflated = payload.size();
            opcode |= 0x40U;
        }
        const auto parts = choices_.of<std::size_t>({1, 1, 1, 2, 3, 4});
        if (parts == 1 || payload.size() < parts) {
            bytes = testing::client_frame(0x80U | opcode, payload);
            return;
        }
        // What a compressed one becomes is known when all of it has come.
        const bool is_seen_last = what.deflated != 0 && payload.size() <= wire::max_deflated_size(max);
        if (parts > settings_.max_fragments && (!ends_with || is_seen_last)) ends_with = 1008;
        const auto size = payload.size() / parts;
        for (std::size_t i = 0; i != parts; ++i) {
            const bool last = i + 1 == parts;
            bytes += testing::client_frame((i == 0 ? opcode : 0U) | (last ? 0x80U : 0U),
                                           std::string_view{payload}.substr(i * size, last ? std::string::npos : size));
            if (i == 0 && !ends_with && choices_.one_in(3)) {
                bytes += testing::client_frame(0x89, "within");
                r.passages.push_back({begin, begin + bytes.size(), {"ping", "within"}, {}});
            }
        }
    };
    const auto& prefix = settings_.event_prefix;
    const std::string native = r.is_v1 ? "m" : "";
    // An event, or where it can be a request.
    const auto event = [&](const char* name, char tag, char type, const std::string& data, bool must_ask = false) {
        if (!r.is_v1) return message(1, prefix + name + ";" + tag + ";" + data);
        if (!must_ask && choices_.below(2) == 0) return message(1, std::string{"e"} + type + name + "\n" + data);
        what.asked = static_cast<std::uint32_t>(choices_.below(8));
        message(1, std::string{"r"} + type + std::to_string(*what.asked) + " " + name + "\n" + data);
    };
    const auto small_text = [&] {
        auto made = text();
        if (made.size() + 64 > max && !choices_.one_in(8)) made.resize(max - 64);
        return made;
    };
    auto kind = choices_.below(r.is_v1 ? 26 : 16);
    // Nobody could say when the core has dealt in silence with what it holds back.
    if (slows() && kind >= 20) kind = 0;
    switch (kind) {
        case 0:
        case 1:
        case 2:
        case 3: {
            what = {"event", small_text()};
            event("e", '0', 's', what.text);
            break;
        }
        case 4:
            what = {"number", std::to_string(choices_.below(200))};
            event("n", '1', 'n', what.text);
            break;
        case 5:
            what = {"wrong type", ""};
            event("n", '0', 's', "x");
            break;
        case 6:
            what = {"unhandled", ""};
            event("nobody", '0', 's', "hears it");
            break;
        case 7:
            what = {"malformed", ""};
            if (r.is_v1) {
                message(1, choices_.of<const char*>({"e", "es", "esx", "e?x\n", "es\nx", "evn\nx", "exe\nx", "es\\\nx",
                                                     "r", "rs", "rs1", "rs01 e\nx", "rs1 e", "a", "as x", "f1 x", "j",
                                                     "j1", "rs4294967296 e\nx"}));
            } else {
                message(1, prefix + choices_.of<const char*>({"", "e", "e;", "e;9;", ";0;x", "e;00;"}));
            }
            break;
        case 8:
            what = {"text", small_text()};
            message(1, native + what.text);
            break;
        case 9:
            what = {"binary", small_text() + "\xFF"};
            message(2, native + what.text);
            break;
        case 10:
        case 11:
            what = {"ping", choices_.below(2) == 0 ? std::string{} : "q" + std::to_string(++sequence_)};
            bytes = testing::client_frame(0x89, what.text);
            break;
        case 12:
            what = {"pong", std::to_string(++sequence_)};
            bytes = testing::client_frame(0x8A, what.text);
            break;
        case 13: {
            if (!choices_.one_in(4)) return;
            const auto code = choices_.of({1000U, 1001U, 3333U, 1005U});
            ends_with = code;
            what = {"close", code == 1005 ? "" : "bye"};
            bytes = code == 1005 ? testing::client_frame(0x88, "") : testing::client::close_frame(code, what.text);
            break;
        }
        case 14: {
            if (!choices_.one_in(4)) return;
            using namespace std::string_view_literals;
            struct broken {
                std::string_view bytes;
                unsigned code;
            };
            const auto one = choices_.of<broken>({{"\x81\x01"
                                                   "a"sv,
                                                   1002},
                                                  {"\xC1\x80\1\2\3\4"sv, 1002},
                                                  {"\x83\x80\1\2\3\4"sv, 1002},
                                                  {"\x80\x80\1\2\3\4"sv, 1002},
                                                  {"\x89\xFE\0\x7E\1\2\3\4"sv, 1002},
                                                  {"\x09\x80\1\2\3\4"sv, 1002},
                                                  {"\x81\x81\0\0\0\0\xFF"sv, 1007},
                                                  {"\x01\x82\0\0\0\0\xC3\x28"sv, 1007},
                                                  {"\x81\xFE\0\x05\1\2\3\4"sv, 1002},
                                                  {"\x88\x81\0\0\0\0\x03"sv, 1002},
                                                  {"\x88\x82\0\0\0\0\x03\xED"sv, 1002},
                                                  {"\x88\x83\0\0\0\0\x03\xE8\xFF"sv, 1007},
                                                  {"\x81\xFF\x00\x00\x00\xFF\xFF\xFF\xFF\xFF\1\2\3\4"sv, 1009},
                                                  {"\x01\x80\1\2\3\4\x01\x80\1\2\3\4"sv, 1002}});
            bytes = one.bytes;
            ends_with = one.code;
            if (r.deflates && (bytes[0] & 0x40) != 0) {
                // Who may compress: what is no DEFLATE, what ends in the middle, what is no text, what may not be marked.
                const auto wrong = choices_.below(5);
                bytes = testing::client_frame(0xC1, wrong == 0 ? "\xFF\xFF\xFF" : "\xAA");
                ends_with = 1007;
                if (wrong == 2) bytes = testing::client_frame(0xC1, r.client->deflated("\xFF\xFE"));
                if (wrong > 2) {
                    bytes = testing::client_frame(wrong == 3 ? 0xC9 : 0xC0, "");
                    ends_with = 1002;
                }
            }
            what = {"fault", ""};
            break;
        }
        case 15:
            what = {"text", std::string(max + (choices_.one_in(8) ? 1 : 0) - native.size(), 'z')};
            message(1, native + what.text);
            break;
        case 16:
            what = {"echo", small_text()};
            event("echo", '0', 's', what.text, true);
            break;
        case 17:
            what = {"odd", std::to_string(choices_.below(200))};
            event("odd", '1', 'n', what.text, true);
            break;
        case 18:
        case 19:
            what = {"join", choices_.below(3) != 2 ? any_room() : any_name()};
            what.asked = static_cast<std::uint32_t>(choices_.below(8));
            message(1, "j" + std::to_string(*what.asked) + " " + what.text);
            break;
        case 20:
            what = {"leave", any_room()};
            if (!r.asked_rooms.empty() && choices_.below(3) != 0) what.text = *r.asked_rooms.begin();
            what.asked = static_cast<std::uint32_t>(choices_.below(8));
            message(1, "l" + std::to_string(*what.asked) + " " + what.text);
            break;
        case 21:
            what = {"unknown", choices_.of<const char*>({"zebra", "", "q"})};
            message(1, what.text);
            break;
        default: {
            const auto by = any_reply(r);
            what = {"answer", std::to_string(by.id), {}, by};
            if (by.refused) {
                message(1, "f" + what.text + " " + word_of(*by.refused) + "\n" + by.data);
            } else {
                message(1, (by.data == "seven" ? "as" : "an") + what.text + " " + by.data);
            }
            break;
        }
    }
    r.outbound += bytes;
    r.passages.push_back({begin, begin + bytes.size(), what, ends_with});
    if (ends_with) {
        // What comes after the last word is never looked at.
        r.is_silent = true;
        if (choices_.below(2) == 1) r.outbound += testing::client_frame(0x81, "too late");
    }
}

/// How much of that is heard, by flood::close.
inline std::size_t clients::may_say(record& r, std::string_view bytes) {
    const auto by = bytes_bound();
    const auto of = frames_bound();
    r.bytes_bucket.fill(by.per_second, by.burst, now(r));
    r.frames_bucket.fill(of.per_second, of.burst, now(r));
    auto walk = r.said;
    for (std::size_t i = 0; i != bytes.size(); ++i) {
        if (by.per_second != 0 && r.bytes_bucket.level < 1000) return i;
        if (of.per_second != 0 && walk.is_between()) {
            if (r.frames_bucket.level < 1000) return i;
            r.frames_bucket.level -= 1000;
        }
        r.bytes_bucket.level -= 1000;
        walk.read(bytes[i]);
    }
    return bytes.size();
}

inline void clients::send_some(record& r) {
    if (r.client->stream().is_closed || r.hung_up_at) return;
    // What is held back is to be heard before the end.
    if (is_held(r) && (r.outbound_begin - r.handed > 4000 || r.frames_said - r.frames_handed > 30)) return;
    for (auto n = 1 + choices_.below(4); n != 0 && !r.is_silent && r.outbound.size() < 20'000; --n) compose(r);
    if (r.outbound.empty()) return;
    // What is dealt with in silence is noticed at the next word; what was posted must not stand between.
    const auto is_silent = [](const passage& p) {
        const std::string_view kind = p.what.kind;
        return kind == "answer" || kind == "leave" || kind == "unknown" || kind == "unhandled";
    };
    if (std::any_of(r.passages.begin(), r.passages.end(), is_silent)) {
        while (server_->loop(r.loop).run_posts()) {
        }
        if (is_unclear(r) || r.client->stream().is_closed) return;
    }
    auto size = r.outbound.size();
    if (choices_.one_in(3)) size = 1 + choices_.below(std::min<std::size_t>(size, 250));
    const bool open = r.is_open();
    const auto begin = r.outbound_begin;
    const auto heard_to = begin + (open && is_bounded() && !slows() ? may_say(r, r.outbound.substr(0, size)) : size);
    r.outbound_begin += size;
    auto walked = begin;
    const auto walk_to = [&](std::size_t end) {
        for (; walked != end; r.said.read(r.outbound[walked++ - begin])) r.frames_said += r.said.is_between() ? 1 : 0;
    };
    bool must_end = heard_to != r.outbound_begin;
    while (!r.passages.empty() && r.passages.front().begin < r.outbound_begin) {
        auto& p = r.passages.front();
        if (p.ends_with && open && p.begin < heard_to) {
            const bool is_close = p.what.kind == std::string_view{"close"};
            cause why{*p.ends_with, *p.ends_with == 1009 ? "message_too_big" : "frame_violation"};
            if (is_close) why = {*p.ends_with, "by_peer", p.what.text};
            r.causes.push_back(why);
        }
        if (p.end > r.outbound_begin) break;
        if (p.ends_with) must_end = true;
        walk_to(p.end);
        p.what.end = p.end;
        p.what.frames = r.frames_said;
        p.what.sent_at = now(r);
        if (p.ends_with) p.what.kind = "its last word";
        if (open && p.end <= heard_to && (!p.ends_with || slows())) r.incoming.push_back(std::move(p.what));
        r.passages.pop_front();
    }
    walk_to(r.outbound_begin);
    if (heard_to != r.outbound_begin) r.causes.push_back({1008, "flooded", "too much at once"});
    say(r.id, " sends ", size, " bytes");
    sample(r);
    r.pings_before_silence = r.pings_seen + r.pings_unseen;
    if (!slows()) r.last_heard = now(r);
    if (!r.is_open()) r.incoming.clear();
    const auto& received = server_->loop(r.loop).counters().received.bytes;
    const auto received_before = received.get();
    speaking_ = &r;
    r.client->sends(std::exchange(r.outbound, r.outbound.substr(size)).substr(0, size));
    if (r.is_open()) catch_up(r);
    speaking_ = nullptr;
    const auto came = static_cast<std::size_t>(received.get() - received_before);
    if (open && slows()) {
        require(came <= size, r.id + " is heard with more than it has said");
        // Who is over is not held back any more.
        if (came != 0 && r.is_open()) {
            r.last_heard = now(r);
            note_handed(r, begin + came, came == size ? r.frames_said : r.frames_handed);
        }
        if (r.is_open() && came != size) {
            count("slowed");
            return;
        }
    }
    if (r.is_open()) {
        require(r.incoming.empty(),
                r.id + " said what was not heard: " + (r.incoming.empty() ? "" : r.incoming.front().kind));
        require(!must_end, r.id + " is still open after its last word");
    } else {
        r.incoming.clear();
    }
}

inline void clients::read_some(record& r) {
    auto& stream = r.client->stream();
    sample(r);
    note_what_lagged(r);
    const bool lagged = r.is_open() && r.peer->is_lagging();
    const auto drains = r.drains;
    switch (choices_.below(6)) {
        case 0:
            say(r.id, " reads everything");
            stream.most_at_once = testing::memory_transport::everything;
            stream.makes_room(testing::memory_transport::everything);
            break;
        case 1: {
            const auto more = choices_.of<std::size_t>({1, 2, 3, 20, 60, 200, 1000});
            say(r.id, " reads ", more);
            stream.makes_room(more);
            break;
        }
        case 2:
            say(r.id, " stops reading");
            stream.room = choices_.of<std::size_t>({0, 0, 1, 30, 500});
            break;
        case 3:
            stream.most_at_once = choices_.of<std::size_t>({1, 7, 100, testing::memory_transport::everything});
            break;
        case 4:
            if (choices_.one_in(8) && !r.is_broken()) {
                stream.fails_at = stream.operations + static_cast<int>(choices_.below(3));
                say(r.id, "'s stream breaks at operation ", static_cast<std::size_t>(stream.fails_at));
            }
            break;
        default:
            if (!choices_.one_in(6) || stream.is_closed) break;
            if (r.is_open()) r.causes.push_back({1006, "broken"});
            r.cut_off = true;
            if (choices_.below(2) == 0) {
                say(r.id, " hangs up");
                if (is_held(r)) {
                    // What it has said before is heard first.
                    count("hung up behind what is held back");
                    r.hung_up_at = now(r);
                    r.causes.pop_back();
                    r.outbound.clear();
                    r.passages.clear();
                    r.client->hangs_up();
                    break;
                }
                r.client->hangs_up();
            } else {
                say(r.id, " vanishes");
                r.client->vanishes();
            }
            require(!r.is_open(), r.id + " hung up and is open");
            break;
    }
    if (lagged && r.is_open() && !stream.waits_for_room() && !r.is_broken())
        require(r.drains == drains + 1, r.id + " has read all and on_drain did not run once");
    sample(r);
}

}  // namespace arke::test::modelling
