#pragma once

#include <arke/base/error.hpp>
#include <arke/event/answer.hpp>
#include <arke/event/event_view.hpp>
#include <arke/event/handler.hpp>
#include <arke/event/outgoing.hpp>
#include <arke/event/value.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

/// What whoever asks makes of the answers, whoever it is that answers.
namespace arke {

/// What many answer: target::ask(), cluster_handle::ask().
template <class T>
struct ask_results {
    struct given {
        std::string id;  ///< Of the member, or the server.
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

/// What a refusal is to whoever asked.
constexpr errc error_of(refusal_reason reason) noexcept {
    switch (reason) {
        case refusal_reason::refused: return errc::refused;
        case refusal_reason::unhandled: return errc::unhandled_event;
        case refusal_reason::wrong_type: return errc::wrong_type;
        case refusal_reason::failed: return errc::handler_threw;
        case refusal_reason::busy: return errc::too_many_requests;
    }
    return errc::refused;
}

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

}  // namespace detail
}  // namespace arke
