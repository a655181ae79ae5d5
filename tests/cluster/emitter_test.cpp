#include <arke/cluster/emitter.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_future.hpp>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cluster.hpp"

using namespace arke;
using namespace arke::test;
using namespace std::chrono_literals;

namespace {

std::unique_ptr<emitter> emitter_at(const meeting& at, emitter_config settings = {}) {
    std::unique_ptr<emitter> made;
    at.carry([&](auto carries) { made = std::make_unique<emitter>(std::move(carries), std::move(settings)); });
    return made;
}

/// A carrier of nothing, whose broker does what the test says.
struct scripted_carrier final : backplane {
    struct script {
        backplane_user* user = nullptr;
        std::atomic<std::size_t> max_payload{1'000'000};
        std::atomic<std::uint64_t> lost{0};
        std::atomic<bool> echoes{true};
        std::atomic<std::size_t> waits{0};
    };
    explicit scripted_carrier(std::shared_ptr<script> by) : by_{std::move(by)} {}

    void start(boost::asio::io_context&, const cluster_executor& on, backplane_user& user) override {
        by_->user = &user;
        on_.emplace(on);
        user.connected();
    }
    bool publish(std::string_view, std::string_view payload) override {
        if (payload.size() > by_->max_payload) return false;
        if (by_->echoes)
            boost::asio::post(*on_, [by = by_, copy = std::string{payload}] {
                if (by->user != nullptr) by->user->received(copy);
            });
        return true;
    }
    void subscribe(const std::vector<std::string>&, const std::vector<std::string>&, std::uint64_t number) override {
        by_->user->subscribed(number);
    }
    void reconnect() override {}
    void close() noexcept override {
        by_->user = nullptr;
        on_.reset();
    }
    std::size_t waiting() const noexcept override { return by_->waits; }
    backplane_counts counts() const noexcept override {
        backplane_counts made;
        made.lost = by_->lost;
        return made;
    }

private:
    std::shared_ptr<script> by_;
    std::optional<cluster_executor> on_;
};

}  // namespace

TEST_CASE("what an emitter says reaches whom it names, on all servers, in its order") {
    three_servers city{any_carrier()};
    std::vector<citizen> pages;
    pages.push_back(city.connect(0, {"red"}));
    pages.push_back(city.connect(1, {"red", "blue"}));
    pages.push_back(city.connect(1, {}, "dan"));
    pages.push_back(city.connect(2, {"blue"}));
    REQUIRE(city.settle());
    const auto out = emitter_at(city.at());

    out->to("red").emit("red");
    out->to("red", "blue").emit("colours", 1);
    out->to("red").except("blue").emit("pure", std::string(5'000, 'x'));
    out->to("dan").emit("dan");
    out->to(arke::id{pages[0].id()}).emit("first", 1.5);
    out->to(pages[3].id()).emit_latest("last", "value", "key");
    out->to(arke::room{"dan"}).emit("nobody");
    out->to("nowhere").emit("nobody");
    out->to(arke::all).emit("everybody");
    out->to(arke::all).except("red", arke::id{"dan"}).emit("others");
    const auto kept = out->to("blue");
    kept.emit("kept");
    REQUIRE(out->flush(long_enough));
    REQUIRE_FALSE(out->state().degraded);
    out->to("dan").emit_volatile("now", 1);
    out->to(arke::all).emit("end");

    CHECK(pages[0].heard(1) == "red colours pure first everybody");
    CHECK(pages[1].heard(1) == "red colours everybody kept");
    CHECK(pages[2].heard(1) == "dan everybody now");
    CHECK(pages[3].heard(1) == "colours last everybody others kept");
    const auto m = out->metrics();
    CHECK(m.dropped + m.lost + m.too_big + m.nodes == 0);
}

TEST_CASE("an emitter's native messages are what servers' are") {
    three_servers city{carrier::in_process};
    auto ann = city.connect(0, {"red"});
    REQUIRE(city.settle());
    const auto out = emitter_at(city.at());
    out->to("red").emit_message("text");
    CHECK(ann.client().receive() == "text");
    out->to("red").emit_message(as_bytes(std::string_view{"bytes as text"}));
    CHECK(ann.client().receive() == "bytes as text");
    out->to("red").emit_message(message_view{"as it came"});
    CHECK(ann.client().receive() == "as it came");
    CHECK_FALSE(ann.client().got_binary());
    CHECK_THROWS_AS(out->to("red").emit_message("\xFF"), std::invalid_argument);
    CHECK_THROWS_AS(out->to("red").emit_message(as_bytes(std::string_view{"\xFF"})), std::invalid_argument);
    const auto binary = emitter_at(city.at(), {.binary_messages = true});
    binary->to("red").emit_message(as_bytes(std::string_view{"\xFF"}));
    CHECK(ann.client().receive() == "\xFF");
    CHECK(ann.client().got_binary());
}

TEST_CASE("an emitter joins, leaves and disconnects connections, and what it says next finds them there") {
    three_servers city{any_carrier()};
    auto ann = city.connect(0);
    auto ben = city.connect(1);
    REQUIRE(city.settle());
    const auto out = emitter_at(city.at());
    out->to(ann.id()).join("club");
    REQUIRE(eventually([&] { return city[0].members("club").size() == 1; }));
    REQUIRE(city.settle());
    out->to("club").emit("welcome");
    CHECK(ann.client().receive() == "welcome;0;");
    out->to("club").leave("club");
    REQUIRE(eventually([&] { return city[0].members("club").empty(); }));
    out->to(ben.id()).disconnect(close_code::going_away, "elsewhere");
    CHECK(ben.client().receive() == "close(1001 elsewhere)");
    CHECK_THROWS_AS(out->to("club").disconnect(static_cast<close_code>(1005)), std::invalid_argument);
}

TEST_CASE("an emitter speaks to the servers, which know it for none of them") {
    three_servers city{any_carrier()};
    journal heard;
    for (std::size_t i = 0; i != 3; ++i) {
        city[i].cluster().on("reload", [&heard, i](const node_info& from, int n) {
            heard.add(std::to_string(i) + ":" + std::to_string(n) + (from.id.size() == 5 ? "" : "?"));
        });
    }
    const auto out = emitter_at(city.at());
    out->servers(city[1].cluster().self().id).emit("reload", 1);
    REQUIRE(heard.wait(1) == "1:1");
    out->servers().emit("reload", 2);
    const auto lines = heard.wait(4);
    for (const auto* line : {"0:2", "1:2", "2:2"}) CHECK(lines.find(line) != std::string::npos);
    CHECK(city[0].cluster().others().size() == 2);
    CHECK(city[0].cluster().nodes(asio::use_future).get().nodes.size() == 3);
}

TEST_CASE("ten thousand events of an emitter come in order, each once") {
    three_servers city{any_carrier()};
    auto ann = city.connect(2, {"red"});
    REQUIRE(city.settle());
    const auto out = emitter_at(city.at());
    constexpr int count = 10'000;
    for (int n = 0; n != count; ++n) out->to("red").emit("n", n);
    int in_order = 0;
    for (int n = 0; n != count; ++n) in_order += ann.client().receive() == "n;1;" + std::to_string(n) ? 1 : 0;
    CHECK(in_order == count);
    CHECK(out->flush(long_enough));
}

TEST_CASE("the end of an emitter hands on what was said") {
    three_servers city{any_carrier()};
    auto ann = city.connect(0, {"red"});
    REQUIRE(city.settle());
    // For a second: where this machine took longer, another says it again.
    bool is_in_time = false;
    std::string event;
    for (int attempt = 0; !is_in_time && attempt != 5; ++attempt) {
        event = "n" + std::to_string(attempt);
        auto out = emitter_at(city.at());
        for (int n = 0; n != 100; ++n) out->to("red").emit(event, n);
        const auto began = std::chrono::steady_clock::now();
        out.reset();
        is_in_time = std::chrono::steady_clock::now() - began < 1s;
    }
    REQUIRE(is_in_time);
    for (int n = 0; n != 100;) {
        const auto heard = ann.client().receive();
        REQUIRE(heard.starts_with("n"));
        if (heard.starts_with(event)) REQUIRE(heard == event + ";1;" + std::to_string(n++));
    }
}

TEST_CASE("without a broker flush() says so in its time, and what waits is said when there is one") {
    const meeting at{carrier::in_process};
    three_servers city{at};
    auto ann = city.connect(0, {"red"});
    REQUIRE(city.settle());
    at.in_process().set_reachable(false);
    const auto out = emitter_at(at);
    out->to("red").emit("late");
    out->to("red").emit_volatile("stale", 1);
    CHECK_FALSE(out->flush(20ms));
    CHECK(out->state().degraded);
    CHECK_FALSE(out->state().why.empty());
    at.in_process().set_reachable(true);
    CHECK(out->flush(long_enough));
    CHECK(ann.client().receive() == "late;0;");
    CHECK(out->metrics().dropped == 1);
}

TEST_CASE("an emitter ends soon though its broker never was there") {
    const meeting at{carrier::in_process};
    at.in_process().set_reachable(false);
    auto out = emitter_at(at);
    out->to("red").emit("never");
    const auto kept = out->to("red");
    const auto before = std::chrono::steady_clock::now();
    out.reset();
    CHECK(std::chrono::steady_clock::now() - before < 10s);
    kept.emit("nobody");
    kept.join("nowhere");
}

TEST_CASE("flush() tells once of what was dropped, too large or lost") {
    const auto script = std::make_shared<scripted_carrier::script>();
    const emitter out{scripted_carrier{script}, {.cluster = {.max_outgoing_bytes = 65'536}}};
    REQUIRE(out.flush(long_enough));

    out.to("red").emit("larger than what may wait", std::string(70'000, 'x'));
    CHECK_FALSE(out.flush(long_enough));
    CHECK(out.flush(long_enough));
    script->max_payload = 1'000;
    out.to("red").emit("larger than the broker takes", std::string(2'000, 'x'));
    CHECK_FALSE(out.flush(long_enough));
    CHECK(out.flush(long_enough));
    script->lost = 3;
    CHECK_FALSE(out.flush(long_enough));
    CHECK(out.flush(long_enough));
    const auto m = out.metrics();
    CHECK(m.dropped == 1);
    CHECK(m.too_big == 1);
    CHECK(m.lost == 3);

    // Bytes that the broker has not taken yet.
    script->waits = 100;
    CHECK_FALSE(out.flush(20ms));
    auto later = std::async(std::launch::async, [&] { return out.flush(long_enough); });
    script->waits = 0;
    CHECK(later.get());

    // A broker that says nothing has taken nothing, as far as anybody knows.
    script->echoes = false;
    out.to("red").emit("into silence");
    CHECK_FALSE(out.flush(20ms));
}

TEST_CASE("an emitter lives in the caller's io_context") {
    three_servers city{carrier::in_process};
    auto ann = city.connect(0, {"red"});
    REQUIRE(city.settle());
    asio::io_context context;
    auto work = asio::make_work_guard(context);
    std::thread runs{[&] { context.run(); }};
    {
        emitter made{context, in_process_backplane{city.at().in_process()}};
        const emitter out{std::move(made)};
        out.to("red").emit("hello");
        CHECK(out.flush(long_enough));
        CHECK(ann.client().receive() == "hello;0;");

        // In a thread that it needs it cannot wait.
        std::promise<bool> flushed;
        asio::post(context, [&] { flushed.set_value(out.flush(1ms)); });
        CHECK_FALSE(flushed.get_future().get());
    }
    work.reset();
    runs.join();  // nothing of it keeps the io_context busy

    // One that never runs is no trouble either.
    asio::io_context idle;
    const emitter silent{idle, in_process_backplane{city.at().in_process()}};
    silent.to("red").emit("never");
}

TEST_CASE("an emitter that is not made for want of memory leaves nothing behind") {
    // Its node outlived the io_context that it was in.
    const bool has_thread = GENERATE(true, false);
    CAPTURE(has_thread);
    // Asio's strand does not survive that it gets memory for its one half and none for the other: it begins behind that, and
    // behind the few things of ours before it.
    const auto before = allocations();
    auto own = std::make_unique<asio::io_context>(1);
    const auto between = allocations();
    static_cast<void>(asio::make_strand(*own));
    const auto behind_strand = 8 + allocations() - (has_thread ? before : between);
    for (std::size_t nth = behind_strand, failures = 0;; ++nth) {
        const auto script = std::make_shared<scripted_carrier::script>();
        asio::io_context context;
        std::optional<emitter> out;
        scripted_carrier carries{script};
        bool is_made = false;
        bool struck = false;
        {
            const memory_shortage shortage{nth};
            try {
                if (has_thread)
                    out.emplace(std::move(carries));
                else
                    out.emplace(context, std::move(carries));
                is_made = true;
            } catch (const std::bad_alloc&) {
                ++failures;
            }
            struck = shortage.struck();
        }
        if (!struck) {
            CHECK(is_made);
            CHECK(failures > 3);
            break;
        }
        // What began is closed by the caller's loop.
        context.restart();
        if (!is_made) context.run();
        CHECK((is_made || script.use_count() == 1));
    }
}

TEST_CASE("an emitter ends without memory too") {
    const bool has_thread = GENERATE(true, false);
    CAPTURE(has_thread);
    bool is_over = false;
    for (std::size_t nth = 0; !is_over; ++nth) {
        const auto script = std::make_shared<scripted_carrier::script>();
        asio::io_context context;
        std::optional<emitter> out;
        if (has_thread) {
            out.emplace(scripted_carrier{script});
            REQUIRE(out->flush(long_enough));
        } else {
            out.emplace(context, scripted_carrier{script});
            REQUIRE(eventually([&] {
                context.poll();
                return !out->state().degraded;
            }));
        }
        const auto kept = out->to("red");
        {
            const memory_shortage shortage{nth};
            out.reset();
            is_over = !shortage.struck();
        }
        context.restart();
        context.run();  // it ends, so nothing of the emitter goes on
        CHECK(script->user == nullptr);
        kept.emit("nobody");
    }
}

TEST_CASE("what no server could read is refused where it is said") {
    const meeting at{carrier::in_process};
    const auto out = emitter_at(at);
    CHECK_THROWS_AS(out->to("red").emit(""), std::invalid_argument);
    CHECK_THROWS_AS(out->to("red").emit("\xFF"), std::invalid_argument);
    CHECK_THROWS_AS(out->to("red").emit("text", "\xFF"), std::invalid_argument);
    CHECK_THROWS_AS(out->servers().emit(""), std::invalid_argument);
    CHECK_THROWS_AS(emitter_at(at, {.cluster = {.prefix = ""}}), std::invalid_argument);
}

TEST_CASE("an emitter may be destroyed by its own log") {
    // Its io_context was destroyed while its thread was within it, after a second of waiting for itself.
    const meeting at{carrier::in_process};
    at.in_process().set_reachable(false);
    std::promise<void> ended;
    std::unique_ptr<emitter> out;
    out = emitter_at(at, {.log = [&](std::string_view) {
                         if (!out) return;
                         out.reset();
                         ended.set_value();
                     }});
    const auto kept = out->to("red");
    at.in_process().set_reachable(true);
    REQUIRE(ended.get_future().wait_for(long_enough) == std::future_status::ready);
    kept.emit("nobody");
}

TEST_CASE("an emitter's log that throws keeps nobody from hearing") {
    three_servers city{carrier::in_process};
    auto ann = city.connect(0, {"red"});
    REQUIRE(city.settle());
    const auto out = emitter_at(city.at(), {.log = [](std::string_view) { throw std::runtime_error{"no disk"}; }});
    out->to("red").emit("hello");
    CHECK(out->flush(long_enough));
    CHECK(ann.client().receive() == "hello;0;");
}

TEST_CASE("an emitter's log tells of the broker") {
    const meeting at{carrier::in_process};
    journal log;
    const auto out = emitter_at(at, {.log = [&](std::string_view line) { log.add("[" + std::string{line} + "]"); }});
    CHECK(log.wait(1) == "[cluster: the broker is there]");
    at.in_process().set_reachable(false);
    CHECK(log.wait(2).find("[cluster: degraded: ") != std::string::npos);
}
