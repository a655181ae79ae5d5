#pragma once

#include <arke/core/flood_guard.hpp>
#include <arke/core/loop.hpp>
#include <arke/http/answer.hpp>
#include <arke/http/exchange.hpp>
#include <arke/http/site.hpp>
#include <arke/http/upgrade.hpp>
#include <arke/wire/body.hpp>
#include <arke/wire/handshake.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace arke::http {

/// The HTTP part of a connection: requests one after another, until one of them upgrades or the session ends.
///
///     head ──▶ own page, file, refusal ─────────────────────▶ answer ──▶ next head, or the end
///       ├────▶ route ──▶ its body ──▶ handler, maybe later ──▶ answer
///       └────▶ upgrade ──▶ on_upgrade, maybe later ──────────▶ refusal, or a peer
///
/// Header blocks are checked before Beast's parser sees them, because it accepts what a proxy in front may read otherwise.
/// Only routes take a body; another request that has one is answered and the connection closed: what follows is never taken
/// for a request. While an answer is awaited or on its way, nothing is read: a client that sends more waits, and what it has
/// sent is at most one read of the loop's buffer.
///
/// On its loop only, in a turn.
class session final : public core::stream_user {
public:
    session(std::shared_ptr<site> of, core::loop& on, std::string address, std::uint16_t port);
    ~session() override;

    /// Begins to serve. `refusal`: every request is answered with this status, and soon.
    void start(core::transport& t, int refusal = 0);

    /// The same where somebody else serves the pages: only upgrades are answered with more than a refusal.
    void start_adopted(core::transport& t, int refusal) {
        upgrades_only_ = true;
        start(t, refusal);
    }

    /// Whoever sends asks for itself: what its requests say of others is not looked at, though it be a trusted proxy.
    void speaks_for_itself() noexcept { for_itself_ = true; }

    void failed() noexcept override;
    void on_bytes(std::span<char> bytes) override;
    void on_writable() override;
    void on_end(error_code why) override;
    void on_timer(core::millis now) override;
    void on_stop() override;
    void go_on() override;
    void cut_too_slow() override;

private:
    /// A request of a route whose body is coming.
    struct upload {
        request head;
        route_table::match route;
        wire::body_reader reader;
        body_share share;
    };

    bool is_sending() const noexcept { return !out_.empty() || file_; }
    bool is_busy() const noexcept { return is_sending() || waits_for_ != 0 || goes_on_; }
    bool may_serve() const noexcept { return !closing_ && transport_ != nullptr && !is_busy(); }

    // reading
    void serve();
    void take_head();
    void take_body();
    void serve_request(std::string_view block);

    // answering
    answer find(const request& r, std::string_view allowed) const;
    void begin_body(request r, const route_table::match& route, bool has_body);
    void run_route(request r, const route_table::match& route, std::string body, body_share share);
    void settle(std::uint64_t number, const http_request& asked, response made, const std::exception_ptr& thrown);
    void reply(const http_request& asked, response made);
    response response_of(const std::exception_ptr& thrown, const http_request& asked) const;

    // the upgrade
    std::optional<wire::http_refusal> over_limit(const request& r);
    void accept(request r, core::endpoint& to);
    void settle(std::uint64_t number, upgrade& agreed, const std::exception_ptr& thrown);
    void admit(handshake& done, upgrade* agreed);
    void become(const core::peer_ptr& p, const core::flood_guard_ptr& guard, std::string rest);
    void fail_handshake(core::endpoint& to, const std::exception_ptr& thrown);

    // sending
    void refuse(const wire::http_refusal& refusal);
    void reply(answer a, bool keep_alive);
    void flush();
    void go_on_later();
    void after_flush();

    void end(bool reset);
    void set_deadline();
    void set_deadline(std::chrono::milliseconds time);
    void update_reads();
    void note_waiting() noexcept;

    std::shared_ptr<site> site_;
    boost::intrusive_ptr<core::loop> loop_;
    core::transport* transport_ = nullptr;
    std::string address_;
    std::uint16_t port_;
    std::string in_;            // what was read
    std::size_t scanned_ = 0;   // of that
    std::size_t served_ = 0;    // of that: it goes in large pieces
    std::size_t answered_ = 0;  // bytes, since serve() began
    wire::header_scanner scanner_;
    std::unique_ptr<upload> upload_;
    std::unique_ptr<handshake> handshake_;  // that on_upgrade() decides about
    std::string out_;                       // what the kernel did not take, from out_sent_ on
    std::size_t out_sent_ = 0;
    std::optional<file_part> file_;  // what follows it
    core::backlog waiting_{this};
    std::uint64_t last_number_ = 0;  // of what handlers were asked
    std::uint64_t waits_for_ = 0;    // the number of what is to be answered; 0: nothing
    int refusal_ = 0;
    bool is_head_ = false;      // the request that is being answered
    bool keeps_alive_ = false;  // as before
    bool closing_ = false;      // no further request is served
    bool serving_ = false;      // serve() is on the stack
    bool blocked_ = false;      // until on_writable()
    bool paused_ = false;       // reads are
    bool goes_on_ = false;      // a post is under way
    bool upgraded_ = false;
    bool upgrades_only_ = false;
    bool for_itself_ = false;
};

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/session.ipp>
#endif
