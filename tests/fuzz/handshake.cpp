// The HTTP side: header blocks whole and in pieces, and a session over a stream in memory, whose answers are HTTP or nothing.
#include <arke/http/session.hpp>
#include <arke/testing.hpp>

#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/fuzz/finding.hpp"
#include "tests/support/choices.hpp"

using namespace arke;
using arke::fuzz::require;
using arke::test::choices;

namespace {

void scan(std::string_view bytes, const std::vector<std::size_t>& cuts, const wire::header_limits& limits) {
    using result = wire::header_scanner::result;
    wire::header_scanner whole{limits};
    const auto said = whole.feed(bytes);
    wire::header_scanner pieces{limits};
    auto last = result::more;
    std::size_t cut = 0;
    for (std::size_t at = 0; at != bytes.size() && last == result::more;) {
        const auto count = std::min(cuts.empty() ? 1 : cuts[cut++ % cuts.size()], bytes.size() - at);
        last = pieces.feed(bytes.substr(at, count));
        at += count;
    }
    require(said == last || bytes.empty(), "another result in pieces");
    if (said == result::refused) {
        require(pieces.fault() == whole.fault(), "another fault in pieces");
        const auto answer = wire::refusal_of(whole.fault());
        require(answer.status >= 400 && answer.status <= 505 && !answer.reason.empty(), "a refusal without a reason");
    }
    if (said != result::complete) return;
    require(pieces.begin() == whole.begin() && pieces.end() == whole.end(), "another block in pieces");
    const auto block = bytes.substr(whole.begin(), whole.end() - whole.begin());
    require(block.ends_with("\r\n\r\n") && block.size() <= limits.max_header_bytes, "a block without its end");
    // Whoever finds no fault in it has read what every other parser reads.
    if (!wire::find_header_fault(block, limits))
        require(block.find('\0') == std::string_view::npos, "a NUL in a block");
}

/// Answers at once by how long the body was, or when it is told to.
class counting final : public http::route_handler {
public:
    explicit counting(std::vector<http::exchange_ptr>* waiting = nullptr) : waiting_{waiting} {}

    void run(const http::exchange_ptr& what) override {
        require(what->request().body().size() <= 40, "a body over its bound");
        if (waiting_ != nullptr) return waiting_->push_back(what);
        answer(*what);
    }

    static void answer(http::exchange& what) {
        what.settle(response::text(std::to_string(what.request().body().size())));
    }

private:
    std::vector<http::exchange_ptr>* waiting_;
};

/// The bytes of one answer, its head checked.
std::size_t answer_size(std::string_view sent, bool& upgraded) {
    require(sent.starts_with("HTTP/1.1 ") && sent.size() > 12, "an answer that is not HTTP");
    const auto head_end = sent.find("\r\n\r\n");
    require(head_end != std::string_view::npos, "an answer without the end of its head");
    int status = 0;
    std::from_chars(sent.data() + 9, sent.data() + 12, status);
    require(status == 100 || status == 101 || (status >= 200 && status <= 505), "an answer with a strange status");
    require(sent[12] == ' ' && sent[13] != '\r', "an answer without a phrase");
    std::size_t length = 0;
    std::size_t lengths = 0;
    auto lines = sent.substr(0, head_end + 2);
    lines.remove_prefix(lines.find("\r\n") + 2);
    while (!lines.empty()) {
        const auto line = lines.substr(0, lines.find("\r\n"));
        lines.remove_prefix(line.size() + 2);
        const auto colon = line.find(": ");
        require(colon != std::string_view::npos && wire::is_token(line.substr(0, colon)), "a header line that is none");
        require(wire::is_field_value(line.substr(colon + 2)), "a header value with a control byte");
        if (line.starts_with("Content-Length: ")) {
            ++lengths;
            std::from_chars(line.data() + 16, line.data() + line.size(), length);
        }
    }
    upgraded = status == 101;
    const bool has_none = status < 200 || status == 204 || status == 304;
    require(lengths == (has_none ? 0 : 1), "an answer without its length");
    return head_end + 4 + length;
}

void serve(std::string_view bytes, const std::vector<std::size_t>& cuts, choices& choose) {
    testing::server server{
        {.endpoint = "/ws",
         .headers = {{"X-Served-By", "a test"}},
         .subprotocols = {"chat", "v2.chat"},
         .log = [](std::string_view) {},
         .listener = {
             .max_header_bytes = 600, .max_header_fields = 8, .metrics_path = "/metrics", .max_body_size = 40}}};
    server.on_connection([](connection& c) { c.emit("ready", c.request().path()); });
    server.on_message([](connection& c, message_view m) { c.emit_message(m); });
    const auto site = std::make_shared<http::site>();
    site->listener = server.settings().listener;
    site->endpoints.emplace_back(&server.hub());
    server.hub().share_load(site->load);
    std::vector<http::exchange_ptr> waiting;
    site->routes.add("POST", "/take", std::make_unique<counting>());
    site->routes.add("POST", "/later/*", std::make_unique<counting>(&waiting));
    {
        auto& loop = server.loop();
        const core::stream_user_ptr user{new http::session{site, loop, "192.0.2.1", 50'000}};
        testing::memory_transport stream{loop, user};
        const bool is_slow = choose.one_in(4);
        if (is_slow) stream.most_at_once = 1 + choose.below(90);
        loop.in_turn_do([&] {
            static_cast<http::session&>(*user).start(stream, choose.of({0, 0, 0, 0, 0, 0, 429, 503}));
        });
        std::size_t cut = 0;
        for (std::size_t at = 0; at != bytes.size() && !stream.is_closed;) {
            const auto count = std::min(cuts.empty() ? bytes.size() : cuts[cut++ % cuts.size()], bytes.size() - at);
            stream.arrives(bytes.substr(at, count));
            at += count;
            do {
                for (const auto& each : std::exchange(waiting, {})) {
                    if (is_slow) server.settle();
                    counting::answer(*each);
                }
            } while (stream.catch_up() || !waiting.empty());
        }
        while (stream.waits_for_room() && !stream.is_closed) {
            stream.makes_room(testing::memory_transport::everything);
            do {
                for (const auto& each : std::exchange(waiting, {})) counting::answer(*each);
            } while (stream.catch_up() || !waiting.empty());
        }
        server.settle();

        std::string_view sent = stream.sent;
        const bool has_heads = bytes.find("HEAD ") != std::string_view::npos;
        for (bool upgraded = false; !sent.empty() && !upgraded;) {
            auto size = answer_size(sent, upgraded);
            // The answer to a HEAD has the length of what it leaves out.
            const auto head = sent.find("\r\n\r\n") + 4;
            if (has_heads && (sent.size() == head || sent.substr(head).starts_with("HTTP/1.1 "))) size = head;
            require(size <= sent.size(), "half an answer");
            sent.remove_prefix(size);
            if (upgraded) {
                require(testing::transcript(sent, server.settings().event_prefix).starts_with("ready(/ws)"),
                        "an upgrade that is none");
                require(testing::transcript(sent, server.settings().event_prefix).find("garbage") == std::string::npos,
                        "frames that are none");
                sent = {};
            }
        }
        // Whatever it was, it has an end.
        server.pass(std::chrono::minutes{2});
        require(stream.is_closed, "a stream that is not closed in time");
        require(stream.misuse.empty(), stream.misuse);
        stream.drop();
    }
    server.settle();
    require(server.size() == 0 && server.loop().load() == 0, "something is left over");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    choices choose{{data, size}};
    const wire::header_limits limits{choose.of<std::size_t>({600, 8192}), choose.of<std::size_t>({100, 3}),
                                     choose.of<std::size_t>({8192, 20})};
    std::vector<std::size_t> cuts;
    for (auto n = choose.below(6); n != 0; --n) cuts.push_back(1 + choose.below(100));
    choices serving{{data, std::min<std::size_t>(size, 3)}};
    const auto rest = choose.rest();
    const std::string bytes(rest.begin(), rest.end());
    scan(bytes, cuts, limits);
    serve(bytes, cuts, serving);
    return 0;
}
