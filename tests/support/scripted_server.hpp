#pragma once

#include <arke/testing.hpp>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/catch.hpp"
#include "tests/support/frame.hpp"

namespace arke::test {

using testing::client;
using testing::client_frame;
using testing::memory_transport;
using testing::virtual_loop;

inline constexpr std::string_view iris_prefix = "iris-websocket-message:";

inline std::string transcript(std::string_view bytes) { return testing::transcript(bytes, iris_prefix); }

/// A test's server that sees to it that nothing is left over: each connection is freed, and no stream was misused.
class scripted_server : public testing::basic_server<std::shared_ptr<int>> {
public:
    explicit scripted_server(config settings = {}, std::size_t loop_count = 1,
                             std::size_t write_buffer_size = 16 * 1024, bool sends_in_batches = false)
        : basic_server{with_buffer(std::move(settings), write_buffer_size), loop_count, sends_in_batches} {
        on_connection([this](connection_type& c) {
            c.session() = std::make_shared<int>(0);
            alive_[&clients().back()] = c.session();
        });
    }

    ~scripted_server() {
        shut_down();
        for (const auto& l : loops()) CHECK(l->load() == 0);
        for (auto& c : clients()) {
            CHECK(is_freed(c));
            if (!c.was_refused()) CHECK(c.stream().misuse == "");
        }
        CHECK(hub().load()->connections.load() == 0);
        CHECK(hub().load()->waiting.load() == 0);
    }

    /// Whether nobody holds the connection any more.
    bool is_freed(const client& c) const { return c.was_refused() || alive_.at(&c).expired(); }

private:
    static config with_buffer(config settings, std::size_t size) {
        settings.listener.write_buffer_size = size;
        return settings;
    }

    std::map<const client*, std::weak_ptr<void>> alive_;
};

/// Writes down what the application hears of its connections: messages, pings, errors, the end.
struct diary {
    scripted_server& server;
    std::string text;

    explicit diary(scripted_server& s) : server{s} {
        server.on_message(
            [this](connection& c, message_view m) { add(c.id() + " says " + std::string{m.data.substr(0, 20)}); });
        server.on_ping([this](connection& c, bytes_view) { add(c.id() + " pings"); });
        server.on_pong([this](connection& c, bytes_view) { add(c.id() + " pongs"); });
        server.on_error(
            [this](connection& c, const error_report& e) { add(c.id() + " error " + std::to_string(e.code.value())); });
        server.on_disconnect([this](connection& c, close_code code, std::string_view reason) {
            CHECK_FALSE(c.is_connected());
            add(c.id() + " gone " + std::to_string(static_cast<unsigned>(code)) + (reason.empty() ? "" : " ") +
                std::string{reason});
        });
    }

    void add(const std::string& line) { text += (text.empty() ? "" : ", ") + line; }
    std::string read() {
        server.settle();
        return std::exchange(text, {});
    }
};

inline std::string line(std::size_t size, char fill = 'x') { return std::string(size, fill); }

}  // namespace arke::test
