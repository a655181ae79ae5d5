#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/scripted_server.hpp"

// Connections that have agreed on permessage-deflate. The client of the test inflates what it hears, so that a wrong context would
// show as "what cannot be inflated".

using namespace arke;
using arke::test::client;
using arke::test::client_frame;
using arke::test::diary;
using arke::test::scripted_server;

namespace {

config with(compression_config c, std::size_t max_message_size = 4096) {
    c.enabled = true;
    return {.max_message_size = max_message_size, .compression = c};
}

constexpr compression_config keeping{.send_context_takeover = true, .receive_context_takeover = true};

/// A sentence that compresses well, with a number in it that tells it from the others.
std::string news(int number, std::size_t size = 400) {
    std::string text = std::to_string(number) + ":";
    while (text.size() < size) text += "all quiet on the wire; ";
    return text.substr(0, size);
}

std::string noise(std::size_t size) {
    std::string out;
    std::uint32_t state = 1;
    while (out.size() != size) {
        state = state * 1'664'525U + 1'013'904'223U;
        out += static_cast<char>('0' + (state >> 24U) % 75);
    }
    return out;
}

metrics metrics_of(scripted_server& server) {
    metrics all;
    server.hub().add_metrics(all, true);
    return all;
}

std::string heard_of(std::string_view event, std::size_t size) {
    return std::string{event} + "(" + std::to_string(size) + " bytes)";
}

}  // namespace

TEST_CASE("compression is agreed on where the config has it and the client offers it") {
    scripted_server off;
    auto& nobody = off.connect_deflating();
    off.to(all).emit("news", news(1));
    CHECK(nobody.heard() == heard_of("news", 400));
    CHECK(nobody.heard_deflated() == 0);

    scripted_server on{with({})};
    auto& anna = on.connect_deflating();
    auto& ben = on.connect();
    on.to(all).emit("news", news(1));
    CHECK(anna.heard() == heard_of("news", 400));
    CHECK(anna.heard_deflated() == 1);
    CHECK(anna.bytes().size() < 120);
    CHECK(ben.heard() == heard_of("news", 400));
    CHECK(ben.bytes().size() > 400);
    CHECK(on.hub().shard_of(on.loop()).on_loop().compression().owners() == 0);
}

TEST_CASE("messages below the threshold, and those that would not become shorter, go as they are") {
    scripted_server server{with({.threshold = 100})};
    auto& anna = server.connect_deflating();
    const auto emits = [&](const std::string& text) {
        server.in_turn([&] { anna.self().emit_message(text); });
        server.to(all).emit_message(text);
        const auto before = anna.heard_deflated();
        const auto line = text.size() > 60 ? heard_of("text", text.size()) : "text(" + text + ")";
        CHECK(anna.heard() == line + " " + line);
        return anna.heard_deflated() - before;
    };
    CHECK(emits(std::string(99, 'a')) == 0);
    CHECK(emits(std::string(100, 'a')) == 2);
    CHECK(emits("") == 0);
    CHECK(emits(noise(100)) == 0);
    // For an event it is the message that counts: with its prefix and name.
    server.in_turn([&] { anna.self().emit("e", std::string(72, 'a')); });
    CHECK(anna.heard() == heard_of("e", 72));
    CHECK(anna.heard_deflated() == 2);
    server.in_turn([&] { anna.self().emit("e", std::string(73, 'a')); });
    CHECK(anna.heard() == heard_of("e", 73));
    CHECK(anna.heard_deflated() == 3);
}

TEST_CASE("everything that carries data is compressed, by every way out") {
    for (const auto& c : {compression_config{}, keeping}) {
        for (const std::size_t buffer : {1'024U, 16'384U}) {
            scripted_server server{with(c, 1UL << 20U), 2, buffer};
            server.on("ask", [](std::string text) { return text; });
            auto& anna = server.connect_deflating("anna");
            auto& far = server.connect_deflating("far", 1);
            server.in_turn([&] {
                anna.self().emit("a", news(1));
                anna.self().emit_message(news(2));
                anna.self().emit("b", news(3, 3'000));
                anna.self().emit("c", news(4, 100'000));
                anna.self().to("far").emit("d", news(5));
                anna.self().to(all).emit("e", news(6));
            });
            server.to("anna").emit("f", news(7));
            server.to(all).emit("g", news(8, 100'000));
            server.to(all).emit_message(noise(90'000));
            anna.emits("small", 1);
            INFO(buffer);
            CHECK(anna.heard() ==
                  "a(400 bytes) text(400 bytes) b(3000 bytes) c(100000 bytes) e(400 bytes) "
                  "f(400 bytes) g(100000 bytes) text(90000 bytes)");
            CHECK(far.heard() == "d(400 bytes) e(400 bytes) g(100000 bytes) text(90000 bytes)");
            // The noise is of 75 letters: it becomes shorter too.
            CHECK(anna.heard_deflated() == 8);
            CHECK(far.heard_deflated() == 4);
        }
    }
}

TEST_CASE("the protocols of one room are compressed once each, and the windows of its members") {
    scripted_server server{with({.send_context_takeover = true, .send_window_bits = 14}, 1UL << 20U), 2};
    std::vector<client*> all_of_them;
    for (std::size_t loop : {0U, 1U}) {
        for (const std::string offer :
             {"permessage-deflate", "permessage-deflate; server_max_window_bits=8",
              "permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=11",
              "permessage-deflate; server_no_context_takeover; server_max_window_bits=15", "x"}) {
            all_of_them.push_back(&server.connect_deflating({}, loop, offer));
        }
        all_of_them.push_back(&server.connect_v1({}, loop));
    }
    for (const std::size_t size : {255U, 400U, 2'000U, 40'000U}) {
        server.to(all).emit("news", news(1, size));
        server.in_turn([&] { all_of_them[0]->self().emit("own", news(2, size)); });
        server.to(all).emit_message(noise(20) + news(3, size) + noise(20));
        for (auto* each : all_of_them) {
            const auto text = heard_of("text", size + 40);
            const auto first = heard_of("news", size);
            const auto own = each == all_of_them[0] ? heard_of("own", size) + " " : "";
            // What one is told by its own loop may come before what all are told from outside.
            const auto line = each->heard();
            const bool is_right = line == first + " " + own + text || line == own + first + " " + text;
            INFO(size << ": " << line);
            CHECK(is_right);
        }
    }
    CHECK(all_of_them[1]->terms().receive_window_bits == 8);
    CHECK(all_of_them[3]->terms().receive_window_bits == 11);
    CHECK(all_of_them[4]->terms().receive_window_bits == 14);
}

TEST_CASE("a context goes on from message to message, and begins anew after what many are told") {
    scripted_server server{with(keeping)};
    auto& anna = server.connect_deflating();
    const auto cost = [&](auto&& says) {
        const auto before = anna.bytes().size();
        says();
        CHECK(anna.heard() == heard_of("text", 400));
        return anna.bytes().size() - before;
    };
    const auto own = [&] { server.in_turn([&] { anna.self().emit_message(noise(400)); }); };
    const auto first = cost(own);
    CHECK(cost(own) < first / 4);
    CHECK(cost([&] { server.to(all).emit_message(noise(400)); }) == first);
    CHECK(cost(own) == first);
    CHECK(cost(own) < first / 4);
    // What goes plain is not referred to, and does not disturb.
    server.in_turn([&] { anna.self().emit_message("short"); });
    CHECK(anna.heard() == "text(short)");
    CHECK(cost(own) < first / 4);
}

TEST_CASE("what a lagging peer may miss is never referred to") {
    for (const auto on_overflow : {overflow::drop, overflow::coalesce}) {
        auto settings = with({.threshold = 1, .send_context_takeover = true});
        settings.on_overflow = on_overflow;
        settings.max_outbox_bytes = 1'000;  // a few, of which the latest count as 160 and more
        scripted_server server{settings};
        auto& anna = server.connect_deflating();
        std::string heard;
        int number = 0;
        for (int round = 0; round != 30; ++round) {
            // Some rounds begin while it lags, some not.
            anna.stream().room = round % 3 == 0 ? 50 : 4'000;
            for (int n = 0; n != 6; ++n) {
                server.in_turn([&] {
                    auto& c = anna.self();
                    c.emit("a", news(++number, 50));
                    c.emit_volatile("v", news(++number, 50));
                    c.emit_latest("l", news(++number, 50));
                    c.emit_message(news(++number, 50));
                });
            }
            anna.reads_everything();
            heard += anna.heard() + " ";
        }
        server.in_turn([&] { anna.self().emit("end", std::string{"."}); });
        heard += anna.heard();
        CHECK(heard.find("cannot") == std::string::npos);
        CHECK(heard.ends_with("end(.)"));
        CHECK(anna.heard_deflated() > 100);
        const auto m = metrics_of(server);
        CHECK(m.dropped.not_ready + m.dropped.superseded + m.dropped.overflow > 30);
    }
}

TEST_CASE("compressed messages are inflated before anybody hears them") {
    for (const auto& c : {compression_config{}, keeping}) {
        scripted_server server{with(c)};
        std::vector<std::string> said;
        server.on("news", [&](std::string text) { said.push_back(text); });
        server.on_message([&](connection&, message_view m) { said.emplace_back(m.data); });
        auto& anna = server.connect_deflating();
        for (int n = 0; n != 3; ++n) {
            const auto encoded = news(n);
            anna.speaks_deflated(outgoing::of({"news", value_kind::text, encoded}));
            anna.speaks_deflated(outgoing::native(true, encoded));
        }
        // In fragments, with a ping within.
        const auto small = anna.deflated(news(3));
        anna.sends(client_frame(0x41, small.substr(0, 2)) + client_frame(0x89, "?") +
                   client_frame(0x00, small.substr(2, 3)) + client_frame(0x80, small.substr(5)));
        anna.sends(client_frame(0x81, "plain"));
        CHECK(said == std::vector<std::string>{news(0), news(0), news(1), news(1), news(2), news(2), news(3), "plain"});
        CHECK(anna.heard() == "pong(?)");
        CHECK(server.loop().compression().owners() == (c.receive_context_takeover ? 1 : 0));
        const auto m = metrics_of(server);
        CHECK(m.received.compressed == 7);
        CHECK(m.received.inflated_bytes > 7 * 400);
        CHECK(m.received.compressed_bytes < m.received.inflated_bytes / 4);
    }
}

TEST_CASE("a compressed message may inflate to max_message_size and no further") {
    const auto too_big = std::to_string(static_cast<int>(errc::message_too_big));
    for (const auto& c : {compression_config{}, keeping}) {
        scripted_server server{with(c, 1'000)};
        diary heard{server};
        auto& anna = server.connect_deflating("anna");
        anna.sends(client_frame(0xC1, anna.deflated(std::string(1'000, 'a'))));
        CHECK(heard.read() == "anna says aaaaaaaaaaaaaaaaaaaa");
        // Incompressible ones are longer on the wire, and pass all the same.
        anna.sends(client_frame(0xC2, anna.deflated(noise(1'000))));
        CHECK(heard.read() == "anna says " + noise(20));
        anna.sends(client_frame(0xC1, anna.deflated(std::string(1'001, 'a'))));
        CHECK(anna.heard() == "close(1009 a message over max_message_size) end");
        CHECK(heard.read() == "anna error " + too_big + ", anna gone 1009 a message over max_message_size");
        CHECK(metrics_of(server).closed.message_too_big == 1);
        anna.hangs_up();
    }
}

TEST_CASE("what is no DEFLATE, and text that is not UTF-8, end the connection with 1007") {
    const auto end_of = [](const compression_config& c, auto&& says) {
        scripted_server server{with(c)};
        auto& anna = server.connect_deflating();
        says(anna);
        auto heard = anna.heard();
        anna.hangs_up();
        return heard;
    };
    for (const auto& c : {compression_config{}, keeping}) {
        CHECK(end_of(c, [](client& a) { a.sends(client_frame(0xC1, "\xFF\xFF\xFF")); }) ==
              "close(1007 a compressed message that cannot be inflated) end");
        CHECK(end_of(c, [](client& a) { a.sends(client_frame(0xC1, a.deflated(news(1)).substr(0, 9))); }) ==
              "close(1007 a compressed message that cannot be inflated) end");
        CHECK(end_of(c, [](client& a) { a.sends(client_frame(0xC1, a.deflated("caf\xC3"))); }) ==
              "close(1007 text that is not UTF-8) end");
        CHECK(end_of(c, [](client& a) { a.sends(client_frame(0xC2, a.deflated("caf\xC3"))); }) == "");
        CHECK(end_of(c, [](client& a) { a.sends(client_frame(0xC9, "")); }) ==
              "close(1002 a compressed frame that begins no message) end");
        // The last of a message is a final block, here and in the next.
        CHECK(end_of(c, [](client& a) {
                  for (int n = 0; n != 2; ++n)
                      a.sends(client_frame(0xC1, std::string_view{"\xF3\x48\xCD\xC9\xC9\x07\x00\x00", 8}));
              }) == "");
    }
    // Without takeover nothing may be referred to, for the inflater is everybody's.
    const std::string_view refers{"\xF2\x00\x11\x00\x00", 5};
    const auto twice = [&](client& a) {
        a.sends(client_frame(0xC1, std::string_view{"\xF2\x48\xCD\xC9\xC9\x07\x00", 7}));
        a.sends(client_frame(0xC1, refers));
    };
    CHECK(end_of({}, twice) == "close(1007 a compressed message that cannot be inflated) end");
    CHECK(end_of(keeping, twice) == "");
}

TEST_CASE(
    "a gibibyte of zeros in a megabyte is refused while it inflates, and takes no more memory than its limit allows") {
    // The same 16 MiB again and again, each beginning anew.
    std::string zeros(16UL << 20U, '\0');
    wire::deflater by{6, 15, 8};
    wire::byte_buffer block;
    by.deflate(zeros, block);
    zeros = {};
    std::string bomb;
    constexpr std::string_view tail{"\x00\x00\xFF\xFF", 4};
    for (int n = 0; n != 64; ++n) bomb.append(block.view()).append(tail);
    CHECK(bomb.size() < 1'100'000);

    constexpr std::size_t limit = 1UL << 20U;
    for (const bool in_fragments : {false, true}) {
        for (const auto& c : {compression_config{}, keeping}) {
            scripted_server server{with(c, limit)};
            auto& anna = server.connect_deflating();
            anna.sends(client_frame(0xC1, anna.deflated(news(1))));
            const std::string frames = in_fragments ? client_frame(0x42, std::string_view{bomb}.substr(0, 500'000)) +
                                                          client_frame(0x80, std::string_view{bomb}.substr(500'000))
                                                    : client_frame(0xC2, bomb);
            const arke::test::memory_peak peak;
            anna.sends(frames);
            // The stream of the test has a copy of what arrives, and the reader one of fragments.
            const auto copies = (in_fragments ? 2 : 1) * frames.size();
            CHECK(peak.bytes() < copies + limit + limit / 4);
            CHECK(anna.heard() == "close(1009 a message over max_message_size) end");
            anna.hangs_up();
        }
    }
}

TEST_CASE(
    "a bomb behind good messages, in many fragments, or within another ends its sender alone, in bounded memory") {
    constexpr std::size_t limit = 64 * 1024;
    const std::string zeros(16UL << 20U, '\0');
    for (const auto& c : {compression_config{}, keeping}) {
        scripted_server server{with(c, limit)};
        diary told{server};
        auto& anna = server.connect_deflating("anna");
        auto& canary = server.connect_deflating("canary");
        const auto sings = [&](int number) {
            canary.sends(client_frame(0xC1, canary.deflated(news(number))));
            server.in_turn([&] { canary.self().emit_message(news(number)); });
            return told.read() == "canary says " + news(number).substr(0, 20) &&
                   canary.heard() == heard_of("text", 400);
        };
        CHECK(sings(1));
        // What is within a message is the application's: it is not inflated a second time.
        wire::deflater inner{6, 15, 8};
        wire::byte_buffer bomb;
        inner.deflate(zeros, bomb);
        const std::string nested{bomb.view()};
        CHECK(nested.size() < limit / 2);
        std::string heard;
        server.on_message([&](connection& from, message_view m) {
            if (&from == &anna.self()) heard = m.data;
        });
        const auto within = client_frame(0xC2, anna.deflated(nested));
        {
            const arke::test::memory_peak peak;
            anna.sends(within);
            CHECK(peak.bytes() < 2 * limit + 128 * 1024);  // with an inflater
        }
        CHECK(heard == nested);
        CHECK(told.read().starts_with("anna says "));
        CHECK(sings(3));

        // In one read: good ones, one more with a bomb within, and then the bomb itself, in fragments of a byte.
        std::string frames = client_frame(0xC1, anna.deflated(news(2)));
        frames += client_frame(0xC2, anna.deflated(nested)) + client_frame(0x81, "plain");
        const auto whole = anna.deflated(zeros);
        frames += client_frame(0x42, whole.substr(0, 1));
        for (std::size_t at = 1; at + 1 != whole.size(); ++at) {
            frames += client_frame(0x00, whole.substr(at, 1));
            if (at % 1000 == 0) frames += client_frame(0x89, "?");
        }
        frames += client_frame(0x80, whole.substr(whole.size() - 1));
        {
            const arke::test::memory_peak peak;
            anna.sends(frames);
            // The stream of the test has a copy of what arrives.
            CHECK(peak.bytes() < frames.size() + 2 * limit + 64 * 1024);
        }
        const auto end = told.read();
        INFO(end);
        CHECK(end.starts_with("anna says " + news(2).substr(0, 20) + ", anna says "));
        CHECK(end.find(", anna says plain") != std::string::npos);
        CHECK(end.ends_with("anna gone 1009 a message over max_message_size"));
        CHECK(anna.heard().ends_with("close(1009 a message over max_message_size) end"));
        CHECK(sings(4));
        CHECK(server.is_connected("canary"));
    }
}

TEST_CASE("a handler may have others inflated while it reads its message") {
    scripted_server server{with({})};
    auto& anna = server.connect_deflating();
    auto& ben = server.connect_deflating();
    const auto from_ben = client_frame(0xC1, ben.deflated(news(2)));
    std::string said;
    server.on_message([&](connection& c, message_view m) {
        // As a loop that runs within a handler would.
        if (&c == &anna.self()) ben.sends(from_ben);
        said += std::string{m.data.substr(0, 2)};
    });
    anna.sends(client_frame(0xC1, anna.deflated(news(1))));
    CHECK(said == "2:1:");
}

TEST_CASE("the metrics say what compression has saved") {
    scripted_server server{with({})};
    auto& anna = server.connect_deflating();
    server.connect_deflating();
    server.connect();
    server.to(all).emit_message(news(1));
    server.in_turn([&] { anna.self().emit_message(news(2)); });
    server.settle();
    const auto m = metrics_of(server);
    CHECK(m.sent.texts == 4);
    CHECK(m.sent.compressed == 3);
    CHECK(m.sent.inflated_bytes == 3 * 400);
    const auto on_the_wire = anna.bytes().size() - 2 * 2;
    CHECK(m.sent.compressed_bytes == on_the_wire / 2 * 3);
    CHECK(m.prometheus().find("arke_compressed_bytes_sent_total{form=\"inflated\"} 1200\n") != std::string::npos);
}

TEST_CASE("a connection that ends gives back what it kept, and idle ones keep nothing") {
    scripted_server server{with(keeping)};
    for (int n = 0; n != 20; ++n) {
        auto& one = server.connect_deflating();
        CHECK(server.loop().compression().owners() == 0);
        one.sends(client_frame(0xC1, one.deflated(news(n))));
        server.in_turn([&] { one.self().emit_message(news(n)); });
        CHECK(server.loop().compression().owners() == 1);
        one.hangs_up();
        CHECK(server.loop().compression().owners() == 0);
    }
}

TEST_CASE("what a connection keeps for compression is what the config says") {
    const auto kept = [](const compression_config& c) {
        scripted_server server{with(c)};
        auto& one = server.connect_deflating();
        one.sends(client_frame(0xC1, one.deflated(news(1))));
        server.in_turn([&] { one.self().emit_message(news(2)); });
        one.heard();
        // Its end gives all of it back, and the connection itself.
        const auto before = arke::test::bytes_held();
        one.hangs_up();
        server.settle();
        return (before - arke::test::bytes_held()) / 1024;
    };
    CHECK(kept({}) < 2);
    const auto most = kept(keeping);
    CHECK(most >= 262 + 38);
    CHECK(most < 262 + 39 + 3);
    auto small = keeping;
    small.send_window_bits = small.receive_window_bits = 11;
    small.memory_level = 4;
    CHECK(kept(small) < 22 + 9 + 3);
}

TEST_CASE("a thousand idle clients keep a thousand times what the config says for one, and give all of it back") {
    constexpr std::ptrdiff_t many = 1'000;
    const auto kept = [&](const compression_config& c, bool talks) {
        scripted_server server{with(c)};
        std::vector<client*> clients;
        for (int n = 0; n != many; ++n) clients.push_back(&server.connect_deflating());
        // What the loop keeps for all of them is there.
        clients.front()->sends(client_frame(0xC1, clients.front()->deflated(news(0))));
        server.to(all).emit_message(news(0));
        server.settle();
        if (talks) {
            for (auto* one : clients) {
                one->sends(client_frame(0xC1, one->deflated(news(1))));
                server.in_turn([&] { one->self().emit_message(news(2)); });
                one->heard();
            }
        }
        const auto with_all = arke::test::bytes_held();
        for (auto* one : clients) one->hangs_up();
        server.settle();
        CHECK(server.loop().compression().owners() == 0);
        return (with_all - arke::test::bytes_held()) / many;
    };
    const auto plain = kept({}, false);
    CHECK(plain < 2 * 1024);
    CHECK(kept({}, true) - plain < 64);
    auto small = keeping;
    small.send_window_bits = small.receive_window_bits = 9;
    small.memory_level = 1;
    // 6 KiB, four windows of 512 bytes and 1 KiB; 7 KiB and one window; and not before they have talked.
    CHECK(kept(small, false) - plain < 64);
    const auto each = kept(small, true) - plain;
    CHECK(each > (6 + 2 + 1 + 7) * 1024);
    CHECK(each < (6 + 2 + 1 + 7 + 2) * 1024);
}

TEST_CASE("past max_total_context_bytes compression is agreed on without takeover, until somebody with it goes") {
    // 262 KiB to send, 39 to receive.
    constexpr std::size_t each = (6 + 4 * 32 + 128 + 7 + 32) * 1024;
    const auto agreed = [](const client& c) { return c.terms().send_takeover && c.terms().receive_takeover; };
    const auto talks = [](client& c, int n) {
        c.sends(client_frame(0xC1, c.deflated(news(n))));
        c.self().emit_message(news(n + 1));
        CHECK(c.heard() == heard_of("text", 400));
    };
    auto settings = with(keeping);
    settings.listener.max_total_context_bytes = 3 * each;
    scripted_server server{settings, 2};
    std::vector<client*> first;
    for (std::size_t n = 0; n != 3; ++n) first.push_back(&server.connect_deflating({}, n % 2));
    for (auto* one : first) CHECK(agreed(*one));
    CHECK(metrics_of(server).context_bytes == 3 * each);

    auto& late = server.connect_deflating();
    auto& plain = server.connect();
    auto& modest = server.connect_deflating({}, 1, "permessage-deflate; server_no_context_takeover");
    CHECK(late.terms() == wire::deflate_terms{});
    CHECK(metrics_of(server).context_bytes == 3 * each);
    for (int n = 0; n != 3; ++n) {
        for (auto* one : first) talks(*one, n);
        talks(late, n);
        talks(modest, n);
    }
    CHECK(late.heard_deflated() == 3);
    CHECK(server.loop().compression().owners() == 2);

    plain.hangs_up();
    late.hangs_up();
    CHECK(metrics_of(server).context_bytes == 3 * each);
    // A handle that is kept keeps no context.
    const auto kept = first[0]->self().handle();
    first[0]->hangs_up();
    CHECK(metrics_of(server).context_bytes == 2 * each);
    auto& next = server.connect_deflating();
    CHECK(agreed(next));
    talks(next, 1);
    CHECK(server.loop().compression().owners() == 2);
    CHECK_FALSE(agreed(server.connect_deflating()));

    settings.listener.max_total_context_bytes = 3 * each - 1;
    scripted_server one_less{settings};
    for (int n = 0; n != 2; ++n) CHECK(agreed(one_less.connect_deflating()));
    CHECK_FALSE(agreed(one_less.connect_deflating()));
}

TEST_CASE(
    "where there is no memory to compress or inflate, a connection ends or misses a message, and its context is "
    "right") {
    for (const auto& c : {compression_config{}, keeping}) {
        bool struck = true;
        std::size_t ends = 0;
        for (std::size_t nth = 0; struck; ++nth) {
            scripted_server server{with(c)};
            server.on_error([](const error_report&) {});
            auto& anna = server.connect_deflating();
            anna.stream().sent.reserve(100'000);
            const auto first = client_frame(0xC1, anna.deflated(news(1)));
            const auto second = client_frame(0xC1, anna.deflated(news(2)));
            bool is_told = false;
            std::string heard_of_anna;
            server.on_message([&](connection&, message_view m) { heard_of_anna += m.data.substr(0, 2); });
            const auto text = news(3);
            const auto all_step_by_step = [&](auto&& step) {
                step([&] { server.in_turn([&] { anna.self().emit_message(text); }); });
                step([&] { server.in_turn([&] { anna.self().to(all).emit("all", text); }); });
                is_told = false;
                step([&] { anna.sends(first); });
                // Where the test had no memory for its own stream, nothing has arrived.
                if (std::exchange(is_told, false) && !anna.stream().is_closed) anna.sends(first);
                step([&] { server.in_turn([&] { anna.self().emit("own", text); }); });
            };
            struck = false;
            std::size_t before = 0;
            all_step_by_step([&](auto&& what) {
                if (anna.stream().is_closed) return;
                const auto at = arke::test::allocations();
                if (nth >= before) {
                    const arke::test::memory_shortage none{nth - before};
                    try {
                        what();
                    } catch (const std::bad_alloc&) {
                        is_told = true;
                    }
                    struck = struck || none.struck();
                } else {
                    what();
                }
                before += arke::test::allocations() - at;
            });
            if (anna.stream().is_closed) {
                ++ends;
                continue;
            }
            server.in_turn([&] { anna.self().emit("own", text); });
            anna.sends(second);
            const auto heard = anna.heard();
            INFO(nth << ": " << heard);
            CHECK(heard.find("cannot") == std::string::npos);
            if (!anna.stream().is_closed) {
                CHECK(heard.ends_with(heard_of("own", 400)));
                // A handler without memory may have missed the first; what could not be inflated has ended the connection.
                CHECK(heard_of_anna.ends_with("2:"));
            }
        }
        CHECK(ends > 0);
    }
}
