#include <arke/http/session.hpp>
#include <arke/testing.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

using arke::response;
using arke::http::exchange_ptr;
using arke::testing::memory_transport;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

const arke::error_code reset{boost::system::errc::connection_reset, boost::system::generic_category()};

/// Settles when the test says so.
class patient final : public arke::http::route_handler {
public:
    explicit patient(std::vector<exchange_ptr>& waiting) : waiting_{waiting} {}
    void run(const exchange_ptr& what) override { waiting_.push_back(what); }

private:
    std::vector<exchange_ptr>& waiting_;
};

/// HTTP over streams in memory: a file of some size at /large, a POST to /later that waits for answer().
class memory_site {
public:
    explicit memory_site(std::size_t max_total_body_bytes = 1'000'000)
        : server_{{.endpoint = "/ws", .log = [](std::string_view) {}}} {
        site_->listener = server_.settings().listener;
        site_->listener.max_total_body_bytes = max_total_body_bytes;
        site_->endpoints.emplace_back(&server_.hub());
        server_.hub().share_load(site_->load);
        site_->load->add_loop(server_.loop());
        site_->folders.push_back(std::make_unique<arke::http::file_folder>("/", folder_.path()));
        site_->routes.add("POST", "/later", std::make_unique<patient>(waiting));
    }
    ~memory_site() {
        for (auto& each : streams_) each->drop();
        waiting.clear();
    }
    memory_site(const memory_site&) = delete;
    memory_site& operator=(const memory_site&) = delete;

    std::string write(std::size_t size) const {
        std::string text;
        for (unsigned n = 0; text.size() < size; ++n) text += std::to_string(n * 2654435761U) + "\n";
        text.resize(size);
        std::ofstream{folder_.path() / "large", std::ios::binary} << text;
        return text;
    }
    fs::path large() const { return folder_.path() / "large"; }

    memory_transport& connect(int refusal = 0) {
        auto& loop = server_.loop();
        boost::intrusive_ptr<arke::http::session> made{new arke::http::session{site_, loop, "192.0.2.1", 50'000}};
        streams_.push_back(std::make_unique<memory_transport>(loop, made));
        loop.in_turn_do([&] { made->start(*streams_.back(), refusal); });
        return *streams_.back();
    }

    /// One turn for what was posted. False: nothing was.
    bool run_posts() { return server_.loop().run_posts(); }

    /// All that is still to be done.
    void settle() {
        while (run_posts() || std::any_of(streams_.begin(), streams_.end(), [](auto& s) { return s->catch_up(); })) {
        }
    }

    void answer(response with) { waiting_for().settle(std::move(with)); }
    void fail() { waiting_for().settle(response{}, std::make_exception_ptr(std::runtime_error{"no"})); }
    void forget() { last_.reset(); }
    void pass(std::chrono::milliseconds time) { server_.pass(time); }
    arke::core::server_load& load() { return *site_->load; }
    std::size_t waiting_bytes() { return load().waiting.load(); }
    std::uint64_t cut_answers() { return server_.loop().counters().cut_answers.get(); }

    /// Files that this process has open below the folder.
    std::size_t open_files() const {
        std::size_t count = 0;
        for (const auto& each : fs::directory_iterator{"/proc/self/fd"}) {
            std::error_code gone;
            if (fs::read_symlink(each.path(), gone).string().starts_with(folder_.path().string())) ++count;
        }
        return count;
    }

    std::vector<exchange_ptr> waiting;

private:
    arke::http::exchange& waiting_for() {
        REQUIRE_FALSE(waiting.empty());
        last_ = waiting.front();
        waiting.erase(waiting.begin());
        return *last_;
    }

    arke::testing::server server_;
    std::shared_ptr<arke::http::site> site_ = std::make_shared<arke::http::site>();
    arke::test::temporary_folder folder_;
    exchange_ptr last_;
    std::vector<std::unique_ptr<memory_transport>> streams_;
};

/// Somebody at an address.
class visitor final : public arke::core::stream_user {
public:
    void failed() noexcept override {}
    void on_bytes(std::span<char>) override {}
    void on_writable() override {}
    void on_end(arke::error_code) override {}
    void on_timer(arke::core::millis) override {}
    void on_stop() override {}
};

const std::string get_large = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
const std::string get_none = "GET /none HTTP/1.1\r\nHost: x\r\n\r\n";
const std::string post_later = "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";

std::string body_of(std::string_view sent) {
    const auto end = sent.find("\r\n\r\n");
    return end == sent.npos ? std::string{} : std::string{sent.substr(end + 4)};
}

std::size_t count(std::string_view text, std::string_view part) {
    std::size_t found = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++found;
    return found;
}

}  // namespace

TEST_CASE("a large file leaves in parts, and after each 256 KiB it is the others' turn") {
    memory_site site;
    const auto text = site.write(3'500'000);
    auto& one = site.connect();
    one.arrives(get_large + get_none);
    CHECK(one.sent.size() >= 256U * 1024);
    CHECK(one.sent.size() < 256U * 1024 + 70'000);
    auto& other = site.connect();
    other.arrives(get_none);
    CHECK(other.sent.starts_with("HTTP/1.1 404"));
    CHECK(site.open_files() == 1);
    site.settle();
    // 3.5 MB by 64 KiB, and the answer to the second request.
    CHECK(one.operations <= 56);
    CHECK(count(one.sent, "HTTP/1.1 ") == 2);
    CHECK(body_of(one.sent).substr(0, text.size()) == text);
    CHECK(one.misuse.empty());
    CHECK(site.open_files() == 0);
}

TEST_CASE("a client that reads slowly gets every byte, and one that stops is cut with its file closed") {
    memory_site site;
    const auto text = site.write(300'000);
    auto& slow = site.connect();
    slow.room = 0;
    slow.arrives(get_large + get_none);
    CHECK(slow.sent.empty());
    CHECK(site.open_files() == 1);
    for (int i = 0; i != 500 && count(slow.sent, "HTTP/1.1 ") != 2; ++i) {
        site.pass(1000ms);
        slow.makes_room(997);
        site.settle();
    }
    CHECK(body_of(slow.sent).substr(0, text.size()) == text);
    CHECK(count(slow.sent, "HTTP/1.1 404") == 1);
    CHECK(site.open_files() == 0);

    auto& stuck = site.connect();
    stuck.room = 100'000;
    stuck.arrives(get_large);
    CHECK(site.open_files() == 1);
    site.pass(9'000ms);
    CHECK_FALSE(stuck.is_closed);
    site.pass(2'000ms);
    CHECK(stuck.is_closed);
    CHECK(stuck.was_reset);  // what it has not read is not waited for once more
    CHECK(site.open_files() == 0);
    CHECK(slow.misuse + stuck.misuse == "");
}

TEST_CASE("a file that becomes shorter while it is sent ends the connection, for its length was promised") {
    memory_site site;
    const auto text = site.write(300'000);
    auto& one = site.connect();
    one.room = 100'000;
    one.arrives(get_large + get_none);
    fs::resize_file(site.large(), 150'000);
    one.makes_room(memory_transport::everything);
    site.settle();
    CHECK(one.is_closed);
    CHECK_FALSE(one.was_reset);
    CHECK(body_of(one.sent) == text.substr(0, 150'000));
    CHECK(site.open_files() == 0);
    CHECK(one.misuse.empty());
}

TEST_CASE("a stream that breaks at any operation takes its file and its session along, and nobody else") {
    for (int at = 0; at != 8; ++at) {
        for (const bool is_slow : {false, true}) {
            CAPTURE(at, is_slow);
            memory_site site;
            site.write(300'000);
            auto& one = site.connect();
            one.fails_at = at;
            if (is_slow) one.most_at_once = 40'000;
            one.arrives(get_none + post_later + get_large);
            if (!site.waiting.empty()) site.answer(response::text("late"));
            for (int i = 0; i != 20; ++i) {
                site.settle();
                if (one.waits_for_room()) one.makes_room(memory_transport::everything);
            }
            CHECK(one.is_closed == (at < one.operations));
            CHECK(one.misuse.empty());
            if (one.is_closed) CHECK(site.open_files() == 0);
            auto& other = site.connect();
            other.arrives(get_none);
            CHECK(other.sent.starts_with("HTTP/1.1 404"));
        }
    }
}

TEST_CASE("an answer may come at once, later, or when nobody waits for it any more") {
    memory_site site;
    auto& one = site.connect();
    one.arrives(post_later + get_none);
    CHECK(one.sent.empty());
    REQUIRE(site.waiting.size() == 1);
    CHECK(site.waiting.front()->request().body() == "hi");
    one.arrives(get_none);  // is not read
    site.answer(response::text("one"));
    site.settle();
    CHECK(body_of(one.sent).starts_with("oneHTTP/1.1 404"));
    CHECK(count(one.sent, "HTTP/1.1 404") == 2);

    one.arrives(post_later);
    site.fail();
    site.settle();
    CHECK(count(one.sent, "HTTP/1.1 500") == 1);

    // The client goes.
    one.arrives(post_later);
    one.ends(arke::error_code{ECONNRESET, boost::system::system_category()});
    CHECK(one.is_closed);
    const auto before = one.sent.size();
    site.answer(response::text("nobody"));
    site.settle();
    CHECK(one.sent.size() == before);

    // It takes too long, and the late answer is not the next one's.
    auto& two = site.connect();
    two.arrives(post_later + post_later);
    site.pass(30'100ms);
    CHECK(two.sent.starts_with("HTTP/1.1 503"));
    CHECK(two.is_shut);
    site.answer(response::text("late"));
    site.settle();
    CHECK(count(two.sent, "HTTP/1.1 ") == 1);
    CHECK(site.waiting.empty());
    site.pass(11'000ms);
    CHECK(two.is_closed);
    CHECK(one.misuse + two.misuse == "");
}

TEST_CASE("who sends many requests at once has some of them served, and then it is the others' turn") {
    memory_site site;
    auto& one = site.connect();
    std::string many;
    for (int i = 0; i != 1000; ++i) many += get_none;
    one.arrives(many);
    CHECK(count(one.sent, "HTTP/1.1 404") == 128);
    one.arrives(get_none);  // is not read
    auto& other = site.connect();
    other.arrives(get_none);
    CHECK(other.sent.starts_with("HTTP/1.1 404"));
    site.settle();
    CHECK(count(one.sent, "HTTP/1.1 404") == 1001);
    CHECK(one.misuse.empty());
}

TEST_CASE("bodies of all requests together have a bound, also those whose handlers have not ended") {
    memory_site site{5};
    auto& one = site.connect();
    auto& two = site.connect();
    auto& three = site.connect();
    one.arrives(post_later);
    two.arrives(post_later);
    REQUIRE(site.waiting.size() == 2);
    three.arrives(post_later);
    CHECK(three.sent.starts_with("HTTP/1.1 503"));
    CHECK(three.is_shut);
    auto& half = site.connect();
    half.arrives(post_later.substr(0, post_later.size() - 1));
    CHECK(half.sent.empty());
    half.ends();
    two.ends();
    site.answer(response::text("ok"));
    site.answer(response::text("nobody hears"));
    site.waiting.clear();
    site.forget();
    auto& four = site.connect();
    auto& five = site.connect();
    four.arrives(post_later);
    five.arrives(post_later);
    CHECK(site.waiting.size() == 2);
}

TEST_CASE("over max_total_outbox_bytes those for whom the largest answers wait are cut, and no others") {
    memory_site site;
    site.load().max_waiting = 100'000;
    std::vector<memory_transport*> slow;
    const auto asks = [&](std::size_t size) {
        slow.push_back(&site.connect());
        slow.back()->room = 0;
        slow.back()->arrives(post_later);
        site.answer(response::text(std::string(size, 'a')));
        site.run_posts();
        return slow.back();
    };
    auto* const small = asks(2'000);
    CHECK(site.waiting_bytes() == 0);
    auto* const medium = asks(30'000);
    auto* const large = asks(50'000);
    CHECK(site.waiting_bytes() > 80'000);
    CHECK(site.waiting_bytes() < 82'000);
    site.settle();
    auto* const last = asks(25'000);
    CHECK(site.waiting_bytes() > 100'000);
    CHECK_FALSE(large->is_closed);
    site.settle();
    CHECK(large->was_reset);
    CHECK(site.cut_answers() == 1);
    CHECK(site.waiting_bytes() < 58'000);
    auto& next = site.connect();
    next.arrives(get_none);
    CHECK(next.sent.starts_with("HTTP/1.1 404"));
    for (const auto& [one, size] : {std::pair{small, 2'000U}, {medium, 30'000U}, {last, 25'000U}}) {
        one->makes_room(memory_transport::everything);
        CHECK(body_of(one->sent) == std::string(size, 'a'));
    }
    CHECK(site.waiting_bytes() == 0);
    CHECK(small->misuse + medium->misuse + large->misuse + last->misuse == "");
}

TEST_CASE(
    "requests behind one that waits for its answer, and parts of files, count for max_total_outbox_bytes, to their "
    "end") {
    std::string many;
    while (many.size() < 200'000) many += get_none;
    {
        memory_site site;
        auto& one = site.connect();
        one.arrives(post_later + many);
        CHECK(site.waiting_bytes() > 200'000);
        site.answer(response::text("ok"));
        site.settle();
        CHECK(count(one.sent, "HTTP/1.1 404") == count(many, "GET"));
        CHECK(site.waiting_bytes() == 0);
        // A request that is still coming keeps no more than it is long.
        one.arrives(many + "GET /");
        site.settle();
        CHECK(site.waiting_bytes() == 0);
    }
    memory_site site;
    site.write(1'000'000);
    const auto reader = [&](const std::string& text) {
        auto& one = site.connect();
        one.room = 0;
        one.arrives(text);
        CHECK(site.waiting_bytes() > 60'000);
        return &one;
    };
    reader(get_large)->ends();
    // That it has nothing more to say is read behind its answer, if it takes that.
    CHECK(site.waiting_bytes() > 60'000);
    site.pass(11'000ms);
    CHECK(site.waiting_bytes() == 0);
    reader(get_large)->ends(reset);
    CHECK(site.waiting_bytes() == 0);
    reader(get_large);
    site.pass(11'000ms);
    CHECK(site.waiting_bytes() == 0);
    reader(get_large)->makes_room(memory_transport::everything);
    site.settle();
    CHECK(site.waiting_bytes() == 0);
    auto& one = site.connect();
    one.arrives(post_later + many);
    site.pass(31'000ms);
    CHECK(site.waiting_bytes() == 0);

    // What comes with an upgrade is the peer's.
    auto& two = site.connect();
    two.arrives(post_later +
                "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" +
                std::string(100'000, '\0'));
    CHECK(site.waiting_bytes() > 100'000);
    site.waiting.erase(site.waiting.begin());
    site.answer(response::text("ok"));
    site.settle();
    CHECK(two.sent.find("HTTP/1.1 101") != std::string::npos);
    CHECK(site.waiting_bytes() == 0);
}

TEST_CASE("a body is taken by the bytes that come, at every cut") {
    for (std::size_t piece = 1; piece != post_later.size(); ++piece) {
        memory_site site;
        auto& one = site.connect();
        const auto text = post_later + post_later;
        for (std::size_t at = 0; at < text.size(); at += piece) {
            one.arrives(text.substr(at, piece));
            if (!site.waiting.empty()) site.answer(response::text("ok"));
            site.settle();
            if (!site.waiting.empty()) site.answer(response::text("ok"));
        }
        CAPTURE(piece);
        CHECK(count(one.sent, "HTTP/1.1 200") == 2);
        CHECK(one.misuse.empty());
    }
}

TEST_CASE("where there is no memory at some moment a session answers or ends, and the next one is served") {
    const std::size_t times = GENERATE(std::size_t{1}, arke::test::memory_shortage::for_good);
    bool struck = true;
    std::size_t nth = 0;
    for (; struck; ++nth) {
        CAPTURE(times, nth);
        memory_site site;
        site.write(200'000);
        auto& one = site.connect();
        one.sent.reserve(1'000'000);  // the test's own memory is not what fails
        const auto text = get_none + post_later + get_large;
        {
            const arke::test::memory_shortage none{nth, times};
            try {
                one.arrives(text);
                if (!site.waiting.empty()) site.answer(response::text("late"));
                site.settle();
            } catch (const std::bad_alloc&) {
                // The stream of the test had none for itself.
            }
            struck = none.struck();
        }
        site.settle();
        CHECK(one.misuse.empty());
        if (!struck) CHECK(count(one.sent, "HTTP/1.1 200") == 2);
        auto& other = site.connect();
        other.arrives(post_later);
        REQUIRE_FALSE(site.waiting.empty());
        site.waiting.back()->settle(response::text("fine"));
        site.settle();
        CHECK(other.sent.ends_with("fine"));
        one.ends(reset);
        CHECK(one.is_closed);
        CHECK(site.open_files() == 0);
    }
    CHECK(nth > 20);
}

TEST_CASE("a body that was asked for by 100 Continue has body_timeout like any other") {
    // It had handshake_timeout, from the 100 on.
    memory_site site;
    auto& one = site.connect();
    one.arrives("POST /later HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    CHECK(one.sent == "HTTP/1.1 100 Continue\r\n\r\n");
    site.pass(29s);
    one.arrives("h");
    one.arrives("i");
    REQUIRE(site.waiting.size() == 1);
    CHECK(site.waiting.front()->request().body() == "hi");
    site.answer(response::text("thanks"));
    site.settle();
    CHECK(body_of(body_of(one.sent)) == "thanks");
    auto& late = site.connect();
    late.arrives("POST /later HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    site.pass(31s);
    CHECK(late.sent.find("HTTP/1.1 408") != std::string::npos);
}

TEST_CASE("a file that a handler answers with another status than 200, or to a POST, is sent whole") {
    // A Range made the page of an error a 206 without its status, and If-None-Match a 304.
    memory_site site;
    const auto text = site.write(1000);
    for (const std::string condition : {"Range: bytes=0-4", "If-None-Match: *"}) {
        for (const int status : {200, 404}) {
            CAPTURE(condition, status);
            auto& one = site.connect();
            one.arrives("POST /later HTTP/1.1\r\nHost: x\r\n" + condition + "\r\n\r\n");
            site.answer(response::file(site.large()).status(status));
            site.settle();
            CHECK(one.sent.starts_with("HTTP/1.1 " + std::to_string(status)));
            CHECK((body_of(one.sent) == text));
        }
    }
}

// -------------------------------------------------------------------------------------------------------------- refusals

TEST_CASE("whoever is only to be refused has a second to ask, and another to go") {
    // It stayed for handshake_timeout, where somebody else could have been.
    memory_site site;
    auto& silent = site.connect(429);
    auto& asks = site.connect(503);
    auto& served = site.connect();
    site.pass(900ms);
    CHECK_FALSE(silent.is_closed);
    asks.arrives(get_none);
    CHECK(asks.sent.starts_with("HTTP/1.1 503"));
    site.pass(200ms);
    CHECK(silent.is_closed);
    CHECK(silent.sent.empty());
    CHECK_FALSE(asks.is_closed);
    site.pass(1s);
    CHECK(asks.is_closed);
    served.arrives(get_none);
    CHECK(served.sent.starts_with("HTTP/1.1 404"));
}

TEST_CASE("past max_connections 1,024 wait to be refused, and there is no room for one more") {
    using place = arke::core::server_load::place;
    arke::http::site site;
    site.configure({.max_connections = 5});
    const auto at = [&](std::size_t connections) {
        site.load->connections = connections;
        return site.room();
    };
    CHECK(at(4) == place::served);
    CHECK(at(5) == place::refused);
    CHECK(at(5 + 1023) == place::refused);
    CHECK(at(5 + 1024) == place::none);
    // Those who came at one moment from several acceptors.
    CHECK(at(5 + 1030) == place::none);
}

TEST_CASE("an address has max_connections_per_address places and eight for refusals, in whatever order they go") {
    arke::http::site site;
    site.configure({.max_connections_per_address = 3});
    std::vector<visitor> here(14);
    std::vector<visitor> there(10);
    std::string heard;
    const auto enter = [&](const visitor& who, const char* address, bool is_full = false) {
        const auto status = site.enter(who, address, is_full);
        heard += (heard.empty() ? "" : " ") + (status ? std::to_string(*status) : "none");
    };
    for (int n = 0; n != 12; ++n) enter(here[static_cast<std::size_t>(n)], "192.0.2.1");
    CHECK(heard == "0 0 0 429 429 429 429 429 429 429 429 none");
    heard.clear();
    for (int n = 0; n != 9; ++n) enter(there[static_cast<std::size_t>(n)], "192.0.2.2", true);
    CHECK(heard == "503 503 503 503 503 503 503 503 none");
    heard.clear();
    enter(there[9], "192.0.2.2");
    site.load->leave(here[4]);
    enter(here[12], "192.0.2.1");
    site.load->leave(here[0]);
    enter(here[13], "192.0.2.1");
    enter(here[0], "192.0.2.1");
    CHECK(heard == "0 429 0 none");
    for (const auto& each : here) site.load->leave(each);
    heard.clear();
    for (int n = 0; n != 4; ++n) enter(here[static_cast<std::size_t>(n)], "192.0.2.1");
    CHECK(heard == "0 0 0 429");
}
