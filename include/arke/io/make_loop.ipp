#pragma once

#include <arke/io/make_loop.hpp>

namespace arke::io {

ARKE_COLD_INLINE asio_loop_ptr make_loop(asio::io_context& context, std::size_t index, const listener_config& settings,
                                         [[maybe_unused]] bool one_thread) {
#ifdef __linux__
    if (settings.loop == loop_kind::io_uring) {
        if (auto made = make_io_uring_loop(context, index, settings, one_thread)) return made;
    }
    if (settings.loop != loop_kind::portable) {
        asio_loop_ptr made{new epoll_loop{context, index, settings}};
        static_cast<epoll_loop&>(*made).start();
        return made;
    }
#endif
    return asio_loop_ptr{new portable_loop{context, index, settings}};
}

}  // namespace arke::io
