#pragma once

#include <arke/cluster/server_node.hpp>
#include <arke/event/ask.hpp>
#include <arke/event/message.hpp>
#include <arke/io/completion.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <concepts>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

/// The other servers, for the application: who they are, what their rooms hold, and events between servers. server.cluster()
/// gives a handle to it.
///
///     server.cluster(arke::redis_backplane{"redis://localhost"});
///     auto cluster = server.cluster();
///     cluster.on("reload", [](const arke::node_info& from, std::string what) { ... });
///     cluster.emit("reload", "prices");
///     auto lobby = co_await cluster.members("lobby");
namespace arke {

/// Who is in a room, over all servers.
struct cluster_members {
    std::vector<std::string> ids;    ///< In no order.
    std::vector<node_info> missing;  ///< Servers whose answer has not come in time, or not all of it.
    bool degraded = false;           ///< cluster_state::degraded: there may be servers that nobody knows of.
};

/// How many are in a room, over all servers.
struct cluster_size {
    std::size_t size = 0;
    std::vector<node_info> missing;
    bool degraded = false;
};

/// The servers that answer.
struct cluster_nodes {
    std::vector<node_info> nodes;  ///< This one first, the others by their ids.
    std::vector<node_info> missing;
    bool degraded = false;
};

namespace cluster {

/// Puts a part of an answer to what came before.
void add_answer(cluster_members& to, const node_info& from, const envelope& e);
void add_answer(cluster_size& to, const node_info& from, const envelope& e);
void add_answer(cluster_nodes& to, const node_info& from, const envelope& e);

/// Refuses an event that no server could read.
void check_event(const event_view& event);

/// Sends an event to the server of this id, or to all others.
void emit_to_servers(node& by, std::string_view one, const event_view& event);

/// A question whose answers are gathered in a Result: completes once, never within the call that asks.
template <class Result, class Handler>
class gathering_question : public question {
public:
    gathering_question(const gathering_question&) = delete;
    gathering_question& operator=(const gathering_question&) = delete;

protected:
    gathering_question(Handler h, core::endpoint_ptr owner, Result own)
        : result_{std::move(own)}, handler_{std::move(h)}, owner_{std::move(owner)}, home_{owner_->first_loop()} {}

    void complete() {
        if (std::exchange(is_done_, true)) return;
        try {
            arke::detail::complete_later(handler_, home_, owner_, std::move(result_));
        } catch (...) {
            owner_->try_to_log([] { return std::string{"no memory for the answers of the cluster"}; });
        }
    }

    Result result_;

private:
    arke::detail::completion_handler<Handler> handler_;
    core::endpoint_ptr owner_;
    core::loop_ptr home_;
    bool is_done_ = false;
};

/// What all servers are asked about themselves.
template <class Result, class Handler>
class listing_question final : public gathering_question<Result, Handler> {
public:
    listing_question(Handler h, const core::endpoint_ptr& owner, Result own)
        : gathering_question<Result, Handler>{std::move(h), owner, std::move(own)} {}

    void heard(const node_info& from, const envelope& e) override {
        if (e.is == envelope::kind::listed) add_answer(this->result_, from, e);
    }
    void done(std::vector<node_info> missing, bool is_degraded) override {
        this->result_.missing = std::move(missing);
        this->result_.degraded = is_degraded;
        this->complete();
    }
};

/// Until when an answer may still be missing for another reason than the time. Clocks of whole milliseconds differ by some.
inline std::chrono::steady_clock::time_point end_of(std::chrono::milliseconds timeout) {
    return std::chrono::steady_clock::now() + timeout - std::chrono::milliseconds{5};
}
inline errc missing_since(std::chrono::steady_clock::time_point end) {
    return std::chrono::steady_clock::now() < end ? errc::disconnected : errc::ask_timeout;
}

/// Why an answer is none.
inline error_code fault_of(const envelope& answer) {
    if (answer.is == envelope::kind::refusal) return arke::detail::error_of(answer.what.reason);
    return answer.is == envelope::kind::answer ? error_code{} : make_error_code(errc::bad_answer);
}

/// An event that all others are asked.
template <class T, class Handler>
class asked_servers final : public gathering_question<ask_results<T>, Handler> {
public:
    asked_servers(Handler h, const core::endpoint_ptr& owner, std::chrono::milliseconds timeout)
        : gathering_question<ask_results<T>, Handler>{std::move(h), owner, {}},
          limits_{owner->settings().max_json_depth},
          end_{end_of(timeout)} {}

    void heard(const node_info& from, const envelope& e) override {
        T value{};
        std::string text;
        if (const auto why = arke::detail::take_answer(fault_of(e), e.what.event, limits_, value, text))
            this->result_.missing.push_back({from.id, why, std::move(text)});
        else
            this->result_.answers.push_back({from.id, std::move(value)});
    }

    void done(std::vector<node_info> missing, bool) override {
        for (auto& each : missing) this->result_.missing.push_back({std::move(each.id), missing_since(end_), {}});
        this->complete();
    }

private:
    decode_limits limits_;
    std::chrono::steady_clock::time_point end_;
};

/// An event that one server is asked.
template <class T, class Handler>
class asked_server final : public question {
public:
    asked_server(Handler h, const core::endpoint_ptr& owner, std::chrono::milliseconds timeout)
        : handler_{std::move(h)},
          owner_{owner},
          home_{owner->first_loop()},
          limits_{owner->settings().max_json_depth},
          end_{end_of(timeout)} {}

    void heard(const node_info&, const envelope& e) override { complete(fault_of(e), e.what.event); }

    void done(std::vector<node_info>, bool) override { complete(missing_since(end_), {}); }

private:
    void complete(error_code why, const event_view& answer) {
        if (std::exchange(is_done_, true)) return;
        try {
            if constexpr (std::is_void_v<T>) {
                arke::detail::complete_later(handler_, home_, owner_, why);
            } else {
                T value{};
                std::string text;
                why = arke::detail::take_answer(why, answer, limits_, value, text);
                arke::detail::complete_later(handler_, home_, owner_, why, std::move(value));
            }
        } catch (...) {
            owner_->try_to_log([] { return std::string{"no memory for the answer of a server"}; });
        }
    }

    arke::detail::completion_handler<Handler> handler_;
    core::endpoint_ptr owner_;
    core::loop_ptr home_;
    decode_limits limits_;
    std::chrono::steady_clock::time_point end_;
    bool is_done_ = false;
};

template <class F>
class callable_state_handler final : public state_handler {
public:
    explicit callable_state_handler(F f) : f_(std::move(f)) {}
    void run(const cluster_state& state) override {
        if constexpr (std::is_invocable_v<F&, const cluster_state&>)
            f_(state);
        else
            f_();
    }

private:
    F f_;
};

}  // namespace cluster

/// What speaks to servers, and to no connection.
class server_speaker {
public:
    /// Sends an event to all other servers, or to the one that this names: to their handlers of cluster().on(), and to no
    /// connection. At most once, in the order of this server; one that is not there misses it. Values as speaker::emit() takes
    /// them, and it throws as that does. Threads: any.
    template <class T>
    void emit(std::string_view event, const T& value) const {
        const auto encoded = encode_value(value);
        send({event, encoded.kind(), encoded.data()});
    }
    void emit(std::string_view event) const { send({event, value_kind::nothing, {}}); }

protected:
    explicit server_speaker(std::shared_ptr<cluster::server_node> by, std::string_view one = {})
        : by_{std::move(by)}, one_{one} {}

    void send(const event_view& event) const;

    std::shared_ptr<cluster::server_node> by_;
    std::string one_;
};

/// One other server: cluster().to(id).
class server_target : public server_speaker {
public:
    /// Asks it: completes once, with (error_code, T), or (error_code) for T = void; see asker::ask(), which it is like. Errors:
    /// errc::ask_timeout; disconnected, where there is no server of this id, or cluster_config::max_questions are open; refused,
    /// unhandled_event, wrong_type, handler_threw and too_many_requests as the server says; bad_answer.
    ///
    /// A callback without an executor runs on this server's first loop; it is destroyed without being called where that has ended.
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

private:
    friend class cluster_handle;
    server_target(std::shared_ptr<cluster::server_node> by, core::endpoint_ptr owner, std::string_view one)
        : server_speaker{std::move(by), one}, owner_{std::move(owner)} {}

    void start(std::shared_ptr<cluster::question> then, const message& request,
               std::chrono::milliseconds timeout) const;

    template <class T, class Token>
    auto put(const event_view& event, std::chrono::milliseconds timeout, Token&& token) const {
        detail::check_asked<T>();
        detail::check_timeout(timeout);
        cluster::check_event(event);
        return boost::asio::async_initiate<Token, typename detail::completion<T, error_code>::signature>(
            [](auto handler, const server_target& whom, const message_ptr& request, std::chrono::milliseconds time) {
                using made = cluster::asked_server<T, std::decay_t<decltype(handler)>>;
                whom.start(std::make_shared<made>(std::move(handler), whom.owner_, time), *request, time);
            },
            token, *this, message_ptr{new message{outgoing::of(event)}}, timeout);
    }

    core::endpoint_ptr owner_;
};

/// A server's view of its cluster. A light handle: copies mean the same. After the server's end, and for a server that is in no
/// cluster, it answers for what is here, and what is said to others reaches nobody.
///
/// What servers tell each other they believe: whoever may publish at the broker may send all this.
///
/// Threads: any. No user code runs under a lock: handlers may ask, emit, and change handlers.
class cluster_handle : public server_speaker {
public:
    cluster_handle(const std::shared_ptr<core::cluster_member>& as, core::endpoint_ptr of)
        : server_speaker{std::static_pointer_cast<cluster::server_node>(as)}, owner_{std::move(of)} {}

    // --- how it is

    /// This server. Its id is empty where there is no cluster.
    node_info self() const;

    /// The other servers, as far as is known at this moment, without asking them.
    std::vector<node_info> others() const;

    /// Without a cluster: not degraded.
    cluster_state state() const;

    /// Hears each change of the state: (const arke::cluster_state&) or nothing. On the first loop. What it throws is logged.
    template <class F>
    handler_id on_state(F f) {
        static_assert(std::is_invocable_v<F&, const cluster_state&> || std::is_invocable_v<F&>,
                      "arke: on_state() needs a handler that takes const arke::cluster_state&, or nothing.");
        return add(boost::intrusive_ptr<cluster::state_handler>{new cluster::callable_state_handler<F>{std::move(f)}});
    }

    /// Completes, with true, as soon as everything that has been joined so far is subscribed to at the broker: what other servers say
    /// from then on reaches those who have joined. False: not within the time; cluster_config::question_timeout where none is given.
    template <class Token = boost::asio::use_awaitable_t<>>
    requires(!std::convertible_to<Token, std::chrono::milliseconds>) auto settled(Token&& token = Token{}) const {
        return settled(question_timeout(), std::forward<Token>(token));
    }
    template <class Token = boost::asio::use_awaitable_t<>>
    auto settled(std::chrono::milliseconds timeout, Token&& token = Token{}) const {
        return boost::asio::async_initiate<Token, void(bool)>(
            [](auto handler, const cluster_handle& by, std::chrono::milliseconds time) {
                using made = detail::completion_handler<std::decay_t<decltype(handler)>>;
                by.start_waiting(time,
                                 [h = std::make_shared<made>(std::move(handler)), owner = by.owner_](bool reached) {
                                     detail::complete_later(*h, owner->first_loop(), owner, reached);
                                 });
            },
            token, *this, timeout);
    }

    // --- questions

    /// Who is in a room of the endpoint of this path, on all servers; of this server's first one where none is given. Each of these
    /// completes once, within cluster_config::question_timeout, by any Asio completion token; without one it is awaited. A callback
    /// without an executor runs on the server's first loop. Without a cluster they complete with what is here.
    ///
    /// It is a snapshot: some may have left by then. At cluster_config::max_questions all others are missing.
    template <class Token = boost::asio::use_awaitable_t<>>
    auto members(std::string_view room, Token&& token = Token{}) const {
        return list<cluster_members>(cluster::envelope::kind::members, {}, room, std::forward<Token>(token));
    }
    template <class Token = boost::asio::use_awaitable_t<>>
    requires(!std::convertible_to<Token, std::string_view>) auto members(std::string_view room, std::string_view path,
                                                                         Token&& token = Token{}) const {
        return list<cluster_members>(cluster::envelope::kind::members, path, room, std::forward<Token>(token));
    }

    /// How many they are: for less than members() costs.
    template <class Token = boost::asio::use_awaitable_t<>>
    auto size(std::string_view room, Token&& token = Token{}) const {
        return list<cluster_size>(cluster::envelope::kind::size, {}, room, std::forward<Token>(token));
    }
    template <class Token = boost::asio::use_awaitable_t<>>
    requires(!std::convertible_to<Token, std::string_view>) auto size(std::string_view room, std::string_view path,
                                                                      Token&& token = Token{}) const {
        return list<cluster_size>(cluster::envelope::kind::size, path, room, std::forward<Token>(token));
    }

    /// The servers, and how many connections each has.
    template <class Token = boost::asio::use_awaitable_t<>>
    auto nodes(Token&& token = Token{}) const {
        return list<cluster_nodes>(cluster::envelope::kind::nodes, {}, {}, std::forward<Token>(token));
    }

    // --- events between servers

    /// One other server, by node_info::id.
    server_target to(std::string_view id) const { return {by_, owner_, id}; }

    /// Hears an event of other servers: an optional const arke::node_info& first, who sends it, and then nothing or one value; see
    /// connection::on(), as which it answers: by a value, an arke::answer<T>, or a boost::asio::awaitable<...> of one, which runs on
    /// the first loop, up to config::max_requests at once. Runs on the first loop. What it throws is logged, and told to who asked.
    /// After server.cluster(backplane).
    template <class F>
    handler_id on(std::string_view event, F&& f) {
        return add(event, detail::make_basic_event_handler<node_info, const node_info>(std::forward<F>(f)));
    }
    template <class T, class F>
    handler_id on(std::string_view event, F&& f) {
        return add(event, detail::make_basic_event_handler_as<T, node_info, const node_info>(std::forward<F>(f)));
    }

    /// Removes a handler of an event or of the state.
    bool off(handler_id handler);

    /// Asks all other servers, and gathers who answered what and who did not: completes by (arke::ask_results<T>), with the ids of
    /// servers, when all have, at the latest after the timeout. Errors as server_target::ask().
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

    /// Events of other servers that nobody handled, since the start.
    std::uint64_t unhandled_events() const noexcept;

private:
    handler_id add(std::string_view event, boost::intrusive_ptr<cluster::server_event_handler> handler);
    handler_id add(boost::intrusive_ptr<cluster::state_handler> handler);
    std::chrono::milliseconds question_timeout() const;
    void start_waiting(std::chrono::milliseconds timeout, std::function<void(bool)> then) const;

    struct listing {
        cluster::envelope::kind is;
        std::string path;
        std::string room;
    };
    void answer_here(const listing& what, cluster_members& to) const;
    void answer_here(const listing& what, cluster_size& to) const;
    void answer_here(const listing& what, cluster_nodes& to) const;
    void start(std::shared_ptr<cluster::question> then, const listing& what) const;

    template <class Result, class Token>
    auto list(cluster::envelope::kind is, std::string_view path, std::string_view room, Token&& token) const {
        listing what{is, std::string{path.empty() ? std::string_view{owner_->settings().endpoint} : path},
                     std::string{room}};
        return boost::asio::async_initiate<Token, void(Result)>(
            [](auto handler, const cluster_handle& by, const listing& asked) {
                using made = cluster::listing_question<Result, std::decay_t<decltype(handler)>>;
                Result own;
                by.answer_here(asked, own);
                by.start(std::make_shared<made>(std::move(handler), by.owner_, std::move(own)), asked);
            },
            token, *this, std::move(what));
    }

    template <class T, class Token>
    auto put(const event_view& event, std::chrono::milliseconds timeout, Token&& token) const {
        static_assert(!std::is_void_v<T>, "arke: ask all servers for arke::answer<> to hear who is done.");
        detail::check_asked<T>();
        detail::check_timeout(timeout);
        cluster::check_event(event);
        return boost::asio::async_initiate<Token, void(ask_results<T>)>(
            [](auto handler, const server_target& whom, const message_ptr& request, std::chrono::milliseconds time) {
                using made = cluster::asked_servers<T, std::decay_t<decltype(handler)>>;
                whom.start(std::make_shared<made>(std::move(handler), whom.owner_, time), *request, time);
            },
            token, to({}), message_ptr{new message{outgoing::of(event)}}, timeout);
    }

    core::endpoint_ptr owner_;
};

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/cluster/handle.ipp>
#endif
