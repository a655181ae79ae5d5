#pragma once

/// Certificates for tests: authorities and what they sign, made in a moment and never written to a disk.

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace arke::test {

/// What a certificate says. Times are days from now.
struct certificate_wish {
    std::string subject = "localhost";                 ///< The common name.
    std::string names = "DNS:localhost,IP:127.0.0.1";  ///< As openssl.cnf writes them; empty: none.
    int begins = -1;
    int ends = 30;
    bool is_authority = false;
};

/// A certificate and its key. It may sign others.
class test_certificate {
public:
    /// Signed by itself.
    explicit test_certificate(const certificate_wish& wish = {}) : test_certificate{wish, nullptr} {}
    test_certificate(const certificate_wish& wish, const test_certificate& by) : test_certificate{wish, &by} {}

    std::string chain() const {
        return text([&](BIO* out) { return PEM_write_bio_X509(out, certificate_.get()); });
    }
    std::string key() const {
        return text(
            [&](BIO* out) { return PEM_write_bio_PrivateKey(out, key_.get(), nullptr, nullptr, 0, nullptr, nullptr); });
    }
    std::string encrypted_key(const std::string& password) const {
        return text([&](BIO* out) {
            return PEM_write_bio_PrivateKey(out, key_.get(), EVP_aes_128_cbc(),
                                            reinterpret_cast<const unsigned char*>(password.data()),
                                            static_cast<int>(password.size()), nullptr, nullptr);
        });
    }

private:
    test_certificate(const certificate_wish& wish, const test_certificate* by)
        : key_{EVP_EC_gen("P-256"), &EVP_PKEY_free}, certificate_{X509_new(), &X509_free} {
        auto* const c = certificate_.get();
        X509_set_version(c, 2);
        std::uint64_t serial = 0;
        RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial);
        ASN1_INTEGER_set_uint64(X509_get_serialNumber(c), serial >> 1U);
        X509_gmtime_adj(X509_getm_notBefore(c), wish.begins * 86'400L);
        X509_gmtime_adj(X509_getm_notAfter(c), wish.ends * 86'400L);
        X509_set_pubkey(c, key_.get());
        X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(wish.subject.c_str()), -1, -1, 0);
        X509_set_issuer_name(c, X509_get_subject_name(by == nullptr ? c : by->certificate_.get()));
        if (wish.is_authority) add(NID_basic_constraints, "critical,CA:TRUE");
        if (!wish.names.empty()) add(NID_subject_alt_name, wish.names);
        if (X509_sign(c, (by == nullptr ? *this : *by).key_.get(), EVP_sha256()) == 0)
            throw std::runtime_error{"a test's certificate was not signed"};
    }

    void add(int what, const std::string& value) {
        auto* const made = X509V3_EXT_conf_nid(nullptr, nullptr, what, value.c_str());
        if (made == nullptr) throw std::runtime_error{"a test's certificate cannot say " + value};
        X509_add_ext(certificate_.get(), made, -1);
        X509_EXTENSION_free(made);
    }

    template <class Write>
    static std::string text(Write&& write) {
        const std::unique_ptr<BIO, decltype(&BIO_free)> out{BIO_new(BIO_s_mem()), &BIO_free};
        if (write(out.get()) != 1) throw std::runtime_error{"a test's certificate was not written"};
        char* at = nullptr;
        const auto size = BIO_get_mem_data(out.get(), &at);
        return {at, static_cast<std::size_t>(size)};
    }

    std::shared_ptr<EVP_PKEY> key_;
    std::shared_ptr<X509> certificate_;
};

}  // namespace arke::test
