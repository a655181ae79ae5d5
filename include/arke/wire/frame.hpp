#pragma once

#include <arke/base/bytes.hpp>
#include <arke/base/close_code.hpp>
#include <arke/base/compile.hpp>
#include <arke/base/error.hpp>
#include <arke/wire/utf8.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

/// The frames of RFC 6455 §5.2, read and written in memory. No sockets and no clock.
///
///     frame   = flags length [ length16 | length64 ] [ mask ] payload
///     flags   = FIN RSV1 RSV2 RSV3 opcode(4)
///     length  = MASK length(7)            126: length16 follows, 127: length64 follows, the shortest form is a must
///     mask    = 4 bytes                   from a client always, from a server never
namespace arke::wire {

enum class opcode : std::uint8_t {
    continuation = 0,
    text = 1,
    binary = 2,
    close = 8,
    ping = 9,
    pong = 10,
};

constexpr bool is_control(opcode code) noexcept { return static_cast<std::uint8_t>(code) >= 8; }

/// The most that a control frame may carry (RFC 6455 §5.5).
inline constexpr std::size_t max_control_payload = 125;

/// The longest header: flags, length, eight bytes of length, mask.
inline constexpr std::size_t max_frame_header = 14;

/// Bytes of an unmasked header before this many bytes of payload.
constexpr std::size_t frame_header_size(std::size_t payload) noexcept {
    return payload < 126 ? 2 : payload <= 0xFFFF ? 4 : 10;
}

/// Says in the first byte of a message that it is compressed (RFC 7692 §6).
inline constexpr unsigned rsv1 = 0x40;

/// Writes an unmasked header of a final frame; returns where the payload starts.
inline char* write_frame_header(char* out, opcode code, std::size_t payload, bool deflated = false) noexcept {
    out[0] = static_cast<char>(0x80U | static_cast<unsigned>(code) | (deflated ? rsv1 : 0U));
    if (payload < 126) {
        out[1] = static_cast<char>(payload);
        return out + 2;
    }
    const int bytes = payload <= 0xFFFF ? 2 : 8;
    out[1] = bytes == 2 ? 126 : 127;
    out += 2;
    for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) *out++ = static_cast<char>((payload >> shift) & 0xFFU);
    return out;
}

/// Applies a mask in place. `key` holds the mask's bytes in memory order, rotated so that its first byte meets data[0].
inline void apply_mask(char* data, std::size_t size, std::uint32_t key) noexcept {
    // Blocks, which at -O2 some compilers do not make by themselves; an unrolled loop over an array of the key is slower.
    const std::uint64_t wide = (static_cast<std::uint64_t>(key) << 32U) | key;
    const auto blend = [data](std::size_t at, auto mask) {
        auto block = mask;
        std::memcpy(&block, data + at, sizeof block);
        block ^= mask;
        std::memcpy(data + at, &block, sizeof block);
    };
    std::size_t i = 0;
#ifdef __GNUC__
    using block = std::uint64_t __attribute__((vector_size(16)));
    const block twice{wide, wide};
    for (; i + 32 <= size; i += 32) {
        blend(i, twice);
        blend(i + 16, twice);
    }
#endif
    for (; i + 8 <= size; i += 8) blend(i, wide);
    if ((size & 4U) != 0) {
        blend(i, key);
        i += 4;
    }
    if (i == size) return;
    std::array<char, 4> tail{};
    std::memcpy(tail.data(), &key, 4);
    for (std::size_t j = 0; i != size; ++i, ++j) data[i] = static_cast<char>(data[i] ^ tail[j]);
}

inline constexpr std::size_t mask_size = 4;

/// Makes a frame of a client out of one of a server that stands `mask_size` bytes behind `at`, with a header of `header` bytes:
/// it then begins at `at`.
inline void mask_frame(char* at, std::size_t header, std::size_t payload, std::uint32_t key) noexcept {
    std::memmove(at, at + mask_size, header);
    at[1] = static_cast<char>(static_cast<unsigned char>(at[1]) | 0x80U);
    std::memcpy(at + header, &key, mask_size);
    apply_mask(at + header + mask_size, payload, key);
}

/// The mask as it continues after `consumed` bytes.
inline std::uint32_t rotate_mask(std::uint32_t key, std::size_t consumed) noexcept {
    std::array<char, 4> from{};
    std::array<char, 4> to{};
    std::memcpy(from.data(), &key, 4);
    for (std::size_t i = 0; i < 4; ++i) to[i] = from[(i + consumed) % 4];
    std::memcpy(&key, to.data(), 4);
    return key;
}

/// Which end of the connection reads: a server wants masked frames, a client unmasked ones.
enum class role : std::uint8_t { server, client };

/// Why reading cannot go on: the code for the close frame, and what to report.
struct frame_fault {
    close_code code;
    errc what;
    std::string_view detail;
};

/// What a close frame said.
struct close_reason {
    close_code code = close_code::no_status;
    std::string_view text{};
};

/// Reads the payload of a close frame (RFC 6455 §5.5.1, §7.4).
inline std::optional<frame_fault> parse_close(std::string_view payload, close_reason& out) noexcept {
    out = {};
    if (payload.empty()) return std::nullopt;
    if (payload.size() == 1) {
        return frame_fault{close_code::protocol_error, errc::frame_violation, "a close frame of one byte"};
    }
    const auto high = static_cast<unsigned char>(payload[0]);
    const auto low = static_cast<unsigned char>(payload[1]);
    const auto code = static_cast<close_code>(high << 8U | low);
    if (!may_be_sent(code)) {
        return frame_fault{close_code::protocol_error, errc::frame_violation, "a close code that may not be sent"};
    }
    payload.remove_prefix(2);
    if (!is_utf8(payload)) {
        return frame_fault{close_code::invalid_payload, errc::frame_violation, "a close reason that is not UTF-8"};
    }
    out = {code, payload};
    return std::nullopt;
}

/// How many bytes may have come of messages that are not whole yet, over all readers that share it. Any thread.
class message_budget {
public:
    explicit message_budget(std::size_t at_most = ~std::size_t{0}) noexcept : most{at_most} {}

    /// False, and nothing, where it would be more than may be.
    bool take(std::size_t bytes) noexcept {
        if (bytes <= most && taken_.fetch_add(bytes, std::memory_order_relaxed) <= most - bytes) return true;
        if (bytes <= most) give_back(bytes);
        return false;
    }
    void give_back(std::size_t bytes) noexcept { taken_.fetch_sub(bytes, std::memory_order_relaxed); }
    std::size_t taken() const noexcept { return taken_.load(std::memory_order_relaxed); }

    std::size_t most;  ///< Set before the first reader.

private:
    std::atomic<std::size_t> taken_{0};
};

struct frame_limits {
    std::size_t max_message_size;
    std::size_t max_fragments;
    message_budget* budget = nullptr;  ///< Null: without bound. Outlives the readers.
};

/// The most that a compressed message may take on the wire where this is the most that it may inflate to: what DEFLATE makes of
/// bytes that it cannot compress, in the worst of its ways, and some more for a sender that flushes in between.
constexpr std::size_t max_deflated_size(std::size_t inflated) noexcept {
    const std::size_t more = inflated / 8 + inflated / 64 + 64;
    return inflated > ~std::size_t{0} - more ? ~std::size_t{0} : inflated + more;
}

/// Turns a stream of bytes into messages and control frames.
///
/// Whole frames are unmasked where they stand and handed over without a copy. Only a frame that is cut, or a message in
/// fragments, is gathered in memory of its own, and that is given back when the message is complete: an idle reader is
/// 24 bytes.
///
/// A sink has
///     bool on_message(bool is_text, std::string_view payload);
///     bool on_control(opcode, std::string_view payload);
/// and answers whether to go on. The payload is valid during the call. Text has been checked to be UTF-8, fragment by
/// fragment as it comes, so that the first wrong byte ends the reading.
///
/// Where compressed messages have been agreed on, and a sink has
///     bool on_deflated(bool is_text, std::string_view payload);
/// it gets those as they came, all fragments together, up to max_deflated_size(): inflating only a whole message needs no
/// inflater of its own for each that is not complete. Whether text is UTF-8 shows when it is inflated.
class frame_reader {
public:
    explicit frame_reader(role r = role::server) noexcept : mode_{static_cast<std::uint8_t>(r)} {}

    /// Compressed messages have been agreed on.
    void allow_deflated() noexcept { mode_ |= takes_deflated; }

    /// Reads all of `in`, whose bytes are changed. Returns the fault that ended it, if any; after a fault, or after the sink
    /// said no, the reader must not be used again.
    template <class Sink>
    ARKE_ALWAYS_INLINE std::optional<frame_fault> read(std::span<char> in, const frame_limits& limits, Sink& sink);

    /// Where the rest of a cut frame belongs. Filling (a part of) it and calling filled() spares a copy; ignoring it is
    /// right as well.
    std::span<char> wanted() noexcept;

    /// `count` bytes of wanted() were written.
    template <class Sink>
    std::optional<frame_fault> filled(std::size_t count, const frame_limits& limits, Sink& sink);

    /// Whether a message or a frame has begun and not ended.
    bool in_message() const noexcept { return stashed_ != 0 || gathered_ != nullptr; }

    /// Forgets a message that has begun, because nothing more is read. Not from within a sink.
    void forget() noexcept {
        gathered_.reset();
        stashed_ = 0;
    }

    /// A number of the owner's that begins as 0 with the first frame that is cut, and lasts as long as the message; null while
    /// there is none, or only a part of its header.
    std::int64_t* mark() noexcept { return gathered_ ? &gathered_->mark : nullptr; }

private:
    struct header {
        opcode code = opcode::continuation;
        bool final = false;
        bool deflated = false;
        std::uint64_t size = 0;
        std::uint32_t mask = 0;
    };

    // A message that is not complete, and the frame of it (or the control frame within it) that is being read.
    struct gathering {
        gathering() = default;
        gathering(const gathering&) = delete;
        gathering& operator=(const gathering&) = delete;
        ~gathering() {
            if (budget != nullptr) budget->give_back(counted);
        }

        message_budget* budget = nullptr;
        std::size_t counted = 0;  // in the budget
        std::unique_ptr<char[]> data;
        std::size_t size = 0;
        std::size_t capacity = 0;
        std::size_t fragments = 0;
        std::int64_t mark = 0;
        bool started = false;
        bool is_text = false;
        bool deflated = false;
        utf8_validator utf8;

        bool in_frame = false;
        header frame;
        std::uint64_t left = 0;
        std::uint8_t control_size = 0;
        std::array<char, max_control_payload> control;
    };

    static frame_fault violation(std::string_view detail) noexcept {
        return {close_code::protocol_error, errc::frame_violation, detail};
    }
    static frame_fault bad_text() noexcept {
        return {close_code::invalid_payload, errc::frame_violation, "text that is not UTF-8"};
    }

    std::size_t header_size(unsigned char second) const noexcept {
        const unsigned length = second & 0x7FU;
        return 2U + (length == 126 ? 2U : length == 127 ? 8U : 0U) + ((second & 0x80U) != 0 ? 4U : 0U);
    }

    bool in_fragments() const noexcept { return gathered_ && gathered_->started; }

    std::optional<frame_fault> parse_header(const char* at, const frame_limits& limits, header& out) const noexcept;
    std::optional<frame_fault> begin(const header& h, const frame_limits& limits);
    std::optional<frame_fault> took(std::size_t count);

    /// Frames of every kind, whole or cut.
    template <class Sink>
    std::optional<frame_fault> read_any(std::span<char> in, const frame_limits& limits, Sink& sink);

    template <class Sink>
    std::optional<frame_fault> finish_frame(Sink& sink, bool& go_on);

    /// Where the sink takes none, nobody has allowed any.
    template <class Sink>
    static bool give_deflated(Sink& sink, bool is_text, std::string_view payload) {
        if constexpr (requires { sink.on_deflated(is_text, payload); })
            return sink.on_deflated(is_text, payload);
        else
            return sink.on_message(is_text, payload);
    }

    static constexpr std::uint8_t takes_deflated = 2;  // beside the role
    static std::size_t size_limit(bool deflated, const frame_limits& limits) noexcept {
        return deflated ? max_deflated_size(limits.max_message_size) : limits.max_message_size;
    }
    bool is_server() const noexcept { return (mode_ & 1U) == 0; }

    std::unique_ptr<gathering> gathered_;
    std::array<char, max_frame_header> stash_{};  // a header that is cut
    std::uint8_t stashed_ = 0;
    std::uint8_t mode_;
};

template <class Sink>
std::optional<frame_fault> frame_reader::read(std::span<char> in, const frame_limits& limits, Sink& sink) {
    // Nearly every frame: a whole message of a client, short, with nothing begun before it. Its first two bytes answer what
    // the other way asks one by one.
    while (in.size() >= 6 && !gathered_ && stashed_ == 0 && is_server()) {
        const auto first = static_cast<unsigned char>(in[0]);
        const std::size_t size = static_cast<unsigned char>(in[1]) ^ 0x80U;
        const bool is_text = first == 0x81;
        if ((!is_text && first != 0x82) || size >= 126 || size > in.size() - 6 || size > limits.max_message_size) break;
        std::uint32_t key = 0;
        std::memcpy(&key, in.data() + 2, 4);
        const auto payload = in.subspan(6, size);
        in = in.subspan(6 + size);
        apply_mask(payload.data(), size, key);
        const std::string_view message{payload.data(), size};
        if (is_text && !is_utf8(message)) return bad_text();
        if (!sink.on_message(is_text, message)) return std::nullopt;
    }
    if (in.empty()) return std::nullopt;
    return read_any(in, limits, sink);
}

template <class Sink>
std::optional<frame_fault> frame_reader::read_any(std::span<char> in, const frame_limits& limits, Sink& sink) {
    char* at = in.data();
    char* const end = at + in.size();
    bool go_on = true;

    while (at != end) {
        const auto available = static_cast<std::size_t>(end - at);

        if (gathered_ && gathered_->in_frame) {
            auto& g = *gathered_;
            const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(g.left, available));
            char* const to = is_control(g.frame.code) ? g.control.data() + g.control_size : g.data.get() + g.size;
            std::memcpy(to, at, count);
            at += count;
            if (auto fault = took(count)) return fault;
            if (g.left == 0) {
                if (auto fault = finish_frame(sink, go_on)) return fault;
                if (!go_on) return std::nullopt;
            }
            continue;
        }

        header h;
        if (stashed_ == 0 && available >= 2 && available >= header_size(static_cast<unsigned char>(at[1]))) {
            if (auto fault = parse_header(at, limits, h)) return fault;
            at += header_size(static_cast<unsigned char>(at[1]));
        } else {
            // The header is cut: two bytes tell its length, then the rest of it is waited for.
            std::size_t need = stashed_ < 2 ? 2 : header_size(static_cast<unsigned char>(stash_[1]));
            while (at != end && stashed_ < need) {
                stash_[stashed_++] = *at++;
                if (stashed_ == 2) need = header_size(static_cast<unsigned char>(stash_[1]));
            }
            if (stashed_ < need) return std::nullopt;
            stashed_ = 0;
            if (auto fault = parse_header(stash_.data(), limits, h)) return fault;
        }

        const auto rest = static_cast<std::size_t>(end - at);
        const bool whole = h.size <= rest;
        if (whole && (is_control(h.code) || (h.final && !in_fragments()))) {
            const auto size = static_cast<std::size_t>(h.size);
            if (is_server()) apply_mask(at, size, h.mask);
            const std::string_view payload{at, size};
            at += size;
            if (is_control(h.code)) {
                go_on = sink.on_control(h.code, payload);
            } else if (h.deflated) {
                go_on = give_deflated(sink, h.code == opcode::text, payload);
            } else {
                const bool is_text = h.code == opcode::text;
                if (is_text && !is_utf8(payload)) return bad_text();
                go_on = sink.on_message(is_text, payload);
            }
            if (!go_on) return std::nullopt;
            continue;
        }

        if (auto fault = begin(h, limits)) return fault;
        if (h.size == 0) {
            if (auto fault = finish_frame(sink, go_on)) return fault;
            if (!go_on) return std::nullopt;
        }
    }
    return std::nullopt;
}

template <class Sink>
std::optional<frame_fault> frame_reader::filled(std::size_t count, const frame_limits&, Sink& sink) {
    if (count == 0) return std::nullopt;
    if (auto fault = took(count)) return fault;
    if (gathered_->left != 0) return std::nullopt;
    bool go_on = true;
    return finish_frame(sink, go_on);
}

inline std::span<char> frame_reader::wanted() noexcept {
    if (!gathered_ || !gathered_->in_frame || is_control(gathered_->frame.code)) return {};
    return {gathered_->data.get() + gathered_->size, static_cast<std::size_t>(gathered_->left)};
}

template <class Sink>
std::optional<frame_fault> frame_reader::finish_frame(Sink& sink, bool& go_on) {
    auto& g = *gathered_;
    g.in_frame = false;
    if (is_control(g.frame.code)) {
        const auto code = g.frame.code;
        if (g.started) {
            go_on = sink.on_control(code, {g.control.data(), g.control_size});
        } else {
            const auto own = std::move(gathered_);
            go_on = sink.on_control(code, {own->control.data(), own->control_size});
        }
        return std::nullopt;
    }
    if (!g.frame.final) return std::nullopt;
    if (g.is_text && !g.deflated && !g.utf8.complete()) return bad_text();
    // The sink may read on from within (a handler that runs a nested loop must not find a half-consumed message).
    const auto own = std::move(gathered_);
    const std::string_view payload{own->data.get(), own->size};
    go_on = own->deflated ? give_deflated(sink, own->is_text, payload) : sink.on_message(own->is_text, payload);
    return std::nullopt;
}

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/frame.ipp>
#endif
