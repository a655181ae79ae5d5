#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/support/model/checks.hpp"

/// A server's whole core beside a plain model of it: up to eight clients of both protocols on one or two loops, and everything that
/// they, the application, its handlers and the clock may do, in an order that a stream of bytes chooses. A fuzzer chooses the
/// bytes, or a seed.
///
/// The model knows who is in which room, which requests are open, and for each client the exact frames that are to come. It learns
/// nothing from the core but whether a connection is open and whether its stream is full, when it writes down who gets a message;
/// so that it says so at the moment at which the core decides, it posts its own note right before each call that is posted.
///
/// Its rooms are in tests/support/model/, each standing on the one before: record (what is known of a client), world, deliveries
/// and questions (what is to come to clients), hearings (what is to be heard of them), application, handlers and clients (what
/// each does), checks.
namespace arke::test {

/// The bytes of a seed: some hundred steps.
inline std::vector<std::uint8_t> bytes_of_seed(std::uint64_t seed) {
    std::vector<std::uint8_t> bytes;
    std::uint64_t state = seed;
    const auto next = [&state] {
        state += 0x9E37'79B9'7F4A'7C15U;
        std::uint64_t z = state;
        z = (z ^ z >> 30U) * 0xBF58'476D'1CE4'E5B9U;
        z = (z ^ z >> 27U) * 0x94D0'49BB'1331'11EBU;
        return z ^ z >> 31U;
    };
    const auto size = 200 + next() % 3000;
    while (bytes.size() != size) bytes.push_back(static_cast<std::uint8_t>(next() >> 24U));
    return bytes;
}

class model : private modelling::checks {
public:
    explicit model(std::span<const std::uint8_t> bytes, bool traced = false) : checks{bytes, traced} {}

    /// Lets it all happen. Empty: as the model says; else what was expected and at which step.
    std::string run();

    using world::counts;
    using world::trace;

private:
    void top_step();
    void pass(core::millis time);
    void stand_still();
    void stop();
    void end_all();
};

inline void model::pass(core::millis time) {
    say("time passes: ", static_cast<std::size_t>(time));
    for (; time > 0 && failure_.empty(); time -= step) {
        server_->pass(std::chrono::milliseconds{std::min(time, step)});
        for (auto& r : records_) {
            if (!r.peer) continue;
            sample(r);
            if (now(r) < in_time_from_) continue;
            const auto& stream = r.client->stream();
            if (!r.is_open()) {
                if (r.is_over && !stream.is_closed)
                    require(now(r) - r.over_at < settings_.close_timeout.count() + slack,
                            r.id + " is not closed in time");
                continue;
            }
            if (slows()) check_held(r);
            const auto silence = now(r) - r.last_heard;
            // Nobody can say when what is held back was handed on.
            require(is_held(r) || silence < settings_.pong_timeout.count() + slack, r.id + " is silent and not cut");
            for (const auto& [id, q] : r.open_questions)
                require(q->is_of_many || !must_have_timed_out(*q), "a request to " + r.id + " did not time out");
            require(!r.was_lagging || now(r) - r.progress < settings_.write_timeout.count() + slack,
                    r.id + " reads nothing and is not cut");
            if (slows()) continue;
            const auto pings = r.pings_seen + r.pings_unseen - r.pings_before_silence;
            require(pings <= 1, r.id + " was pinged twice");
            if (!r.was_lagging)
                require(pings == 1 || silence < effective_ping_period(settings_).count() + slack,
                        r.id + " was not pinged");
        }
    }
}

/// What clients send before time passes again has been in the kernel meanwhile.
inline void model::stand_still() {
    const auto time = choices_.of<core::millis>({300, 1000, 3500, 8000});
    say("nothing runs for ", static_cast<std::size_t>(time));
    count("stood still");
    for (auto& r : records_) {
        if (r.peer) sample(r);
    }
    server_->stand_still(std::chrono::milliseconds{time});
    // What is due is late by as long as a loop takes to read what has come, and a ping by as long as its answer may take.
    in_time_from_ = server_->loop(0).time() + 1000 + settings_.pong_timeout.count() + slack;
}

inline void model::stop() {
    say("the server stops");
    for (std::size_t loop = 0; loop != server_->loop_count(); ++loop) {
        server_->in_turn(
            [&] {
                for (auto& r : records_) {
                    if (!r.is_open() || r.loop != loop) continue;
                    r.causes.push_back({1001, "stopping", "the server stops"});
                    r.must_end = true;
                    r.peer->on_stop();
                    require(!r.is_open(), r.id + " was stopped and is open");
                }
            },
            loop);
    }
}

inline void model::top_step() {
    ++steps_;
    for (auto& r : records_) r.leaving.clear();
    const auto step_of = [this](const char* what) { doing_ = what; };
    switch (choices_.below(16)) {
        case 0:
        case 1:
            step_of("connect");
            connect();
            break;
        case 2:
        case 3:
        case 4:
        case 5:
            step_of("send");
            if (auto* const r = any_record()) send_some(*r);
            break;
        case 6:
        case 7:
        case 8:
            step_of("act from outside");
            act(any_open());
            break;
        case 9: {
            step_of("act in a turn");
            auto* const r = any_open();
            const auto loop = r != nullptr ? r->loop : choices_.below(server_->loop_count());
            server_->in_turn([&] { act(r); }, loop);
            break;
        }
        case 10:
        case 11:
            step_of("read");
            if (auto* const r = any_record()) read_some(*r);
            break;
        case 12:
            step_of("time");
            pass(choices_.of<core::millis>({16, 1, 16, 40, 100, 100, 300, 300, 600, 1000, 3500}));
            break;
        case 13:
            step_of("one loop's posts");
            server_->loop(choices_.below(server_->loop_count())).run_posts();
            break;
        case 14:
            step_of("rest");
            check_at_rest();
            break;
        default:
            step_of("stop");
            if (choices_.one_in(60)) {
                stop();
            } else if (choices_.one_in(8)) {
                stand_still();
            }
            break;
    }
}

inline void model::end_all() {
    doing_ = "end";
    check_at_rest();
    if (!failure_.empty()) return;
    if (choices_.below(3) != 0) {
        // Everybody reads, says nothing more, and times out.
        stops_talking_ = true;
        for (auto& r : records_) {
            if (r.peer) r.client->reads_everything();
        }
        check_at_rest();
        pass(8000);
        for (int more = 0; slows() && server_->size() != 0 && more != 10; ++more) pass(4000);
        check_at_rest();
        require(server_->size() == 0, "somebody is still connected");
        kept_.clear();
        check_at_rest();
        for (const auto& q : questions_) require(q.is_over, "a request to " + q.of->id + " was never over");
        for (const auto& s : surveys_) require(s.is_over, "the answers of many are never told");
        require(server_->hub().load()->connections.load() == 0, "connections are not freed");
        require(server_->hub().load()->waiting.load() == 0, "bytes wait for nobody");
        require(server_->hub().load()->contexts.load() == 0, "contexts are kept for nobody");
        for (std::size_t i = 0; i != server_->loop_count(); ++i)
            require(server_->loop(i).load() == 0, "a loop keeps a stream");
    }
    // What still is open ends without a word: no handler runs.
    const auto before = acts_done_;
    stops_talking_ = true;
    std::vector<std::weak_ptr<int>> alive;
    for (auto& r : records_) {
        alive.push_back(r.alive);
        for (const auto& h : r.own) alive.push_back(h.alive);
        r.is_over = true;
        r.handle = {};
        r.peer = nullptr;
        r.self = nullptr;
    }
    const auto over = [this] {
        return std::count_if(questions_.begin(), questions_.end(), [](const auto& q) { return q.is_over; }) +
               std::count_if(surveys_.begin(), surveys_.end(), [](const auto& s) { return s.is_over; });
    };
    const auto over_before = over();
    server_.reset();
    require(over_before == over(), "a request was over when the server was gone");
    require(before == acts_done_, "a handler ran when the server was gone");
    for (auto& [r, handle] : kept_) {
        require(!handle.is_connected() && handle.id() == r->id, "a handle outlived the server and is connected");
        handle.emit("e", "nobody");
        handle.ask<int>("e", std::chrono::milliseconds{1},
                        [this](error_code, int) { require(false, "a handle outlived the server and is answered"); });
        handle.disconnect();
        require(!handle.join("r0") && !handle.leave("r0"), "a handle outlived the server and joins");
        handle.run([this](connection&) { require(false, "a handle outlived the server and runs"); });
    }
    kept_.clear();
    for (const auto& q : questions_) require(q.alive.expired(), "a request outlived the server");
    for (const auto& s : surveys_) require(s.alive.expired(), "a request to many outlived the server");
    for (const auto& a : alive) require(a.expired(), "a connection outlived the server");
}

inline std::string model::run() {
    while (!choices_.used_up() && failure_.empty()) top_step();
    if (failure_.empty()) end_all();
    return failure_;
}

}  // namespace arke::test
