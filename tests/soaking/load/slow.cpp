// The busy room: a thread of the server's program says 64 KiB a hundred times a second to endpoints that differ in what they do
// with a reader that stops. A message begins with its number.

#include "client.hpp"

namespace soak {

namespace {

constexpr int small_buffer = 4096;
// For those who are to read what waits before they are cut: the kernel sends to the smallest buffers a few hundred kB a second.
constexpr int fair_buffer = 64 * 1024;

/// What one reader has heard so far.
class listener {
public:
    listener(world& w, std::string role, bool may_miss) : world_{w}, role_{std::move(role)}, may_miss_{may_miss} {}

    void hear(std::string_view payload) {
        auto text = parse_event(payload).data;
        const auto number = take_number(text);
        ++world_.count.busy_heard;
        if (text.size() != 64UL * 1024) world_.fault(role_ + " heard a message that was not whole");
        if (last_ != 0 && number <= last_) world_.fault(role_ + " heard a message again, or an old one late");
        if (last_ != 0 && number > last_ + 1) {
            world_.count.busy_skipped += number - last_ - 1;
            if (!may_miss_) {
                world_.count.lost += number - last_ - 1;
                world_.fault(role_ + " missed " + std::to_string(number - last_ - 1) + " messages");
            }
        }
        last_ = number;
    }
    std::uint64_t last() const { return last_; }

private:
    world& world_;
    std::string role_;
    bool may_miss_;
    std::uint64_t last_ = 0;
};

/// Waits, without reading, until the room has gone on by so many messages. False when the shift ends before.
awaitable<bool> stop_reading(world& w, std::uint64_t messages) {
    const auto until = w.metronome + messages;
    while (w.running && w.metronome < until) co_await w.pause(milliseconds{20});
    co_return w.metronome >= until;
}

/// Reads until it has heard what is said now. A close frame or the end of the stream says so by its code, or 0.
awaitable<std::optional<unsigned>> catch_up(world& w, client& c, listener& l) {
    const auto goal = w.metronome;
    while (l.last() < goal) {
        const auto frame = co_await c.read();
        if (!frame) co_return 0U;
        if (frame->first == first_byte::close) {
            const auto code = close_code_of(frame->payload);
            c.write(frame_of(first_byte::close, frame->payload));
            co_return code;
        }
        if (frame->first == first_byte::text) l.hear(frame->payload);
    }
    co_return std::nullopt;
}

/// Reads always, loses nothing, and sets the metronome.
awaitable<void> keep_up(world& w, std::string path, bool sets_metronome) {
    const std::string role = "a reader that keeps up, of " + path;
    const auto c = make_client(w, role);
    if (!co_await c->open(path)) co_return;
    listener l{w, role, false};
    while (w.running) {
        const auto frame = co_await c->read();
        if (!frame || frame->first != first_byte::text) co_return w.fault(role + " was cut off");
        l.hear(frame->payload);
        c->emit("heard", std::to_string(l.last()));
        if (sets_metronome) w.metronome = l.last();
    }
    co_await c->close();
}

/// overflow::close: what it is sent has no gap, up to a close with 1013.
awaitable<void> be_closed(world& w) {
    std::uint64_t patience = 128;
    while (w.running) {
        const auto c = make_client(w, "a slow reader");
        if (!co_await c->open("/busy/close", fair_buffer)) co_return;
        listener l{w, "a slow reader", false};
        for (;;) {
            const bool stopped = co_await stop_reading(w, patience);
            const auto code = co_await catch_up(w, *c, l);
            if (code) {
                if (*code != 1013) w.fault("a slow reader was closed with " + std::to_string(*code) + " and not 1013");
                ++w.count.told_1013;
                co_await c->ends();
                c->cut();
                break;
            }
            if (!stopped) {
                if (co_await c->close(1013) == 1013) ++w.count.told_1013;
                break;
            }
            // The kernel took it all.
            patience *= 2;
        }
    }
}

/// overflow::drop and coalesce: it stays, hears each at most once and in order, and is up to date when it reads again.
awaitable<void> miss_some(world& w, std::string path) {
    const std::string role = "a slow reader of " + path;
    const auto c = make_client(w, role);
    if (!co_await c->open(path, small_buffer)) co_return;
    listener l{w, role, true};
    while (w.running) {
        co_await stop_reading(w, 32 + w.below(160));
        if (const auto code = co_await catch_up(w, *c, l))
            co_return w.fault(role + " was closed with " + std::to_string(*code));
        ++w.count.caught_up;
    }
    co_await c->close();
}

/// Stops and goes within its bound: loses nothing.
awaitable<void> stop_and_go(world& w) {
    const auto c = make_client(w, "a reader that stops and goes");
    if (!co_await c->open("/busy/resume", fair_buffer)) co_return;
    listener l{w, "a reader that stops and goes", false};
    while (w.running) {
        co_await stop_reading(w, w.below(100));
        if (const auto code = co_await catch_up(w, *c, l))
            co_return w.fault("a reader that stops and goes was closed with " + std::to_string(*code));
        ++w.count.caught_up;
    }
    co_await c->close();
}

/// Takes nothing for longer than write_timeout: cut, without a word.
awaitable<void> be_stuck(world& w) {
    while (w.running) {
        const auto c = make_client(w, "a stuck reader");
        if (!co_await c->open("/busy/stuck", small_buffer)) co_return;
        listener l{w, "a stuck reader", false};
        if (!co_await stop_reading(w, 220)) {
            c->reset();
            co_return;
        }
        const auto code = co_await catch_up(w, *c, l);
        if (code == 0U) {
            ++w.count.cut_while_stuck;
        } else if (code) {
            w.fault("a stuck reader was closed with " + std::to_string(*code));
        }
        c->reset();
    }
}

}  // namespace

void start_slow(world& w) {
    w.start(keep_up(w, "/busy/close", true));
    w.start(keep_up(w, "/busy/drop", false));
    w.start(keep_up(w, "/busy/coalesce", false));
    for (int i = 0; i != 3; ++i) {
        w.start(be_closed(w));
        w.start(miss_some(w, "/busy/drop"));
        w.start(miss_some(w, "/busy/coalesce"));
        w.start(stop_and_go(w));
        w.start(be_stuck(w));
    }
}

}  // namespace soak
