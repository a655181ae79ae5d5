#include <arke/server.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

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
                p->greet("hello");
                p->open(*ends.back());
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
            before = allocations();
            loop.in_turn_do([&] { ends.front()->user().on_bytes({copy.data(), copy.size()}); });
        }
        return allocations() - before;
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

TEST_CASE("the count sees an allocation where there is one") {
    members all{1};
    all.server.on("text", [](std::string_view v) { static_cast<void>(std::string{v}); });
    CHECK(all.cost_of(event("text", "0", std::string(100, 'x'))) == 1);
}

TEST_CASE("fragments without end hold no more than twice the message that they may be") {
    constexpr std::size_t most = std::size_t{64} * 1024;  // the bound of the members
    members all{2};
    std::size_t heard = 0;
    all.server.on_message([&](const message_view& m) { heard = m.data.size(); });
    auto& one = all.ends.front()->user();
    // What a loop reads at once stands in a buffer of its own.
    const auto held_for = [&](std::string bytes, std::size_t piece) {
        const memory_peak peak;
        for (std::size_t at = 0; at < bytes.size(); at += piece)
            all.loop.in_turn_do([&] { one.on_bytes({bytes.data() + at, std::min(piece, bytes.size() - at)}); });
        return peak.bytes();
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
    const auto before = bytes_held();
    all.loop.in_turn_do([&] { one.on_end({}); });
    CHECK(before > bytes_held());
    all.ends.erase(all.ends.begin());
}

}  // namespace
}  // namespace arke::test
