#pragma once

#include <arke/http/session.hpp>
#include <arke/io/acceptor.hpp>
#include <arke/io/make_loop.hpp>
#include <arke/server.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/signal_set.hpp>

#include <csignal>
#include <mutex>
#include <thread>

namespace arke::detail {

/// What a server is made of. Operations of its loops refer to the loops and to the site, never to this: so it goes with the
/// server and with run(), and takes the loops down when nothing runs them any more.
class server_state : public std::enable_shared_from_this<server_state> {
public:
    ARKE_COLD server_state(boost::asio::io_context* context, const core::endpoint_ptr& first) : foreign_{context} {
        site_->listener = first->settings().listener;
        site_->endpoints.push_back(first);
        first->share_count(site_->connections);
        add_loop();
    }

    ARKE_COLD ~server_state() {
        // Nothing runs our own loops any more. With a caller's io_context, other threads may: what stop() has posted there ends
        // them.
        if (foreign_ == nullptr) const teardown now{acceptors_, loops_, site_->endpoints};
    }

    ARKE_COLD void add_endpoint(const core::endpoint_ptr& added) {
        check_not_serving("endpoint()");
        if (site_->endpoint_at(added->settings().endpoint) != nullptr) {
            throw std::invalid_argument{"arke: endpoint(): \"" + added->settings().endpoint +
                                        "\" is there already; choose another path"};
        }
        for (auto& l : loops_) added->add_loop(*l);
        added->share_count(site_->connections);
        site_->endpoints.push_back(added);
    }

    ARKE_COLD void add_files(std::string prefix, const std::string& folder) {
        check_not_serving("files()");
        site_->folders.push_back(std::make_unique<http::file_folder>(std::move(prefix), folder));
    }

    ARKE_COLD void listen(const std::string& address, int port) {
        if (port < 0 || port > 65535) {
            throw std::invalid_argument{"arke: listen(): " + std::to_string(port) +
                                        " is no port; give one from 1 to 65535, or 0 for any free one"};
        }
        const std::lock_guard lock{parts_mutex_};
        if (stopped_.load()) throw std::logic_error{"arke: listen(): this server has been stopped; make a new one"};
        auto loops = shared_loops_;
        auto made = io::acceptor::listen(
            *loops_.front(), address, static_cast<std::uint16_t>(port), site_->listener,
            [s = site_, loops](io::accepted a) { welcome(s, *loops, std::move(a)); },
            [first = site_->endpoints.front()](const std::string& sentence) { first->log(sentence); });
        port_ = made->port();
        acceptors_.push_back(std::move(made));
        if (foreign_ != nullptr) serving_ = true;
    }

    std::uint16_t port() const noexcept { return port_; }

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
            signals_->async_wait(loops_.front()->on_strand([self = weak_from_this()](const error_code& ec) {
                if (ec) return;
                if (const auto s = self.lock()) s->stop();
            }));
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

    ARKE_COLD void stop() {
        std::shared_ptr<teardown> end;
        {
            const std::lock_guard lock{parts_mutex_};
            if (stopped_.exchange(true)) return;
            end = std::make_shared<teardown>(acceptors_, loops_, site_->endpoints);
        }
        site_->stopping = true;
        // The acceptors live on the first loop's strand.
        end->loops.front()->post_to_strand([end] {
            for (const auto& a : end->acceptors) a->close();
        });
        for (const auto& l : end->loops) stop_loop(l, end);
    }

    /// The server object goes: whatever still runs ends by itself.
    void abandon() { stop(); }

    const io::asio_loop& first_loop() const noexcept { return *loops_.front(); }

private:
    using loop_list = std::vector<io::asio_loop_ptr>;

    /// Takes the loops down when it is destroyed: by the last operation of the stop, or by the io_context that is destroyed
    /// before it came to that.
    struct teardown {
        std::vector<std::shared_ptr<io::acceptor>> acceptors;
        loop_list loops;
        std::vector<core::endpoint_ptr> endpoints;

        teardown(std::vector<std::shared_ptr<io::acceptor>> a, loop_list l, std::vector<core::endpoint_ptr> e)
            : acceptors{std::move(a)}, loops{std::move(l)}, endpoints{std::move(e)} {}
        teardown(const teardown&) = delete;
        teardown& operator=(const teardown&) = delete;
        ARKE_COLD ~teardown() {
            for (const auto& a : acceptors) a->close();
            for (const auto& l : loops) l->shut_down();
            for (const auto& e : endpoints) e->clear();
        }
    };

    ARKE_COLD void check_not_serving(const char* what) const {
        if (serving_) {
            throw std::logic_error{std::string{"arke: "} + what +
                                   ": the server is serving; call it before run(), or before listen() "
                                   "when it lives in your io_context"};
        }
    }

    ARKE_COLD void add_loop() {
        auto* context = foreign_;
        if (context == nullptr) context = contexts_.emplace_back(std::make_unique<boost::asio::io_context>(1)).get();
        auto made = io::make_loop(*context, loops_.size(), site_->listener, foreign_ == nullptr);
        for (auto& e : site_->endpoints) e->add_loop(*made);
        loops_.push_back(made);
        shared_loops_->push_back(std::move(made));
    }

    /// A socket has come: the loop with the fewest takes it.
    ARKE_COLD static void welcome(const std::shared_ptr<http::site>& s, const loop_list& loops, io::accepted a) {
        const auto there = s->connections->load(std::memory_order_relaxed);
        const auto most = s->listener.max_connections;
        // Some more are told that it is full; past that there is not even time for an answer.
        constexpr std::size_t polite = 1024;
        if (there >= most + polite || s->stopping.load(std::memory_order_relaxed)) return io::close_socket(a.socket);
        const bool full = there >= most;
        io::asio_loop* best = loops.front().get();
        for (const auto& l : loops) {
            if (l->load() < best->load()) best = l.get();
        }
        boost::intrusive_ptr<http::session> made{new http::session{s, *best, std::move(a.address), a.port}};
        // The socket belongs to the post until it runs; a loop that has ended drops the post.
        struct owned {
            io::native_socket socket;
            bool taken = false;
            explicit owned(io::native_socket of) : socket{of} {}
            owned(const owned&) = delete;
            owned& operator=(const owned&) = delete;
            ~owned() {
                if (!taken) io::close_socket(socket);
            }
        };
        auto holder = std::make_unique<owned>(a.socket);
        best->post([made, full, best, holder = std::move(holder)]() mutable {
            holder->taken = true;
            if (auto* t = best->attach(holder->socket, made)) made->start(*t, full);
        });
    }

    ARKE_COLD void stop_loop(const io::asio_loop_ptr& l, const std::shared_ptr<teardown>& end) {
        const auto deadline = site_->listener.stop_timeout;
        boost::asio::io_context* const own = foreign_ == nullptr ? &l->context() : nullptr;
        l->post_to_strand([l = l, own, deadline, end = end] {
            const auto timer = std::make_shared<io::own_timer>(l->context(), deadline);
            timer->async_wait(l->on_strand([l = l, own, timer = timer, end = end](const error_code&) {
                {
                    const core::loop::turn guard{*l};
                    for (const auto& user : l->users()) user->on_end(boost::asio::error::operation_aborted);
                }
                l->shut_down();
                if (own != nullptr) own->stop();
            }));
            // The turn begins with what was said before the stop; what other threads say from now on has nobody to go to.
            const core::loop::turn guard{*l};
            l->end_posts();
            for (const auto& user : l->users()) user->on_stop();
            l->when_empty(core::task{[timer] { timer->cancel(); }});
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
    std::mutex parts_mutex_;  // loops_ and acceptors_, between run() or listen() and a stop() in another thread
    std::atomic<bool> serving_{false};
    std::atomic<bool> stopped_{false};
};

ARKE_COLD_INLINE std::shared_ptr<server_state> make_server(boost::asio::io_context* context,
                                                           const core::endpoint_ptr& first) {
    return std::make_shared<server_state>(context, first);
}

ARKE_COLD_INLINE void add_endpoint(server_state& s, const core::endpoint_ptr& added) { s.add_endpoint(added); }

ARKE_COLD_INLINE void add_files(server_state& s, std::string prefix, const std::string& folder) {
    s.add_files(std::move(prefix), folder);
}

ARKE_COLD_INLINE void listen(server_state& s, const std::string& address, int port) { s.listen(address, port); }

ARKE_COLD_INLINE std::uint16_t port_of(const server_state& s) noexcept { return s.port(); }

ARKE_COLD_INLINE loop_kind loop_of(const server_state& s) noexcept { return s.first_loop().kind(); }

ARKE_COLD_INLINE void run(std::shared_ptr<server_state> s, unsigned threads) { s->run(threads); }

ARKE_COLD_INLINE void stop(server_state& s) { s.stop(); }

ARKE_COLD_INLINE void abandon(std::shared_ptr<server_state> s) noexcept { s->abandon(); }

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
template boost::asio::any_io_executor connection::get_executor<boost::asio::any_io_executor>() const;
#endif

}  // namespace arke
