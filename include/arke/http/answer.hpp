#pragma once

#include <arke/base/compile.hpp>
#include <arke/http/file_folder.hpp>
#include <arke/wire/handshake.hpp>
#include <arke/wire/request.hpp>

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace arke::http {

/// What is answered to a request, but for the headers that every answer has.
struct answer {
    int status = 200;
    std::vector<std::pair<std::string, std::string>> headers{};
    std::string body{};
    std::uint64_t content_length = 0;  ///< Also of a body that is not sent: of a HEAD.
    bool says_close = false;           ///< Its headers hold Connection already.
    std::optional<file_part> file{};   ///< What follows the body.

    bool may_have_body() const noexcept { return status >= 200 && status != 204 && status != 304; }
};

/// The answer that says no.
answer answer_of(const wire::http_refusal& refusal);

/// The answer that is a file, or why there is none.
answer answer_of(file_reply file);

/// What a request says about the file that it wants. The views are of the request.
file_conditions conditions_of(const request& r) noexcept;

/// The status line and the headers, and the empty line behind them. Not kept alive: it says so.
std::string head_of(const answer& a, bool keep_alive);

/// The time as HTTP writes it (RFC 9110 §5.6.7).
std::string http_date(std::time_t at);

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/answer.ipp>
#endif
