#pragma once

#include "options.hpp"

#include <string>

/// What the load generator can do, one function for each mode. Each verifies all that it counts, throws failure when
/// something is wrong, and gives back one line of JSON.
namespace bench {

/// Each connection sends a burst of messages in one piece, and the next when all their answers have come.
std::string run_echo(const options& o);

/// One connection publishes a burst, and the next when every member of the room has got all of it.
std::string run_broadcast(const options& o);

/// Members of many small rooms publish in turn, each to one of its rooms; the next burst when all members have got it.
std::string run_rooms(const options& o);

/// Messages at a fixed rate, whether or not the answers come. An answer's time counts from when its message was due, so
/// that a message which could not be sent because the server was busy is late as well.
std::string run_latency(const options& o);

/// One room whose members are half on one server and half on another, which share a broker; senders on both publish events at a
/// rate, or so many at a time. How late a member gets one, on the sender's server and on the other.
std::string run_cluster(const options& o);

/// The memory of connections that do nothing.
std::string run_idle(const options& o);

/// Connects, upgrades, closes, and again.
std::string run_handshakes(const options& o);

}  // namespace bench
