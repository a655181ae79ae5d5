#pragma once

#include <arke/adopt.hpp>
#include <arke/base/cluster_config.hpp>
#include <arke/base/config.hpp>
#include <arke/connection.hpp>
#include <arke/core/cluster_member.hpp>
#include <arke/route.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace boost::asio {
class io_context;
}

namespace arke {

class cluster_handle;

namespace detail {
class server_state;
core::cluster_place cluster_place_of(const server_state& s);
void join_cluster(server_state& s, std::shared_ptr<core::cluster_member> as);
std::shared_ptr<core::cluster_member> cluster_of(const server_state& s);
void add_route(server_state& s, std::string_view method, std::string path,
               std::unique_ptr<http::route_handler> handler);
}  // namespace detail

/// One WebSocket endpoint: its handlers, its connections, its rooms.
///
/// A light handle: copies mean the same endpoint. Handlers that are added here serve every connection and cost a connection
/// nothing; they run before the connection's own.
///
/// Threads: any. Handlers run on the loop of the connection that they are called for: with run(n), on several loops at once.
template <class Session>
class basic_endpoint {
public:
    using connection_type = basic_connection<Session>;

    const config& settings() const noexcept { return state_->settings(); }

    // --- handlers; see the functions of the same name of connection

    /// Decides about each upgrade, after its origin was found welcome and before it has an id: a function or a coroutine of
    /// arke::upgrade&, or of arke::basic_upgrade<Session>& to fill the session() that the connection will have. The coroutine runs on the
    /// connection's loop and has config.listener.handshake_timeout, from the request's beginning; what the client sends meanwhile waits.
    /// One that throws is a 500 and a line to the log. At most one; not in a testing::server, which begins behind it.
    template <class F>
    handler_id on_upgrade(F&& f) {
        auto handler = detail::make_upgrade_handler<Session>(std::forward<F>(f));
        return state_->change([&](core::handler_set& set) { return set.add_upgrade(handler); });
    }

    /// Runs for each new connection, before anything of it is read.
    template <class F>
    handler_id on_connection(F&& f) {
        return add(&core::handler_set::connection, std::forward<F>(f));
    }
    template <class F>
    handler_id on(std::string_view event, F&& f) {
        auto handler = make_event_handler<connection_type>(std::forward<F>(f));
        return state_->change([&](core::handler_set& set) { return set.add_event(event, handler); });
    }
    template <class T, class F>
    handler_id on(std::string_view event, F&& f) {
        auto handler = make_event_handler_as<T, connection_type>(std::forward<F>(f));
        return state_->change([&](core::handler_set& set) { return set.add_event(event, handler); });
    }
    template <class F>
    handler_id on_join(F&& f) {
        auto handler = make_join_handler<connection_type>(std::forward<F>(f));
        return state_->change([&](core::handler_set& set) { return set.add_join(handler); });
    }
    template <class F>
    handler_id on_any(F&& f) {
        return add(&core::handler_set::any, std::forward<F>(f));
    }
    template <class F>
    handler_id on_message(F&& f) {
        return add(&core::handler_set::message, std::forward<F>(f));
    }
    template <class F>
    handler_id on_disconnect(F&& f) {
        return add(&core::handler_set::disconnect, std::forward<F>(f));
    }
    template <class F>
    handler_id on_error(F&& f) {
        return add(&core::handler_set::error, std::forward<F>(f));
    }
    template <class F>
    handler_id on_leave(F&& f) {
        return add(&core::handler_set::leave, std::forward<F>(f));
    }
    template <class F>
    handler_id on_ping(F&& f) {
        return add(&core::handler_set::ping, std::forward<F>(f));
    }
    template <class F>
    handler_id on_pong(F&& f) {
        return add(&core::handler_set::pong, std::forward<F>(f));
    }

    template <class F>
    handler_id on_drain(F&& f) {
        return add(&core::handler_set::drain, std::forward<F>(f));
    }

    /// Removes a handler of the endpoint. A message that is being dispatched on another loop may still meet it.
    bool off(handler_id handler) {
        return state_->change([&](core::handler_set& set) {
            const bool done = set.remove(handler) != nullptr;
            set.compact();
            return done;
        });
    }
    void off(std::string_view event) {
        state_->change([&](core::handler_set& set) {
            set.remove_event(event, [](const core::any_handler_list::pointer&) {});  // of a copy: none is running
            set.compact();
            return true;
        });
    }

    // --- speaking

    /// Names whom a message is for: ids, rooms, arke::all. What is meant for one alone is said to arke::id{...}: see target.
    template <class... Names>
    target to(Names&&... names) const {
        static_assert(
            (!std::is_same_v<std::remove_cvref_t<Names>, not_me_t> && ...),
            "arke: a server is no connection, so there is nobody to leave out: use arke::all, or c.to(arke::not_me).");
        target made{*state_, nullptr};
        made.aim(std::forward<Names>(names)...);
        return made;
    }

    // --- connections and rooms, as they are at the moment of the call

    /// The connection of this id; an empty handle when there is none.
    connection_handle find(std::string_view id) const { return connection_handle{state_->find(id), state_}; }
    bool is_connected(std::string_view id) const { return state_->find(id) != nullptr; }
    std::size_t size() const noexcept { return state_->size(); }
    std::vector<connection_handle> connections() const {
        std::vector<connection_handle> handles;
        for (auto& p : state_->peers()) handles.push_back(connection_handle{std::move(p)});
        return handles;
    }
    std::vector<std::string> rooms() const { return state_->rooms(); }

    /// The ids of a room's members.
    std::vector<std::string> members(std::string_view room) const { return state_->members(room); }

    /// False when there is no connection of this id. In a cluster the id may be of a connection to another server: what this one
    /// has not made is passed on, as to(arke::id{id}) does it, and where it is not connected here the answer is true, whatever
    /// comes of it there.
    bool disconnect(std::string_view id, close_code code = close_code::normal, std::string_view reason = {}) const {
        if (!may_be_elsewhere(id)) {
            const auto found = find(id);
            if (found.id().empty()) return false;
            found.disconnect(code, reason);
            return true;
        }
        to(arke::id{std::string{id}}).disconnect(code, reason);
        return true;
    }
    bool join(std::string_view id, std::string_view room) const {
        const auto found = find(id);
        if (!may_be_elsewhere(id)) return found.join(room);
        if (!found.id().empty() && !found.join(room)) return false;
        to(arke::id{std::string{id}}).join(room);
        return true;
    }
    bool leave(std::string_view id, std::string_view room) const {
        const auto found = find(id);
        if (!may_be_elsewhere(id)) return found.leave(room);
        const bool has_left = found.id().empty() || found.leave(room);
        to(arke::id{std::string{id}}).leave(room);
        return has_left;
    }

    /// Events that nobody handled, since the start.
    std::uint64_t unhandled_events() const noexcept { return state_->unhandled.load(std::memory_order_relaxed); }

protected:
    template <class S>
    friend class basic_server;

    explicit basic_endpoint(core::endpoint_ptr state) : state_{std::move(state)} {}

    static core::endpoint_ptr make(config settings) {
        return core::endpoint_ptr{new core::endpoint{std::move(settings), &connection_type::make}};
    }

    template <class... Args, class F>
    handler_id add(core::handler_list<notify_handler<Args...>> core::handler_set::*list, F&& f) {
        auto handler = make_notify_handler<connection_type, Args...>(std::forward<F>(f));
        return state_->change([&](core::handler_set& set) {
            const auto number = set.next_id();
            (set.*list).add(number, handler);
            return number;
        });
    }

    /// Of one that is not here: an id that this server has made was here, and has gone.
    bool may_be_elsewhere(std::string_view id) const {
        const auto& cluster = state_->link();
        return cluster && !cluster->made(id);
    }

    core::endpoint_ptr state_;
};

/// An endpoint whose connections have no data of the user's attached. A function that takes one by reference serves with a
/// server, with a further endpoint of it, and with a testing::server.
using endpoint = basic_endpoint<no_session>;

/// A server: listening sockets, loops, endpoints, and the pages beside them.
///
///     arke::server server{{.endpoint = "/chat"}};
///     server.on("hello", [](arke::connection& c, std::string name) { c.emit("hello", "hello " + name); });
///     server.listen("0.0.0.0", 8080);
///     server.run();
///
/// It is itself its first endpoint. It either owns its io_contexts, one for each thread of run(), or lives inside the
/// caller's: then the caller runs that, with any number of threads, and destroys the server before it.
///
/// Threads: to(), find() and what else basic_endpoint has, stop() and port(): any. The rest before it serves: run(), or with
/// the caller's io_context listen().
///
/// Destroying it is stop(), without waiting: a handler may do it. Where nothing runs its loops any more, all is cut at once.
template <class Session>
class basic_server : public basic_endpoint<Session> {
public:
    /// Throws std::invalid_argument for a config that cannot work.
    explicit basic_server(config settings = {});
    basic_server(boost::asio::io_context& context, config settings = {});

    basic_server(basic_server&&) noexcept = default;
    basic_server& operator=(basic_server&&) = delete;
    ~basic_server();

    /// Adds another endpoint on the same ports, with connections, handlers and rooms of its own. The listener group of its
    /// config must be left alone: sockets belong to the server.
    template <class Other = Session>
    basic_endpoint<Other> endpoint(std::string path, config settings = {});

    /// Answers the requests of one method at one path, or at everything below it: "/orders", "/orders/*". A path is compared as it
    /// is sent, encoded. Of several that fit, the longest answers. GET answers HEAD too; a path that has other methods is 405, and
    /// OPTIONS is answered by them.
    ///
    ///     server.get("/price", [](const arke::http_request& r) { return arke::response::json({{"price", price_of(r.query("item"))}}); });
    ///     server.post("/orders", [](const arke::http_request& r) -> boost::asio::awaitable<arke::response> {
    ///         co_return arke::response::json(co_await store(r.json<order>()), 201);
    ///     });
    ///
    /// The handler returns an arke::response, or an awaitable of one; it takes the request, or nothing. It runs on the connection's
    /// loop, on several at once with run(n), and a coroutine may outlive the connection. What it throws is a 500 and a line to
    /// the log, but for arke::http_error. Only routes take bodies, up to config.listener.max_body_size.
    ///
    /// Throws std::invalid_argument for a path that is none, std::logic_error for one that is taken: by another route, an endpoint
    /// (give it a path of its own), the client's scripts or the metrics.
    template <class F>
    void route(std::string_view method, std::string path, F&& f) {
        detail::add_route(*server_, method, std::move(path), detail::make_route_handler(std::forward<F>(f)));
    }
    template <class F>
    void get(std::string path, F&& f) {
        route("GET", std::move(path), std::forward<F>(f));
    }
    template <class F>
    void head(std::string path, F&& f) {
        route("HEAD", std::move(path), std::forward<F>(f));
    }
    template <class F>
    void post(std::string path, F&& f) {
        route("POST", std::move(path), std::forward<F>(f));
    }
    template <class F>
    void put(std::string path, F&& f) {
        route("PUT", std::move(path), std::forward<F>(f));
    }
    template <class F>
    void patch(std::string path, F&& f) {
        route("PATCH", std::move(path), std::forward<F>(f));
    }
    template <class F>
    void del(std::string path, F&& f) {
        route("DELETE", std::move(path), std::forward<F>(f));
    }
    template <class F>
    void options(std::string path, F&& f) {
        route("OPTIONS", std::move(path), std::forward<F>(f));
    }

    /// Serves the files of a folder below a prefix of the path. Endpoints, the client's scripts and routes come first. A folder is
    /// its index.html; what begins with a dot is not served, but for /.well-known/, and nothing outside of the folder is. One range is
    /// sent where it is asked for; a file with its ".gz" beside it goes as that to who takes it.
    void files(std::string prefix, const std::string& folder);

    /// Listens on an IP address; port 0 is any free one. May be called for several. Throws std::runtime_error with a sentence
    /// that says what to do, std::invalid_argument for a port that is none. The port speaks TLS where config.listener.tls has a
    /// certificate; `how` says otherwise, for one that is plain beside it.
    void listen(const std::string& address, int port, security how = security::automatic);

    /// Reads the certificates of config.listener.tls again, from where they were read before; or takes others. New connections get
    /// them; those that are there, and their handshakes, keep what they have. No client resumes a session from before. Throws
    /// std::invalid_argument for what cannot work, and everything stays as it was; std::logic_error without TLS. Any thread.
    void reload();
    void reload(tls_config with);

    /// Listens on a UNIX-domain socket. The file gets these permissions; one that a server has left that has ended is replaced,
    /// and it goes when the server stops. Throws std::runtime_error with a sentence that says what to do: for a path that is
    /// too long, a folder that is missing, a file that is no socket or that another server listens on.
    void listen_unix(const std::string& path, unsigned mode = 0660, security how = security::automatic);

    /// Takes over a connection whose upgrade request an HTTP server of yours has read, mostly one made with Beast:
    ///
    ///     if (websocket::is_upgrade(request)) return server.adopt(std::move(stream), request, buffer);
    ///
    /// `stream` is a socket (or a beast::tcp_stream), which then belongs to a loop of this server, whatever io_context it came from;
    /// or an asio::ssl::stream or any other AsyncStream, which stays where it is and costs more (see io/stream_transport.hpp).
    /// None of its operations may be under way; with its io_context its connections go. What such a stream has not written when its
    /// connection ends is written for close_timeout of this server's config at most. `request` is an http::request or its header,
    /// `buffer` what was read behind it, a dynamic buffer or a text. From here on all is as with connections of its own: limits,
    /// origin, subprotocol, answer. The endpoint is found by the target; where there is none the answer is 404. The server need
    /// not listen.
    ///
    /// Threads: any. After stop() the connection is closed.
    template <class Stream, class Request, class Buffer>
    void adopt(Stream stream, const Request& request, const Buffer& buffer);

    /// Makes this server one of many: what is said here by to(...) reaches those it names on all servers that share a broker, and
    /// theirs reaches here. Include the backplane's header:
    ///
    ///     #include <arke/cluster/redis.hpp>
    ///     server.cluster(arke::redis_backplane{"redis://localhost"});
    ///
    /// Those here are told first, and never wait for the broker. The others hear it at most once, in the order of one server and
    /// room; whether they do is not certain: without the broker (cluster().state()) what is said waits up to
    /// cluster_config::max_outgoing_bytes. A plain name is an id where one of that name is connected, elsewhere a room. Who joins
    /// a room hears what other servers say there as soon as the broker has heard of it; see cluster_handle. What a connection
    /// is asked (ask()), find() and members() are of this server.
    ///
    /// Throws std::invalid_argument for a config that cannot work; std::logic_error when it serves already, or is in a cluster.
    template <class Backplane>
    void cluster(Backplane backplane, cluster_config settings = {}) {
        const auto place = detail::cluster_place_of(*server_);
        detail::join_cluster(*server_, make_cluster_member(place, std::make_unique<Backplane>(std::move(backplane)),
                                                           std::move(settings)));
    }

    /// The other servers, and what is asked of all: see arke/cluster/handle.hpp, which the backplanes include.
    template <class Handle = cluster_handle>
    Handle cluster() const {
        return Handle{detail::cluster_of(*server_), this->state_};
    }

    /// The port of the last listen(); 0 before.
    std::uint16_t port() const noexcept;

    /// What has happened so far, in numbers: a snapshot of all endpoints and loops. Any thread.
    arke::metrics metrics() const;

    /// The implementation of the loops that is in use: what config.listener.loop asks for may not be there.
    loop_kind loop() const noexcept;

    /// Serves until stop(), with this many threads, each a loop of its own. SIGINT and SIGTERM do the same as stop(), a second
    /// one cuts at once, unless config.listener.stop_on_signals is off. Not for a server inside a caller's io_context, and only once.
    void run(unsigned threads = 1);

    /// Accepts no more, tells everybody goodbye (1001) over the time of config.listener.stop_spread, lets what waits for them
    /// go out, and at the latest after config.listener.stop_timeout cuts. Returns at once; run() returns when it is done, and
    /// no handler runs after that. From everywhere, as often as one likes; a further call can only shorten the time.
    void stop();
    void stop(std::chrono::milliseconds timeout, std::chrono::milliseconds spread = std::chrono::milliseconds{0});

    /// Of the first loop. Empty once the server has ended: post nothing to it then.
    boost::asio::any_io_executor get_executor() const;

private:
    std::shared_ptr<detail::server_state> server_;
};

/// A server whose connections have no data of the user's attached.
using server = basic_server<no_session>;

namespace detail {

// The server without its template, so that the sockets and Beast stay behind the line of separate compilation.
std::shared_ptr<server_state> make_server(boost::asio::io_context* context, const core::endpoint_ptr& first);
void add_endpoint(server_state& s, const core::endpoint_ptr& added);
void add_files(server_state& s, std::string prefix, const std::string& folder);
void listen(server_state& s, const std::string& address, int port, security how);
void reload(server_state& s, std::optional<tls_config> with);
void listen_unix(server_state& s, const std::string& path, unsigned mode, security how);
void adopt_socket(server_state& s, std::uintptr_t socket, std::string bytes);
void adopt_stream(server_state& s, std::shared_ptr<core::byte_stream> stream, stream_address from, std::string bytes);
std::uint16_t port_of(const server_state& s) noexcept;
loop_kind loop_of(const server_state& s) noexcept;
metrics metrics_of(const server_state& s);
void run(std::shared_ptr<server_state> s, unsigned threads);
void stop(server_state& s, std::optional<std::chrono::milliseconds> timeout = {},
          std::optional<std::chrono::milliseconds> spread = {});
void abandon(std::shared_ptr<server_state> s) noexcept;
template <class Executor>
Executor executor_of(const server_state& s);

}  // namespace detail

template <class Session>
basic_server<Session>::basic_server(config settings)
    : basic_endpoint<Session>{basic_endpoint<Session>::make(std::move(settings))},
      server_{detail::make_server(nullptr, this->state_)} {}

template <class Session>
basic_server<Session>::basic_server(boost::asio::io_context& context, config settings)
    : basic_endpoint<Session>{basic_endpoint<Session>::make(std::move(settings))},
      server_{detail::make_server(&context, this->state_)} {}

template <class Session>
basic_server<Session>::~basic_server() {
    if (server_) detail::abandon(std::move(server_));
}

template <class Session>
template <class Other>
basic_endpoint<Other> basic_server<Session>::endpoint(std::string path, config settings) {
    if (settings.listener != listener_config{}) {
        throw std::invalid_argument{
            "arke: endpoint(): the config changes the listener group, which belongs to the server; set it in the "
            "server's config"};
    }
    if (path.empty())
        throw std::invalid_argument{"arke: endpoint(): the path is empty; write one that starts with '/'"};
    settings.endpoint = std::move(path);
    auto made = basic_endpoint<Other>::make(std::move(settings));
    detail::add_endpoint(*server_, made);
    return basic_endpoint<Other>{std::move(made)};
}

template <class Session>
void basic_server<Session>::files(std::string prefix, const std::string& folder) {
    detail::add_files(*server_, std::move(prefix), folder);
}

template <class Session>
void basic_server<Session>::listen(const std::string& address, int port, security how) {
    detail::listen(*server_, address, port, how);
}

template <class Session>
void basic_server<Session>::reload() {
    detail::reload(*server_, {});
}

template <class Session>
void basic_server<Session>::reload(tls_config with) {
    detail::reload(*server_, std::move(with));
}

template <class Session>
void basic_server<Session>::listen_unix(const std::string& path, unsigned mode, security how) {
    detail::listen_unix(*server_, path, mode, how);
}

template <class Session>
template <class Stream, class Request, class Buffer>
void basic_server<Session>::adopt(Stream stream, const Request& request, const Buffer& buffer) {
    const auto all_of_it = [&] { return detail::text_of_request(request) + detail::bytes_of_buffer(buffer); };
    if constexpr (requires { stream.release_socket(); }) {
        adopt(stream.release_socket(), request, buffer);
    } else if constexpr (detail::plain_socket<Stream>) {
        error_code ec;
        stream.native_non_blocking(true, ec);
        const auto native = ec ? typename Stream::native_handle_type{} : stream.release(ec);
        // Whoever has gone already, or cannot be taken away, is closed with the stream.
        if (!ec) detail::adopt_socket(*server_, static_cast<std::uintptr_t>(native), all_of_it());
    } else {
        auto from = detail::address_of_stream(stream);
        detail::adopt_stream(*server_, std::make_shared<detail::adopted_stream<Stream>>(std::move(stream)),
                             std::move(from), all_of_it());
    }
}

template <class Session>
std::uint16_t basic_server<Session>::port() const noexcept {
    return detail::port_of(*server_);
}

template <class Session>
loop_kind basic_server<Session>::loop() const noexcept {
    return detail::loop_of(*server_);
}

template <class Session>
arke::metrics basic_server<Session>::metrics() const {
    return detail::metrics_of(*server_);
}

template <class Session>
void basic_server<Session>::run(unsigned threads) {
    detail::run(server_, threads);
}

template <class Session>
void basic_server<Session>::stop() {
    detail::stop(*server_);
}

template <class Session>
void basic_server<Session>::stop(std::chrono::milliseconds timeout, std::chrono::milliseconds spread) {
    detail::stop(*server_, timeout, spread);
}

template <class Session>
boost::asio::any_io_executor basic_server<Session>::get_executor() const {
    return detail::executor_of<boost::asio::any_io_executor>(*server_);
}

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/server.ipp>
#endif
