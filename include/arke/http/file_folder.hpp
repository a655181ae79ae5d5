#pragma once

/// Static files of one folder, answered as plain data.
///
///     arke::http::file_folder site{"/", "public"};
///     auto reply = site.get("GET", "/index.html", {}, {});
///
/// What leaves is only what lies in the folder: a path is decoded once and must then be made of plain names; a symbolic link
/// may lead from name to name within the folder, not out of it. Names that begin with a dot are not served. So
/// `/../etc/passwd`, `/%2e%2e/`, `/a%00.html`, `//host/`, `/..\` and `/.git/config` are all 404, like a file that isn't there.
/// The one race left is a writer inside the folder who swaps a directory for a link between the check and the open: who may
/// write there already decides what is served.
///
/// Threads: const functions from any, at once; there is no cache to guard. A call reads the disk and blocks for it, which on
/// a loop is right for the pages of an application and wrong for a download site.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arke/base/compile.hpp>

namespace arke::http {

/// An answer, complete but for Content-Length, Date and Connection.
struct file_reply {
    int status = 200;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;

    /// What Content-Length says. For a HEAD the size that GET would have sent; not to be sent at all with status 304.
    std::uint64_t content_length = 0;

    /// Whether the request was a HEAD: the body is empty, whatever content_length says.
    bool head_only = false;
};

/// A folder, and where on the server it is found.
class file_folder {
public:
    /// Serves `folder` below `prefix` ("/", "/static/"; a missing slash at the end is added).
    ///
    /// A file larger than `max_file_size` bytes is answered with 500, because files are read whole into memory and its owner
    /// should hear of it. Throws std::invalid_argument when the folder is none, or the prefix no plain path.
    explicit file_folder(std::string prefix, const std::filesystem::path& folder,
                         std::uint64_t max_file_size = 64 * 1024 * 1024);

    /// Whether a target lies below the prefix. "/static" also lies below "/static/": get() redirects there.
    bool matches(std::string_view target) const;

    /// The answer to a request: 200, 304, 301 (to a folder's name with its slash, never to another host), 404, 405 or 500.
    ///
    /// `if_none_match` and `if_modified_since` are the headers' values or empty. The former wins. The latter must be exactly
    /// the date that was sent as Last-Modified, which is what browsers give back. A file that changes while it is read
    /// is sent without ETag and Last-Modified, one that vanishes is 404.
    file_reply get(std::string_view method, std::string_view target, std::string_view if_none_match,
                   std::string_view if_modified_since) const;

    const std::string& prefix() const noexcept { return prefix_; }
    const std::filesystem::path& folder() const noexcept { return folder_; }

private:
    file_reply find(std::string_view target, std::string_view if_none_match, std::string_view if_modified_since,
                    bool head_only) const;

    std::string prefix_;
    std::filesystem::path folder_;
    std::uint64_t max_file_size_;
};

/// The media type of a file by the end of its name; application/octet-stream when it is unknown.
std::string_view media_type(std::string_view file_name) noexcept;

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/file_folder.ipp>
#endif
