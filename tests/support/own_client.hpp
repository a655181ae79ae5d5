#pragma once

/// What the tests of Arke's client with Arke's own server begin with.

#include <arke/client.hpp>

#include <future>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
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

inline std::string message_of(errc what) { return make_error_code(what).message(); }

/// What a future of an ask comes to.
template <class Future>
std::string outcome(Future f) {
    try {
        if (f.wait_for(patience) != std::future_status::ready) return "nothing";
        if constexpr (std::is_void_v<decltype(f.get())>) {
            f.get();
            return "done";
        } else {
            std::ostringstream text;
            text << f.get();
            return text.str();
        }
    } catch (const boost::system::system_error& e) {
        return e.code().message();
    }
}

}  // namespace arke::test
