#include <arke/wire/frame.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke::wire;
using arke::close_code;
using arke::errc;

namespace {

using namespace std::string_literals;

constexpr frame_limits default_limits{1024, 65'536};

constexpr unsigned fin = 0x80;
constexpr unsigned continuation = 0;
constexpr unsigned text = 1;
constexpr unsigned binary = 2;
constexpr unsigned goodbye = 8;
constexpr unsigned ping = 9;
constexpr unsigned pong = 10;

/// Flags and length, as a peer that may lie writes them.
std::string header(unsigned first, std::uint64_t size, bool masked) {
    const unsigned mask_bit = masked ? 0x80 : 0;
    const int width = size < 126 ? 0 : size <= 0xFFFF ? 2 : 8;
    std::string out(1, static_cast<char>(first));
    out += static_cast<char>(mask_bit | (width == 0 ? size : width == 2 ? 126U : 127U));
    for (int byte = width - 1; byte >= 0; --byte) out += static_cast<char>(size >> (byte * 8) & 0xFF);
    return out;
}

/// A frame as a client sends it.
std::string masked(unsigned first, std::string_view payload) {
    const std::string key = "\x9A\x05\xF1\x3C"s;
    std::string out = header(first, payload.size(), true) + key;
    for (std::size_t i = 0; i != payload.size(); ++i) out += static_cast<char>(payload[i] ^ key[i % 4]);
    return out;
}

/// A frame as a server sends it.
std::string plain(unsigned first, std::string_view payload) {
    return header(first, payload.size(), false).append(payload);
}

/// A sink that writes down what it hears, and says no after so many events.
struct listener {
    std::string heard;
    int says_no_at = -1;
    bool goes_on = true;

    bool on_message(bool is_text, std::string_view payload) { return note(is_text ? "text" : "binary", payload); }
    bool on_control(opcode code, std::string_view payload) {
        return note(code == opcode::close ? "close" : code == opcode::ping ? "ping" : "pong", payload);
    }
    bool note(const char* what, std::string_view payload) {
        if (!heard.empty()) heard += ' ';
        heard += what;
        // Long payloads are told by their size and a sum over their bytes and places.
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i != payload.size(); ++i) sum += (i + 1) * static_cast<unsigned char>(payload[i]);
        heard +=
            "(" +
            (payload.size() <= 40 ? std::string{payload} : std::to_string(payload.size()) + "#" + std::to_string(sum)) +
            ")";
        goes_on = goes_on && says_no_at-- != 0;
        return goes_on;
    }
    void note(const frame_fault& fault) {
        if (!heard.empty()) heard += ' ';
        heard += "fault(" + std::to_string(static_cast<unsigned>(fault.code)) + ")";
    }
};

enum class path { read, wanted_first };

/// What a reader tells of `input` that arrives in these pieces; what is left after the last of them is one more piece.
std::string read_pieces(const std::string& input, const std::vector<std::size_t>& sizes, path by,
                        const frame_limits& limits = default_limits, role r = role::server, int says_no_at = -1) {
    frame_reader reader{r};
    listener sink;
    sink.says_no_at = says_no_at;
    std::size_t at = 0;
    for (std::size_t n = 0; at != input.size(); ++n) {
        // A piece stands in memory of its own size, so that reading past it is noticed.
        std::size_t size = std::min(n < sizes.size() ? sizes[n] : input.size(), input.size() - at);
        std::vector<char> piece(input.begin() + static_cast<std::ptrdiff_t>(at),
                                input.begin() + static_cast<std::ptrdiff_t>(at + size));
        at += size;
        std::size_t used = 0;
        std::optional<frame_fault> fault;
        if (by == path::wanted_first) {
            const auto own = reader.wanted();
            used = std::min(own.size(), size);
            if (used != 0) std::memcpy(own.data(), piece.data(), used);
            fault = reader.filled(used, limits, sink);
        }
        if (!fault && sink.goes_on && used != size) fault = reader.read(std::span{piece}.subspan(used), limits, sink);
        if (fault) sink.note(*fault);
        if (fault || !sink.goes_on) break;
    }
    return sink.heard;
}

/// What a reader tells of `input`, whichever way it is cut: whole, at each place in two, byte by byte, in small pieces. Where two
/// ways differ, a sentence that says so.
std::string read_every_way(const std::string& input, const frame_limits& limits = default_limits, role r = role::server,
                           int says_no_at = -1) {
    const auto whole = read_pieces(input, {}, path::read, limits, r, says_no_at);
    const auto differs = [&](const std::vector<std::size_t>& sizes, const std::string& how) -> std::string {
        for (const auto by : {path::read, path::wanted_first}) {
            const auto cut = read_pieces(input, sizes, by, limits, r, says_no_at);
            if (cut != whole)
                return "whole: " + whole + "; " + how + (by == path::read ? "" : " by wanted()") + ": " + cut;
        }
        return {};
    };
    for (std::size_t at = 1; at < input.size(); ++at) {
        if (auto how = differs({at}, "cut at " + std::to_string(at)); !how.empty()) return how;
    }
    for (const std::size_t size : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{5}, std::size_t{17}}) {
        const std::vector<std::size_t> sizes(input.size() / size + 1, size);
        if (auto how = differs(sizes, "in pieces of " + std::to_string(size)); !how.empty()) return how;
    }
    return whole;
}

std::string hex(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        constexpr std::string_view digits = "0123456789ABCDEF";
        out += digits[static_cast<unsigned char>(c) >> 4];
        out += digits[static_cast<unsigned char>(c) & 15];
    }
    return out;
}

std::string written_header(opcode code, std::size_t size) {
    std::string out(max_frame_header, '?');
    out.resize(static_cast<std::size_t>(write_frame_header(out.data(), code, size) - out.data()));
    return out;
}

/// Pseudo-random bytes that are the same in every run.
std::string noise(std::size_t size, unsigned seed = 1) {
    std::mt19937 random{seed};
    std::string out(size, '\0');
    for (auto& c : out) c = static_cast<char>(random() & 0xFF);
    return out;
}

std::string close_payload(unsigned code, std::string_view reason = {}) {
    std::string out{static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
    return out.append(reason);
}

}  // namespace

// -------------------------------------------------------------------------------------------------------------- writing

TEST_CASE("a header is written in the shortest form") {
    CHECK(hex(written_header(opcode::text, 0)) == "8100");
    CHECK(hex(written_header(opcode::binary, 125)) == "827D");
    CHECK(hex(written_header(opcode::text, 126)) == "817E007E");
    CHECK(hex(written_header(opcode::text, 0xFFFF)) == "817EFFFF");
    CHECK(hex(written_header(opcode::text, 0x10000)) == "817F0000000000010000");
    CHECK(hex(written_header(opcode::binary, 0x01'0203'0405)) == "827F0000000102030405");
    CHECK(hex(written_header(opcode::close, 2)) == "8802");
    CHECK(hex(written_header(opcode::ping, 0)) == "8900");
    CHECK(hex(written_header(opcode::pong, 125)) == "8A7D");
}

TEST_CASE("what is written is read by a client, and its size was told before") {
    for (const std::size_t size :
         {0U, 1U, 2U, 124U, 125U, 126U, 127U, 1000U, 65'534U, 65'535U, 65'536U, 65'537U, 200'000U}) {
        const auto head = written_header(opcode::binary, size);
        CHECK(head.size() == frame_header_size(size));
        const auto payload = noise(size);
        listener expected;
        expected.note("binary", payload);
        CHECK(read_pieces(head + payload, {size / 2}, path::read, {200'000, 10}, role::client) == expected.heard);
    }
}

TEST_CASE("a mask is applied at every size and every alignment") {
    const std::string key = "\x11\x22\x84\xF8"s;
    std::uint32_t word = 0;
    std::memcpy(&word, key.data(), 4);
    for (std::size_t size = 0; size != 70; ++size) {
        for (std::size_t offset = 0; offset != 8; ++offset) {
            auto data = noise(offset + size + 1);
            auto expected = data;
            for (std::size_t i = 0; i != size; ++i)
                expected[offset + i] = static_cast<char>(expected[offset + i] ^ key[i % 4]);
            apply_mask(data.data() + offset, size, word);
            REQUIRE(data == expected);
        }
    }
}

TEST_CASE("a mask goes on where it stopped") {
    std::uint32_t word = 0;
    std::memcpy(&word, "abcd", 4);
    const auto rotated = [&](std::size_t consumed) {
        const auto key = rotate_mask(word, consumed);
        std::string out(4, ' ');
        std::memcpy(out.data(), &key, 4);
        return out;
    };
    CHECK(rotated(0) == "abcd");
    CHECK(rotated(1) == "bcda");
    CHECK(rotated(7) == "dabc");
    CHECK(rotated(1'000'000) == "abcd");
}

// -------------------------------------------------------------------------------------------------------------- reading

TEST_CASE("every split of the input gives the same events") {
    const std::string input = masked(fin | text, "hello") + masked(fin | binary, noise(200)) + masked(fin | text, "") +
                              masked(fin | ping, "are you there") + masked(text, "frag") + masked(fin | pong, "") +
                              masked(continuation, "") + masked(continuation, "men") + masked(fin | ping, noise(125)) +
                              masked(fin | continuation, "ted") + masked(binary, "") + masked(fin | continuation, "") +
                              masked(fin | text,
                                     "gr\xC3\xBC\xC3\x9F"
                                     "e \xF0\x9F\x91\x8B") +
                              masked(fin | goodbye, close_payload(1000));
    listener expected;
    expected.on_message(true, "hello");
    expected.on_message(false, noise(200));
    expected.on_message(true, "");
    expected.on_control(opcode::ping, "are you there");
    expected.on_control(opcode::pong, "");
    expected.on_control(opcode::ping, noise(125));
    expected.on_message(true, "fragmented");
    expected.on_message(false, "");
    expected.on_message(true,
                        "gr\xC3\xBC\xC3\x9F"
                        "e \xF0\x9F\x91\x8B");
    expected.on_control(opcode::close, close_payload(1000));
    CHECK(read_every_way(input) == expected.heard);
}

TEST_CASE("a client reads what a server sends, at every split") {
    const std::string input = plain(fin | text, "one") + plain(text, "tw") + plain(fin | ping, "p") +
                              plain(fin | continuation, "o") + plain(fin | binary, noise(300)) +
                              plain(fin | goodbye, "");
    listener expected;
    expected.on_message(true, "one");
    expected.on_control(opcode::ping, "p");
    expected.on_message(true, "two");
    expected.on_message(false, noise(300));
    expected.on_control(opcode::close, "");
    CHECK(read_every_way(input, default_limits, role::client) == expected.heard);
}

TEST_CASE("many frames at once are as many events") {
    std::string input;
    std::string expected;
    for (int n = 0; n != 10'000; ++n) {
        input += masked(fin | text, std::to_string(n));
        expected += (n == 0 ? "text(" : " text(") + std::to_string(n) + ")";
    }
    CHECK(read_pieces(input, {}, path::read) == expected);
    CHECK(read_pieces(input, std::vector<std::size_t>(input.size() / 1000, 1000), path::wanted_first) == expected);
}

TEST_CASE("pieces of all sizes give the same events") {
    std::mt19937 random{7};
    for (int round = 0; round != 200; ++round) {
        std::string input;
        for (int n = 0; n != 12; ++n) {
            const std::size_t size = random() % 700;
            const auto payload = noise(size, static_cast<unsigned>(n));
            switch (random() % 4) {
                case 0: input += masked(fin | ping, std::string_view{payload}.substr(0, 125)); break;
                case 1: {
                    const auto half = payload.size() / 2;
                    input += masked(binary, payload.substr(0, half)) + masked(fin | ping, "x") +
                             masked(fin | continuation, payload.substr(half));
                    break;
                }
                default: input += masked(fin | binary, payload); break;
            }
        }
        std::vector<std::size_t> sizes;
        for (std::size_t sum = 0; sum < input.size(); sum += sizes.back())
            sizes.push_back(1 + random() % static_cast<std::size_t>(round + 1));
        const auto whole = read_pieces(input, {}, path::read);
        REQUIRE(read_pieces(input, sizes, path::read) == whole);
        REQUIRE(read_pieces(input, sizes, path::wanted_first) == whole);
    }
}

TEST_CASE("a sink that says no hears nothing more") {
    const std::string input = masked(fin | text, "a") + masked(text, "b") + masked(fin | ping, "c") +
                              masked(fin | continuation, "d") + masked(fin | text, "e") +
                              masked(0x7F, "a fault, if it were read");
    CHECK(read_every_way(input, default_limits, role::server, 0) == "text(a)");
    CHECK(read_every_way(input, default_limits, role::server, 1) == "text(a) ping(c)");
    CHECK(read_every_way(input, default_limits, role::server, 2) == "text(a) ping(c) text(bd)");
    CHECK(read_every_way(input, default_limits, role::server, 3) == "text(a) ping(c) text(bd) text(e)");
}

TEST_CASE("the rest of a cut frame is wanted, and nothing else") {
    frame_reader reader;
    listener sink;
    auto input = masked(fin | binary, noise(500));
    CHECK(reader.wanted().empty());
    CHECK_FALSE(reader.in_message());

    CHECK_FALSE(reader.read(std::span{input}.first(3), default_limits, sink));
    CHECK(reader.wanted().empty());  // the header is cut
    CHECK(reader.in_message());

    CHECK_FALSE(reader.read(std::span{input}.subspan(3, 105), default_limits, sink));
    CHECK(reader.wanted().size() == 400);

    CHECK_FALSE(reader.read(std::span{input}.subspan(108), default_limits, sink));
    CHECK(reader.wanted().empty());
    CHECK_FALSE(reader.in_message());

    auto cut_ping = masked(fin | ping, "ping");
    CHECK_FALSE(reader.read(std::span{cut_ping}.first(8), default_limits, sink));
    CHECK(reader.wanted().empty());  // control frames are small, and stand where they are gathered
    CHECK_FALSE(reader.filled(0, default_limits, sink));
}

#ifdef __linux__

TEST_CASE("headers that announce large messages take addresses and no memory") {
    const auto resident = [] {
        std::ifstream file{"/proc/self/statm"};
        std::size_t pages = 0;
        file >> pages >> pages;
        return pages * 4096;
    };
    constexpr std::size_t announced = 64U << 20U;
    const frame_limits limits{announced, 10};
    std::array<frame_reader, 16> readers;
    listener sink;
    const auto before = resident();
    for (auto& each : readers) {
        auto input = header(fin | binary, announced, true) + "mask" + "x";
        REQUIRE_FALSE(each.read(input, limits, sink));
        CHECK(each.wanted().size() == announced - 1);
    }
    // A sanitizer notes an eighth of it.
    CHECK(resident() - before < readers.size() * announced / 4);
}

#endif

TEST_CASE("what has come of messages that are not whole has a bound for all, and one byte past it is a fault") {
    message_budget budget{3000};
    const frame_limits limits{4000, 10, &budget};
    listener sink;
    const auto begin = [&](frame_reader& reader, std::size_t size) {
        auto input = masked(fin | binary, noise(size + 1));
        return reader.read(std::span{input}.first(input.size() - 1), limits, sink);
    };
    {
        std::array<frame_reader, 5> readers;
        CHECK_FALSE(begin(readers[0], 2000));
        CHECK_FALSE(begin(readers[1], 1000));
        CHECK(budget.taken() == 3000);
        // One that comes whole takes nothing.
        auto whole = masked(fin | text, "whole");
        CHECK_FALSE(readers[2].read(whole, limits, sink));
        const auto fault = begin(readers[2], 1);
        REQUIRE(fault);
        CHECK(fault->code == close_code::try_again_later);
        CHECK(fault->what == errc::messages_full);
        // Who is through, or forgotten, has made room.
        std::string last{"x"};
        CHECK_FALSE(readers[1].read(last, limits, sink));
        CHECK(budget.taken() == 2000);
        CHECK(begin(readers[3], 1001));
        CHECK_FALSE(begin(readers[4], 1000));
        readers[0].forget();
        CHECK_FALSE(readers[0].in_message());
        CHECK(budget.taken() == 1000);
    }
    CHECK(budget.taken() == 0);
    CHECK(sink.heard.starts_with("text(whole) binary(1001#"));
}

TEST_CASE("an idle reader is small") { CHECK(sizeof(frame_reader) <= 32); }

// --------------------------------------------------------------------------------------------------------------- faults

// The rules of RFC 6455 one by one are in tests/conformance/cases.cpp, which frame_conformance_test.cpp reads at every split. Here
// is what they leave out.

TEST_CASE("a server wants masked frames and a client unmasked ones") {
    CHECK(read_every_way(masked(fin | text, "ok") + plain(fin | text, "no")) == "text(ok) fault(1002)");
    CHECK(read_every_way(plain(fin | ping, "")) == "fault(1002)");
    CHECK(read_every_way(plain(fin | text, "ok") + masked(fin | text, "no"), default_limits, role::client) ==
          "text(ok) fault(1002)");
}

TEST_CASE("an absurd length is refused at the header and reserves nothing") {
    for (const std::uint64_t size :
         {~std::uint64_t{0}, std::uint64_t{1} << 63, (std::uint64_t{1} << 63) - 1, std::uint64_t{1} << 40}) {
        auto input = header(fin | binary, size, true) + "mask";
        const bool high_bit = size >> 63 != 0;
        CHECK(read_every_way(input) == (high_bit ? "fault(1002)" : "fault(1009)"));

        frame_reader reader;
        listener sink;
        CHECK(reader.read(input, default_limits, sink));
        CHECK(reader.wanted().empty());
        CHECK_FALSE(reader.in_message());
        CHECK(read_every_way(masked(binary, "begun") + header(fin | continuation, size, true) + "mask") ==
              (high_bit ? "fault(1002)" : "fault(1009)"));
    }
}

TEST_CASE("a message may have max_message_size bytes and not one more") {
    const std::string most(1024, 'x');
    CHECK(read_every_way(masked(fin | text, most)) == "text(1024#62976000)");
    CHECK(read_every_way(header(fin | text, 1025, true) + "mask") == "fault(1009)");  // no data follows
    CHECK(read_every_way(header(text, 1025, true) + "mask") == "fault(1009)");
    CHECK(read_every_way(masked(fin | text, "x") + masked(fin | text, "xy"), {1, 10}) == "text(x) fault(1009)");
}

TEST_CASE("the size of a message is that of its fragments together") {
    const std::string half(512, 'x');
    CHECK(read_every_way(masked(text, half) + masked(fin | continuation, half)) == "text(1024#62976000)");
    CHECK(read_every_way(masked(text, half) + masked(continuation, half) + masked(fin | continuation, "")) ==
          "text(1024#62976000)");
    CHECK(read_every_way(masked(text, half) + masked(continuation, half) + header(fin | continuation, 1, true) +
                         "mask") == "fault(1009)");
    CHECK(read_every_way(masked(text, half) + masked(continuation, "x") + header(fin | continuation, 512, true) +
                         "mask") == "fault(1009)");
    // A control frame within is no part of it.
    CHECK(read_every_way(masked(text, half) + masked(fin | ping, std::string(40, 'p')) +
                         masked(fin | continuation, half)) == "ping(" + std::string(40, 'p') + ") text(1024#62976000)");
}

TEST_CASE("a message may have max_fragments fragments and not one more") {
    CHECK(read_every_way(masked(text, "a") + masked(continuation, "") + masked(fin | continuation, "b"), {1024, 3}) ==
          "text(ab)");
    CHECK(read_every_way(
              masked(text, "a") + masked(continuation, "") + masked(continuation, "b") + masked(fin | continuation, ""),
              {1024, 3}) == "fault(1008)");
    CHECK(read_every_way(masked(fin | text, "whole"), {1024, 1}) == "text(whole)");
    // The count begins anew with each message.
    CHECK(read_every_way(
              masked(text, "a") + masked(fin | continuation, "b") + masked(text, "c") + masked(fin | continuation, "d"),
              {1024, 2}) == "text(ab) text(cd)");
}

TEST_CASE("65,536 fragments of a large message are fine and one more is not") {
    const auto message_of = [](std::size_t fragments, std::string_view each) {
        std::string input = masked(binary, each);
        for (std::size_t n = 2; n != fragments; ++n) input += masked(continuation, each);
        return input + masked(fin | continuation, each);
    };
    const frame_limits limits{1024 * 1024, 65'536};
    CHECK(read_pieces(message_of(65'536, "\1"), {}, path::read, limits) == "binary(65536#2147516416)");
    CHECK(read_pieces(message_of(65'537, "\1"), {}, path::read, limits) == "fault(1008)");
    CHECK(read_pieces(message_of(65'536, ""), {}, path::read, limits) == "binary()");
    CHECK(read_pieces(message_of(65'537, ""), {}, path::read, limits) == "fault(1008)");
    CHECK(read_pieces(message_of(65'537, "\1"), std::vector<std::size_t>(1000, 333), path::wanted_first, limits) ==
          "fault(1008)");
}

// ----------------------------------------------------------------------------------------------------------------- text

TEST_CASE("a wrong byte in a fragment ends the reading at once") {
    // The byte itself, though the frame and the message go on.
    const auto first = masked(text, "ab\xFFgh");
    frame_reader reader;
    listener sink;
    auto bytes = first.substr(0, first.size() - 2);
    const auto fault = reader.read(bytes, default_limits, sink);
    REQUIRE(fault);
    CHECK(fault->code == close_code::invalid_payload);
    CHECK(fault->what == errc::frame_violation);

    CHECK(read_every_way(first + masked(fin | continuation, "later")) == "fault(1007)");
    CHECK(read_every_way(masked(text, "good") + masked(continuation, "\xC0") + masked(fin | ping, "")) ==
          "fault(1007)");
    CHECK(read_every_way(masked(fin | text, "\xED\xA0\x80")) == "fault(1007)");
    CHECK(read_every_way(masked(fin | text, "ok") + masked(fin | text, "a\x80")) == "text(ok) fault(1007)");
}

TEST_CASE("the first wrong byte of a cut frame is noticed before the frame is whole") {
    auto input = masked(fin | text, "ab\xF8" + std::string(1000, 'x'));
    frame_reader reader;
    listener sink;
    CHECK_FALSE(reader.read(std::span{input}.first(10), default_limits, sink));
    CHECK(reader.read(std::span{input}.subspan(10, 1), default_limits, sink));
}

// ---------------------------------------------------------------------------------------------------------------- close

namespace {

/// The close that a payload says, or the fault that it is.
std::string closes(std::string_view payload) {
    close_reason reason;
    if (const auto fault = parse_close(payload, reason)) {
        return "fault(" + std::to_string(static_cast<unsigned>(fault->code)) + ")";
    }
    return std::to_string(static_cast<unsigned>(reason.code)) +
           std::string{reason.text.empty() ? "" : " "}.append(reason.text);
}

}  // namespace

TEST_CASE("a close frame says a code and a reason, or nothing") {
    CHECK(closes("") == "1005");
    CHECK(closes(close_payload(1000)) == "1000");
    CHECK(closes(close_payload(1001, "bye")) == "1001 bye");
    CHECK(closes(close_payload(4999,
                               "gr\xC3\xBC\xC3\x9F"
                               "e")) ==
          "4999 gr\xC3\xBC\xC3\x9F"
          "e");
    CHECK(closes("\x03") == "fault(1002)");
    CHECK(closes(close_payload(1000, "\xC3")) == "fault(1007)");
    CHECK(closes(close_payload(1000, "\xFF")) == "fault(1007)");
}

TEST_CASE("a close code is one that may be sent") {
    for (const unsigned code : {0U, 1U, 999U, 1004U, 1005U, 1006U, 1015U, 1016U, 2000U, 2999U, 5000U, 65'535U}) {
        CHECK(closes(close_payload(code)) == "fault(1002)");
    }
    for (const unsigned code : {1000U, 1001U, 1002U, 1003U, 1007U, 1008U, 1009U, 1010U, 1011U, 1012U, 1013U, 1014U,
                                3000U, 3999U, 4000U, 4999U}) {
        CHECK(closes(close_payload(code)) == std::to_string(code));
    }
}
