#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace arke {

/// Where a backplane runs: one strand of the server's first loop. Everything of a backplane is called on it, one call at a time.
using cluster_executor = boost::asio::strand<boost::asio::io_context::executor_type>;

/// What a backplane tells the server that it serves.
///
/// Threads: any. What one thread tells keeps its order. Not after backplane::close() has returned.
class backplane_user {
public:
    /// Something was published to a channel that is subscribed to; our own messages come as well. The view lives for the call.
    /// Twice is harmless, if the two are no more than a thousand messages apart.
    virtual void received(std::string_view payload) = 0;

    /// Around several calls of received(), where a read has brought several messages: what they cause is sent at once. On the
    /// executor only, one within another not.
    virtual void begin_burst() {}
    virtual void end_burst() noexcept {}

    class burst {
    public:
        explicit burst(backplane_user& of) : of_{of} { of_.begin_burst(); }
        ~burst() { of_.end_burst(); }
        burst(const burst&) = delete;
        burst& operator=(const burst&) = delete;

    private:
        backplane_user& of_;
    };

    /// What is published goes out from now on, and every channel of subscribe() is subscribed to again.
    virtual void connected() = 0;

    /// What is published reaches nobody, or what others publish does not reach us. `why` is a sentence for people. The backplane
    /// tries again by itself, after a random time, until it can say connected().
    virtual void disconnected(std::string_view why) = 0;

    /// The subscriptions of all calls of subscribe() up to this number are in force.
    virtual void subscribed(std::uint64_t number) = 0;

protected:
    ~backplane_user() = default;
};

/// What a backplane has counted since its start.
struct backplane_counts {
    std::uint64_t published = 0;        ///< Messages that the broker has taken.
    std::uint64_t published_bytes = 0;  ///< Theirs, without what the broker's protocol adds.
    std::uint64_t lost = 0;  ///< Of those that publish() took, the ones of which the broker was not heard any more.
    std::uint64_t received = 0;
    std::uint64_t received_bytes = 0;
    std::uint64_t round_trips = 0;  ///< Times that the broker was asked something and answered, publishing not counted.
    std::uint64_t subscriptions = 0;  ///< Channels that are subscribed to now.
    std::uint64_t connections = 0;    ///< Times that it was connected.
};

/// Carries messages between the servers of a cluster: the seam that Redis, NATS and what you write yourself stand behind. Two
/// functions out, publish() and subscribe(); one in, backplane_user::received(). What has a connection that can be lost needs a few
/// more; in_process.hpp is the least there can be.
///
/// Channels are named by ASCII letters, digits, '-', '_', '=', '~', and '.' between parts that are never empty: a Redis channel and
/// a NATS subject as they are, of 250 bytes at most. A message goes to everybody who is subscribed at that time, at most once
/// for each subscription; messages of one server to one channel keep their order. Nothing is stored.
///
/// It never blocks, and throws nothing but std::bad_alloc, but for start(). All functions are called on the executor, counts() and waiting() by
/// any thread once it has started.
class backplane {
public:
    virtual ~backplane() = default;

    /// Begins to connect, and comes back at once; nobody waits for a broker. `user` outlives close(). Throws
    /// std::invalid_argument for settings that cannot work. Once.
    virtual void start(boost::asio::io_context& context, const cluster_executor& on, backplane_user& user) = 0;

    /// Sends a message to all who are subscribed to the channel. Called only between connected() and disconnected(), and only
    /// while less waits than the cluster's bound. False: it is not taken, because it is larger than the broker takes.
    virtual bool publish(std::string_view channel, std::string_view payload) = 0;

    /// Subscribes to some channels and leaves others, also while there is no connection; what is subscribed to stays so over
    /// reconnections. None is in both lists, none is added twice. `number` grows with each call.
    virtual void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                           std::uint64_t number) = 0;

    /// The broker does not answer any more, as the cluster finds: drop the connection and make a new one.
    virtual void reconnect() {}

    /// Hands on at once what can be handed on without waiting, and ends everything. No call of the user after it.
    virtual void close() noexcept = 0;

    /// Before start(), where it will be destroyed on the executor, among the work of others: then that waits for nothing, and what
    /// close() has left under way goes on by itself.
    virtual void end_without_waiting() noexcept {}

    /// Bytes that were published and wait here, because the broker takes them slowly.
    virtual std::size_t waiting() const noexcept { return 0; }

    virtual backplane_counts counts() const noexcept { return {}; }

protected:
    backplane() = default;
    backplane(backplane&&) = default;
    backplane& operator=(backplane&&) = default;
};

}  // namespace arke
