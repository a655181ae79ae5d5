#pragma once

/// The HTTP request that opened a connection, as plain owned data.
///
/// A connection keeps its request for life, so all of it lies in one block of memory:
///
///     block  = method target remote-address *field
///     field  = name-size value-size name value        ; sizes: 32 bits, native order
///
/// Threads: const functions from any. The views that it returns live as long as the request and are moved by nothing but an
/// assignment to it.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arke/base/compile.hpp>
#include <arke/wire/tls_session.hpp>

namespace arke {

namespace wire {

/// Whether two texts are equal but for the case of ASCII letters, as HTTP compares names.
bool same_ignoring_case(std::string_view a, std::string_view b) noexcept;

/// `text` without the spaces and tabs around it.
std::string_view trimmed(std::string_view text) noexcept;

/// `text` with each %XX replaced by its byte, once. A percent sign without two hex digits stays as it is.
/// With `plus_is_space`, as in forms and queries, a plus becomes a space.
std::string percent_decoded(std::string_view text, bool plus_is_space = false);

}  // namespace wire

/// What the client asked for: where, with which headers, and from which address. Nothing here was checked beyond its syntax;
/// everything but the remote address is the client's claim.
class request {
public:
    /// One header as it was sent, without the spaces around the value.
    struct field {
        std::string_view name;
        std::string_view value;
    };

    class field_iterator;
    class field_list;

    /// An empty request: what connection::request() gives where config::keep_request is off.
    request() = default;

    /// Copies everything into one block. `version` is 11 for HTTP/1.1.
    /// Throws std::length_error when all of it together exceeds 4 GiB.
    request(std::string_view method, std::string_view target, unsigned version,
            const std::vector<std::pair<std::string_view, std::string_view>>& headers,
            std::string_view remote_address = {}, std::uint16_t remote_port = 0, tls_session_ptr tls = {});

    /// "GET", for every request that became a connection.
    std::string_view method() const noexcept { return part(0, method_size_); }

    /// The target as it was sent: path and query, still encoded.
    std::string_view target() const noexcept { return part(method_size_, target_size_); }

    /// 10 for HTTP/1.0, 11 for HTTP/1.1.
    unsigned version() const noexcept { return version_; }

    /// The target up to the question mark, still encoded. Of a target with scheme and host, the part behind them.
    std::string_view path() const noexcept;

    /// path() with each %XX decoded once. It may hold any byte, "..", or NUL: don't open files by it.
    std::string decoded_path() const;

    /// What follows the question mark, still encoded; empty when there is none.
    std::string_view query_string() const noexcept;

    /// The value of a query parameter, decoded as a form (`+` is a space); of several the first.
    ///
    ///     /chat?name=Ada+L.&beta      query("name") is "Ada L.", query("beta") is "", query("x") is nullopt
    std::optional<std::string> query(std::string_view name) const;

    /// The first header of this name, whatever its case; empty when there is none.
    std::string_view header(std::string_view name) const noexcept;

    /// All headers of this name, in order.
    std::vector<std::string_view> header_values(std::string_view name) const;

    bool has_header(std::string_view name) const noexcept;

    /// Every header in the order it was sent.
    ///
    ///     for (auto [name, value] : c.request().headers()) …
    field_list headers() const noexcept;

    /// The value of a cookie, without quotes around it and otherwise as it was sent; of several the first. Names are
    /// compared exactly.
    std::optional<std::string> cookie(std::string_view name) const;

    /// The peer's address as text, without a port: "192.0.2.7", "2001:db8::7"; "unix" of who came by a UNIX-domain socket. Behind
    /// a proxy of listener_config::trusted_proxies the client's; behind another the proxy's.
    std::string_view remote_address() const noexcept {
        const auto written = part(method_size_ + target_size_, address_size_);
        return written.substr(0, written.find(' '));
    }

    /// 0 where nobody told it.
    std::uint16_t remote_port() const noexcept { return port_; }

    /// What TLS has agreed on, and the client's certificate where it has one; null of a plain connection. Behind a proxy it is
    /// the proxy's.
    const tls_session* tls() const noexcept { return tls_.get(); }

    /// The process at the other end of a UNIX-domain socket, as the system tells it; nothing for others.
    struct process {
        long id = 0;
        unsigned long user = 0;
        unsigned long group = 0;
    };
    std::optional<process> remote_process() const noexcept;

private:
    std::string_view part(std::size_t from, std::size_t size) const noexcept {
        return std::string_view{block_}.substr(from, size);
    }

    std::string block_;
    std::uint32_t method_size_ = 0;
    std::uint32_t target_size_ = 0;
    std::uint32_t address_size_ = 0;
    std::uint16_t port_ = 0;
    std::uint16_t version_ = 0;
    tls_session_ptr tls_;
};

/// Walks over the headers of a request. Forward; it stays valid as long as the request.
class request::field_iterator {
public:
    using iterator_category = std::forward_iterator_tag;
    using iterator_concept = std::forward_iterator_tag;
    using value_type = field;
    using difference_type = std::ptrdiff_t;
    using pointer = const field*;
    using reference = const field&;

    field_iterator() = default;
    explicit field_iterator(std::string_view rest) noexcept : rest_{rest} { read(); }

    reference operator*() const noexcept { return field_; }
    pointer operator->() const noexcept { return &field_; }

    field_iterator& operator++() noexcept {
        rest_.remove_prefix(prefix + field_.name.size() + field_.value.size());
        read();
        return *this;
    }

    field_iterator operator++(int) noexcept {
        auto before = *this;
        ++*this;
        return before;
    }

    friend bool operator==(const field_iterator& a, const field_iterator& b) noexcept {
        return a.rest_.size() == b.rest_.size();
    }

private:
    static constexpr std::size_t prefix = 2 * sizeof(std::uint32_t);
    void read() noexcept;

    std::string_view rest_;
    field field_;
};

/// The headers of a request, as a range.
class request::field_list {
public:
    explicit field_list(std::string_view fields) noexcept : fields_{fields} {}

    field_iterator begin() const noexcept { return field_iterator{fields_}; }
    field_iterator end() const noexcept { return {}; }
    std::size_t size() const noexcept { return static_cast<std::size_t>(std::distance(begin(), end())); }
    bool empty() const noexcept { return fields_.empty(); }

private:
    std::string_view fields_;
};

inline request::field_list request::headers() const noexcept {
    return field_list{std::string_view{block_}.substr(method_size_ + target_size_ + address_size_)};
}

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/request.ipp>
#endif
