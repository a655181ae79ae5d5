#pragma once

/// A real broker for a test: redis-server or nats-server, on a port of 127.0.0.1 and with a folder of its own, that the test may
/// kill, restart and stop. It ends with the test, and with the test's process, however that ends.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace arke::test {

class broker {
public:
    /// `more` are further arguments of the program.
    static broker redis(std::vector<std::string> more = {}) { return broker{"redis", std::move(more)}; }
    static broker nats(std::vector<std::string> more = {}) { return broker{"nats", std::move(more)}; }

    broker(const broker&) = delete;
    broker& operator=(const broker&) = delete;

    ~broker() {
        kill();
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }

    std::uint16_t port() const noexcept { return port_; }
    std::string url() const { return kind_ + "://127.0.0.1:" + std::to_string(port_); }

    /// Of redis-server, where it listens too.
    std::string unix_path() const { return folder_ / "socket"; }

    /// Nothing while it is killed.
    pid_t pid() const noexcept { return pid_; }

    /// Without a last word, also when it is stopped: what it held is gone, its connections are reset.
    void kill() noexcept {
        if (pid_ == 0) return;
        ::kill(pid_, SIGKILL);
        while (::waitpid(pid_, nullptr, 0) == -1 && errno == EINTR) {
        }
        pid_ = 0;
    }

    /// A new one on the same port, killed before if need be. Comes back when it accepts.
    void restart() {
        kill();
        if (!starts()) throw std::runtime_error{program() + " did not start again: " + log()};
    }

    /// It is there and says nothing: the kernel accepts connections and bytes for it.
    void stop() const {
        ::kill(pid_, SIGSTOP);
        while (::waitpid(pid_, nullptr, WUNTRACED) == -1 && errno == EINTR) {
        }
    }
    void go_on() const { ::kill(pid_, SIGCONT); }

    /// What it has written since it started.
    std::string log() const {
        std::ifstream file{folder_ / "log"};
        return {std::istreambuf_iterator<char>{file}, {}};
    }

private:
    broker(std::string kind, std::vector<std::string> more)
        : kind_{std::move(kind)}, path_{found(program())}, more_{std::move(more)} {
        auto name = (std::filesystem::temp_directory_path() / "arke-broker-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error{"no temporary folder for a broker"};
        folder_ = name;
        std::random_device chance;
        for (int attempt = 0; attempt != 20; ++attempt) {
            // Below what the kernel gives to clients: while the broker is killed, a client that tries again and again
            // would get the broker's own port one day, and be connected to itself.
            port_ = static_cast<std::uint16_t>(20'000 + chance() % 12'000);
            if (is_free(port_) && starts()) return;
        }
        const auto said = log();
        std::filesystem::remove_all(folder_);
        throw std::runtime_error{program() + " did not start: " + said};
    }

    std::string program() const { return kind_ + "-server"; }

    /// On the PATH, and where Debian has nats-server.
    static std::string found(const std::string& program) {
        const auto* const path = std::getenv("PATH");
        auto places = (path == nullptr ? std::string{} : std::string{path}) + ":/usr/sbin:/usr/local/sbin:";
        for (std::size_t at = 0, end = 0; (end = places.find(':', at)) != std::string::npos; at = end + 1) {
            auto candidate = places.substr(at, end - at) + "/" + program;
            if (end != at && ::access(candidate.c_str(), X_OK) == 0) return candidate;
        }
        throw std::runtime_error{program + " is not installed: on Debian 12, apt-get install " + program};
    }

    static bool is_free(std::uint16_t port) {
        const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int yes = 1;
        ::setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_port = htons(port);
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const bool free = ::bind(probe, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
        ::close(probe);
        return free;
    }

    std::vector<std::string> arguments() const {
        const auto port = std::to_string(port_);
        std::vector<std::string> all;
        if (kind_ == "redis") {
            all = {path_,   "--port", port,           "--bind", "127.0.0.1",    "--save",   "",
                   "--dir", folder_,  "--appendonly", "no",     "--unixsocket", unix_path()};
        } else {
            all = {path_, "--addr", "127.0.0.1", "--port", port};
        }
        all.insert(all.end(), more_.begin(), more_.end());
        return all;
    }

    /// False where it ended by itself: somebody else has the port.
    bool starts() {
        const auto arguments_here = arguments();
        std::vector<char*> argv;
        for (const auto& each : arguments_here) argv.push_back(const_cast<char*>(each.c_str()));
        argv.push_back(nullptr);
        const int out = ::open((folder_ / "log").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
        const auto parent = ::getpid();
        const auto child = ::fork();
        if (child == 0) {
            // Of the thread that starts it, which must not end before the broker.
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (::getppid() != parent) ::_exit(1);
            ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
            ::dup2(out, STDOUT_FILENO);
            ::dup2(out, STDERR_FILENO);
            // A connection of the test would stay open here after the test has closed it.
            ::close_range(3, ~0U, 0);
            ::execv(path_.c_str(), argv.data());
            ::_exit(127);
        }
        ::close(out);
        if (child == -1) throw std::runtime_error{"fork() failed"};
        pid_ = child;
        // By its own words, not by whether somebody accepts: that could be another.
        const std::string_view ready = kind_ == "redis" ? "The server is now ready to accept" : "Server is ready";
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
        while (std::chrono::steady_clock::now() < deadline) {
            if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
                pid_ = 0;
                return false;
            }
            if (log().find(ready) != std::string::npos) return true;
            std::this_thread::sleep_for(std::chrono::milliseconds{2});
        }
        kill();
        return false;
    }

    std::string kind_;
    std::string path_;
    std::vector<std::string> more_;
    std::filesystem::path folder_;
    std::uint16_t port_ = 0;
    pid_t pid_ = 0;
};

}  // namespace arke::test
