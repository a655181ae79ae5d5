// As many real connections as the machine allows, kept alive by pings: their memory, and what they cost when nothing happens.
//
//     connections N [--loop automatic|epoll|io_uring|portable] [--threads T] [--ping-period S] [--quick]
//
// The program starts itself as two processes, because descriptors are limited for each: the server is Arke, the client plain
// epoll. The client connects from many loopback addresses, because ports are limited for each. It answers every ping and
// counts all that it hears; the server is measured from outside. --quick watches the idle server for little more than one
// ping period instead of a minute.
//
// Counts that are wrong are a sentence on stderr and exit status 1. Where N does not fit, it says what to raise and goes on
// with what fits.

#include <arke/arke.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

struct options {
    std::size_t count = 0;
    arke::loop_kind loop = arke::loop_kind::automatic;
    unsigned threads = 1;
    double ping_period = 10;
    bool quick = false;
};

constexpr std::pair<std::string_view, arke::loop_kind> loop_names[] = {
    {"automatic", arke::loop_kind::automatic},
    {"epoll", arke::loop_kind::epoll},
    {"io_uring", arke::loop_kind::io_uring},
    {"portable", arke::loop_kind::portable},
};

const char* loop_name(arke::loop_kind kind) {
    for (const auto& [name, known] : loop_names) {
        if (known == kind) return name.data();
    }
    return "?";
}

constexpr std::size_t spare_descriptors = 96;  // for what is no connection, in each process
constexpr std::string_view news = "news for everybody, sixty-four bytes of it, and each is counted.";
static_assert(news.size() == 64);

[[noreturn]] void fail(const std::string& sentence) { throw std::runtime_error{sentence}; }
[[noreturn]] void fail_by_errno(const std::string& what) { fail(what + ": " + std::strerror(errno) + "."); }

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void rest(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// ------------------------------------------------------------------------------------------------------------ the machine

// The first number after `key` in a file of /proc; -1 when there is none.
double number_in(const std::string& file, std::string_view key, int skip = 0) {
    std::ifstream in{file};
    for (std::string line; std::getline(in, line);) {
        if (!line.starts_with(key)) continue;
        std::istringstream rest_of{line.substr(key.size())};
        std::string word;
        for (int i = 0; i != skip; ++i) rest_of >> word;
        double value = -1;
        if (rest_of >> value) return value;
    }
    return -1;
}

struct memory {
    double user = 0;     // the server's own, in bytes
    double kernel = 0;   // slabs, in bytes, of the whole machine
    double buffers = 0;  // of sockets, in bytes, likewise

    static memory read(pid_t server) {
        const auto file = "/proc/" + std::to_string(server) + "/smaps_rollup";
        const auto anonymous = number_in(file, "Anonymous:");
        if (anonymous < 0) fail("The server's memory cannot be read from " + file + ".");
        memory m;
        m.user = anonymous * 1024;
        m.kernel = number_in("/proc/meminfo", "Slab:") * 1024;
        // "TCP: inuse 1 orphan 0 tw 4 alloc 5 mem 59", in pages
        m.buffers = number_in("/proc/net/sockstat", "TCP:", 9) * static_cast<double>(::sysconf(_SC_PAGESIZE));
        return m;
    }
};

double cpu_of(pid_t process) {
    clockid_t clock{};
    timespec t{};
    if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &t) != 0) {
        fail("The server's CPU time cannot be read: it has ended.");
    }
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// How many of the wanted fit here. Says what to raise for the others.
std::size_t what_fits(std::size_t wanted) {
    std::size_t fits = wanted;
    const auto bound = [&](double most, const std::string& sentence) {
        const auto whole = most < 0 ? std::size_t{0} : static_cast<std::size_t>(most);
        if (whole >= wanted) return;
        std::printf("%zu do not fit: %s At most %zu fit.\n", wanted, sentence.c_str(), whole);
        fits = std::min(fits, whole);
    };

    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        ::getrlimit(RLIMIT_NOFILE, &limit);
    }
    const auto descriptors = static_cast<double>(limit.rlim_cur);
    const auto nr_open = number_in("/proc/sys/fs/nr_open", "");
    const auto needed = std::to_string(wanted + spare_descriptors);
    std::string advice = "a process may have " + std::to_string(limit.rlim_cur) + " descriptors; as root, 'ulimit -n " +
                         needed + "' (or LimitNOFILE=" + needed + " for a service) raises that";
    if (nr_open >= 0 && nr_open < static_cast<double>(wanted + spare_descriptors)) {
        advice += ", after 'sysctl -w fs.nr_open=" + needed + "'";
    }
    bound(descriptors - static_cast<double>(spare_descriptors), advice + ".");

    const auto file_max = number_in("/proc/sys/fs/file-max", "");
    if (file_max >= 0) {
        bound(file_max / 2 - 2000, "the system may have " + std::to_string(static_cast<long long>(file_max)) +
                                       " open files, and both ends are here; raise it by 'sysctl -w fs.file-max=" +
                                       std::to_string(2 * wanted + 10'000) + "'.");
    }
    const auto watches = number_in("/proc/sys/fs/epoll/max_user_watches", "");
    if (watches >= 0) {
        bound(watches / 2 - 100, "a user may have " + std::to_string(static_cast<long long>(watches)) +
                                     " sockets in epoll sets, and both ends are here; raise it by 'sysctl -w "
                                     "fs.epoll.max_user_watches=" +
                                     std::to_string(2 * wanted + 1000) + "'.");
    }
    // Measured: 7 to 10 KB in the kernel for both ends, and less than 1 KB in the two processes; the rest is room to breathe.
    constexpr double bytes_each = 12'000;
    const auto available = number_in("/proc/meminfo", "MemAvailable:") * 1024;
    bound(available * 0.9 / bytes_each,
          "there are " + std::to_string(static_cast<long long>(available / 1e6)) +
              " MB of free memory, and a connection takes about 12 KB for both ends; free "
              "some, or take a larger machine.");

    const auto backlog = number_in("/proc/sys/net/core/somaxconn", "");
    if (backlog >= 0 && backlog < 1024) {
        std::printf(
            "net.core.somaxconn is %.0f: connecting is slower than it could be; 'sysctl -w net.core.somaxconn=4096'.\n",
            backlog);
    }
    return fits;
}

// ------------------------------------------------------------------------------------------------------------- the server

constexpr char say_news = 'n';
constexpr char tell_size = 's';
constexpr char end_now = 'e';

template <class T>
void send_value(int to, const T& value) {
    if (::write(to, &value, sizeof value) != static_cast<ssize_t>(sizeof value))
        fail_by_errno("A word to the other process");
}

// False: the other process has ended.
template <class T>
bool receive_value(int from, T& value) {
    ssize_t count = 0;
    do {
        count = ::read(from, &value, sizeof value);
    } while (count < 0 && errno == EINTR);
    return count == static_cast<ssize_t>(sizeof value);
}

int serve(const options& o, int control) {
    arke::config settings;
    settings.keep_request = false;
    settings.pong_timeout = std::chrono::milliseconds{static_cast<long long>(o.ping_period * 2000)};
    settings.ping_period = std::chrono::milliseconds{static_cast<long long>(o.ping_period * 1000)};
    settings.listener.max_connections = o.count + spare_descriptors;
    settings.listener.loop = o.loop;
    arke::server server{settings};
    if (o.loop != arke::loop_kind::automatic && server.loop() != o.loop)
        std::fprintf(
            stderr,
            "This loop is not to be had here: the kernel or a sandbox refuses it, or Arke was built without.\n");
    server.on_message([](arke::connection& c, arke::message_view m) { c.emit_message(m); });
    server.listen("127.0.0.1", 0);
    send_value(control, server.port());

    std::thread listener{[&] {
        for (char command = 0; receive_value(control, command) && command != end_now;) {
            if (command == say_news) server.to(arke::all).emit_message(news);
            if (command == tell_size) send_value(control, server.size());
        }
        server.stop();
    }};
    server.run(o.threads);
    listener.join();
    return 0;
}

// ------------------------------------------------------------------------------------------------------------- the client

struct socket_state {
    enum class phase : std::uint8_t { none, connecting, upgrading, open, closing, closed };
    int fd = -1;
    phase is = phase::none;
    std::uint32_t pings = 0;
    std::uint32_t news = 0;
    std::unique_ptr<std::string> rest{};  // of a frame that came in parts
};

class client {
public:
    client(std::size_t count, std::uint16_t port) : port_{port}, sockets_(count) {
        set_ = ::epoll_create1(EPOLL_CLOEXEC);
        if (set_ < 0) fail_by_errno("epoll_create1");
        double low = 32'768;
        double high = 60'999;
        std::ifstream{"/proc/sys/net/ipv4/ip_local_port_range"} >> low >> high;
        // Half of them, so that the kernel finds a free one quickly.
        per_address_ = std::max<std::size_t>(static_cast<std::size_t>(high - low + 1) / 2, 1);
        const auto backlog = number_in("/proc/sys/net/core/somaxconn", "");
        at_once_ = backlog < 0 ? 128 : std::clamp<std::size_t>(static_cast<std::size_t>(backlog) / 2, 16, 512);
    }
    client(const client&) = delete;
    client& operator=(const client&) = delete;
    ~client() {
        for (const auto& s : sockets_) {
            if (s.fd >= 0) ::close(s.fd);
        }
        ::close(set_);
    }

    std::size_t addresses() const noexcept { return (sockets_.size() + per_address_ - 1) / per_address_; }
    const std::vector<socket_state>& sockets() const noexcept { return sockets_; }
    std::size_t open() const noexcept { return open_; }
    std::uint64_t news() const noexcept { return news_; }
    double last_news() const noexcept { return last_news_; }

    void connect_all() {
        std::size_t begun = 0;
        auto progress = now();
        while (open_ != sockets_.size()) {
            while (begun != sockets_.size() && begun - open_ < at_once_) connect(begun++);
            const auto before = open_;
            turn(100);
            if (open_ != before) progress = now();
            if (now() - progress > 30) {
                fail("Only " + std::to_string(open_) + " of " + std::to_string(sockets_.size()) +
                     " connections came about, and none for 30 s.");
            }
        }
    }

    // Serves until a time. Pings are counted by the tenth of a second since `begin`.
    void idle(double begin, double until, std::vector<std::uint32_t>& pings_by_tenth) {
        pings_by_tenth.assign(static_cast<std::size_t>((until - begin) * 10) + 2, 0);
        tenths_ = &pings_by_tenth;
        tenths_begin_ = begin;
        for (auto& s : sockets_) s.pings = 0;
        while (now() < until) turn(20);
        tenths_ = nullptr;
    }

    void serve_for(double seconds) {
        for (const auto until = now() + seconds; now() < until;) turn(20);
    }

    void await_news(std::uint64_t count) {
        for (auto progress = now(); news_ < count;) {
            const auto before = news_;
            turn(100);
            if (news_ != before) progress = now();
            if (now() - progress > 30) {
                fail("The broadcast reached " + std::to_string(news_) + " of " + std::to_string(count) +
                     " connections, and none for 30 s.");
            }
        }
    }

    void close_all() {
        // Masked by zeros; 1000.
        constexpr std::array<char, 8> goodbye{'\x88', '\x82', 0, 0, 0, 0, '\x03', '\xE8'};
        std::size_t begun = 0;
        for (auto progress = now(); closed_ != sockets_.size();) {
            while (begun != sockets_.size() && begun - closed_ < at_once_) {
                auto& s = sockets_[begun++];
                s.is = socket_state::phase::closing;
                send(s, {goodbye.data(), goodbye.size()});
            }
            const auto before = closed_;
            turn(100);
            if (closed_ != before) progress = now();
            if (now() - progress > 30) {
                fail("Only " + std::to_string(closed_) + " of " + std::to_string(sockets_.size()) +
                     " connections answered our close, and none for 30 s.");
            }
        }
    }

private:
    using phase = socket_state::phase;

    void connect(std::size_t index) {
        auto& s = sockets_[index];
        s.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (s.fd < 0) fail_by_errno("A socket of the client");
        const int on = 1;
        ::setsockopt(s.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        // The port is chosen when it is known where to: else it would have to be free for all peers.
        ::setsockopt(s.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        sockaddr_in from{};
        from.sin_family = AF_INET;
        from.sin_addr.s_addr = htonl(0x7F00'0002U + static_cast<std::uint32_t>(index / per_address_));
        if (::bind(s.fd, reinterpret_cast<const sockaddr*>(&from), sizeof from) != 0) fail_by_errno("bind");
        epoll_event wanted{};
        wanted.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        wanted.data.u64 = index;
        if (::epoll_ctl(set_, EPOLL_CTL_ADD, s.fd, &wanted) != 0) fail_by_errno("epoll_ctl");
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port_);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        s.is = phase::connecting;
        if (::connect(s.fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) {
            fail_by_errno("connect");
        }
    }

    void turn(int milliseconds) {
        const int count = ::epoll_wait(set_, events_.data(), static_cast<int>(events_.size()), milliseconds);
        if (count < 0 && errno != EINTR) fail_by_errno("epoll_wait");
        for (int i = 0; i < count; ++i) {
            const auto& e = events_[static_cast<std::size_t>(i)];
            serve(sockets_[e.data.u64], e.events);
        }
    }

    void serve(socket_state& s, std::uint32_t events) {
        if (s.is == phase::closed) return;
        if (s.is == phase::connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
            int error = 0;
            socklen_t size = sizeof error;
            ::getsockopt(s.fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error != 0) fail("A connection could not be made: " + std::string{std::strerror(error)} + ".");
            s.is = phase::upgrading;
            send(s,
                 "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        }
        if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0) read(s);
    }

    void send(socket_state& s, std::string_view data) {
        if (::send(s.fd, data.data(), data.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(data.size())) {
            fail_by_errno("A send of a few bytes");
        }
    }

    void read(socket_state& s) {
        for (;;) {
            const ssize_t count = ::recv(s.fd, buffer_.data(), buffer_.size(), 0);
            if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
            if (count < 0 && s.is != phase::closing) fail_by_errno("A connection broke");
            if (count <= 0) return ended(s);
            std::string_view data{buffer_.data(), static_cast<std::size_t>(count)};
            if (s.rest) {
                s.rest->append(data);
                data = *s.rest;
            }
            const auto left = hear(s, data);
            if (left.empty()) {
                s.rest.reset();
            } else {
                s.rest = std::make_unique<std::string>(left);
            }
        }
    }

    void ended(socket_state& s) {
        if (s.is != phase::closing) fail("The server closed a connection of itself.");
        ::close(std::exchange(s.fd, -1));
        s.is = phase::closed;
        ++closed_;
        --open_;
    }

    // Takes whole frames off the front, and returns what is left.
    std::string_view hear(socket_state& s, std::string_view data) {
        if (s.is == phase::upgrading) {
            const auto end = data.find("\r\n\r\n");
            if (end == std::string_view::npos) return data;
            if (!data.starts_with("HTTP/1.1 101 "))
                fail("The server answered '" + std::string{data.substr(0, 40)} + "'.");
            data.remove_prefix(end + 4);
            s.is = phase::open;
            ++open_;
        }
        while (data.size() >= 2) {
            const auto size = static_cast<std::size_t>(static_cast<unsigned char>(data[1]));
            if (size > 125) fail("The server sent a frame of another size than was asked for.");
            if (data.size() < 2 + size) break;
            hear_frame(s, static_cast<unsigned char>(data[0]), data.substr(2, size));
            data.remove_prefix(2 + size);
        }
        return data;
    }

    void hear_frame(socket_state& s, unsigned first, std::string_view payload) {
        switch (first) {
            case 0x89: {
                ++s.pings;
                if (tenths_ != nullptr) {
                    const auto tenth = static_cast<std::size_t>((now() - tenths_begin_) * 10);
                    ++(*tenths_)[std::min(tenth, tenths_->size() - 1)];
                }
                if (s.is != phase::open) return;
                std::string pong{'\x8A', static_cast<char>(0x80U | payload.size()), 0, 0, 0, 0};
                send(s, pong.append(payload));
                return;
            }
            case 0x81:
                if (payload != ::news) fail("A message came that nobody sent.");
                if (++s.news != 1) fail("The broadcast came twice to one connection.");
                ++news_;
                last_news_ = now();
                return;
            case 0x88:
                if (s.is != phase::closing) fail("The server said goodbye by itself.");
                return;
            default: fail("A frame came that is none of those asked for.");
        }
    }

    std::uint16_t port_;
    int set_ = -1;
    std::size_t per_address_ = 1;
    std::size_t at_once_ = 128;
    std::vector<socket_state> sockets_;
    std::size_t open_ = 0;
    std::size_t closed_ = 0;
    std::uint64_t news_ = 0;
    double last_news_ = 0;
    std::vector<std::uint32_t>* tenths_ = nullptr;
    double tenths_begin_ = 0;
    std::array<epoll_event, 512> events_{};
    std::array<char, 64 * 1024> buffer_{};
};

// ---------------------------------------------------------------------------------------------------------------- the run

class server_process {
public:
    explicit server_process(const options& o) {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) fail_by_errno("socketpair");
        const auto parent = ::getpid();
        pid_ = ::fork();
        if (pid_ < 0) fail_by_errno("fork");
        if (pid_ == 0) {
            ::close(ends[0]);
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (::getppid() != parent) std::_Exit(1);
            int status = 1;
            try {
                status = ::serve(o, ends[1]);
            } catch (const std::exception& e) {
                std::fprintf(stderr, "connections, the server: %s\n", e.what());
            }
            std::_Exit(status);
        }
        ::close(ends[1]);
        control_ = ends[0];
        const timeval patience{60, 0};
        ::setsockopt(control_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (!receive_value(control_, port_)) fail("The server did not start.");
    }
    server_process(const server_process&) = delete;
    server_process& operator=(const server_process&) = delete;
    ~server_process() {
        ::close(control_);  // it ends by that
        for (int i = 0; i != 100; ++i) {
            if (::waitpid(pid_, nullptr, WNOHANG) != 0) return;
            rest(0.1);
        }
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

    pid_t pid() const noexcept { return pid_; }
    std::uint16_t port() const noexcept { return port_; }
    void broadcast() { send_value(control_, say_news); }
    std::size_t size() {
        send_value(control_, tell_size);
        std::size_t count = 0;
        if (!receive_value(control_, count)) fail("The server does not answer any more.");
        return count;
    }

private:
    pid_t pid_ = 0;
    int control_ = -1;
    std::uint16_t port_ = 0;
};

// The client to the last processor and the server to the others, where there are two.
void share_processors(pid_t server) {
    cpu_set_t all;
    CPU_ZERO(&all);
    if (::sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2) return;
    std::size_t last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &all)) --last;
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(last, &mine);
    CPU_CLR(last, &all);
    ::sched_setaffinity(server, sizeof all, &all);
    ::sched_setaffinity(0, sizeof mine, &mine);
}

void run(options o) {
    const auto wanted = o.count;
    o.count = what_fits(wanted);
    if (o.count == 0) fail("Not one connection fits.");
    server_process server{o};
    share_processors(server.pid());
    client c{o.count, server.port()};
    std::printf(
        "%zu connections from %zu loopback addresses, loop asked for: %s, threads: %u; a ping after at most %.0f s of "
        "silence, closed after %.0f\n",
        o.count, c.addresses(), loop_name(o.loop), o.threads, o.ping_period, 2 * o.ping_period);
    const auto each = static_cast<double>(o.count);

    rest(0.5);
    const auto before = memory::read(server.pid());
    const auto connecting = now();
    const auto connecting_cpu = cpu_of(server.pid());
    c.connect_all();
    const auto connected = now() - connecting;
    std::printf("%-26s %.2f s, %.0f per second; %.1f us of the server's CPU each\n", "connecting all", connected,
                each / connected, (cpu_of(server.pid()) - connecting_cpu) * 1e6 / each);

    c.serve_for(1);
    if (const auto size = server.size(); size != o.count) {
        fail("The server counts " + std::to_string(size) + " connections instead of " + std::to_string(o.count) + ".");
    }
    const auto after = memory::read(server.pid());
    std::printf("%-26s server's user space %.0f bytes; kernel, both ends: slabs %.0f, socket buffers %.0f bytes\n",
                "memory of each", (after.user - before.user) / each, (after.kernel - before.kernel) / each,
                (after.buffers - before.buffers) / each);

    // A period and a little, so that everybody's ping is in it.
    const auto seconds = o.quick ? o.ping_period + 0.5 : std::max(60.0, o.ping_period + 0.5);
    std::vector<std::uint32_t> tenths;
    const auto idle_begin = now();
    const auto idle_cpu = cpu_of(server.pid());
    c.idle(idle_begin, idle_begin + seconds, tenths);
    const auto idle_spent = cpu_of(server.pid()) - idle_cpu;
    const auto idle_seconds = now() - idle_begin;
    std::uint64_t pings = 0;
    std::uint32_t fewest = ~std::uint32_t{0};
    std::uint32_t most = 0;
    for (const auto& s : c.sockets()) {
        pings += s.pings;
        fewest = std::min(fewest, s.pings);
        most = std::max(most, s.pings);
    }
    const auto tenth = *std::max_element(tenths.begin(), tenths.end());
    const auto mean = static_cast<double>(pings) / (idle_seconds * 10);
    std::printf("%-26s %.2f %% of a core over %.0f s, pings and pongs included: %.2f us each ping\n",
                "server's CPU when idle", 100 * idle_spent / idle_seconds, idle_seconds,
                pings == 0 ? 0 : idle_spent * 1e6 / static_cast<double>(pings));
    std::printf("%-26s %llu, %u to %u of each; in a tenth of a second mean %.1f, most %u (%.1f x)\n", "pings",
                static_cast<unsigned long long>(pings), fewest, most, mean, tenth, mean > 0 ? tenth / mean : 0);
    if (fewest == 0) fail("A connection was not pinged in " + std::to_string(idle_seconds) + " s of silence.");
    // Three quarters of the period is the shortest silence that a ping ends.
    if (most > idle_seconds / (o.ping_period * 0.75) + 1)
        fail("A connection was pinged more often than its silences ask for.");
    if (server.size() != o.count || c.open() != o.count) fail("Connections were lost while they were idle.");

    const auto news_cpu = cpu_of(server.pid());
    const auto news_begin = now();
    server.broadcast();
    c.await_news(o.count);
    const auto news_spent = cpu_of(server.pid()) - news_cpu;
    std::printf("%-26s %.3f s until the last has it; %.2f us of the server's CPU each\n", "broadcast to all",
                c.last_news() - news_begin, news_spent * 1e6 / each);

    const auto closing = now();
    const auto closing_cpu = cpu_of(server.pid());
    c.close_all();
    for (int i = 0; i != 50 && server.size() != 0; ++i) rest(0.1);
    if (server.size() != 0) fail("The server still counts connections that have said goodbye.");
    if (c.news() != o.count) fail("The broadcast came to more than those that are here.");
    std::printf("%-26s %.2f s; %.1f us of the server's CPU each\n", "closing all", now() - closing,
                (cpu_of(server.pid()) - closing_cpu) * 1e6 / each);
}

template <class T>
T number(std::string_view text, std::string_view what, T least, T most) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
        fail(std::string{what} + ": '" + std::string{text} + "' is no number that is possible here.");
    }
    return value;
}

options read_options(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word{argv[i]};
        const auto value = [&]() -> std::string_view {
            if (i + 1 == argc) fail(std::string{word} + " wants a value.");
            return argv[++i];
        };
        if (word == "--quick") {
            o.quick = true;
        } else if (word == "--threads") {
            o.threads = number<unsigned>(value(), word, 1, 1024);
        } else if (word == "--ping-period") {
            o.ping_period = number<double>(value(), word, 1, 600);
        } else if (word == "--loop") {
            const auto name = value();
            const auto* const found = std::find_if(std::begin(loop_names), std::end(loop_names),
                                                   [&](const auto& known) { return known.first == name; });
            if (found == std::end(loop_names)) fail("--loop is one of automatic, epoll, io_uring and portable.");
            o.loop = found->second;
        } else {
            o.count = number<std::size_t>(word, "N", 1, 10'000'000);
        }
    }
    if (o.count == 0) fail("How many? Write connections N; all options are told at the top of connections.cpp.");
    return o;
}

}  // namespace

int main(int argc, char** argv) try {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // the server is a fork: nothing may wait in a buffer
    run(read_options(argc, argv));
    return 0;
} catch (const std::exception& e) {
    std::fprintf(stderr, "connections: %s\n", e.what());
    return 1;
}
