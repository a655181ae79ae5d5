#include <arke/event/arke_v1_protocol.hpp>
#include <arke/event/iris_protocol.hpp>
#include <arke/event/message.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"

using namespace arke;

namespace {

/// A protocol that counts how often it is asked, and carries no event whose name is too long for it.
class counting final : public protocol {
public:
    std::string_view name() const noexcept override { return "counting"; }
    void receive(protocol_user&, const message_view&) const override {}

private:
    std::optional<form> measure_event(const outgoing& out, std::string& why) const override {
        const auto& event = out.event;
        if (event.name.size() > 5) {
            why = "too long";
            return std::nullopt;
        }
        return form{wire::opcode::binary, event.name.size() + event.data.size()};
    }
    void write_event(char* to, const outgoing& out) const noexcept override {
        ++written;
        const auto& event = out.event;
        std::copy(event.data.begin(), event.data.end(), std::copy(event.name.begin(), event.name.end(), to));
    }

public:
    mutable std::atomic<int> written{0};
};

outgoing event_of(std::string_view name, std::string_view data) { return outgoing::of({name, value_kind::text, data}); }

}  // namespace

TEST_CASE("a message owns what it says") {
    std::string name = "event", data = "data";
    const message m{event_of(name, data)};
    name.assign(name.size(), '?');
    data.assign(data.size(), '?');
    CHECK(m.view().event.name == "event");
    CHECK(m.view().event.data == "data");
    CHECK_FALSE(m.view().is_native());
}

TEST_CASE("a message has one frame for each protocol, filled once and shared by all") {
    const message m{event_of("event", "data")};
    const counting first, second;
    const iris_protocol iris{"prefix:"};
    auto* const frame = m.frame(first, 0);
    REQUIRE(frame != nullptr);
    for (int n = 0; n != 10; ++n) CHECK(m.frame(first, 0) == frame);
    CHECK(first.written == 1);
    CHECK(frame->view() ==
          "\x82\x09"
          "eventdata");
    CHECK(m.frame(second, 1) != frame);
    CHECK(second.written == 1);
    CHECK(m.frame(iris, 2)->view() ==
          "\x81\x13"
          "prefix:event;0;data");
    CHECK(frame->use_count() == 1);
}

TEST_CASE("a frame lives as long as somebody holds it, without its message") {
    shared_frame_ptr held;
    {
        const boost::intrusive_ptr<const message> m{new message{event_of("event", "data")}};
        held = m->frame(counting{}, 0);
        CHECK(held->use_count() == 2);
    }
    CHECK(held->use_count() == 1);
    CHECK(held->view().ends_with("eventdata"));
}

TEST_CASE("a protocol that cannot carry an event has no frame for it, and the others do") {
    const message m{event_of("a long name", "data")};
    const counting refuses;
    CHECK(m.frame(refuses, 0) == nullptr);
    CHECK(m.frame(refuses, 0) == nullptr);
    CHECK(m.frame(iris_protocol{"p:"}, 1) != nullptr);
    std::string why;
    CHECK_FALSE(refuses.measure(m.view(), why));
    CHECK(why == "too long");
}

TEST_CASE("a native message has one frame for all protocols that need not tell it from others") {
    const counting c;
    for (const bool is_text : {true, false}) {
        const message m{outgoing::native(is_text, "a native message")};
        auto* const frame = m.frame(c, 0);
        CHECK(m.frame(iris_protocol{"p:"}, 3) == frame);
        CHECK(frame->view() == (is_text ? "\x81" : "\x82") + std::string{"\x10"
                                                                         "a native message"});
    }
    const message empty{outgoing::native(true, "")};
    CHECK(empty.frame(c, 0)->view() == std::string_view{"\x81\0", 2});
    CHECK(c.written == 0);
}

TEST_CASE("a protocol that tells native messages by a prefix has a frame of its own for them") {
    const arke_v1_protocol v1;
    for (const bool is_text : {true, false}) {
        const message m{outgoing::native(is_text, "hello")};
        CHECK(m.frame(iris_protocol{"p:"}, 0)->view() == (is_text ? "\x81" : "\x82") + std::string{"\x05hello"});
        CHECK(m.frame(v1, 1)->view() == (is_text ? "\x81" : "\x82") + std::string{"\x06mhello"});
    }
}

TEST_CASE("threads that need a frame at once get the same one") {
    for (int round = 0; round != 200; ++round) {
        const message m{event_of("event", std::string(1000, 'x'))};
        const counting c;
        std::atomic<int> ready{0};
        std::array<shared_frame*, 4> frames{};
        std::vector<std::thread> threads;
        for (auto& frame : frames) {
            threads.emplace_back([&] {
                for (++ready; ready != 4;) std::this_thread::yield();
                frame = m.frame(c, 0);
            });
        }
        for (auto& t : threads) t.join();
        for (auto* frame : frames) REQUIRE(frame == frames[0]);
        REQUIRE(frames[0]->view().size() == 4 + 1005);
        REQUIRE(frames[0]->use_count() == 1);
    }
}
