#pragma once

#include <arke/http/client_script.hpp>
#include <arke/http/session.hpp>
#include <arke/http/upgrade.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

namespace arke::http {

namespace detail {

ARKE_COLD_INLINE wire::http_refusal too_many_of_address() {
    return wire::refuse_http(429, "Your address has all the connections that it may have here.",
                             {{"Retry-After", "30"}});
}

/// So many bytes are sent before others have their turn.
inline constexpr std::size_t share_of_answers = 256UL * 1024;

/// Whether a header is about what is sent, or how long that may be kept, and not about the answer.
ARKE_COLD_INLINE bool describes_file(std::string_view name) noexcept {
    constexpr std::array<std::string_view, 8> all{
        "Content-Type", "Content-Disposition", "Content-Encoding", "Content-Language", "Cache-Control", "Expires",
        "ETag",         "Last-Modified"};
    return std::any_of(all.begin(), all.end(),
                       [&](std::string_view each) { return wire::same_ignoring_case(each, name); });
}

}  // namespace detail

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
    site_->load->forget(waiting_);
    if (!upgraded_) site_->load->connections.fetch_sub(1, std::memory_order_relaxed);
}

ARKE_COLD_INLINE void session::start(core::transport& t, int refusal) {
    transport_ = &t;
    refusal_ = refusal;
    set_deadline();
}

ARKE_COLD_INLINE void session::set_deadline() {
    // Who only waits to be refused, and to read that, takes the place of somebody.
    constexpr std::chrono::milliseconds refusal_timeout{1000};
    const auto& c = site_->listener;
    if (refusal_ != 0) return set_deadline(std::min(c.handshake_timeout, refusal_timeout));
    set_deadline(upload_ ? c.body_timeout : c.handshake_timeout);
}

ARKE_COLD_INLINE void session::set_deadline(std::chrono::milliseconds time) {
    // From this moment, not from when a turn began that may have been long: who was just answered has the whole time.
    loop_->timers().schedule(*this, loop_->clock() + time.count());
}

ARKE_COLD_INLINE void session::on_timer(core::millis) {
    if (waits_for_ != 0) {
        waits_for_ = 0;
        handshake_.reset();
        return refuse(wire::refuse_http(503, "The server takes too long to answer this.", {{"Retry-After", "5"}}));
    }
    // Who has sent a part of a request hears what is wrong; whoever is silent, or does not read, has nobody to hear it.
    if (is_sending()) return end(true);
    if (closing_ || (!upload_ && scanner_.end() == 0)) return end(false);
    upload_.reset();
    refuse(wire::refuse_http(408, "The request did not come in time."));
    // It has had its time: nobody waits for it to end.
    if (!is_sending()) end(false);
}

ARKE_COLD_INLINE void session::on_stop() {
    // What is being sent goes on, and so does what a route's handler is about to answer; stop_timeout ends it.
    if (handshake_) {
        waits_for_ = 0;
        handshake_.reset();
        return refuse(wire::refuse_http(503, "The server stops.", {{"Retry-After", "5"}}));
    }
    if (!is_sending() && waits_for_ == 0) return end(false);
    closing_ = true;
}

ARKE_COLD_INLINE void session::on_end(error_code) { end(false); }

ARKE_COLD_INLINE void session::failed() noexcept { end(true); }

ARKE_COLD_INLINE void session::cut_too_slow() {
    loop_->counters().cut_answers.add();
    end(true);
}

ARKE_COLD_INLINE void session::end(bool reset) {
    closing_ = true;
    waits_for_ = 0;
    cancel();
    file_.reset();
    upload_.reset();
    if (auto* t = std::exchange(transport_, nullptr)) t->close(reset);
    note_waiting();
}

// --- reading

ARKE_COLD_INLINE void session::on_bytes(std::span<char> bytes) {
    if (closing_) return;
    in_.append(bytes.data(), bytes.size());
    serve();
}

ARKE_COLD_INLINE void session::serve() {
    // An answer that comes at once must not begin another round within this one.
    if (serving_) return;
    serving_ = true;
    // So many heads and bodies, and so much in answers, and then it is the others' turn.
    constexpr int share = 128;
    answered_ = 0;
    for (int served = 0; may_serve() && scanned_ != in_.size(); ++served) {
        if (served == share || answered_ >= detail::share_of_answers) {
            go_on_later();
            break;
        }
        if (upload_)
            take_body();
        else
            take_head();
    }
    serving_ = false;
    if (transport_ == nullptr) return;
    // At least as much goes as is moved: a buffer full of pipelined requests is not moved once for each, also where each has to
    // wait for its answer.
    if (served_ >= in_.size() - served_) {
        in_.erase(0, served_);
        scanned_ -= served_;
        served_ = 0;
    }
    // Most connections that are kept are idle, and a request that has begun is no reason to keep room for many.
    constexpr std::size_t small = 4096;
    if (in_.size() < small && in_.capacity() > small) std::string{in_}.swap(in_);
    update_reads();
}

ARKE_COLD_INLINE void session::take_head() {
    is_head_ = false;
    const auto seen = scanner_.feed(std::string_view{in_}.substr(scanned_));
    scanned_ = in_.size();
    if (seen == wire::header_scanner::result::more) return;
    if (seen == wire::header_scanner::result::refused) return refuse(wire::refusal_of(scanner_.fault()));
    const std::string block = in_.substr(served_ + scanner_.begin(), scanner_.end() - scanner_.begin());
    served_ += scanner_.end();
    scanned_ = served_;
    scanner_.reset();
    serve_request(block);
}

ARKE_COLD_INLINE void session::take_body() {
    auto& reader = upload_->reader;
    const auto seen = reader.feed(std::string_view{in_}.substr(served_));
    served_ += reader.consumed();
    scanned_ = served_;
    if (!upload_->share.grow_to(reader.text().size())) {
        upload_.reset();
        return refuse(wire::refuse_http(503, "The server has all the bodies that it takes. Try again in a moment.",
                                        {{"Retry-After", "5"}}));
    }
    if (seen == wire::body_reader::result::more) return;
    const auto whole = std::exchange(upload_, nullptr);
    if (seen == wire::body_reader::result::refused) return refuse(wire::refusal_of(reader.fault()));
    run_route(std::move(whole->head), whole->route, whole->reader.take(), std::move(whole->share));
}

ARKE_COLD_INLINE void session::serve_request(std::string_view block) {
    const auto& limits = site_->listener;
    if (const auto refusal = wire::check_header_block(
            block, {limits.max_header_bytes, limits.max_header_fields, limits.max_header_bytes})) {
        return refuse(*refusal);
    }
    boost::beast::http::request_parser<boost::beast::http::empty_body> parser;
    parser.header_limit(static_cast<std::uint32_t>(limits.max_header_bytes + 1));
    parser.body_limit(boost::none);  // the bound is that of who takes the body
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
    wire::forwarded_client from{address_, port_};
    if (!for_itself_) from = site_->client_of(std::move(from), fields);
    request r{method, target, head.version(), fields, from.address, from.port, transport_->tls()};
    is_head_ = method == "HEAD";

    if (refusal_ == 429) return refuse(detail::too_many_of_address());
    if (refusal_ != 0 || site_->load->is_over() || site_->stopping.load(std::memory_order_relaxed)) {
        return refuse(wire::refuse_http(503, "The server has all the connections that it takes. Try again in a moment.",
                                        {{"Retry-After", "5"}}));
    }
    auto* const to = site_->endpoint_at(r.path());
    if (to != nullptr) {
        if (const auto refusal = over_limit(r)) return refuse(*refusal);
        return accept(std::move(r), *to);
    }
    if (upgrades_only_) return refuse(wire::refuse_http(404, "There is no WebSocket at this address."));

    // HTTP/1.0 knows no Expect.
    if (r.version() >= 11) {
        for (const auto expected : r.header_values("Expect")) {
            if (!wire::same_ignoring_case(expected, "100-continue"))
                return refuse(wire::refuse_http(417, "The only thing to expect here is \"100-continue\"."));
        }
    }
    const auto length = r.header("Content-Length");
    const bool has_body = r.has_header("Transfer-Encoding") || (!length.empty() && length != "0");
    keeps_alive_ = head.keep_alive() && head.version() >= 11;
    const auto route = site_->routes.find(r.method(), r.path());
    if (route.handler != nullptr) return begin_body(std::move(r), route, has_body);
    keeps_alive_ = keeps_alive_ && !has_body;
    reply(find(r, route.allowed), keeps_alive_);
}

// --- answering

ARKE_COLD_INLINE answer session::find(const request& r, std::string_view allowed) const {
    const auto path = r.path();
    const bool is_iris = path == "/iris-ws.js";
    if (is_iris || path == "/arke.js") {
        const auto tag = is_iris ? iris_ws_js_etag : arke_js_etag;
        const auto script = is_iris ? iris_ws_js : arke_js;
        if (r.method() != "GET" && !is_head_) return {405, {{"Allow", "GET, HEAD"}}};
        answer a{
            200,
            {{"Content-Type", "text/javascript; charset=utf-8"},
             {"ETag", std::string{tag}},
             {"Cache-Control", "no-cache"},
             // The same for everybody and no secret, so pages of other hosts may load it as a module or by fetch().
             {"Access-Control-Allow-Origin", "*"},
             {"Cross-Origin-Resource-Policy", "cross-origin"},
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
    const auto* const folder = site_->folder_at(r.target());
    std::optional<file_reply> file;
    if (folder != nullptr && (allowed.empty() || r.method() == "GET" || is_head_))
        file = folder->get(r.method(), r.target(), conditions_of(r));
    if (!allowed.empty() && (!file || file->status == 404))
        return {r.method() == "OPTIONS" ? 204 : 405, {{"Allow", std::string{allowed}}}};
    if (file) return answer_of(std::move(*file));
    answer a{404, {{"Content-Type", "text/plain; charset=utf-8"}}, "There is nothing at this address.\n"};
    a.content_length = a.body.size();
    return a;
}

ARKE_COLD_INLINE void session::begin_body(request r, const route_table::match& route, bool has_body) {
    if (!has_body) return run_route(std::move(r), route, {}, body_share{site_});
    std::optional<std::uint64_t> length;
    if (const auto text = r.header("Content-Length"); !text.empty()) {
        // It is a number: check_header_block() has seen to that.
        length = 0;
        for (const char c : text) length = *length * 10 + static_cast<std::uint64_t>(c - '0');
    }
    wire::body_reader reader{length, site_->listener.max_body_size};
    if (reader.state() == wire::body_reader::result::refused) return refuse(wire::refusal_of(reader.fault()));
    if (reader.state() == wire::body_reader::result::complete)
        return run_route(std::move(r), route, {}, body_share{site_});
    // Who has begun to send the body does not wait for leave.
    const bool asks = r.version() >= 11 && r.has_header("Expect") && served_ == in_.size();
    upload_.reset(new upload{std::move(r), route, std::move(reader), body_share{site_}});
    set_deadline();
    if (!asks) return;
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    flush();
}

ARKE_COLD_INLINE void session::run_route(request r, const route_table::match& route, std::string body,
                                         body_share share) {
    const auto number = ++last_number_;
    waits_for_ = number;
    set_deadline(site_->listener.answer_timeout);
    // It holds this, so that what runs counts as a connection, also where its client has gone.
    exchange_ptr what;
    what.reset(new exchange{
        *loop_,
        http_request{std::move(r), std::move(body), route.below, site_->endpoints.front()->settings().max_json_depth},
        [self = boost::intrusive_ptr<session>{this}, number, held = std::make_shared<body_share>(std::move(share))](
            const http_request& asked, response made, const std::exception_ptr& thrown) {
            self->guarded([&] { self->settle(number, asked, std::move(made), thrown); });
        }});
    try {
        route.handler->run(what);
    } catch (...) {
        what->settle(response{500}, std::current_exception());
    }
}

ARKE_COLD_INLINE void session::settle(std::uint64_t number, const http_request& asked, response made,
                                      const std::exception_ptr& thrown) {
    if (thrown) made = response_of(thrown, asked);
    if (waits_for_ != number) return;  // too late
    waits_for_ = 0;
    reply(asked, std::move(made));
    after_flush();
}

ARKE_COLD_INLINE response session::response_of(const std::exception_ptr& thrown, const http_request& asked) const {
    auto& to = *site_->endpoints.front();
    const auto failed = [&](const char* what) {
        to.try_to_log([&] {
            return "the handler of " + std::string{asked.method()} + " " + arke::detail::printable(asked.path(), 100) +
                   " failed: " + what;
        });
        return response::error(500, to.settings().reveal_exceptions ? what : "The server failed to answer this.");
    };
    try {
        std::rethrow_exception(thrown);
    } catch (const http_error& e) {
        return response::error(e.status(), e.what());
    } catch (const std::exception& e) {
        return failed(e.what());
    } catch (...) {
        return failed("by something that is no std::exception");
    }
}

ARKE_COLD_INLINE void session::reply(const http_request& asked, response made) {
    answer a;
    bool has_file = true;
    if (made.path().empty()) {
        a.status = made.status();
        a.body = made.body();
        a.content_length = a.body.size();
    } else {
        // Conditions and ranges are of what is there and was asked for (RFC 9110 §13.2.1, §14.2), not of the page of an error.
        const bool is_asked_for = made.status() == 200 && (is_head_ || asked.method() == "GET");
        a = answer_of(reply_with_file(made.path(), is_asked_for ? conditions_of(asked) : file_conditions{}, is_head_));
        has_file = a.status < 400;
        if (a.status == 200) a.status = made.status();
        // What the handler says of the file's type, or of its age, counts.
        std::erase_if(a.headers, [&](const auto& each) {
            return !made.header(each.first).empty() && (has_file || !detail::describes_file(each.first));
        });
    }
    // It says that of no sentence that there is in place of the file.
    for (const auto& each : made.headers()) {
        if (has_file || !detail::describes_file(each.first)) a.headers.push_back(each);
    }
    reply(std::move(a), keeps_alive_ && !closing_);
}

// --- the upgrade

ARKE_COLD_INLINE std::optional<wire::http_refusal> session::over_limit(const request& r) {
    const auto address = r.remote_address();
    // Behind a proxy it is known only now whose connection it is.
    if (site_->enter(*this, address) != 0) {
        refusal_ = 429;
        return detail::too_many_of_address();
    }
    if (!site_->handshakes || !site_->counts(address)) return std::nullopt;
    const auto wait = site_->handshakes->enter(wire::address_group(address), loop_->now());
    if (wait == 0) return std::nullopt;
    return wire::refuse_http(429, "Your address connects too often. Try again in a moment.",
                             {{"Retry-After", std::to_string((wait + 999) / 1000)}});
}

ARKE_COLD_INLINE void session::accept(request r, core::endpoint& to) {
    try {
        auto wanted = std::make_unique<handshake>(to, std::move(r));
        if (const auto refusal = wanted->check()) return refuse(*refusal);
        boost::intrusive_ptr<handler_base> decides;
        to.handlers(*loop_).upgrade.run([&](handler_base& h) { decides = &h; });
        if (!decides) return admit(*wanted, nullptr);

        const auto number = ++last_number_;
        auto& handler = static_cast<upgrade_handler&>(*decides);
        const auto what = wanted->ask(
            *loop_, handler,
            [self = boost::intrusive_ptr<session>{this}, number](upgrade& agreed, const std::exception_ptr& thrown) {
                self->guarded([&] { self->settle(number, agreed, thrown); });
            });
        handshake_ = std::move(wanted);
        waits_for_ = number;
        try {
            handler.run(what);
        } catch (...) {
            what->settle(std::current_exception());
        }
    } catch (...) {
        fail_handshake(to, std::current_exception());
    }
}

ARKE_COLD_INLINE void session::settle(std::uint64_t number, upgrade& agreed, const std::exception_ptr& thrown) {
    if (waits_for_ != number) return;  // too late
    waits_for_ = 0;
    const auto done = std::exchange(handshake_, nullptr);
    try {
        if (thrown) {
            fail_handshake(done->to(), thrown);
        } else if (agreed.is_refused()) {
            keeps_alive_ = false;  // what follows may be frames
            reply(http_request{agreed.request(), {}}, *agreed.refusal());
        } else {
            admit(*done, &agreed);
        }
    } catch (...) {
        fail_handshake(done->to(), std::current_exception());
    }
    after_flush();
}

ARKE_COLD_INLINE void session::admit(handshake& done, upgrade* agreed) {
    const auto p = done.make(*loop_, agreed);
    const auto guard = core::flood_guard::make_for(p);
    std::string rest = in_.substr(served_);
    loop_->make_room_to_retire();
    if (done.to().admit(*p) == core::hub::admission::refused)
        return refuse(wire::refuse_http(409, "A connection with this id is there already."));
    become(p, guard, std::move(rest));
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
    note_waiting();
    if (std::exchange(paused_, false)) t.pause_reads(false);
    const boost::intrusive_ptr<session> self{this};
    auto& hears = core::flood_guard::open(p, guard, t);
    // Frames that came with the request are handled after the accept.
    if (!rest.empty()) hears.tell<&core::stream_user::on_bytes>(std::span<char>{rest});
}

ARKE_COLD_INLINE void session::fail_handshake(core::endpoint& to, const std::exception_ptr& thrown) {
    try {
        std::rethrow_exception(thrown);
    } catch (const std::exception& e) {
        to.try_to_log([&] { return std::string{"a handshake failed: "} + e.what(); });
    } catch (...) {
        to.try_to_log([] { return "a handshake failed by something that is no std::exception"; });
    }
    handshake_.reset();
    waits_for_ = 0;
    if (transport_ != nullptr) refuse(wire::refuse_http(500, "The server failed to accept the connection."));
}

// --- sending

ARKE_COLD_INLINE void session::refuse(const wire::http_refusal& refusal) { reply(answer_of(refusal), false); }

ARKE_COLD_INLINE void session::reply(answer a, bool keep_alive) {
    keep_alive = keep_alive && !site_->stopping.load(std::memory_order_relaxed);
    out_ += head_of(a, keep_alive);
    if (!is_head_ && a.may_have_body()) {
        out_ += a.body;
        file_ = std::move(a.file);
    }
    closing_ = !keep_alive;
    loop_->counters().count_answer(a.status);
    set_deadline();
    flush();
    if (!serving_) update_reads();
}

ARKE_COLD_INLINE void session::flush() {
    // So much of a file is in memory at once.
    constexpr std::size_t part = 64UL * 1024;
    if (transport_ == nullptr || !is_sending()) return;
    for (std::size_t sent = 0; !blocked_ && is_sending();) {
        bool is_short = false;
        if (file_ && out_.size() - out_sent_ < part) {
            if (sent >= detail::share_of_answers) return go_on_later();
            out_.erase(0, std::exchange(out_sent_, 0));
            is_short = !file_->read(out_, part - out_.size());
            if (file_->left() == 0) file_.reset();
        }
        if (!out_.empty()) {
            const auto piece = core::segment{out_}.substr(out_sent_);
            const auto result = transport_->send({&piece, 1});
            if (result.error) {
                // on_end() follows, for which reads must go on.
                out_.clear();
                out_sent_ = 0;
                file_.reset();
                closing_ = true;
                return;
            }
            if (result.sent != 0) set_deadline();
            sent += result.sent;
            answered_ += result.sent;
            out_sent_ += result.sent;
            blocked_ = out_sent_ != out_.size();
            if (!blocked_) out_.erase(0, std::exchange(out_sent_, 0));
        }
        // The length is promised: the client knows by the early end.
        if (is_short) return end(false);
    }
    if (is_sending()) return;
    constexpr std::size_t small = 4096;
    if (out_.capacity() > small) std::string{}.swap(out_);
    if (closing_) transport_->shutdown();
}

ARKE_COLD_INLINE void session::go_on_later() {
    if (std::exchange(goes_on_, true)) return;
    loop_->go_on_later(this);
}

ARKE_COLD_INLINE void session::go_on() {
    goes_on_ = false;
    if (transport_ == nullptr) return;
    flush();
    after_flush();
}

ARKE_COLD_INLINE void session::on_writable() {
    blocked_ = false;
    if (transport_ == nullptr || !is_sending()) return;
    set_deadline();
    flush();
    after_flush();
}

ARKE_COLD_INLINE void session::after_flush() {
    if (transport_ == nullptr || serving_) return;
    if (may_serve())
        serve();
    else
        update_reads();
}

// A request that has not come whole, and an answer that is nearly gone, are small.
ARKE_COLD_INLINE void session::note_waiting() noexcept {
    constexpr std::size_t small = 4096;
    std::size_t now = 0;
    if (transport_ != nullptr) {
        for (const auto* each : {&in_, &out_}) {
            if (each->capacity() > small) now += each->capacity();
        }
    }
    if (now == waiting_.counted()) return;
    if (now == 0) {
        site_->load->forget(waiting_);
        return waiting_.unlink();
    }
    core::server_load::note(site_->load, *loop_, waiting_, now);
}

ARKE_COLD_INLINE void session::update_reads() {
    // What has come behind the last request that is served.
    if (closing_ && !in_.empty()) {
        std::string{}.swap(in_);
        served_ = scanned_ = 0;
    }
    note_waiting();
    const bool pause = is_busy();
    if (transport_ == nullptr || pause == paused_) return;
    paused_ = pause;
    transport_->pause_reads(pause);
}

}  // namespace arke::http
