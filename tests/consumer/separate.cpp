// A program of several translation units, one of which compiles Arke's bodies.
#include <arke/arke.hpp>

#ifdef BOOST_BEAST_DECL
#error "Boost.Beast belongs to the bodies: a program that compiles them separately must not pay for it in each file"
#endif

void use_arke_elsewhere();

int main() {
    arke::server server{{.endpoint = "/here"}};
    use_arke_elsewhere();
}
