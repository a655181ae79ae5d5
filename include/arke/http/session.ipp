#pragma once

#include <arke/http/client_script.hpp>
#include <arke/http/session.hpp>
#include <arke/http/upgrade.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>

#include <utility>
#include <vector>

namespace arke::http {

ARKE_COLD_INLINE session::session(std::shared_ptr<site> of, core::loop& on, std::string address, std::uint16_t port)
    : site_{std::move(of)},
      loop_{&on},
      address_{std::move(address)},
      port_{port},
      scanner_{
          {site_->listener.max_header_bytes, site_->listener.max_header_fields, site_->listener.max_header_bytes}} {
    site_->load->connections.fetch_add(1, std::memory_order_relaxed);
}

ARKE_COLD_INLINE session::~session() {
    site_->load->leave(*this);
    if (!upgraded_) site_->load->connections.fetch_sub(1, std::memory_order_relaxed);
}

ARKE_COLD_INLINE void session::start(core::transport& t, int refusal) {
    transport_ = &t;
    refusal_ = refusal;
    set_deadline();
}

ARKE_COLD_INLINE void session::set_deadline() {
    // From this moment, not from when a turn began that may have been long: who was just answered has the whole time.
    loop_->timers().schedule(*this, loop_->clock() + site_->listener.handshake_timeout.count());
}

ARKE_COLD_INLINE void session::on_timer(core::millis) { end(false); }

ARKE_COLD_INLINE void session::on_stop() {
    // What is being sent goes on; stop_timeout ends it.
    if (out_.empty()) return end(false);
    closing_ = true;
}

ARKE_COLD_INLINE void session::on_end(error_code) { end(false); }

ARKE_COLD_INLINE void session::failed() noexcept { end(true); }

ARKE_COLD_INLINE void session::end(bool reset) {
    closing_ = true;
    cancel();
    if (auto* t = std::exchange(transport_, nullptr)) t->close(reset);
}

ARKE_COLD_INLINE void session::on_bytes(std::span<char> bytes) {
    if (closing_) return;
    in_.append(bytes.data(), bytes.size());
    serve();
}

ARKE_COLD_INLINE void session::serve() {
    // What was served goes in one piece at the end: a buffer full of pipelined requests is not moved once for each.
    served_ = 0;
    std::size_t scanned = scanned_;
    while (!closing_ && transport_ != nullptr && out_.empty() && scanned != in_.size()) {
        const auto seen = scanner_.feed(std::string_view{in_}.substr(scanned));
        scanned = in_.size();
        is_head_ = false;
        if (seen == wire::header_scanner::result::more) break;
        if (seen == wire::header_scanner::result::refused) return refuse(wire::refusal_of(scanner_.fault()));
        const std::string block = in_.substr(served_ + scanner_.begin(), scanner_.end() - scanner_.begin());
        served_ += scanner_.end();
        scanned = served_;
        scanner_.reset();
        serve_request(block);
    }
    if (transport_ == nullptr) return;
    in_.erase(0, served_);
    scanned_ = scanned - served_;
}

ARKE_COLD_INLINE void session::serve_request(std::string_view block) {
    const auto& limits = site_->listener;
    if (const auto refusal = wire::check_header_block(
            block, {limits.max_header_bytes, limits.max_header_fields, limits.max_header_bytes})) {
        return refuse(*refusal);
    }
    boost::beast::http::request_parser<boost::beast::http::empty_body> parser;
    parser.header_limit(static_cast<std::uint32_t>(limits.max_header_bytes + 1));
    error_code ec;
    parser.put(boost::asio::buffer(block.data(), block.size()), ec);
    // empty_body refuses a body as soon as its header announces one: that is known below, from the header.
    if (ec && !parser.is_header_done())
        return refuse(wire::refuse_http(400, "The request is not HTTP/1.1: " + ec.message() + "."));

    const auto& head = parser.get();
    std::vector<std::pair<std::string_view, std::string_view>> fields;
    for (const auto& field : head) {
        fields.emplace_back(std::string_view{field.name_string().data(), field.name_string().size()},
                            std::string_view{field.value().data(), field.value().size()});
    }
    const std::string_view method{head.method_string().data(), head.method_string().size()};
    const std::string_view target{head.target().data(), head.target().size()};
    const request r{method, target, head.version(), fields, address_, port_};
    is_head_ = method == "HEAD";

    if (refusal_ == 429) {
        return refuse(wire::refuse_http(429, "Your address has all the connections that it may have here.",
                                        {{"Retry-After", "30"}}));
    }
    if (refusal_ != 0 || site_->load->is_over() || site_->stopping.load(std::memory_order_relaxed)) {
        return refuse(wire::refuse_http(503, "The server has all the connections that it takes. Try again in a moment.",
                                        {{"Retry-After", "5"}}));
    }
    auto* const to = site_->endpoint_at(r.path());
    if (to != nullptr) return accept(r, *to);

    const auto length = r.header("Content-Length");
    const bool has_body = r.has_header("Transfer-Encoding") || (!length.empty() && length != "0");
    reply(find(r), head.keep_alive() && head.version() >= 11 && !has_body);
}

ARKE_COLD_INLINE answer session::find(const request& r) const {
    const auto path = r.path();
    const bool is_iris = path == "/iris-ws.js";
    if (is_iris || path == "/arke.js") {
        const auto tag = is_iris ? iris_ws_js_etag : arke_js_etag;
        const auto script = is_iris ? iris_ws_js : arke_js;
        if (r.method() != "GET" && !is_head_) return {405, {{"Allow", "GET, HEAD"}}};
        answer a{200,
                 {{"Content-Type", "text/javascript; charset=utf-8"},
                  {"ETag", std::string{tag}},
                  {"Cache-Control", "no-cache"},
                  {"X-Content-Type-Options", "nosniff"}}};
        if (r.header("If-None-Match").find(tag) != std::string_view::npos) {
            a.status = 304;
            return a;
        }
        a.content_length = script.size();
        a.body.assign(script);
        return a;
    }
    if (!site_->listener.metrics_path.empty() && path == site_->listener.metrics_path) {
        if (r.method() != "GET" && !is_head_) return {405, {{"Allow", "GET, HEAD"}}};
        answer a{200, {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}, {"Cache-Control", "no-store"}}};
        a.body = site_->metrics().prometheus();
        a.content_length = a.body.size();
        return a;
    }
    if (const auto* folder = site_->folder_at(r.target())) {
        auto file = folder->get(r.method(), r.target(), r.header("If-None-Match"), r.header("If-Modified-Since"));
        return {file.status, std::move(file.headers), std::move(file.body), file.content_length};
    }
    answer a{404, {{"Content-Type", "text/plain; charset=utf-8"}}, "There is nothing at this address.\n"};
    a.content_length = a.body.size();
    return a;
}

ARKE_COLD_INLINE void session::accept(const request& r, core::endpoint& to) {
    try {
        upgrade wanted{to, r};
        if (const auto refusal = wanted.check()) return refuse(*refusal);
        const auto p = wanted.make(*loop_);
        const auto guard = core::flood_guard::make_for(p);
        std::string rest = in_.substr(served_);
        loop_->make_room_to_retire();
        if (to.admit(*p) == core::hub::admission::refused) {
            return refuse(wire::refuse_http(409, "A connection with this id is there already."));
        }
        become(p, guard, std::move(rest));
    } catch (const std::exception& e) {
        to.try_to_log([&] { return std::string{"a handshake failed: "} + e.what(); });
        if (transport_ != nullptr) refuse(wire::refuse_http(500, "The server failed to accept the connection."));
    } catch (...) {
        to.try_to_log([] { return "a handshake failed by something that is no std::exception"; });
        if (transport_ != nullptr) refuse(wire::refuse_http(500, "The server failed to accept the connection."));
    }
}

ARKE_COLD_INLINE void session::become(const core::peer_ptr& p, const core::flood_guard_ptr& guard, std::string rest) {
    // From here on the peer counts the socket.
    upgraded_ = true;
    site_->load->connections.fetch_sub(1, std::memory_order_relaxed);
    site_->load->hand_over(*this, *p);
    loop_->counters().count_answer(101);
    closing_ = true;
    cancel();
    auto& t = *std::exchange(transport_, nullptr);
    const boost::intrusive_ptr<session> self{this};
    auto& hears = core::flood_guard::open(p, guard, t);
    // Frames that came with the request are handled after the accept.
    if (!rest.empty()) hears.tell<&core::stream_user::on_bytes>(std::span<char>{rest});
}

ARKE_COLD_INLINE void session::refuse(const wire::http_refusal& refusal) { reply(answer_of(refusal), false); }

ARKE_COLD_INLINE void session::reply(const answer& a, bool keep_alive) {
    auto text = head_of(a, keep_alive);
    if (!is_head_) text += a.body;
    closing_ = !keep_alive;
    loop_->counters().count_answer(a.status);
    set_deadline();
    send(std::move(text));
}

ARKE_COLD_INLINE void session::send(std::string text) {
    out_ += text;
    const core::segment piece{out_};
    const auto result = transport_->send({&piece, 1});
    if (result.error) return;  // on_end() follows
    out_.erase(0, result.sent);
    if (!out_.empty()) return transport_->pause_reads(true);
    if (closing_) transport_->shutdown();
}

ARKE_COLD_INLINE void session::on_writable() {
    if (transport_ == nullptr || out_.empty()) return;
    set_deadline();
    send({});
    if (!out_.empty() || transport_ == nullptr) return;
    transport_->pause_reads(false);
    serve();
}

}  // namespace arke::http
