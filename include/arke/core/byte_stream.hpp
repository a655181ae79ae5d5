#pragma once

#include <arke/base/error.hpp>

#include <cstddef>
#include <functional>
#include <string_view>

namespace arke::core {

/// A stream that somebody else has made and that has its own executor: an asio::ssl::stream, or any AsyncStream.
///
/// Threads: any; what is asked for is begun on the stream's executor, one thing at a time. `done` is called there too, and never
/// from within the call. One read and one write at a time; their memory must stay until then.
class byte_stream {
public:
    using on_done = std::function<void(error_code, std::size_t)>;

    byte_stream() = default;
    byte_stream(const byte_stream&) = delete;
    byte_stream& operator=(const byte_stream&) = delete;
    virtual ~byte_stream() = default;

    /// Reads what comes, and tells how much it was.
    virtual void read_some(char* to, std::size_t size, on_done done) = 0;

    /// Writes all of it.
    virtual void write(std::string_view bytes, on_done done) = 0;

    /// Ends our direction. `done` hears 1 when the other has ended with it, as that of TLS does: then nothing more is read.
    virtual void shut_down(on_done done) = 0;

    /// Ends both. What is under way comes to its end by an error.
    virtual void close() = 0;
};

}  // namespace arke::core
