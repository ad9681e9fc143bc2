// How errors fall with training compute: log-log slopes of every arm and the size that is best at
// each budget.
#pragma once

#include <eval/probes/metrics.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace jepa::eval::comparison {

struct CellRecord;  // see grid.hpp

/// What falls with compute. Losses are no such thing: those of different latents are not compared.
struct ScaleMeasure {
  std::string result;       ///< of cells, such as probe/digit
  std::string title;        ///< such as "digit, share wrong"
  bool complement = false;  ///< the error is 1 less the result: of accuracies and R2
  bool share = false;       ///< the error is between 0 and 1
};

/// The measures that some cell has: probes, what futures show of the class, position errors at each
/// horizon.
std::vector<ScaleMeasure> scale_measures(const std::vector<CellRecord>& cells);

/// One budget of an arm.
struct ScalePoint {
  double tera = 0;
  int64_t width = 0;            ///< of the size that is best there
  probes::Estimate error = {};  ///< the least of all sizes, its interval over such choices
  double share = 1;             ///< of resamples in which this size is best
  std::vector<std::pair<int64_t, double>> sizes = {};  ///< error of every width
};

/// An arm's errors of one measure over budgets.
struct ScaleCurve {
  std::string arm;
  ScaleMeasure measure;
  std::vector<ScalePoint> points = {};
  /// d log error / d log FLOP of the best sizes; none with fewer than two budgets.
  bool fitted = false;
  probes::Estimate slope = {};
  double intercept = 0;  ///< log10 of the error at 1 TFLOP
};

/// Fits every arm that is trained at two or more budgets, the cells of the first noise. A bootstrap
/// over clip x seed draws clips, the same for all cells, and seeds; in every resample each budget
/// takes the size that is best there, and the line is fitted anew. Seeds are as many as there are:
/// with one, nothing is said of others.
std::vector<ScaleCurve> fit_scale(const std::vector<CellRecord>& cells, int64_t resamples = 1000);

/// As markup: the picture with all arms on it, slopes, best sizes. Empty where nothing was fitted.
std::string scale_section(const std::vector<ScaleCurve>& curves);
/// The same as plain text.
std::string scale_table(const std::vector<ScaleCurve>& curves);
/// As a JSON list.
std::string scale_json(const std::vector<ScaleCurve>& curves);
/// The picture of one measure, all arms, SVG.
std::string scale_plot(const std::vector<ScaleCurve>& curves, const std::string& result);

}  // namespace jepa::eval::comparison
