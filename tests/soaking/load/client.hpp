#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "wire.hpp"
#include "world.hpp"

namespace soak {

/// One connection of the load: bytes as they are, frames where they are wanted.
///
/// Whoever waits for the server longer than `patience` is cut, and that is a fault: nothing here waits for ever.
class client : public std::enable_shared_from_this<client> {
public:
    static constexpr std::chrono::seconds patience{120};

    client(world& w, std::string role);
    ~client();
    client(const client&) = delete;
    client& operator=(const client&) = delete;

    /// `receive_buffer`: of the kernel, for who shall read slowly; 0 is the usual one. False where the server does not take it.
    awaitable<bool> connect(int receive_buffer = 0);

    /// Connects and upgrades; anything but 101 is a fault.
    awaitable<bool> open(std::string path, int receive_buffer = 0);

    /// Queues bytes. What becomes of them shows in what is read.
    void write(std::string_view bytes);
    void emit(std::string_view event, std::string_view data) { write(event_of(event, data)); }

    /// An HTTP answer's status and body; 0 at the end of the stream. `last_head` has the header.
    awaitable<int> read_answer(bool has_body = true);
    std::string last_head;
    std::string last_end;  ///< By what the stream has ended, and how long that was waited for.
    std::string last_body;

    /// The next frame; pings are answered and not shown. Nothing at the end of the stream. Its payload is valid until the next
    /// read.
    awaitable<std::optional<server_frame>> read();

    /// The next event of this name, skipping others; its data.
    awaitable<std::optional<std::string>> read_event(std::string_view name);

    /// Reads on and drops what comes, up to a close frame: its code, 1005 where it has none; 0 where the stream ends without.
    /// Answers the close.
    awaitable<unsigned> read_to_close();

    /// Waits for the end of the stream, in whatever way. Drops what comes.
    awaitable<void> ends();

    /// Says goodbye and waits for the answer, which must have the same code, or another one where the server may come before
    /// with a close of its own. The code.
    awaitable<unsigned> close(unsigned or_code = 1000);

    void shutdown();  ///< Ends our direction.
    void reset();     ///< The rude way: RST.
    void cut();       ///< FIN, or RST where something was not read.

    bool is_open() const { return socket_.is_open(); }
    std::size_t unread() const { return in_.size() - begin_; }
    void check_patience(steady::time_point now);

private:
    awaitable<bool> fill();
    void write_on();

    world& world_;
    std::string role_;
    asio::ip::tcp::socket socket_;
    std::string in_;
    std::size_t begin_ = 0;
    std::size_t shown_ = 0;
    std::string out_;
    std::string leaving_;
    bool is_writing_ = false;
    bool said_goodbye_ = false;
    bool waits_ = false;
    steady::time_point since_;
};

using client_ptr = std::shared_ptr<client>;

inline client_ptr make_client(world& w, std::string role) { return std::make_shared<client>(w, std::move(role)); }

}  // namespace soak
