#pragma once

#include <arke/base/compile.hpp>
#include <arke/core/hub.hpp>
#include <arke/core/reconnection.hpp>
#include <arke/wire/request.hpp>
#include <arke/wire/url.hpp>

#include <nats/nats.h>

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace arke::cluster {

// --- Settings -------------------------------------------------------------------------------------------------------

/// One server of NATS, and how it lets us in.
struct nats_server {
    wire::host_and_port at;
    bool secure = false;
    std::string user{}, password{}, token{};
    std::string certificate_name{};

    std::string url() const { return "nats://" + at.text(); }
};

struct nats_settings {
    nats_config config;
    std::vector<nats_server> servers;
};

inline nats_server read_nats_server(std::string_view text, const nats_config& config) {
    // Without what stands before an '@': that may be a password.
    const auto refuse = [&](const std::string& why) {
        const auto shown = text.find('@') == text.npos ? "\"" + std::string{text} + "\"" : "A URL with a password";
        throw std::invalid_argument{"arke::nats_backplane: " + shown + " is no URL of NATS: " + why};
    };
    nats_server server{.at = {}, .secure = config.tls.required};
    auto rest = text;
    if (wire::same_ignoring_case(rest.substr(0, 7), "nats://")) {
        rest.remove_prefix(7);
    } else if (wire::same_ignoring_case(rest.substr(0, 6), "tls://")) {
        rest.remove_prefix(6);
        server.secure = true;
    } else {
        refuse("it does not begin with nats:// or tls://");
    }
    if (const auto end = rest.rfind('@'); end != rest.npos) {
        const auto who = rest.substr(0, end);
        const auto colon = who.find(':');
        if (who.empty()) refuse("nothing stands before the '@'");
        if (colon == who.npos) {
            server.token = wire::percent_decoded(who);
        } else {
            server.user = wire::percent_decoded(who.substr(0, colon));
            server.password = wire::percent_decoded(who.substr(colon + 1));
        }
        rest.remove_prefix(end + 1);
    } else {
        server.user = config.username;
        server.password = config.password;
        server.token = config.token;
    }
    if (rest.ends_with('/')) rest.remove_suffix(1);
    if (rest.find_first_of("/?#") != rest.npos) refuse("nothing follows the port");
    const auto behind_host = rest.starts_with('[') ? rest.find(']') : 0;
    const bool has_port = rest.find(':', behind_host == rest.npos ? 0 : behind_host) != rest.npos;
    std::string why;
    const auto parsed = wire::parse_url("ws://" + std::string{rest} + (has_port ? "" : ":4222"), why);
    if (!parsed) refuse(why);
    server.at = parsed->at;
    server.certificate_name = config.tls.server_name.empty() ? server.at.host : config.tls.server_name;
    return server;
}

inline std::shared_ptr<const nats_settings> read_nats_settings(nats_config config) {
    const auto refuse = [](const std::string& why) { throw std::invalid_argument{"arke::nats_config: " + why}; };
    const auto& c = config;
    const auto with_nul = [](const std::string& text) { return text.find('\0') != text.npos; };
    if (!c.token.empty() && !(c.username.empty() && c.password.empty()))
        refuse("it has a token and a username or password; leave one of them empty");
    if (!c.password.empty() && c.username.empty())
        refuse("it has a password and no username; set username, or use token");
    if (!c.credentials_file.empty() && !(c.username.empty() && c.token.empty()))
        refuse("it has a credentials_file and a username or token; leave one of them empty");
    if (!c.tls.ca.empty() && !c.tls.ca_file.empty()) refuse("tls has both ca_file and ca; leave one of them empty");
    if (c.tls.certificate_file.empty() != c.tls.key_file.empty())
        refuse("tls needs both certificate_file and key_file, or none of them");
    for (const auto* text : {&c.url, &c.username, &c.password, &c.token, &c.name, &c.credentials_file}) {
        if (with_nul(*text)) refuse("a text of it holds a NUL");
    }
    if (c.connect_timeout.count() < 1 || c.answer_timeout.count() < 1)
        refuse("connect_timeout and answer_timeout must be longer than nothing");
    if (c.reconnect_delay.count() < 1 || c.max_reconnect_delay < c.reconnect_delay)
        refuse("reconnect_delay must be longer than nothing, and not longer than max_reconnect_delay");
    std::vector<nats_server> servers;
    std::string_view rest = c.url;
    while (true) {
        auto one = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(one.size() + 1, rest.size()));
        const bool is_last = one.data() + one.size() == c.url.data() + c.url.size();
        while (one.starts_with(' ')) one.remove_prefix(1);
        while (one.ends_with(' ')) one.remove_suffix(1);
        servers.push_back(read_nats_server(one, c));
        const auto& s = servers.back();
        if (with_nul(s.user) || with_nul(s.password) || with_nul(s.token)) refuse("a text of its URL holds a NUL");
        if (is_last) break;
    }
    return std::make_shared<const nats_settings>(nats_settings{std::move(config), std::move(servers)});
}

// --- Tools ----------------------------------------------------------------------------------------------------------

/// As it may stand in a string of JSON: nats.c puts names and passwords there as they are.
inline std::string json_escaped(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (byte < 0x20) {
            out += "\\u00";
            out += digits[byte >> 4U];
            out += digits[byte & 15U];
        } else {
            out += c;
        }
    }
    return out;
}

/// Wakes a thread that polls.
class wakeup {
public:
    wakeup() {
        if (::pipe(ends_) != 0) throw std::system_error{errno, std::generic_category(), "arke::nats_backplane: pipe"};
        for (const int end : ends_) {
            ::fcntl(end, F_SETFD, FD_CLOEXEC);
            ::fcntl(end, F_SETFL, O_NONBLOCK);
        }
    }
    wakeup(const wakeup&) = delete;
    wakeup& operator=(const wakeup&) = delete;
    ~wakeup() {
        ::close(ends_[0]);
        ::close(ends_[1]);
    }

    int descriptor() const noexcept { return ends_[0]; }

    void wake() noexcept { [[maybe_unused]] const auto full_is_fine = ::write(ends_[1], "", 1); }

    void forget() noexcept {
        char some[64];
        while (::read(ends_[0], some, sizeof some) == static_cast<ssize_t>(sizeof some)) {
        }
    }

    /// Negative: without an end. False: the time is over.
    bool wait(core::millis time) noexcept {
        pollfd one{ends_[0], POLLIN, 0};
        const auto ready = ::poll(&one, 1, static_cast<int>(std::clamp<core::millis>(time, -1, INT_MAX)));
        if (ready > 0) forget();
        return ready != 0;
    }

private:
    int ends_[2]{-1, -1};
};

/// Threads that are made meanwhile get no signals: those are for the program's own.
class without_signals {
public:
    without_signals() noexcept {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_BLOCK, &all, &before_);
    }
    without_signals(const without_signals&) = delete;
    without_signals& operator=(const without_signals&) = delete;
    ~without_signals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_{};
};

struct nats_options_end {
    void operator()(natsOptions* o) const noexcept { natsOptions_Destroy(o); }
};
using nats_options = std::unique_ptr<natsOptions, nats_options_end>;

struct nats_connection_end {
    void operator()(natsConnection* c) const noexcept { natsConnection_Destroy(c); }
};
using nats_connection = std::unique_ptr<natsConnection, nats_connection_end>;

/// nats.c's own words, without the line of its source.
inline std::string nats_error_text(natsStatus status) {
    natsStatus last = NATS_OK;
    const char* const said = nats_GetLastError(&last);
    const std::string_view text = last == status && said != nullptr ? said : "";
    const auto from = text.starts_with('(') ? text.find("): ") : text.npos;
    const auto rest = from == text.npos ? text : text.substr(from + 3);
    return rest.empty() ? natsStatus_GetText(status) : std::string{rest};
}

class nats_link;

/// Connections by number: nats.c may report errors of one that is gone.
class nats_connections {
public:
    static std::uintptr_t add(std::weak_ptr<nats_link> link) {
        auto& all = instance();
        const std::lock_guard lock{all.mutex_};
        const auto id = ++all.last_;
        all.all_[id].link = std::move(link);
        return id;
    }
    static void forget(std::uintptr_t id) {
        auto& all = instance();
        const std::lock_guard lock{all.mutex_};
        all.all_.erase(id);
    }
    static std::shared_ptr<nats_link> find(std::uintptr_t id) {
        auto& all = instance();
        const std::lock_guard lock{all.mutex_};
        const auto found = all.all_.find(id);
        return found == all.all_.end() ? nullptr : found->second.link.lock();
    }
    static void has_socket(std::uintptr_t id, ino_t socket) {
        auto& all = instance();
        const std::lock_guard lock{all.mutex_};
        all.all_[id].socket = socket;
    }
    static bool has(ino_t socket) {
        auto& all = instance();
        const std::lock_guard lock{all.mutex_};
        return std::any_of(all.all_.begin(), all.all_.end(),
                           [&](const auto& each) { return each.second.socket == socket; });
    }

private:
    struct entry {
        std::weak_ptr<nats_link> link{};
        ino_t socket = 0;
    };

    /// Never destroyed: threads of nats.c may outlive the objects of the program.
    static nats_connections& instance() {
        static auto* const one = new nats_connections;
        return *one;
    }

    std::mutex mutex_;
    std::unordered_map<std::uintptr_t, entry> all_;
    std::uintptr_t last_ = 0;
};

// --- The link -------------------------------------------------------------------------------------------------------

/// The connection to NATS, again and again.
///
/// nats.c runs with an "external event loop": the thread run(). So it starts no threads for a connection, publishing only
/// appends to a buffer, and the socket is known, which makes it possible to end a connection from outside, whatever nats.c
/// is waiting for. Each connection is a new object: nats.c 3.4 cannot be asked to reconnect, and what it buffers meanwhile
/// would be sent to the next server. Answers (PONG) can only be waited for by blocking: that is what the thread ask() does.
///
/// Locks: told_ before state_, and no call of nats.c under either.
class nats_link : public std::enable_shared_from_this<nats_link> {
public:
    nats_link(std::shared_ptr<const nats_settings> settings, backplane_user& user)
        : settings_{std::move(settings)},
          user_{&user},
          reconnection_{{.first = settings_->config.reconnect_delay.count(),
                         .most = settings_->config.max_reconnect_delay.count(),
                         .lasted = 5'000}} {
        for (const auto& server : settings_->servers) make_options(server, 0);  // throws for a file that cannot be read
    }

    void start();

    bool publish(std::string_view channel, std::string_view payload);
    void subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                   std::uint64_t number);
    void break_off(std::string_view why) noexcept;
    template <class F>
    void break_off_saying(F why) noexcept;
    void close() noexcept;
    void wait_for_end() noexcept;
    void end_alone() noexcept { runner_.detach(); }

    std::size_t waiting() const noexcept {
        return queued_.load(std::memory_order_relaxed) + buffered_.load(std::memory_order_relaxed);
    }

    backplane_counts counts() const noexcept {
        const std::lock_guard lock{state_};
        auto now = counts_;
        now.received = received_.load(std::memory_order_relaxed);
        now.received_bytes = received_bytes_.load(std::memory_order_relaxed);
        return now;
    }

    // What nats.c calls.
    void received(std::string_view payload) noexcept;
    natsStatus attached(natsSock socket) noexcept;
    void wants_to_write() noexcept {
        if (std::this_thread::get_id() != run_id_) to_run_.wake();
    }

private:
    using clock = std::chrono::steady_clock;

    struct order {
        std::vector<std::string> added, removed;
        std::uint64_t number;
    };

    /// How far a connection has come.
    struct progress {
        std::uint64_t messages = 0;  ///< Given to nats.c.
        std::uint64_t bytes = 0;
        std::uint64_t number = 0;  ///< Of the last order that was followed.
    };

    enum class stage { connecting, connected, pausing };

    // The thread of the connection.
    void run() noexcept;
    nats_options make_options(const nats_server& server, std::uintptr_t number) const;
    nats_connection connect_to_one(std::string& why);
    nats_connection connect(const nats_server& server, std::string& why);
    void live(natsConnection* c);
    void serve(natsConnection* c);
    void try_to_connect(std::string& told_last);
    std::string why_it_ended(natsConnection* c) const;
    bool take();
    void follow(natsConnection* c);
    void subscribe_to(natsConnection* c, const std::string& channel);
    void hand_on(natsConnection* c);
    void write_out(natsConnection* c, bool& blocked);
    void say_goodbye(natsConnection* c);
    bool has_come_to(bool nats_link::*what, core::millis time) noexcept;
    void come_to(bool nats_link::*what) noexcept;
    void end(natsConnection* c) noexcept;
    void forget_socket() noexcept;
    void tell_lost(const std::string& why);
    void pause(core::millis time);
    void learn_servers(natsConnection* c);
    std::string describe(natsStatus status, const nats_server& server) const;
    bool is_closing() const {
        const std::lock_guard lock{state_};
        return closing_;
    }
    bool has_sent_all() const noexcept { return sending_chunk_ == sending_.size(); }
    void look_at_buffer(natsConnection* c) noexcept {
        in_buffer_ = static_cast<std::size_t>(std::max(0, natsConnection_Buffered(c)));
        buffered_.store(in_buffer_, std::memory_order_relaxed);
    }

    // The thread of the answers.
    void ask() noexcept;
    void answered(const progress& p);
    int bytes_on_their_way() const noexcept;
    void free_a_stuck_one() const noexcept;

    static core::millis now() noexcept {
        return std::chrono::duration_cast<std::chrono::milliseconds>(clock::now().time_since_epoch()).count();
    }

    static constexpr const char* no_memory = "no memory left";  // so short that std::string needs none
    static constexpr std::size_t chunk_size = 65'536;
    static constexpr std::size_t high_water = 65'536;

    const std::shared_ptr<const nats_settings> settings_;

    /// Held while the user is told something.
    std::mutex told_;
    backplane_user* user_;
    bool said_connected_ = false;
    std::uint64_t said_subscribed_ = 0;
    core::millis connected_at_ = 0;

    mutable std::mutex state_;
    stage stage_ = stage::pausing;
    bool closing_ = false;
    bool open_ = false;  ///< What is published goes out.
    std::vector<std::string> published_;
    std::uint64_t taken_ = 0;  ///< Messages, since it is open.
    std::vector<order> orders_;
    bool run_is_awake_ = false;
    int socket_ = -1;  ///< A duplicate of nats.c's.
    std::string why_;  ///< It was broken off.
    backplane_counts counts_;
    progress given_, confirmed_;
    natsConnection* asked_ = nullptr;  ///< Who can be asked.
    bool ask_now_ = false;
    bool asking_ = false;
    bool asker_ends_ = false;
    bool has_handed_on_ = false, is_over_ = false;  ///< What wait_for_end() waits for.
    core::millis attempt_ends_ = 0;                 ///< When nats.c ought to have given up connecting.
    int expected_socket_ = -1;                      ///< The number that its socket has, most likely.
    std::uint16_t expected_port_ = 0;

    std::atomic<std::size_t> queued_{0}, buffered_{0}, largest_{0};
    std::atomic<std::uint64_t> received_{0}, received_bytes_{0};
    std::atomic<std::uint64_t> moved_{0};  ///< Grows when something comes, or when a full socket has room again.

    wakeup to_run_, to_ask_, asker_rests_, to_close_;

    // Of run() alone.
    std::thread::id run_id_;
    std::vector<order> following_;  ///< What is left of it, where memory was missing, is followed later.
    std::uintptr_t connection_ = 0;
    core::string_map<natsSubscription*> channels_;
    std::uint64_t number_ = 0;
    std::vector<std::string> sending_;
    std::size_t sending_chunk_ = 0, sending_at_ = 0;
    std::size_t in_buffer_ = 0;
    std::vector<nats_server> told_of_;  ///< By the servers themselves.
    std::string last_place_;
    core::reconnection reconnection_;
    std::minstd_rand chance_{std::random_device{}()};

    std::thread runner_, asker_;
};

// --- What the backplane asks of it ---

/// A message waits as: size of the channel, size of the payload, channel, NUL, payload.
inline bool nats_link::publish(std::string_view channel, std::string_view payload) {
    if (payload.size() > largest_.load(std::memory_order_relaxed)) return false;
    const std::uint32_t sizes[2]{static_cast<std::uint32_t>(channel.size()),
                                 static_cast<std::uint32_t>(payload.size())};
    const auto size = sizeof sizes + channel.size() + 1 + payload.size();
    const std::lock_guard lock{state_};
    if (!open_) {
        // It was lost just now, and the user has not heard it yet.
        ++counts_.lost;
        return true;
    }
    if (published_.empty() ||
        (!published_.back().empty() && published_.back().capacity() - published_.back().size() < size))
        published_.emplace_back();
    auto& chunk = published_.back();
    if (chunk.empty()) chunk.reserve(std::max(size, chunk_size));
    chunk.append(reinterpret_cast<const char*>(sizes), sizeof sizes);
    chunk.append(channel);
    chunk += '\0';
    chunk.append(payload);
    ++taken_;
    queued_.fetch_add(channel.size() + payload.size(), std::memory_order_relaxed);
    if (!std::exchange(run_is_awake_, true)) to_run_.wake();
    return true;
}

inline void nats_link::subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                                 std::uint64_t number) {
    const std::lock_guard lock{state_};
    orders_.push_back({added, removed, number});
    to_run_.wake();
}

/// Any thread. Whatever nats.c is doing with the socket comes back with an error. Without memory for the sentence that `why` makes
/// it is broken off all the same.
template <class F>
void nats_link::break_off_saying(F why) noexcept {
    try {
        break_off(why());
    } catch (const std::bad_alloc&) {
        break_off(no_memory);
    }
}

inline void nats_link::break_off(std::string_view why) noexcept {
    const std::lock_guard lock{state_};
    if (socket_ == -1) return;
    try {
        if (why_.empty()) why_ = why;
    } catch (const std::bad_alloc&) {
    }
    ::shutdown(socket_, SHUT_RDWR);
}

inline void nats_link::start() {
    asker_ = std::thread{[self = shared_from_this()] { self->ask(); }};
    try {
        runner_ = std::thread{[self = shared_from_this()] { self->run(); }};
    } catch (...) {
        {
            const std::lock_guard lock{state_};
            asker_ends_ = true;
        }
        to_ask_.wake();
        asker_.join();
        throw;
    }
}

inline void nats_link::close() noexcept {
    {
        const std::lock_guard lock{told_};
        user_ = nullptr;
    }
    {
        const std::lock_guard lock{state_};
        closing_ = true;
        open_ = false;
    }
    to_run_.wake();
    to_ask_.wake();
}

/// After close(), and not on a loop.
inline void nats_link::wait_for_end() noexcept {
    if (!runner_.joinable()) return;
    const bool is_connecting = [&] {
        const std::lock_guard lock{state_};
        return stage_ == stage::connecting;
    }();
    // While it waits for a server, for TLS or for a name to be resolved, nobody waits for it: it ends by itself. So it does
    // where it has many subscriptions to take apart.
    if (!is_connecting && !has_come_to(&nats_link::has_handed_on_, 300)) break_off("closed");
    if (!is_connecting && has_come_to(&nats_link::is_over_, 50)) {
        runner_.join();
    } else {
        runner_.detach();
    }
}

inline bool nats_link::has_come_to(bool nats_link::*what, core::millis time) noexcept {
    for (const auto end = now() + time;;) {
        {
            const std::lock_guard lock{state_};
            if (this->*what) return true;
        }
        const auto left = end - now();
        if (left <= 0) return false;
        to_close_.wait(left);
    }
}

inline void nats_link::come_to(bool nats_link::*what) noexcept {
    {
        const std::lock_guard lock{state_};
        this->*what = true;
    }
    to_close_.wake();
}

// --- What nats.c calls ---

inline void nats_link::received(std::string_view payload) noexcept {
    received_.fetch_add(1, std::memory_order_relaxed);
    received_bytes_.fetch_add(payload.size(), std::memory_order_relaxed);
    try {
        const std::lock_guard lock{told_};
        if (user_ != nullptr) user_->received(payload);
    } catch (const std::exception& e) {
        break_off(e.what());  // a message was missed
    }
}

/// Inside natsConnection_Connect(), when the server has let us in.
inline natsStatus nats_link::attached(natsSock socket) noexcept {
    const int copy = ::fcntl(socket, F_DUPFD_CLOEXEC, 0);
    struct stat about {};
    if (copy == -1 || ::fstat(copy, &about) != 0) return NATS_SYS_ERROR;
    ::fcntl(socket, F_SETFD, FD_CLOEXEC);
    nats_connections::has_socket(connection_, about.st_ino);
    const std::lock_guard lock{state_};
    socket_ = copy;
    return NATS_OK;
}

namespace nats_calls {

inline natsStatus attach(void** data, void* loop, natsConnection*, natsSock socket) {
    *data = loop;
    return static_cast<nats_link*>(loop)->attached(socket);
}
inline natsStatus poll_for_reading(void*, bool) { return NATS_OK; }
inline natsStatus poll_for_writing(void* data, bool add) {
    if (add) static_cast<nats_link*>(data)->wants_to_write();
    return NATS_OK;
}
inline natsStatus detach(void*) { return NATS_OK; }

inline void failed(natsConnection*, natsSubscription*, natsStatus status, void* number) {
    const auto link = nats_connections::find(reinterpret_cast<std::uintptr_t>(number));
    if (!link) return;
    if (status == NATS_SLOW_CONSUMER) {
        link->break_off("more messages of a channel waited for this process than may, and some were dropped");
    } else {
        link->break_off_saying([&] { return "NATS says: " + nats_error_text(status); });
    }
}

inline void received(natsConnection*, natsSubscription*, natsMsg* message, void* link) {
    const auto size = static_cast<std::size_t>(natsMsg_GetDataLength(message));
    (*static_cast<std::shared_ptr<nats_link>*>(link))->received({natsMsg_GetData(message), size});
    natsMsg_Destroy(message);
}

/// The last call of a subscription.
inline void complete(void* link) { delete static_cast<std::shared_ptr<nats_link>*>(link); }

}  // namespace nats_calls

// --- The thread of the connection ---

inline void nats_link::run() noexcept {
    run_id_ = std::this_thread::get_id();
    std::string told_last;
    while (!is_closing()) {
        try {
            try_to_connect(told_last);
        } catch (const std::bad_alloc&) {
            forget_socket();
            tell_lost(no_memory);
        }
        if (is_closing()) break;
        pause(reconnection_.next(now(), static_cast<std::uint32_t>(chance_()) << 1U).value_or(0));
    }
    {
        const std::lock_guard lock{state_};
        asker_ends_ = true;
    }
    to_ask_.wake();
    asker_.join();
    come_to(&nats_link::has_handed_on_);
    come_to(&nats_link::is_over_);
}

/// To whichever server there is, and for as long as it lasts.
inline void nats_link::try_to_connect(std::string& told_last) {
    std::string why;
    if (const auto connection = connect_to_one(why)) {
        told_last.clear();
        live(connection.get());
    } else if (why != told_last) {
        tell_lost(why);
        told_last = std::move(why);
    }
}

inline nats_options nats_link::make_options(const nats_server& server, std::uintptr_t number) const {
    const auto& config = settings_->config;
    const auto need = [](natsStatus status, std::string_view what) {
        if (status == NATS_OK) return;
        throw std::invalid_argument{"arke::nats_backplane: " + std::string{what} + ": " + nats_error_text(status)};
    };
    natsOptions* made = nullptr;
    need(natsOptions_Create(&made), "nats.c does not start");
    nats_options options{made};
    auto* const o = made;
    need(natsOptions_SetURL(o, server.url().c_str()), "the URL is none for nats.c");
    // A connection is used once, and we are its loop.
    need(natsOptions_SetAllowReconnect(o, false), "options");
    need(natsOptions_SetEventLoop(o, const_cast<nats_link*>(this), &nats_calls::attach, &nats_calls::poll_for_reading,
                                  &nats_calls::poll_for_writing, &nats_calls::detach),
         "options");
    need(natsOptions_SetSendAsap(o, true), "options");    // no thread that flushes
    need(natsOptions_SetPingInterval(o, 0), "options");   // no thread but ours that closes the socket; ask() pings
    need(natsOptions_SetWriteDeadline(o, 0), "options");  // it counts from the last message that was appended
    need(natsOptions_SetIOBufSize(o, static_cast<int>(high_water)), "options");
    need(natsOptions_UseGlobalMessageDelivery(o, true), "options");  // not a thread for each channel
    need(natsOptions_SetMaxPendingMsgs(o, 65'536), "options");       // and 1 KiB times that many
    need(natsOptions_SetErrorHandler(o, &nats_calls::failed, reinterpret_cast<void*>(number)), "options");
    need(natsOptions_SetTimeout(o, config.connect_timeout.count()), "connect_timeout");
    need(natsOptions_SetName(o, json_escaped(config.name).c_str()), "name");
    if (!server.token.empty()) {
        need(natsOptions_SetToken(o, json_escaped(server.token).c_str()), "token");
    } else if (!server.user.empty()) {
        need(natsOptions_SetUserInfo(o, json_escaped(server.user).c_str(), json_escaped(server.password).c_str()),
             "user and password");
    } else if (const auto& file = config.credentials_file; !file.empty()) {
        if (::access(file.c_str(), R_OK) != 0) need(NATS_NOT_FOUND, "credentials_file " + file + " cannot be read");
        need(natsOptions_SetUserCredentialsFromFiles(o, file.c_str(), nullptr), "credentials_file");
    }
    const auto& tls = config.tls;
    if (server.secure || !(tls == nats_tls_config{})) {
        if (server.secure) need(natsOptions_SetSecure(o, true), "TLS");
        if (!tls.ca_file.empty()) need(natsOptions_LoadCATrustedCertificates(o, tls.ca_file.c_str()), "tls.ca_file");
        if (!tls.ca.empty()) need(natsOptions_SetCATrustedCertificates(o, tls.ca.c_str()), "tls.ca");
        if (!tls.certificate_file.empty())
            need(natsOptions_LoadCertificatesChain(o, tls.certificate_file.c_str(), tls.key_file.c_str()),
                 "tls.certificate_file and tls.key_file");
        need(natsOptions_SetExpectedHostname(o, server.certificate_name.c_str()), "tls.server_name");
        need(natsOptions_SkipServerVerification(o, !tls.verify), "tls.verify");
    }
    return options;
}

/// Tries each server once, the last one last. `why` has a sentence for each.
inline nats_connection nats_link::connect_to_one(std::string& why) {
    auto servers = settings_->servers;
    for (const auto& each : told_of_) {
        const auto is_it = [&](const nats_server& s) { return s.at.text() == each.at.text(); };
        if (std::none_of(servers.begin(), servers.end(), is_it)) servers.push_back(each);
    }
    std::shuffle(servers.begin(), servers.end(), chance_);
    std::stable_partition(servers.begin(), servers.end(),
                          [&](const nats_server& s) { return s.at.text() != last_place_; });
    for (const auto& server : servers) {
        if (is_closing()) return {};
        try {
            if (auto connection = connect(server, why)) return connection;
        } catch (const std::exception& e) {
            why += (why.empty() ? "" : "; ") + std::string{e.what()};
        }
        forget_socket();
    }
    return {};
}

inline nats_connection nats_link::connect(const nats_server& server, std::string& why) {
    connection_ = nats_connections::add(weak_from_this());
    const auto options = make_options(server, connection_);
    const auto& config = settings_->config;
    auto place = server.at.text();
    {
        // The lowest number that is free is what the next socket gets.
        const int lowest = ::fcntl(to_run_.descriptor(), F_DUPFD_CLOEXEC, 0);
        if (lowest != -1) ::close(lowest);
        const std::lock_guard lock{state_};
        if (closing_) return {};
        stage_ = stage::connecting;
        attempt_ends_ = now() + config.connect_timeout.count() + 100;
        expected_socket_ = lowest;
        expected_port_ = server.at.port;
        why_.clear();
    }
    to_ask_.wake();
    natsConnection* made = nullptr;
    const auto status = natsConnection_Connect(&made, options.get());
    nats_connection connection{made};
    {
        const std::lock_guard lock{state_};
        stage_ = status == NATS_OK ? stage::connected : stage::pausing;
    }
    if (status == NATS_OK) {
        last_place_ = std::move(place);
        return connection;
    }
    why += (why.empty() ? "" : "; ") + describe(status, server);
    return {};
}

/// A connection's life, until it is lost or we close.
inline void nats_link::live(natsConnection* c) {
    try {
        largest_.store(static_cast<std::size_t>(std::clamp<std::int64_t>(natsConnection_GetMaxPayload(c), 0, INT_MAX)));
        {
            const std::lock_guard lock{state_};
            given_ = confirmed_ = {};
            taken_ = 0;
        }
        take();
        follow(nullptr);
        for (auto& [channel, subscription] : channels_) subscribe_to(c, channel);
        {
            const std::lock_guard lock{state_};
            given_.number = number_;
            asked_ = c;
            ask_now_ = true;
        }
        to_ask_.wake();
        serve(c);
    } catch (const std::exception& e) {
        break_off(e.what());
    }
    end(c);
    std::string why{no_memory};
    try {
        why = why_it_ended(c);
        learn_servers(c);
    } catch (const std::bad_alloc&) {
        // Another time.
    }
    tell_lost(why);
    for (auto& [channel, subscription] : channels_) {
        natsSubscription_Destroy(subscription);
        subscription = nullptr;
    }
    forget_socket();
}

inline std::string nats_link::why_it_ended(natsConnection* c) const {
    {
        const std::lock_guard lock{state_};
        if (!why_.empty()) return why_;
    }
    const char* text = nullptr;
    const auto status = natsConnection_GetLastError(c, &text);
    if (status == NATS_CONNECTION_CLOSED || status == NATS_IO_ERROR || status == NATS_OK)
        return "NATS at " + last_place_ + " has closed the connection";
    return "NATS at " + last_place_ + " has ended the connection: " + (text == nullptr ? "" : text);
}

/// Takes what the backplane was asked meanwhile. Whether it is being closed.
inline bool nats_link::take() {
    to_run_.forget();
    const std::lock_guard lock{state_};
    if (following_.empty()) following_.swap(orders_);
    run_is_awake_ = true;
    if (has_sent_all() && !published_.empty() && !published_.front().empty()) {
        // The last chunk is used again.
        if (sending_.size() > 1) sending_.resize(1);
        if (!sending_.empty()) sending_.front().clear();
        if (!sending_.empty() && sending_.front().capacity() > 4 * chunk_size) sending_.clear();
        sending_.swap(published_);
        sending_chunk_ = sending_at_ = 0;
    }
    return closing_;
}

inline void nats_link::serve(natsConnection* c) {
    bool is_full = false;
    while (true) {
        const bool closing = take();
        follow(c);
        look_at_buffer(c);
        hand_on(c);
        if (!is_full && in_buffer_ != 0) write_out(c, is_full);
        if (natsConnection_IsClosed(c)) return;
        if (closing) {
            say_goodbye(c);
            come_to(&nats_link::has_handed_on_);
            return;
        }

        int time = -1;
        {
            const std::lock_guard lock{state_};
            const bool has_more = !published_.empty() && !published_.front().empty();
            if (!is_full && (has_more || !has_sent_all())) time = 0;
            if (!orders_.empty() || closing_) time = 0;
            // What is published while the socket is full has time.
            run_is_awake_ = time == 0 || !has_sent_all();
        }
        const auto wish = static_cast<short>(in_buffer_ != 0 ? POLLIN | POLLOUT : POLLIN);
        pollfd all[2]{{socket_, wish, 0}, {to_run_.descriptor(), POLLIN, 0}};
        if (::poll(all, 2, time) < 0 && errno != EINTR) throw std::system_error{errno, std::generic_category(), "poll"};
        if ((all[0].revents & POLLOUT) != 0 && std::exchange(is_full, false)) moved_.fetch_add(1);
        if ((all[0].revents & ~POLLOUT) != 0) {
            moved_.fetch_add(1);
            natsConnection_ProcessReadEvent(c);
        }
    }
}

/// Without a connection only the list of channels changes.
inline void nats_link::follow(natsConnection* c) {
    if (following_.empty()) return;
    for (const auto& each : following_) {
        for (const auto& channel : each.removed) {
            const auto found = channels_.find(channel);
            if (found == channels_.end()) continue;
            if (found->second != nullptr) natsSubscription_Destroy(found->second);
            channels_.erase(found);
        }
        for (const auto& channel : each.added) {
            const bool is_new = channels_.try_emplace(channel, nullptr).second;
            if (is_new && c != nullptr) subscribe_to(c, channel);
        }
        number_ = std::max(number_, each.number);
    }
    following_.clear();
    {
        const std::lock_guard lock{state_};
        counts_.subscriptions = channels_.size();
        given_.number = number_;
        ask_now_ = c != nullptr;
    }
    if (c != nullptr) to_ask_.wake();
}

inline void nats_link::subscribe_to(natsConnection* c, const std::string& channel) {
    auto self = std::make_unique<std::shared_ptr<nats_link>>(shared_from_this());
    natsSubscription* made = nullptr;
    const auto status = natsConnection_Subscribe(&made, c, channel.c_str(), &nats_calls::received, self.get());
    if (status != NATS_OK) {
        if (status != NATS_CONNECTION_CLOSED)
            break_off("nats.c does not subscribe to \"" + channel + "\": " + nats_error_text(status));
        return;
    }
    channels_[channel] = made;
    // From now on nats.c's. Where it were closed already, nobody could tell when its last call is over.
    natsSubscription_SetOnCompleteCB(made, &nats_calls::complete, self.release());
}

/// As much as is worth one write: what waits in nats.c is moved about with each.
inline void nats_link::hand_on(natsConnection* c) {
    std::uint64_t messages = 0, bytes = 0, refused = 0;
    std::size_t left = 0;
    while (in_buffer_ < high_water && !has_sent_all()) {
        auto& chunk = sending_[sending_chunk_];
        if (sending_at_ == chunk.size()) {
            sending_at_ = 0;
            ++sending_chunk_;
            // The first one is kept for the next turn.
            if (sending_chunk_ > 1) std::string{}.swap(chunk);
            continue;
        }
        std::uint32_t sizes[2];
        std::memcpy(sizes, chunk.data() + sending_at_, sizeof sizes);
        const char* const channel = chunk.data() + sending_at_ + sizeof sizes;
        const auto status = natsConnection_Publish(c, channel, channel + sizes[0] + 1, static_cast<int>(sizes[1]));
        if (status == NATS_OK) {
            ++messages;
            bytes += sizes[1];
            in_buffer_ += sizes[0] + sizes[1] + 20;
        } else if (status == NATS_MAX_PAYLOAD) {
            ++refused;  // the server takes less than when it was published
        } else {
            if (status != NATS_CONNECTION_CLOSED) break_off("nats.c does not publish: " + nats_error_text(status));
            break;
        }
        sending_at_ += sizeof sizes + sizes[0] + 1 + sizes[1];
        left += sizes[0] + sizes[1];
    }
    if (left == 0) return;
    buffered_.store(in_buffer_, std::memory_order_relaxed);
    queued_.fetch_sub(left, std::memory_order_relaxed);
    bool was_quiet = false;
    {
        const std::lock_guard lock{state_};
        was_quiet = given_.messages == confirmed_.messages;
        given_.messages += messages;
        given_.bytes += bytes;
        counts_.lost += refused;
        taken_ -= refused;
    }
    if (was_quiet) to_ask_.wake();
}

/// Only with something to write: nats.c takes a send() of nothing for the end of the connection.
inline void nats_link::write_out(natsConnection* c, bool& is_full) {
    natsConnection_ProcessWriteEvent(c);
    look_at_buffer(c);
    is_full = in_buffer_ != 0;
}

/// Hands on what waits, as far as it goes without waiting. Then the server has a moment to take it: nats.c closes by a reset,
/// which throws away what is on its way.
inline void nats_link::say_goodbye(natsConnection* c) {
    bool is_full = false;
    for (;;) {
        hand_on(c);
        if (in_buffer_ != 0 && !is_full) write_out(c, is_full);
        if (is_full || natsConnection_IsClosed(c)) return;
        if (in_buffer_ != 0 || !has_sent_all()) continue;
        take();
        if (has_sent_all()) break;
    }
    const linger gently{0, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &gently, sizeof gently);
    {
        const std::lock_guard lock{state_};
        if (given_.messages == confirmed_.messages) return;
    }
    ::shutdown(socket_, SHUT_WR);
    for (const auto end = now() + 200; !natsConnection_IsClosed(c);) {
        pollfd one{socket_, POLLIN, 0};
        const auto left = end - now();
        if (left <= 0 || ::poll(&one, 1, static_cast<int>(left)) <= 0) return;
        natsConnection_ProcessReadEvent(c);
    }
}

/// Ends a connection, however it is, and waits until nobody asks it anything.
inline void nats_link::end(natsConnection* c) noexcept {
    {
        const std::lock_guard lock{state_};
        asked_ = nullptr;
        if (socket_ != -1) ::shutdown(socket_, SHUT_RDWR);
    }
    // It finds the end of the stream behind what has come. natsConnection_Close() would first wait for an answer.
    while (!natsConnection_IsClosed(c)) {
        pollfd one{socket_, POLLIN, 0};
        if (::poll(&one, 1, 1'000) <= 0) break;
        natsConnection_ProcessReadEvent(c);
    }
    natsConnection_Close(c);
    while (true) {
        {
            const std::lock_guard lock{state_};
            if (!asking_) break;
        }
        asker_rests_.wait(-1);
    }
    buffered_.store(0, std::memory_order_relaxed);
    in_buffer_ = 0;
}

inline void nats_link::forget_socket() noexcept {
    nats_connections::forget(connection_);
    const std::lock_guard lock{state_};
    if (socket_ != -1) ::close(socket_);
    socket_ = -1;
    stage_ = stage::pausing;
}

inline void nats_link::tell_lost(const std::string& why) {
    std::vector<std::string> dropped;
    const std::lock_guard lock{told_};
    {
        const std::lock_guard state{state_};
        open_ = false;
        counts_.lost += taken_ - confirmed_.messages;
        taken_ = confirmed_.messages = given_.messages = 0;
        dropped.swap(published_);
        queued_.store(0, std::memory_order_relaxed);
    }
    sending_.clear();
    sending_chunk_ = sending_at_ = 0;
    if (std::exchange(said_connected_, false)) reconnection_.opened(connected_at_);
    try {
        if (user_ != nullptr) user_->disconnected(why);
    } catch (const std::exception&) {
    }
}

inline void nats_link::pause(core::millis time) {
    for (const auto end = now() + time; now() < end;) {
        if (take()) return;
        try {
            follow(nullptr);
        } catch (const std::bad_alloc&) {
        }
        to_run_.wait(std::max<core::millis>(0, end - now()));
    }
}

/// The other servers of a cluster, as the one that we had knows them. What lets us in there is what lets us in here.
inline void nats_link::learn_servers(natsConnection* c) {
    char** urls = nullptr;
    int count = 0;
    if (natsConnection_GetDiscoveredServers(c, &urls, &count) != NATS_OK) return;
    struct freeing {
        char** urls;
        int count;
        ~freeing() {
            for (int i = 0; i != count; ++i) std::free(urls[i]);
            std::free(urls);
        }
    } const guard{urls, count};
    const auto& all = settings_->servers;
    const auto known = std::find_if(all.begin(), all.end(), [&](const auto& s) { return s.at.text() == last_place_; });
    const auto& like = known == all.end() ? all.front() : *known;
    std::vector<nats_server> others;
    for (int i = 0; i != count; ++i) {
        try {
            auto server = read_nats_server(urls[i], settings_->config);
            server.secure = like.secure;
            server.user = like.user;
            server.password = like.password;
            server.token = like.token;
            // They name themselves by addresses, which no certificate is for.
            if (server.at.host.find_first_not_of("0123456789abcdef.:") == std::string::npos)
                server.certificate_name = like.certificate_name;
            others.push_back(std::move(server));
        } catch (const std::invalid_argument&) {
        }
    }
    if (!others.empty()) told_of_ = std::move(others);
}

inline std::string nats_link::describe(natsStatus status, const nats_server& server) const {
    const auto place = server.at.text();
    const auto text = nats_error_text(status);
    switch (status) {
        case NATS_NO_SERVER: return "no NATS server accepts connections at " + place;
        case NATS_TIMEOUT:
            return "NATS at " + place + " has not let us in within " +
                   std::to_string(settings_->config.connect_timeout.count()) + " ms";
        case NATS_CONNECTION_AUTH_FAILED:
            return "NATS at " + place + " refuses the user, password, token or credentials: " + text;
        case NATS_CONNECTION_CLOSED: return "NATS at " + place + " has closed the connection before it let us in";
        case NATS_PROTOCOL_ERROR:
        case NATS_LINE_TOO_LONG: return "what answers at " + place + " is no NATS server: " + text;
        case NATS_SECURE_CONNECTION_WANTED:
            return "NATS at " + place + " has no TLS; write nats:// instead of tls://, and leave tls.required off";
        case NATS_SSL_ERROR: return "TLS with NATS at " + place + " failed: " + text;
        default: return "NATS at " + place + ": " + text;
    }
}

// --- The thread of the answers ---

inline void nats_link::ask() noexcept {
    constexpr core::millis soon = 100, idle = 1'000;
    const auto patience = settings_->config.answer_timeout.count();
    for (auto last = now();;) {
        core::millis time = -1;
        natsConnection* c = nullptr;
        progress p;
        bool is_stuck = false;
        {
            const std::lock_guard lock{state_};
            if (asker_ends_) return;
            core::millis due = 0;
            if (stage_ == stage::connecting) {
                due = closing_ ? std::min(attempt_ends_, last + soon) : attempt_ends_;
                is_stuck = now() >= due;
                if (is_stuck) attempt_ends_ = now() + soon;
            } else if (asked_ != nullptr) {
                due = ask_now_ ? 0 : last + (given_.messages != confirmed_.messages ? soon : idle);
                if (now() >= due) {
                    c = asked_;
                    p = given_;
                    ask_now_ = false;
                    asking_ = true;
                }
            }
            if (due != 0) time = std::max<core::millis>(0, due - now());
        }
        if (is_stuck) {
            free_a_stuck_one();
            last = now();
        } else if (c == nullptr) {
            to_ask_.wait(time);
        } else {
            const auto moved = moved_.load();
            const auto unsent = bytes_on_their_way();
            const auto status = natsConnection_FlushTimeout(c, patience);
            if (status == NATS_OK) {
                answered(p);
            } else if (status == NATS_TIMEOUT && moved_.load() == moved && bytes_on_their_way() >= unsent) {
                break_off_saying([&] { return "NATS has not answered for " + std::to_string(patience) + " ms"; });
            }
            {
                const std::lock_guard lock{state_};
                asking_ = false;
                if (status == NATS_TIMEOUT) ask_now_ = true;
                if (status != NATS_OK && status != NATS_TIMEOUT) asked_ = nullptr;
            }
            asker_rests_.wake();
            last = now();
        }
    }
}

/// In the socket, and not acknowledged: fewer where the other side takes some, be it slowly.
inline int nats_link::bytes_on_their_way() const noexcept {
    int bytes = 0;
#ifdef TIOCOUTQ
    const std::lock_guard lock{state_};
    if (socket_ != -1) ::ioctl(socket_, TIOCOUTQ, &bytes);
#endif
    return bytes;
}

inline void nats_link::answered(const progress& p) {
    const std::lock_guard lock{told_};
    {
        const std::lock_guard state{state_};
        ++counts_.round_trips;
        counts_.published += p.messages - confirmed_.messages;
        counts_.published_bytes += p.bytes - confirmed_.bytes;
        confirmed_ = p;
        if (closing_ || user_ == nullptr) return;
        if (!said_connected_) {
            open_ = true;
            ++counts_.connections;
        }
    }
    try {
        if (!std::exchange(said_connected_, true)) {
            connected_at_ = now();
            user_->connected();
        }
        if (std::exchange(said_subscribed_, std::max(said_subscribed_, p.number)) < p.number)
            user_->subscribed(p.number);
    } catch (const std::exception& e) {
        break_off(e.what());
    }
}

/// nats.c 3.4 knows no limit of time in two places: in the handshake of TLS, and between the server's INFO and its PONG, where it
/// reads a timeout as a byte, for ever (nats-io/nats.c#707, mended in 3.8). The socket is not known yet. It is looked for: one to
/// the server's port, with the options that nats.c sets, and no connection of another link; where it has the expected number,
/// or is the only one, it is shut down.
inline void nats_link::free_a_stuck_one() const noexcept {
    int expected = -1;
    std::uint16_t port = 0;
    {
        const std::lock_guard lock{state_};
        expected = expected_socket_;
        port = expected_port_;
    }
    const auto is_it = [&](int socket) {
        sockaddr_storage peer{};
        socklen_t size = sizeof peer;
        if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return false;
        const auto peer_port = peer.ss_family == AF_INET    ? reinterpret_cast<const sockaddr_in&>(peer).sin_port
                               : peer.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(peer).sin6_port
                                                            : in_port_t{0};
        if (peer_port != htons(port)) return false;
        linger l{};
        int no_delay = 0;
        socklen_t linger_size = sizeof l, no_delay_size = sizeof no_delay;
        struct stat about {};
        return ::getsockopt(socket, SOL_SOCKET, SO_LINGER, &l, &linger_size) == 0 && l.l_onoff != 0 &&
               l.l_linger == 0 && ::getsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &no_delay, &no_delay_size) == 0 &&
               no_delay != 0 && ::fstat(socket, &about) == 0 && !nats_connections::has(about.st_ino);
    };
    // A duplicate cannot become another file while it is looked at.
    const auto duplicate_of = [&](int socket) {
        const int copy = ::fcntl(socket, F_DUPFD_CLOEXEC, 0);
        if (copy == -1 || is_it(copy)) return copy;
        ::close(copy);
        return -1;
    };
    int found = duplicate_of(expected);
    if (found == -1) {
        int count = 0;
        // By the functions of C, which throw nothing.
        DIR* const all = ::opendir("/dev/fd");
        for (const dirent* each = nullptr; all != nullptr && (each = ::readdir(all)) != nullptr;) {
            const int candidate = std::atoi(each->d_name);
            struct stat about {};
            if (::fstat(candidate, &about) != 0 || !S_ISSOCK(about.st_mode) || !is_it(candidate)) continue;
            if (++count == 1) found = duplicate_of(candidate);
        }
        if (all != nullptr) ::closedir(all);
        if (count > 1 && found != -1) {
            ::close(found);
            found = -1;
        }
    }
    if (found == -1) return;
    ::shutdown(found, SHUT_RDWR);
    ::close(found);
}

}  // namespace arke::cluster

namespace arke {

inline nats_backplane::nats_backplane(std::string_view url) : nats_backplane{nats_config{.url = std::string{url}}} {}

inline nats_backplane::nats_backplane(nats_config config) : settings_{cluster::read_nats_settings(std::move(config))} {}

inline nats_backplane::nats_backplane(nats_backplane&&) noexcept = default;

inline nats_backplane::~nats_backplane() {
    close();
    if (!link_) return;
    if (waits_at_end_)
        link_->wait_for_end();
    else
        link_->end_alone();
}

inline void nats_backplane::start(boost::asio::io_context&, const cluster_executor&, backplane_user& user) {
    if (link_) throw std::logic_error{"arke::nats_backplane: it is started once"};
    const cluster::without_signals blocked;
    auto link = std::make_shared<cluster::nats_link>(settings_, user);
    link->start();
    link_ = std::move(link);
}

inline bool nats_backplane::publish(std::string_view channel, std::string_view payload) {
    return link_->publish(channel, payload);
}

inline void nats_backplane::subscribe(const std::vector<std::string>& added, const std::vector<std::string>& removed,
                                      std::uint64_t number) {
    link_->subscribe(added, removed, number);
}

inline void nats_backplane::reconnect() { link_->break_off("it was to be made anew"); }

inline void nats_backplane::close() noexcept {
    if (link_) link_->close();
}

inline std::size_t nats_backplane::waiting() const noexcept { return link_ ? link_->waiting() : 0; }

inline backplane_counts nats_backplane::counts() const noexcept { return link_ ? link_->counts() : backplane_counts{}; }

}  // namespace arke
