#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <concepts>
#include <cstddef>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <arke/base/bytes.hpp>
#include <arke/event/answer.hpp>
#include <arke/event/event_view.hpp>
#include <arke/event/outgoing.hpp>
#include <arke/event/value.hpp>

/// From any callable to an object with one virtual function, whose parameter types decide what is decoded.
///
/// Handlers are reference-counted, because one that is running may remove itself or its connection: whoever runs a handler
/// holds a pointer to it meanwhile. The count is thread-safe, running is not: a handler of all connections runs on every
/// loop at the same time, which is its author's business.
///
/// The connection is a template parameter `Base` inside and incomplete here: this layer stands below it, and its tests
/// bring a stand-in.
namespace arke {

class connection;

/// Takes the answer to an event that was asked. The views live for the call.
struct answer_sink {
    virtual void answer(value_kind kind, std::string_view data) = 0;
    virtual void refuse(refusal_reason reason, std::string_view text) = 0;

protected:
    ~answer_sink() = default;
};

/// One event on its way into a handler.
template <class Base>
struct basic_event_call {
    Base& self;
    const event_view& event;
    const decode_limits& limits;
    answer_sink* sink = nullptr;  ///< Who asked; null for a plain event.
    std::string& why;             ///< Set where run() returns false.
};

/// A handler of anything, as lists keep it.
class handler_base : public boost::intrusive_ref_counter<handler_base, boost::thread_safe_counter> {
public:
    virtual ~handler_base() = default;
};

/// A handler of one event.
template <class Base>
class basic_event_handler : public handler_base {
public:
    /// Runs the user's function. False: the data does not convert, `call.why` says how, and the function was not called.
    /// Lets through what the function throws, and std::invalid_argument for an answer that cannot be sent.
    virtual bool run(basic_event_call<Base>& call) = 0;

    /// Whether the function returns a value, now or later.
    virtual bool answers() const noexcept = 0;
};

/// A handler of something that is no event: messages, closes, errors, pings.
template <class Base, class... Args>
class basic_notify_handler : public handler_base {
public:
    virtual void run(Base& self, const Args&... args) = 0;
};

using event_call = basic_event_call<connection>;
using event_handler = basic_event_handler<connection>;
using event_handler_ptr = boost::intrusive_ptr<event_handler>;
template <class... Args>
using notify_handler = basic_notify_handler<connection, Args...>;
template <class... Args>
using notify_handler_ptr = boost::intrusive_ptr<notify_handler<Args...>>;

namespace detail {

// ---- what a callable takes and returns

template <class F>
struct signature_of;
template <class R, bool N, class... A>
struct signature_of<R (*)(A...) noexcept(N)> {
    using result = R;
    using parameters = std::tuple<A...>;
};
template <class C, class R, bool N, class... A>
struct signature_of<R (C::*)(A...) noexcept(N)> {
    using result = R;
    using parameters = std::tuple<A...>;
};
template <class C, class R, bool N, class... A>
struct signature_of<R (C::*)(A...) const noexcept(N)> {
    using result = R;
    using parameters = std::tuple<A...>;
};
template <class C, class R, bool N, class... A>
struct signature_of<R (C::*)(A...)& noexcept(N)> {
    using result = R;
    using parameters = std::tuple<A...>;
};
template <class C, class R, bool N, class... A>
struct signature_of<R (C::*)(A...) const& noexcept(N)> {
    using result = R;
    using parameters = std::tuple<A...>;
};

template <class F>
struct call_operator {};
template <class F>
requires std::is_pointer_v<F> && requires { typename signature_of<F>::result; }
struct call_operator<F> : signature_of<F> {};
template <class F>
requires std::is_class_v<F> && requires { typename signature_of<decltype(&F::operator())>::result; }
struct call_operator<F> : signature_of<decltype(&F::operator())> {};

/// One signature, so that its parameter can say what to decode.
template <class F>
concept plain_callable = requires {
    typename call_operator<F>::result;
};

template <class Base, class P>
consteval bool is_peer() {
    using type = std::remove_cvref_t<P>;
    if constexpr (std::same_as<type, Base>)
        return true;
    else if constexpr (std::is_class_v<type>)
        return std::is_base_of_v<Base, type>;
    else
        return false;
}

template <class R>
concept awaitable_result = requires(R& r) {
    r.await_ready();
}
|| requires(R& r) { r.operator co_await(); }
|| requires(R& r) { operator co_await(r); };

/// What Boost.Asio's awaitable looks like: this layer knows none.
template <class R>
concept spawnable = requires {
    typename R::value_type;
    typename R::executor_type;
}
&&awaitable_result<R>;

/// How a coroutine that a handler is goes on after the call. Defined beside the connection, which has the executor.
///
///     static void start(intrusive_ptr<handler_base> keep, basic_event_call<Base>& call, F make_awaitable);
template <class Base>
struct coroutine_runner;

template <class R>
constexpr void check_answer() {
    if constexpr (is_answer<R>)
        check_answer<typename R::value_type>();
    else if constexpr (!std::is_void_v<R>)
        check_sendable<std::remove_cvref_t<R>>();
}

template <class R>
constexpr void check_result() {
    if constexpr (spawnable<R>) {
        check_answer<typename R::value_type>();
    } else {
        static_assert(!awaitable_result<R>,
                      "arke: this handler is a coroutine that nobody would resume: return void, a value, or "
                      "boost::asio::awaitable<...>.");
        if constexpr (!awaitable_result<R>) check_answer<R>();
    }
}

/// What is kept in a coroutine's frame must not view what is gone when it resumes.
template <class P>
constexpr void check_coroutine_parameter() {
    using value = std::remove_cvref_t<P>;
    static_assert(!std::is_reference_v<P>,
                  "arke: a coroutine goes on after the call that gave it its value: take the value by value, not by "
                  "reference.");
    static_assert(!std::is_same_v<value, std::string_view> && !std::is_same_v<value, bytes_view>,
                  "arke: a coroutine goes on after the call that gave it its view: take std::string or arke::bytes.");
}

/// The same where the type of the value was given beside the handler: what a generic one makes of it, cannot be seen.
template <class F>
constexpr void check_coroutine_value() {
    static_assert(plain_callable<F>,
                  "arke: a coroutine goes on after the call that gave it its value: write the types that it takes, by "
                  "value, instead of auto.");
    if constexpr (plain_callable<F>) {
        using parameters = typename call_operator<F>::parameters;
        check_coroutine_parameter<std::tuple_element_t<std::tuple_size_v<parameters> - 1, parameters>>();
    }
}

/// What says yes or no about a room. (One that returns nothing is refused when it is registered.)
template <class R>
constexpr void check_decision() {
    if constexpr (spawnable<R>) {
        check_decision<typename R::value_type>();
    } else {
        using value = std::remove_cvref_t<R>;
        static_assert(std::is_void_v<value> || std::is_same_v<value, bool> || std::is_same_v<value, answer<void>>,
                      "arke: on_join() needs a yes or a no: return bool, arke::answer<void>, or a "
                      "boost::asio::awaitable<...> of one.");
    }
}

/// Gives whoever asked what a handler returned.
template <class Result>
void give_answer(answer_sink& to, const Result& result) {
    if constexpr (is_answer<Result>) {
        if (result.is_refused())
            to.refuse(refusal_reason::refused, result.why());
        else if constexpr (std::is_void_v<typename Result::value_type>)
            to.answer(value_kind::nothing, {});
        else
            give_answer(to, *result);
    } else {
        const encoded_value encoded = encode_value(result);
        to.answer(encoded.kind(), encoded.data());
    }
}

/// An empty std::function or null pointer would throw once for each event; its registration is the better place.
template <class F>
void check_not_empty(const F& f) {
    if constexpr (std::is_pointer_v<F> || (std::is_constructible_v<F, std::nullptr_t> && requires { f == nullptr; })) {
        if (f == nullptr) throw std::invalid_argument("the handler is empty; give on() a function that can be called");
    }
}

// ---- the value of one call

/// A T read from an event. Stays where it is while the handler runs, and keeps the JSON that the T may view.
template <class T, bool = read_shape<T> == shape::json>
class incoming {
public:
    bool read(const event_view& event, const decode_limits& limits, std::string& why) {
        return decode_value(event, limits, value_, why);
    }
    T& value() noexcept { return value_; }

private:
    T value_{};
};

/// A std::string whose memory the next one on this thread takes over, so that handlers with a const std::string& cost no
/// allocation.
template <>
class incoming<std::string, false> {
public:
    incoming() : spare_{spare()} {
        if (spare_.taken) return;
        spare_.taken = true;
        value_ = &spare_.text;
    }
    incoming(const incoming&) = delete;
    incoming& operator=(const incoming&) = delete;
    ~incoming() {
        if (value_ == &own_) return;
        spare_.taken = false;
        if (value_->capacity() > 4096) *value_ = {};
    }

    bool read(const event_view& event, const decode_limits&, std::string&) {
        value_->assign(event.data.data(), event.data.size());
        return true;
    }
    std::string& value() noexcept { return *value_; }

private:
    struct kept_string {
        std::string text;
        bool taken = false;
    };
    static kept_string& spare() noexcept {
        thread_local kept_string kept;
        return kept;
    }

    kept_string& spare_;
    std::string own_;  // where a handler runs within a handler
    std::string* value_ = &own_;
};

template <class T>
class incoming<T, true> {
public:
    bool read(const event_view& event, const decode_limits& limits, std::string& why) {
        return read_json(event, limits, source_, value_, why);
    }
    T& value() noexcept { return *value_; }

private:
    nlohmann::json source_;
    std::optional<T> value_;
};

/// Calls F with the connection where it takes one, and with the decoded value where there is one (Value is not void).
template <class Base, class Connection, bool TakesPeer, class Value, class F>
class value_handler final : public basic_event_handler<Base> {
public:
    template <class G>
    explicit value_handler(G&& f) : f_(std::forward<G>(f)) {}

    bool run(basic_event_call<Base>& call) override {
        if constexpr (std::is_void_v<Value>) {
            finish(call);
        } else {
            incoming<Value> in;
            if (!in.read(call.event, call.limits, call.why)) return false;
            finish(call, std::move(in.value()));
        }
        return true;
    }

    bool answers() const noexcept override { return has_answer<result>(); }

private:
    static auto probe() {
        if constexpr (TakesPeer && std::is_void_v<Value>)
            return std::invoke_result<F&, Connection&>{};
        else if constexpr (TakesPeer)
            return std::invoke_result<F&, Connection&, Value>{};
        else if constexpr (std::is_void_v<Value>)
            return std::invoke_result<F&>{};
        else
            return std::invoke_result<F&, Value>{};
    }
    using result = typename decltype(probe())::type;

    template <class R>
    static consteval bool has_answer() {
        if constexpr (spawnable<R>)
            return has_answer<typename R::value_type>();
        else
            return is_answer<R> || emittable<R>;
    }

    template <class... V>
    result invoke(basic_event_call<Base>& call, V&&... value) {
        if constexpr (TakesPeer)
            return std::invoke(f_, static_cast<Connection&>(call.self), std::forward<V>(value)...);
        else
            return std::invoke(f_, std::forward<V>(value)...);
    }

    template <class... V>
    void finish(basic_event_call<Base>& call, V&&... value) {
        if constexpr (spawnable<result>) {
            coroutine_runner<Base>::start(boost::intrusive_ptr<handler_base>{this}, call,
                                          [&] { return invoke(call, std::forward<V>(value)...); });
        } else if constexpr (!has_answer<result>()) {  // void; what cannot be sent was refused by a static_assert
            invoke(call, std::forward<V>(value)...);
        } else if (call.sink == nullptr) {
            static_cast<void>(invoke(call, std::forward<V>(value)...));
        } else {
            auto&& result_of_call = invoke(call, std::forward<V>(value)...);
            give_answer(*call.sink, std::as_const(result_of_call));
        }
    }

    F f_;
};

/// A parameter that holds the decoded value, seen from the signature.
template <class P>
constexpr bool check_parameter() {
    constexpr bool changes = std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>;
    static_assert(!changes,
                  "arke: a handler's value is made for the call: take it by value or as const&, not as a non-const &.");
    using value = std::remove_cvref_t<P>;
    if constexpr (!changes) check_readable<value>();
    return !changes && receivable<value>;
}

/// A parameter that is the connection.
template <class Base, class Connection, class P>
constexpr bool check_peer() {
    constexpr bool reference = std::is_lvalue_reference_v<P>;
    static_assert(reference, "arke: a connection is not copied: take it as arke::connection& (or keep c.handle()).");
    constexpr bool ours = std::is_convertible_v<Connection&, P>;
    static_assert(ours || !reference,
                  "arke: this server's connections are of another type than the handler's first parameter: take "
                  "arke::connection&, or the "
                  "server's own connection type.");
    return reference && ours;
}

template <class Base, class Connection, class F>
boost::intrusive_ptr<basic_event_handler<Base>> make_basic_event_handler(F&& f) {
    using callable = std::decay_t<F>;
    using pointer = boost::intrusive_ptr<basic_event_handler<Base>>;
    constexpr bool member = std::is_member_pointer_v<callable>;
    static_assert(
        !member,
        "arke: a pointer to a member function does not say whose: write [this](arke::connection& c, T value) { ... }.");
    static_assert(member || plain_callable<callable>,
                  "arke: this handler is generic or overloaded, so its parameter does not say what to decode: write "
                  "on<T>(\"event\", "
                  "handler), with on<void> for no value.");
    if constexpr (plain_callable<callable>) {
        using parameters = typename call_operator<callable>::parameters;
        constexpr std::size_t count = std::tuple_size_v<parameters>;
        check_result<typename call_operator<callable>::result>();
        check_not_empty(f);
        if constexpr (count == 0) {
            return pointer(new value_handler<Base, Connection, false, void, callable>(std::forward<F>(f)));
        } else {
            using first = std::tuple_element_t<0, parameters>;
            constexpr bool peer = is_peer<Base, first>();
            static_assert(count <= (peer ? 2 : 1),
                          "arke: a handler takes an optional arke::connection& first and then at most one value: put "
                          "several into a struct, "
                          "or take std::tuple or nlohmann::json.");
            if constexpr (peer && count == 1) {
                if constexpr (check_peer<Base, Connection, first>())
                    return pointer(new value_handler<Base, Connection, true, void, callable>(std::forward<F>(f)));
            } else if constexpr (peer && count == 2) {
                using second = std::tuple_element_t<1, parameters>;
                if constexpr (spawnable<typename call_operator<callable>::result>) check_coroutine_parameter<second>();
                if constexpr (check_peer<Base, Connection, first>() && check_parameter<second>())
                    return pointer(new value_handler<Base, Connection, true, std::remove_cvref_t<second>, callable>(
                        std::forward<F>(f)));
            } else if constexpr (count == 1) {
                if constexpr (spawnable<typename call_operator<callable>::result>) check_coroutine_parameter<first>();
                if constexpr (check_parameter<first>())
                    return pointer(new value_handler<Base, Connection, false, std::remove_cvref_t<first>, callable>(
                        std::forward<F>(f)));
            }
        }
    }
    return {};
}

template <class T, class Base, class Connection, class F>
boost::intrusive_ptr<basic_event_handler<Base>> make_basic_event_handler_as(F&& f) {
    using callable = std::decay_t<F>;
    using value = std::remove_cvref_t<T>;
    using pointer = boost::intrusive_ptr<basic_event_handler<Base>>;
    check_not_empty<callable>(f);
    if constexpr (std::is_void_v<value>) {
        constexpr bool with = std::is_invocable_v<callable&, Connection&>;
        constexpr bool fits = with || std::is_invocable_v<callable&>;
        static_assert(fits, "arke: on<void> needs a handler that is called with nothing or with a connection&.");
        if constexpr (fits) {
            if constexpr (with)
                check_result<std::invoke_result_t<callable&, Connection&>>();
            else
                check_result<std::invoke_result_t<callable&>>();
            return pointer(new value_handler<Base, Connection, with, void, callable>(std::forward<F>(f)));
        }
    } else {
        check_readable<value>();
        constexpr bool with = std::is_invocable_v<callable&, Connection&, value>;
        constexpr bool fits = with || std::is_invocable_v<callable&, value>;
        static_assert(fits,
                      "arke: on<T> needs a handler that is called with a T, or with a connection& and a T; T by value "
                      "or as const&.");
        if constexpr (fits && receivable<value>) {
            using result = typename std::conditional_t<with, std::invoke_result<callable&, Connection&, value>,
                                                       std::invoke_result<callable&, value>>::type;
            check_result<result>();
            if constexpr (spawnable<result>) check_coroutine_value<callable>();
            return pointer(new value_handler<Base, Connection, with, value, callable>(std::forward<F>(f)));
        }
    }
    return {};
}

// ---- handlers of what is no event

/// What a handler may take in place of a view, to keep it: neither converts implicitly.
template <class T>
struct kept {
    using type = T;
};
template <>
struct kept<std::string_view> {
    using type = std::string;
};
template <>
struct kept<bytes_view> {
    using type = bytes;
};

inline std::string keep(std::string_view value) { return std::string(value); }
inline bytes keep(bytes_view value) { return bytes(value.begin(), value.end()); }
template <class T>
const T& keep(const T& value) {
    return value;
}

enum class notify_form { peer_and_views, views, peer_and_copies, copies, peer, nothing, none };

template <class Connection, class F, class... Args>
consteval notify_form find_notify_form() {
    if constexpr (std::is_invocable_v<F&, Connection&, Args...>)
        return notify_form::peer_and_views;
    else if constexpr (std::is_invocable_v<F&, Args...>)
        return notify_form::views;
    else if constexpr (std::is_invocable_v<F&, Connection&, typename kept<Args>::type...>)
        return notify_form::peer_and_copies;
    else if constexpr (std::is_invocable_v<F&, typename kept<Args>::type...>)
        return notify_form::copies;
    else if constexpr (std::is_invocable_v<F&, Connection&>)
        return notify_form::peer;
    else if constexpr (std::is_invocable_v<F&>)
        return notify_form::nothing;
    else
        return notify_form::none;
}

template <notify_form Form, class Connection, class F, class... Args>
decltype(auto) notify(F& f, Connection& c, const Args&... args) {
    if constexpr (Form == notify_form::peer_and_views)
        return std::invoke(f, c, static_cast<Args>(args)...);
    else if constexpr (Form == notify_form::views)
        return std::invoke(f, static_cast<Args>(args)...);
    else if constexpr (Form == notify_form::peer_and_copies)
        return std::invoke(f, c, keep(args)...);
    else if constexpr (Form == notify_form::copies)
        return std::invoke(f, keep(args)...);
    else if constexpr (Form == notify_form::peer)
        return std::invoke(f, c);
    else
        return std::invoke(f);
}

template <class Base, class Connection, notify_form Form, class F, class... Args>
class callable_notify_handler final : public basic_notify_handler<Base, Args...> {
public:
    template <class G>
    explicit callable_notify_handler(G&& f) : f_(std::forward<G>(f)) {}

    void run(Base& self, const Args&... args) override {
        using result = decltype(notify<Form, Connection, F, Args...>(f_, static_cast<Connection&>(self), args...));
        static_assert(
            !awaitable_result<result>,
            "arke: this handler is a coroutine, and nobody would resume it: return void, and start the coroutine with "
            "co_spawn(c.get_executor(), ...).");
        static_cast<void>(notify<Form, Connection, F, Args...>(f_, static_cast<Connection&>(self), args...));
    }

private:
    F f_;
};

template <class Base, class Connection, class... Args, class F>
boost::intrusive_ptr<basic_notify_handler<Base, Args...>> make_basic_notify_handler(F&& f) {
    using callable = std::decay_t<F>;
    constexpr notify_form form = find_notify_form<Connection, callable, Args...>();
    static_assert(form != notify_form::none,
                  "arke: this handler takes other parameters than this on_...() gives: all of what it gives or "
                  "nothing, each with or "
                  "without a connection& first.");
    check_not_empty<callable>(f);
    if constexpr (form != notify_form::none)
        return boost::intrusive_ptr<basic_notify_handler<Base, Args...>>(
            new callable_notify_handler<Base, Connection, form, callable, Args...>(std::forward<F>(f)));
    else
        return {};
}

}  // namespace detail

/// A handler of an event, from a function, lambda (also mutable or move-only), functor or std::function.
///
/// It takes an optional leading connection& (Connection or a base of it) and then nothing or one value, by value, const& or
/// &&, whose type decides what is decoded; see decode_value(). Views are fine: the handler is done when it returns. What it
/// returns goes to whoever asked. Throws std::invalid_argument for an empty std::function or a null pointer.
template <class Connection, class F>
event_handler_ptr make_event_handler(F&& f) {
    return detail::make_basic_event_handler<connection, Connection>(std::forward<F>(f));
}

/// The same where T is given, so that the handler may be generic: called as f(connection&, T) if it can be, else as f(T).
/// T = void: f(connection&), else f().
template <class T, class Connection, class F>
event_handler_ptr make_event_handler_as(F&& f) {
    return detail::make_basic_event_handler_as<T, connection, Connection>(std::forward<F>(f));
}

/// A handler that decides about a room: as make_event_handler(), with the room's name for a value.
template <class Connection, class F>
event_handler_ptr make_join_handler(F&& f) {
    if constexpr (detail::plain_callable<std::decay_t<F>>)
        detail::check_decision<typename detail::call_operator<std::decay_t<F>>::result>();
    auto made = make_event_handler<Connection>(std::forward<F>(f));
    if (!made->answers()) {
        throw std::invalid_argument(
            "on_join(): the handler returns nothing, so it decides nothing; return bool or arke::answer<void>");
    }
    return made;
}

/// A handler of something that is no event: called with the first of (connection&, Args...), (Args...), (connection&) and ()
/// that it takes. Where an argument is a view, it may take std::string or bytes instead, to keep it.
template <class Connection, class... Args, class F>
notify_handler_ptr<Args...> make_notify_handler(F&& f) {
    return detail::make_basic_notify_handler<connection, Connection, Args...>(std::forward<F>(f));
}

}  // namespace arke
