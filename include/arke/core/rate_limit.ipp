#pragma once

#include <arke/core/rate_limit.hpp>

namespace arke::core {

ARKE_COLD_INLINE millis address_rates::enter(std::string_view address, millis now) {
    const std::lock_guard lock{mutex_};
    // Two for each that comes, so that they go faster than they come.
    for (int i = 0; i != 2 && !entries_.empty() && entries_.front().bucket.is_full(rate_, now); ++i) forget_first();
    auto found = known_.find(address);
    if (found == known_.end()) {
        if (entries_.size() == capacity_) forget_first();
        entries_.push_back({std::string{address}, token_bucket{rate_, now}});
        const auto last = std::prev(entries_.end());
        try {
            found = known_.emplace(last->address, last).first;
        } catch (...) {
            entries_.pop_back();
            throw;
        }
    }
    auto& bucket = found->second->bucket;
    if (const auto wait = bucket.wait(rate_, now); wait != 0) return wait;
    bucket.take(1);
    entries_.splice(entries_.end(), entries_, found->second);
    return 0;
}

}  // namespace arke::core
