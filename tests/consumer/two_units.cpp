// Two translation units that both include the whole library: everything in it must be inline.
#include <arke/arke.hpp>

void use_arke_elsewhere();

int main() {
    arke::server server{{.endpoint = "/here"}};
    use_arke_elsewhere();
}
