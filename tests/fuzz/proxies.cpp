// What proxies say of others: the header of the PROXY protocol whole and in pieces, X-Forwarded-For and Forwarded, addresses.
#include <arke/wire/forwarded.hpp>
#include <arke/wire/proxy_header.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/finding.hpp"

using namespace arke;
using arke::fuzz::require;
using reader = wire::proxy_header_reader;

namespace {

struct outcome {
    reader::result said;
    std::size_t consumed;
    std::string source;

    bool operator==(const outcome&) const = default;
};

outcome read(std::string_view bytes, std::size_t piece) {
    reader r;
    std::size_t at = 0;
    auto said = reader::result::more;
    while (at != bytes.size() && said == reader::result::more) {
        said = r.feed(bytes.substr(at, piece));
        require(r.consumed() != 0, "nothing was consumed");
        at += r.consumed();
    }
    require(!r.source() || said != reader::result::refused, "a header that is refused tells a source");
    if (said == reader::result::refused) at = 0;  // how far it looked is its own affair
    return {said, at, r.source() ? r.source()->text + " " + std::to_string(r.source()->port) : ""};
}

void check_address(std::string_view text) {
    const auto ip = wire::parse_ip(text);
    if (!ip) return;
    const auto again = wire::parse_ip(ip->text());
    require(again && *again == *ip, "an address that is another when it is read again");
    require(wire::address_group(ip->text()) == wire::address_group(text), "an address of two groups");
}

void check_forwarded(std::string_view text) {
    // Whatever a client has written to the left, what the trusted proxy adds counts.
    wire::network_list trusted;
    trusted.add("10.0.0.1");
    const std::string list = std::string{text} + ", 192.0.2.7";
    const auto client = wire::client_of({"10.0.0.1", 1}, wire::x_forwarded_nodes({list}), trusted);
    require(client.address == "192.0.2.7", "X-Forwarded-For believes its left");
    // Or, where that makes the header unreadable, the proxy itself.
    for (const std::string_view own : {", for=192.0.2.7", ", for=\"192.0.2.7:80\";proto=https"}) {
        const auto asks =
            wire::client_of({"10.0.0.1", 1}, wire::forwarded_nodes({std::string{text} + std::string{own}}), trusted);
        require(asks.address == "192.0.2.7" || asks.address == "10.0.0.1", "Forwarded believes its left");
    }
    for (const auto& node : wire::forwarded_nodes({text})) wire::parse_node(node);
    wire::network_list any;
    any.add(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
    const std::size_t piece = 1 + data[0] % 40;
    const auto whole = read(bytes, bytes.size() + 1);
    require(read(bytes, piece) == whole, "another header in pieces");
    check_address(bytes);
    check_forwarded(bytes);
    return 0;
}
