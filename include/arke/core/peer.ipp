#pragma once

#include <arke/core/peer.hpp>
#include <arke/wire/mask_source.hpp>

#include <array>
#include <random>

namespace arke::core {

ARKE_COLD_INLINE void server_load::take_off(const presence& p) noexcept {
    auto& there = p.at->second;
    --(there.*p.as);
    if (there.served + there.refused == 0) at_.erase(at_.find(p.at->first));
}

ARKE_COLD_INLINE server_load::place server_load::enter(const stream_user& who, const std::string& address,
                                                       bool refuse) {
    if (max_per_address == 0) return refuse ? place::refused : place::served;
    const std::lock_guard lock{mutex_};
    if (who_.contains(&who)) return place::served;
    auto& at = *at_.try_emplace(address).first;
    auto& here = at.second;
    const bool is_served = !refuse && here.served < max_per_address;
    if (!is_served && here.refused >= max_refused_per_address) return place::none;
    const presence now{&at, is_served ? &tally::served : &tally::refused};
    ++(here.*now.as);
    try {
        who_.emplace(&who, now);
    } catch (...) {
        take_off(now);
        throw;
    }
    return is_served ? place::served : place::refused;
}

ARKE_COLD_INLINE void server_load::hand_over(const stream_user& from, const stream_user& to) {
    if (max_per_address == 0) return;
    const std::lock_guard lock{mutex_};
    auto node = who_.extract(&from);
    if (node.empty()) return;
    node.key() = &to;
    who_.insert(std::move(node));
}

ARKE_COLD_INLINE void server_load::leave(const stream_user& who) noexcept {
    if (max_per_address == 0) return;
    const std::lock_guard lock{mutex_};
    const auto found = who_.find(&who);
    if (found == who_.end()) return;
    take_off(found->second);
    who_.erase(found);
}

ARKE_COLD_INLINE void server_load::add_loop(loop& on) {
    const std::lock_guard lock{mutex_};
    if (std::find(loops_.begin(), loops_.end(), &on) == loops_.end()) loops_.emplace_back(&on);
}

ARKE_COLD_INLINE void server_load::count(std::size_t before, std::size_t now) noexcept {
    // Who looks meanwhile may find more by size than in all, and not less.
    waiting_of_[grade(now)].fetch_add(now, std::memory_order_relaxed);
    waiting.fetch_add(now - before, std::memory_order_relaxed);
    waiting_of_[grade(before)].fetch_sub(before, std::memory_order_relaxed);
}

ARKE_COLD_INLINE void server_load::note(const std::shared_ptr<server_load>& load, loop& on, backlog& what,
                                        std::size_t now) noexcept {
    load->count(what.counted(), now);
    what.count(now);
    if (!what.is_linked()) on.waiting().push_back(what);
    if (load->is_over()) relieve(load);
}

ARKE_COLD_INLINE void server_load::relieve(const std::shared_ptr<server_load>& load) noexcept {
    const std::lock_guard lock{load->mutex_};
    for (const auto& on : load->loops_) {
        if (on->relief_asked().exchange(true)) continue;
        try {
            on->post([load, at = on.get()] { load->relieve(*at); });
        } catch (...) {
            // The next that waits tries again.
            on->relief_asked().store(false);
        }
    }
}

ARKE_COLD_INLINE std::size_t server_load::floor(std::size_t enough) const noexcept {
    const auto all = waiting.load(std::memory_order_relaxed);
    std::size_t found = 0;
    auto at = waiting_of_.size();
    while (at != 0 && found + enough < all) found += waiting_of_[--at].load(std::memory_order_relaxed);
    return least_of(at);
}

ARKE_COLD_INLINE void server_load::relieve(loop& on) const noexcept {
    on.relief_asked().store(false);
    if (!is_over()) return;
    const auto enough = max_waiting - max_waiting / 8;
    const auto is_too_much = [&] { return waiting.load(std::memory_order_relaxed) > enough; };
    // In place, for memory is what there is little of.
    auto& all = on.waiting();
    all.sort([](const backlog& a, const backlog& b) {
        const bool ends = a.of()->is_ending();
        return ends != b.of()->is_ending() ? ends : a.counted() > b.counted();
    });
    // Who is cut leaves the list. What others have cut meanwhile may have been the rest.
    while (!all.empty() && is_too_much()) {
        const stream_user_ptr largest{all.front().of()};
        if (!largest->is_ending() && all.front().counted() < floor(enough)) return;
        largest->cut_too_slow();
    }
}

ARKE_INLINE peer_owner::peer_owner(config settings)
    : config_{std::move(settings)},
      ping_period_{effective_ping_period(config_).count()},
      limits_{config_.max_message_size, config_.max_fragments} {
    load_->messages.most = config_.listener.max_total_message_bytes;
    load_->max_contexts = config_.listener.max_total_context_bytes;
    use_budget();
}

ARKE_COLD_INLINE std::optional<wire::deflate_answer> peer_owner::accept_deflate(
    std::span<const std::string_view> offers) const {
    const auto& c = config_.compression;
    if (!c.enabled) return std::nullopt;
    auto ready = terms_of(c);
    auto answer = wire::accept_deflate(offers, ready);
    if (!answer) return answer;
    const auto bytes = wire::context_bytes(answer->terms, c.memory_level);
    if (bytes == 0 || load_->contexts.load(std::memory_order_relaxed) + bytes <= load_->max_contexts) return answer;
    ready.send_takeover = ready.receive_takeover = false;
    return wire::accept_deflate(offers, ready);
}

ARKE_INLINE peer::peer(peer_owner& owner, loop& on, std::string id, std::size_t protocol_index)
    : loop_{&on},
      owner_{&owner},
      reader_{owner.role()},
      id_{std::move(id)},
      protocol_index_{static_cast<std::uint8_t>(protocol_index)},
      masks_{owner.role() == wire::role::client},
      special_{masks_} {
    owner_->load()->connections.fetch_add(1, std::memory_order_relaxed);
}

ARKE_INLINE peer::~peer() {
    drop_outbox();
    auto& load = *owner_->load();
    if (state_ != state::closed) count_out_contexts();  // it never began
    load.connections.fetch_sub(1, std::memory_order_relaxed);
    load.leave(*this);
}

ARKE_COLD_INLINE std::vector<std::string> peer::joined_rooms() const {
    std::vector<std::string> names;
    names.reserve(rooms_.size());
    for (const auto& m : rooms_) names.push_back(m.in->name);
    return names;
}

ARKE_INLINE void peer::open(transport& t) noexcept {
    transport_ = &t;
    state_ = state::open;
    last_heard_ = loop_->now();
    schedule();
    mark_dirty();
    guarded([this] { begin(); });
}

// ------------------------------------------------------------------------------------------------------------ reading

class peer::in_read {
public:
    explicit in_read(peer& p) noexcept : peer_{p}, outer_{p.in_read_} { p.in_read_ = true; }
    in_read(const in_read&) = delete;
    in_read& operator=(const in_read&) = delete;
    ~in_read() { peer_.in_read_ = outer_; }

private:
    peer& peer_;
    bool outer_;
};

ARKE_INLINE void peer::on_bytes(std::span<char> bytes) {
    heard();
    loop_->counters().received.bytes.add(bytes.size());
    if (!reading()) return;
    const bool at_once = begin_burst();
    {
        const in_read now{*this};
        if (const auto fault = reader_.read(bytes, owner_->limits(), *this)) fail(*fault);
    }
    has_wants_ = reader_.in_message();
    if (has_wants_) time_message();
    end_burst(at_once);
}

ARKE_INLINE void peer::on_filled(std::size_t count) {
    heard();
    loop_->counters().received.bytes.add(count);
    if (!reading()) return;
    const bool at_once = begin_burst();
    {
        const in_read now{*this};
        if (const auto fault = reader_.filled(count, owner_->limits(), *this)) fail(*fault);
    }
    has_wants_ = reader_.in_message();
    if (has_wants_) time_message();
    end_burst(at_once);
}

ARKE_COLD_INLINE void peer::time_message() {
    if (!reading()) return forget_message();
    auto* const began = reader_.mark();
    if (began == nullptr || *began != 0 || state_ != state::open) return;
    *began = std::max<millis>(loop_->now(), 1);
    schedule();
}

ARKE_INLINE millis peer::message_due() noexcept {
    const auto* const began = has_wants_ ? reader_.mark() : nullptr;
    return began == nullptr || *began == 0 ? timing_wheel::never : *began + settings().message_timeout.count();
}

ARKE_INLINE bool peer::on_message(bool is_text, std::string_view payload) {
    if (state_ == state::open) received({payload, is_text});
    return reading();
}

ARKE_INLINE bool peer::on_deflated(bool is_text, std::string_view payload) {
    if (state_ != state::open) return reading();
    auto& with = loop_->compression();
    compression::lease inflated{with};
    auto& by = keeps_received_context() ? with.own_inflater(this, receive_window_bits()) : with.shared_inflater();
    const auto seen = by.inflate(payload, owner_->limits().max_message_size, *inflated);
    if (seen == wire::inflater::result::done) {
        const auto message = inflated->view();
        if (!is_text || wire::is_utf8(message)) {
            auto& received = loop_->counters().received;
            received.compressed.add();
            received.compressed_bytes.add(payload.size());
            received.inflated_bytes.add(message.size());
            return on_message(is_text, message);
        }
        fail({close_code::invalid_payload, errc::frame_violation, "text that is not UTF-8"});
    } else if (seen == wire::inflater::result::too_big) {
        fail({close_code::message_too_big, errc::message_too_big, "a message over max_message_size"});
    } else {
        fail({close_code::invalid_payload, errc::frame_violation, "a compressed message that cannot be inflated"});
    }
    return false;
}

ARKE_INLINE bool peer::on_control(wire::opcode code, std::string_view payload) {
    switch (code) {
        case wire::opcode::ping:
            loop_->counters().received.pings.add();
            if (state_ != state::open) return reading();
            // A peer that pings and does not read gets one pong for all its pings (RFC 6455 §5.5.3 allows it).
            if (!pong_waits_) send(wire::opcode::pong, payload);
            if (lagging_) pong_waits_ = true;
            if (state_ == state::open) received_ping(payload);
            return reading();
        case wire::opcode::pong:
            loop_->counters().received.pongs.add();
            if (state_ == state::open) received_pong(payload);
            return reading();
        default: break;
    }
    wire::close_reason reason;
    if (const auto fault = wire::parse_close(payload, reason)) {
        fail(*fault);
        return false;
    }
    if (state_ == state::open) {
        send_close(reason.code, {});
        leave_open(loop_->counters().closed.by_peer, reason.code, reason.text);
    }
    drain();
    return false;
}

ARKE_COLD_INLINE void peer::fail(const wire::frame_fault& fault) {
    if (state_ == state::open) {
        send_close(fault.code, fault.detail);
        leave_open(cause_of(fault.what), fault.code, fault.detail, fault.what);
    }
    drain();
}

// ------------------------------------------------------------------------------------------------------------ writing

ARKE_INLINE bool peer::break_run(std::size_t begin, std::size_t end) noexcept {
    guarded([&] { own_outbox().add_view({loop_->buffer().at(begin), end - begin}); });
    return state_ != state::closed;
}

ARKE_INLINE outbox& peer::own_outbox() {
    if (!outbox_) outbox_ = std::make_unique<outbox>(this);
    return *outbox_;
}

ARKE_COLD_INLINE std::string peer::key_of(const outgoing& out) const {
    std::string key;
    if (out.is != outgoing::what::event) return key;
    if (out.how != urgency::latest_only && settings().on_overflow != overflow::coalesce) return key;
    return key.append(out.event.name).append(1, '\0').append(out.key);
}

ARKE_COLD_INLINE bool peer::may_wait(std::size_t more, bool is_control, const outgoing* out) {
    auto& dropped = loop_->counters().dropped;
    std::size_t older = 0;
    std::string key;
    if (out != nullptr) {
        if (out->how == urgency::now_or_never) {
            dropped.not_ready.add();
            return false;
        }
        key = key_of(*out);
        if (!key.empty()) older = outbox_->cost_with(key);
    }
    const auto waiting = kept() - older;
    if (waiting == 0 || waiting + more + outbox::cost_of(key) <= settings().max_outbox_bytes) {
        if (older != 0) {
            outbox_->forget(key);
            dropped.superseded.add();
        }
        return true;
    }
    // Where it cannot take its place, the older one stays: something late is better than nothing. But who asks and does not read
    // would wait for ever for an answer that was dropped.
    if (settings().on_overflow == overflow::drop && (out == nullptr || !out->is_awaited())) {
        // The one pong that may wait is no reason to lose a peer that the application wants to keep.
        if (!is_control) dropped.overflow.add();
        return is_control;
    }
    too_slow();
    return false;
}

ARKE_COLD_INLINE bool peer::takes(std::size_t size) {
    const auto& buffer = loop_->buffer();
    // As the send would.
    if (!lagging_ && size > buffer.room() && size <= buffer.capacity() / 2) loop_->flush_all();
    return !lagging_ || kept() + size <= settings().max_outbox_bytes;
}

ARKE_COLD_INLINE void peer::too_slow() {
    if (state_ != state::open) return;
    constexpr std::string_view reason = "too slow";
    send_close(close_code::try_again_later, reason);
    leave_open(cause_of(errc::outbox_full), close_code::try_again_later, reason, errc::outbox_full);
    drain();
}

ARKE_COLD_INLINE void peer::cut_too_slow() {
    leave_open(cause_of(errc::outbox_full), close_code::try_again_later, "too slow", errc::outbox_full);
    end();  // also of one that is closing
}

// What cannot be kept would be a gap in the stream: the peer ends instead.
ARKE_INLINE void peer::add_to_outbox(std::string_view bytes) noexcept {
    guarded([&] {
        if (state_ == state::closed || bytes.empty()) return;
        own_outbox().add_copy(bytes);
        if (lagging_) note_waiting();
    });
}

ARKE_INLINE void peer::note_waiting() noexcept {
    if (outbox_) server_load::note(owner_->load(), *loop_, *outbox_, outbox_->cost());
}

ARKE_INLINE void peer::drop_outbox() noexcept {
    if (!outbox_) return;
    owner_->load()->forget(*outbox_);
    outbox_.reset();
}

ARKE_INLINE char* peer::reserve_after_flush(std::size_t size) {
    auto& buffer = loop_->buffer();
    if (lagging_ || size > buffer.capacity() / 2) return nullptr;
    // A flush may find that this peer lags.
    loop_->flush_all();
    return lagging_ ? nullptr : reserve(size);
}

ARKE_INLINE bool peer::send(const outgoing& out, std::string& why) {
    if (state_ != state::open) return true;
    const auto& speaks = owner_->protocol_at(protocol_index_);
    const auto form = speaks.measure(out, why);
    if (!form) return false;
    if (speaks.is_bare(out)) {
        send(form->code, out.event.data);
        return true;
    }
    const auto header = wire::frame_header_size(form->size);
    if (deflates_ && form->size >= settings().compression.threshold) {
        compression::lease plain{loop_->compression()};
        char* const frame = plain->reserve(header + form->size);
        speaks.write_frame(frame, *form, out);
        if (send_deflated(form->code, {frame + header, form->size}, out)) return true;
    }
    if (masks_) {
        send_masked(header, form->size, out, [&](char* to) { speaks.write_frame(to, *form, out); });
        return true;
    }
    const auto size = header + form->size;
    // What fits is written where it is sent from.
    if (char* const at = reserve(size)) {
        speaks.write_frame(at, *form, out);
        count_sent(out);
        return true;
    }
    shared_frame_ptr frame{new shared_frame{size}};
    speaks.write_frame(frame->data(), *form, out);
    send_shared(frame, out);
    return true;
}

ARKE_INLINE void peer::send_apart(wire::opcode code, std::string_view payload) noexcept {
    if (outbox_ && !lagging_) {
        // Frames of others stood between: those pieces go first. Then it lags, or has no outbox.
        guarded([this] { flush(); });
        if (state_ == state::open) send_apart(code, payload);
        return;
    }
    const auto header = wire::frame_header_size(payload.size());
    std::array<char, wire::max_frame_header> head{};
    wire::write_frame_header(head.data(), code, payload.size());
    if (lagging_) {
        if (!may_wait(header + payload.size(), wire::is_control(code))) return;
        count_sent(code);
        add_to_outbox({head.data(), header});
        add_to_outbox(payload);
        return;
    }
    count_sent(code);
    // Large: the payload goes from where it stands to the kernel, and only what is not taken is copied.
    std::array<segment, 3> pieces{
        segment{loop_->buffer().at(pending_begin_), pending_end_ - pending_begin_}, {head.data(), header}, payload};
    pending_begin_ = pending_end_ = 0;
    send_now(pieces);
    for (const auto& rest : pieces) add_to_outbox(rest);
    if (outbox_) start_lagging();
}

// Peers of one loop have one thread at a time, so each thread has a source of its own.
ARKE_COLD_INLINE std::uint32_t peer::next_mask() {
    thread_local wire::mask_source source{[] {
        std::random_device random;
        wire::mask_source::secret seed;
        for (auto& word : seed) word = random();
        return seed;
    }()};
    return source.next();
}

template <class Write>
void peer::send_masked(std::size_t header, std::size_t payload, const outgoing& out, Write&& write) {
    const auto size = header + wire::mask_size + payload;
    if (char* const at = reserve(size)) {
        write(at + wire::mask_size);
        wire::mask_frame(at, header, payload, next_mask());
        return count_sent(out);
    }
    shared_frame_ptr frame{new shared_frame{size}};
    write(frame->data() + wire::mask_size);
    wire::mask_frame(frame->data(), header, payload, next_mask());
    send_shared(frame, out);
}

ARKE_INLINE void peer::send_masked(wire::opcode code, std::string_view payload) noexcept {
    guarded([&] {
        const auto header = wire::frame_header_size(payload.size());
        const auto write = [&](char* at) {
            char* const body = wire::write_frame_header(at, code, payload.size());
            if (!payload.empty()) std::memcpy(body, payload.data(), payload.size());
        };
        if (!wire::is_control(code))
            return send_masked(header, payload.size(), outgoing::native(code == wire::opcode::text, payload), write);
        const auto size = header + wire::mask_size + payload.size();
        if (char* const at = reserve(size)) {
            write(at + wire::mask_size);
            wire::mask_frame(at, header, payload.size(), next_mask());
        } else {
            if (!may_wait(size, true)) return;
            add_control(code, payload);
        }
        count_sent(code);
    });
}

// --------------------------------------------------------------------------------------------------------- compressing

ARKE_COLD_INLINE void peer::use_deflate(const wire::deflate_terms& terms) noexcept {
    reader_.allow_deflated();
    deflates_ = special_ = true;
    deflate_ = static_cast<std::uint8_t>((terms.send_window_bits - 8) | (terms.receive_window_bits - 8) << 3 |
                                         (terms.send_takeover ? 0x40 : 0) | (terms.receive_takeover ? 0x80 : 0));
    owner_->load()->contexts.fetch_add(context_bytes(), std::memory_order_relaxed);
}

ARKE_COLD_INLINE std::size_t peer::context_bytes() const noexcept {
    const wire::deflate_terms terms{keeps_sent_context(), keeps_received_context(),
                                    static_cast<std::uint8_t>(send_window_bits()),
                                    static_cast<std::uint8_t>(receive_window_bits())};
    return wire::context_bytes(terms, settings().compression.memory_level);
}

ARKE_INLINE void peer::send_specially(wire::opcode code, std::string_view payload) noexcept {
    if (deflates_ && !wire::is_control(code) && payload.size() >= settings().compression.threshold) {
        bool is_sent = false;
        guarded([&] { is_sent = send_deflated(code, payload, outgoing::native(code == wire::opcode::text, payload)); });
        if (is_sent || state_ != state::open) return;
    }
    if (masks_) return send_masked(code, payload);
    send_plain(code, payload);
}

ARKE_INLINE bool peer::send_deflated(wire::opcode code, std::string_view before, const outgoing& out) try {
    auto& with = loop_->compression();
    const auto& c = settings().compression;
    compression::lease deflated{with};
    // What waits for a peer that lags may still be dropped, or be superseded: nothing may refer to it.
    const bool alone = !keeps_sent_context() || lagging_;
    if (alone)
        with.deflate_alone(c, send_window_bits(), before, *deflated);
    else
        with.own_deflater(this, c, send_window_bits()).deflate(before, *deflated);
    const bool is_shorter = deflated->size < before.size();
    if (alone || !is_shorter) forget_sent_context();
    if (!is_shorter) return false;

    const auto after = deflated->view();
    const auto header = wire::frame_header_size(after.size());
    const auto write = [&](char* at) {
        std::memcpy(wire::write_frame_header(at, code, after.size(), true), after.data(), after.size());
    };
    count_deflated(before.size(), after.size(), [&] {
        if (masks_) {
            send_masked(header, after.size(), out, write);
        } else if (char* const at = reserve(header + after.size())) {
            write(at);
            count_sent(out);
        } else {
            shared_frame_ptr frame{new shared_frame{header + after.size()}};
            write(frame->data());
            send_shared(frame, out);
        }
    });
    // It may have found only now that the peer lags.
    if (lagging_) forget_sent_context();
    return true;
} catch (...) {
    // No memory: the peer does not hear what its compressor has seen of it.
    forget_sent_context();
    throw;
}

ARKE_COLD_INLINE void peer::add_control(wire::opcode code, std::string_view payload) noexcept {
    std::array<char, 2 + wire::mask_size + wire::max_control_payload> frame{};
    char* const at = frame.data() + (masks_ ? wire::mask_size : 0);
    char* const body = wire::write_frame_header(at, code, payload.size());
    if (!payload.empty()) std::memcpy(body, payload.data(), payload.size());
    if (masks_) wire::mask_frame(frame.data(), 2, payload.size(), next_mask());
    add_to_outbox({frame.data(), 2 + (masks_ ? wire::mask_size : 0) + payload.size()});
}

ARKE_INLINE void peer::send_now(std::span<segment> pieces) {
    auto all = pieces;
    if (all.front().empty()) all = all.subspan(1);
    if (all.back().empty()) all = all.first(all.size() - 1);
    auto sent = transport_->send(all).sent;
    loop_->counters().sent.bytes.add(sent);
    for (auto& piece : pieces) {
        const auto part = std::min(sent, piece.size());
        sent -= part;
        piece.remove_prefix(part);
    }
}

ARKE_INLINE void peer::add_pending() {
    if (pending_end_ == pending_begin_) return;
    outbox_->add_view({loop_->buffer().at(pending_begin_), pending_end_ - pending_begin_});
    pending_begin_ = pending_end_ = 0;
}

ARKE_INLINE void peer::send_turn(std::size_t begin, std::size_t end, const outgoing& out) noexcept {
    if (state_ != state::open) return;
    if (!lagging_) {
        add_range(begin, end);
        return count_sent(out);
    }
    guarded([&] {
        if (!may_wait(end - begin, false, &out)) return;
        outbox_->add_copy({loop_->buffer().at(begin), end - begin}, key_of(out));
        note_waiting();
        count_sent(out);
    });
}

ARKE_INLINE void peer::send_shared(const shared_frame_ptr& frame, const outgoing& out) noexcept {
    if (state_ != state::open) return;
    guarded([&] {
        if (lagging_) {
            if (!may_wait(frame->view().size(), false, &out)) return;
            // What is small is better copied to the rest than kept as a frame of its own.
            constexpr std::size_t small = 512;
            if (const auto key = key_of(out); key.empty() && frame->view().size() <= small)
                outbox_->add_copy(frame->view());
            else
                outbox_->add_shared(frame, key);
            note_waiting();
            return count_sent(out);
        }
        count_sent(out);
        if (outbox_) {
            add_pending();
            outbox_->add_shared(frame);
            return flush();
        }
        std::array<segment, 2> pieces{segment{loop_->buffer().at(pending_begin_), pending_end_ - pending_begin_},
                                      frame->view()};
        pending_begin_ = pending_end_ = 0;
        send_now(pieces);
        add_to_outbox(pieces[0]);
        if (!pieces[1].empty()) own_outbox().add_rest(frame, pieces[1]);
        if (outbox_) start_lagging();
    });
}

ARKE_INLINE void peer::flush_turn() {
    dirty_ = false;
    const std::size_t run = pending_end_ - pending_begin_;
    if (run == 0 || !loop_->sends_in_batches() || transport_ == nullptr || lagging_ || buffered() != 0) return flush();
    transport_->queue({loop_->buffer().at(pending_begin_), run});
}

ARKE_INLINE void peer::on_sent(const send_result& result) {
    const std::string_view pending{loop_->buffer().at(pending_begin_), pending_end_ - pending_begin_};
    pending_begin_ = pending_end_ = 0;
    loop_->counters().sent.bytes.add(result.sent);
    if (result.sent == pending.size()) {
        if (state_ == state::draining) drain();
        return;
    }
    add_to_outbox(pending.substr(result.sent));
    start_lagging();
}

ARKE_INLINE void peer::flush() {
    if (transport_ == nullptr || lagging_) return;
    if (outbox_) return flush_outbox();
    const std::size_t begin = pending_begin_;
    const std::size_t end = pending_end_;
    if (begin != end) {
        pending_begin_ = pending_end_ = 0;
        auto& buffer = loop_->buffer();
        const std::string_view pending{buffer.at(begin), end - begin};
        const auto result = transport_->send({&pending, 1});
        loop_->counters().sent.bytes.add(result.sent);
        if (result.sent != pending.size()) {
            add_to_outbox(pending.substr(result.sent));
            return start_lagging();
        }
        if (end == buffer.size()) buffer.take_back(begin);
    }
    if (state_ == state::draining) drain();
}

ARKE_INLINE void peer::flush_outbox() {
    add_pending();
    while (!outbox_->empty()) {
        std::array<segment, 64> pieces;
        const auto count = outbox_->peek(pieces);
        std::size_t total = 0;
        for (std::size_t i = 0; i != count; ++i) total += pieces[i].size();
        const auto result = transport_->send({pieces.data(), count});
        outbox_->consume(result.sent);
        loop_->counters().sent.bytes.add(result.sent);
        if (result.error || result.sent < total) {
            outbox_->own();
            return start_lagging();
        }
    }
    drop_outbox();
    pong_waits_ = false;
    if (state_ == state::draining) drain();
}

// After an error too: what is lost must stay the end of the stream and never become a gap in it. on_end() follows.
ARKE_COLD_INLINE void peer::start_lagging() {
    if (state_ == state::closed) return;
    lagging_ = true;
    // A peer that takes our last bytes drop by drop gets no longer for it than close_timeout.
    if (state_ == state::open) last_progress_ = loop_->now();
    note_waiting();
    schedule();
}

ARKE_INLINE void peer::on_writable() {
    if (!lagging_) return;
    lagging_ = false;
    const auto before = buffered();
    const auto progress = last_progress_;
    flush();
    if (lagging_) {
        if (state_ == state::open && buffered() == before) last_progress_ = progress;
    } else if (state_ == state::open) {
        drained();
    }
}

// ------------------------------------------------------------------------------------------------------------ closing

ARKE_COLD_INLINE void peer::send_close(close_code code, std::string_view reason) {
    std::array<char, wire::max_control_payload> payload{};
    std::size_t size = 0;
    if (may_be_sent(code)) {
        const auto value = static_cast<unsigned>(code);
        payload[0] = static_cast<char>(value >> 8U);
        payload[1] = static_cast<char>(value & 0xFFU);
        size = 2 + std::min(reason.size(), payload.size() - 2);
        // A reason is cut between code points.
        while (size > 2 && size - 2 < reason.size() && (static_cast<unsigned char>(reason[size - 2]) & 0xC0U) == 0x80U)
            --size;
        if (size > 2) std::memcpy(payload.data() + 2, reason.data(), size - 2);
    }
    const std::size_t mask = masks_ ? wire::mask_size : 0;
    if (char* const at = reserve(2 + mask + size)) {
        char* const body = wire::write_frame_header(at + mask, wire::opcode::close, size);
        if (size != 0) std::memcpy(body, payload.data(), size);
        if (masks_) wire::mask_frame(at, 2, size, next_mask());
        return;
    }
    // It lags. The last frame passes the bound: it is 131 bytes at most, and there is one.
    add_control(wire::opcode::close, {payload.data(), size});
}

ARKE_COLD_INLINE counter& peer::cause_of(errc what) noexcept {
    auto& closed = loop_->counters().closed;
    switch (what) {
        case errc::frame_violation: return closed.frame_violation;
        case errc::message_too_big: return closed.message_too_big;
        case errc::outbox_full: return closed.outbox_full;
        case errc::pong_timeout: return closed.pong_timeout;
        case errc::write_timeout: return closed.write_timeout;
        case errc::message_timeout: return closed.message_timeout;
        case errc::replaced: return closed.replaced;
        case errc::out_of_memory: return closed.out_of_memory;
        case errc::flooded: return closed.flooded;
        case errc::messages_full: return closed.messages_full;
        default: return closed.by_server;
    }
}

ARKE_COLD_INLINE void peer::leave_open(counter& cause, close_code code, std::string_view reason, errc by) noexcept {
    if (state_ != state::open) return;
    cause.add();
    state_ = state::closing;
    try {
        auto made = std::make_unique<ending>(ending{code, std::string{reason}, by});
        if (reason.empty() && by != errc{}) made->text = make_error_code(by).message();
        ending_ = std::move(made);
    } catch (...) {
        // finish() knows why it has none.
    }
    last_progress_ = loop_->now();
    owner_->forget(*this);
    loop_->add_finished(peer_ptr{this});
    if (transport_ != nullptr) schedule();
}

ARKE_COLD_INLINE void peer::close(close_code code, std::string_view reason, errc by) {
    if (state_ != state::open) return;
    send_close(code, reason);
    leave_open(cause_of(by), code, reason, by);
}

ARKE_COLD_INLINE void peer::on_stop() {
    if (state_ != state::open) return;
    constexpr std::string_view reason = "the server stops";
    send_close(close_code::going_away, reason);
    leave_open(loop_->counters().closed.stopping, close_code::going_away, reason);
}

ARKE_COLD_INLINE void peer::drain() {
    if (state_ == state::closed || transport_ == nullptr) return;
    state_ = state::draining;
    forget_message();
    if (!is_scheduled()) schedule();
    // The peer must see our close frame: closing with its data unread would reset the connection and lose it.
    if (shut_ || lagging_ || pending_end_ != pending_begin_ || buffered() != 0) return;
    shut_ = true;
    transport_->shutdown();
}

ARKE_COLD_INLINE void peer::abort(errc what) {
    if (state_ == state::closed) return;
    if (state_ == state::open) {
        leave_open(cause_of(what), close_code::abnormal, {}, what);
    }
    end();
}

ARKE_COLD_INLINE void peer::failed() noexcept {
    // What it gathered may have a gap.
    pending_begin_ = pending_end_ = 0;
    if (loop_->is_in_burst(*this)) loop_->end_burst();
    abort(errc::out_of_memory);
}

ARKE_COLD_INLINE void peer::on_end(error_code why) {
    // What this turn has said to a client that ends its direction only is still for it to read.
    if (!why) flush();
    // An end before the closing handshake is abnormal however politely TCP said it (RFC 6455 §7.1.5).
    if (state_ == state::open)
        leave_open(loop_->counters().closed.broken, close_code::abnormal, why ? why.message() : std::string{});
    end();
}

ARKE_COLD_INLINE void peer::end() {
    if (state_ == state::closed) return;
    const bool reset = buffered() != 0;
    state_ = state::closed;
    forget_message();
    if (keeps_sent_context() || keeps_received_context()) {
        loop_->compression().forget(this);
        count_out_contexts();
    }
    cancel();
    drop_outbox();
    pending_begin_ = pending_end_ = 0;
    lagging_ = false;
    if (auto* t = std::exchange(transport_, nullptr)) t->close(reset);
}

// ----------------------------------------------------------------------------------------------------------- deadlines

ARKE_INLINE millis peer::ping_after() const noexcept {
    // Of what came at once, each takes another part off: by the golden ratio, so that any number of them is spread evenly.
    const auto part = static_cast<millis>((place_ * 0x9E37'79B1U) >> 8U);
    return owner_->ping_period() - (owner_->ping_period() / 4 * part >> 24U);
}

ARKE_INLINE void peer::schedule() {
    const auto& c = settings();
    millis due = 0;
    if (state_ == state::open) {
        due = last_heard_ + (pinged_ ? c.pong_timeout.count() : ping_after());
        // The pong is not waited for to the end: the next silence begins with it.
        if (pinged_) due = std::min(due, loop_->now() + ping_after());
        if (lagging_) due = std::min<millis>(due, last_progress_ + c.write_timeout.count());
        due = std::min({due, requests_due(), message_due()});
    } else {
        due = last_progress_ + c.close_timeout.count();
    }
    if (!is_scheduled() || due < this->due()) loop_->timers().schedule(*this, due);
}

ARKE_INLINE void peer::on_timer(millis now) {
    const auto& c = settings();
    if (state_ == state::open) {
        const auto silence = now - last_heard_;
        if (pinged_ && silence >= c.pong_timeout.count()) return abort(errc::pong_timeout);
        if (lagging_ && now - last_progress_ >= c.write_timeout.count()) return abort(errc::write_timeout);
        if (message_due() <= now) {
            fail({close_code::policy_violation, errc::message_timeout,
                  "a message that took longer than message_timeout"});
            return;
        }
        if (requests_due() <= now) expire_requests(now);
        if (state_ == state::open && silence >= ping_after() && !pinged_) {
            pinged_ = true;
            // Where the loop stood still this is late, and there is as much time for the answer all the same.
            last_heard_ = std::max(last_heard_, now - owner_->ping_period());
            if (lagging_) {
                // Behind what waits, so that whoever reads it all can answer. Two bytes pass the bound, once until we hear.
                add_control(wire::opcode::ping, {});
                count_sent(wire::opcode::ping);
            } else {
                send(wire::opcode::ping, {});
            }
        }
    } else if (now - last_progress_ >= c.close_timeout.count()) {
        loop_->counters().close_timeouts.add();
        return abort(errc::close_timeout);
    }
    if (transport_ != nullptr) schedule();
}

}  // namespace arke::core
