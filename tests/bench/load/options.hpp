#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace bench {

/// What is spoken.
enum class protocol {
    websocket,  ///< RFC 6455; events in the form of 2016.
    raw,        ///< The same bytes without a handshake, and the same bytes expected back: for a plain TCP echo.
    socket_io,  ///< Engine.IO 4 over its WebSocket transport.
};

/// What an echoed message is.
enum class kind {
    native,  ///< A binary message.
    text,    ///< A text message.
    string,  ///< The event "echo" with a string.
    view,    ///< The event "view" with a string.
    number,  ///< The event "number" with an integer of so many digits.
    json,    ///< The event "order" with load/sample.hpp's text.
};

/// Who publishes in the mode "broadcast".
enum class publisher {
    connection,    ///< One more connection, as it comes.
    other_thread,  ///< The same; the server hands the message to a thread of its own.
    other_loop,    ///< A connection on another loop than all members. The server needs two.
};

/// The command line.
struct options {
    std::string mode;
    std::uint16_t port = 0;
    pid_t pid = 0;  ///< The server's process; without it, nothing is said of its CPU time and memory.

    std::uint16_t other_port = 0;  ///< Of the mode "cluster": a second server; without it, the first is alone.
    pid_t other_pid = 0, broker_pid = 0;

    bench::protocol protocol = bench::protocol::websocket;
    bench::kind kind = bench::kind::native;
    bench::publisher publisher = bench::publisher::connection;

    std::size_t connections = 100;
    std::size_t in_flight = 1;
    std::size_t size = 20;      ///< Bytes of the application's data.
    std::size_t rooms = 1000;   ///< Of the mode "rooms".
    std::size_t room_size = 5;  ///< Members of each.
    std::size_t senders = 8;    ///< Of the mode "cluster".
    double rate = 10'000;  ///< Messages per second, of the modes "latency" and, 0 for --in-flight at a time, "cluster".

    double warm_up = 0.5;  ///< Seconds before what is measured.
    double seconds = 2;
    double settle = 1;           ///< Seconds before memory is read.
    std::uint64_t messages = 0;  ///< Exactly so many instead of warm-up and seconds.
    double patience = 20;        ///< Seconds without any progress after which the run has failed.
};

/// Throws failure for what it does not understand.
options parse_options(int argc, char** argv);

}  // namespace bench
