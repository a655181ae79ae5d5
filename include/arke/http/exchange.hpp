#pragma once

#include <arke/base/compile.hpp>
#include <arke/core/loop.hpp>
#include <arke/http/request.hpp>
#include <arke/http/response.hpp>

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <exception>
#include <functional>
#include <utility>

namespace arke::http {

/// A request that waits for its handler, who may be a coroutine that outlives the connection: whoever runs it holds this.
///
/// Threads: request() any; settle() on the loop, in a turn or between turns.
class exchange : public boost::intrusive_ref_counter<exchange, boost::thread_safe_counter> {
public:
    /// What became of it: an answer, unless an exception is given.
    using settled = std::function<void(const http_request& asked, response answer, const std::exception_ptr& thrown)>;

    exchange(core::loop& on, http_request asked, settled then)
        : loop_{&on}, request_{std::move(asked)}, then_{std::move(then)} {}

    const http_request& request() const noexcept { return request_; }
    core::loop& on_loop() const noexcept { return *loop_; }

    /// The handler has ended. Once; whoever asked hears of it, if anybody still does.
    void settle(response answer, const std::exception_ptr& thrown = {}) {
        loop_->dispatch([self = boost::intrusive_ptr<exchange>{this}, answer = std::move(answer), thrown]() mutable {
            const auto then = std::exchange(self->then_, nullptr);
            if (then) then(self->request_, std::move(answer), thrown);
        });
    }

private:
    boost::intrusive_ptr<core::loop> loop_;
    http_request request_;
    settled then_;
};

using exchange_ptr = boost::intrusive_ptr<exchange>;

/// What answers the requests of a route. On all loops, at the same time.
class route_handler {
public:
    virtual ~route_handler() = default;

    /// Has exchange::settle() called, now or later. May throw instead.
    virtual void run(const exchange_ptr& what) = 0;
};

}  // namespace arke::http
