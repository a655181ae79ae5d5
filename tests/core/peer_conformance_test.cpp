#include <arke/server.hpp>

#include <algorithm>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/conformance/cases.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

using namespace arke;
using namespace arke::test::conformance;
using arke::test::scripted_server;
using conformance_frame = arke::test::conformance::frame;

namespace {

std::string line(std::string_view what, std::string_view payload) {
    std::string out{what};
    return out.append("(").append(payload).append(")\n");
}

/// A server that sends every message back, closes where it is told to, and writes down what it hears.
class echo_server : public scripted_server {
public:
    explicit echo_server(const bounds& b = {}, bool sends_in_batches = false)
        : scripted_server{{.max_message_size = b.max_message_size,
                           .max_fragments = b.max_fragments,
                           .max_outbox_bytes = 64UL << 20U},
                          1,
                          16 * 1024,
                          sends_in_batches} {
        on_message([this](connection& c, message_view m) {
            heard += line(m.is_text ? "text" : "binary", m.data);
            if (m.is_text && m.data == "close") return c.disconnect(close_code{4001}, "as you asked");
            c.emit_message(m);
        });
        on_ping([this](connection& c, bytes_view payload) {
            heard += line("ping", as_text(payload));
            if (as_text(payload) == "close") c.disconnect(close_code{4001}, "as you asked");
        });
        on_pong([this](bytes_view payload) { heard += line("pong", as_text(payload)); });
        on_error([this](const error_report& e) { heard += line("error", std::to_string(e.code.value())); });
        on_disconnect([this](close_code code, std::string_view reason) {
            const auto number = std::to_string(static_cast<unsigned>(code));
            heard += line("gone", number + (reason.empty() ? "" : " ") + std::string{reason});
        });
    }

    std::string heard;
};

/// What the application hears of a case, and then of a goodbye where the case is none.
std::string expected(const test_case& c) {
    constexpr const char* names[] = {"text", "binary", "ping", "pong"};
    std::string out;
    for (const auto& e : c.heard) out += line(names[static_cast<unsigned>(e.what)], e.payload);
    if (!c.end) return out + line("text", "") + line("gone", "1000");
    if (c.end->is_fault) {
        const auto what = c.end->code == 1009 ? errc::message_too_big : errc::frame_violation;
        out += line("error", std::to_string(static_cast<int>(what)));
    }
    return out + line("gone", std::to_string(c.end->code) + (c.end->text.empty() ? "" : " ") + c.end->text);
}

std::string short_text(const std::string& text) { return text.size() < 1000 ? text : text.substr(0, 1000) + "...\n"; }

/// What is wrong with how the server takes a case, however it arrives: at once, with the handshake, byte by byte, cut in two.
std::string wrong_with(const test_case& c, bool sends_in_batches) {
    auto bytes = bytes_of(c, sender::client);
    const auto size = bytes.size();
    // Behind an end nothing is read. Where there is none, the connection is as good as before.
    bytes += bytes_of(conformance_frame{0x81, ""}, sender::client) +
             bytes_of(conformance_frame{0x88, "\x03\xE8"}, sender::client);
    const auto answers = answers_to(c) + (c.end ? "" : server_frame(0x81, "") + server_frame(0x88, "\x03\xE8"));
    const auto right = expected(c);

    echo_server server{c.limits, sends_in_batches};
    const auto judge = [&](testing::client& one, const std::string& how) -> std::string {
        server.settle();
        const std::string sent{one.bytes()};
        std::string wrong;
        if (const auto heard = std::exchange(server.heard, {}); heard != right)
            wrong = how + ", the application heard:\n" + short_text(heard) + "instead of:\n" + short_text(right);
        if (sent != answers) {
            wrong = how + ", the client heard:\n" + short_text(test::transcript(sent)) + "\ninstead of:\n" +
                    short_text(test::transcript(answers)) + "\n";
        }
        if (!one.stream().is_shut || one.stream().is_closed)
            wrong += how + ", the server has not ended its direction, and that only";
        one.hangs_up();
        server.settle();
        if (!one.stream().is_closed) wrong += how + ", the server has not closed";
        if (!server.heard.empty()) wrong += how + ", something was heard after the end: " + server.heard;
        return wrong;
    };

    auto& at_once = server.connect();
    at_once.sends(bytes);
    if (auto wrong = judge(at_once, "at once"); !wrong.empty()) return wrong;
    if (auto wrong = judge(server.connect(
                               {}, 0, [](auto&) {}, bytes),
                           "with the handshake");
        !wrong.empty())
        return wrong;

    std::set<std::size_t> cuts;
    for (std::size_t at = 1; at < std::min<std::size_t>(size, 20); ++at) cuts.insert(at);
    for (std::size_t n = 1; n != 20; ++n) cuts.insert(size * n / 20);
    for (const auto at : cuts) {
        auto& one = server.connect();
        one.sends(bytes.substr(0, at));
        one.sends(bytes.substr(at));
        if (auto wrong = judge(one, "cut at " + std::to_string(at)); !wrong.empty()) return wrong;
    }
    auto& drip = server.connect();
    const std::size_t piece = size < 3000 ? 1 : 997;
    for (std::size_t at = 0; at < bytes.size(); at += piece) drip.sends(bytes.substr(at, piece));
    return judge(drip, "piece by piece");
}

}  // namespace

TEST_CASE(
    "an echo server answers each case of RFC 6455 with exactly these bytes, and tells its application exactly that") {
    for (const bool sends_in_batches : {false, true}) {
        for (const auto& c : all_cases()) {
            INFO(c.group << ": " << c.name);
            CHECK(wrong_with(c, sends_in_batches) == "");
        }
    }
}

TEST_CASE("a closing handshake has one outcome, whoever begins it and whatever comes after") {
    for (const auto& c : closing_cases()) {
        INFO(c.name);
        std::string bytes;
        for (const auto& f : c.frames) bytes += bytes_of(f, sender::client);
        for (const std::size_t piece : {bytes.size(), std::size_t{1}, std::size_t{9}}) {
            echo_server server;
            auto& one = server.connect();
            for (std::size_t at = 0; at < bytes.size(); at += piece) one.sends(bytes.substr(at, piece));
            CHECK(one.heard() == c.answer);
            one.hangs_up();
            server.settle();
            CHECK(one.stream().is_closed);
            std::string heard;
            for (const char letter : server.heard) heard += letter == '\n' ? ' ' : letter;
            CHECK(heard == c.application + " ");
        }
    }
}
