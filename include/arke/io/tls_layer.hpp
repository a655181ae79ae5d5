#pragma once

/// Where TLS is put in, without OpenSSL: whoever includes <arke/tls.hpp> in one file of a program provides it for all of it.

#include <arke/base/error.hpp>
#include <arke/base/tls_config.hpp>
#include <arke/core/loop.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace arke::io {

/// Puts TLS between a transport and its user. One for a server, one for a client.
class tls_layer {
public:
    tls_layer() = default;
    tls_layer(const tls_layer&) = delete;
    tls_layer& operator=(const tls_layer&) = delete;
    virtual ~tls_layer() = default;

    /// What `user` uses from now on instead of `below`, whose user it becomes. The handshake begins when the first bytes come, or are
    /// to be sent. On the loop, in a turn. Throws where there is no memory, and then nothing has happened.
    virtual core::transport& wrap(core::loop& on, core::transport& below, core::stream_user_ptr user) = 0;

    /// From now on connections get these certificates; those that are there keep theirs. Throws std::invalid_argument, and all stays
    /// as it was. Any thread.
    virtual void reload(const tls_config& with) { static_cast<void>(with); }
};

/// Who makes them.
struct tls_provider {
    std::shared_ptr<tls_layer> (*for_server)(const tls_config& settings, std::function<void(std::string_view)> log);
    std::shared_ptr<tls_layer> (*for_client)(const client_tls_config& settings, const std::string& host);
    std::string (*message)(int error);
};

/// Set before main(), where <arke/tls.hpp> is included in any file.
inline constinit const tls_provider* tls_provided = nullptr;

inline const tls_provider& need_tls(const std::string& who) {
    if (tls_provided == nullptr) {
        throw std::invalid_argument{
            who +
            " needs TLS, which this program is built without; include <arke/tls.hpp> in one of its files, and link "
            "OpenSSL 3 (CMake: arke::tls)"};
    }
    return *tls_provided;
}

namespace detail {

class tls_error_category final : public boost::system::error_category {
public:
    const char* name() const noexcept override { return "arke.tls"; }
    std::string message(int value) const override {
        return tls_provided == nullptr ? "TLS failed" : tls_provided->message(value);
    }
};

}  // namespace detail

/// Of what on_end() of a stream hears where TLS failed. The text is one for a person.
inline const boost::system::error_category& tls_category() noexcept {
    static const detail::tls_error_category instance;
    return instance;
}

}  // namespace arke::io
