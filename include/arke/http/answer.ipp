#pragma once

#include <arke/http/answer.hpp>

#include <array>
#include <string_view>

namespace arke::http {

ARKE_COLD_INLINE std::string http_date(std::time_t at) {
    std::tm parts{};
#ifdef _WIN32
    gmtime_s(&parts, &at);
#else
    gmtime_r(&at, &parts);
#endif
    // Not strftime's names of days and months: those follow the locale.
    constexpr std::string_view days = "SunMonTueWedThuFriSat";
    constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    std::array<char, 16> clock{};
    std::strftime(clock.data(), clock.size(), "%H:%M:%S", &parts);
    std::array<char, 8> year{};
    std::strftime(year.data(), year.size(), "%Y", &parts);
    std::string text{days.substr(static_cast<std::size_t>(parts.tm_wday) * 3, 3)};
    text += parts.tm_mday < 10 ? ", 0" : ", ";
    text += std::to_string(parts.tm_mday) + " ";
    text += months.substr(static_cast<std::size_t>(parts.tm_mon) * 3, 3);
    return text + " " + year.data() + " " + clock.data() + " GMT";
}

ARKE_COLD_INLINE answer answer_of(const wire::http_refusal& refusal) {
    answer a{refusal.status, refusal.headers, refusal.body};
    a.content_length = a.body.size();
    a.says_close = true;
    return a;
}

ARKE_COLD_INLINE answer answer_of(file_reply file) {
    answer a{file.status, std::move(file.headers), std::move(file.body), file.content_length};
    a.file = std::move(file.file);
    return a;
}

ARKE_COLD_INLINE file_conditions conditions_of(const request& r) noexcept {
    return {r.header("If-None-Match"), r.header("If-Modified-Since"), r.header("Range"), r.header("If-Range"),
            r.header("Accept-Encoding")};
}

ARKE_COLD_INLINE std::string head_of(const answer& a, bool keep_alive) {
    std::string text = "HTTP/1.1 " + std::to_string(a.status) + " ";
    text += wire::reason_phrase(a.status);
    text += "\r\nDate: " + http_date(std::time(nullptr));
    for (const auto& [name, value] : a.headers) text += "\r\n" + name + ": " + value;
    if (a.may_have_body()) text += "\r\nContent-Length: " + std::to_string(a.content_length);
    if (!keep_alive && !a.says_close) text += "\r\nConnection: close";
    text += "\r\n\r\n";
    return text;
}

}  // namespace arke::http
