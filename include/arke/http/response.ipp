#pragma once

#include <arke/event/value.hpp>
#include <arke/http/response.hpp>
#include <arke/wire/handshake.hpp>

#include <algorithm>
#include <array>

namespace arke {

namespace detail {

ARKE_COLD_INLINE void check_header(std::string_view what, std::string_view name, std::string_view value) {
    const auto refuse = [&](std::string_view why) {
        throw std::invalid_argument{"arke: " + std::string{what} + ": " + std::string{why}};
    };
    if (!wire::is_token(name)) refuse("the name " + printable(name) + " is none; use letters, digits and -");
    if (!wire::is_field_value(value)) {
        refuse("the value " + printable(value) + " of " + std::string{name} +
               " cannot be sent; leave out CR, LF and other control characters");
    }
    constexpr std::array<std::string_view, 5> ours{"content-length", "transfer-encoding", "connection", "date",
                                                   "upgrade"};
    const auto is_ours = [&](std::string_view each) { return wire::same_ignoring_case(each, name); };
    if (std::any_of(ours.begin(), ours.end(), is_ours))
        refuse(std::string{name} + " is the server's to set; leave it out");
}

ARKE_COLD_INLINE std::string cookie_text(std::string_view name, std::string_view value, const cookie_options& how) {
    const auto refuse = [](const std::string& why) { throw std::invalid_argument{"arke: cookie(): " + why}; };
    if (!wire::is_token(name)) refuse("the name " + printable(name) + " is none; use letters, digits and -");
    const auto is_plain = [](char c) { return c > ' ' && c < 0x7F && c != '"' && c != ',' && c != ';' && c != '\\'; };
    if (!std::all_of(value.begin(), value.end(), is_plain)) {
        refuse("the value " + printable(value) + " of " + std::string{name} +
               " cannot be sent; encode it, for example by base64");
    }
    const auto check = [&](const char* what, const std::string& text) {
        const auto fits = [](char c) { return c > ' ' && c < 0x7F && c != ';'; };
        if (!std::all_of(text.begin(), text.end(), fits))
            refuse("the " + std::string{what} + " " + printable(text) + " cannot be sent; leave out spaces and ';'");
    };
    check("path", how.path);
    check("domain", how.domain);
    check("same_site", how.same_site);
    std::string text{name};
    text.append("=").append(value);
    if (!how.path.empty()) text += "; Path=" + how.path;
    if (!how.domain.empty()) text += "; Domain=" + how.domain;
    if (how.max_age) text += "; Max-Age=" + std::to_string(how.max_age->count());
    if (!how.same_site.empty()) text += "; SameSite=" + how.same_site;
    if (how.secure) text += "; Secure";
    if (how.http_only) text += "; HttpOnly";
    return text;
}

ARKE_COLD_INLINE int checked_status(int status, int least) {
    if (status < least || status > 599) {
        throw std::invalid_argument{"arke: an answer cannot have the status " + std::to_string(status) + "; use " +
                                    std::to_string(least) + " to 599"};
    }
    return status;
}

}  // namespace detail

ARKE_COLD_INLINE http_error::http_error(int status, const std::string& text)
    : std::runtime_error{text}, status_{detail::checked_status(status, 400)} {}

ARKE_COLD_INLINE response::response(int status) : status_{detail::checked_status(status, 200)} {}

ARKE_COLD_INLINE response response::text(std::string body, int status) {
    return response{status}.header("Content-Type", "text/plain; charset=utf-8").body(std::move(body));
}

ARKE_COLD_INLINE response response::html(std::string body, int status) {
    return response{status}.header("Content-Type", "text/html; charset=utf-8").body(std::move(body));
}

ARKE_COLD_INLINE response response::json(const nlohmann::json& value, int status) {
    return response{status}.header("Content-Type", "application/json").body(value.dump());
}

ARKE_COLD_INLINE response response::file(std::filesystem::path path) {
    response made;
    made.path_ = std::move(path);
    return made;
}

ARKE_COLD_INLINE response response::redirect(std::string_view location, int status) {
    return response{status}.header("Location", location);
}

ARKE_COLD_INLINE response response::error(int status, std::string_view sentence) {
    std::string body{sentence.empty() ? wire::reason_phrase(status) : sentence};
    return text(body + "\n", detail::checked_status(status, 400));
}

ARKE_COLD_INLINE response& response::status(int status) & {
    status_ = detail::checked_status(status, 200);
    return *this;
}

ARKE_COLD_INLINE response& response::header(std::string_view name, std::string_view value) & {
    detail::check_header("header()", name, value);
    std::erase_if(headers_, [&](const auto& each) { return wire::same_ignoring_case(each.first, name); });
    headers_.emplace_back(name, value);
    return *this;
}

ARKE_COLD_INLINE std::string_view response::header(std::string_view name) const noexcept {
    for (const auto& [each, value] : headers_) {
        if (wire::same_ignoring_case(each, name)) return value;
    }
    return {};
}

ARKE_COLD_INLINE response& response::add_header(std::string_view name, std::string_view value) & {
    detail::check_header("add_header()", name, value);
    headers_.emplace_back(name, value);
    return *this;
}

ARKE_COLD_INLINE response& response::cookie(std::string_view name, std::string_view value,
                                            const cookie_options& how) & {
    return add_header("Set-Cookie", detail::cookie_text(name, value, how));
}

}  // namespace arke
