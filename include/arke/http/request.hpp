#pragma once

#include <arke/base/compile.hpp>
#include <arke/event/value.hpp>
#include <arke/http/response.hpp>
#include <arke/wire/request.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace arke {

/// A request that a route answers: what the client asked for, and its body.
///
/// Threads: const functions from any. It lives as long as the handler runs, a coroutine included.
class http_request : public request {
public:
    /// `below`: how much of the path's end a route with "/*" leaves open.
    http_request(request head, std::string body, std::size_t below = 0, unsigned max_json_depth = 128)
        : request{std::move(head)}, body_{std::move(body)}, below_{below}, max_json_depth_{max_json_depth} {}

    /// What came as the body; empty where there was none. At most config.listener.max_body_size.
    std::string_view body() const noexcept { return body_; }

    /// What stands in the place of the star: of a route "/files/*" and the path "/files/a/b" it is "a/b". Still encoded, and
    /// whatever the client likes: don't open files by it.
    std::string_view below() const noexcept { return path().substr(path().size() - below_); }

    /// The body as a T, read from JSON.
    ///
    ///     auto wanted = r.json<order>();
    ///
    /// Throws http_error of 400 when it is none, or does not convert: what a handler lets through is answered so.
    template <class T = nlohmann::json>
    T json() const {
        nlohmann::json source;
        std::optional<T> value;
        std::string why;
        const event_view data{"", value_kind::json, body_};
        if (!detail::read_json(data, decode_limits{max_json_depth_}, source, value, why))
            throw http_error{400, "The body of the request does not fit: " + why + "."};
        return std::move(*value);
    }

private:
    std::string body_;
    std::size_t below_;
    unsigned max_json_depth_;
};

}  // namespace arke
