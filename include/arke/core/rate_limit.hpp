#pragma once

#include <arke/base/compile.hpp>
#include <arke/base/keyed_hash.hpp>
#include <arke/core/timing_wheel.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace arke::core {

/// So many in a second, and so many at once after a silence. A rate of 0 is no bound; a burst of 0 is a second's worth.
struct rate {
    std::int64_t per_second = 0;
    std::int64_t burst = 0;

    rate() = default;
    rate(std::size_t each_second, std::size_t at_once)
        : per_second{static_cast<std::int64_t>(each_second)},
          burst{static_cast<std::int64_t>(at_once == 0 ? each_second : at_once)} {}

    bool is_bounded() const noexcept { return per_second != 0; }
};

/// A bucket that so many tokens drop into in a second until it is full. What happens takes one out, or waits for it.
///
/// Counts in thousandths, of which a millisecond brings `per_second`: exact, whatever the steps in which time passes.
class token_bucket {
public:
    token_bucket() = default;

    /// Full.
    token_bucket(const rate& r, millis now) noexcept : level_{r.burst * whole}, at_{now} {}

    /// The tokens that are there.
    std::int64_t tokens(const rate& r, millis now) noexcept {
        const auto passed = now - std::exchange(at_, std::max(at_, now));
        // By whole seconds first: the product does not overflow, however long the silence was.
        const auto missing = r.burst * whole - level_;
        if (passed > 0) level_ += passed > missing / r.per_second ? missing : passed * r.per_second;
        return level_ / whole;
    }

    bool is_full(const rate& r, millis now) noexcept { return tokens(r, now) == r.burst; }

    /// Takes what is there.
    void take(std::int64_t count) noexcept { level_ -= count * whole; }

    /// How long until there is one; 0 when there is.
    millis wait(const rate& r, millis now) noexcept {
        if (tokens(r, now) >= 1) return 0;
        return (whole - level_ + r.per_second - 1) / r.per_second;
    }

private:
    static constexpr std::int64_t whole = 1000;
    std::int64_t level_ = 0;
    millis at_ = 0;
};

/// How often each of many addresses does something. Any thread.
///
/// An address is forgotten when its bucket is full again, for that is how it came. Where more than `capacity` are remembered all
/// the same, the one that was not heard of for the longest time is forgotten early.
class address_rates {
public:
    explicit address_rates(const rate& r, std::size_t capacity = 65'536) : rate_{r}, capacity_{capacity} {}

    /// Counts one of this address: 0. Or in how many milliseconds it may be, when it is one too many now.
    millis enter(std::string_view address, millis now);

    /// How many are remembered.
    std::size_t size() const {
        const std::lock_guard lock{mutex_};
        return known_.size();
    }

private:
    struct entry {
        std::string address;
        token_bucket bucket;
    };
    using order = std::list<entry>;

    void forget_first() {
        known_.erase(entries_.front().address);
        entries_.pop_front();
    }

    rate rate_;
    std::size_t capacity_;
    mutable std::mutex mutex_;
    order entries_;  // who was counted last stands last
    std::unordered_map<std::string_view, order::iterator, arke::detail::keyed_hash> known_;
};

}  // namespace arke::core

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/rate_limit.ipp>
#endif
