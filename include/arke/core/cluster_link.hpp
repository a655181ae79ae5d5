#pragma once

#include <arke/base/close_code.hpp>
#include <arke/event/outgoing.hpp>

#include <memory>
#include <string>
#include <string_view>

namespace arke::core {

struct address;

/// What is done with connections instead of telling them something.
struct action {
    enum class what : std::uint8_t { disconnect, join, leave };
    what is = what::disconnect;
    close_code code = close_code::normal;
    std::string text{};  ///< The reason, or the room.
};

/// What a hub knows of other machines: something that takes (target, message), as another loop does. The layer above makes it.
///
/// Threads: any.
class cluster_link {
public:
    virtual ~cluster_link() = default;

    /// Somebody here has spoken. Those here are told by the hub.
    virtual void deliver(const address& to, const outgoing& out) = 0;

    /// The same for what is done with them.
    virtual void act(const address& to, const action& what) = 0;

    /// A room has got its first member here or lost its last; or somebody with an id of the application's own has come or gone.
    /// Called with the index locked: it only takes note. hub::is_occupied() says what is so by then.
    virtual void changed(std::string_view name) noexcept = 0;

    /// With how many characters the ids begin that hub::make_id() makes; they say on which machine a connection is.
    virtual std::string_view id_prefix() const noexcept = 0;

    /// Whether an id is one that another machine has made, as far as its name shows. Called with the index locked.
    virtual bool is_elsewhere(std::string_view id) const noexcept = 0;

    /// Whether an id is one of those that are made here.
    bool made(std::string_view id) const noexcept {
        return id.size() == generated_id_size && id.starts_with(id_prefix());
    }

    static constexpr std::size_t generated_id_size = 15;
};

using cluster_link_ptr = std::shared_ptr<cluster_link>;

}  // namespace arke::core
