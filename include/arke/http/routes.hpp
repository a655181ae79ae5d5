#pragma once

#include <arke/base/compile.hpp>
#include <arke/http/exchange.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace arke::http {

/// Which handler answers which method at which path.
///
///     path = "/" *name            exactly that
///          / "/" *name "/*"       everything below, "/files/" itself included
///
/// Paths are compared as they are sent, encoded. Of the routes that have the method of a request, the longest path that fits
/// answers; one without a star before one with it. Filled before the server serves, then read by all loops.
class route_table {
public:
    /// Throws std::invalid_argument for a method or a path that is none, std::logic_error for a route that is there already.
    void add(std::string_view method, std::string path, std::unique_ptr<route_handler> handler);

    struct match {
        route_handler* handler = nullptr;  ///< Null: no route has this method.
        std::size_t below = 0;             ///< The bytes at the end of the path that stand for the star.
        std::string allowed;               ///< For Allow: the methods that the path has. Empty: no route has this path.
    };

    /// GET answers HEAD where nothing else does.
    match find(std::string_view method, std::string_view path) const;

    bool has_path(std::string_view path) const noexcept;

private:
    struct route {
        std::string method;
        std::string path;  // without the star
        bool below;
        std::unique_ptr<route_handler> handler;

        bool fits(std::string_view target) const noexcept { return below ? target.starts_with(path) : target == path; }
    };

    std::vector<route> routes_;  // the longest path first
};

}  // namespace arke::http

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/http/routes.ipp>
#endif
