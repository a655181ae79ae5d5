#pragma once

#include "options.hpp"

#include <string>
#include <string_view>

/// The bytes that are sent and awaited, made before anything is measured.
namespace bench {

/// A client's frame, masked as RFC 6455 wants it.
std::string client_frame(bool is_text, std::string_view payload);

/// The same message as a server sends it.
std::string server_frame(bool is_text, std::string_view payload);

/// A message, and the bytes that answer it or that each receiver gets.
struct exchange {
    std::string request;
    std::string answer;
};

/// A message that comes back to who sent it.
exchange make_echo(protocol p, kind k, std::size_t size);

/// A message of so many bytes that goes to the room of everybody. The command is its first byte; Socket.IO has events for it.
exchange make_broadcast(protocol p, char command, std::size_t size);

/// A message of so many bytes, or as few as it takes, that goes to a named room.
exchange make_room_message(std::string_view room, std::size_t size);

/// The event "B" with a text, which goes to the room of everybody.
exchange make_event_broadcast(protocol p, std::string_view text);

/// Asks to enter the room of everybody; has no answer.
std::string make_join(protocol p);

/// The same for a named room.
std::string make_join(std::string_view room);

}  // namespace bench
