#include <arke/http/file_folder.hpp>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

using arke::http::file_conditions;
using arke::http::file_folder;
using arke::http::file_reply;
using arke::test::temporary_folder;
namespace fs = std::filesystem;

namespace {

class scratch {
public:
    fs::path path() const { return base_.path(); }

    /// As old as `age`.
    void write(const std::string& name, std::string_view text, std::chrono::seconds age = std::chrono::hours{1}) const {
        std::ofstream{path() / name, std::ios::binary} << text;
        fs::last_write_time(path() / name, fs::file_time_type::clock::now() - age);
    }

private:
    temporary_folder base_;
};

std::string header(const file_reply& reply, std::string_view name) {
    for (const auto& [key, value] : reply.headers) {
        if (key == name) return value;
    }
    return "none";
}

/// The whole body, whichever way it would be sent.
std::string body(file_reply& reply) {
    auto text = reply.body;
    while (reply.file && reply.file->left() != 0) REQUIRE(reply.file->read(text, 7777));
    return text;
}

}  // namespace

TEST_CASE("every range of a small file is that part of it, and the headers say which") {
    const scratch s;
    const std::string text = "0123456789";
    s.write("ten", text);
    s.write("none", "");
    const file_folder folder{"/", s.path()};
    const auto ask = [&](const std::string& range, const char* path = "/ten") {
        auto reply = folder.get("GET", path, {.range = range});
        auto seen = std::to_string(reply.status);
        if (reply.status == 206) CHECK(reply.content_length == reply.body.size());
        if (reply.status != 416) CHECK(header(reply, "Accept-Ranges") == "bytes");
        const auto part = header(reply, "Content-Range");
        return seen + (part == "none" ? "" : " " + part) + (reply.status == 416 ? "" : " " + reply.body);
    };
    // Byte for byte.
    for (std::size_t first = 0; first != text.size(); ++first) {
        for (std::size_t last = first; last != text.size(); ++last) {
            CHECK(ask("bytes=" + std::to_string(first) + "-" + std::to_string(last)) ==
                  "206 bytes " + std::to_string(first) + "-" + std::to_string(last) + "/10 " +
                      text.substr(first, last - first + 1));
        }
        CHECK(ask("bytes=" + std::to_string(first) + "-") ==
              "206 bytes " + std::to_string(first) + "-9/10 " + text.substr(first));
        CHECK(ask("bytes=-" + std::to_string(first + 1)) ==
              "206 bytes " + std::to_string(9 - first) + "-9/10 " + text.substr(9 - first));
    }
    const std::vector<std::pair<std::string, std::string>> table{
        {"bytes=0-10", "206 bytes 0-9/10 0123456789"},
        {"bytes=5-99999999999999999999999", "206 bytes 5-9/10 56789"},
        {"bytes=-11", "206 bytes 0-9/10 0123456789"},
        {"bytes=-99999999999999999999999", "206 bytes 0-9/10 0123456789"},
        {"Bytes = 1-2 ", "206 bytes 1-2/10 12"},
        {"bytes=001-002", "206 bytes 1-2/10 12"},
        // no such part
        {"bytes=10-", "416 bytes */10"},
        {"bytes=10-11", "416 bytes */10"},
        {"bytes=18446744073709551616-", "416 bytes */10"},
        {"bytes=99999999999999999999999-", "416 bytes */10"},
        {"bytes=-0", "416 bytes */10"},
        // several, and what is none: the whole
        {"bytes=0-1,3-4", "200 0123456789"},
        {"bytes=0-1,", "200 0123456789"},
        {"bytes=2-1", "200 0123456789"},
        {"bytes=", "200 0123456789"},
        {"bytes=-", "200 0123456789"},
        {"bytes=--1", "200 0123456789"},
        {"bytes=1", "200 0123456789"},
        {"bytes=a-b", "200 0123456789"},
        {"bytes=1-b", "200 0123456789"},
        {"bytes=+1-2", "200 0123456789"},
        {"bytes=1 - 2", "200 0123456789"},
        {"bytes=0x1-2", "200 0123456789"},
        {"lines=0-1", "200 0123456789"},
        {"0-1", "200 0123456789"},
    };
    for (const auto& [range, seen] : table) {
        CAPTURE(range);
        CHECK(ask(range) == seen);
    }
    CHECK(ask("bytes=0-", "/none") == "416 bytes */0");
    CHECK(ask("bytes=-1", "/none") == "416 bytes */0");
    CHECK(folder.get("HEAD", "/ten", {.range = "bytes=1-2"}).status == 200);
    CHECK(folder.get("GET", "/missing", {.range = "bytes=1-2"}).status == 404);
}

TEST_CASE("If-Range asks for a part of that version only, and If-None-Match comes before") {
    const scratch s;
    s.write("old", "0123456789");
    s.write("new", "0123456789", std::chrono::seconds{0});
    const file_folder folder{"/", s.path()};
    const auto first = folder.get("GET", "/old");
    const auto tag = header(first, "ETag");
    const auto date = header(first, "Last-Modified");
    const auto status = [&](const char* path, const std::string& if_range, const std::string& known = {}) {
        return folder.get("GET", path, {.if_none_match = known, .range = "bytes=1-2", .if_range = if_range}).status;
    };
    CHECK(status("/old", tag) == 206);
    CHECK(status("/old", date) == 206);
    CHECK(status("/old", "\"other\"") == 200);
    CHECK(status("/old", "W/" + tag) == 200);
    CHECK(status("/old", "Sun, 06 Nov 1994 08:49:37 GMT") == 200);
    CHECK(status("/old", tag, tag) == 304);
    // It may be written again within the second that its date names.
    CHECK(status("/new", header(folder.get("GET", "/new"), "Last-Modified")) == 200);
}

TEST_CASE("a large file comes in parts, whole and by ranges, and its end is known") {
    const scratch s;
    std::string text;
    for (unsigned n = 0; text.size() < 300'000; ++n) text += std::to_string(n * 2654435761U) + ",";
    s.write("large", text);
    const file_folder folder{"/", s.path()};
    auto whole = folder.get("GET", "/large");
    CHECK(whole.body.empty());
    CHECK(whole.content_length == text.size());
    CHECK(body(whole) == text);
    for (const auto& [first, last] : std::vector<std::pair<std::size_t, std::size_t>>{
             {0, text.size() - 1}, {1, 200'000}, {131'071, 262'143}, {150'000, 150'000}, {299'000, 299'999}}) {
        auto part =
            folder.get("GET", "/large", {.range = "bytes=" + std::to_string(first) + "-" + std::to_string(last)});
        CHECK(part.status == 206);
        CHECK(part.content_length == last - first + 1);
        CHECK(body(part) == text.substr(first, last - first + 1));
    }
    CHECK_FALSE(folder.get("HEAD", "/large").file);

    auto cut = folder.get("GET", "/large");
    fs::resize_file(s.path() / "large", 100'000);
    std::string rest;
    REQUIRE(cut.file);
    CHECK(cut.file->read(rest, 90'000));
    CHECK_FALSE(cut.file->read(rest, 90'000));
    CHECK(rest == text.substr(0, 100'000));
}

TEST_CASE("a file with its .gz beside it goes as that to who takes it, each under a tag of its own") {
    const scratch s;
    s.write("app.js", "let a;");
    s.write("app.js.gz", "packed");
    s.write("stale.js", "let b;");
    s.write("stale.js.gz", "older", std::chrono::hours{2});
    s.write("alone.js", "let c;");
    s.write("index.html", "<p>home</p>");
    s.write("index.html.gz", "packed home");
    fs::create_directory(s.path() / "folder.js.gz");
    s.write("folder.js", "let d;");
    const file_folder folder{"/", s.path()};

    const std::vector<std::pair<std::string, bool>> table{
        {"gzip", true},
        {"GZIP", true},
        {"x-gzip", true},
        {"deflate, gzip;q=1.0, *;q=0.5", true},
        {"br, *", true},
        {"*;q=0.1", true},
        {"gzip;q=0.001", true},
        {"br,gzip ; q=0.5", true},
        {"", false},
        {"identity", false},
        {"br, deflate", false},
        {"gzip;q=0", false},
        {"gzip; q=0.000", false},
        {"*, gzip;q=0", false},
        {"*;q=0", false},
        {"gzipped", false},
    };
    for (const auto& [accepted, is_packed] : table) {
        CAPTURE(accepted);
        const auto reply = folder.get("GET", "/app.js", {.accept_encoding = accepted});
        CHECK(reply.body == (is_packed ? "packed" : "let a;"));
        CHECK(header(reply, "Content-Encoding") == (is_packed ? "gzip" : "none"));
        CHECK(header(reply, "Content-Type") == "text/javascript; charset=utf-8");
        CHECK(header(reply, "Vary") == "Accept-Encoding");
    }
    const auto plain = header(folder.get("GET", "/app.js"), "ETag");
    const auto packed = header(folder.get("GET", "/app.js", {.accept_encoding = "gzip"}), "ETag");
    CHECK(plain != packed);
    CHECK(packed.ends_with("-gz\""));
    CHECK(folder.get("GET", "/app.js", {.if_none_match = packed, .accept_encoding = "gzip"}).status == 304);
    CHECK(folder.get("GET", "/app.js", {.if_none_match = plain, .accept_encoding = "gzip"}).status == 200);
    CHECK(folder.get("GET", "/app.js", {.if_none_match = packed}).status == 200);
    CHECK(header(folder.get("GET", "/app.js", {.if_none_match = plain}), "Vary") == "Accept-Encoding");

    const auto head = folder.get("HEAD", "/app.js", {.accept_encoding = "gzip"});
    CHECK(header(head, "Content-Encoding") == "gzip");
    CHECK(head.content_length == 6);
    const auto part = folder.get("GET", "/app.js", {.range = "bytes=0-2", .accept_encoding = "gzip"});
    CHECK(part.body == "let");
    CHECK(header(part, "Content-Encoding") == "none");
    CHECK(header(part, "Vary") == "Accept-Encoding");
    CHECK(folder.get("GET", "/", {.accept_encoding = "gzip"}).body == "packed home");

    CHECK(folder.get("GET", "/stale.js", {.accept_encoding = "gzip"}).body == "let b;");
    const auto alone = folder.get("GET", "/alone.js", {.accept_encoding = "gzip"});
    CHECK(alone.body == "let c;");
    CHECK(header(alone, "Vary") == "none");
    CHECK(folder.get("GET", "/folder.js", {.accept_encoding = "gzip"}).body == "let d;");
    const auto itself = folder.get("GET", "/app.js.gz", {.accept_encoding = "gzip"});
    CHECK(header(itself, "Content-Type") == "application/gzip");
    CHECK(header(itself, "Content-Encoding") == "none");
}

TEST_CASE("a .gz that is a link out of the folder is not sent") {
    const scratch s;
    const scratch outside;
    s.write("app.js", "let a;");
    outside.write("secret", "secret", std::chrono::seconds{0});
    fs::create_symlink(outside.path() / "secret", s.path() / "app.js.gz");
    const file_folder folder{"/", s.path()};
    CHECK(folder.get("GET", "/app.js", {.accept_encoding = "gzip"}).body == "let a;");
}
