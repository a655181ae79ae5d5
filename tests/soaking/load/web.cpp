// Pages, scripts, what is nowhere, and the metrics, over connections that are kept and such that are not.

#include "client.hpp"

namespace soak {

namespace {

struct question {
    std::string_view request;
    int answer;
    std::string_view part_of_body;
};
constexpr std::array questions{
    question{"GET /iris-ws.js", 200, "websocket"},
    question{"GET /pages/index.html", 200, "<html"},
    question{"GET /nowhere", 404, ""},
    question{"GET /metrics", 200, "arke_connections "},
    question{"GET /pages/../secret", 404, ""},
    question{"POST /iris-ws.js", 405, ""},
    question{"GET /chat", 426, ""},
    question{"GET /arke.js", 200, "Ws"},
    question{"GET /pages/classic.html", 200, "html"},
    question{"GET /pages/%00", 404, ""},
};

// The server closes a connection that has been kept for its handshake_timeout without a request, and this request may cross
// that on its way (RFC 9112 §9.5): then we go on by another connection. Only a load that got no processor for so long
// is that late, or a server that got none and looks at its clock before it looks at us. The server counts from its last answer, which
// we saw some time after; hence from our last request on.
constexpr milliseconds server_waits{6000};

awaitable<void> browse(world& w) {
    while (w.running) {
        const auto c = make_client(w, "a browser");
        auto last_said = steady::now();
        if (!co_await c->connect()) co_return;
        for (auto requests = 1 + w.below(40); w.running && requests != 0; --requests) {
            const auto& asked = questions[w.below(questions.size())];
            const auto before = std::exchange(last_said, steady::now());
            const auto kept = std::chrono::duration_cast<milliseconds>(last_said - before);
            c->write(std::string{asked.request} + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
            const auto status = co_await c->read_answer();
            if (status == 0 && c->unread() == 0 && steady::now() - before >= server_waits) {
                ++w.count.kept_too_long;
                w.server_must_have_been_late = std::max(w.server_must_have_been_late, server_waits - kept);
                break;
            }
            ++w.count.http_answers;
            if (status != asked.answer && !(asked.answer == 404 && (status == 400 || status == 403))) {
                w.fault(std::string{asked.request} + " was answered " + std::to_string(status) + " and not " +
                        std::to_string(asked.answer) + " (" + std::to_string(requests) + " to go; " + c->last_end +
                        "; the request before was " + std::to_string(kept.count()) + " ms earlier)");
            }
            if (c->last_body.find(asked.part_of_body) == std::string::npos)
                w.fault(std::string{asked.request} + " was answered without its text");
            if (status == 0 || c->last_head.find("close\r\n") != std::string::npos) break;
            co_await w.pause(milliseconds{w.below(20)});
        }
        if (w.chance(30)) {
            c->write("GET /iris-ws.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
            c->reset();
        }
        c->cut();
    }
}

}  // namespace

void start_web(world& w) {
    for (int i = 0; i != 2; ++i) w.start(browse(w));
}

}  // namespace soak
