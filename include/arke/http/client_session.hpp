#pragma once

#include <arke/core/loop.hpp>
#include <arke/http/client_handshake.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace arke::http {

/// The HTTP part of a client's connection: a tunnel through a proxy where there is one, TLS where the server has it, then the
/// upgrade.
///
/// It has no deadline: whoever has one calls abandon(). On its loop only, in a turn.
class client_session final : public core::stream_user {
public:
    struct plan {
        std::string tunnel;   ///< The request to the proxy; empty: there is none.
        std::string upgrade;  ///< The request to the server.
        std::string key;      ///< What of it the answer is checked by.
        std::vector<std::string> offered;
        std::size_t max_header_bytes;
        std::size_t max_header_fields;

        /// Puts TLS between the stream to the server and this session; empty: there is none.
        std::function<core::transport&(core::transport& below, core::stream_user_ptr user)> secure{};
        std::optional<wire::deflate_terms> deflate{};  ///< The offer, where there is one.
    };

    struct outcome {
        error_code error{};
        std::string why{};
        std::optional<std::string> subprotocol{};
        std::optional<wire::deflate_terms> deflate{};
    };
    using on_done = std::function<void(const outcome&)>;

    /// `done` is called once, unless abandon() comes first. Where it is no error, it calls become() at once.
    client_session(core::loop& on, plan what, on_done done);

    void start(core::transport& t);

    /// The connection that the stream is for from now on; what came behind the handshake is its. Asks for no memory: the loop has
    /// room to retire one thing more.
    template <class Peer>
    void become(const Peer& peer) noexcept {
        auto& t = *std::exchange(transport_, nullptr);
        auto rest = reader_.take_rest();
        const boost::intrusive_ptr<client_session> self{this};
        t.set_user(peer);
        peer->open(t);
        if (!rest.empty()) peer->template tell<&core::stream_user::on_bytes>(std::span<char>{rest});
    }

    /// Ends it, and tells nobody.
    void abandon() noexcept;

    void failed() noexcept override;
    void on_bytes(std::span<char> bytes) override;
    void on_writable() override { send(); }
    void on_end(error_code why) override;
    void on_timer(core::millis) override {}
    void on_stop() override { abandon(); }

private:
    void send();
    void ask_server();
    void settle(outcome what);
    void refuse(std::string why);

    boost::intrusive_ptr<core::loop> loop_;
    plan plan_;
    on_done done_;
    core::transport* transport_ = nullptr;
    reply_reader reader_;
    std::string out_;
    bool in_tunnel_;
};

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/client_session.ipp>
#endif
