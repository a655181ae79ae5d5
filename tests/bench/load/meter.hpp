#pragma once

#include <sys/types.h>

#include <ctime>

#include <cstdint>
#include <string>
#include <string_view>

namespace bench {

/// Seconds of a clock that only goes forward.
double now() noexcept;

/// One line of JSON, field by field.
class report {
public:
    report& add(std::string_view name, double value);
    report& add(std::string_view name, std::uint64_t value);
    report& add(std::string_view name, std::string_view value);
    std::string line() const { return '{' + fields_ + '}'; }

private:
    report& add_raw(std::string_view name, std::string_view value);
    std::string fields_;
};

/// What is spent between start() and stop(): wall time, the server's CPU time with all its threads, our own.
///
/// The server's sum is the kernel's accounting in nanoseconds. How it splits into user and system is known to a hundredth
/// of a second only, so that the split is a share of the sum.
class meter {
public:
    /// 0: no server is measured.
    explicit meter(pid_t server);

    void start();
    void stop();

    double seconds() const noexcept { return seconds_; }
    double server_seconds() const noexcept { return server_seconds_; }

    /// Adds what was spent, and the server's CPU time for each of `count`, to the report.
    void tell(report& r, double count) const;

private:
    struct reading {
        double wall = 0, server = 0, own = 0;
        std::uint64_t user_ticks = 0, system_ticks = 0;
    };
    reading read() const;

    pid_t server_;
    clockid_t server_clock_{};
    reading begin_;
    double seconds_ = 0, server_seconds_ = 0, own_seconds_ = 0, user_share_ = -1;
};

/// A number of kilobytes by its name in a file like /proc/meminfo; of the whole file when it is there several times, the
/// first. Throws when it is not there.
double kilobytes_in(const std::string& file, std::string_view name);

/// The pages that TCP holds for what is under way, in kilobytes, from /proc/net/sockstat.
double tcp_kilobytes();

}  // namespace bench
