#pragma once

#include <arke/core/hub.hpp>

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

/// The names that to(...) takes, and the address that it makes of them.
namespace arke {

/// Says that a name is a connection's id: `to(arke::id{name})`.
struct id {
    std::string value;
};

/// Says that a name is a room: `to(arke::room{name})`.
struct room {
    std::string value;
};

struct all_t {};
struct not_me_t {};

/// Everybody who is connected to this endpoint: `to(arke::all)`.
inline constexpr all_t all{};

/// Everybody but the connection that speaks: `c.to(arke::not_me)`; with names, those without it: `c.to("room", arke::not_me)`.
inline constexpr not_me_t not_me{};

/// The name that not_me had in 2016.
inline constexpr not_me_t broadcast{};

namespace detail {

/// Adds one name to a list of an address.
template <class List, class Name>
void add_name(List& list, Name&& name) {
    using type = std::remove_cvref_t<Name>;
    if constexpr (std::is_same_v<type, id>) {
        list.push_back({core::name::kind::id, std::forward<Name>(name).value});
    } else if constexpr (std::is_same_v<type, room>) {
        list.push_back({core::name::kind::room, std::forward<Name>(name).value});
    } else {
        static_assert(std::is_convertible_v<Name, std::string_view>,
                      "arke: name a connection or a room by text, arke::id{...} or arke::room{...}.");
        list.push_back({core::name::kind::any, std::string{std::string_view{name}}});
    }
}

/// Whom these names mean, where `speaker` speaks; null is nobody whom not_me could leave out.
template <class... Names>
void aim(core::address& to, const core::peer_ptr& speaker, Names&&... names) {
    bool all_but_me = false;
    const auto one = [&](auto&& n) {
        using type = std::remove_cvref_t<decltype(n)>;
        if constexpr (std::is_same_v<type, all_t>) {
            to.everyone = true;
        } else if constexpr (std::is_same_v<type, not_me_t>) {
            to.not_me = speaker;
            all_but_me = true;
        } else {
            add_name(to.to, std::forward<decltype(n)>(n));
        }
    };
    (one(std::forward<Names>(names)), ...);
    if (all_but_me && to.to.empty()) to.everyone = true;
}

}  // namespace detail
}  // namespace arke
