#pragma once

#include <arke/base/close_code.hpp>
#include <arke/core/timing_wheel.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace arke::core {

/// Whether a client comes back after such an end: not after a normal one, a refusal on principle, and what an application says
/// by a code of its own.
constexpr bool comes_back_after(close_code code) noexcept {
    return code != close_code::normal && code != close_code::policy_violation && static_cast<unsigned>(code) < 4000;
}

/// When a client tries again. The delay is random between nothing and a bound that doubles with each attempt ("full jitter"): those
/// who lost their server together do not come back together.
///
/// Time and chance are given to it.
class reconnection {
public:
    struct settings {
        millis first = 1'000;      ///< The first bound,
        millis most = 30'000;      ///< and the last.
        millis lasted = 5'000;     ///< A connection of this age makes the next attempt the first again.
        std::uint32_t attempts{};  ///< After so many in a row no more; 0 is no end.
    };

    explicit reconnection(const settings& s) noexcept : settings_{s} {}

    void opened(millis now) noexcept { opened_ = now; }

    /// Attempts since a connection lasted.
    std::uint32_t attempts() const noexcept { return attempts_; }

    /// A connection is lost, or an attempt has failed: how long to wait. `chance` is any number, evenly spread. Nothing: enough.
    std::optional<millis> next(millis now, std::uint32_t chance) noexcept {
        if (opened_ && now - *opened_ >= settings_.lasted) attempts_ = 0;
        opened_.reset();
        if (settings_.attempts != 0 && attempts_ == settings_.attempts) return std::nullopt;
        auto bound = std::min(settings_.first, settings_.most);
        for (std::uint32_t i = 0; i != attempts_ && bound < settings_.most; ++i)
            bound = std::min(2 * bound, settings_.most);
        ++attempts_;
        // A year of milliseconds has 35 bits.
        return static_cast<millis>((static_cast<std::uint64_t>(bound) * (chance >> 8U)) >> 24U);
    }

    /// Whoever asks for it begins anew.
    void reset() noexcept { attempts_ = 0; }

private:
    settings settings_;
    std::optional<millis> opened_;
    std::uint32_t attempts_ = 0;
};

}  // namespace arke::core
