#pragma once

/// The HTTP half of a WebSocket connection, as decisions: are these bytes a request that two parsers cannot read in two ways
/// (RFC 9112), is it a WebSocket upgrade (RFC 6455 §4.2), may this page connect, and in which subprotocol.
///
/// The order in which a request meets them:
///
///     bytes as they arrive   header_scanner       finds the end of the header block, stops at the first wrong byte
///     the whole block        check_header_block   what smuggles requests past a proxy, before any other parser sees it
///     the parsed request     check_upgrade        is it an upgrade at all
///                            same_origin, origin_listed
///                            choose_subprotocol, accept_key
///
/// All of it is pure; remote input never throws anything but std::bad_alloc. Threads: any.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arke/base/compile.hpp>
#include <arke/wire/request.hpp>

namespace arke::wire {

/// An HTTP answer that says no. It is complete but for Content-Length and Date. Its Connection header says `close`, and
/// whoever sends it must: what follows a refused request is never read as another one.
struct http_refusal {
    int status = 400;
    std::string reason;  ///< The phrase of the status: "Bad Request".
    std::string body;    ///< A sentence for a person that says what to mend.
    std::vector<std::pair<std::string, std::string>> headers;
};

/// A refusal with this status and sentence, as plain text, and these headers besides.
http_refusal refuse_http(int status, std::string_view sentence,
                         std::vector<std::pair<std::string, std::string>> headers = {});

/// "Not Found" for 404; empty for a status that RFC 9110 does not name.
std::string_view reason_phrase(int status) noexcept;

/// What is wrong with a request line or a header block.
enum class header_fault : std::uint8_t {
    bad_request_line,       ///< Not "method SP target SP HTTP/x.y". 400.
    unsupported_version,    ///< Neither HTTP/1.0 nor HTTP/1.1. 505.
    target_too_long,        ///< Over header_limits::max_target, or the target alone fills the block. 414.
    block_too_large,        ///< Over header_limits::max_header_bytes. 431.
    too_many_fields,        ///< Over header_limits::max_fields. 431.
    too_many_empty_lines,   ///< More than four before the request line. 400.
    folded_line,            ///< A line that begins with a space or a tab. 400.
    bare_line_feed,         ///< LF without CR. 400.
    bare_carriage_return,   ///< CR without LF. 400.
    control_byte,           ///< NUL or another control byte. 400.
    space_before_colon,     ///< "Name : value". 400.
    bad_field_name,         ///< Empty, without a colon, or not a token. 400.
    unfinished,             ///< The block does not end with its empty line, or goes on behind it. 400.
    no_host,                ///< HTTP/1.1 without a Host. 400.
    several_hosts,          ///< More than one Host. 400.
    bad_host,               ///< A Host that is no "name", "name:port", "[v6]" or "[v6]:port". 400.
    length_and_encoding,    ///< Content-Length and Transfer-Encoding together. 400.
    bad_transfer_encoding,  ///< One that does not end with "chunked", or any in HTTP/1.0. 400.
    unknown_coding,         ///< Another coding before "chunked". 501.
    bad_content_length,     ///< Not a number, or said twice. 400.
};

/// The answer to a faulty header block.
http_refusal refusal_of(header_fault fault);

/// The bounds of a header block. Each is the largest that is allowed.
struct header_limits {
    std::size_t max_header_bytes = 8 * 1024;  ///< From the request line to the empty line, both included.
    std::size_t max_fields = 100;
    std::size_t max_target = 8 * 1024;
};

/// Finds the end of a header block in bytes that come in any pieces, looks at each byte once, and stops at the first that
/// cannot be part of one. So a peer that will never send the empty line (bare LF, a TLS hello, rubbish) is answered at once
/// and not at the handshake's deadline.
///
///     block   = *4CRLF method SP target SP version CRLF *( name ":" value CRLF ) CRLF
///     method  = 1*32tchar
///     target  = 1*(%x21-7E)
///     name    = 1*tchar
///     value   = *( HTAB / %x20-7E / %x80-FF )
///
/// Holds no reference to what it was given. After `complete`, the block is [begin(), end()) of all bytes ever fed; what
/// follows was not looked at.
class header_scanner {
public:
    enum class result : std::uint8_t {
        more,      ///< The block goes on.
        complete,  ///< The empty line was found.
        refused,   ///< See fault(). Nothing changes that but reset().
    };

    explicit header_scanner(header_limits limits = {}) noexcept : limits_{limits} {}

    /// Looks at the next bytes. At the end of the block, and after a refusal, further bytes are not consumed.
    result feed(std::string_view bytes) noexcept;

    /// Where the request line begins: behind the empty lines that were skipped (RFC 9112 §2.2).
    std::size_t begin() const noexcept { return begin_; }

    /// How many bytes were consumed; after `complete`, the first byte behind the block.
    std::size_t end() const noexcept { return seen_; }

    /// Why it was refused.
    header_fault fault() const noexcept { return fault_; }

    /// Begins the next block.
    void reset() noexcept { *this = header_scanner{limits_}; }

private:
    enum class state : std::uint8_t {
        leading,
        leading_end,
        method,
        target,
        version,
        line_end,
        line_start,
        name,
        value,
        block_end,
        complete,
        refused
    };

    void take(unsigned char byte) noexcept;
    void refuse(header_fault why) noexcept;
    void refuse_byte(unsigned char byte, header_fault otherwise) noexcept;

    header_limits limits_;
    std::size_t begin_ = 0;
    std::size_t seen_ = 0;
    std::size_t fields_ = 0;
    std::size_t part_ = 0;  // bytes of the method, target or version so far
    state state_ = state::leading;
    std::uint8_t empty_lines_ = 0;
    header_fault fault_ = header_fault::unfinished;
};

/// What is wrong with a complete header block, request line and empty line included; nullopt when nothing is.
std::optional<header_fault> find_header_fault(std::string_view block, const header_limits& limits = {});

/// The same as an answer.
std::optional<http_refusal> check_header_block(std::string_view block, const header_limits& limits = {});

/// Whether the request is a WebSocket upgrade that this server understands; else the answer: 405, 426 or 400.
std::optional<http_refusal> check_upgrade(const request& r);

/// The default rule about pages of other sites. A request without an Origin comes from no browser and is allowed. Else the
/// Origin must be http or https with the host and port of the Host header. The scheme itself is not compared, for TLS may end
/// at a proxy; it only says which port is meant where none is written.
bool same_origin(const request& r);

/// Whether `origin` stands in `origins`, but for the case of letters. "*" there allows all.
bool origin_listed(std::string_view origin, std::span<const std::string> origins) noexcept;

/// The first subprotocol of the client's list that the server supports. `offered` are the values of its
/// Sec-WebSocket-Protocol headers; what is no token in them is passed over.
std::optional<std::string> choose_subprotocol(std::span<const std::string_view> offered,
                                              std::span<const std::string_view> supported);

/// The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key.
std::string accept_key(std::string_view key);

/// Whether `text` is a token (RFC 9110 §5.6.2): a header name, a method, a subprotocol.
bool is_token(std::string_view text) noexcept;

/// Whether `text` may stand as the value of a header: no control byte but the tab, so no CR, LF and NUL.
bool is_field_value(std::string_view text) noexcept;

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/handshake.ipp>
#endif
