#pragma once

#include <arke/core/requests.hpp>
#include <arke/core/timing_wheel.hpp>
#include <arke/event/message.hpp>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

namespace arke::core {

/// What a client has said while there is no connection, in order. Bounded.
class waiting_room {
public:
    struct bounds {
        std::size_t messages = 1024;
        std::size_t bytes = 1024 * 1024;
    };

    struct entry {
        message_ptr what;
        requests::pointer request{};       ///< Whoever waits for an answer to it.
        millis due = timing_wheel::never;  ///< When it is too late for it.
        bool is_last = false;              ///< It is for the connection that is ending, and goes with it.
    };

    enum class added {
        yes,
        not_ready,  ///< It is volatile, and does not wait.
        full,       ///< The entry is as it was.
    };

    explicit waiting_room(const bounds& b) noexcept : bounds_{b} {}

    bool empty() const noexcept { return entries_.empty(); }
    std::size_t size() const noexcept { return entries_.size(); }
    std::size_t bytes() const noexcept { return bytes_; }

    /// Takes an entry. Of those that say only the newest it takes the place of an older one; where it has no room, the older one
    /// stays. Where it is full, what is late goes first, to late(entry).
    template <class Late>
    added add(entry& e, millis now, Late&& late) {
        const auto out = e.what->view();
        if (out.how == urgency::now_or_never) return added::not_ready;
        const auto size = size_of(out);
        auto older = find_older(out);
        const auto is_full = [&] {
            const bool takes_place = older != entries_.size();
            const auto freed = takes_place ? size_of(entries_[older].what->view()) : 0;
            return entries_.size() - (takes_place ? 1 : 0) >= bounds_.messages || bytes_ - freed + size > bounds_.bytes;
        };
        if (is_full()) {
            take_late(now, late);
            older = find_older(out);
            if (is_full()) return added::full;
        }
        const bool takes_place = older != entries_.size();
        entries_.push_back(std::move(e));
        bytes_ += size;
        if (takes_place) remove(older);
        return added::yes;
    }

    /// All that waits is for the connection that ends now; what comes behind it is for the next.
    void mark_last() noexcept {
        for (auto& e : entries_) e.is_last = true;
    }

    /// Whether the first, if there is one, is for the next connection.
    bool is_at_next() const noexcept { return !entries_.empty() && !entries_.front().is_last; }

    /// The first; nothing when there is none.
    std::optional<entry> take() {
        if (entries_.empty()) return std::nullopt;
        return remove(0);
    }

    /// Gives out, to late(entry), all those for which it is too late.
    template <class Late>
    void take_late(millis now, Late&& late) {
        take_all([now](const entry& e) { return e.due <= now; }, late);
    }

    /// Gives out, to taken(entry), all those that are such.
    template <class Such, class Taken>
    void take_all(Such such, Taken&& taken) {
        // Most are looked at in vain; those that are taken leave from the front, however many they are.
        if (std::none_of(entries_.begin(), entries_.end(), such)) return;
        auto left = std::stable_partition(entries_.begin(), entries_.end(), such) - entries_.begin();
        for (; left != 0; --left) {
            auto e = remove(0);
            taken(e);
        }
    }

    /// When the next is too late.
    millis next_due() const noexcept {
        millis due = timing_wheel::never;
        for (const auto& e : entries_) due = std::min(due, e.due);
        return due;
    }

private:
    static std::size_t size_of(const outgoing& out) noexcept { return out.event.name.size() + out.event.data.size(); }

    /// The place of the one that says the same and is to be replaced; size() where there is none.
    std::size_t find_older(const outgoing& out) const noexcept {
        if (out.how != urgency::latest_only) return entries_.size();
        const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const entry& e) {
            const auto said = e.what->view();
            return !e.is_last && said.how == urgency::latest_only && said.event.name == out.event.name &&
                   said.key == out.key;
        });
        return static_cast<std::size_t>(found - entries_.begin());
    }

    entry remove(std::size_t place) {
        const auto at = entries_.begin() + static_cast<std::ptrdiff_t>(place);
        auto taken = std::move(*at);
        bytes_ -= size_of(taken.what->view());
        entries_.erase(at);
        return taken;
    }

    bounds bounds_;
    std::deque<entry> entries_;
    std::size_t bytes_ = 0;
};

}  // namespace arke::core
