#pragma once

#include <arke/base/cluster_config.hpp>
#include <arke/cluster/backplane.hpp>
#include <arke/cluster/channel.hpp>
#include <arke/cluster/envelope.hpp>
#include <arke/core/endpoint.hpp>
#include <arke/core/metrics.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace arke::cluster {

using core::millis;

/// Refuses a config whose values cannot work, by std::invalid_argument with a sentence that says what to change.
void check_config(const cluster_config& c);

/// The sequence numbers of one sender that have come: each passes once, in whatever order, if it is no more than 1,024 behind the
/// newest (as in RFC 4303 §3.4.3).
class sequence_window {
public:
    /// Whether it is new. Of zero nobody knows: the first one sets the place.
    bool accept(std::uint64_t sequence) noexcept;

    static constexpr std::uint64_t size = 1'024;

private:
    std::uint64_t newest_ = 0;
    std::array<std::uint64_t, size / 64> seen_{};
};

/// A question to other nodes, until each of them has answered, or its time is over.
class question {
public:
    virtual ~question() = default;
    /// A part of an answer, or all of it. On the node's executor.
    virtual void heard(const node_info& from, const envelope& answer) = 0;
    /// The last call: nobody else will answer.
    virtual void done(std::vector<node_info> missing, bool is_degraded) = 0;
};

/// What a node needs from where it lives.
class node_host {
public:
    /// Has work() called soon. Any thread.
    virtual void wake() noexcept = 0;
    virtual void log(std::string_view line) noexcept = 0;
    virtual void act_here(core::endpoint& on, const core::address& to, const core::action& what) = 0;
    virtual void state_changed(const cluster_state& state) = 0;
    /// An event from another server.
    virtual void heard(const node_info& from, const envelope& event) = 0;

protected:
    ~node_host() = default;
};

/// One server's part in a cluster, without clock and sockets: what is said to whom, which channels are listened to, who else is
/// there, and whether the broker is.
///
/// Threads: those that say so any; the others one at a time. A lock is held for the lists that they meet in, and never while
/// anybody else's code runs.
class node {
public:
    /// `is_server`: it has connections, and stands in nodes(). Host and carrier outlive close().
    node(cluster_config settings, node_host& host, backplane& carrier, bool is_server = true);
    node(const node&) = delete;
    node& operator=(const node&) = delete;
    ~node();

    // --- any thread

    const cluster_config& settings() const noexcept { return settings_; }
    const std::string& tag() const noexcept { return info_.id; }
    const channel_names& channels() const noexcept { return channels_; }

    /// What is said at this endpoint goes to the others, and theirs here. `self` is this, or something that holds it. Before the
    /// first connection.
    void add(const core::endpoint_ptr& endpoint, const std::shared_ptr<node>& self);

    /// Sends an event or an action on to where its receivers may be. `local` is where they have been told already, or null.
    void deliver(const core::hub* local, std::string_view endpoint, const core::address& to, const outgoing& out);
    void act(const core::hub* local, std::string_view endpoint, const core::address& to, const core::action& what);

    /// Sends one to a channel; sender and sequence are filled in.
    void send(std::string channel, envelope e);

    /// To all others, or to the one of this tag. `e.tag` and `e.number` are filled in. `then` is called on the executor.
    void ask(std::string_view one, envelope e, std::shared_ptr<question> then, std::chrono::milliseconds timeout);

    /// Whether an id is one that another server which is there has made.
    bool is_elsewhere(std::string_view id) const noexcept;

    /// The other servers that are there, as far as is known.
    std::vector<node_info> others() const;
    cluster_state state() const;

    /// Whether all that was subscribed to so far is in force: what others say from now on is heard.
    bool is_settled() const;

    /// What may be waited for.
    enum class milestone : std::uint8_t {
        settled,  ///< What has been joined so far is subscribed to: what others say from then on is heard.
        taken,  ///< What has been said so far has reached the broker, but for what was dropped or lost, which is counted.
    };

    /// Calls `then` on the executor, once: whether it came to that before the time was over, and the node closed. After close() it
    /// is called at once.
    void await(milestone what, std::chrono::milliseconds timeout, std::function<void(bool)> then);

    /// This one, as the others know it.
    node_info self() const;

    /// The endpoint of this path here; null where there is none.
    core::endpoint_ptr endpoint_of(std::string_view path) const;

    void add_metrics(cluster_metrics& to) const;

    // --- on the executor

    /// Does what has become due or was asked for meanwhile. Says when it wants to be called again.
    millis work(millis now);

    void received(std::string_view bytes, millis now);
    void connected(millis now);
    void disconnected(std::string_view why, millis now);
    void subscribed(std::uint64_t number);

    /// Says goodbye to the others and lets go of everything. Everybody who asked is told.
    void close(millis now);

    /// The same, but for its endpoints: from now on there is nobody else. `why` is what state() says then. close() follows.
    void give_up(millis now, std::string why);

private:
    class link;

    struct pending {
        boost::container::small_vector<std::string, 1> channels;
        std::string bytes;
    };
    struct pending_question {
        std::string one;
        std::uint64_t number;
        std::shared_ptr<question> then;
        millis timeout;
        bool lists_ids;
    };
    struct open_question {
        std::shared_ptr<question> then;
        std::set<sender_id> waits_for;
        std::map<sender_id, node_info> asked;
        std::vector<node_info> gone{};  // before they answered, or with a part of their answer missing
        std::string one;
        millis due;
        bool lists_ids;
        std::map<sender_id, std::uint64_t> listed{};  // so many ids have come
    };
    struct pending_wait {
        milestone what;
        std::function<void(bool)> then;
        millis due;                // until it is taken up: the time it has
        std::uint64_t number = 0;  // of the subscription, or of the own message whose echo tells
    };
    struct sender {
        node_info info;
        sequence_window window;
        millis heard = 0;
        bool is_server = false;      ///< It is there.
        bool may_come_back = false;  ///< It was, and has not said goodbye.
    };
    struct interest {
        core::endpoint* endpoint;
        std::string name;
        millis leaves = 0;        // 0: it is occupied
        std::uint64_t since = 0;  // the number of the call that subscribes to it
    };

    void route(const core::hub* local, envelope& e, const core::address& to, std::string_view endpoint);
    void push(boost::container::small_vector<std::string, 1> channels, std::string bytes);
    bool state_is_degraded() const;
    void note_changed(core::endpoint* endpoint, std::string_view name) noexcept;

    void update_subscriptions(millis now);
    void leave_lingering(millis now, std::vector<std::string>& added, std::vector<std::string>& removed);
    void hand_on(millis now);
    void publish_own(envelope::kind is, const std::string& channel);
    std::string own_channel() const { return is_server_ ? channels_.nodes() : channels_.node(info_.id); }
    void set_state(bool degraded, std::string_view why);
    void check_broker(millis now);
    void forget_silent(millis now);
    sender& remember(const sender_id& id, millis now);
    void publish_tags();
    void take_questions(millis now);
    void end_due_questions(millis now);
    void finish(open_question& q);
    void answer_no_more(const sender_id& who);
    void take_up(std::vector<pending_wait> fresh, millis now);
    void end_waits(millis now);
    void heard_from(const sender& from, const envelope& e, millis now);
    void answer_question(const envelope& e);

    const cluster_config settings_;
    node_host& host_;
    backplane& carrier_;
    const bool is_server_;
    const channel_names channels_;
    const sender_id self_ = sender_id::make();
    node_info info_;

    mutable std::mutex mutex_;
    std::vector<core::endpoint_ptr> endpoints_;
    std::deque<pending> outgoing_;
    std::size_t outgoing_bytes_ = 0;
    std::vector<std::pair<core::endpoint*, std::string>> changed_;
    bool changed_all_ = false;
    std::vector<pending_question> new_questions_;
    std::vector<pending_wait> new_waits_;
    std::set<std::string, std::less<>> tags_;  // of the others
    std::vector<node_info> others_;
    cluster_state state_;
    bool closed_ = false;
    bool woken_ = false;
    std::atomic<bool> holds_{false};  // what is said waits for the others to come back
    bool updating_ = false;           // between what was noted and the call that subscribes to it
    std::uint64_t wanted_ = 0;        // the number of the last subscribe()
    std::uint64_t in_force_ = 0;      // the last that is in force

    // On the executor.
    bool connected_ = false;
    millis asked_at_ = 0;  // since when an echo is waited for
    millis echo_at_ = 0;
    std::uint64_t last_sequence_ = 0;
    std::set<sender_id> awaited_;  // who was there before, and has not been heard since the broker is back
    millis awaited_until_ = 0;
    std::uint64_t echoed_ = 0;  // the sequence of the newest own message that came back
    std::vector<pending_wait> waits_;
    millis beat_due_ = 0;
    millis silent_due_ = core::timing_wheel::never;  // when somebody may count as gone; not before
    std::atomic<bool> begun_{false};                 // the backplane has started: others may ask it for its figures
    std::map<sender_id, sender> senders_;
    core::string_map<interest> interests_;  // by channel
    std::multimap<millis, std::string> lingering_;
    std::map<std::uint64_t, open_question> questions_;
    std::uint64_t next_question_;

    struct counts {
        std::atomic<std::uint64_t> dropped{0};
        std::atomic<std::uint64_t> too_big{0};
        std::atomic<std::uint64_t> delivered{0};
        std::atomic<std::uint64_t> malformed{0};
        std::atomic<std::uint64_t> newer{0};
        std::atomic<std::uint64_t> duplicates{0};
        std::atomic<std::uint64_t> degradations{0};
        std::atomic<std::uint64_t> late_answers{0};
    } counts_;
};

}  // namespace arke::cluster

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/cluster/node.ipp>
#endif
