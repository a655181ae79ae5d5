#pragma once

/// TLS for servers (config.listener.tls) and clients (wss://), by OpenSSL 3.
///
/// Include it in any one file of a program and link OpenSSL (-lssl -lcrypto; with CMake the target arke::tls does both the
/// including path and the linking): then all its servers and clients have TLS. Nothing else of Arke asks for OpenSSL. It is
/// the same with and without ARKE_SEPARATE_COMPILATION.
///
/// A server or client that is a global object needs it in its own file, above the object: initialisation goes from top to
/// bottom there, and in no order between files.

#include <arke/io/tls_context.hpp>

namespace arke::detail {

inline const bool tls_is_provided = (io::tls_provided = &io::openssl_provider) != nullptr;

}  // namespace arke::detail
