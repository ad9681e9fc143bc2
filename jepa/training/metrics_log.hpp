// The log of a run: metrics.jsonl, one JSON object a line, and metrics.csv made from it.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <set>
#include <string>

namespace jepa {

/// Appends lines to `metrics.jsonl` of a run folder.
///
/// A line has a `type`: "run" (once, at the start: machine, versions, sizes), "step" (numbers of a
/// step), "end" (totals). On resume the steps after the checkpoint are cut away, so that a
/// continued run leaves the same log as an uninterrupted one, times apart.
class MetricsLog {
 public:
  /// Opens the log, keeping the lines of steps up to `keep_steps` (-1: start anew).
  /// @throws DataError naming the file.
  MetricsLog(const std::string& run_folder, int64_t keep_steps);

  void step(int64_t step, const std::map<std::string, double>& numbers,
            const std::map<std::string, std::string>& texts = {});
  /// A line of type "run" or "end".
  void summary(const std::string& type, const std::map<std::string, double>& numbers,
               const std::map<std::string, std::string>& texts);
  /// The texts of the line of type "end" that closes the log of `run_folder`; none: it is open.
  static std::map<std::string, std::string> closing_texts(const std::string& run_folder);
  /// Brings metrics.csv up to all step lines so far (columns: every name that occurred).
  void write_csv();

 private:
  void write(const std::string& line);

  std::string folder_;
  std::ofstream file_;
  std::set<std::string> csv_names_;
  std::streamoff csv_end_ = 0;  ///< how far of the log metrics.csv tells
};

}  // namespace jepa
