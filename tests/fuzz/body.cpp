// Bodies of requests: whole and in pieces they are the same, never over their bound, and what is written as chunks is read so.
#include <arke/wire/body.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/finding.hpp"
#include "tests/support/choices.hpp"

using namespace arke;
using arke::fuzz::require;
using arke::test::choices;
using result = wire::body_reader::result;

namespace {

struct outcome {
    result said;
    std::size_t consumed;
    wire::body_fault fault;
    std::string text;

    bool operator==(const outcome&) const = default;
};

outcome read(std::string_view bytes, std::optional<std::uint64_t> length, std::size_t most,
             const std::vector<std::size_t>& cuts) {
    wire::body_reader reader{length, most};
    std::size_t at = 0;
    for (std::size_t i = 0; at != bytes.size() && reader.state() == result::more; ++i) {
        const auto count = cuts.empty() ? bytes.size() : cuts[i % cuts.size()];
        reader.feed(bytes.substr(at, count));
        require(reader.consumed() != 0, "nothing was consumed");
        at += reader.consumed();
        require(reader.text().size() <= most, "more than the bound");
    }
    return {reader.state(), at, reader.fault(), reader.take()};
}

/// The same content as chunks that end where the cuts say.
std::string in_chunks(std::string_view text, const std::vector<std::size_t>& cuts) {
    std::string out;
    for (std::size_t i = 0; !text.empty(); ++i) {
        const auto count = std::min(cuts.empty() ? text.size() : cuts[i % cuts.size()], text.size());
        constexpr std::string_view digits = "0123456789abcdef";
        if (count > 15) out += digits[count >> 4U & 15U];
        out += digits[count & 15U];
        out.append("\r\n").append(text.substr(0, count)).append("\r\n");
        text.remove_prefix(count);
    }
    return out + "0\r\n\r\n";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    choices choose{{data, size}};
    const auto most = choose.of<std::size_t>({0, 1, 20, 5000});
    std::optional<std::uint64_t> length;
    if (choose.one_in(3)) length = choose.below(100);
    std::vector<std::size_t> cuts;
    for (auto n = choose.below(6); n != 0; --n) cuts.push_back(1 + choose.below(100));
    const auto rest = choose.rest();
    const std::string bytes(rest.begin(), rest.end());

    const auto whole = read(bytes, length, most, {});
    require(read(bytes, length, most, cuts) == whole, "another body in pieces");
    if (whole.said == result::refused) require(wire::refusal_of(whole.fault).status >= 400, "a refusal that is none");
    if (length && whole.said == result::complete) require(whole.text.size() == *length, "another length");

    const auto chunks = in_chunks(bytes, cuts.empty() ? std::vector<std::size_t>{100} : cuts);
    const auto again = read(chunks + "GET", std::nullopt, bytes.size(), cuts);
    require(again.said == result::complete && again.text == bytes && again.consumed == chunks.size(),
            "chunks that were not read");
    return 0;
}
