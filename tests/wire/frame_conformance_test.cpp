#include <arke/wire/frame.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/conformance/cases.hpp"
#include "tests/support/catch.hpp"

using namespace arke::test::conformance;
namespace wire = arke::wire;

namespace {

std::string line(std::string_view what, std::string_view payload) {
    // A long payload is told by its size, its hash, and how it begins and ends.
    std::string out{what};
    out += "(";
    if (payload.size() <= 200) return out.append(payload).append(")\n");
    out += std::to_string(payload.size()) + "#" + std::to_string(std::hash<std::string_view>{}(payload)) + " ";
    return out.append(payload.substr(0, 20)).append("...").append(payload.substr(payload.size() - 20)).append(")\n");
}

/// Writes down what the reader tells, as a peer would take it: a close is the last.
struct listener {
    std::string heard;
    bool is_over = false;

    bool on_message(bool is_text, std::string_view payload) {
        heard += line(is_text ? "text" : "binary", payload);
        return true;
    }
    bool on_control(wire::opcode code, std::string_view payload) {
        if (code != wire::opcode::close) {
            heard += line(code == wire::opcode::ping ? "ping" : "pong", payload);
            return true;
        }
        wire::close_reason reason;
        const auto fault = wire::parse_close(payload, reason);
        if (fault) {
            on_fault(*fault);
        } else {
            heard += line("closed " + std::to_string(static_cast<unsigned>(reason.code)), reason.text);
            is_over = true;
        }
        return false;
    }
    void on_fault(const wire::frame_fault& fault) {
        heard += line("fault " + std::to_string(static_cast<unsigned>(fault.code)), fault.detail);
        is_over = true;
    }
};

std::string expected(const test_case& c, sender from) {
    constexpr const char* names[] = {"text", "binary", "ping", "pong"};
    std::string out;
    for (const auto& e : c.heard) out += line(names[static_cast<unsigned>(e.what)], e.payload);
    if (!c.end) return out;
    const bool to_server = c.end->is_fault && from == sender::server;
    return out + line((c.end->is_fault ? "fault " : "closed ") + std::to_string(c.end->code),
                      to_server ? c.end->text_to_server : c.end->text);
}

wire::frame_reader reader_of(sender from) {
    return wire::frame_reader{from == sender::client ? wire::role::server : wire::role::client};
}

/// What a reader hears of bytes that arrive in these pieces, and after how many bytes it was over.
struct reading {
    std::string heard;
    std::size_t over_after = 0;

    template <class NextPiece>
    reading(std::string_view bytes, sender from, const bounds& b, bool wanted_first, NextPiece next_piece) {
        auto reader = reader_of(from);
        const wire::frame_limits limits{b.max_message_size, b.max_fragments};
        listener sink;
        std::size_t at = 0;
        while (at != bytes.size() && !sink.is_over) {
            const auto size = std::min(next_piece(at), bytes.size() - at);
            // In memory of its own size, so that reading past it is noticed.
            std::vector<char> piece(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                    bytes.begin() + static_cast<std::ptrdiff_t>(at + size));
            at += size;
            std::span<char> rest{piece};
            std::optional<wire::frame_fault> fault;
            if (const auto own = reader.wanted(); wanted_first && !own.empty()) {
                const auto used = std::min(own.size(), rest.size());
                std::copy_n(rest.begin(), used, own.begin());
                rest = rest.subspan(used);
                fault = reader.filled(used, limits, sink);
            }
            if (!fault && !sink.is_over && !rest.empty()) fault = reader.read(rest, limits, sink);
            if (fault) sink.on_fault(*fault);
        }
        heard = std::move(sink.heard);
        over_after = sink.is_over ? at : 0;
    }
};

/// Where a case is cut in two: everywhere, or in a long one at the edges of its frames and here and there between.
std::set<std::size_t> cuts_of(const test_case& c, sender from, std::size_t size) {
    std::set<std::size_t> cuts;
    if (size <= 700) {
        for (std::size_t at = 1; at < size; ++at) cuts.insert(at);
        return cuts;
    }
    const auto step = std::max<std::size_t>(1, c.frames.size() / 8);
    std::size_t begin = 0;
    for (std::size_t i = 0; i < c.frames.size(); ++i) {
        const auto end = begin + bytes_of(c.frames[i], from).size();
        if (i % step == 0) {
            for (std::size_t at = begin; at != begin + 18; ++at) cuts.insert(at);
            cuts.insert({end - 1, (begin + end) / 2});
        }
        begin = end;
    }
    cuts.erase(0);
    cuts.erase(cuts.lower_bound(size), cuts.end());
    return cuts;
}

/// What is wrong with how the reader takes a case, whichever way it arrives; nothing.
std::string wrong_with(const test_case& c, sender from) {
    const auto right = expected(c, from);
    auto bytes = bytes_of(c, from);
    const auto size = bytes.size();
    // What stands behind an end must not be read.
    if (c.end) bytes += bytes_of(frame{0x81, "not to be heard"}, from);

    const auto tell = [&](const std::string& how, const reading& r) {
        return how + " heard:\n" + r.heard + "instead of:\n" + right;
    };
    const auto everything = [](std::size_t) { return static_cast<std::size_t>(-1); };
    if (const reading whole{bytes, from, c.limits, false, everything}; whole.heard != right)
        return tell("whole", whole);

    for (const bool wanted_first : {false, true}) {
        const std::string by = wanted_first ? ", by wanted(), " : " ";
        for (const auto at : cuts_of(c, from, size)) {
            const reading cut{bytes, from, c.limits, wanted_first,
                              [at](std::size_t begin) { return begin == 0 ? at : static_cast<std::size_t>(-1); }};
            if (cut.heard != right) return tell("cut at " + std::to_string(at) + by, cut);
        }
        for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{4096}}) {
            if (piece == 1 && size > 140'000) continue;
            const reading pieces{bytes, from, c.limits, wanted_first, [piece](std::size_t) { return piece; }};
            const auto how = "in pieces of " + std::to_string(piece) + by;
            if (pieces.heard != right) return tell(how, pieces);
            if (piece != 1 || !c.end) continue;
            const auto due = bytes_to_the_end(c, from);
            if (pieces.over_after != due) {
                return how + "was over after " + std::to_string(pieces.over_after) + " bytes instead of " +
                       std::to_string(due);
            }
        }
    }
    return {};
}

}  // namespace

TEST_CASE(
    "each case of RFC 6455 has its one outcome, whole, at every cut, byte by byte, for a server and for a client") {
    for (const auto from : {sender::client, sender::server}) {
        for (const auto& c : all_cases()) {
            const auto wrong = wrong_with(c, from);
            INFO((from == sender::client ? "a server, " : "a client, ") << c.group << ": " << c.name << "\n" << wrong);
            CHECK(wrong.empty());
        }
    }
}

TEST_CASE("all cases that are right, one after another in one stream, are all heard") {
    for (const auto from : {sender::client, sender::server}) {
        test_case all{"", "", {}, {}, std::nullopt, {}};
        for (const auto& c : all_cases()) {
            if (c.end || c.limits != all.limits) continue;
            all.frames.insert(all.frames.end(), c.frames.begin(), c.frames.end());
            all.heard.insert(all.heard.end(), c.heard.begin(), c.heard.end());
        }
        CHECK(all.heard.size() > 1000);
        const auto bytes = bytes_of(all, from);
        const auto right = expected(all, from);
        for (const std::size_t piece : {bytes.size(), std::size_t{512} * 1024, std::size_t{4093}, std::size_t{61}}) {
            for (const bool wanted_first : {false, true}) {
                const reading heard{bytes, from, all.limits, wanted_first, [piece](std::size_t) { return piece; }};
                CHECK((heard.heard == right));
            }
        }
    }
}

TEST_CASE("the table has cases of every kind, and no name twice") {
    std::map<std::string_view, std::size_t> groups;
    std::set<std::string> names;
    for (const auto& c : all_cases()) {
        ++groups[c.group];
        INFO(c.group << ": " << c.name);
        CHECK(names.insert(std::string{c.group} + ": " + c.name).second);
    }
    CHECK(groups.size() == 11);
    CHECK(names.size() > 1200);
    for (const auto& [group, count] : groups) {
        INFO(group);
        CHECK(count > 30);
    }
}
