#include "tests/support/model.hpp"

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

#include "tests/support/catch.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

/// Empty, or what went wrong with all that came before it.
std::string run_seed(std::uint64_t seed, model_counts& counts) {
    const auto bytes = bytes_of_seed(seed);
    model one{bytes};
    const auto failure = one.run();
    for (const auto& [what, times] : one.counts()) counts[what] += times;
    if (failure.empty()) return {};
    model again{bytes, true};
    static_cast<void>(again.run());
    auto trace = again.trace();
    if (trace.size() > 20'000) trace.erase(0, trace.find('\n', trace.size() - 20'000) + 1);
    return trace + failure + "\nARKE_MODEL_SEED=" + std::to_string(seed) + " repeats it.";
}

}  // namespace

// ARKE_MODEL_SEED=N runs that seed alone, ARKE_MODEL_SECONDS=N goes on with new ones for so long.
TEST_CASE("whatever clients, handlers and the clock do in whatever order, the core does what a plain model says") {
    model_counts counts;
    if (const char* const seed = std::getenv("ARKE_MODEL_SEED")) {
        CHECK(run_seed(std::strtoull(seed, nullptr, 10), counts) == "");
        return;
    }
    std::uint64_t seed = 1;
    for (; seed <= 3000; ++seed) REQUIRE(run_seed(seed, counts) == "");

    // All of it came up.
    for (const char* what : {"connected",
                             "connected compressing",
                             "compressed",
                             "inflated",
                             "ran own handlers",
                             "removed own handlers",
                             "slowed",
                             "stood still",
                             "hung up behind what is held back",
                             "closed flooded",
                             "refused",
                             "delivered",
                             "not deliverable",
                             "drained",
                             "relieved",
                             "heard event",
                             "heard number",
                             "heard wrong type",
                             "heard unhandled",
                             "heard malformed",
                             "heard text",
                             "heard binary",
                             "heard ping",
                             "heard pong",
                             "heard answer",
                             "asked event",
                             "asked number",
                             "asked echo",
                             "asked odd",
                             "asked wrong type",
                             "asked unhandled",
                             "asked join",
                             "asked leave",
                             "refused to leave",
                             "asked many",
                             "answered late",
                             "request over: answered",
                             "closed by_peer",
                             "closed by_server",
                             "closed stopping",
                             "closed broken",
                             "closed frame_violation",
                             "closed message_too_big",
                             "closed outbox_full",
                             "closed pong_timeout",
                             "closed write_timeout",
                             "closed replaced"}) {
        INFO(what);
        CHECK(counts[what] >= 10);
    }
    for (const auto what :
         {errc::refused, errc::ask_timeout, errc::disconnected, errc::bad_answer, errc::unhandled_event,
          errc::wrong_type, errc::handler_threw, errc::outbox_full, errc::not_deliverable, errc::too_many_requests}) {
        const auto text = make_error_code(what).message();
        INFO(text);
        CHECK(counts["request over: " + text] >= 10);
    }

    if (const char* const seconds = std::getenv("ARKE_MODEL_SECONDS")) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{std::atoi(seconds)};
        for (seed = std::uint64_t{std::random_device{}()} << 20U; std::chrono::steady_clock::now() < end; ++seed)
            REQUIRE(run_seed(seed, counts) == "");
        for (const auto& [what, times] : counts) std::cout << what << ": " << times << '\n';
    }
}
