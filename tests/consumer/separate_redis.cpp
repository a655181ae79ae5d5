// A cluster's Redis, in one file of a program whose bodies are compiled separately.
#include <arke/cluster/redis.hpp>

void use_redis() { const arke::redis_backplane made{"redis://localhost"}; }
