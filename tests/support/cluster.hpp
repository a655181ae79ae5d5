#pragma once

/// Several servers of one cluster, with clients on real sockets, over a broker within the process or a real one.

#include <arke/arke.hpp>
#include <arke/cluster/in_process.hpp>
#include <arke/cluster/server_node.hpp>
#ifdef ARKE_TESTS_REDIS
#include <arke/cluster/redis.hpp>
#endif
#ifdef ARKE_TESTS_NATS
#include <arke/cluster/nats.hpp>
#endif

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/bad_line.hpp"
#include "tests/support/broker.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/running_server.hpp"

namespace arke::test {

enum class carrier { in_process, redis, nats };

inline std::vector<carrier> real_carriers() {
    std::vector<carrier> all;
#ifdef ARKE_TESTS_REDIS
    all.push_back(carrier::redis);
#endif
#ifdef ARKE_TESTS_NATS
    all.push_back(carrier::nats);
#endif
    return all;
}

inline std::vector<carrier> all_carriers() {
    auto all = real_carriers();
    all.insert(all.begin(), carrier::in_process);
    return all;
}

inline const char* name_of(carrier c) {
    return c == carrier::in_process ? "in process" : c == carrier::redis ? "redis" : "nats";
}

/// A test runs with each of them.
inline carrier any_carrier() { return GENERATE(from_range(all_carriers())); }
inline carrier real_carrier() { return GENERATE(from_range(real_carriers())); }

/// What no test waits for.
inline constexpr std::chrono::milliseconds long_enough = patience;

/// What servers meet by.
class meeting {
public:
    explicit meeting(carrier by) : by_{by} {
        if (by == carrier::redis) broker_.reset(new test::broker{test::broker::redis()});
        if (by == carrier::nats) broker_.reset(new test::broker{test::broker::nats()});
    }

    /// A real one.
    test::broker& broker() const { return *broker_; }

    /// The first server that joins has a line of its own to it.
    bad_line& line() const {
        if (!line_) line_ = std::make_unique<bad_line>(broker_->port());
        return *line_;
    }
    const in_process_broker& in_process() const { return in_process_; }
    carrier kind() const { return by_; }

    template <class Server>
    void join(Server& server, const cluster_config& settings = {}) const {
        carry([&](auto made) { server.cluster(std::move(made), settings); });
    }

    /// Calls f(backplane) with one to it.
    template <class F>
    void carry(F&& f) const {
        auto url = broker_ ? broker_->url() : std::string{};
        if (line_ && !std::exchange(has_line_, true))
            url.replace(url.find_last_of(':') + 1, std::string::npos, std::to_string(line_->port()));
        switch (by_) {
            case carrier::in_process: f(in_process_backplane{in_process_}); break;
            case carrier::redis:
#ifdef ARKE_TESTS_REDIS
                f(redis_backplane{url});
#endif
                break;
            case carrier::nats:
#ifdef ARKE_TESTS_NATS
                f(nats_backplane{url});
#endif
                break;
        }
    }

private:
    carrier by_;
    in_process_broker in_process_;
    std::unique_ptr<test::broker> broker_;
    mutable std::unique_ptr<bad_line> line_;
    mutable bool has_line_ = false;
};

/// A client that has told the server its rooms, and remembers what it hears.
class citizen {
public:
    citizen(std::uint16_t port, const std::string& query, const std::vector<std::string>& rooms,
            const header_list& headers = {})
        : client_{std::make_unique<test::client>(port, "/" + query, headers)} {
        id_ = client_->receive();
        id_.erase(0, id_.find_last_of(';') + 1);
        for (const auto& room : rooms) join(room);
    }

    void join(const std::string& room) {
        client_->emit("join", room);
        while (!client_->receive().starts_with("joined")) {
        }
    }

    const std::string& id() const { return id_; }
    test::client& client() { return *client_; }

    /// What has come before `ends` messages "end", the data of each only where there is some.
    std::string heard(std::size_t ends) {
        std::string all;
        for (;;) {
            auto next = client_->receive();
            if (next == "timeout" || next == "end" || next.starts_with("close")) return all + next;
            if (next.starts_with("end;")) {
                if (--ends == 0) return all;
                continue;
            }
            next = next.substr(0, next.find(';'));
            all += (all.empty() ? "" : " ") + next;
        }
    }

private:
    std::unique_ptr<test::client> client_;
    std::string id_;
};

/// Three servers, the second of them with two loops. "?id=ann" gives a client an id of its own; a client that emits "join" or "leave"
/// does that.
class three_servers {
public:
    explicit three_servers(const meeting& at, const cluster_config& settings = {}) : meeting_{at} {
        for (int i = 0; i != 3; ++i) add(settings);
        REQUIRE(settle());
    }
    explicit three_servers(carrier by, const cluster_config& settings = {}) : own_{by}, meeting_{*own_} {
        for (int i = 0; i != 3; ++i) add(settings);
        REQUIRE(settle());
    }

    server& operator[](std::size_t index) { return servers_[index].server(); }
    std::uint16_t port(std::size_t index) const { return servers_[index].port(); }
    std::size_t size() const { return servers_.size(); }
    const meeting& at() const { return meeting_; }
    test::broker& broker() { return meeting_.broker(); }

    /// Waits until all know of each other, and hear of each other's rooms.
    bool settle(std::size_t nodes = 3) {
        return eventually([&] {
            return std::all_of(servers_.begin(), servers_.end(), [&](auto& s) {
                const auto m = s->metrics().cluster;
                return !s.owner() || (m.nodes == nodes && m.settled);
            });
        });
    }

    citizen connect(std::size_t server, const std::vector<std::string>& rooms = {}, const std::string& id = {},
                    const header_list& headers = {}) {
        return citizen{port(server), id.empty() ? "" : "?id=" + id, rooms, headers};
    }

    /// Everybody hears an end from each server: what was said before has come.
    void end() {
        for (auto& s : servers_) s->to(arke::all).emit("end");
    }

    /// Ends one by its owner; it says goodbye.
    void stop(std::size_t index) { servers_[index].stop(); }

private:
    void add(cluster_config settings) {
        auto& made = servers_.emplace_back(named(loop_kind::automatic));
        auto& s = made.server();
        settings.name = "server" + std::to_string(servers_.size());
        meeting_.join(s, settings);
        s.on_connection([](connection& c) { c.emit("id", c.id()); });
        s.on("join", [](connection& c, const std::string& room) {
            c.join(room);
            c.emit("joined");
        });
        s.on("leave", [](connection& c, const std::string& room) { c.leave(room); });
        s.on("others", [](connection& c, const std::string& event) { c.to(not_me).emit(event); });
        s.on("roommates", [](connection& c, const std::string& event) { c.to(event, not_me).emit(event); });
        made.start(servers_.size() == 2 ? 2 : 1);
    }

    std::optional<meeting> own_;
    const meeting& meeting_;
    std::deque<running_server> servers_;
};

}  // namespace arke::test
