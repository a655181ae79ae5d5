#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>

namespace arke::test {

/// Choices out of bytes. When those are used up every choice is 0, which always is the quiet one.
class choices {
public:
    explicit choices(std::span<const std::uint8_t> bytes) : bytes_{bytes} {}

    bool used_up() const noexcept { return at_ == bytes_.size(); }
    std::size_t below(std::size_t n) { return used_up() ? 0 : bytes_[at_++] % n; }
    /// By the last byte that is left: a choice that was thought of later, and leaves the meaning of all bytes before it.
    std::size_t below_by_last(std::size_t n) {
        if (used_up()) return 0;
        const auto last = bytes_.back();
        bytes_ = bytes_.first(bytes_.size() - 1);
        return last % n;
    }
    template <class T>
    T of_by_last(std::initializer_list<T> all) {
        return *(all.begin() + static_cast<std::ptrdiff_t>(below_by_last(all.size())));
    }
    /// All that is left.
    std::span<const std::uint8_t> rest() { return bytes_.subspan(std::exchange(at_, bytes_.size())); }

    bool one_in(std::size_t n) { return below(n) == n - 1; }
    template <class T>
    T of(std::initializer_list<T> all) {
        return *(all.begin() + static_cast<std::ptrdiff_t>(below(all.size())));
    }

private:
    std::span<const std::uint8_t> bytes_;
    std::size_t at_ = 0;
};

}  // namespace arke::test
