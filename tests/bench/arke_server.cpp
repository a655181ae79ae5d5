// The server that the benchmark drives.
//
//     arke_server PORT [automatic|epoll|io_uring|portable] [THREADS] [BROKER]
//     arke_server --has redis|nats       whether it can be started with such a BROKER, redis://... or nats://...
//
// Native messages, text or binary, are answered in kind:
//
//     S         joins the room "room"
//     S<name>   joins the room <name>
//     B...      goes, whole, to the room "room"
//     R<name>;  and more goes, whole, to the room <name>
//     T...      goes, whole, to the room "room" by way of a thread that is no loop's
//     W         is answered with the index of the thread that serves the connection
//     the rest  is echoed
//
// Events: "echo" and "view" give back their text, "number" its integer, "order" its struct; "B" goes to the room "room".
//
// Prints "listening on PORT" and serves until SIGTERM. Every handler is the server's, as many connections want it.

#include <arke/arke.hpp>
#ifdef ARKE_BENCH_REDIS
#include <arke/cluster/redis.hpp>
#endif
#ifdef ARKE_BENCH_NATS
#include <arke/cluster/nats.hpp>
#endif

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

struct order {
    std::string item;
    int count;
    double price;
    bool express;
    std::vector<int> tags;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(order, item, count, price, express, tags)

constexpr std::pair<std::string_view, arke::loop_kind> loop_names[] = {
    {"automatic", arke::loop_kind::automatic},
    {"epoll", arke::loop_kind::epoll},
    {"io_uring", arke::loop_kind::io_uring},
    {"portable", arke::loop_kind::portable},
};

// Which of the server's threads this is, counted as they first ask.
int thread_index() {
    static std::atomic<int> threads{0};
    thread_local const int index = threads++;
    return index;
}

// Publishes from a thread of its own. It takes what has gathered at once, so that the lock costs a batch and not a message.
class publisher {
public:
    explicit publisher(arke::server& server) : server_{server} {}
    publisher(const publisher&) = delete;
    publisher& operator=(const publisher&) = delete;

    ~publisher() {
        {
            const std::lock_guard lock{mutex_};
            stopping_ = true;
        }
        wake_.notify_one();
        if (thread_.joinable()) thread_.join();
    }

    void publish(const arke::message_view& message) {
        bool was_empty = false;
        {
            const std::lock_guard lock{mutex_};
            // Not before: with a second thread in the process, the C library's recv and send cost 60 instructions more each.
            if (!thread_.joinable()) thread_ = std::thread{[this] { run(); }};
            was_empty = queue_.empty();
            queue_.push_back({message.is_text, std::string{message.data}});
        }
        if (was_empty) wake_.notify_one();
    }

private:
    struct entry {
        bool is_text;
        std::string data;
    };

    void run() {
        std::vector<entry> batch;
        for (;;) {
            {
                std::unique_lock lock{mutex_};
                wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
                if (stopping_) return;
                batch.swap(queue_);
            }
            for (const auto& e : batch) server_.to("room").emit_message(arke::message_view{e.data, e.is_text});
            batch.clear();
        }
    }

    arke::server& server_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<entry> queue_;
    bool stopping_ = false;
    std::thread thread_;
};

// Throws when it was built without that broker; without a server, that is all.
void share([[maybe_unused]] arke::server* server, std::string_view broker, [[maybe_unused]] const std::string& url) {
    if (broker == "redis") {
#ifdef ARKE_BENCH_REDIS
        if (server != nullptr) server->cluster(arke::redis_backplane{url});
        return;
#endif
    }
    if (broker == "nats") {
#ifdef ARKE_BENCH_NATS
        if (server != nullptr) server->cluster(arke::nats_backplane{url});
        return;
#endif
    }
    throw std::invalid_argument{"this arke_server was built without '" + std::string{broker} +
                                "'. On Debian 12, libhiredis-dev is for redis and libnats-dev for nats."};
}

void serve(int port, arke::loop_kind loop, unsigned threads, const std::string& broker) {
    arke::server server{{.endpoint = "/",
                         .max_message_size = 16 * 1024 * 1024,
                         .max_outbox_bytes = 64 * 1024 * 1024,
                         .binary_messages = true,
                         .keep_request = false,
                         .listener = {.loop = loop}}};
    publisher other_thread{server};

    server.on_message([&other_thread](arke::connection& c, arke::message_view message) {
        const auto data = message.data;
        switch (data.empty() ? '\0' : data.front()) {
            case 'S': c.join(data.size() == 1 ? std::string_view{"room"} : data.substr(1)); break;
            case 'B': c.to("room").emit_message(message); break;
            case 'R': c.to(data.substr(1, data.find(';') - 1)).emit_message(message); break;
            case 'T': other_thread.publish(message); break;
            case 'W': c.emit_message(std::to_string(thread_index())); break;
            default: c.emit_message(message);
        }
    });

    server.on("echo", [](arke::connection& c, const std::string& text) { c.emit("echo", text); });
    server.on("view", [](arke::connection& c, std::string_view text) { c.emit("view", text); });
    server.on("number", [](arke::connection& c, std::int64_t number) { c.emit("number", number); });
    server.on("B", [](arke::connection& c, std::string_view text) { c.to("room").emit("B", text); });
    server.on("order", [](arke::connection& c, const order& o) { c.emit("order", o); });

    if (!broker.empty()) share(&server, broker.substr(0, broker.find(':')), broker);
    server.listen("127.0.0.1", port);
    std::cout << "listening on " << server.port() << std::endl;
    server.run(threads);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc == 3 && std::string_view{argv[1]} == "--has") {
        share(nullptr, argv[2], {});
        return 0;
    }
    if (argc < 2 || argc > 5) {
        std::cerr << "Say where to listen: arke_server PORT [automatic|epoll|io_uring|portable] [THREADS] [BROKER]\n";
        return 2;
    }
    const std::string_view wanted = argc > 2 ? argv[2] : "automatic";
    const int threads = argc > 3 ? std::atoi(argv[3]) : 1;
    if (threads < 1) {
        std::cerr << "'" << argv[3] << "' is no number of threads: write 1 or more.\n";
        return 2;
    }
    for (const auto& [name, loop] : loop_names) {
        if (name != wanted) continue;
        serve(std::atoi(argv[1]), loop, static_cast<unsigned>(threads), argc > 4 ? argv[4] : "");
        return 0;
    }
    std::cerr << "This arke_server has no loop '" << wanted << "'. It has:";
    for (const auto& [name, loop] : loop_names) std::cerr << ' ' << name;
    std::cerr << '\n';
    return 2;
} catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
}
