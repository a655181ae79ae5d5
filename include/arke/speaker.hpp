#pragma once

#include <arke/base/error.hpp>
#include <arke/core/endpoint.hpp>
#include <arke/core/requests.hpp>
#include <arke/event/ask.hpp>
#include <arke/event/message.hpp>
#include <arke/event/speaker.hpp>
#include <arke/event/value.hpp>
#include <arke/io/completion.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <concepts>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace arke {

namespace detail {

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
            complete_later(handler_, home_, owner_, std::move(results_));
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

/// Puts a request to a peer, from any thread. A null peer is one that is gone.
void put_request(const core::peer_ptr& to, const core::requests::pointer& request, message_ptr what,
                 std::chrono::milliseconds timeout) noexcept;

/// The same where nobody was found `at` an endpoint, or was looked for at none.
void put_to_nobody(const core::endpoint_ptr& at, const core::requests::pointer& request) noexcept;

unsigned json_depth_of(const core::peer_ptr& to);

}  // namespace detail

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
