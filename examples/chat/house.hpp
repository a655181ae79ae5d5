// What the chats share: who is here, in which rooms, and who hears what. chat.cpp, tls_chat.cpp and cluster_chat.cpp serve it.
//
// Two kinds of page talk to it. index.html speaks the events below. classic.html knows one event, "chat" with a string,
// as the chat of 2016 did; it hears and reaches the lobby.
//
//   a page sends                             and hears
//   hello    name                            welcome  {id, name}
//   enter    room, leave room                entered  {room, people}, then joined, left {room, id, name}
//   say      {room, text}                    message  {room, id, name, text}
//   whisper  {to, text}                      private  {from, to, name, text}
//   chat     text                            rooms    [{name, people}], refused text, chat text
//
// A house may have several servers. What people say goes to all of a room, wherever they are; of who comes and goes each server
// tells its own pages, and the other servers whom it has (guests(), elsewhere()).
#pragma once

#include <arke/arke.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace chat {

// What a visitor can make grow ends here; a message ends at config::max_message_size.
constexpr std::size_t longest_name = 40;  // characters, of people and of rooms
constexpr std::size_t most_rooms = 100;
constexpr std::size_t most_rooms_each = 10;

struct person {
    std::string id, name;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(person, id, name)

struct room_entry {
    std::string name;
    std::size_t people;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(room_entry, name, people)

struct entered {
    std::string room;
    std::vector<person> people;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(entered, room, people)

struct coming_or_going {
    std::string room, id, name;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(coming_or_going, room, id, name)

struct saying {
    std::string room, text;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(saying, room, text)

struct message {
    std::string room, id, name, text;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(message, room, id, name, text)

struct whisper {
    std::string to, text;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(whisper, to, text)

struct private_message {
    std::string from, to, name, text;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(private_message, from, to, name, text)

/// What the servers of a house tell each other of a person.
struct guest {
    std::string id, name;
    bool classic = false;
    std::set<std::string> rooms;

    friend bool operator==(const guest&, const guest&) = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(guest, id, name, classic, rooms)

/// What we know of a connection.
struct visitor {
    std::string name;     // empty until it says hello, or its first word from a classic page
    bool classic = true;  // until it says hello
    std::set<std::string> rooms;
};
using server = arke::basic_server<visitor>;
using talker = arke::basic_connection<visitor>;

inline const std::string lobby = "Lobby";

// The server's rooms of our own, and those that people name: never the same, and never a connection's id.
inline const std::string classic_pages = "classic pages";
inline const std::string modern_pages = "modern pages";
inline std::string members_of(const std::string& room) { return "room " + room; }

/// A name as it is shown: in one line, without white space at its ends, and not too long.
inline std::string tidy(std::string_view text) {
    std::string line;
    std::size_t characters = 0;
    for (char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool white = byte <= 0x20 || byte == 0x7f;
        if (white && (line.empty() || line.back() == ' ')) continue;
        const bool begins_character = (byte & 0xc0) != 0x80;  // the others continue one
        if (begins_character && ++characters > longest_name) break;
        line += white ? ' ' : c;
    }
    if (!line.empty() && line.back() == ' ') line.pop_back();
    return line;
}

inline bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

/// Everybody and every room. server.run() runs one loop, and handlers of one loop run one at a time: plain containers do.
class house {
public:
    /// Before server.run(); the house outlives the server. `mark` is this server's alone where the house has several: the rooms that
    /// have it in their names are of its own pages.
    void open(server& s, std::string mark = {}) {
        server_ = &s;
        mark_ = std::move(mark);
        s.on_connection([this](talker& c) { arrive(c); });
    }

    /// Called when somebody here has come, gone, or changed rooms.
    std::function<void()> on_change;

    /// Everybody here who has a name.
    std::map<std::string, guest> guests() const {
        const auto here = everybody_.find({});
        return here == everybody_.end() ? std::map<std::string, guest>{} : here->second;
    }

    /// Everybody who is at another server, by id: none when it has gone.
    void elsewhere(const std::string& at, const std::map<std::string, guest>& now) {
        const auto before = std::exchange(everybody_[at], now);
        if (before == now) return;
        const auto is_in = [](const std::map<std::string, guest>& all, const guest& g, const std::string& room) {
            const auto found = all.find(g.id);
            return found != all.end() && found->second.rooms.contains(room);
        };
        for (const auto& [id, g] : before)
            for (const auto& room : g.rooms)
                if (!is_in(now, g, room)) go_out(g, room);
        for (const auto& [id, g] : now)
            for (const auto& room : g.rooms)
                if (!is_in(before, g, room)) come_in(g, room);
        if (now.empty()) everybody_.erase(at);
        tell_rooms();
    }

    /// To every page of this server that has said hello.
    template <class T>
    void tell_pages(std::string_view event, const T& data) {
        server_->to(pages_here()).emit(event, data);
    }

private:
    void arrive(talker& c) {
        c.join(classic_pages);

        c.on("hello", [this](talker& who, std::string name) { hello(who, name); });
        c.on("enter", [this](talker& who, std::string room) { enter(who, room); });
        c.on("leave", [this](talker& who, std::string room) { leave(who, room); });
        c.on("say", [this](talker& who, const saying& words) { say(who, words); });
        c.on("whisper", [this](talker& who, const whisper& words) { whisper_to(who, words); });
        c.on("chat", [this](talker& who, std::string text) { say_plainly(who, text); });

        c.on_disconnect([this, &c] {
            const visitor& v = c.session();
            if (v.name.empty()) return;
            const guest gone{c.id(), v.name, v.classic, v.rooms};
            everybody_[{}].erase(c.id());
            for (const auto& room : gone.rooms) go_out(gone, room);
            changed();
        });
    }

    void hello(talker& c, std::string_view asked) {
        const std::string name = tidy(asked);
        if (name.empty()) return c.emit("refused", "Please choose a name.");
        if (!c.session().name.empty()) return c.emit("refused", "You have a name already.");

        c.session() = {.name = name, .classic = false, .rooms = {}};
        c.leave(classic_pages);
        c.join(pages_here());
        c.emit("welcome", person{c.id(), name});
        enter(c, lobby);
    }

    void enter(talker& c, std::string_view asked) {
        const std::string room = tidy(asked);
        visitor& v = c.session();
        if (v.name.empty()) return c.emit("refused", "Say hello first.");
        if (room.empty()) return c.emit("refused", "A room needs a name.");
        if (v.rooms.contains(room)) return;
        if (v.rooms.size() >= most_rooms_each) return c.emit("refused", "You are in many rooms; leave one first.");
        if (!rooms_.contains(room) && rooms_.size() >= most_rooms)
            return c.emit("refused", "There are too many rooms already.");

        v.rooms.insert(room);
        const guest& g = everybody_[{}][c.id()] = {c.id(), v.name, v.classic, v.rooms};
        come_in(g, room);  // told before we are one of them
        if (!v.classic) {
            c.join(members_of(room));
            c.join(members_here(room));
        }

        entered answer{room, {}};
        for (const auto& [id, name] : rooms_[room]) answer.people.push_back({id, name});
        c.emit("entered", answer);
        changed();
    }

    void leave(talker& c, const std::string& room) {
        visitor& v = c.session();
        if (room == lobby) return c.emit("refused", "Everybody stays in the lobby.");
        if (v.rooms.erase(room) == 0) return;
        c.leave(members_of(room));
        c.leave(members_here(room));
        guest& g = everybody_[{}][c.id()];
        g.rooms = v.rooms;
        go_out(g, room);
        changed();
    }

    void say(talker& c, const saying& words) {
        if (is_blank(words.text)) return;
        if (!c.session().rooms.contains(words.room)) return c.emit("refused", "You are not in that room.");
        tell(c, words.room, words.text);
    }

    /// The only word of a classic page. Who says it first is a guest from then on.
    void say_plainly(talker& c, const std::string& text) {
        if (is_blank(text)) return;
        visitor& v = c.session();
        if (v.name.empty()) {
            v.name = "Guest " + c.id().substr(0, 4);
            enter(c, lobby);
        }
        tell(c, lobby, text);
    }

    void whisper_to(talker& c, const whisper& words) {
        if (is_blank(words.text)) return;
        if (c.session().name.empty()) return c.emit("refused", "Say hello first.");
        const guest* const to = find(words.to);
        if (to == nullptr) return c.emit("refused", "That person has left.");

        // To an id and nothing else: a plain name could be that of a room.
        const private_message sent{c.id(), words.to, c.session().name, words.text};
        if (to->classic)
            c.to(arke::id{words.to}).emit("chat", c.session().name + " (to you only): " + words.text);
        else
            c.to(arke::id{words.to}).emit("private", sent);
        if (words.to != c.id()) c.emit("private", sent);  // shown when it is on its way, in order with all else
    }

    void tell(talker& c, const std::string& room, const std::string& text) {
        c.to(members_of(room)).emit("message", message{room, c.id(), c.session().name, text});
        if (room == lobby) c.to(classic_pages).emit("chat", c.session().name + ": " + text);
    }

    void come_in(const guest& g, const std::string& room) {
        rooms_[room][g.id] = g.name;
        server_->to(members_here(room)).emit("joined", coming_or_going{room, g.id, g.name});
    }

    void go_out(const guest& g, const std::string& room) {
        const auto found = rooms_.find(room);
        found->second.erase(g.id);
        if (found->second.empty()) rooms_.erase(found);
        server_->to(members_here(room)).emit("left", coming_or_going{room, g.id, g.name});
    }

    void tell_rooms() {
        std::vector<room_entry> list;
        for (const auto& [name, people] : rooms_) list.push_back({name, people.size()});
        tell_pages("rooms", list);
    }

    void changed() {
        tell_rooms();
        if (on_change) on_change();
    }

    const guest* find(const std::string& id) const {
        for (const auto& [at, people] : everybody_)
            if (const auto found = people.find(id); found != people.end()) return &found->second;
        return nullptr;
    }

    std::string pages_here() const { return modern_pages + mark_; }
    std::string members_here(const std::string& room) const {
        return mark_.empty() ? members_of(room) : "room" + mark_ + ' ' + room;
    }

    server* server_ = nullptr;
    std::string mark_;
    std::map<std::string, std::map<std::string, guest>> everybody_;    // by server (none: this one) and id
    std::map<std::string, std::map<std::string, std::string>> rooms_;  // room, id, name
};

inline std::uint16_t port_from(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size())
        throw std::invalid_argument("the port is a number from 0 to 65535, and \"" + std::string{text} + "\" is none");
    return port;
}

}  // namespace chat
