#pragma once

#include <arke/base/compile.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace arke {

/// A certificate and its key, in PEM. Each of the two is a file or a text, not both.
struct tls_certificate {
    /// The certificate, and behind it those between it and the authority's own: certbot's fullchain.pem.
    std::string chain_file{};
    std::string chain{};

    /// The key: certbot's privkey.pem.
    std::string key_file{};
    std::string key{};

    /// Of a key that is encrypted.
    std::string key_password{};

    friend bool operator==(const tls_certificate&, const tls_certificate&) = default;
};

/// The oldest version of TLS that is spoken. Older ones than these two are refused always.
enum class tls_version {
    v1_2,  ///< Only with forward secrecy and authenticated encryption.
    v1_3,
};

/// Whether clients have certificates. request::tls() holds them.
enum class client_certificates {
    none,     ///< They are not asked for one.
    request,  ///< They are asked, and may have none. One that does not verify is refused.
    require,  ///< One without is refused too.
};

/// TLS of a server's ports. Needs <arke/tls.hpp> in one file of the program, and OpenSSL 3.
///
///     arke::server server{{.listener = {.tls = {.certificates = {{.chain_file = "fullchain.pem", .key_file = "privkey.pem"}}}}}};
///     server.listen("0.0.0.0", 443);
///
/// What cannot be read, a key that belongs to another certificate or a wrong password is refused by std::invalid_argument, when
/// the server is made and by server::reload(). An expired certificate is taken and logged.
///
/// An idle connection takes about 14 KiB more than a plain one, nearly all of it OpenSSL's.
struct tls_config {
    /// With none of them the ports are plain. The name that a client asks for chooses; where it asks for none of theirs, it gets the
    /// first.
    std::vector<tls_certificate> certificates{};

    client_certificates verify_clients = client_certificates::none;

    /// Who has signed the certificates of clients: a file, or a text, in PEM. Needed where they are asked for one.
    std::string client_ca_file{};
    std::string client_ca{};

    /// Whether a client that comes back is spared the costly part of the handshake, for two hours at most, and not after a reload().
    /// It costs no memory here.
    bool resumption = true;

    tls_version minimum_version = tls_version::v1_2;

    friend bool operator==(const tls_config&, const tls_config&) = default;
};

/// TLS of a client, for wss://. Needs <arke/tls.hpp> in one file of the program, and OpenSSL 3.
struct client_tls_config {
    /// Authorities that are trusted, in PEM: a file, or a text; a self-signed certificate is its own. Those of the system are
    /// too, unless system_ca is off.
    std::string ca_file{};
    std::string ca{};
    bool system_ca = true;

    /// Whether the server must show a certificate that an authority has signed for its name. Off, anybody between can read and
    /// change everything: for tests only.
    bool verify = true;

    /// The client's own certificate, for servers that ask for one.
    tls_certificate certificate{};

    /// The name that the server's certificate must have, and that it is asked for. Empty: the host of the URL.
    std::string server_name{};

    /// Whether a connection that comes back is spared the costly part of the handshake.
    bool resumption = true;

    tls_version minimum_version = tls_version::v1_2;

    friend bool operator==(const client_tls_config&, const client_tls_config&) = default;
};

/// What a port speaks.
enum class security {
    automatic,  ///< TLS where the config has a certificate, else plain.
    plain,      ///< No TLS, also beside ports that have it.
    tls,        ///< TLS; refused where the config has no certificate.
};

namespace detail {

/// What is wrong with the form of a certificate: a sentence, or nothing. Files are not looked at.
inline std::string find_fault(const tls_certificate& c, const std::string& field) {
    const auto one_of = [&](const std::string& file, const std::string& text, const char* name) -> std::string {
        if (file.empty() && text.empty())
            return field + " has no " + name + "; set " + name + "_file to a PEM file, or " + name + " to its text";
        if (!file.empty() && !text.empty())
            return field + " has both " + name + "_file and " + name + "; leave one of them empty";
        return {};
    };
    if (auto fault = one_of(c.chain_file, c.chain, "chain"); !fault.empty()) return fault;
    return one_of(c.key_file, c.key, "key");
}

/// The same of a config.
inline std::string find_fault(const tls_config& c, const std::string& field) {
    for (std::size_t i = 0; i != c.certificates.size(); ++i) {
        auto fault = find_fault(c.certificates[i], field + ".certificates[" + std::to_string(i) + "]");
        if (!fault.empty()) return fault;
    }
    const bool has_ca = !c.client_ca_file.empty() || !c.client_ca.empty();
    if (!c.client_ca_file.empty() && !c.client_ca.empty())
        return field + " has both client_ca_file and client_ca; leave one of them empty";
    if (c.verify_clients != client_certificates::none && !has_ca)
        return field + ".verify_clients asks for certificates, and nobody says who signs them; set client_ca_file";
    if (c.verify_clients == client_certificates::none && has_ca)
        return field + ".client_ca is set, and verify_clients is none; set that to request or require";
    if (c.certificates.empty() && c.verify_clients != client_certificates::none)
        return field + ".verify_clients needs TLS, and certificates is empty; add the server's own";
    return {};
}

}  // namespace detail
}  // namespace arke
