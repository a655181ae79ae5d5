#pragma once

#include <arke/io/epoll_loop.hpp>
#include <arke/io/io_uring_loop.hpp>
#include <arke/io/portable_loop.hpp>

namespace arke::io {

/// The loop that the config asks for, or what stands in for it here; its kind() tells.
///
/// `one_thread` promises that one thread alone will run the io_context: nobody else's turns, until it is taken down.
asio_loop_ptr make_loop(asio::io_context& context, std::size_t index, const listener_config& settings,
                        bool one_thread = false);

}  // namespace arke::io

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/io/make_loop.ipp>
#endif
