// A client for the command line: lines of the input are messages or events, what comes is printed.
//
//     cat URL                            each line a text message; what comes, a line each
//     cat URL --event NAME               each line an event with that text
//     cat URL --ask NAME                 each line a question; its answer is printed
//     ... --json                         lines of --event and --ask are JSON
//     ... --binary                       messages are binary
//     ... --header 'NAME: VALUE'         one more header of the request; --subprotocol NAME offers one
//     ... --room NAME                    asks to enter a room
//     ... --native                       no events at all: for servers that know nothing of Arke
//     ... --proxy http://HOST:PORT       through a proxy
//     ... --follow                       goes on at the end of the input, and comes back when the connection is lost
//
// Events that come are printed as "NAME DATA". At the end of the input it waits for the answers, then for a pong, so that what
// the server says at once is printed too, closes, and ends with 0. What goes wrong is a sentence, and 1.

#include <arke/arke.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <chrono>
#include <cstdlib>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

using namespace std::chrono_literals;

struct options {
    std::string url;
    std::string event;
    std::string ask;
    std::string room;
    bool json = false;
    bool binary = false;
    bool follow = false;
    arke::client_config config;
};

options read_options(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; ++i) {
        const std::string_view arg = argv[i];
        const auto value = [&]() -> std::string {
            if (++i == argc) throw std::invalid_argument{std::string{arg} + " wants something behind it"};
            return argv[i];
        };
        if (arg == "--event")
            o.event = value();
        else if (arg == "--ask")
            o.ask = value();
        else if (arg == "--room")
            o.room = value();
        else if (arg == "--json")
            o.json = true;
        else if (arg == "--binary")
            o.binary = true;
        else if (arg == "--native")
            o.config.native = true;
        else if (arg == "--follow")
            o.follow = true;
        else if (arg == "--proxy")
            o.config.proxy = value();
        else if (arg == "--subprotocol")
            o.config.subprotocols.push_back(value());
        else if (arg == "--header") {
            const auto line = value();
            const auto colon = line.find(':');
            if (colon == line.npos) throw std::invalid_argument{"--header wants 'NAME: VALUE'"};
            const auto from = line.find_first_not_of(' ', colon + 1);
            o.config.headers.emplace_back(line.substr(0, colon), from == line.npos ? "" : line.substr(from));
        } else if (arg.starts_with("--") || !o.url.empty()) {
            throw std::invalid_argument{
                "cat URL [--event NAME | --ask NAME] [--json] [--binary] [--native] [--follow] [--room NAME] "
                "[--header 'NAME: VALUE'] [--subprotocol NAME] [--proxy http://HOST:PORT]"};
        } else {
            o.url = arg;
        }
    }
    if (o.url.empty()) throw std::invalid_argument{"cat wants a URL, such as ws://localhost:8080/"};
    o.config.reconnect = o.follow;
    o.config.binary_messages = true;
    o.config.max_message_size = 64UL << 20U;
    return o;
}

class program {
public:
    explicit program(options o) : options_{std::move(o)}, client_{context_, options_.url, options_.config} {
        client_.on_message([](arke::message_view m) { std::cout << m.data << std::endl; });
        client_.on_any([](const arke::event_view& e) { std::cout << e.name << ' ' << e.data << std::endl; });
        client_.on_error([this](const arke::error_report& e) {
            std::cerr << "cat: " << (e.detail.empty() ? e.code.message() : std::string{e.detail}) << std::endl;
            failed_ = true;
        });
        client_.on_connect([this] {
            connected_ = true;
            if (!reader_.joinable()) reader_ = std::thread{[this] { read_lines(); }};
        });
        client_.on_drain([this] { go_on(); });
        client_.on_pong([this] { leave(); });
        client_.on_disconnect([this](arke::close_code code, std::string_view reason, bool comes_back) {
            if (code != arke::close_code::normal && code != arke::close_code::no_status) {
                std::cerr << "cat: the connection ended: " << static_cast<unsigned>(code) << ' ' << reason << std::endl;
                failed_ = true;
            }
            go_on();
            if (!comes_back) end();
        });
    }

    int run() {
        if (!options_.room.empty()) client_.join(options_.room);
        client_.connect();
        // Without --follow one attempt is all; its failure is reported, and then there is nothing to do.
        while (!ended_ && context_.run_one() != 0) {
            if (failed_ && !connected_ && !options_.follow) break;
        }
        const int status = failed_ ? EXIT_FAILURE : EXIT_SUCCESS;
        // A reader may be waiting for a line that nobody will write.
        if (reader_.joinable() && !input_ended_) std::_Exit(status);
        if (reader_.joinable()) reader_.join();
        return status;
    }

private:
    /// In a thread of its own: a terminal, a pipe and a file are read alike.
    void read_lines() {
        for (std::string line; std::getline(std::cin, line);) {
            std::promise<void> taken;
            auto ready = taken.get_future();
            boost::asio::post(client_.get_executor(), [&] {
                say(line);
                // The next line is read when this one is with the kernel.
                if (client_.handle().is_connected() && waits())
                    taken_ = std::move(taken);
                else
                    taken.set_value();
            });
            ready.wait();
        }
        boost::asio::post(client_.get_executor(), [this] {
            input_ended_ = true;
            leave_when_answered();
        });
    }

    bool waits() {
        bool lags = false;
        client_.handle().run([&](arke::connection& c) { lags = c.buffered_amount() != 0; });
        return lags;
    }

    void go_on() {
        if (taken_) std::exchange(taken_, std::nullopt)->set_value();
    }

    void say(const std::string& line) {
        try {
            if (!options_.ask.empty()) return ask(line);
            if (!options_.event.empty()) {
                if (options_.json)
                    client_.emit(options_.event, nlohmann::json::parse(line));
                else
                    client_.emit(options_.event, line);
            } else {
                client_.emit_message(arke::message_view{line, !options_.binary});
            }
        } catch (const std::exception& e) {
            std::cerr << "cat: " << e.what() << std::endl;
            failed_ = true;
        }
    }

    void ask(const std::string& line) {
        const auto question = options_.json ? nlohmann::json::parse(line) : nlohmann::json{};
        const auto hear = [this](arke::error_code why, const arke::answer<nlohmann::json>& a) {
            --open_;
            if (why || a.is_refused()) {
                std::cerr << "cat: " << (why ? why.message() : "refused: " + a.why()) << std::endl;
                failed_ = true;
            } else {
                std::cout << (a->is_string() ? a->get<std::string>() : a->dump()) << std::endl;
            }
            leave_when_answered();
        };
        if (options_.json)
            client_.ask<arke::answer<nlohmann::json>>(options_.ask, question, 10s, hear);
        else
            client_.ask<arke::answer<nlohmann::json>>(options_.ask, line, 10s, hear);
        ++open_;
    }

    void leave_when_answered() {
        if (!input_ended_ || open_ != 0 || options_.follow) return;
        client_.handle().run([](arke::connection& c) { c.ping(); });
    }

    void leave() {
        if (input_ended_ && open_ == 0 && !options_.follow) client_.disconnect();
    }

    /// After what is still to be sent: the close frame.
    void end() {
        boost::asio::post(context_, [this] { boost::asio::post(context_, [this] { ended_ = true; }); });
    }

    options options_;
    boost::asio::io_context context_;
    arke::client client_;
    std::thread reader_;
    std::optional<std::promise<void>> taken_;
    std::size_t open_ = 0;
    bool connected_ = false;
    bool input_ended_ = false;
    bool failed_ = false;
    bool ended_ = false;
};

int main(int argc, char** argv) {
    try {
        return program{read_options(argc, argv)}.run();
    } catch (const std::exception& e) {
        std::cerr << "cat: " << e.what() << std::endl;
        return EXIT_FAILURE;
    }
}
