#include "client.hpp"

#include <sys/socket.h>

#include <cstdlib>

namespace soak {

using asio::ip::tcp;
using error = boost::system::error_code;

client::client(world& w, std::string role) : world_{w}, role_{std::move(role)}, socket_{w.context} {
    world_.clients.insert(this);
}

client::~client() { world_.clients.erase(this); }

awaitable<bool> client::connect(int receive_buffer) {
    error failed;
    socket_.open(tcp::v4());
    if (receive_buffer != 0) socket_.set_option(asio::socket_base::receive_buffer_size{receive_buffer});
    // One address has ports for some minutes of this; and they are chosen when it is known where to.
    const int late = 1;
    ::setsockopt(socket_.native_handle(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    const auto address = 0x7F000002U + world_.next_address++ % 200;
    socket_.bind({asio::ip::address_v4{address}, 0}, failed);
    const tcp::endpoint server{asio::ip::address_v4::loopback(), world_.port};
    waits_ = true;
    since_ = steady::now();
    const auto [ec] = co_await socket_.async_connect(server, asio::as_tuple(asio::use_awaitable));
    waits_ = false;
    if (ec) {
        world_.fault(role_ + " could not connect: " + ec.message());
        cut();
        co_return false;
    }
    socket_.set_option(tcp::no_delay{true}, failed);
    ++world_.count.connected;
    co_return true;
}

awaitable<bool> client::open(std::string path, int receive_buffer) {
    if (!co_await connect(receive_buffer)) co_return false;
    write(upgrade_request(path));
    const int status = co_await read_answer(false);
    if (status != 101) world_.fault(role_ + " was answered " + std::to_string(status) + " and not 101");
    co_return status == 101;
}

void client::write(std::string_view bytes) {
    out_ += bytes;
    if (!is_writing_) write_on();
}

void client::write_on() {
    if (out_.empty() || !socket_.is_open()) return;
    is_writing_ = true;
    leaving_.clear();
    std::swap(leaving_, out_);
    asio::async_write(socket_, asio::buffer(leaving_), [self = shared_from_this()](const error& ec, std::size_t) {
        self->is_writing_ = false;
        if (!ec) self->write_on();
    });
}

awaitable<bool> client::fill() {
    in_.erase(0, begin_);
    begin_ = 0;
    const auto have = in_.size();
    in_.resize(have + 64 * 1024);
    waits_ = true;
    since_ = steady::now();
    const auto [ec, count] = co_await socket_.async_read_some(asio::buffer(in_.data() + have, 64 * 1024),
                                                              asio::as_tuple(asio::use_awaitable));
    waits_ = false;
    in_.resize(have + count);
    if (ec) {
        const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(steady::now() - since_);
        last_end = ec.message() + " after " + std::to_string(waited.count()) + " ms";
    }
    co_return !ec;
}

awaitable<int> client::read_answer(bool has_body) {
    std::size_t end = 0;
    begin_ += std::exchange(shown_, 0);
    while ((end = in_.find("\r\n\r\n", begin_)) == std::string::npos) {
        if (!co_await fill()) co_return 0;
    }
    last_head = in_.substr(begin_, end + 4 - begin_);
    begin_ = end + 4;
    if (!last_head.starts_with("HTTP/1.1 ")) co_return 0;
    const int status = std::atoi(last_head.c_str() + 9);
    const auto length_at = last_head.find("Content-Length: ");
    const auto length =
        has_body && length_at != std::string::npos ? std::strtoul(last_head.c_str() + length_at + 16, nullptr, 10) : 0;
    while (in_.size() - begin_ < length) {
        if (!co_await fill()) co_return 0;
    }
    last_body = in_.substr(begin_, length);
    begin_ += length;
    co_return status;
}

awaitable<std::optional<server_frame>> client::read() {
    for (;;) {
        begin_ += std::exchange(shown_, 0);
        const auto frame = parse_frame(std::string_view{in_}.substr(begin_));
        if (frame.size == 0) {
            if (!co_await fill()) co_return std::nullopt;
            continue;
        }
        shown_ = frame.size;
        if (frame.is_wrong) {
            world_.fault(role_ + " was sent a frame that no server may send");
            reset();
            co_return std::nullopt;
        }
        if (frame.first != first_byte::ping) co_return frame;
        write(frame_of(first_byte::pong, frame.payload));
    }
}

awaitable<std::optional<std::string>> client::read_event(std::string_view name) {
    for (;;) {
        const auto frame = co_await read();
        if (!frame || frame->first == first_byte::close) co_return std::nullopt;
        const auto event = parse_event(frame->payload);
        if (frame->first == first_byte::text && event.name == name) co_return std::string{event.data};
    }
}

awaitable<unsigned> client::read_to_close() {
    for (;;) {
        const auto frame = co_await read();
        if (!frame) co_return 0U;
        if (frame->first != first_byte::close) continue;
        const auto code = close_code_of(frame->payload);
        if (!std::exchange(said_goodbye_, true)) write(frame_of(first_byte::close, frame->payload));
        co_return code;
    }
}

awaitable<void> client::ends() {
    // No do-while: g++ 12 makes nonsense of a co_await in its condition.
    for (bool goes_on = true; goes_on;) {
        begin_ = in_.size();
        shown_ = 0;
        goes_on = co_await fill();
    }
}

awaitable<unsigned> client::close(unsigned or_code) {
    said_goodbye_ = true;
    write(close_of(1000));
    const auto code = co_await read_to_close();
    if (code != 1000 && code != or_code) world_.fault(role_ + " said 1000 and was answered " + std::to_string(code));
    co_await ends();
    cut();
    co_return code;
}

void client::shutdown() {
    error ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
}

void client::reset() {
    if (!socket_.is_open()) return;
    error ignored;
    socket_.set_option(asio::socket_base::linger{true, 0}, ignored);
    socket_.close(ignored);
    ++world_.count.resets;
}

void client::cut() {
    error ignored;
    socket_.close(ignored);
}

void client::check_patience(steady::time_point now) {
    if (!waits_ || now - since_ < patience) return;
    error ignored;
    world_.fault(role_ + " waited " + std::to_string(patience.count()) + " s for the server in vain" +
                 (said_goodbye_ ? ", in the closing handshake" : "") + "; it had " +
                 std::to_string(in_.size() - begin_) + " bytes of a frame, and " +
                 std::to_string(socket_.available(ignored)) + " more had come");
    waits_ = false;
    cut();
}

}  // namespace soak
