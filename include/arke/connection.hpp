#pragma once

#include <arke/base/close_code.hpp>
#include <arke/base/compile.hpp>
#include <arke/base/error.hpp>
#include <arke/core/aim.hpp>
#include <arke/core/endpoint.hpp>
#include <arke/event/handler.hpp>
#include <arke/event/value.hpp>
#include <arke/speaker.hpp>
#include <arke/wire/request.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace arke {

class connection;
template <class Session>
class basic_connection;
template <class Session>
class basic_endpoint;

namespace detail {

/// Does it with those of them who are connected to this machine.
void act_here(core::endpoint& on, const core::address& to, const core::action& what);

}  // namespace detail

/// Whom a message is for. Made by to(...), used at once or kept.
///
/// A plain name is an id where one of that name is connected, else a room: when the connection has gone, somebody may have joined a
/// room that is named like its id. What is meant for one alone is said to `arke::id{...}`, which is never a room. Whoever is meant twice gets the message once; an
/// unknown name is nobody. Membership is read when each loop takes the message up, which for the caller's own loop is now.
///
/// Threads: any. Two emits of one thread to one receiver keep their order.
class target : public speaker<target> {
public:
    /// Leaves out these connections and rooms.
    template <class... Names>
    target& except(Names&&... names) & {
        (detail::add_name(to_.except, std::forward<Names>(names)), ...);
        return *this;
    }
    template <class... Names>
    target&& except(Names&&... names) && {
        (detail::add_name(to_.except, std::forward<Names>(names)), ...);
        return std::move(*this);
    }

    /// Asks everybody this names, and gathers who answered what and who didn't: complete by (arke::ask_results<T>) when all have,
    /// at the latest after the timeout. For the rest as asker::ask(). A callback without an executor runs on the loop of the
    /// connection that asks, or on the server's first.
    template <class T, class Value, class Token = boost::asio::use_awaitable_t<>>
    auto ask(std::string_view event, Value&& value, std::chrono::milliseconds timeout, Token&& token = Token{}) const {
        const auto encoded = encode_value(std::as_const(value));
        const event_view asked{event, encoded.kind(), encoded.data()};
        detail::check_temporary<Value, decltype(put<T>(asked, timeout, std::forward<Token>(token)))>();
        return put<T>(asked, timeout, std::forward<Token>(token));
    }
    template <class T, class Token = boost::asio::use_awaitable_t<>>
    requires(!std::convertible_to<Token, std::chrono::milliseconds>) auto ask(std::string_view event,
                                                                              std::chrono::milliseconds timeout,
                                                                              Token&& token = Token{}) const {
        return put<T>({event, value_kind::nothing, {}}, timeout, std::forward<Token>(token));
    }

    /// Queues a native message: text as text; bytes as config::binary_messages says; a received message as it came.
    void emit_message(std::string_view text) const;
    void emit_message(bytes_view data) const;
    void emit_message(const message_view& message) const { deliver(outgoing::native(message.is_text, message.data)); }

    /// Does it with each connection that is meant, on its own loop.
    void disconnect(close_code code = close_code::normal, std::string_view reason = {}) const;
    void join(std::string_view room) const;
    void leave(std::string_view room) const;

private:
    friend class connection;
    friend class speaker<target>;
    template <class Session>
    friend class basic_endpoint;

    target(core::endpoint& owner, core::peer_ptr by) : owner_{&owner}, speaker_{std::move(by)} {}

    template <class... Names>
    void aim(Names&&... names) {
        detail::aim(to_, speaker_, std::forward<Names>(names)...);
    }

    void deliver(const outgoing& out) const;
    void act(const core::action& what) const;

    template <class T, class Token>
    auto put(const event_view& event, std::chrono::milliseconds timeout, Token&& token) const {
        static_assert(!std::is_void_v<T>, "arke: ask a room for arke::answer<> to hear who is done.");
        detail::check_asked<T>();
        detail::check_timeout(timeout);
        const auto what = outgoing::request(0, event);
        owner_->check(what);
        return boost::asio::async_initiate<Token, void(ask_results<T>)>(
            [](auto handler, const target& whom, message_ptr request, std::chrono::milliseconds time) {
                using gathering = detail::gathering<T, std::decay_t<decltype(handler)>>;
                whom.ask_each(
                    [in = std::make_shared<gathering>(std::move(handler), whom.owner_, whom.home(),
                                                      decode_limits{whom.owner_->settings().max_json_depth})](
                        const std::string& id) -> core::requests::pointer {
                        return std::make_shared<detail::member_request<gathering>>(in, id);
                    },
                    request, time);
            },
            token, *this, message_ptr{new message{what}}, timeout);
    }
    core::loop_ptr home() const;
    void ask_each(const std::function<core::requests::pointer(const std::string& id)>& make, const message_ptr& request,
                  std::chrono::milliseconds timeout) const;

    core::endpoint_ptr owner_;
    core::peer_ptr speaker_;
    core::address to_;
};

/// A connection from outside: a value that may be copied, kept and used in any thread, before and after the disconnect.
///
/// It keeps the object alive, not the connection. What is done with a connection that is gone has no effect; empty handles
/// are gone ones.
class connection_handle : public asker<connection_handle> {
public:
    connection_handle() = default;

    /// Whether it still reaches anyone, at this moment.
    bool is_connected() const;
    explicit operator bool() const { return is_connected(); }

    const std::string& id() const noexcept;

    void emit_message(std::string_view text) const;
    void emit_message(bytes_view data) const;
    void emit_message(const message_view& message) const { deliver(outgoing::native(message.is_text, message.data)); }

    void disconnect(close_code code = close_code::normal, std::string_view reason = {}) const;

    /// False when the connection is gone, the name is another connection's id, or max_rooms or max_room_name_bytes is reached where
    /// that is known.
    bool join(std::string_view room) const;
    bool leave(std::string_view room) const;

    /// Runs f(connection&) on the connection's loop: now when the caller is on it, else later; not at all when it is gone by
    /// then.
    template <class F>
    void run(F f) const;

    friend bool operator==(const connection_handle& a, const connection_handle& b) noexcept {
        return a.peer_ == b.peer_;
    }

private:
    friend class connection;
    template <class Session>
    friend class basic_endpoint;
    friend class speaker<connection_handle>;
    friend class asker<connection_handle>;
    explicit connection_handle(core::peer_ptr p) : peer_{std::move(p)} {}
    connection_handle(core::peer_ptr p, const core::endpoint_ptr& looked_in) : peer_{std::move(p)} {
        if (!peer_) looked_in_ = looked_in;
    }
    void deliver(const outgoing& out) const;
    const core::peer_ptr& asked_peer() const noexcept { return peer_; }
    const core::endpoint_ptr& asked_at() const noexcept { return looked_in_; }

    core::peer_ptr peer_;
    core::endpoint_ptr looked_in_;  // where there was no peer: it has a loop for who asks all the same
};

/// One client.
///
/// Lives on one loop, where its handlers run one at a time and need no locks. A reference is valid within its handlers, and
/// in what they capture until on_disconnect has run; whoever keeps it longer, or uses it in another thread, keeps handle().
///
/// Threads: its own loop (its handlers, and what get_executor() runs). emit, emit_message, disconnect and to(...) from
/// everywhere, as long as the reference is valid.
class connection : private core::peer, private protocol_user, public asker<connection> {
public:
    /// Unique among the connections of the endpoint.
    const std::string& id() const noexcept { return core::peer::id(); }

    /// The request that opened the connection. Empty after on_connection where config::keep_request is off.
    const arke::request& request() const noexcept;

    /// Runs the user's work one at a time with this connection's handlers. A template, because only who calls it should compile
    /// what it takes.
    template <class Executor = boost::asio::any_io_executor>
    Executor get_executor() const;

    /// Whether it is neither closed nor closing.
    bool is_connected() const noexcept { return is_open(); }

    /// A value that is safe in any thread and never dangles.
    connection_handle handle() noexcept { return connection_handle{core::peer_ptr{this}}; }

    // --- hearing

    /// Adds a handler of an event. All handlers of an event run, the endpoint's first, in the order they were added.
    ///
    /// The handler takes an optional arke::connection& and then nothing or one value: std::string, std::string_view, bool, an
    /// integer, a floating-point number, arke::bytes, nlohmann::json, or any type that nlohmann/json converts. Data that does
    /// not convert is reported to on_error.
    ///
    /// A value that it returns answers whoever asked; one handler of an event may return one. With arke::answer<T> it may also
    /// return arke::refuse("sold out"). A boost::asio::awaitable<...> of any of these answers when it ends: the coroutine runs on
    /// the connection's loop, takes its value by value, and may go on after the connection's end, when what it does with the
    /// connection has no effect. Who asks where handlers return nothing hears when they are done.
    ///
    /// A handler that throws is reported as well, and the connection stays; who asked hears that it failed.
    template <class F>
    handler_id on(std::string_view event, F&& f) {
        return own_handlers().add_event(event, make_event_handler<connection>(std::forward<F>(f)));
    }

    /// The same for a handler that does not say by itself what it takes.
    template <class T, class F>
    handler_id on(std::string_view event, F&& f) {
        return own_handlers().add_event(event, make_event_handler_as<T, connection>(std::forward<F>(f)));
    }

    /// Hears each event that has no handler: (const arke::event_view&).
    template <class F>
    handler_id on_any(F&& f) {
        return add(own_handlers().any, std::forward<F>(f));
    }

    /// Hears each message that is no event: (arke::message_view).
    template <class F>
    handler_id on_message(F&& f) {
        return add(own_handlers().message, std::forward<F>(f));
    }

    /// Decides whether the client may enter the room that it asks for: (std::string_view room) or std::string, to bool,
    /// arke::answer<void>, or an awaitable of one. Instead of the endpoint's; without any, nobody may.
    template <class F>
    handler_id on_join(F&& f) {
        return own_handlers().add_join(make_join_handler<connection>(std::forward<F>(f)));
    }

    /// Runs once, when the connection is over and has left its rooms: (arke::close_code, std::string_view reason) or nothing.
    /// c.to(room) still tells the others.
    template <class F>
    handler_id on_disconnect(F&& f) {
        return add(own_handlers().disconnect, std::forward<F>(f));
    }

    /// Hears what went wrong with this connection: (const arke::error_report&).
    template <class F>
    handler_id on_error(F&& f) {
        return add(own_handlers().error, std::forward<F>(f));
    }

    /// Runs for each room that it leaves, at the disconnect too: (std::string_view room).
    template <class F>
    handler_id on_leave(F&& f) {
        return add(own_handlers().leave, std::forward<F>(f));
    }

    /// Pings of the peer are answered without this. (arke::bytes_view payload)
    template <class F>
    handler_id on_ping(F&& f) {
        return add(own_handlers().ping, std::forward<F>(f));
    }
    template <class F>
    handler_id on_pong(F&& f) {
        return add(own_handlers().pong, std::forward<F>(f));
    }

    /// Hears that everything has left that had to wait because the peer read slowly: buffered_amount() is zero again.
    template <class F>
    handler_id on_drain(F&& f) {
        return add(own_handlers().drain, std::forward<F>(f));
    }

    /// Removes a handler of this connection; false when there is none of that id.
    bool off(handler_id handler);

    /// Removes all handlers that this connection has for an event.
    void off(std::string_view event);

    // --- speaking

    // emit(), emit_volatile(), emit_latest() and ask(): see speaker and asker. In order with all else that it is sent.

    /// Sends a native message: text as text; bytes as config::binary_messages says; a received message as it came.
    void emit_message(std::string_view text);
    void emit_message(bytes_view data);
    void emit_message(const message_view& message) { send_native(message.is_text, message.data); }

    /// Sends a ping with at most 125 bytes; its pong comes to on_pong.
    void ping(bytes_view payload = {});

    /// Names others: ids, rooms, arke::all, arke::not_me. What is meant for one alone is said to arke::id{...}: see target.
    template <class... Names>
    target to(Names&&... names) {
        target made{endpoint(), core::peer_ptr{this}};
        made.aim(std::forward<Names>(names)...);
        return made;
    }

    /// Bytes to be sent that wait because the peer reads slowly; on_drain tells when there are none any more. In its handlers only.
    std::size_t buffered_amount() const noexcept { return is_lagging() ? buffered() : 0; }

    // --- rooms

    /// Enters a room; a room is made by its first member. False when the name is another connection's id, when max_rooms or
    /// max_room_name_bytes is reached, or after the disconnect; reported to on_error. An id that is free again is a name like any
    /// other: where clients choose rooms (on_join), what is meant for one is said to arke::id{...}.
    bool join(std::string_view room);
    bool leave(std::string_view room);
    bool is_joined(std::string_view room) const;

    /// The rooms it is in, in no order; its own id is not among them.
    std::vector<std::string> rooms() const;

    // --- ending

    /// Begins the closing handshake. What was sent before still goes out; no handler but on_leave and on_disconnect runs any
    /// more. The reason is cut at 123 bytes.
    void disconnect(close_code code = close_code::normal, std::string_view reason = {});

    ~connection() override;

protected:
    connection(core::endpoint& owner, core::loop& on, std::string id, std::size_t protocol, arke::request r);

    core::handler_set& own_handlers();

    template <class... Args, class F>
    handler_id add(core::handler_list<notify_handler<Args...>>& list, F&& f) {
        const auto number = own_handlers_->next_id();
        list.add(number, make_notify_handler<connection, Args...>(std::forward<F>(f)));
        return number;
    }

private:
    template <class Session>
    friend class basic_connection;
    template <class Session>
    friend class basic_endpoint;
    friend class connection_handle;
    friend class target;
    friend class speaker<connection>;
    friend class asker<connection>;
    template <class Base>
    friend struct detail::coroutine_runner;
    friend void detail::act_here(core::endpoint&, const core::address&, const core::action&);
    friend void detail::put_request(const core::peer_ptr&, const core::requests::pointer&, message_ptr,
                                    std::chrono::milliseconds) noexcept;

    class asked;
    class later;

    core::endpoint& endpoint() const noexcept { return static_cast<core::endpoint&>(owner()); }
    static connection& of(core::peer& p) noexcept { return static_cast<connection&>(p); }

    // Speaking changes nothing that a user sees of the connection, and handles and targets do it through const too.
    void deliver(const outgoing& out) const { const_cast<connection&>(*this).deliver(out); }
    void deliver(const outgoing& out);
    void send_native(bool is_text, std::string_view data);
    core::peer_ptr asked_peer() const { return core::peer_ptr{const_cast<connection*>(this)}; }
    static core::endpoint_ptr asked_at() noexcept { return {}; }

    core::requests& own_requests();
    void put(const core::requests::pointer& request, const outgoing& what, std::chrono::milliseconds timeout);
    void complete(core::open_request& request, error_code why, const event_view& answer = {});
    void complete_later(const core::requests::pointer& request, error_code why, std::string_view text = {});
    void dispatch(const event_view& event, asked* by);
    void settle(asked& by, bool heard);
    bool has_answer(std::string_view event);
    void refuse(std::uint32_t id, refusal_reason reason, std::string_view text);

    template <class F>
    void guard(std::string_view event, F&& f);
    template <class List, class... Args>
    void run(List core::handler_set::*list, const Args&... args);
    void raise(const error_report& report) noexcept;
    void count(const error_report& report) noexcept;
    void raise_current(std::string_view event) noexcept;

    // core::peer
    void begin() override;
    void finish() override;
    void left(std::string_view room) override;
    void received(const message_view& message) override;
    void received_ping(std::string_view payload) override;
    void received_pong(std::string_view payload) override;
    void drained() override;

    core::millis requests_due() const noexcept override;
    void expire_requests(core::millis now) override;

    // protocol_user
    void on_event(const event_view& event) override;
    void on_request(std::uint32_t id, const event_view& event) override;
    void on_answer(std::uint32_t id, const event_view& answer) override;
    void on_refusal(std::uint32_t id, refusal_reason reason, std::string_view text) override;
    void on_join_request(std::uint32_t id, std::string_view room) override;
    void on_leave_request(std::uint32_t id, std::string_view room) override;
    void on_native(const message_view& message) override;
    void on_malformed(std::string_view why) override;
    void on_unknown() override;
    void send_as_is(bool is_text, std::string_view data) override;
    std::unique_ptr<protocol_state>& state() noexcept override { return protocol_state_; }

    std::unique_ptr<arke::request> request_;
    std::unique_ptr<core::handler_set> own_handlers_;
    std::unique_ptr<protocol_state> protocol_state_;
    std::unique_ptr<core::requests> requests_;
};

/// A request that is being served: on the stack while handlers run, then with the coroutine that answers it.
class connection::asked final : public answer_sink {
public:
    asked(connection& c, std::uint32_t id) noexcept : of_{&c}, id_{id} {}
    asked(connection& c, std::uint32_t id, std::string_view room) : of_{&c}, id_{id}, room_{room}, joins_{true} {}

    void answer(value_kind kind, std::string_view data) override;
    void refuse(refusal_reason reason, std::string_view text) override;

    /// A handler failed: what is told when nobody answers.
    void note(refusal_reason reason, std::string_view text);

    /// The answer comes after the call. `answers`: it will be a value, and no word that something is done.
    asked postpone(bool answers);

    bool is_open() const noexcept { return open_ && use_ == 0; }

private:
    friend class connection;
    bool close();

    connection* of_;
    std::uint32_t id_;
    std::uint32_t use_ = 0;  // of the number, once it is postponed
    bool answers_ = true;
    std::string room_;
    bool joins_ = false;
    bool open_ = true;
    std::optional<refusal_reason> noted_;
    std::string noted_text_;
};

/// A coroutine handler that runs: holds the connection, and its handler.
class connection::later {
public:
    /// False where too many run, which is reported, and told to who asked.
    static bool may_begin(event_call& call);

    /// Throws nothing but std::bad_alloc. `answers`: it returns a value.
    later(boost::intrusive_ptr<handler_base> keep, event_call& call, bool answers);
    later(later&&) noexcept = default;
    later& operator=(later&&) = delete;
    ~later();

    /// On the connection's executor.
    template <class Give>
    void end(std::exception_ptr thrown, Give&& give) {
        const auto held = std::move(peer_);
        held->on_loop().dispatch([&] { finish(of(*held), thrown, [&](answer_sink& to) { give(to); }); });
    }

private:
    void finish(connection& c, const std::exception_ptr& thrown, const std::function<void(answer_sink&)>& give);

    core::peer_ptr peer_;
    boost::intrusive_ptr<handler_base> handler_;
    std::string event_;
    std::optional<asked> asked_;
};

template <>
struct detail::coroutine_runner<connection> {
    template <class Make>
    static void start(boost::intrusive_ptr<handler_base> keep, event_call& call, Make&& make) {
        using awaitable = std::invoke_result_t<Make&>;
        using result = typename awaitable::value_type;
        if (!connection::later::may_begin(call)) return;
        auto work = make();  // may throw, where it is a plain function that returns what others have made
        connection::later runs{std::move(keep), call, !std::is_void_v<result>};
        auto on = call.self.template get_executor<boost::asio::any_io_executor>();
        if constexpr (std::is_void_v<result>) {
            boost::asio::co_spawn(
                std::move(on), std::move(work), [runs = std::move(runs)](std::exception_ptr thrown) mutable {
                    runs.end(std::move(thrown), [](answer_sink& to) { to.answer(value_kind::nothing, {}); });
                });
        } else {
            boost::asio::co_spawn(std::move(on), std::move(work),
                                  [runs = std::move(runs)](std::exception_ptr thrown, result value) mutable {
                                      runs.end(std::move(thrown),
                                               [&value](answer_sink& to) { give_answer(to, std::as_const(value)); });
                                  });
        }
    }
};

/// What a user attaches to a connection when there is nothing to attach.
struct no_session {};

/// A connection with the user's own data beside it, made with the connection and destroyed with it.
template <class Session>
class basic_connection final : public connection {
public:
    using session_type = Session;

    Session& session() noexcept { return session_; }
    const Session& session() const noexcept { return session_; }

    /// As connection::on; the handler may take basic_connection<Session>& as well.
    template <class F>
    handler_id on(std::string_view event, F&& f) {
        return own_handlers().add_event(event, make_event_handler<basic_connection>(std::forward<F>(f)));
    }
    template <class T, class F>
    handler_id on(std::string_view event, F&& f) {
        return own_handlers().add_event(event, make_event_handler_as<T, basic_connection>(std::forward<F>(f)));
    }

    template <class F>
    handler_id on_join(F&& f) {
        return own_handlers().add_join(make_join_handler<basic_connection>(std::forward<F>(f)));
    }

private:
    template <class S>
    friend class basic_endpoint;
    using connection::connection;

    static core::peer* make(core::endpoint& owner, core::loop& on, std::string id, std::size_t protocol,
                            arke::request r, [[maybe_unused]] void* session) {
        std::unique_ptr<basic_connection> made{new basic_connection{owner, on, std::move(id), protocol, std::move(r)}};
        if constexpr (std::is_move_assignable_v<Session>) {
            if (session != nullptr) made->session_ = std::move(*static_cast<Session*>(session));
        }
        return made.release();
    }

    [[no_unique_address]] Session session_{};
};

template <class F>
void connection_handle::run(F f) const {
    if (!peer_) return;
    peer_->on_loop().dispatch([p = peer_, f = std::move(f)]() mutable {
        auto& c = connection::of(*p);
        if (c.is_connected()) c.guard({}, [&] { f(c); });
    });
}

template <class F>
void connection::guard(std::string_view event, F&& f) {
    try {
        f();
    } catch (...) {
        raise_current(event);
    }
}

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/connection.ipp>
#endif
