#pragma once

#include <arke/base/compile.hpp>

#include <nlohmann/json.hpp>

#include <chrono>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace arke {

/// A handler that throws one has it answered: this status, and the text, which the client reads. Whatever else a handler throws
/// is a 500 whose reason only the log hears.
class http_error : public std::runtime_error {
public:
    /// Throws std::invalid_argument for a status outside of 400 to 599.
    http_error(int status, const std::string& text);

    int status() const noexcept { return status_; }

private:
    int status_;
};

/// How a cookie is kept. The defaults are the careful ones, but for `secure`, which a server without TLS could not test.
struct cookie_options {
    std::string path = "/";
    std::optional<std::chrono::seconds> max_age{};  ///< Unset: until the browser is closed. Zero: it is taken back.
    std::string domain{};                           ///< Empty: this host alone.
    std::string same_site = "Lax";                  ///< "Strict", "Lax" or "None"; empty: the browser's choice.
    bool http_only = true;                          ///< Scripts do not see it.
    bool secure = false;                            ///< Sent over TLS only. Set it wherever there is TLS.
};

/// An answer of HTTP: a status, headers, and a body.
///
///     return arke::response::json({{"price", 42}});
///     return arke::response::text("no such order", 404);
///     return arke::response::redirect("/login").cookie("seen", "1");
///
/// What is set is checked where it is set: a name that is no token, or a value with CR, LF or NUL, throws
/// std::invalid_argument. Content-Length, Connection, Transfer-Encoding and Date are the server's.
class response {
public:
    /// Without a body. Throws std::invalid_argument for a status outside of 200 to 599.
    explicit response(int status = 200);

    static response text(std::string body, int status = 200);
    static response html(std::string body, int status = 200);

    /// Anything that nlohmann::json is made of; a std::string becomes a JSON string.
    static response json(const nlohmann::json& value, int status = 200);

    /// A file, in parts as the client takes them. Its type is known by the end of its name; Range and the conditions of the
    /// request are heard. 404 when it is not there. Never a path that a client has chosen: server.files() is for that.
    static response file(std::filesystem::path path);

    /// 303: get that instead. For ever, and with the same method: 308.
    static response redirect(std::string_view location, int status = 303);

    /// A status of 400 or more, with its phrase and a sentence for a person.
    static response error(int status, std::string_view sentence = {});

    int status() const noexcept { return status_; }
    response& status(int status) &;
    response&& status(int status) && { return std::move(this->status(status)); }

    /// Sets a header in place of those of its name.
    response& header(std::string_view name, std::string_view value) &;
    response&& header(std::string_view name, std::string_view value) && { return std::move(header(name, value)); }

    /// The value of a header, whatever the case of its name; empty when there is none.
    std::string_view header(std::string_view name) const noexcept;

    /// Adds a header beside those of its name.
    response& add_header(std::string_view name, std::string_view value) &;
    response&& add_header(std::string_view name, std::string_view value) && {
        return std::move(add_header(name, value));
    }

    /// Adds a Set-Cookie. A value may hold what a cookie may: no space, quote, comma, semicolon or backslash.
    response& cookie(std::string_view name, std::string_view value, const cookie_options& how = {}) &;
    response&& cookie(std::string_view name, std::string_view value, const cookie_options& how = {}) && {
        return std::move(cookie(name, value, how));
    }

    const std::string& body() const noexcept { return body_; }
    response& body(std::string body) & {
        body_ = std::move(body);
        return *this;
    }
    response&& body(std::string body) && { return std::move(this->body(std::move(body))); }

    const std::vector<std::pair<std::string, std::string>>& headers() const noexcept { return headers_; }

    /// The file that is the body; empty where there is none.
    const std::filesystem::path& path() const noexcept { return path_; }

private:
    int status_;
    std::vector<std::pair<std::string, std::string>> headers_;
    std::string body_;
    std::filesystem::path path_;
};

namespace detail {

/// Throws std::invalid_argument with a sentence that begins with `what`, unless it may be sent as a header of an application.
void check_header(std::string_view what, std::string_view name, std::string_view value);

/// "name=value; Path=/; HttpOnly", checked in the same way.
std::string cookie_text(std::string_view name, std::string_view value, const cookie_options& how);

}  // namespace detail
}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/response.ipp>
#endif
