#pragma once

/// RFC 6455 as a table: what a peer sends, and exactly what has to come of it. No case has two right outcomes.
///
/// The same table is read by wire::frame_reader in both roles, by the server without sockets, and by the server over sockets on
/// every loop (frame_conformance_test, peer_conformance_test and conformance_test in wire, core and server).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace arke::test::conformance {

enum class length_form : std::uint8_t { shortest, two_bytes, eight_bytes };

/// A frame as its sender writes it, who may lie.
struct frame {
    unsigned first = 0;     ///< FIN, the reserved bits, the opcode.
    std::string payload{};  ///< What is sent of it.
    length_form form = length_form::shortest;
    std::optional<std::uint64_t> claims{};  ///< A length that is not the payload's.
    bool is_masked_wrongly = false;         ///< Masked by a server, or not masked by a client.
    std::string mask = "\x37\xFA\x21\x3D";  ///< Of four bytes.
};

enum class sender : std::uint8_t { client, server };

std::string bytes_of(const frame& f, sender from);

/// Flags, length and mask.
std::size_t header_size(const frame& f, sender from);

enum class kind : std::uint8_t { text, binary, ping, pong };

struct event {
    kind what;
    std::string payload;
};

/// A close that the peer says, or a rule that it breaks.
struct ending {
    bool is_fault = false;
    unsigned code = 1005;
    std::string text{};             ///< The peer's reason, or the sentence that it is told.
    std::string text_to_server{};   ///< The sentence, where it is another for a server.
    std::size_t frame = 0;          ///< Which of the frames brings it,
    std::size_t payload_bytes = 0;  ///< and which byte after the header. The byte before must not bring it yet.
};

struct bounds {
    std::size_t max_message_size = std::size_t{1} << 20U;
    std::size_t max_fragments = 65'536;

    friend bool operator==(const bounds&, const bounds&) = default;
};

struct test_case {
    std::string_view group;
    std::string name;
    std::vector<frame> frames;
    std::vector<event> heard;   ///< Messages and control frames, in order.
    std::optional<ending> end;  ///< None: the connection goes on.
    bounds limits;
};

/// The whole table.
const std::vector<test_case>& all_cases();

/// A frame as a server must write it, in the shortest form.
std::string server_frame(unsigned first, std::string_view payload);

/// What a server answers whose application sends every message back.
std::string answers_to(const test_case& c);

/// The bytes of a case.
std::string bytes_of(const test_case& c, sender from);

/// How many of them bring the end.
std::size_t bytes_to_the_end(const test_case& c, sender from);

/// The closing handshake of a server whose application closes with 4001 "as you asked" when it hears "close" in a text or a ping.
struct closing_case {
    std::string name;
    std::vector<frame> frames;
    std::string answer;       ///< As transcript() writes it.
    std::string application;  ///< What it hears: "text(...) gone(code reason)".
};

const std::vector<closing_case>& closing_cases();

}  // namespace arke::test::conformance
