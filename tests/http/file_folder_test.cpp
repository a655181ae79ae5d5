#include <arke/http/file_folder.hpp>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

#ifndef _WIN32
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

using arke::http::file_folder;
using arke::http::file_reply;
using arke::test::temporary_folder;
namespace fs = std::filesystem;

namespace {

/// A folder with a sibling that must never be seen; both are gone at the end.
class scratch {
public:
    scratch() {
        fs::create_directories(site() / "sub" / "deep");
        fs::create_directories(base() / "site-secret");
        write("index.html", "<p>home</p>");
        write("app.js", "let a;");
        write("sub/index.html", "<p>sub</p>");
        write("sub/deep/a b.txt", "spaced");
        write(".hidden", "hidden");
        write("../secret.txt", "secret");
        write("../site-secret/x.txt", "secret");
    }

    fs::path site() const { return base() / "site"; }
    fs::path base() const { return base_.path(); }
    void write(const std::string& name, std::string_view text) const {
        std::ofstream{site() / name, std::ios::binary} << text;
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

file_reply get(const file_folder& folder, std::string_view target) { return folder.get("GET", target); }

/// "200 <p>home</p>", "301 /sub/", or the status alone.
std::string seen(const file_reply& reply) {
    auto out = std::to_string(reply.status);
    if (reply.status == 200) out += " " + reply.body;
    if (reply.status == 301) out += " " + header(reply, "Location");
    return out;
}

std::string refusal(const std::string& prefix, const fs::path& path) {
    try {
        file_folder folder{prefix, path};
        return "";
    } catch (const std::invalid_argument& wrong) {
        return wrong.what();
    }
}

}  // namespace

TEST_CASE("a folder serves what lies in it and nothing else") {
    scratch s;
    fs::create_directory_symlink(s.base() / "site-secret", s.site() / "out");
    fs::create_symlink(s.base() / "secret.txt", s.site() / "out.txt");
    fs::create_symlink(s.site() / "app.js", s.site() / "alias.js");
    fs::create_symlink(s.site() / "nowhere", s.site() / "dangling");
    fs::create_symlink(s.site() / "loop", s.site() / "loop");
    fs::create_directory(s.site() / "no-index");
    fs::create_directory(s.site() / "a \xC3\xA9?");
    fs::create_directory(s.site() / "bad-index");
    fs::create_symlink(s.base() / "secret.txt", s.site() / "bad-index" / "index.html");
    const file_folder folder{"/", s.site()};

    const std::pair<std::string_view, std::string_view> table[] = {
        {"/", "200 <p>home</p>"},
        {"/?x=/../..", "200 <p>home</p>"},
        {"/index.html", "200 <p>home</p>"},
        {"/app.js?v=2", "200 let a;"},
        {"/%61pp.js", "200 let a;"},
        {"/alias.js", "200 let a;"},
        {"/sub/", "200 <p>sub</p>"},
        {"/sub/deep/a%20b.txt", "200 spaced"},
        {"http://example.com/app.js", "200 let a;"},
        // folders without their slash
        {"/sub", "301 /sub/"},
        {"/sub?a=b", "301 /sub/?a=b"},
        {"/s%75b", "301 /sub/"},
        {"/sub?a\r\nSet-Cookie: b", "301 /sub/"},
        {"/a%20%c3%a9%3f?a=b", "301 /a%20%C3%A9%3F/?a=b"},
        // what isn't there
        {"", "404"},
        {"*", "404"},
        {"app.js", "404"},
        {"/app.js/", "404"},
        {"/index.html/x", "404"},
        {"/no-index/", "404"},
        {"/sub/deep/a+b.txt", "404"},
        {"/dangling", "404"},
        {"/loop", "404"},
        // the ways out
        {"/../secret.txt", "404"},
        {"/..", "404"},
        {"/sub/../app.js", "404"},
        {"/sub/..", "404"},
        {"/./app.js", "404"},
        {"/%2e%2e/secret.txt", "404"},
        {"/%2E./secret.txt", "404"},
        {"/.%2e/secret.txt", "404"},
        {"/%252e%252e/secret.txt", "404"},
        {"/..%2fsecret.txt", "404"},
        {"/..%5csecret.txt", "404"},
        {"/sub%2findex.html", "404"},
        {"/sub%2Findex.html", "404"},
        {"/..\\secret.txt", "404"},
        {"/\\evil.com", "404"},
        {"/app.js%00", "404"},
        {"/app.js%00.html", "404"},
        {"/%0d%0aSet-Cookie:x", "404"},
        {"/app.js\n", "404"},
        {"/%7f", "404"},
        {"/%ff", "404"},
        {"//", "404"},
        {"//sub", "404"},
        {"//evil.com/", "404"},
        {"///evil.com", "404"},
        {"/sub//index.html", "404"},
        {"/sub//", "404"},
        {"/%2f/evil.com", "404"},
        {"/out/x.txt", "404"},
        {"/out", "404"},
        {"/out/", "404"},
        {"/out.txt", "404"},
        {"/bad-index/", "404"},
        {"/.hidden", "404"},
        {"/%2ehidden", "404"},
        {"/../site-secret/x.txt", "404"},
    };
    for (const auto& [target, expected] : table) {
        INFO(target);
        CHECK(seen(get(folder, target)) == expected);
    }
    CHECK(seen(get(folder, std::string_view{"/app.js\0", 8})) == "404");
    CHECK(seen(get(folder, "/" + std::string(100'000, 'a'))) == "404");
}

TEST_CASE("a folder whose own path is a link is served, also after the link has turned") {
    scratch s;
    fs::create_directory_symlink(s.site(), s.base() / "current");
    const file_folder folder{"/", s.base() / "current"};
    CHECK(seen(get(folder, "/app.js")) == "200 let a;");
    fs::remove(s.base() / "current");
    CHECK(seen(get(folder, "/app.js")) == "404");
    fs::create_directory_symlink(s.base() / "site-secret", s.base() / "current");
    CHECK(seen(get(folder, "/x.txt")) == "200 secret");
}

TEST_CASE("of the names that begin with a dot, only .well-known at the root is served") {
    scratch s;
    fs::create_directories(s.site() / ".well-known" / "acme-challenge");
    fs::create_directories(s.site() / "sub" / ".well-known");
    fs::create_directories(s.site() / ".well-known-not");
    s.write(".well-known/acme-challenge/token", "proof");
    s.write(".well-known/.hidden", "hidden");
    s.write("sub/.well-known/x", "hidden");
    s.write(".well-known-not/x", "hidden");
    const file_folder folder{"/", s.site()};
    CHECK(seen(get(folder, "/.well-known/acme-challenge/token")) == "200 proof");
    CHECK(seen(get(folder, "/%2ewell-known/acme-challenge/token")) == "200 proof");
    for (const auto path : {"/.well-known", "/.well-known/", "/.well-known/.hidden", "/.well-known/../app.js",
                            "/.well-known/../../secret.txt", "/sub/.well-known/x", "/.well-known-not/x",
                            "/.well-known//x", "/.WELL-KNOWN/acme-challenge/token"}) {
        INFO(path);
        CHECK(seen(get(folder, path)) == "404");
    }
    const file_folder challenges{"/.well-known/acme-challenge/", s.site() / "sub"};
    CHECK(seen(get(challenges, "/.well-known/acme-challenge/")) == "200 <p>sub</p>");
}

TEST_CASE("a prefix is cut from the path") {
    scratch s;
    const file_folder folder{"/static", s.site()};
    CHECK(folder.prefix() == "/static/");
    CHECK(seen(get(folder, "/static/app.js")) == "200 let a;");
    CHECK(seen(get(folder, "/st%61tic/app.js")) == "200 let a;");
    CHECK(seen(get(folder, "/static/")) == "200 <p>home</p>");
    CHECK(seen(get(folder, "/static")) == "301 /static/");
    CHECK(seen(get(folder, "/static/sub")) == "301 /static/sub/");
    CHECK(seen(get(folder, "/app.js")) == "404");
    CHECK(seen(get(folder, "/staticapp.js")) == "404");
    CHECK(seen(get(folder, "/static//app.js")) == "404");

    CHECK(folder.matches("/static/x?y"));
    CHECK(folder.matches("/static"));
    CHECK_FALSE(folder.matches("/statics"));
    CHECK_FALSE(folder.matches("/"));
    CHECK(file_folder{"/", s.site()}.matches("/anything"));
}

TEST_CASE("a file is sent with its type and its validators, and never sniffed") {
    scratch s;
    const auto then = std::chrono::file_clock::from_sys(std::chrono::sys_seconds{std::chrono::seconds{784111777}});
    fs::last_write_time(s.site() / "app.js", std::chrono::time_point_cast<fs::file_time_type::duration>(then));
    const auto reply = get(file_folder{"/", s.site()}, "/app.js");
    CHECK(header(reply, "Content-Type") == "text/javascript; charset=utf-8");
    CHECK(header(reply, "X-Content-Type-Options") == "nosniff");
    CHECK(header(reply, "Cache-Control") == "no-cache");
    CHECK(header(reply, "Last-Modified") == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(header(reply, "ETag").starts_with("\"6-"));
    CHECK(reply.content_length == 6);
    CHECK_FALSE(reply.head_only);
}

TEST_CASE("a browser that has the file already is told so") {
    scratch s;
    const file_folder folder{"/", s.site()};
    const auto first = get(folder, "/app.js");
    const auto tag = header(first, "ETag");
    const auto date = header(first, "Last-Modified");

    struct row {
        std::string none_match, since;
        int status;
    };
    const row table[] = {
        {tag, "", 304},
        {"W/" + tag, "", 304},
        {"\"other\", " + tag + " ,\"x\"", "", 304},
        {" * ", "", 304},
        {"\"other\"", "", 200},
        {"\"other\"", date, 200},
        {tag.substr(1, tag.size() - 2), "", 200},
        {"", date, 304},
        {"", "Sun, 06 Nov 1994 08:49:37 GMT", 200},
        {"", "yesterday", 200},
        {"", "", 200},
    };
    for (const auto& row : table) {
        INFO(row.none_match << " / " << row.since);
        const auto reply = folder.get("GET", "/app.js", {row.none_match, row.since});
        CHECK(reply.status == row.status);
        CHECK(header(reply, "ETag") == tag);
        if (row.status == 304) CHECK(reply.body == "");
    }

    s.write("app.js", "let changed;");
    CHECK(folder.get("GET", "/app.js", {tag}).status == 200);
    CHECK(folder.get("GET", "/missing.js", {"*"}).status == 404);
}

TEST_CASE("HEAD answers like GET without the body, other methods are refused") {
    scratch s;
    const file_folder folder{"/", s.site()};
    const auto full = get(folder, "/app.js");
    const auto head = folder.get("HEAD", "/app.js");
    CHECK(head.status == 200);
    CHECK(head.head_only);
    CHECK(head.body == "");
    CHECK(head.content_length == 6);
    CHECK(head.headers == full.headers);

    const auto missing = folder.get("HEAD", "/missing");
    CHECK(missing.status == 404);
    CHECK(missing.body == "");

    for (const auto method : {"POST", "PUT", "DELETE", "OPTIONS", "get", ""}) {
        const auto reply = folder.get(method, "/app.js");
        CHECK(reply.status == 405);
        CHECK(header(reply, "Allow") == "GET, HEAD");
    }
}

TEST_CASE("a file that cannot be read is not there") {
    scratch s;
    const file_folder folder{"/", s.site()};
    REQUIRE(mkfifo((s.site() / "pipe").c_str(), 0600) == 0);
    CHECK(get(folder, "/pipe").status == 404);
    fs::permissions(s.site() / "app.js", fs::perms::none);
    if (access((s.site() / "app.js").c_str(), R_OK) != 0) {  // root reads everything
        CHECK(get(folder, "/app.js").status == 404);
        CHECK(folder.get("HEAD", "/app.js").status == 404);
    }
    fs::remove_all(s.site());
    CHECK(get(folder, "/").status == 404);
}

TEST_CASE("a file for which there is no descriptor left is asked for again later") {
    // It was 404: a browser that came while the server was full took the page for gone.
    scratch s;
    s.write("large", std::string(200'000, 'x'));
    const file_folder folder{"/", s.site()};
    const struct no_descriptors {
        no_descriptors() {
            ::getrlimit(RLIMIT_NOFILE, &before);
            const rlimit none{0, before.rlim_max};
            ::setrlimit(RLIMIT_NOFILE, &none);
        }
        ~no_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before); }
        rlimit before{};
    } none;
    for (const auto path : {"/app.js", "/large"}) {
        const auto reply = get(folder, path);
        CHECK(reply.status == 503);
        CHECK(header(reply, "Retry-After") == "5");
        CHECK(header(reply, "ETag") == "none");
        CHECK(folder.get("HEAD", path).status == 503);
    }
    CHECK(get(folder, "/missing").status == 404);
}

TEST_CASE("a file that comes and goes is sent whole or is not there") {
    scratch s;
    const file_folder folder{"/", s.site()};
    const std::string content(100'000, 'x');
    std::atomic<bool> stop{false};
    std::thread other{[&] {
        while (!stop) {
            s.write("new", content);
            std::error_code ignored;
            fs::rename(s.site() / "new", s.site() / "flicker", ignored);
            fs::remove(s.site() / "flicker", ignored);
        }
    }};
    std::string wrong;
    for (int n = 0; n < 500 && wrong.empty(); ++n) {
        const auto reply = get(folder, "/flicker");
        if (reply.status != 404 && !(reply.status == 200 && reply.body == content)) wrong = seen(reply).substr(0, 100);
    }
    stop = true;
    other.join();
    CHECK(wrong == "");
}

TEST_CASE("a folder that is none and a prefix that is no path are refused with a sentence") {
    scratch s;
    const auto missing = (s.base() / "missing").string();
    CHECK(refusal("/", missing) ==
          "arke: the files' folder \"" + missing + "\" is no directory; make it, or give the path of one that exists");
    CHECK(refusal("/", s.site() / "app.js").find("is no directory") != std::string::npos);
    for (const auto prefix : {"static", "//evil/", "/a/../", "/a?b", "/a#b", "/%61/", "/a\r\n", "/.git"}) {
        INFO(prefix);
        CHECK(refusal(prefix, s.site()).find("must be a path such as") != std::string::npos);
    }
    CHECK(refusal("", s.site()) == "");
}

TEST_CASE("the web's usual files have their types") {
    const std::pair<std::string_view, std::string_view> table[] = {
        {"a.html", "text/html; charset=utf-8"},
        {"a.JS", "text/javascript; charset=utf-8"},
        {"a.mjs", "text/javascript; charset=utf-8"},
        {"a.css", "text/css; charset=utf-8"},
        {"a.b.json", "application/json"},
        {"a.svg", "image/svg+xml; charset=utf-8"},
        {"a.wasm", "application/wasm"},
        {"a.woff2", "font/woff2"},
        {"a.png", "image/png"},
        {"a.txt", "text/plain; charset=utf-8"},
        {"html", "application/octet-stream"},
        {"a.", "application/octet-stream"},
        {"a.exe", "application/octet-stream"},
    };
    for (const auto& [name, type] : table) CHECK(arke::http::media_type(name) == type);
}
