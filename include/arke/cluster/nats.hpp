#pragma once

/// Messages between servers by NATS (https://nats.io): a backplane on nats.c, the library of NATS itself. Link it (-lnats; with
/// CMake the target arke::nats does the including path and the linking). Nothing else of Arke asks for it.
///
///     server.cluster(arke::nats_backplane{"nats://localhost"});
///
/// Core NATS: a channel is a subject, nothing is stored, there is no JetStream. Several servers of one NATS cluster may be
/// named; those that they name themselves are used as well.
///
/// Of nats.c, as Debian 12 has it (3.4.1): its first use starts three threads that stay, and has the process ignore SIGPIPE.
/// Messages come on a fourth, which all in this process share that use nats.c's "global message delivery": a handler of theirs
/// that blocks delays ours. nats_SetMessageDeliveryPoolSize() is left alone: where somebody sets more than one, messages of
/// different channels lose their order among each other. nats_Close() is never called, and must not be while a backplane lives.

#include <arke/cluster/handle.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace arke {

namespace cluster {
class nats_link;
struct nats_settings;
}  // namespace cluster

/// TLS to the NATS server.
struct nats_tls_config {
    /// For all of the URLs; tls:// asks for it for one. A server that has TLS only gets it in any case, but its name is then not
    /// looked at, only that an authority of the system has signed its certificate.
    bool required = false;

    /// Authorities that are trusted besides those of the system, in PEM: a file, or a text.
    std::string ca_file{};
    std::string ca{};

    /// The client's own certificate, for servers that ask for one, in PEM. Its key must not be encrypted.
    std::string certificate_file{};
    std::string key_file{};

    /// The name that the server's certificate must have. Empty: the host of the URL.
    std::string server_name{};

    /// Whether the server must show a certificate that an authority has signed for its name. Off, anybody between can read and
    /// change everything: for tests only.
    bool verify = true;

    friend bool operator==(const nats_tls_config&, const nats_tls_config&) = default;
};

/// Where NATS is, and how to be let in. The order of the fields stays as it is.
struct nats_config {
    /// nats://[user:password@|token@]host[:port], or tls:// for one with TLS. Several are separated by commas; one of them is
    /// chosen at random, and another where it is not there. What is special in a name, password or token is written as %XX.
    std::string url = "nats://localhost:4222";

    /// For the URLs that hold none of it, and as they are: name and password, or a token, or a file of credentials as `nsc`
    /// writes it (a JWT and its seed).
    std::string username{};
    std::string password{};
    std::string token{};
    std::string credentials_file{};

    nats_tls_config tls{};

    /// What the NATS server calls this connection in its own reports.
    std::string name = "arke";

    /// For each server: until it has let us in, TLS included.
    std::chrono::milliseconds connect_timeout{3'000};

    /// A server that is asked, says nothing and takes nothing for so long is given up. It is asked each second at least.
    std::chrono::milliseconds answer_timeout{4'000};

    /// The delay before an attempt is random, between nothing and a bound: this one, and twice as much with each further attempt,
    /// up to max_reconnect_delay. It begins anew when a connection has lasted for five seconds.
    std::chrono::milliseconds reconnect_delay{100};
    std::chrono::milliseconds max_reconnect_delay{2'000};

    friend bool operator==(const nats_config&, const nats_config&) = default;
};

/// Carries the messages of a cluster by NATS. See backplane for what its functions do.
///
/// One connection, with two threads of its own: nats.c blocks in many places (connecting, TLS, waiting for an answer), and none
/// of them may be a loop's. Both end with close(); where it is just connecting, they end by themselves soon after. The user is
/// called by them and by nats.c's. close() waits for nothing; destroying it takes up to 0.4 seconds where a server that does not
/// answer may not have taken all, and nothing where it is of an emitter in the caller's io_context.
///
/// disconnected() comes for each failed attempt that says something else than the one before. It also comes for what the server
/// does not permit us to publish or subscribe to, and where more than 65,536 messages or 64 MiB of a channel waited for this
/// process, so that nats.c dropped some: then a new connection is made.
class nats_backplane final : public backplane {
public:
    /// Throws std::invalid_argument for a URL that is none, and for settings that contradict each other, with a sentence that says
    /// what to mend. Files are read by start().
    explicit nats_backplane(std::string_view url);
    explicit nats_backplane(nats_config config = {});

    nats_backplane(nats_backplane&&) noexcept;
    ~nats_backplane() override;

    void start(boost::asio::io_context& context, const cluster_executor& on, backplane_user& user) override;
    bool publish(std::string_view channel, std::string_view payload) override;
    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                   std::uint64_t number) override;
    void reconnect() override;
    void close() noexcept override;
    void end_without_waiting() noexcept override { waits_at_end_ = false; }
    std::size_t waiting() const noexcept override;
    backplane_counts counts() const noexcept override;

private:
    std::shared_ptr<const cluster::nats_settings> settings_;
    std::shared_ptr<cluster::nats_link> link_;
    bool waits_at_end_ = true;
};

}  // namespace arke

#include <arke/cluster/nats.ipp>
