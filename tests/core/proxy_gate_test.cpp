#include <arke/core/proxy_gate.hpp>
#include <arke/testing.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tests/support/catch.hpp"

using namespace arke;
using core::proxy_gate;
using testing::memory_transport;
using testing::virtual_loop;

namespace {

/// Who comes after the gate: keeps what it hears.
class listener final : public core::stream_user {
public:
    explicit listener(std::string& text) : text_{text} {}
    void failed() noexcept override {}
    void on_bytes(std::span<char> bytes) override { text_.append(bytes.data(), bytes.size()); }
    void on_writable() override {}
    void on_end(error_code) override { text_ += "|end"; }
    void on_timer(core::millis) override { text_ += "|late"; }
    void on_stop() override {}

private:
    std::string& text_;
};

/// A gate over a stream in memory, with 1,000 ms for the header.
struct scene {
    boost::intrusive_ptr<virtual_loop> loop{new virtual_loop};
    std::shared_ptr<core::server_load> load = std::make_shared<core::server_load>();
    std::string text;  // "192.0.2.7 1 at 1000: " and what came after the header
    boost::intrusive_ptr<proxy_gate> gate{
        new proxy_gate{*loop, load,
                       [this](core::transport& t, const std::optional<wire::proxy_header_reader::address>& source,
                              std::span<char> rest, core::millis deadline) {
                           if (throws) throw std::bad_alloc{};
                           text += source ? source->text + " " + std::to_string(source->port) : "itself";
                           text += " by " + std::to_string(deadline - begun) + ": ";
                           const core::stream_user_ptr next{new listener{text}};
                           t.set_user(next);
                           next->tell<&core::stream_user::on_bytes>(rest);
                       }}};
    memory_transport stream{*loop, gate};
    core::millis begun = loop->time();
    bool throws = false;

    scene() {
        loop->in_turn_do([this] { gate->start(stream, begun + 1000); });
    }
    ~scene() {
        loop->in_turn_do([this] {
            if (!stream.is_closed) stream.close(false);
        });
        gate.reset();
        CHECK(load->connections == 0);
        CHECK(stream.misuse == "");
    }
    std::string told() const { return text + (stream.is_closed ? "closed" : ""); }
    auto refusals() const { return loop->counters().bad_proxy_headers.get(); }
};

const std::string header = "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n";

}  // namespace

TEST_CASE("what follows the header is for whoever comes after it, at every cut") {
    const std::string whole = header + "GET / and more";
    for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
        scene it;
        it.loop->pass(10);
        if (cut != 0) it.stream.arrives(std::string_view{whole}.substr(0, cut));
        if (cut != whole.size()) it.stream.arrives(std::string_view{whole}.substr(cut));
        CHECK(it.told() == "192.0.2.7 1 by 1000: GET / and more");
        CHECK(it.refusals() == 0);
        CHECK(it.load->connections == 1);
        // The gate has nothing to do with it any more.
        it.stream.ends();
        it.loop->pass(5000);
        CHECK(it.told() == "192.0.2.7 1 by 1000: GET / and more|end");
    }
}

TEST_CASE("byte by byte it is the same") {
    scene it;
    for (const char c : header + "GET") it.stream.arrives({&c, 1});
    CHECK(it.told() == "192.0.2.7 1 by 1000: GET");
}

TEST_CASE("a connection without a header is closed at its first byte, and counted") {
    scene it;
    it.stream.arrives("GET / HTTP/1.1\r\n");
    CHECK(it.told() == "closed");
    CHECK(it.stream.was_reset);
    CHECK(it.refusals() == 1);
}

TEST_CASE("half a header is waited for until the deadline, and not a tick longer") {
    scene it;
    it.stream.arrives(header.substr(0, 20));
    it.loop->pass(990);
    CHECK(it.told() == "");
    it.loop->pass(30);
    CHECK(it.told() == "closed");
    CHECK(it.refusals() == 1);
}

TEST_CASE("who goes in the midst of the header is closed") {
    scene it;
    it.stream.arrives(header.substr(0, 20));
    it.stream.ends();
    CHECK(it.told() == "closed");
    CHECK(it.refusals() == 1);
}

TEST_CASE("a server that stops does not wait for headers") {
    scene it;
    it.loop->in_turn_do([&] { it.gate->tell<&core::stream_user::on_stop>(); });
    CHECK(it.told() == "closed");
    CHECK(it.refusals() == 0);
}

TEST_CASE("without memory for what comes after the header the connection ends") {
    scene it;
    it.throws = true;
    it.stream.arrives(header);
    CHECK(it.told() == "closed");
}
