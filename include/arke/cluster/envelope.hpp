#pragma once

#include <arke/base/compile.hpp>
#include <arke/core/cluster_link.hpp>
#include <arke/core/hub.hpp>
#include <arke/event/outgoing.hpp>

#include <boost/container/small_vector.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What servers say to each other through a broker.
///
///     envelope  = %xAE version kind from sequence body
///     version   = %x01                      ; of another version nothing but this byte is understood
///     from      = 16OCTET                   ; the sender, by a random number of each start
///     sequence  = 8OCTET                    ; little endian, grows with each envelope of a sender
///     text      = number *OCTET             ; a length, and so many bytes
///     number    = *%x80-FF %x00-7F          ; seven bits at a time, the lowest first; 64 bits at most
///
///     deliver   = aim what urgency kind text(name) text(data) text(key)
///     disconnect= aim number(code) text(reason)
///     join      = aim text(room)            ; leave likewise
///     aim       = text(endpoint) %x00/%x01(everyone) number *name number *name       ; to, and except
///     name      = %x00-02 text              ; any, id, room
///
///     heartbeat = text(tag) text(name) number(connections)   ; hello, which asks for one, and goodbye likewise
///     members   = number(question) text(tag) text(endpoint) text(room)               ; how many: size, likewise
///     nodes     = number(question) text(tag)
///     event     = number(question) text(tag) kind text(name) text(data)              ; no question: number 0
///     listed    = number(question) %x00/%x01(more follow) number(count, of all parts) number *text
///     answer    = number(question) kind text(data)
///     refusal   = number(question) reason text
///
/// Additions are kinds of their own: an unknown one is passed over and counted.
namespace arke::cluster {

/// Who sends: made anew at each start.
struct sender_id {
    std::array<char, 16> bytes{};
    friend bool operator==(const sender_id&, const sender_id&) = default;
    friend auto operator<=>(const sender_id&, const sender_id&) = default;

    static sender_id make();
};

/// One envelope: views of what it was decoded from, or of what is to be encoded.
struct envelope {
    enum class kind : std::uint8_t {
        deliver = 1,
        disconnect,
        join,
        leave,
        heartbeat,
        hello,
        goodbye,
        members,
        size,
        nodes,
        event,
        listed,
        answer,
        refusal,
    };
    struct name {
        core::name::kind is;
        std::string_view text;
    };

    kind is = kind::heartbeat;
    sender_id from{};
    std::uint64_t sequence = 0;

    std::string_view endpoint{};  ///< Its path.
    bool everyone = false;
    boost::container::small_vector<name, 4> to{};
    boost::container::small_vector<name, 2> except{};
    outgoing what{};  ///< Of deliver, event, answer, refusal.
    close_code code = close_code::normal;
    std::string_view text{};  ///< The reason of a disconnect; the room of join, leave, members and size.

    std::string_view tag{};  ///< Of the sender.
    std::string_view name_of_node{};
    std::uint64_t number = 0;  ///< Of the question; zero is none. Of a heartbeat: the connections.
    bool more = false;
    std::uint64_t count = 0;
    std::vector<std::string_view> ids{};
};

/// Its bytes. The sequence may be written later: set_sequence().
std::string encode(const envelope& e);
void set_sequence(std::string& encoded, std::uint64_t sequence) noexcept;

enum class decoded : std::uint8_t {
    yes,
    newer,      ///< Of another version, or of a kind that this one does not know.
    malformed,  ///< None at all: not from us, or cut.
};

/// Reads one. What it views lives as long as `bytes`. Remote input throws nothing but std::bad_alloc. A message's texts are UTF-8
/// afterwards, and its kinds are known ones.
decoded decode(std::string_view bytes, envelope& to);

}  // namespace arke::cluster

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/cluster/envelope.ipp>
#endif
