#pragma once

#include "failure.hpp"
#include "meter.hpp"
#include "options.hpp"

#include <cstdint>

namespace bench {

/// When a run measures, and when it ends: after a warm-up for some seconds, or exactly so many messages from the first on.
class window {
public:
    explicit window(const options& o) : options_{o}, meter_{o.pid} {}

    /// Everybody is connected.
    void open(std::uint64_t done = 0) {
        opened_ = heard_ = now();
        if (options_.messages != 0) begin(done);
    }

    /// Called after every wait with something that grows while answers come. Throws when it no longer does.
    void heard(std::uint64_t progress) {
        const auto t = now();
        if (progress != progress_) {
            progress_ = progress;
            heard_ = t;
        } else if (t - heard_ > options_.patience) {
            throw failure{"Nothing came from the server for " + std::to_string(static_cast<int>(options_.patience)) +
                          " s while answers are missing."};
        }
    }

    /// Called with what has been done so far, wherever the count is exact. False: it is time to end.
    bool is_open(std::uint64_t done) {
        if (is_closed_) return false;
        if (options_.messages != 0) return true;
        const auto t = now();
        if (!is_measuring_) {
            if (t - opened_ >= options_.warm_up) begin(done);
        } else if (t - began_ >= options_.seconds) {
            close(done);
        }
        return !is_closed_;
    }

    /// With a number of messages given, or at the latest.
    void close(std::uint64_t done) {
        if (is_closed_) return;
        meter_.stop();
        done_ = done - before_;
        is_closed_ = true;
    }

    /// What was done while it measured.
    std::uint64_t done() const noexcept { return done_; }
    const bench::meter& meter() const noexcept { return meter_; }

private:
    void begin(std::uint64_t done) {
        is_measuring_ = true;
        before_ = done;
        meter_.start();
        began_ = now();  // behind it: what is measured is no shorter than it should be
    }

    options options_;
    bench::meter meter_;
    double opened_ = 0, began_ = 0, heard_ = 0;
    std::uint64_t progress_ = 0, before_ = 0, done_ = 0;
    bool is_measuring_ = false, is_closed_ = false;
};

}  // namespace bench
