#include "crowd.hpp"
#include "failure.hpp"
#include "frames.hpp"
#include "meter.hpp"
#include "modes.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace bench {
namespace {

// What a message says of itself, at the beginning of its text: the number of who sends it, the how many-th of theirs it is (0: one
// that nobody counts), and when it was due, in nanoseconds.
constexpr std::size_t note_size = 4 + 10 + 16;

struct note {
    std::uint64_t sender, number, due;
};

void write_digits(char* at, std::size_t count, std::uint64_t value) {
    for (; count != 0; value /= 10) at[--count] = static_cast<char>('0' + value % 10);
}

std::uint64_t read_digits(const char* at, std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i != count; ++i) value = value * 10 + static_cast<std::uint64_t>(at[i] - '0');
    return value;
}

class party {
public:
    explicit party(const options& o)
        : o_{o},
          nodes_{o.other_port == 0 ? 1u : 2u},
          members_{o.connections / nodes_},
          senders_{o.senders / nodes_},
          sample_{make_event_broadcast(o.protocol, std::string(o.size, 'x'))},
          answer_note_{sample_.answer.find("xxxx")},
          all_{o, members_ + senders_},
          meters_{meter{0}, meter{o.pid}, meter{o.other_pid}, meter{o.broker_pid}} {
        if (nodes_ == 2) all_.open_at(o.other_port, members_ + senders_);
        heard_.resize(nodes_ * members_ * nodes_ * senders_);
        waiting_.resize(nodes_ * senders_);
        numbers_.resize(nodes_ * senders_);
        got_.resize(all_.size());
    }

    std::string run() {
        for (std::size_t node = 0; node != nodes_; ++node) all_.join(first_of(node), first_of(node) + members_);
        all_.watch();
        meet();
        o_.rate > 0 ? send_at_a_rate() : send_all_the_time();
        return tell();
    }

private:
    std::size_t first_of(std::size_t node) const { return node * (members_ + senders_); }
    std::size_t everybody() const { return nodes_ * members_; }
    client& sender(std::size_t i) { return all_.clients()[first_of(i / senders_) + members_ + i % senders_]; }

    // A subscription takes a moment: until each member hears somebody of each server, nothing counts.
    void meet() {
        std::vector<std::array<bool, 2>> met(all_.size());
        std::size_t missing = everybody() * nodes_;
        const auto hear = [&](std::size_t client, const note& n) {
            auto& has_met = met[client][n.sender / senders_];
            if (!std::exchange(has_met, true)) --missing;
        };
        const auto begin = now();
        for (auto next = begin; missing != 0;) {
            if (const auto t = now(); t >= next) {
                if (t - begin > o_.patience)
                    throw failure{"Messages of one server do not reach all members on the other."};
                for (std::size_t node = 0; node != nodes_; ++node) send(node * senders_, 0, 0);
                next = t + 0.05;
            }
            receive(10, hear);
        }
    }

    void send(std::size_t who, std::uint64_t number, std::uint64_t due) {
        std::string text(o_.size, 'x');
        write_digits(text.data(), 4, who);
        write_digits(text.data() + 4, 10, number);
        write_digits(text.data() + 14, 16, due);
        auto& from = sender(who);
        auto& waiting = waiting_[who];
        if (from.unsent == 0) waiting.clear();
        const auto frame = make_event_broadcast(o_.protocol, text).request;
        waiting += frame;
        from.unsent += frame.size();
        if (from.unsent > 1024 * 1024) {
            throw failure{"The server is far from taking " + std::to_string(static_cast<int>(o_.rate)) +
                          " messages per second: lower --rate."};
        }
        crowd::send(from, waiting);
    }

    void send_next(std::uint64_t due) {
        const auto who = sent_++ % waiting_.size();
        send(who, ++numbers_[who], due);
    }

    /// Waits, reads, and calls hear(place of the member, note) for each message.
    template <class F>
    void receive(int milliseconds, F&& hear) {
        all_.wait(milliseconds, [&](client& c, std::uint32_t) {
            const auto place = all_.index_of(c);
            const auto in_node = place % (members_ + senders_);
            if (in_node >= members_ && c.unsent != 0)
                crowd::send(c, waiting_[place / (members_ + senders_) * senders_ + in_node - members_]);
            all_.read(c, [&](std::string_view piece) { take(place, piece, hear); });
        });
    }

    // Whole messages of a piece as they stand there; one in two pieces is put together.
    template <class F>
    void take(std::size_t place, std::string_view piece, F& hear) {
        const auto size = sample_.answer.size();
        auto& begun = got_[place];
        if (!begun.empty()) {
            const auto rest = piece.substr(0, size - begun.size());
            begun += rest;
            piece.remove_prefix(rest.size());
            if (begun.size() < size) return;
            hear(place, read(begun));
            begun.clear();
        }
        for (; piece.size() >= size; piece.remove_prefix(size)) hear(place, read(piece.substr(0, size)));
        begun = piece;
    }

    note read(std::string_view message) const {
        const auto& sample = sample_.answer;
        const auto behind = answer_note_ + note_size;
        if (message.substr(0, answer_note_) != std::string_view{sample}.substr(0, answer_note_) ||
            message.substr(behind) != std::string_view{sample}.substr(behind))
            throw failure{"A member got something else than was sent."};
        const auto* text = message.data() + answer_note_;
        const note n{read_digits(text, 4), read_digits(text + 4, 10), read_digits(text + 14, 16)};
        if (n.sender >= waiting_.size()) throw failure{"A member got something else than was sent."};
        return n;
    }

    // Each member must get all of each sender in order, and nothing twice.
    void count(std::size_t place, const note& n) {
        if (n.number == 0) return;  // a late one of meet()
        const auto in_node = place % (members_ + senders_);
        if (in_node >= members_) throw failure{"One who is no member got a message."};
        const auto node = place / (members_ + senders_);
        auto& heard = heard_[(node * members_ + in_node) * waiting_.size() + n.sender];
        if (n.number != heard + 1) {
            throw failure{(n.number <= heard ? "A member got a message twice: number "
                                             : "A member missed a message before number ") +
                          std::to_string(n.number) + " of a sender, after number " + std::to_string(heard) + "."};
        }
        heard = n.number;
        ++received_;
        heard_at_ = now();
        if (n.due < measured_from_) return;
        const auto late = (heard_at_ - begin_) * 1e9 - static_cast<double>(n.due);
        auto& times = node == n.sender / senders_ ? own_ : other_;
        times.push_back(static_cast<std::uint32_t>(std::clamp(late, 0.0, 4.2e9)));
    }

    void listen(int milliseconds) {
        receive(milliseconds, [this](std::size_t place, const note& n) { count(place, n); });
        if (now() - heard_at_ > o_.patience && received_ != sent_ * everybody())
            throw failure{"Nothing came from the server any more while messages are missing."};
    }

    void begin() {
        begin_ = heard_at_ = now();
        measured_from_ = std::numeric_limits<std::uint64_t>::max();
        if (o_.messages != 0) start_measuring();
    }

    void start_measuring() {
        measured_from_ = static_cast<std::uint64_t>((now() - begin_) * 1e9);
        before_ = received_;
        for (auto& m : meters_) m.start();
        is_measuring_ = true;
    }

    void stop_measuring() {
        for (auto& m : meters_) m.stop();
        measured_ = received_ - before_;
    }

    // False: enough has been sent.
    bool go_on() {
        if (o_.messages != 0) return sent_ < o_.messages;
        const auto passed = now() - begin_;
        if (!is_measuring_ && passed >= o_.warm_up) start_measuring();
        return passed < o_.warm_up + o_.seconds;
    }

    // Whether or not what was sent has arrived. A message's time counts from when it was due: one that could not be sent because
    // the server was busy is late as well.
    void send_at_a_rate() {
        // Sleeping costs the time of waking up, which would be counted as the server's. With a processor of our own we spin.
        const int nap = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 0 : 1;
        begin();
        while (go_on()) {
            for (const auto t = now() - begin_; static_cast<double>(sent_) / o_.rate <= t;) {
                send_next(static_cast<std::uint64_t>(static_cast<double>(sent_) / o_.rate * 1e9));
                if (o_.messages != 0 && sent_ == o_.messages) break;
            }
            listen(nap);
        }
        if (o_.messages == 0) stop_measuring();
        while (received_ != sent_ * everybody()) listen(nap);
        if (o_.messages != 0) stop_measuring();
    }

    // The next as soon as one has reached all.
    void send_all_the_time() {
        begin();
        while (go_on()) {
            while (sent_ < o_.in_flight + received_ / everybody() && (o_.messages == 0 || sent_ < o_.messages))
                send_next(static_cast<std::uint64_t>((now() - begin_) * 1e9));
            listen(100);
        }
        if (o_.messages == 0) stop_measuring();
        while (received_ != sent_ * everybody()) listen(100);
        if (o_.messages != 0) stop_measuring();
    }

    std::string tell() {
        if (measured_ == 0) throw failure{"Nothing arrived while it was measured: give more --seconds."};
        report r;
        const auto deliveries = static_cast<double>(measured_);
        const auto messages = deliveries / static_cast<double>(everybody());
        r.add("mode", o_.mode)
            .add("members", std::uint64_t{everybody()})
            .add("senders", std::uint64_t{waiting_.size()});
        r.add("request_bytes", std::uint64_t{sample_.request.size()});
        r.add("answer_bytes", std::uint64_t{sample_.answer.size()});
        r.add("messages_in_all", sent_).add("deliveries_in_all", received_).add("messages", messages);
        tell_times(r, "own", own_);
        tell_times(r, "other", other_);
        const auto of_servers = meters_[1].server_seconds() + meters_[2].server_seconds();
        r.add("cpu_us", of_servers * 1e6 / deliveries).add("cpu_us_per_message", of_servers * 1e6 / messages);
        r.add("broker_us_per_message", meters_[3].server_seconds() * 1e6 / messages);
        r.add("messages_per_second", messages / meters_[0].seconds());
        meters_[0].tell(r, deliveries);
        return r.line();
    }

    static void tell_times(report& r, const std::string& whose, std::vector<std::uint32_t>& times) {
        if (times.empty()) return;
        std::sort(times.begin(), times.end());
        const auto at = [&](double share) {
            const auto place = static_cast<std::size_t>(std::ceil(share * static_cast<double>(times.size())));
            return static_cast<double>(times[place == 0 ? 0 : place - 1]) / 1000;
        };
        r.add(whose + "_p50_us", at(0.5)).add(whose + "_p99_us", at(0.99)).add(whose + "_max_us", at(1));
    }

    options o_;
    std::size_t nodes_, members_, senders_;  // of each server
    exchange sample_;
    std::size_t answer_note_;      // where the note stands in what a member gets
    crowd all_;                    // of each server its members, then its senders
    std::array<meter, 4> meters_;  // of time alone, of the two servers, of the broker

    std::vector<std::uint64_t> heard_;    // by member and sender
    std::vector<std::string> waiting_;    // by sender
    std::vector<std::uint64_t> numbers_;  // by sender
    std::vector<std::string> got_;        // by client: a message that has come in part

    std::uint64_t sent_ = 0, received_ = 0, before_ = 0, measured_ = 0;
    double begin_ = 0, heard_at_ = 0;
    std::uint64_t measured_from_ = 0;
    bool is_measuring_ = false;
    std::vector<std::uint32_t> own_, other_;
};

}  // namespace

std::string run_cluster(const options& o) {
    const std::size_t nodes = o.other_port == 0 ? 1 : 2;
    if (o.size < note_size)
        throw failure{"The mode cluster needs a --size of " + std::to_string(note_size) + " or more."};
    if (o.connections % nodes != 0 || o.senders % nodes != 0 || o.senders == 0 || o.senders > 9999)
        throw failure{"--connections and --senders must be even, so that each server gets half of them."};
    return party{o}.run();
}

}  // namespace bench
