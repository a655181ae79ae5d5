#pragma once

#include <boost/asio.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

/// What all parts of the load share. One thread, so nothing is locked.
namespace soak {

namespace asio = boost::asio;
using asio::awaitable;
using steady = std::chrono::steady_clock;
using std::chrono::milliseconds;

class client;

/// What the load has counted. Each names what was seen, not what was hoped for.
struct counts {
    std::uint64_t connected = 0;
    std::uint64_t said = 0, heard = 0, lost = 0, doubled = 0, outside = 0, joins = 0, leaves = 0;
    std::uint64_t big_messages = 0, big_bytes = 0;
    std::uint64_t busy_heard = 0, busy_skipped = 0, told_1013 = 0, cut_while_stuck = 0, caught_up = 0;
    std::uint64_t resets = 0, attacks = 0, herds = 0, http_answers = 0, kept_too_long = 0;
};

struct world {
    asio::io_context& context;
    std::uint16_t port;
    bool one_loop;
    std::mt19937_64 random;
    counts count{};

    /// Whether the shift goes on. When it ends, every actor brings what it does to its end and checks it.
    bool running = false;
    int actors = 0;
    std::set<client*> clients{};
    std::uint32_t next_sender = 0;
    std::uint32_t next_address = 0;

    /// The number of the newest message of the busy room that a reader who keeps up has heard.
    std::uint64_t metronome = 0;

    /// How late the server must have been once, if what was seen is to be right. The canary tells whether it was.
    milliseconds server_must_have_been_late{0};

    std::uint64_t faults = 0;
    std::vector<std::string> fault_texts{};

    /// Something that must not happen has happened.
    void fault(std::string sentence) {
        if (++faults <= 20) fault_texts.push_back(std::move(sentence));
    }

    std::uint64_t below(std::uint64_t bound) { return random() % bound; }
    bool chance(unsigned percent) { return below(100) < percent; }

    awaitable<void> pause(milliseconds time) {
        asio::steady_timer timer{context, time};
        co_await timer.async_wait(asio::use_awaitable);
    }

    void start(awaitable<void> actor) {
        ++actors;
        asio::co_spawn(context, std::move(actor), [this](const std::exception_ptr& thrown) {
            --actors;
            try {
                if (thrown) std::rethrow_exception(thrown);
            } catch (const std::exception& e) {
                fault(std::string{"the load itself failed: "} + e.what());
            }
        });
    }
};

/// Wakes those who wait, or lets them go after a time.
class bell {
public:
    explicit bell(world& w) : timer_{w.context} {}
    void ring() { timer_.cancel(); }
    awaitable<void> wait(milliseconds longest) {
        timer_.expires_after(longest);
        co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
    }

private:
    asio::steady_timer timer_;
};

// The parts of a shift. Each starts its actors.
void start_chat(world& w);
void start_big(world& w);
void start_slow(world& w);
void start_hostile(world& w);
void start_herd(world& w);
void start_web(world& w);

}  // namespace soak
