#include "wire.hpp"

#include <array>
#include <charconv>
#include <limits>

namespace soak {

std::string frame_of(unsigned char first, std::string_view payload) {
    static std::uint32_t mask_state = 0x9E3779B9U;
    mask_state = mask_state * 1664525U + 1013904223U;
    const std::array<char, 4> mask{static_cast<char>(mask_state >> 24U), static_cast<char>(mask_state >> 16U),
                                   static_cast<char>(mask_state >> 8U), static_cast<char>(mask_state)};
    const auto size = payload.size();
    const std::size_t length_bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    std::string frame;
    frame.reserve(14 + size);
    frame += static_cast<char>(first);
    frame += static_cast<char>(0x80U | (length_bytes == 0 ? size : length_bytes == 2 ? 126U : 127U));
    for (std::size_t i = length_bytes; i-- != 0;) frame += static_cast<char>(size >> (8 * i));
    frame.append(mask.data(), mask.size());
    const auto at = frame.size();
    frame += payload;
    for (std::size_t i = 0; i != size; ++i) frame[at + i] = static_cast<char>(frame[at + i] ^ mask[i % 4]);
    return frame;
}

std::string event_of(std::string_view name, std::string_view data) {
    std::string text{prefix};
    text.append(name).append(";0;").append(data);
    return frame_of(first_byte::text, text);
}

std::string close_of(unsigned code, std::string_view reason) {
    std::string payload{static_cast<char>(code >> 8U), static_cast<char>(code & 0xFFU)};
    payload += reason;
    return frame_of(first_byte::close, payload);
}

std::string upgrade_request(std::string_view path, std::string_view more_headers) {
    std::string text = "GET ";
    text.append(path);
    text +=
        " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    text.append(more_headers).append("\r\n");
    return text;
}

server_frame parse_frame(std::string_view bytes) {
    server_frame frame;
    if (bytes.size() < 2) return frame;
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    const unsigned short_length = byte(1) & 0x7FU;
    const std::size_t length_bytes = short_length < 126 ? 0 : short_length == 126 ? 2 : 8;
    if (bytes.size() < 2 + length_bytes) return frame;
    std::uint64_t size = short_length;
    if (length_bytes != 0) size = 0;
    for (std::size_t i = 0; i != length_bytes; ++i) size = size << 8U | byte(2 + i);
    const bool shortest = length_bytes == 0 || (length_bytes == 2 ? size >= 126 : size >= 65536);
    frame.is_wrong = (byte(1) & 0x80U) != 0 || !shortest || (byte(0) & 0x70U) != 0;
    if (!frame.is_wrong && bytes.size() < 2 + length_bytes + size) return frame;
    frame.first = byte(0);
    frame.size = 2 + length_bytes + (frame.is_wrong ? 0 : size);
    if (!frame.is_wrong) frame.payload = bytes.substr(2 + length_bytes, size);
    return frame;
}

unsigned close_code_of(std::string_view payload) {
    if (payload.size() < 2) return 1005;
    return static_cast<unsigned char>(payload[0]) * 256U + static_cast<unsigned char>(payload[1]);
}

event_text parse_event(std::string_view payload) {
    if (!payload.starts_with(prefix)) return {};
    payload.remove_prefix(prefix.size());
    const auto name_end = payload.find(';');
    const auto tag_end = payload.find(';', name_end + 1);
    if (name_end == std::string_view::npos || tag_end == std::string_view::npos) return {};
    return {payload.substr(0, name_end), payload.substr(tag_end + 1)};
}

std::uint64_t take_number(std::string_view& text) {
    std::uint64_t number = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    if (result.ec != std::errc{}) return std::numeric_limits<std::uint64_t>::max();
    text.remove_prefix(static_cast<std::size_t>(result.ptr - text.data()));
    if (text.starts_with(' ')) text.remove_prefix(1);
    return number;
}

}  // namespace soak
