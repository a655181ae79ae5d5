#include <arke/wire/deflate.hpp>
#include <arke/wire/frame.hpp>

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke::wire;
using arke::errc;

namespace {

using namespace std::string_literals;

constexpr deflate_terms everything{true, true, 15, 15};
constexpr deflate_terms no_takeover{false, false, 15, 15};

/// The header that answers these offers, and the terms behind it; "no" for none.
std::string answer(const std::vector<std::string_view>& offers, const deflate_terms& ready = everything) {
    const auto chosen = accept_deflate(offers, ready);
    if (!chosen) return "no";
    const auto& t = chosen->terms;
    constexpr std::string_view name = "permessage-deflate";
    CHECK(chosen->header.starts_with(name));
    return (t.send_takeover ? "keeps " : "") + std::to_string(t.send_window_bits) + "/" +
           (t.receive_takeover ? "keeps " : "") + std::to_string(t.receive_window_bits) +
           chosen->header.substr(name.size());
}

/// What a client makes of an answer.
std::string taken(const std::vector<std::string_view>& answers, const deflate_terms& offered = everything) {
    std::optional<deflate_terms> agreed;
    const auto why = find_deflate_fault(answers, offered, agreed);
    if (!why.empty()) return why;
    if (!agreed) return "none";
    return (agreed->send_takeover ? "keeps " : "") + std::to_string(agreed->send_window_bits) + "/" +
           (agreed->receive_takeover ? "keeps " : "") + std::to_string(agreed->receive_window_bits);
}

std::string deflated(deflater& by, std::string_view message) {
    byte_buffer out;
    by.deflate(message, out);
    return std::string{out.view()};
}

/// What comes out, or why nothing does.
std::string inflated(inflater& by, std::string_view message, std::size_t limit = 1UL << 20U) {
    byte_buffer out;
    switch (by.inflate(message, limit, out)) {
        case inflater::result::done: return std::string{out.view()};
        case inflater::result::too_big: CHECK(out.size <= limit + 1); return "too big";
        default: return "garbage";
    }
}
std::string inflated(std::string_view message, std::size_t limit = 1UL << 20U) {
    inflater by;
    return inflated(by, message, limit);
}

std::string noise(std::size_t size, unsigned seed = 1) {
    std::minstd_rand random{seed};
    std::string out;
    while (out.size() != size) out += static_cast<char>(random() >> 8U);
    return out;
}

std::string prices(std::size_t size) {
    std::string out;
    for (unsigned n = 0; out.size() < size; ++n)
        out +=
            R"({"symbol":"ARKE)" + std::to_string(n % 7) + R"(","price":)" + std::to_string(n * 7919 % 10'007) + "},";
    return out.substr(0, size);
}

}  // namespace

TEST_CASE("each parameter of an offer is answered") {
    CHECK(answer({"permessage-deflate"}) == "keeps 15/keeps 15");
    CHECK(answer({"permessage-deflate; client_max_window_bits"}) == "keeps 15/keeps 15");
    CHECK(answer({"permessage-deflate; server_no_context_takeover"}) == "15/keeps 15; server_no_context_takeover");
    CHECK(answer({"permessage-deflate; client_no_context_takeover"}) == "keeps 15/15; client_no_context_takeover");
    CHECK(answer({"permessage-deflate; server_max_window_bits=10"}) == "keeps 10/keeps 15; server_max_window_bits=10");
    CHECK(answer({"permessage-deflate; server_max_window_bits=8"}) == "keeps 8/keeps 15; server_max_window_bits=8");
    CHECK(answer({"permessage-deflate; server_max_window_bits=15"}) == "keeps 15/keeps 15; server_max_window_bits=15");
    CHECK(answer({"permessage-deflate; client_max_window_bits=9"}) == "keeps 15/keeps 9; client_max_window_bits=9");
    CHECK(answer({"permessage-deflate; client_max_window_bits=15"}) == "keeps 15/keeps 15");
    CHECK(answer({"permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                  "server_max_window_bits=12; client_max_window_bits=11"}) ==
          "12/11; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12; "
          "client_max_window_bits=11");
}

TEST_CASE("what the config does not want is not agreed on") {
    CHECK(answer({"permessage-deflate"}, no_takeover) ==
          "15/15; server_no_context_takeover; client_no_context_takeover");
    CHECK(answer({"permessage-deflate; client_max_window_bits"}, {true, true, 11, 10}) ==
          "keeps 11/keeps 10; server_max_window_bits=11; client_max_window_bits=10");
    CHECK(answer({"permessage-deflate; server_max_window_bits=13; client_max_window_bits=14"}, {true, true, 11, 10}) ==
          "keeps 11/keeps 10; server_max_window_bits=11; client_max_window_bits=10");
    // One that cannot be asked to look back less gets no context that would cost more than the config says.
    CHECK(answer({"permessage-deflate"}, {true, true, 15, 10}) == "keeps 15/15; client_no_context_takeover");
}

TEST_CASE("spaces, quotes, the case of letters and several fields are read as HTTP has them") {
    CHECK(answer({" \tpermessage-deflate ;server_max_window_bits = \"1\\0\" "}) ==
          "keeps 10/keeps 15; server_max_window_bits=10");
    CHECK(answer({"Permessage-Deflate; Server_No_Context_Takeover"}) == "15/keeps 15; server_no_context_takeover");
    CHECK(answer({"", ", ,", "x-other; a=b; c=\"d;,e\"", "x, permessage-deflate"}) == "keeps 15/keeps 15");
    CHECK(answer({"x-webkit-deflate-frame"}) == "no");
    CHECK(answer({}) == "no");
}

TEST_CASE("the first offer that can be met is chosen, and one that is wrong is passed over") {
    CHECK(answer({"permessage-deflate; server_max_window_bits=9, permessage-deflate"}) ==
          "keeps 9/keeps 15; server_max_window_bits=9");
    for (const std::string wrong :
         {"server_max_window_bits", "server_max_window_bits=7", "server_max_window_bits=16",
          "server_max_window_bits=010", "server_max_window_bits=+9", "server_max_window_bits=9x",
          "server_max_window_bits=\"16\"", "client_max_window_bits=7", "client_max_window_bits=16",
          "client_max_window_bits=99999999999999999999", "server_no_context_takeover=1",
          "client_no_context_takeover=true", "server_no_context_takeover; server_no_context_takeover",
          "client_no_context_takeover; client_no_context_takeover",
          "server_max_window_bits=9; server_max_window_bits=9", "client_max_window_bits; client_max_window_bits",
          "client_max_window_bits=9; client_max_window_bits", "unknown", "unknown=1"}) {
        INFO(wrong);
        const auto offer = "permessage-deflate; " + wrong;
        CHECK(answer({offer}) == "no");
        CHECK(answer({offer + ", permessage-deflate"}) == "keeps 15/keeps 15");
        CHECK(answer({offer, "permessage-deflate"}) == "keeps 15/keeps 15");
    }
}

TEST_CASE("a field that is no list of extensions ends there, and what stood before counts") {
    for (const std::string broken :
         {"permessage-deflate;", "permessage-deflate; =9", "permessage-deflate; a=", "permessage-deflate; a=\"",
          "permessage-deflate; a=\"9", "permessage-deflate; a=\"\\", "permessage-deflate; a=\"9\"x",
          "permessage-deflate; a=\"\"", "permessage-deflate x", "permessage-deflate; a=\"9 9\"", "=", ";",
          "\"permessage-deflate\"", "permessage-deflate/1"}) {
        INFO(broken);
        CHECK(answer({broken}) == "no");
        CHECK(answer({broken + ", permessage-deflate"}) == "no");
        CHECK(answer({"permessage-deflate, " + broken}) == "keeps 15/keeps 15");
        CHECK(answer({broken, "permessage-deflate"}) == "keeps 15/keeps 15");
    }
}

TEST_CASE("a hundred thousand offers are read once each") {
    std::string all;
    for (int n = 0; n != 100'000; ++n)
        all += "permessage-deflate; server_max_window_bits=7; server_max_window_bits=16,";
    CHECK(answer({all}) == "no");
    CHECK(answer({all + "permessage-deflate"}) == "keeps 15/keeps 15");
    CHECK(answer({"permessage-deflate; a=\"" + std::string(1'000'000, '\\')}) == "no");
}

TEST_CASE("ten times as many offers, parameters or backslashes take about ten times as long to read") {
    // By the clock of the processor, and the best of several. Where each were read once for each, it would be a hundred times.
    const auto cost = [](const std::string& field, const char* expected) {
        std::clock_t best = std::numeric_limits<std::clock_t>::max();
        for (int n = 0; n != 5; ++n) {
            const auto before = std::clock();
            CHECK(answer({field}) == expected);
            best = std::min(best, std::clock() - before);
        }
        return std::max<std::clock_t>(best, 1);
    };
    const auto times = [](std::size_t count, std::string_view text) {
        std::string all;
        for (std::size_t n = 0; n != count; ++n) all += text;
        return all;
    };
    constexpr std::size_t few = 10'000;
    const auto grows = [&](std::string_view before, std::string_view each, std::string_view behind,
                           const char* expected) {
        const auto of = [&](std::size_t count) {
            return cost(std::string{before} + times(count, each) + std::string{behind}, expected);
        };
        return static_cast<double>(of(10 * few)) / static_cast<double>(of(few));
    };
    CHECK(grows("", "permessage-deflate; server_max_window_bits=7,", "permessage-deflate", "keeps 15/keeps 15") < 40);
    CHECK(grows("permessage-deflate", "; unknown=1", "", "no") < 40);
    CHECK(grows("permessage-deflate", "; server_no_context_takeover", "", "no") < 40);
    CHECK(grows("permessage-deflate; a=\"", "\\", "", "no") < 40);
}

TEST_CASE("a client offers what its config is ready for") {
    CHECK(offer_deflate(everything) == "permessage-deflate; client_max_window_bits");
    CHECK(offer_deflate(no_takeover) ==
          "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits");
    CHECK(offer_deflate({true, true, 11, 10}) ==
          "permessage-deflate; server_max_window_bits=10; client_max_window_bits");
}

TEST_CASE("an answer is checked against the offer") {
    CHECK(taken({}) == "none");
    CHECK(taken({""}) == "none");
    CHECK(taken({"permessage-deflate"}) == "keeps 15/keeps 15");
    CHECK(taken({"permessage-deflate; server_no_context_takeover; client_no_context_takeover"}) == "15/15");
    CHECK(taken({"permessage-deflate; server_max_window_bits=9; client_max_window_bits=8"}) == "keeps 8/keeps 9");
    CHECK(taken({"permessage-deflate; server_no_context_takeover"}, no_takeover) == "15/15");
    CHECK(taken({"permessage-deflate; server_max_window_bits=10"}, {true, true, 11, 10}) == "keeps 11/keeps 10");
    // We may look back less than we are asked to.
    CHECK(taken({"permessage-deflate; client_max_window_bits=12"}, {true, true, 11, 15}) == "keeps 11/keeps 15");

    const auto refused = [](const std::vector<std::string_view>& answers, const deflate_terms& offered = everything) {
        std::optional<deflate_terms> agreed;
        const auto why = find_deflate_fault(answers, offered, agreed);
        return !why.empty();
    };
    CHECK(refused({"x-webkit-deflate-frame"}));
    CHECK(refused({"permessage-deflate, x-other"}));
    CHECK(refused({"permessage-deflate, permessage-deflate"}));
    CHECK(refused({"permessage-deflate", "permessage-deflate"}));
    CHECK(refused({"permessage-deflate; client_max_window_bits"}));
    CHECK(refused({"permessage-deflate; server_max_window_bits=16"}));
    CHECK(refused({"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"}));
    CHECK(refused({"permessage-deflate; unknown"}));
    CHECK(refused({"permessage-deflate;"}));
    CHECK(refused({"permessage-deflate; a=\""}));
    CHECK(refused({"permessage-deflate"}, no_takeover));
    CHECK(refused({"permessage-deflate"}, {true, true, 15, 10}));
    CHECK(refused({"permessage-deflate; server_max_window_bits=11"}, {true, true, 15, 10}));
}

TEST_CASE("what a server answers is an answer to the client's offer, in every combination") {
    for (const bool server_sends : {false, true}) {
        for (const bool server_receives : {false, true}) {
            for (const bool client_sends : {false, true}) {
                for (const bool client_receives : {false, true}) {
                    for (const int down : {9, 11, 15}) {
                        for (const int up : {9, 12, 15}) {
                            const deflate_terms server{server_sends, server_receives, static_cast<std::uint8_t>(down),
                                                       static_cast<std::uint8_t>(up)};
                            const deflate_terms client{client_sends, client_receives, 13, 10};
                            const auto offer = offer_deflate(client);
                            const std::string_view offers[]{offer};
                            const auto chosen = accept_deflate(offers, server);
                            REQUIRE(chosen);
                            const std::string_view answers[]{chosen->header};
                            std::optional<deflate_terms> agreed;
                            CHECK(find_deflate_fault(answers, client, agreed) == "");
                            REQUIRE(agreed);
                            // Both ends mean the same by it.
                            const auto& t = chosen->terms;
                            CHECK(agreed->send_takeover == t.receive_takeover);
                            CHECK(agreed->receive_takeover == t.send_takeover);
                            CHECK(agreed->send_window_bits <= t.receive_window_bits);
                            CHECK(agreed->receive_window_bits == t.send_window_bits);
                        }
                    }
                }
            }
        }
    }
}

TEST_CASE("the examples of RFC 7692 inflate") {
    CHECK(inflated("\xf2\x48\xcd\xc9\xc9\x07\x00"s) == "Hello");
    CHECK(inflated("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"s) == "Hello");          // not compressed
    CHECK(inflated("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"s) == "Hello");                      // a final block
    CHECK(inflated("\xf3\x48\xcd\xc9\xc9\x07\x00"s) == "Hello");                          // and nothing behind it
    CHECK(inflated("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"s) == "Hello");  // two blocks
    CHECK(inflated("\x00"s) == "");
    CHECK(inflated("\x02\x00"s) == "");
    CHECK(inflated("") == "");

    inflater keeps;
    CHECK(inflated(keeps, "\xf2\x48\xcd\xc9\xc9\x07\x00"s) == "Hello");
    CHECK(inflated(keeps, "\xf2\x00\x11\x00\x00"s) == "Hello");
    keeps.forget();
    CHECK(inflated(keeps, "\xf2\x00\x11\x00\x00"s) == "garbage");
}

TEST_CASE("messages of every size come through every window, with and without what came before") {
    for (const int bits : {8, 9, 11, 15}) {
        for (const int memory : {1, 8}) {
            for (const int level : {1, 6, 9}) {
                deflater keeps{level, bits, memory};
                deflater alone{level, bits, memory};
                inflater keeps_too{bits};
                inflater other{bits};
                for (const std::size_t size : {1U, 2U, 17U, 255U, 256U, 700U, 5'000U, 40'000U}) {
                    for (const auto& message : {prices(size), noise(size), std::string(size, 'a')}) {
                        INFO(bits << " " << memory << " " << level << " " << size);
                        CHECK(inflated(keeps_too, deflated(keeps, message)) == message);
                        const auto apart = deflated(alone, message);
                        alone.forget();
                        CHECK(apart.size() <= max_deflated_size(size));
                        CHECK(inflated(other, apart) == message);
                        other.forget();
                        // Who keeps a context understands what refers to none.
                        CHECK(inflated(keeps_too, apart) == message);
                        keeps.forget();
                    }
                }
            }
        }
    }
}

TEST_CASE("what went before makes a message shorter, and only with context takeover") {
    deflater by{6, 15, 8};
    const auto message = noise(300);
    const auto first = deflated(by, message);
    CHECK(first.size() > 300);
    CHECK(deflated(by, message).size() < 10);
    by.forget();
    CHECK(deflated(by, message) == first);
}

TEST_CASE("the window is as large as a message needs") {
    CHECK(window_for(1, 15) == 9);
    CHECK(window_for(250, 15) == 9);
    CHECK(window_for(251, 15) == 10);
    CHECK(window_for(1'000'000, 15) == 15);
    CHECK(window_for(1'000'000, 11) == 11);
    CHECK(window_for(1'000'000, 8) == 9);
    // What stands at the very beginning is found from the very end.
    for (const std::size_t size : {250U, 762U, 1'786U, 32'506U}) {
        const auto message = noise(20) + noise(size - 40, 2) + noise(20);
        const int bits = window_for(size, 15);
        deflater by{9, bits, memory_level_for(bits, 8)};
        deflater large{9, 15, 8};
        CHECK(deflated(by, message).size() <= deflated(large, message).size() + 8);
    }
}

TEST_CASE("a message inflates up to its limit, and one byte more is too big") {
    deflater by{6, 15, 8};
    for (const std::size_t size : {1U, 255U, 256U, 257U, 1'024U, 100'000U}) {
        for (const auto& message : {std::string(size, 'z'), noise(size)}) {
            const auto small = deflated(by, message);
            by.forget();
            CHECK(inflated(small, size) == message);
            CHECK(inflated(small, size - 1) == "too big");
            CHECK(inflated(small, 0) == "too big");
        }
    }
}

TEST_CASE("a bomb takes no more memory than its limit") {
    deflater by{9, 15, 8};
    const auto bomb = deflated(by, std::string(4UL << 20U, '\0'));
    CHECK(bomb.size() < 5'000);
    byte_buffer out;
    inflater in;
    CHECK(in.inflate(bomb, 65'536, out) == inflater::result::too_big);
    CHECK(out.capacity <= 65'537);
    CHECK(out.size <= 65'537);
}

TEST_CASE("bytes that are no DEFLATE are garbage, and a message that is cut is too") {
    CHECK(inflated("\xff\xff"s) == "garbage");
    CHECK(inflated("\x06"s) == "garbage");                           // the reserved kind of block
    CHECK(inflated("\x00\x05\x00\x00\x00zzzzz\x00"s) == "garbage");  // a length that is not said twice
    CHECK(inflated("\xf2\x48\xcd"s) == "garbage");

    deflater by{6, 15, 8};
    const auto message = prices(2'000);
    const auto whole = deflated(by, message);
    inflater in;
    for (std::size_t size = 1; size != whole.size(); ++size) {
        CHECK(inflated(in, std::string_view{whole}.substr(0, size)) == "garbage");
        in.forget();
    }
    for (unsigned seed = 1; seed != 2'000; ++seed) {
        const auto text = inflated(in, noise(1 + seed % 90, seed), 4096);
        CHECK(text.size() <= 4096);
        in.forget();
    }
}

TEST_CASE("empty blocks do nothing and end") {
    std::string blocks;
    for (int n = 0; n != 10'000; ++n) blocks += "\x00\x00\x00\xff\xff"s;
    CHECK(inflated(blocks + "\x00"s, 10) == "");
    // Final ones too.
    std::string finals;
    for (int n = 0; n != 10'000; ++n) finals += "\x03\x00"s;
    CHECK(inflated(finals + "\x00"s, 10) == "");
}

// --------------------------------------------------------------------------------------------------------- the frames

namespace {

constexpr frame_limits limits{64, 8};

std::string frame(unsigned first, std::string_view payload) {
    std::string out(1, static_cast<char>(first));
    if (payload.size() < 126) {
        out += static_cast<char>(0x80U | payload.size());
    } else {
        out += "\xFE"s;
        out += static_cast<char>(payload.size() >> 8U);
        out += static_cast<char>(payload.size());
    }
    const std::string key = "\x11\x22\x33\x44";
    out += key;
    for (std::size_t i = 0; i != payload.size(); ++i) out += static_cast<char>(payload[i] ^ key[i % 4]);
    return out;
}

struct sink {
    std::string heard;
    bool on_message(bool is_text, std::string_view payload) { return note(is_text ? "text" : "binary", payload); }
    bool on_deflated(bool is_text, std::string_view payload) {
        return note(is_text ? "small text" : "small binary", payload);
    }
    bool on_control(opcode code, std::string_view payload) {
        return note(code == opcode::ping ? "ping" : "close", payload);
    }
    bool note(const char* what, std::string_view payload) {
        heard.append(what).append("(");
        heard += payload.size() > 40 ? std::to_string(payload.size()) : std::string{payload};
        heard += ") ";
        return true;
    }
};

/// What is heard of bytes that come in pieces of that size.
std::string heard(const std::string& bytes, std::size_t piece = 1'000, bool allowed = true) {
    frame_reader reader;
    if (allowed) reader.allow_deflated();
    sink to;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        auto part = bytes.substr(at, piece);
        if (const auto fault = reader.read(part, limits, to))
            return to.heard + "fault " + std::to_string(static_cast<unsigned>(fault->code));
    }
    return to.heard + (reader.in_message() ? "..." : "");
}

constexpr unsigned fin = 0x80;
constexpr unsigned small = 0x40;

}  // namespace

TEST_CASE("compressed messages and others are told apart at every split") {
    const auto all = frame(fin | small | 1, "\xFF\xFE") + frame(fin | 2, "plain") + frame(small | 2, "be") +
                     frame(fin | 9, "within") + frame(0, "gin") + frame(fin | 0, "end") + frame(1, "one") +
                     frame(fin | 0, "two") + frame(fin | small | 1, "");
    const std::string expected =
        "small text(\xFF\xFE) binary(plain) ping(within) small binary(beginend) text(onetwo) small text() ";
    for (std::size_t piece = 1; piece <= all.size(); ++piece) CHECK(heard(all, piece) == expected);
}

TEST_CASE("RSV1 stands on the first frame of a message where it was agreed on, and nowhere else") {
    CHECK(heard(frame(fin | small | 1, "x"), 1'000, false) == "fault 1002");
    CHECK(heard(frame(small | 1, "x"), 1'000, false) == "fault 1002");
    for (const std::size_t piece : {1U, 1'000U}) {
        CHECK(heard(frame(fin | small | 9, "x"), piece) == "fault 1002");
        CHECK(heard(frame(fin | small | 8, "x"), piece) == "fault 1002");
        CHECK(heard(frame(fin | small | 0, "x"), piece) == "fault 1002");
        CHECK(heard(frame(small | 1, "x") + frame(fin | small | 0, "x"), piece) == "fault 1002");
        CHECK(heard(frame(1, "x") + frame(fin | small | 0, "x"), piece) == "fault 1002");
        for (const unsigned others : {0x10U, 0x20U, 0x30U, 0x50U, 0x60U, 0x70U})
            CHECK(heard(frame(fin | others | 1, "x"), piece) == "fault 1002");
        CHECK(heard(frame(fin | small | 3, "x"), piece) == "fault 1002");
    }
}

TEST_CASE("a compressed message may be a little longer on the wire, and no more") {
    const auto most = max_deflated_size(limits.max_message_size);
    CHECK(most == 64 + 8 + 1 + 64);
    CHECK(max_deflated_size(~std::size_t{0}) == ~std::size_t{0});
    for (const std::size_t piece : {1U, 1'000U}) {
        const auto size = std::to_string(most);
        CHECK(heard(frame(fin | small | 1, std::string(most, 'x')), piece) == "small text(" + size + ") ");
        CHECK(heard(frame(fin | small | 1, std::string(most + 1, 'x')), piece) == "fault 1009");
        CHECK(heard(frame(small | 1, std::string(most - 1, 'x')) + frame(fin, "x"), piece) ==
              "small text(" + size + ") ");
        CHECK(heard(frame(small | 1, std::string(most - 1, 'x')) + frame(fin, "xx"), piece) == "fault 1009");
        // Others may not.
        CHECK(heard(frame(fin | 1, std::string(65, 'x')), piece) == "fault 1009");
        CHECK(heard(frame(1, std::string(64, 'x')) + frame(fin, "x"), piece) == "fault 1009");
    }
}
