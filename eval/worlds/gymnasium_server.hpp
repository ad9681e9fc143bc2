// The Python process that steps Gymnasium environments: commands and answers over a socket, numbers
// and frames in shared memory, and its last words when it dies.
#pragma once

#include <jepa/stopped.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <sys/types.h>

namespace jepa::eval::worlds {

/// A child process and the memory shared with it. Whatever goes wrong in it is a DataError with
/// its last output; what takes too long is ended, with all that it started.
class GymnasiumServer {
 public:
  /// @param name what messages call it
  /// @param options as gymnasium_server.py takes them, JSON text
  /// @param timeout [s] for each answer, from the command on; of environments that are made or
  ///   reset one after another, for each of them
  /// @param stop_request asked while it is waited for
  /// @throws DataError where it does not start, or has something to say against the options;
  ///   Stopped
  GymnasiumServer(std::string name, std::string python, const std::string& options, double timeout,
                  StopRequest stop_request = {});
  ~GymnasiumServer();
  GymnasiumServer(const GymnasiumServer&) = delete;
  GymnasiumServer& operator=(const GymnasiumServer&) = delete;

  /// What the server said of its environments, as JSON text.
  const std::string& description() const { return description_; }
  /// The memory shared with it, as the description lays it out.
  uint8_t* memory() const { return memory_; }

  /// Sends a command; several servers work at once between send() and wait().
  void send(const std::string& command);
  /// @throws DataError where the answer is an error, none comes in time, or the process is gone;
  ///   Stopped, and the process is ended
  void wait();

 private:
  void start(const std::string& options);
  /// @param at_once without a chance to close its environments
  void stop(bool at_once);
  void map_memory();
  std::string answer();
  /// The next line that it sent, waiting for it.
  std::string next_line();
  bool hear();
  /// The error in a line `error TEXT` or `lacking INTERPRETER TEXT`.
  [[noreturn]] void fail_as_told(const std::string& line);
  bool read_some(int file, std::string& into);
  /// The error in `reason`, with the server's last output.
  [[noreturn]] void fail(const std::string& reason);
  std::string ending();
  std::string last_output() const;

  std::string name_, python_, folder_;
  double timeout_;
  StopRequest stop_;
  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
  pid_t process_ = -1;
  int socket_ = -1, output_ = -1, shared_ = -1;
  std::string received_, said_;
  std::string description_;
  uint8_t* memory_ = nullptr;
  size_t size_ = 0;
};

}  // namespace jepa::eval::worlds
