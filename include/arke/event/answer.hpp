#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace arke {

/// Why an application does not answer. Made by refuse().
struct refusal {
    std::string text;  ///< For people. UTF-8.
};

/// What a handler returns instead of a value: `return arke::refuse("sold out");` where it returns an arke::answer<T>.
inline refusal refuse(std::string text = {}) { return {std::move(text)}; }

/// A T, or a refusal: what a handler returns that may say no, and what ask<arke::answer<T>> gets.
template <class T = void>
class answer {
public:
    using value_type = T;

    answer() = default;
    answer(refusal r) : refusal_{std::move(r)} {}
    template <class U = T>
    requires(!std::is_same_v<std::remove_cvref_t<U>, answer> && !std::is_same_v<std::remove_cvref_t<U>, refusal> &&
             std::is_constructible_v<T, U>) answer(U&& value)
        : value_{std::in_place, std::forward<U>(value)} {}

    bool is_refused() const noexcept { return !value_.has_value(); }
    explicit operator bool() const noexcept { return value_.has_value(); }

    /// Throws std::runtime_error, with the refusal's text, where there is none.
    const T& value() const& {
        if (!value_) throw std::runtime_error{"arke: refused: " + refusal_.text};
        return *value_;
    }
    T&& value() && {
        if (!value_) throw std::runtime_error{"arke: refused: " + refusal_.text};
        return *std::move(value_);
    }
    const T& operator*() const& noexcept { return *value_; }
    T&& operator*() && noexcept { return *std::move(value_); }
    const T* operator->() const noexcept { return &*value_; }

    /// The text of the refusal; empty where there is a value.
    const std::string& why() const noexcept { return refusal_.text; }

private:
    std::optional<T> value_;
    refusal refusal_;
};

/// Done, or a refusal.
template <>
class answer<void> {
public:
    using value_type = void;

    answer() = default;
    answer(refusal r) : refusal_{std::move(r)} {}

    bool is_refused() const noexcept { return refusal_.has_value(); }
    explicit operator bool() const noexcept { return !refusal_; }

    const std::string& why() const noexcept {
        static const std::string none;
        return refusal_ ? refusal_->text : none;
    }

private:
    std::optional<refusal> refusal_;
};

template <class T>
inline constexpr bool is_answer = false;
template <class T>
inline constexpr bool is_answer<answer<T>> = true;

}  // namespace arke
