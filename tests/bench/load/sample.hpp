#pragma once

#include <string_view>

namespace bench {

/// The data of the "order" event, written as nlohmann/json writes it, so that what comes back has the same bytes.
inline constexpr std::string_view sample_order =
    R"({"count":6,"express":true,"item":"green tea","price":12.5,"tags":[3,14,159]})";

}  // namespace bench
