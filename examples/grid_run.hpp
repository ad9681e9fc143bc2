// What programs share whose run is a grid of cells: continuing it, saying how it goes.
#pragma once

#include <eval/comparison/grid.hpp>
#include <examples/program.hpp>

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace jepa::examples {

/// Whether a run says what it is. Cells without that are those of a process that began beside this
/// one, a moment before the first one wrote it.
bool has_config(const std::string& run);

/// Cells of one run were trained and asked alike: of a run that has some, only which there are may
/// change, by the options `free`.
/// @throws ConfigError naming an option that differs from the run's
void require_cells_unchanged(const std::string& run, const std::vector<OptionSection>& sections,
                             const std::set<std::string>& free);

/// The curves over training compute, each a picture RUN/scale_NAME.svg.
void write_scale_plots(const std::string& run,
                       const std::vector<eval::comparison::ScaleCurve>& curves);

/// FOLDER/section.html (for `report --comparison`) and FOLDER/report.html, which is that section;
/// says where.
/// @param seconds that the run took; below 0: not said
void write_report(const std::string& folder, const std::string& title, const std::string& section,
                  double seconds = -1);

/// Tells on stderr what goes on, with the seconds since it was made, and stops on SIGINT and
/// SIGTERM. Each process writes into RUN/seconds how long it has worked, so that a run in parts
/// knows its time. Outlives its hooks.
class GridProgress {
 public:
  /// @param run its folder; empty: no time is kept
  explicit GridProgress(std::string run);
  eval::comparison::ComparisonHooks hooks();
  /// Of all processes that worked on the run, until now.
  double run_seconds();

 private:
  double seconds() const;
  void keep_time();

  std::string run_, file_;
  double before_ = 0;  // by runs of earlier versions, which left their last process's time
  double kept_ = 0;    // when the time was last written
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::unique_ptr<ProgressBar> bar_;
};

}  // namespace jepa::examples
