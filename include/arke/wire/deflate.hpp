#pragma once

#include <arke/base/compile.hpp>
#include <arke/base/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// permessage-deflate (RFC 7692): what two ends agree on in the handshake, and messages compressed and inflated in memory.
///
///     extensions = extension *( "," extension )               of all Sec-WebSocket-Extensions fields together
///     extension  = "permessage-deflate" *( ";" parameter )    or any other name, which is passed over
///     parameter  = "server_no_context_takeover" / "client_no_context_takeover"
///                / "server_max_window_bits" "=" bits
///                / "client_max_window_bits" [ "=" bits ]      the value is a must in an answer
///     bits       = "8" / "9" / "10" ... "15"                  quotes around it are allowed
///
/// A message is compressed as a whole, before it is cut into fragments: RSV1 stands on its first frame. What DEFLATE's sync
/// flush ends with, 00 00 FF FF, is not sent.
///
/// All of it is pure; remote input never throws anything but std::bad_alloc. Threads: any, one at a time for an object.
namespace arke::wire {

/// What one end is ready for, or both have agreed on, as one of them sees it.
struct deflate_terms {
    bool send_takeover = false;  ///< What we send may refer to what we sent before.
    bool receive_takeover = false;
    std::uint8_t send_window_bits = 15;  ///< How far back it may refer, as a power of two: 8 to 15.
    std::uint8_t receive_window_bits = 15;

    friend bool operator==(const deflate_terms&, const deflate_terms&) = default;
};

/// What a connection may come to keep for its context takeover: of Beast's zlib 7 KiB and a window to receive, and to send 6 KiB, four
/// windows and what `memory_level` asks for.
constexpr std::size_t context_bytes(const deflate_terms& agreed, int memory_level) noexcept {
    constexpr std::size_t one = 1;
    std::size_t bytes = 0;
    if (agreed.receive_takeover) bytes += 7 * 1024 + (one << agreed.receive_window_bits);
    if (agreed.send_takeover) bytes += 6 * 1024 + (one << (agreed.send_window_bits + 2)) + (one << (memory_level + 9));
    return bytes;
}

/// A server's choice among what a client offers in its Sec-WebSocket-Extensions headers: the first offer that is well-formed and
/// can be met, and the value of the header that says so. Nothing: no compression.
///
/// A client that has not said that its window can be limited gets no context takeover where `ready` has a smaller one, so that the
/// memory for it stays what the config says.
struct deflate_answer {
    deflate_terms terms;
    std::string header;
};
std::optional<deflate_answer> accept_deflate(std::span<const std::string_view> offers, const deflate_terms& ready);

/// The value of the header with which a client offers this.
std::string offer_deflate(const deflate_terms& ready);

/// Why the server's answer is none to that offer: a sentence, or nothing. `agreed` is then what it has chosen, if anything.
std::string find_deflate_fault(std::span<const std::string_view> answers, const deflate_terms& offered,
                               std::optional<deflate_terms>& agreed);

/// Bytes that grow without being written first.
struct byte_buffer {
    std::unique_ptr<char[]> data;
    std::size_t size = 0;
    std::size_t capacity = 0;

    std::string_view view() const noexcept { return {data.get(), size}; }

    /// Room for `more` bytes behind the first `size`.
    char* reserve(std::size_t more) {
        if (capacity - size < more) {
            const auto grown = size + more;
            auto made = std::make_unique_for_overwrite<char[]>(grown);
            if (size != 0) std::memcpy(made.get(), data.get(), size);
            data = std::move(made);
            capacity = grown;
        }
        return data.get() + size;
    }
};

/// Inflates messages, one after another. With context takeover each connection has its own; without, one serves all.
class inflater {
public:
    explicit inflater(int window_bits = 15);
    ~inflater();

    enum class result : std::uint8_t {
        done,
        too_big,  ///< More than `limit` bytes come out. No more than that have been written.
        garbage,  ///< It is no DEFLATE, refers to what never was, or ends in the middle.
    };

    /// Appends what a message inflates to. `compressed` is the payload of all its frames. After anything but `done` only
    /// forget() makes sense.
    result inflate(std::string_view compressed, std::size_t limit, byte_buffer& out);

    /// The next message refers to nothing before it.
    void forget() noexcept;

private:
    struct body;
    std::unique_ptr<body> body_;
};

/// Compresses messages, one after another.
class deflater {
public:
    /// Level 1 to 9; a window of 8 to 15 bits; 1 to 9 for the memory.
    deflater(int level, int window_bits, int memory_level);
    deflater(deflater&&) noexcept;
    ~deflater();

    /// Appends the payload that a message becomes. It must not be empty: there would be nothing to flush.
    void deflate(std::string_view message, byte_buffer& out);

    /// The next message refers to nothing before it.
    void forget() noexcept;

private:
    struct body;
    std::unique_ptr<body> body_;
};

/// The smallest window that reaches back over a whole message of this size: a compressor with a larger one finds nothing more in
/// it, and takes longer to begin anew.
constexpr int window_for(std::size_t message, int most) noexcept {
    // DEFLATE's compressor looks back over its window but for the 262 bytes that it looks ahead.
    int bits = 9;
    while (bits < most && (std::size_t{1} << static_cast<unsigned>(bits)) < message + 262) ++bits;
    return std::max(bits, 9);
}

/// How much memory a compressor needs to take such a window full at once.
constexpr int memory_level_for(int window_bits, int most) noexcept { return std::clamp(window_bits - 6, 1, most); }

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/deflate.ipp>
#endif
