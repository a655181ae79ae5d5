#include <arke/http/routes.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

using arke::http::route_table;

namespace {

/// A handler that is only looked at.
class named final : public arke::http::route_handler {
public:
    explicit named(std::string name) : name_{std::move(name)} {}
    void run(const arke::http::exchange_ptr&) override {}
    const std::string& name() const { return name_; }

private:
    std::string name_;
};

void add(route_table& table, std::string_view method, const std::string& path) {
    table.add(method, path, std::make_unique<named>(std::string{method} + " " + path));
}

/// "GET /a/* +3": the route that answers, and the bytes that stand for its star; else "allowed: GET, HEAD" or "nothing".
std::string seen(const route_table& table, std::string_view method, std::string_view path) {
    const auto found = table.find(method, path);
    if (found.handler == nullptr) return found.allowed.empty() ? "nothing" : "allowed: " + found.allowed;
    const auto& name = static_cast<const named&>(*found.handler).name();
    return name + (name.ends_with('*') ? " +" + std::to_string(found.below) : "");
}

std::string refusal(route_table& table, std::string_view method, const std::string& path) {
    try {
        add(table, method, path);
        return "taken";
    } catch (const std::exception& e) {
        return e.what();
    }
}

}  // namespace

TEST_CASE("the longest route that has the method answers, one without a star before one with it") {
    route_table table;
    add(table, "GET", "/");
    add(table, "GET", "/*");
    add(table, "GET", "/api/*");
    add(table, "GET", "/api/users");
    add(table, "POST", "/api/users");
    add(table, "GET", "/api/users/*");
    add(table, "PUT", "/api/users/*");
    add(table, "OPTIONS", "/free/*");
    add(table, "GET", "/old");
    add(table, "HEAD", "/old");
    add(table, "PURGE", "/cache");

    const std::vector<std::pair<std::string, std::string>> rows{
        {"GET /", "GET /"},
        {"GET /x", "GET /* +1"},
        {"GET /api", "GET /* +3"},
        {"GET /api/", "GET /api/* +0"},
        {"GET /api/x/y", "GET /api/* +3"},
        {"GET /api/users", "GET /api/users"},
        {"GET /api/users/", "GET /api/users/* +0"},
        {"GET /api/users/7", "GET /api/users/* +1"},
        {"GET /api//users", "GET /api/* +6"},
        {"GET /API/users", "GET /* +9"},
        {"GET /api/%75sers", "GET /api/* +7"},
        {"POST /api/users", "POST /api/users"},
        {"PUT /api/users/7", "PUT /api/users/* +1"},
        {"HEAD /api/users", "GET /api/users"},
        {"HEAD /x", "GET /* +1"},
        {"HEAD /old", "HEAD /old"},
        {"GET /old", "GET /old"},
        {"OPTIONS /free/x", "OPTIONS /free/* +1"},
        {"GET /free/x", "GET /* +6"},
        {"PURGE /cache", "PURGE /cache"},
        {"PUT /api/users", "allowed: GET, HEAD, POST, OPTIONS"},
        {"OPTIONS /api/users", "allowed: GET, HEAD, POST, OPTIONS"},
        {"DELETE /api/users/7", "allowed: GET, HEAD, PUT, OPTIONS"},
        {"post /api/users", "allowed: GET, HEAD, POST, OPTIONS"},
    };
    for (const auto& [asked, answered] : rows) {
        CAPTURE(asked);
        const auto space = asked.find(' ');
        CHECK(seen(table, asked.substr(0, space), asked.substr(space + 1)) == answered);
    }

    route_table small;
    add(small, "GET", "/a");
    CHECK(seen(small, "GET", "/a/") == "nothing");
    CHECK(seen(small, "GET", "/") == "nothing");
    CHECK(seen(small, "GET", "*") == "nothing");
    CHECK(seen(small, "GET", "") == "nothing");
    CHECK(small.has_path("/a"));
    CHECK_FALSE(small.has_path("/b"));
}

TEST_CASE("HEAD is answered by the GET of a longer path before the HEAD of a shorter one") {
    route_table table;
    add(table, "HEAD", "/*");
    add(table, "GET", "/a");
    CHECK(seen(table, "HEAD", "/a") == "GET /a");
    CHECK(seen(table, "HEAD", "/b") == "HEAD /* +1");
}

TEST_CASE("a route that cannot be is refused by a sentence that says what to write") {
    route_table table;
    add(table, "GET", "/a");
    add(table, "GET", "/a/*");
    CHECK(refusal(table, "GET", "/a") == "arke: route(): GET /a has a handler already; let one answer");
    CHECK(refusal(table, "GET", "/a/*") == "arke: route(): GET /a/* has a handler already; let one answer");
    CHECK(refusal(table, "POST", "/a") == "taken");
    CHECK(refusal(table, "G T", "/b").find("write one such as \"GET\"") != std::string::npos);
    CHECK(refusal(table, "", "/b").find("is none") != std::string::npos);
    for (const std::string path : {"", "a", "*"}) {
        CAPTURE(path);
        CHECK(refusal(table, "GET", path).find("does not start with '/'") != std::string::npos);
    }
    for (const std::string path : {"/a b", "/a?b", "/a#b", "/\xC3\xA9", "/a\r\n"}) {
        CAPTURE(path);
        CHECK(refusal(table, "GET", path).find("leave out spaces") != std::string::npos);
    }
    for (const std::string path : {"/*/a", "/a*", "/a*b", "/**", "/*/*"}) {
        CAPTURE(path);
        CHECK(refusal(table, "GET", path).find("has a star within") != std::string::npos);
    }
}
