#include <eval/comparison/scale.hpp>
#include <eval/comparison/seed_resamples.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace jepa::eval::comparison {
namespace {

constexpr uint64_t kScaleSeed = 0;
constexpr double kSmallestError = 1e-4;  // below it a logarithm says nothing of so few clips

/// Everything of one arm and budget and measure: errors of each width.
struct Sizes {
  double tera = 0;
  std::vector<int64_t> widths = {};
  std::vector<double> errors = {};
  torch::Tensor resampled = {};  ///< double [R, widths]
};

torch::Tensor as_error(const torch::Tensor& values, const ScaleMeasure& measure) {
  return (measure.complement ? 1 - values : values).clamp_min(kSmallestError);
}

/// The budgets at which an arm has the measure.
std::vector<Sizes> sizes_of(const std::vector<CellRecord>& cells, const std::string& arm,
                            const ScaleMeasure& measure, ClipResamples& clips) {
  std::map<double, std::map<int64_t, SeedCells>> grid;
  for (const auto& cell : cells) {
    const bool wanted = cell.arm == arm && cell.tera > 0 && cell.noise == cells.front().noise;
    if (wanted && cell.results.contains(measure.result)) {
      grid[cell.tera][cell.width].push_back(&cell);
    }
  }
  std::vector<Sizes> all;
  for (const auto& [tera, widths] : grid) {
    Sizes sizes{.tera = tera};
    std::vector<torch::Tensor> resampled;
    for (const auto& [width, seeds] : widths) {
      const auto scores = resample_seeds(seeds, measure.result, clips);
      if (!scores.values.defined()) continue;
      sizes.widths.push_back(width);
      sizes.errors.push_back(as_error(scores.values.mean(), measure).item<double>());
      resampled.push_back(
          mean_over_seeds(as_error(scores.resampled, measure), kScaleSeed, Stretch::kRatios));
    }
    if (resampled.empty()) continue;
    sizes.resampled = torch::stack(resampled, 1);
    all.push_back(std::move(sizes));
  }
  return all;
}

/// Slopes of least-squares lines through log10 errors double [R, B] over log10 budgets [B].
torch::Tensor slopes(const torch::Tensor& budgets, const torch::Tensor& errors) {
  const auto x = budgets.log10() - budgets.log10().mean();
  return at::mv(errors.log10(), x) / x.square().sum();
}

ScaleCurve fit_curve(const std::string& arm, const ScaleMeasure& measure,
                     const std::vector<Sizes>& budgets) {
  ScaleCurve curve{.arm = arm, .measure = measure};
  std::vector<double> tera, errors;
  std::vector<torch::Tensor> resampled;
  for (const auto& sizes : budgets) {
    const auto best = std::min_element(sizes.errors.begin(), sizes.errors.end());
    const auto at = best - sizes.errors.begin();
    const auto [least, winner] = sizes.resampled.min(1);
    ScalePoint point{.tera = sizes.tera, .width = sizes.widths[static_cast<size_t>(at)]};
    // The size was chosen on the clips that it is reported on: resamples choose anew.
    point.error = probes::with_interval(*best, measure.share ? least.clamp_max(1) : least);
    point.share = winner.eq(at).to(torch::kFloat64).mean().item<double>();
    for (size_t i = 0; i < sizes.widths.size(); ++i) {
      point.sizes.emplace_back(sizes.widths[i], sizes.errors[i]);
    }
    curve.points.push_back(point);
    tera.push_back(sizes.tera);
    errors.push_back(*best);
    resampled.push_back(least);
  }
  if (tera.size() < 2) return curve;
  const auto x = torch::tensor(tera, torch::kFloat64);
  const auto y = torch::tensor(errors, torch::kFloat64);
  const double slope = slopes(x, y.unsqueeze(0)).item<double>();
  curve.fitted = true;
  curve.slope = probes::with_interval(slope, slopes(x, torch::stack(resampled, 1)));
  curve.intercept = (y.log10().mean() - slope * x.log10().mean()).item<double>();
  return curve;
}

}  // namespace

std::vector<ScaleMeasure> scale_measures(const std::vector<CellRecord>& cells) {
  std::map<std::string, bool> known;  // whether a probe's score is an accuracy
  for (const auto& cell : cells) {
    if (cell.tera == 0) continue;
    for (const auto& [name, scores] : cell.scores) known.emplace(name, scores.classes());
  }
  std::vector<ScaleMeasure> measures;
  for (const auto& [name, accuracy] : known) {
    if (name.starts_with("probe/")) {
      measures.push_back({name, name.substr(6) + " probed, 1 - score", true, accuracy});
    } else if (name == "future/digit" || name == "future/legs" || name == "future/count") {
      measures.push_back({name, name.substr(7) + " read from futures, share wrong", true, true});
    } else if (name.starts_with("surprise/")) {
      measures.push_back({name, name.substr(9) + " of films told wrong, share", true, true});
    } else if (name.starts_with("future/position_error")) {
      const size_t at = name.find("/h");
      measures.push_back(
          {name, "position error, px, " + (at == std::string::npos
                                               ? "all frames"
                                               : "frame " + name.substr(at + 2) + " ahead")});
    }
  }
  return measures;
}

std::vector<ScaleCurve> fit_scale(const std::vector<CellRecord>& cells, int64_t resamples) {
  std::vector<std::string> arms;
  std::set<double> budgets;
  for (const auto& cell : cells) {
    if (cell.tera == 0) continue;
    budgets.insert(cell.tera);
    if (std::find(arms.begin(), arms.end(), cell.arm) == arms.end()) arms.push_back(cell.arm);
  }
  if (budgets.size() < 2) return {};
  ClipResamples clips(resamples, kScaleSeed);
  std::vector<ScaleCurve> curves;
  for (const auto& measure : scale_measures(cells)) {
    for (const auto& arm : arms) {
      const auto sizes = sizes_of(cells, arm, measure, clips);
      if (!sizes.empty()) curves.push_back(fit_curve(arm, measure, sizes));
    }
  }
  return curves;
}

}  // namespace jepa::eval::comparison
