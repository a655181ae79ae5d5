#pragma once

#include <arke/core/proxy_gate.hpp>
#include <arke/http/session.hpp>
#include <arke/io/acceptor.hpp>
#include <arke/io/make_loop.hpp>
#include <arke/io/stream_transport.hpp>
#include <arke/io/tls_layer.hpp>
#include <arke/server.hpp>
#include <arke/wire/address.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/signal_set.hpp>

#include <algorithm>
#include <csignal>
#include <mutex>
#include <thread>

namespace arke::detail {

/// What a server is made of. Operations of its loops refer to the loops and to the site, never to this: so it goes with the
/// server and with run(), and takes the loops down when nothing runs them any more.
class server_state : public std::enable_shared_from_this<server_state> {
public:
    ARKE_COLD server_state(boost::asio::io_context* context, const core::endpoint_ptr& first) : foreign_{context} {
        site_->configure(first->settings().listener);
        site_->endpoints.push_back(first);
        first->share_load(site_->load);
        if (const auto& tls = site_->listener.tls; !tls.certificates.empty()) {
            tls_ = io::need_tls("arke::config: listener.tls").for_server(tls, [first](std::string_view line) {
                first->log(line);
            });
        }
        add_loop();
    }

    ARKE_COLD ~server_state() {
        // Nothing runs our own loops any more. With a caller's io_context, other threads may: what stop() has posted there ends
        // them.
        if (foreign_ == nullptr) const teardown now{acceptors_, loops_, site_->endpoints, site_->cluster};
    }

    ARKE_COLD void add_endpoint(const core::endpoint_ptr& added) {
        check_not_serving("endpoint()");
        if (site_->endpoint_at(added->settings().endpoint) != nullptr) {
            throw std::invalid_argument{"arke: endpoint(): \"" + added->settings().endpoint +
                                        "\" is there already; choose another path"};
        }
        if (site_->routes.has_path(added->settings().endpoint)) {
            throw std::invalid_argument{"arke: endpoint(): \"" + added->settings().endpoint +
                                        "\" is a route already; choose another path"};
        }
        for (auto& l : loops_) added->add_loop(*l);
        added->share_load(site_->load);
        site_->endpoints.push_back(added);
        if (site_->cluster) site_->cluster->add(added);
    }

    ARKE_COLD core::cluster_place cluster_place() const {
        check_not_serving("cluster()");
        if (site_->cluster)
            throw std::logic_error{"arke: cluster(): this server is in a cluster already; give it one backplane"};
        return {loops_.front(), site_->endpoints, &act_here};
    }

    void join_cluster(std::shared_ptr<core::cluster_member> as) { site_->cluster = std::move(as); }
    const std::shared_ptr<core::cluster_member>& cluster() const noexcept { return site_->cluster; }

    ARKE_COLD void add_files(std::string prefix, const std::string& folder) {
        check_not_serving("files()");
        site_->folders.push_back(std::make_unique<http::file_folder>(std::move(prefix), folder));
    }

    ARKE_COLD void add_route(std::string_view method, std::string path, std::unique_ptr<http::route_handler> handler) {
        check_not_serving("route()");
        if (site_->is_taken(path)) {
            const bool by_endpoint = site_->endpoint_at(path) != nullptr;
            throw std::logic_error{"arke: route(): \"" + path + "\" is answered by " +
                                   (by_endpoint
                                        ? "the WebSocket endpoint; give that a path of its own, as in {.endpoint = "
                                          "\"/ws\"}"
                                        : "the server itself; choose another path")};
        }
        site_->routes.add(method, std::move(path), std::move(handler));
    }

    ARKE_COLD void listen(const std::string& address, int port, security how) {
        if (port < 0 || port > 65535) {
            throw std::invalid_argument{"arke: listen(): " + std::to_string(port) +
                                        " is no port; give one from 1 to 65535, or 0 for any free one"};
        }
        add_acceptor("listen()", how, [&](auto accept, auto trouble) {
            auto made = io::acceptor::listen(*loops_.front(), address, static_cast<std::uint16_t>(port),
                                             site_->listener, std::move(accept), std::move(trouble));
            port_ = made->port();
            return made;
        });
    }

    ARKE_COLD void listen_unix(const std::string& path, unsigned mode, security how) {
        add_acceptor("listen_unix()", how, [&](auto accept, auto trouble) {
            return io::acceptor::listen_unix(*loops_.front(), path, mode, site_->listener, std::move(accept),
                                             std::move(trouble));
        });
    }

    ARKE_COLD void adopt_socket(io::native_socket native, std::string bytes) {
        io::owned_socket own{native};
        auto from = io::remote_end_of(native);
        if (!from) return;
        adopt(std::move(from->address), from->port, std::move(bytes),
              [own = std::move(own)](io::asio_loop& on, core::stream_user_ptr user) mutable {
                  return on.attach(own.take(), std::move(user));
              });
    }

    ARKE_COLD void adopt_stream(std::shared_ptr<core::byte_stream> stream, stream_address from, std::string bytes) {
        // Closed where nobody takes it.
        struct owner {
            std::shared_ptr<core::byte_stream> stream;
            ~owner() {
                if (stream) stream->close();
            }
        };
        std::unique_ptr<owner> own{new owner{std::move(stream)}};
        adopt(std::move(from.text), from.port, std::move(bytes),
              [own = std::move(own), lingers = site_->endpoints.front()->settings().close_timeout.count()](
                  io::asio_loop& on, core::stream_user_ptr user) {
                  return io::stream_transport::attach(on, std::exchange(own->stream, nullptr), std::move(user),
                                                      lingers);
              });
    }

    ARKE_COLD void reload(std::optional<tls_config> with) {
        if (!tls_) {
            throw std::logic_error{
                "arke: reload(): this server has no TLS; give it certificates by config.listener.tls when it is made"};
        }
        if (with && with->certificates.empty()) {
            throw std::invalid_argument{
                "arke: reload(): certificates is empty, and TLS ports need one; leave the argument out to read the "
                "files "
                "again"};
        }
        if (with) {
            if (const auto fault = find_fault(*with, "tls"); !fault.empty())
                throw std::invalid_argument{"arke: reload(): " + fault};
        }
        const std::lock_guard lock{reload_mutex_};
        tls_->reload(with ? *with : reloaded_.value_or(site_->listener.tls));
        if (with) reloaded_ = std::move(with);
    }

    std::uint16_t port() const noexcept { return port_; }

    arke::metrics metrics() const { return site_->metrics(); }

    ARKE_COLD void run(unsigned threads) {
        if (foreign_ != nullptr) {
            throw std::logic_error{"arke: run(): this server lives in your io_context; call that io_context's run()"};
        }
        if (threads == 0) throw std::invalid_argument{"arke: run(): 0 threads; one is the least"};
        if (serving_.exchange(true)) throw std::logic_error{"arke: run(): a server runs once; make a new one"};
        {
            const std::lock_guard lock{parts_mutex_};
            while (loops_.size() < threads) add_loop();
            if (stopped_.load()) return;
        }

        if (site_->listener.stop_on_signals) {
            signals_.emplace(*contexts_.front(), SIGINT, SIGTERM);
            wait_for_signal();
        }
        std::vector<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> guards;
        for (auto& c : contexts_) guards.push_back(boost::asio::make_work_guard(*c));
        std::vector<std::thread> others;
        std::mutex failure_mutex;
        std::exception_ptr failure;
        const auto run_context = [&](boost::asio::io_context& c) {
            // What users post to get_executor() may throw: the server stops, and run() throws it.
            try {
                c.run();
            } catch (...) {
                const std::lock_guard lock{failure_mutex};
                if (!failure) failure = std::current_exception();
                for (auto& each : contexts_) each->stop();
            }
        };
        for (std::size_t i = 1; i < contexts_.size(); ++i) {
            others.emplace_back([&run_context, &c = *contexts_[i]] { run_context(c); });
        }
        run_context(*contexts_.front());
        for (auto& t : others) t.join();
        signals_.reset();
        stopped_ = true;
        if (failure) std::rethrow_exception(failure);
    }

    ARKE_COLD void stop(std::optional<std::chrono::milliseconds> timeout,
                        std::optional<std::chrono::milliseconds> spread) {
        using std::chrono::milliseconds;
        const auto now = std::chrono::steady_clock::now();
        const auto deadline = now + std::max(timeout.value_or(site_->listener.stop_timeout), milliseconds{0});
        const auto told_by = now + std::max(spread.value_or(site_->listener.stop_spread), milliseconds{0});
        std::vector<std::shared_ptr<farewell>> goodbyes;
        {
            const std::lock_guard lock{parts_mutex_};
            if (stopped_.exchange(true)) {
                for (const auto& each : goodbyes_) {
                    if (const auto still = each.lock()) still->post_hurry(deadline, told_by);
                }
                return;
            }
            const auto end = std::make_shared<teardown>(acceptors_, loops_, site_->endpoints, site_->cluster);
            for (const auto& l : loops_) {
                goodbyes.push_back(std::make_shared<farewell>(l, foreign_ == nullptr, end, deadline, told_by));
                goodbyes_.emplace_back(goodbyes.back());
            }
            site_->stopping = true;
            // The acceptors live on the first loop's strand.
            loops_.front()->post_to_strand([end] {
                for (const auto& a : end->acceptors) a->close();
            });
        }
        for (const auto& each : goodbyes) each->post_begin();
    }

    /// The server object goes: whatever still runs ends by itself.
    void abandon() { stop({}, {}); }

    const io::asio_loop& first_loop() const noexcept { return *loops_.front(); }

private:
    using loop_list = std::vector<io::asio_loop_ptr>;

    /// Takes the loops down when it is destroyed: by the last operation of the stop, or by the io_context that is destroyed
    /// before it came to that.
    struct teardown {
        std::vector<std::shared_ptr<io::acceptor>> acceptors;
        loop_list loops;
        std::vector<core::endpoint_ptr> endpoints;
        std::shared_ptr<core::cluster_member> cluster;

        teardown(std::vector<std::shared_ptr<io::acceptor>> a, loop_list l, std::vector<core::endpoint_ptr> e,
                 std::shared_ptr<core::cluster_member> c)
            : acceptors{std::move(a)}, loops{std::move(l)}, endpoints{std::move(e)}, cluster{std::move(c)} {}
        teardown(const teardown&) = delete;
        teardown& operator=(const teardown&) = delete;
        ARKE_COLD ~teardown() {
            for (const auto& a : acceptors) a->close();
            if (cluster) cluster->close();
            // Whoever is left may be let go of by handles, on any thread.
            for (const auto& l : loops) l->waiting().clear();
            for (const auto& l : loops) l->shut_down();
            for (const auto& e : endpoints) e->clear();
        }
    };

    /// The end of one loop: its users are told one after another, then waited for, then cut. On the loop's strand.
    class farewell : public std::enable_shared_from_this<farewell> {
    public:
        using moment = std::chrono::steady_clock::time_point;

        farewell(io::asio_loop_ptr l, bool owns_context, std::shared_ptr<teardown> end, moment deadline, moment told_by)
            : loop_{std::move(l)},
              owns_context_{owns_context},
              end_{std::move(end)},
              deadline_{deadline},
              told_by_{std::min(told_by, deadline)} {}

        void post_begin() {
            loop_->post_to_strand([self = shared_from_this()] { self->begin(); });
        }

        void post_hurry(moment deadline, moment told_by) {
            loop_->post_to_strand([self = shared_from_this(), deadline, told_by] {
                if (self->has_begun_ && !self->cut_) return;  // it is over
                self->told_by_ = std::min({self->told_by_, told_by, deadline});
                // What another thread posts may come before begin().
                if (!self->has_begun_)
                    self->deadline_ = std::min(self->deadline_, deadline);
                else if (deadline < self->deadline_)
                    self->set_deadline(deadline);
                if (self->tell_) self->tell_some();
            });
        }

    private:
        ARKE_COLD void begin() {
            began_ = std::chrono::steady_clock::now();
            has_begun_ = true;
            cut_.emplace(loop_->context());
            tell_.emplace(loop_->context());
            set_deadline(deadline_);
            {
                // It begins with what was said before the stop.
                const core::loop::turn guard{*loop_};
                waiting_ = loop_->users();
            }
            tell_some();
        }

        ARKE_COLD void set_deadline(moment at) {
            deadline_ = at;
            cut_->expires_at(at);
            cut_->async_wait(loop_->on_strand([self = shared_from_this(), at](const error_code&) {
                // Moved, unless it was cancelled because everybody has gone.
                if (self->cut_ && (self->deadline_ == at || self->is_empty_)) self->cut();
            }));
        }

        /// As many as should have been told by now.
        ARKE_COLD void tell_some() {
            const auto now = std::chrono::steady_clock::now();
            const bool last = now >= told_by_;
            const core::loop::turn guard{*loop_};
            if (!last) {
                const auto part =
                    std::chrono::duration<double>(now - began_) / std::chrono::duration<double>(told_by_ - began_);
                const auto due = static_cast<std::size_t>(part * static_cast<double>(waiting_.size()));
                for (; told_ < due; ++told_)
                    std::exchange(waiting_[told_], nullptr)->tell<&core::stream_user::on_stop>();
                tell_->expires_after(std::min<moment::duration>(told_by_ - now, std::chrono::milliseconds{20}));
                tell_->async_wait(loop_->on_strand([self = shared_from_this()](const error_code& ec) {
                    if (!ec && self->tell_) self->tell_some();
                }));
                return;
            }
            tell_.reset();
            waiting_.clear();
            // Those too who came in time to be taken and late to be listed.
            for (const auto& user : loop_->users()) user->tell<&core::stream_user::on_stop>();
            // What other threads say from now on has nobody to go to.
            loop_->end_posts();
            // The loop must not hold what holds the loop.
            loop_->when_empty(core::task{[weak = weak_from_this()] {
                const auto self = weak.lock();
                if (!self || !self->cut_) return;
                self->is_empty_ = true;
                self->cut_->cancel();
            }});
        }

        ARKE_COLD void cut() {
            if (tell_) {
                // The deadline came to meet those who were to be told late.
                const core::loop::turn guard{*loop_};
                for (const auto& user : loop_->users()) user->tell<&core::stream_user::on_stop>();
            }
            tell_.reset();
            cut_.reset();
            waiting_.clear();
            {
                const core::loop::turn guard{*loop_};
                loop_->when_empty(core::task{[] {}});
                for (const auto& user : loop_->users())
                    user->tell<&core::stream_user::on_end>(boost::asio::error::operation_aborted);
            }
            // On the loop that it lives on.
            if (end_->cluster && loop_->index() == 0) end_->cluster->close();
            auto* const own = owns_context_ ? &loop_->context() : nullptr;
            loop_->shut_down();
            if (own != nullptr) own->stop();
        }

        io::asio_loop_ptr loop_;
        bool owns_context_;
        bool is_empty_ = false;
        std::shared_ptr<teardown> end_;
        moment deadline_;
        moment told_by_;
        moment began_;
        std::vector<core::stream_user_ptr> waiting_;
        std::size_t told_ = 0;
        bool has_begun_ = false;
        std::optional<io::own_timer> cut_;
        std::optional<io::own_timer> tell_;
    };

    ARKE_COLD void wait_for_signal() {
        signals_->async_wait(loops_.front()->on_strand([self = weak_from_this()](const error_code& ec) {
            const auto s = ec ? nullptr : self.lock();
            if (!s) return;
            // Whoever presses Ctrl-C twice does not want to wait.
            s->wait_for_signal();
            if (std::exchange(s->signalled_, true)) {
                s->stop(std::chrono::milliseconds{0}, {});
            } else {
                s->stop({}, {});
            }
        }));
    }

    ARKE_COLD void check_not_serving(const char* what) const {
        if (serving_) {
            throw std::logic_error{std::string{"arke: "} + what +
                                   ": the server is serving; call it before run(), or before listen() "
                                   "when it lives in your io_context"};
        }
    }

    template <class Make>
    ARKE_COLD void add_acceptor(const char* what, security how, Make&& make) {
        if (how == security::tls && !tls_) {
            throw std::invalid_argument{std::string{"arke: "} + what +
                                        ": it is to speak TLS, and config.listener.tls has no certificate; add one"};
        }
        const std::lock_guard lock{parts_mutex_};
        if (stopped_.load())
            throw std::logic_error{std::string{"arke: "} + what + ": this server has been stopped; make a new one"};
        acceptors_.push_back(make(
            [s = site_, loops = shared_loops_, tls = how == security::plain ? nullptr : tls_](io::accepted a) {
                welcome(s, *loops, tls, std::move(a));
            },
            [first = site_->endpoints.front()](const std::string& sentence) { first->log(sentence); }));
        if (foreign_ != nullptr) serving_ = true;
    }

    ARKE_COLD void add_loop() {
        auto* context = foreign_;
        if (context == nullptr) context = contexts_.emplace_back(std::make_unique<boost::asio::io_context>(1)).get();
        auto made = io::make_loop(*context, loops_.size(), site_->listener, foreign_ == nullptr);
        for (auto& e : site_->endpoints) e->add_loop(*made);
        loops_.push_back(made);
        shared_loops_->push_back(std::move(made));
    }

    /// The same for one whose request somebody else has read. attach(loop, user) joins it to the loop that is chosen; dropped, it
    /// is closed.
    template <class Attach>
    ARKE_COLD void adopt(std::string address, std::uint16_t port, std::string bytes, Attach attach) {
        const std::lock_guard lock{parts_mutex_};
        if (stopped_.load()) return;
        if (foreign_ != nullptr) serving_ = true;
        const auto& s = site_;
        const auto room = s->room();
        auto& best = least_loaded(loops_);
        boost::intrusive_ptr<http::session> made{new http::session{s, best, address, port}};
        const auto refusal = room == core::server_load::place::none
                                 ? std::nullopt
                                 : s->enter(*made, address, room == core::server_load::place::refused);
        best.post([made, refusal, &best, bytes = std::move(bytes), attach = std::move(attach)]() mutable {
            best.counters().accepted.add();
            if (!refusal) return best.counters().turned_away.add();
            auto* const t = attach(best, made);
            if (t == nullptr) return;
            made->start_adopted(*t, *refusal);
            made->tell<&core::stream_user::on_bytes>(std::span<char>{bytes});
        });
    }

    ARKE_COLD static io::asio_loop& least_loaded(const loop_list& loops) noexcept {
        io::asio_loop* best = loops.front().get();
        for (const auto& l : loops) {
            if (l->load() < best->load()) best = l.get();
        }
        return *best;
    }

    /// A socket has come: the loop with the fewest takes it.
    ARKE_COLD static void welcome(const std::shared_ptr<http::site>& s, const loop_list& loops,
                                  const std::shared_ptr<io::tls_layer>& tls, io::accepted a) {
        const auto room = s->room();
        auto& counters = loops.front()->counters();
        counters.accepted.add();
        if (room == core::server_load::place::none || s->stopping.load(std::memory_order_relaxed))
            return counters.turned_away.add();
        auto* const best = &least_loaded(loops);
        const bool is_full = room == core::server_load::place::refused;
        if (s->listener.proxy_protocol && s->trusted.contains(std::string_view{a.address}))
            return wait_for_header(s, *best, tls, std::move(a), is_full);
        boost::intrusive_ptr<http::session> made{new http::session{s, *best, a.address, a.port}};
        const auto refusal = s->enter(*made, a.address, is_full);
        if (!refusal || (tls && !s->may_begin_tls(a.address, best->clock()))) return counters.turned_away.add();
        // The socket belongs to the post until it runs; a loop that has ended drops the post.
        best->post([made, refusal, best, tls, socket = std::move(a.socket)]() mutable {
            auto* t = best->attach(socket.take(), made);
            if (t == nullptr) return;
            try {
                if (tls) t = &tls->wrap(*best, *t, made);
            } catch (...) {
                return t->close(true);  // no memory for it
            }
            made->start(*t, *refusal);
        });
    }

    /// The same where the proxy says first who has come.
    ARKE_COLD static void wait_for_header(const std::shared_ptr<http::site>& s, io::asio_loop& on,
                                          const std::shared_ptr<io::tls_layer>& tls, io::accepted a, bool is_full) {
        auto begin = [s, &on, tls, own = io::remote_end{std::move(a.address), a.port}, is_full](
                         core::transport& t, const std::optional<wire::proxy_header_reader::address>& source,
                         std::span<char> rest, core::millis deadline) {
            const auto from = source ? io::remote_end{source->text, source->port} : own;
            boost::intrusive_ptr<http::session> made{new http::session{s, on, from.address, from.port}};
            const auto refusal = s->enter(*made, from.address, is_full);
            if (!refusal || (tls && !s->may_begin_tls(from.address, on.now()))) {
                on.counters().turned_away.add();
                return t.close(false);
            }
            // A proxy that names nobody also does so where it does not know who it was: the headers may be anybody's.
            if (!source) made->speaks_for_itself();
            core::stream_user* hears = made.get();
            auto* over = &t;
            if (tls) {
                over = &tls->wrap(on, t, made);
                hears = &dynamic_cast<core::stream_user&>(*over);
            } else {
                t.set_user(made);
            }
            made->start(*over, *refusal);
            on.timers().schedule(*made, std::min(made->due(), deadline));
            if (!rest.empty()) hears->tell<&core::stream_user::on_bytes>(rest);
        };
        boost::intrusive_ptr<core::proxy_gate> gate{new core::proxy_gate{on, s->load, std::move(begin)}};
        on.post([gate, &on, s, socket = std::move(a.socket)]() mutable {
            if (auto* t = on.attach(socket.take(), gate))
                gate->start(*t, on.clock() + s->listener.handshake_timeout.count());
        });
    }

    boost::asio::io_context* foreign_;
    std::vector<std::unique_ptr<boost::asio::io_context>> contexts_;
    std::shared_ptr<http::site> site_ = std::make_shared<http::site>();
    loop_list loops_;
    std::shared_ptr<loop_list> shared_loops_ = std::make_shared<loop_list>();
    std::vector<std::shared_ptr<io::acceptor>> acceptors_;
    std::optional<boost::asio::basic_signal_set<io::own_executor>> signals_;
    std::uint16_t port_ = 0;
    std::shared_ptr<io::tls_layer> tls_;  // null: all ports are plain
    std::mutex reload_mutex_;
    std::optional<tls_config> reloaded_;  // what reload() was given last
    std::mutex parts_mutex_;  // loops_ and acceptors_, between run() or listen() and a stop() in another thread
    std::atomic<bool> serving_{false};
    std::atomic<bool> stopped_{false};
    bool signalled_ = false;
    std::vector<std::weak_ptr<farewell>> goodbyes_;
};

ARKE_COLD_INLINE std::shared_ptr<server_state> make_server(boost::asio::io_context* context,
                                                           const core::endpoint_ptr& first) {
    return std::make_shared<server_state>(context, first);
}

ARKE_COLD_INLINE void add_endpoint(server_state& s, const core::endpoint_ptr& added) { s.add_endpoint(added); }

ARKE_COLD_INLINE core::cluster_place cluster_place_of(const server_state& s) { return s.cluster_place(); }

ARKE_COLD_INLINE void join_cluster(server_state& s, std::shared_ptr<core::cluster_member> as) {
    s.join_cluster(std::move(as));
}

ARKE_COLD_INLINE std::shared_ptr<core::cluster_member> cluster_of(const server_state& s) { return s.cluster(); }

ARKE_COLD_INLINE void add_files(server_state& s, std::string prefix, const std::string& folder) {
    s.add_files(std::move(prefix), folder);
}

ARKE_COLD_INLINE void add_route(server_state& s, std::string_view method, std::string path,
                                std::unique_ptr<http::route_handler> handler) {
    s.add_route(method, std::move(path), std::move(handler));
}

ARKE_COLD_INLINE void listen(server_state& s, const std::string& address, int port, security how) {
    s.listen(address, port, how);
}

ARKE_COLD_INLINE void reload(server_state& s, std::optional<tls_config> with) { s.reload(std::move(with)); }

ARKE_COLD_INLINE void listen_unix(server_state& s, const std::string& path, unsigned mode, security how) {
    s.listen_unix(path, mode, how);
}

ARKE_COLD_INLINE void adopt_socket(server_state& s, std::uintptr_t socket, std::string bytes) {
    s.adopt_socket(static_cast<io::native_socket>(socket), std::move(bytes));
}

ARKE_COLD_INLINE void adopt_stream(server_state& s, std::shared_ptr<core::byte_stream> stream, stream_address from,
                                   std::string bytes) {
    s.adopt_stream(std::move(stream), std::move(from), std::move(bytes));
}

ARKE_COLD_INLINE std::uint16_t port_of(const server_state& s) noexcept { return s.port(); }

ARKE_COLD_INLINE loop_kind loop_of(const server_state& s) noexcept { return s.first_loop().kind(); }

ARKE_COLD_INLINE metrics metrics_of(const server_state& s) { return s.metrics(); }

ARKE_COLD_INLINE void run(std::shared_ptr<server_state> s, unsigned threads) { s->run(threads); }

ARKE_COLD_INLINE void stop(server_state& s, std::optional<std::chrono::milliseconds> timeout,
                           std::optional<std::chrono::milliseconds> spread) {
    s.stop(timeout, spread);
}

ARKE_COLD_INLINE void abandon(std::shared_ptr<server_state> s) noexcept { s->abandon(); }

template <class Executor>
Executor executor_of(const core::loop& l) {
    return static_cast<const io::asio_loop&>(l).get_executor<Executor>();
}

template <class Executor>
Executor executor_of(const server_state& s) {
    return s.first_loop().get_executor<Executor>();
}

}  // namespace arke::detail

namespace arke {

// Here, because it is of the sockets, which connection.hpp does not see.
template <class Executor>
Executor connection::get_executor() const {
    return static_cast<const io::asio_loop&>(on_loop()).get_executor<Executor>();
}

#ifdef ARKE_SEPARATE_COMPILATION
template boost::asio::any_io_executor detail::executor_of<boost::asio::any_io_executor>(const detail::server_state&);
template boost::asio::any_io_executor detail::executor_of<boost::asio::any_io_executor>(const core::loop&);
template boost::asio::any_io_executor connection::get_executor<boost::asio::any_io_executor>() const;
#endif

}  // namespace arke
