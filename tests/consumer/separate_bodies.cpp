#include <arke/src.hpp>
