#include <arke/arke.hpp>

void use_arke_elsewhere() { arke::server server{{.endpoint = "/elsewhere"}}; }
