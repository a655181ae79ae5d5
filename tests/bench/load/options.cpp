#include "options.hpp"

#include "failure.hpp"

#include <charconv>
#include <string_view>
#include <utility>

namespace bench {
namespace {

template <class T>
T number(std::string_view name, std::string_view text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < T{})
        throw failure{std::string{name} + ": '" + std::string{text} + "' is no number that fits there."};
    return value;
}

template <class T, std::size_t N>
T choice(std::string_view name, std::string_view text, const std::pair<std::string_view, T> (&table)[N]) {
    std::string known;
    for (const auto& [word, value] : table) {
        if (word == text) return value;
        known += ' ';
        known += word;
    }
    throw failure{std::string{name} + ": there is no '" + std::string{text} + "'; choose one of" + known + "."};
}

constexpr std::pair<std::string_view, protocol> protocols[] = {
    {"websocket", protocol::websocket}, {"raw", protocol::raw}, {"socket.io", protocol::socket_io}};

constexpr std::pair<std::string_view, kind> kinds[] = {{"native", kind::native}, {"text", kind::text},
                                                       {"string", kind::string}, {"view", kind::view},
                                                       {"number", kind::number}, {"json", kind::json}};

constexpr std::pair<std::string_view, publisher> publishers[] = {
    {"connection", publisher::connection}, {"thread", publisher::other_thread}, {"loop", publisher::other_loop}};

}  // namespace

options parse_options(int argc, char** argv) {
    if (argc < 3) {
        throw failure{
            "Say what to do and where: load echo|broadcast|rooms|latency|cluster|idle|handshakes PORT [--name "
            "value]..., "
            "as told at the top of load.cpp."};
    }
    options o;
    o.mode = argv[1];
    o.port = number<std::uint16_t>("PORT", argv[2]);
    for (int i = 3; i < argc; i += 2) {
        const std::string_view name = argv[i];
        if (i + 1 == argc) throw failure{std::string{name} + ": its value is missing."};
        const std::string_view value = argv[i + 1];

        if (name == "--pid")
            o.pid = number<pid_t>(name, value);
        else if (name == "--other-port")
            o.other_port = number<std::uint16_t>(name, value);
        else if (name == "--other-pid")
            o.other_pid = number<pid_t>(name, value);
        else if (name == "--broker-pid")
            o.broker_pid = number<pid_t>(name, value);
        else if (name == "--senders")
            o.senders = number<std::size_t>(name, value);
        else if (name == "--protocol")
            o.protocol = choice(name, value, protocols);
        else if (name == "--kind")
            o.kind = choice(name, value, kinds);
        else if (name == "--publisher")
            o.publisher = choice(name, value, publishers);
        else if (name == "--connections")
            o.connections = number<std::size_t>(name, value);
        else if (name == "--in-flight")
            o.in_flight = number<std::size_t>(name, value);
        else if (name == "--size")
            o.size = number<std::size_t>(name, value);
        else if (name == "--rooms")
            o.rooms = number<std::size_t>(name, value);
        else if (name == "--room-size")
            o.room_size = number<std::size_t>(name, value);
        else if (name == "--rate")
            o.rate = number<double>(name, value);
        else if (name == "--warm-up")
            o.warm_up = number<double>(name, value);
        else if (name == "--seconds")
            o.seconds = number<double>(name, value);
        else if (name == "--settle")
            o.settle = number<double>(name, value);
        else if (name == "--messages")
            o.messages = number<std::uint64_t>(name, value);
        else if (name == "--patience")
            o.patience = number<double>(name, value);
        else
            throw failure{"There is no option '" + std::string{name} + "'; load.cpp tells all at its top."};
    }
    if (o.connections == 0 || o.in_flight == 0 || o.size == 0 || o.rooms == 0 || o.room_size == 0)
        throw failure{"--connections, --in-flight, --size, --rooms and --room-size must be 1 or more."};
    return o;
}

}  // namespace bench
