#pragma once

/// The bodies of Arke's functions, for programs that define ARKE_SEPARATE_COMPILATION: included in exactly one file.

#ifndef ARKE_SEPARATE_COMPILATION
#error \
    "arke/src.hpp belongs to separate compilation: define ARKE_SEPARATE_COMPILATION for all files of the program, or leave this file out."
#endif

#include <arke/arke.hpp>

#include <arke/client.ipp>
#include <arke/cluster/emitter.ipp>
#include <arke/cluster/envelope.ipp>
#include <arke/cluster/events.ipp>
#include <arke/cluster/handle.ipp>
#include <arke/cluster/node.ipp>
#include <arke/cluster/server_node.ipp>
#include <arke/connection.ipp>
#include <arke/core/endpoint.ipp>
#include <arke/core/flood_guard.ipp>
#include <arke/core/handlers.ipp>
#include <arke/core/hub.ipp>
#include <arke/core/loop.ipp>
#include <arke/core/metrics.ipp>
#include <arke/core/peer.ipp>
#include <arke/core/proxy_gate.ipp>
#include <arke/core/rate_limit.ipp>
#include <arke/event/arke_v1.ipp>
#include <arke/event/arke_v1_protocol.ipp>
#include <arke/event/event_view.ipp>
#include <arke/event/iris.ipp>
#include <arke/event/value.ipp>
#include <arke/http/answer.ipp>
#include <arke/http/client_handshake.ipp>
#include <arke/http/client_session.ipp>
#include <arke/http/file_folder.ipp>
#include <arke/http/file_part.ipp>
#include <arke/http/response.ipp>
#include <arke/http/routes.ipp>
#include <arke/http/session.ipp>
#include <arke/http/upgrade.ipp>
#include <arke/http/upgrade_call.ipp>
#include <arke/io/acceptor.ipp>
#include <arke/io/connector.ipp>
#include <arke/io/epoll_loop.ipp>
#include <arke/io/io_uring_loop.ipp>
#include <arke/io/make_loop.ipp>
#include <arke/io/portable_loop.ipp>
#include <arke/io/stream_transport.ipp>
#include <arke/server.ipp>
#include <arke/wire/address.ipp>
#include <arke/wire/body.ipp>
#include <arke/wire/deflate.ipp>
#include <arke/wire/forwarded.ipp>
#include <arke/wire/frame.ipp>
#include <arke/wire/handshake.ipp>
#include <arke/wire/proxy_header.ipp>
#include <arke/wire/request.ipp>
#include <arke/wire/sha1.ipp>
#include <arke/wire/url.ipp>
