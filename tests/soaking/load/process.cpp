#include "process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace soak {

process::process(std::vector<std::string> command) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) throw std::runtime_error{"no pipe can be made"};
    std::vector<char*> arguments;
    for (auto& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::dup2(pipe[1], STDOUT_FILENO);
        ::execv(arguments.front(), arguments.data());
        ::_exit(127);
    }
    ::close(pipe[1]);
    char c = 0;
    pollfd readable{pipe[0], POLLIN, 0};
    while (::poll(&readable, 1, 20'000) == 1 && ::read(pipe[0], &c, 1) == 1 && c != '\n') first_line_ += c;
    ::close(pipe[0]);
    if (c != '\n') throw std::runtime_error{"the server did not start: " + command.front()};
}

process::~process() {
    if (!is_running()) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, &status_, 0);
}

std::size_t process::resident_bytes() const {
    std::ifstream file{"/proc/" + std::to_string(pid_) + "/statm"};
    std::size_t all = 0;
    std::size_t resident = 0;
    file >> all >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

std::size_t process::descriptors() const {
    std::error_code gone;
    std::size_t count = 0;
    for (std::filesystem::directory_iterator at{"/proc/" + std::to_string(pid_) + "/fd", gone}, end; at != end;
         at.increment(gone))
        ++count;
    return count;
}

bool process::is_running() {
    if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
    return pid_ > 0;
}

std::string process::terminate(std::chrono::seconds longest) {
    if (is_running()) ::kill(pid_, SIGTERM);
    const auto end = std::chrono::steady_clock::now() + longest;
    while (is_running()) {
        if (std::chrono::steady_clock::now() > end)
            return "did not end within " + std::to_string(longest.count()) + " s";
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    if (WIFSIGNALED(status_)) return "was ended by signal " + std::to_string(WTERMSIG(status_));
    return WEXITSTATUS(status_) == 0 ? "" : "ended with status " + std::to_string(WEXITSTATUS(status_));
}

}  // namespace soak
