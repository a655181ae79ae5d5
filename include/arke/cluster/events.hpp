#pragma once

#include <arke/cluster/node.hpp>
#include <arke/core/handlers.hpp>
#include <arke/event/handler.hpp>
#include <arke/io/asio_loop.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace arke::cluster {

/// A handler of an event that another server sends: node_info stands where a connection stands elsewhere.
using server_event_handler = basic_event_handler<node_info>;

/// A handler of the state.
class state_handler : public handler_base {
public:
    virtual void run(const cluster_state& state) = 0;
};

/// What the handlers of a server need to be told and to answer.
class server_events {
public:
    /// Everything given outlives this, but for the loop's end. `log` is called on the loop.
    server_events(cluster::node& n, io::asio_loop& on, std::size_t max_running, unsigned max_json_depth,
                  std::function<void(std::string_view)> log)
        : node_{n}, loop_{on}, max_running_{max_running}, limits_{max_json_depth}, log_{std::move(log)} {}
    server_events(const server_events&) = delete;
    server_events& operator=(const server_events&) = delete;

    // --- any thread

    /// Throws as connection::on(): one handler of an event may answer.
    handler_id add(std::string_view event, boost::intrusive_ptr<server_event_handler> handler);
    handler_id add(boost::intrusive_ptr<state_handler> handler);
    bool off(handler_id handler);

    /// Lets go of all handlers, which may hold what holds this.
    void clear();

    std::uint64_t unhandled() const noexcept { return unhandled_.load(std::memory_order_relaxed); }

    // --- on the loop, in a turn

    /// `self` is this, or something that holds it: coroutines keep it.
    static void heard(const std::shared_ptr<server_events>& self, const node_info& from, const envelope& e);
    void state_changed(const cluster_state& state);

private:
    friend class heard_event;
    friend class running_handler;

    // Never changed, but replaced: what runs is a table that nobody touches.
    struct table {
        std::unordered_map<std::string, core::handler_list<server_event_handler>, core::name_hash, std::equal_to<>>
            events;
        core::handler_list<state_handler> state;
        std::uint64_t last_id = 0;
    };
    std::shared_ptr<const table> current() const {
        const std::lock_guard lock{mutex_};
        return table_;
    }
    bool has_answer(std::string_view event) const;
    void raise(const node_info& from, std::string_view event, error_code code, std::string_view detail) const;

    cluster::node& node_;
    io::asio_loop& loop_;
    std::size_t max_running_;
    decode_limits limits_;
    std::function<void(std::string_view)> log_;
    mutable std::mutex mutex_;
    std::shared_ptr<const table> table_ = std::make_shared<table>();
    std::atomic<std::uint64_t> unhandled_{0};
    std::size_t running_ = 0;  // coroutines; on the loop
};

/// One event of another server, while handlers run, and until the coroutine that answers it has ended. Handlers see the node_info.
class heard_event final : public node_info, public answer_sink, public std::enable_shared_from_this<heard_event> {
public:
    heard_event(std::shared_ptr<server_events> in, const node_info& from, const envelope& e)
        : node_info{from}, in_{std::move(in)}, name_{e.what.event.name}, number_{e.number} {
        if (is_asked()) asker_ = e.tag;
    }

    const std::string& event() const noexcept { return name_; }
    bool is_asked() const noexcept { return number_ != 0; }

    void answer(value_kind kind, std::string_view data) override;
    void refuse(refusal_reason reason, std::string_view text) override;

    /// A handler failed: what is told when nobody answers.
    void note(refusal_reason reason, std::string_view text);

    /// All handlers have run.
    void settle(bool heard);

private:
    friend class running_handler;
    bool close() noexcept { return std::exchange(is_open_, false) && is_asked(); }
    void send(envelope e);

    std::shared_ptr<server_events> in_;
    std::string name_;
    std::string asker_;
    std::uint64_t number_;
    bool is_open_ = true;
    bool is_postponed_ = false;
    bool answers_later_ = false;
    std::optional<refusal_reason> noted_;
    std::string noted_text_;
};

/// A coroutine handler that runs: keeps the event, and its handler.
class running_handler {
public:
    /// Null where too many run, which is logged, and told to who asked.
    static std::shared_ptr<heard_event> may_begin(const basic_event_call<node_info>& call);

    running_handler(boost::intrusive_ptr<handler_base> keep, std::shared_ptr<heard_event> of, bool answers);
    running_handler(running_handler&&) noexcept = default;
    running_handler& operator=(running_handler&&) = delete;
    ~running_handler();

    boost::asio::any_io_executor executor() const {
        return event_->in_->loop_.get_executor<boost::asio::any_io_executor>();
    }

    /// On the loop's executor.
    template <class Give>
    void end(std::exception_ptr thrown, Give&& give) {
        const auto of = std::move(event_);
        of->in_->loop_.dispatch([&] { finish(*of, thrown, [&](answer_sink& to) { give(to); }); });
    }

private:
    void finish(heard_event& of, const std::exception_ptr& thrown, const std::function<void(answer_sink&)>& give) const;

    boost::intrusive_ptr<handler_base> handler_;
    std::shared_ptr<heard_event> event_;
    bool is_answer_ = false;
};

}  // namespace arke::cluster

namespace arke::detail {

template <>
struct coroutine_runner<node_info> {
    template <class Make>
    static void start(boost::intrusive_ptr<handler_base> keep, basic_event_call<node_info>& call, Make&& make) {
        using awaitable = std::invoke_result_t<Make&>;
        using result = typename awaitable::value_type;
        auto of = cluster::running_handler::may_begin(call);
        if (!of) return;
        auto work = make();  // may throw, where it is a plain function that returns what others have made
        cluster::running_handler runs{std::move(keep), std::move(of), !std::is_void_v<result>};
        auto on = runs.executor();
        if constexpr (std::is_void_v<result>) {
            boost::asio::co_spawn(
                std::move(on), std::move(work), [runs = std::move(runs)](std::exception_ptr thrown) mutable {
                    runs.end(std::move(thrown), [](answer_sink& to) { to.answer(value_kind::nothing, {}); });
                });
        } else {
            boost::asio::co_spawn(std::move(on), std::move(work),
                                  [runs = std::move(runs)](std::exception_ptr thrown, result value) mutable {
                                      runs.end(std::move(thrown),
                                               [&value](answer_sink& to) { give_answer(to, std::as_const(value)); });
                                  });
        }
    }
};

}  // namespace arke::detail

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/cluster/events.ipp>
#endif
