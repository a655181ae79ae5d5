#pragma once

/// Static files of one folder, answered as plain data.
///
///     arke::http::file_folder site{"/", "public"};
///     auto reply = site.get("GET", "/index.html");
///
/// What leaves is only what lies in the folder: a path is decoded once and must then be made of plain names; a symbolic link
/// may lead from name to name within the folder, not out of it. Names that begin with a dot are not served, but for `/.well-known/`.
/// So `/../etc/passwd`, `/%2e%2e/`, `/a%00.html`, `//host/`, `/..\` and `/.git/config` are all 404, like a file that isn't there.
/// The one race left is a writer inside the folder who swaps a directory for a link between the check and the open: who may
/// write there already decides what is served.
///
/// Threads: const functions from any, at once; there is no cache to guard. A call reads the disk and blocks for it, which on
/// a loop is right for the pages of an application and wrong for a download site.

#include <arke/base/compile.hpp>
#include <arke/http/file_part.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace arke::http {

/// What a request says about the file that it wants: the values of these headers, or empty.
struct file_conditions {
    std::string_view if_none_match{};
    std::string_view if_modified_since{};
    std::string_view range{};
    std::string_view if_range{};
    std::string_view accept_encoding{};
};

/// An answer, complete but for Content-Length, Date and Connection.
struct file_reply {
    int status = 200;
    std::vector<std::pair<std::string, std::string>> headers{};
    std::string body{};

    /// The body of a file that is too large to be read at once: it is sent in parts, and where the file has become shorter
    /// meanwhile, the connection ends early.
    std::optional<file_part> file{};

    /// What Content-Length says. For a HEAD the size that GET would have sent; not to be sent at all with status 304.
    std::uint64_t content_length = 0;

    /// Whether the request was a HEAD: there is no body, whatever content_length says.
    bool head_only = false;
};

/// A folder, and where on the server it is found.
class file_folder {
public:
    /// Serves `folder` below `prefix` ("/", "/static/"; a missing slash at the end is added). Throws std::invalid_argument when
    /// the folder is none, or the prefix no plain path.
    file_folder(std::string prefix, const std::filesystem::path& folder);

    /// Whether a target lies below the prefix. "/static" also lies below "/static/": get() redirects there.
    bool matches(std::string_view target) const;

    /// The answer to a request: 200, 206, 304, 416, 301 (to a folder's name with its slash, never to another host), 404, 405, or
    /// 503 with Retry-After where the file is there and the process has no descriptor left to open it.
    ///
    /// If-None-Match wins over If-Modified-Since, which must be exactly the date that was sent as Last-Modified: that is what
    /// browsers give back. One range is sent as it is asked for, of several the whole file. A file with another beside it whose name
    /// has ".gz" at the end is sent as that where the client takes gzip and asks for no range, if that is not the older of the
    /// two. A small file that changes while it is read is sent without ETag and Last-Modified, one that vanishes is 404.
    file_reply get(std::string_view method, std::string_view target, const file_conditions& wanted = {}) const;

    const std::string& prefix() const noexcept { return prefix_; }

private:
    file_reply find(std::string_view target, const file_conditions& wanted, bool head_only) const;

    std::string prefix_;
    std::filesystem::path folder_;
};

/// The answer to a GET or HEAD for one file, as file_folder gives it. `path` is never what a client has chosen.
file_reply reply_with_file(const std::filesystem::path& path, const file_conditions& wanted, bool head_only);

/// The media type of a file by the end of its name; application/octet-stream when it is unknown.
std::string_view media_type(std::string_view file_name) noexcept;

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/file_folder.ipp>
#endif
