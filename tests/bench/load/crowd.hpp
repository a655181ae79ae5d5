#pragma once

#include "options.hpp"

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// One connection to the server. What it has got and shall get is counted in bytes: every frame's size is known.
struct client {
    int fd = -1;
    std::uint64_t got = 0;
    std::uint64_t due = 0;
    std::size_t unsent = 0;  ///< Bytes at the end of what it is sending that the kernel has not taken.
    bool is_done = false;    ///< Sends no more.
    std::string early;       ///< While it is set up: what came behind what was awaited.

    bool is_even() const noexcept { return got == due && unsent == 0; }
};

/// Many connections, one edge-triggered epoll set, one receive buffer.
///
/// Set up one step at a time for all, waiting; afterwards driven by wait(), receive() and send(), which never block.
class crowd {
public:
    /// Opens and upgrades this many.
    crowd(const options& o, std::size_t count);
    crowd(const crowd&) = delete;
    crowd& operator=(const crowd&) = delete;
    ~crowd();

    std::vector<client>& clients() noexcept { return clients_; }
    std::size_t size() const noexcept { return clients_.size(); }

    // --- setting up

    void open(std::size_t more);

    /// The same, to another port from then on.
    void open_at(std::uint16_t port, std::size_t more);

    /// Sends the bytes on every connection of [first, last), then reads until `answer` has come on each.
    void ask(std::size_t first, std::size_t last, std::string_view bytes, std::string_view answer);

    /// Sends a message and gives back the payload of the message that answers.
    std::string ask_for_message(client& c, std::string_view bytes);

    /// Enters the room of everybody, and makes sure that each is in.
    void join(std::size_t first, std::size_t last);

    /// Keeps only these, in this order, and closes the others.
    void keep(const std::vector<std::size_t>& places);

    /// Begins to watch; the setting up is over.
    void watch();

    // --- being driven

    /// Calls f(client&, events) for each connection where something happened, after at most so many milliseconds.
    template <class F>
    void wait(int milliseconds, F&& f) {
        const int count = wait_for_events(milliseconds);
        for (int i = 0; i < count; ++i)
            f(clients_[events_[static_cast<std::size_t>(i)].data.u32], events_[static_cast<std::size_t>(i)].events);
    }

    /// Reads all that is there and counts it; with `expected`, byte by byte compares it with that, again and again.
    std::size_t receive(client& c, std::string_view expected = {});

    /// Reads all that is there and hands it to f(std::string_view), piece by piece, uncounted.
    template <class F>
    void read(client& c, F&& f) {
        for (;;) {
            const auto piece = read_once(c);
            if (!piece.empty()) f(piece);
            // What did not fill the buffer was all: another recv would only hear EAGAIN, and the next byte makes a new edge.
            if (piece.size() < buffer_.size()) return;
        }
    }

    /// Sends the last c.unsent bytes of `bytes`, as far as the kernel takes them.
    static void send(client& c, std::string_view bytes);

    /// The place of a client.
    std::size_t index_of(const client& c) const noexcept { return static_cast<std::size_t>(&c - clients_.data()); }

private:
    int wait_for_events(int milliseconds);
    std::string_view read_once(client& c);
    void open_batch(std::size_t first, std::size_t last);
    std::string await_upgrade(client& c);
    std::string await_message(client& c);
    void await(client& c, std::string_view answer);
    void read_more(client& c);

    options options_;
    int epoll_ = -1;
    std::vector<client> clients_;
    std::vector<epoll_event> events_;
    std::vector<char> buffer_;
};

/// A blocking TCP connection to the server with TCP_NODELAY. `number` says the how many-th it is: it chooses the source
/// address, because one address has ports for some 28,000.
int connect_to_server(const options& o, std::size_t number);

/// The request that upgrades; the accept value that answers its key.
std::string upgrade_request(const options& o);
inline constexpr std::string_view upgrade_accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Throws when this process may not have so many descriptors.
void require_descriptors(std::size_t connections);

}  // namespace bench
