// One chat on several servers that share a broker: whoever is at one port talks with everybody at the others.
//
//   cluster_chat --port PORT --broker redis://HOST:PORT|nats://HOST:PORT      PORT 0 for any
//
// examples/run cluster_chat starts a broker and two of these. What people say needs nothing more than the line server.cluster(...):
// c.to(room) then reaches the room on every server. The rest is for the lists of who is there: each server tells the others whom it
// has, when that changes and once a second, so that one that is new or was cut off knows it soon.
#ifdef ARKE_EXAMPLE_REDIS
#include <arke/cluster/redis.hpp>
#endif
#ifdef ARKE_EXAMPLE_NATS
#include <arke/cluster/nats.hpp>
#endif

#include "../chat/house.hpp"

#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <iostream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>

namespace chat {

/// What a page shows of its server.
struct place {
    std::uint16_t port;
    std::size_t servers;
    bool reached;

    friend bool operator==(const place&, const place&) = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(place, port, servers, reached)

}  // namespace chat

namespace {

using guests = std::map<std::string, chat::guest>;

struct options {
    std::uint16_t port = 8080;
    std::string broker = "redis://127.0.0.1";
};

options read(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; i += 2) {
        const std::string_view name = argv[i];
        if (i + 1 == argc) throw std::invalid_argument(std::string{name} + " wants a value");
        if (name == "--port")
            o.port = chat::port_from(argv[i + 1]);
        else if (name == "--broker")
            o.broker = argv[i + 1];
        else
            throw std::invalid_argument("there is --port PORT and --broker URL, and no " + std::string{name});
    }
    return o;
}

void share(chat::server& server, const std::string& broker) {
    if (broker.starts_with("redis://")) {
#ifdef ARKE_EXAMPLE_REDIS
        return server.cluster(arke::redis_backplane{broker});
#else
        throw std::invalid_argument(
            "this was built without Redis: install hiredis (Debian's libhiredis-dev), then build again");
#endif
    }
    if (broker.starts_with("nats://")) {
#ifdef ARKE_EXAMPLE_NATS
        return server.cluster(arke::nats_backplane{broker});
#else
        throw std::invalid_argument(
            "this was built without NATS: install nats.c (Debian's libnats-dev), then build again");
#endif
    }
    throw std::invalid_argument("--broker is redis://HOST:PORT or nats://HOST:PORT, and not \"" + broker + "\"");
}

// Who is at the other servers, as they tell, and who is here, as we tell them.
class neighbours {
public:
    neighbours(chat::house& house, chat::server& server)
        : house_{house}, server_{server}, cluster_{server.cluster()}, second_{server.get_executor()} {
        cluster_.on("guests", [this](const arke::node_info& from, const guests& theirs) {
            silent_[from.id] = 0;
            house_.elsewhere(from.id, theirs);
        });
        cluster_.on_state([this] { show(); });
        server_.on("hello", [this](chat::talker& c, const std::string&) { c.emit("server", here()); });
        house_.on_change = [this] { cluster_.emit("guests", house_.guests()); };
        wait();
    }

private:
    chat::place here() const { return {server_.port(), cluster_.others().size() + 1, !cluster_.state().degraded}; }

    void wait() {
        second_.expires_after(std::chrono::seconds{1});
        second_.async_wait([this](const boost::system::error_code& stopped) {
            if (stopped) return;
            cluster_.emit("guests", house_.guests());
            if (here().reached) forget();
            show();
            wait();
        });
    }

    // Those of a server that is not there and has been silent for some seconds. While the broker is away nobody knows, and all stay.
    void forget() {
        std::set<std::string> there;
        for (const auto& other : cluster_.others()) there.insert(other.id);
        for (auto it = silent_.begin(); it != silent_.end();) {
            if (there.contains(it->first) || ++it->second <= 3) {
                ++it;
                continue;
            }
            house_.elsewhere(it->first, {});
            it = silent_.erase(it);
        }
    }

    void show() {
        const chat::place now = here();
        if (now != shown_) house_.tell_pages("server", shown_ = now);
    }

    chat::house& house_;
    chat::server& server_;
    arke::cluster_handle cluster_;
    boost::asio::steady_timer second_;
    std::map<std::string, int> silent_;  // seconds, by server
    chat::place shown_{};
};

}  // namespace

int main(int argc, char** argv) try {
    const options o = read(argc, argv);
#ifdef ARKE_EXAMPLES_DIR
    const std::string pages = ARKE_EXAMPLES_DIR "/chat/public";
#else
    const std::string pages = "public";
#endif

    chat::house house;
    chat::server server{arke::config{
        .endpoint = "/my_endpoint",
        .max_message_size = 8 * 1024,
        .listener = {.max_connections = 1000},
    }};
    server.files("/", pages);
    share(server, o.broker);
    house.open(server, " of " + server.cluster().self().id);
    const neighbours others{house, server};

    server.listen("0.0.0.0", o.port);
    std::cout << "http://localhost:" << server.port() << "/" << std::endl;
    server.run();
} catch (const std::exception& e) {
    std::cerr << "cluster_chat: " << e.what() << "\n";
    return 1;
}
