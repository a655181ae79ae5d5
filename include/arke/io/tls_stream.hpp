#pragma once

/// TLS by OpenSSL, as a filter. Included by <arke/tls.hpp> and by nothing else of Arke.

#include <arke/io/tls_layer.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "Arke's TLS needs OpenSSL 3. On Debian 12 install libssl-dev."
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace arke::io {

namespace detail {

template <auto Free>
struct openssl_deleter {
    template <class T>
    void operator()(T* thing) const noexcept {
        Free(thing);
    }
};

/// OPENSSL_free is a macro.
inline void free_openssl(void* memory) noexcept { OPENSSL_free(memory); }

}  // namespace detail

using ssl_ptr = std::unique_ptr<SSL, detail::openssl_deleter<&SSL_free>>;
using ssl_context_ptr = std::unique_ptr<SSL_CTX, detail::openssl_deleter<&SSL_CTX_free>>;
using ssl_session_ptr = std::unique_ptr<SSL_SESSION, detail::openssl_deleter<&SSL_SESSION_free>>;
using bio_ptr = std::unique_ptr<BIO, detail::openssl_deleter<&BIO_free>>;
using certificate_ptr = std::unique_ptr<X509, detail::openssl_deleter<&X509_free>>;
using key_ptr = std::unique_ptr<EVP_PKEY, detail::openssl_deleter<&EVP_PKEY_free>>;

/// What an error_code of tls_category() holds: one of these, a fault of a certificate (X509_V_ERR_...) with a bias, or an error of
/// OpenSSL's.
enum class tls_fault {
    truncated = 1,  ///< The stream ended without close_notify.
    in_handshake,   ///< It ended before the handshake was done.
    no_memory,
    flooded,  ///< By more messages of TLS's own than anybody needs.
    other,
};
inline constexpr int tls_certificate_fault = 1000;

inline error_code make_tls_error(tls_fault what) noexcept { return {static_cast<int>(what), tls_category()}; }

std::string tls_message(int error);

/// What TLS has agreed on.
tls_session_ptr describe_tls(SSL& ssl);

/// Memory that the streams of one loop share. Each part is used within one call of a stream, and none but the first while a user is
/// called, who may have other streams of the loop send.
struct tls_memory {
    static constexpr std::size_t record = 16 * 1024;  // the most plaintext that a record holds
    static constexpr std::size_t plain_size = 4 * record;
    static constexpr std::size_t batch_size = 256 * 1024;

    std::unique_ptr<char[]> plain = std::make_unique_for_overwrite<char[]>(plain_size);  // what was read, for a user
    std::unique_ptr<char[]> gathered = std::make_unique_for_overwrite<char[]>(record);   // small pieces of one record
    std::string out;                                                                     // records that are to be sent

    // What waits for loop::submit(), and for how many streams.
    std::unique_ptr<char[]> batch;
    std::size_t batch_used = 0;
    std::size_t batch_streams = 0;

    /// Of a loop; made for the first that asks.
    static tls_memory& of(core::loop& on) {
        auto& there = on.filter_memory();
        if (!there) there = std::make_shared<tls_memory>();
        return *static_cast<tls_memory*>(there.get());
    }
};

/// One TLS connection: a transport to its user, and the user of the transport below. It knows no socket.
///
///     bytes of below ──on_bytes()──▶ SSL ──▶ on_bytes() of the user
///     send() of the user ──▶ SSL ──▶ records ──▶ send() of below; what is not taken waits here
///
/// It reads because it writes and the other way round: the handshake goes on in whatever call there is. Bytes that were made a
/// record count as sent, since a record cannot be taken back: what waits here is bounded by `ahead` and the records of one
/// flight. A stream that ends without close_notify is broken, because anybody on the way can end TCP.
class tls_stream final : public core::stream_user, public core::transport {
public:
    /// `keeps` lives as long as the stream.
    tls_stream(core::loop& on, core::stream_user_ptr user, ssl_ptr ssl, std::shared_ptr<const void> keeps);
    ~tls_stream() override;

    /// Becomes the user of `below`.
    void open(core::transport& below);

    core::send_result send(std::span<const core::segment> pieces) override;
    void queue(core::segment piece) override;
    void set_user(core::stream_user_ptr user) override { loop_.retire(std::exchange(user_, std::move(user))); }
    void pause_reads(bool pause) override;
    void shutdown() override;
    void close(bool reset) override;
    tls_session_ptr tls() const override;

    void failed() noexcept override;
    void on_bytes(std::span<char> bytes) override;
    void on_sent(const core::send_result& result) override;
    void on_writable() override;
    void on_end(error_code why) override;
    void on_timer(core::millis now) override;
    void on_stop() override { user_->tell<&core::stream_user::on_stop>(); }

private:
    enum class outcome { done, wants_bytes, ended, failed };

    /// Plaintext that may become records before the first of them has been sent.
    static constexpr std::size_t ahead = 2 * tls_memory::record;

    /// The records that may wait: of data at most `ahead`, the rest is what a peer makes OpenSSL say.
    static constexpr std::size_t most_waiting = 256 * 1024;

    /// Messages of TLS's own that a peer may send after the handshake, such as tickets and KeyUpdate, and how many bytes of data it
    /// has to send for each further one. A KeyUpdate of 27 bytes has us make new keys and answer, which takes forty times as long as
    /// a small record, and OpenSSL counts none: a read full of them held a loop for 0.4 s. Who needs new keys does so once in
    /// millions of records.
    static constexpr std::uint64_t most_messages = 32;
    static constexpr std::uint64_t bytes_for_message = 64 * 1024;

    static const BIO_METHOD* bio_method();
    static int read_bio(BIO* bio, char* to, std::size_t size, std::size_t* done);
    static int write_bio(BIO* bio, const char* from, std::size_t size, std::size_t* done);
    static long control_bio(BIO* bio, int command, long number, void* pointer);
    static void count_message(int is_ours, int version, int kind, const void* data, std::size_t size, SSL* ssl,
                              void* stream);

    tls_memory& memory() { return tls_memory::of(loop_); }

    outcome shake_hands();
    outcome judge(int result);
    outcome decrypt(char* to, std::size_t size, std::size_t& filled);
    void read();
    void serve_held();
    void keep(std::span<char> rest);
    bool encrypt(core::segment plain);
    core::send_result fail_soon(error_code why);
    error_code flush(std::string& out);
    bool say_goodbye();
    void end_our_direction();
    void tell_end(error_code why);
    void count_failure() noexcept;
    /// The peer's goodbye is its own: what we have to say still goes out.
    bool is_broken() const noexcept { return below_ == nullptr || broken_ || has_failed(); }
    bool has_failed() const noexcept { return end_ && *end_; }

    core::loop& loop_;
    core::transport* below_ = nullptr;
    core::stream_user_ptr user_;
    std::shared_ptr<const void> keeps_;
    ssl_ptr ssl_;
    std::span<char> in_;                    // what on_bytes() got and SSL has not
    std::unique_ptr<std::string> held_;     // the same, of a user that paused in the midst of it
    std::unique_ptr<std::string> waiting_;  // records that below did not take
    std::optional<error_code> end_;         // SSL has come to it
    core::segment queued_;                  // the records that loop::submit() sends
    std::size_t queued_plain_ = 0;
    std::uint64_t messages_ = 0;  // of TLS's own, since the handshake
    std::uint64_t heard_ = 0;     // bytes of data
    mutable tls_session_ptr described_;
    bool established_ = false;
    bool counted_ = false;     // how the handshake ended
    bool broken_ = false;      // below is
    bool wants_room_ = false;  // the user waits for on_writable()
    bool paused_ = false;
    bool reading_ = false;  // in read()
    bool resumes_ = false;  // serve_held() is on its way
    bool flooded_ = false;
    bool shut_ = false;
    bool said_goodbye_ = false;
    bool shut_below_ = false;
    bool told_ = false;  // the end
};

// ------------------------------------------------------------------------------------------------------------------ setup

inline tls_stream::tls_stream(core::loop& on, core::stream_user_ptr user, ssl_ptr ssl,
                              std::shared_ptr<const void> keeps)
    : loop_{on}, user_{std::move(user)}, keeps_{std::move(keeps)}, ssl_{std::move(ssl)} {
    bio_ptr bio{BIO_new(bio_method())};
    if (!bio) throw std::bad_alloc{};
    BIO_set_data(bio.get(), this);
    BIO_set_init(bio.get(), 1);
    auto* const both = bio.release();
    SSL_set_bio(ssl_.get(), both, both);
    SSL_set_msg_callback(ssl_.get(), &tls_stream::count_message);
    SSL_set_msg_callback_arg(ssl_.get(), this);
}

inline tls_stream::~tls_stream() {
    // A connection that broke is no reason to forget its session.
    if (established_) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    if (below_ != nullptr) user_->cancel();  // the loop goes
}

inline void tls_stream::open(core::transport& below) {
    memory();
    loop_.make_room_to_retire();
    below_ = &below;
    below.set_user(this);
}

inline const BIO_METHOD* tls_stream::bio_method() {
    // Never freed: a server that is a global object is destroyed after what is made here.
    static const BIO_METHOD* const made = [] {
        auto* const m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "arke");
        if (m == nullptr) throw std::bad_alloc{};
        BIO_meth_set_read_ex(m, &tls_stream::read_bio);
        BIO_meth_set_write_ex(m, &tls_stream::write_bio);
        BIO_meth_set_ctrl(m, &tls_stream::control_bio);
        return m;
    }();
    return made;
}

inline int tls_stream::read_bio(BIO* bio, char* to, std::size_t size, std::size_t* done) {
    auto& self = *static_cast<tls_stream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (self.in_.empty()) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *done = std::min(size, self.in_.size());
    std::memcpy(to, self.in_.data(), *done);
    self.in_ = self.in_.subspan(*done);
    return 1;
}

inline int tls_stream::write_bio(BIO* bio, const char* from, std::size_t size, std::size_t* done) {
    auto& self = *static_cast<tls_stream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    try {
        self.memory().out.append(from, size);
    } catch (...) {
        return 0;
    }
    *done = size;
    return 1;
}

inline long tls_stream::control_bio(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

inline void tls_stream::count_message(int is_ours, int, int kind, const void*, std::size_t, SSL*, void* stream) {
    auto& self = *static_cast<tls_stream*>(stream);
    if (is_ours != 0 || kind != SSL3_RT_HANDSHAKE || !self.established_) return;
    if (++self.messages_ <= most_messages + self.heard_ / bytes_for_message) return;
    // SSL goes on as long as there are bytes.
    self.flooded_ = true;
    self.in_ = {};
}

// ---------------------------------------------------------------------------------------------------------------- reading

/// What an SSL function came to. Right behind it.
inline tls_stream::outcome tls_stream::judge(int result) {
    switch (SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_NONE: return outcome::done;
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE: return outcome::wants_bytes;
        case SSL_ERROR_ZERO_RETURN: end_ = error_code{}; return outcome::ended;
        default: break;
    }
    // The first error says most.
    const auto code = ERR_peek_error();
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        end_ = error_code{tls_certificate_fault + static_cast<int>(SSL_get_verify_result(ssl_.get())), tls_category()};
    } else if (code != 0 && !ERR_SYSTEM_ERROR(code)) {
        end_ = error_code{static_cast<int>(code & 0x7FFF'FFFFU), tls_category()};
    } else {
        end_ = make_tls_error(tls_fault::no_memory);
    }
    ERR_clear_error();
    return outcome::failed;
}

inline tls_stream::outcome tls_stream::shake_hands() {
    ERR_clear_error();
    auto& out = memory().out;
    out.clear();
    const auto came = judge(SSL_do_handshake(ssl_.get()));
    if (came == outcome::failed && SSL_is_server(ssl_.get()) == 1 && out.empty()) {
        const auto reason = ERR_GET_REASON(static_cast<unsigned long>(end_->value()));
        if (reason == SSL_R_HTTP_REQUEST || reason == SSL_R_HTTPS_PROXY_REQUEST) {
            out =
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 52\r\n"
                "Connection: close\r\n\r\nThis port speaks TLS: write https:// or wss:// here.";
        }
    }
    if (came == outcome::done) {
        established_ = counted_ = true;
        loop_.counters().tls.handshakes.add();
        if (SSL_session_reused(ssl_.get()) == 1) loop_.counters().tls.resumed.add();
    }
    flush(out);
    return came;
}

/// As much as fits.
inline tls_stream::outcome tls_stream::decrypt(char* to, std::size_t size, std::size_t& filled) {
    ERR_clear_error();
    while (filled != size) {
        std::size_t count = 0;
        if (const int result = SSL_read_ex(ssl_.get(), to + filled, size - filled, &count); result != 1)
            return judge(result);
        filled += count;
    }
    return outcome::done;
}

inline void tls_stream::on_bytes(std::span<char> bytes) {
    if (told_ || end_) return;
    // Below is paused, and what comes all the same was on its way.
    if (paused_ || held_ || resumes_) return keep(bytes);
    in_ = bytes;
    read();
    keep(std::exchange(in_, {}));
}

inline void tls_stream::keep(std::span<char> rest) {
    if (rest.empty() || below_ == nullptr || told_ || end_) return;
    if (!held_) held_ = std::make_unique<std::string>();
    held_->append(rest.data(), rest.size());
}

/// All that in_ holds, until the user pauses.
inline void tls_stream::read() {
    const struct at_end {
        tls_stream& self;
        ~at_end() { self.reading_ = false; }
    } guard{*this};
    reading_ = true;
    if (!established_) {
        const auto came = shake_hands();
        if (end_) return tell_end(*end_);
        if (came != outcome::done) return;
        if (std::exchange(wants_room_, false)) {
            if (waiting_)
                wants_room_ = true;
            else
                user_->tell<&core::stream_user::on_writable>();
        }
    }
    auto& m = memory();
    while (below_ != nullptr && !paused_ && !told_ && !end_) {
        // Straight to where it belongs, else as much as there is room for: small records become one call.
        auto to = user_->has_wants() ? user_->wanted() : std::span<char>{};
        const bool is_own = !to.empty();
        if (!is_own) to = {m.plain.get(), tls_memory::plain_size};
        m.out.clear();
        std::size_t filled = 0;
        const auto came = decrypt(to.data(), to.size(), filled);
        heard_ += filled;
        if (flooded_ && !end_) end_ = make_tls_error(tls_fault::flooded);
        flush(m.out);
        if (filled != 0) {
            if (is_own)
                user_->tell<&core::stream_user::on_filled>(filled);
            else
                user_->tell<&core::stream_user::on_bytes>(to.first(filled));
        }
        if (came != outcome::done) break;
    }
    // Something was to be sent in the midst of a message of TLS's own.
    if (wants_room_ && !waiting_ && !is_broken() && SSL_in_init(ssl_.get()) == 0) {
        wants_room_ = false;
        user_->tell<&core::stream_user::on_writable>();
    }
    if (shut_ && !shut_below_ && below_ != nullptr) end_our_direction();
    if (end_ && below_ != nullptr && !paused_) tell_end(*end_);
}

inline void tls_stream::pause_reads(bool pause) {
    paused_ = pause;
    if (below_ == nullptr) return;
    if (pause || reading_) return below_->pause_reads(pause);
    if (resumes_) return;
    if (!held_ && !end_ && SSL_has_pending(ssl_.get()) == 0) return below_->pause_reads(false);
    // What is here comes first, in a turn of its own. A loop that is stopping takes no posts.
    resumes_ = true;
    bool posted = false;
    try {
        posted =
            loop_.post([self = boost::intrusive_ptr<tls_stream>{this}] { self->guarded([&] { self->serve_held(); }); });
    } catch (...) {
    }
    if (!posted) loop_.timers().schedule(*this, loop_.now());
}

inline void tls_stream::serve_held() {
    if (!std::exchange(resumes_, false) || below_ == nullptr || paused_ || told_) return;
    const auto held = std::move(held_);
    if (held) in_ = *held;
    read();
    keep(std::exchange(in_, {}));
    if (below_ != nullptr && !paused_ && !told_) below_->pause_reads(false);
}

inline void tls_stream::on_timer(core::millis) {
    if (resumes_) return serve_held();
    if (end_ && !paused_) tell_end(*end_);
}

inline void tls_stream::on_end(error_code why) {
    if (!why) why = make_tls_error(established_ ? tls_fault::truncated : tls_fault::in_handshake);
    tell_end(why);
}

inline void tls_stream::tell_end(error_code why) {
    if (std::exchange(told_, true) || below_ == nullptr) return;
    count_failure();
    user_->tell<&core::stream_user::on_end>(why);
}

inline void tls_stream::count_failure() noexcept {
    if (!std::exchange(counted_, true)) loop_.counters().tls.failed.add();
}

inline void tls_stream::failed() noexcept {
    if (below_ == nullptr) return;
    user_->failed();
    if (below_ != nullptr) close(true);
}

// ---------------------------------------------------------------------------------------------------------------- writing

/// Hands over records; what is not taken waits. An error is told by on_end().
inline error_code tls_stream::flush(std::string& out) {
    if (out.empty() || below_ == nullptr || broken_) return {};
    try {
        if (waiting_) {
            // More than all that we have said of ourselves: a peer that has OpenSSL answer and reads nothing.
            if (waiting_->size() + out.size() > most_waiting) return fail_soon(make_tls_error(tls_fault::other)).error;
            waiting_->append(out);
            out.clear();
            return {};
        }
        const core::segment piece{out};
        const auto result = below_->send({&piece, 1});
        if (result.error)
            broken_ = true;
        else if (result.sent != out.size())
            waiting_ = std::make_unique<std::string>(out, result.sent);
        out.clear();
        return result.error;
    } catch (...) {
        // Records have gone lost.
        broken_ = true;
        return fail_soon(make_tls_error(tls_fault::no_memory)).error;
    }
}

/// Makes records of it, at the end of memory().out. False: it has_failed(), or SSL has heard a part of a message of TLS's own, such as
/// a ticket, and takes nothing before the rest has come.
inline bool tls_stream::encrypt(core::segment plain) {
    ERR_clear_error();
    std::size_t done = 0;
    const int result = SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &done);
    if (result == 1) return true;
    judge(result);
    return false;
}

/// It cannot go on; the user hears of it in a turn of its own.
inline core::send_result tls_stream::fail_soon(error_code why) {
    if (!end_ || !*end_) end_ = why;
    loop_.timers().schedule(*this, loop_.now());
    return {0, *end_};
}

inline core::send_result tls_stream::send(std::span<const core::segment> pieces) {
    if (is_broken()) return {0, make_tls_error(tls_fault::other)};
    if (!established_) {
        wants_room_ = true;
        // A client speaks first.
        if (SSL_is_server(ssl_.get()) == 0 && SSL_get_state(ssl_.get()) == TLS_ST_BEFORE &&
            shake_hands() == outcome::failed)
            return fail_soon(*end_);
        return {};
    }
    if (waiting_) {
        wants_room_ = true;
        return {};
    }
    auto& m = memory();
    m.out.clear();
    std::size_t sent = 0;
    core::segment rest;
    auto next = pieces.begin();
    for (std::size_t unsent = 0;;) {
        while (rest.empty() && next != pieces.end()) rest = *next++;
        if (rest.empty()) break;
        core::segment plain = rest.substr(0, ahead - unsent);
        rest.remove_prefix(plain.size());
        if (plain.size() < tls_memory::record && rest.empty() && next != pieces.end()) {
            // Several small ones in one record.
            std::size_t size = plain.copy(m.gathered.get(), plain.size());
            const auto most = std::min(tls_memory::record, ahead - unsent);
            while (size != most && (!rest.empty() || next != pieces.end())) {
                if (rest.empty()) rest = *next++;
                const auto part = rest.copy(m.gathered.get() + size, most - size);
                rest.remove_prefix(part);
                size += part;
            }
            plain = {m.gathered.get(), size};
        }
        if (!encrypt(plain)) {
            if (has_failed()) return fail_soon(*end_);
            wants_room_ = true;
            break;
        }
        sent += plain.size();
        unsent += plain.size();
        if (unsent != ahead) continue;
        unsent = 0;
        if (const auto error = flush(m.out)) return {0, error};
        if (waiting_) break;
    }
    if (const auto error = flush(m.out)) return {0, error};
    if (!rest.empty() || next != pieces.end()) wants_room_ = true;
    return {sent, {}};
}

inline void tls_stream::queue(core::segment piece) {
    if (below_ == nullptr) return;
    const auto tell = [this](const core::send_result& result) { user_->tell<&core::stream_user::on_sent>(result); };
    auto& m = memory();
    const auto room = m.batch_used < tls_memory::batch_size ? tls_memory::batch_size - m.batch_used : 0;
    if (is_broken() || !established_ || waiting_ || piece.size() > ahead || piece.size() + 512 > room)
        return tell(send({&piece, 1}));
    m.out.clear();
    // Before there is a record: one that is lost is a gap, which the peer takes for a forgery.
    if (!m.batch) m.batch = std::make_unique_for_overwrite<char[]>(tls_memory::batch_size);
    if (!encrypt(piece)) {
        if (has_failed()) return tell(fail_soon(*end_));
        wants_room_ = true;
        return tell({0, flush(m.out)});
    }
    if (m.out.size() > room) {
        const auto error = flush(m.out);
        return tell({error ? 0 : piece.size(), error});
    }
    queued_ = {m.batch.get() + m.batch_used, m.out.copy(m.batch.get() + m.batch_used, m.out.size())};
    queued_plain_ = piece.size();
    m.batch_used += m.out.size();
    ++m.batch_streams;
    m.out.clear();
    below_->queue(queued_);
}

inline void tls_stream::on_sent(const core::send_result& result) {
    const auto piece = std::exchange(queued_, {});
    if (piece.empty()) return;
    auto& m = memory();
    if (--m.batch_streams == 0) m.batch_used = 0;
    if (result.error) {
        broken_ = true;
        return user_->tell<&core::stream_user::on_sent>(core::send_result{0, result.error});
    }
    if (result.sent != piece.size()) waiting_ = std::make_unique<std::string>(piece.substr(result.sent));
    user_->tell<&core::stream_user::on_sent>(core::send_result{queued_plain_, {}});
}

inline void tls_stream::on_writable() {
    if (below_ == nullptr || broken_) return;
    if (waiting_) {
        const core::segment piece{*waiting_};
        const auto result = below_->send({&piece, 1});
        if (result.error) {
            broken_ = true;
            return;
        }
        waiting_->erase(0, result.sent);
        if (!waiting_->empty()) return;
        waiting_.reset();
    }
    if (shut_) end_our_direction();
    if (established_ && std::exchange(wants_room_, false)) user_->tell<&core::stream_user::on_writable>();
}

/// close_notify, where there is anybody to hear it. False: SSL has heard a part of a message of TLS's own, and says nothing before
/// the rest has come.
inline bool tls_stream::say_goodbye() {
    if (!established_ || said_goodbye_ || broken_ || has_failed()) return true;
    if (SSL_in_init(ssl_.get()) != 0) return false;
    said_goodbye_ = true;
    auto& out = memory().out;
    out.clear();
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    flush(out);
    return true;
}

/// As far as it goes now.
inline void tls_stream::end_our_direction() {
    if (!say_goodbye() || waiting_ || std::exchange(shut_below_, true)) return;
    below_->shutdown();
}

inline void tls_stream::shutdown() {
    if (below_ == nullptr || std::exchange(shut_, true)) return;
    end_our_direction();
}

inline void tls_stream::close(bool reset) {
    if (below_ == nullptr) return;
    count_failure();
    // Records that were not taken are lost. Our goodbye may be, for then the peer at least has all that was.
    reset = reset || waiting_ != nullptr;
    try {
        if (!reset && queued_.empty()) say_goodbye();
    } catch (...) {
        reset = true;
    }
    cancel();
    std::exchange(below_, nullptr)->close(reset);
    held_.reset();
    if (queued_.empty()) return;
    // Below has sent what was queued, and tells nobody.
    queued_ = {};
    auto& m = memory();
    if (--m.batch_streams == 0) m.batch_used = 0;
}

// -------------------------------------------------------------------------------------------------------------- describing

inline tls_session_ptr tls_stream::tls() const {
    if (established_ && !described_) described_ = describe_tls(*ssl_);
    return described_;
}

namespace detail {

/// A name as RFC 4514 writes it.
inline std::string text_of(const X509_NAME* name) {
    const bio_ptr out{BIO_new(BIO_s_mem())};
    if (!out) throw std::bad_alloc{};
    X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB));
    char* text = nullptr;
    const auto size = BIO_get_mem_data(out.get(), &text);
    return size <= 0 ? std::string{} : std::string(text, static_cast<std::size_t>(size));
}

inline std::vector<std::string> names_of(const X509& certificate) {
    struct free_names {
        void operator()(GENERAL_NAMES* all) const noexcept { GENERAL_NAMES_free(all); }
    };
    const std::unique_ptr<GENERAL_NAMES, free_names> all{
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr))};
    std::vector<std::string> names;
    const auto text = [](const ASN1_STRING* of) {
        const auto* const data = ASN1_STRING_get0_data(of);
        return std::string(reinterpret_cast<const char*>(data), static_cast<std::size_t>(ASN1_STRING_length(of)));
    };
    for (int i = 0; i < (all ? sk_GENERAL_NAME_num(all.get()) : 0); ++i) {
        int kind = 0;
        const auto* const value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(all.get(), i), &kind);
        const auto* const string = static_cast<const ASN1_STRING*>(value);
        if (kind == GEN_DNS) names.push_back("DNS:" + text(string));
        if (kind == GEN_EMAIL) names.push_back("email:" + text(string));
        if (kind == GEN_URI) names.push_back("URI:" + text(string));
        if (kind != GEN_IPADD) continue;
        const auto bytes = text(string);
        std::string address;
        if (bytes.size() == 4) {
            for (const char c : bytes)
                address += (address.empty() ? "" : ".") + std::to_string(static_cast<unsigned char>(c));
        } else if (bytes.size() == 16) {
            constexpr std::string_view digits = "0123456789abcdef";
            for (std::size_t at = 0; at != 16; ++at) {
                if (at != 0 && at % 2 == 0) address += ':';
                address += digits[static_cast<unsigned char>(bytes[at]) >> 4U];
                address += digits[static_cast<unsigned char>(bytes[at]) & 15U];
            }
        }
        names.push_back("IP:" + address);
    }
    return names;
}

inline client_certificate describe(const X509& certificate) {
    client_certificate made;
    made.subject = text_of(X509_get_subject_name(&certificate));
    made.names = names_of(certificate);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    if (X509_digest(&certificate, EVP_sha256(), digest.data(), &size) != 1) throw std::bad_alloc{};
    constexpr std::string_view digits = "0123456789abcdef";
    for (unsigned i = 0; i != size; ++i) {
        made.fingerprint += digits[digest[i] >> 4U];
        made.fingerprint += digits[digest[i] & 15U];
    }
    const bio_ptr out{BIO_new(BIO_s_mem())};
    if (!out || PEM_write_bio_X509(out.get(), &certificate) != 1) throw std::bad_alloc{};
    char* text = nullptr;
    const auto length = BIO_get_mem_data(out.get(), &text);
    made.pem.assign(text, static_cast<std::size_t>(length));
    return made;
}

}  // namespace detail

inline tls_session_ptr describe_tls(SSL& ssl) {
    boost::intrusive_ptr<tls_session> made{new tls_session};
    made->version = SSL_get_version(&ssl);
    made->cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(&ssl));
    if (const char* name = SSL_get_servername(&ssl, TLSEXT_NAMETYPE_host_name)) made->server_name = name;
    made->resumed = SSL_session_reused(&ssl) == 1;
    if (SSL_is_server(&ssl) == 1) {
        if (const X509* certificate = SSL_get0_peer_certificate(&ssl)) made->client = detail::describe(*certificate);
    }
    return made;
}

inline std::string tls_message(int error) {
    switch (static_cast<tls_fault>(error)) {
        case tls_fault::truncated: return "the stream ended without TLS's goodbye: somebody on the way may have cut it";
        case tls_fault::in_handshake: return "the stream ended in the TLS handshake";
        case tls_fault::no_memory: return "TLS found no memory";
        case tls_fault::flooded: return "the peer sends one message of TLS's own after another, such as for new keys";
        case tls_fault::other: return "TLS cannot go on";
    }
    if (error >= tls_certificate_fault && error < 2 * tls_certificate_fault) {
        const long fault = error - tls_certificate_fault;
        std::string text = X509_verify_cert_error_string(fault);
        switch (fault) {
            case X509_V_ERR_HOSTNAME_MISMATCH:
            case X509_V_ERR_IP_ADDRESS_MISMATCH:
                return "the certificate is for another host (" + text + "); check the URL, or set tls.server_name";
            case X509_V_ERR_CERT_HAS_EXPIRED:
                return "the certificate has expired; it must be renewed, unless the clock here is wrong";
            case X509_V_ERR_CERT_NOT_YET_VALID: return "the certificate is not valid yet; is the clock here right?";
            case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
            case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
                return "the certificate is signed by itself or by an authority of its own (" + text +
                       "); to trust it, set tls.ca_file to the signer's";
            case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
            case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
            case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
                return "the certificate is signed by an unknown authority (" + text +
                       "); set tls.ca_file to its certificate, or have those between sent along";
            default: return "the certificate does not hold: " + text;
        }
    }
    const auto code = static_cast<unsigned long>(error);
    const char* const reason = ERR_reason_error_string(code);
    std::string text = reason == nullptr ? "error " + std::to_string(error) : std::string{reason};
    if (ERR_GET_LIB(code) != ERR_LIB_SSL) return text;
    switch (ERR_GET_REASON(code)) {
        case SSL_R_HTTP_REQUEST:
        case SSL_R_HTTPS_PROXY_REQUEST: return "the peer speaks plain HTTP (" + text + ")";
        case SSL_R_WRONG_VERSION_NUMBER:
            return "what came is no TLS (" + text + "); is that the right port, and does the peer speak TLS there?";
        case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
            return "the peer refuses the certificate: it does not know the authority that signed it (" + text + ")";
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return "the client has shown no certificate";
        case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
            return "the server wants a certificate of the client; set tls.certificate";
        default: return text;
    }
}

}  // namespace arke::io
