#pragma once

#include <arke/core/hub.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <stdexcept>

namespace arke::core {

// --------------------------------------------------------------------------------------------------------------- shard

ARKE_INLINE void shard::make_room() {
    core::make_room(peers_, 1);
    core::make_room(to_forget_, peers_.size() + 1);
}

ARKE_INLINE void shard::add(peer& p) noexcept {
    p.place_ = static_cast<std::uint32_t>(peers_.size());
    peers_.push_back(&p);
}

ARKE_INLINE void shard::remove(peer& p) noexcept {
    if (p.place_ >= peers_.size() || peers_[p.place_] != &p) return;
    peers_.back()->place_ = p.place_;
    peers_[p.place_] = peers_.back();
    peers_.pop_back();
    if (p.ending_) {
        try {
            p.ending_->left_rooms = p.joined_rooms();
        } catch (...) {
            // It leaves them all the same, and nobody hears of it.
        }
    }
    while (!p.rooms_.empty()) {
        hub_.count_out(p.rooms_.back().in->name, loop_);
        take_out(p, p.rooms_.size() - 1);
    }
}

ARKE_COLD_INLINE void shard::clear() {
    // The peers are not touched: with their sockets some are gone already.
    const std::lock_guard lock{rooms_mutex_};
    peers_.clear();
    rooms_.clear();
}

ARKE_INLINE bool shard::is_joined(const peer& p, std::string_view name) const {
    return std::any_of(p.rooms_.begin(), p.rooms_.end(), [name](const membership& m) { return m.in->name == name; });
}

ARKE_INLINE bool shard::may_join(const peer& p, std::string_view name) const noexcept {
    const auto& c = hub_.settings();
    std::size_t bytes = name.size();
    for (const auto& m : p.rooms_) bytes += m.in->name.size();
    return p.rooms_.size() < c.max_rooms && bytes <= c.max_room_name_bytes;
}

ARKE_INLINE bool shard::join(peer& p, std::string_view name) {
    if (!p.is_open() || is_joined(p, name) || !may_join(p, name)) {
        hub_.count_out(name, loop_);
        return p.is_open() && is_joined(p, name);
    }
    try {
        const std::lock_guard lock{rooms_mutex_};
        auto found = rooms_.find(name);
        if (found == rooms_.end()) {
            auto made = std::make_unique<room>();
            made->name.assign(name);
            made->members.reserve(1);
            p.rooms_.push_back({made.get(), 0});
            try {
                found = rooms_.emplace(std::string{name}, std::move(made)).first;
            } catch (...) {
                p.rooms_.pop_back();
                throw;
            }
        } else {
            core::make_room(found->second->members, 1);
            p.rooms_.push_back({found->second.get(), found->second->members.size()});
        }
        found->second->members.push_back({&p, p.rooms_.size() - 1});
        return true;
    } catch (...) {
        hub_.count_out(name, loop_);
        throw;
    }
}

ARKE_INLINE bool shard::leave(peer& p, std::string_view name) {
    for (std::size_t i = 0; i != p.rooms_.size(); ++i) {
        if (p.rooms_[i].in->name != name) continue;
        take_out(p, i);
        hub_.count_out(name, loop_);
        return true;
    }
    return false;
}

ARKE_INLINE void shard::take_out(peer& p, std::size_t index) noexcept {
    const std::lock_guard lock{rooms_mutex_};
    const auto [r, place] = p.rooms_[index];
    // The last of each list moves to the free place, and the other list is told so.
    const auto moved = p.rooms_[index] = p.rooms_.back();
    moved.in->members[moved.place].place = index;
    p.rooms_.pop_back();
    const auto last = r->members[place] = r->members.back();
    if (last.who != &p) last.who->rooms_[last.place].place = place;
    r->members.pop_back();
    if (r->members.empty()) rooms_.erase(rooms_.find(r->name));
}

ARKE_COLD_INLINE std::vector<std::string> shard::members(std::string_view name) const {
    std::vector<std::string> ids;
    const std::lock_guard lock{rooms_mutex_};
    if (const auto found = rooms_.find(name); found != rooms_.end()) {
        for (const auto& m : found->second->members) ids.push_back(m.who->id());
    }
    return ids;
}

// A message in the form of one protocol, made when the first receiver needs it.
struct shard::encoded {
    enum class state : std::uint8_t { unknown, in_turn_buffer, shared, impossible } is = state::unknown;
    std::size_t begin = 0;
    std::size_t end = 0;
    shared_frame_ptr frame;
};

// A message in all the forms that its receivers have needed so far.
struct shard::forms {
    std::array<encoded, max_protocols> plain{};

    // Compressed, for receivers that look back that far. What is better sent plain is `impossible` here.
    struct deflated {
        std::size_t slot;
        int window_bits;
        std::size_t before;
        std::size_t after;
        encoded frame;
    };
    boost::container::small_vector<deflated, 2> small;

    bool is_first() const noexcept {
        return small.empty() && std::all_of(plain.begin(), plain.end(),
                                            [](const encoded& f) { return f.is == encoded::state::unknown; });
    }
};

ARKE_INLINE std::uint32_t shard::next_mark() {
    if (++mark_ == 0) {
        for (auto* p : peers_) p->mark_ = 0;
        mark_ = 1;
    }
    return mark_;
}

ARKE_INLINE void shard::encode(encoded& frame, const outgoing& out, std::size_t index, const message* shared) {
    auto& buffer = loop_.buffer();
    const auto& speaks = hub_.protocol_at(index);
    std::string why;
    const auto form = speaks.measure(out, why);
    const auto size = form ? wire::frame_header_size(form->size) + form->size : 0;
    if (!form) {
        frame.is = encoded::state::impossible;
    } else if (size <= buffer.room() && size <= buffer.capacity() / 4) {
        frame.is = encoded::state::in_turn_buffer;
        frame.begin = buffer.size();
        speaks.write_frame(buffer.append(size), *form, out);
        frame.end = buffer.size();
        buffer.pin();
    } else {
        if (shared != nullptr) {
            frame.frame = shared->frame(speaks, index);
        } else {
            frame.frame.reset(new shared_frame{size});
            speaks.write_frame(frame.frame->data(), *form, out);
        }
        frame.is = encoded::state::shared;
    }
}

// The frame that all loops share is made by the first of them that needs it; those of peers that look back less than we would are
// made by each loop.
ARKE_INLINE bool shard::deflate(encoded& frame, const outgoing& out, const protocol::form& form, std::size_t index,
                                int window_bits, const message* shared) {
    const auto& speaks = hub_.protocol_at(index);
    const auto& c = hub_.settings().compression;
    const auto make = [&]() -> shared_frame_ptr {
        auto& with = loop_.compression();
        compression::lease plain{with};
        compression::lease deflated{with};
        const auto header = wire::frame_header_size(form.size);
        char* const at = plain->reserve(header + form.size);
        speaks.write_frame(at, form, out);
        with.deflate_alone(c, window_bits, {at + header, form.size}, *deflated);
        const auto after = deflated->view();
        if (after.size() >= form.size) return nullptr;
        shared_frame_ptr made{new shared_frame{wire::frame_header_size(after.size()) + after.size()}};
        std::memcpy(wire::write_frame_header(made->data(), form.code, after.size(), true), after.data(), after.size());
        return made;
    };
    const bool is_for_all = window_bits == wire::window_for(form.size, c.send_window_bits);
    shared_frame_ptr made = shared != nullptr && is_for_all ? shared->deflated(speaks, index, make) : make();
    if (!made) return false;
    auto& buffer = loop_.buffer();
    const auto bytes = made->view();
    if (bytes.size() <= buffer.room() && bytes.size() <= buffer.capacity() / 4) {
        frame.is = encoded::state::in_turn_buffer;
        frame.begin = buffer.size();
        std::memcpy(buffer.append(bytes.size()), bytes.data(), bytes.size());
        frame.end = buffer.size();
        buffer.pin();
    } else {
        frame.is = encoded::state::shared;
        frame.frame = std::move(made);
    }
    return true;
}

// False: it is to hear the message plain.
ARKE_COLD_INLINE bool shard::give_deflated(peer& p, forms& frames, const outgoing& out, const message* shared) {
    const std::size_t index = p.protocol_index();
    const auto& speaks = hub_.protocol_at(index);
    const std::size_t slot = speaks.is_bare(out) ? 0 : index;
    const auto find = [&](int bits) {
        return std::find_if(frames.small.begin(), frames.small.end(),
                            [&](const auto& each) { return each.slot == slot && each.window_bits == bits; });
    };
    auto found = find(p.send_window_bits());
    if (found == frames.small.end()) {
        std::string why;
        const auto form = speaks.measure(out, why);
        forms::deflated made{slot, p.send_window_bits(), 0, 0, {encoded::state::impossible, 0, 0, nullptr}};
        if (form && form->size >= hub_.settings().compression.threshold) {
            // Windows that all reach over the whole message are one to it.
            const int bits = wire::window_for(form->size, p.send_window_bits());
            if (const auto same = find(bits); same != frames.small.end()) {
                made = *same;
                made.window_bits = p.send_window_bits();
            } else {
                if (deflate(made.frame, out, *form, index, bits, shared)) {
                    made.before = form->size;
                    const auto size = made.frame.is == encoded::state::shared ? made.frame.frame->view().size()
                                                                              : made.frame.end - made.frame.begin;
                    made.after = size;
                    while (wire::frame_header_size(made.after) + made.after > size) --made.after;
                }
                if (bits != p.send_window_bits()) {
                    frames.small.push_back(made);
                    frames.small.back().window_bits = bits;
                }
            }
        }
        frames.small.push_back(std::move(made));
        found = frames.small.end() - 1;
    }
    const auto& frame = found->frame;
    if (frame.is == encoded::state::impossible) return false;
    if (!p.is_open()) return true;
    // What all get refers to nothing, and what is sent to this one alone cannot refer to it.
    p.forget_sent_context();
    p.count_deflated(found->before, found->after, [&] {
        if (frame.is == encoded::state::shared)
            p.send_shared(frame.frame, out);
        else
            p.send_turn(frame.begin, frame.end, out);
    });
    return true;
}

ARKE_INLINE void shard::give(peer& p, forms& frames, const outgoing& out, const message* shared) {
    if (p.deflates()) {
        bool is_given = false;
        if (frames.is_first())
            is_given = give_deflated(p, frames, out, shared);
        else
            p.guarded([&] { is_given = give_deflated(p, frames, out, shared); });
        if (is_given || !p.is_open()) return;
    }
    const std::size_t index = p.protocol_index();
    const auto& speaks = hub_.protocol_at(index);
    auto& frame = frames.plain[speaks.is_bare(out) ? 0 : index];
    if (frame.is == encoded::state::unknown) {
        // Without memory for the first form nobody has heard anything, and the caller is told; for a further one, it is those who
        // need it that cannot go on.
        if (frames.is_first())
            encode(frame, out, index, shared);
        else
            p.guarded([&] { encode(frame, out, index, shared); });
        if (frame.is == encoded::state::unknown) return;
    }
    switch (frame.is) {
        case encoded::state::in_turn_buffer: p.send_turn(frame.begin, frame.end, out); break;
        case encoded::state::shared: p.send_shared(frame.frame, out); break;
        default:
            // One that was named may be gone by now.
            if (p.is_open()) hub_.not_deliverable.fetch_add(1, std::memory_order_relaxed);
            break;
    }
}

ARKE_INLINE void shard::deliver(const recipients& to, const outgoing& out, const message* shared) {
    if (hub_.role() == wire::role::client) {
        // Each frame of a client has a mask of its own: there is nothing to share.
        for (const auto& p : select(to)) {
            p->guarded([&] {
                std::string why;
                if (!p->send(out, why)) hub_.not_deliverable.fetch_add(1, std::memory_order_relaxed);
            });
        }
        return;
    }
    // Room for one frame of each protocol, so that nothing is flushed while members are walked: a flush empties the buffer
    // that the frames stand in.
    auto& buffer = loop_.buffer();
    if (buffer.room() < buffer.capacity() / 2) loop_.flush_all();

    forms frames;
    const auto room_named = [this](std::string_view name) -> room* {
        const auto found = rooms_.find(name);
        return found == rooms_.end() ? nullptr : found->second.get();
    };

    // A peer whose outbox is full ends here. It leaves its rooms when the walk is over.
    struct walk {
        shard& self;
        explicit walk(shard& s) : self{s} { self.delivering_ = true; }
        walk(const walk&) = delete;
        walk& operator=(const walk&) = delete;
        ~walk() {
            self.delivering_ = false;
            for (auto& p : self.to_forget_) self.hub_.forget(*p);
            self.to_forget_.clear();
        }
    };
    const walk guard{*this};
    if (!to.everyone && to.peers.empty() && to.rooms.size() == 1 && to.except_peers.empty() &&
        to.except_rooms.empty()) {
        if (auto* r = room_named(to.rooms.front())) {
            for (const auto& m : r->members) {
                if (m.who != to.not_me.get()) give(*m.who, frames, out, shared);
            }
        }
    } else {
        const auto mark = next_mark();
        if (to.not_me && to.not_me->loop_.get() == &loop_) to.not_me->mark_ = mark;
        for (const auto& p : to.except_peers) {
            if (p->loop_.get() == &loop_) p->mark_ = mark;
        }
        for (const auto& name : to.except_rooms) {
            if (auto* r = room_named(name)) {
                for (const auto& m : r->members) m.who->mark_ = mark;
            }
        }
        const auto tell = [&](peer& p) {
            if (std::exchange(p.mark_, mark) != mark) give(p, frames, out, shared);
        };
        if (to.everyone) {
            for (auto* p : peers_) tell(*p);
        } else {
            for (const auto& p : to.peers) {
                if (p->loop_.get() == &loop_) tell(*p);
            }
            for (const auto& name : to.rooms) {
                if (auto* r = room_named(name)) {
                    for (const auto& m : r->members) tell(*m.who);
                }
            }
        }
    }
}

ARKE_INLINE bool shard::forget_later(peer& p) noexcept {
    if (delivering_) to_forget_.emplace_back(&p);
    return delivering_;
}

ARKE_COLD_INLINE std::vector<peer_ptr> shard::select(const recipients& to) {
    std::vector<peer_ptr> chosen;
    const auto mark = next_mark();
    if (to.not_me && to.not_me->loop_.get() == &loop_) to.not_me->mark_ = mark;
    const auto room_members = [this](std::string_view name) {
        const auto found = rooms_.find(name);
        return found == rooms_.end() ? std::span<const room::member>{}
                                     : std::span<const room::member>{found->second->members};
    };
    for (const auto& p : to.except_peers) {
        if (p->loop_.get() == &loop_) p->mark_ = mark;
    }
    for (const auto& name : to.except_rooms) {
        for (const auto& m : room_members(name)) m.who->mark_ = mark;
    }
    const auto choose = [&](peer& p) {
        if (p.loop_.get() == &loop_ && std::exchange(p.mark_, mark) != mark) chosen.emplace_back(&p);
    };
    if (to.everyone) {
        for (auto* p : peers_) choose(*p);
    }
    for (const auto& p : to.peers) choose(*p);
    for (const auto& name : to.rooms) {
        for (const auto& m : room_members(name)) choose(*m.who);
    }
    return chosen;
}

// ----------------------------------------------------------------------------------------------------------------- hub

ARKE_COLD_INLINE void hub::add_loop(loop& on) {
    load()->add_loop(on);
    const std::lock_guard lock{index_mutex_};
    loops_.emplace_back(&on);
    shards_.push_back(std::make_unique<shard>(*this, on));
}

ARKE_COLD_INLINE hub::admission hub::admit(peer& p) {
    auto& home = shard_of(p.on_loop());
    home.make_room();
    peer_ptr replaced{&p};
    // The place of an id is the newcomer's without being made anew.
    const auto change_places = [&](auto holder) { const_cast<peer_ptr&>(*holder).swap(replaced); };
    {
        const std::lock_guard lock{index_mutex_};
        const auto holder = ids_.find(p.id());
        if (holder == ids_.end()) {
            ids_.emplace(&p);
            replaced.reset();
            tell_link_of(p);
        } else {
            if (settings().on_duplicate_id == duplicate_id::refuse) return admission::refused;
            change_places(holder);
        }
    }
    if (replaced) {
        try {
            replaced->on_loop().dispatch([replaced] {
                replaced->close(close_code::policy_violation, "replaced by a newer connection with the same id",
                                errc::replaced);
            });
        } catch (...) {
            const std::lock_guard lock{index_mutex_};
            if (const auto holder = ids_.find(p.id()); holder != ids_.end() && holder->get() == &p)
                change_places(holder);
            throw;
        }
    }
    home.add(p);
    size_.fetch_add(1, std::memory_order_relaxed);
    return admission::taken;
}

ARKE_INLINE void hub::forget(peer& p) noexcept {
    auto& home = shard_of(p.on_loop());
    if (home.forget_later(p)) return;
    home.remove(p);
    size_.fetch_sub(1, std::memory_order_relaxed);
    peer_ptr held;  // the index may hold the last reference but the caller's
    const std::lock_guard lock{index_mutex_};
    const auto found = ids_.find(p.id());
    if (found != ids_.end() && found->get() == &p) {
        held = *found;
        ids_.erase(found);
        tell_link_of(p);
    }
}

ARKE_COLD_INLINE void hub::add_metrics(metrics& to, bool loops) const {
    to.connections += size();
    to.errors.unhandled_event += unhandled.load(std::memory_order_relaxed);
    to.dropped.not_deliverable += not_deliverable.load(std::memory_order_relaxed);
    if (!loops) return;
    to.sockets += load()->connections.load(std::memory_order_relaxed);
    to.outbox_bytes += load()->waiting.load(std::memory_order_relaxed);
    to.context_bytes += load()->contexts.load(std::memory_order_relaxed);
    const std::lock_guard lock{index_mutex_};
    for (const auto& l : loops_) {
        add(to, l->counters());
        to.loops.push_back(l->counters().snapshot(l->load()));
    }
}

ARKE_COLD_INLINE void hub::clear() {
    decltype(ids_) dropped;
    {
        const std::lock_guard lock{index_mutex_};
        dropped.swap(ids_);
        room_loops_.clear();
        size_.store(0, std::memory_order_relaxed);
    }
    for (const auto& s : shards_) s->clear();
    for (const auto& l : loops_) l->waiting().clear();
    for (const auto& p : dropped) p->finish();
}

ARKE_INLINE peer_ptr hub::find(std::string_view id) const {
    const std::lock_guard lock{index_mutex_};
    const auto found = ids_.find(id);
    return found == ids_.end() ? nullptr : *found;
}

ARKE_COLD_INLINE std::vector<peer_ptr> hub::peers() const {
    std::vector<peer_ptr> all;
    const std::lock_guard lock{index_mutex_};
    all.assign(ids_.begin(), ids_.end());
    return all;
}

ARKE_INLINE void hub::count_in(std::string_view name, const loop& on) {
    auto found = room_loops_.find(name);
    // The first place of all needs no memory.
    if (found == room_loops_.end()) {
        found = room_loops_.try_emplace(std::string{name}).first;
        tell_link(name);
    }
    const auto index = static_cast<std::uint32_t>(on.index());
    for (auto& p : found->second) {
        if (p.loop == index) {
            ++p.count;
            return;
        }
    }
    found->second.push_back({index, 1});
}

ARKE_INLINE void hub::count_out(std::string_view name, const loop& on) noexcept {
    const std::lock_guard lock{index_mutex_};
    const auto found = room_loops_.find(name);
    if (found == room_loops_.end()) return;
    auto& presences = found->second;
    for (auto it = presences.begin(); it != presences.end(); ++it) {
        if (it->loop != on.index()) continue;
        if (--it->count == 0) presences.erase(it);
        break;
    }
    if (!presences.empty()) return;
    // The name may be the room's own.
    tell_link(found->first);
    room_loops_.erase(found);
}

ARKE_INLINE hub::joined hub::join(peer& p, std::string_view name) {
    auto& on = p.on_loop();
    const bool here = on.in_turn();
    if (here) {
        if (!p.is_open()) return joined::no_such_connection;
        if (shard_of(on).is_joined(p, name)) return joined::yes;
        if (!shard_of(on).may_join(p, name)) return joined::too_many;
    }
    {
        const std::lock_guard lock{index_mutex_};
        const auto holder = ids_.find(name);
        if (holder == ids_.end() ? link_ && link_->is_elsewhere(name) : holder->get() != &p) return joined::name_taken;
        count_in(name, on);
    }
    auto& home = shard_of(on);
    if (here) {
        home.join(p, name);
        return joined::yes;
    }
    const peer_ptr held{&p};
    bool posted = false;
    try {
        posted = on.post([&home, held, text = std::string{name}] { held->guarded([&] { home.join(*held, text); }); });
    } catch (...) {
        count_out(name, on);
        throw;
    }
    if (posted) return joined::yes;
    count_out(name, on);
    return joined::no_such_connection;
}

ARKE_INLINE bool hub::leave(peer& p, std::string_view name) {
    auto& on = p.on_loop();
    if (on.in_turn()) return shard_of(on).leave(p, name);
    const peer_ptr held{&p};
    return on.post([this, held, text = std::string{name}] {
        if (shard_of(held->on_loop()).leave(*held, text)) held->left(text);
    });
}

ARKE_COLD_INLINE std::vector<std::string> hub::rooms() const {
    std::vector<std::string> all;
    const std::lock_guard lock{index_mutex_};
    all.reserve(room_loops_.size());
    for (const auto& [name, presences] : room_loops_) all.push_back(name);
    return all;
}

ARKE_COLD_INLINE std::vector<std::string> hub::members(std::string_view name) const {
    std::vector<std::string> all;
    std::vector<const shard*> everywhere;
    {
        const std::lock_guard lock{index_mutex_};
        for (const auto& s : shards_) everywhere.push_back(s.get());
    }
    for (const auto* s : everywhere) {
        auto some = s->members(name);
        all.insert(all.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
    }
    return all;
}

ARKE_COLD_INLINE bool hub::is_occupied(std::string_view name) const {
    const std::lock_guard lock{index_mutex_};
    return ids_.contains(name) || room_loops_.contains(name);
}

ARKE_INLINE void hub::check(const outgoing& out) const {
    std::string why;
    for (std::size_t i = 0; i != protocol_count(); ++i) {
        if (protocol_at(i).measure(out, why)) return;
    }
    throw std::invalid_argument{why};
}

ARKE_INLINE recipients hub::resolve(const address& to, places& where) const {
    recipients found;
    found.everyone = to.everyone;
    found.not_me = to.not_me;
    const auto add_place = [&](std::size_t index) {
        auto* const here = shards_[index].get();
        for (const auto& known : where) {
            if (known.here == here) return;
        }
        where.push_back({loops_[index].get(), here});
    };
    const std::lock_guard lock{index_mutex_};
    for (const auto& n : to.to) {
        if (n.is != name::kind::room) {
            if (const auto holder = ids_.find(n.text); holder != ids_.end()) {
                add_place((*holder)->on_loop().index());
                found.peers.push_back(*holder);
                continue;
            }
            if (n.is == name::kind::id || (link_ && link_->is_elsewhere(n.text))) continue;
        }
        if (const auto r = room_loops_.find(n.text); r != room_loops_.end()) {
            for (const auto& p : r->second) add_place(p.loop);
            found.rooms.push_back(n.text);
        }
    }
    for (const auto& n : to.except) {
        if (n.is != name::kind::room) {
            if (const auto holder = ids_.find(n.text); holder != ids_.end()) {
                found.except_peers.push_back(*holder);
                continue;
            }
        }
        if (n.is != name::kind::id) found.except_rooms.push_back(n.text);
    }
    if (to.everyone) {
        for (std::size_t i = 0; i != shards_.size(); ++i) add_place(i);
    }
    return found;
}

ARKE_INLINE void hub::deliver(const address& to, const outgoing& out) {
    deliver_here(to, out);
    if (link_) link_->deliver(to, out);
}

ARKE_INLINE void hub::deliver_here(const address& to, const outgoing& out) {
    places where;
    const auto found = resolve(to, where);
    message_ptr shared;
    boost::intrusive_ptr<hub> held;
    bool here = false;
    for (const auto& p : where) {
        if (p.on->in_turn()) {
            here = true;
            continue;
        }
        if (!shared) shared.reset(new message{out});
        if (!held) held.reset(this);
        p.on->post([held, found, shared, there = p.here] { there->deliver(found, shared->view(), shared.get()); });
    }
    if (!here) return;
    for (const auto& p : where) {
        if (p.on->in_turn()) p.here->deliver(found, out, shared.get());
    }
}

ARKE_COLD_INLINE void hub::for_each(const address& to, std::function<void(peer&)> f, std::string_view joins) {
    places where;
    const auto found = resolve(to, where);
    const boost::intrusive_ptr<hub> held{this};
    // The room counts as being on a loop until those there have joined it.
    struct counted {
        boost::intrusive_ptr<hub> in;
        loop* on;
        std::string room;

        counted(boost::intrusive_ptr<hub> h, loop* l, std::string_view name) : in{std::move(h)}, on{l}, room{name} {
            if (room.empty()) return;
            const std::lock_guard lock{in->index_mutex_};
            in->count_in(room, *on);
        }
        counted(counted&&) = default;
        counted& operator=(counted&&) = delete;
        ~counted() {
            if (in && !room.empty()) in->count_out(room, *on);
        }
    };
    for (const auto& at : where) {
        at.on->dispatch([found, f, there = at.here, until = counted{held, at.on, joins}] {
            for (const auto& p : there->select(found)) p->guarded([&] { f(*p); });
        });
    }
}

}  // namespace arke::core
