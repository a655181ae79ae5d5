#pragma once

#include <arke/http/client_session.hpp>
#include <arke/io/tls_layer.hpp>

#include <utility>

namespace arke::http {

ARKE_COLD_INLINE client_session::client_session(core::loop& on, plan what, on_done done)
    : loop_{&on},
      plan_{std::move(what)},
      done_{std::move(done)},
      reader_{plan_.max_header_bytes, plan_.max_header_fields},
      in_tunnel_{plan_.tunnel.empty()} {}

ARKE_COLD_INLINE void client_session::start(core::transport& t) {
    transport_ = &t;
    if (in_tunnel_) return ask_server();
    out_ = plan_.tunnel;
    send();
}

ARKE_COLD_INLINE void client_session::ask_server() {
    if (plan_.secure) transport_ = &plan_.secure(*transport_, this);
    out_ += plan_.upgrade;
    send();
}

ARKE_COLD_INLINE void client_session::send() {
    if (transport_ == nullptr || out_.empty()) return;
    const core::segment piece{out_};
    const auto result = transport_->send({&piece, 1});
    if (!result.error) out_.erase(0, result.sent);  // else on_end() follows
}

ARKE_COLD_INLINE void client_session::on_bytes(std::span<char> bytes) {
    if (transport_ == nullptr) return;
    std::string_view more{bytes.data(), bytes.size()};
    for (;;) {
        const auto seen = reader_.feed(std::exchange(more, {}));
        if (seen == reply_reader::result::more) return;
        if (seen == reply_reader::result::failed) return refuse(reader_.why());
        if (in_tunnel_) break;
        if (auto why = find_tunnel_fault(reader_.get()); !why.empty()) return refuse(std::move(why));
        in_tunnel_ = true;
        // The server does not speak before it is asked.
        if (!reader_.rest().empty()) return refuse("the proxy said more than its answer before the server was asked");
        reader_ = reply_reader{plan_.max_header_bytes, plan_.max_header_fields};
        ask_server();
        if (transport_ == nullptr) return;
    }
    outcome what;
    what.deflate = plan_.deflate;
    if (auto why = find_upgrade_fault(reader_.get(), plan_.key, plan_.offered, what.subprotocol, what.deflate);
        !why.empty())
        return refuse(std::move(why));
    settle(std::move(what));
}

ARKE_COLD_INLINE void client_session::on_end(error_code why) {
    if (why.category() == io::tls_category())
        return settle({errc::tls_failed, "TLS with the server failed: " + why.message(), {}});
    settle({why ? why : make_error_code(errc::handshake_refused),
            in_tunnel_ ? "the server ended the connection before it answered the handshake"
                       : "the proxy ended the connection before it answered",
            {},
            {}});
}

ARKE_COLD_INLINE void client_session::refuse(std::string why) {
    settle({errc::handshake_refused, std::move(why), {}, {}});
}

ARKE_COLD_INLINE void client_session::failed() noexcept {
    try {
        settle({errc::out_of_memory, "there was no memory for the handshake", {}, {}});
    } catch (...) {
        abandon();
    }
}

ARKE_COLD_INLINE void client_session::settle(outcome what) {
    const boost::intrusive_ptr<client_session> self{this};
    const auto done = std::exchange(done_, nullptr);
    if (what.error) abandon();
    if (done) done(what);
}

ARKE_COLD_INLINE void client_session::abandon() noexcept {
    done_ = nullptr;
    if (auto* t = std::exchange(transport_, nullptr)) t->close(false);
}

}  // namespace arke::http
