#pragma once

#include <arke/io/asio_loop.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace arke::io {

/// The loop for every system that Asio knows: async_wait for each socket, then reads that do not wait.
///
/// Not async_read_some into the shared buffer: a read that succeeds at once completes by a post, and by then another socket
/// may have overwritten it.
class portable_loop final : public asio_loop {
public:
    portable_loop(asio::io_context& context, std::size_t index, const listener_config& settings);
    ~portable_loop() override;

    loop_kind kind() const noexcept override { return loop_kind::portable; }
    core::transport* attach(native_socket socket, core::stream_user_ptr user) override;
    void add_users(std::vector<core::stream_user_ptr>& to) const override;
    void shut_down() override;

private:
    class socket;

    void serve(socket& s);
    void serve_ready();
    bool run_again() noexcept;

    std::unique_ptr<char[]> buffer_;
    std::size_t buffer_size_;
    std::vector<socket*> sockets_;
    // The io_context calls the handlers of all sockets that are ready before it looks again. Who comes late in such a round waits here
    // until it has looked; serve_ready() is posted meanwhile.
    std::vector<boost::intrusive_ptr<socket>> ready_;
    std::uint64_t round_began_ = 0;  // in ticks()
    std::uint64_t served_at_ = 0;
};

}  // namespace arke::io

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/io/portable_loop.ipp>
#endif
