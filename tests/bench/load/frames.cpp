#include "frames.hpp"

#include "failure.hpp"
#include "sample.hpp"

#include <array>
#include <cstdint>

namespace bench {
namespace {

void add_header(std::string& out, bool is_text, bool is_masked, std::size_t size) {
    const auto add = [&out](std::uint64_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
    const std::uint64_t mask_bit = is_masked ? 0x80 : 0;
    add(0x80 | (is_text ? 1u : 2u));
    int length_bytes = 0;
    if (size < 126) {
        add(mask_bit | size);
    } else if (size < 65'536) {
        add(mask_bit | 126);
        length_bytes = 2;
    } else {
        add(mask_bit | 127);
        length_bytes = 8;
    }
    for (int i = length_bytes - 1; i >= 0; --i) add(std::uint64_t{size} >> (8 * i) & 0xff);
}

// Filled with a letter that begins no command of the server.
std::string filler(std::size_t size) { return std::string(size, 'x'); }

std::string iris_event(std::string_view name, char tag, std::string_view data) {
    std::string message{"iris-websocket-message:"};
    message += name;
    message += ';';
    message += tag;
    message += ';';
    message += data;
    return message;
}

// An event of Socket.IO: 4 is Engine.IO's message, 2 Socket.IO's event. `json` is the argument as JSON.
std::string socket_io_event(std::string_view name, std::string_view json) {
    std::string message{"42[\""};
    message += name;
    message += '"';
    if (!json.empty()) message += ',';
    message += json;
    message += ']';
    return message;
}

std::string quoted(std::string_view text) { return '"' + std::string{text} + '"'; }

exchange same(bool is_text, std::string_view payload) {
    return {client_frame(is_text, payload), server_frame(is_text, payload)};
}

std::string digits(std::size_t count) {
    constexpr std::string_view all = "123456789012345678";
    return std::string{all.substr(0, count)};
}

}  // namespace

std::string client_frame(bool is_text, std::string_view payload) {
    constexpr std::array<unsigned char, 4> mask{0x37, 0xfa, 0x21, 0x3d};
    std::string frame;
    add_header(frame, is_text, true, payload.size());
    for (const auto byte : mask) frame += static_cast<char>(byte);
    for (std::size_t i = 0; i != payload.size(); ++i)
        frame += static_cast<char>(static_cast<unsigned char>(payload[i]) ^ mask[i % 4]);
    return frame;
}

std::string server_frame(bool is_text, std::string_view payload) {
    std::string frame;
    add_header(frame, is_text, false, payload.size());
    frame += payload;
    return frame;
}

exchange make_echo(protocol p, kind k, std::size_t size) {
    if (p == protocol::raw) {
        if (k != kind::native) throw failure{"--protocol raw echoes bytes: it goes with --kind native only."};
        const auto frame = client_frame(false, filler(size));
        return {frame, frame};
    }
    if (p == protocol::socket_io) {
        switch (k) {
            case kind::string: return same(true, socket_io_event("echo", quoted(filler(size))));
            case kind::json: return same(true, socket_io_event("order", sample_order));
            default: throw failure{"--protocol socket.io has events only: write --kind string or --kind json."};
        }
    }
    switch (k) {
        case kind::native: return same(false, filler(size));
        case kind::text: return same(true, filler(size));
        case kind::string: return same(true, iris_event("echo", '0', filler(size)));
        case kind::view: return same(true, iris_event("view", '0', filler(size)));
        case kind::number: return same(true, iris_event("number", '1', digits(size)));
        case kind::json: return same(true, iris_event("order", '4', sample_order));
    }
    throw failure{"This --kind is not known."};
}

exchange make_broadcast(protocol p, char command, std::size_t size) {
    if (p == protocol::raw) throw failure{"--protocol raw has no rooms: it goes with the mode echo only."};
    if (p == protocol::socket_io) {
        if (command != 'B') throw failure{"--protocol socket.io goes with --publisher connection only."};
        return same(true, socket_io_event("B", quoted(filler(size))));
    }
    return same(false, command + filler(size - 1));
}

exchange make_event_broadcast(protocol p, std::string_view text) {
    if (p == protocol::raw) throw failure{"--protocol raw has no rooms: it goes with the mode echo only."};
    return same(true, p == protocol::socket_io ? socket_io_event("B", quoted(text)) : iris_event("B", '0', text));
}

exchange make_room_message(std::string_view room, std::size_t size) {
    std::string payload{"R"};
    payload += room;
    payload += ';';
    if (payload.size() < size) payload.resize(size, 'x');
    return same(false, payload);
}

std::string make_join(protocol p) {
    return p == protocol::socket_io ? client_frame(true, socket_io_event("S", "")) : client_frame(false, "S");
}

std::string make_join(std::string_view room) { return client_frame(false, 'S' + std::string{room}); }

}  // namespace bench
