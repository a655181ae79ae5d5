#include <arke/arke.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/running_server.hpp"
#include "tests/support/temporary_folder.hpp"

#ifndef _WIN32
#include <sys/stat.h>
#endif

using namespace arke::test;
using arke::http_request;
using arke::response;
namespace fs = std::filesystem;

namespace {

/// A folder "site" with a secret beside it, and links that lead there.
class site {
public:
    site() {
        fs::create_directories(path() / "sub");
        fs::create_directories(path() / ".git");
        fs::create_directories(base_.path() / "site-secret");
        write("index.html", "home");
        write("page.txt", "page");
        write("a b.txt", "spaced");
        write("sub/index.html", "sub");
        write(".git/config", "secret");
        write(".env", "secret");
        write("../secret.txt", "secret");
        write("../site-secret/x.txt", "secret");
        fs::create_symlink(base_.path() / "secret.txt", path() / "link.txt");
        fs::create_directory_symlink(base_.path() / "site-secret", path() / "linked");
        fs::create_symlink(path() / "page.txt", path() / "alias.txt");
        fs::create_symlink(path() / "turns", path() / "turns");
        REQUIRE(mkfifo((path() / "pipe").c_str(), 0600) == 0);
    }

    fs::path path() const { return base_.path() / "site"; }

private:
    void write(const std::string& name, std::string_view text) const {
        std::ofstream{path() / name, std::ios::binary} << text;
    }

    temporary_folder base_;
};

struct row {
    std::string request;
    std::string answers;  ///< Statuses, and bodies of files; "closed" where the server ends it after them.
};

std::string get(const std::string& target, const std::string& more = {}, const std::string& method = "GET") {
    return method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n";
}

/// What follows every row: it is answered, or the connection was closed.
const std::string last = get("/the-end");

std::string told(std::uint16_t port, const row& r) {
    raw_client one{port};
    one.send(r.request + last);
    std::string out;
    for (;;) {
        const auto reply = one.read_reply(r.request.starts_with("HEAD "));
        if (reply.status == 0) return out + "closed";
        if (reply.body == "the end") return out + "stays";
        out += std::to_string(reply.status) + " ";
        if (reply.status == 200 || reply.status == 206) out += reply.body + " ";
        if (reply.status == 301) out += reply["location"] + " ";
        if (reply["connection"].ends_with("close")) return out + (one.read_to_end().empty() ? "closed" : "and more");
    }
}

std::vector<row> paths() {
    std::vector<row> t{
        // what is there
        {get("/"), "200 home stays"},
        {get("/page.txt"), "200 page stays"},
        {get("/alias.txt"), "200 page stays"},
        {get("/a%20b.txt"), "200 spaced stays"},
        {get("/%70age.txt?a=/../"), "200 page stays"},
        {get("/sub/"), "200 sub stays"},
        {get("/sub"), "301 /sub/ stays"},
        {get("http://x/page.txt"), "200 page stays"},
    };
    // what is not, or must not be seen
    for (const std::string path : {
             "/missing",
             "/page.txt/",
             "/page.txt/x",
             "/../secret.txt",
             "/..",
             "/../",
             "/../../../../etc/passwd",
             "/sub/../../secret.txt",
             "/sub/../page.txt",
             "/./page.txt",
             "/.",
             "/%2e%2e/secret.txt",
             "/%2E%2E/secret.txt",
             "/.%2e/secret.txt",
             "/%2e./secret.txt",
             "/%252e%252e/secret.txt",
             "/%25252e%25252e/secret.txt",
             "/..%2fsecret.txt",
             "/..%2Fsecret.txt",
             "/..%5csecret.txt",
             "/..\\secret.txt",
             "/..\\..\\etc\\passwd",
             "/%c0%ae%c0%ae/secret.txt",
             "/%c0%2e%c0%2e/secret.txt",
             "/%e0%80%ae%e0%80%ae/secret.txt",
             "/%u002e%u002e/secret.txt",
             "/..;/secret.txt",
             "/...//secret.txt",
             "/....//secret.txt",
             "/page.txt%00",
             "/page.txt%00.html",
             "/%00",
             "/page.txt%0a",
             "/%0d%0aSet-Cookie:%20a=b",
             "/page.txt%20",
             "/page.txt.",
             "/page.txt::$DATA",
             "/PAGE.TXT",
             "//page.txt",
             "//evil.com/",
             "//evil.com/..",
             "///etc/passwd",
             "/sub//index.html",
             "/%2fetc/passwd",
             "/%2f%2fevil.com",
             "/\\evil.com",
             "/link.txt",
             "/linked/x.txt",
             "/linked/",
             "/linked",
             "/turns",
             "/pipe",
             "/.git/config",
             "/.git/",
             "/.env",
             "/%2eenv",
             "/~root/.ssh/id_rsa",
             "/proc/self/environ",
             "/C:/Windows/win.ini",
             "/file:///etc/passwd",
             "http://x/../secret.txt",
             "http://x//etc/passwd",
         }) {
        t.push_back({get(path), "404 stays"});
    }
    t.push_back({get("/" + std::string(5000, 'a')), "404 stays"});
    std::string deep;
    for (int i = 0; i != 1500; ++i) deep += "/..";
    t.push_back({get(deep + "/etc/passwd"), "404 stays"});
    return t;
}

std::vector<row> requests() {
    return {
        // methods
        {get("/page.txt", "", "POST"), "405 stays"},
        {get("/page.txt", "", "DELETE"), "405 stays"},
        {get("/page.txt", "", "PROPFIND"), "405 stays"},
        {get("/page.txt", "", "get"), "405 stays"},
        {get("/take", ""), "405 stays"},
        {get("/take", "", "OPTIONS"), "204 stays"},
        {get("*", "", "OPTIONS"), "404 stays"},
        {get("/page.txt", "X-HTTP-Method-Override: DELETE\r\n"), "200 page stays"},
        {get("localhost:80", "", "CONNECT"), "400 closed"},
        {get("/page.txt", "", std::string(33, 'A')), "400 closed"},
        // ranges
        {get("/page.txt", "Range: bytes=1-2\r\n"), "206 ag stays"},
        {get("/page.txt", "Range: bytes=9-\r\n"), "416 stays"},
        {get("/page.txt", "Range: bytes=0-0,-1\r\n"), "200 page stays"},
        {get("/page.txt", "Range: bytes=" + std::string(2000, ',') + "\r\n"), "200 page stays"},
        {get("/page.txt", "Range: bytes=99999999999999999999999-\r\n"), "416 stays"},
        // bodies
        {get("/take", "Content-Length: 3\r\n", "POST") + "abc", "200 abc stays"},
        {get("/take", "Transfer-Encoding: chunked\r\n", "POST") + "3\r\nabc\r\n0\r\n\r\n", "200 abc stays"},
        {get("/take", "Content-Length: 11\r\n", "POST"), "413 closed"},
        {get("/take", "Content-Length: 18446744073709551615\r\n", "POST"), "400 closed"},
        {get("/take", "Content-Length: 9999999999999999999\r\n", "POST"), "413 closed"},
        {get("/take", "Transfer-Encoding: chunked\r\n", "POST") + "B\r\n", "413 closed"},
        {get("/take", "Transfer-Encoding: chunked\r\n", "POST") + "FFFFFFFFFFFFFFFFF\r\n", "400 closed"},
        {get("/take", "Transfer-Encoding: chunked\r\n", "POST") + "0x3\r\nabc\r\n0\r\n\r\n", "400 closed"},
        {get("/take", "Transfer-Encoding: chunked\r\n", "POST") + "3\nabc\n0\n\n", "400 closed"},
        {get("/take", "Transfer-Encoding: chunked\r\n", "POST") + "3\r\nabcd\r\n0\r\n\r\n", "400 closed"},
        {get("/take", "Transfer-Encoding: gzip, chunked\r\n", "POST"), "501 closed"},
        {get("/take", "Transfer-Encoding: chunked, gzip\r\n", "POST"), "400 closed"},
        {get("/take", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "POST"), "400 closed"},
        {get("/take", "Content-Length: 3\r\nContent-Length: 4\r\n", "POST"), "400 closed"},
        {get("/take", "Content-Length: -1\r\n", "POST"), "400 closed"},
        {get("/take", "Content-Length: 3\r\nExpect: 200-ok\r\n", "POST"), "417 closed"},
        {get("/page.txt", "Content-Length: 3\r\n") + "abc", "200 page closed"},
        {get("/page.txt", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", "200 page closed"},
        {get("/missing", "Content-Length: 1000000000\r\n", "POST"), "405 closed"},
        // the protocol
        {"GET /page.txt HTTP/1.0\r\n\r\n", "200 page closed"},
        {"GET /page.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 page closed"},
        {"GET /page.txt HTTP/2.0\r\nHost: x\r\n\r\n", "505 closed"},
        {"GET /page.txt\r\n", "400 closed"},
        {"GET /page.txt HTTP/1.1\r\n\r\n", "400 closed"},
        {get("/page.txt", "Host: y\r\n"), "400 closed"},
        {get("/page.txt", "A : b\r\n"), "400 closed"},
        {get("/page.txt", "A: b\r\n c\r\n"), "400 closed"},
        {get("/page.txt", "A: \x01\r\n"), "400 closed"},
        {get("/page.txt", "Connection: close\r\n"), "200 page closed"},
        {get("/page.txt", "A: " + std::string(9000, 'a') + "\r\n"), "431 closed"},
        {get("/" + std::string(9000, 'a')), "414 closed"},
        {get("page.txt"), "400 closed"},
        {get("ftp://x/page.txt"), "400 closed"},
        {get("/page txt"), "400 closed"},
        // the WebSocket's path
        {get("/ws"), "426 closed"},
        {get("/ws", "", "POST"), "405 closed"},
        {get("/ws/"), "404 stays"},
        {get("/%77s"), "404 stays"},
        {upgrade_request("/nowhere"), "404 stays"},
        {upgrade_request("/page.txt"), "200 page stays"},
    };
}

}  // namespace

TEST_CASE("hostile paths and requests are answered as they should be, and nothing is answered twice") {
    const site pages;
    auto c = quiet(GENERATE(from_range(all_loops())), {.endpoint = "/ws"});
    c.listener.max_body_size = 10;
    running_server net{c};
    net->files("/", pages.path().string());
    net->post("/take", [](const http_request& r) { return response::text(std::string{r.body()}); });
    net->get("/the-end", [] { return response::text("the end"); });
    net.start();
    const auto all_paths = paths();
    const auto all_requests = requests();
    CHECK(all_paths.size() + all_requests.size() >= 120);
    for (const auto& table : {all_paths, all_requests}) {
        for (const auto& r : table) {
            CAPTURE(r.request.substr(0, 100));
            CHECK(told(net.port(), r) == r.answers);
        }
    }
    // And everybody else is served as before.
    CHECK(raw_client{net.port()}.get("/page.txt").body == "page");
}
