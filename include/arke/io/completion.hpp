#pragma once

#include <arke/core/endpoint.hpp>
#include <arke/core/loop.hpp>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

/// Asio's completion tokens, where those who wait may have an executor of their own, or a loop that they run on.
namespace arke::detail {

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

/// Completes it, never within the call: on its own executor, else in a turn of `home`; not at all where that has ended. `owner` has
/// the log.
template <class Handler, class... Args>
void complete_later(completion_handler<Handler>& h, const core::loop_ptr& home, const core::endpoint_ptr& owner,
                    Args... args) {
    if constexpr (completion_handler<Handler>::has_executor) {
        h.complete(true, std::move(args)...);
    } else if (home) {
        home->post([h = std::move(h), given = std::make_tuple(std::move(args)...), owner]() mutable {
            try {
                std::apply([&](auto&&... a) { h.complete(false, std::move(a)...); }, std::move(given));
            } catch (...) {
                owner->try_to_log([] { return std::string{"a handler of ask() threw"}; });
            }
        });
    }
}

}  // namespace arke::detail
