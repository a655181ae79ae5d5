// TLS in one file of a program whose bodies are compiled separately: here, and nowhere else.
#include <arke/tls.hpp>

#include <arke/client.hpp>

// Refused by an exception where there is no TLS.
void use_tls() { arke::client client{"wss://localhost/"}; }
