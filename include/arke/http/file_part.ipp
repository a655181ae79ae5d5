#pragma once

#include <arke/http/file_part.hpp>

#include <algorithm>
#include <cerrno>

namespace arke::http {

ARKE_COLD_INLINE std::optional<file_part> file_part::open(const std::filesystem::path& path, std::uint64_t first,
                                                          std::uint64_t count, std::error_code& why) {
#ifdef _WIN32
    file_part made{_wfopen(path.c_str(), L"rb"), count};
    const auto seek = [&] { return _fseeki64(made.file_.get(), static_cast<std::int64_t>(first), SEEK_SET); };
#else
    // A program that is started meanwhile does not inherit it.
    file_part made{std::fopen(path.c_str(), "rbe"), count};
    const auto seek = [&] { return fseeko(made.file_.get(), static_cast<off_t>(first), SEEK_SET); };
#endif
    const auto failed = [&] {
        why = {errno, std::generic_category()};
        return std::nullopt;
    };
    if (!made.file_) return failed();
    // What is read goes straight to where it is wanted.
    std::setvbuf(made.file_.get(), nullptr, _IONBF, 0);
    if (first != 0 && seek() != 0) return failed();
    return made;
}

ARKE_COLD_INLINE bool file_part::read(std::string& to, std::size_t most) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(most, left_));
    const auto before = to.size();
    to.resize(before + wanted);
    const auto count = std::fread(to.data() + before, 1, wanted, file_.get());
    to.resize(before + count);
    left_ -= count;
    return count == wanted;
}

}  // namespace arke::http
