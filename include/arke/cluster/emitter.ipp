#pragma once

#include <arke/cluster/emitter.hpp>
#include <arke/event/arke_v1_protocol.hpp>

#include <boost/asio/executor_work_guard.hpp>

#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <stdexcept>
#include <thread>

namespace arke::cluster {

namespace detail {

/// A loop that has no sockets: turns, posts and a clock.
class bare_loop final : public io::asio_loop {
public:
    explicit bare_loop(boost::asio::io_context& context) : asio_loop{context, 0, listener_config{}} {}
    loop_kind kind() const noexcept override { return loop_kind::portable; }
    core::transport* attach(io::native_socket, core::stream_user_ptr) override { return nullptr; }

private:
    void add_users(std::vector<core::stream_user_ptr>&) const override {}
};

}  // namespace detail

class emitter_state {
public:
    ARKE_COLD emitter_state(boost::asio::io_context* context, std::unique_ptr<backplane> carrier,
                            emitter_config settings)
        : endpoint{std::move(settings.endpoint)}, has_binary_messages{settings.binary_messages} {
        if (context == nullptr) {
            own_ = std::make_shared<boost::asio::io_context>(1);
            context = own_.get();
        }
        if (!own_) carrier->end_without_waiting();
        loop_.reset(new detail::bare_loop{*context});
        const core::cluster_place place{core::loop_ptr{loop_.get()}, {}, nullptr};
        if (!settings.log) settings.log = [](std::string_view) {};
        node = std::make_shared<server_node>(place, std::move(carrier), std::move(settings.cluster),
                                             std::move(settings.log));
        std::unique_ptr<ending> last{new ending{node, loop_, own_.get()}};
        ends_.emplace(*context);
        ends_->expires_at(io::own_timer::time_point::max());
        ends_->async_wait(loop_->on_strand([last = std::move(last)]() mutable { last.reset(); }));
        node->begin(place);
        if (!own_) return;
        work_.emplace(boost::asio::make_work_guard(*context));
        thread_ = std::thread{[context = own_] {
            // Without memory something is lost, and the rest goes on.
            while (!context->stopped()) {
                try {
                    context->run();
                } catch (...) {
                }
            }
        }};
    }
    emitter_state(const emitter_state&) = delete;
    emitter_state& operator=(const emitter_state&) = delete;
    ~emitter_state() { end(); }

    /// Nothing is said any more. Once; a target that somebody keeps does not keep it alive.
    ARKE_COLD void end() noexcept {
        if (is_ended_.exchange(true)) return;
        ends_.reset();
        work_.reset();
        if (!thread_.joinable()) return;
        if (can_wait())
            thread_.join();
        else
            thread_.detach();
    }

    /// Whether it has a thread, and that is another than the one that asks: it can wait for it.
    bool can_wait() const noexcept { return own_ && thread_.get_id() != std::this_thread::get_id(); }

    ARKE_COLD bool flush(std::chrono::milliseconds timeout) {
        struct outcome {
            std::promise<bool> taken;
        };
        const auto said = std::make_shared<outcome>();
        auto taken = said->taken.get_future();
        node->node().await(node::milestone::taken, timeout, [said](bool in_time) { said->taken.set_value(in_time); });
        const bool in_time = taken.wait_for(timeout) == std::future_status::ready && taken.get();
        const auto m = metrics();
        const auto unheard = m.dropped + m.too_big + m.lost;
        return unheard_.exchange(unheard) == unheard && in_time;
    }

    ARKE_COLD cluster_metrics metrics() const {
        cluster_metrics made;
        node->node().add_metrics(made);
        return made;
    }

private:
    std::shared_ptr<boost::asio::io_context> own_;  // the thread's, too; the others are in it

public:
    const std::string endpoint;
    const bool has_binary_messages;
    std::shared_ptr<server_node> node;

private:
    /// What is done last: on the loop, or with the io_context that ends before.
    struct ending {
        std::shared_ptr<server_node> of;
        io::asio_loop_ptr loop;
        boost::asio::io_context* own;
        ~ending() {
            of->close();
            loop->shut_down();
            if (own != nullptr) own->stop();
        }
    };

    io::asio_loop_ptr loop_;
    std::optional<io::own_timer> ends_;  // never due: its end has the ending done, and needs no memory for that
    std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> work_;
    std::thread thread_;
    std::atomic<bool> is_ended_{false};
    std::atomic<std::uint64_t> unheard_{0};
};

ARKE_INLINE void deliver(const emitter_state& by, const core::address& to, const outgoing& out) {
    static const arke_v1_protocol protocol;
    std::string why;
    if (!protocol.measure(out, why)) throw std::invalid_argument{why};
    by.node->node().deliver(nullptr, by.endpoint, to, out);
}

ARKE_COLD_INLINE void act(const emitter_state& by, const core::address& to, const core::action& what) {
    by.node->node().act(nullptr, by.endpoint, to, what);
}

ARKE_COLD_INLINE bool binary_messages(const emitter_state& by) noexcept { return by.has_binary_messages; }

}  // namespace arke::cluster

namespace arke {

ARKE_COLD_INLINE emitter::emitter(boost::asio::io_context* context, std::unique_ptr<backplane> carrier,
                                  emitter_config settings)
    : state_{std::make_shared<cluster::emitter_state>(context, std::move(carrier), std::move(settings))} {}

ARKE_COLD_INLINE emitter::~emitter() {
    if (!state_) return;
    try {
        if (state_->can_wait()) static_cast<void>(flush(std::chrono::seconds{1}));
    } catch (...) {
        // No memory to wait with.
    }
    state_->end();
}

ARKE_COLD_INLINE emitter_servers emitter::servers(std::string_view one) const {
    return emitter_servers{state_->node, one};
}

ARKE_COLD_INLINE bool emitter::flush(std::chrono::milliseconds timeout) const {
    return state_->flush(std::max(timeout, std::chrono::milliseconds{1}));
}

ARKE_COLD_INLINE cluster_state emitter::state() const { return state_->node->node().state(); }

ARKE_COLD_INLINE cluster_metrics emitter::metrics() const { return state_->metrics(); }

}  // namespace arke
