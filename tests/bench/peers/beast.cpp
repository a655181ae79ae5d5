// The benchmark's server on Boost.Beast, as its documentation would have it: asynchronous, one io_context, one thread.
//
//     beast PORT
//
// A message "S" subscribes to the room, one that begins with B goes to the room, everything else is echoed, text as text
// and binary as binary. What its documentation says about speed is done: the executor is the io_context's own and not a
// type-erased one, messages are not fragmented, Nagle's delay is off, and a broadcast is one string that all queues share.

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket.hpp>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using boost::system::error_code;

using executor = asio::io_context::executor_type;
using socket_type = asio::basic_stream_socket<asio::ip::tcp, executor>;
using acceptor_type = asio::basic_socket_acceptor<asio::ip::tcp, executor>;

constexpr std::size_t max_message = 16 * 1024 * 1024;

class session;

struct room {
    std::unordered_set<session*> members;
    void send(bool is_binary, std::string_view data);
};

class session : public std::enable_shared_from_this<session> {
public:
    session(socket_type socket, room& r) : stream_{std::move(socket)}, room_{r} {}
    ~session() { room_.members.erase(this); }
    session(const session&) = delete;
    session& operator=(const session&) = delete;

    void start() {
        stream_.set_option(websocket::stream_base::timeout::suggested(beast::role_type::server));
        stream_.read_message_max(max_message);
        stream_.auto_fragment(false);
        stream_.async_accept([self = shared_from_this()](error_code ec) {
            if (!ec) self->read();
        });
    }

    void queue(bool is_binary, const std::shared_ptr<const std::string>& data) {
        queue_.push_back({is_binary, data});
        if (!writing_) write_next();
    }

private:
    struct message {
        bool is_binary;
        std::shared_ptr<const std::string> data;
    };

    void read() {
        stream_.async_read(buffer_, [self = shared_from_this()](error_code ec, std::size_t) {
            if (ec) return self->leave();
            self->received();
        });
    }

    void received() {
        const auto data = buffer_.cdata();
        const std::string_view text{static_cast<const char*>(data.data()), data.size()};
        if (text == "S") {
            room_.members.insert(this);
        } else if (text.starts_with('B')) {
            room_.send(stream_.got_binary(), text);
        } else {
            // It is sent from where it stands, and the next message is read when it is gone.
            echo_waits_ = true;
            if (!writing_) write_next();
            return;
        }
        buffer_.consume(buffer_.size());
        read();
    }

    void write_next() {
        if (echo_waits_) {
            echo_waits_ = false;
            writing_ = true;
            stream_.binary(stream_.got_binary());
            stream_.async_write(buffer_.cdata(), [self = shared_from_this()](error_code ec, std::size_t) {
                if (ec) return self->leave();
                self->buffer_.consume(self->buffer_.size());
                self->writing_ = false;
                self->write_next();
                self->read();
            });
        } else if (!queue_.empty()) {
            writing_ = true;
            stream_.binary(queue_.front().is_binary);
            stream_.async_write(asio::buffer(*queue_.front().data),
                                [self = shared_from_this()](error_code ec, std::size_t) {
                                    if (ec) return self->leave();
                                    self->queue_.pop_front();
                                    self->writing_ = false;
                                    self->write_next();
                                });
        }
    }

    void leave() { room_.members.erase(this); }

    websocket::stream<socket_type> stream_;
    room& room_;
    beast::flat_buffer buffer_;
    std::deque<message> queue_;
    bool writing_ = false;
    bool echo_waits_ = false;
};

void room::send(bool is_binary, std::string_view data) {
    const auto shared = std::make_shared<const std::string>(data);
    for (auto* member : members) member->queue(is_binary, shared);
}

void accept_next(acceptor_type& acceptor, room& r) {
    acceptor.async_accept([&](error_code ec, socket_type socket) {
        if (ec == asio::error::operation_aborted) return;
        if (!ec) {
            error_code ignored;
            socket.set_option(asio::ip::tcp::no_delay{true}, ignored);
            std::make_shared<session>(std::move(socket), r)->start();
        }
        accept_next(acceptor, r);
    });
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2) {
        std::cerr << "beast PORT\n";
        return 2;
    }
    room everybody;  // outlives the sessions, which the io_context holds
    asio::io_context context{1};
    acceptor_type acceptor{context};
    const asio::ip::tcp::endpoint endpoint{asio::ip::address_v4::loopback(),
                                           static_cast<std::uint16_t>(std::atoi(argv[1]))};
    acceptor.open(endpoint.protocol());
    acceptor.set_option(asio::socket_base::reuse_address{true});
    acceptor.bind(endpoint);
    acceptor.listen(4096);
    accept_next(acceptor, everybody);

    asio::signal_set signals{context, SIGINT, SIGTERM};
    signals.async_wait([&](error_code, int) { context.stop(); });
    std::cout << "listening on " << acceptor.local_endpoint().port() << std::endl;
    context.run();
} catch (const std::exception& e) {
    std::cerr << "beast: " << e.what() << '\n';
    return 1;
}
