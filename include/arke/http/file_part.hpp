#pragma once

#include <arke/base/compile.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

namespace arke::http {

/// A part of an open file, read from its front to its end. Closes the file with itself.
class file_part {
public:
    /// `count` bytes from `first` on; nullopt, and why, where it cannot be opened. The caller knows that it is a regular file: a
    /// pipe would block.
    static std::optional<file_part> open(const std::filesystem::path& path, std::uint64_t first, std::uint64_t count,
                                         std::error_code& why);

    /// Bytes that are still to be read.
    std::uint64_t left() const noexcept { return left_; }

    /// Adds up to `most` of them to `to`. False: the file ended before, or broke; nothing more will come.
    bool read(std::string& to, std::size_t most);

private:
    struct closer {
        void operator()(std::FILE* file) const noexcept { static_cast<void>(std::fclose(file)); }
    };

    file_part(std::FILE* file, std::uint64_t count) : file_{file}, left_{count} {}

    std::unique_ptr<std::FILE, closer> file_;
    std::uint64_t left_;
};

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/file_part.ipp>
#endif
