// Running the built programs as a user does: exit codes, what they say, what they leave behind.
#pragma once

#include "temporary_folder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace jepa {

namespace fs = std::filesystem;

/// Starts a program; what it says on stderr goes to the file `said`.
/// @param file_limit largest file it may write; a write past it fails as on a full disk
/// @param own_group in a process group of its own
/// @param printed file for what it prints on stdout
inline pid_t start_program(const std::string& program, const std::vector<std::string>& arguments,
                           const std::string& said, rlim_t file_limit = RLIM_INFINITY,
                           bool own_group = false, const std::string& printed = "/dev/null") {
  const std::string file = std::string(JEPA_PROGRAMS) + "/" + program;
  std::vector<const char*> argv{file.c_str()};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child != 0) return child;
  if (own_group) setpgid(0, 0);
  if (std::freopen(said.c_str(), "w", stderr) == nullptr) _exit(99);
  if (std::freopen(printed.c_str(), "w", stdout) == nullptr) _exit(99);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{file_limit, file_limit};
  setrlimit(RLIMIT_FSIZE, &limit);
  execv(file.c_str(), const_cast<char* const*>(argv.data()));
  _exit(98);
}

/// Waits for a program to end: its exit code, or the signal that ended it as a negative number.
inline int exit_code_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// Waits until a program that was started has said `text`. False: it did not in `seconds`.
inline bool says(const std::string& said, const std::string& text, int seconds = 60) {
  for (int i = 0; i < 10 * seconds; ++i) {
    if (read_bytes(said).find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

/// A folder of the test's own, and programs run in it.
class ProgramTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.file(name); }
  std::string said() const { return read_bytes(path("said.txt")); }

  /// Runs a program; its exit code (negative: the signal). What it says on stderr is in said.txt.
  int run(const std::string& program, const std::vector<std::string>& arguments,
          rlim_t file_limit = RLIM_INFINITY) const {
    return exit_code_of(start_program(program, arguments, path("said.txt"), file_limit));
  }

  /// Runs a program that must fail with `code` and one line `error: ...` holding `thing`, and must
  /// leave the folder as it was.
  void refuses(const std::string& program, const std::vector<std::string>& arguments, int code,
               const std::string& thing, rlim_t file_limit = RLIM_INFINITY) const {
    SCOPED_TRACE(program + " on " + thing);
    std::ofstream(path("said.txt")).flush();
    const auto before = files();
    EXPECT_EQ(run(program, arguments, file_limit), code) << said();
    EXPECT_EQ(files(), before);
    std::string errors;
    std::istringstream lines(said());
    for (std::string line; std::getline(lines, line);) {
      if (is_progress(line)) continue;
      if (code == 2 && line.starts_with("Try '")) continue;
      errors += line + "\n";
    }
    EXPECT_TRUE(errors.starts_with("error: ")) << errors;
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
    EXPECT_NE(errors.find(thing), std::string::npos) << errors;
  }
  static bool is_progress(const std::string& line) {
    return line.starts_with("clips ") || line.starts_with("encode ") ||
           line.find(": features of ") != std::string::npos ||
           line.find(" probe of ") != std::string::npos || line.starts_with("intervals are over") ||
           line.starts_with("no column says");
  }
  std::set<fs::path> files() const {
    std::set<fs::path> all;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path()))
      all.insert(entry.path());
    return all;
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace jepa
