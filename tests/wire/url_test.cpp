#include <arke/wire/url.hpp>

#include <string>
#include <string_view>

#include "tests/support/catch.hpp"

namespace wire = arke::wire;

namespace {

/// "scheme host port target host-header", and the path of a socket behind it; or "no: " and why.
std::string taken_apart(std::string_view text) {
    std::string why;
    const auto u = wire::parse_url(text, why);
    if (!u) return "no: " + why;
    return std::string{u->is_secure ? "wss " : "ws "} + u->at.host + (u->at.is_ipv6 ? " v6 " : " ") +
           std::to_string(u->at.port) + " " + u->target + " " + u->host_header() +
           (u->socket_path.empty() ? "" : " " + u->socket_path);
}

std::string proxy(std::string_view text) {
    std::string why;
    const auto p = wire::parse_proxy(text, why);
    return p ? p->at.text() + " " + p->credentials : "no: " + why;
}

/// "place user password database".
std::string redis(std::string_view text) {
    std::string why;
    const auto r = wire::parse_redis(text, why);
    return r ? r->place() + " " + r->user + " " + r->password + " " + std::to_string(r->database) : "no: " + why;
}

struct row {
    const char* url;
    const char* outcome;
};

}  // namespace

TEST_CASE("a WebSocket URL is taken apart, or refused with a sentence that says what to mend") {
    const auto r = GENERATE(values<row>({
        {"ws://localhost", "ws localhost 80 / localhost"},
        {"ws://localhost/", "ws localhost 80 / localhost"},
        {"WS://Example.COM:80/Chat", "ws Example.COM 80 /Chat Example.COM"},
        {"ws://localhost:8080/chat?room=a&b=%20#", "no: it holds a '#'"},
        {"ws://localhost:8080/chat?room=a&b=%20", "ws localhost 8080 /chat?room=a&b=%20 localhost:8080"},
        {"ws://localhost?x=/y", "ws localhost 80 /?x=/y localhost"},
        {"ws://a.b-c_d.example:65535", "ws a.b-c_d.example 65535 / a.b-c_d.example:65535"},
        {"ws://192.0.2.7:1/x", "ws 192.0.2.7 1 /x 192.0.2.7:1"},
        {"ws://[::1]:8080/x", "ws ::1 v6 8080 /x [::1]:8080"},
        {"ws://[2001:db8::192.0.2.1]", "ws 2001:db8::192.0.2.1 v6 80 / [2001:db8::192.0.2.1]"},
        {"wss://example.com", "wss example.com 443 / example.com"},
        {"wss://example.com:80", "wss example.com 80 / example.com:80"},
        {"ws://h/a//b/../c?d?e", "ws h 80 /a//b/../c?d?e h"},
        {"ws+unix:///run/x.sock", "ws localhost 80 / localhost /run/x.sock"},
        {"ws+unix:///run/x.sock:/chat?a=b:c", "ws localhost 80 /chat?a=b:c localhost /run/x.sock"},
        {"ws+unix:/run/x.sock:/chat", "ws localhost 80 /chat localhost /run/x.sock"},
        {"WSS+unix:///a b%20c:", "wss localhost 443 / localhost /a b%20c"},
        {"ws+unix://run/x.sock:/", "no: it names no file"},
        {"ws+unix://", "no: it names no file"},
        {"ws+unix::/path", "no: it names no file"},
        {"ws+unix:///x:/a b", "no: the path or the query holds"},
        {"ws+unix:///x:/a#b", "no: it holds a '#'"},
        {"xx+unix:///x", "no: it does not begin with ws+unix:"},
        {"http+unix:///x", "no: it does not begin with ws://"},
        {"", "no: it does not begin with ws://"},
        {"localhost:8080", "no: it does not begin with ws://"},
        {"http://localhost", "no: it does not begin with ws://"},
        {"ws:/localhost", "no: it does not begin with ws://"},
        {" ws://localhost", "no: it does not begin with ws://"},
        {"ws://", "no: the host is missing"},
        {"ws:///path", "no: the host is missing"},
        {"ws://:8080", "no: the host is missing"},
        {"ws://?x", "no: the host is missing"},
        {"ws://user@host", "no: it holds a user"},
        {"ws://user:secret@host/x", "no: it holds a user"},
        {"ws://host:0", "no: the port is none"},
        {"ws://host:", "no: the port is none"},
        {"ws://host:65536", "no: the port is none"},
        {"ws://host:080800", "no: the port is none"},
        {"ws://host:80a", "no: the port is none"},
        {"ws://host:80:80", "no: the port is none"},
        {"ws://[::1", "no: the '[' of an IPv6 address has no ']'"},
        {"ws://[]", "no: what stands in brackets is no IPv6"},
        {"ws://[fe80::1%25eth0]", "no: what stands in brackets is no IPv6"},
        {"ws://[::1]x", "no: the port is none"},
        {"ws://h\xC3\xA9/", "no: a host is made of"},
        {"ws://a b/", "no: a host is made of"},
        {"ws://a%41/", "no: a host is made of"},
        {"ws://host\\evil/", "no: a host is made of"},
        {"ws://host/a b", "no: the path or the query holds"},
        {"ws://host/\r\nX: y", "no: the path or the query holds"},
        {"ws://host/\xC3\xA9", "no: the path or the query holds"},
    }));
    INFO(r.url);
    const std::string_view outcome{r.outcome};
    CHECK(taken_apart(r.url).substr(0, outcome.size()) == outcome);
    if (!outcome.starts_with("no:")) CHECK(taken_apart(r.url) == outcome);
}

TEST_CASE("a proxy's URL has a port, and credentials where it wants some") {
    const auto r = GENERATE(values<row>({
        {"http://proxy.example:3128", "proxy.example:3128 "},
        {"HTTP://proxy.example:3128/", "proxy.example:3128 "},
        {"http://[::1]:3128", "[::1]:3128 "},
        {"http://ada:secret@proxy.example:3128", "proxy.example:3128 ada:secret"},
        {"http://ada:se%40cr%3Aet@proxy:3128", "proxy:3128 ada:se@cr:et"},
        {"http://ada@proxy:3128", "proxy:3128 ada:"},
        {"http://ada:a@b@proxy:3128", "proxy:3128 ada:a@b"},
        {"proxy.example:3128", "no: it does not begin with http://"},
        {"socks5://proxy:1080", "no: it does not begin with http://"},
        {"http://proxy", "no: the port is missing; proxies have none of their own"},
        {"http://", "no: the host is missing"},
    }));
    INFO(r.url);
    CHECK(proxy(r.url) == r.outcome);
}

TEST_CASE("the URL of a Redis may name a user, a password and a database, or a socket") {
    const auto r = GENERATE(values<row>({
        {"redis://localhost", "localhost:6379   0"},
        {"REDIS://localhost/", "localhost:6379   0"},
        {"redis://[::1]:7000/3", "[::1]:7000   3"},
        {"redis://ada:secret@redis.example/15", "redis.example:6379 ada secret 15"},
        {"redis://:secret@h:1", "h:1  secret 0"},
        {"redis://a%3Ada:se%40c%2Fr:et@h", "h:6379 a:da se@c/r:et 0"},
        {"redis://:a@b@h", "h:6379  a@b 0"},
        {"redis+unix:///run/redis.sock", "/run/redis.sock   0"},
        {"redis+unix:/run/redis.sock", "/run/redis.sock   0"},
        {"", "no: it does not begin with redis:// or redis+unix:"},
        {"localhost:6379", "no: it does not begin with redis:// or redis+unix:"},
        {"nats://localhost", "no: it does not begin with redis:// or redis+unix:"},
        {"rediss://localhost", "no: it asks for TLS"},
        {"redis://", "no: the host is missing"},
        {"redis:///1", "no: the host is missing"},
        {"redis://ada@host", "no: it has an '@' and no password"},
        {"redis://ada:@host", "no: it has an '@' and no password"},
        {"redis://:@host", "no: it has an '@' and no password"},
        {"redis://@host:1", "no: it has an '@' and no password"},
        {"redis://host:0", "no: the port is none"},
        {"redis://:a/b@host", "no: the host is missing"},
        {"redis://ada:a@b/c@host", "no: behind the host stands"},
        {"redis://host/x", "no: behind the host stands"},
        {"redis://host/-1", "no: behind the host stands"},
        {"redis://host/123456", "no: behind the host stands"},
        {"redis://host?db=1", "no: behind the host stands"},
        {"redis://host/1/2", "no: behind the host stands"},
        {"redis+unix:run/x", "no: it names no file"},
    }));
    INFO(r.url);
    const std::string_view outcome{r.outcome};
    CHECK(redis(r.url).substr(0, outcome.size()) == outcome);
    if (!outcome.starts_with("no:")) CHECK(redis(r.url) == outcome);
}
