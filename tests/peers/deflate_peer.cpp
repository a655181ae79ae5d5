// Arke with permessage-deflate, for the tests with other libraries.
//
//     deflate_peer serve PORT [OPTION...]     echoes native messages; prints its URL
//     deflate_peer connect URL [OPTION...]    sends messages of many sizes, which must come back as they are; 0 if they do
//
// An option is a word: send_takeover, receive_takeover; or one with a number: send_bits=11, receive_bits=9, level=1,
// threshold=64, max_message_size=65536.

#include <arke/arke.hpp>

#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct options {
    arke::compression_config compression{.enabled = true, .threshold = 16};
    std::size_t max_message_size = 4UL << 20U;
};

options read_options(std::span<char*> words) {
    options o;
    auto& c = o.compression;
    for (const std::string_view word : words) {
        const auto equals = word.find('=');
        const auto name = word.substr(0, equals);
        const auto value = equals == word.npos ? 0 : std::atoi(word.data() + equals + 1);
        if (name == "send_takeover")
            c.send_context_takeover = true;
        else if (name == "receive_takeover")
            c.receive_context_takeover = true;
        else if (name == "send_bits")
            c.send_window_bits = value;
        else if (name == "receive_bits")
            c.receive_window_bits = value;
        else if (name == "level")
            c.level = value;
        else if (name == "threshold")
            c.threshold = static_cast<std::size_t>(value);
        else if (name == "max_message_size")
            o.max_message_size = static_cast<std::size_t>(value);
        else
            throw std::invalid_argument{"unknown option: " + std::string{word}};
    }
    return o;
}

int serve(int port, const options& o) {
    arke::server server{
        {.endpoint = "/", .max_message_size = o.max_message_size, .keep_request = false, .compression = o.compression}};
    server.on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });
    server.listen("127.0.0.1", port);
    std::cout << "ws://localhost:" << server.port() << "/" << std::endl;
    server.run();
    return EXIT_SUCCESS;
}

/// Text that compresses, and text that hardly does.
std::string text_of(std::size_t size) {
    std::string text;
    unsigned state = static_cast<unsigned>(size) + 1;
    while (text.size() < size) {
        state = state * 1'664'525U + 1'013'904'223U;
        if (size % 2 == 0)
            text += "{\"price\":" + std::to_string(state % 1'000U) + "},";
        else
            text += static_cast<char>('!' + (state >> 24U) % 90U);
    }
    return text.substr(0, size);
}

int connect(const std::string& url, const options& o) {
    std::vector<std::string> expected;
    for (const std::size_t size :
         {1U, 16U, 125U, 126U, 300U, 301U, 1'000U, 1'001U, 65'535U, 65'536U, 300'000U, 300'001U})
        expected.push_back(text_of(size));
    arke::client_config settings;
    settings.native = true;
    settings.reconnect = false;
    settings.max_message_size = o.max_message_size;
    settings.binary_messages = true;
    settings.compression = o.compression;
    boost::asio::io_context context;
    arke::client client{context, url, settings};
    std::size_t next = 0;
    bool failed = false;
    const auto say = [&] {
        // Twice each: the second time all of it was said before.
        const auto& text = expected[next / 2];
        client.emit_message(arke::message_view{text, next % 4 < 2});
    };
    client.on_connect([&] { say(); });
    client.on_error([&](const arke::error_report& e) {
        std::cerr << (e.detail.empty() ? e.code.message() : std::string{e.detail}) << std::endl;
        failed = true;
    });
    client.on_message([&](arke::message_view m) {
        if (m.data != expected[next / 2] || m.is_text != (next % 4 < 2)) {
            std::cerr << "message " << next << " came back changed" << std::endl;
            failed = true;
        }
        if (failed || ++next == 2 * expected.size())
            client.disconnect();
        else
            say();
    });
    client.on_disconnect([&](arke::close_code code, std::string_view reason, bool) {
        if (next == 2 * expected.size()) return;
        std::cerr << "the connection ended: " << static_cast<unsigned>(code) << ' ' << reason << std::endl;
        failed = true;
    });
    client.connect();
    while (!failed && next != 2 * expected.size() && context.run_one() != 0) {
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::span words{argv, static_cast<std::size_t>(argc)};
        if (words.size() < 3) throw std::invalid_argument{"deflate_peer serve PORT | connect URL, and options"};
        const auto o = read_options(words.subspan(3));
        return std::string_view{words[1]} == "serve" ? serve(std::atoi(words[2]), o) : connect(words[2], o);
    } catch (const std::exception& e) {
        std::cerr << "deflate_peer: " << e.what() << std::endl;
        return EXIT_FAILURE;
    }
}
