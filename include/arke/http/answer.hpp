#pragma once

#include <arke/base/compile.hpp>
#include <arke/wire/handshake.hpp>

#include <cstdint>
#include <ctime>
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
};

/// The answer that says no.
answer answer_of(const wire::http_refusal& refusal);

/// The status line and the headers, and the empty line behind them. Not kept alive: it says so.
std::string head_of(const answer& a, bool keep_alive);

/// The time as HTTP writes it (RFC 9110 §5.6.7).
std::string http_date(std::time_t at);

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/answer.ipp>
#endif
