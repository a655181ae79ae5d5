#pragma once

#include <arke/base/config.hpp>
#include <arke/wire/deflate.hpp>

#include <cstddef>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace arke::core {

/// What an endpoint is ready for, as the handshake says it.
inline wire::deflate_terms terms_of(const compression_config& c) noexcept {
    return {c.send_context_takeover, c.receive_context_takeover, static_cast<std::uint8_t>(c.send_window_bits),
            static_cast<std::uint8_t>(c.receive_window_bits)};
}

/// What the connections of one loop compress and inflate with: a compressor of each size and one inflater for all of them, and
/// where a connection's context goes on, those of its own.
///
/// On its loop only.
class compression {
public:
    /// Memory to compress or inflate into, which goes back when it is done with. What a handler reads of it stays, also when the
    /// handler has others inflated.
    class lease {
    public:
        explicit lease(compression& from) : from_{from} {
            if (from_.spare_.empty()) return;
            buffer_ = std::move(from_.spare_.back());
            from_.spare_.pop_back();
        }
        ~lease() {
            if (buffer_.capacity == 0 || buffer_.capacity > most_kept) return;
            buffer_.size = 0;
            if (from_.spare_.size() != from_.spare_.capacity()) from_.spare_.push_back(std::move(buffer_));
        }
        lease(const lease&) = delete;
        lease& operator=(const lease&) = delete;

        wire::byte_buffer& operator*() noexcept { return buffer_; }
        wire::byte_buffer* operator->() noexcept { return &buffer_; }

    private:
        compression& from_;
        wire::byte_buffer buffer_;
    };

    compression() { spare_.reserve(4); }
    compression(const compression&) = delete;
    compression& operator=(const compression&) = delete;

    /// Appends what the message becomes without any before it.
    void deflate_alone(const compression_config& c, int window_bits, std::string_view message, wire::byte_buffer& out) {
        const int bits = wire::window_for(message.size(), window_bits);
        auto& by = alone(c.level, bits, wire::memory_level_for(bits, c.memory_level));
        by.forget();  // before, because what came last may have had no memory to its end
        by.deflate(message, out);
    }

    wire::inflater& shared_inflater() {
        if (!inflater_) inflater_.emplace();
        inflater_->forget();
        return *inflater_;
    }

    wire::deflater& own_deflater(const void* of, const compression_config& c, int window_bits) {
        auto& own = own_[of].out;
        if (!own) own.emplace(c.level, window_bits, c.memory_level);
        return *own;
    }
    wire::inflater& own_inflater(const void* of, int window_bits) {
        auto& own = own_[of].in;
        if (!own) own.emplace(window_bits);
        return *own;
    }

    /// What is sent to this one next refers to nothing before it.
    void forget_sent(const void* of) noexcept {
        if (const auto found = own_.find(of); found != own_.end() && found->second.out) found->second.out->forget();
    }

    /// It has ended.
    void forget(const void* of) noexcept { own_.erase(of); }

    /// How many connections have something of their own here.
    std::size_t owners() const noexcept { return own_.size(); }

private:
    // Larger buffers are for rare messages.
    static constexpr std::size_t most_kept = 128UL * 1024;

    struct sized {
        int level;
        int window_bits;
        int memory_level;
        wire::deflater by;
    };
    wire::deflater& alone(int level, int window_bits, int memory_level) {
        for (auto& each : alone_) {
            if (each.level == level && each.window_bits == window_bits && each.memory_level == memory_level)
                return each.by;
        }
        return alone_
            .emplace_back(sized{level, window_bits, memory_level, wire::deflater{level, window_bits, memory_level}})
            .by;
    }

    struct contexts {
        std::optional<wire::inflater> in;
        std::optional<wire::deflater> out;
    };

    std::vector<wire::byte_buffer> spare_;
    std::vector<sized> alone_;
    std::optional<wire::inflater> inflater_;
    std::unordered_map<const void*, contexts> own_;
};

}  // namespace arke::core
