// The whole interface from many threads at once, and the end of everything in every order. Short by default;
// ARKE_STRESS_SECONDS=60 makes the storm as long, for each loop and each way of running it.
#include <arke/arke.hpp>

#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"

using namespace arke::test;
using namespace std::chrono_literals;
using arke::connection;
using steady = std::chrono::steady_clock;

namespace {

std::chrono::milliseconds storm_time() {
    const char* const asked = std::getenv("ARKE_STRESS_SECONDS");
    return asked == nullptr ? 900ms : std::chrono::seconds{std::max(1, std::atoi(asked))};
}

enum class way { own_loops, callers_context };

/// A server in one of the two ways in which its loops get threads.
class runner {
public:
    runner(way how, const arke::config& settings, unsigned threads) : how_{how}, thread_count_{threads} {
        if (how == way::callers_context) {
            context_ = std::make_unique<boost::asio::io_context>();
            work_.emplace(context_->get_executor());
            server_ = std::make_unique<arke::server>(*context_, settings);
        } else {
            server_ = std::make_unique<arke::server>(settings);
        }
    }
    ~runner() {
        if (server_) server_->stop();
        end_work();
        join();
    }
    runner(const runner&) = delete;
    runner& operator=(const runner&) = delete;

    std::unique_ptr<arke::server>& server() { return server_; }
    std::unique_ptr<boost::asio::io_context>& context() { return context_; }

    std::uint16_t start() {
        server_->listen("127.0.0.1", 0);
        const auto port = server_->port();
        if (how_ == way::callers_context) {
            for (unsigned i = 0; i != thread_count_; ++i) threads_.emplace_back([c = context_.get()] { c->run(); });
        } else {
            threads_.emplace_back([s = server_.get(), n = thread_count_] { s->run(n); });
        }
        return port;
    }

    /// The context may run out of work.
    void end_work() { work_.reset(); }
    void join() {
        for (auto& t : threads_) t.join();
        threads_.clear();
    }

private:
    way how_;
    unsigned thread_count_;
    std::unique_ptr<boost::asio::io_context> context_;
    std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> work_;
    std::unique_ptr<arke::server> server_;
    std::vector<std::thread> threads_;
};

/// What must not happen and has, from any thread.
class fault_list {
public:
    void add(const std::string& sentence) {
        const std::lock_guard lock{mutex_};
        if (++count_ <= 5) text_ += sentence + "; ";
    }
    std::string text() const {
        const std::lock_guard lock{mutex_};
        return text_;
    }

private:
    mutable std::mutex mutex_;
    std::string text_;
    int count_ = 0;
};

constexpr std::size_t speakers = 8;
constexpr std::size_t stayers = 4;

/// Eight threads speak to four connections that stay, by every means there is, and each of these must hear each thread's
/// numbers without a gap. Meanwhile guests come and go, and other threads do everything else to them.
class storm {
public:
    storm(arke::server& server, arke::endpoint other, std::uint16_t port)
        : server_{server}, other_{std::move(other)}, port_{port} {}

    void begin() {
        for (std::size_t i = 0; i != stayers; ++i) stayers_.push_back(std::make_unique<stayer>(port_, i));
        for (auto& s : stayers_) {
            if (s->stream.receive() != "ready;0;") faults_.add("no ready");
            s->thread = std::thread{[this, &s = *s] { listen(s); }};
        }
        for (std::size_t t = 0; t != speakers; ++t) work([this, t] { speak(t); });
        for (int i = 0; i != 3; ++i) work([this, i] { visit(i); });
        for (int i = 0; i != 2; ++i) work([this, i] { move_guests(i); });
        work([this] { look_around(); });
        work([this] { change_handlers(); });
    }

    /// The speakers fall silent, and everything that was said has come.
    void settle() {
        paused_ = true;
        const bool all = eventually([&] {
            for (std::size_t t = 0; t != speakers; ++t) {
                if (speaking_[t] || slowest(t) != said_[t]) return false;
            }
            return true;
        });
        if (!all) faults_.add("not everything has come");
        paused_ = false;
    }

    /// Stops the server in the midst of it, and then the threads.
    void end() {
        server_.stop();
        server_.stop(40s);
        for (auto& s : stayers_) s->thread.join();
        done_ = true;
        for (auto& t : threads_) t.join();
        for (auto& s : stayers_) {
            if (s->end != "close(1001 the server stops)") faults_.add("one who stays heard at last " + s->end);
        }
    }

    std::string faults() const { return faults_.text(); }
    int said() const {
        int sum = 0;
        for (const auto& s : said_) sum += s;
        return sum;
    }
    int guests() const { return guests_; }

private:
    struct stayer {
        stayer(std::uint16_t port, std::size_t number) : stream{port, "/?id=s" + std::to_string(number)} {}
        client stream;
        std::array<std::atomic<int>, speakers> next{};
        std::array<int, speakers> latest{};
        std::string end;
        std::thread thread;
    };

    template <class F>
    void work(F f) {
        threads_.emplace_back([this, f = std::move(f)] {
            try {
                f();
            } catch (const std::exception& e) {
                faults_.add(e.what());
            }
        });
    }

    /// What waits in the loops is bounded by nobody but those who speak.
    void pace() {
        std::unique_lock lock{heard_mutex_};
        heard_.wait_for(lock, 1ms);
    }

    int slowest(std::size_t t) const {
        int least = stayers_.front()->next[t];
        for (const auto& s : stayers_) least = std::min<int>(least, s->next[t]);
        return least;
    }

    /// "n;0;thread.number" is said to each, "latest;0;" need not come but comes in order. Native texts are of the first kind.
    void listen(stayer& s) {
        for (;;) {
            const auto text = s.stream.receive();
            if (text.starts_with("close(") || text == "end" || text == "timeout") {
                s.end = text;
                return;
            }
            const bool may_miss = text.starts_with("latest;");
            if (text.starts_with("room;") || text.starts_with("pass;")) continue;
            const auto at = text.rfind(';') == std::string::npos ? 0 : text.rfind(';') + 1;
            const auto dot = text.find('.', at);
            if (dot == std::string::npos) {
                faults_.add("heard " + text);
                continue;
            }
            const auto t = static_cast<std::size_t>(std::stoi(text.substr(at, dot - at)));
            const int number = std::stoi(text.substr(dot + 1));
            if (may_miss) {
                if (number <= s.latest[t]) faults_.add("an old one came late: " + text);
                s.latest[t] = number;
                continue;
            }
            if (number != s.next[t]) faults_.add(text + " came, and not " + std::to_string(s.next[t]));
            s.next[t] = number + 1;
            heard_.notify_all();
        }
    }

    void speak(std::size_t t) {
        std::vector<arke::connection_handle> handles;
        for (std::size_t i = 0; i != stayers; ++i) handles.push_back(server_.find("s" + std::to_string(i)));
        auto kept = server_.to("s0", "s1", "s2", "s3");
        for (int n = 0; !done_; ++n) {
            speaking_[t] = true;
            if (paused_ || n - slowest(t) > 50) {
                speaking_[t] = false;
                pace();
                --n;
                continue;
            }
            const auto text = std::to_string(t) + "." + std::to_string(n);
            switch (n % 7) {
                case 0: server_.to(arke::all).emit("n", text); break;
                case 1: server_.to("stay").emit("n", text); break;
                case 2: server_.to("stay", arke::id{"s0"}).except("nobody").emit("n", text); break;
                case 3:
                    for (const auto& h : handles) h.emit("n", text);
                    break;
                case 4: server_.to(arke::room{"stay"}).emit_message(text); break;
                case 5:
                    for (const auto& h : handles) h.emit_message(text);
                    break;
                default: kept.emit("n", text); break;
            }
            // Counted when it is said: whoever reads the count waits for it.
            said_[t] = n + 1;
            const auto latest = std::to_string(t) + "." + std::to_string(n + 1);
            if (n % 3 == 0) server_.to("stay").emit_latest("latest", latest, std::to_string(t));
            if (n % 3 == 1) server_.to("stay").emit_volatile("latest", latest);
            if (n % 3 == 2) {
                for (const auto& h : handles) h.emit_latest("latest", latest, std::to_string(t));
            }
        }
        speaking_[t] = false;
    }

    /// Comes, does something, and goes in one way or another.
    void visit(int number) {
        std::minstd_rand random{static_cast<unsigned>(number) + 1};
        while (!done_) {
            try {
                raw_client guest{port_};
                const auto id = "g" + std::to_string(number) + "-" + std::to_string(++guests_);
                guest.send(upgrade_request(random() % 3 == 0 ? "/other" : "/?id=" + id));
                if (random() % 8 == 0) continue;
                if (!guest.read_until("\r\n\r\n").starts_with("HTTP/1.1 101")) continue;
                for (auto words = random() % 6; words != 0; --words)
                    guest.send(masked_frame(0x81, "iris-websocket-message:say;0;room" + std::to_string(random() % 5)));
                if (random() % 2 == 0) continue;
                guest.send(masked_frame(0x88, "\x03\xE8"));
                if (random() % 2 == 0) guest.ends();
            } catch (const boost::system::system_error&) {
                // Nobody listens any more.
            }
        }
    }

    void move_guests(int number) {
        std::minstd_rand random{static_cast<unsigned>(number) + 77};
        while (!done_) {
            const auto room = "room" + std::to_string(random() % 5);
            for (const auto& h : server_.connections()) {
                if (h.id().starts_with('s')) continue;
                switch (random() % 7) {
                    case 0: h.join(room); break;
                    case 1: h.leave(room); break;
                    case 2: h.emit("room", 1); break;
                    case 3: server_.disconnect(h.id(), arke::close_code{4000}, "moved"); break;
                    case 4: server_.join(h.id(), room); break;
                    case 5:
                        h.run([room](connection& c) {
                            c.leave(room);
                            c.to(room, arke::not_me).emit("pass");
                        });
                        break;
                    default: server_.to(h.id()).join(room); break;
                }
            }
            server_.to(room).leave("room0");
            server_.to(room).except("room1").emit("room", 2);
            if (random() % 4 == 0) server_.to(arke::room{room}).except("stay").disconnect();
            other_.to(arke::all).emit("room", 3);
            for (const auto& h : other_.connections()) h.disconnect();
            pace();
        }
    }

    void look_around() {
        while (!done_) {
            if (server_.members("stay").size() > stayers) faults_.add("too many members");
            static_cast<void>(server_.rooms());
            static_cast<void>(other_.rooms());
            static_cast<void>(server_.port());
            static_cast<void>(server_.unhandled_events());
            const auto m = server_.metrics();
            if (m.prometheus().empty()) faults_.add("no metrics");
            if (server_.size() > 4096 || other_.size() > 4096) faults_.add("a size that cannot be");
            if (server_.find("nobody") || server_.is_connected("nobody")) faults_.add("nobody was found");
            // Empty once the server has ended.
            if (const auto executor = server_.get_executor()) boost::asio::post(executor, [] {});
            try {
                server_.endpoint("/late");
                faults_.add("an endpoint was added to a server that runs");
            } catch (const std::logic_error&) {
            }
            pace();
        }
    }

    void change_handlers() {
        for (int n = 0; !done_; ++n) {
            auto text = std::make_shared<std::string>("what a handler owns");
            const auto event = server_.on("say", [text](connection& c) { c.to("room0").emit("pass"); });
            const auto any = server_.on_any([text](connection&, const arke::event_view&) {});
            const auto gone = server_.on_disconnect([text](connection& c) { c.to("room1").emit("pass"); });
            const auto left = server_.on_leave([text](connection&, std::string_view) {});
            const auto come = other_.on_connection([text](connection& c) { c.emit("room"); });
            const auto ping = other_.on_ping([text] {});
            other_.on("extra", [text] {});
            for (const auto handler : {event, any, gone, left}) {
                if (!server_.off(handler)) faults_.add("a handler was not there");
            }
            for (const auto handler : {come, ping}) {
                if (!other_.off(handler)) faults_.add("a handler was not there");
            }
            other_.off("extra");
            pace();
        }
    }

    arke::server& server_;
    arke::endpoint other_;
    std::uint16_t port_;
    std::atomic<bool> done_{false};
    std::atomic<bool> paused_{false};
    std::array<std::atomic<bool>, speakers> speaking_{};
    std::array<std::atomic<int>, speakers> said_{};
    std::atomic<int> guests_{0};
    std::mutex heard_mutex_;
    std::condition_variable heard_;
    fault_list faults_;
    std::vector<std::unique_ptr<stayer>> stayers_;
    std::vector<std::thread> threads_;
};

}  // namespace

TEST_CASE("everything is done from many threads while connections come and go, and those who stay miss nothing") {
    const auto loop = GENERATE(from_range(all_loops()));
    const auto how = GENERATE(way::own_loops, way::callers_context);
    auto settings = named(loop, {.write_timeout = 60s, .close_timeout = 60s, .max_outbox_bytes = 64U << 20U});
    settings.listener.stop_timeout = 60s;
    runner net{how, settings, 3};
    auto& server = *net.server();
    auto other = server.endpoint("/other", {.log = settings.log});
    server.on_connection([](connection& c) {
        if (!c.id().starts_with('s')) return;
        c.join("stay");
        c.emit("ready");
    });
    server.on("say", [](connection& c, std::string room) {
        c.join(room);
        c.to(room).emit("room", room);
        c.to("stay").emit("room", room);
    });
    const auto port = net.start();
    storm all{server, other, port};
    all.begin();
    // As long as it is to be, and until there was enough of it.
    const auto end = steady::now() + storm_time();
    const auto is_much = [&] { return all.said() > 100 && all.guests() > 10; };
    do {
        std::this_thread::sleep_for(storm_time() / 3);
        all.settle();
    } while (steady::now() < end || (!is_much() && steady::now() < end + patience));
    all.end();
    CHECK(all.faults() == "");
    CHECK(all.said() > 100);
    CHECK(all.guests() > 10);
    net.end_work();
    net.join();
    CHECK(server.size() == 0);
    CHECK(other.size() == 0);
    CHECK(server.rooms().empty());
    CHECK(other.rooms().empty());
}

// --------------------------------------------------------------------------------------------------- every order of the end

namespace {

/// What users hold, in the order in which they let go of it.
enum class thing { server, handles, endpoint, context };

enum class meanwhile { nothing, stop_is_pending, others_speak };

std::string name_of(const std::array<thing, 4>& order) {
    std::string text;
    for (const auto t : order) {
        text += t == thing::server     ? "server "
                : t == thing::handles  ? "handles "
                : t == thing::endpoint ? "endpoint "
                                       : "context ";
    }
    return text;
}

/// The caller's io_context goes after its server, or when the server has been told to stop.
bool is_allowed(way how, const std::array<thing, 4>& order, meanwhile what) {
    const auto at = [&](thing t) { return std::find(order.begin(), order.end(), t); };
    return how == way::own_loops || what == meanwhile::stop_is_pending || at(thing::server) < at(thing::context);
}

void end_in_order(arke::loop_kind loop, way how, const std::array<thing, 4>& order, meanwhile what) {
    auto settings = quiet(loop);
    settings.listener.stop_timeout = 10ms;
    runner net{how, settings, 2};
    std::optional<arke::endpoint> endpoint = net.server()->endpoint("/other", {.log = settings.log});
    std::mutex mutex;
    std::vector<arke::connection_handle> handles;
    const auto token = std::make_shared<int>();
    const auto come = [&mutex, &handles, token](connection& c) {
        c.join("tea");
        c.on("e", [token, mine = c.handle()] {});
        const std::lock_guard lock{mutex};
        handles.push_back(c.handle());
        c.emit("ready");
    };
    net.server()->on_connection(come);
    endpoint->on_connection(come);
    const auto port = net.start();
    std::optional<arke::target> target = endpoint->to("tea", arke::all);
    std::vector<std::unique_ptr<client>> clients;
    for (const auto* path : {"/", "/other", "/other"}) {
        clients.push_back(std::make_unique<client>(port, path));
        REQUIRE(clients.back()->receive() == "ready;0;");
    }
    {
        // What came through the kernel orders nothing for the thread sanitizer where an io_uring has sent it.
        const std::lock_guard lock{mutex};
        REQUIRE(handles.size() == 3);
    }
    raw_client halfway{port};
    halfway.send("GET / HTTP/1.1\r\n");

    std::atomic<bool> done{false};
    std::vector<std::thread> others;
    if (what == meanwhile::stop_is_pending) net.server()->stop(20ms, 10ms);
    if (what == meanwhile::others_speak) {
        std::atomic<int> began{0};
        for (int i = 0; i != 2; ++i) {
            others.emplace_back([&done, &began, mine = handles, to = *target, e = *endpoint] {
                for (int n = 0; !done; ++n) {
                    for (const auto& h : mine) {
                        h.emit("x", n);
                        h.join("cake");
                        h.run([](connection& c) { c.emit("y"); });
                        h.leave("cake");
                    }
                    to.emit("z");
                    static_cast<void>(e.members("tea"));
                    if (n == 0) ++began;
                    std::this_thread::yield();
                }
            });
        }
        REQUIRE(eventually([&] { return began == 2; }));
    }

    for (const auto t : order) {
        switch (t) {
            case thing::server: net.server().reset(); break;
            case thing::handles: handles.clear(); break;
            case thing::endpoint:
                target.reset();
                endpoint.reset();
                break;
            case thing::context:
                // Of its own loops the server takes care; what a user can do is to wait for run().
                if (how == way::callers_context) {
                    net.context()->stop();
                    net.end_work();
                    net.join();
                    net.context().reset();
                } else {
                    if (net.server()) net.server()->stop();
                    net.join();
                }
                break;
        }
    }
    done = true;
    for (auto& t : others) t.join();
    for (auto& c : clients) {
        std::string last = c->receive();
        while (last != "end" && last != "timeout" && !last.starts_with("close(")) last = c->receive();
        if (last != "end" && !last.starts_with("close(1001")) FAIL("a client heard at last " << last);
    }
    CHECK(halfway.ends());
    CHECK(token.use_count() == 2);  // ours, and that of `come`; no handler keeps one
}

}  // namespace

TEST_CASE("server, handles, endpoint and io_context go in any order, with people there and others speaking") {
    const auto loop = GENERATE(from_range(all_loops()));
    const auto how = GENERATE(way::own_loops, way::callers_context);
    const auto what = GENERATE(meanwhile::nothing, meanwhile::stop_is_pending, meanwhile::others_speak);
    std::array order{thing::server, thing::handles, thing::endpoint, thing::context};
    int orders = 0;
    do {
        INFO(name_of(order));
        if (!is_allowed(how, order, what)) continue;
        end_in_order(loop, how, order, what);
        ++orders;
    } while (std::next_permutation(order.begin(), order.end()));
    CHECK(orders == (is_allowed(how, {thing::context, thing::server}, what) ? 24 : 12));
}

// ------------------------------------------------------------------------------------------------------------------- herds

namespace {

/// Many sockets that connect at once, without a thread for each.
class herd {
public:
    herd(std::uint16_t port, std::size_t size) : request_{upgrade_request()}, members_(size) {
        const auto address = local(port);
        for (auto& m : members_) {
            m.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            if (m.fd < 0) break;
            ::connect(m.fd, address.data(), static_cast<socklen_t>(address.size()));
        }
    }
    ~herd() {
        const linger rude{1, 0};
        for (const auto& m : members_) {
            ::setsockopt(m.fd, SOL_SOCKET, SO_LINGER, &rude, sizeof rude);
            ::close(m.fd);
        }
    }
    herd(const herd&) = delete;
    herd& operator=(const herd&) = delete;

    /// How many were let in and heard "ready" before the time was up.
    std::size_t let_in(steady::time_point until) {
        std::size_t in = 0;
        std::vector<pollfd> waiting;
        std::vector<member*> who;
        while (steady::now() < until) {
            waiting.clear();
            who.clear();
            for (auto& m : members_) {
                if (m.is_over) continue;
                waiting.push_back({m.fd, static_cast<short>(m.has_asked ? POLLIN : POLLOUT), 0});
                who.push_back(&m);
            }
            if (waiting.empty()) break;
            ::poll(waiting.data(), waiting.size(), 1000);
            for (std::size_t i = 0; i != waiting.size(); ++i) {
                if (waiting[i].revents != 0) in += go_on(*who[i]) ? 1U : 0U;
            }
        }
        return in;
    }

private:
    struct member {
        int fd = -1;
        bool has_asked = false;
        bool is_over = false;
        std::string heard;
    };

    bool go_on(member& m) {
        if (!m.has_asked) {
            m.has_asked = ::send(m.fd, request_.data(), request_.size(), MSG_NOSIGNAL) > 0;
            m.is_over = !m.has_asked;
            return false;
        }
        std::array<char, 1024> chunk{};
        const auto count = ::recv(m.fd, chunk.data(), chunk.size(), 0);
        if (count > 0) m.heard.append(chunk.data(), static_cast<std::size_t>(count));
        const bool is_in = m.heard.starts_with("HTTP/1.1 101") && m.heard.ends_with("ready;0;");
        m.is_over = is_in || count <= 0;
        return is_in;
    }

    std::string request_;
    std::vector<member> members_;
};

/// Ten thousand, or as many as this process may have sockets for both ends of.
std::size_t herd_size() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    return std::min<std::size_t>(10'000, (limit.rlim_cur - 256) / 2);
}

}  // namespace

TEST_CASE("ten thousand, or as many as there are descriptors for, come back at once and are served within 30 s") {
    running_server net{quiet(GENERATE(from_range(all_loops())))};
    net->on_connection([](connection& c) { c.emit("ready"); });
    net.start(2);
    client canary{net.port()};
    REQUIRE(canary.receive() == "ready;0;");
    net->on("alive", [](connection& c) { c.emit("alive"); });
    const auto size = herd_size();
    CAPTURE(size);
    for (int round = 0; round != 2; ++round) {
        const auto began = steady::now();
        herd all{net.port(), size};
        CHECK(all.let_in(began + 30s) == size);
        // Of the herd before some may still be going.
        CHECK(eventually([&] { return net->size() == size + 1; }));
        canary.emit("alive");
        CHECK(canary.receive() == "alive;0;");
    }
    CHECK(eventually([&] { return net->size() == 1; }));
    canary.emit("alive");
    CHECK(canary.receive() == "alive;0;");
    CHECK(net->metrics().turned_away == 0);
}
