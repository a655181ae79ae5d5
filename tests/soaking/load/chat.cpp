// Rooms with people who come and go. A message is "room sender number": each member must hear each sender's numbers one after
// another, from those that were said when its join was acknowledged on, up to its leave, and nothing of the room before or after.

#include "client.hpp"

namespace soak {

namespace {

constexpr std::uint32_t rooms = 12;
constexpr int stayers = 36;
constexpr int movers = 16;
/// Senders from here on are threads of the server's program. How much they have said, only they know.
constexpr std::uint32_t foreign = 1'000'000'000;

/// What one sender has said in one room, and what of it has come back to itself.
struct speech {
    std::uint32_t said = 0;
    std::uint32_t echoed = 0;
};
using speeches = std::unordered_map<std::uint32_t, speech>;

/// The truth about a shift.
struct hall {
    std::vector<speeches> of_room = std::vector<speeches>(rooms);
    int speakers = 0;
};
using hall_ptr = std::shared_ptr<hall>;

class member : public std::enable_shared_from_this<member> {
public:
    member(world& w, hall_ptr h, const char* role)
        : world_{w}, hall_{std::move(h)}, client_{make_client(w, role)}, changed_{w}, me_{w.next_sender++} {}

    awaitable<bool> open() {
        if (!co_await client_->open("/chat")) co_return false;
        ++listeners_;
        asio::co_spawn(
            world_.context, [self = shared_from_this()] { return self->listen(); }, asio::detached);
        co_return true;
    }

    /// Returns when the server has acknowledged it. A thread of the server's that does it joins some time before it says so.
    awaitable<bool> join(std::uint32_t room, bool by_foreign_thread) {
        if (in_.contains(room)) co_return !is_over_;
        if (by_foreign_thread) in_.try_emplace(room);
        client_->emit(by_foreign_thread ? "join_by_thread" : "join", std::to_string(room));
        co_await until([&] { return in_.contains(room) && in_[room].is_acknowledged; });
        ++world_.count.joins;
        co_return !is_over_;
    }

    awaitable<void> leave(std::uint32_t room) {
        // What came back to its sender has been told to everybody; on another loop it may still be on its way.
        const auto due = world_.one_loop ? hall_->of_room[room] : speeches{};
        client_->emit("leave", std::to_string(room));
        co_await until([&] { return in_[room].is_left; });
        if (!is_over_) check(room, due);
        in_.erase(room);
        ++world_.count.leaves;
    }

    /// Says something and waits until it hears itself.
    awaitable<bool> say(std::uint32_t room) {
        auto& mine = hall_->of_room[room][me_];
        std::string text = std::to_string(room) + " " + std::to_string(me_) + " " + std::to_string(mine.said++) + " ";
        text.append(world_.below(200), 'x');
        ++world_.count.said;
        client_->emit("say", text);
        co_await until([&] {
            const auto& now = hall_->of_room[room][me_];
            return now.echoed == now.said;
        });
        co_return !is_over_;
    }

    /// Waits until everything that was said has come, and says what did not.
    awaitable<void> settle() {
        for (const auto& [room, unused] : in_) {
            const auto end = steady::now() + std::chrono::seconds{10};
            while (!is_over_ && steady::now() < end && missing(room, hall_->of_room[room]) != 0)
                co_await changed_.wait(milliseconds{50});
            if (!is_over_) check(room, hall_->of_room[room]);
        }
    }

    /// Until the stream has ended.
    awaitable<void> close() {
        if (!is_over_) client_->write(close_of(1000));
        is_closing_ = true;
        co_await end();
        if (code_ != 1000) world_.fault("a chat member said 1000 and was answered " + std::to_string(code_));
    }
    awaitable<void> reset() {
        client_->reset();
        co_await end();
    }
    awaitable<void> drop() {
        client_->cut();
        co_await end();
    }

    bool is_over() const { return is_over_; }

private:
    struct membership {
        bool is_acknowledged = false;
        bool is_left = false;
        speeches at_join;                                       // what may be missing of each
        std::unordered_map<std::uint32_t, std::uint32_t> next;  // of each who was heard
    };

    template <class Condition>
    awaitable<void> until(Condition holds) {
        const auto end = steady::now() + client::patience;
        while (!is_over_ && !holds()) {
            if (steady::now() > end) {
                world_.fault("a chat member was not answered within 30 s");
                client_->cut();
            }
            co_await changed_.wait(milliseconds{1000});
        }
    }

    awaitable<void> end() {
        while (listeners_ != 0) co_await changed_.wait(milliseconds{1000});
        is_over_ = true;
    }

    awaitable<void> listen() {
        for (;;) {
            const auto frame = co_await client_->read();
            if (!frame) break;
            if (frame->first == first_byte::close) {
                code_ = close_code_of(frame->payload);
                if (!is_closing_) world_.fault("a chat member was closed with " + std::to_string(code_));
                break;
            }
            take(parse_event(frame->payload));
        }
        if (code_ != 0) co_await client_->ends();
        client_->cut();
        is_over_ = true;
        --listeners_;
        changed_.ring();
    }

    void take(const event_text& event) {
        auto text = event.data;
        const auto room = static_cast<std::uint32_t>(take_number(text));
        if (event.name == "said") return hear(room, text);
        auto& here = in_[room];
        if (event.name == "joined") {
            here.is_acknowledged = true;
            here.at_join = hall_->of_room[room];
        } else if (event.name == "left") {
            here.is_left = true;
        } else {
            world_.fault("a chat member heard \"" + std::string{event.name} + "\", which nobody says");
        }
        changed_.ring();
    }

    void hear(std::uint32_t room, std::string_view text) {
        const auto found = in_.find(room);
        if (found == in_.end() || found->second.is_left) {
            ++world_.count.outside;
            return world_.fault("a chat member heard of a room that it was not in");
        }
        ++world_.count.heard;
        auto& here = found->second;
        const auto sender = static_cast<std::uint32_t>(take_number(text));
        const auto number = static_cast<std::uint32_t>(take_number(text));
        const auto [at, is_first] = here.next.try_emplace(sender, number);
        if (is_first && here.is_acknowledged && sender < foreign) {
            const auto said = here.at_join.find(sender);
            at->second = std::min(number, said == here.at_join.end() ? 0U : said->second.said);
        }
        if (number > at->second) lose(number - at->second, room, sender, number);
        if (number < at->second) {
            ++world_.count.doubled;
            world_.fault("room " + std::to_string(room) + ": number " + std::to_string(number) + " of sender " +
                         std::to_string(sender) + " came again");
        }
        at->second = std::max(at->second, number + 1);
        if (sender == me_) {
            hall_->of_room[room][me_].echoed = number + 1;
            changed_.ring();
        }
    }

    void lose(std::uint32_t count, std::uint32_t room, std::uint32_t sender, std::uint32_t before) {
        world_.count.lost += count;
        world_.fault("room " + std::to_string(room) + ": " + std::to_string(count) + " of sender " +
                     std::to_string(sender) + " before number " + std::to_string(before) + " did not come");
    }

    /// How many of `due` have not come.
    std::uint32_t missing(std::uint32_t room, const speeches& due) {
        std::uint32_t sum = 0;
        for (const auto& [sender, speech] : due) sum += speech.echoed - std::min(speech.echoed, reached(room, sender));
        return sum;
    }
    void check(std::uint32_t room, const speeches& due) {
        for (const auto& [sender, speech] : due) {
            const auto have = reached(room, sender);
            if (have < speech.echoed) lose(speech.echoed - have, room, sender, speech.echoed);
        }
    }
    std::uint32_t reached(std::uint32_t room, std::uint32_t sender) {
        const auto& here = in_[room];
        if (const auto heard = here.next.find(sender); heard != here.next.end()) return heard->second;
        const auto before = here.at_join.find(sender);
        return before == here.at_join.end() ? 0 : before->second.said;
    }

    world& world_;
    hall_ptr hall_;
    client_ptr client_;
    bell changed_;
    std::uint32_t me_;
    std::unordered_map<std::uint32_t, membership> in_;
    int listeners_ = 0;
    unsigned code_ = 0;
    bool is_closing_ = false;
    bool is_over_ = false;
};

/// Stays for the whole shift in two rooms, and misses nothing.
awaitable<void> stay(world& w, hall_ptr h, std::uint32_t number) {
    const auto me = std::make_shared<member>(w, h, "a chat member");
    const std::array mine{number % rooms, (number * 5 + 1) % rooms};
    bool well = co_await me->open();
    for (const auto room : mine) well = well && co_await me->join(room, number % 3 == 0);
    while (well && w.running) {
        well = co_await me->say(mine[w.below(2)]);
        co_await w.pause(milliseconds{w.below(60)});
    }
    if (me->is_over()) w.fault("a chat member that stays has lost its connection");
    --h->speakers;
    while (h->speakers != 0) co_await w.pause(milliseconds{10});
    co_await me->settle();
    co_await me->close();
}

/// Comes, changes rooms, and goes in any way.
awaitable<void> move(world& w, hall_ptr h) {
    while (w.running) {
        const auto me = std::make_shared<member>(w, h, "a chat member on the move");
        if (!co_await me->open()) break;
        bool well = true;
        for (auto visits = 1 + w.below(4); well && w.running && visits != 0; --visits) {
            const auto first = static_cast<std::uint32_t>(w.below(rooms));
            const auto second = (first + 1 + static_cast<std::uint32_t>(w.below(rooms - 1))) % rooms;
            well = co_await me->join(first, w.chance(30)) && co_await me->join(second, w.chance(30));
            for (auto words = w.below(5); well && words != 0; --words) {
                well = co_await me->say(w.chance(50) ? first : second);
                co_await w.pause(milliseconds{w.below(60)});
            }
            if (well) co_await me->leave(first);
            if (well && w.chance(70)) co_await me->leave(second);
            well = well && !me->is_over();
            if (w.chance(30)) break;
        }
        if (!well) w.fault("a chat member on the move has lost its connection");
        switch (w.below(3)) {
            case 0: co_await me->close(); break;
            case 1: co_await me->reset(); break;
            default: co_await me->drop(); break;
        }
    }
    --h->speakers;
}

}  // namespace

void start_chat(world& w) {
    const auto h = std::make_shared<hall>();
    h->speakers = stayers + movers;
    for (int i = 0; i != stayers; ++i) w.start(stay(w, h, static_cast<std::uint32_t>(i)));
    for (int i = 0; i != movers; ++i) w.start(move(w, h));
}

}  // namespace soak
