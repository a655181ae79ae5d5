#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace soak {

/// The server's program, seen from outside.
class process {
public:
    /// Starts it and reads its first line. It does not outlive us.
    explicit process(std::vector<std::string> command);
    ~process();  // kills
    process(const process&) = delete;
    process& operator=(const process&) = delete;

    const std::string& first_line() const { return first_line_; }

    std::size_t resident_bytes() const;
    std::size_t descriptors() const;
    bool is_running();

    /// SIGTERM, and the time that it has to end. What it ended with in words; empty where that is status 0.
    std::string terminate(std::chrono::seconds longest);

private:
    pid_t pid_ = -1;
    int status_ = 0;
    std::string first_line_;
};

}  // namespace soak
