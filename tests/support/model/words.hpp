#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/frame.hpp"

/// What is said in the two protocols, written here once more, so that one mistake does not hide another.
namespace arke::test::modelling {

/// That of 2016, and arke.v1.
inline constexpr std::size_t protocols = 2;

/// One thing as a frame of each protocol; empty where the protocol has no words for it.
using frames = std::array<std::string, protocols>;

/// The same in both.
inline frames both(const std::string& frame) { return {frame, frame}; }
inline frames only_v1(std::string frame) { return {std::string{}, std::move(frame)}; }

inline std::string v1_name(std::string_view name) {
    std::string written;
    for (const char c : name) {
        if (c == '\\' || c == '\n') written += '\\';
        written += c == '\n' ? 'n' : c;
    }
    return written;
}

inline bool is_name(std::string_view name) { return !name.empty() && name != "\xFF"; }

/// An event with a text.
inline frames event_frames(const std::string& prefix, const std::string& name, const std::string& data) {
    frames made;
    if (!is_name(name)) return made;
    if (name.find(';') == std::string::npos) made[0] = server_frame(0x81, prefix + name + ";0;" + data);
    made[1] = server_frame(0x81, "es" + v1_name(name) + "\n" + data);
    return made;
}

inline frames native_frames(bool is_text, const std::string& data) {
    const auto first = is_text ? 0x81U : 0x82U;
    return {server_frame(first, data), server_frame(first, "m" + data)};
}

/// A request of the server with a text.
inline std::string request_frame(std::uint32_t id, const std::string& name, const std::string& data) {
    return server_frame(0x81, "rs" + std::to_string(id) + " " + v1_name(name) + "\n" + data);
}

/// A frame without its header.
inline std::string_view payload_of(std::string_view frame) {
    const auto size = static_cast<unsigned char>(frame[1]);
    return frame.substr(size < 126 ? 2 : size == 126 ? 4 : 10);
}

/// Whether it is marked as a compressed message.
inline bool is_deflated(std::string_view frame) { return (static_cast<unsigned char>(frame[0]) & 0x40U) != 0; }

inline std::string answer_frame(std::uint32_t id, char type, const std::string& data) {
    return server_frame(0x81, std::string{"a"} + type + std::to_string(id) + " " + data);
}

inline std::string refusal_frame(std::uint32_t id, const std::string& reason, const std::string& text) {
    return server_frame(0x81, "f" + std::to_string(id) + " " + reason + "\n" + text);
}

}  // namespace arke::test::modelling
