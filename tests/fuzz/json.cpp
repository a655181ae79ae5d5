// The data of an event as every kind of type a handler may ask for: nothing throws, numbers keep their range, depth its bound, and
// what was read comes back when it is sent.
#include <arke/event/value.hpp>
#include <arke/wire/utf8.hpp>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/fuzz/finding.hpp"
#include "tests/support/choices.hpp"

using namespace arke;
using arke::fuzz::require;
using arke::test::choices;

namespace shop {

struct order {
    std::string item;
    int count = 0;
    bool operator==(const order&) const = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count)

struct cart {
    std::vector<order> orders;
    std::map<std::string, double> prices;
    std::pair<bool, std::int8_t> flags;
    bool operator==(const cart&) const = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(cart, orders, prices, flags)

enum class size { small, large };
NLOHMANN_JSON_SERIALIZE_ENUM(size, {{size::small, "small"}, {size::large, "large"}})

}  // namespace shop

namespace {

std::size_t depth_of(const nlohmann::json& j) {
    std::size_t below = 0;
    if (!j.is_structured()) return 0;
    for (const auto& each : j) below = std::max(below, depth_of(each));
    return below + 1;
}

template <class T>
void read_as(const event_view& event, const decode_limits& limits) {
    T value{};
    std::string why;
    if (!decode_value(event, limits, value, why)) {
        require(!why.empty(), "refused without a reason");
        require(wire::is_utf8(why), "a reason that is not UTF-8");
        return;
    }
    require(why.empty(), "a reason against what was read");
    if constexpr (std::is_same_v<T, nlohmann::json>)
        require(depth_of(value) <= limits.max_json_depth, "deeper than may be");
    if constexpr (std::is_floating_point_v<T>) require(std::isfinite(value), "a number without end");

    // Strings may be what no peer may be sent; all else may.
    encoded_value sent;
    try {
        sent = encode_value(value);
    } catch (const std::invalid_argument&) {
        require(!wire::is_utf8(event.data), "what was read cannot be sent");
        return;
    }
    T again{};
    require(decode_value({event.name, sent.kind(), sent.data()}, limits, again, why), "what was sent is not read");
    require(again == value, "something else comes back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    choices choose{{data, size}};
    const auto kind = static_cast<value_kind>(choose.below(5));
    const decode_limits limits{choose.of({128U, 1U, 3U})};
    const auto rest = choose.rest();
    // In memory of its own, without a terminator.
    const std::vector<char> bytes(rest.begin(), rest.end());
    const event_view event{"e", kind, {bytes.data(), bytes.size()}};

    read_as<bool>(event, limits);
    read_as<signed char>(event, limits);
    read_as<std::uint8_t>(event, limits);
    read_as<short>(event, limits);
    read_as<unsigned>(event, limits);
    read_as<std::int64_t>(event, limits);
    read_as<std::uint64_t>(event, limits);
    read_as<float>(event, limits);
    read_as<double>(event, limits);
    read_as<std::string>(event, limits);
    read_as<arke::bytes>(event, limits);
    read_as<nlohmann::json>(event, limits);
    read_as<std::vector<int>>(event, limits);
    read_as<std::vector<std::string>>(event, limits);
    read_as<std::map<std::string, std::vector<double>>>(event, limits);
    read_as<shop::order>(event, limits);
    read_as<shop::cart>(event, limits);
    read_as<shop::size>(event, limits);
    return 0;
}
