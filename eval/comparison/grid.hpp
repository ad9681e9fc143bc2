// The grid of a comparison: every arm at every budget, seed and noise, cell by cell.
#pragma once

#include <eval/comparison/cell.hpp>
#include <eval/comparison/film.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// What is compared.
struct ComparisonOptions {
  std::string run = "runs/compare";
  /// Comma-separated.
  std::string arms = "jepa,pixels,latents,masked_pixels,random_init,frozen_random";
  std::vector<double> budgets = {40, 120};  ///< training, TFLOP
  std::vector<int64_t> seeds = {0, 1, 2};
  std::vector<double> noises = {0};         ///< background; beyond the first at the first budget
  ArmOptions arm;
  QuestionOptions questions;
  JudgeOptions judge;

  std::vector<OptionSection> sections();
};

/// A cell and what came of it.
struct CellRecord {
  std::string arm;
  double tera = 0;    ///< budget, TFLOP; 0: it is not trained
  int64_t seed = 0;
  double noise = 0;
  Results results = {};
  std::map<std::string, std::string> layers = {};  ///< which feature each probe chose
};

/// Cells that differ in the seed alone. Each result is the mean over seeds; its interval is the
/// t-interval over seeds, or with one seed that seed's own.
struct SummaryRow {
  std::string arm;
  double tera = 0;
  double noise = 0;
  int64_t seeds = 0;
  Results results = {};
};

/// How a comparison is told of and stopped.
struct ComparisonHooks {
  std::function<void(const std::string& text)> say;
  std::function<LoopHooks(const std::string& what, int64_t steps)> training;
};

/// All cells of a comparison, in the order they are run: cheap ones first.
std::vector<CellRecord> plan_cells(const ComparisonOptions& options);

/// Where a cell is trained, and as what.
ArmPlan cell_plan(const ComparisonOptions& options, const CellRecord& cell);

/// Runs every cell that has no `cell.json` yet and returns them all. A cell that was cut off goes
/// on from its training's last checkpoint.
/// @throws Stopped where the hooks asked to stop; ConfigError, DataError
std::vector<CellRecord> run_cells(const ComparisonOptions& options, const ComparisonHooks& hooks);

std::vector<SummaryRow> summarise(const std::vector<CellRecord>& cells);

/// The comparison's `summary.json`: options, cells and rows.
std::string summary_json(const ComparisonOptions& options, const std::vector<CellRecord>& cells,
                         double seconds);

/// The tables and curves as markup for a report.
std::string comparison_section(const std::vector<SummaryRow>& rows);

/// The same rows as a plain text table.
std::string comparison_table(const std::vector<SummaryRow>& rows);

/// Rows of the side-by-side film for `count` test clips: truth, what the models are shown, each
/// arm's future; of a decoder several draws, their mean and deviation, ceiling and floor. The arms
/// are those of the largest budget, first seed and first noise, from disk.
std::vector<FilmRow> film_rows(const ComparisonOptions& options, int64_t count,
                               const ComparisonHooks& hooks);

}  // namespace jepa::eval::comparison
