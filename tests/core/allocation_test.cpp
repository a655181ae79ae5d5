#include <arke/server.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ARKE_TEST_HAS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ARKE_TEST_HAS_SANITIZER
#endif
#endif

namespace {

thread_local std::size_t allocations = 0;
}  // namespace

// Sanitizers have an operator new of their own, and find more with it: under one of them nothing is counted, and what is
// delivered is still checked.
#ifndef ARKE_TEST_HAS_SANITIZER

namespace {

/// Bytes that are held, and the most that were. Both mean something on a thread that frees what it made.
thread_local std::ptrdiff_t bytes_held = 0;
thread_local std::ptrdiff_t most_bytes_held = 0;

#ifdef __GLIBC__
std::ptrdiff_t size_of(void* memory) { return static_cast<std::ptrdiff_t>(::malloc_usable_size(memory)); }
#else
std::ptrdiff_t size_of(void*) { return 0; }
#endif

}  // namespace

// Not inlined: g++ would see new's memory given to free() and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
    ++allocations;
    void* const made = std::malloc(size == 0 ? 1 : size);
    if (made == nullptr) throw std::bad_alloc{};
    most_bytes_held = std::max(most_bytes_held, bytes_held += size_of(made));
    return made;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    bytes_held -= size_of(memory);
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

#endif

namespace arke::test {
namespace {

/// Takes everything and keeps nothing, so that what is counted is the library's.
class open_end final : public core::transport {
public:
    open_end(core::loop& on, core::stream_user_ptr user) : loop_{on}, user_{std::move(user)} { loop_.add_load(); }

    std::size_t taken = 0;

    core::send_result send(std::span<const core::segment> pieces) override {
        std::size_t sent = 0;
        for (const auto piece : pieces) sent += piece.size();
        taken += sent;
        return {sent, {}};
    }
    void set_user(core::stream_user_ptr user) override { loop_.retire(std::exchange(user_, std::move(user))); }
    void pause_reads(bool) override {}
    void shutdown() override {}
    void close(bool) override {
        loop_.remove_load();
        loop_.retire(std::exchange(user_, nullptr));
    }

    core::stream_user& user() { return *user_; }

private:
    core::loop& loop_;
    core::stream_user_ptr user_;
};

struct members {
    explicit members(int count) {
        server.add_loop(loop);
        loop.in_turn_do([&] {
            for (int i = 0; i != count; ++i) {
                const auto p = server.state().make(loop, "member" + std::to_string(i), 0, request{});
                REQUIRE(server.state().admit(*p) == core::hub::admission::taken);
                ends.push_back(std::make_unique<open_end>(loop, p));
                p->open(*ends.back(), "hello");
            }
        });
    }
    members(const members&) = delete;
    members& operator=(const members&) = delete;
    ~members() {
        loop.in_turn_do([&] {
            for (auto& e : ends) e->user().on_end({});
        });
        server.state().clear();
    }

    /// What the first one's frames cost, once everything has been used before.
    std::size_t cost_of(const std::string& frames) {
        std::size_t before = 0;
        std::string copy;
        for (int round = 0; round != 20; ++round) {
            copy = frames;
            before = allocations;
            loop.in_turn_do([&] { ends.front()->user().on_bytes({copy.data(), copy.size()}); });
        }
        return allocations - before;
    }

    struct endpoint_with_loops : basic_endpoint<no_session> {
        endpoint_with_loops() : basic_endpoint{make({.max_message_size = 64 * 1024, .binary_messages = true})} {}
        void add_loop(core::loop& l) { state_->add_loop(l); }
        core::endpoint& state() { return *state_; }
    };

    const boost::intrusive_ptr<virtual_loop> held{new virtual_loop};
    virtual_loop& loop{*held};
    endpoint_with_loops server;
    std::vector<std::unique_ptr<open_end>> ends;
};

std::string event(std::string_view name, std::string_view tag, std::string_view data) {
    return client_frame(0x81, std::string{iris_prefix}.append(name).append(";").append(tag).append(";").append(data));
}

TEST_CASE("a message in the steady state costs no allocation") {
    members all{20};
    const std::string text(100, 'x');
    all.server.on_message([](connection& c, const message_view& m) {
        if (m.is_text) return c.emit_message(m);
        c.to("room").emit_message(m);
    });
    all.server.on_connection([](connection&) {});
    all.server.on("view", [](connection& c, std::string_view v) { c.emit("view", v); });
    all.server.on("text", [](connection& c, const std::string& v) { c.emit("text", v); });
    all.server.on("number", [](connection& c, std::int64_t v) { c.emit("number", v + 1); });
    all.server.on("fraction", [](connection& c, double v) { c.emit("fraction", v / 3); });
    all.server.on("room", [](connection& c, std::string_view v) { c.to("room", not_me).emit("room", v); });
    all.loop.in_turn_do([&] { all.server.to(arke::all).join("room"); });

    const auto before = all.ends.back()->taken;
    CHECK(all.cost_of(client_frame(0x81, text)) == 0);
    CHECK(all.cost_of(client_frame(0x81, text) + client_frame(0x81, "short") + client_frame(0x89, "ping")) == 0);
    CHECK(all.cost_of(client_frame(0x81, std::string(20'000, 'x')) + client_frame(0x81, text)) == 0);
    CHECK(all.cost_of(event("view", "0", text)) == 0);
    CHECK(all.cost_of(event("text", "0", text)) == 0);
    CHECK(all.cost_of(event("number", "1", "12345678901234")) == 0);
    CHECK(all.cost_of(event("fraction", "4", "0.1")) == 0);
    CHECK(all.ends.back()->taken == before);

    CHECK(all.cost_of(client_frame(0x82, text)) == 0);
    CHECK(all.cost_of(event("room", "0", text)) == 0);
    CHECK(all.ends.back()->taken > before + 40 * text.size());
}

#ifndef ARKE_TEST_HAS_SANITIZER
TEST_CASE("the count sees an allocation where there is one") {
    members all{1};
    all.server.on("text", [](std::string_view v) { static_cast<void>(std::string{v}); });
    CHECK(all.cost_of(event("text", "0", std::string(100, 'x'))) == 1);
}

#ifdef __GLIBC__
TEST_CASE("fragments without end hold no more than twice the message that they may be") {
    constexpr std::size_t most = std::size_t{64} * 1024;  // the bound of the members
    members all{2};
    std::size_t heard = 0;
    all.server.on_message([&](const message_view& m) { heard = m.data.size(); });
    auto& one = all.ends.front()->user();
    // What a loop reads at once stands in a buffer of its own.
    const auto held_for = [&](std::string bytes, std::size_t piece) {
        const auto before = most_bytes_held = bytes_held;
        for (std::size_t at = 0; at < bytes.size(); at += piece)
            all.loop.in_turn_do([&] { one.on_bytes({bytes.data() + at, std::min(piece, bytes.size() - at)}); });
        return static_cast<std::size_t>(most_bytes_held - before);
    };
    const auto fragments = [](std::size_t count, std::string_view each) {
        std::string bytes = client_frame(0x02, each);
        while (--count != 0) bytes += client_frame(0x00, each);
        return bytes;
    };
    CHECK(held_for(client_frame(0x82, std::string(most, 'x')), 1000) < most + 1000);
    CHECK(held_for(client_frame(0x82, std::string(most, 'x')), most) < most + 1000);
    CHECK(held_for(fragments(most - 1, "x"), 4096) < 2 * most);
    CHECK(held_for(client_frame(0x80, "y"), 4096) == 0);
    CHECK(heard == most);
    CHECK(held_for(fragments(60'000, "") + client_frame(0x80, ""), 4096) < 2000);
    CHECK(heard == 0);
    CHECK(held_for(fragments(most / 100, std::string(100, 'x')), 512 * 1024) < 2 * most);
    // One more than may be, and then nothing is held.
    CHECK(held_for(client_frame(0x00, std::string(100, 'x')), 4096) < 2 * most);
    const auto before = bytes_held;
    all.loop.in_turn_do([&] { one.on_end({}); });
    CHECK(before - bytes_held > 0);
    all.ends.erase(all.ends.begin());
}
#endif
#endif

}  // namespace
}  // namespace arke::test
