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

/// What becomes of an event where others wait before it for the same peer.
enum class urgency : std::uint8_t {
    normal,        ///< It waits too.
    now_or_never,  ///< It is dropped: emit_volatile().
    latest_only,   ///< It waits until a newer one of the same key comes: emit_latest().
};

/// What somebody wants to say, not yet in the words of any protocol: an event, or a native message. Views only.
struct outgoing {
    bool is_native = false;
    bool is_text = true;  ///< Of a native message.
    event_view event{};   ///< Of a native message only `data`.
    urgency how = urgency::normal;
    std::string_view key{};  ///< With urgency::latest_only, beside the event's name.

    static outgoing of(const event_view& e) noexcept { return {false, true, e}; }
    static outgoing of(const event_view& e, urgency how, std::string_view key = {}) noexcept {
        return {false, true, e, how, key};
    }
    static outgoing native(bool is_text, std::string_view data) noexcept { return {true, is_text, {{}, {}, data}}; }

    /// The frame's opcode and the size of its payload for this protocol.
    std::optional<protocol::form> measure(const protocol& p, std::string& why) const {
        if (is_native) return protocol::form{is_text ? wire::opcode::text : wire::opcode::binary, event.data.size()};
        return p.measure(event, why);
    }

    /// Writes header and payload.
    void write(char* out, const protocol& p, const protocol::form& form) const noexcept {
        out = wire::write_frame_header(out, form.code, form.size);
        if (!is_native) {
            p.write(out, event);
        } else if (form.size != 0) {
            std::memcpy(out, event.data.data(), form.size);
        }
    }
};

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
          kind_{out.event.kind},
          how_{out.how},
          is_native_{out.is_native},
          is_text_{out.is_text} {}

    ~message() {
        for (auto& slot : frames_) {
            if (auto* frame = slot.load(std::memory_order_relaxed)) intrusive_ptr_release(frame);
        }
    }

    message(const message&) = delete;
    message& operator=(const message&) = delete;

    outgoing view() const noexcept { return {is_native_, is_text_, {name_, kind_, data_}, how_, key_}; }

    /// The frame for the protocol of this index; null when it cannot carry the message. Any thread.
    shared_frame* frame(const protocol& p, std::size_t index) const {
        auto& slot = frames_[is_native_ ? 0 : index];
        if (auto* ready = slot.load(std::memory_order_acquire)) return ready;
        std::string why;
        const auto out = view();
        const auto form = out.measure(p, why);
        if (!form) return nullptr;
        shared_frame_ptr made{new shared_frame{wire::frame_header_size(form->size) + form->size}};
        out.write(made->data(), p, *form);
        shared_frame* expected = nullptr;
        // Two loops may make the same frame at once: the first one in serves both.
        if (slot.compare_exchange_strong(expected, made.get(), std::memory_order_acq_rel)) return made.detach();
        return expected;
    }

private:
    std::string name_;
    std::string data_;
    std::string key_;
    value_kind kind_;
    urgency how_;
    bool is_native_;
    bool is_text_;
    mutable std::array<std::atomic<shared_frame*>, max_protocols> frames_{};
};

using message_ptr = boost::intrusive_ptr<const message>;

}  // namespace arke
