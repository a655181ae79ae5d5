// The one translation unit of the test programs that holds Arke's bodies.
#include <arke/src.hpp>
