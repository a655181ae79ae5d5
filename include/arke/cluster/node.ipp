#pragma once

#include <arke/cluster/node.hpp>

#include <algorithm>
#include <exception>
#include <random>
#include <stdexcept>
#include <utility>

namespace arke::cluster {

namespace detail {

inline bool is_plain(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

inline constexpr std::size_t tag_size = 5;
inline constexpr std::size_t most_of_name = 100;

/// A tag becomes a part of a channel's name.
inline bool is_tag(std::string_view text) noexcept {
    return text.size() == tag_size && std::all_of(text.begin(), text.end(), is_plain);
}

/// Whether an id looks like one that a server has made.
inline bool is_made(std::string_view id) noexcept {
    return id.size() == core::cluster_link::generated_id_size && std::all_of(id.begin(), id.end(), is_plain);
}

inline std::string_view tag_of(std::string_view id) noexcept { return id.substr(0, tag_size); }

}  // namespace detail

ARKE_COLD_INLINE void check_config(const cluster_config& c) {
    const auto refuse = [](const std::string& text) { throw std::invalid_argument{"arke::cluster_config: " + text}; };
    const auto positive = [&](const char* field, std::chrono::milliseconds value) {
        if (value.count() <= 0 || value > std::chrono::hours{24}) {
            refuse(std::string{field} + " is " + std::to_string(value.count()) +
                   " ms; set a time greater than zero, and a day at most");
        }
    };
    positive("heartbeat_period", c.heartbeat_period);
    positive("node_timeout", c.node_timeout);
    positive("question_timeout", c.question_timeout);
    if (c.node_timeout < 2 * c.heartbeat_period) {
        refuse("node_timeout is " + std::to_string(c.node_timeout.count()) + " ms and heartbeat_period " +
               std::to_string(c.heartbeat_period.count()) + " ms; set node_timeout to twice heartbeat_period or more");
    }
    if (c.subscription_linger.count() < 0 || c.subscription_linger > std::chrono::hours{24}) {
        refuse("subscription_linger is " + std::to_string(c.subscription_linger.count()) +
               " ms; set it from zero to a day");
    }
    if (c.max_outgoing_bytes < 65'536)
        refuse("max_outgoing_bytes is " + std::to_string(c.max_outgoing_bytes) + "; set it to 65536 or more");
    if (c.max_nodes < 2) refuse("max_nodes is " + std::to_string(c.max_nodes) + "; set it to 2 or more");
    if (c.max_questions < 1) refuse("max_questions is 0; set it to 1 or more");
    if (c.name.size() > detail::most_of_name)
        refuse("name is " + std::to_string(c.name.size()) + " bytes long; 100 are the most");
    if (!wire::is_utf8(c.name)) refuse("name is " + arke::detail::printable(c.name) + ", which is not UTF-8");
    if (c.prefix.empty() || c.prefix.size() > channel_names::most_of_prefix)
        refuse("prefix has " + std::to_string(c.prefix.size()) + " bytes; give it 1 to 60");
    const auto fits = [](char ch) { return detail::is_plain(ch) || ch == '-' || ch == '_' || ch == '.'; };
    if (!std::all_of(c.prefix.begin(), c.prefix.end(), fits) || c.prefix.front() == '.' || c.prefix.back() == '.' ||
        c.prefix.find("..") != std::string::npos) {
        refuse("prefix is " + arke::detail::printable(c.prefix) +
               "; use letters, digits, '-', '_', and single dots between them");
    }
}

ARKE_COLD_INLINE bool sequence_window::accept(std::uint64_t sequence) noexcept {
    const auto bit = [&](std::uint64_t of) -> std::pair<std::uint64_t&, std::uint64_t> {
        return {seen_[of / 64 % seen_.size()], std::uint64_t{1} << (of % 64)};
    };
    if (sequence > newest_) {
        const auto ahead = sequence - newest_;
        if (ahead >= size) {
            seen_.fill(0);
        } else {
            for (auto passed = newest_ + 1; passed != sequence; ++passed) {
                auto [word, mask] = bit(passed);
                word &= ~mask;
            }
        }
        newest_ = sequence;
        auto [word, mask] = bit(sequence);
        word |= mask;
        return true;
    }
    if (newest_ - sequence >= size) return false;
    auto [word, mask] = bit(sequence);
    return (std::exchange(word, word | mask) & mask) == 0;
}

/// What one endpoint's hub speaks to.
class node::link final : public core::cluster_link {
public:
    link(std::shared_ptr<node> to, core::endpoint* of) : node_{std::move(to)}, of_{of} {}

    void deliver(const core::address& to, const outgoing& out) override {
        node_->deliver(of_, of_->settings().endpoint, to, out);
    }
    void act(const core::address& to, const core::action& what) override {
        node_->act(of_, of_->settings().endpoint, to, what);
    }
    void changed(std::string_view name) noexcept override { node_->note_changed(of_, name); }
    bool is_elsewhere(std::string_view id) const noexcept override { return node_->is_elsewhere(id); }
    std::string_view id_prefix() const noexcept override { return node_->tag(); }

private:
    std::shared_ptr<node> node_;
    core::endpoint* of_;
};

ARKE_COLD_INLINE node::node(cluster_config settings, node_host& host, backplane& carrier, bool is_server)
    : settings_{(check_config(settings), std::move(settings))},
      host_{host},
      carrier_{carrier},
      is_server_{is_server},
      channels_{settings_.prefix},
      info_{core::endpoint::random_id().substr(0, detail::tag_size), settings_.name, 0} {
    std::random_device source;
    next_question_ = std::uint64_t{source()} << 20U | 1U;
    state_.why = "not connected yet";
}

ARKE_COLD_INLINE node::~node() = default;

ARKE_COLD_INLINE void node::add(const core::endpoint_ptr& endpoint, const std::shared_ptr<node>& self) {
    {
        const std::lock_guard lock{mutex_};
        endpoints_.push_back(endpoint);
    }
    endpoint->link(std::make_shared<link>(self, endpoint.get()));
    host_.wake();
}

// ------------------------------------------------------------------------------------------------------------------ out

ARKE_INLINE void node::route(const core::hub* local, envelope& e, const core::address& to, std::string_view endpoint) {
    e.endpoint = endpoint;
    e.everyone = to.everyone;
    boost::container::small_vector<std::string, 1> channels;
    constexpr std::size_t most = 8;
    const auto add = [&](std::string channel) {
        if (channels.size() <= most && std::find(channels.begin(), channels.end(), channel) == channels.end())
            channels.push_back(std::move(channel));
    };
    for (const auto& n : to.to) {
        const bool may_be_id = n.is != core::name::kind::room;
        if (may_be_id && local != nullptr && local->find(n.text)) {
            // An id is unique in the cluster: who has one of this server's is nowhere else. Who has one of the application's own
            // may be: come back at another server, before the end of the connection here is noticed.
            if (detail::is_made(n.text) && detail::tag_of(n.text) == info_.id) continue;
            add(channels_.room(endpoint, n.text));
            e.to.push_back({core::name::kind::id, n.text});  // and no room
            continue;
        }
        if (may_be_id && detail::is_made(n.text)) {
            const auto tag = detail::tag_of(n.text);
            if (tag == info_.id && n.is == core::name::kind::id) continue;  // it has gone
            // A server that is not known yet, or an id of the application's own that looks alike: by both ways.
            if (tag != info_.id) add(channels_.node(tag));
        }
        if (!may_be_id || !is_elsewhere(n.text)) add(channels_.room(endpoint, n.text));
        e.to.push_back({n.is, n.text});
    }
    for (const auto& n : to.except) e.except.push_back({n.is, n.text});
    if (e.everyone) {
        channels.assign(1, channels_.everyone(endpoint));
    } else if (channels.size() > most) {
        // Everybody looks whether it concerns them: cheaper than so many copies.
        channels.assign(1, channels_.everyone(endpoint));
    }
    if (channels.empty()) return;
    // What is stale at once does not wait for a broker.
    if (e.is == envelope::kind::deliver && e.what.how == urgency::now_or_never && (holds_ || state_is_degraded())) {
        counts_.dropped.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    e.from = self_;
    push(std::move(channels), encode(e));
}

ARKE_INLINE void node::deliver(const core::hub* local, std::string_view endpoint, const core::address& to,
                               const outgoing& out) {
    envelope e;
    e.is = envelope::kind::deliver;
    e.what = out;
    route(local, e, to, endpoint);
}

ARKE_COLD_INLINE void node::act(const core::hub* local, std::string_view endpoint, const core::address& to,
                                const core::action& what) {
    envelope e;
    using is = core::action::what;
    e.is = what.is == is::disconnect ? envelope::kind::disconnect
           : what.is == is::join     ? envelope::kind::join
                                     : envelope::kind::leave;
    e.code = what.code;
    e.text = what.text;
    route(local, e, to, endpoint);
}

ARKE_COLD_INLINE void node::send(std::string channel, envelope e) {
    e.from = self_;
    push({std::move(channel)}, encode(e));
}

ARKE_INLINE void node::push(boost::container::small_vector<std::string, 1> channels, std::string bytes) {
    const auto waiting = begun_ ? carrier_.waiting() : 0;
    bool wake = false;
    {
        const std::lock_guard lock{mutex_};
        if (closed_) return;
        if (outgoing_bytes_ + waiting + bytes.size() > settings_.max_outgoing_bytes) {
            counts_.dropped.fetch_add(1, std::memory_order_relaxed);
            return;
        }
        const auto size = bytes.size();
        outgoing_.push_back({std::move(channels), std::move(bytes)});
        outgoing_bytes_ += size;
        wake = !std::exchange(woken_, true);
    }
    if (wake) host_.wake();
}

ARKE_COLD_INLINE void node::ask(std::string_view one, envelope e, std::shared_ptr<question> then,
                                std::chrono::milliseconds timeout) {
    std::uint64_t number = 0;
    {
        const std::lock_guard lock{mutex_};
        if (!closed_) {
            number = ++next_question_;
            const bool lists_ids = e.is == envelope::kind::members;
            new_questions_.push_back({std::string{one}, number, then, timeout.count(), lists_ids});
        }
    }
    if (number == 0) return then->done({}, true);
    e.number = number;
    e.tag = info_.id;
    send(one.empty() ? channels_.nodes() : channels_.node(one), std::move(e));
    host_.wake();
}

ARKE_INLINE bool node::is_elsewhere(std::string_view id) const noexcept {
    if (!detail::is_made(id) || detail::tag_of(id) == info_.id) return false;
    const std::lock_guard lock{mutex_};
    return tags_.contains(detail::tag_of(id));
}

ARKE_COLD_INLINE std::vector<node_info> node::others() const {
    const std::lock_guard lock{mutex_};
    return others_;
}

ARKE_COLD_INLINE cluster_state node::state() const {
    const std::lock_guard lock{mutex_};
    return state_;
}

ARKE_INLINE bool node::state_is_degraded() const {
    const std::lock_guard lock{mutex_};
    return state_.degraded;
}

ARKE_COLD_INLINE bool node::is_settled() const {
    const std::lock_guard lock{mutex_};
    return !state_.degraded && in_force_ == wanted_ && wanted_ != 0 && !updating_ && changed_.empty() && !changed_all_;
}

ARKE_COLD_INLINE void node::await(milestone what, std::chrono::milliseconds timeout, std::function<void(bool)> then) {
    bool wake = false;
    {
        const std::lock_guard lock{mutex_};
        if (!closed_) {
            new_waits_.push_back({what, std::move(then), timeout.count()});
            wake = true;
        }
    }
    if (!wake) return then(false);
    host_.wake();
}

ARKE_COLD_INLINE node_info node::self() const {
    auto made = info_;
    const std::lock_guard lock{mutex_};
    for (const auto& each : endpoints_) made.connections += each->size();
    return made;
}

ARKE_COLD_INLINE void node::note_changed(core::endpoint* endpoint, std::string_view name) noexcept {
    bool wake = false;
    {
        const std::lock_guard lock{mutex_};
        if (closed_) return;
        try {
            // So many that to look at everything is cheaper.
            if (changed_.size() >= 65'536) throw std::bad_alloc{};
            if (!changed_all_) changed_.emplace_back(endpoint, name);
        } catch (...) {
            changed_.clear();
            changed_all_ = true;
        }
        wake = !std::exchange(woken_, true);
    }
    if (wake) host_.wake();
}

// ------------------------------------------------------------------------------------------------------------ executor

ARKE_COLD_INLINE millis node::work(millis now) {
    std::vector<pending_wait> fresh;
    {
        const std::lock_guard lock{mutex_};
        if (closed_) return core::timing_wheel::never;
        woken_ = false;
        // Before what they wait for: that was so when they were asked.
        fresh.swap(new_waits_);
    }
    if (!begun_.exchange(true)) {
        beat_due_ = now;
        asked_at_ = now;
    }
    // Whose own loop was busy has heard nobody: that is no silence of theirs.
    if (const auto late = now - beat_due_ - settings_.heartbeat_period.count(); late > 0 && beat_due_ != 0) {
        asked_at_ = std::min(now, std::max(asked_at_, echo_at_) + late);
        for (auto& [id, s] : senders_) s.heard = std::min(now, s.heard + late);
    }
    update_subscriptions(now);
    take_questions(now);
    check_broker(now);
    if (now >= beat_due_) {
        if (connected_) publish_own(envelope::kind::heartbeat, own_channel());
        forget_silent(now);
        beat_due_ = now + settings_.heartbeat_period.count();
    } else if (now >= silent_due_) {
        forget_silent(now);
    }
    hand_on(now);
    take_up(std::move(fresh), now);
    end_due_questions(now);
    end_waits(now);

    auto next = std::min(beat_due_, silent_due_);
    if (connected_) next = std::min(next, std::max(asked_at_, echo_at_) + settings_.node_timeout.count());
    if (connected_ && !awaited_.empty()) next = std::min(next, awaited_until_);
    for (const auto& each : waits_) {
        next = std::min(next, each.due);
        // The broker has answered, and still something waits for it: a backplane does not say when that has gone.
        if (each.number != 0 && each.what == milestone::taken && echoed_ >= each.number)
            next = std::min(next, now + 10);
    }
    if (!lingering_.empty()) next = std::min(next, lingering_.begin()->first);
    for (const auto& [number, q] : questions_) next = std::min(next, q.due);
    return next;
}

ARKE_COLD_INLINE void node::update_subscriptions(millis now) {
    std::vector<std::pair<core::endpoint*, std::string>> changed;
    std::vector<core::endpoint_ptr> endpoints;
    bool all = false;
    {
        const std::lock_guard lock{mutex_};
        endpoints = endpoints_;  // may fail, with nothing taken yet
        changed.swap(changed_);
        all = std::exchange(changed_all_, false);
        updating_ = true;
    }
    std::vector<std::string> added;
    std::vector<std::string> removed;
    // Without memory it is all looked at once more.
    struct undo {
        node& self;
        std::vector<std::string>& added;
        std::vector<std::string>& removed;
        int exceptions = std::uncaught_exceptions();
        ~undo() {
            if (std::uncaught_exceptions() == exceptions) return;
            for (const auto& channel : added) self.interests_.erase(channel);
            for (const auto& channel : removed) {
                if (const auto left = self.interests_.find(channel); left != self.interests_.end())
                    left->second.leaves = 0;
            }
            const std::lock_guard lock{self.mutex_};
            self.updating_ = false;
            self.changed_all_ = true;
        }
    } const guard{*this, added, removed};
    const auto listen = [&](std::string channel, core::endpoint* on, const std::string& name) {
        if (interests_.contains(channel)) return;
        added.push_back(channel);
        interests_.try_emplace(std::move(channel), interest{on, name, 0, wanted_ + 1});
    };
    if (interests_.empty()) {
        if (is_server_) listen(channels_.nodes(), nullptr, {});
        listen(channels_.node(info_.id), nullptr, {});
    }
    for (const auto& e : endpoints) listen(channels_.everyone(e->settings().endpoint), nullptr, {});
    const auto look_at = [&](core::endpoint& on, const std::string& name) {
        auto channel = channels_.room(on.settings().endpoint, name);
        const bool is_occupied = on.is_occupied(name);
        const auto found = interests_.find(channel);
        if (found == interests_.end()) {
            if (is_occupied) listen(std::move(channel), &on, name);
        } else if (is_occupied) {
            found->second.leaves = 0;
        } else if (found->second.leaves == 0) {
            // Zero is none.
            const auto at = std::max<millis>(now + settings_.subscription_linger.count(), 1);
            lingering_.emplace(at, channel);
            found->second.leaves = at;
        }
    };
    for (const auto& [on, name] : changed) look_at(*on, name);
    if (all) {
        std::vector<std::pair<core::endpoint*, std::string>> known;
        for (const auto& [channel, i] : interests_) {
            if (i.endpoint != nullptr) known.emplace_back(i.endpoint, i.name);
        }
        for (const auto& [on, name] : known) look_at(*on, name);
        for (const auto& e : endpoints) {
            for (const auto& name : e->rooms()) look_at(*e, name);
            for (const auto& p : e->peers()) {
                if (!e->link()->made(p->id())) look_at(*e, p->id());
            }
        }
    }
    leave_lingering(now, added, removed);
    const bool any = !added.empty() || !removed.empty();
    std::uint64_t number = 0;
    {
        const std::lock_guard lock{mutex_};
        updating_ = false;
        if (any) number = ++wanted_;
    }
    if (!any) return;
    carrier_.subscribe(added, removed, number);
    for (const auto& channel : removed) interests_.erase(channel);
}

ARKE_COLD_INLINE void node::leave_lingering(millis now, std::vector<std::string>& added,
                                            std::vector<std::string>& removed) {
    while (!lingering_.empty()) {
        const auto first = lingering_.begin();
        if (first->first > now && lingering_.size() <= settings_.max_lingering) return;
        const auto found = interests_.find(first->second);
        // Somebody may have come back, and gone again.
        if (found != interests_.end() && found->second.leaves == first->first) {
            if (found->second.endpoint->is_occupied(found->second.name)) {
                found->second.leaves = 0;
            } else if (found->second.since > wanted_) {
                // It has come and gone within this call.
                added.erase(std::find(added.begin(), added.end(), found->first));
                interests_.erase(found);
            } else {
                removed.push_back(found->first);
                found->second.leaves = -1;  // until it is said
            }
        }
        lingering_.erase(first);
    }
}

ARKE_INLINE void node::hand_on(millis now) {
    if (!connected_ || (!awaited_.empty() && now < awaited_until_)) return;
    awaited_.clear();
    holds_ = false;
    std::deque<pending> all;
    {
        const std::lock_guard lock{mutex_};
        all.swap(outgoing_);
        outgoing_bytes_ = 0;
    }
    // Not before: none may go out of which the answer would find nobody.
    take_questions(now);
    struct counted {
        std::deque<pending>& left;
        std::atomic<std::uint64_t>& dropped;
        ~counted() { dropped.fetch_add(left.size(), std::memory_order_relaxed); }
    } guard{all, counts_.dropped};
    while (!all.empty()) {
        auto& next = all.front();
        set_sequence(next.bytes, ++last_sequence_);
        for (const auto& channel : next.channels) {
            if (!carrier_.publish(channel, next.bytes)) {
                counts_.too_big.fetch_add(1, std::memory_order_relaxed);
                host_.log("cluster: a message of " + std::to_string(next.bytes.size()) +
                          " bytes is larger than the broker takes; the other servers miss it");
                break;
            }
        }
        all.pop_front();
    }
}

/// What shows that the way to the broker and back is open. Before what waits, and whatever waits.
ARKE_COLD_INLINE void node::publish_own(envelope::kind is, const std::string& channel) {
    envelope e;
    e.is = is;
    e.from = self_;
    e.tag = info_.id;
    e.name_of_node = info_.name;
    e.sequence = ++last_sequence_;
    {
        const std::lock_guard lock{mutex_};
        for (const auto& each : endpoints_) e.number += each->size();
    }
    static_cast<void>(carrier_.publish(channel, encode(e)));
}

ARKE_COLD_INLINE void node::set_state(bool degraded, std::string_view why) {
    cluster_state now{degraded, std::string{degraded ? why : std::string_view{}}};
    {
        const std::lock_guard lock{mutex_};
        if (state_.degraded == degraded) {
            if (degraded) state_.why = now.why;
            return;
        }
        state_ = now;
    }
    if (degraded) counts_.degradations.fetch_add(1, std::memory_order_relaxed);
    host_.state_changed(now);
}

ARKE_COLD_INLINE void node::connected(millis now) {
    connected_ = true;
    asked_at_ = now;
    // What the broker may still have of the connection before is too old for everybody from now on: it cannot come after what is
    // said on this one.
    last_sequence_ += 2 * sequence_window::size;
    // They have lost the broker with us, most likely, and come back one by one: what waits is for those who were there.
    awaited_.clear();
    for (const auto& [id, s] : senders_) {
        if (s.may_come_back) awaited_.insert(id);
    }
    awaited_until_ = now + settings_.node_timeout.count();
    holds_ = !awaited_.empty();
    publish_own(envelope::kind::hello, own_channel());
    hand_on(now);
    if (!waits_.empty()) host_.wake();
}

ARKE_COLD_INLINE void node::disconnected(std::string_view why, millis) {
    connected_ = false;
    set_state(true, why);
}

ARKE_COLD_INLINE void node::subscribed(std::uint64_t number) {
    {
        const std::lock_guard lock{mutex_};
        in_force_ = std::max(in_force_, number);
    }
    if (!waits_.empty()) host_.wake();
}

ARKE_COLD_INLINE void node::check_broker(millis now) {
    if (!connected_ || now - std::max(asked_at_, echo_at_) < settings_.node_timeout.count()) return;
    carrier_.reconnect();  // first: where it fails it is tried again
    connected_ = false;
    set_state(true, "the broker has not answered for " + std::to_string(settings_.node_timeout.count()) + " ms");
}

ARKE_COLD_INLINE void node::forget_silent(millis now) {
    std::vector<sender_id> silent;
    const auto forgotten = std::max<millis>(60'000, 4 * settings_.node_timeout.count());
    silent_due_ = core::timing_wheel::never;
    for (auto at = senders_.begin(); at != senders_.end();) {
        auto& s = at->second;
        if (s.is_server && now - s.heard > settings_.node_timeout.count()) {
            s.is_server = false;
            silent.push_back(at->first);
        }
        if (s.is_server) silent_due_ = std::min(silent_due_, s.heard + settings_.node_timeout.count() + 1);
        // A broker that did not answer may still have a part of what they have said.
        const bool is_over = connected_ && now - std::max(s.heard, asked_at_) > forgotten;
        at = is_over ? senders_.erase(at) : std::next(at);
    }
    if (!silent.empty() || !others_.empty()) publish_tags();
    for (const auto& each : silent) answer_no_more(each);
}

ARKE_COLD_INLINE node::sender& node::remember(const sender_id& id, millis now) {
    const auto found = senders_.find(id);
    if (found != senders_.end()) return found->second;
    if (senders_.size() >= settings_.max_nodes) {
        const auto oldest = std::min_element(senders_.begin(), senders_.end(), [](const auto& a, const auto& b) {
            return a.second.heard < b.second.heard;
        });
        senders_.erase(oldest);
    }
    auto& made = senders_[id];
    made.heard = now;
    return made;
}

ARKE_COLD_INLINE void node::publish_tags() {
    std::set<std::string, std::less<>> tags;
    std::vector<node_info> infos;
    for (const auto& [id, s] : senders_) {
        if (!s.is_server) continue;
        tags.insert(s.info.id);
        infos.push_back(s.info);
    }
    const std::lock_guard lock{mutex_};
    tags_.swap(tags);
    others_.swap(infos);
}

// ------------------------------------------------------------------------------------------------------------------- in

ARKE_INLINE void node::received(std::string_view bytes, millis now) {
    envelope e;
    switch (decode(bytes, e)) {
        case decoded::yes: break;
        case decoded::newer: counts_.newer.fetch_add(1, std::memory_order_relaxed); return;
        case decoded::malformed: counts_.malformed.fetch_add(1, std::memory_order_relaxed); return;
    }
    if (e.from == self_) {
        if (e.is != envelope::kind::heartbeat && e.is != envelope::kind::hello) return;
        echo_at_ = now;
        echoed_ = std::max(echoed_, e.sequence);
        if (connected_) set_state(false, {});
        if (!waits_.empty()) host_.wake();
        return;
    }
    auto& from = remember(e.from, now);
    from.heard = now;
    if (!from.window.accept(e.sequence)) {
        counts_.duplicates.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    using kind = envelope::kind;
    switch (e.is) {
        case kind::heartbeat:
        case kind::hello: {
            if (!detail::is_tag(e.tag)) break;
            const bool is_new = !std::exchange(from.is_server, true);
            const bool is_name = e.name_of_node.size() <= detail::most_of_name && wire::is_utf8(e.name_of_node);
            const auto name = is_name ? e.name_of_node : std::string_view{};
            from.info = {std::string{e.tag}, std::string{name}, e.number};
            from.may_come_back = true;
            if (is_new) publish_tags();
            if (awaited_.erase(e.from) != 0 && awaited_.empty()) {
                hand_on(now);
                if (!waits_.empty()) host_.wake();
            }
            // To it alone: where all come back at once, each would tell all others as often as there are servers.
            if (e.is == kind::hello && connected_) publish_own(kind::heartbeat, channels_.node(e.tag));
            break;
        }
        case kind::goodbye:
            from.is_server = from.may_come_back = false;
            awaited_.erase(e.from);
            publish_tags();
            answer_no_more(e.from);
            break;
        default: heard_from(from, e, now); break;
    }
}

ARKE_COLD_INLINE core::endpoint_ptr node::endpoint_of(std::string_view path) const {
    const std::lock_guard lock{mutex_};
    for (const auto& e : endpoints_) {
        if (e->settings().endpoint == path) return e;
    }
    return nullptr;
}

ARKE_INLINE void node::heard_from(const sender& from, const envelope& e, millis) {
    using kind = envelope::kind;
    const auto address_of = [&] {
        core::address to;
        to.everyone = e.everyone;
        for (const auto& n : e.to) to.to.push_back({n.is, std::string{n.text}});
        for (const auto& n : e.except) to.except.push_back({n.is, std::string{n.text}});
        return to;
    };
    switch (e.is) {
        case kind::deliver:
            if (const auto on = endpoint_of(e.endpoint)) {
                counts_.delivered.fetch_add(1, std::memory_order_relaxed);
                on->deliver_here(address_of(), e.what);
            }
            break;
        case kind::disconnect:
        case kind::join:
        case kind::leave:
            if (const auto on = endpoint_of(e.endpoint)) {
                using is = core::action::what;
                const auto what = e.is == kind::disconnect ? is::disconnect : e.is == kind::join ? is::join : is::leave;
                host_.act_here(*on, address_of(), {what, e.code, std::string{e.text}});
            }
            break;
        case kind::members:
        case kind::size:
        case kind::nodes: answer_question(e); break;
        case kind::event: {
            auto info = from.info;
            if (info.id.empty() && detail::is_tag(e.tag)) info.id = e.tag;
            host_.heard(info, e);
            break;
        }
        case kind::listed:
        case kind::answer:
        case kind::refusal: {
            const auto found = questions_.find(e.number);
            const auto whose = found == questions_.end() ? nullptr : &found->second;
            if (whose == nullptr || !whose->waits_for.contains(e.from)) {
                counts_.late_answers.fetch_add(1, std::memory_order_relaxed);
                break;
            }
            const auto then = whose->then;
            // Each part says how many they are in all.
            const bool is_end = e.is != kind::listed || !e.more;
            if (whose->lists_ids && (whose->listed[e.from] += e.ids.size()) != e.count && is_end)
                whose->gone.push_back(whose->asked[e.from]);
            if (is_end) whose->waits_for.erase(e.from);
            const bool is_last = whose->waits_for.empty();
            auto over = is_last ? std::move(*whose) : open_question{};
            if (is_last) questions_.erase(found);
            then->heard(from.info, e);
            if (is_last) finish(over);
            break;
        }
        default: break;
    }
}

ARKE_COLD_INLINE void node::answer_question(const envelope& e) {
    if (!detail::is_tag(e.tag) || !is_server_) return;
    envelope reply;
    reply.is = envelope::kind::listed;
    reply.number = e.number;
    const auto channel = channels_.node(e.tag);
    if (e.is == envelope::kind::nodes) {
        const std::lock_guard lock{mutex_};
        for (const auto& each : endpoints_) reply.count += each->size();
    }
    std::vector<std::string> members;
    if (const auto on = e.is == envelope::kind::nodes ? nullptr : endpoint_of(e.endpoint)) {
        members = on->members(e.text);
        reply.count = members.size();
    }
    if (e.is == envelope::kind::members) {
        // In parts that every broker takes.
        std::size_t bytes = 0;
        for (std::size_t i = 0; i != members.size(); ++i) {
            reply.ids.emplace_back(members[i]);
            bytes += members[i].size() + 2;
            if (bytes < 256UL * 1024 || i + 1 == members.size()) continue;
            reply.more = true;
            send(channel, reply);
            reply.more = false;
            reply.ids.clear();
            bytes = 0;
        }
    }
    send(channel, std::move(reply));
}

// ----------------------------------------------------------------------------------------------------------- questions

ARKE_COLD_INLINE void node::take_questions(millis now) {
    std::vector<pending_question> asked;
    {
        const std::lock_guard lock{mutex_};
        asked.swap(new_questions_);
    }
    for (auto& q : asked) {
        open_question open{std::move(q.then), {}, {}, {}, std::move(q.one), now + q.timeout, q.lists_ids};
        for (const auto& [id, s] : senders_) {
            if (!s.is_server || (!open.one.empty() && s.info.id != open.one)) continue;
            open.waits_for.insert(id);
            open.asked.emplace(id, s.info);
        }
        if (open.waits_for.empty() || questions_.size() >= settings_.max_questions)
            finish(open);
        else
            questions_.emplace(q.number, std::move(open));
    }
}

ARKE_COLD_INLINE void node::end_due_questions(millis now) {
    std::vector<open_question> over;
    for (auto at = questions_.begin(); at != questions_.end();) {
        if (at->second.due > now) {
            ++at;
            continue;
        }
        over.push_back(std::move(at->second));
        at = questions_.erase(at);
    }
    for (auto& q : over) finish(q);
}

ARKE_COLD_INLINE void node::finish(open_question& q) {
    auto missing = std::move(q.gone);
    for (const auto& id : q.waits_for) missing.push_back(q.asked[id]);
    if (q.asked.empty() && !q.one.empty()) missing.push_back({q.one, {}, 0});
    q.then->done(std::move(missing), state().degraded);
}

/// One has gone: whoever waits for others only, waits no more.
ARKE_COLD_INLINE void node::answer_no_more(const sender_id& who) {
    std::vector<open_question> over;
    for (auto at = questions_.begin(); at != questions_.end();) {
        auto& q = at->second;
        if (q.waits_for.erase(who) != 0) q.gone.push_back(q.asked[who]);
        if (!q.waits_for.empty()) {
            ++at;
            continue;
        }
        over.push_back(std::move(q));
        at = questions_.erase(at);
    }
    for (auto& q : over) finish(q);
}

ARKE_COLD_INLINE void node::take_up(std::vector<pending_wait> fresh, millis now) {
    for (auto& each : fresh) {
        each.due += now;
        if (each.what == milestone::settled) each.number = wanted_;
        waits_.push_back(std::move(each));
    }
    // Behind all that was said: what comes back says that the broker has taken that.
    if (!connected_ || !awaited_.empty()) return;
    bool is_said = false;
    for (auto& each : waits_) {
        if (each.number != 0) continue;
        if (!std::exchange(is_said, true)) publish_own(envelope::kind::heartbeat, own_channel());
        each.number = last_sequence_;
    }
}

ARKE_COLD_INLINE void node::end_waits(millis now) {
    if (waits_.empty()) return;
    bool is_well = false;
    std::uint64_t in_force = 0;
    {
        const std::lock_guard lock{mutex_};
        is_well = !state_.degraded;
        in_force = in_force_;
    }
    const auto is_reached = [&](const pending_wait& a) {
        if (a.number == 0) return false;
        if (a.what == milestone::settled) return is_well && in_force >= a.number;
        return echoed_ >= a.number && carrier_.waiting() == 0;
    };
    std::vector<std::pair<std::function<void(bool)>, bool>> over;
    std::erase_if(waits_, [&](pending_wait& a) {
        const bool reached = is_reached(a);
        if (!reached && a.due > now) return false;
        over.emplace_back(std::move(a.then), reached);
        return true;
    });
    for (const auto& [then, reached] : over) then(reached);
}

// --------------------------------------------------------------------------------------------------------------- ending

ARKE_COLD_INLINE void node::close(millis now) {
    give_up(now, "closed");
    std::vector<core::endpoint_ptr> endpoints;
    const std::lock_guard lock{mutex_};
    endpoints.swap(endpoints_);
}

ARKE_COLD_INLINE void node::give_up(millis now, std::string why) {
    std::vector<pending_question> asked;
    std::vector<pending_wait> waits;
    const bool is_open = [&] {
        const std::lock_guard lock{mutex_};
        return !closed_;
    }();
    if (!is_open) return;
    try {
        awaited_.clear();
        hand_on(now);
        if (connected_) publish_own(envelope::kind::goodbye, own_channel());
    } catch (...) {
        // The others notice by the silence.
    }
    carrier_.close();
    connected_ = false;
    {
        const std::lock_guard lock{mutex_};
        closed_ = true;
        outgoing_.clear();
        outgoing_bytes_ = 0;
        changed_.clear();
        asked.swap(new_questions_);
        waits.swap(new_waits_);
        state_ = {true, std::move(why)};
    }
    interests_.clear();
    lingering_.clear();
    for (auto& q : asked) q.then->done({}, true);
    for (auto& [number, q] : std::exchange(questions_, {})) {
        auto over = q;
        finish(over);
    }
    for (const auto& each : waits) each.then(false);
    for (const auto& each : std::exchange(waits_, {})) each.then(false);
}

ARKE_COLD_INLINE void node::add_metrics(cluster_metrics& to) const {
    const auto get = [](const std::atomic<std::uint64_t>& c) { return c.load(std::memory_order_relaxed); };
    to.present = true;
    to.settled = is_settled();
    // Before what waits here: that may go there meanwhile, and would count twice.
    if (begun_) to.waiting_bytes = carrier_.waiting();
    {
        const std::lock_guard lock{mutex_};
        to.degraded = state_.degraded;
        to.nodes = others_.size() + (is_server_ ? 1 : 0);
        to.waiting_bytes += outgoing_bytes_;
    }
    to.delivered = get(counts_.delivered);
    to.dropped = get(counts_.dropped);
    to.too_big = get(counts_.too_big);
    to.malformed = get(counts_.malformed);
    to.newer = get(counts_.newer);
    to.duplicates = get(counts_.duplicates);
    to.late_answers = get(counts_.late_answers);
    to.degradations = get(counts_.degradations);
    if (!begun_) return;
    const auto c = carrier_.counts();
    to.published = c.published;
    to.published_bytes = c.published_bytes;
    to.received = c.received;
    to.received_bytes = c.received_bytes;
    to.lost = c.lost;
    to.round_trips = c.round_trips;
    to.subscriptions = c.subscriptions;
    to.connections = c.connections;
}

}  // namespace arke::cluster
