#pragma once

#include <arke/testing.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/support/model/words.hpp"

namespace arke::test {

/// What came up in a run, or in many: a test that nothing was left out.
using model_counts = std::map<std::string, std::uint64_t>;

namespace modelling {

using server_type = testing::basic_server<std::shared_ptr<int>>;
using connection_type = server_type::connection_type;

/// One frame that is to come to a client.
struct frame {
    std::string bytes;
    std::string key;                      // of what may be taken back
    std::size_t pings_before{};           // automatic ones
    std::optional<std::uint32_t> asks{};  // the number of a request
    bool withdrawn = false;
    std::string inflated{};  // the message that a compressed one is, as a frame
};

/// What is being sent, to anybody.
struct note {
    frames in;
    const char* kind;  // as the metrics have it
    urgency how = urgency::normal;
    std::string key{};
    bool is_native = false;
    bool is_control = false;
    bool is_awaited = false;              // an answer
    bool is_for_many = false;             // told to all of them at once
    std::optional<std::uint32_t> asks{};  // the number of a request
};

/// What a client answers to a request of the server.
struct reply {
    std::uint32_t id;
    std::optional<errc> refused;
    std::string data;
};

/// What the application is to hear of a client.
struct hearing {
    const char* kind;
    std::string text;
    std::optional<std::uint32_t> asked{};  // its number, where it is a request
    std::optional<reply> replies{};
    std::size_t deflated = 0;  // bytes, where it comes compressed
    std::size_t inflated = 0;
    std::size_t end = 0;  // among all that the client sends
    std::size_t frames = 0;
    core::millis sent_at = 0;
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

/// Where the bytes of a client stand in a frame of it.
class frame_walk {
public:
    /// Whether the next byte begins a frame.
    bool is_between() const { return left_ == 0 && head_.empty(); }
    void read(char byte) {
        if (left_ != 0) {
            --left_;
            return;
        }
        head_ += byte;
        const auto at = [this](std::size_t i) {
            return static_cast<std::uint64_t>(static_cast<unsigned char>(head_[i]));
        };
        if (head_.size() < 2) return;
        const auto size = at(1) & 127U;
        const std::size_t more = size == 126 ? 2 : size == 127 ? 8 : 0;
        if (head_.size() < 2 + more + (at(1) > 127 ? 4 : 0)) return;
        left_ = more == 0 ? size : 0;
        for (std::size_t i = 2; i != 2 + more; ++i) left_ = left_ << 8U | at(i);
        head_.clear();
    }

private:
    std::string head_;
    std::uint64_t left_ = 0;
};

/// So much in a second, and at once no more than it holds. In thousandths.
struct bucket {
    std::int64_t level = 0;
    core::millis at = 0;

    void fill(std::int64_t per_second, std::int64_t holds, core::millis now) {
        level = std::min(holds * 1000, level + per_second * (now - at));
        at = now;
    }
};

/// What a connection's own handler hears.
enum class hears { event, any, message, ping, pong, drain, leave, disconnect, error };

/// Of these also what comes when the connection is over.
inline bool is_to_the_end(hears what) {
    return what == hears::leave || what == hears::disconnect || what == hears::error;
}

struct own_handler {
    hears what;
    handler_id id{};
    bool is_removed = false;
    std::weak_ptr<int> alive{};
};

/// Something that the endpoint's handler has heard, and now those of the connection are to hear, in the order they were added.
struct round {
    hears what;
    std::string text;
    bool is_quiet;  // they do nothing
    std::vector<own_handler*> due;
    bool may_be_late = false;  // when the connection is over and its handlers may be gone
};

struct question;

/// What a client offers of compression, and what it means.
struct deflate_offer {
    const char* text;
    bool server_takes_over = true;
    bool client_takes_over = true;
    int server_bits = 15;
    int client_bits = 15;
    bool names_client_bits = true;
};

struct record {
    std::string id;
    bool is_v1 = false;
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
    std::set<std::string> asked_rooms;     // which it may therefore leave
    std::vector<std::uint32_t> to_answer;  // requests that came to it

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
    std::map<std::uint32_t, question*> open_questions;
    std::uint32_t next_question = 0;

    std::list<own_handler> own;
    std::vector<round> rounds;  // the innermost last

    // Held to a bound. By flood::close: what it may say now. By flood::slow: how much more than the rate was heard lately, and
    // what of its bytes has been handed on for certain.
    bucket bytes_bucket;
    bucket frames_bucket;
    frame_walk said;
    std::size_t frames_said = 0;
    std::size_t handed = 0;
    std::size_t frames_handed = 0;
    core::millis handed_at = 0;
    std::optional<core::millis> hung_up_at{};

    // Where compression was agreed on: what the core compresses with, and what the client inflates with.
    bool deflates = false;
    wire::deflate_terms terms{};  // as the server sees them
    std::optional<wire::deflater> context{};
    std::optional<wire::inflater> inflates_with{};
    std::optional<int> sent_at_once{};  // the operation by which the last message of the context was

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

/// A request of the server to one client.
struct question {
    enum class what { number, number_or_refusal, nothing };

    record* of;
    std::string name;
    std::string data;
    what wants = what::number;
    core::millis timeout{};
    bool is_of_many = false;
    std::weak_ptr<int> alive{};  // as long as somebody could call back

    std::optional<errc> fails{};  // it goes no further than the call
    bool is_put = false;
    std::uint32_t id = 0;
    core::millis due = 0;
    bool is_over = false;
    std::string result{};             // of one of many, whose end is told with that of the others
    bool may_have_timed_out = false;  // instead
};

/// A request to many.
struct survey {
    std::vector<question*> members{};
    std::size_t home = 0;  // the loop where it ends
    std::weak_ptr<int> alive{};
    bool is_over = false;
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
