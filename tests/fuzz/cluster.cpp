// What comes from a broker: read, written again, and given to a node with connections. Whatever it is, what the node says names
// channels that every broker knows, and what its connections hear are frames.
#include <arke/cluster/node.hpp>
#include <arke/testing.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/finding.hpp"

using namespace arke;
using arke::fuzz::require;
using cluster::envelope;
using kind = cluster::envelope::kind;

namespace {

void check_channel(std::string_view channel) {
    constexpr std::string_view known = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=~.";
    require(!channel.empty() && channel.size() <= 250, "a channel of a size that no broker takes");
    require(channel.find_first_not_of(known) == std::string_view::npos, "a channel with a character of its own");
    require(channel.find("..") == std::string_view::npos && channel.front() != '.' && channel.back() != '.',
            "a channel with an empty part");
}

struct checking_backplane final : backplane {
    void start(boost::asio::io_context&, const cluster_executor&, backplane_user&) override {}
    bool publish(std::string_view channel, std::string_view payload) override {
        check_channel(channel);
        envelope e;
        require(cluster::decode(payload, e) == cluster::decoded::yes, "a node says what nobody can read");
        own.emplace_back(payload);
        return own.size() % 7 != 0;
    }
    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                   std::uint64_t) override {
        for (const auto& each : added) {
            check_channel(each);
            require(channels.insert(each).second, "subscribed to twice");
        }
        for (const auto& each : removed) require(channels.erase(each) == 1, "left, and not subscribed to");
    }
    void reconnect() override {}
    void close() noexcept override {}
    std::size_t waiting() const noexcept override { return 0; }
    backplane_counts counts() const noexcept override { return {}; }

    std::vector<std::string> own;
    std::set<std::string> channels;
};

struct host final : cluster::node_host {
    void wake() noexcept override {}
    void log(std::string_view) noexcept override {}
    void act_here(core::endpoint& on, const core::address& to, const core::action& what) override {
        detail::act_here(on, to, what);
    }
    void state_changed(const cluster_state&) override {}
    void heard(const node_info& from, const envelope& event) override {
        require(from.id.empty() || from.id.size() == 5, "a tag that is none");
        require(wire::is_utf8(event.what.event.name), "an event whose name is no text");
    }
};

struct silent_question final : cluster::question {
    explicit silent_question(int& count) : dones{count} {}
    void heard(const node_info&, const envelope&) override { require(!over, "heard after the end"); }
    void done(std::vector<node_info>, bool) override {
        require(!over, "done twice");
        over = true;
        ++dones;
    }
    bool over = false;
    int& dones;
};

void round_trip(std::string_view bytes) {
    envelope e;
    if (cluster::decode(bytes, e) != cluster::decoded::yes) return;
    const auto again = cluster::encode(e);
    envelope back;
    require(cluster::decode(again, back) == cluster::decoded::yes, "what was read cannot be read when it is written");
    require(cluster::encode(back) == again, "what was read is another when it is written");
}

}  // namespace

// Pieces: a byte that says what, a byte for a length, and so many bytes.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view left{reinterpret_cast<const char*>(data), size};
    round_trip(left);

    testing::server server{{.endpoint = "/"}};
    host h;
    checking_backplane broker;
    const auto node = std::make_shared<cluster::node>(cluster_config{.max_nodes = 4, .max_questions = 2}, h, broker);
    node->add(core::endpoint_ptr{&server.hub()}, node);
    auto& one = server.connect("one");
    auto& two = server.connect();
    server.find("one").join("a");
    server.find(two.self().id()).join("a");
    core::millis now = 1'000;
    std::uint64_t sequence = 0;
    int asked = 0;
    int answered = 0;
    node->work(now);
    node->connected(now);
    std::string message{"\xAE\x01", 2};
    while (left.size() >= 2) {
        const auto what = static_cast<unsigned char>(left[0]);
        const auto length = std::min<std::size_t>(static_cast<unsigned char>(left[1]), left.size() - 2);
        const auto piece = left.substr(2, length);
        left.remove_prefix(2 + length);
        switch (what % 12) {
            case 0: node->received(piece, now); break;
            case 1:  // with a head, of one of three senders, and a sequence
                message.resize(2);
                message += static_cast<char>(1 + what / 12);
                message.append(16, static_cast<char>('a' + (length % 3)));
                message.append(8, '\0');
                message += piece;
                cluster::set_sequence(message, ++sequence);
                node->received(message, now);
                break;
            case 2: now += what * 40; [[fallthrough]];
            case 3:
                server.settle();
                node->work(now);
                break;
            case 4: server.to(std::string{piece}).emit("x", "y"); break;
            case 5: server.find("one").join(std::string{piece}); break;
            case 6: server.find("one").leave(std::string{piece}); break;
            case 7:
                if (!broker.own.empty()) node->received(std::string{broker.own[what % broker.own.size()]}, now);
                break;
            case 8: {
                envelope e;
                e.is = kind::members;
                e.endpoint = "/";
                e.text = piece;
                ++asked;
                node->ask(what > 128 ? "aaaaa" : "", e, std::make_shared<silent_question>(answered),
                          std::chrono::milliseconds{100});
                break;
            }
            case 9: node->disconnected("gone", now); break;
            case 10: node->connected(now); break;
            default: server.to(arke::all).except(std::string{piece}).emit_latest("z", 1, "k"); break;
        }
        one.heard();
    }
    node->close(now);
    require(asked == answered, "a question without an end");
    server.settle();
    require(one.heard().find("garbage") == std::string::npos, "a frame that is none");
    return 0;
}
