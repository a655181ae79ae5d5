#pragma once

#include <arke/base/keyed_hash.hpp>
#include <arke/core/transport.hpp>
#include <arke/event/message.hpp>

#include <boost/intrusive/list.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace arke::core {

using backlog_hook = boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

/// What waits for somebody who does not read, as far as it counts for the server: server_load::note(). It stands in its loop's list
/// until it goes.
class backlog : public backlog_hook {
public:
    explicit backlog(stream_user* of = nullptr) noexcept : of_{of} {}
    backlog(const backlog&) = delete;
    backlog& operator=(const backlog&) = delete;

    stream_user* of() const noexcept { return of_; }
    std::size_t counted() const noexcept { return counted_; }
    void count(std::size_t bytes) noexcept { counted_ = bytes; }

private:
    stream_user* of_;
    std::size_t counted_ = 0;
};

/// Those of one loop.
using backlogs = boost::intrusive::list<backlog, boost::intrusive::constant_time_size<false>>;

/// What waits for one peer, in order. A peer has one only while something waits that is not a single run of the loop's turn
/// buffer.
///
/// Small pieces are copied together; frames that many share are referenced, so that a broadcast to a thousand peers that do
/// not read is stored once. A frame with a key stands alone, and can be taken back as long as no byte of it has been sent.
class outbox : public backlog {
public:
    using backlog::backlog;

    /// Bytes that wait.
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

    /// About what it takes to keep them. A frame with a key stands alone, with a piece, a copy and a place of its own, whose size by
    /// far passes that of a small frame.
    std::size_t cost() const noexcept { return size_ + kept_; }
    static std::size_t cost_of(const std::string& key) noexcept { return key.empty() ? 0 : 160 + key.size(); }

    /// Bytes of somebody else's, until own() is called.
    void add_view(std::string_view bytes) { add({bytes, nullptr, nullptr, 0}); }

    void add_shared(shared_frame_ptr frame, const std::string& key = {}) {
        const auto bytes = frame->view();
        add({bytes, std::move(frame), nullptr, 0}, key);
    }

    /// The end of a frame whose beginning is sent.
    void add_rest(shared_frame_ptr frame, std::string_view rest) { add({rest, std::move(frame), nullptr, 0}); }

    void add_copy(std::string_view bytes, const std::string& key) {
        if (key.empty()) return add_copy(bytes);
        auto own = std::make_unique_for_overwrite<char[]>(bytes.size());
        std::memcpy(own.get(), bytes.data(), bytes.size());
        const std::string_view copy{own.get(), bytes.size()};
        add({copy, nullptr, std::move(own), bytes.size()}, key);
    }

    /// The cost() that forget() of this key would take back: none where there is no such frame, or it is on its way.
    std::size_t cost_with(const std::string& key) const {
        if (!places_) return 0;
        const auto found = places_->find(key);
        return found == places_->end() ? 0 : pieces_[found->second - base_].bytes.size() + cost_of(key);
    }

    /// Takes back the frame of this key. False: there is none, or it is on its way.
    bool forget(const std::string& key) {
        if (!places_) return false;
        const auto found = places_->find(key);
        if (found == places_->end()) return false;
        auto& p = pieces_[found->second - base_];
        size_ -= p.bytes.size();
        p = {};
        places_->erase(found);
        kept_ -= cost_of(key);
        ++holes_;
        if (holes_ > 64 && holes_ * 2 > pieces_.size() - first_) close_holes();
        return true;
    }

    void add_copy(std::string_view bytes) {
        if (bytes.empty()) return;
        if (first_ != pieces_.size()) {
            auto& last = pieces_.back();
            const auto end = last.bytes.data() + last.bytes.size();
            if (last.own && last.key == nullptr &&
                static_cast<std::size_t>(last.own.get() + last.capacity - end) >= bytes.size()) {
                std::memcpy(last.own.get() + (end - last.own.get()), bytes.data(), bytes.size());
                last.bytes = {last.bytes.data(), last.bytes.size() + bytes.size()};
                size_ += bytes.size();
                return;
            }
        }
        // The first copy is often the only one; from the second on there is a stream of them.
        const std::size_t capacity =
            std::max(bytes.size(), first_ == pieces_.size() ? std::size_t{256} : std::size_t{4096});
        auto own = std::make_unique_for_overwrite<char[]>(capacity);
        std::memcpy(own.get(), bytes.data(), bytes.size());
        const std::string_view copy{own.get(), bytes.size()};
        add({copy, nullptr, std::move(own), capacity});
    }

    /// Fills `out` with what should be sent first; returns how many pieces that is.
    std::size_t peek(std::span<segment> out) const noexcept {
        std::size_t count = 0;
        for (auto i = first_; i != pieces_.size() && count != out.size(); ++i) {
            if (!pieces_[i].bytes.empty()) out[count++] = pieces_[i].bytes;
        }
        return count;
    }

    /// The first `count` bytes are sent.
    void consume(std::size_t count) noexcept {
        size_ -= count;
        while (count != 0) {
            auto& head = pieces_[first_];
            if (head.bytes.empty()) {
                --holes_;
                ++first_;
                continue;
            }
            if (head.key != nullptr) {
                kept_ -= cost_of(*head.key);
                places_->erase(places_->find(*std::exchange(head.key, nullptr)));
            }
            const auto part = std::min(count, head.bytes.size());
            head.bytes.remove_prefix(part);
            count -= part;
            if (!head.bytes.empty()) return;
            head = {};
            ++first_;
        }
        if (size_ == 0) {
            base_ += pieces_.size();
            pieces_.clear();
            first_ = holes_ = 0;
        } else if (first_ >= 64 && first_ * 2 >= pieces_.size()) {
            pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(first_));
            base_ += first_;
            first_ = 0;
        }
    }

    /// Copies what add_view() only referred to.
    void own() {
        if (std::none_of(pieces_.begin() + static_cast<std::ptrdiff_t>(first_), pieces_.end(),
                         [](const piece& p) { return !p.bytes.empty() && !p.frame && !p.own; })) {
            return;
        }
        // Views come before the peer lags, and keys only after that.
        auto before = std::exchange(pieces_, std::vector<piece>{});
        const auto first = std::exchange(first_, 0);
        size_ = holes_ = 0;
        for (auto i = first; i != before.size(); ++i) {
            auto& p = before[i];
            if (p.frame || p.own) {
                add(std::move(p));
            } else {
                add_copy(p.bytes);
            }
        }
    }

private:
    struct piece {
        std::string_view bytes;
        shared_frame_ptr frame;
        std::unique_ptr<char[]> own;
        std::size_t capacity = 0;
        const std::string* key = nullptr;  // of places_
    };

    void add(piece p, const std::string& key = {}) {
        if (p.bytes.empty()) return;
        const auto size = p.bytes.size();
        if (!key.empty()) {
            if (!places_) places_ = std::make_unique<places>();
            const auto [at, is_new] = places_->try_emplace(key, base_ + pieces_.size());
            // One that is still there was not forgotten: it waits like any other from now on.
            if (is_new) kept_ += cost_of(key);
            if (!is_new) pieces_[std::exchange(at->second, base_ + pieces_.size()) - base_].key = nullptr;
            p.key = &at->first;
        }
        pieces_.push_back(std::move(p));
        size_ += size;
    }

    void close_holes() {
        std::size_t to = 0;
        for (auto from = first_; from != pieces_.size(); ++from) {
            if (pieces_[from].bytes.empty()) continue;
            if (pieces_[from].key != nullptr) (*places_)[*pieces_[from].key] = base_ + to;
            pieces_[to++] = std::move(pieces_[from]);
        }
        pieces_.resize(to);
        first_ = holes_ = 0;
    }

    using places = std::unordered_map<std::string, std::size_t, arke::detail::keyed_hash, std::equal_to<>>;

    std::vector<piece> pieces_;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
    std::size_t kept_ = 0;            // of cost(), beside the bytes
    std::size_t holes_ = 0;           // among the pieces from first_ on
    std::size_t base_ = 0;            // pieces_[i] has the number base_ + i, which stays
    std::unique_ptr<places> places_;  // of the frames with a key, by number
};

}  // namespace arke::core
