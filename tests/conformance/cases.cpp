#include "tests/conformance/cases.hpp"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace arke::test::conformance {

namespace {

using namespace std::string_literals;
using strings = std::vector<std::string>;

constexpr unsigned fin = 0x80;
constexpr unsigned text = 1;
constexpr unsigned binary = 2;
constexpr unsigned closing = 8;
constexpr unsigned ping = 9;
constexpr unsigned pong = 10;
constexpr unsigned continuation = 0;

constexpr bounds usual{};

/// A rule, by the code and the sentence that whoever breaks it is told.
struct rule {
    unsigned code;
    const char* sentence;
    const char* to_server = nullptr;
};

constexpr rule no_reserved_bits{1002, "a reserved bit without an extension"};
constexpr rule no_reserved_opcodes{1002, "a reserved opcode"};
constexpr rule masked_by_clients_only{1002, "an unmasked frame from a client", "a masked frame from a server"};
constexpr rule shortest_length{1002, "a length that is not in its shortest form"};
constexpr rule length_of_63_bits{1002, "a length with its highest bit set"};
constexpr rule whole_controls{1002, "a control frame in fragments"};
constexpr rule small_controls{1002, "a control frame over 125 bytes"};
constexpr rule continues_something{1002, "a continuation of nothing"};
constexpr rule one_message_at_once{1002, "a new message within fragments"};
constexpr rule message_size{1009, "a message over max_message_size"};
constexpr rule fragment_count{1008, "a message of more than max_fragments"};
constexpr rule text_is_utf8{1007, "text that is not UTF-8"};
constexpr rule close_of_two_bytes{1002, "a close frame of one byte"};
constexpr rule close_codes{1002, "a close code that may not be sent"};
constexpr rule reason_is_utf8{1007, "a close reason that is not UTF-8"};

/// Letters, so that it may be text, in an order that shows what is missing or doubled.
std::string letters(std::size_t size, unsigned seed = 0) {
    std::string out(size, ' ');
    for (std::size_t i = 0; i != size; ++i) out[i] = static_cast<char>('a' + (i * 7 + i / 26 + i / 1000 + seed) % 26);
    return out;
}

/// Bytes of every value.
std::string noise(std::size_t size) {
    std::string out(size, ' ');
    for (std::size_t i = 0; i != size; ++i) out[i] = static_cast<char>((i * 2654435761U) >> 13U);
    return out;
}

std::string close_payload(unsigned code, std::string_view reason = {}) {
    return std::string{static_cast<char>(code >> 8U), static_cast<char>(code & 0xFFU)}.append(reason);
}

std::string hex(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        constexpr std::string_view digits = "0123456789ABCDEF";
        out += (out.empty() ? "" : " ");
        out += digits[static_cast<unsigned char>(c) >> 4U];
        out += digits[static_cast<unsigned char>(c) & 15U];
    }
    return out;
}

std::string utf8(std::uint32_t point) {
    const auto follow = [point](unsigned shift) { return static_cast<char>(0x80U | ((point >> shift) & 0x3FU)); };
    if (point < 0x80) return {static_cast<char>(point)};
    if (point < 0x800) return {static_cast<char>(0xC0U | point >> 6U), follow(0)};
    if (point < 0x10000) return {static_cast<char>(0xE0U | point >> 12U), follow(6), follow(0)};
    return {static_cast<char>(0xF0U | point >> 18U), follow(12), follow(6), follow(0)};
}

frame whole(unsigned opcode, std::string payload = {}) { return {fin | opcode, std::move(payload)}; }
frame begins(unsigned opcode, std::string payload = {}) { return {opcode, std::move(payload)}; }
frame goes_on(std::string payload = {}) { return {continuation, std::move(payload)}; }
frame ends(std::string payload = {}) { return {fin | continuation, std::move(payload)}; }

/// A header that tells of so much, and no payload.
frame announces(unsigned first, std::uint64_t size, length_form form = length_form::shortest) {
    return {first, {}, form, size};
}

event heard_text(std::string payload) { return {kind::text, std::move(payload)}; }
event heard_binary(std::string payload) { return {kind::binary, std::move(payload)}; }
event heard_ping(std::string payload = {}) { return {kind::ping, std::move(payload)}; }
event heard_pong(std::string payload = {}) { return {kind::pong, std::move(payload)}; }

kind kind_of(unsigned opcode) {
    return opcode == text ? kind::text : opcode == binary ? kind::binary : opcode == ping ? kind::ping : kind::pong;
}

const char* name_of(unsigned opcode) {
    switch (opcode) {
        case continuation: return "a continuation";
        case text: return "a text";
        case binary: return "a binary";
        case closing: return "a close";
        case ping: return "a ping";
        case pong: return "a pong";
        default: return "a reserved opcode";
    }
}

std::string number(std::uint64_t n) { return std::to_string(n); }

class table {
public:
    std::vector<test_case> cases;

    void group(std::string_view name) { group_ = name; }
    void bound(const bounds& b) { limits_ = b; }

    /// Everything is heard, and the connection goes on.
    void good(std::string name, std::vector<frame> frames, std::vector<event> heard) {
        cases.push_back({group_, std::move(name), std::move(frames), std::move(heard), std::nullopt, limits_});
    }

    /// The last frame breaks a rule with its header.
    void bad(std::string name, std::vector<frame> frames, std::vector<event> heard, const rule& broken) {
        bad_at(std::move(name), std::move(frames), std::move(heard), broken, 0);
    }

    /// The last frame breaks a rule with this byte of its payload, counted from 1.
    void bad_at(std::string name, std::vector<frame> frames, std::vector<event> heard, const rule& broken,
                std::size_t payload_bytes) {
        const ending end{true,
                         broken.code,
                         broken.sentence,
                         broken.to_server == nullptr ? broken.sentence : broken.to_server,
                         frames.size() - 1,
                         payload_bytes};
        cases.push_back({group_, std::move(name), std::move(frames), std::move(heard), end, limits_});
    }

    /// The last frame breaks a rule with its last byte.
    void bad_at_end(std::string name, std::vector<frame> frames, std::vector<event> heard, const rule& broken) {
        const auto size = frames.back().payload.size();
        bad_at(std::move(name), std::move(frames), std::move(heard), broken, size);
    }

    /// The last frame is a close that is right.
    void closes(std::string name, std::vector<frame> frames, std::vector<event> heard, unsigned code,
                std::string reason = {}) {
        const ending end{false, code, std::move(reason), {}, frames.size() - 1, frames.back().payload.size()};
        cases.push_back({group_, std::move(name), std::move(frames), std::move(heard), end, limits_});
    }

private:
    std::string_view group_;
    bounds limits_;
};

// ------------------------------------------------------------------------------------------------------------- lengths

void add_lengths(table& t) {
    t.group("lengths");
    for (const unsigned opcode : {text, binary}) {
        for (const std::size_t size :
             {0U,    1U,    2U,    3U,    4U,      5U,      7U,      8U,      9U,       31U,       32U,
              33U,   124U,  125U,  126U,  127U,    128U,    129U,    255U,    256U,     257U,      1023U,
              1024U, 1025U, 4095U, 4096U, 65'534U, 65'535U, 65'536U, 65'537U, 131'072U, 1'048'576U}) {
            const auto payload = opcode == text ? letters(size) : noise(size);
            t.good(name_of(opcode) + " of "s + number(size) + " bytes", {whole(opcode, payload)},
                   {{kind_of(opcode), payload}});
        }
    }
    t.good("one of each form of length in a row",
           {whole(text, letters(5)), whole(binary, noise(300)), whole(text, letters(70'000)), whole(binary),
            whole(text, "x")},
           {heard_text(letters(5)), heard_binary(noise(300)), heard_text(letters(70'000)), heard_binary(""),
            heard_text("x")});

    for (const unsigned opcode : {text, binary, ping, pong, closing}) {
        const auto a = name_of(opcode) + " of "s;
        for (const std::size_t size : {0U, 1U, 125U}) {
            for (const auto form : {length_form::two_bytes, length_form::eight_bytes}) {
                t.bad(a + number(size) + " bytes, told in " + (form == length_form::two_bytes ? "two" : "eight"),
                      {{fin | opcode, letters(size), form}}, {}, shortest_length);
            }
        }
    }
    for (const std::size_t size : {126U, 127U, 1000U, 65'535U}) {
        t.bad("a binary of " + number(size) + " bytes, told in eight",
              {{fin | binary, noise(size), length_form::eight_bytes}}, {}, shortest_length);
    }
    t.bad("a continuation of 3 bytes, told in two",
          {begins(text, "abc"), {fin | continuation, "def", length_form::two_bytes}}, {}, shortest_length);
    t.bad("a long form after good frames",
          {whole(text, "good"), whole(ping, "too"), {fin | text, "bad", length_form::two_bytes}},
          {heard_text("good"), heard_ping("too")}, shortest_length);

    for (const std::uint64_t size : {std::uint64_t{1} << 63U, (std::uint64_t{1} << 63U) | 5U, ~std::uint64_t{0}}) {
        for (const unsigned first : {fin | text, fin | binary, text, fin | ping, fin | closing}) {
            t.bad(number(size) + " bytes announced by " + (first == text ? "a first fragment" : name_of(first & 15U)),
                  {announces(first, size)}, {}, length_of_63_bits);
        }
        t.bad(number(size) + " bytes announced by a continuation", {begins(text, "abc"), announces(fin, size)}, {},
              length_of_63_bits);
    }
    for (const std::uint64_t size :
         {(std::uint64_t{1} << 63U) - 1, std::uint64_t{1} << 62U, (std::uint64_t{1} << 32U) + 1,
          std::uint64_t{1} << 32U, std::uint64_t{0xFFFFFFFF}, std::uint64_t{0x80000000}, std::uint64_t{1'048'577}}) {
        for (const unsigned first : {fin | text, fin | binary, binary}) {
            t.bad(number(size) + " bytes announced by " + (first == binary ? "a first fragment" : name_of(first & 15U)),
                  {announces(first, size)}, {}, message_size);
        }
        t.bad(number(size) + " bytes announced by a continuation", {begins(text, "abc"), announces(fin, size)}, {},
              message_size);
    }
}

// ------------------------------------------------------------------------------------------------------------ controls

void add_controls(table& t) {
    t.group("controls");
    for (const unsigned opcode : {ping, pong}) {
        for (const std::size_t size : {0U, 1U, 2U, 3U, 4U, 5U, 8U, 31U, 32U, 33U, 64U, 124U, 125U}) {
            t.good(name_of(opcode) + " of "s + number(size) + " bytes", {whole(opcode, noise(size))},
                   {{kind_of(opcode), noise(size)}});
        }
        t.good(name_of(opcode) + " that is no UTF-8"s, {whole(opcode, "\xFF\xC0\x80")},
               {{kind_of(opcode), "\xFF\xC0\x80"}});
    }
    for (const unsigned opcode : {ping, pong, closing}) {
        const std::string a = name_of(opcode);
        for (const std::size_t size : {126U, 127U, 1000U, 65'535U, 65'536U}) {
            t.bad(a + " of " + number(size) + " bytes", {whole(opcode, letters(size))}, {}, small_controls);
        }
        t.bad(a + " of 126 bytes, none of which follow", {announces(fin | opcode, 126)}, {}, small_controls);
        t.bad(a + " of 2^62 bytes, none of which follow", {announces(fin | opcode, std::uint64_t{1} << 62U)}, {},
              small_controls);
        for (const auto& payload : {""s, "\x03\xE8 part"s}) {
            t.bad(a + " in fragments, " + number(payload.size()) + " bytes in the first", {{opcode, payload}}, {},
                  whole_controls);
            t.bad(a + " in fragments, " + number(payload.size()) + " bytes in the first, within a message",
                  {begins(text, "abc"), {opcode, payload}}, {}, whole_controls);
        }
        t.bad(a + " of 126 bytes within a message", {begins(binary, "abc"), whole(opcode, letters(126))}, {},
              small_controls);
    }

    t.good("a pong that nobody asked for, then a text", {whole(pong, "here I am"), whole(text, "hello")},
           {heard_pong("here I am"), heard_text("hello")});
    t.good("a ping before and after a text", {whole(ping, "1"), whole(text, "hello"), whole(ping, "2")},
           {heard_ping("1"), heard_text("hello"), heard_ping("2")});
    t.good("a ping between two fragments", {begins(text, "hel"), whole(ping, "now"), ends("lo")},
           {heard_ping("now"), heard_text("hello")});
    t.good("a pong between two fragments", {begins(binary, "hel"), whole(pong), ends("lo")},
           {heard_pong(), heard_binary("hello")});
    t.good("pings in every gap of five fragments",
           {begins(text, "a"), whole(ping, "1"), goes_on("b"), whole(ping, "2"), goes_on("c"), whole(ping, "3"),
            goes_on("d"), whole(ping, "4"), ends("e")},
           {heard_ping("1"), heard_ping("2"), heard_ping("3"), heard_ping("4"), heard_text("abcde")});
    t.good("five pings and a pong in one gap",
           {begins(text, "a"), whole(ping, "1"), whole(ping, ""), whole(pong, "3"), whole(ping, noise(125)),
            whole(ping, "5"), whole(ping, "6"), ends("b")},
           {heard_ping("1"), heard_ping(), heard_pong("3"), heard_ping(noise(125)), heard_ping("5"), heard_ping("6"),
            heard_text("ab")});
    t.good("a ping within a code point that two fragments share",
           {begins(text, "\xF0\x9F"), whole(ping, "\xFF"), ends("\x91\x8B")},
           {heard_ping("\xFF"), heard_text("\xF0\x9F\x91\x8B")});

    std::vector<frame> frames;
    std::vector<event> events;
    for (unsigned n = 0; n != 1000; ++n) {
        frames.push_back(whole(n % 3 == 2 ? pong : ping, number(n)));
        events.push_back({n % 3 == 2 ? kind::pong : kind::ping, number(n)});
    }
    t.good("ten pings", {frames.begin(), frames.begin() + 10}, {events.begin(), events.begin() + 10});
    t.good("a thousand pings and pongs", std::move(frames), std::move(events));
}

// --------------------------------------------------------------------------------------------- reserved bits and opcodes

void add_reserved(table& t) {
    t.group("reserved bits");
    for (const unsigned bits : {0x40U, 0x20U, 0x10U, 0x60U, 0x50U, 0x30U, 0x70U}) {
        std::string on = "RSV";
        for (unsigned n = 1; n != 4; ++n) on += (bits & (0x80U >> n)) != 0 ? number(n) : "";
        for (const unsigned opcode : {text, binary, ping, pong, closing}) {
            const std::string a = on + " on " + name_of(opcode);
            const auto payload = opcode == closing ? close_payload(1000) : "x"s;
            t.bad(a, {{fin | bits | opcode, payload}}, {}, no_reserved_bits);
            t.bad(a + " without payload", {{fin | bits | opcode, {}}}, {}, no_reserved_bits);
            t.bad(a + " after good frames", {whole(text, "good"), whole(ping, "too"), {fin | bits | opcode, payload}},
                  {heard_text("good"), heard_ping("too")}, no_reserved_bits);
            if (opcode >= closing)
                t.bad(a + " within a message", {begins(text, "abc"), {fin | bits | opcode, payload}}, {},
                      no_reserved_bits);
        }
        t.bad(on + " on a first fragment", {{bits | text, "abc"}}, {}, no_reserved_bits);
        t.bad(on + " on a middle fragment", {begins(text, "abc"), {bits | continuation, "def"}}, {}, no_reserved_bits);
        t.bad(on + " on a last fragment", {begins(binary, "abc"), whole(ping), {fin | bits | continuation, "def"}},
              {heard_ping()}, no_reserved_bits);
        t.bad(on + " on a continuation of nothing", {{fin | bits | continuation, "abc"}}, {}, no_reserved_bits);
        t.bad(on + " on a reserved opcode", {{fin | bits | 11U, "abc"}}, {}, no_reserved_bits);
    }

    t.group("reserved opcodes");
    for (const unsigned opcode : {3U, 4U, 5U, 6U, 7U, 11U, 12U, 13U, 14U, 15U}) {
        const auto a = "opcode " + number(opcode);
        t.bad(a + " without payload", {whole(opcode)}, {}, no_reserved_opcodes);
        t.bad(a + " with a payload", {whole(opcode, "hello")}, {}, no_reserved_opcodes);
        t.bad(a + " with a payload of 126 bytes", {whole(opcode, letters(126))}, {}, no_reserved_opcodes);
        t.bad(a + " that is not final", {{opcode, "hello"}}, {}, no_reserved_opcodes);
        t.bad(a + " after good frames", {whole(text, "good"), whole(ping), whole(opcode, "bad")},
              {heard_text("good"), heard_ping()}, no_reserved_opcodes);
        t.bad(a + " within a message", {begins(text, "abc"), whole(opcode, "def")}, {}, no_reserved_opcodes);
    }
}

// ----------------------------------------------------------------------------------------------------------- fragments

/// A message in these parts, with nothing between them.
std::vector<frame> in_parts(unsigned opcode, const strings& parts) {
    std::vector<frame> frames;
    for (const auto& part : parts) frames.push_back(frames.empty() ? begins(opcode, part) : goes_on(part));
    frames.back().first |= fin;
    return frames;
}

strings bytes_apart(std::string_view all) {
    strings parts;
    for (const char c : all) parts.emplace_back(1, c);
    return parts;
}

std::string joined(const strings& parts) {
    std::string all;
    for (const auto& part : parts) all += part;
    return all;
}

void add_fragments(table& t) {
    t.group("fragments");
    const std::pair<std::string, strings> ways[] = {
        {"two", {"hel", "lo"}},
        {"three", {"a", "bc", "def"}},
        {"two, the first empty", {"", "hello"}},
        {"two, the last empty", {"hello", ""}},
        {"three, the middle empty", {"hel", "", "lo"}},
        {"three, only the middle not empty", {"", "hello", ""}},
        {"two, both empty", {"", ""}},
        {"ten, all empty", strings(10)},
        {"a hundred of one byte", bytes_apart(letters(100))},
        {"three hundred, every other empty",
         [] {
             strings parts;
             for (const auto& part : bytes_apart(letters(150))) parts.insert(parts.end(), {part, ""});
             return parts;
         }()},
        {"125 and 126 bytes", {letters(125), letters(126, 3)}},
        {"126 and 125 bytes", {letters(126), letters(125, 3)}},
        {"127, 0 and 128 bytes", {letters(127), "", letters(128, 3)}},
        {"256, 257, 511, 512 and 513 bytes",
         {letters(256), letters(257, 1), letters(511, 2), letters(512, 3), letters(513, 4)}},
        {"65,535, 65,536 and 65,537 bytes", {letters(65'535), letters(65'536, 1), letters(65'537, 2)}},
        {"1 and 70,000 bytes", {"x", letters(70'000)}},
        {"70,000 and 1 bytes", {letters(70'000), "x"}},
        {"a thousand of 64 bytes",
         [] {
             strings parts;
             for (unsigned n = 0; n != 1000; ++n) parts.push_back(letters(64, n));
             return parts;
         }()},
    };
    for (const unsigned opcode : {text, binary}) {
        for (const auto& [how, parts] : ways)
            t.good(name_of(opcode) + " in "s + how, in_parts(opcode, parts), {{kind_of(opcode), joined(parts)}});
    }
    t.good("messages in fragments, one after another, whole ones between",
           {begins(text, "a"), ends("b"), begins(binary, "c"), ends("d"), whole(text, "e"), begins(text, "f"),
            goes_on("g"), ends("h"), whole(binary, "i")},
           {heard_text("ab"), heard_binary("cd"), heard_text("e"), heard_text("fgh"), heard_binary("i")});

    for (const auto& payload : {""s, "hello"s}) {
        const auto of = " of " + number(payload.size()) + " bytes";
        t.bad("a last fragment" + of + " of nothing", {ends(payload)}, {}, continues_something);
        t.bad("a middle fragment" + of + " of nothing", {goes_on(payload)}, {}, continues_something);
        t.bad("a last fragment" + of + " after a whole message", {whole(text, "good"), ends(payload)},
              {heard_text("good")}, continues_something);
        t.bad("a middle fragment" + of + " after a message in fragments",
              {begins(text, "go"), ends("od"), goes_on(payload)}, {heard_text("good")}, continues_something);
        t.bad("a last fragment" + of + " after a ping", {whole(ping), ends(payload)}, {heard_ping()},
              continues_something);
        for (const unsigned opcode : {text, binary}) {
            const std::string a = name_of(opcode);
            for (const unsigned began : {text, binary}) {
                const auto within = of + " within "s + name_of(began) + " in fragments";
                t.bad(a + within, {begins(began, "abc"), whole(opcode, payload)}, {}, one_message_at_once);
                t.bad("the first fragment of " + a + within, {begins(began, "abc"), begins(opcode, payload)}, {},
                      one_message_at_once);
            }
            t.bad(a + of + " within an empty beginning", {begins(text), whole(opcode, payload)}, {},
                  one_message_at_once);
            t.bad(a + of + " after a middle fragment and a ping",
                  {begins(text, "a"), goes_on("b"), whole(ping, "c"), whole(opcode, payload)}, {heard_ping("c")},
                  one_message_at_once);
        }
    }
}

// --------------------------------------------------------------------------------------------------------------- UTF-8

/// A sequence that no text may hold, and which of its bytes is the first wrong one, counted from 1.
struct wrong_bytes {
    std::string bytes;
    std::size_t first_wrong;
};

const std::vector<wrong_bytes>& wrong_utf8() {
    static const std::vector<wrong_bytes> list{
        // what follows nothing
        {"\x80", 1},
        {"\xBF", 1},
        {"\x80\xBF", 1},
        {"\xC3\xA9\xA9", 3},
        {"\xE4\xB8\xAD\xAD", 4},
        {"\xF0\x9F\x91\x8B\x8B", 5},
        // leads that no code point has
        {"\xC0\x80", 1},
        {"\xC0\xAF", 1},
        {"\xC1\xBF", 1},
        {"\xF5\x80\x80\x80", 1},
        {"\xF7\xBF\xBF\xBF", 1},
        {"\xF8\x88\x80\x80\x80", 1},
        {"\xFB\xBF\xBF\xBF\xBF", 1},
        {"\xFC\x84\x80\x80\x80\x80", 1},
        {"\xFD\xBF\xBF\xBF\xBF\xBF", 1},
        {"\xFE", 1},
        {"\xFF", 1},
        // longer than needed
        {"\xE0\x80\x80", 2},
        {"\xE0\x80\xAF", 2},
        {"\xE0\x9F\xBF", 2},
        {"\xF0\x80\x80\x80", 2},
        {"\xF0\x80\x80\xAF", 2},
        {"\xF0\x8F\xBF\xBF", 2},
        // surrogates
        {"\xED\xA0\x80", 2},
        {"\xED\xAD\xBF", 2},
        {"\xED\xAE\x80", 2},
        {"\xED\xAF\xBF", 2},
        {"\xED\xB0\x80", 2},
        {"\xED\xBE\x80", 2},
        {"\xED\xBF\xBF", 2},
        {"\xED\xA0\xBD\xED\xB1\x8B", 2},
        // over U+10FFFF
        {"\xF4\x90\x80\x80", 2},
        {"\xF4\xBF\xBF\xBF", 2},
        // a sequence that something else breaks off
        {"\xC2\x41", 2},
        {"\xC2\xC2\x80", 2},
        {"\xC2"s + '\0', 2},
        {"\xDF\x7F", 2},
        {"\xDF\xC0", 2},
        {"\xE1\x41", 2},
        {"\xE1\x80\x41", 3},
        {"\xE1\x80\xC2\x80", 3},
        {"\xE0\xA0\x7F", 3},
        {"\xED\x9F\xC0", 3},
        {"\xEF\xBF\xC0", 3},
        {"\xF1\x41", 2},
        {"\xF1\x80\x41", 3},
        {"\xF1\x80\x80\x41", 4},
        {"\xF0\x90\x80\xC0", 4},
        {"\xF4\x8F\xBF\xFF", 4},
        {"\xF0\x9F\xF0\x9F", 3},
    };
    return list;
}

/// Beginnings of code points.
const strings& cut_utf8() {
    static const strings list{"\xC2",     "\xDF", "\xE0",     "\xE0\xA0",     "\xE1\x80", "\xED",     "\xED\x9F",
                              "\xEF\xBF", "\xF0", "\xF0\x90", "\xF0\x90\x80", "\xF1\x80", "\xF4\x8F", "\xF4\x8F\xBF"};
    return list;
}

void add_utf8(table& t) {
    t.group("UTF-8 that is right");
    for (const std::uint32_t point :
         {0x0U,     0x1U,     0x7FU,    0x80U,    0x7FFU,    0x800U,    0xFFFU,   0x1000U, 0xCFFFU,
          0xD000U,  0xD7FFU,  0xE000U,  0xFDD0U,  0xFEFFU,   0xFFFDU,   0xFFFEU,  0xFFFFU, 0x10000U,
          0x1FFFFU, 0x3FFFFU, 0x40000U, 0xFFFFFU, 0x100000U, 0x10FFFEU, 0x10FFFFU}) {
        const auto bytes = utf8(point);
        const auto name = hex(bytes);
        t.good(name + " alone", {whole(text, bytes)}, {heard_text(bytes)});
        const auto within = "a" + bytes + "b" + bytes;
        t.good(name + " between letters, a byte in each fragment", in_parts(text, bytes_apart(within)),
               {heard_text(within)});
    }
    const auto mixed =
        "gr\xC3\xBC\xC3\x9F"
        "e \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD"s;
    t.good("languages mixed", {whole(text, mixed)}, {heard_text(mixed)});
    for (std::size_t at = 1; at < mixed.size(); ++at) {
        t.good("languages mixed, in two fragments, the first of " + number(at) + " bytes",
               in_parts(text, {mixed.substr(0, at), mixed.substr(at)}), {heard_text(mixed)});
    }
    std::string much;
    while (much.size() < 100'000) much += mixed + letters(much.size() % 67);
    t.good("100 kB of it in one frame", {whole(text, much)}, {heard_text(much)});
    strings parts;
    for (std::size_t at = 0; at < much.size(); at += 1009) parts.push_back(much.substr(at, 1009));
    t.good("100 kB of it in a hundred fragments", in_parts(text, parts), {heard_text(much)});
    for (const std::size_t size : {7U, 8U, 31U, 32U, 33U, 255U, 256U, 257U}) {
        const auto long_text = letters(size) + utf8(0x10FFFF);
        t.good("a code point behind " + number(size) + " letters", {whole(text, long_text)}, {heard_text(long_text)});
    }

    t.group("UTF-8 that is wrong");
    for (const auto& [bytes, first_wrong] : wrong_utf8()) {
        const auto name = hex(bytes);
        t.bad_at(name + " alone", {whole(text, bytes)}, {}, text_is_utf8, first_wrong);
        t.bad_at(name + " between letters", {whole(text, "some letters " + bytes + " and more of them, a good many")},
                 {}, text_is_utf8, 13 + first_wrong);
        // What is missing of the frame would be waited for in vain.
        t.bad_at(name + ", and the rest of the frame never comes",
                 {whole(text, "good"), {fin | text, "ab" + bytes.substr(0, first_wrong), length_form::shortest, 1000}},
                 {heard_text("good")}, text_is_utf8, 2 + first_wrong);
        // The rest would complete the message, and must not be waited for either.
        auto frames = in_parts(text, bytes_apart("a" + bytes.substr(0, first_wrong)));
        frames.back().first &= ~fin;
        t.bad_at(name + ", a byte in each fragment", std::move(frames), {}, text_is_utf8, 1);
    }
    for (const auto& bytes : cut_utf8()) {
        const auto name = hex(bytes) + ", cut";
        t.bad_at_end(name + " at the end of a text", {whole(text, bytes)}, {}, text_is_utf8);
        t.bad_at_end(name + " at the end of a longer text", {whole(text, letters(300) + bytes)}, {}, text_is_utf8);
        t.bad_at_end(name + " at the end of the last fragment", {begins(text, "abc"), ends("de" + bytes)}, {},
                     text_is_utf8);
        t.bad(name + " at the end of a fragment, and an empty last one", {begins(text, bytes), ends()}, {},
              text_is_utf8);
        t.bad_at(name + " by the next fragment", {begins(text, "a" + bytes), ends("bc")}, {}, text_is_utf8, 1);
        t.bad_at(name + " by the fragment after a ping", {begins(text, "a" + bytes), whole(ping), goes_on("bc")},
                 {heard_ping()}, text_is_utf8, 1);
    }
    t.bad_at("wrong in the first of two fragments",
             {begins(text,
                     "ab\xFF"
                     "cd")},
             {}, text_is_utf8, 3);
    t.bad_at("wrong in the second fragment after a ping",
             {begins(text, "ab"), whole(ping, "1"),
              goes_on("c\xFF"
                      "d")},
             {heard_ping("1")}, text_is_utf8, 2);
    for (const std::size_t size : {8U, 9U, 31U, 32U, 33U, 255U, 256U, 257U, 5000U, 70'000U}) {
        t.bad_at_end("wrong behind " + number(size) + " letters", {whole(text, letters(size) + "\xFF")}, {},
                     text_is_utf8);
    }

    t.group("binary is no UTF-8");
    for (const auto& [bytes, first_wrong] : wrong_utf8()) {
        t.good(hex(bytes), {whole(binary, bytes), begins(binary, bytes), ends(bytes)},
               {heard_binary(bytes), heard_binary(bytes + bytes)});
    }
    for (const auto& bytes : cut_utf8()) t.good(hex(bytes), {whole(binary, bytes)}, {heard_binary(bytes)});
}

// --------------------------------------------------------------------------------------------------------------- close

void add_closes(table& t) {
    t.group("closes");
    t.closes("a close without a code", {whole(closing)}, {}, 1005);
    for (const unsigned code : {1000U, 1001U, 1002U, 1003U, 1007U, 1008U, 1009U, 1010U, 1011U, 1012U,
                                1013U, 1014U, 3000U, 3001U, 3998U, 3999U, 4000U, 4001U, 4998U, 4999U}) {
        t.closes("close " + number(code), {whole(closing, close_payload(code))}, {}, code);
        t.closes("close " + number(code) + " with a reason", {whole(closing, close_payload(code, "bye"))}, {}, code,
                 "bye");
    }
    for (const unsigned code :
         {0U,    1U,    16U,   100U,  255U,  999U,  1004U, 1005U, 1006U,   1015U,   1016U,   1099U,
          1100U, 1999U, 2000U, 2001U, 2999U, 5000U, 5001U, 9999U, 32'767U, 32'768U, 65'534U, 65'535U}) {
        t.bad_at_end("close " + number(code), {whole(closing, close_payload(code))}, {}, close_codes);
        t.bad_at_end("close " + number(code) + " with a reason", {whole(closing, close_payload(code, "bye"))}, {},
                     close_codes);
    }
    for (const auto& byte : {"\0"s, "\x03"s, "\x0F"s, "\xFF"s}) {
        t.bad_at_end("a close of one byte, " + hex(byte), {whole(closing, byte)}, {}, close_of_two_bytes);
    }
    for (const std::size_t size : {1U, 2U, 122U, 123U}) {
        t.closes("a reason of " + number(size) + " bytes", {whole(closing, close_payload(1000, letters(size)))}, {},
                 1000, letters(size));
    }
    t.bad("a reason of 124 bytes", {whole(closing, close_payload(1000, letters(124)))}, {}, small_controls);
    for (const std::uint32_t point : {0x0U, 0x80U, 0x7FFU, 0x800U, 0xD7FFU, 0xE000U, 0xFFFFU, 0x10000U, 0x10FFFFU}) {
        const auto reason = "b" + utf8(point) + "e";
        t.closes("the reason " + hex(reason), {whole(closing, close_payload(4000, reason))}, {}, 4000, reason);
    }
    for (const auto& [bytes, first_wrong] : wrong_utf8()) {
        t.bad_at_end("the reason " + hex(bytes), {whole(closing, close_payload(1000, "a" + bytes + "b"))}, {},
                     reason_is_utf8);
    }
    for (const auto& bytes : cut_utf8()) {
        t.bad_at_end("the reason " + hex(bytes) + ", cut", {whole(closing, close_payload(1000, bytes))}, {},
                     reason_is_utf8);
    }
    t.bad_at_end("a code and a reason that are both wrong", {whole(closing, close_payload(1005, "\xFF"))}, {},
                 close_codes);
    t.closes("a close after messages",
             {whole(text, "a"), whole(binary, "b"), whole(closing, close_payload(1001, "leaving"))},
             {heard_text("a"), heard_binary("b")}, 1001, "leaving");
    t.closes("a close within a message", {begins(text, "abc"), whole(closing, close_payload(1000))}, {}, 1000);
    t.closes("a close after a ping", {whole(ping, "still?"), whole(closing)}, {heard_ping("still?")}, 1005);
    t.closes("a close after a pong within a message",
             {begins(binary, "abc"), whole(pong, "x"), goes_on("d"), whole(closing, close_payload(4321, "so"))},
             {heard_pong("x")}, 4321, "so");
}

// ------------------------------------------------------------------------------------------------------------- masking

void add_masks(table& t) {
    t.group("masks");
    for (const unsigned opcode : {text, binary, ping, pong, closing, continuation}) {
        for (const std::size_t size : {0U, 5U, 126U, 65'536U}) {
            if (opcode >= closing && size > 125) continue;
            frame wrong{fin | opcode, opcode == closing && size != 0 ? close_payload(1000, "bye") : letters(size)};
            wrong.is_masked_wrongly = true;
            const auto name = name_of(opcode) + " of "s + number(wrong.payload.size()) + " bytes";
            if (opcode != continuation) t.bad(name, {wrong}, {}, masked_by_clients_only);
            if (opcode != continuation)
                t.bad(name + " after good frames", {whole(text, "good"), whole(ping), wrong},
                      {heard_text("good"), heard_ping()}, masked_by_clients_only);
            if (opcode == continuation || opcode >= closing)
                t.bad(name + " within a message", {begins(text, "abc"), wrong}, {}, masked_by_clients_only);
        }
    }
    for (const auto& mask : {std::string(4, '\0'), "\xFF\xFF\xFF\xFF"s, "\0\0\0\x01"s, "\x80\0\0\0"s, "abcd"s}) {
        std::vector<frame> frames;
        std::vector<event> events;
        for (std::size_t size = 0; size != 70; ++size) {
            frames.push_back(whole(binary, noise(size)));
            frames.back().mask = mask;
            events.push_back(heard_binary(noise(size)));
        }
        t.good("the mask " + hex(mask), std::move(frames), std::move(events));
    }
    t.good("a mask of its own for each fragment",
           {{text, letters(37), length_form::shortest, {}, false, "abcd"},
            {fin | ping, "ping", length_form::shortest, {}, false, "\0\x01\x02\x03"s},
            {continuation, letters(41, 1), length_form::shortest, {}, false, "\xF0\x0F\xAA\x55"},
            {fin | continuation, letters(3, 2), length_form::shortest, {}, false, "zyxw"}},
           {heard_ping("ping"), heard_text(letters(37) + letters(41, 1) + letters(3, 2))});
}

// -------------------------------------------------------------------------------------------------------------- bounds

void add_bounds(table& t) {
    t.group("bounds");
    t.bound({1000, 16});
    for (const unsigned opcode : {text, binary}) {
        const std::string a = name_of(opcode);
        const auto most = letters(1000);
        t.good(a + " of max_message_size", {whole(opcode, most), whole(text, "x")},
               {{kind_of(opcode), most}, heard_text("x")});
        t.bad(a + " of one byte more", {whole(opcode, letters(1001))}, {}, message_size);
        t.bad(a + " of one byte more, none of which follow", {announces(fin | opcode, 1001)}, {}, message_size);
        t.bad(a + " of one byte more after good frames",
              {whole(text, "good"), whole(ping), announces(fin | opcode, 1001)}, {heard_text("good"), heard_ping()},
              message_size);
        t.bad("the first fragment of " + a + " of one byte more", {announces(opcode, 1001)}, {}, message_size);
        t.good(a + " of max_message_size in two fragments", in_parts(opcode, {letters(999), "x"}),
               {{kind_of(opcode), letters(999) + "x"}});
        t.good(a + " of max_message_size in one fragment and empty ones", in_parts(opcode, {"", most, "", ""}),
               {{kind_of(opcode), most}});
        t.good(
            a + " of max_message_size in 16 fragments with pings between",
            [&] {
                std::vector<frame> frames;
                for (unsigned n = 0; n != 16; ++n) {
                    frames.push_back({n == 0 ? opcode : n == 15 ? fin : 0, most.substr(n * 63, 63)});
                    if (n != 15) frames.push_back(whole(ping));
                }
                return frames;
            }(),
            [&] {
                std::vector<event> events(15, heard_ping());
                events.push_back({kind_of(opcode), most});
                return events;
            }());
        t.bad(a + " of one byte more by its last fragment", {begins(opcode, most), ends("x")}, {}, message_size);
        t.bad(a + " of one byte more by a middle fragment", {begins(opcode, letters(500)), goes_on(letters(501))}, {},
              message_size);
        t.bad(a + " of one byte more after a ping", {begins(opcode, most), whole(ping, "p"), goes_on("x")},
              {heard_ping("p")}, message_size);
        t.bad(a + " of 2^63-1 bytes more", {begins(opcode, "x"), announces(0, (std::uint64_t{1} << 63U) - 1)}, {},
              message_size);
        t.good(a + " in max_fragments", in_parts(opcode, bytes_apart(letters(16))), {{kind_of(opcode), letters(16)}});
        auto parts = in_parts(opcode, bytes_apart(letters(17)));
        t.bad(a + " in one fragment more", parts, {}, fragment_count);
        parts.back() = goes_on();
        t.bad(a + " in one fragment more, which is empty and not the last", parts, {}, fragment_count);
        t.bad(a + " in one fragment more, all of them empty", in_parts(opcode, strings(17)), {}, fragment_count);
        const auto once = in_parts(opcode, bytes_apart(letters(16)));
        auto twice = once;
        twice.insert(twice.end(), once.begin(), once.end());
        t.good(a + " in max_fragments, twice", twice, {{kind_of(opcode), letters(16)}, {kind_of(opcode), letters(16)}});
    }
    t.good(
        "control frames count as no fragments",
        [] {
            auto frames = in_parts(text, bytes_apart(letters(16)));
            frames.insert(frames.begin() + 15, 40, whole(ping));
            return frames;
        }(),
        [] {
            std::vector<event> events(40, heard_ping());
            events.push_back(heard_text(letters(16)));
            return events;
        }());

    t.bound({1, 1});
    t.good("one byte where no more is allowed", {whole(text, "x"), whole(binary), whole(ping, "ping")},
           {heard_text("x"), heard_binary(""), heard_ping("ping")});
    t.bad("two bytes where one is allowed", {whole(text, "xy")}, {}, message_size);
    t.bad("two fragments where one is allowed", {begins(text, "x"), ends()}, {}, fragment_count);
    t.bound(usual);
}

}  // namespace

std::size_t header_size(const frame& f, sender from) {
    const auto size = f.claims.value_or(f.payload.size());
    const std::size_t length = f.form == length_form::two_bytes     ? 2
                               : f.form == length_form::eight_bytes ? 8
                               : size < 126                         ? 0
                               : size <= 0xFFFF                     ? 2
                                                                    : 8;
    return 2 + length + ((from == sender::client) != f.is_masked_wrongly ? 4 : 0);
}

std::string bytes_of(const frame& f, sender from) {
    const bool masked = (from == sender::client) != f.is_masked_wrongly;
    const auto size = f.claims.value_or(f.payload.size());
    const auto length = header_size(f, from) - 2 - (masked ? 4 : 0);
    std::string out{static_cast<char>(f.first), static_cast<char>((masked ? 0x80U : 0U) | (length == 0   ? size
                                                                                           : length == 2 ? 126U
                                                                                                         : 127U))};
    for (std::size_t byte = length; byte-- != 0;) out += static_cast<char>(size >> (byte * 8) & 0xFFU);
    if (!masked) return out + f.payload;
    out += f.mask;
    for (std::size_t i = 0; i != f.payload.size(); ++i) out += static_cast<char>(f.payload[i] ^ f.mask[i % 4]);
    return out;
}

std::string bytes_of(const test_case& c, sender from) {
    std::string out;
    for (const auto& f : c.frames) out += bytes_of(f, from);
    return out;
}

std::size_t bytes_to_the_end(const test_case& c, sender from) {
    std::size_t count = 0;
    for (std::size_t i = 0; i != c.end->frame; ++i) count += bytes_of(c.frames[i], from).size();
    return count + header_size(c.frames[c.end->frame], from) + c.end->payload_bytes;
}

std::string server_frame(unsigned first, std::string_view payload) {
    return bytes_of(frame{first, std::string{payload}}, sender::server);
}

std::string answers_to(const test_case& c) {
    std::string out;
    for (const auto& e : c.heard) {
        if (e.what == kind::text) out += server_frame(fin | text, e.payload);
        if (e.what == kind::binary) out += server_frame(fin | binary, e.payload);
        if (e.what == kind::ping) out += server_frame(fin | pong, e.payload);
    }
    if (!c.end) return out;
    if (c.end->is_fault) return out + server_frame(fin | closing, close_payload(c.end->code, c.end->text));
    return out + server_frame(fin | closing, c.end->code == 1005 ? "" : close_payload(c.end->code));
}

const std::vector<test_case>& all_cases() {
    static const std::vector<test_case> cases = [] {
        table t;
        add_lengths(t);
        add_controls(t);
        add_reserved(t);
        add_fragments(t);
        add_utf8(t);
        add_closes(t);
        add_masks(t);
        add_bounds(t);
        return std::move(t.cases);
    }();
    return cases;
}

const std::vector<closing_case>& closing_cases() {
    static const std::vector<closing_case> cases = [] {
        const auto ask = whole(text, "close");
        const auto back = whole(closing, close_payload(4001));
        const std::string ours = "close(4001 as you asked) end";
        const std::string we_went = "text(close) gone(4001 as you asked)";
        std::vector<closing_case> t{
            {"the server closes, and the client answers", {ask, back}, ours, we_went},
            {"the client answers with another code", {ask, whole(closing, close_payload(1000, "fine"))}, ours, we_went},
            {"the client answers without a code", {ask, whole(closing)}, ours, we_went},
            {"the client answers with a code that may not be sent",
             {ask, whole(closing, close_payload(1005))},
             ours,
             we_went},
            {"the client answers with half a code", {ask, whole(closing, "\x03")}, ours, we_went},
            {"both close at once",
             {whole(text, "a"), ask, whole(closing, close_payload(1001, "leaving"))},
             "text(a) " + ours,
             "text(a) " + we_went},
            {"the client's messages after our close are nobody's",
             {ask, whole(text, "late"), begins(binary, "la"), ends("te"), whole(text, "close"), back},
             ours,
             we_went},
            {"the client's pings after our close are not answered",
             {ask, whole(ping, "late"), whole(pong, "late"), back},
             ours,
             we_went},
            {"the client's message is cut by its answer", {ask, begins(text, "la"), back}, ours, we_went},
            {"our close comes within the client's message, which goes on",
             {begins(text, "a"), whole(ping, "close"), goes_on("b"), ends("c"), back},
             "pong(close) " + ours,
             "ping(close) gone(4001 as you asked)"},
            {"a reserved bit after our close", {ask, {fin | 0x40U | text, "x"}}, ours, we_went},
            {"a wrong text after our close", {ask, whole(text, "\xFF")}, ours, we_went},
            {"an endless message after our close", {ask, announces(fin | text, 1U << 30U)}, ours, we_went},
            {"the client closes, and then asks",
             {whole(closing, close_payload(1000)), ask},
             "close(1000) end",
             "gone(1000)"},
            {"the client closes, and goes on with all there is",
             {whole(closing, close_payload(3000, "so")),
              whole(text, "late"),
              whole(ping, "late"),
              begins(text, "la"),
              {0x7FU, "\xFF"},
              whole(closing, close_payload(1001))},
             "close(3000) end",
             "gone(3000 so)"},
            {"the client breaks a rule, and then closes",
             {whole(3), whole(closing, close_payload(1000))},
             "close(1002 a reserved opcode) end",
             "error(6) gone(1002 a reserved opcode)"},
        };
        closing_case many{"the client closes a thousand times", {}, "close(1000) end", "gone(1000)"};
        many.frames.assign(1000, whole(closing, close_payload(1000)));
        t.push_back(std::move(many));
        closing_case late{"the server closes, and the client closes a thousand times", {ask}, ours, we_went};
        late.frames.insert(late.frames.end(), 1000, back);
        t.push_back(std::move(late));
        return t;
    }();
    return cases;
}

}  // namespace arke::test::conformance
