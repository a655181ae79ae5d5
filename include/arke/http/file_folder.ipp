#pragma once

#include <arke/http/file_folder.hpp>
#include <arke/wire/request.ipp>
#include <arke/wire/utf8.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
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

/// Not 404, which caches keep and browsers take for the truth.
ARKE_COLD_INLINE file_reply overloaded(bool head_only) {
    auto out = plain_reply(503, "The server has too many files open. Try again in a moment.\n", head_only);
    out.headers.emplace_back("Retry-After", "5");
    return out;
}

/// Whether what could not be opened is there all the same: it is the server, or the system, that has no descriptor or no memory left.
ARKE_COLD_INLINE bool is_for_a_while(const std::error_code& why) noexcept {
    return why == std::errc::too_many_files_open || why == std::errc::too_many_files_open_in_system ||
           why == std::errc::not_enough_memory;
}

/// Whether a decoded path is "/" followed by plain names with single slashes between and perhaps one at the end.
ARKE_COLD_INLINE bool is_plain_path(std::string_view path) noexcept {
    if (!path.starts_with('/') || !wire::is_utf8(path)) return false;
    // Where certificates are asked for, and other things that the web has agreed on (RFC 8615).
    constexpr std::string_view well_known = "/.well-known/";
    const bool is_well_known = path.starts_with(well_known);
    for (std::size_t n = 0; n < path.size(); ++n) {
        const auto byte = static_cast<unsigned char>(path[n]);
        if (byte < 0x20 || byte == 0x7F || byte == '\\') return false;
        // A name may be neither empty nor begin with a dot, which takes "." and ".." along.
        const bool may_be_hidden = n == 0 && is_well_known;
        if (byte == '/' && n + 1 < path.size() && !may_be_hidden && (path[n + 1] == '/' || path[n + 1] == '.'))
            return false;
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

/// Files up to this are read at once.
inline constexpr std::uint64_t small_file = 128UL * 1024;

/// "q=0" and its longer forms.
ARKE_COLD_INLINE bool is_refused(std::string_view parameters) noexcept {
    const auto weight = wire::trimmed(parameters);
    if (!weight.starts_with("q=") && !weight.starts_with("Q=")) return false;
    return weight.size() > 2 && weight.find_first_not_of("0.", 2) == weight.npos;
}

/// Whether an Accept-Encoding takes gzip (RFC 9110 §12.5.3).
ARKE_COLD_INLINE bool takes_gzip(std::string_view accepted) noexcept {
    bool by_star = false;
    for (bool last = false; !last;) {
        const auto comma = accepted.find(',');
        last = comma == accepted.npos;
        const auto element = accepted.substr(0, comma);
        const auto mark = element.find(';');
        const auto coding = wire::trimmed(element.substr(0, mark));
        const bool refused = mark != element.npos && is_refused(element.substr(mark + 1));
        if (wire::same_ignoring_case(coding, "gzip") || wire::same_ignoring_case(coding, "x-gzip")) return !refused;
        if (coding == "*") by_star = !refused;
        if (!last) accepted.remove_prefix(comma + 1);
    }
    return by_star;
}

/// The part of a file that a Range asks for (RFC 9110 §14.2).
struct byte_range {
    enum class kind { whole, part, none_such } is = kind::whole;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
};

/// What is no range, another unit, or several ranges is the whole file: a server may pass over a Range.
ARKE_COLD_INLINE byte_range read_range(std::string_view text, std::uint64_t size) noexcept {
    const byte_range whole{byte_range::kind::whole, 0, size};
    const byte_range none{byte_range::kind::none_such, 0, 0};
    const auto equals = text.find('=');
    if (equals == text.npos || !wire::same_ignoring_case(wire::trimmed(text.substr(0, equals)), "bytes")) return whole;
    const auto spec = wire::trimmed(text.substr(equals + 1));
    const auto dash = spec.find('-');
    if (dash == spec.npos) return whole;
    // A number that is larger than any file is as good as the largest.
    const auto number = [](std::string_view digits) -> std::optional<std::uint64_t> {
        constexpr auto most = ~std::uint64_t{0};
        std::uint64_t value = 0;
        for (const char c : digits) {
            if (c < '0' || c > '9') return std::nullopt;
            const auto digit = static_cast<std::uint64_t>(c - '0');
            value = value > (most - digit) / 10 ? most : value * 10 + digit;
        }
        return digits.empty() ? std::nullopt : std::optional{value};
    };
    const auto first = number(spec.substr(0, dash));
    const auto last = number(spec.substr(dash + 1));
    if (dash == 0) {
        if (!last) return whole;
        if (*last == 0 || size == 0) return none;
        const auto count = std::min(*last, size);
        return {byte_range::kind::part, size - count, count};
    }
    if (!first || (!last && dash + 1 != spec.size()) || (last && *last < *first)) return whole;
    if (*first >= size) return none;
    return {byte_range::kind::part, *first, std::min(last.value_or(size - 1), size - 1) - *first + 1};
}

/// A regular file: a pipe or a device would block, or never end.
ARKE_COLD_INLINE std::optional<file_version> version_of_file(const fs::path& file) {
    std::error_code failed;
    return fs::is_regular_file(file, failed) ? version_of(file) : std::nullopt;
}

/// `packed`: the same file by gzip, or empty. `name`: what its type is known by.
ARKE_COLD_INLINE file_reply send_file(const fs::path& plain, const fs::path& packed, std::string_view name,
                                      const file_conditions& wanted, bool head_only) {
    auto version = version_of_file(plain);
    if (!version) return not_found(head_only);
    const auto packed_version = packed.empty() ? std::nullopt : version_of_file(packed);
    const bool has_packed = packed_version && packed_version->time >= version->time;
    const bool has_range = !head_only && !wanted.range.empty();
    const bool is_packed = has_packed && !has_range && takes_gzip(wanted.accept_encoding);
    if (is_packed) version = packed_version;
    const auto& file = is_packed ? packed : plain;

    file_reply out;
    out.head_only = head_only;
    out.headers = {{"Cache-Control", "no-cache"}, {"X-Content-Type-Options", "nosniff"}};
    if (has_packed) out.headers.emplace_back("Vary", "Accept-Encoding");
    auto etag = version->etag();
    if (is_packed) etag.insert(etag.size() - 1, "-gz");
    const auto date = version->last_modified();
    const auto add_validators = [&] {
        out.headers.emplace_back("ETag", etag);
        out.headers.emplace_back("Last-Modified", date);
    };

    // A tag in its quotes can stand in a list of tags only as a member, weak or strong, so there is no need to cut the list.
    const auto known = wire::trimmed(wanted.if_none_match);
    if (known.empty() ? wire::trimmed(wanted.if_modified_since) == date
                      : known == "*" || known.find(etag) != known.npos) {
        out.status = 304;
        add_validators();
        return out;
    }

    byte_range range{byte_range::kind::whole, 0, version->size};
    if (has_range) {
        // A date says of a file that was just written too little: it may be written again within the second.
        const auto condition = wire::trimmed(wanted.if_range);
        const bool is_old = fs::file_time_type::clock::now() - version->time > std::chrono::seconds{1};
        if (condition.empty() || condition == etag || (condition == date && is_old))
            range = read_range(wanted.range, version->size);
    }
    if (range.is == byte_range::kind::none_such) {
        out = plain_reply(416, "The file has no such part.\n", head_only);
        out.headers.emplace_back("Content-Range", "bytes */" + std::to_string(version->size));
        return out;
    }

    // A HEAD also opens the file: what GET could not read must not look as if it were there.
    std::error_code why;
    auto part = file_part::open(file, range.first, range.count, why);
    if (!part) return is_for_a_while(why) ? overloaded(head_only) : not_found(head_only);
    out.headers.emplace_back("Content-Type", http::media_type(name));
    out.headers.emplace_back("Accept-Ranges", "bytes");
    if (is_packed) out.headers.emplace_back("Content-Encoding", "gzip");
    out.content_length = range.count;
    bool is_whole = true;
    if (head_only) {
        // Nothing of it is read.
    } else if (range.count > small_file) {
        out.file = std::move(part);
    } else {
        is_whole = part->read(out.body, static_cast<std::size_t>(range.count));
        out.content_length = out.body.size();
    }
    if (range.is == byte_range::kind::part) {
        // A part of a file that became shorter is no part of it any more.
        if (!is_whole) return not_found(head_only);
        out.status = 206;
        out.headers.emplace_back("Content-Range", "bytes " + std::to_string(range.first) + "-" +
                                                      std::to_string(range.first + range.count - 1) + "/" +
                                                      std::to_string(version->size));
    }
    if (is_whole && version_of(file) == version) add_validators();
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

ARKE_COLD_INLINE file_reply reply_with_file(const std::filesystem::path& path, const file_conditions& wanted,
                                            bool head_only) {
    return detail::send_file(path, {}, path.filename().string(), wanted, head_only);
}

ARKE_COLD_INLINE file_folder::file_folder(std::string prefix, const std::filesystem::path& folder)
    : prefix_{std::move(prefix)} {
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
                                             const file_conditions& wanted) const {
    if (method != "GET" && method != "HEAD") {
        auto out = detail::plain_reply(405, "Only GET and HEAD are possible here.\n", false);
        out.headers.emplace_back("Allow", "GET, HEAD");
        return out;
    }
    return find(target, wanted, method == "HEAD");
}

ARKE_COLD_INLINE file_reply file_folder::find(std::string_view target, const file_conditions& wanted,
                                              bool head_only) const {
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

    auto packed = file;
    packed += ".gz";
    // Mostly there is none, which is known by less.
    const bool has_packed = std::filesystem::is_regular_file(packed, failed);
    if (has_packed) packed = std::filesystem::canonical(packed, failed);
    if (!has_packed || failed || !detail::lies_within(root, packed)) packed.clear();
    return detail::send_file(file, packed, file_name, wanted, head_only);
}

}  // namespace arke::http
