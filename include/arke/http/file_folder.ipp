#pragma once

#include <arke/http/file_folder.hpp>
#include <arke/wire/request.ipp>
#include <arke/wire/utf8.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <system_error>

namespace arke::http {

namespace detail {

namespace fs = std::filesystem;

inline constexpr auto media_types = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"html", "text/html; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"webmanifest", "application/manifest+json"},
    {"txt", "text/plain; charset=utf-8"},
    {"md", "text/markdown; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"xml", "text/xml; charset=utf-8"},
    {"svg", "image/svg+xml; charset=utf-8"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"avif", "image/avif"},
    {"ico", "image/x-icon"},
    {"bmp", "image/bmp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"ttf", "font/ttf"},
    {"otf", "font/otf"},
    {"wasm", "application/wasm"},
    {"pdf", "application/pdf"},
    {"zip", "application/zip"},
    {"gz", "application/gzip"},
    {"mp3", "audio/mpeg"},
    {"ogg", "audio/ogg"},
    {"wav", "audio/wav"},
    {"m4a", "audio/mp4"},
    {"mp4", "video/mp4"},
    {"webm", "video/webm"},
});

ARKE_COLD_INLINE file_reply plain_reply(int status, std::string_view sentence, bool head_only) {
    file_reply out;
    out.status = status;
    out.headers = {{"Content-Type", "text/plain; charset=utf-8"}, {"X-Content-Type-Options", "nosniff"}};
    out.content_length = sentence.size();
    out.head_only = head_only;
    if (!head_only) out.body = sentence;
    return out;
}

ARKE_COLD_INLINE file_reply not_found(bool head_only) {
    return plain_reply(404, "There is nothing at this address.\n", head_only);
}

/// Whether a decoded path is "/" followed by plain names with single slashes between and perhaps one at the end.
ARKE_COLD_INLINE bool is_plain_path(std::string_view path) noexcept {
    if (!path.starts_with('/') || !wire::is_utf8(path)) return false;
    for (std::size_t n = 0; n < path.size(); ++n) {
        const auto byte = static_cast<unsigned char>(path[n]);
        if (byte < 0x20 || byte == 0x7F || byte == '\\') return false;
        // A name may be neither empty nor begin with a dot, which takes "." and ".." along.
        if (byte == '/' && n + 1 < path.size() && (path[n + 1] == '/' || path[n + 1] == '.')) return false;
    }
    return true;
}

/// The decoded path of a target; nullopt unless it is a plain one. A slash that was encoded would be a separator here and
/// part of a name elsewhere, so it is refused.
ARKE_COLD_INLINE std::optional<std::string> plain_path(std::string_view target) {
    const auto raw = wire::detail::path_of(target);
    if (raw.find("%2f") != raw.npos || raw.find("%2F") != raw.npos) return std::nullopt;
    auto path = wire::percent_decoded(raw);
    return is_plain_path(path) ? std::optional{std::move(path)} : std::nullopt;
}

/// A path as it may stand in a Location header.
ARKE_COLD_INLINE std::string encoded(std::string_view path) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    constexpr std::string_view marks = "/-._~!$&'()*+,;=:@";
    std::string out;
    for (const char c : path) {
        const auto byte = static_cast<unsigned char>(c);
        const char l = wire::detail::lower(c);
        if ((c >= '0' && c <= '9') || (l >= 'a' && l <= 'z') || marks.find(c) != marks.npos) {
            out += c;
        } else {
            out += '%';
            out += digits[byte >> 4];
            out += digits[byte & 15];
        }
    }
    return out;
}

/// Both paths canonical.
ARKE_COLD_INLINE bool lies_within(const fs::path& folder, const fs::path& file) {
    return std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first == folder.end();
}

/// "Sun, 06 Nov 1994 08:49:37 GMT". strftime would speak the language of the process.
ARKE_COLD_INLINE std::string http_date(std::chrono::system_clock::time_point at) {
    static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const auto day = std::chrono::floor<std::chrono::days>(at);
    const std::chrono::year_month_day date{day};
    const std::chrono::hh_mm_ss time{std::chrono::floor<std::chrono::seconds>(at - day)};
    char text[64];
    std::snprintf(text, sizeof text, "%s, %02u %s %04d %02d:%02d:%02d GMT",
                  days[std::chrono::weekday{day}.c_encoding()], static_cast<unsigned>(date.day()),
                  months[static_cast<unsigned>(date.month()) - 1], static_cast<int>(date.year()),
                  static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                  static_cast<int>(time.seconds().count()));
    return text;
}

/// What tells one version of a file from another.
struct file_version {
    std::uint64_t size = 0;
    fs::file_time_type time{};

    bool operator==(const file_version&) const = default;

    std::string etag() const {
        char text[48];
        std::snprintf(text, sizeof text, "\"%llx-%llx\"", static_cast<unsigned long long>(size),
                      static_cast<unsigned long long>(time.time_since_epoch().count()));
        return text;
    }

    std::string last_modified() const {
        return http_date(
            std::chrono::time_point_cast<std::chrono::system_clock::duration>(std::chrono::file_clock::to_sys(time)));
    }
};

ARKE_COLD_INLINE std::optional<file_version> version_of(const fs::path& file) {
    std::error_code failed;
    file_version out;
    out.size = fs::file_size(file, failed);
    if (failed) return std::nullopt;
    out.time = fs::last_write_time(file, failed);
    if (failed) return std::nullopt;
    return out;
}

/// Up to `size` bytes of a file; nullopt when it cannot be opened or read.
ARKE_COLD_INLINE std::optional<std::string> read_file(const fs::path& file, std::uint64_t size) {
    std::ifstream in{file, std::ios::binary};
    if (!in) return std::nullopt;
    std::string out(static_cast<std::size_t>(size), '\0');
    in.read(out.data(), static_cast<std::streamsize>(out.size()));
    if (in.bad()) return std::nullopt;
    out.resize(static_cast<std::size_t>(in.gcount()));
    return out;
}

}  // namespace detail

ARKE_COLD_INLINE std::string_view media_type(std::string_view file_name) noexcept {
    const auto dot = file_name.rfind('.');
    if (dot != file_name.npos) {
        for (const auto& [ending, type] : detail::media_types) {
            if (wire::same_ignoring_case(file_name.substr(dot + 1), ending)) return type;
        }
    }
    return "application/octet-stream";
}

ARKE_COLD_INLINE file_folder::file_folder(std::string prefix, const std::filesystem::path& folder,
                                     std::uint64_t max_file_size)
    : prefix_{std::move(prefix)}, max_file_size_{max_file_size} {
    if (!prefix_.ends_with('/')) prefix_ += '/';
    if (!detail::is_plain_path(prefix_) || prefix_.find_first_of("%?#") != prefix_.npos) {
        throw std::invalid_argument{"arke: the prefix of files is \"" + prefix_ +
                                    "\"; it must be a path such as \"/\" or \"/static/\""};
    }

    std::error_code failed;
    // Absolute, because the working directory may change; not canonical, because a deployment may turn a link in it.
    if (std::filesystem::is_directory(folder, failed)) folder_ = std::filesystem::absolute(folder, failed);
    if (failed || folder_.empty()) {
        throw std::invalid_argument{"arke: the files' folder \"" + folder.string() +
                                    "\" is no directory; make it, or give the path of one that exists"};
    }
}

ARKE_COLD_INLINE bool file_folder::matches(std::string_view target) const {
    const auto path = wire::percent_decoded(wire::detail::path_of(target));
    return path.starts_with(prefix_) || path == std::string_view{prefix_}.substr(0, prefix_.size() - 1);
}

ARKE_COLD_INLINE file_reply file_folder::get(std::string_view method, std::string_view target,
                                        std::string_view if_none_match, std::string_view if_modified_since) const {
    if (method != "GET" && method != "HEAD") {
        auto out = detail::plain_reply(405, "Only GET and HEAD are possible here.\n", false);
        out.headers.emplace_back("Allow", "GET, HEAD");
        return out;
    }
    return find(target, if_none_match, if_modified_since, method == "HEAD");
}

ARKE_COLD_INLINE file_reply file_folder::find(std::string_view target, std::string_view if_none_match,
                                         std::string_view if_modified_since, bool head_only) const {
    const auto path = detail::plain_path(target);
    if (!path || !matches(target)) return detail::not_found(head_only);

    const auto name =
        path->size() < prefix_.size() ? std::string_view{} : std::string_view{*path}.substr(prefix_.size());
    std::error_code failed;
    const auto root = std::filesystem::canonical(folder_, failed);
    if (failed) return detail::not_found(head_only);
    auto file =
        std::filesystem::canonical(root / std::filesystem::path{std::u8string{name.begin(), name.end()}}, failed);
    if (failed || !detail::lies_within(root, file)) return detail::not_found(head_only);

    std::string_view file_name = name;
    if (std::filesystem::is_directory(file, failed)) {
        if (!path->ends_with('/')) {
            auto out = detail::plain_reply(301, "This folder's address ends with a slash.\n", head_only);
            auto location = detail::encoded(*path) + '/';
            const auto mark = target.find('?');
            const auto query = mark == target.npos ? std::string_view{} : target.substr(mark);
            if (std::all_of(query.begin(), query.end(), [](char c) { return c > 0x20 && c < 0x7F; })) location += query;
            out.headers.emplace_back("Location", std::move(location));
            out.headers.emplace_back("Cache-Control", "no-cache");
            return out;
        }
        file_name = "index.html";
        file = std::filesystem::canonical(file / file_name, failed);
        if (failed || !detail::lies_within(root, file)) return detail::not_found(head_only);
    } else if (name.ends_with('/')) {
        return detail::not_found(head_only);
    }

    // A pipe or a device would block, or never end.
    const auto version = std::filesystem::is_regular_file(file, failed) ? detail::version_of(file) : std::nullopt;
    if (!version) return detail::not_found(head_only);
    if (version->size > max_file_size_) {
        return detail::plain_reply(500, "This file is larger than the server is set to send.\n", head_only);
    }

    file_reply out;
    out.head_only = head_only;
    out.headers = {{"Cache-Control", "no-cache"}, {"X-Content-Type-Options", "nosniff"}};
    const auto etag = version->etag();
    const auto date = version->last_modified();
    const auto add_validators = [&] {
        out.headers.emplace_back("ETag", etag);
        out.headers.emplace_back("Last-Modified", date);
    };

    // A tag in its quotes can stand in a list of tags only as a member, weak or strong, so there is no need to cut the list.
    const auto wanted = wire::trimmed(if_none_match);
    if (wanted.empty() ? wire::trimmed(if_modified_since) == date : wanted == "*" || wanted.find(etag) != wanted.npos) {
        out.status = 304;
        add_validators();
        return out;
    }

    // A HEAD also opens the file: what GET could not read must not look as if it were there.
    auto content = detail::read_file(file, head_only ? 0 : version->size);
    if (!content) return detail::not_found(head_only);
    out.headers.emplace_back("Content-Type", media_type(file_name));
    if (detail::version_of(file) == version && (head_only || content->size() == version->size)) add_validators();
    out.content_length = head_only ? version->size : content->size();
    out.body = std::move(*content);
    return out;
}

}  // namespace arke::http
