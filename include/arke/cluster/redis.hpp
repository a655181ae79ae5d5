#pragma once

/// Redis, as what carries the messages of a cluster.
///
///     server.cluster(arke::redis_backplane{"redis://localhost"});
///
/// Include it where a server is made a part of a cluster, and link hiredis (-lhiredis; with CMake the target arke::redis). It is the
/// same with and without ARKE_SEPARATE_COMPILATION.
///
/// Redis is asked for PUBLISH and SUBSCRIBE only, by two connections for a process: no key is read or written, and what is stored
/// there does not matter. Channels belong to a Redis and not to one of its databases, so that clusters which share one differ in
/// their prefix. A user of its own needs the commands and the channels: `ACL SETUSER arke on >password &* +publish +subscribe +unsubscribe`.
///
/// Redis ends the connection of who lags: by its setting client-output-buffer-limit, where 32 MB wait for a subscriber. So a message
/// that is larger than that reaches nobody, whatever max_message_size is.

#include <arke/cluster/handle.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace arke {

struct redis_config {
    /// `redis://[[user]:password@]host[:port][/database]` or `redis+unix:/path/of/a/socket`. Of user and password what is no letter
    /// or digit is written as %XX. There is no rediss://: TLS is for a proxy beside this program.
    std::string url = "redis://127.0.0.1:6379";

    /// In place of those of the URL, and as they are. A password alone is that of the default user.
    std::string username{};
    std::string password{};

    /// For connecting, and for each answer that is waited for.
    std::chrono::milliseconds connect_timeout{3'000};

    /// The delay before an attempt is random, between nothing and a bound: this one, and twice as much with each further attempt, up
    /// to max_reconnect_delay. It begins anew when a connection has lasted for five seconds.
    std::chrono::milliseconds reconnect_delay{100};
    std::chrono::milliseconds max_reconnect_delay{2'000};

    /// A larger message is not published; where one comes in, the connection is dropped.
    std::size_t max_message_size = std::size_t{64} * 1024 * 1024;
};

namespace detail {
class redis_link;
}

/// Carries the messages of a cluster by a Redis, 5 or newer. See backplane for what its functions do.
///
/// When one of its two connections is lost, the other is dropped as well, and both are made anew. disconnected() comes for each failed
/// attempt that says something else than the one before. The user is never called from within a function that it calls.
///
/// Where its io_context is destroyed before it, that closes it.
class redis_backplane final : public backplane {
public:
    /// Throws std::invalid_argument for a URL or a setting that cannot work, with a sentence that says what to mend.
    explicit redis_backplane(redis_config settings);
    explicit redis_backplane(std::string_view url) : redis_backplane{redis_config{.url = std::string{url}}} {}

    redis_backplane(redis_backplane&&) noexcept = default;
    redis_backplane& operator=(redis_backplane&&) = delete;
    ~redis_backplane() override;

    void start(boost::asio::io_context& context, const cluster_executor& on, backplane_user& user) override;
    bool publish(std::string_view channel, std::string_view payload) override;
    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                   std::uint64_t number) override;
    void reconnect() override;
    void close() noexcept override;
    std::size_t waiting() const noexcept override;
    backplane_counts counts() const noexcept override;

private:
    std::shared_ptr<detail::redis_link> link_;
};

}  // namespace arke

#include <arke/cluster/redis.ipp>
