// A feed of JSON ticks, for tests/bench/compression.
//
//     compression_feed PORT off | alone | keeping BITS MEMORY_LEVEL
//
// A client says "D SIZE COUNT" and is told so many ticks of so many bytes, each for it alone; "A SIZE COUNT" has everybody told.

#include <arke/arke.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace {

/// 256 different ticks of a size. ws_feed.mjs makes such too.
const std::vector<std::string>& ticks(std::size_t size) {
    static std::map<std::size_t, std::vector<std::string>> made;
    auto& all = made[size];
    std::uint32_t state = 1;
    const auto draw = [&](std::uint32_t below) {
        state = state * 1'664'525U + 1'013'904'223U;
        return std::to_string((state >> 8U) % below);
    };
    while (all.size() != 256) {
        std::string text = R"({"type":"tick","quotes":[)";
        while (text.size() < size) {
            text += R"({"symbol":"ARKE)" + draw(100) + R"(","bid":)" + draw(1'000) + "." + draw(100) + R"(,"ask":)" +
                    draw(1'000) + "." + draw(100) + R"(,"volume":)" + draw(100'000) + R"(,"time":"2026-11-26T09:)" +
                    draw(60) + ":" + draw(60) + "." + draw(1'000) + R"(Z"},)";
        }
        all.push_back(text.substr(0, size));
    }
    return all;
}

struct order {
    bool for_all;
    std::size_t size = 0;
    std::size_t count = 0;

    explicit order(std::string_view text) : for_all{text.starts_with('A')} {
        const auto end = std::from_chars(text.data() + 2, text.data() + text.size(), size).ptr;
        std::from_chars(end + 1, text.data() + text.size(), count);
    }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::cerr << "compression_feed PORT off | alone | keeping BITS MEMORY_LEVEL\n";
        return EXIT_FAILURE;
    }
    const std::string_view mode = argv[2];
    arke::compression_config c{.enabled = mode != "off", .threshold = 1};
    if (mode == "keeping" && argc == 5) {
        c.send_context_takeover = c.receive_context_takeover = true;
        c.send_window_bits = c.receive_window_bits = std::atoi(argv[3]);
        c.memory_level = std::atoi(argv[4]);
    }
    arke::server server{{.endpoint = "/",
                         .max_outbox_bytes = 256UL << 20U,
                         .native_by_default = true,
                         .keep_request = false,
                         .compression = c}};
    server.on_message([&](arke::connection& from, arke::message_view m) {
        const order o{m.data};
        const auto& all = ticks(o.size);
        for (std::size_t n = 0; n != o.count; ++n) {
            if (o.for_all)
                from.to(arke::all).emit_message(all[n % all.size()]);
            else
                from.emit_message(all[n % all.size()]);
        }
    });
    server.listen("127.0.0.1", std::atoi(argv[1]));
    server.run();
}
