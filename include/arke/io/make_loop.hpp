#pragma once

#include <arke/io/epoll_loop.hpp>
#include <arke/io/portable_loop.hpp>

namespace arke::io {

/// The loop that the config asks for; where `automatic`, the fastest that this system has.
asio_loop_ptr make_loop(asio::io_context& context, std::size_t index, const listener_config& settings);

}  // namespace arke::io

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/io/make_loop.ipp>
#endif
