#pragma once

#include <cstdlib>
#include <iostream>
#include <string_view>

namespace arke::fuzz {

/// Ends the fuzzer, which then keeps the input, when something does not hold.
inline void require(bool holds, std::string_view otherwise) {
    if (holds) return;
    std::cerr << "found: " << otherwise << std::endl;
    std::abort();
}

}  // namespace arke::fuzz
