#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace arke {

/// A certificate that a client has shown. It has been verified: an authority of tls_config::client_ca has signed it.
struct client_certificate {
    std::string subject;      ///< As RFC 4514 writes it: "CN=ada,O=Example".
    std::string fingerprint;  ///< SHA-256 of the certificate, in lower-case hex.

    /// The names that it is for besides: "DNS:a.example", "email:ada@example.com", "URI:spiffe://example/ada", "IP:192.0.2.7".
    std::vector<std::string> names;

    std::string pem;
};

/// What TLS has agreed on for a connection. Read-only once it is made: any thread.
struct tls_session : boost::intrusive_ref_counter<tls_session, boost::thread_safe_counter> {
    std::string_view version;  ///< "TLSv1.3"
    std::string_view cipher;   ///< "TLS_AES_256_GCM_SHA384"
    std::string server_name;   ///< The name that the client asked for; empty where it asked for none.
    bool resumed = false;      ///< Without the costly part of the handshake, because the client was here before.
    std::optional<client_certificate> client;
};

using tls_session_ptr = boost::intrusive_ptr<const tls_session>;

}  // namespace arke
