#include <arke/base/error.hpp>

#include <set>
#include <string>

#include "tests/support/catch.hpp"

using arke::errc;

TEST_CASE("every error has a sentence of its own, and what is none says so") {
    std::set<std::string> sentences;
    int count = 0;
    for (int value = 1; value <= static_cast<int>(errc::messages_full); ++value) {
        sentences.insert(arke::make_error_code(static_cast<errc>(value)).message());
        ++count;
    }
    CHECK(sentences.size() == static_cast<std::size_t>(count));
    CHECK(sentences.count("unknown") == 0);
    CHECK(arke::make_error_code(static_cast<errc>(0)).message() == "unknown");
    CHECK(arke::make_error_code(static_cast<errc>(count + 1)).message() == "unknown");
    CHECK(std::string{arke::category().name()} == "arke");
    CHECK(arke::error_code{errc::replaced} == errc::replaced);
}
