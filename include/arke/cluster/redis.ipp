#pragma once

#include <arke/base/keyed_hash.hpp>
#include <arke/cluster/redis.hpp>
#include <arke/core/reconnection.hpp>
#include <arke/io/connector.hpp>
#include <arke/wire/url.hpp>

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include <hiredis/read.h>

namespace arke::detail {

using redis_socket = io::asio::basic_stream_socket<io::asio::generic::stream_protocol, io::own_executor>;

/// What Redis says, one answer after another: hiredis reads it.
///
/// Only its reader is used, and not its connections. Those end the process (assert()) when a peer says what was not asked for, look
/// names up by blocking, write so that a lost connection raises SIGPIPE, and keep what waits in one piece that is moved with each
/// write. And not its objects: of an array of three, which is what subscribers get, they would be eight allocations.
class redis_answers {
public:
    enum class kind { none, broken, status, error, integer, message, subscribed, unsubscribed };

    /// `most` bytes of a message are taken. Nothing: there are no messages.
    explicit redis_answers(std::size_t most) : most_{most}, reader_{::redisReaderCreateWithFunctions(functions())} {
        if (!reader_) throw std::bad_alloc{};
        reader_->privdata = this;
        reader_->maxbuf = 4 * slice;
    }
    redis_answers(const redis_answers&) = delete;
    redis_answers& operator=(const redis_answers&) = delete;

    /// At most so much at once: with each answer hiredis moves what is left.
    static constexpr std::size_t slice = std::size_t{16} * 1024;

    void feed(std::string_view bytes) { ::redisReaderFeed(reader_.get(), bytes.data(), bytes.size()); }

    /// The next one. None: more bytes are needed. Broken: for good, and text() is a sentence.
    kind next() {
        if (payload_.capacity() > large) payload_ = {};
        void* whole = nullptr;
        if (::redisReaderGetReply(reader_.get(), &whole) != REDIS_OK) {
            if (has_no_memory_) throw std::bad_alloc{};
            text_ = fault_ == nullptr ? reader_->errstr : fault_;
            return kind::broken;
        }
        if (whole != nullptr) return kind_;
        // A line is short, and the length of a text is a line.
        const std::string_view left{reader_->buf + reader_->pos, reader_->len - reader_->pos};
        if (left.size() > longest_line && left.substr(0, longest_line).find("\r\n") == left.npos) {
            text_ = "a line has no end";
            return kind::broken;
        }
        if (left.size() > most_ + longest_line) {
            text_ = too_large;
            return kind::broken;
        }
        return kind::none;
    }

    /// Of a status or an error the words, as far as they can be printed; and why it is broken.
    const std::string& text() const noexcept { return text_; }

    /// Of a message.
    const std::string& payload() const noexcept { return payload_; }

    /// Of `subscribed` and `unsubscribed` the channels that are subscribed to.
    long long number() const noexcept { return number_; }

private:
    static constexpr std::size_t longest_line = std::size_t{64} * 1024;
    static constexpr std::size_t large = std::size_t{1024} * 1024;
    static constexpr const char* too_large = "a message is larger than max_message_size";

    struct freeing {
        void operator()(::redisReader* r) const noexcept { ::redisReaderFree(r); }
    };

    // What hiredis keeps of a part. Nothing: it stops.
    void* made() noexcept { return this; }
    void* odd(const char* how = "it says what it was not asked") noexcept {
        fault_ = how;
        return nullptr;
    }

    static redis_answers& self(const ::redisReadTask* task) noexcept {
        return *static_cast<redis_answers*>(task->privdata);
    }

    void* add_text(const ::redisReadTask* task, std::string_view text) noexcept {
        try {
            if (task->parent == nullptr) {
                if (task->type == REDIS_REPLY_STRING) return odd();
                kind_ = task->type == REDIS_REPLY_ERROR ? kind::error : kind::status;
                text_ = text.substr(0, 200);
                for (auto& c : text_) {
                    if (c < 0x20 || c > 0x7E) c = '?';
                }
                return made();
            }
            if (task->type != REDIS_REPLY_STRING) return odd();
            if (task->idx == 0) {
                if (text == "message") {
                    kind_ = kind::message;
                } else if (text == "subscribe") {
                    kind_ = kind::subscribed;
                } else if (text == "unsubscribe") {
                    kind_ = kind::unsubscribed;
                } else {
                    return odd();
                }
            } else if (task->idx == 2) {
                if (kind_ != kind::message) return odd();
                if (text.size() > most_) return odd(too_large);
                payload_ = text;
            }
            return made();
        } catch (const std::bad_alloc&) {
            has_no_memory_ = true;
            return nullptr;
        }
    }

    void* add_number(const ::redisReadTask* task, long long number) noexcept {
        if (task->parent == nullptr) {
            kind_ = kind::integer;
        } else if (task->idx != 2 || kind_ == kind::message) {
            return odd();
        }
        number_ = number;
        return made();
    }

    // Their parameters differ between the versions of hiredis.
    static ::redisReplyObjectFunctions* functions() noexcept {
        static ::redisReplyObjectFunctions all = [] {
            ::redisReplyObjectFunctions f{};
            f.createString = [](const ::redisReadTask* task, char* text, std::size_t size) -> void* {
                return self(task).add_text(task, {text, size});
            };
            f.createArray = [](const ::redisReadTask* task, auto size) -> void* {
                auto& answers = self(task);
                return task->parent == nullptr && size == 3 && answers.most_ != 0 ? answers.made() : answers.odd();
            };
            f.createInteger = [](const ::redisReadTask* task, long long number) -> void* {
                return self(task).add_number(task, number);
            };
            // The channel of an answer to UNSUBSCRIBE may be none.
            f.createNil = [](const ::redisReadTask* task) -> void* {
                return task->parent != nullptr && task->idx == 1 ? self(task).made() : self(task).odd();
            };
            f.freeObject = [](void*) {};
            return f;
        }();
        return &all;
    }

    std::size_t most_;
    std::unique_ptr<::redisReader, freeing> reader_;
    kind kind_ = kind::none;
    const char* fault_ = nullptr;
    bool has_no_memory_ = false;
    long long number_ = 0;
    std::string text_;
    std::string payload_;
};

/// Commands that wait for the kernel, in pieces that are freed as it takes them.
class redis_commands {
public:
    /// Begins one of so many words, which follow.
    void begin(std::size_t words) { add_line('*', words); }
    void add(std::string_view word) {
        add_line('$', word.size());
        add_bytes(word);
        add_bytes("\r\n");
    }

    std::size_t size() const noexcept { return size_; }

    /// Without waiting, as much as the kernel takes.
    void write_to(redis_socket& socket, error_code& ec) {
        while (size_ != 0) {
            buffers_.clear();
            for (const auto& piece : pieces_) {
                if (buffers_.size() == most_buffers) break;
                buffers_.emplace_back(piece.data(), piece.size());
            }
            buffers_.front() += written_;
            const auto asked = io::asio::buffer_size(buffers_);
            const auto taken = socket.write_some(buffers_, ec);
            if (ec) return;
            take(taken);
            if (taken != asked) {
                ec = io::asio::error::would_block;
                return;
            }
        }
    }

private:
    static constexpr std::size_t piece_size = std::size_t{64} * 1024;
    static constexpr std::size_t most_buffers = 16;

    void add_line(char kind, std::size_t number) {
        std::array<char, 24> line;
        auto at = line.end();
        *--at = '\n';
        *--at = '\r';
        do *--at = static_cast<char>('0' + number % 10);
        while ((number /= 10) != 0);
        *--at = kind;
        add_bytes({&*at, static_cast<std::size_t>(line.end() - at)});
    }

    void add_bytes(std::string_view bytes) {
        if (pieces_.empty()) {
            pieces_.push_back(std::exchange(spare_, {}));
        } else if (!pieces_.back().empty() && pieces_.back().size() + bytes.size() > piece_size) {
            pieces_.emplace_back().reserve(std::max(piece_size, bytes.size()));
        }
        pieces_.back() += bytes;
        size_ += bytes.size();
    }

    void take(std::size_t bytes) {
        size_ -= bytes;
        for (bytes += written_; !pieces_.empty() && bytes >= pieces_.front().size(); pieces_.pop_front()) {
            bytes -= pieces_.front().size();
            if (pieces_.front().capacity() > 2 * piece_size) continue;
            spare_ = std::move(pieces_.front());
            spare_.clear();
        }
        written_ = bytes;
    }

    std::deque<std::string> pieces_;
    std::string spare_;
    std::size_t written_ = 0;  // of the first piece
    std::size_t size_ = 0;
    std::vector<io::asio::const_buffer> buffers_;
};

/// One of the two connections. Whoever works on it holds it: it may be dropped meanwhile.
struct redis_side {
    redis_side(bool s, std::size_t most) : is_subscriber{s}, answers{most} {}

    bool is_subscriber;
    bool is_ready = false;    // it has greeted
    bool is_posted = false;   // what waits goes out at the end of this turn
    bool is_waiting = false;  // until the kernel takes more
    bool is_dropped = false;
    std::shared_ptr<io::connector> connector;
    std::optional<redis_socket> socket;
    redis_answers answers;
    redis_commands commands;
    std::deque<const char*> asked;  // of the greeting, what is not answered yet
    core::millis heard = 0;         // the last time that it got on
};

using redis_side_ptr = std::shared_ptr<redis_side>;

/// What stands behind a redis_backplane, and is held by what it has under way.
///
///     attempt: both sides   connect, then AUTH, SELECT, PING ("greeting")
///              subscriber   then SUBSCRIBE to all channels, in batches
///     connected             when both have greeted and all of these are confirmed
///     broken                anything else than what was asked for: both sides are dropped; a random delay; attempt
class redis_link : public std::enable_shared_from_this<redis_link> {
public:
    redis_link(wire::redis_url at, const redis_config& settings)
        : at_{std::move(at)},
          timeout_{settings.connect_timeout.count()},
          most_{settings.max_message_size},
          again_{{.first = settings.reconnect_delay.count(), .most = settings.max_reconnect_delay.count()}} {}

    void start(io::asio::io_context& context, const cluster_executor& on, backplane_user& user) {
        if (context_ != nullptr || is_closed_) throw std::logic_error{"a redis_backplane is started once"};
        context_ = &context;
        strand_.emplace(on);
        user_ = &user;
        timer_.emplace(context);
        in_.resize(std::size_t{64} * 1024);
        io::asio::use_service<ending>(context).add(weak_from_this());
        attempt();
    }

    bool publish(std::string_view channel, std::string_view payload) {
        if (payload.size() > most_) return false;
        if (!is_connected_) {
            ++lost_;
            return true;
        }
        try {
            unanswered_.push_back(payload.size());
        } catch (const std::bad_alloc&) {
            ++lost_;
            return true;
        }
        try {
            auto& commands = publisher_->commands;
            commands.begin(3);
            commands.add("PUBLISH");
            commands.add(channel);
            commands.add(payload);
            waiting_ = commands.size();
            send(publisher_);
        } catch (const std::bad_alloc&) {
            spoil(publisher_);
        }
        return true;
    }

    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                   std::uint64_t number) {
        try {
            std::vector<std::string_view> gone;
            std::vector<std::string_view> come;
            for (const auto& each : removed) {
                if (channels_.erase(each) != 0) gone.push_back(each);
            }
            for (const auto& each : added) {
                if (channels_.insert(each).second) come.push_back(each);
            }
            ask("UNSUBSCRIBE", gone);
            ask("SUBSCRIBE", come);
            // Without a connection there may be any number of calls, and the last says all.
            if (!awaited_.empty() && awaited_.back().number && awaited_.back().at == asked_)
                awaited_.back().number = number;
            else
                awaited_.push_back({asked_, number});
        } catch (const std::bad_alloc&) {
            if (subscriber_) spoil(subscriber_);
            throw;
        }
        if (!is_connected_ || confirmed_ != asked_) return;
        io::asio::post(on_strand([](redis_link& self) { self.tell_subscribed(); }));
    }

    void reconnect() {
        if (!is_connected_) return;
        io::asio::post(on_strand([side = publisher_](redis_link& self) {
            if (!side->is_dropped)
                self.break_off("the connections with Redis at " + self.at_.place() +
                               " are made anew: they did not carry messages any more");
        }));
    }

    void close() noexcept {
        if (is_closed_) return;
        is_closed_ = true;
        if (is_connected_ && !publisher_->is_waiting) {
            try {
                error_code ignored;
                publisher_->commands.write_to(*publisher_->socket, ignored);
                // Where something is unread a socket is reset, with what it has sent.
                for (int some = 16; some != 0; --some) {
                    if (publisher_->socket->read_some(io::asio::buffer(in_), ignored) == 0) break;
                }
            } catch (const std::bad_alloc&) {
                // Then it is lost.
            }
        }
        drop();
        user_ = nullptr;
        timer_.reset();
        strand_.reset();  // must not outlive the io_context
    }

    std::size_t waiting() const noexcept { return waiting_; }

    backplane_counts counts() const noexcept {
        backplane_counts c;
        c.published = published_;
        c.published_bytes = published_bytes_;
        c.lost = lost_;
        c.received = received_;
        c.received_bytes = received_bytes_;
        c.round_trips = round_trips_;
        c.subscriptions = subscriptions_;
        c.connections = connections_;
        return c;
    }

private:
    /// An io_context that is destroyed closes those that were not closed before: what they hold of it must not outlive it.
    class ending final : public io::asio::execution_context::service {
    public:
        using key_type = ending;
        static inline io::asio::execution_context::id id;

        explicit ending(io::asio::execution_context& of) : service{of} {}

        void add(std::weak_ptr<redis_link> link) {
            const std::lock_guard lock{mutex_};
            std::erase_if(links_, [](const auto& each) { return each.expired(); });
            links_.push_back(std::move(link));
        }

    private:
        void shutdown() override {
            for (const auto& each : links_) {
                if (const auto link = each.lock()) link->close();
            }
        }

        std::mutex mutex_;
        std::vector<std::weak_ptr<redis_link>> links_;
    };

    /// Something that is in force when so many confirmations have come: a command, or a call of subscribe().
    struct awaited {
        std::uint64_t at;
        std::optional<std::uint64_t> number{};
    };

    static constexpr std::size_t batch = 500;
    static constexpr const char* no_memory = "no memory left";  // so short that std::string needs none

    static core::millis now() noexcept {
        return std::chrono::duration_cast<std::chrono::milliseconds>(
                   std::chrono::steady_clock::now().time_since_epoch())
            .count();
    }

    template <class F>
    io::strand_handler on_strand(F f) {
        return {*strand_, memory_, [self = shared_from_this(), f = std::move(f)](const error_code& ec) mutable {
                    self->guard([&] {
                        if constexpr (std::is_invocable_v<F&, redis_link&, const error_code&>) {
                            f(*self, ec);
                        } else {
                            f(*self);
                        }
                    });
                }};
    }

    template <class F>
    void guard(F f) {
        if (is_closed_) return;
        try {
            f();
        } catch (const std::bad_alloc&) {
            if (!is_closed_) break_off(no_memory);
        }
    }

    /// A command is there in part: no more of them goes out.
    void spoil(const redis_side_ptr& side) {
        side->is_waiting = true;
        io::asio::post(on_strand([side](redis_link& self) {
            if (!side->is_dropped) self.break_off(no_memory);
        }));
    }

    // --- Connecting ---

    void attempt() {
        subscriber_ = make_side(true);
        publisher_ = make_side(false);
        watch();
    }

    redis_side_ptr make_side(bool is_subscriber) {
        auto side = std::make_shared<redis_side>(is_subscriber, is_subscriber ? most_ : 0);
        side->heard = now();
        auto done = [link = weak_from_this(), of = std::weak_ptr{side}](io::connected what) {
            const auto self = link.lock();
            const auto connected = of.lock();
            if (!self || !connected || connected->is_dropped) return;
            self->guard([&] { self->on_connected(connected, std::move(what)); });
        };
        const io::connector_place place{*context_, *strand_};
        side->connector = at_.socket_path.empty()
                              ? io::connector::start(place, at_.at.host, at_.at.port, std::move(done))
                              : io::connector::start_unix(place, at_.socket_path, std::move(done));
        return side;
    }

    void on_connected(const redis_side_ptr& side, io::connected what) {
        side->connector.reset();
        if (what.error) return break_off(std::move(what.why));
        error_code ec;
        side->socket.emplace(*context_);
        // The family is for sockets that are opened by it.
        const auto native = what.socket->take();
        side->socket->assign({AF_UNSPEC, 0}, native, ec);
        if (ec) {
            io::close_socket(native);
        } else {
            side->socket->non_blocking(true, ec);
        }
        if (ec) return break_off("a socket for Redis cannot be used: " + ec.message());
        side->heard = now();
        const auto greet = [&](const char* command, std::initializer_list<std::string_view> words) {
            side->asked.push_back(command);
            side->commands.begin(words.size() + 1);
            side->commands.add(command);
            for (const auto word : words) side->commands.add(word);
        };
        if (!at_.user.empty()) {
            greet("AUTH", {at_.user, at_.password});
        } else if (!at_.password.empty()) {
            greet("AUTH", {at_.password});
        }
        if (at_.database != 0) greet("SELECT", {std::to_string(at_.database)});
        // Whether it is a Redis, and whether it has loaded what it keeps.
        greet("PING", {});
        send(side);
        read_from(side);
    }

    void on_greeted(const redis_side_ptr& side, redis_answers::kind answer) {
        using kind = redis_answers::kind;
        const std::string_view command = side->asked.front();
        const auto& text = side->answers.text();
        // A user that may not say PING was heard all the same.
        const bool may_not = command == "PING" && answer == kind::error && text.starts_with("NOPERM");
        if (answer == kind::error && !may_not) return break_off(refused(side->asked.front(), text));
        if (answer != kind::status && !may_not) return break_off(strange("it says what it was not asked"));
        ++round_trips_;
        side->asked.pop_front();
        if (!side->asked.empty()) return;
        side->is_ready = true;
        if (side->is_subscriber) {
            std::vector<std::string_view> all{channels_.begin(), channels_.end()};
            auto calls = std::exchange(awaited_, {});
            asked_ = confirmed_ = 0;
            ask("SUBSCRIBE", all);
            resubscribed_at_ = asked_;
            for (auto& call : calls) awaited_.push_back({asked_, call.number});
        }
        settle();
    }

    /// Whether that was all.
    void settle() {
        if (is_connected_ || !publisher_->is_ready || !subscriber_->is_ready || confirmed_ < resubscribed_at_) return;
        is_connected_ = true;
        ++connections_;
        again_.opened(now());
        told_.clear();
        user_->connected();
        tell_subscribed();
    }

    // --- Subscribing ---

    /// For some channels: a command for each batch. Nothing while there is no subscriber, who asks for all channels when it comes.
    void ask(const char* command, const std::vector<std::string_view>& channels) {
        if (!subscriber_ || !subscriber_->is_ready || channels.empty()) return;
        if (confirmed_ == asked_) subscriber_->heard = now();
        for (std::size_t from = 0; from != channels.size();) {
            const auto count = std::min(batch, channels.size() - from);
            subscriber_->commands.begin(count + 1);
            subscriber_->commands.add(command);
            for (std::size_t i = 0; i != count; ++i) subscriber_->commands.add(channels[from + i]);
            from += count;
            asked_ += count;
            awaited_.push_back({asked_});
        }
        send(subscriber_);
        watch();
    }

    void tell_subscribed() {
        if (!is_connected_) return;
        std::optional<std::uint64_t> number;
        while (!awaited_.empty() && awaited_.front().at <= confirmed_) {
            if (awaited_.front().number) {
                number = awaited_.front().number;
            } else {
                ++round_trips_;
            }
            awaited_.pop_front();
        }
        if (number) user_->subscribed(*number);
    }

    // --- Reading and writing ---

    /// What has been said in this turn goes out in one, when it is over.
    void send(const redis_side_ptr& side) {
        if (side->is_posted || side->is_waiting) return;
        side->is_posted = true;
        io::asio::post(on_strand([side](redis_link& self) {
            side->is_posted = false;
            self.write(side);
        }));
    }

    void write(const redis_side_ptr& side) {
        if (side->is_dropped || side->is_waiting) return;
        error_code ec;
        side->commands.write_to(*side->socket, ec);
        if (!side->is_subscriber) waiting_ = side->commands.size();
        if (!ec) return;
        if (!would_block(ec)) return break_off(broken(ec));
        side->is_waiting = true;
        side->socket->async_wait(redis_socket::wait_write, on_strand([side](redis_link& self, const error_code&) {
                                     side->is_waiting = false;
                                     self.write(side);
                                 }));
    }

    void read_from(const redis_side_ptr& side) {
        side->socket->async_wait(redis_socket::wait_read, on_strand([side](redis_link& self, const error_code&) {
                                     if (!side->is_dropped) self.read(side);
                                 }));
    }

    void read(const redis_side_ptr& side) {
        error_code ec;
        const auto size = side->socket->read_some(io::asio::buffer(in_), ec);
        if (ec && !would_block(ec)) return break_off(broken(ec));
        if (size != 0 && side->is_ready) side->heard = now();
        const backplane_user::burst together{*user_};
        for (std::string_view rest{in_.data(), size}; !rest.empty();) {
            side->answers.feed(rest.substr(0, redis_answers::slice));
            rest.remove_prefix(std::min(redis_answers::slice, rest.size()));
            for (;;) {
                const auto answer = side->answers.next();
                if (answer == redis_answers::kind::none) break;
                on_answer(side, answer);
                if (side->is_dropped) return;
            }
        }
        read_from(side);
    }

    void on_answer(const redis_side_ptr& side, redis_answers::kind answer) {
        using kind = redis_answers::kind;
        const auto& answers = side->answers;
        if (answer == kind::broken) return break_off(strange(answers.text()));
        if (!side->is_ready) {
            side->heard = now();
            return on_greeted(side, answer);
        }
        if (answer == kind::error)
            return break_off(refused(side->is_subscriber ? "SUBSCRIBE" : "PUBLISH", answers.text()));
        if (side->is_subscriber) {
            if (answer == kind::message) {
                ++received_;
                received_bytes_ += answers.payload().size();
                return user_->received(answers.payload());
            }
            if ((answer == kind::subscribed || answer == kind::unsubscribed) && confirmed_ != asked_) {
                ++confirmed_;
                subscriptions_ = static_cast<std::uint64_t>(answers.number());
                settle();
                return tell_subscribed();
            }
        } else if (answer == kind::integer && !unanswered_.empty()) {
            ++published_;
            published_bytes_ += unanswered_.front();
            return unanswered_.pop_front();
        }
        break_off(strange("it says what it was not asked"));
    }

    // --- The end of a connection ---

    static bool would_block(const error_code& ec) noexcept {
        return ec == io::asio::error::would_block || ec == io::asio::error::try_again;
    }

    std::string strange(const std::string& how) const {
        return "what answers at " + at_.place() + " does not speak as a Redis: " + how;
    }

    std::string broken(const error_code& ec) const {
        const bool is_ended = ec == io::asio::error::eof;
        if (!is_connected_ && (is_ended || ec == io::asio::error::connection_reset))
            return "Redis at " + at_.place() +
                   " has ended the connection before it was used; is it a Redis, and without TLS?";
        if (is_ended) return "Redis at " + at_.place() + " has ended the connection";
        return "the connection with Redis at " + at_.place() + " broke: " + ec.message();
    }

    std::string refused(const char* command, std::string_view text) const {
        auto sentence = "Redis at " + at_.place() + " refuses " + command + ": ";
        sentence += text;
        if (text.starts_with("NOAUTH")) {
            sentence += "; give it a password (redis://user:password@host, or redis_config::password)";
        } else if (text.starts_with("WRONGPASS")) {
            sentence += "; check user and password";
        } else if (text.starts_with("NOPERM")) {
            sentence += "; this user needs &* +publish +subscribe +unsubscribe";
        }
        return sentence;
    }

    void drop() noexcept {
        for (auto* const side : {&publisher_, &subscriber_}) {
            if (!*side) continue;
            (*side)->is_dropped = true;
            if ((*side)->connector) (*side)->connector->cancel();
            (*side)->socket.reset();
            side->reset();
        }
        lost_ += unanswered_.size();
        unanswered_.clear();
        waiting_ = 0;
        subscriptions_ = 0;
        is_connected_ = false;
    }

    /// Needs no memory.
    void break_off(std::string why) {
        const bool was_connected = is_connected_;
        drop();
        // The calls wait for the next connection.
        std::erase_if(awaited_, [](const awaited& each) { return !each.number; });
        asked_ = confirmed_ = 0;
        const auto delay = again_.next(now(), random_());
        set_timer(now() + *delay, [](redis_link& self) { self.attempt(); });
        if (!was_connected && why == told_) return;
        told_ = std::move(why);
        user_->disconnected(told_);
    }

    // --- Time ---

    /// Looks after what must get on: connecting, greeting, subscribing.
    void watch() {
        if (is_watching_ || !subscriber_) return;
        const auto is_awaited = [&](const redis_side_ptr& side) {
            return !side->is_ready || (side->is_subscriber && confirmed_ != asked_);
        };
        std::optional<core::millis> first;
        for (const auto& side : {publisher_, subscriber_}) {
            if (is_awaited(side)) first = std::min(first.value_or(side->heard), side->heard);
        }
        if (!first) return;
        if (now() - *first >= timeout_) {
            return break_off("Redis at " + at_.place() + " has not answered for " + std::to_string(timeout_) +
                             " ms; is it running, and is that its address?");
        }
        set_timer(*first + timeout_, [](redis_link& self) {
            self.is_watching_ = false;
            self.watch();
        });
        is_watching_ = true;
    }

    template <class F>
    void set_timer(core::millis at, F f) {
        is_watching_ = false;
        timer_->expires_at(std::chrono::steady_clock::time_point{std::chrono::milliseconds{at}});
        timer_->async_wait(on_strand([f, round = ++round_](redis_link& self, const error_code& ec) {
            if (!ec && round == self.round_) f(self);
        }));
    }

    const wire::redis_url at_;
    const core::millis timeout_;
    const std::size_t most_;

    // So that there is always some to try again.
    const boost::intrusive_ptr<io::handler_memory> memory_{new io::handler_memory};
    io::asio::io_context* context_ = nullptr;
    std::optional<cluster_executor> strand_;
    backplane_user* user_ = nullptr;
    std::optional<io::own_timer> timer_;
    std::uint32_t round_ = 0;   // of the timer: what is over may have been under way already
    bool is_watching_ = false;  // it is set by watch()
    bool is_connected_ = false;
    bool is_closed_ = false;
    redis_side_ptr publisher_;  // both or none
    redis_side_ptr subscriber_;
    std::vector<char> in_;
    std::string told_;  // by the last disconnected(), since the last connected()

    core::reconnection again_;
    std::random_device random_;

    std::unordered_set<std::string, arke::detail::keyed_hash, std::equal_to<>> channels_;  // as the user wants them
    std::deque<awaited> awaited_;
    std::uint64_t asked_ = 0;  // confirmations, of this connection
    std::uint64_t confirmed_ = 0;
    std::uint64_t resubscribed_at_ = 0;
    std::deque<std::size_t> unanswered_;  // of what is published, the sizes

    std::atomic<std::size_t> waiting_{0};
    std::atomic<std::uint64_t> published_{0};
    std::atomic<std::uint64_t> published_bytes_{0};
    std::atomic<std::uint64_t> lost_{0};
    std::atomic<std::uint64_t> received_{0};
    std::atomic<std::uint64_t> received_bytes_{0};
    std::atomic<std::uint64_t> round_trips_{0};
    std::atomic<std::uint64_t> subscriptions_{0};
    std::atomic<std::uint64_t> connections_{0};
};

}  // namespace arke::detail

namespace arke {

inline redis_backplane::redis_backplane(redis_config settings) {
    std::string why;
    auto at = wire::parse_redis(settings.url, why);
    if (!at) throw std::invalid_argument{"redis_config::url cannot be used: " + why};
    if (!settings.username.empty()) at->user = settings.username;
    if (!settings.password.empty()) at->password = settings.password;
    if (!at->user.empty() && at->password.empty())
        throw std::invalid_argument{"redis_config::username has no password; set redis_config::password, too"};
    if (settings.connect_timeout.count() <= 0)
        throw std::invalid_argument{"redis_config::connect_timeout is none; 3 seconds are usual"};
    if (settings.reconnect_delay.count() <= 0 || settings.max_reconnect_delay < settings.reconnect_delay) {
        throw std::invalid_argument{
            "redis_config::reconnect_delay must be more than nothing, and max_reconnect_delay not below it"};
    }
    if (settings.max_message_size == 0)
        throw std::invalid_argument{"redis_config::max_message_size is nothing: no message would be sent"};
    link_ = std::make_shared<detail::redis_link>(std::move(*at), settings);
}

inline redis_backplane::~redis_backplane() { close(); }

inline void redis_backplane::start(boost::asio::io_context& context, const cluster_executor& on, backplane_user& user) {
    link_->start(context, on, user);
}

inline bool redis_backplane::publish(std::string_view channel, std::string_view payload) {
    return link_->publish(channel, payload);
}

inline void redis_backplane::subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                                       std::uint64_t number) {
    link_->subscribe(added, removed, number);
}

inline void redis_backplane::reconnect() { link_->reconnect(); }

inline void redis_backplane::close() noexcept {
    if (link_) link_->close();
}

inline std::size_t redis_backplane::waiting() const noexcept { return link_->waiting(); }

inline backplane_counts redis_backplane::counts() const noexcept { return link_->counts(); }

}  // namespace arke
