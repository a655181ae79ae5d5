#pragma once

#include <arke/event/handler.hpp>
#include <arke/http/exchange.hpp>
#include <arke/http/upgrade_call.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

/// From any callable to what answers the requests of a route, or decides about an upgrade.
namespace arke::detail {

/// Of the loop, where its coroutines run. Defined beside the sockets.
template <class Executor>
Executor executor_of(const core::loop& l);

inline void start(const core::loop& on, boost::asio::awaitable<void> work) {
    boost::asio::co_spawn(executor_of<boost::asio::any_io_executor>(on), std::move(work), boost::asio::detached);
}

template <class F>
constexpr auto result_of_route() {
    using asked = const http_request&;
    if constexpr (std::is_invocable_v<F&, asked>)
        return std::type_identity<std::invoke_result_t<F&, asked>>{};
    else if constexpr (std::is_invocable_v<F&>)
        return std::type_identity<std::invoke_result_t<F&>>{};
    else
        return std::type_identity<void>{};
}

template <class F>
class callable_route final : public http::route_handler {
public:
    using result = typename decltype(result_of_route<F>())::type;

    template <class G>
    explicit callable_route(G&& f) : f_(std::forward<G>(f)) {}

    void run(const http::exchange_ptr& what) override {
        if constexpr (spawnable<result>)
            start(what->on_loop(), later(what));
        else
            what->settle(call(what->request()));
    }

private:
    decltype(auto) call(const http_request& asked) {
        if constexpr (std::is_invocable_v<F&, const http_request&>)
            return std::invoke(f_, asked);
        else
            return std::invoke(f_);
    }

    /// The request stays until the coroutine is over, because this one holds it.
    boost::asio::awaitable<void> later(http::exchange_ptr what) {
        response made;
        std::exception_ptr thrown;
        try {
            made = co_await call(what->request());
        } catch (...) {
            thrown = std::current_exception();
        }
        what->settle(std::move(made), thrown);
    }

    F f_;
};

template <class R>
constexpr bool is_route_result() {
    if constexpr (spawnable<R>)
        return std::is_same_v<typename R::value_type, response>;
    else
        return std::is_same_v<std::remove_cvref_t<R>, response>;
}

template <class F>
std::unique_ptr<http::route_handler> make_route_handler(F&& f) {
    using callable = std::decay_t<F>;
    constexpr bool takes = std::is_invocable_v<callable&, const http_request&> || std::is_invocable_v<callable&>;
    static_assert(
        takes,
        "arke: a route's handler is called with the request: let it take const arke::http_request&, or nothing.");
    if constexpr (takes) {
        using result = typename decltype(result_of_route<callable>())::type;
        static_assert(is_route_result<result>(),
                      "arke: a route's handler answers: let it return arke::response, such as "
                      "arke::response::text(\"hello\"), or boost::asio::awaitable<arke::response>.");
        if constexpr (spawnable<result> && plain_callable<callable>) {
            using parameters = typename call_operator<callable>::parameters;
            if constexpr (std::tuple_size_v<parameters> == 1) {
                static_assert(
                    std::is_reference_v<std::tuple_element_t<0, parameters>> ||
                        std::is_same_v<std::tuple_element_t<0, parameters>, http_request>,
                    "arke: a route's coroutine takes const arke::http_request&, which stays until it is over.");
            }
        }
        check_not_empty<callable>(f);
        if constexpr (is_route_result<result>()) return std::make_unique<callable_route<callable>>(std::forward<F>(f));
    }
    return {};
}

/// Session: of the endpoint's connections.
template <class Session, class F>
class callable_upgrade final : public http::upgrade_handler {
public:
    template <class G>
    explicit callable_upgrade(G&& f) : f_(std::forward<G>(f)) {}

    http::upgrade_ptr make(core::loop& on, request asked, std::optional<std::string> chosen,
                           upgrade::settled then) const override {
        return http::upgrade_ptr{new basic_upgrade<Session>{on, std::move(asked), std::move(chosen), std::move(then)}};
    }

    void run(const http::upgrade_ptr& what) override {
        using result = std::invoke_result_t<F&, basic_upgrade<Session>&>;
        if constexpr (spawnable<result>) {
            start(what->on_loop(), later(boost::intrusive_ptr<callable_upgrade>{this}, what));
        } else {
            std::invoke(f_, static_cast<basic_upgrade<Session>&>(*what));
            what->settle();
        }
    }

private:
    /// The coroutine uses what the handler has captured, also after off().
    boost::asio::awaitable<void> later(boost::intrusive_ptr<callable_upgrade>, http::upgrade_ptr what) {
        std::exception_ptr thrown;
        try {
            co_await std::invoke(f_, static_cast<basic_upgrade<Session>&>(*what));
        } catch (...) {
            thrown = std::current_exception();
        }
        what->settle(thrown);
    }

    F f_;
};

template <class R>
constexpr bool is_upgrade_result() {
    if constexpr (spawnable<R>)
        return std::is_void_v<typename R::value_type>;
    else
        return std::is_void_v<R>;
}

template <class Session, class F>
boost::intrusive_ptr<handler_base> make_upgrade_handler(F&& f) {
    using callable = std::decay_t<F>;
    constexpr bool takes = std::is_invocable_v<callable&, basic_upgrade<Session>&>;
    static_assert(takes,
                  "arke: on_upgrade() calls its handler with the upgrade: let it take arke::upgrade&, or "
                  "arke::basic_upgrade<Session>& of this endpoint's Session.");
    if constexpr (takes) {
        constexpr bool fits = is_upgrade_result<std::invoke_result_t<callable&, basic_upgrade<Session>&>>();
        static_assert(fits,
                      "arke: a handler of on_upgrade() says no by refuse(), and yes by nothing: let it return void, or "
                      "boost::asio::awaitable<void>.");
        check_not_empty<callable>(f);
        if constexpr (fits)
            return boost::intrusive_ptr<handler_base>{new callable_upgrade<Session, callable>(std::forward<F>(f))};
    }
    return {};
}

}  // namespace arke::detail
