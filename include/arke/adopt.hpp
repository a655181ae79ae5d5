#pragma once

/// What basic_server::adopt() makes of the stream, the request and the buffer that it is given, by their own interfaces: Beast's, or
/// any like them.

#include <arke/core/byte_stream.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/socket_base.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace arke::detail {

/// The request as it was sent, but for spaces.
template <class Request>
std::string text_of_request(const Request& r) {
    std::string text;
    const auto add = [&](const auto& part) { text.append(part.data(), part.size()); };
    add(r.method_string());
    text += ' ';
    add(r.target());
    text += " HTTP/" + std::to_string(r.version() / 10) + "." + std::to_string(r.version() % 10) + "\r\n";
    for (const auto& field : r) {
        add(field.name_string());
        text += ": ";
        add(field.value());
        text += "\r\n";
    }
    return text + "\r\n";
}

/// The bytes of a text or of a dynamic buffer.
template <class Buffer>
std::string bytes_of_buffer(const Buffer& b) {
    if constexpr (std::is_convertible_v<const Buffer&, std::string_view>) {
        return std::string{std::string_view{b}};
    } else {
        std::string bytes;
        const auto data = b.data();
        for (auto at = boost::asio::buffer_sequence_begin(data); at != boost::asio::buffer_sequence_end(data); ++at) {
            const boost::asio::const_buffer part{*at};
            bytes.append(static_cast<const char*>(part.data()), part.size());
        }
        return bytes;
    }
}

/// A socket whose descriptor can be taken away, as Asio's have it.
template <class Stream>
concept plain_socket = requires(Stream& s, error_code& ec) {
    s.release(ec);
    s.native_non_blocking(true, ec);
};

template <class Stream>
auto& bottom_of(Stream& s) {
    if constexpr (requires { s.next_layer(); })
        return bottom_of(s.next_layer());
    else if constexpr (requires { s.socket(); })
        return s.socket();
    else
        return s;
}

struct stream_address {
    std::string text;
    std::uint16_t port = 0;
};

/// Whom the stream is connected with; nothing where it does not tell.
template <class Stream>
stream_address address_of_stream(Stream& stream) {
    auto& s = bottom_of(stream);
    if constexpr (requires(error_code & ec) { s.remote_endpoint(ec).address().to_string(); }) {
        error_code ec;
        const auto remote = s.remote_endpoint(ec);
        if (!ec) return {remote.address().to_string(), remote.port()};
    } else if constexpr (requires(error_code & ec) { s.remote_endpoint(ec).path(); }) {
        return {"unix"};
    }
    return {};
}

/// Any AsyncStream as what a loop needs of it.
template <class Stream>
class adopted_stream final : public core::byte_stream, public std::enable_shared_from_this<adopted_stream<Stream>> {
public:
    explicit adopted_stream(Stream s)
        : stream_{std::move(s)}, strand_{boost::asio::make_strand(stream_->get_executor())} {}

    void read_some(char* to, std::size_t size, on_done done) override {
        run([to, size, done = std::move(done)](adopted_stream& s) mutable {
            s.stream_->async_read_some(boost::asio::buffer(to, size), s.answer(std::move(done)));
        });
    }

    void write(std::string_view bytes, on_done done) override {
        run([bytes, done = std::move(done)](adopted_stream& s) mutable {
            boost::asio::async_write(*s.stream_, boost::asio::buffer(bytes.data(), bytes.size()),
                                     s.answer(std::move(done)));
        });
    }

    void shut_down(on_done done) override {
        run([done = std::move(done)](adopted_stream& s) mutable {
            if constexpr (requires { s.stream_->async_shutdown([](const error_code&) {}); }) {
                s.stream_->async_shutdown(s.answer(std::move(done)));
            } else if constexpr (requires(error_code & ec) {
                                     bottom_of(*s.stream_).shutdown(boost::asio::socket_base::shutdown_send, ec);
                                 }) {
                error_code ec;
                bottom_of(*s.stream_).shutdown(boost::asio::socket_base::shutdown_send, ec);
                done(ec, 0);
            } else {
                done({}, 1);
            }
        });
    }

    void close() override {
        run([](adopted_stream& s) {
            auto& bottom = bottom_of(*s.stream_);
            if constexpr (requires(error_code & ec) { bottom.close(ec); }) {
                error_code ignored;
                bottom.close(ignored);
            } else {
                bottom.close();
            }
        });
    }

private:
    /// What an operation calls at its end. When it is destroyed without that, the io_context is being destroyed: the stream must
    /// go with it.
    class at_end {
    public:
        at_end(std::shared_ptr<adopted_stream> of, on_done done) : of_{std::move(of)}, done_{std::move(done)} {}
        at_end(at_end&&) noexcept = default;
        at_end& operator=(at_end&&) = delete;
        ~at_end() {
            if (of_) of_->vanish();
        }
        void operator()(const error_code& ec, std::size_t count = 1) {
            const auto of = std::exchange(of_, nullptr);
            done_(ec, count);
        }

    private:
        std::shared_ptr<adopted_stream> of_;
        on_done done_;
    };

    void vanish() noexcept {
        {
            const std::lock_guard lock{mutex_};
            gone_ = true;
        }
        stream_.reset();
        strand_ = {};
    }

    /// Has f(*this) run where nothing else is done with the stream.
    template <class F>
    void run(F f) {
        // Whoever destroys the io_context waits so long, and later nobody comes.
        const std::lock_guard lock{mutex_};
        if (gone_) return;
        boost::asio::dispatch(strand_, [self = this->shared_from_this(), f = std::move(f)]() mutable {
            if (self->stream_) f(*self);
        });
    }

    auto answer(on_done done) {
        return boost::asio::bind_executor(strand_, at_end{this->shared_from_this(), std::move(done)});
    }

    std::optional<Stream> stream_;
    boost::asio::any_io_executor strand_;  // some streams ask more of one than a strand of any_io_executor has
    std::recursive_mutex mutex_;           // f may run, and fail, at once
    bool gone_ = false;
};

}  // namespace arke::detail
