#pragma once

/// What tls_config says, as OpenSSL wants it. Included by <arke/tls.hpp> and by nothing else of Arke.

#include <arke/io/tls_stream.hpp>

#include <boost/asio/ip/address.hpp>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace arke::io {

namespace detail {

[[noreturn]] inline void refuse_tls(const std::string& sentence) {
    ERR_clear_error();
    throw std::invalid_argument{"arke: TLS: " + sentence};
}

/// What OpenSSL said last.
inline std::string openssl_reason() {
    const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason == nullptr ? "it gives no reason" : reason;
}

/// A PEM text, from wherever it is. `name`: of the field, for the sentence.
inline std::string pem_of(const std::string& file, const std::string& text, const std::string& name) {
    if (file.empty()) return text;
    std::ifstream in{file, std::ios::binary};
    std::string all{std::istreambuf_iterator<char>{in}, {}};
    if (!in.is_open() || in.bad() || all.empty())
        refuse_tls(name + "_file \"" + file + "\" cannot be read, or is empty; check the path and who may read it");
    return all;
}

inline bio_ptr reader_of(const std::string& text) {
    bio_ptr in{BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))};
    if (!in) throw std::bad_alloc{};
    return in;
}

/// All certificates of a PEM text.
inline std::vector<certificate_ptr> certificates_of(const std::string& text, const std::string& name) {
    const auto in = reader_of(text);
    std::vector<certificate_ptr> all;
    while (auto* const next = PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr)) all.emplace_back(next);
    const auto error = ERR_peek_last_error();
    const bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (!at_end) refuse_tls(name + " holds a certificate that cannot be read: " + openssl_reason());
    ERR_clear_error();
    if (all.empty())
        refuse_tls(name + " holds no certificate; it is to be PEM, with lines of -----BEGIN CERTIFICATE-----");
    return all;
}

inline key_ptr key_of(const tls_certificate& from, const std::string& name) {
    const auto text = pem_of(from.key_file, from.key, name);
    const auto in = reader_of(text);
    struct asked {
        const std::string& password;
        bool was_asked = false;
    } ask{from.key_password};
    key_ptr key{PEM_read_bio_PrivateKey(
        in.get(), nullptr,
        [](char* to, int size, int, void* data) {
            auto& a = *static_cast<asked*>(data);
            a.was_asked = true;
            const auto count = a.password.copy(to, static_cast<std::size_t>(size));
            return a.password.empty() ? -1 : static_cast<int>(count);
        },
        &ask)};
    if (key) return key;
    if (ask.was_asked && from.key_password.empty()) refuse_tls(name + " is encrypted; set key_password");
    if (ask.was_asked) refuse_tls(name + " cannot be decrypted; is key_password the right one?");
    refuse_tls(name + " holds no private key (" + openssl_reason() +
               "); it is to be PEM, with a line such as -----BEGIN PRIVATE KEY-----");
}

inline ssl_context_ptr make_context(const SSL_METHOD* method, tls_version minimum) {
    ssl_context_ptr made{SSL_CTX_new(method)};
    if (!made) throw std::bad_alloc{};
    auto* const c = made.get();
    SSL_CTX_set_min_proto_version(c, minimum == tls_version::v1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    // Of TLS 1.2 what has forward secrecy and authenticated encryption; 1.3 has nothing else.
    SSL_CTX_set_cipher_list(c, "ECDHE+AESGCM:ECDHE+CHACHA20");
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_PRIORITIZE_CHACHA);
    // An idle connection gives its buffers back.
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
    return made;
}

/// The certificate, and those between it and the authority's.
inline void use_certificate(SSL_CTX& c, const tls_certificate& from, const std::string& field,
                            const std::function<void(std::string_view)>& log) {
    auto chain = certificates_of(pem_of(from.chain_file, from.chain, field + ".chain"), field + ".chain");
    const auto key = key_of(from, field + ".key");
    auto* const own = chain.front().get();
    if (X509_check_private_key(own, key.get()) != 1)
        refuse_tls(field +
                   ": the key belongs to another certificate than the first of the chain; give those of one name");
    if (SSL_CTX_use_certificate(&c, own) != 1)
        refuse_tls(field + ".chain is not taken: " + openssl_reason() + "; is its key too short?");
    if (SSL_CTX_use_PrivateKey(&c, key.get()) != 1) refuse_tls(field + ".key is not taken: " + openssl_reason());
    if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0 && log) {
        log("TLS: " + field + " (" + text_of(X509_get_subject_name(own)) + ") has expired; clients will refuse it");
    }
    for (std::size_t i = 1; i != chain.size(); ++i) {
        if (SSL_CTX_add0_chain_cert(&c, chain[i].get()) != 1)
            refuse_tls(field + ".chain is not taken: " + openssl_reason());
        static_cast<void>(chain[i].release());
    }
}

/// sk_X509_pop_free() is a macro.
inline void free_certificates(STACK_OF(X509) * all) noexcept { sk_X509_pop_free(all, X509_free); }

/// The authorities of the system, which all clients that live at a time share: to read them takes a tenth of a second and some MB.
inline std::shared_ptr<X509_STORE> system_authorities() {
    static std::mutex mutex;
    static std::weak_ptr<X509_STORE> last;
    const std::lock_guard lock{mutex};
    auto there = last.lock();
    if (there) return there;
    there.reset(X509_STORE_new(), &X509_STORE_free);
    if (!there) throw std::bad_alloc{};
    // Where there are none, nobody is trusted: the handshake says so.
    X509_STORE_set_default_paths(there.get());
    ERR_clear_error();
    last = there;
    return there;
}

inline void trust(SSL_CTX& c, const std::vector<certificate_ptr>& authorities) {
    for (const auto& each : authorities) {
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(&c), each.get()) != 1) throw std::bad_alloc{};
    }
}

/// What ALPN is asked for and answered.
inline constexpr std::array<unsigned char, 9> http_1_1{8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

}  // namespace detail

/// The time of day by which sessions grow old; a test has one of its own.
inline std::time_t (*tls_clock)() = [] { return std::time(nullptr); };

/// The certificates of a server at one time.
class tls_identities {
public:
    tls_identities(const tls_config& settings, const std::function<void(std::string_view)>& log) {
        std::vector<certificate_ptr> authorities;
        if (settings.verify_clients != client_certificates::none) {
            authorities = detail::certificates_of(
                detail::pem_of(settings.client_ca_file, settings.client_ca, "client_ca"), "client_ca");
        }
        for (std::size_t i = 0; i != settings.certificates.size(); ++i) {
            auto made = detail::make_context(TLS_server_method(), settings.minimum_version);
            auto& c = *made;
            detail::use_certificate(c, settings.certificates[i], "certificates[" + std::to_string(i) + "]", log);
            set_resumption(c, settings.resumption);
            if (settings.verify_clients != client_certificates::none) {
                detail::trust(c, authorities);
                for (const auto& each : authorities) {
                    if (SSL_CTX_add_client_CA(&c, each.get()) != 1) throw std::bad_alloc{};
                }
                const bool must = settings.verify_clients == client_certificates::require;
                SSL_CTX_set_verify(&c, SSL_VERIFY_PEER | (must ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
            }
            SSL_CTX_set_alpn_select_cb(&c, &choose_protocol, nullptr);
            contexts_.push_back(std::move(made));
        }
        if (contexts_.size() > 1) {
            SSL_CTX_set_tlsext_servername_callback(contexts_.front().get(), &choose_certificate);
            SSL_CTX_set_tlsext_servername_arg(contexts_.front().get(), this);
        }
    }
    tls_identities(const tls_identities&) = delete;
    tls_identities& operator=(const tls_identities&) = delete;

    ssl_ptr make() const {
        ssl_ptr made{SSL_new(contexts_.front().get())};
        if (!made) throw std::bad_alloc{};
        SSL_set_accept_state(made.get());
        return made;
    }

private:
    static constexpr std::chrono::seconds resumable_for = std::chrono::hours{2};

    /// By tickets, whose keys are each context's own and random. Nothing is kept here.
    static void set_resumption(SSL_CTX& c, bool on) {
        constexpr std::array<unsigned char, 4> name{'a', 'r', 'k', 'e'};
        SSL_CTX_set_session_cache_mode(&c, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_session_id_context(&c, name.data(), name.size());
        SSL_CTX_set_timeout(&c, static_cast<long>(resumable_for.count()));
        SSL_CTX_set_session_ticket_cb(&c, &write_ticket, &read_ticket, nullptr);
        if (on) return;
        SSL_CTX_set_options(&c, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(&c, 0);
    }

    /// By TLS 1.3 each connection that resumes gets tickets as if it were new, so that who comes back in time, and who had a valid
    /// certificate once, could do so for ever. So a ticket says when there was a whole handshake.
    static int write_ticket(SSL* ssl, void*) {
        auto* const session = SSL_get_session(ssl);
        void* data = nullptr;
        std::size_t size = 0;
        if (SSL_SESSION_get0_ticket_appdata(session, &data, &size) == 1 && size == sizeof(std::time_t)) return 1;
        const auto now = tls_clock();
        return SSL_SESSION_set1_ticket_appdata(session, &now, sizeof now);
    }

    static SSL_TICKET_RETURN read_ticket(SSL*, SSL_SESSION* session, const unsigned char*, std::size_t,
                                         SSL_TICKET_STATUS status, void*) {
        if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) return SSL_TICKET_RETURN_IGNORE_RENEW;
        void* data = nullptr;
        std::size_t size = 0;
        std::time_t then = 0;
        if (SSL_SESSION_get0_ticket_appdata(session, &data, &size) != 1 || size != sizeof then)
            return SSL_TICKET_RETURN_IGNORE_RENEW;
        std::memcpy(&then, data, sizeof then);
        if (tls_clock() - then > resumable_for.count()) return SSL_TICKET_RETURN_IGNORE_RENEW;
        return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
    }

    static int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                               unsigned offered_size, void*) {
        const auto& ours = detail::http_1_1;
        unsigned char* found = nullptr;
        if (SSL_select_next_proto(&found, size, ours.data(), ours.size(), offered, offered_size) !=
            OPENSSL_NPN_NEGOTIATED)
            return SSL_TLSEXT_ERR_ALERT_FATAL;
        *chosen = found;
        return SSL_TLSEXT_ERR_OK;
    }

    static int choose_certificate(SSL* ssl, int*, void* identities) {
        const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
        for (const auto& c : static_cast<const tls_identities*>(identities)->contexts_) {
            if (X509_check_host(SSL_CTX_get0_certificate(c.get()), name, 0, 0, nullptr) != 1) continue;
            SSL_set_SSL_CTX(ssl, c.get());
            return SSL_TLSEXT_ERR_OK;
        }
        return SSL_TLSEXT_ERR_OK;
    }

    std::vector<ssl_context_ptr> contexts_;  // by certificate
};

/// TLS of a server.
class tls_server final : public tls_layer {
public:
    tls_server(const tls_config& settings, std::function<void(std::string_view)> log)
        : log_{std::move(log)}, now_{std::make_shared<tls_identities>(settings, log_)} {}

    core::transport& wrap(core::loop& on, core::transport& below, core::stream_user_ptr user) override {
        auto identities = current();
        auto ssl = identities->make();
        boost::intrusive_ptr<tls_stream> made{
            new tls_stream{on, std::move(user), std::move(ssl), std::move(identities)}};
        made->open(below);
        return *made;
    }

    void reload(const tls_config& with) override {
        std::shared_ptr<const tls_identities> made = std::make_shared<tls_identities>(with, log_);
        const std::lock_guard lock{mutex_};
        now_.swap(made);
    }

private:
    std::shared_ptr<const tls_identities> current() const {
        const std::lock_guard lock{mutex_};
        return now_;
    }

    std::function<void(std::string_view)> log_;
    mutable std::mutex mutex_;
    std::shared_ptr<const tls_identities> now_;
};

/// TLS of a client, to one server.
class tls_client final : public tls_layer {
public:
    tls_client(const client_tls_config& settings, const std::string& host)
        : own_{std::make_shared<state>()},
          host_{settings.server_name.empty() ? host : settings.server_name},
          verifies_{settings.verify} {
        auto& made = own_->context = detail::make_context(TLS_client_method(), settings.minimum_version);
        auto& c = *made;
        const bool has_own = !settings.ca_file.empty() || !settings.ca.empty();
        if (settings.verify && settings.system_ca) trust_system(c, has_own);
        if (has_own)
            detail::trust(c,
                          detail::certificates_of(detail::pem_of(settings.ca_file, settings.ca, "tls.ca"), "tls.ca"));
        if (settings.verify) SSL_CTX_set_verify(&c, SSL_VERIFY_PEER, nullptr);
        if (settings.certificate != tls_certificate{}) {
            if (const auto fault = arke::detail::find_fault(settings.certificate, "tls.certificate"); !fault.empty())
                detail::refuse_tls(fault);
            detail::use_certificate(c, settings.certificate, "tls.certificate", {});
        }
        SSL_CTX_set_alpn_protos(&c, detail::http_1_1.data(), detail::http_1_1.size());
        if (!settings.resumption) {
            SSL_CTX_set_options(&c, SSL_OP_NO_TICKET);
            return;
        }
        SSL_CTX_set_session_cache_mode(&c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_set_app_data(&c, own_.get());
        SSL_CTX_sess_set_new_cb(&c, [](SSL* ssl, SSL_SESSION* session) {
            auto& s = *static_cast<state*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
            const std::lock_guard lock{s.mutex};
            s.last.reset(session);
            return 1;
        });
    }

    core::transport& wrap(core::loop& on, core::transport& below, core::stream_user_ptr user) override {
        ssl_ptr ssl{SSL_new(own_->context.get())};
        if (!ssl) throw std::bad_alloc{};
        SSL_set_connect_state(ssl.get());
        error_code no_address;
        boost::asio::ip::make_address(host_, no_address);
        bool taken = true;
        if (no_address) taken = SSL_set_tlsext_host_name(ssl.get(), host_.c_str()) == 1;
        if (verifies_) {
            auto* const how = SSL_get0_param(ssl.get());
            X509_VERIFY_PARAM_set_hostflags(how, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
            taken = taken && (no_address ? X509_VERIFY_PARAM_set1_host(how, host_.data(), host_.size())
                                         : X509_VERIFY_PARAM_set1_ip_asc(how, host_.c_str())) == 1;
        }
        if (!taken) throw std::bad_alloc{};
        {
            const std::lock_guard lock{own_->mutex};
            if (own_->last) SSL_set_session(ssl.get(), own_->last.get());
        }
        boost::intrusive_ptr<tls_stream> made{new tls_stream{on, std::move(user), std::move(ssl), own_}};
        made->open(below);
        return *made;
    }

private:
    void trust_system(SSL_CTX& c, bool among_others) {
        own_->authorities = detail::system_authorities();
        if (!among_others) return SSL_CTX_set1_cert_store(&c, own_->authorities.get());
        const std::unique_ptr<STACK_OF(X509), detail::openssl_deleter<&detail::free_certificates>> all{
            X509_STORE_get1_all_certs(own_->authorities.get())};
        for (int i = 0; i < (all ? sk_X509_num(all.get()) : 0); ++i)
            X509_STORE_add_cert(SSL_CTX_get_cert_store(&c), sk_X509_value(all.get(), i));
        SSL_CTX_set_default_verify_dir(&c);  // a folder is looked into when it is needed
    }

    /// What streams keep.
    struct state {
        std::shared_ptr<X509_STORE> authorities;  // of the system
        ssl_context_ptr context;
        std::mutex mutex;
        ssl_session_ptr last;  // to be resumed
    };

    std::shared_ptr<state> own_;
    std::string host_;
    bool verifies_;
};

inline constexpr tls_provider openssl_provider{
    [](const tls_config& settings, std::function<void(std::string_view)> log) -> std::shared_ptr<tls_layer> {
        return std::make_shared<tls_server>(settings, std::move(log));
    },
    [](const client_tls_config& settings, const std::string& host) -> std::shared_ptr<tls_layer> {
        return std::make_shared<tls_client>(settings, host);
    },
    &tls_message,
};

}  // namespace arke::io
