// What the fuzzers call of arke/src.hpp: all but the sockets, which would take most of the time to compile.
#include <arke/connection.ipp>
#include <arke/core/endpoint.ipp>
#include <arke/core/handlers.ipp>
#include <arke/core/hub.ipp>
#include <arke/core/loop.ipp>
#include <arke/core/metrics.ipp>
#include <arke/core/peer.ipp>
#include <arke/event/event_view.ipp>
#include <arke/event/iris.ipp>
#include <arke/event/value.ipp>
#include <arke/http/file_folder.ipp>
#include <arke/http/session.ipp>
#include <arke/wire/frame.ipp>
#include <arke/wire/handshake.ipp>
#include <arke/wire/request.ipp>
#include <arke/wire/sha1.ipp>
