#pragma once

#include <string>
#include <string_view>

namespace arke::test {

/// A frame as the server should send it. Written here once more, so that one mistake does not hide another.
inline std::string server_frame(unsigned first, std::string_view payload) {
    std::string out(1, static_cast<char>(first));
    if (payload.size() < 126) {
        out += static_cast<char>(payload.size());
    } else {
        const int width = payload.size() <= 0xFFFF ? 2 : 8;
        out += static_cast<char>(width == 2 ? 126 : 127);
        for (int byte = width - 1; byte >= 0; --byte) out += static_cast<char>(payload.size() >> (byte * 8) & 0xFF);
    }
    return out.append(payload);
}

}  // namespace arke::test
