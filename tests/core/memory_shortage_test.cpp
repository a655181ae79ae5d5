#include <arke/testing.hpp>

#include <new>
#include <string>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"

namespace arke::test {
namespace {

using testing::client;
using testing::client_frame;

/// The application's part of a connection; there are as many as connections live.
struct trace {
    inline static int alive = 0;
    trace() { ++alive; }
    ~trace() { --alive; }
    trace(const trace&) = delete;
    trace& operator=(const trace&) = delete;
};

const std::string room(40, 'r');
const std::string other_room(40, 's');
const std::string victim_id(40, 'v');

/// A server with somebody who is none of this business, and all that can happen to a connection, step by step.
class life {
public:
    /// The victim speaks the protocol of 2016 or arke.v1.
    life(config settings, bool sends_in_batches, bool speaks_v1)
        : server_{std::move(settings), 1, sends_in_batches}, speaks_v1_{speaks_v1} {
        server_.on_connection([this](connection& c) { (c.id() == victim_id ? victims_ : others_) += 1; });
        server_.on_disconnect([this](connection& c) { (c.id() == victim_id ? victims_ : others_) -= 1; });
        server_.on("say", [](connection& c, const std::string& text) { c.to(room).emit("said", text); });
        server_.on("add", [](int number) { return number; });
        server_.on("join", [](connection& c) {
            c.join(room);
            c.join(other_room);
        });
        server_.on("leave", [](connection& c) { c.leave(other_room); });
        server_.on("listen", [](connection& c) {
            c.on("own", [](connection& again, std::string_view text) { again.emit("own", text); });
            // They take themselves out while they run, and use what they captured after it.
            const auto id = std::make_shared<handler_id>();
            *id = c.on("own", [id, kept = std::string(100, 'k')](connection& again, std::string_view text) {
                again.off(*id);
                CHECK(kept.size() == 100);
                static_cast<void>(text);
            });
            c.on("once", [kept = std::string(100, 'k')](connection& again) {
                again.off("once");
                CHECK(kept.size() == 100);
            });
            c.on_leave([](std::string_view) {});
        });
        server_.on_message([](connection& c, message_view m) { c.emit_message(m); });
        server_.on_join([](std::string_view) { return true; });
        server_.on_error([](const error_report&) {});
        bystander_ = &server_.connect("bystander");
        // The test's own memory for what is heard is not what fails.
        bystander_->stream().sent.reserve(1UL << 20U);
        server_.in_turn([this] { bystander_->self().join(room); });
        bystander_->heard();
    }

    /// Lives it through, with no memory where `run` says so, and returns whether there was none at some time.
    bool run(std::size_t nth, std::size_t times) {
        bool struck = false;
        std::size_t before = 0;
        const auto step = [&](auto&& what) {
            const auto at = allocations();
            // Past the end of this step the count goes on in the next.
            if (nth >= before) {
                const memory_shortage none{nth - before, times};
                try {
                    what();
                } catch (const std::bad_alloc&) {
                    // The test's own, or what a caller of the server is told.
                }
                struck = struck || none.struck();
            } else {
                what();
            }
            before += allocations() - at;
        };
        const auto says = [&](const std::string& text) {
            const auto line = (expected_.empty() ? "news(" : " news(") + told(text) + ")";
            step([&] {
                server_.in_turn([&] {
                    server_.to(room).emit("news", text);
                    expected_.append(line);
                });
            });
        };
        expected_.reserve(1UL << 20U);
        step([&] { victim_ = speaks_v1_ ? &server_.connect_v1(victim_id) : &server_.connect(victim_id); });
        if (victim_ != nullptr && !victim_->was_refused()) {
            auto& v = *victim_;
            v.stream().sent.reserve(1UL << 20U);
            step([&] { v.emits("join"); });
            step([&] { v.emits("listen"); });
            step([&] { v.emits("own", std::string(200, 'o')); });
            step([&] { v.emits("once"); });
            // No arrays and objects: nlohmann's json needs memory to free those, and ends the program when there is none.
            step([&] { v.emits("add", 4711); });
            step([&] { v.speaks(outgoing::native(true, std::string(20'000, 'm'))); });
            if (speaks_v1_) {
                step([&] { v.asks(7, "add", 4711); });
                step([&] { v.asks(8, "nobody knows this event, whose name needs memory"); });
                step([&] { v.says("j9 a room that was asked for, whose name needs memory"); });
                for (const bool is_answered : {true, false}) {
                    step([&] {
                        server_.in_turn([&] {
                            ++asked_;
                            server_.find(victim_id).ask<std::string>(
                                "how many?", std::string(50, 'q'), std::chrono::seconds{3},
                                [this](error_code, const std::string&) { ++completed_; });
                        });
                    });
                    if (is_answered) step([&] { v.answers(0, std::string(50, 'a')); });
                }
                step([&] {
                    ++asked_;
                    server_.to(victim_id).ask<std::string>("who?", std::chrono::seconds{3},
                                                           [this](const ask_results<std::string>&) { ++completed_; });
                    server_.settle();
                });
            }
            step([&] {
                v.sends(client_frame(0x01, std::string(300, 'f')) + client_frame(0x80, std::string(300, 'g')));
            });
            step([&] { v.pings("ping"); });
            says("short");
            says(std::string(9'000, 'n'));
            // Frames of others stand between its own.
            step([&] {
                server_.in_turn([&] {
                    const auto p = server_.find(victim_id);
                    p.emit("mine");
                    server_.to("bystander").emit("yours");
                    expected_.append(" yours()");
                    p.emit("mine");
                });
            });
            // As another thread would.
            step([&] {
                server_.find(victim_id).emit("posted", std::string(100, 'p'));
                server_.find(victim_id).join("a third room, whose name is long enough to need memory");
                server_.settle();
            });
            v.reads_only(50);
            for (int i = 0; i != 3; ++i) says(std::string(100, 'w'));
            says(std::string(9'000, 'n'));
            step([&] {
                server_.in_turn([&] {
                    for (int i = 0; i != 3; ++i) {
                        server_.find(victim_id).emit_latest("level", std::string(50, 'l'),
                                                            "a key of more than a few letters");
                    }
                });
            });
            step([&] { v.reads(300); });
            step([&] { v.reads_everything(); });
            step([&] { v.emits("leave"); });
            step([&] { server_.pass(std::chrono::seconds{40}); });
            step([&] { v.closes(1000, "a reason that is long enough to be in memory of its own"); });
            step([&] { v.hangs_up(); });
        }
        server_.settle();
        return struck;
    }

    void check() {
        CHECK(others_ == 1);
        CHECK(victims_ == 0);
        // Once at the most; and each, but where there was no memory to ask, or to say so.
        CHECK(completed_ <= asked_);
        CHECK(bystander_->heard() == expected_);
        CHECK(bystander_->stream().misuse == "");
        CHECK(server_.size() == 1);
        CHECK(trace::alive == 1);
        CHECK(server_.rooms() == std::vector{room});
        if (victim_ != nullptr && !victim_->was_refused()) CHECK(victim_->stream().misuse == "");
        // And it goes on.
        server_.in_turn([&] { server_.to(room).emit("after"); });
        CHECK(bystander_->heard() == "after()");
    }

    /// How often a connection ended for want of memory.
    std::size_t ends() {
        metrics all;
        server_.hub().add_metrics(all, true);
        return all.closed.out_of_memory;
    }

private:
    static std::string told(const std::string& text) {
        return text.size() <= 60 ? text : std::to_string(text.size()) + " bytes";
    }

    testing::basic_server<trace> server_;
    client* bystander_ = nullptr;
    client* victim_ = nullptr;
    bool speaks_v1_;
    int others_ = 0;
    int victims_ = 0;
    int asked_ = 0;
    int completed_ = 0;
    std::string expected_;
};

void live(config settings, bool sends_in_batches, std::size_t times, bool speaks_v1 = false) {
    settings.listener.write_buffer_size = 16 * 1024;
    settings.pong_timeout = std::chrono::seconds{90};
    settings.max_message_size = 64 * 1024;
    std::size_t nth = 0;
    std::size_t ends = 0;
    for (bool struck = true; struck; ++nth) {
        CAPTURE(nth, times, sends_in_batches, speaks_v1);
        {
            life l{settings, sends_in_batches, speaks_v1};
            struck = l.run(nth, times);
            l.check();
            ends += l.ends();
        }
        REQUIRE(trace::alive == 0);
    }
    CHECK(nth > 100);
    CHECK(ends > 10);
}

TEST_CASE("where there is no memory, once, only the connection that asked for it ends") {
    live({}, GENERATE(false, true), 1);
}

TEST_CASE("the same where there is none for the rest of what is being done") {
    live({}, GENERATE(false, true), memory_shortage::for_good);
}

TEST_CASE("the same with the other ways of a slow reader") {
    live({.max_outbox_bytes = 8 * 1024, .on_overflow = GENERATE(overflow::close, overflow::drop, overflow::coalesce)},
         false, GENERATE(std::size_t{1}, memory_shortage::for_good));
}

TEST_CASE("the same with requests in both directions") {
    live({}, GENERATE(false, true), GENERATE(std::size_t{1}, memory_shortage::for_good), true);
}

}  // namespace
}  // namespace arke::test
