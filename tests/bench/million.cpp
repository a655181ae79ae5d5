// A million connections in the real core, without sockets: what is Arke's own in memory and time.
//
//     million [N]
//
// Endpoint, connections, rooms, timers and frames are those of every server. Only the loop's clock is turned by hand, and the
// transport takes all bytes at once and counts them. A connection has a session of 8 bytes, an id, its deadline, and
// handlers that are the server's.
//
// All counts are verified: a wrong one is a sentence on stderr and exit status 1.

#include <arke/server.hpp>

#include <sys/resource.h>
#include <sys/time.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using arke::core::millis;

struct player {
    std::uint64_t score = 0;
};
using connection = arke::basic_connection<player>;

constexpr std::size_t accepted_in_a_turn = 256;  // as the acceptor does
constexpr std::size_t read_in_a_turn = 512;      // as the epoll loop does
constexpr millis step = arke::core::timing_wheel::tick;
constexpr millis pong_delay = 3 * step;

// ----------------------------------------------------------------------------------------------------------- measuring

double wall_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct stopwatch {
    double wall = wall_seconds();
    double cpu = cpu_seconds();
    double wall_passed() const { return wall_seconds() - wall; }
    double cpu_passed() const { return cpu_seconds() - cpu; }
};

// Bytes that are allocated and not freed, with what malloc adds to each; negative where this C library does not tell.
double heap_bytes() {
#ifdef __GLIBC__
    const auto info = ::mallinfo2();
    return static_cast<double>(info.uordblks) + static_cast<double>(info.hblkhd);
#else
    return -1;
#endif
}

void check(bool good, const std::string& sentence) {
    if (!good) throw std::runtime_error{sentence};
}

void check_equal(std::uint64_t found, std::uint64_t wanted, const std::string& what) {
    check(found == wanted, what + ": " + std::to_string(found) + " instead of " + std::to_string(wanted) + ".");
}

// ------------------------------------------------------------------------------------------------- the world without sockets

class memory_loop;

// One connected stream: takes everything. Its bytes are told apart from Arke's.
class memory_transport final : public arke::core::transport {
public:
    arke::core::send_result send(std::span<const arke::core::segment> pieces) override;
    void set_user(arke::core::stream_user_ptr user) override;
    void pause_reads(bool) override {}
    void shutdown() override {}
    void close(bool reset) override;

    void connect(memory_loop& loop, arke::core::stream_user_ptr user);
    bool is_connected() const noexcept { return user_ != nullptr; }
    connection& self() const noexcept { return *connected_as; }
    arke::core::stream_user& user() const noexcept { return *user_; }

    connection* connected_as = nullptr;  // while it lives
    std::uint64_t received = 0;          // bytes
    std::uint16_t pings = 0;
    bool is_silent = false;  // answers no ping

private:
    arke::core::stream_user_ptr user_;
};

class memory_loop final : public arke::core::loop {
public:
    memory_loop() : loop{0, arke::listener_config{}.write_buffer_size, first_moment} {}

    template <class F>
    void in_turn(F&& f) {
        const turn guard{*this};
        f();
    }

    // The time moves on, and what is due happens, in as many turns as the core wants for it.
    void go_to(millis time) {
        time_ = time;
        while (alarm_ <= time_) {
            alarm_ = arke::core::timing_wheel::never;
            in_turn([this] { advance_timers(); });
        }
    }

    // What another thread has posted.
    void run_posts() {
        if (std::exchange(woken_, false)) in_turn([] {});
    }

    millis time() const noexcept { return time_; }

    std::vector<memory_transport*> pinged{};  // since somebody looked
    std::uint64_t closed = 0;

private:
    static constexpr millis first_moment = 1'000'000;

    void wake() override { woken_ = true; }
    bool is_running_here() const noexcept override { return false; }
    millis read_clock() const noexcept override { return time_; }
    void set_alarm(millis at) override { alarm_ = at; }

    millis time_ = first_moment;
    millis alarm_ = arke::core::timing_wheel::never;
    bool woken_ = false;
};

memory_loop* the_loop = nullptr;  // there is one; a pointer in each transport would be a million pointers

void memory_transport::connect(memory_loop& loop, arke::core::stream_user_ptr user) {
    user_ = std::move(user);
    loop.add_load();
}

arke::core::send_result memory_transport::send(std::span<const arke::core::segment> pieces) {
    std::size_t total = 0;
    for (const auto piece : pieces) total += piece.size();
    received += total;
    constexpr char ping_head = '\x89';
    if (total == 2 && pieces.front().front() == ping_head) {
        ++pings;
        the_loop->pinged.push_back(this);
    }
    return {total, {}};
}

void memory_transport::set_user(arke::core::stream_user_ptr user) {
    the_loop->retire(std::exchange(user_, std::move(user)));
}

void memory_transport::close(bool) {
    the_loop->remove_load();
    ++the_loop->closed;
    the_loop->retire(std::exchange(user_, nullptr));
}

// ------------------------------------------------------------------------------------------------------------- the server

struct ended_counts {
    std::uint64_t by_deadline = 0;
    std::uint64_t otherwise = 0;
    millis earliest = std::numeric_limits<millis>::max();
    millis latest = 0;
};

class memory_server : public arke::basic_endpoint<player> {
public:
    memory_server(arke::config settings, memory_loop& on, ended_counts& ended)
        : arke::basic_endpoint<player>{make(std::move(settings))}, loop_{on} {
        state_->add_loop(on);
        on_connection([this](connection& c) { newest_ = &c; });
        on_error([&](connection&, const arke::error_report& report) {
            if (report.code == arke::make_error_code(arke::errc::pong_timeout)) ++deadlines_;
        });
        on_disconnect([&](connection&, arke::close_code, std::string_view) {
            if (deadlines_ != 0) {
                --deadlines_;
                ++ended.by_deadline;
                ended.earliest = std::min(ended.earliest, loop_.time());
                ended.latest = std::max(ended.latest, loop_.time());
            } else {
                ++ended.otherwise;
            }
        });
    }

    // What the upgrade of a handshake does.
    void open(memory_transport& t) {
        constexpr std::string_view greeting =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        const auto p = state_->make(loop_, arke::core::endpoint::random_id(), 0,
                                    arke::request{"GET", "/", 11, {{"Host", "example.com"}}});
        p->greet(greeting);
        check(state_->admit(*p) == arke::core::hub::admission::taken, "A connection was refused: an id came twice.");
        t.connect(loop_, p);
        p->open(t);
        t.connected_as = std::exchange(newest_, nullptr);
    }

private:
    memory_loop& loop_;
    std::uint64_t deadlines_ = 0;
    connection* newest_ = nullptr;
};

// ---------------------------------------------------------------------------------------------------------------- the run

struct time_figures {
    std::uint64_t pings = 0;
    std::uint64_t steps = 0;
    std::size_t most_in_a_step = 0;
    double ping_cpu = 0;
    double pong_cpu = 0;
    double longest_step = 0;

    double virtual_seconds() const { return static_cast<double>(steps * static_cast<std::uint64_t>(step)) / 1000; }
    double mean() const { return steps == 0 ? 0 : static_cast<double>(pings) / static_cast<double>(steps); }
    double share() const { return (ping_cpu + pong_cpu) / virtual_seconds(); }
};

class world {
public:
    explicit world(std::size_t count) : count_{count} {
        the_loop = loop_.get();
        // Before anything is measured: what only the test needs.
        transports_.resize(count);
        loop_->pinged.reserve(count);
        for (auto& each : waiting_) each.reserve(count);
        server_ = std::make_unique<memory_server>(settings(), *loop_, ended);
        empty_server_ = heap_bytes();
    }
    world(const world&) = delete;
    world& operator=(const world&) = delete;

    static arke::config settings() {
        arke::config c;
        c.keep_request = false;
        c.log = [](std::string_view line) {
            std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
        };
        return c;
    }
    static millis ping_period() { return arke::effective_ping_period(settings()).count(); }
    static millis pong_timeout() { return settings().pong_timeout.count(); }

    memory_server& server() noexcept { return *server_; }
    memory_loop& loop() noexcept { return *loop_; }
    std::vector<memory_transport>& transports() noexcept { return transports_; }
    double ours_each() const {
        return (heap_bytes() - empty_server_) / static_cast<double>(std::max<std::size_t>(opened_, 1));
    }

    // Opens all; evenly over so much virtual time.
    void open(millis spread) {
        const auto steps = static_cast<std::size_t>(std::max<millis>(spread / step, 1));
        for (std::size_t i = 0; i != steps; ++i) {
            const auto until = count_ * (i + 1) / steps;
            while (opened_ != until) {
                const auto part = std::min(accepted_in_a_turn, until - opened_);
                loop_->in_turn([&] {
                    for (std::size_t k = 0; k != part; ++k) server_->open(transports_[opened_ + k]);
                });
                opened_ += part;
            }
            if (spread != 0) take_step(nullptr);
        }
    }

    // Lets time pass, answering pings.
    time_figures pass(millis time) {
        time_figures figures;
        for (millis passed = 0; passed < time; passed += step) take_step(&figures);
        return figures;
    }

    // When all have left: what the server keeps for the next.
    double kept_each() const {
        check_equal(server_->size(), 0, "Connections that the server still counts");
        check_equal(loop_->load(), 0, "Connections that the loop still counts");
        return (heap_bytes() - empty_server_) / static_cast<double>(count_);
    }

    ended_counts ended;

private:
    void take_step(time_figures* figures) {
        const double begin = cpu_seconds();
        auto& answers = waiting_[waiting_now_];
        for (std::size_t at = 0; at < answers.size(); at += read_in_a_turn) {
            loop_->in_turn([&] {
                const auto end = std::min(answers.size(), at + read_in_a_turn);
                for (std::size_t i = at; i != end; ++i) {
                    auto& t = *answers[i];
                    if (t.is_silent || !t.is_connected()) continue;
                    std::array<char, 6> pong{'\x8A', '\x80', 'm', 'a', 's', 'k'};
                    t.user().on_bytes(pong);
                }
            });
        }
        answers.clear();
        const double answered = cpu_seconds();
        loop_->go_to(loop_->time() + step);
        const double done = cpu_seconds();

        const auto count = loop_->pinged.size();
        answers.swap(loop_->pinged);
        waiting_now_ = (waiting_now_ + 1) % waiting_.size();
        if (figures == nullptr) return;
        figures->pings += count;
        ++figures->steps;
        figures->most_in_a_step = std::max(figures->most_in_a_step, count);
        figures->pong_cpu += answered - begin;
        figures->ping_cpu += done - answered;
        figures->longest_step = std::max(figures->longest_step, done - begin);
    }

    std::size_t count_;
    std::size_t opened_ = 0;
    std::vector<memory_transport> transports_;
    boost::intrusive_ptr<memory_loop> loop_{new memory_loop};
    std::unique_ptr<memory_server> server_;
    double empty_server_ = 0;
    // Pings that wait to be answered, by the step in which they came.
    std::array<std::vector<memory_transport*>, static_cast<std::size_t>(pong_delay / step)> waiting_{};
    std::size_t waiting_now_ = 0;
};

void tell_pings(const char* when, const time_figures& f) {
    std::printf("%-44s %.3f %% of a core (pings %.3f, pongs %.3f), %llu pings in %.0f s\n", when, 100 * f.share(),
                100 * f.ping_cpu / f.virtual_seconds(), 100 * f.pong_cpu / f.virtual_seconds(),
                static_cast<unsigned long long>(f.pings), f.virtual_seconds());
    std::printf("%-44s mean %.0f, most %zu (%.2f x); the longest step took %.2f ms\n", "  pings in a step of 16 ms",
                f.mean(), f.most_in_a_step, f.mean() > 0 ? static_cast<double>(f.most_in_a_step) / f.mean() : 0,
                1000 * f.longest_step);
}

void check_pinged_once(world& w, const char* when) {
    for (auto& t : w.transports())
        check_equal(std::exchange(t.pings, std::uint16_t{0}), 1, std::string{"Pings of one connection "} + when);
}

// Memory of a few, for comparison with that of many.
double measure_few(std::size_t count) {
    world w{count};
    w.open(0);
    const auto each = w.ours_each();
    w.loop().in_turn([&] {
        for (auto& t : w.transports()) t.user().on_end({});
    });
    static_cast<void>(w.kept_each());
    return each;
}

void broadcast(world& w, const char* what, const arke::target& to, std::size_t members, bool is_judged) {
    const std::string text(64, 'b');
    const auto frame = 2 + text.size();
    std::uint64_t before = 0;
    for (const auto& t : w.transports()) before += t.received;
    const stopwatch watch;
    to.emit_message(text);
    w.loop().run_posts();
    const auto seconds = watch.wall_passed();
    std::uint64_t after = 0;
    for (const auto& t : w.transports()) after += t.received;
    check_equal(after - before, members * frame, std::string{"Bytes of the broadcast to "} + what);
    std::printf("broadcast to %-31s %.3f s, %.0f ns each%s\n", what, seconds,
                seconds * 1e9 / static_cast<double>(members), is_judged ? "  (goal: < 0.5 s)" : "");
}

void rooms(world& w) {
    const auto members = w.transports().size();
    const auto each = [&](auto&& f) {
        const stopwatch watch;
        for (std::size_t at = 0; at < members; at += read_in_a_turn) {
            w.loop().in_turn([&] {
                const auto end = std::min(members, at + read_in_a_turn);
                for (std::size_t i = at; i != end; ++i) f(w.transports()[i].self());
            });
        }
        return watch.cpu_passed() * 1e9 / static_cast<double>(members);
    };
    const auto heap = heap_bytes();
    const auto join = each([](connection& c) { check(c.join("room"), "A connection could not join the room."); });
    std::printf("room of all: join                            %.0f ns each, %.0f bytes each\n", join,
                (heap_bytes() - heap) / static_cast<double>(members));
    broadcast(w, "the room of all", w.server().to("room"), members, false);

    // Some leave a full room and come back, from all over it.
    const auto churned = std::min<std::size_t>(members, 100'000);
    const stopwatch watch;
    std::size_t at = 0;
    for (std::size_t i = 0; i != churned; ++i) {
        at = (at + 618'033) % members;
        w.loop().in_turn([&] {
            auto& c = w.transports()[at].self();
            check(c.leave("room") && c.join("room"), "A member could not leave the room and come back.");
        });
    }
    std::printf("room of all: leave and join again, one turn  %.0f ns each\n",
                watch.cpu_passed() * 1e9 / static_cast<double>(churned));
    broadcast(w, "the room of all, after that", w.server().to("room"), members, false);
    const auto leave = each([](connection& c) { check(c.leave("room"), "A member could not leave the room."); });
    std::printf("room of all: leave                           %.0f ns each\n", leave);
    check(w.server().rooms().empty(), "The room is still there though everybody has left it.");
}

void tell_end(const world& w) {
    std::printf("%-44s %.1f bytes each, for the next\n", "memory that is kept when all have left", w.kept_each());
}

// Runs something that makes a world of its own, and looks for what it leaves behind.
template <class F>
void without_leaks(F&& f) {
    const auto before = heap_bytes();
    f();
    const auto left = heap_bytes() - before;
    std::printf("%-44s %.0f bytes\n", "memory left when server and loop are gone", left);
    check(left < 256 * 1024, "Memory has leaked: " + std::to_string(static_cast<long long>(left)) +
                                 " bytes are left when the server and its loop are gone.");
}

// Everything, with connections that came over some time.
void run_spread(std::size_t count) {
    std::printf("\n%zu connections that come over 20 s\n", count);
    world w{count};
    const stopwatch opening;
    w.open(20'000);
    std::printf("%-44s %.2f s, %.2f s of CPU: %.2f us each\n", "time to open all", opening.wall_passed(),
                opening.cpu_passed(), opening.cpu_passed() * 1e6 / static_cast<double>(count));
    check_equal(w.server().size(), count, "Connections that the server counts");
    std::printf("%-44s %.1f bytes (session, id, deadline; goal: <= 350); the test's transport beside it %zu\n",
                "memory of an idle connection", w.ours_each(), sizeof(memory_transport));

    // All are pinged within a period of their last sign of life, and none twice: that takes three quarters at least.
    const auto first = w.pass(world::ping_period() + 4 * step);
    check_pinged_once(w, "in the first period");
    tell_pings("keeping alive, first period", first);
    static_cast<void>(w.pass(world::ping_period()));
    const auto steady = w.pass(world::ping_period());
    tell_pings("keeping alive, third period (goal: < 5 %)", steady);
    check_equal(w.server().size(), count, "Connections that are left after three periods");
    std::printf("%-44s %.1f bytes\n", "memory of an idle connection, then", w.ours_each());

    broadcast(w, "all", w.server().to(arke::all), count, true);
    rooms(w);

    std::uint64_t silent = 0;
    for (std::size_t i = 0; i < count; i += 100, ++silent) w.transports()[i].is_silent = true;
    static_cast<void>(w.pass(world::pong_timeout() + 4 * step));
    check_equal(w.ended.by_deadline, silent, "Silent connections that were closed at pong_timeout");
    check_equal(w.server().size(), count - silent, "Connections that answered, and stay");
    for (std::size_t i = 0; i != count; ++i) {
        check(w.transports()[i].is_connected() == !w.transports()[i].is_silent,
              "The deadline has closed a connection that answers, or left one that does not.");
    }
    std::printf("%-44s all %llu, and nobody else\n", "closed by pong_timeout, of those that are silent",
                static_cast<unsigned long long>(silent));

    const stopwatch ending;
    for (std::size_t at = 0; at < count; at += read_in_a_turn) {
        w.loop().in_turn([&] {
            const auto end = std::min(count, at + read_in_a_turn);
            for (std::size_t i = at; i != end; ++i) {
                if (w.transports()[i].is_connected()) w.transports()[i].user().on_end({});
            }
        });
    }
    std::printf("%-44s %.2f s: %.2f us each\n", "the rest hangs up", ending.cpu_passed(),
                ending.cpu_passed() * 1e6 / static_cast<double>(count - silent));
    check_equal(w.ended.otherwise, count - silent, "Connections that were heard to hang up");
    tell_end(w);
}

// The worst case: all come in one instant, and later all fall silent.
void run_instant(std::size_t count) {
    std::printf("\n%zu connections that come in one instant\n", count);
    world w{count};
    w.open(0);
    const auto begin = w.loop().time();
    const auto first = w.pass(world::ping_period() + 4 * step);
    check_pinged_once(w, "in the first period");
    tell_pings("keeping alive, first period", first);
    static_cast<void>(w.pass(world::ping_period()));
    tell_pings("keeping alive, third period", w.pass(world::ping_period()));

    for (auto& t : w.transports()) t.is_silent = true;
    const auto silent_from = w.loop().time();
    const auto closing = w.pass(world::pong_timeout() + 4 * step);
    check_equal(w.ended.by_deadline, count, "Silent connections that were closed at pong_timeout");
    check(w.ended.earliest >= silent_from - world::ping_period() + world::pong_timeout() && begin < silent_from,
          "A deadline came early.");
    std::printf("%-44s all, from %.1f to %.1f s; CPU %.2f us each, the longest step took %.2f ms\n",
                "closed by pong_timeout when all are silent",
                static_cast<double>(w.ended.earliest - silent_from) / 1000,
                static_cast<double>(w.ended.latest - silent_from) / 1000,
                (closing.ping_cpu + closing.pong_cpu) * 1e6 / static_cast<double>(count), 1000 * closing.longest_step);
    tell_end(w);
}

// The server stops while every connection has a deadline: each is told, and ends.
void run_stop(std::size_t count) {
    std::printf("\n%zu connections, and the server stops\n", count);
    world w{count};
    w.open(0);
    static_cast<void>(w.pass(world::ping_period() + 4 * step));
    std::uint64_t before = 0;
    for (const auto& t : w.transports()) before += t.received;
    const auto told = [&](auto&& tell) {
        const stopwatch watch;
        w.loop().in_turn([&] {
            for (auto& t : w.transports()) tell(t.user());
        });
        return watch.cpu_passed();
    };
    const auto goodbye = told([](arke::core::stream_user& u) { u.tell<&arke::core::stream_user::on_stop>(); });
    std::uint64_t after = 0;
    for (const auto& t : w.transports()) after += t.received;
    constexpr std::size_t frame = 2 + 2 + std::string_view{"the server stops"}.size();
    check_equal(after - before, count * frame, "Bytes of the goodbye to all");
    check_equal(w.ended.otherwise, count, "Connections that were told that the server stops");
    const auto cut = told([](arke::core::stream_user& u) {
        u.tell<&arke::core::stream_user::on_end>(boost::asio::error::operation_aborted);
    });
    check_equal(w.loop().closed, count, "Streams that were closed");
    std::printf("%-44s %.2f s to tell all, %.2f s to cut all\n", "stop, all in one turn", goodbye, cut);
    tell_end(w);
}

}  // namespace

int main(int argc, char** argv) try {
    const auto count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000ULL;
    if (argc > 2 || count == 0 || count > 100'000'000) {
        std::fputs("million [N]: so many connections, 1,000,000 when left out\n", stderr);
        return 2;
    }
    if (heap_bytes() < 0)
        std::puts("This C library does not tell what is allocated: the figures of memory mean nothing.");
    constexpr std::size_t few = 20'000;
    const auto each = measure_few(few);
    std::printf("memory of an idle connection among %zu: %.1f bytes\n", few, each);
    without_leaks([&] { run_spread(count); });
    without_leaks([&] { run_instant(count); });
    without_leaks([&] { run_stop(count); });
    return 0;
} catch (const std::exception& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "million: %s\n", e.what());
    return 1;
}
