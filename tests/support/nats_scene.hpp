#pragma once

/// What the tests of NATS begin with.

#include <arke/cluster/nats.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/raw_server.hpp"

namespace arke::test {

using texts = std::vector<std::string>;

inline double milliseconds_since(std::chrono::steady_clock::time_point began) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
}

/// Of this process.
inline std::size_t thread_count() {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{"/proc/self/task"}, {}));
}

inline std::string nats_url(const raw_server& server) { return "nats://127.0.0.1:" + std::to_string(server.port()); }

/// What a server of NATS says first.
inline constexpr std::string_view nats_info =
    R"(INFO {"server_id":"x","version":"2.9.0","proto":1,"max_payload":1048576,"headers":true})"
    "\r\n";

/// Short times, for what is tried again and again.
inline nats_config quick_nats(std::string url,
                              std::chrono::milliseconds connect_timeout = std::chrono::milliseconds{5'000}) {
    return {.url = std::move(url),
            .connect_timeout = connect_timeout,
            .reconnect_delay = std::chrono::milliseconds{10},
            .max_reconnect_delay = std::chrono::milliseconds{50}};
}

}  // namespace arke::test
