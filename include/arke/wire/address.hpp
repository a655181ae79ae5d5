#pragma once

/// IP addresses and networks as text and as bytes, for what decides by addresses below the sockets.

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <arke/base/compile.hpp>

namespace arke::wire {

/// An IP address. One of IPv4 stands as ::ffff:a.b.c.d, so that the same address is the same bytes however it was written.
struct ip_address {
    std::array<unsigned char, 16> bytes{};

    bool is_v4() const noexcept;

    /// "192.0.2.7", "2001:db8::7": as RFC 5952 has it.
    std::string text() const;

    friend bool operator==(const ip_address&, const ip_address&) = default;
};

/// The address of four or sixteen bytes.
ip_address ip_of_bytes(std::span<const unsigned char> bytes) noexcept;

/// Nothing for a text that is no address. Strict: four decimal numbers without leading zeros, or IPv6 without brackets and zone.
std::optional<ip_address> parse_ip(std::string_view text) noexcept;

/// The address of a socket as connections know it: "unix", or an IP address perhaps with a zone ("fe80::1%eth0").
std::optional<ip_address> parse_ip_of_socket(std::string_view text) noexcept;

/// A list of addresses, networks, and "unix".
class network_list {
public:
    network_list() = default;

    /// Adds "10.1.2.3", "10.0.0.0/8", "::1", "fd00::/8" or "unix". False, and nothing, for another text, and for a network with
    /// bits behind its prefix.
    bool add(std::string_view text);

    bool empty() const noexcept { return networks_.empty() && !has_unix_; }
    bool contains(const ip_address& address) const noexcept;

    /// Of a socket's address.
    bool contains(std::string_view address) const noexcept;

private:
    struct network {
        ip_address first;
        unsigned bits;
    };
    std::vector<network> networks_;
    bool has_unix_ = false;
};

/// Whether that is a UNIX-domain socket's, with or without the process at its other end.
bool is_unix(std::string_view address) noexcept;

/// What counts as one address where connections and handshakes are counted: of IPv6 the first 64 bits, which is what a customer
/// has. What is no IP address is a group of its own.
std::string address_group(std::string_view address);

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/address.ipp>
#endif
