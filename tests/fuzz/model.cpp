// A server's whole core beside its plain model, in an order that the fuzzer chooses: see tests/support/model.hpp.
#include <cstdint>
#include <iostream>

#include "tests/fuzz/finding.hpp"
#include "tests/support/model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span<const std::uint8_t> bytes{data, size};
    arke::test::model one{bytes};
    const auto failure = one.run();
    if (failure.empty()) return 0;
    arke::test::model again{bytes, true};
    static_cast<void>(again.run());
    std::cerr << again.trace();
    arke::fuzz::require(false, failure);
    return 0;
}
