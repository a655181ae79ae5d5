#pragma once

#include <arke/base/config.hpp>
#include <arke/base/keyed_hash.hpp>
#include <arke/core/cluster_link.hpp>
#include <arke/core/peer.hpp>
#include <arke/event/protocol.hpp>

#include <boost/container/small_vector.hpp>
#include <boost/unordered/unordered_flat_set.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace arke::core {

template <class T>
using string_map = std::unordered_map<std::string, T, arke::detail::keyed_hash, std::equal_to<>>;

/// A quick hash for maps whose names are the application's own, so that no peer can fill a bucket.
struct name_hash {
    using is_transparent = void;
    // Not noexcept: libstdc++ then keeps each key's hash instead of making it again with every look.
    std::size_t operator()(std::string_view text) const {
        const char* at = text.data();
        std::size_t left = text.size();
        std::uint64_t hash = left * 0x9E37'79B9'7F4A'7C15U;
        std::uint64_t word = 0;
        const auto mix = [&hash](std::uint64_t by) {
            hash = (hash ^ by) * 0x9E37'79B9'7F4A'7C15U;
            hash ^= hash >> 32U;
        };
        for (; left > 8; at += 8, left -= 8) {
            std::memcpy(&word, at, 8);
            mix(word);
        }
        // What is left of 4 to 8 bytes is read as two halves that overlap.
        if (left >= 4) {
            std::array<std::uint32_t, 2> halves;
            std::memcpy(&halves[0], at, 4);
            std::memcpy(&halves[1], at + left - 4, 4);
            mix(std::uint64_t{halves[0]} << 32U | halves[1]);
        } else {
            for (word = 0; left != 0; --left) word = word << 8U | static_cast<unsigned char>(*at++);
            mix(word);
        }
        return static_cast<std::size_t>(hash);
    }
};

/// A name as a target gives it: an id, a room, or whichever it is. An id comes first, so that nobody who joined a room of
/// that name in time hears what is meant for one.
struct name {
    enum class kind : std::uint8_t { any, id, room };
    kind is = kind::any;
    std::string text;
};

/// Whom something is for, in the user's words.
struct address {
    bool everyone = false;
    peer_ptr not_me;
    boost::container::small_vector<name, 2> to;
    boost::container::small_vector<name, 1> except;
};

/// Whom something is for, with ids already found. Rooms are looked up where the members live, when the loop takes it up.
struct recipients {
    bool everyone = false;
    peer_ptr not_me;
    boost::container::small_vector<peer_ptr, 2> peers;
    boost::container::small_vector<std::string, 2> rooms;
    boost::container::small_vector<peer_ptr, 1> except_peers;
    boost::container::small_vector<std::string, 1> except_rooms;
};

class hub;

/// The part of a hub that lives on one loop: its peers and its rooms, which are the truth about membership.
///
/// On its loop only; the snapshots any thread.
class shard {
public:
    shard(hub& owner, loop& on) : hub_{owner}, loop_{on} {}

    loop& on_loop() const noexcept { return loop_; }

    /// Makes room for one more, so that add() and what follows from it cannot fail.
    void make_room();
    void add(peer& p) noexcept;
    void remove(peer& p) noexcept;

    /// Lets go of everybody. When the loop has ended.
    void clear();

    /// The index has counted the membership already; where nothing comes of it, it is told.
    bool join(peer& p, std::string_view name);
    bool leave(peer& p, std::string_view name);
    bool is_joined(const peer& p, std::string_view name) const;

    /// Whether one more room is within the bounds of one connection.
    bool may_join(const peer& p, std::string_view name) const noexcept;

    void deliver(const recipients& to, const outgoing& out, const message* shared);

    /// The peers of this loop that are meant, each once.
    std::vector<peer_ptr> select(const recipients& to);

    /// Whether removing this peer must wait, because members are being walked; it is remembered then.
    bool forget_later(peer& p) noexcept;

    std::vector<std::string> members(std::string_view name) const;

private:
    struct encoded;
    struct forms;
    void take_out(peer& p, std::size_t index) noexcept;
    void encode(encoded& frame, const outgoing& out, std::size_t index, const message* shared);
    bool deflate(encoded& frame, const outgoing& out, const protocol::form& form, std::size_t index, int window_bits,
                 const message* shared);
    void give(peer& p, forms& frames, const outgoing& out, const message* shared);
    bool give_deflated(peer& p, forms& frames, const outgoing& out, const message* shared);
    std::uint32_t next_mark();

    hub& hub_;
    loop& loop_;
    std::vector<peer*> peers_;
    string_map<std::unique_ptr<room>> rooms_;
    mutable std::mutex rooms_mutex_;  // for snapshots: the loop takes it to change rooms_, others to read them
    std::uint32_t mark_ = 0;
    bool delivering_ = false;
    std::vector<peer_ptr> to_forget_;
};

/// Everything that belongs to one endpoint: its config, its protocols, its connections and rooms over all loops.
///
/// A small index, under a lock, knows which id is which peer and which room has members on which loops. It is changed in
/// the very call of join or leave, and the posts of one thread to one loop keep their order, so a join followed by an
/// emit from the same thread reaches the one who joined.
///
/// Threads: any, except where it says otherwise. No user code runs under a lock.
class hub : public peer_owner {
public:
    using peer_owner::peer_owner;

    /// Loops are added before they run; other threads may speak meanwhile.
    void add_loop(loop& on);
    shard& shard_of(const loop& on) noexcept { return *shards_[on.index()]; }
    /// Null before there is one.
    loop_ptr first_loop() const noexcept {
        const std::lock_guard lock{index_mutex_};
        return loops_.empty() ? loop_ptr{} : loops_.front();
    }

    // --- connections

    enum class admission { taken, refused };

    /// Gives the peer its id in the index; a holder of the id is closed where the config says so. On the peer's loop.
    admission admit(peer& p);

    /// Out of the index and all rooms. On the peer's loop; once.
    void forget(peer& p) noexcept override;

    /// Adds what the loops and this endpoint have counted: `loops` only for one of the endpoints that share them.
    void add_metrics(metrics& to, bool loops) const;

    /// Lets go of all peers, because the loops have ended. Those that are still open run no handler any more. No loop may run.
    void clear();

    peer_ptr find(std::string_view id) const;
    std::size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }
    std::vector<peer_ptr> peers() const;

    // --- rooms

    enum class joined { yes, no_such_connection, name_taken, too_many };

    joined join(peer& p, std::string_view name);
    bool leave(peer& p, std::string_view name);
    std::vector<std::string> rooms() const;
    std::vector<std::string> members(std::string_view name) const;

    /// Whether a name is that of a room with members here, or of a connection.
    bool is_occupied(std::string_view name) const;

    // --- other machines

    /// Other machines hear from now on what is said here. Before the first connection; once.
    void link(cluster_link_ptr to) { link_ = std::move(to); }
    const cluster_link_ptr& link() const noexcept { return link_; }

    // --- messages

    /// Throws std::invalid_argument when no protocol of this endpoint can carry the event.
    void check(const outgoing& out) const;

    /// To those it names on all machines.
    void deliver(const address& to, const outgoing& out);

    /// To those of them who are here.
    void deliver_here(const address& to, const outgoing& out);

    /// Calls f(peer&) for everyone the address names, on their loops. Where f joins a room, `joins` is its name: what the
    /// caller says to it next then reaches those loops.
    void for_each(const address& to, std::function<void(peer&)> f, std::string_view joins = {});

    /// Events that nobody handled, and events that a receiver's protocol could not carry.
    std::atomic<std::uint64_t> unhandled{0};
    std::atomic<std::uint64_t> not_deliverable{0};

private:
    friend class shard;

    struct presence {
        std::uint32_t loop;
        std::size_t count;
    };

    /// A loop, and what of this hub lives there. Both stay as long as the hub.
    struct place {
        loop* on;
        shard* here;
    };
    using places = boost::container::small_vector<place, 8>;
    recipients resolve(const address& to, places& where) const;
    void count_in(std::string_view name, const loop& on);
    void count_out(std::string_view name, const loop& on) noexcept;

    // With the index locked, as the change itself.
    void tell_link(std::string_view name) noexcept {
        if (link_) link_->changed(name);
    }
    void tell_link_of(const peer& p) noexcept {
        if (link_ && !link_->made(p.id())) link_->changed(p.id());
    }

    cluster_link_ptr link_;
    std::vector<std::unique_ptr<shard>> shards_;
    std::vector<loop_ptr> loops_;
    std::atomic<std::size_t> size_{0};

    struct id_hash : arke::detail::keyed_hash {
        using keyed_hash::operator();
        std::size_t operator()(const peer_ptr& p) const { return (*this)(p->id()); }
    };
    struct same_id {
        using is_transparent = void;
        static std::string_view of(std::string_view id) noexcept { return id; }
        static std::string_view of(const peer_ptr& p) noexcept { return p->id(); }
        template <class A, class B>
        bool operator()(const A& a, const B& b) const noexcept {
            return of(a) == of(b);
        }
    };

    mutable std::mutex index_mutex_;
    boost::unordered_flat_set<peer_ptr, id_hash, same_id> ids_;  // 8 bytes and a bit for each; a map's node takes 64
    string_map<boost::container::small_vector<presence, 1>> room_loops_;
};

}  // namespace arke::core

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/hub.ipp>
#endif
