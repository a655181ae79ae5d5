#include <arke/wire/request.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

using arke::request;

namespace {

using fields = std::vector<std::pair<std::string_view, std::string_view>>;

request at(std::string_view target) { return {"GET", target, 11, {}}; }

std::string or_none(const std::optional<std::string>& text) { return text.value_or("none"); }

}  // namespace

TEST_CASE("a request gives back what it was made of") {
    std::string host = "example.com";
    request r{"GET", "/chat?x=1", 11, {{"Host", host}, {"X-Empty", ""}, {"Cookie", "a=1"}}, "192.0.2.7", 4711};
    host.assign(host.size(), '?');  // the request owns its bytes

    CHECK(r.method() == "GET");
    CHECK(r.target() == "/chat?x=1");
    CHECK(r.version() == 11);
    CHECK(r.remote_address() == "192.0.2.7");
    CHECK(r.remote_port() == 4711);

    std::string all;
    for (auto [name, value] : r.headers()) all.append(name).append("=").append(value).append(" ");
    CHECK(all == "Host=example.com X-Empty= Cookie=a=1 ");
    CHECK(r.headers().size() == 3);
}

TEST_CASE("an empty request answers every question") {
    const request r;
    CHECK(r.method() == "");
    CHECK(r.path() == "");
    CHECK(r.header("host") == "");
    CHECK(r.headers().empty());
    CHECK(r.headers().begin() == r.headers().end());
    CHECK(or_none(r.query("x")) == "none");
    CHECK(or_none(r.cookie("x")) == "none");
    CHECK(r.version() == 0);
}

TEST_CASE("a copied or moved request keeps its parts") {
    request first{"GET", "/a", 11, {{"Host", "h"}}, "::1", 1};
    const request copy = first;
    const request moved = std::move(first);
    CHECK(copy.header("HOST") == "h");
    CHECK(moved.header("host") == "h");
    CHECK(moved.remote_address() == "::1");
}

TEST_CASE("headers are found whatever their case, the first of several") {
    const request r{"GET", "/", 11, {{"X-One", " \t padded\t "}, {"x-one", "second"}, {"X-Empty", "  "}}};
    CHECK(r.header("x-ONE") == "padded");
    CHECK(r.header_values("X-one") == std::vector<std::string_view>{"padded", "second"});
    CHECK(r.has_header("x-empty"));
    CHECK(r.header("x-empty") == "");
    CHECK_FALSE(r.has_header("x-on"));
    CHECK(r.header("x-on") == "");
}

TEST_CASE("target, path and query are told apart") {
    struct row {
        std::string_view target, path, decoded, query;
    };
    const row table[] = {
        {"/", "/", "/", ""},
        {"/chat", "/chat", "/chat", ""},
        {"/chat?", "/chat", "/chat", ""},
        {"/chat?a=b?c", "/chat", "/chat", "a=b?c"},
        {"/a%20b%2fc+d?x", "/a%20b%2fc+d", "/a b/c+d", "x"},
        {"/%2541", "/%2541", "/%41", ""},
        {"/%", "/%", "/%", ""},
        {"/%4", "/%4", "/%4", ""},
        {"/%zz%4", "/%zz%4", "/%zz%4", ""},
        {"//host/x", "//host/x", "//host/x", ""},
        {"/go?to=http://a/b", "/go", "/go", "to=http://a/b"},
        {"http://example.com/chat?x", "/chat", "/chat", "x"},
        {"http://example.com", "/", "/", ""},
        {"http://example.com?x", "/", "/", "x"},
        {"*", "*", "*", ""},
    };
    for (const auto& row : table) {
        INFO(row.target);
        CHECK(at(row.target).path() == row.path);
        CHECK(at(row.target).decoded_path() == row.decoded);
        CHECK(at(row.target).query_string() == row.query);
    }
}

TEST_CASE("a query parameter is decoded as a form, the first of several") {
    const auto r = at("/?name=Ada+L.&beta&empty=&name=other&%6Bey=a%3Db%26c%2B&&=nameless&e=1=2");
    CHECK(or_none(r.query("name")) == "Ada L.");
    CHECK(or_none(r.query("beta")) == "");
    CHECK(or_none(r.query("empty")) == "");
    CHECK(or_none(r.query("key")) == "a=b&c+");
    CHECK(or_none(r.query("e")) == "1=2");
    CHECK(or_none(r.query("")) == "nameless");
    CHECK(or_none(r.query("nam")) == "none");
    CHECK(or_none(at("/").query("")) == "none");
    CHECK(or_none(at("/?&&&").query("")) == "none");
}

TEST_CASE("a cookie is found in any Cookie header") {
    const request r{
        "GET", "/", 11, {{"Cookie", "a=1; b=\"two\";c=x=y ; empty=; junk; =nameless"}, {"cookie", "a=2; late=%20"}}};
    CHECK(or_none(r.cookie("a")) == "1");
    CHECK(or_none(r.cookie("b")) == "two");
    CHECK(or_none(r.cookie("c")) == "x=y");
    CHECK(or_none(r.cookie("empty")) == "");
    CHECK(or_none(r.cookie("late")) == "%20");
    CHECK(or_none(r.cookie("A")) == "none");
    CHECK(or_none(r.cookie("junk")) == "none");
}

TEST_CASE("a request is one block of memory") {
    static_assert(sizeof(request) <= sizeof(std::string) + 16 + sizeof(arke::tls_session_ptr));
    const fields none;
    CHECK(request{"GET", "/", 11, none}.headers().size() == 0);
}

TEST_CASE("the headers of a request are walked by a forward iterator") {
    const arke::request r{"GET", "/", 11, {{"Host", "a"}, {"Accept", "b"}}};
    auto at = r.headers().begin();
    CHECK(at->name == "Host");
    CHECK((at++)->value == "a");
    CHECK(at->name == "Accept");
    CHECK(++at == r.headers().end());
    CHECK(r.headers().size() == 2);
}
