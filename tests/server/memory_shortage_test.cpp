#include <arke/server.hpp>

#include <boost/asio/post.hpp>

#include <future>
#include <optional>
#include <string>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke;
using namespace arke::test;

namespace {

/// Does something on the server's loop, which is one thread, and waits for it.
template <class F>
void on_loop(running_server& server, F f) {
    std::promise<void> done;
    boost::asio::post(server->get_executor(), [&] {
        f();
        done.set_value();
    });
    REQUIRE(done.get_future().wait_for(patience) == std::future_status::ready);
}

/// From the connect to the end. False: it did not come that far.
bool live(std::uint16_t port) {
    raw_client victim{port};
    victim.send(upgrade_request("/", {{"Cookie", std::string(100, 'c')}}));
    if (!victim.read_until("\r\n\r\n").starts_with("HTTP/1.1 101")) return false;
    const std::string text(300, 't');
    victim.send(masked_frame(0x81, text));
    if (victim.read(4 + text.size()).size() != 4 + text.size()) return false;
    // Larger than what is read at once, and than what leaves by the turn buffer.
    const std::string large(60'000, 'l');
    victim.send(masked_frame(0x82, large));
    if (victim.read(4 + large.size()).size() != 4 + large.size()) return false;
    victim.send(masked_frame(0x88, "\x03\xE8"));
    return victim.ends();
}

}  // namespace

TEST_CASE("a connection that finds no memory, at whatever step, is the only one that ends") {
    const auto loop = GENERATE(from_range(all_loops()));
    config settings = quiet(loop, {.max_message_size = 128 * 1024});
    settings.listener.read_buffer_size = 16 * 1024;
    running_server server{settings};
    server->on_message([](connection& c, message_view m) { c.emit_message(m); });
    server.start();
    test::client bystander{server.port()};
    REQUIRE(live(server.port()));
    REQUIRE(eventually([&] { return server->metrics().sockets == 1; }));

    std::size_t nth = 0;
    std::size_t cut = 0;
    for (bool struck = true; struck; ++nth) {
        CAPTURE(nth);
        std::optional<memory_shortage> none;
        on_loop(server, [&] { none.emplace(nth); });
        if (!live(server.port())) ++cut;
        REQUIRE(bystander.send("still here"));
        REQUIRE(bystander.receive() == "still here");
        on_loop(server, [&] {
            struck = none->struck();
            none.reset();
        });
        REQUIRE(eventually([&] { return server->metrics().sockets == 1; }));
    }
    CHECK(nth > 30);
    bystander.drop();  // so that nobody is waited for
    CHECK(server.stop() == "");
    CHECK(cut > 10);
}

TEST_CASE("a thread that speaks from outside and finds no memory, at whatever step, holds nobody up") {
    const auto loop = GENERATE(from_range(all_loops()));
    running_server server{quiet(loop)};
    server->on_message([](connection& c, message_view m) { c.emit_message(m); });
    server.start();
    test::client bystander{server.port()};
    const std::string text(100, 't');

    std::size_t nth = 0;
    std::size_t told = 0;
    for (bool struck = true; struck; ++nth) {
        CAPTURE(nth);
        bool is_said = true;
        {
            const memory_shortage none{nth};
            try {
                server->to(arke::all).emit_message(text);
            } catch (const std::bad_alloc&) {
                is_said = false;
            }
            struck = none.struck();
        }
        if (is_said) REQUIRE(bystander.receive() == text);
        if (!is_said) ++told;
        REQUIRE(bystander.send("still here"));
        REQUIRE(bystander.receive() == "still here");
    }
    CHECK(told > 2);
    bystander.drop();
    CHECK(server.stop() == "");
}
