// Arke's client with somebody else's echo server: client_checks URL. See tests/support/client_checks.hpp.

#include "tests/support/client_checks.hpp"

#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "client_checks URL\n";
        return 2;
    }
    const auto wrong = arke::test::wrong_with_client_of(argv[1]);
    std::cerr << wrong;
    return wrong.empty() ? EXIT_SUCCESS : EXIT_FAILURE;
}
