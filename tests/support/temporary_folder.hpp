#pragma once

/// A folder of a test's own, which is gone with all that is in it when the test is over.

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace arke::test {

class temporary_folder {
public:
    temporary_folder() {
        auto name = (std::filesystem::temp_directory_path() / "arke-test-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error{"no temporary folder for a test"};
        path_ = name;
    }
    ~temporary_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;

    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

}  // namespace arke::test
