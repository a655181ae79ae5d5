#pragma once

/// What the tests of Arke's client with Arke's own server begin with.

#include <arke/client.hpp>

#include <string>
#include <string_view>
#include <utility>

#include "tests/support/running_server.hpp"

namespace arke::test {

inline std::string url_of(const running_server& net, const std::string& path = "/") {
    return "ws://127.0.0.1:" + std::to_string(net.port()) + path;
}

/// On that loop, and silent where nothing else is said.
inline client_config on_loop(loop_kind loop, client_config c = {}) {
    c.loop = loop;
    if (!c.log) c.log = [](std::string_view) {};
    return c;
}

}  // namespace arke::test
