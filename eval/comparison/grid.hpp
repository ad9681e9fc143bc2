// The grid of a comparison: every arm at every budget, seed and noise, cell by cell.
#pragma once

#include <eval/comparison/cell.hpp>
#include <eval/comparison/film.hpp>
#include <eval/comparison/paired.hpp>
#include <eval/comparison/scale.hpp>
#include <jepa/stopped.hpp>

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
  std::vector<double> noises = {0};  ///< background; beyond the first at the first budget
  /// Widths of every arm's transformers, each a model size; 0: as the options say.
  std::vector<int64_t> widths = {0};
  ArmOptions arm;
  QuestionOptions questions;
  JudgeOptions judge;
  /// How each arm's settings were found on the validation split, as "RUNS: grid"; written down in
  /// the report, where equal effort is told from unequal.
  std::map<std::string, std::string> tuning;

  std::vector<OptionSection> sections();
  /// Prompts where the world has them.
  void settle();
  /// Sizes as small as they can be, which show that everything runs.
  static OptionValues quick(const OptionValues& given);
};

/// A cell and what came of it.
struct CellRecord {
  std::string arm;
  double tera = 0;  ///< budget, TFLOP; 0: it is not trained
  int64_t seed = 0;
  double noise = 0;
  int64_t width = 0;  ///< of its transformers; 0: as the options say
  Results results = {};
  std::map<std::string, std::string> layers = {};  ///< which feature each probe chose
  Scores scores = {};  ///< what the results rest on; empty in cells of earlier versions
};

/// Cells that differ in the seed alone. Each result is the mean over seeds; its interval is the
/// t-interval over seeds, or with one seed that seed's own; a share's ends at 0 and 1.
struct SummaryRow {
  std::string arm;
  double tera = 0;
  double noise = 0;
  int64_t width = 0;
  int64_t seeds = 0;
  Results results = {};
};

/// How a comparison is told of and stopped.
struct ComparisonHooks {
  /// Asked between parts of a cell and while another process is waited for; true ends the
  /// comparison. May be empty.
  StopRequest stop = {};
  std::function<void(const std::string& text)> say;
  std::function<LoopHooks(const std::string& what, int64_t steps)> training;
};

/// All cells of a comparison, in the order they are run: cheap ones first.
/// @throws ConfigError for what can not be compared, such as an arm, seed or budget that is there
/// twice
std::vector<CellRecord> plan_cells(const ComparisonOptions& options);

/// Where a cell is trained, and as what.
ArmPlan cell_plan(const ComparisonOptions& options, const CellRecord& cell);

/// How its arm is built: of the cell's width, heads as wide as before.
/// @throws ConfigError where the width does not fit the heads
ArmOptions cell_arm(const ComparisonOptions& options, const CellRecord& cell);

/// Runs every cell that has no `cell.json` yet and returns them all. A cell that was cut off goes
/// on from its training's last checkpoint. Several processes may share a run's folder: each takes
/// cells that no other holds, and waits at the end until all are there.
/// @throws Stopped where the hooks asked to stop; ConfigError, DataError
std::vector<CellRecord> run_cells(const ComparisonOptions& options, const ComparisonHooks& hooks);

/// A cell as its `cell.json`.
std::string cell_json(const CellRecord& cell);

/// One row for each arm, budget, noise and width, in the order of cells.
std::vector<SummaryRow> summarise(const std::vector<CellRecord>& cells);

/// Arm less arm for every pair at every budget and noise, the earlier in the order of cells first;
/// arms without a budget (untrained, trivial) beside those of each. Empty for cells that have no
/// scores.
std::vector<ArmDifference> paired_differences(const std::vector<CellRecord>& cells);

/// An arm's tuning as it was written down.
struct TuningEffort {
  std::string arm;
  int64_t runs = -1;  ///< -1: not stated
  std::string grid;
};

/// Of the arms that are trained. @throws ConfigError where a text does not begin with a number
std::vector<TuningEffort> tuning_efforts(const ComparisonOptions& options);

/// Adds to the rows what position errors are beside copying's on the same clips, 1 - error / error
/// of copying: `.../future/skill` over all frames and `.../future/skill/hN`. 0: no better than a
/// still picture. Intervals as those of differences.
void add_skill(const std::vector<CellRecord>& cells, std::vector<SummaryRow>& rows);

/// How well the judge of a noise level reads real frames that it was not trained on.
struct JudgeRow {
  double noise = 0;
  std::string label;  ///< what it reads
  JudgeAccuracy held_out;
};
/// Below this share of true frames read right, what it reads of drawn ones says little.
inline constexpr double kTrustedJudge = 0.97;

/// What a comparison came to.
struct ComparisonSummary {
  std::vector<SummaryRow> rows;
  std::vector<ArmDifference> differences;
  std::vector<TuningEffort> tuning;
  std::vector<ScaleCurve> scale = {};  ///< where there are several budgets
  std::string report_on = "test";      ///< the split that everything is reported on
  std::vector<JudgeRow> judges = {};   ///< of every noise level
};

/// Rows with skill, differences, scale curves and tuning of all cells that are done.
ComparisonSummary summarise_comparison(const ComparisonOptions& options,
                                       const std::vector<CellRecord>& cells);

/// Of the judges that the run has.
std::vector<JudgeRow> read_judges(const ComparisonOptions& options);
/// How far they can be trusted, a line each.
std::string judge_lines(const std::vector<JudgeRow>& judges);

/// The comparison's `summary.json`: options, rows, differences, scale, tuning and cells.
std::string summary_json(const ComparisonOptions& options, const std::vector<CellRecord>& cells,
                         const ComparisonSummary& summary, double seconds);

/// Tables and curves as markup for a report: the first arm less each other first.
std::string comparison_section(const ComparisonSummary& summary);

/// The same as plain text.
std::string comparison_table(const ComparisonSummary& summary);

/// What every arm knows and draws in the range of training and outside it, as tables; empty where
/// nothing lies outside. As markup.
std::string shift_section(const ComparisonSummary& summary);
/// The same as plain text.
std::string shift_table(const ComparisonSummary& summary);

/// Rows of the side-by-side film for `count` test clips: truth, what the models are shown, each
/// arm's future; of a decoder several draws, their mean and deviation, ceiling and floor. The arms
/// are those of the largest budget, first seed and first noise, from disk.
std::vector<FilmRow> film_rows(const ComparisonOptions& options, int64_t count,
                               const ComparisonHooks& hooks);

}  // namespace jepa::eval::comparison
