#pragma once

/// The client's half of the handshake, without a socket: what it sends, and what the answers mean (RFC 6455 §4.1, RFC 9110 §9.3.6).

#include <arke/base/compile.hpp>
#include <arke/wire/deflate.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace arke::http {

using header_fields = std::vector<std::pair<std::string, std::string>>;

/// A Sec-WebSocket-Key that nobody can foresee.
std::string random_key();

/// The request that opens a WebSocket. `extra` are the application's own headers; see find_header_fault(). `deflate`: compression
/// is offered.
std::string upgrade_request(std::string_view host, std::string_view target, std::string_view key,
                            const std::vector<std::string>& subprotocols, const header_fields& extra,
                            const std::optional<wire::deflate_terms>& deflate = {});

/// The request for a tunnel through a proxy. `credentials`: "user:password", or empty.
std::string connect_request(std::string_view authority, std::string_view credentials);

/// Why these headers cannot be sent with upgrade_request(): a sentence, or nothing.
std::string find_header_fault(const header_fields& extra);

/// An HTTP answer without its body.
struct reply {
    int status = 0;
    std::string reason;
    header_fields fields;

    /// All values of a header, whatever the case of its name.
    std::vector<std::string_view> values(std::string_view name) const;

    /// "404 Not Found".
    std::string text() const;
};

/// Gathers answers from bytes that come in any pieces. Bounded, and stops at what cannot be HTTP.
class reply_reader {
public:
    enum class result { more, complete, failed };

    reply_reader(std::size_t max_bytes, std::size_t max_fields) : max_bytes_{max_bytes}, max_fields_{max_fields} {}

    /// After `complete`, get() is the answer, and what follows on it waits for the next call: feed({}) reads on.
    /// Interim answers (1xx but 101) are passed over.
    result feed(std::string_view bytes);

    const reply& get() const noexcept { return reply_; }

    /// Why it failed: a sentence.
    const std::string& why() const noexcept { return why_; }

    /// What came behind the answer.
    const std::string& rest() const noexcept { return in_; }
    std::string take_rest() noexcept { return std::exchange(in_, {}); }

private:
    result fail(std::string why);
    bool parse(std::string_view block);

    std::size_t max_bytes_;
    std::size_t max_fields_;
    std::string in_;
    std::size_t scanned_ = 0;
    std::size_t interim_ = 0;  // bytes of answers that were passed over
    reply reply_;
    std::string why_;
};

/// Why the answer to upgrade_request() opens no WebSocket: a sentence that says what to do, or nothing. `chosen` is then the
/// subprotocol, where the server has chosen one; `deflate`, which was offered, what it has made of that.
std::string find_upgrade_fault(const reply& answer, std::string_view key, const std::vector<std::string>& offered,
                               std::optional<std::string>& chosen, std::optional<wire::deflate_terms>& deflate);

/// The same for connect_request().
std::string find_tunnel_fault(const reply& answer);

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/client_handshake.ipp>
#endif
