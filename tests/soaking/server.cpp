// The server of the soak: rooms, big messages, a busy room with every kind of overflow, pages; threads that speak from outside;
// and an account of itself, which tests/soaking/load.cpp asks for when everybody has gone.
//
//   soak_server [--loops automatic|epoll|io_uring|portable] [--threads N] [--pages FOLDER]
//
// Prints its port. Ends on SIGTERM: with status 3 when something happened that must not.

#include <arke/arke.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ARKE_SOAK_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ARKE_SOAK_SANITIZED
#endif
#endif

// --- How much memory is in use, exactly: not what the allocator or a quarantine keeps.

#ifdef ARKE_SOAK_SANITIZED
// Sanitizers bring their own operator new. g++ has the function, and not everywhere its header.
extern "C" std::size_t __sanitizer_get_current_allocated_bytes();

namespace {
std::size_t memory_in_use() { return __sanitizer_get_current_allocated_bytes(); }
void give_back() {}
}  // namespace
#else
#include <malloc.h>

#include <new>

namespace {
std::atomic<std::size_t> in_use{0};
std::size_t memory_in_use() { return in_use.load(); }

/// So that what is resident is what is held, and not how high a tide the allocator has seen.
void give_back() { ::malloc_trim(0); }
}  // namespace

void* operator new(std::size_t size) {
    void* const made = std::malloc(size == 0 ? 1 : size);
    if (made == nullptr) throw std::bad_alloc{};
    in_use.fetch_add(::malloc_usable_size(made), std::memory_order_relaxed);
    return made;
}
void operator delete(void* gone) noexcept {
    if (gone != nullptr) in_use.fetch_sub(::malloc_usable_size(gone), std::memory_order_relaxed);
    std::free(gone);
}
void operator delete(void* gone, std::size_t) noexcept { operator delete(gone); }
#endif

namespace {

using namespace std::chrono_literals;

/// Counted, so that a connection that stays shows.
struct visitor {
    visitor() { ++alive; }
    ~visitor() { --alive; }
    visitor(const visitor&) = delete;
    visitor& operator=(const visitor&) = delete;
    bool is_gone = false;
    static inline std::atomic<int> alive{0};
};
using server_type = arke::basic_server<visitor>;
using connection = arke::basic_connection<visitor>;

std::atomic<int> faults{0};
void fault(const char* sentence) {
    if (++faults <= 20) std::cerr << sentence << std::endl;
}

/// Handles that threads of the program take from handlers.
class errands {
public:
    void add(arke::connection_handle h, std::string room = {}) {
        const std::lock_guard lock{mutex_};
        waiting_.emplace_back(std::move(h), std::move(room));
    }
    std::deque<std::pair<arke::connection_handle, std::string>> take() {
        const std::lock_guard lock{mutex_};
        return std::exchange(waiting_, {});
    }

private:
    std::mutex mutex_;
    std::deque<std::pair<arke::connection_handle, std::string>> waiting_;
};

errands to_join;
errands departed;
std::atomic<bool> done{false};

/// Joins rooms for those who asked for it, and does what is useless with those who have gone.
void run_errands(const server_type& server) {
    while (!done) {
        for (const auto& [who, room] : to_join.take()) {
            who.join(room);
            who.emit("joined", room);
        }
        for (const auto& [who, unused] : departed.take()) {
            if (who.is_connected()) fault("A handle of a connection that is over says that it is connected.");
            who.emit("late", 1);
            who.emit_latest("late", 2);
            who.emit_message("late");
            if (who.join("0")) fault("A connection that is over has joined a room.");
            who.leave("0");
            who.run([](arke::connection&) { fault("Work for a connection that is over has run."); });
            who.disconnect();
            if (server.find(who.id())) fault("A connection that is over is found by its id.");
        }
        std::this_thread::sleep_for(1ms);
    }
}

/// Speaks to the chat's rooms, numbered for each.
void gossip(const server_type& server, int speaker) {
    std::vector<unsigned> said(12, 0);
    for (unsigned turn = 0; !done; ++turn) {
        const auto room = turn % said.size();
        const auto name = std::to_string(room);
        const auto text =
            name + " " + std::to_string(1'000'000'000 + speaker) + " " + std::to_string(said[room]++) + " gossip";
        server.to(arke::room{name}).emit("said", text);
        if (turn % 7 == 0) static_cast<void>(server.members(name));
        if (turn % 50 == 0) {
            for (const auto& c : server.connections()) c.run([](arke::connection& one) { one.ping(); });
        }
        std::this_thread::sleep_for(5ms);
    }
}

/// What those who keep up have heard of each endpoint's busy room.
std::array<std::atomic<unsigned>, 8> heard{};

/// 64 KiB a hundred times a second, to everybody of each endpoint; but not so much ahead of those who keep up that a load which
/// gets no processor for a while would be taken for slow readers. When nobody tells, once a second.
void keep_busy(const std::vector<arke::endpoint>& rooms) {
    const std::string padding(64 * 1024, 'b');
    constexpr unsigned ahead = 20;
    for (unsigned number = 1; !done; ++number) {
        const auto text = std::to_string(number) + " " + padding;
        for (const auto& each : rooms) each.to(arke::all).emit("busy", text);
        std::this_thread::sleep_for(10ms);
        const auto is_ahead = [&] {
            return std::any_of(heard.begin(), heard.begin() + 3, [&](const auto& h) { return number - h > ahead; });
        };
        for (int i = 0; i != 100 && !done && is_ahead(); ++i) std::this_thread::sleep_for(10ms);
    }
}

void serve_chat(server_type& server) {
    server.on_disconnect([](connection& c) {
        if (std::exchange(c.session().is_gone, true)) fault("on_disconnect ran twice for a connection.");
        departed.add(c.handle());
    });
    server.on("hello", [](arke::connection& c, std::string_view text) { c.emit("welcome", text); });
    server.on("canary", [](arke::connection& c, std::string_view number) { c.emit("canary", number); });
    server.on("say", [](arke::connection& c, std::string_view text) {
        c.to(arke::room{std::string{text.substr(0, text.find(' '))}}).emit("said", text);
    });
    server.on("join", [](arke::connection& c, std::string_view room) {
        c.join(room);
        c.emit("joined", room);
    });
    server.on("join_by_thread",
              [](arke::connection& c, std::string room) { to_join.add(c.handle(), std::move(room)); });
    server.on("leave", [](arke::connection& c, std::string_view room) {
        c.leave(room);
        c.emit("left", room);
    });
    server.on("number", [](arke::connection&, int) { fault("What is no number was taken for one."); });
    server.on("throw", [] { throw std::runtime_error{"a handler that throws"}; });
    server.on("account", [&server](arke::connection& c) {
        give_back();
        const auto m = server.metrics();
        std::chrono::nanoseconds turn{0};
        std::chrono::nanoseconds handler{0};
        for (const auto& l : m.loops) {
            turn = std::max(turn, l.longest_turn);
            handler = std::max(handler, l.longest_handler);
        }
        c.emit("account", std::to_string(m.sockets) + " " + std::to_string(m.outbox_bytes) + " " +
                              std::to_string(memory_in_use()) + " " + std::to_string(visitor::alive.load()) + " " +
                              std::to_string(m.closed.outbox_full) + " " + std::to_string(m.closed.write_timeout) +
                              " " + std::to_string(m.dropped.overflow) + " " + std::to_string(m.dropped.superseded) +
                              " " + std::to_string(m.accepted) + " " + std::to_string(m.received.events) + " " +
                              std::to_string(m.sent.events) + " " + std::to_string(turn / 1us) + " " +
                              std::to_string(handler / 1us));
    });
}

arke::loop_kind loop_named(std::string_view name) {
    if (name == "epoll") return arke::loop_kind::epoll;
    if (name == "io_uring") return arke::loop_kind::io_uring;
    if (name == "portable") return arke::loop_kind::portable;
    return arke::loop_kind::automatic;
}

}  // namespace

int main(int argc, char** argv) {
    arke::config settings{.endpoint = "/chat",
                          .write_timeout = 30s,
                          .pong_timeout = 600s,  // The auditor reads only between shifts.
                          .close_timeout = 2s,
                          .max_message_size = 4096,
                          .max_fragments = 256,
                          .max_outbox_bytes = 8UL << 20U,
                          .log = [](std::string_view) {}};
    // Longer than a load that gets no processor may be between its connect and its request.
    settings.listener.handshake_timeout = 6s;
    settings.listener.metrics_path = "/metrics";
    unsigned threads = 1;
    std::string pages;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string_view option = argv[i];
        if (option == "--loops") settings.listener.loop = loop_named(argv[i + 1]);
        if (option == "--threads") threads = static_cast<unsigned>(std::atoi(argv[i + 1]));
        if (option == "--pages") pages = argv[i + 1];
    }

    server_type server{settings};
    if (!pages.empty()) server.files("/pages", pages);
    serve_chat(server);

    const auto quiet = settings.log;
    auto big = server.endpoint<arke::no_session>(
        "/big", {.max_message_size = 1UL << 20U, .max_outbox_bytes = 8UL << 20U, .log = quiet});
    big.on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });

    std::vector<arke::endpoint> busy;
    const auto add_busy = [&](const char* path, arke::config c) {
        c.log = quiet;
        busy.push_back(server.endpoint<arke::no_session>(path, std::move(c)));
        busy.back().on("heard", [i = busy.size() - 1](arke::connection&, unsigned number) { heard[i] = number; });
    };
    // A reader that is closed, or closes, has its time to read what waits for it; and one that stops is told by its outbox, not by a
    // clock that a busy machine sets.
    add_busy("/busy/close", {.write_timeout = 120s, .close_timeout = 60s, .max_outbox_bytes = 2UL << 20U});
    add_busy("/busy/drop", {.write_timeout = 120s,
                            .close_timeout = 60s,
                            .max_outbox_bytes = 2UL << 20U,
                            .on_overflow = arke::overflow::drop});
    add_busy("/busy/coalesce", {.write_timeout = 120s,
                                .close_timeout = 60s,
                                .max_outbox_bytes = 2UL << 20U,
                                .on_overflow = arke::overflow::coalesce});
    add_busy("/busy/resume", {.write_timeout = 120s, .close_timeout = 60s, .max_outbox_bytes = 64UL << 20U});
    add_busy("/busy/stuck", {.write_timeout = 1s, .max_outbox_bytes = 64UL << 20U});

    server.listen("127.0.0.1", 0);
    constexpr std::string_view names[]{"automatic", "epoll", "io_uring", "portable"};
    std::cout << server.port() << " " << names[static_cast<int>(server.loop())] << std::endl;

    std::vector<std::thread> speakers;
    speakers.emplace_back([&] { run_errands(server); });
    for (int i = 0; i != 2; ++i) speakers.emplace_back([&server, i] { gossip(server, i); });
    speakers.emplace_back([&] { keep_busy(busy); });
    server.run(threads);
    done = true;
    for (auto& s : speakers) s.join();
    return faults == 0 ? 0 : 3;
}
