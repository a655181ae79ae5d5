#pragma once

#include <arke/base/error.hpp>
#include <arke/core/timing_wheel.hpp>
#include <arke/event/event_view.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace arke::core {

/// A request that was put to a peer, until it is over. Its destruction before that tells those who wait elsewhere that there will
/// be no answer: the loop has ended.
class open_request {
public:
    open_request() = default;
    open_request(const open_request&) = delete;
    open_request& operator=(const open_request&) = delete;
    virtual ~open_request() = default;

    /// It is answered (no error), or never will be; then the data is a sentence about it. Once; on the peer's loop, in a turn.
    /// `within_ask`: the call that asks has not returned, so nothing may go on that waits for the answer.
    virtual void complete(error_code why, const event_view& answer, bool within_ask = false) = 0;

    /// Whether those who wait are told on a loop, and not by an executor of their own.
    virtual bool needs_loop() const noexcept { return true; }
};

/// The requests of one connection, in both directions. On its loop only.
class requests {
public:
    using pointer =
        std::shared_ptr<open_request>;  // shared, so that none is lost where there is no memory to pass it on

    // --- ours

    /// The number that the next one gets: no other open one has it.
    std::uint32_t next_id() {
        while (open_.contains(next_id_)) ++next_id_;
        return next_id_;
    }

    std::uint32_t add(const pointer& request, millis due) {
        const auto id = next_id();
        const auto at = by_time_.emplace(due, id).first;
        try {
            open_.try_emplace(id, entry{request, due});
        } catch (...) {
            by_time_.erase(at);
            throw;
        }
        ++next_id_;
        return id;
    }

    /// Null when there is none of this number: it was never asked, or is over.
    pointer take(std::uint32_t id) {
        const auto found = open_.find(id);
        if (found == open_.end()) return nullptr;
        auto taken = std::move(found->second.request);
        by_time_.erase({found->second.due, id});
        open_.erase(found);
        return taken;
    }

    /// One whose time has come; null when there is none.
    pointer take_due(millis now) {
        if (by_time_.empty() || by_time_.begin()->first > now) return nullptr;
        return take(by_time_.begin()->second);
    }

    /// Any one; null when there is none.
    pointer take_any() { return by_time_.empty() ? nullptr : take(by_time_.begin()->second); }

    millis next_due() const noexcept { return by_time_.empty() ? timing_wheel::never : by_time_.begin()->first; }
    std::size_t open() const noexcept { return open_.size(); }

    // --- the peer's, whose answers come later than the call that heard them

    /// Says which use of the number it is, because a peer may use it again once it is answered. Zero: it is open already.
    std::uint32_t postpone(std::uint32_t id) {
        if (!postponed_.emplace(id, next_use_).second) return 0;
        const auto use = next_use_;
        if (++next_use_ == 0) next_use_ = 1;
        return use;
    }
    bool is_postponed(std::uint32_t id) const { return postponed_.contains(id); }

    /// Whether it was still open; now it is not.
    bool settle(std::uint32_t id, std::uint32_t use) {
        const auto found = postponed_.find(id);
        if (found == postponed_.end() || found->second != use) return false;
        postponed_.erase(found);
        return true;
    }

    std::size_t running = 0;  ///< Coroutine handlers, those of plain events included.

    // --- the rooms that the peer asked for, which it may therefore leave

    void allow_to_leave(std::string_view room) { asked_rooms_.emplace(room); }
    bool may_leave(std::string_view room) const { return asked_rooms_.contains(room); }
    void left(std::string_view room) {
        if (const auto found = asked_rooms_.find(room); found != asked_rooms_.end()) asked_rooms_.erase(found);
    }

private:
    struct entry {
        pointer request;
        millis due = 0;
    };
    std::unordered_map<std::uint32_t, entry> open_;
    std::set<std::pair<millis, std::uint32_t>> by_time_;
    std::uint32_t next_id_ = 0;
    std::map<std::uint32_t, std::uint32_t> postponed_;  // ordered: the peer chooses the numbers
    std::uint32_t next_use_ = 1;
    std::set<std::string, std::less<>> asked_rooms_;
};

}  // namespace arke::core
