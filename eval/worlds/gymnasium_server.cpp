#include <eval/worlds/gymnasium_server.hpp>
#include <jepa/errors.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <spawn.h>
#include <sstream>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char** environ;

namespace jepa::eval::worlds {

extern const char* const kGymnasiumScript;

namespace {

constexpr size_t kLastOutput = 4096;  // bytes kept of what the server prints
constexpr size_t kSaidLines = 4;      // of it in a message
constexpr double kGrace = 3;          // s to close its environments
constexpr double kLook = 0.2;         // s between looks whether to stop

// What to do where an interpreter has not what is asked for.
constexpr const char* kOtherPython =
    "--gym.python or JEPA_PYTHON names another, ./dev setup-envs makes some: doom-atari, pusht, "
    "mujoco, envpool";

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Out of the way of the descriptors 0 to 3 that the child gets.
int above(int file) {
  if (file < 0) return file;
  const int moved = ::fcntl(file, F_DUPFD_CLOEXEC, 10);
  ::close(file);
  return moved;
}

void close_file(int& file) {
  if (file >= 0) ::close(file);
  file = -1;
}

std::string new_folder() {
  std::error_code error;
  auto name = (std::filesystem::temp_directory_path(error) / "jepa-gymnasium-XXXXXX").string();
  return ::mkdtemp(name.data()) == nullptr ? "" : name;
}

}  // namespace

GymnasiumServer::GymnasiumServer(std::string name, std::string python, const std::string& options,
                                 double timeout, StopRequest stop_request)
    : name_(std::move(name)),
      python_(std::move(python)),
      timeout_(timeout),
      stop_(std::move(stop_request)) {
  try {
    folder_ = new_folder();
    start(options);
    description_ = answer();
    map_memory();
  } catch (...) {
    stop(true);
    throw;
  }
}

GymnasiumServer::~GymnasiumServer() { stop(false); }

void GymnasiumServer::start(const std::string& options) {
  int sockets[2] = {-1, -1}, pipe[2] = {-1, -1};
  const bool made = ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0 &&
                    ::pipe2(pipe, O_CLOEXEC) == 0;
  socket_ = above(sockets[0]);
  output_ = above(pipe[0]);
  int far_socket = above(sockets[1]), far_output = above(pipe[1]);
  shared_ = above(::memfd_create("jepa-gymnasium", MFD_CLOEXEC));
  if (!made || folder_.empty() || shared_ < 0) {
    const std::string reason = std::strerror(errno);
    close_file(far_socket);
    close_file(far_output);
    throw DataError(name_ + ": no server can be started (" + reason + ")");
  }
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, far_socket, 0);
  posix_spawn_file_actions_adddup2(&files, far_output, 1);
  posix_spawn_file_actions_adddup2(&files, far_output, 2);
  posix_spawn_file_actions_adddup2(&files, shared_, 3);
  // A group of its own, so that what it starts (a game's engine) ends with it.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  std::error_code error;
  std::array<std::string, 7> words = {python_,
                                      "-u",
                                      "-c",
                                      kGymnasiumScript,
                                      options,
                                      folder_,
                                      std::filesystem::current_path(error).string()};
  std::array<char*, 8> arguments{};
  for (size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
  const int failed =
      ::posix_spawnp(&process_, python_.c_str(), &files, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  close_file(far_socket);
  close_file(far_output);
  if (failed != 0) {
    process_ = -1;
    throw DataError(name_ + ": Python interpreter '" + python_ + "' cannot be started (" +
                    std::strerror(failed) + "; " + kOtherPython + ")");
  }
}

void GymnasiumServer::map_memory() {
  const auto said = nlohmann::json::parse(description_, nullptr, false);
  if (said.is_discarded() || !said.contains("size")) {
    fail("its server's first answer makes no sense");
  }
  size_ = said.at("size").get<size_t>();
  void* memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, shared_, 0);
  if (memory == MAP_FAILED) fail(std::string("no shared memory (") + std::strerror(errno) + ")");
  memory_ = static_cast<uint8_t*>(memory);
}

void GymnasiumServer::send(const std::string& command) {
  const std::string line = command + "\n";
  asked_ = Clock::now();
  if (::send(socket_, line.data(), line.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(line.size())) {
    fail(ending());
  }
}

void GymnasiumServer::wait() {
  if (answer() != "ok") fail("its server's answer makes no sense");
}

// False at the end of the file.
bool GymnasiumServer::read_some(int file, std::string& into) {
  char bytes[4096];
  const ssize_t count = ::read(file, bytes, sizeof bytes);
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (count <= 0) return false;
  into.append(bytes, static_cast<size_t>(count));
  return true;
}

std::string GymnasiumServer::answer() {
  while (true) {
    const std::string line = next_line();
    if (line == ".") {  // one more environment is ready
      asked_ = Clock::now();
      continue;
    }
    if (line.starts_with("error ") || line.starts_with("lacking ")) fail_as_told(line);
    return line;
  }
}

std::string GymnasiumServer::next_line() {
  bool listening = true;
  while (true) {
    if (const size_t end = received_.find('\n'); end != std::string::npos) {
      const std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    if (stop_ && stop_()) {
      stop(true);
      throw Stopped(name_ + ": stopped while its answer was waited for");
    }
    const double left = timeout_ - seconds_since(asked_);
    pollfd files[2] = {{socket_, POLLIN, 0}, {listening ? output_ : -1, POLLIN, 0}};
    const double wait = std::clamp(left, 0.0, kLook);
    if (::poll(files, 2, static_cast<int>(std::ceil(wait * 1000))) < 0) continue;  // a signal
    if (files[1].revents != 0) listening = hear();
    if (files[0].revents != 0) {
      if (!read_some(socket_, received_)) fail(ending());
    } else if (left <= 0) {
      std::ostringstream text;
      text << "no answer within " << timeout_ << " s";
      fail(text.str());
    }
  }
}

void GymnasiumServer::fail_as_told(const std::string& line) {
  stop(true);
  const size_t told = line.find(' ') + 1, tab = line.find('\t');
  if (!line.starts_with("lacking ") || tab == std::string::npos) {
    throw DataError(name_ + ": " + line.substr(told));
  }
  throw DataError(name_ + ": " + line.substr(tab + 1) + " (asked of Python interpreter " +
                  line.substr(told, tab - told) + "; " + kOtherPython + ")");
}

// Takes in what it printed. False: there will be no more.
bool GymnasiumServer::hear() {
  const bool more = read_some(output_, said_);
  if (said_.size() > 2 * kLastOutput) said_.erase(0, said_.size() - kLastOutput);
  return more;
}

void GymnasiumServer::fail(const std::string& reason) {
  // What it said before it went may still lie in the pipe.
  pollfd file{output_, POLLIN, 0};
  const auto start = Clock::now();  // one that hangs may print without end
  while (output_ >= 0 && seconds_since(start) < 1 && ::poll(&file, 1, 100) > 0 && hear()) {
  }
  const std::string last = last_output();
  stop(true);
  throw DataError(name_ + ": " + reason + (last.empty() ? "" : "; its last output: " + last));
}

// How the process ended, waiting a little for it to do so.
std::string GymnasiumServer::ending() {
  int status = 0;
  const auto start = Clock::now();
  while (process_ > 0 && seconds_since(start) < kGrace) {
    if (::waitpid(process_, &status, WNOHANG) == process_) {
      ::kill(-process_, SIGKILL);  // what it started
      process_ = -1;
      if (WIFSIGNALED(status)) {
        return "the environment's process ended by signal " + std::to_string(WTERMSIG(status));
      }
      return "the environment's process ended with exit code " +
             std::to_string(WEXITSTATUS(status));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return "the environment's process closed its connection";
}

std::string GymnasiumServer::last_output() const {
  std::vector<std::string> lines;
  std::istringstream stream(said_);
  for (std::string line; std::getline(stream, line);) {
    for (char& c : line) {
      if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
    }
    const size_t first = line.find_first_not_of(' ');
    if (first == std::string::npos) continue;
    lines.push_back(line.substr(first, 200));
  }
  std::string text;
  for (size_t i = lines.size() - std::min(kSaidLines, lines.size()); i < lines.size(); ++i) {
    text += (text.empty() ? "" : " | ") + lines[i];
  }
  return text;
}

void GymnasiumServer::stop(bool at_once) {
  close_file(socket_);  // its sign to close the environments
  const auto start = Clock::now();
  while (process_ > 0) {
    int status = 0;
    if (::waitpid(process_, &status, WNOHANG) != 0) break;
    if (at_once || seconds_since(start) > kGrace) {
      ::kill(-process_, SIGKILL);
      ::waitpid(process_, &status, 0);
      break;
    }
    // An environment that closes prints, and must not block on a full pipe.
    pollfd file{output_, POLLIN, 0};
    std::string unheard;
    if (::poll(&file, 1, 10) > 0 && !read_some(output_, unheard)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  if (process_ > 0) ::kill(-process_, SIGKILL);  // what it left behind
  process_ = -1;
  if (memory_ != nullptr) ::munmap(memory_, size_);
  memory_ = nullptr;
  close_file(output_);
  close_file(shared_);
  std::error_code error;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, error);
  folder_.clear();
}

}  // namespace jepa::eval::worlds
