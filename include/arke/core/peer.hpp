#pragma once

#include <arke/base/close_code.hpp>
#include <arke/base/compile.hpp>
#include <arke/base/config.hpp>
#include <arke/base/keyed_hash.hpp>
#include <arke/core/loop.hpp>
#include <arke/core/outbox.hpp>
#include <arke/event/message.hpp>
#include <arke/wire/deflate.hpp>
#include <arke/wire/frame.hpp>

#include <boost/container/vector.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace arke::core {

class peer;

/// A room as one loop knows it: the members that live there, each with the room's place among the rooms that it is in.
struct room {
    struct member {
        peer* who;
        std::size_t place;
    };
    std::string name;
    std::vector<member> members;
};

/// One room that a peer is in, and its place among the members.
struct membership {
    room* in;
    std::size_t place;
};

/// What a server bears at this moment, over all its loops and endpoints. Any thread.
class server_load {
public:
    std::atomic<std::size_t> connections{0};  ///< Those in their HTTP part included; peers count until they are freed.
    std::atomic<std::size_t> waiting{0};      ///< What is kept for those who lag: note().
    std::atomic<std::size_t> contexts{0};     ///< What peers may keep to compress and inflate with.

    // Set before the server serves.
    std::size_t max_waiting = listener_config{}.max_total_outbox_bytes;
    std::size_t max_contexts = listener_config{}.max_total_context_bytes;
    std::size_t max_per_address = 0;

    /// Of messages that are not whole.
    wire::message_budget messages{listener_config{}.max_total_message_bytes};

    bool is_over() const noexcept { return waiting.load(std::memory_order_relaxed) > max_waiting; }

    /// One of the loops whose peers are counted. Again: no effect.
    void add_loop(loop& on);

    /// What waits for somebody is `now` so much. On its loop, in a turn.
    static void note(const std::shared_ptr<server_load>& load, loop& on, backlog& what, std::size_t now) noexcept;

    /// What waited for somebody is gone. Any thread.
    void forget(backlog& what) noexcept {
        if (what.counted() != 0) count(what.counted(), 0);
        what.count(0);
    }

    enum class place {
        served,   ///< One of max_per_address.
        refused,  ///< One of those who only hear a refusal.
        none,     ///< There is neither.
    };

    /// So many of one address may wait for their refusal.
    static constexpr std::size_t max_refused_per_address = 8;

    /// Counts somebody at an address, once: as one who is served while there is room, unless it is said that they are to be refused.
    place enter(const stream_user& who, const std::string& address, bool refuse = false);

    /// Whoever counted counts from now on as another: an HTTP session as the peer that it has become.
    void hand_over(const stream_user& from, const stream_user& to);
    void leave(const stream_user& who) noexcept;

private:
    void count(std::size_t before, std::size_t now) noexcept;

    /// Has every loop cut those for whom most waits, in a turn of its own: members may be being walked, and the largest are
    /// known when everybody has got theirs.
    static void relieve(const std::shared_ptr<server_load>& load) noexcept;

    struct tally {
        std::size_t served = 0;
        std::size_t refused = 0;
    };
    using counts = std::unordered_map<std::string, tally, arke::detail::keyed_hash, std::equal_to<>>;
    struct presence {
        counts::value_type* at;  // an element stays where it is, an iterator does not
        std::size_t tally::*as;
    };

    /// One less.
    void take_off(const presence& p) noexcept;

    // Sizes, eight to the double.
    static std::size_t grade(std::size_t bytes) noexcept {
        const auto shift = static_cast<std::size_t>(std::bit_width(bytes | 8) - 4);
        return 8 * shift + (bytes >> shift);
    }
    static std::size_t least_of(std::size_t grade) noexcept {
        const auto shift = grade < 16 ? 0 : grade / 8 - 1;
        return (grade - 8 * shift) << shift;
    }

    /// Of those of the loop, in its turn: who is closing, then who is among the largest of all loops, until an eighth of the bound
    /// is free, once it is passed.
    void relieve(loop& on) const noexcept;

    /// So much waits at least for each of the largest of all loops, who have to go so that `enough` is left.
    std::size_t floor(std::size_t enough) const noexcept;

    std::array<std::atomic<std::size_t>, 61 * 8> waiting_of_{};  // by grade

    std::mutex mutex_;
    std::vector<loop_ptr> loops_;
    counts at_;
    std::unordered_map<const stream_user*, presence> who_;
};

/// What the peers of one endpoint have in common.
class peer_owner : public boost::intrusive_ref_counter<peer_owner, boost::thread_safe_counter> {
public:
    explicit peer_owner(config settings);
    peer_owner(const peer_owner&) = delete;
    peer_owner& operator=(const peer_owner&) = delete;
    virtual ~peer_owner() = default;

    const config& settings() const noexcept { return config_; }
    millis ping_period() const noexcept { return ping_period_; }
    const wire::frame_limits& limits() const noexcept { return limits_; }

    /// Which end of their connections the peers are: a server, unless it is told otherwise before the first of them. As a client
    /// they mask what they send.
    wire::role role() const noexcept { return role_; }
    void become_client() noexcept {
        role_ = wire::role::client;
        limits_.budget = nullptr;
    }

    /// Protocols are added before the first connection.
    void add_protocol(std::unique_ptr<protocol> p) { protocols_.push_back(std::move(p)); }
    const protocol& protocol_at(std::size_t index) const noexcept { return *protocols_[index]; }
    std::size_t protocol_count() const noexcept { return protocols_.size(); }

    /// The burden of the server, which all its endpoints and its HTTP side share.
    const std::shared_ptr<server_load>& load() const noexcept { return load_; }

    /// Before the first connection.
    void share_load(std::shared_ptr<server_load> with) {
        load_ = std::move(with);
        use_budget();
    }

    /// What is agreed on with a client that offers this, if anything: its Sec-WebSocket-Extensions headers. The peer is made at once.
    std::optional<wire::deflate_answer> accept_deflate(std::span<const std::string_view> offers) const;

    /// Takes a peer out of everything, because it is over. On the peer's loop; once.
    virtual void forget(peer& p) noexcept = 0;

private:
    /// Of the load. A message alone always finds room.
    void use_budget() noexcept {
        auto& all = load_->messages;
        all.most = std::max(all.most, wire::max_deflated_size(limits_.max_message_size));
        limits_.budget = &all;
    }

    config config_;
    millis ping_period_;
    wire::frame_limits limits_;
    wire::role role_ = wire::role::server;
    std::vector<std::unique_ptr<protocol>> protocols_;
    std::shared_ptr<server_load> load_ = std::make_shared<server_load>();
};

/// One WebSocket connection without the API around it: frames in, frames out, the closing handshake, the deadlines.
///
///     open ──close()──▶ closing ──close frame of the peer──▶ draining ──all sent, peer's end──▶ closed
///       └──close frame of the peer, or a fault───────────────▶ draining
///       └──the stream ends or breaks, or a deadline passes─────────────────────────────────────▶ closed
///
/// To the application the connection is over as soon as it leaves `open`: it is out of its rooms at once, and finish() runs
/// once before the turn ends. What follows concerns only the two transports.
///
/// On its loop only, in a turn.
class peer : public stream_user {
public:
    peer(peer_owner& owner, loop& on, std::string id, std::size_t protocol_index);
    ~peer() override;

    peer_owner& owner() const noexcept { return *owner_; }
    loop& on_loop() const noexcept { return *loop_; }
    const std::string& id() const noexcept { return id_; }
    std::size_t protocol_index() const noexcept { return protocol_index_; }

    bool is_open() const noexcept { return state_ == state::open; }

    /// Bytes that are sent before all else: the end of the handshake. Once, before open().
    void greet(std::string_view greeting) { own_outbox().add_copy(greeting); }

    /// Takes over a transport whose handshake is done but for greet(). Sets the deadlines and runs begin().
    void open(transport& t) noexcept;

    /// The handshake has agreed on compressed messages. Once, before open().
    void use_deflate(const wire::deflate_terms& terms) noexcept;

    /// Whether messages to it may be compressed.
    bool deflates() const noexcept { return deflates_; }

    /// Sends one frame, in order with everything else; silently nothing when not open.
    ARKE_ALWAYS_INLINE void send(wire::opcode code, std::string_view payload) {
        if (state_ != state::open) return;
        if (special_) return send_specially(code, payload);
        send_plain(code, payload);
    }

private:
    ARKE_ALWAYS_INLINE void send_plain(wire::opcode code, std::string_view payload) {
        char* const at = reserve(wire::frame_header_size(payload.size()) + payload.size());
        if (at == nullptr) return send_apart(code, payload);
        count_sent(code);
        char* const body = wire::write_frame_header(at, code, payload.size());
        if (!payload.empty()) std::memcpy(body, payload.data(), payload.size());
    }

public:
    /// Sends what the peer's protocol makes of it. False, and a sentence, when the protocol cannot carry it.
    bool send(const outgoing& out, std::string& why);

    /// A part of the turn buffer that holds the frame of `out` for this peer and others.
    void send_turn(std::size_t begin, std::size_t end, const outgoing& out) noexcept;

    /// The same as a frame that is too large to be copied for each.
    void send_shared(const shared_frame_ptr& frame, const outgoing& out) noexcept;

    /// Begins the closing handshake. What was sent before still goes out. `by`, when given, is reported.
    void close(close_code code, std::string_view reason, errc by = {});

    /// Ends it at once; finish() reports `what`.
    void abort(errc what);

    /// Whether the kernel takes nothing for now.
    bool is_lagging() const noexcept { return lagging_; }

    /// Sends what was gathered for this peer in this turn.
    void flush_turn() override;

    /// Bytes that the kernel has not taken.
    std::size_t buffered() const noexcept { return outbox_ ? outbox_->size() : 0; }

    /// What the bounds count of them.
    std::size_t kept() const noexcept { return outbox_ ? outbox_->cost() : 0; }

    /// Somebody took it out of a room.
    virtual void left(std::string_view room) = 0;

    // stream_user
    void on_bytes(std::span<char> bytes) override;
    std::span<char> wanted() noexcept override { return reading() ? reader_.wanted() : std::span<char>{}; }
    void on_filled(std::size_t count) override;
    void on_sent(const send_result& result) override;
    void on_writable() override;
    void on_end(error_code why) override;
    void on_timer(millis now) override;
    void on_stop() override;
    void failed() noexcept override;
    bool is_ending() const noexcept override { return !is_open(); }
    void cut_too_slow() override;

protected:
    /// The connection has begun: the application hears of it.
    virtual void begin() = 0;

    /// When the next request that was put to the peer has waited long enough, and that it has come. While it is open.
    virtual millis requests_due() const noexcept { return timing_wheel::never; }
    virtual void expire_requests(millis now) { static_cast<void>(now); }

    /// Has the timer come at the earliest deadline. Whenever one may have become earlier.
    void schedule();

    /// A whole message; text is UTF-8. May do anything, also close.
    virtual void received(const message_view& message) = 0;
    virtual void received_ping(std::string_view payload) = 0;
    virtual void received_pong(std::string_view payload) = 0;

    /// Everything that waited is with the kernel.
    virtual void drained() = 0;

    /// Whether a frame of this size would leave or wait, and not pass max_outbox_bytes. May find only now that the peer lags.
    bool takes(std::size_t size);

    std::vector<std::string> joined_rooms() const;

    /// How it ended, for finish() to tell: no user code runs where it happens. Null when there was no memory for that either.
    struct ending {
        close_code code;
        std::string text;
        errc by{};                              // reported, when it is one
        std::vector<std::string> left_rooms{};  // what it was in
    };
    std::unique_ptr<ending> ending_;

private:
    friend class hub;
    friend class shard;
    friend class wire::frame_reader;

    enum class state : std::uint8_t { idle, open, closing, draining, closed };

    // The sink of the frame reader.
    bool on_message(bool is_text, std::string_view payload);
    bool on_deflated(bool is_text, std::string_view payload);
    bool on_control(wire::opcode code, std::string_view payload);

    bool reading() const noexcept { return state_ == state::open || state_ == state::closing; }
    /// Room in the turn buffer for a frame; null when the peer lags or the frame is too large to be copied.
    ARKE_ALWAYS_INLINE char* reserve(std::size_t size) {
        auto& buffer = loop_->buffer();
        if (lagging_ || size > buffer.room() || size > buffer.capacity() / 2) return reserve_after_flush(size);
        const auto begin = buffer.size();
        char* const at = buffer.append(size);
        add_range(begin, begin + size);
        return at;
    }
    char* reserve_after_flush(std::size_t size);

    /// A part of the turn buffer is for this peer. Mostly it follows on what the peer has there already.
    ARKE_ALWAYS_INLINE void add_range(std::size_t begin, std::size_t end) {
        const auto last = std::exchange(pending_end_, static_cast<std::uint32_t>(end));
        if (last != pending_begin_) {
            if (last == begin) return;
            if (!break_run(pending_begin_, last)) return;
        }
        pending_begin_ = static_cast<std::uint32_t>(begin);
        mark_dirty();
    }

    /// Frames of others stand between: the run so far becomes a piece of its own. False: it has failed().
    bool break_run(std::size_t begin, std::size_t end) noexcept;

    /// Sends a frame that does not go by the turn buffer.
    void send_apart(wire::opcode code, std::string_view payload) noexcept;

    /// The same two for a client. write(char*) writes the unmasked frame, whose header and payload are that long.
    void send_masked(wire::opcode code, std::string_view payload) noexcept;
    template <class Write>
    void send_masked(std::size_t header, std::size_t payload, const outgoing& out, Write&& write);

    /// For a client, and where messages may be compressed.
    void send_specially(wire::opcode code, std::string_view payload) noexcept;

    /// Compresses a message, `before`, for this peer and sends it. False: it is no shorter then, and nothing was sent.
    bool send_deflated(wire::opcode code, std::string_view before, const outgoing& out);

    /// Sends a compressed message by calling f, and counts it when it was taken.
    template <class F>
    void count_deflated(std::size_t before, std::size_t after, F&& f) {
        auto& sent = loop_->counters().sent;
        const auto messages = [&sent] {
            return sent.events.get() + sent.requests.get() + sent.answers.get() + sent.texts.get() +
                   sent.binaries.get();
        };
        const auto earlier = messages();
        f();
        if (messages() == earlier) return;
        sent.compressed.add();
        sent.compressed_bytes.add(after);
        sent.inflated_bytes.add(before);
    }
    void forget_sent_context() noexcept {
        if (keeps_sent_context()) loop_->compression().forget_sent(this);
    }
    int send_window_bits() const noexcept { return 8 + (deflate_ & 7); }
    int receive_window_bits() const noexcept { return 8 + (deflate_ >> 3 & 7); }
    bool keeps_sent_context() const noexcept { return (deflate_ & 0x40) != 0; }
    bool keeps_received_context() const noexcept { return (deflate_ & 0x80) != 0; }

    /// What it counts for in server_load::contexts, from use_deflate() to its end.
    std::size_t context_bytes() const noexcept;
    void count_out_contexts() noexcept {
        owner_->load()->contexts.fetch_sub(context_bytes(), std::memory_order_relaxed);
    }

    /// A key that nobody can foresee.
    static std::uint32_t next_mask();

    /// Adds a control frame behind what waits.
    void add_control(wire::opcode code, std::string_view payload) noexcept;

    /// Whether something more may wait; what happens otherwise has happened then. Only while it lags. `out` where an event is
    /// known.
    bool may_wait(std::size_t more, bool is_control, const outgoing* out = nullptr);

    /// What makes this and a newer event the same; empty: nothing.
    std::string key_of(const outgoing& out) const;
    outbox& own_outbox();
    void add_to_outbox(std::string_view bytes) noexcept;

    /// Sends; what is not taken is left in the pieces.
    void send_now(std::span<segment> pieces);

    /// What it has in the turn buffer goes behind what waits.
    void add_pending();
    void drop_outbox() noexcept;

    /// What waits has become more or less.
    void note_waiting() noexcept;
    void too_slow();
    void flush();
    void flush_outbox();
    void start_lagging();
    ARKE_ALWAYS_INLINE void mark_dirty() {
        if (dirty_ || loop_->is_in_burst(*this)) return;
        dirty_ = true;
        loop_->add_dirty(*this);
    }
    void send_close(close_code code, std::string_view reason);
    void count_sent(const outgoing& out) noexcept {
        auto& sent = loop_->counters().sent;
        switch (out.is) {
            case outgoing::what::event: return sent.events.add();
            case outgoing::what::text: return sent.texts.add();
            case outgoing::what::binary: return sent.binaries.add();
            case outgoing::what::answer:
            case outgoing::what::refusal: return sent.answers.add();
            default: return sent.requests.add();
        }
    }
    ARKE_ALWAYS_INLINE void count_sent(wire::opcode code) noexcept {
        auto& sent = loop_->counters().sent;
        if (code == wire::opcode::text) return sent.texts.add();
        if (code == wire::opcode::binary) return sent.binaries.add();
        if (code == wire::opcode::ping) return sent.pings.add();
        if (code == wire::opcode::pong) sent.pongs.add();
    }
    void leave_open(counter& cause, close_code code, std::string_view reason, errc by = {}) noexcept;
    counter& cause_of(errc what) noexcept;
    void drain();
    void fail(const wire::frame_fault& fault);
    void heard() noexcept {
        last_heard_ = loop_->now();
        pinged_ = false;
    }

    /// What is said while one read is served leaves when that is done, without a place on the loop's list. False where the
    /// loop sends in batches: then it waits for the end of the turn.
    bool begin_burst() noexcept {
        if (loop_->sends_in_batches()) return false;
        loop_->begin_burst(*this);
        return true;
    }
    void end_burst(bool at_once) {
        if (at_once) {
            loop_->end_burst();
            flush();
        }
        loop_->note_served();
    }
    millis ping_after() const noexcept;

    /// A message has begun and not ended: notes when, and has the timer come for it. Or forgets it, when nothing more is read.
    void time_message();
    millis message_due() noexcept;

    class in_read;

    /// Nothing more is read: what has come of a message goes, unless the reader is at work on it. Whoever keeps this keeps none of it.
    void forget_message() noexcept {
        if (in_read_) return;
        reader_.forget();
        has_wants_ = false;
    }
    void end();
    const config& settings() const noexcept { return owner_->settings(); }

    boost::intrusive_ptr<loop> loop_;
    boost::intrusive_ptr<peer_owner> owner_;
    transport* transport_ = nullptr;
    wire::frame_reader reader_;
    std::unique_ptr<outbox> outbox_;
    std::uint32_t pending_begin_ = 0;  // its run of the turn buffer
    std::uint32_t pending_end_ = 0;
    std::uint32_t mark_ = 0;   // the delivery that has counted it already
    std::uint32_t place_ = 0;  // in the shard's list of the open
    millis last_heard_ = 0;
    millis last_progress_ = 0;  // of a lagging outbox; of a close: when it began
    std::string id_;
    // Half of std::vector's size: most of a million idle connections are in one room or none.
    boost::container::vector<membership, void,
                             boost::container::vector_options_t<boost::container::stored_size<std::uint32_t>>>
        rooms_;
    state state_ = state::idle;
    std::uint8_t protocol_index_;
    std::uint8_t deflate_ = 0;  // the windows, three bits each, and whether the contexts go on: sent, received
    bool lagging_ : 1 = false;  // the kernel is full: wait for on_writable()
    bool dirty_ : 1 = false;    // on the loop's list
    bool pinged_ : 1 = false;   // since last_heard_
    bool pong_waits_ : 1 = false;
    bool shut_ : 1 = false;
    bool in_read_ : 1 = false;  // the reader is at work
    bool masks_ : 1;            // it is a client
    bool deflates_ : 1 = false;
    bool special_ : 1;  // one of these two
};

using peer_ptr = boost::intrusive_ptr<peer>;

}  // namespace arke::core

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/core/peer.ipp>
#endif
