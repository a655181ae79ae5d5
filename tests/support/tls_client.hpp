#pragma once

/// The other end of the TLS tests: OpenSSL over a blocking socket, which shares no line of code with Arke's.

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tests/support/client.hpp"

namespace arke::test {

/// How a tls_client is to be. Texts are PEM.
struct tls_wish {
    std::string ca{};  ///< Empty: everything is trusted.
    std::string name = "localhost";
    std::string chain{};
    std::string key{};
    int minimum = TLS1_2_VERSION;
    int maximum = 0;
    std::string ciphers{};
    std::string protocols{};                 ///< Of ALPN, on the wire: "\x08http/1.1".
    std::shared_ptr<SSL_SESSION> session{};  ///< To be resumed.
    std::string preface{};                   ///< Sent before TLS begins.
};

class tls_client {
public:
    explicit tls_client(std::uint16_t port, const tls_wish& wish = {}) : tls_client{local(port), wish} {}
    /// At a tcp::endpoint, or one of UNIX-domain sockets.
    explicit tls_client(const asio::generic::stream_protocol::endpoint& to, const tls_wish& wish = {})
        : socket_{io_}, context_{SSL_CTX_new(TLS_client_method()), &SSL_CTX_free} {
        auto* const c = context_.get();
        SSL_CTX_set_min_proto_version(c, wish.minimum);
        SSL_CTX_set_max_proto_version(c, wish.maximum);
        // Else OpenSSL itself would not offer what is old.
        if (wish.minimum < TLS1_2_VERSION) SSL_CTX_set_security_level(c, 0);
        if (!wish.ciphers.empty()) SSL_CTX_set_cipher_list(c, wish.ciphers.c_str());
        if (!wish.ca.empty()) {
            SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
            if (auto* const ca = read_certificate(wish.ca)) {
                X509_STORE_add_cert(SSL_CTX_get_cert_store(c), ca);
                X509_free(ca);
            }
        }
        if (!wish.chain.empty()) {
            auto* const own = read_certificate(wish.chain);
            SSL_CTX_use_certificate(c, own);
            X509_free(own);
            auto* const in = BIO_new_mem_buf(wish.key.data(), static_cast<int>(wish.key.size()));
            auto* const key = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
            SSL_CTX_use_PrivateKey(c, key);
            EVP_PKEY_free(key);
            BIO_free(in);
        }
        SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_set_app_data(c, this);
        SSL_CTX_sess_set_new_cb(c, [](SSL* ssl, SSL_SESSION* made) {
            static_cast<tls_client*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)))->session_ = {made, &SSL_SESSION_free};
            return 1;
        });
        // OpenSSL writes to a socket by write(): of a server that has gone it would end the program.
        std::signal(SIGPIPE, SIG_IGN);
        ssl_.reset(SSL_new(c), &SSL_free);
        if (!wish.name.empty()) {
            SSL_set_tlsext_host_name(ssl_.get(), wish.name.c_str());
            if (!wish.ca.empty()) SSL_set1_host(ssl_.get(), wish.name.c_str());
        }
        if (!wish.protocols.empty()) {
            SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(wish.protocols.data()),
                                static_cast<unsigned>(wish.protocols.size()));
        }
        if (wish.session) SSL_set_session(ssl_.get(), wish.session.get());
        socket_.connect(to);
        error ignored;
        socket_.set_option(tcp::no_delay{true}, ignored);
        asio::write(socket_, asio::buffer(wish.preface), ignored);
        timeval time{};
        time.tv_sec = static_cast<time_t>(patience.count());
        ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
        SSL_set_fd(ssl_.get(), socket_.native_handle());
        ERR_clear_error();
        connected_ = again([&] { return SSL_connect(ssl_.get()); }) == 1;
        if (!connected_) note_why();
    }
    ~tls_client() {
        // Else the session counts as broken.
        SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    tls_client(const tls_client&) = delete;
    tls_client& operator=(const tls_client&) = delete;

    bool is_connected() const { return connected_; }

    /// Why it is not, or why read() has ended: "end" by close_notify, "cut" without one, else OpenSSL's word.
    const std::string& why() const { return why_; }

    std::string version() const { return SSL_get_version(ssl_.get()); }
    bool is_resumed() const { return SSL_session_reused(ssl_.get()) == 1; }
    /// To be resumed. What the server has sent must have been read.
    std::shared_ptr<SSL_SESSION> session() const { return session_; }
    std::string protocol() const {
        const unsigned char* at = nullptr;
        unsigned size = 0;
        SSL_get0_alpn_selected(ssl_.get(), &at, &size);
        return size == 0 ? std::string{} : std::string(reinterpret_cast<const char*>(at), size);
    }
    /// The common name of the server's certificate.
    std::string peer() const {
        auto* const certificate = SSL_get1_peer_certificate(ssl_.get());
        if (certificate == nullptr) return "";
        char name[256] = "";
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
        X509_free(certificate);
        return name;
    }

    bool send(std::string_view bytes) {
        const auto size = static_cast<int>(bytes.size());
        return again([&] { return SSL_write(ssl_.get(), bytes.data(), size); }) == size;
    }

    /// `count` bytes; fewer when the stream ends before.
    std::string read(std::size_t count) {
        std::string all(count, '\0');
        std::size_t filled = 0;
        while (filled != count) {
            std::size_t got = 0;
            if (again([&] { return SSL_read_ex(ssl_.get(), all.data() + filled, count - filled, &got); }) != 1) {
                note_why();
                break;
            }
            filled += got;
        }
        all.resize(filled);
        return all;
    }
    std::string read_until(std::string_view end) {
        std::string all;
        while (all.find(end) == std::string::npos) {
            const auto next = read(1);
            if (next.empty()) break;
            all += next;
        }
        return all;
    }
    /// Everything until the end.
    std::string read_all() {
        std::string all;
        for (auto next = read(1); !next.empty(); next = read(1)) all += next;
        return all;
    }

    /// Whether a WebSocket is open then.
    bool upgrade(std::string_view path = "/") {
        return send(upgrade_request(path)) && read_until("\r\n\r\n").starts_with("HTTP/1.1 101");
    }
    bool say(std::string_view text) { return send(masked_frame(0x81, text)); }
    /// The payload of a frame below 126 bytes.
    std::string hear() {
        const auto head = read(2);
        return head.size() == 2 ? read(static_cast<unsigned char>(head[1])) : why_;
    }

    /// Says goodbye by TLS only, or not at all.
    void shut_down() { SSL_shutdown(ssl_.get()); }
    void cut() {
        error ignored;
        socket_.close(ignored);
    }

private:
    /// A call that a signal interrupts is begun again.
    template <class Call>
    int again(Call&& call) {
        for (;;) {
            ERR_clear_error();
            errno = 0;
            const int result = call();
            if (result > 0 || errno != EINTR) return result;
        }
    }
    static X509* read_certificate(const std::string& pem) {
        auto* const in = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
        auto* const made = PEM_read_bio_X509(in, nullptr, nullptr, nullptr);
        BIO_free(in);
        return made;
    }
    void note_why() {
        const auto code = ERR_peek_last_error();
        // A fatal alert counts for OpenSSL as a goodbye too.
        if (code != 0 && ERR_GET_REASON(code) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
            why_ = ERR_reason_error_string(code) == nullptr ? "error" : ERR_reason_error_string(code);
        else
            why_ = (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0 ? "end" : "cut";
    }

    asio::io_context io_;
    asio::generic::stream_protocol::socket socket_;
    std::shared_ptr<SSL_CTX> context_;
    std::shared_ptr<SSL_SESSION> session_;
    std::shared_ptr<SSL> ssl_;
    bool connected_ = false;
    std::string why_;
};

}  // namespace arke::test
