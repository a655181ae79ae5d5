// The load of the soak, and its verdict. It starts the server and works in shifts: everybody comes, does what they do for some
// seconds, checks it and goes. Between two shifts nobody is there but the canary, so that what the server still holds is what
// it should not.
//
//   soak_load --server PROGRAM [--seconds S] [--seed N] [--loops KIND] [--threads N] [--pages FOLDER] [--asan]

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>

#include "load/canary.hpp"
#include "load/client.hpp"
#include "load/process.hpp"
#include "load/world.hpp"

namespace soak {
namespace {

constexpr double mib = 1024.0 * 1024.0;

/// What the server says of itself when nobody is there.
struct account {
    std::uint64_t sockets = 0, outbox_bytes = 0, memory = 0, visitors = 0, outbox_full = 0, write_timeouts = 0,
                  dropped = 0, superseded = 0, accepted = 0, events_received = 0, events_sent = 0, longest_turn = 0,
                  longest_handler = 0;
    std::size_t descriptors = 0;
    std::size_t resident = 0;
};

struct sample {
    double second;
    std::size_t resident;
};

class soak_run {
public:
    explicit soak_run(std::map<std::string, std::string> options)
        : options_{std::move(options)},
          seconds_{std::stod(option("--seconds", "60"))},
          server_{command()},
          world_{context_, static_cast<std::uint16_t>(std::stoi(server_.first_line())), option("--threads", "1") == "1",
                 std::mt19937_64{std::stoull(option("--seed", "1"))}} {}

    bool run() {
        std::cout << "server: " << server_.first_line() << " (port, loop), " << option("--threads", "1")
                  << " loop(s), seed " << option("--seed", "1") << std::endl;
        asio::co_spawn(context_, watch(), asio::detached);
        asio::co_spawn(context_, keep_time(), asio::detached);
        asio::co_spawn(context_, work(), [this](const std::exception_ptr& thrown) {
            try {
                if (thrown) std::rethrow_exception(thrown);
            } catch (const std::exception& e) {
                world_.fault(std::string{"the load itself failed: "} + e.what());
            }
            context_.stop();
        });
        context_.run();
        return report();
    }

private:
    std::string option(const std::string& name, const std::string& otherwise) const {
        const auto found = options_.find(name);
        return found == options_.end() ? otherwise : found->second;
    }

    std::vector<std::string> command() const {
        std::vector<std::string> words{option("--server", "soak_server")};
        for (const auto* name : {"--loops", "--threads", "--pages"}) {
            if (const auto value = option(name, ""); !value.empty()) words.insert(words.end(), {name, value});
        }
        return words;
    }

    double now() const { return std::chrono::duration<double>(steady::now() - began_).count(); }

    /// Every second: memory, and whether somebody waits in vain.
    awaitable<void> watch() {
        for (;;) {
            if (!is_ending_) samples_.push_back({now(), server_.resident_bytes()});
            if (!is_ending_ && !server_.is_running()) {
                world_.fault("the server has ended by itself");
                context_.stop();
                co_return;
            }
            if (now() > seconds_ + 180) {
                world_.fault("the run did not end 180 s after its time");
                context_.stop();
                co_return;
            }
            const auto all = world_.clients;
            for (auto* c : all) c->check_patience(steady::now());
            co_await world_.pause(milliseconds{seconds_ < 30 ? 200 : 1000});
        }
    }

    /// How late the load itself is: what it says of the server's times is no better than that.
    awaitable<void> keep_time() {
        for (;;) {
            const auto due = steady::now() + milliseconds{20};
            co_await world_.pause(milliseconds{20});
            latest_ = std::max(latest_, steady::now() - due);
        }
    }

    awaitable<void> work() {
        canary_.emplace(world_.port);
        auditor_ = make_client(world_, "the auditor");
        if (!co_await auditor_->open("/chat")) co_return;
        co_await rest();
        double shift = std::clamp(seconds_ / 8, 4.0, 30.0);
        const auto goes_on = [&] {
            if (now() < seconds_ || rests_.size() < 3) return true;
            // Where the machine is slow the busy room gets nowhere in a shift, and nobody is stuck: then a longer one.
            if (has_seen_all() || now() > seconds_ + 90) return false;
            shift *= 2;
            return true;
        };
        while (world_.faults == 0 && goes_on()) {
            world_.running = true;
            start_chat(world_);
            start_big(world_);
            start_slow(world_);
            start_hostile(world_);
            start_herd(world_);
            start_web(world_);
            const auto end = now() + (now() < seconds_ ? std::clamp(seconds_ - now(), 4.0, shift) : shift);
            while (now() < end && world_.faults == 0) co_await world_.pause(milliseconds{50});
            world_.running = false;
            while (world_.actors != 0) co_await world_.pause(milliseconds{20});
            co_await rest();
        }
        canary_->stop();
        // With people there, who must be told.
        std::vector<client_ptr> last;
        for (int i = 0; i != 20; ++i) {
            last.push_back(make_client(world_, "one of the last"));
            if (!co_await last.back()->open("/chat")) co_return;
        }
        is_ending_ = true;
        std::thread stopping{[this] { ending_ = server_.terminate(std::chrono::seconds{15}); }};
        for (const auto& c : last) {
            const auto code = co_await c->read_to_close();
            if (code != 1001) world_.fault("one of the last was told " + std::to_string(code) + " and not 1001");
            co_await c->ends();
        }
        auditor_->cut();
        last.clear();
        stopping.join();
        is_done_ = true;
    }

    /// What the server says of itself. Its memory is the least of some answers: a thread of its program may be speaking.
    awaitable<account> ask() {
        account a;
        a.memory = ~std::uint64_t{0};
        for (int i = 0; i != 5; ++i) {
            co_await world_.pause(milliseconds{20});
            auditor_->emit("account", "");
            const auto answer = co_await auditor_->read_event("account");
            if (!answer) throw std::runtime_error{"the auditor lost its connection"};
            std::string_view text{*answer};
            auto memory = a.memory;
            for (auto* field :
                 {&a.sockets, &a.outbox_bytes, &memory, &a.visitors, &a.outbox_full, &a.write_timeouts, &a.dropped,
                  &a.superseded, &a.accepted, &a.events_received, &a.events_sent, &a.longest_turn, &a.longest_handler})
                *field = take_number(text);
            a.memory = std::min(a.memory, memory);
        }
        a.descriptors = server_.descriptors();
        a.resident = server_.resident_bytes();
        co_return a;
    }

    /// Waits until the server has nobody left but the canary and the auditor, and takes the account.
    awaitable<void> rest() {
        account a;
        const auto end = steady::now() + std::chrono::seconds{20};
        for (bool is_at_rest = false; !is_at_rest && steady::now() < end;) {
            a = co_await ask();
            is_at_rest = a.sockets == 2 && a.visitors == 2 && a.outbox_bytes == 0 &&
                         (rests_.empty() || a.descriptors == rests_.front().descriptors);
        }
        rests_.push_back(a);
        const auto n = rests_.size() - 1;
        std::printf(
            "%6.0f s  rest %zu: %llu sockets, %llu B waiting, %.1f KiB in use, %zu descriptors, %.1f MiB resident\n",
            now(), n, static_cast<unsigned long long>(a.sockets), static_cast<unsigned long long>(a.outbox_bytes),
            static_cast<double>(a.memory) / 1024, a.descriptors, static_cast<double>(a.resident) / mib);
        std::fflush(stdout);
        if (a.sockets != 2) world_.fault(std::to_string(a.sockets) + " sockets are left when 2 should be");
        if (a.visitors != 2) world_.fault(std::to_string(a.visitors) + " connections are alive when 2 should be");
        if (a.outbox_bytes != 0) world_.fault(std::to_string(a.outbox_bytes) + " bytes wait for nobody");
        if (a.descriptors != rests_.front().descriptors) {
            world_.fault(std::to_string(a.descriptors) + " descriptors are open, at the start there were " +
                         std::to_string(rests_.front().descriptors));
        }
    }

    // --- the verdict

    /// A soak without them has proved nothing.
    std::array<std::pair<const char*, std::uint64_t>, 6> to_be_seen() const {
        const auto& n = world_.count;
        return {{{"heard in the rooms", n.heard},
                 {"big", n.big_messages},
                 {"told 1013", n.told_1013},
                 {"cut while stuck", n.cut_while_stuck},
                 {"herds", n.herds},
                 {"attacks", n.attacks}}};
    }
    bool has_seen_all() const {
        const auto all = to_be_seen();
        return std::all_of(all.begin(), all.end(), [](const auto& each) { return each.second != 0; });
    }

    void print_curve() const {
        std::size_t most = 1;
        for (const auto& s : samples_) most = std::max(most, s.resident);
        std::puts("\nresident memory of the server:");
        const auto step = std::max<std::size_t>(1, samples_.size() / 30);
        for (std::size_t i = 0; i < samples_.size(); i += step) {
            const auto& s = samples_[i];
            if (s.resident == 0) continue;
            const auto width = static_cast<int>(50 * s.resident / most);
            std::printf("%7.0f s %8.1f MiB %.*s\n", s.second, static_cast<double>(s.resident) / mib, width,
                        "##################################################");
        }
    }

    void judge_memory() {
        if (rests_.size() < 3) return world_.fault("the run was too short to judge memory");
        // In use, to the byte: warmed up are tables and buffers that keep the size of the largest shift. 256 KiB are what those
        // still move by; a leak of 10 bytes a connection is more after three minutes.
        const auto warm = std::max<std::size_t>(1, (rests_.size() - 1) / 4);
        const auto before = static_cast<double>(rests_[warm].memory);
        const auto after = static_cast<double>(rests_.back().memory);
        std::printf("\nmemory in use at rest: %.1f KiB at first, %.1f KiB warmed up, %.1f KiB at last\n",
                    static_cast<double>(rests_.front().memory) / 1024, before / 1024, after / 1024);
        if (after > before + 256 * 1024) {
            world_.fault("memory is lost: " + std::to_string(static_cast<long>((after - before) / 1024)) +
                         " KiB more are in use at rest than when it was warm");
        }
        // Resident, as the system sees it, when the allocator has given back what it can: an eighth and 8 MiB for what it
        // cannot. The address sanitizer keeps what was freed (a quarantine of 32 MiB here), its own caches, and each stack
        // that has allocated.
        const bool is_asan = options_.contains("--asan");
        const auto early = static_cast<double>(rests_[warm].resident) / mib;
        const auto late = static_cast<double>(rests_.back().resident) / mib;
        const auto allowed = early / 8 + 8 + (is_asan ? 48 : 0);
        std::printf("resident at rest: %.1f MiB warmed up, %.1f MiB at last (allowed: %.1f MiB more)\n", early, late,
                    allowed);
        if (late > early + allowed) world_.fault("resident memory has grown from rest to rest");
    }

    bool report() {
        if (canary_) canary_->stop();
        print_curve();
        if (!rests_.empty()) judge_memory();
        if (!is_done_) {
            world_.fault("the run was cut short");
        } else if (!ending_.empty()) {
            world_.fault("the server " + ending_ + " after SIGTERM");
        }

        const auto& n = world_.count;
        const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
        std::printf("\nchat: %llu said, %llu heard, %llu lost, %llu doubled, %llu outside; %llu joins, %llu leaves\n",
                    number(n.said), number(n.heard), number(n.lost), number(n.doubled), number(n.outside),
                    number(n.joins), number(n.leaves));
        std::printf("big: %llu messages, %.1f MiB came back as they were\n", number(n.big_messages),
                    static_cast<double>(n.big_bytes) / mib);
        std::printf(
            "busy room: %llu heard, %llu skipped where that may be; %llu told 1013, %llu cut while stuck, "
            "%llu times caught up\n",
            number(n.busy_heard), number(n.busy_skipped), number(n.told_1013), number(n.cut_while_stuck),
            number(n.caught_up));
        std::printf("hostile: %llu attacks, %llu resets; %llu herds; %llu HTTP answers; %llu connections in all\n",
                    number(n.attacks), number(n.resets), number(n.herds), number(n.http_answers), number(n.connected));
        if (!rests_.empty()) {
            const auto& a = rests_.back();
            std::printf(
                "server: %llu accepted, %llu events in, %llu out; closed: %llu outbox full, %llu write timeout; "
                "dropped: %llu overflow, %llu superseded\n",
                number(a.accepted), number(a.events_received), number(a.events_sent), number(a.outbox_full),
                number(a.write_timeouts), number(a.dropped), number(a.superseded));
            std::printf("its loops: longest turn %.1f ms, longest handlers of one input %.1f ms\n",
                        static_cast<double>(a.longest_turn) / 1e3, static_cast<double>(a.longest_handler) / 1e3);
        }
        std::printf("the load itself: %.1f ms late at most; %llu kept connections closed by then\n",
                    std::chrono::duration<double, std::milli>(latest_).count(), number(n.kept_too_long));
        if (canary_) {
            std::printf("canary: %llu asked, %llu answered; p50 %.2f ms, p99 %.2f ms, max %.1f ms\n",
                        number(canary_->asked()), number(canary_->answered()), canary_->quantile(0.5),
                        canary_->quantile(0.99), canary_->quantile(1));
            if (!canary_->failure().empty()) world_.fault("the canary: " + canary_->failure());
            if (canary_->answered() != canary_->asked()) world_.fault("the canary was not answered always");
            // It is asked each 50 ms; as much again for the way to us.
            const auto server_was_late = canary_->quantile(1) + 100;
            if (static_cast<double>(world_.server_must_have_been_late.count()) > server_was_late) {
                world_.fault("a connection was closed " + std::to_string(world_.server_must_have_been_late.count()) +
                             " ms too early, before its request was answered");
            }
        }
        for (const auto& [what, count] : to_be_seen()) {
            if (count == 0) world_.fault(std::string{"nothing was "} + what);
        }

        for (const auto& text : world_.fault_texts) std::printf("FAULT: %s.\n", text.c_str());
        if (world_.faults == 0) {
            std::puts(
                "\nNothing was lost or doubled, memory and descriptors are what they were, the server ended in order.");
        } else {
            std::printf("\n%llu fault(s), see above.\n", number(world_.faults));
        }
        return world_.faults == 0;
    }

    std::map<std::string, std::string> options_;
    double seconds_;
    process server_;
    asio::io_context context_{1};
    world world_;
    steady::time_point began_ = steady::now();
    std::optional<canary> canary_;
    client_ptr auditor_;
    std::vector<sample> samples_;
    std::vector<account> rests_;
    std::string ending_;
    steady::duration latest_{0};
    bool is_ending_ = false;  ///< It has been told to, and is waited for.
    bool is_done_ = false;
};

}  // namespace
}  // namespace soak

int main(int argc, char** argv) {
    std::map<std::string, std::string> options;
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        const bool is_flag = name == "--asan";
        if (!name.starts_with("--") || (!is_flag && i + 1 == argc)) {
            std::cerr << "soak_load: " << name << " is no option, or lacks its value\n";
            return 2;
        }
        options[name] = is_flag ? "yes" : argv[++i];
    }
    try {
        return soak::soak_run{std::move(options)}.run() ? 0 : 1;
    } catch (const std::exception& e) {
        std::cerr << "soak_load: " << e.what() << "\n";
        return 2;
    }
}
