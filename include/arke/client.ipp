#pragma once

#include <arke/client.hpp>
#include <arke/connection.ipp>
#include <arke/core/reconnection.hpp>
#include <arke/core/waiting_room.hpp>
#include <arke/http/client_session.hpp>
#include <arke/io/connector.hpp>
#include <arke/io/make_loop.hpp>
#include <arke/io/tls_layer.hpp>
#include <arke/wire/handshake.hpp>
#include <arke/wire/url.hpp>

#include <boost/asio/executor_work_guard.hpp>

#include <map>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>

namespace arke::detail {

/// What a client is made of. It outlives the client until the closing handshake is over.
///
///     fresh ──connect()──▶ connecting ──▶ open ──▶ pausing ──▶ connecting
///                              │            └──disconnect(), or no reason to come back──▶ ended ──connect()──▶ connecting
///                              └──failed──▶ pausing, or ended
///
/// What the loop or an operation keeps of it is a plain or a weak pointer; the destructor ends the loop before anything else goes.
class client_state : public std::enable_shared_from_this<client_state> {
public:
    ARKE_COLD client_state(boost::asio::io_context* context, core::endpoint_ptr e, wire::url to,
                           std::optional<wire::proxy_url> by, client_config settings,
                           std::shared_ptr<io::tls_layer> tls)
        : own_{context == nullptr ? std::make_unique<boost::asio::io_context>(1) : nullptr},
          context_{context == nullptr ? *own_ : *context},
          endpoint_{std::move(e)},
          url_{std::move(to)},
          proxy_{std::move(by)},
          settings_{std::move(settings)},
          tls_{std::move(tls)},
          again_{{settings_.reconnect_delay.count(), settings_.max_reconnect_delay.count(), 5'000,
                  settings_.max_attempts}},
          queue_{{settings_.max_queue, settings_.max_queue_bytes}} {
        if (!settings_.native) offered_.emplace_back("arke.v1");
        offered_.insert(offered_.end(), settings_.subprotocols.begin(), settings_.subprotocols.end());
        endpoint_->become_client();
        loop_ = io::make_loop(context_, 0, endpoint_->settings().listener, own_ != nullptr);
        endpoint_->add_loop(*loop_);
        timer_.emplace(context_);
        late_timer_.emplace(context_);
        // Before any handler of the user's.
        endpoint_->change([this](core::handler_set& set) {
            set.connection.add(set.next_id(), make_notify_handler<connection>([this] { opened(); }));
            set.drain.add(set.next_id(), make_notify_handler<connection>([this] { pump(); }));
            set.disconnect.add(set.next_id(), make_notify_handler<connection, close_code, std::string_view>(
                                                  [this](close_code code, std::string_view) { lost(code); }));
            return true;
        });
    }

    client_state(const client_state&) = delete;
    client_state& operator=(const client_state&) = delete;

    ARKE_COLD ~client_state() {
        if (connector_) connector_->cancel();
        timer_.reset();
        late_timer_.reset();
        cut_.reset();
        current_.reset();
        session_.reset();
        loop_->shut_down();
        endpoint_->clear();
    }

    const io::asio_loop& loop() const noexcept { return *loop_; }
    bool is_again() const noexcept { return is_again_; }
    bool comes_back() const noexcept { return comes_back_; }
    std::size_t waiting() const noexcept { return waiting_.load(std::memory_order_relaxed); }
    std::uint64_t dropped() const noexcept { return dropped_.load(std::memory_order_relaxed); }

    void add_error_listener(handler_id id, std::function<void(const error_report&)> f) {
        const std::lock_guard lock{listeners_mutex_};
        listeners_.emplace(id, std::make_shared<listener>(std::move(f)));
    }
    void remove_error_listener(handler_id id) {
        const std::lock_guard lock{listeners_mutex_};
        listeners_.erase(id);
    }

    // --- from any thread

    void check(const outgoing& out) const {
        endpoint_->check(out);
        if (settings_.native && !out.is_native()) throw std::invalid_argument{"this client takes native messages only"};
    }

    /// `ttl`: how long it may wait, where that is said.
    void say(const outgoing& out, std::optional<std::chrono::milliseconds> ttl) {
        check(out);
        if (loop_->in_turn() && speaks_at_once()) return send(out);
        take_up({message_ptr{new message{out}}, {}, ttl ? due_in(*ttl) : core::timing_wheel::never});
    }

    ARKE_COLD void ask(core::requests::pointer request, message_ptr what, std::chrono::milliseconds timeout) {
        take_up({std::move(what), std::move(request), due_in(timeout)});
    }

    ARKE_COLD void join(std::string_view room, core::requests::pointer request) {
        std::string name{room};
        loop_->dispatch([this, name = std::move(name), request = std::move(request)]() mutable {
            auto& waits = rooms_[name];
            if (request && phase_ == phase::ended) return later(std::move(request), errc::disconnected);
            if (request) waits.push_back(std::move(request));
            if (phase_ == phase::open && !closing_) ask_to_join(name);
        });
    }

    ARKE_COLD void leave(std::string_view room) {
        loop_->dispatch([this, name = std::string{room}] {
            const auto found = rooms_.find(name);
            if (found == rooms_.end()) return;
            auto waits = std::move(found->second);
            rooms_.erase(found);
            for (auto& each : waits) complete(*each, errc::disconnected);
            if (phase_ != phase::open) return;
            put_request(current_, std::make_shared<callback_request>([](error_code, const event_view&) {}),
                        message_ptr{new message{outgoing::leave(name)}}, settings_.connect_timeout);
        });
    }

    ARKE_COLD void connect(core::requests::pointer request) {
        loop_->dispatch([this, request = std::move(request)]() mutable {
            if (gone_) return;
            if (!request) wants_ = true;
            if (is_open() && !closing_) {
                if (request) later(std::move(request), {});
                return;
            }
            if (request) connecting_.push_back(std::move(request));
            anew_ = phase_ == phase::open;  // it is ending
            if (anew_ || phase_ == phase::connecting) return;
            again_.reset();
            attempt();
        });
    }

    ARKE_COLD void disconnect(close_code code, std::string_view reason) {
        loop_->dispatch([this, code, text = std::string{reason}]() mutable { end(code, std::move(text)); });
    }

    ARKE_COLD void run() {
        if (!own_) {
            throw std::logic_error{"arke: run(): this client lives in your io_context; call that io_context's run()"};
        }
        if (running_.exchange(true)) throw std::logic_error{"arke: run(): this client is running already"};
        const struct at_end {
            std::atomic<bool>& running;
            ~at_end() { running = false; }
        } guard{running_};
        own_->restart();
        if (abandoned_) return;  // which stopped it before, or does so yet
        const auto work = boost::asio::make_work_guard(*own_);
        connect(nullptr);
        for (;;) {
            // What users post to get_executor() may throw. In a thread of its own there is nobody else to hear it, and it goes on.
            try {
                own_->run();
                return;
            } catch (const std::exception& e) {
                if (!stays_) throw;
                endpoint_->try_to_log([&] { return std::string{"work on a client's executor threw: "} + e.what(); });
            } catch (...) {
                if (!stays_) throw;
                endpoint_->try_to_log([] { return std::string{"work on a client's executor threw"}; });
            }
        }
    }

    ARKE_COLD void start() {
        if (thread_.joinable()) throw std::logic_error{"arke: start(): this client has its thread already"};
        if (!own_) {
            throw std::logic_error{"arke: start(): this client lives in your io_context; call that io_context's run()"};
        }
        stays_ = true;
        const std::lock_guard lock{thread_mutex_};
        thread_ = std::thread{[self = shared_from_this()] {
            // A handler may destroy the client, which asks thread_: not before it stands there.
            self->thread_mutex_.lock();
            self->thread_mutex_.unlock();
            try {
                self->run();
            } catch (const std::exception& e) {
                self->endpoint_->try_to_log([&] { return std::string{"a client's thread ended: "} + e.what(); });
            }
        }};
    }

    /// The client object goes.
    ARKE_COLD static void abandon(std::shared_ptr<client_state> s) noexcept {
        {
            const std::lock_guard lock{s->listeners_mutex_};
            s->listeners_.clear();
        }
        // The user's handlers go; the place of those that are running is kept until the turn ends.
        try {
            s->endpoint_->change([](core::handler_set& set) {
                set = {};
                return true;
            });
        } catch (...) {
            // No memory for that: they stay as long as the connection.
        }
        auto& thread = s->thread_;
        auto& state = *s;
        if (!state.own_ || state.running_ || thread.joinable()) {
            try {
                state.loop_->post_to_strand([self = s] { self->say_goodbye(); });
            } catch (...) {
                // No memory for it: it goes without a word. Whoever waits for the thread would wait for ever.
                state.abandoned_ = true;
                if (state.own_) state.own_->stop();
            }
        }
        if (!thread.joinable()) return;
        if (thread.get_id() == std::this_thread::get_id())
            thread.detach();
        else
            thread.join();
    }

private:
    using listener = std::function<void(const error_report&)>;
    enum class phase : std::uint8_t { fresh, connecting, open, pausing, ended };

    /// A request of our own.
    class callback_request final : public core::open_request {
    public:
        using callback = std::function<void(error_code, const event_view&)>;
        explicit callback_request(callback f) : f_{std::move(f)} {}
        void complete(error_code why, const event_view& answer, bool) override { f_(why, answer); }

    private:
        callback f_;
    };

    // --- attempts

    /// Does something for an attempt, which has failed where there is no memory for it.
    template <class F>
    void try_to(F&& f) {
        try {
            f();
        } catch (const std::bad_alloc&) {
            failed(errc::out_of_memory, "there was no memory to connect");
        }
    }

    ARKE_COLD void attempt() {
        phase_ = phase::connecting;
        try_to([this] {
            set_timer(settings_.connect_timeout, &client_state::give_up_attempt);
            const auto& to = proxy_ ? proxy_->at : url_.at;
            auto done = [weak = weak_from_this()](io::connected what) {
                const auto self = weak.lock();
                if (!self) return;
                const core::loop::turn guard{*self->loop_};
                self->connector_.reset();
                self->try_to([&] { self->shake_hands(std::move(what)); });
            };
            connector_ = url_.socket_path.empty()
                             ? io::connector::start(*loop_, to.host, to.port, std::move(done))
                             : io::connector::start_unix(*loop_, url_.socket_path, std::move(done));
        });
    }

    ARKE_COLD void give_up_attempt() {
        std::string why;
        try_to([&] {
            const auto to = proxy_ ? proxy_->at.text() + " or, behind it, " + url_.place() : url_.place();
            why = "nothing came of connecting to " + to + " within connect_timeout (" +
                  std::to_string(settings_.connect_timeout.count()) + " ms)";
        });
        if (!why.empty()) failed(errc::connect_timeout, why);
    }

    ARKE_COLD void shake_hands(io::connected what) {
        if (what.error) return failed(what.error, what.why);
        const auto key = http::random_key();
        const auto host = url_.host_header();
        request_ = [this, host, key, address = what.address, port = what.port] {
            std::vector<std::pair<std::string_view, std::string_view>> fields{{"Host", host},
                                                                              {"Sec-WebSocket-Key", key}};
            for (const auto& [name, value] : settings_.headers) fields.emplace_back(name, value);
            return request{"GET", url_.target, 11, fields, address, port};
        }();
        std::function<core::transport&(core::transport&, core::stream_user_ptr)> secure;
        if (tls_) {
            secure = [this](core::transport& below, core::stream_user_ptr user) -> core::transport& {
                return tls_->wrap(*loop_, below, std::move(user));
            };
        }
        const auto& compression = endpoint_->settings().compression;
        std::optional<wire::deflate_terms> deflate;
        if (compression.enabled) deflate = core::terms_of(compression);
        session_.reset(new http::client_session{
            *loop_,
            {proxy_ ? http::connect_request(url_.at.text(), proxy_->credentials) : std::string{},
             http::upgrade_request(host, url_.target, key, offered_, settings_.headers, deflate), key, offered_,
             settings_.max_header_bytes, settings_.max_header_fields, std::move(secure), deflate},
            [this](const http::client_session::outcome& o) { shaken(o); }});
        auto* const t = loop_->attach(what.socket->take(), session_);
        if (t == nullptr) {
            session_.reset();
            return failed(errc::out_of_memory, "there was no memory for the connection");
        }
        const auto session = session_;  // it may be over before it has begun
        session->guarded([&] { session->start(*t); });
    }

    ARKE_COLD void shaken(const http::client_session::outcome& what) {
        if (what.error) return failed(what.error, what.why);
        std::size_t protocol = 0;
        for (std::size_t i = 0; what.subprotocol && i != endpoint_->protocol_count(); ++i) {
            if (endpoint_->protocol_at(i).name() == *what.subprotocol) protocol = i;
        }
        core::peer_ptr p;
        try_to([&] {
            loop_->make_room_to_retire();
            auto made = endpoint_->make(*loop_, core::endpoint::random_id(), protocol, std::move(request_));
            if (endpoint_->admit(*made) != core::hub::admission::refused) p = std::move(made);  // ids are random
        });
        if (!p) return;
        // From here on nothing asks for memory until the connection has its stream.
        const auto session = std::exchange(session_, nullptr);
        timer_->cancel();
        ++timer_number_;
        if (what.deflate) p->use_deflate(*what.deflate);
        current_ = p;
        phase_ = phase::open;
        wants_ = true;
        is_again_ = std::exchange(was_open_, true);
        again_.opened(loop_->now());
        auto waits = std::exchange(connecting_, {});
        session->become(p);
        for (auto& each : waits) complete(*each, {});
        if (is_again_) pump();
    }

    ARKE_COLD void failed(error_code why, std::string_view sentence) {
        stop_attempt();
        auto waits = std::exchange(connecting_, {});
        const bool goes_on = wants_ && come_back_later();
        if (!goes_on) phase_ = wants_ || has_ended_ ? phase::ended : phase::fresh;
        report({why, {}, sentence, {}}, waits.empty());
        for (auto& each : waits) later(std::move(each), why);
        if (phase_ == phase::ended) ended();
    }

    ARKE_COLD void stop_attempt() {
        timer_->cancel();
        ++timer_number_;
        if (const auto c = std::exchange(connector_, nullptr)) c->cancel();
        if (const auto s = std::move(session_)) s->abandon();
    }

    /// Whether another attempt is on its way.
    ARKE_COLD bool come_back_later() {
        if (!settings_.reconnect || gone_) return false;
        const auto delay = again_.next(loop_->now(), random_());
        if (!delay) return false;
        try {
            set_timer(std::chrono::milliseconds{*delay}, &client_state::attempt);
        } catch (const std::bad_alloc&) {
            report({errc::out_of_memory, {}, "there was no memory to come back later", {}}, true);
            return false;
        }
        phase_ = phase::pausing;
        return true;
    }

    // --- the connection

    /// The first of all handlers of a new connection.
    ARKE_COLD void opened() {
        current_->guarded([this] {
            // Who is told of an answer may change the list.
            std::vector<std::string> names;
            for (const auto& [name, waits] : rooms_) names.push_back(name);
            for (const auto& name : names) ask_to_join(name);
        });
        if (!is_again_) pump();
    }

    /// The first of all handlers of its end.
    ARKE_COLD void lost(close_code code) {
        current_.reset();
        closing_.reset();
        timer_->cancel();
        ++timer_number_;
        // What was said before disconnect() had its time, also where connect() has been called since.
        drop_all([](const core::waiting_room::entry& e) { return e.is_last; });
        if (std::exchange(anew_, false)) {
            again_.reset();
            attempt();
            comes_back_ = phase_ != phase::ended;
            return;
        }
        comes_back_ = wants_ && core::comes_back_after(code) && come_back_later();
        if (comes_back_) return;
        phase_ = phase::ended;
        ended();
    }

    /// Nothing more comes, unless somebody calls connect().
    ARKE_COLD void ended() {
        wants_ = false;
        has_ended_ = true;
        while (auto e = queue_.take()) drop(*e, errc::disconnected);
        for (auto& [name, waits] : rooms_) {
            for (auto& each : std::exchange(waits, {})) complete(*each, errc::disconnected);
        }
        waiting_ = 0;
        if (!own_ || stays_) return;
        try {
            loop_->when_empty(core::task{[this] {
                // Behind what has been completed.
                loop_->post_to_strand([weak = weak_from_this()] {
                    const auto self = weak.lock();
                    if (self && self->phase_ == phase::ended) self->own_->stop();
                });
            }});
        } catch (const std::bad_alloc&) {
            own_->stop();
        }
    }

    ARKE_COLD void end(close_code code, std::string reason) {
        wants_ = anew_ = false;
        has_ended_ = true;
        if (phase_ == phase::open) {
            for (auto& each : std::exchange(connecting_, {})) later(std::move(each), errc::disconnected);
            // What was said behind a connect() since the last disconnect() waits for a connection that does not come.
            if (is_open() && !closing_)
                queue_.mark_last();
            else
                drop_all([](const core::waiting_room::entry& e) { return !e.is_last; });
            pump();
            if (!current_) return;
            closing_.emplace(code, std::move(reason));
            if (queue_.empty()) return close_now();
            try {
                return set_timer(settings_.close_timeout, &client_state::close_now);
            } catch (const std::bad_alloc&) {
                return close_now();
            }
        }
        stop_attempt();
        const bool had_begun = phase_ != phase::ended;
        phase_ = phase::ended;
        for (auto& each : std::exchange(connecting_, {})) complete(*each, errc::disconnected);
        if (had_begun) ended();
    }

    ARKE_COLD void close_now() {
        if (!current_ || !closing_) return;
        const auto how = *std::exchange(closing_, std::nullopt);
        current_->guarded([&] { current_->close(how.first, how.second); });
    }

    /// On the strand: what the destructor of the client has begun goes on without it.
    ARKE_COLD void say_goodbye() {
        bool waits = true;
        {
            const core::loop::turn guard{*loop_};
            gone_ = true;
            wants_ = anew_ = false;
            stop_attempt();
            if (current_) current_->guarded([this] { current_->close(close_code::going_away, {}); });
            current_.reset();
            phase_ = phase::ended;
            ended();
            try {
                // Whatever holds this object from now on is one operation of the io_context, and the loop ends with it.
                cut_.emplace(context_);
                cut_->expires_after(settings_.close_timeout + std::chrono::milliseconds{100});
                cut_->async_wait(
                    loop_->on_strand([self = shared_from_this()](const error_code&) { self->shut_down(); }));
            } catch (const std::bad_alloc&) {
                waits = false;
            }
            try {
                loop_->when_empty(core::task{[weak = weak_from_this()] {
                    if (const auto self = weak.lock(); self && self->cut_) self->cut_->cancel();
                }});
            } catch (const std::bad_alloc&) {
                // Then it is the whole time.
            }
        }
        if (!waits) shut_down();
    }

    ARKE_COLD void shut_down() {
        if (own_) own_->stop();
        loop_->shut_down();
    }

    // --- speaking; in a turn

    bool is_open() const noexcept { return phase_ == phase::open && current_ && current_->is_open(); }
    bool speaks_at_once() const noexcept { return is_open() && queue_.empty() && !closing_; }

    void send(const outgoing& out) {
        std::string why;
        if (current_->send(out, why)) return;
        dropped_.fetch_add(1, std::memory_order_relaxed);
        report({errc::not_deliverable, out.event.name, why, {}}, true);
    }

    /// When it is too late for what may wait so long from now on. What has no time is late already. Any thread.
    core::millis due_in(std::chrono::milliseconds time) const noexcept {
        constexpr core::millis for_ever = core::millis{1} << 40;
        return time.count() <= 0 ? 0 : loop_->clock() + std::min<core::millis>(time.count(), for_ever);
    }

    void take_up(core::waiting_room::entry e) {
        loop_->dispatch([this, e = std::move(e)]() mutable {
            if (!speaks_at_once() || e.due <= loop_->now()) return add(std::move(e));
            put(e);
        });
    }

    void put(const core::waiting_room::entry& e) {
        if (!e.request) return send(e.what->view());
        put_request(current_, e.request, e.what, std::chrono::milliseconds{e.due - loop_->now()});
    }

    /// Has it wait, if it may.
    ARKE_COLD void add(core::waiting_room::entry e) {
        // Behind disconnect() nothing comes, until connect().
        if (phase_ == phase::ended || (phase_ == phase::open && !wants_ && !anew_)) return drop(e, errc::disconnected);
        const auto now = loop_->now();
        if (e.due <= now) return drop(e, errc::ask_timeout);
        if (e.due == core::timing_wheel::never && settings_.queue_ttl.count() != 0)
            e.due = now + settings_.queue_ttl.count();
        const auto due = e.due;
        const auto what = e.what;
        const auto how = queue_.add(e, now, [this](core::waiting_room::entry& late) { drop(late, errc::ask_timeout); });
        waiting_ = queue_.size();
        switch (how) {
            case core::waiting_room::added::yes: return watch_for_late(due);
            case core::waiting_room::added::not_ready: return drop(e, errc::disconnected);
            case core::waiting_room::added::full:
                if (!e.request) {
                    report({errc::queue_full,
                            what->view().event.name,
                            "more waits for the connection than max_queue or max_queue_bytes; this is dropped",
                            {}},
                           true);
                }
                return drop(e, errc::queue_full);
        }
    }

    ARKE_COLD void drop(core::waiting_room::entry& e, errc why) {
        dropped_.fetch_add(1, std::memory_order_relaxed);
        if (e.request) later(std::move(e.request), why);
    }

    /// Drops all those that wait and are such, because no connection comes for them.
    template <class Such>
    ARKE_COLD void drop_all(Such such) {
        queue_.take_all(such, [this](core::waiting_room::entry& e) { drop(e, errc::disconnected); });
        waiting_ = queue_.size();
    }

    ARKE_COLD void pump() {
        while (is_open() && !current_->is_lagging()) {
            if (closing_ && queue_.is_at_next()) return close_now();
            auto e = queue_.take();
            waiting_ = queue_.size();
            if (!e) {
                if (closing_) close_now();
                return;
            }
            if (e->due <= loop_->now())
                drop(*e, errc::ask_timeout);
            else
                current_->guarded([&] { put(*e); });
        }
    }

    /// Who waits for an answer hears in time that none comes.
    ARKE_COLD void watch_for_late(core::millis due) {
        if (due == core::timing_wheel::never || due >= watched_) return;
        watched_ = core::timing_wheel::never;
        try {
            late_timer_->expires_at(std::chrono::steady_clock::time_point{std::chrono::milliseconds{due}});
            late_timer_->async_wait(loop_->on_strand([weak = weak_from_this()](const error_code& ec) {
                const auto self = weak.lock();
                if (ec || !self) return;
                const core::loop::turn guard{*self->loop_};
                self->watched_ = core::timing_wheel::never;
                self->queue_.take_late(self->loop_->now(),
                                       [&](core::waiting_room::entry& late) { self->drop(late, errc::ask_timeout); });
                self->waiting_ = self->queue_.size();
                self->watch_for_late(self->queue_.next_due());
            }));
            watched_ = due;
        } catch (const std::bad_alloc&) {
            // The next that waits tries again.
        }
    }

    ARKE_COLD void ask_to_join(const std::string& name) {
        put_request(current_,
                    std::make_shared<callback_request>(
                        [this, name](error_code why, const event_view& answer) { joined(name, why, answer.data); }),
                    message_ptr{new message{outgoing::join(name)}}, settings_.connect_timeout);
    }

    ARKE_COLD void joined(const std::string& name, error_code why, std::string_view text) {
        const auto found = rooms_.find(name);
        if (found == rooms_.end()) return;
        // With the next connection it is asked again; where none comes, ended() tells.
        if (why == errc::disconnected) return;
        auto waits = std::exchange(found->second, {});
        if (why) {
            if (why != errc::ask_timeout && why != errc::out_of_memory) rooms_.erase(found);
            const auto sentence = "the room " + printable(name) + " is not entered" +
                                  (text.empty() ? std::string{} : ": " + std::string{text});
            report({why, {}, sentence, {}}, waits.empty());
        }
        for (auto& each : waits) complete(*each, why);
    }

    // --- telling

    ARKE_COLD void complete(core::open_request& request, error_code why, bool within_ask = false) {
        try {
            request.complete(why, {}, within_ask);
        } catch (const std::exception& e) {
            report({errc::handler_threw, {}, e.what(), std::current_exception()}, true);
        } catch (...) {
            report({errc::handler_threw, {}, "something that is no std::exception", std::current_exception()}, true);
        }
    }

    /// No handler runs within the call that asks.
    ARKE_COLD void later(core::requests::pointer request, error_code why) {
        try {
            loop_->post([this, request, why] { complete(*request, why); });
        } catch (const std::bad_alloc&) {
            complete(*request, why, true);
        }
    }

    ARKE_COLD void report(const error_report& what, bool logs) noexcept {
        try {
            std::vector<std::shared_ptr<listener>> all;
            {
                const std::lock_guard lock{listeners_mutex_};
                for (const auto& [id, f] : listeners_) all.push_back(f);
            }
            for (const auto& f : all) {
                try {
                    (*f)(what);
                } catch (...) {
                    endpoint_->try_to_log([] { return std::string{"on_error of a client threw"}; });
                }
            }
            if (!all.empty() || !logs || gone_) return;
            endpoint_->try_to_log([&] {
                auto line = "client of " + url_.place();
                if (!what.event.empty()) line += ", event " + printable(what.event);
                return line + ": " + (what.detail.empty() ? what.code.message() : std::string{what.detail});
            });
        } catch (...) {
            // No memory to tell it.
        }
    }

    ARKE_COLD void set_timer(std::chrono::milliseconds time, void (client_state::*then)()) {
        timer_->expires_after(time);
        timer_->async_wait(
            loop_->on_strand([weak = weak_from_this(), then, number = ++timer_number_](const error_code& ec) {
                const auto self = weak.lock();
                if (ec || !self || self->timer_number_ != number) return;
                const core::loop::turn guard{*self->loop_};
                (self.get()->*then)();
            }));
    }

    std::unique_ptr<boost::asio::io_context> own_;
    boost::asio::io_context& context_;
    io::asio_loop_ptr loop_;
    core::endpoint_ptr endpoint_;
    wire::url url_;
    std::optional<wire::proxy_url> proxy_;
    client_config settings_;
    std::shared_ptr<io::tls_layer> tls_;  // null: none
    std::vector<std::string> offered_;
    std::atomic<bool> running_{false};
    std::atomic<bool> abandoned_{false};
    bool stays_ = false;  // in its own thread, until the client goes
    std::thread thread_;
    std::mutex thread_mutex_;

    // On the loop.
    phase phase_ = phase::fresh;
    bool wants_ = false;       // to come back
    bool anew_ = false;        // to connect again once the connection that is ending has ended
    bool comes_back_ = false;  // after the connection that was lost last
    bool has_ended_ = false;   // once, so that it is ended again where an attempt fails that was to be the only one
    bool was_open_ = false;
    bool is_again_ = false;
    bool gone_ = false;  // the client object is
    core::reconnection again_;
    std::random_device random_;
    std::shared_ptr<io::connector> connector_;
    boost::intrusive_ptr<http::client_session> session_;
    request request_;
    core::peer_ptr current_;
    std::optional<std::pair<close_code, std::string>> closing_;  // once what waits is sent
    std::vector<core::requests::pointer> connecting_;
    std::map<std::string, std::vector<core::requests::pointer>, std::less<>> rooms_;
    core::waiting_room queue_;
    std::optional<io::own_timer> timer_;  // the deadline of an attempt, the pause before one, or the patience of an end
    std::uint32_t timer_number_ = 0;
    std::optional<io::own_timer> late_timer_;
    core::millis watched_ = core::timing_wheel::never;
    std::optional<io::own_timer> cut_;

    std::atomic<std::size_t> waiting_{0};
    std::atomic<std::uint64_t> dropped_{0};
    std::mutex listeners_mutex_;
    std::map<handler_id, std::shared_ptr<listener>> listeners_;
};

}  // namespace arke::detail

namespace arke::detail {

ARKE_COLD_INLINE config config_of(const client_config& from) {
    config to;
    to.write_timeout = from.write_timeout;
    to.message_timeout = from.message_timeout;
    to.pong_timeout = from.pong_timeout;
    to.ping_period = from.ping_period;
    to.close_timeout = from.close_timeout;
    to.max_message_size = from.max_message_size;
    to.max_fragments = from.max_fragments;
    to.max_json_depth = from.max_json_depth;
    to.max_outbox_bytes = from.max_outbox_bytes;
    to.on_overflow = from.on_overflow;
    to.max_requests = from.max_requests;
    to.reveal_exceptions = from.reveal_exceptions;
    to.native_by_default = from.native;
    to.binary_messages = from.binary_messages;
    to.subprotocols = from.subprotocols;
    to.event_prefix = from.event_prefix;
    to.log = from.log;
    to.compression = from.compression;
    to.listener.max_header_bytes = from.max_header_bytes;
    to.listener.max_header_fields = from.max_header_fields;
    to.listener.read_buffer_size = from.read_buffer_size;
    to.listener.write_buffer_size = from.write_buffer_size;
    to.listener.loop = from.loop;
    return to;
}

ARKE_COLD_INLINE void check_client_config(const client_config& c) {
    const auto refuse = [](const std::string& text) { throw std::invalid_argument{"arke::client_config: " + text}; };
    const auto time = [&](const char* field, std::chrono::milliseconds value, std::chrono::milliseconds least) {
        if (value >= least && value <= std::chrono::hours{24 * 365}) return;
        refuse(std::string{field} + " is " + std::to_string(value.count()) + " ms; set " +
               std::to_string(least.count()) + " ms or more, and a year at most");
    };
    using std::chrono::milliseconds;
    time("connect_timeout", c.connect_timeout, milliseconds{1});
    time("reconnect_delay", c.reconnect_delay, milliseconds{1});
    time("max_reconnect_delay", c.max_reconnect_delay, milliseconds{1});
    time("queue_ttl", c.queue_ttl, milliseconds{0});
    if (c.max_queue == 0) refuse("max_queue is 0; set it to 1 or more");
    if (c.max_queue_bytes == 0) refuse("max_queue_bytes is 0; set it to 1 or more");
    if (const auto fault = http::find_header_fault(c.headers); !fault.empty()) refuse("headers holds " + fault);
}

ARKE_COLD_INLINE std::shared_ptr<client_state> make_client(boost::asio::io_context* context,
                                                           const core::endpoint_ptr& state, const std::string& url,
                                                           client_config settings) {
    check_client_config(settings);
    std::string why;
    auto to = wire::parse_url(url, why);
    if (!to) throw std::invalid_argument{"arke::client: " + printable(url, 200) + " is no WebSocket URL: " + why};
    std::optional<wire::proxy_url> by;
    if (!settings.proxy.empty()) {
        by = wire::parse_proxy(settings.proxy, why);
        // Not the text: it may hold a password.
        if (!by) throw std::invalid_argument{"arke::client_config: proxy is no http://host:port: " + why};
        if (!to->socket_path.empty()) {
            throw std::invalid_argument{
                "arke::client_config: proxy is set, and no proxy leads to a UNIX-domain socket; leave it out"};
        }
    }
    std::shared_ptr<io::tls_layer> tls;
    if (to->is_secure) tls = io::need_tls("arke::client: wss://").for_client(settings.tls, to->at.host);
    return std::make_shared<client_state>(context, state, std::move(*to), std::move(by), std::move(settings),
                                          std::move(tls));
}

ARKE_COLD_INLINE void add_error_listener(client_state& s, handler_id id, std::function<void(const error_report&)> f) {
    s.add_error_listener(id, std::move(f));
}

ARKE_COLD_INLINE void remove_error_listener(client_state& s, handler_id id) { s.remove_error_listener(id); }

ARKE_COLD_INLINE bool is_again(const client_state& s) noexcept { return s.is_again(); }

ARKE_COLD_INLINE bool comes_back(const client_state& s) noexcept { return s.comes_back(); }

ARKE_COLD_INLINE std::size_t waiting(const client_state& s) noexcept { return s.waiting(); }

ARKE_COLD_INLINE std::uint64_t dropped(const client_state& s) noexcept { return s.dropped(); }

ARKE_INLINE void deliver(client_state& s, const outgoing& out, std::optional<std::chrono::milliseconds> ttl) {
    s.say(out, ttl);
}

ARKE_COLD_INLINE void check(const client_state& s, const outgoing& out) { s.check(out); }

// Nothing may be thrown at a coroutine that is about to wait. Where the request goes no further, its end tells who waits.

ARKE_COLD_INLINE void ask(client_state& s, const core::requests::pointer& request, message_ptr what,
                          std::chrono::milliseconds timeout) noexcept {
    try {
        s.ask(request, std::move(what), timeout);
    } catch (...) {
    }
}

ARKE_COLD_INLINE void join(client_state& s, std::string_view room, const core::requests::pointer& request) noexcept {
    try {
        s.join(room, request);
    } catch (...) {
    }
}

ARKE_COLD_INLINE void connect(client_state& s, const core::requests::pointer& request) {
    try {
        s.connect(request);
    } catch (...) {
        if (!request) throw;
    }
}

ARKE_COLD_INLINE void leave(client_state& s, std::string_view room) { s.leave(room); }

ARKE_COLD_INLINE void disconnect(client_state& s, close_code code, std::string_view reason) {
    check_close(code, reason);
    s.disconnect(code, reason);
}

ARKE_COLD_INLINE void run(std::shared_ptr<client_state> s) { s->run(); }

ARKE_COLD_INLINE void start(const std::shared_ptr<client_state>& s) { s->start(); }

ARKE_COLD_INLINE void abandon(std::shared_ptr<client_state> s) noexcept { client_state::abandon(std::move(s)); }

template <class Executor>
Executor executor_of(const client_state& s) {
    return s.loop().get_executor<Executor>();
}

}  // namespace arke::detail

namespace arke {

ARKE_INLINE void client::emit_message(std::string_view text) { deliver(detail::native_text(text)); }

ARKE_INLINE void client::emit_message(bytes_view data) {
    deliver(detail::native_bytes(settings().binary_messages, data));
}

#ifdef ARKE_SEPARATE_COMPILATION
template boost::asio::any_io_executor detail::executor_of<boost::asio::any_io_executor>(const detail::client_state&);
#endif

}  // namespace arke
