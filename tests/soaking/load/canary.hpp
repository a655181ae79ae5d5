#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace soak {

/// Asks the server something twenty times a second, whatever the others do, and measures each answer. In a thread of its own,
/// so that what it measures is the server and not the load.
class canary {
public:
    explicit canary(std::uint16_t port);
    ~canary();
    canary(const canary&) = delete;
    canary& operator=(const canary&) = delete;

    void stop();

    // After stop().
    std::uint64_t asked() const { return asked_; }
    std::uint64_t answered() const { return milliseconds_.size(); }
    const std::string& failure() const { return failure_; }

    /// Below which time this part of the answers came.
    double quantile(double part);

private:
    void run();
    std::string read_some();

    int socket_ = -1;
    std::string in_;
    std::atomic<bool> done_{false};
    std::uint64_t asked_ = 0;
    std::vector<double> milliseconds_;
    std::string failure_;
    std::thread thread_;
};

}  // namespace soak
