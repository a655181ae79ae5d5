#pragma once

#include <arke/core/flood_guard.hpp>
#include <arke/core/loop.hpp>
#include <arke/http/answer.hpp>
#include <arke/http/site.hpp>
#include <arke/wire/handshake.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace arke::http {

/// The HTTP part of a connection: requests one after another, until one of them upgrades or the session ends.
///
/// Header blocks are checked before Beast's parser sees them, because it accepts what a proxy in front may read otherwise.
/// No resource of Arke's takes a body, so a request that has one is answered and the connection closed: what follows is
/// never taken for a request.
///
/// On its loop only, in a turn.
class session final : public core::stream_user {
public:
    session(std::shared_ptr<site> of, core::loop& on, std::string address, std::uint16_t port);
    ~session() override;

    /// Begins to serve. `refusal`: every request is answered with this status.
    void start(core::transport& t, int refusal = 0);

    void failed() noexcept override;
    void on_bytes(std::span<char> bytes) override;
    void on_writable() override;
    void on_end(error_code why) override;
    void on_timer(core::millis now) override;
    void on_stop() override;

private:
    void serve();
    void serve_request(std::string_view block);
    answer find(const request& r) const;
    void accept(const request& r, core::endpoint& to);
    void become(const core::peer_ptr& p, const core::flood_guard_ptr& guard, std::string rest);
    void refuse(const wire::http_refusal& refusal);
    void reply(const answer& a, bool keep_alive);
    void send(std::string text);
    void end(bool reset);
    void set_deadline();

    std::shared_ptr<site> site_;
    boost::intrusive_ptr<core::loop> loop_;
    core::transport* transport_ = nullptr;
    std::string address_;
    std::uint16_t port_;
    std::string in_;           // what was read and not served
    std::size_t scanned_ = 0;  // of that
    std::size_t served_ = 0;   // within a call of serve()
    wire::header_scanner scanner_;
    std::string out_;  // what the kernel did not take
    int refusal_ = 0;
    bool is_head_ = false;  // the request that is being answered
    bool closing_ = false;  // no further request is served
    bool upgraded_ = false;
};

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/session.ipp>
#endif
