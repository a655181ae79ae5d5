#pragma once

/// Whose request it is that came by proxies, as X-Forwarded-For and Forwarded (RFC 7239) tell it.
///
///     X-Forwarded-For = node *( "," node )
///     Forwarded       = element *( "," element )
///     element         = pair *( ";" pair )             ; at most one "for" in each
///     pair            = token "=" ( token / quoted )
///     node            = IPv4 [ ":" port ] / "[" IPv6 "]" [ ":" port ] / IPv6 / "unknown" / "_" name
///
/// Each proxy adds, at the right, whom it has its bytes from. So the list is read from the right, as long as it is told by those who
/// are trusted; what stands left of that anybody may have written.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arke/base/compile.hpp>
#include <arke/wire/address.hpp>

namespace arke::wire {

/// Somebody in such a list.
struct forwarded_node {
    ip_address address;
    std::uint16_t port = 0;  ///< 0: not told.
};

/// Nothing for a name, for "unknown", and for what is no node at all.
std::optional<forwarded_node> parse_node(std::string_view text) noexcept;

/// The nodes of all headers of that name, in order, each as it was written but for quotes. What is no Forwarded (an element that
/// tells no address, or does not follow the grammar) gives an empty node in its place.
std::vector<std::string> x_forwarded_nodes(const std::vector<std::string_view>& headers);
std::vector<std::string> forwarded_nodes(const std::vector<std::string_view>& headers);

/// Who asks: goes from `last`, the trusted proxy that we have our bytes from, back through the list, as long as who told it is
/// trusted and tells an address. So it is the rightmost that is not trusted, or the leftmost where all are; who hides behind
/// a name or "unknown" counts as the one who told so.
struct forwarded_client {
    std::string address;
    std::uint16_t port = 0;
};
forwarded_client client_of(forwarded_client last, const std::vector<std::string>& nodes, const network_list& trusted);

}  // namespace arke::wire

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/wire/forwarded.ipp>
#endif
