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

/// Cells of one run were trained and asked alike: of a run that has some, only which there are may
/// change, by the options `free`.
/// @throws ConfigError naming an option that differs from the run's
void require_cells_unchanged(const std::string& run, const std::vector<OptionSection>& sections,
                             const std::set<std::string>& free);

/// Tells on stderr what goes on, with the seconds since it was made, and stops on SIGINT and
/// SIGTERM. Outlives its hooks.
class GridProgress {
 public:
  eval::comparison::ComparisonHooks hooks();
  double seconds() const;

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::unique_ptr<ProgressBar> bar_;
};

}  // namespace jepa::examples
