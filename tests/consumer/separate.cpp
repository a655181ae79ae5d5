// A program of several translation units, one of which compiles Arke's bodies.
#include <arke/arke.hpp>

#include <stdexcept>

#ifdef BOOST_BEAST_DECL
#error "Boost.Beast belongs to the bodies: a program that compiles them separately must not pay for it in each file"
#endif
#ifdef SSL_CTRL_SET_MTU
#error "OpenSSL belongs to <arke/tls.hpp>"
#endif

void use_arke_elsewhere();
void use_tls();

int main() {
    arke::server server{{.endpoint = "/here"}};
    use_arke_elsewhere();
#ifdef CONSUMER_HAS_TLS
    use_tls();
#else
    try {
        arke::client client{"wss://localhost/"};
        return 1;
    } catch (const std::invalid_argument&) {
    }
#endif
}
