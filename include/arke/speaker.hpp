#pragma once

#include <arke/base/error.hpp>
#include <arke/core/endpoint.hpp>
#include <arke/core/requests.hpp>
#include <arke/event/answer.hpp>
#include <arke/event/handler.hpp>
#include <arke/event/message.hpp>
#include <arke/event/value.hpp>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <concepts>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace arke {

/// What a room answers: target::ask().
template <class T>
struct ask_results {
    struct given {
        std::string id;  ///< Of the member.
        T value;
    };
    struct missing {
        std::string id;
        error_code why;
        std::string text;  ///< For people; may be empty.
    };
    std::vector<given> answers;  ///< In the order in which they came.
    std::vector<missing> missing;
};

namespace detail {

/// Stands where a handler says nothing about its executor: it runs on the connection's loop.
struct on_its_loop {};

template <class T, class... First>
struct completion {
    using signature = void(First..., T);
};
template <class... First>
struct completion<void, First...> {
    using signature = void(First...);
};

template <class T>
constexpr void check_asked() {
    if constexpr (is_answer<T>) {
        check_asked<typename T::value_type>();
    } else if constexpr (!std::is_void_v<T>) {
        check_readable<T>();
        static_assert(!std::is_same_v<T, std::string_view> && !std::is_same_v<T, bytes_view> &&
                          std::is_default_constructible_v<T>,
                      "arke: what is asked for is kept: ask for std::string or arke::bytes instead of a view, and for "
                      "a type that "
                      "can be made empty.");
    }
}

/// Reads an answer as a T. False, and a sentence, where it does not convert.
template <class T>
bool read_answer(const event_view& from, const decode_limits& limits, T& to, std::string& why) {
    incoming<T> in;
    if (!in.read(from, limits, why)) return false;
    to = std::move(in.value());
    return true;
}

/// What came of a request, as a T and an error.
template <class T>
error_code take_answer(error_code why, const event_view& from, const decode_limits& limits, T& to, std::string& text) {
    if constexpr (is_answer<T>) {
        if (why == errc::refused) {
            to = refusal{std::string{from.data}};
            return {};
        }
        if constexpr (!std::is_void_v<typename T::value_type>) {
            typename T::value_type value{};
            why = take_answer(why, from, limits, value, text);
            if (!why) to = std::move(value);
        }
        return why;
    } else {
        if (why) {
            text = from.data;
            return why;
        }
        return read_answer(from, limits, to, text) ? error_code{} : make_error_code(errc::bad_answer);
    }
}

/// A completion handler, to be called once: on its own executor, where it has one.
template <class Handler>
class completion_handler {
public:
    using executor = typename boost::asio::associated_executor<Handler, on_its_loop>::type;
    static constexpr bool has_executor = !std::is_same_v<executor, on_its_loop>;

    explicit completion_handler(Handler h) : handler_{std::in_place, std::move(h)} {
        if constexpr (has_executor) {
            work_.emplace(boost::asio::associated_executor<Handler, on_its_loop>::get(*handler_, on_its_loop{}));
        }
    }

    /// On the loop that it belongs to, or anywhere when it has an executor; there it runs now, where that may be, or `later`.
    template <class... Args>
    void complete(bool later, Args... args) {
        auto h = std::move(*handler_);
        handler_.reset();
        if constexpr (has_executor) {
            const auto on = boost::asio::associated_executor<Handler, on_its_loop>::get(h, on_its_loop{});
            auto bound = [h = std::move(h), given = std::make_tuple(std::move(args)...)]() mutable {
                std::apply([&](auto&&... a) { std::move(h)(std::move(a)...); }, std::move(given));
            };
            if (later)
                boost::asio::post(on, std::move(bound));
            else
                boost::asio::dispatch(on, std::move(bound));
            work_.reset();
        } else {
            std::move(h)(std::move(args)...);
        }
    }

    bool is_done() const noexcept { return !handler_; }

private:
    struct nothing {
        explicit nothing(const on_its_loop&) {}
    };
    template <class Executor>
    struct work_of {
        using type = boost::asio::executor_work_guard<Executor>;
    };
    std::optional<Handler> handler_;
    std::optional<typename std::conditional_t<has_executor, work_of<executor>, std::type_identity<nothing>>::type>
        work_;
};

/// A request whose answer is read as a T.
template <class T, class Handler>
class typed_request final : public core::open_request {
public:
    typed_request(Handler h, const decode_limits& limits) : handler_{std::move(h)}, limits_{limits} {}

    ~typed_request() override {
        if constexpr (completion_handler<Handler>::has_executor) {
            if (handler_.is_done()) return;
            try {
                complete(errc::disconnected, {}, true);
            } catch (...) {
                // No memory to tell it.
            }
        }
    }

    void complete(error_code why, const event_view& answer, bool within_ask) override {
        if constexpr (std::is_void_v<T>) {
            handler_.complete(within_ask, why);
        } else {
            T value{};
            std::string text;
            try {
                why = take_answer(why, answer, limits_, value, text);
            } catch (const std::bad_alloc&) {
                why = errc::out_of_memory;
            }
            handler_.complete(within_ask, why, std::move(value));
        }
    }

    bool needs_loop() const noexcept override { return !completion_handler<Handler>::has_executor; }

private:
    completion_handler<Handler> handler_;
    decode_limits limits_;
};

/// The answers of many, until nobody holds it any more: then everybody has answered, or never will.
template <class T, class Handler>
class gathering {
public:
    gathering(Handler h, core::endpoint_ptr owner, core::loop_ptr home, const decode_limits& limits)
        : handler_{std::move(h)}, owner_{std::move(owner)}, home_{std::move(home)}, limits_{limits} {}
    gathering(const gathering&) = delete;
    gathering& operator=(const gathering&) = delete;

    ~gathering() {
        try {
            if constexpr (completion_handler<Handler>::has_executor) {
                handler_.complete(true, std::move(results_));
            } else if (home_) {
                home_->post([h = std::move(handler_), r = std::move(results_), owner = owner_]() mutable {
                    try {
                        h.complete(false, std::move(r));
                    } catch (...) {
                        owner->try_to_log([] { return std::string{"a handler of ask() threw"}; });
                    }
                });
            }
        } catch (...) {
            owner_->try_to_log([] { return std::string{"no memory for the answers of a room"}; });
        }
    }

    void add(const std::string& id, error_code why, const event_view& answer) {
        T value{};
        std::string text;
        why = take_answer(why, answer, limits_, value, text);
        const std::lock_guard lock{mutex_};
        if (why)
            results_.missing.push_back({id, why, std::move(text)});
        else
            results_.answers.push_back({id, std::move(value)});
    }

private:
    completion_handler<Handler> handler_;
    core::endpoint_ptr owner_;
    core::loop_ptr home_;
    decode_limits limits_;
    std::mutex mutex_;
    ask_results<T> results_;
};

/// The request to one of them.
template <class Gathering>
class member_request final : public core::open_request {
public:
    member_request(std::shared_ptr<Gathering> in, std::string id) : in_{std::move(in)}, id_{std::move(id)} {}
    ~member_request() override {
        if (!in_) return;
        try {
            complete(errc::disconnected, {}, true);
        } catch (...) {
            // It is missing from both lists then.
        }
    }

    void complete(error_code why, const event_view& answer, bool) override {
        const auto in = std::move(in_);
        in->add(id_, why, answer);
    }

private:
    std::shared_ptr<Gathering> in_;
    std::string id_;
};

inline void check_timeout(std::chrono::milliseconds timeout) {
    if (timeout.count() <= 0)
        throw std::invalid_argument{"ask(): the timeout is not greater than zero; say how long an answer may take"};
}

/// g++ 12 destroys an aggregate twice that is made in braces within a co_await expression; what would be a crash is an error here.
template <class Value, class Result>
constexpr void check_temporary() {
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
    static_assert(
        !(awaitable_result<Result> && !std::is_reference_v<Value> && std::is_aggregate_v<Value> &&
          !std::is_trivially_destructible_v<Value>),
        "arke: g++ 12 destroys an aggregate twice that is made within a co_await expression: give the value a name "
        "before it is asked with.");
#endif
}

/// Puts a request to a peer, from any thread. A null peer is one that is gone.
void put_request(const core::peer_ptr& to, const core::requests::pointer& request, message_ptr what,
                 std::chrono::milliseconds timeout) noexcept;

/// The same where nobody was found `at` an endpoint, or was looked for at none.
void put_to_nobody(const core::endpoint_ptr& at, const core::requests::pointer& request) noexcept;

unsigned json_depth_of(const core::peer_ptr& to);

}  // namespace detail

/// What everything has that speaks to one or many: the emit family.
template <class Derived>
class speaker {
public:
    /// Queues one event for everyone this names. The value is serialised here, once; all receivers share the bytes.
    ///
    /// The same types as a handler takes, and text of any kind. Queued is not received: a peer that reads too slowly is closed at
    /// config::max_outbox_bytes. After the disconnect, and in an empty room: no effect.
    ///
    /// Throws std::invalid_argument for text that is not UTF-8 and for a name that is empty or that the protocol cannot carry (of
    /// many receivers: that none of the endpoint's protocols can); then nobody gets it.
    template <class T>
    void emit(std::string_view event, const T& value) const {
        const auto encoded = encode_value(value);
        self().deliver(outgoing::of({event, encoded.kind(), encoded.data()}));
    }
    void emit(std::string_view event) const { self().deliver(outgoing::of({event, value_kind::nothing, {}})); }

    /// The same, but not for those who read so slowly that something waits for them already: what is stale at once (a
    /// position, a level) is better missed than late.
    template <class T>
    void emit_volatile(std::string_view event, const T& value) const {
        const auto encoded = encode_value(value);
        self().deliver(outgoing::of({event, encoded.kind(), encoded.data()}, urgency::now_or_never));
    }

    /// The same, where only the latest counts: an earlier one of the same event and key that still waits for a slow reader is
    /// taken back, and this one waits at the end. Who keeps up hears every one.
    template <class T>
    void emit_latest(std::string_view event, const T& value, std::string_view key = {}) const {
        const auto encoded = encode_value(value);
        self().deliver(outgoing::of({event, encoded.kind(), encoded.data()}, urgency::latest_only, key));
    }

private:
    const Derived& self() const noexcept { return static_cast<const Derived&>(*this); }

protected:
    speaker() = default;
    friend bool operator==(const speaker&, const speaker&) = default;
};

/// What speaks to one peer can also ask it.
template <class Derived>
class asker : public speaker<Derived> {
public:
    /// Puts a request: an event that its receiver answers. Completes once, with (error_code, T), or with (error_code) for T =
    /// void, by any Asio completion token; without one it is awaited.
    ///
    ///     c.ask<receipt>("quote", wish, 2s, [](arke::error_code why, receipt r) { ... });
    ///     receipt r = co_await c.ask<receipt>("quote", wish, 2s);
    ///
    /// Errors: errc::refused (ask for arke::answer<T> to have a refusal's text instead), unhandled_event, wrong_type and
    /// handler_threw as the peer says, ask_timeout, disconnected, bad_answer, too_many_requests (config::max_requests, here or
    /// there), outbox_full (the peer reads too slowly and config::on_overflow keeps it), not_deliverable (its protocol has no
    /// requests). An answer that comes after the timeout is dropped, and counted.
    ///
    /// A callback without an executor of its own runs on the connection's loop, as handlers do; where find() found nobody, on the
    /// server's first. After the loop's end, and asked of a connection_handle{} that names no server, it is destroyed without being
    /// called. Throws as emit() does. Threads: any.
    ///
    /// Asio's cancellation is not heard: the timeout ends what is not answered, also in co_await (c.ask<int>(...) || other).
    ///
    /// A Value may be anything that emit() takes. With g++ 12 an aggregate must have a name: co_await c.ask<int>("buy", order{...})
    /// would destroy it twice, and does not compile.
    template <class T, class Value, class Token = boost::asio::use_awaitable_t<>>
    auto ask(std::string_view event, Value&& value, std::chrono::milliseconds timeout, Token&& token = Token{}) const {
        const auto encoded = encode_value(std::as_const(value));
        const auto what = outgoing::request(0, {event, encoded.kind(), encoded.data()});
        detail::check_temporary<Value, decltype(put<T>(what, timeout, std::forward<Token>(token)))>();
        return put<T>(what, timeout, std::forward<Token>(token));
    }

    /// The same without a value.
    template <class T, class Token = boost::asio::use_awaitable_t<>>
    requires(!std::convertible_to<Token, std::chrono::milliseconds>) auto ask(std::string_view event,
                                                                              std::chrono::milliseconds timeout,
                                                                              Token&& token = Token{}) const {
        return put<T>(outgoing::request(0, {event, value_kind::nothing, {}}), timeout, std::forward<Token>(token));
    }

private:
    template <class T, class Token>
    auto put(const outgoing& what, std::chrono::milliseconds timeout, Token&& token) const {
        detail::check_asked<T>();
        detail::check_timeout(timeout);
        const core::peer_ptr to = static_cast<const Derived&>(*this).asked_peer();
        const decode_limits limits{detail::json_depth_of(to)};
        return boost::asio::async_initiate<Token, typename detail::completion<T, error_code>::signature>(
            [](auto handler, core::peer_ptr peer, core::endpoint_ptr at, message_ptr request,
               std::chrono::milliseconds time, decode_limits l) {
                using made = detail::typed_request<T, std::decay_t<decltype(handler)>>;
                const auto open = std::make_shared<made>(std::move(handler), l);
                if (peer)
                    detail::put_request(peer, open, std::move(request), time);
                else
                    detail::put_to_nobody(at, open);
            },
            token, to, core::endpoint_ptr{static_cast<const Derived&>(*this).asked_at()},
            message_ptr{new message{what}}, timeout, limits);
    }

protected:
    asker() = default;
    friend bool operator==(const asker&, const asker&) = default;
};

}  // namespace arke
