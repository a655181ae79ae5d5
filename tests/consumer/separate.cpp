// A program of several translation units, one of which compiles Arke's bodies.
#include <arke/arke.hpp>

#include <stdexcept>

#ifdef BOOST_BEAST_DECL
#error "Boost.Beast belongs to the bodies: a program that compiles them separately must not pay for it in each file"
#endif
#ifdef SSL_CTRL_SET_MTU
#error "OpenSSL belongs to <arke/tls.hpp>"
#endif
#ifdef REDIS_OK
#error "hiredis belongs to <arke/cluster/redis.hpp>"
#endif

void use_arke_elsewhere();
void use_tls();
void use_redis();

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
#ifdef CONSUMER_HAS_REDIS
    use_redis();
#endif
}
