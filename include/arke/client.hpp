#pragma once

#include <arke/connection.hpp>
#include <arke/server.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace arke {

/// Every setting of a client. A plain aggregate with closed defaults.
///
///     arke::client c{"ws://localhost:8080/chat", {.headers = {{"Authorization", "Bearer ..."}}}};
///
/// Checked where it is handed over, and refused by std::invalid_argument whose text names the field and the mend. What has the
/// name of a field of arke::config means the same, with the server for a peer.
struct client_config {
    /// Sent with the request. Not those that the handshake needs itself.
    std::vector<std::pair<std::string, std::string>> headers{};

    /// Subprotocols that are offered behind "arke.v1". Where the server chooses one of them, or none, the client speaks the events of
    /// 2016.
    std::vector<std::string> subprotocols{};

    /// Whether there are no events at all: "arke.v1" is not offered, and every message is native.
    bool native = false;

    /// A proxy that makes tunnels (CONNECT): "http://user:password@host:port", without the user where it wants none. Empty: none.
    std::string proxy{};

    /// How long the name, the addresses, the proxy and the handshake may take together. At the bound: errc::connect_timeout.
    std::chrono::milliseconds connect_timeout{10'000};

    /// Bytes and fields of the headers of the server's answer. At the bound: errc::handshake_refused.
    std::size_t max_header_bytes = 8 * 1024;
    std::size_t max_header_fields = 100;

    /// Whether to come back by itself: after a connection that was lost or that the server has ended, but with 1000, 1008 or a code
    /// from 4000 on; and after an attempt of connect() that failed.
    bool reconnect = true;

    /// The delay before an attempt is random, between nothing and a bound: this one, and twice as much with each further attempt, up
    /// to max_reconnect_delay. It begins anew when a connection has lasted for five seconds.
    std::chrono::milliseconds reconnect_delay{1'000};
    std::chrono::milliseconds max_reconnect_delay{30'000};

    /// Attempts in a row after which the client gives up; 0 is no end.
    unsigned max_attempts = 0;

    /// Messages, and the bytes of their names and data, that may wait for a connection. At the bound: what was said last is dropped
    /// and reported to on_error, and ask() completes, with errc::queue_full.
    std::size_t max_queue = 1024;
    std::size_t max_queue_bytes = 1024 * 1024;

    /// How long a message may wait for a connection; zero is for ever. At the bound it is dropped, and counted. emit_within() says
    /// it for one message, and ask() has its timeout.
    std::chrono::milliseconds queue_ttl{0};

    std::chrono::milliseconds write_timeout{15'000};
    std::chrono::milliseconds pong_timeout{60'000};
    std::optional<std::chrono::milliseconds> ping_period{};
    std::chrono::milliseconds close_timeout{5'000};
    std::size_t max_message_size = 1024 * 1024;  ///< More than a server's: a client chooses whom it listens to.
    std::size_t max_fragments = 65'536;
    std::chrono::milliseconds message_timeout{60'000};
    unsigned max_json_depth = 128;
    std::size_t max_outbox_bytes = 1024 * 1024;
    overflow on_overflow = overflow::close;
    std::size_t max_requests = 1024;
    bool reveal_exceptions = false;
    bool binary_messages = false;
    std::string event_prefix = "iris-websocket-message:";
    std::function<void(std::string_view)> log{};

    /// As of listener_config. A receive buffer of 64 KiB, because a client has it for itself.
    std::size_t read_buffer_size = 64 * 1024;
    std::size_t write_buffer_size = 16 * 1024;
    loop_kind loop = loop_kind::automatic;

    /// For wss://. Through a proxy it is spoken with the server, behind the tunnel.
    client_tls_config tls{};

    compression_config compression{};
};

namespace detail {

// The client without its templates, so that the sockets and Beast stay behind the line of separate compilation.
class client_state;
config config_of(const client_config& from);
std::shared_ptr<client_state> make_client(boost::asio::io_context* context, const core::endpoint_ptr& state,
                                          const std::string& url, client_config settings);
void add_error_listener(client_state& s, handler_id id, std::function<void(const error_report&)> f);
void remove_error_listener(client_state& s, handler_id id);
bool is_again(const client_state& s) noexcept;
bool comes_back(const client_state& s) noexcept;
std::size_t waiting(const client_state& s) noexcept;
std::uint64_t dropped(const client_state& s) noexcept;
void deliver(client_state& s, const outgoing& out, std::optional<std::chrono::milliseconds> ttl);
void check(const client_state& s, const outgoing& out);
void ask(client_state& s, const core::requests::pointer& request, message_ptr what,
         std::chrono::milliseconds timeout) noexcept;
void join(client_state& s, std::string_view room, const core::requests::pointer& request) noexcept;
void leave(client_state& s, std::string_view room);
void connect(client_state& s, const core::requests::pointer& request);
void disconnect(client_state& s, close_code code, std::string_view reason);
void run(std::shared_ptr<client_state> s);
void start(const std::shared_ptr<client_state>& s);
void abandon(std::shared_ptr<client_state> s) noexcept;
template <class Executor>
Executor executor_of(const client_state& s);

}  // namespace detail

/// A client: one connection to one server at a time, which comes back by itself.
///
///     arke::client c{"ws://localhost:8080/chat"};
///     c.on("news", [](std::string text) { std::cout << text << '\n'; });
///     c.emit("chat", "hello");                                   // waits for the connection
///     c.run();
///
/// Handlers belong to the client and outlive its connections; they get the arke::connection& that they run for, if they take one.
/// What is said without a connection waits for the next one, up to client_config::max_queue.
///
/// It has an io_context of its own, which run() runs in this thread and start() in one of its own; or it lives inside the
/// caller's, which is run by any number of threads and outlives it. Handlers run one at a time.
///
/// Threads: all functions any, but the constructors, run(), start() and the destructor.
///
/// Destroying it is disconnect(), without waiting for the closing handshake: no handler of the client begins to run any more. With
/// start() it waits for its thread, close_timeout at most. A handler may destroy it.
class client : private basic_endpoint<no_session>, public speaker<client> {
    using base = basic_endpoint<no_session>;

public:
    /// Takes ws:// and wss://, and for UNIX-domain sockets ws+unix:///path/of/the/socket:/path. Throws std::invalid_argument for
    /// a URL that is none, and for a config that cannot work. wss:// needs <arke/tls.hpp> in one file of the program.
    explicit client(const std::string& url, client_config settings = {})
        : base{base::make(detail::config_of(settings))},
          client_{detail::make_client(nullptr, state_, url, std::move(settings))} {}
    client(boost::asio::io_context& context, const std::string& url, client_config settings = {})
        : base{base::make(detail::config_of(settings))},
          client_{detail::make_client(&context, state_, url, std::move(settings))} {}

    client(const client&) = delete;
    client& operator=(const client&) = delete;
    /// Handlers that run in the thread of start() end before it returns, and may use the client meanwhile.
    ~client() { detail::abandon(client_); }

    // --- hearing; see the functions of the same name of connection

    using base::on;
    using base::on_any;
    using base::on_drain;
    using base::on_message;
    using base::on_ping;
    using base::on_pong;

    /// Runs for each new connection: (connection&) or nothing. The first time what waits has been sent before; later it is sent
    /// after, so that a client can say again who it is.
    template <class F>
    handler_id on_connect(F&& f) {
        return base::on_connection(std::forward<F>(f));
    }

    /// The same for each connection but the first.
    template <class F>
    handler_id on_reconnect(F&& f) {
        return base::on_connection([f = std::forward<F>(f), s = client_.get()](connection& c) mutable {
            if (!detail::is_again(*s)) return;
            if constexpr (std::is_invocable_v<std::decay_t<F>&, connection&>)
                f(c);
            else
                f();
        });
    }

    /// Runs when a connection is over: (close_code, std::string_view reason, bool comes_back), the first two, or nothing. Not for
    /// attempts that fail: those are reported to on_error.
    template <class F>
    handler_id on_disconnect(F&& f) {
        using callable = std::decay_t<F>;
        if constexpr (std::is_invocable_v<callable&, close_code, std::string_view, bool>) {
            return base::on_disconnect(
                [f = std::forward<F>(f), s = client_.get()](close_code code, std::string_view reason) mutable {
                    f(code, reason, detail::comes_back(*s));
                });
        } else {
            return base::on_disconnect(std::forward<F>(f));
        }
    }

    /// Hears what went wrong with a connection, with an attempt to connect, and with what waits: (const arke::error_report&).
    template <class F>
    handler_id on_error(F&& f) {
        static_assert(std::is_invocable_v<std::decay_t<F>&, const error_report&>,
                      "arke: on_error of a client takes a const arke::error_report&; there may be no connection.");
        const auto shared = std::make_shared<std::decay_t<F>>(std::forward<F>(f));
        const auto id = base::on_error([shared](const error_report& report) { (*shared)(report); });
        detail::add_error_listener(*client_, id, [shared](const error_report& report) { (*shared)(report); });
        return id;
    }

    bool off(handler_id handler) {
        detail::remove_error_listener(*client_, handler);
        return base::off(handler);
    }
    void off(std::string_view event) { base::off(event); }

    // --- connecting

    /// Begins to connect, and goes on until it is connected, unless client_config::reconnect is off. Returns at once; what fails is
    /// reported to on_error. No effect where it is connected or connecting; behind disconnect() it is a new connection, as soon as
    /// the old one has ended. Throws std::bad_alloc where there is no memory to begin.
    void connect() { detail::connect(*client_, nullptr); }

    /// The same; completes with (error_code) when it is connected, or when the first attempt has failed: then it does not go on, but
    /// where connect() was called too. The sentence about the failure comes to on_error.
    template <class Token = boost::asio::use_awaitable_t<>>
    auto async_connect(Token&& token = Token{}) {
        return boost::asio::async_initiate<Token, void(error_code)>(
            [](auto handler, const std::shared_ptr<detail::client_state>& s) {
                using made = detail::typed_request<void, std::decay_t<decltype(handler)>>;
                detail::connect(*s, std::make_shared<made>(std::move(handler), decode_limits{}));
            },
            token, client_);
    }

    /// Ends the connection by the closing handshake, after what was said before: that has close_timeout to be sent, and what is left
    /// then is dropped, also where connect() was called meanwhile. Ends an attempt, and drops what waits for one. It does not come
    /// back, until connect(); what is said behind that goes to the new connection.
    void disconnect(close_code code = close_code::normal, std::string_view reason = {}) {
        detail::disconnect(*client_, code, reason);
    }

    bool is_connected() const noexcept { return base::size() != 0; }

    /// The connection of this moment; an empty handle when there is none.
    connection_handle handle() const {
        const auto here = base::connections();
        return here.empty() ? connection_handle{} : here.front();
    }

    /// Connects, and serves until disconnect(), or until it gives up; where it connects again behind that, until that has ended or
    /// failed. Not for a client inside a caller's io_context.
    void run() { detail::run(client_); }

    /// Connects, and serves in a thread of its own until the client is destroyed. What work on its executor throws is logged; out of
    /// run() it is thrown.
    void start() { detail::start(client_); }

    /// Runs the user's work one at a time with the handlers.
    template <class Executor = boost::asio::any_io_executor>
    Executor get_executor() const {
        return detail::executor_of<Executor>(*client_);
    }

    // --- speaking

    // emit(), emit_volatile() and emit_latest(): see speaker. Without a connection they wait for one; emit_volatile() does not, and
    // of emit_latest() the newest of each event and key. Before connect() too; after disconnect() they are dropped.

    /// emit() of what is to be sent within this time, which begins with the call, or not at all. Zero or less has passed already: only
    /// a handler of a client that is connected still sends it.
    template <class T>
    void emit_within(std::chrono::milliseconds ttl, std::string_view event, const T& value) {
        const auto encoded = encode_value(value);
        detail::deliver(*client_, outgoing::of({event, encoded.kind(), encoded.data()}), ttl);
    }

    /// See connection::emit_message().
    void emit_message(std::string_view text);
    void emit_message(bytes_view data);
    void emit_message(const message_view& message) { deliver(outgoing::native(message.is_text, message.data)); }

    /// See asker::ask(). The timeout begins with the call, and includes the time that it waits for a connection. What was sent is
    /// never sent again: where the connection ends before the answer, it completes with errc::disconnected.
    template <class T, class Value, class Token = boost::asio::use_awaitable_t<>>
    auto ask(std::string_view event, Value&& value, std::chrono::milliseconds timeout, Token&& token = Token{}) {
        const auto encoded = encode_value(std::as_const(value));
        const auto what = outgoing::request(0, {event, encoded.kind(), encoded.data()});
        detail::check_temporary<Value, decltype(put<T>(what, timeout, std::forward<Token>(token)))>();
        return put<T>(what, timeout, std::forward<Token>(token));
    }
    template <class T, class Token = boost::asio::use_awaitable_t<>>
    requires(!std::convertible_to<Token, std::chrono::milliseconds>) auto ask(std::string_view event,
                                                                              std::chrono::milliseconds timeout,
                                                                              Token&& token = Token{}) {
        return put<T>(outgoing::request(0, {event, value_kind::nothing, {}}), timeout, std::forward<Token>(token));
    }

    /// Asks to enter a room of the server (its on_join decides), now or when it is connected, and again with each further
    /// connection until leave() or a refusal. A refusal is reported to on_error.
    void join(std::string_view room) {
        detail::check(*client_, outgoing::join(room));
        detail::join(*client_, room, nullptr);
    }

    /// The same; completes with (error_code) when the server has decided. Why it refuses comes to on_error. After disconnect(), or where
    /// the client has given up, it completes at once, with errc::disconnected.
    template <class Token = boost::asio::use_awaitable_t<>>
    auto async_join(std::string_view room, Token&& token = Token{}) {
        detail::check(*client_, outgoing::join(room));
        return boost::asio::async_initiate<Token, void(error_code)>(
            [](auto handler, const std::shared_ptr<detail::client_state>& s, const std::string& name) {
                using made = detail::typed_request<void, std::decay_t<decltype(handler)>>;
                detail::join(*s, name, std::make_shared<made>(std::move(handler), decode_limits{}));
            },
            token, client_, std::string{room});
    }
    void leave(std::string_view room) { detail::leave(*client_, room); }

    /// What waits for a connection.
    std::size_t waiting() const noexcept { return detail::waiting(*client_); }

    /// What was said and never sent: it was volatile, too late, too much, or there was no connection to come.
    std::uint64_t dropped() const noexcept { return detail::dropped(*client_); }

private:
    friend class speaker<client>;

    void deliver(const outgoing& out) const { detail::deliver(*client_, out, std::nullopt); }

    template <class T, class Token>
    auto put(const outgoing& what, std::chrono::milliseconds timeout, Token&& token) {
        detail::check_asked<T>();
        detail::check_timeout(timeout);
        detail::check(*client_, what);
        return boost::asio::async_initiate<Token, typename detail::completion<T, error_code>::signature>(
            [](auto handler, const std::shared_ptr<detail::client_state>& s, message_ptr request,
               std::chrono::milliseconds time, decode_limits limits) {
                using made = detail::typed_request<T, std::decay_t<decltype(handler)>>;
                detail::ask(*s, std::make_shared<made>(std::move(handler), limits), std::move(request), time);
            },
            token, client_, message_ptr{new message{what}}, timeout, decode_limits{settings().max_json_depth});
    }

    std::shared_ptr<detail::client_state> client_;
};

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/client.ipp>
#endif
