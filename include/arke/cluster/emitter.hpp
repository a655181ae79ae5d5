#pragma once

#include <arke/cluster/handle.hpp>
#include <arke/core/aim.hpp>
#include <arke/event/speaker.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace boost::asio {
class io_context;
}

namespace arke {

/// Every setting of an emitter. A plain aggregate with closed defaults.
struct emitter_config {
    /// As of the servers that it speaks to: above all the prefix.
    cluster_config cluster{};

    /// The path of the endpoint whose connections it speaks to.
    std::string endpoint = "/";

    /// Whether emit_message(bytes) is a binary message: as config::binary_messages of the servers.
    bool binary_messages = false;

    /// Takes a line for people, such as that the broker is gone; in the emitter's thread, or in the caller's io_context, there also
    /// shortly after the emitter's end. Empty: nobody hears it.
    std::function<void(std::string_view)> log{};
};

namespace cluster {

/// What an emitter is made of.
class emitter_state;

void deliver(const emitter_state& by, const core::address& to, const outgoing& out);
void act(const emitter_state& by, const core::address& to, const core::action& what);
bool binary_messages(const emitter_state& by) noexcept;

}  // namespace cluster

/// Whom an emitter's message is for: ids, rooms, arke::all, as target; on all servers. Used at once or kept; after the emitter's end
/// it has no effect.
class emitter_target : public speaker<emitter_target> {
public:
    /// Leaves out these connections and rooms.
    template <class... Names>
    emitter_target& except(Names&&... names) & {
        (detail::add_name(to_.except, std::forward<Names>(names)), ...);
        return *this;
    }
    template <class... Names>
    emitter_target&& except(Names&&... names) && {
        (detail::add_name(to_.except, std::forward<Names>(names)), ...);
        return std::move(*this);
    }

    // emit(), emit_volatile() and emit_latest(): see speaker. Queued is not sent: emitter::flush().

    /// A native message: text as text; bytes as emitter_config::binary_messages says; a received message as it came.
    void emit_message(std::string_view text) const { deliver(detail::native_text(text)); }
    void emit_message(bytes_view data) const { deliver(detail::native_bytes(cluster::binary_messages(*by_), data)); }
    void emit_message(const message_view& message) const { deliver(outgoing::native(message.is_text, message.data)); }

    /// Does it with each connection that is meant.
    void disconnect(close_code code = close_code::normal, std::string_view reason = {}) const {
        detail::check_close(code, reason);
        cluster::act(*by_, to_, {core::action::what::disconnect, code, std::string{reason}});
    }
    void join(std::string_view room) const {
        cluster::act(*by_, to_, {core::action::what::join, {}, std::string{room}});
    }
    void leave(std::string_view room) const {
        cluster::act(*by_, to_, {core::action::what::leave, {}, std::string{room}});
    }

private:
    friend class emitter;
    friend class speaker<emitter_target>;
    explicit emitter_target(std::shared_ptr<cluster::emitter_state> by) : by_{std::move(by)} {}

    void deliver(const outgoing& out) const { cluster::deliver(*by_, to_, out); }

    std::shared_ptr<cluster::emitter_state> by_;
    core::address to_;
};

/// Servers, and no connections: emitter::servers().
class emitter_servers : public server_speaker {
private:
    friend class emitter;
    emitter_servers(std::shared_ptr<cluster::server_node> by, std::string_view one)
        : server_speaker{std::move(by), one} {}
};

/// Speaks to the connections of a cluster from a process that has none: a job, a script, another service.
///
///     arke::emitter out{arke::redis_backplane{"redis://localhost"}};
///     out.to("lobby").emit("news", text);
///     if (!out.flush()) std::cerr << "the broker has not taken it\n";
///
/// It is no server: nodes() does not name it, and it hears nothing. What it says reaches the servers as what they say to each other:
/// at most once, in its order for each room, and up to cluster_config::max_outgoing_bytes wait while there is no broker.
///
/// It has a thread of its own, or lives in the caller's io_context, which the caller runs, and destroys after it;
/// that has work for as long as the emitter is there.
///
/// Threads: any. Destroying it hands on what waits for a second at most; in the caller's io_context it does not wait, so flush() before.
class emitter {
public:
    /// Throws std::invalid_argument for a config that cannot work. The broker need not be there.
    template <class Backplane>
    explicit emitter(Backplane carrier, emitter_config settings = {})
        : emitter{nullptr, std::make_unique<Backplane>(std::move(carrier)), std::move(settings)} {}
    template <class Backplane>
    emitter(boost::asio::io_context& context, Backplane carrier, emitter_config settings = {})
        : emitter{&context, std::make_unique<Backplane>(std::move(carrier)), std::move(settings)} {}

    emitter(emitter&&) noexcept = default;
    emitter& operator=(emitter&&) = delete;
    ~emitter();

    /// Names whom a message is for: ids, rooms, arke::all. A plain name is an id where one of that name is connected, else a room.
    template <class... Names>
    emitter_target to(Names&&... names) const {
        static_assert((!std::is_same_v<std::remove_cvref_t<Names>, not_me_t> && ...),
                      "arke: an emitter is no connection, so there is nobody to leave out: use arke::all.");
        emitter_target made{state_};
        detail::aim(made.to_, nullptr, std::forward<Names>(names)...);
        return made;
    }

    /// Speaks to the servers themselves: to all, or to one by its node_info::id; see cluster_handle::on().
    emitter_servers servers(std::string_view one = {}) const;

    /// Waits until the broker has taken everything that was said so far. False: not within the time, or some of what was said since the
    /// last flush() was dropped, too large or lost; metrics() says how much. Not in a thread that the io_context needs.
    bool flush(std::chrono::milliseconds timeout = std::chrono::seconds{1}) const;

    cluster_state state() const;
    cluster_metrics metrics() const;

private:
    emitter(boost::asio::io_context* context, std::unique_ptr<backplane> carrier, emitter_config settings);

    std::shared_ptr<cluster::emitter_state> state_;
};

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/cluster/emitter.ipp>
#endif
