#pragma once

#include <arke/wire/frame.hpp>

namespace arke::wire {

ARKE_INLINE std::optional<frame_fault> frame_reader::parse_header(const char* at, const frame_limits& limits,
                                                                  header& out) const noexcept {
    const auto byte = [at](std::size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(at[i])); };
    const unsigned first = byte(0);
    const unsigned second = byte(1);

    const unsigned reserved = first & 0x70U;
    if (reserved != 0 && (reserved != rsv1 || (mode_ & takes_deflated) == 0))
        return violation("a reserved bit without an extension");
    out.deflated = reserved != 0;
    const unsigned code = first & 0x0FU;
    if (code > 10 || (code > 2 && code < 8)) return violation("a reserved opcode");
    out.code = static_cast<opcode>(code);
    out.final = (first & 0x80U) != 0;

    const bool masked = (second & 0x80U) != 0;
    if (masked != is_server()) {
        return violation(masked ? "a masked frame from a server" : "an unmasked frame from a client");
    }

    std::size_t next = 2;
    out.size = second & 0x7FU;
    if (out.size >= 126) {
        const std::size_t width = out.size == 126 ? 2 : 8;
        out.size = 0;
        for (; next < 2 + width; ++next) out.size = out.size << 8U | byte(next);
        if ((width == 2 && out.size < 126) || (width == 8 && out.size <= 0xFFFF)) {
            return violation("a length that is not in its shortest form");
        }
        if (out.size >> 63U != 0) return violation("a length with its highest bit set");
    }
    if (masked) std::memcpy(&out.mask, at + next, 4);

    if (out.deflated && (is_control(out.code) || out.code == opcode::continuation))
        return violation("a compressed frame that begins no message");
    if (is_control(out.code)) {
        if (!out.final) return violation("a control frame in fragments");
        if (out.size > max_control_payload) return violation("a control frame over 125 bytes");
        return std::nullopt;
    }
    if (out.code == opcode::continuation && !in_fragments()) return violation("a continuation of nothing");
    if (out.code != opcode::continuation && in_fragments()) return violation("a new message within fragments");

    const std::size_t before = in_fragments() ? gathered_->size : 0;
    const auto most = size_limit(in_fragments() ? gathered_->deflated : out.deflated, limits);
    if (out.size > most - std::min(before, most)) {
        return frame_fault{close_code::message_too_big, errc::message_too_big, "a message over max_message_size"};
    }
    return std::nullopt;
}

ARKE_INLINE std::optional<frame_fault> frame_reader::begin(const header& h, const frame_limits& limits) {
    if (!gathered_) gathered_ = std::make_unique<gathering>();
    auto& g = *gathered_;
    g.frame = h;
    g.left = h.size;
    g.in_frame = true;
    if (is_control(h.code)) {
        g.control_size = 0;
        return std::nullopt;
    }
    if (!g.started) {
        g.started = true;
        g.is_text = h.code == opcode::text;
        g.deflated = h.deflated;
        g.budget = limits.budget;
    }
    if (++g.fragments > limits.max_fragments) {
        return frame_fault{close_code::policy_violation, errc::frame_violation, "a message of more than max_fragments"};
    }
    const std::size_t need = g.size + static_cast<std::size_t>(h.size);
    if (need > g.capacity) {
        // The last frame gets what it needs; fragments grow by doubling, within the limit. What is not yet written is addresses
        // and no memory, so a long announcement that is never followed by data is cheap. To grow with what comes would cost the
        // reader half as much again for 64 KiB, and a hundred times as much for 1 MiB, for which malloc() then asks for pages again
        // and again.
        const std::size_t capacity =
            h.final ? need
                    : std::min(size_limit(g.deflated, limits), std::max({need, g.capacity * 2, std::size_t{256}}));
        auto grown = std::make_unique_for_overwrite<char[]>(capacity);
        if (g.size != 0) std::memcpy(grown.get(), g.data.get(), g.size);
        g.data = std::move(grown);
        g.capacity = capacity;
    }
    return std::nullopt;
}

ARKE_INLINE std::optional<frame_fault> frame_reader::took(std::size_t count) {
    auto& g = *gathered_;
    const bool control = is_control(g.frame.code);
    char* const at = control ? g.control.data() + g.control_size : g.data.get() + g.size;
    if (is_server()) {
        apply_mask(at, count, g.frame.mask);
        g.frame.mask = rotate_mask(g.frame.mask, count);
    }
    g.left -= count;
    if (control) {
        g.control_size = static_cast<std::uint8_t>(g.control_size + count);
        return std::nullopt;
    }
    // What makes a message whole takes nothing: it is about to go.
    if (g.budget != nullptr && (g.left != 0 || !g.frame.final)) {
        if (!g.budget->take(count)) {
            return frame_fault{close_code::try_again_later, errc::messages_full,
                               "messages over max_total_message_bytes"};
        }
        g.counted += count;
    }
    g.size += count;
    if (g.is_text && !g.deflated && !g.utf8.write(std::string_view{at, count})) return bad_text();
    return std::nullopt;
}

}  // namespace arke::wire
