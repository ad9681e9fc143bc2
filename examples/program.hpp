// The front end that all programs share: options from an ini file and the command line, --help,
// --version, seed, device, precision, threads, JSON results, and the exit codes.
#pragma once

#include <jepa/errors.hpp>
#include <jepa/nn/block.hpp>
#include <jepa/options.hpp>
#include <jepa/training/processes.hpp>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::examples {

struct ProgramInfo;

/// What every program takes.
struct CommonOptions {
  std::string config;              ///< ini file read before the command line
  int64_t seed = 0;                ///< of every random choice
  std::string device = "auto";     ///< auto, cpu, cuda, cuda:N
  std::string precision = "auto";  ///< auto, float32, bfloat16
  int64_t threads = 0;             ///< 0: as many as there are cores
  bool deterministic = false;      ///< on CUDA; the CPU always is
  std::string json;                ///< results, machine readable

  int64_t processes = 1;  ///< started on this machine
  double timeout = 300;   ///< [s] after which a process that does not answer is given up

  /// @param info what the program can do decides what may be asked of it
  void describe(OptionVisitor& visit, const ProgramInfo& info);
};

/// A program as `run` sees it.
struct Program {
  CommonOptions common;
  torch::Device device = torch::kCPU;
  torch::ScalarType precision = torch::kFloat32;
  std::unique_ptr<Processes> processes;               ///< that share the work; null: this one alone
  nlohmann::json results = nlohmann::json::object();  ///< written to --json at the end
  std::vector<OptionSection> sections;                ///< with the given values written in
};

/// What a program is.
struct ProgramInfo {
  std::string name;
  std::string summary;    ///< first lines of --help
  bool bfloat16 = false;  ///< can compute in it; others take no --precision but float32
  bool exact = false;     ///< `auto` means float32: what comes out is kept, not trained on
  bool many = false;      ///< can share its work among processes
  /// The transformer block on which `auto` is measured, once options are read; empty: a small one.
  std::function<nn::BlockOptions()> block = {};
  /// Completes what was given, before anything is checked (a run that is continued brings its own
  /// configuration). May be empty.
  std::function<void(OptionValues& given)> complete = {};
  /// What --quick on the command line makes of options: far too small sizes that try everything in
  /// a minute or two. They win over the ini file, and what else is on the command line over them.
  /// Empty: there is no --quick.
  std::function<OptionValues(const OptionValues& given)> quick = {};
  /// The program's own sections. `given` lets it size numbered ones (`[mask.1]`, `[mask.2]`).
  std::function<std::vector<OptionSection>(const OptionValues& given)> sections = {};
  std::function<void(Program&)> run = {};
  /// Where `run` throws Stopped, the same command goes on from there: that is said, and no failure.
  bool goes_on = false;
};

/// Runs a program. Returns its exit code: 0 done, 1 failed (one line `error: ...` on stderr), 2
/// usage.
int program_main(int argc, const char* const* argv, const ProgramInfo& info);

/// Rank 0 of several processes, or the only one: it writes and shows how it goes.
bool is_first(const Program& program);

/// Checks that all processes were asked for the same; nothing on one.
/// @throws Error naming the first rank that differs
void require_same_options(const Program& program);

/// Set by SIGINT and SIGTERM once a program has called `catch_stop_signals`; another one a second
/// later ends the program at once.
bool stop_requested();
void catch_stop_signals();

/// Progress on a terminal: one line redrawn; elsewhere: plain lines at widening intervals.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  /// The time left is told from what was done since the first call: a run may go on from anywhere.
  /// @param text what else to say (loss, rate)
  void update(int64_t done, int64_t total, const std::string& text);
  /// Ends the line, so that other output can follow.
  void finish();

 private:
  std::string label_;
  bool terminal_;
  double start_seconds_;  ///< of the bar
  double last_seconds_ = 0;
  int64_t first_ = -1;  ///< done at the first call; -1: there was none
  double first_seconds_ = 0;
  bool open_ = false;
};

}  // namespace jepa::examples
