// A page, a small REST API and live events in one program: whoever signs in by HTTP may connect, and hears what others post.
//
//     rest_and_events [PORT]
//
// server.run() has one thread here, and handlers run on its loop one at a time: the notes need no lock.

#include <arke/arke.hpp>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace asio = boost::asio;
using arke::http_request;
using arke::response;

struct login {
    std::string name;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(login, name)

struct note {
    std::string by;
    std::string text;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(note, by, text)

/// What a connection knows of its user. on_upgrade() fills it.
struct member {
    std::string name;
};

/// Who has which token, for an hour. A database in earnest, hence the coroutine: while one waits, the loop serves the others.
///
/// Anybody may sign in here as often as they like, so there is a bound: where 1,000 are signed in, who came first goes.
class members {
public:
    std::string add(const std::string& name) {
        std::random_device source;
        std::string token;
        for (int i = 0; i != 4; ++i) token += std::to_string(source());
        const auto now = clock::now();
        while (!oldest_first_.empty() &&
               (oldest_first_.size() >= 1000 || known_.at(oldest_first_.front()).until <= now)) {
            known_.erase(oldest_first_.front());
            oldest_first_.pop_front();
        }
        known_[token] = {name, now + std::chrono::hours{1}};
        oldest_first_.push_back(token);
        return token;
    }

    asio::awaitable<std::optional<std::string>> find(std::optional<std::string> token) const {
        asio::steady_timer far_away{co_await asio::this_coro::executor, std::chrono::milliseconds{5}};
        co_await far_away.async_wait(asio::use_awaitable);
        const auto found = known_.find(token.value_or(""));
        if (found == known_.end() || found->second.until <= clock::now()) co_return std::nullopt;
        co_return found->second.name;
    }

private:
    using clock = std::chrono::steady_clock;
    struct entry {
        std::string name;
        clock::time_point until;
    };
    std::map<std::string, entry> known_;
    std::deque<std::string> oldest_first_;
};

constexpr const char* page = R"(<!doctype html><meta charset="utf-8"><title>Notes</title>
<script src="/arke.js"></script>
<form><input name="text" placeholder="a note"></form><ul></ul>
<script>
  const post = (path, body) => fetch(path, { method: "POST", body: JSON.stringify(body) });
  const show = note => document.querySelector("ul").append(
    Object.assign(document.createElement("li"), { textContent: note.by + ": " + note.text }));
  document.forms[0].onsubmit = event => {
    event.preventDefault();
    post("/api/notes", { text: document.forms[0].text.value });
  };
  post("/api/login", { name: prompt("Your name?") || "somebody" }).then(async () => {
    (await (await fetch("/api/notes")).json()).forEach(show);
    new Ws("/events").On("note", show);
  });
</script>
)";

int main(int argc, char** argv) {
    arke::basic_server<member> server{{.endpoint = "/events", .listener = {.max_body_size = 4096}}};
    members known;
    std::vector<note> notes;

    server.get("/", [] { return response::html(page); });

    server.post("/api/login", [&](const http_request& r) {
        const auto who = r.json<login>();  // what does not convert is answered by 400
        return response{204}.cookie("token", known.add(who.name));
    });

    server.get("/api/notes", [&] { return response::json(notes); });

    server.post("/api/notes", [&](const http_request& r) -> asio::awaitable<response> {
        const auto name = co_await known.find(r.cookie("token"));
        if (!name) throw arke::http_error{401, "Sign in first: POST /api/login."};
        auto added = r.json<note>();
        added.by = *name;
        if (notes.size() == 100) notes.erase(notes.begin());  // what clients add has a bound
        notes.push_back(added);
        server.to(arke::all).emit("note", added);
        co_return response::json(added, 201);
    });

    server.on_upgrade([&](arke::basic_upgrade<member>& u) -> asio::awaitable<void> {
        const auto name = co_await known.find(u.request().cookie("token"));
        if (name)
            u.session().name = *name;
        else
            u.refuse(401, "Sign in first: POST /api/login.");
    });

    server.on_connection([](arke::basic_connection<member>& c) { c.emit("welcome", c.session().name); });

    server.listen("127.0.0.1", argc > 1 ? std::atoi(argv[1]) : 8080);
    std::cout << "http://localhost:" << server.port() << "/" << std::endl;
    server.run();
}
