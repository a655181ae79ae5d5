#pragma once

#include <arke/core/proxy_gate.hpp>

#include <utility>

namespace arke::core {

ARKE_COLD_INLINE proxy_gate::proxy_gate(loop& on, std::shared_ptr<server_load> load, on_header then)
    : loop_{&on}, load_{std::move(load)}, then_{std::move(then)} {
    load_->connections.fetch_add(1, std::memory_order_relaxed);
}

ARKE_COLD_INLINE proxy_gate::~proxy_gate() { load_->connections.fetch_sub(1, std::memory_order_relaxed); }

ARKE_COLD_INLINE void proxy_gate::start(transport& t, millis deadline) {
    transport_ = &t;
    loop_->timers().schedule(*this, deadline);
}

ARKE_COLD_INLINE void proxy_gate::on_bytes(std::span<char> bytes) {
    if (transport_ == nullptr) return;
    switch (reader_.feed({bytes.data(), bytes.size()})) {
        case wire::proxy_header_reader::result::more: return;
        case wire::proxy_header_reader::result::refused: return refuse();
        case wire::proxy_header_reader::result::complete: break;
    }
    loop_->make_room_to_retire();
    const boost::intrusive_ptr<proxy_gate> self{this};
    const auto then = std::exchange(then_, nullptr);
    then(*transport_, reader_.source(), bytes.subspan(reader_.consumed()), due());
    // The stream is another's now.
    transport_ = nullptr;
    cancel();
}

ARKE_COLD_INLINE void proxy_gate::refuse() {
    if (transport_ != nullptr) loop_->counters().bad_proxy_headers.add();
    end();
}

ARKE_COLD_INLINE void proxy_gate::end() noexcept {
    cancel();
    then_ = nullptr;
    if (auto* t = std::exchange(transport_, nullptr)) t->close(true);
}

}  // namespace arke::core
