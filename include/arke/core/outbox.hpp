#pragma once

#include <arke/core/transport.hpp>
#include <arke/event/message.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace arke::core {

/// What waits for one peer, in order. A peer has one only while something waits that is not a single run of the loop's turn
/// buffer.
///
/// Small pieces are copied together; frames that many share are referenced, so that a broadcast to a thousand peers that do
/// not read is stored once.
class outbox {
public:
    /// Bytes that wait.
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

    /// Bytes of somebody else's, until own() is called.
    void add_view(std::string_view bytes) { add({bytes, nullptr, nullptr, 0}); }

    void add_shared(shared_frame_ptr frame, std::size_t from = 0) {
        const auto bytes = frame->view().substr(from);
        add({bytes, std::move(frame), nullptr, 0});
    }

    void add_copy(std::string_view bytes) {
        if (bytes.empty()) return;
        if (first_ != pieces_.size()) {
            auto& last = pieces_.back();
            const auto end = last.bytes.data() + last.bytes.size();
            if (last.own && static_cast<std::size_t>(last.own.get() + last.capacity - end) >= bytes.size()) {
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
        for (auto i = first_; i != pieces_.size() && count != out.size(); ++i) out[count++] = pieces_[i].bytes;
        return count;
    }

    /// The first `count` bytes are sent.
    void consume(std::size_t count) noexcept {
        size_ -= count;
        while (count != 0) {
            auto& head = pieces_[first_];
            const auto part = std::min(count, head.bytes.size());
            head.bytes.remove_prefix(part);
            count -= part;
            if (!head.bytes.empty()) return;
            head = {};
            ++first_;
        }
        if (first_ == pieces_.size()) {
            pieces_.clear();
            first_ = 0;
        } else if (first_ >= 64 && first_ * 2 >= pieces_.size()) {
            pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(first_));
            first_ = 0;
        }
    }

    /// Copies what add_view() only referred to.
    void own() {
        if (std::none_of(pieces_.begin() + static_cast<std::ptrdiff_t>(first_), pieces_.end(),
                         [](const piece& p) { return !p.frame && !p.own; })) {
            return;
        }
        auto before = std::exchange(pieces_, std::vector<piece>{});
        const auto first = std::exchange(first_, 0);
        size_ = 0;
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
    };

    void add(piece p) {
        if (p.bytes.empty()) return;
        size_ += p.bytes.size();
        pieces_.push_back(std::move(p));
    }

    std::vector<piece> pieces_;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
};

}  // namespace arke::core
