#pragma once

/// The body of an HTTP request, out of bytes that come in any pieces (RFC 9112 §6 and §7).
///
///     body    = length OCTET                     ; Content-Length
///             / *chunk last *trailer CRLF        ; Transfer-Encoding: chunked
///     chunk   = size [ext] CRLF size OCTET CRLF  ; size: 1*16HEXDIG, greater than zero
///     last    = 1*16"0" [ext] CRLF
///     ext     = ";" *( HTAB / %x20-7E / %x80-FF )
///     trailer = name ":" value CRLF              ; passed over
///
/// Stricter than the RFC where two parsers could differ: no space around a size, no LF without its CR. Pure; remote input
/// throws nothing but std::bad_alloc.

#include <arke/base/compile.hpp>
#include <arke/wire/handshake.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace arke::wire {

/// What is wrong with a body.
enum class body_fault : std::uint8_t {
    too_large,    ///< More than may be: known from the length, or from the size of a chunk, before it is read. 413.
    bad_chunk,    ///< No chunk as above. 400.
    bad_trailer,  ///< A trailer that is no header. 400.
    overhead,     ///< More extensions and trailers than anybody needs. 400.
};

/// The answer to a faulty body.
http_refusal refusal_of(body_fault fault);

/// Gathers one body. After `complete`, what follows it was not looked at.
class body_reader {
public:
    enum class result : std::uint8_t {
        more,
        complete,
        refused,  ///< See fault(). Nothing changes that.
    };

    /// Bytes of extensions and trailers together that a body in chunks may have, and of the trailers' lines.
    static constexpr std::size_t max_overhead = 8 * 1024;

    /// Of a request with this Content-Length, or in chunks where there is none. `most`: bytes that it may have.
    body_reader(std::optional<std::uint64_t> length, std::size_t most);

    /// How it stands before anything came: a length of zero is complete, one over the bound refused.
    result state() const noexcept;

    /// Looks at the next bytes; consumed() says at how many.
    result feed(std::string_view bytes);

    /// Of the bytes of the last feed().
    std::size_t consumed() const noexcept { return consumed_; }

    body_fault fault() const noexcept { return fault_; }

    /// What has come so far.
    const std::string& text() const noexcept { return text_; }
    std::string take() noexcept { return std::move(text_); }

private:
    enum class at : std::uint8_t {
        data,  // of a length
        size,
        extension,
        size_end,
        chunk,
        chunk_end,
        chunk_end_lf,
        trailer_start,
        trailer_name,
        trailer_value,
        trailer_end,
        last_lf,
        complete,
        refused
    };

    void take_byte(unsigned char byte) noexcept;
    void begin_chunk() noexcept;
    void refuse(body_fault why) noexcept;

    std::string text_;
    std::uint64_t left_ = 0;  // of the length, or of the chunk
    std::size_t most_;
    std::size_t consumed_ = 0;
    std::size_t overhead_ = 0;
    std::uint8_t digits_ = 0;
    at at_;
    body_fault fault_ = body_fault::bad_chunk;
};

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/body.ipp>
#endif
