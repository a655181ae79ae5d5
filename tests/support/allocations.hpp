#pragma once

/// What the tests' operator new tells of, and its bad days. Each thread has its own.

#include <cstddef>

namespace arke::test {

/// How often this thread has asked for memory.
std::size_t allocations() noexcept;

/// Bytes that this thread holds, as far as it frees what it asks for.
std::ptrdiff_t bytes_held() noexcept;

/// The most that it came to hold while this lives, more than at the beginning.
class memory_peak {
public:
    memory_peak() noexcept;
    memory_peak(const memory_peak&) = delete;
    memory_peak& operator=(const memory_peak&) = delete;

    std::size_t bytes() const noexcept;

private:
    std::ptrdiff_t before_;
};

/// While it lives, this thread gets no memory from the nth time on that it asks, counted from 0: `times` times.
class memory_shortage {
public:
    static constexpr std::size_t for_good = ~std::size_t{0};

    explicit memory_shortage(std::size_t nth, std::size_t times = 1) noexcept;
    memory_shortage(const memory_shortage&) = delete;
    memory_shortage& operator=(const memory_shortage&) = delete;
    ~memory_shortage();

    /// Whether anybody got nothing.
    bool struck() const noexcept;
};

}  // namespace arke::test
