#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

/// The client's side of RFC 6455 and of the iris events, written by hand and not by what is tested.
namespace soak {

inline constexpr std::string_view prefix = "iris-websocket-message:";

namespace first_byte {
inline constexpr unsigned char continuation = 0x00, last_continuation = 0x80, text_fragment = 0x01, text = 0x81,
                               binary_fragment = 0x02, binary = 0x82, close = 0x88, ping = 0x89, pong = 0x8A;
}

/// A masked frame; its bytes say nothing about the payload, so that a server that forgets to unmask is found.
std::string frame_of(unsigned char first, std::string_view payload);

std::string event_of(std::string_view name, std::string_view data);
std::string close_of(unsigned code, std::string_view reason = {});

/// A request that upgrades.
std::string upgrade_request(std::string_view path, std::string_view more_headers = {});

/// A server's frame at the beginning of `bytes`: its size with the header, or 0 when it is not all there.
struct server_frame {
    std::size_t size = 0;
    unsigned char first = 0;
    bool is_wrong = false;  ///< Masked, or of a length that is not in its shortest form.
    std::string_view payload{};
};
server_frame parse_frame(std::string_view bytes);

/// The code in a close frame's payload; 1005 where there is none.
unsigned close_code_of(std::string_view payload);

/// "event;tag;data" of a text message; nothing where it is none.
struct event_text {
    std::string_view name{};
    std::string_view data{};
};
event_text parse_event(std::string_view payload);

/// Takes the next number of "12 7 rest"; all bits where there is none.
std::uint64_t take_number(std::string_view& text);

}  // namespace soak
