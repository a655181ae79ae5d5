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

    /// Takes an entry. Of those that say only the newest it replaces an older one. Where it is full, what is late goes first, to
    /// late(entry).
    template <class Late>
    added add(entry& e, millis now, Late&& late) {
        const auto out = e.what->view();
        if (out.how == urgency::now_or_never) return added::not_ready;
        if (out.how == urgency::latest_only) {
            const auto older = std::find_if(entries_.begin(), entries_.end(), [&](const entry& o) {
                const auto said = o.what->view();
                return said.how == urgency::latest_only && said.event.name == out.event.name && said.key == out.key;
            });
            if (older != entries_.end()) remove(older);
        }
        const auto size = size_of(out);
        const auto is_full = [&] { return entries_.size() >= bounds_.messages || bytes_ + size > bounds_.bytes; };
        if (is_full()) {
            while (auto gone = take_late(now)) late(*gone);
            if (is_full()) return added::full;
        }
        entries_.push_back(std::move(e));
        bytes_ += size;
        return added::yes;
    }

    /// The first; nothing when there is none.
    std::optional<entry> take() {
        if (entries_.empty()) return std::nullopt;
        return remove(entries_.begin());
    }

    /// One for which it is too late.
    std::optional<entry> take_late(millis now) {
        const auto late = std::find_if(entries_.begin(), entries_.end(), [&](const entry& e) { return e.due <= now; });
        if (late == entries_.end()) return std::nullopt;
        return remove(late);
    }

    /// When the next is too late.
    millis next_due() const noexcept {
        millis due = timing_wheel::never;
        for (const auto& e : entries_) due = std::min(due, e.due);
        return due;
    }

private:
    static std::size_t size_of(const outgoing& out) noexcept { return out.event.name.size() + out.event.data.size(); }

    entry remove(std::deque<entry>::iterator at) {
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
