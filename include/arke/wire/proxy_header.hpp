#pragma once

/// The header by which a proxy says whose bytes follow (the PROXY protocol of HAProxy, versions 1 and 2).
///
///     header  = v1 / v2
///     v1      = "PROXY " ( tcp / unknown ) CRLF                          ; 107 bytes at most
///     tcp     = ("TCP4" / "TCP6") SP source SP destination SP port SP port
///     unknown = "UNKNOWN" *( any byte but CR and LF )
///     v2      = %x0D.0A.0D.0A.00.0D.0A "QUIT" %x0A  version-and-command family length rest
///     version-and-command = %x20 (LOCAL) / %x21 (PROXY)
///     family  = 4 bits: none, IPv4, IPv6, UNIX; 4 bits: none, stream, datagram
///     length  = 2 bytes, of the rest: the addresses (12, 36 or 216 bytes, the source first), then whatever a later version may
///               have added, which is skipped; 4,096 at most
///
/// LOCAL, UNKNOWN, no family and datagrams mean the connection itself: the proxy asks for its own sake, mostly for our health,
/// or for somebody whose address it does not know, such as who has come to it by a UNIX-domain socket (HAProxy does that).

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <arke/base/compile.hpp>

namespace arke::wire {

/// Reads the header in bytes that come in any pieces, and refuses it at the first that cannot be part of one. Keeps no reference to
/// what it was given, and 107 bytes of its own.
class proxy_header_reader {
public:
    enum class result : std::uint8_t {
        more,      ///< The header goes on.
        complete,  ///< It is over; what it said is in source().
        refused,   ///< It is none. Nothing changes that.
    };

    struct address {
        std::string text;  ///< "192.0.2.7", "2001:db8::7", or "unix".
        std::uint16_t port = 0;
    };

    /// What a header of version 2 may have behind its first 16 bytes.
    static constexpr std::size_t max_rest = 4096;

    /// Looks at the next bytes, as far as they belong to the header; consumed() tells how many did.
    result feed(std::string_view bytes);

    /// Of the bytes of the last feed().
    std::size_t consumed() const noexcept { return consumed_; }

    /// Whose bytes follow; nothing when it is the proxy itself.
    const std::optional<address>& source() const noexcept { return source_; }

private:
    static constexpr std::size_t max_text = 107;

    result take_text();
    result take_binary();
    result read_line();
    result refuse() noexcept { return result_ = result::refused; }

    std::array<char, max_text> kept_{};  // the line; of version 2 the addresses as far as they matter
    std::size_t size_ = 0;               // of that
    std::size_t skip_ = 0;               // bytes of the header that are still to come and matter to nobody
    std::size_t consumed_ = 0;
    result result_ = result::more;
    std::optional<address> source_;
};

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/proxy_header.ipp>
#endif
