// Everything that a server on the open internet meets, each with what it must be answered.

#include "client.hpp"

namespace soak {

namespace {

constexpr std::string_view path = "/chat";  // of at most 4,096 bytes and 256 fragments a message

std::string garbage(world& w, std::size_t size) {
    std::string bytes(size, '\0');
    for (auto& c : bytes) c = static_cast<char>(w.below(256));
    return bytes;
}

// ------------------------------------------------------------------------------------------------ before the upgrade

/// A request that stops at any byte.
awaitable<void> cut_handshake(world& w) {
    const auto c = make_client(w, "a cut handshake");
    if (!co_await c->connect()) co_return;
    const auto request = upgrade_request(path);
    c->write(std::string_view{request}.substr(0, w.below(request.size())));
    co_await w.pause(milliseconds{w.below(5)});
    switch (w.below(4)) {
        case 0: c->reset(); break;
        case 1: c->cut(); break;
        case 2:
            c->shutdown();
            co_await c->ends();
            break;
        default: co_await c->ends(); break;  // at handshake_timeout
    }
}

awaitable<void> drip_handshake(world& w) {
    const auto c = make_client(w, "a handshake in drops");
    if (!co_await c->connect()) co_return;
    // A field without end, a byte each 25 ms: no answer to it is right, however slow the machine is.
    const auto request =
        upgrade_request(path).substr(0, upgrade_request(path).size() - 2) + "Drops: " + std::string(4000, 'd');
    const auto drops = std::make_shared<bool>(true);
    asio::co_spawn(
        w.context,
        [&w, c, request, drops]() -> awaitable<void> {
            for (const char byte : request) {
                if (!*drops) break;
                c->write({&byte, 1});
                co_await w.pause(milliseconds{25});
            }
        },
        asio::detached);
    if (co_await c->read_answer(false) == 101) w.fault("a handshake without end was accepted");
    *drops = false;
    c->cut();
}

awaitable<void> bad_request(world& w) {
    struct attempt {
        std::string request;
        int answer;
    };
    const auto without = [](std::string_view line) {
        auto request = upgrade_request(path);
        return request.erase(request.find(line), request.find("\r\n", request.find(line)) + 2 - request.find(line));
    };
    const std::string name(9000, 'a');
    const std::array attempts{
        attempt{upgrade_request(path, "X: " + name + "\r\n"), 431},
        attempt{upgrade_request("/" + name), 414},
        attempt{without("Sec-WebSocket-Key"), 400},
        attempt{without("Host"), 400},
        attempt{without("Sec-WebSocket-Version"), 426},
        attempt{upgrade_request(path, "Origin: https://elsewhere.example\r\n"), 403},
        attempt{upgrade_request(path, "Host: another\r\n"), 400},
        attempt{upgrade_request(path, " folded: yes\r\n"), 400},
        attempt{upgrade_request(path, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400},
        attempt{upgrade_request("/not/there"), 404},
    };
    const auto& tried = attempts[w.below(attempts.size())];
    const auto c = make_client(w, "a bad request");
    if (!co_await c->connect()) co_return;
    c->write(tried.request);
    const auto status = co_await c->read_answer();
    if (status != tried.answer) {
        w.fault("a bad request was answered " + std::to_string(status) + " and not " + std::to_string(tried.answer) +
                ": " + tried.request.substr(0, 300));
    }
    c->cut();
}

awaitable<void> garbage_request(world& w) {
    const auto c = make_client(w, "garbage instead of a request");
    if (!co_await c->connect()) co_return;
    c->write(garbage(w, 1 + w.below(3000)));
    if (w.chance(50)) c->shutdown();
    co_await c->ends();
    c->cut();
}

// ------------------------------------------------------------------------------------------------- after the upgrade

/// Opens, says something wrong, and hears the code.
awaitable<void> violate(world& w, const char* what, std::string bytes, unsigned code, unsigned or_code = 0) {
    const auto c = make_client(w, what);
    if (!co_await c->open(std::string{path})) co_return;
    if (w.chance(50)) c->emit("hello", "first");
    c->write(bytes);
    const auto heard = co_await c->read_to_close();
    if (heard != code && heard != or_code) {
        w.fault(std::string{what} + " was closed with " + std::to_string(heard) + " and not " + std::to_string(code));
    }
    if (w.chance(50)) co_await c->ends();
    c->cut();
}

std::string unmasked_frame() {
    std::string frame = frame_of(first_byte::text, "x");
    frame[1] = '\x01';
    return frame;
}

std::string header(unsigned char first, unsigned char second, std::initializer_list<int> more) {
    std::string bytes{static_cast<char>(first), static_cast<char>(second)};
    for (const int b : more) bytes += static_cast<char>(b);
    return bytes + "mask";
}

std::string repeat(const std::string& bytes, int times) {
    std::string all;
    for (int i = 0; i != times; ++i) all += bytes;
    return all;
}

awaitable<void> break_a_rule(world& w) {
    using namespace first_byte;
    switch (w.below(20)) {
        case 0: return violate(w, "an unmasked frame", unmasked_frame(), 1002);
        case 1: return violate(w, "a reserved bit", frame_of(0xC1, "x"), 1002);
        case 2: return violate(w, "a reserved opcode", frame_of(0x83, "x"), 1002);
        case 3: return violate(w, "a length that is not in its shortest form", header(0x81, 0xFE, {0, 5}), 1002);
        case 4: return violate(w, "a length of 2^63", header(0x82, 0xFF, {0x80, 0, 0, 0, 0, 0, 0, 0}), 1002, 1009);
        case 5: return violate(w, "a length over the bound", header(0x82, 0xFE, {0x10, 0x01}), 1009);
        case 6: return violate(w, "bad UTF-8", frame_of(text, "caf\xE9"), 1007);
        case 7: return violate(w, "bad UTF-8 in the first fragment", frame_of(text_fragment, "\xC0\xAF"), 1007);
        case 8: return violate(w, "a cut code point", frame_of(text, "\xE2\x82"), 1007);
        case 9: return violate(w, "a ping of 126 bytes", frame_of(ping, std::string(126, 'p')), 1002);
        case 10: return violate(w, "a fragmented ping", frame_of(0x09, "p"), 1002);
        case 11: return violate(w, "a close of one byte", frame_of(close, "x"), 1002);
        case 12: return violate(w, "a close with 999", close_of(999), 1002);
        case 13: return violate(w, "a close with 1006", close_of(1006), 1002);
        case 14: return violate(w, "a close with bad UTF-8", close_of(1000, "\xFF"), 1007);
        case 15: return violate(w, "a continuation of nothing", frame_of(last_continuation, "x"), 1002);
        case 16: return violate(w, "a message in a message", frame_of(text_fragment, "x") + frame_of(text, "y"), 1002);
        case 17:
            return violate(w, "endless fragments",
                           frame_of(text_fragment, "") + repeat(frame_of(continuation, ""), 300), 1008);
        case 18:
            return violate(w, "fragments over the bound",
                           frame_of(binary_fragment, "") + repeat(frame_of(continuation, std::string(1000, 'x')), 6),
                           1009);
        default: return violate(w, "a thousand closes", repeat(close_of(1001) + frame_of(text, "late"), 1000), 1001);
    }
}

/// Pings that are never read, and then the end.
awaitable<void> flood(world& w) {
    const auto c = make_client(w, "a flood of pings");
    if (!co_await c->open(std::string{path}, 4096)) co_return;
    c->write(repeat(frame_of(first_byte::ping, std::string(125, 'p')), 4000));
    co_await w.pause(milliseconds{w.below(200)});
    if (w.chance(50)) co_return c->reset();
    c->emit("hello", "after the flood");
    const auto answer = co_await c->read_event("welcome");
    if (answer != "after the flood") w.fault("who floods with pings and then reads was not served");
    co_await c->close();
}

awaitable<void> garbage_frames(world& w) {
    const auto c = make_client(w, "garbage instead of frames");
    if (!co_await c->open(std::string{path})) co_return;
    c->write(garbage(w, 1 + w.below(3000)));
    // What looks like the beginning of a frame is waited for.
    c->shutdown();
    co_await c->ends();
    c->cut();
}

/// Events that are none: the connection stays.
awaitable<void> bad_events(world& w) {
    const auto c = make_client(w, "one with bad events");
    if (!co_await c->open(std::string{path})) co_return;
    const auto raw = [&](std::string_view text) {
        c->write(frame_of(first_byte::text, std::string{prefix} + std::string{text}));
    };
    raw("");
    raw("no delimiter");
    raw("hello;9;x");
    raw("number;1;not a number");
    raw("number;4;" + std::string(500, '['));
    raw("number;4;{\"__proto__\":1e999}");
    raw("unknown;0;x");
    raw("throw;0;x");
    c->write(frame_of(first_byte::binary, "\xFF\xFE"));
    c->emit("hello", "still here");
    const auto answer = co_await c->read_event("welcome");
    if (answer != "still here") w.fault("one with bad events was not served after them");
    co_await c->close();
}

/// A reset in each phase of a connection.
awaitable<void> reset_somewhere(world& w) {
    const auto c = make_client(w, "one who resets");
    if (!co_await c->connect(w.chance(30) ? 4096 : 0)) co_return;
    const auto phase = w.below(9);
    if (phase == 0) co_return c->reset();
    c->write(upgrade_request(path));
    if (phase == 1) co_return c->reset();
    if (phase == 2) {
        co_await w.pause(milliseconds{w.below(3)});
        co_return c->reset();
    }
    if (co_await c->read_answer(false) != 101) co_return w.fault("one who resets was not let in");
    const auto frame = frame_of(first_byte::text, std::string(3000, 'x'));
    switch (phase) {
        case 3: break;
        case 4: c->write(std::string_view{frame}.substr(0, 1 + w.below(7))); break;     // in a header
        case 5: c->write(std::string_view{frame}.substr(0, 8 + w.below(2000))); break;  // in a payload
        case 6: c->write(frame_of(first_byte::text_fragment, "x")); break;              // between fragments
        case 7: c->write(close_of(1000)); break;                                        // in the closing handshake
        default:
            // While it is answered.
            for (int i = 0; i != 50; ++i) c->emit("hello", std::string(3000, 'x'));
            break;
    }
    co_await w.pause(milliseconds{w.below(3)});
    c->reset();
}

awaitable<void> attack(world& w) {
    while (w.running) {
        switch (w.below(12)) {
            case 0: co_await cut_handshake(w); break;
            case 1: co_await drip_handshake(w); break;
            case 2: co_await bad_request(w); break;
            case 3: co_await garbage_request(w); break;
            case 4: co_await flood(w); break;
            case 5: co_await garbage_frames(w); break;
            case 6: co_await bad_events(w); break;
            case 7:
            case 8: co_await reset_somewhere(w); break;
            default: co_await break_a_rule(w); break;
        }
        ++w.count.attacks;
        co_await w.pause(milliseconds{w.below(10)});
    }
}

}  // namespace

void start_hostile(world& w) {
    for (int i = 0; i != 12; ++i) w.start(attack(w));
}

}  // namespace soak
