#include "crowd.hpp"
#include "failure.hpp"
#include "frames.hpp"
#include "modes.hpp"
#include "window.hpp"

#include <algorithm>
#include <random>

namespace bench {
namespace {

struct room {
    std::vector<std::size_t> members;
    exchange message;
};

// Deals the connections out to the rooms, pack by shuffled pack, so that all are in equally many rooms, nobody is twice in
// one, and two rooms seldom have the same members. The same in every run.
std::vector<room> deal(const options& o) {
    if (o.connections % o.room_size != 0)
        throw failure{"--connections must be a multiple of --room-size, so that each room gets different members."};
    std::mt19937 random{1};  // NOLINT: the same on purpose
    std::vector<std::size_t> pack(o.connections);
    for (std::size_t i = 0; i != pack.size(); ++i) pack[i] = i;
    std::vector<room> rooms(o.rooms);
    auto next = pack.size();
    for (std::size_t i = 0; i != rooms.size(); ++i) {
        if (next == pack.size()) {
            std::shuffle(pack.begin(), pack.end(), random);
            next = 0;
        }
        const auto first = pack.begin() + static_cast<std::ptrdiff_t>(next);
        rooms[i].members.assign(first, first + static_cast<std::ptrdiff_t>(o.room_size));
        rooms[i].message = make_room_message('r' + std::to_string(i), o.size);
        next += o.room_size;
    }
    return rooms;
}

}  // namespace

std::string run_rooms(const options& o) {
    if (o.protocol != protocol::websocket) throw failure{"The mode rooms speaks --protocol websocket only."};
    auto rooms = deal(o);

    crowd all{o, o.connections};
    std::vector<std::string> joins(all.size());
    for (std::size_t i = 0; i != rooms.size(); ++i)
        for (const auto member : rooms[i].members) joins[member] += make_join('r' + std::to_string(i));
    const auto echo = make_echo(o.protocol, kind::native, 8);
    for (std::size_t i = 0; i != all.size(); ++i) all.ask(i, i + 1, joins[i] + echo.request, echo.answer);
    all.watch();
    window measured{o};

    const auto bursts = (o.messages + o.in_flight - 1) / o.in_flight;
    std::uint64_t published = 0;
    std::uint64_t received = 0, awaited = 0;  // bytes
    std::uint64_t delivered = 0;              // messages, of whole bursts
    const auto publish = [&] {
        const auto& room = rooms[published % rooms.size()];
        for (const auto member : room.members) all.clients()[member].due += room.message.answer.size();
        awaited += room.message.answer.size() * room.members.size();
        // Another member at each visit.
        auto& speaker = all.clients()[room.members[published / rooms.size() % room.members.size()]];
        speaker.unsent = room.message.request.size();
        crowd::send(speaker, room.message.request);
        if (speaker.unsent != 0)
            throw failure{"The server takes no more while so many messages are in flight; lower --in-flight."};
        ++published;
    };
    const auto begin_burst = [&] {
        for (std::size_t i = 0; i != o.in_flight; ++i) publish();
    };

    measured.open();
    begin_burst();
    for (;;) {
        all.wait(100, [&](client& c, std::uint32_t) { received += all.receive(c); });
        measured.heard(received);
        if (received != awaited) continue;
        delivered += o.in_flight * o.room_size;
        if (!measured.is_open(delivered) || (o.messages != 0 && published == bursts * o.in_flight)) break;
        begin_burst();
    }
    measured.close(delivered);

    const auto count = static_cast<double>(measured.done());
    report r;
    r.add("mode", o.mode).add("connections", std::uint64_t{o.connections}).add("rooms", std::uint64_t{o.rooms});
    r.add("room_size", std::uint64_t{o.room_size}).add("in_flight", std::uint64_t{o.in_flight});
    r.add("deliveries", count).add("deliveries_in_all", delivered).add("published", published);
    measured.meter().tell(r, count);
    return r.line();
}

}  // namespace bench
