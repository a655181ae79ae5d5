#pragma once

#include <arke/io/asio_loop.hpp>

namespace arke::io {

/// The loop for Linux 6.0 and newer: one io_uring, which the io_context watches as a single descriptor.
///
/// Every socket has one receive that stays with the kernel (multishot) and takes its memory from a ring of buffers that
/// all sockets of the loop share. What a turn sends goes to the kernel in one call, which also brings what has come
/// meanwhile, so a busy loop makes one system call for a round of all its sockets. A wake-up serves a bounded number of
/// rounds, so that timers and posts of the io_context get their turn.
///
/// The kernel reads ahead, as far as the buffers reach. Of one that has said more than its fair share of a round the rest is
/// copied and told in the rounds after, once the others have had theirs; its receive is cancelled meanwhile, so no more comes
/// than was read before the round ended. Copied, because bytes that wait in the buffers would leave the others without.
///
/// Where one thread runs the io_context from beginning to end (`one_thread`), the kernel does its part only while that
/// thread asks for it; the first turn settles which thread that is. Else a request belongs to the thread that made it,
/// comes back when that thread ends, and is made again.
///
/// Empty where Arke is built without liburing, and where the kernel or a sandbox refuses.
///
/// liburing is seen by the bodies only: with separate compilation a program needs none of it.
asio_loop_ptr make_io_uring_loop(asio::io_context& context, std::size_t index, const listener_config& settings,
                                 bool one_thread);

}  // namespace arke::io

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/io/io_uring_loop.ipp>
#endif
