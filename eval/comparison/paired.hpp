// Arm less arm: all arms answer on the same clips, so their differences are paired.
#pragma once

#include <eval/comparison/cell.hpp>
#include <eval/probes/metrics.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// What one arm is above another at one budget and noise: the difference of each result that rests
/// on clips (see Scores), with its interval; of shares it ends at -1 and 1.
struct ArmDifference {
  std::string arm;
  std::string less;  ///< the arm that is taken off
  double tera = 0;   ///< budget, TFLOP; 0: neither is trained
  double noise = 0;
  int64_t width = 0;  ///< of both arms' transformers; 0: as the options say
  int64_t seeds = 0;  ///< that both have; an arm without seeds (copy_last) stands against all
  Results results = {};
};

/// One arm's scores of one result on the resamples of the clips.
struct ResampledScores {
  std::vector<double> values;            ///< one a seed
  std::vector<torch::Tensor> resampled;  ///< double [R], one a seed
};

/// Scores of one arm, one entry a seed, on shared resamples (see probes::resample_units).
ResampledScores resample_scores(const std::vector<probes::UnitScores>& seeds,
                                const torch::Tensor& counts);

/// The mean over seeds of `a` less `b`, with the 95 % interval of a bootstrap over clip x seed:
/// every resample draws units of clips, the same for both, and seeds, the same for both.
///
/// A bootstrap of few seeds is too narrow (of three it holds the mean in about 75 % of cases, not
/// 95). Deviations between seeds are therefore stretched by sqrt(S / (S - 1)) and by Student's t
/// over the normal quantile, so that seeds alone would give the usual t interval; the interval is
/// the value plus and minus 1.96 deviations of the resamples. With one seed it is over clips alone
/// and says nothing of other seeds.
/// @param a, b as many seeds each, in one order; or one of them a single entry without seeds
probes::Estimate arm_difference(const ResampledScores& a, const ResampledScores& b, uint64_t seed);

}  // namespace jepa::eval::comparison
