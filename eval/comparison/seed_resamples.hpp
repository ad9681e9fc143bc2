// Means over seeds on resamples of clips and seeds.
#pragma once

#include <eval/comparison/grid.hpp>

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// Cells of one arm, budget, noise and width, by their seeds' order.
using SeedCells = std::vector<const CellRecord*>;

/// Resamples of clips, the same for all results of as many units.
class ClipResamples {
 public:
  explicit ClipResamples(int64_t resamples, uint64_t seed) : resamples_(resamples), seed_(seed) {}
  const torch::Tensor& of(int64_t units);

 private:
  int64_t resamples_;
  uint64_t seed_;
  std::map<int64_t, torch::Tensor> counts_;
};

/// A result of every seed [S] and on every resample double [R, S]; undefined where a cell lacks it.
struct SeedResamples {
  torch::Tensor values;
  torch::Tensor resampled;
};
/// @param result its name in CellRecord::scores @param clips draws the resamples, the same for all
SeedResamples resample_seeds(const SeedCells& cells, const std::string& result,
                             ClipResamples& clips);

/// How deviations of a resample's mean are stretched: added, or as ratios, which keeps positive
/// values positive.
enum class Stretch { kSums, kRatios };

/// Means over seeds double [R] of values double [R, S]: each resample draws seeds too. Deviations
/// between seeds are stretched as in arm_difference(), since few seeds make a bootstrap too narrow.
/// That can leave what values there are: who knows them to be shares cuts the means.
torch::Tensor mean_over_seeds(const torch::Tensor& values, uint64_t seed,
                              Stretch stretch = Stretch::kSums);

}  // namespace jepa::eval::comparison
