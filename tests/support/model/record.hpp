#pragma once

#include <arke/testing.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace arke::test {

/// What came up in a run, or in many: a test that nothing was left out.
using model_counts = std::map<std::string, std::uint64_t>;

namespace modelling {

using server_type = testing::basic_server<std::shared_ptr<int>>;
using connection_type = server_type::connection_type;

/// One frame that is to come to a client.
struct frame {
    std::string bytes;
    std::string key;             // of what may be taken back
    std::size_t pings_before{};  // automatic ones
    bool withdrawn = false;
};

/// What is being sent, to anybody.
struct note {
    std::string bytes;
    const char* kind;  // as the metrics have it
    urgency how = urgency::normal;
    std::string key{};
    bool is_native = false;
    bool is_control = false;
};

/// What the application is to hear of a client.
struct hearing {
    const char* kind;
    std::string text;
};

/// Where a message of a client begins and ends among all its bytes.
struct passage {
    std::size_t begin;
    std::size_t end;
    hearing what;
    std::optional<unsigned> ends_with;  // the code that it ends the connection with
};

/// A reason for a connection to end.
struct cause {
    unsigned code;
    const char* counted;  // as the metrics have it
    std::optional<std::string> reason{};
};

struct record {
    std::string id;
    std::size_t loop = 0;
    testing::client* client = nullptr;
    connection_type* self = nullptr;
    core::peer_ptr peer;  // empty once it is over
    connection_handle handle;
    std::weak_ptr<int> alive;

    bool is_over = false;  // on_disconnect was heard
    core::millis over_at = 0;
    std::set<std::string> rooms;
    std::multiset<std::string> leaving;
    std::vector<cause> causes;
    bool must_end = false;
    bool too_slow = false;
    cause ended{0, ""};
    bool cut_off = false;  // without the time to send what was to come

    // Towards the server.
    std::string outbound;
    std::size_t outbound_begin = 0;
    std::deque<passage> passages;
    bool is_silent = false;  // has sent its last word
    std::deque<hearing> incoming;
    bool closed_by_itself = false;

    // Towards the client.
    std::deque<frame> out;
    std::size_t out_bytes = 0;  // of those not withdrawn
    std::size_t next = 0;
    std::size_t parsed = 0;
    std::size_t pings_seen = 0;
    std::size_t pings_unseen = 0;
    std::size_t pings_before_silence = 0;
    std::optional<std::string> close_frame;
    bool pong_waits = false;
    std::size_t drains = 0;

    core::millis last_heard = 0;
    core::millis progress = 0;
    bool was_lagging = false;
    std::size_t sent_before = 0;

    bool is_open() const { return peer && peer->is_open(); }
    bool is_broken() const {
        const auto& s = client->stream();
        return s.fails_at >= 0 && s.operations > s.fails_at;
    }
};

/// Whom a message is for, with the target that says the same.
struct meant {
    target to;
    bool everyone = false;
    record* not_me = nullptr;
    std::vector<core::name> names{};
    std::vector<core::name> except{};
};
struct aim {
    bool everyone = false;
    record* not_me = nullptr;
    std::vector<record*> peers{};
    std::vector<std::string> rooms{};
    std::vector<record*> except_peers{};
    std::vector<std::string> except_rooms{};
    std::set<std::size_t> loops{};
};

}  // namespace modelling
}  // namespace arke::test
