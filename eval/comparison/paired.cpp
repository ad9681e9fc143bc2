#include <eval/comparison/grid.hpp>
#include <eval/comparison/paired.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace jepa::eval::comparison {
namespace {

constexpr int64_t kResamples = 1000;
constexpr uint64_t kSeed = 0;
constexpr double kNormal = 1.959963984540054;  // 97.5 %

/// [R, S], or [R, 1] repeated where there are no seeds.
torch::Tensor by_seed(const ResampledScores& scores, int64_t seeds) {
  return torch::stack(scores.resampled, 1).expand({-1, seeds});
}

double value_of(const ResampledScores& scores, size_t seed) {
  return scores.values[scores.values.size() == 1 ? 0 : seed];
}

}  // namespace

ResampledScores resample_scores(const std::vector<probes::UnitScores>& seeds,
                                const torch::Tensor& counts) {
  ResampledScores scores;
  for (const auto& seed : seeds) {
    scores.values.push_back(seed.value());
    scores.resampled.push_back(seed.resampled(counts));
  }
  return scores;
}

probes::Estimate arm_difference(const ResampledScores& a, const ResampledScores& b, uint64_t seed) {
  const size_t count = std::max(a.values.size(), b.values.size());
  TORCH_CHECK(count > 0 && (a.values.size() == b.values.size() || a.values.size() == 1 ||
                            b.values.size() == 1),
              "arms of ", a.values.size(), " and ", b.values.size(), " seeds");
  const auto seeds = static_cast<int64_t>(count);
  double value = 0;
  for (size_t s = 0; s < count; ++s) {
    value += (value_of(a, s) - value_of(b, s)) / static_cast<double>(count);
  }
  const auto differences = by_seed(a, seeds) - by_seed(b, seeds);  // [R, S]
  auto resampled = differences.mean(1);
  if (seeds > 1) {
    const auto n = static_cast<double>(seeds);
    const double stretch =
        std::sqrt(n / (n - 1)) * probes::student_t_quantile(n - 1, 0.975) / kNormal;
    Random random(seed, "bootstrap of seeds", 0);
    auto drawn = torch::empty({differences.size(0), seeds}, torch::kInt64);
    for (int64_t i = 0; i < drawn.numel(); ++i) drawn.data_ptr<int64_t>()[i] = random.below(seeds);
    const auto deviation = differences.gather(1, drawn).mean(1) - resampled;
    resampled = resampled + stretch * deviation;
  }
  const double half = kNormal * resampled.std().item<double>();
  return {value, value - half, value + half};
}

namespace {

/// An arm's cells at one budget and noise, by seed.
struct ArmCells {
  std::string arm;
  double tera = 0;
  std::map<int64_t, const CellRecord*> seeds;
};

bool without_seeds(const std::string& arm) { return arm == "copy_last" || arm == "linear"; }

/// In the order in which arms occur.
std::vector<ArmCells> arms_at(const std::vector<CellRecord>& cells, double noise, double tera,
                              int64_t width) {
  std::vector<ArmCells> arms;
  for (const auto& cell : cells) {
    // Arms without a budget stand beside those of every budget.
    if (cell.noise != noise || cell.arm == "truth" || (cell.tera != tera && cell.tera != 0) ||
        (cell.width != width && !without_seeds(cell.arm))) {
      continue;
    }
    auto at = std::find_if(arms.begin(), arms.end(),
                           [&](const ArmCells& known) { return known.arm == cell.arm; });
    if (at == arms.end()) at = arms.insert(at, {cell.arm, cell.tera, {}});
    at->seeds[cell.seed] = &cell;
  }
  return arms;
}

class Differences {
 public:
  /// Empty results where the arms share no seed or no result.
  ArmDifference of(const ArmCells& a, const ArmCells& b, double noise, int64_t width) {
    ArmDifference difference{.arm = a.arm,
                             .less = b.arm,
                             .tera = std::max(a.tera, b.tera),
                             .noise = noise,
                             .width = width};
    std::vector<const CellRecord*> first, second;
    for (const auto& [seed, cell] : a.seeds) {
      if (const auto other = b.seeds.find(seed); other != b.seeds.end()) {
        first.push_back(cell);
        second.push_back(other->second);
      }
    }
    const auto all = [](const ArmCells& arm) {
      std::vector<const CellRecord*> cells;
      for (const auto& [seed, cell] : arm.seeds) cells.push_back(cell);
      return cells;
    };
    if (without_seeds(a.arm) || without_seeds(b.arm)) {
      first = all(a);
      second = all(b);
    }
    if (first.empty() || second.empty()) return difference;
    difference.seeds = static_cast<int64_t>(std::max(first.size(), second.size()));
    for (const auto& [name, scores] : first.front()->scores) {
      const auto* left = resampled(first, name);
      const auto* right = resampled(second, name);
      if (left == nullptr || right == nullptr ||
          left->resampled.front().size(0) != right->resampled.front().size(0)) {
        continue;
      }
      auto& result = difference.results[name] = arm_difference(*left, *right, kSeed);
      if (!is_share(name, first.front()->scores)) continue;
      result.low = std::max(result.low, -1.0);
      result.high = std::min(result.high, 1.0);
    }
    return difference;
  }

 private:
  const torch::Tensor& counts(int64_t units) {
    auto& known = counts_[units];
    if (!known.defined()) known = probes::resample_units(units, kResamples, kSeed);
    return known;
  }

  /// Null where a cell lacks the result, or its clips were others.
  const ResampledScores* resampled(const std::vector<const CellRecord*>& cells,
                                   const std::string& name) {
    auto& known = resampled_[{cells, name}];
    if (!known.values.empty()) return &known;
    std::vector<probes::UnitScores> seeds;
    for (const auto* cell : cells) {
      const auto found = cell->scores.find(name);
      if (found == cell->scores.end()) return nullptr;
      seeds.push_back(found->second);
    }
    const int64_t units = seeds.front().sums().size(0);
    for (const auto& seed : seeds) {
      if (seed.sums().size(0) != units) return nullptr;
    }
    known = resample_scores(seeds, counts(units));
    return &known;
  }

  std::map<int64_t, torch::Tensor> counts_;
  std::map<std::pair<std::vector<const CellRecord*>, std::string>, ResampledScores> resampled_;
};

}  // namespace

std::vector<ArmDifference> paired_differences(const std::vector<CellRecord>& cells) {
  std::set<std::tuple<double, double, int64_t>> grid;  // noise, budget, width
  for (const auto& cell : cells) {
    if (cell.tera > 0) grid.insert({cell.noise, cell.tera, cell.width});
  }
  for (const auto& cell : cells) {  // of noises where nothing is trained
    const bool trained = std::any_of(grid.begin(), grid.end(),
                                     [&](const auto& at) { return std::get<0>(at) == cell.noise; });
    if (!trained) grid.insert({cell.noise, 0, cell.width});
  }
  Differences differences;
  std::vector<ArmDifference> all;
  // Once, not at every budget.
  std::set<std::tuple<double, int64_t, std::string, std::string>> untrained;
  for (const auto& [noise, tera, width] : grid) {
    const auto arms = arms_at(cells, noise, tera, width);
    for (size_t i = 0; i < arms.size(); ++i) {
      for (size_t j = i + 1; j < arms.size(); ++j) {
        const bool trained = arms[i].tera > 0 || arms[j].tera > 0;
        if (!trained && !untrained.insert({noise, width, arms[i].arm, arms[j].arm}).second) {
          continue;
        }
        auto difference = differences.of(arms[i], arms[j], noise, width);
        if (!difference.results.empty()) all.push_back(std::move(difference));
      }
    }
  }
  return all;
}

}  // namespace jepa::eval::comparison
