#pragma once

#include <arke/base/compile.hpp>
#include <arke/core/handlers.hpp>
#include <arke/core/loop.hpp>
#include <arke/http/response.hpp>
#include <arke/wire/request.hpp>

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace arke {

/// A WebSocket upgrade that on_upgrade() decides about: what was asked for, and what will be answered.
///
///     server.on_upgrade([](arke::upgrade& u) -> boost::asio::awaitable<void> {
///         const auto user = co_await look_up(u.request().query("token").value_or(""));
///         if (!user) u.refuse(401, "Sign in first.");
///         else u.set_id(user->name);
///     });
///
/// Threads: the loop's. It lives as long as the handler runs, a coroutine included; a client that leaves meanwhile is forgotten,
/// and what is set here then has no effect.
class upgrade : public boost::intrusive_ref_counter<upgrade, boost::thread_safe_counter> {
public:
    /// What became of it, unless an exception is given.
    using settled = std::function<void(upgrade&, const std::exception_ptr& thrown)>;

    upgrade(core::loop& on, arke::request asked, std::optional<std::string> chosen, settled then)
        : loop_{&on}, request_{std::move(asked)}, subprotocol_{std::move(chosen)}, then_{std::move(then)} {}
    upgrade(const upgrade&) = delete;
    upgrade& operator=(const upgrade&) = delete;
    virtual ~upgrade() = default;

    const arke::request& request() const noexcept { return request_; }

    /// The subprotocols that the client offers, the one it likes best first.
    std::vector<std::string> subprotocols() const;

    /// The one that will be spoken: the first of the client's that the config lists, unless choose() takes another.
    const std::optional<std::string>& subprotocol() const noexcept { return subprotocol_; }

    /// Takes another of those that the client offers, whether the config lists it or not. Throws std::invalid_argument for one
    /// that was not offered: a client ends the connection then.
    void choose(std::string_view name);

    /// The id of the connection, instead of id_generator's. What happens to one that is in use, config::on_duplicate_id says.
    void set_id(std::string id);
    const std::string& id() const noexcept { return id_; }

    /// Adds a header to the answer that accepts. Throws std::invalid_argument as response::header() does.
    void add_header(std::string_view name, std::string_view value);
    void cookie(std::string_view name, std::string_view value, const cookie_options& how = {});

    /// There will be no connection: the client is answered so, and its connection ends.
    void refuse(int status, std::string_view sentence = {}) { refuse(response::error(status, sentence)); }
    void refuse(response answer) { refusal_ = std::move(answer); }
    bool is_refused() const noexcept { return refusal_.has_value(); }

    // --- for the HTTP session

    const std::optional<response>& refusal() const noexcept { return refusal_; }
    const std::vector<std::pair<std::string, std::string>>& headers() const noexcept { return headers_; }
    core::loop& on_loop() const noexcept { return *loop_; }

    /// The data of the connection's user, to be moved from; null where there is none.
    virtual void* own_session() noexcept { return nullptr; }

    /// The handler has ended. Once; on the loop, in a turn or between turns.
    void settle(const std::exception_ptr& thrown = {}) {
        loop_->dispatch([self = boost::intrusive_ptr<upgrade>{this}, thrown] {
            const auto then = std::exchange(self->then_, nullptr);
            if (then) then(*self, thrown);
        });
    }

private:
    boost::intrusive_ptr<core::loop> loop_;
    arke::request request_;
    std::optional<std::string> subprotocol_;
    settled then_;
    std::string id_;
    std::vector<std::pair<std::string, std::string>> headers_;
    std::optional<response> refusal_;
};

/// The same for an endpoint whose connections have data of the user's: it can be filled before there is a connection.
template <class Session>
class basic_upgrade final : public upgrade {
public:
    using upgrade::upgrade;

    /// What connection.session() will be.
    Session& session() noexcept {
        static_assert(
            std::is_move_assignable_v<Session>,
            "arke: a session that on_upgrade() fills is moved into its connection: give it a move assignment, "
            "or keep what cannot be moved by std::unique_ptr.");
        return session_;
    }

    void* own_session() noexcept override { return std::is_move_assignable_v<Session> ? &session_ : nullptr; }

private:
    Session session_{};
};

namespace http {

using upgrade_ptr = boost::intrusive_ptr<upgrade>;

/// What decides about the upgrades of an endpoint: core::handler_set::upgrade is one. On all loops, at the same time.
class upgrade_handler : public handler_base {
public:
    virtual upgrade_ptr make(core::loop& on, request asked, std::optional<std::string> chosen,
                             upgrade::settled then) const = 0;

    /// Has upgrade::settle() called, now or later. May throw instead.
    virtual void run(const upgrade_ptr& what) = 0;
};

}  // namespace http
}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/upgrade_call.ipp>
#endif
