#pragma once

#include <arke/event/protocol.hpp>

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace arke {

/// A server's frame, header and payload, shared by all who are sent it. Immutable once filled.
class shared_frame : public boost::intrusive_ref_counter<shared_frame, boost::thread_safe_counter> {
public:
    explicit shared_frame(std::size_t size) : size_{size}, data_{std::make_unique_for_overwrite<char[]>(size)} {}

    char* data() noexcept { return data_.get(); }
    std::string_view view() const noexcept { return {data_.get(), size_}; }

private:
    std::size_t size_;
    std::unique_ptr<char[]> data_;
};

using shared_frame_ptr = boost::intrusive_ptr<shared_frame>;

/// How many protocols one endpoint may speak.
inline constexpr std::size_t max_protocols = 4;

/// What travels between loops and machines: immutable, reference-counted, the payload serialised once, and for each protocol
/// a frame that is made when the first receiver needs it.
class message : public boost::intrusive_ref_counter<message, boost::thread_safe_counter> {
public:
    explicit message(const outgoing& out)
        : name_{out.event.name},
          data_{out.event.data},
          key_{out.key},
          id_{out.id},
          kind_{out.event.kind},
          is_{out.is},
          how_{out.how},
          reason_{out.reason} {}

    ~message() {
        for (const auto* all : {&frames_, &deflated_}) {
            for (const auto& each : *all) {
                if (auto* frame = each.load(std::memory_order_relaxed)) intrusive_ptr_release(frame);
            }
        }
    }

    message(const message&) = delete;
    message& operator=(const message&) = delete;

    outgoing view() const noexcept { return {is_, how_, reason_, id_, {name_, kind_, data_}, key_}; }

    /// The frame for the protocol of this index; null when it cannot carry the message. Any thread.
    shared_frame* frame(const protocol& p, std::size_t index) const {
        const auto out = view();
        auto& kept = frames_[p.is_bare(out) ? 0 : index];
        if (auto* ready = kept.load(std::memory_order_acquire)) return ready;
        std::string why;
        const auto form = p.measure(out, why);
        if (!form) return nullptr;
        shared_frame_ptr made{new shared_frame{wire::frame_header_size(form->size) + form->size}};
        p.write_frame(made->data(), *form, out);
        return keep(kept, std::move(made));
    }

    /// The same compressed, as make() does it; null when it is better sent plain. Any thread.
    template <class Make>
    shared_frame* deflated(const protocol& p, std::size_t index, Make&& make) const {
        const std::size_t place = p.is_bare(view()) ? 0 : index;
        auto& kept = deflated_[place];
        if (auto* ready = kept.load(std::memory_order_acquire)) return ready;
        if ((incompressible_.load(std::memory_order_relaxed) >> place & 1U) != 0) return nullptr;
        if (shared_frame_ptr made = make()) return keep(kept, std::move(made));
        incompressible_.fetch_or(static_cast<std::uint8_t>(1U << place), std::memory_order_relaxed);
        return nullptr;
    }

private:
    using slot = std::atomic<shared_frame*>;

    // Two loops may make the same frame at once: the first one in serves both.
    static shared_frame* keep(slot& in, shared_frame_ptr made) noexcept {
        shared_frame* expected = nullptr;
        if (in.compare_exchange_strong(expected, made.get(), std::memory_order_acq_rel)) return made.detach();
        return expected;
    }

    std::string name_;
    std::string data_;
    std::string key_;
    std::uint32_t id_;
    value_kind kind_;
    outgoing::what is_;
    urgency how_;
    refusal_reason reason_;
    mutable std::atomic<std::uint8_t> incompressible_{0};  // a bit for each of deflated_
    mutable std::array<slot, max_protocols> frames_{};
    mutable std::array<slot, max_protocols> deflated_{};
};

using message_ptr = boost::intrusive_ptr<const message>;

}  // namespace arke
