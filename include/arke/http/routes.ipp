#pragma once

#include <arke/http/routes.hpp>
#include <arke/wire/handshake.hpp>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace arke::http {

ARKE_COLD_INLINE void route_table::add(std::string_view method, std::string path,
                                       std::unique_ptr<route_handler> handler) {
    const auto what = "arke: route(): ";
    if (!wire::is_token(method)) {
        throw std::invalid_argument{what + std::string{"the method "} + arke::detail::printable(method) +
                                    " is none; write one such as \"GET\""};
    }
    const auto refuse_path = [&](const std::string& why) {
        throw std::invalid_argument{what + std::string{"the path "} + arke::detail::printable(path) + why};
    };
    if (!path.starts_with('/')) refuse_path(" does not start with '/'; write one that does");
    for (const char c : path) {
        if (c <= ' ' || c >= 0x7F || c == '?' || c == '#') {
            refuse_path(
                " is compared with the path of a request as it is sent, so leave out spaces, '?' and '#', and "
                "write what is not ASCII as %XX");
        }
    }
    const bool below = path.ends_with("/*");
    if (const auto star = path.find('*'); star != path.npos && !(below && star == path.size() - 1))
        refuse_path(" has a star within; it stands for everything below a path, as in \"/files/*\"");
    if (below) path.pop_back();

    for (const auto& r : routes_) {
        if (r.method == method && r.path == path && r.below == below) {
            throw std::logic_error{what + std::string{method} + " " + path + (below ? "*" : "") +
                                   " has a handler already; let one answer"};
        }
    }
    const auto place = std::find_if(routes_.begin(), routes_.end(), [&](const route& r) {
        return r.path.size() < path.size() || (r.path.size() == path.size() && r.below && !below);
    });
    routes_.insert(place, route{std::string{method}, std::move(path), below, std::move(handler)});
}

ARKE_COLD_INLINE route_table::match route_table::find(std::string_view method, std::string_view path) const {
    match found;
    std::vector<std::string_view> methods;
    const auto note = [&](std::string_view each) {
        if (std::find(methods.begin(), methods.end(), each) == methods.end()) methods.push_back(each);
    };
    const route* best = nullptr;
    const route* get = nullptr;
    for (const auto& r : routes_) {
        if (!r.fits(path)) continue;
        if (r.method == method && best == nullptr) best = &r;
        if (r.method == "GET" && get == nullptr) get = &r;
        note(r.method);
        if (r.method == "GET") note("HEAD");
    }
    if (method == "HEAD" && get != nullptr && (best == nullptr || get->path.size() > best->path.size())) best = get;
    if (best != nullptr) {
        found.handler = best->handler.get();
        found.below = best->below ? path.size() - best->path.size() : 0;
    }
    if (methods.empty()) return found;
    note("OPTIONS");
    for (const auto each : methods) found.allowed += (found.allowed.empty() ? "" : ", ") + std::string{each};
    return found;
}

ARKE_COLD_INLINE bool route_table::has_path(std::string_view path) const noexcept {
    return std::any_of(routes_.begin(), routes_.end(), [&](const route& r) { return !r.below && r.path == path; });
}

}  // namespace arke::http
