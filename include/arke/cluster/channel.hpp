#pragma once

#include <arke/wire/sha1.hpp>

#include <array>
#include <string>
#include <string_view>

/// The names of channels: what a node subscribes to.
///
///     <prefix>.nodes                   every node, and nobody else
///     <prefix>.node.<tag>              one node
///     <prefix>.all.<endpoint>          all connections of an endpoint
///     <prefix>.room.<endpoint>.<room>  the nodes where a room has members; and for an id of the application's own, as a room
///
/// Paths and rooms may be any bytes, subjects of NATS may not: letters, digits, '-' and '_' stand for themselves, everything else
/// as =XX, nothing at all as "==". What becomes too long is "=~" and its SHA-1: two names that somebody makes collide cost each
/// other traffic and nothing else, for a message names its room in full and is delivered by that.
namespace arke::cluster {

/// One part of a name. At most `most` bytes, which must be 42 or more.
inline std::string escape(std::string_view text, std::size_t most) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    const auto append_hex = [&](std::string& to, std::string_view bytes) {
        for (const char c : bytes) {
            to += digits[static_cast<unsigned char>(c) >> 4U];
            to += digits[static_cast<unsigned char>(c) & 15U];
        }
    };
    if (text.empty()) return "==";
    std::string made;
    for (const char c : text) {
        const bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        if (plain) {
            made += c;
        } else {
            made += '=';
            append_hex(made, {&c, 1});
        }
        if (made.size() > most) {
            const auto digest = wire::sha1(text);
            made = "=~";
            append_hex(made, {digest.data(), digest.size()});
            return made;
        }
    }
    return made;
}

class channel_names {
public:
    explicit channel_names(std::string_view prefix) : prefix_{prefix} { prefix_ += '.'; }

    std::string nodes() const { return prefix_ + "nodes"; }
    std::string node(std::string_view tag) const { return prefix_ + "node." + std::string{tag}; }
    std::string everyone(std::string_view endpoint) const { return prefix_ + "all." + escape(endpoint, most_of_path); }
    std::string room(std::string_view endpoint, std::string_view name) const {
        return prefix_ + "room." + escape(endpoint, most_of_path) + "." + escape(name, most_of_room);
    }

    static constexpr std::size_t most_of_prefix = 60;

private:
    static constexpr std::size_t most_of_path = 60;
    static constexpr std::size_t most_of_room = 120;

    std::string prefix_;
};

}  // namespace arke::cluster
