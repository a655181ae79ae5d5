#pragma once

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace bench {

/// Ends the run; its text is a sentence for the person who started it.
struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// What a system call left in errno, behind what we were about.
inline failure system_failure(const std::string& what) { return failure{what + ": " + std::strerror(errno) + "."}; }

}  // namespace bench
