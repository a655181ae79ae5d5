#include <arke/arke.hpp>
#include <arke/testing.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"
#include "tests/support/sanitizer.hpp"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace arke::test;
using namespace std::chrono_literals;
using namespace std::string_literals;
using arke::config;
using arke::connection;
using arke::message_view;

namespace {

/// A server that sends every message back and writes down how connections end, and a client of it that does nothing wrong.
class watched_server {
public:
    journal ends;
    running_server net;

    explicit watched_server(config settings = {}) : net{quiet(GENERATE(from_range(all_loops())), std::move(settings))} {
        net->on_message([](connection& c, message_view m) { c.emit_message(m); });
        net->on_disconnect(
            [this](arke::close_code code, std::string_view) { ends.add(std::to_string(static_cast<unsigned>(code))); });
    }

    void start(unsigned threads = 1) {
        net.start(threads);
        canary_ = std::make_unique<client>(net.port());
    }

    std::uint16_t port() const { return net.port(); }

    /// Whether the canary is still served, and nobody else is left.
    std::string canary() {
        const auto song = "song " + std::to_string(++songs_);
        canary_->send(song);
        if (const auto heard = canary_->receive(); heard != song) return "it hears " + heard;
        if (!eventually([this] { return net->size() == 1; }))
            return std::to_string(net->size()) + " connections are left";
        return "sings alone";
    }

private:
    std::unique_ptr<client> canary_;
    int songs_ = 0;
};

/// What the server answered to an upgrade and frames, as transcript() writes it.
std::string told(std::string_view bytes) {
    const auto head = bytes.find("\r\n\r\n");
    if (!bytes.starts_with("HTTP/1.1 101") || head == bytes.npos) return std::string{bytes.substr(0, 12)};
    const auto frames = arke::testing::transcript(bytes.substr(head + 4), client::prefix);
    return "101" + (frames.empty() ? "" : " " + frames);
}

}  // namespace

// ------------------------------------------------------------------------------------------------------- clients that go

TEST_CASE("a client that ends its direction at whichever byte is answered what it said whole, and is over") {
    watched_server server;
    server.start();
    // What is answered once so many bytes have arrived.
    const std::vector<std::pair<std::string, std::string>> parts{
        {upgrade_request(), "101"},
        {masked_frame(0x81, "one"), " text(one)"},
        {masked_frame(0x89, "p"), " pong(p)"},
        {masked_frame(0x01, "tw"), ""},
        {masked_frame(0x8A, "q"), ""},
        {masked_frame(0x80, "o"), " text(two)"},
        {masked_frame(0x82, std::string(130, 'x')), " binary(130 bytes)"},
        {masked_frame(0x88, "\x03\xE8"), " close(1000)"},
    };
    std::string bytes;
    for (const auto& [part, answer] : parts) bytes += part;
    const auto answers = [&](std::size_t count) {
        std::string all;
        for (const auto& [part, answer] : parts) {
            if (count < part.size()) break;
            count -= part.size();
            all += answer;
        }
        return all;
    };
    std::string wrong;
    for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
        raw_client one{server.port()};
        one.send(std::string_view{bytes}.substr(0, cut));
        one.shutdown();
        const auto heard = told(one.read_to_end());
        if (heard != answers(cut)) wrong += "after " + std::to_string(cut) + " bytes: " + heard + "\n";
    }
    CHECK(wrong == "");
    const auto accepted = bytes.size() - upgrade_request().size() + 1;
    std::string all;
    for (std::size_t n = 0; n != accepted; ++n) all += n == 0 ? "1006" : n + 1 == accepted ? " 1000" : " 1006";
    CHECK(server.ends.wait(accepted) == all);
    CHECK(server.canary() == "sings alone");
}

TEST_CASE(
    "a client that is reset at whichever byte takes nobody along, before the accept, in the handshake and after") {
    watched_server server;
    server.start(GENERATE(1U, 2U));
    const auto bytes = upgrade_request() + masked_frame(0x81, "one") + masked_frame(0x01, "tw") +
                       masked_frame(0x80, "o") + masked_frame(0x88, "\x03\xE8");
    for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
        raw_client one{server.port()};
        one.send(std::string_view{bytes}.substr(0, cut));
        // Half of them in the midst of the answer.
        if (cut >= upgrade_request().size() && cut % 2 == 0) one.read(1);
        one.reset();
    }
    for (int n = 0; n != 300; ++n) raw_client{server.port()}.reset();
    std::vector<std::unique_ptr<raw_client>> crowd;
    for (int n = 0; n != 100; ++n) {
        crowd.push_back(std::make_unique<raw_client>(server.port()));
        crowd.back()->send(upgrade_request() + masked_frame(0x81, "x"));
    }
    for (auto& one : crowd) one->reset();
    CHECK(server.canary() == "sings alone");
}

TEST_CASE("a client that ends its direction and reads on hears the end, and one that does neither is cut") {
    watched_server server{{.close_timeout = 80ms}};
    server.start();
    raw_client half_open{server.port()};
    half_open.send(upgrade_request());
    REQUIRE(half_open.read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    half_open.shutdown();
    CHECK(half_open.read_to_end() == "");
    CHECK(server.ends.wait(1) == "1006");
    // It has said goodbye, hears ours, and leaves its direction open.
    raw_client lingering{server.port()};
    lingering.send(upgrade_request());
    REQUIRE(lingering.read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
    lingering.send(masked_frame(0x88, "\x03\xE8"));
    CHECK(lingering.read(4) == "\x88\x02\x03\xE8");
    CHECK(lingering.read_to_end() == "");
    bool taken = true;
    const auto begin = std::chrono::steady_clock::now();
    while (taken && std::chrono::steady_clock::now() - begin < patience) taken = lingering.send("x");
    CHECK_FALSE(taken);
    CHECK(server.canary() == "sings alone");
}

// ------------------------------------------------------------------------------------------------------------- bad input

TEST_CASE("whoever pings without end and never reads is cut, and holds one pong") {
    watched_server server{{.write_timeout = 80ms}};
    server.start();
    raw_client flood{server.port(), 4096};
    flood.send(upgrade_request());
    std::string pings;
    for (int n = 0; n != 1000; ++n) pings += masked_frame(0x89, std::string(125, 'p'));
    std::size_t sent = 0;
    std::size_t most_waiting = 0;
    // The first is so small that it is always sent before the cut.
    for (auto next = masked_frame(0x89, "p"); flood.send(next); next = pings) {
        sent += next.size();
        most_waiting = std::max<std::size_t>(most_waiting, server.net->metrics().outbox_bytes);
    }
    // The kernel's buffers take the first pongs; of what comes after, a turn's buffer at the most waits.
    CHECK(most_waiting <= 16 * 1024 + 127);
    CHECK(sent > 0);
    CHECK(server.ends.wait(1) == "1006");
    CHECK(server.canary() == "sings alone");
}

TEST_CASE("names, values and JSON that nobody expects are reports or events like others, and the connection stays") {
    watched_server server{{.max_message_size = 256 * 1024}};
    auto& s = *server.net.owner();
    s.on("int", [](connection& c, std::int32_t n) { c.emit("int", n); });
    s.on("byte", [](connection& c, std::uint8_t n) { c.emit("byte", n); });
    s.on("double", [](connection& c, double n) { c.emit("double", n); });
    s.on("json", [](connection& c, const nlohmann::json& j) { c.emit("json", j.size()); });
    s.on("join", [](connection& c, const std::string& room) { c.emit("join", c.join(room)); });
    s.on("tell", [](connection& c, const std::string& room) { c.to(room).emit("told", room); });
    s.on_any([](connection& c, const arke::event_view& e) { c.emit("any", e.name.size()); });
    s.on_error([](connection& c, const arke::error_report& e) { c.emit("report", e.code.value()); });
    server.start();
    client one{server.port()};
    const auto answer = [&](std::string_view event, std::string_view data = {}, int tag = 0) {
        one.emit(event, data, tag);
        return one.receive();
    };
    const auto report = [](arke::errc what) { return "report;1;" + std::to_string(static_cast<int>(what)); };
    const auto malformed = report(arke::errc::malformed_event);
    const auto wrong_type = report(arke::errc::wrong_type);

    CHECK(answer("__proto__") == "any;1;9");
    CHECK(answer("constructor") == "any;1;11");
    CHECK(answer(std::string(1, '\0')) == "any;1;1");
    CHECK(answer(std::string(64 * 1024, 'n')) == "any;1;65536");
    CHECK(answer("na;0;me") == "any;1;2");  // the delimiter ends a name, whatever it was meant for
    CHECK(answer("", "x") == malformed);
    CHECK(answer("na;me", "x") == malformed);
    CHECK(answer("tag", "x", 5) == malformed);

    CHECK(answer("int", "2147483647", 1) == "int;1;2147483647");
    for (const auto wrong : {"2147483648", "-2147483649", "99999999999999999999999999", "1e3", "0x10", "", "one"}) {
        INFO(wrong);
        CHECK(answer("int", wrong, 1) == wrong_type);
    }
    for (const auto wrong : {"-1", "256"}) CHECK(answer("byte", wrong, 1) == wrong_type);
    for (const auto wrong : {"1e999", "NaN", "Infinity", "--1"}) CHECK(answer("double", wrong, 1) == wrong_type);

    const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    CHECK(answer("json", nested(128), 4) == "json;1;1");
    for (const auto& wrong : {nested(129), nested(10'000), std::string(100'000, '['), std::string(100'000, '{'),
                              std::string{"{\"a\":}"}, std::string{"[1,]"}, std::string{}}) {
        INFO(wrong.substr(0, 20));
        CHECK(answer("json", wrong, 4) == wrong_type);
    }

    // Nobody gets into what is meant for another: the canary's id is no room.
    REQUIRE(eventually([&] { return s.size() == 2; }));
    std::string joined;
    for (const auto& other : s.connections()) {
        const auto heard = answer("join", other.id());
        joined += heard + (heard.starts_with("report") ? " " + one.receive() : "") + " ";
    }
    const auto own = "join;2;true "s;
    const auto foreign = report(arke::errc::name_taken) + " join;2;false ";
    CHECK((joined == own + foreign || joined == foreign + own));
    for (const auto room : {"__proto__", "constructor", "with;delimiter"}) {
        CHECK(answer("join", room) == "join;2;true");
        CHECK(answer("tell", room) == "told;0;" + std::string{room});
    }
    CHECK(one.close());
    CHECK(server.canary() == "sings alone");
}

TEST_CASE(
    "of a client of arke.v1 odd names, rooms, numbers and data are answers or reports, and nobody hears what is not "
    "his") {
    watched_server server{{.max_message_size = 256 * 1024, .max_room_name_bytes = 128 * 1024}};
    auto& s = *server.net.owner();
    s.on("int", [](std::int32_t n) { return n; });
    s.on("byte", [](std::uint8_t n) { return static_cast<int>(n); });
    s.on("json", [](const nlohmann::json& j) { return j.size(); });
    s.on_any([](connection& c, const arke::event_view& e) { c.emit("any", e.name.size()); });
    s.on_join([](std::string_view) { return true; });
    s.on_error([](connection& c, const arke::error_report& e) { c.emit("report", e.code.value()); });
    server.start();
    client one{server.port(), "/", {{"Sec-WebSocket-Protocol", "arke.v1"}}};
    REQUIRE(one.response_header("Sec-WebSocket-Protocol") == "arke.v1");
    const auto answer = [&](const std::string& message) {
        one.send(message);
        return one.receive();
    };
    const auto report = [](arke::errc what) { return "enreport\n" + std::to_string(static_cast<int>(what)); };
    const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    const std::string nul(1, '\0');
    const std::string large(64 * 1024, 'n');

    // Names of events: nothing in them is a delimiter but the line feed, which is escaped.
    CHECK(answer("ev__proto__\n") == "enany\n9");
    CHECK(answer("evconstructor\n") == "enany\n11");
    CHECK(answer("ev" + nul + "\n") == "enany\n1");
    CHECK(answer("ev" + large + "\n") == "enany\n65536");
    CHECK(answer("ev\\\\\\n\n") == "enany\n2");
    for (const std::string broken : {"ev\n", "eqname\n", "esname", "e", "ev\\x\n"}) {
        INFO(broken);
        CHECK(answer(broken) == report(arke::errc::malformed_event));
    }
    // Requests: each has its one answer, of its number.
    const auto wrong_type = [&](const std::string& id, const std::string& message) {
        INFO(message.substr(0, 40));
        CHECK(answer(message) == report(arke::errc::wrong_type));
        CHECK(one.receive().starts_with("f" + id + " wrong-type\n"));
    };
    CHECK(answer("rn4294967295 int\n2147483647") == "an4294967295 2147483647");
    for (const auto* wrong : {"2147483648", "-2147483649", "99999999999999999999999999", "1e3", "0x10", "", "one"})
        wrong_type("1", "rn1 int\n" + std::string{wrong});
    for (const auto* wrong : {"-1", "256"}) wrong_type("2", "rn2 byte\n" + std::string{wrong});
    CHECK(answer("rj3 json\n" + nested(128)) == "an3 1");
    for (const auto& wrong :
         {nested(129), nested(10'000), std::string(100'000, '['), std::string{"[1,]"}, std::string{}})
        wrong_type("3", "rj3 json\n" + wrong);
    CHECK(answer("rv4 nobody\n") == "f4 unhandled\n");
    CHECK(one.receive() == "enany\n6");
    // Numbers that are none.
    for (const std::string broken : {"rv4294967296 int\n", "rv01 int\n", "rv-1 int\n", "rv int\n", "jx room", "j"}) {
        INFO(broken);
        CHECK(answer(broken) == report(arke::errc::malformed_event));
    }
    // Answers to what nobody asked are dropped, and what is of a later version is skipped.
    one.send("an77 1");
    one.send("f4294967295 refused\n");
    one.send("zebra");

    // Rooms by its own wish, whatever their names; each of it is one room, and no other.
    const std::vector<std::string> rooms{"__proto__",      "constructor", nul,  "a\nb",
                                         "with;delimiter", "with space",  large};
    for (std::size_t n = 0; n != rooms.size(); ++n) {
        INFO(rooms[n].substr(0, 20));
        CHECK(answer("j" + std::to_string(n) + " " + rooms[n]) == "av" + std::to_string(n) + " ");
        CHECK(s.members(rooms[n]).size() == 1);
        s.to(rooms[n]).emit("told", static_cast<int>(n));
        CHECK(one.receive() == "entold\n" + std::to_string(n));
    }
    s.to("a").emit("told", 1);
    for (std::size_t n = 0; n != rooms.size(); ++n) {
        CHECK(answer("l" + std::to_string(n) + " " + rooms[n]) == "av" + std::to_string(n) + " ");
        CHECK(s.members(rooms[n]).empty());
        CHECK(answer("l9 " + rooms[n]) == "f9 refused\n");
    }
    CHECK(s.rooms().empty());

    // The canary's id is no room, for whoever asks. The empty name is none.
    REQUIRE(eventually([&] { return s.size() == 2; }));
    int own = 0;
    for (const auto& other : s.connections()) {
        one.send("j5 " + other.id());
        auto heard = one.receive();
        if (heard == "av5 ") {
            ++own;
        } else {
            if (heard == report(arke::errc::name_taken)) heard = one.receive();
            CHECK(heard == "f5 refused\n");
        }
    }
    CHECK(own == 1);
    CHECK(one.close());
    CHECK(server.canary() == "sings alone");
}

// ------------------------------------------------------------------------------------------------------ overload, the end

TEST_CASE("past max_connections whoever sends frames at once still reads all of its 503") {
    config c;
    c.listener.max_connections = 1;
    watched_server server{c};
    server.start();
    for (const std::size_t size : {0U, 100U, 100'000U}) {
        std::string bytes = upgrade_request();
        for (std::size_t at = 0; at < size; at += 100) bytes += masked_frame(0x82, std::string(100, 'x'));
        const auto reply = within_a_second([&] {
            raw_client late{server.port()};
            late.send(bytes);
            auto heard = late.read_reply();
            CHECK(late.read_to_end() == "");
            return heard;
        });
        CHECK(reply.status == 503);
        CHECK(reply["retry-after"] == "5");
        CHECK(reply.body.ends_with(".\n"));
    }
    CHECK(server.canary() == "sings alone");
}

TEST_CASE("row 12: many clients that send a byte at a time are closed at handshake_timeout; others connect meanwhile") {
    config c;
    c.listener.handshake_timeout = 3s;
    watched_server server{c};
    server.start();
    std::vector<std::unique_ptr<raw_client>> drips;
    for (int n = 0; n != 200; ++n) drips.push_back(std::make_unique<raw_client>(server.port()));
    const std::string request = "GET /nothing HTTP/1.1\r\nA: " + std::string(8000, 'a');
    const auto begin = std::chrono::steady_clock::now();
    std::size_t connected = 0;
    for (std::size_t at = 0; !drips.empty() && std::chrono::steady_clock::now() - begin < patience; ++at) {
        std::erase_if(drips,
                      [&](auto& one) { return !one->send(std::string_view{request}.substr(at % request.size(), 1)); });
        client other{server.port()};
        connected += other.status() == 101;
        CHECK(connected == at + 1);
        other.close();
    }
    CHECK(drips.empty());
    CHECK(connected > 2);
    CHECK(server.canary() == "sings alone");
}

TEST_CASE("stop() in the midst of handshakes ends them, and run() returns") {
    watched_server server{{.listener = {.stop_timeout = 200ms}}};  // the canary does not answer
    server.start(GENERATE(1U, 3U));
    const auto request = upgrade_request();
    std::vector<std::unique_ptr<raw_client>> crowd;
    for (std::size_t cut = 0; cut < request.size(); cut += 7) {
        crowd.push_back(std::make_unique<raw_client>(server.port()));
        crowd.back()->send(std::string_view{request}.substr(0, cut));
    }
    raw_client waiting{server.port()};
    CHECK(waiting.get("/nothing").status == 404);
    const auto begin = std::chrono::steady_clock::now();
    server.net->stop();
    server.net->stop();
    for (auto& one : crowd) CHECK(one->read_to_end() == "");
    CHECK(waiting.read_to_end() == "");
    CHECK(server.net.wait() == "");
    CHECK(std::chrono::steady_clock::now() - begin < 15s);
    CHECK(server.ends.text() == "1001");
}

TEST_CASE("a loop that stood still for longer than pong_timeout loses nobody whom it had not asked") {
    running_server net{quiet(arke::loop_kind::automatic, {.pong_timeout = 6s, .ping_period = 3s})};
    net->on_message([&](connection&, message_view m) {
        // A debugger, a machine that is moved, a handler that blocks.
        const auto end = std::chrono::steady_clock::now() + (m.data == "stand still" ? 6500ms : 0ms);
        while (std::chrono::steady_clock::now() < end) {
        }
        net->to(arke::all).emit_message("heard");
    });
    net.start();
    client one{net.port()};
    client other{net.port()};
    for (const auto* const word : {"stand still", "and go on"}) {
        one.send(word);
        CHECK(one.receive() == "heard");
        CHECK(other.receive() == "heard");
    }
}

// ------------------------------------------------------------------------------------------------------- the wall clock

// Sanitizers have these functions for themselves.
#if defined(__linux__) && !defined(ARKE_TEST_HAS_SANITIZER)

namespace {

/// By how many seconds the wall clock of this process is wrong.
std::atomic<std::time_t> clock_error{0};

}  // namespace

// In the place of the C library's, for all of this program.
extern "C" int clock_gettime(clockid_t clock, timespec* out) noexcept {
    const auto result = static_cast<int>(::syscall(SYS_clock_gettime, clock, out));
    if (result == 0 && clock == CLOCK_REALTIME) out->tv_sec += clock_error;
    return result;
}
extern "C" std::time_t time(std::time_t* out) noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    if (out != nullptr) *out = now.tv_sec;
    return now.tv_sec;
}

TEST_CASE("the wall clock jumps a day either way, and no deadline comes for it, nor stays away") {
    watched_server server;
    server.start();
    running_server hasty{quiet(server.net->loop(), {.pong_timeout = 150ms, .ping_period = 50ms})};
    hasty.start();
    raw_client page{server.port()};
    const auto date = [&] {
        std::tm told{};
        const std::string text = page.get("/nothing")["date"];
        CHECK(::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &told) != nullptr);
        return ::timegm(&told);
    };
    constexpr std::time_t day = 86'400;
    for (const auto error : {day, -day, std::time_t{0}}) {
        clock_error = error;
        CHECK(std::abs(date() - ::time(nullptr)) < day / 2);
        // Somebody comes, and is cut for silence as on any day.
        raw_client silent{hasty.port()};
        silent.send(upgrade_request());
        CHECK(silent.read_until("\r\n\r\n").starts_with("HTTP/1.1 101"));
        CHECK(silent.ends());
        CHECK(server.canary() == "sings alone");
    }
    CHECK(server.ends.size() == 0);
}

#endif
