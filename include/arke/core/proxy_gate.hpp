#pragma once

#include <arke/core/loop.hpp>
#include <arke/core/peer.hpp>
#include <arke/wire/proxy_header.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace arke::core {

/// The first user of a connection of a trusted proxy: reads the header of the PROXY protocol, and hands the stream on to whoever
/// comes after it, TLS or HTTP. A header that is malformed, cut or late ends the connection without an answer, and is counted.
///
/// On its loop only, in a turn.
class proxy_gate final : public stream_user {
public:
    /// Has the stream serve somebody else, who begins with `rest` and has until the same deadline. Called once at most, and may
    /// throw std::bad_alloc: the connection ends then.
    using on_header = std::function<void(transport& t, const std::optional<wire::proxy_header_reader::address>& source,
                                         std::span<char> rest, millis deadline)>;

    proxy_gate(loop& on, std::shared_ptr<server_load> load, on_header then);
    ~proxy_gate() override;

    /// Begins to read, until the loop's clock shows `deadline`.
    void start(transport& t, millis deadline);

    void failed() noexcept override { end(); }
    void on_bytes(std::span<char> bytes) override;
    void on_writable() override {}
    void on_end(error_code) override { refuse(); }
    void on_timer(millis) override { refuse(); }
    void on_stop() override { end(); }

private:
    void refuse();
    void end() noexcept;

    boost::intrusive_ptr<loop> loop_;
    std::shared_ptr<server_load> load_;
    on_header then_;
    transport* transport_ = nullptr;
    wire::proxy_header_reader reader_;
};

}  // namespace arke::core

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/proxy_gate.ipp>
#endif
