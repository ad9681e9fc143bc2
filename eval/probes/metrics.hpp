// Scores with honest intervals: bootstrapped over independent units (digit instances, source
// segments), never over the clips drawn from them.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace jepa::eval::probes {

/// A value and its 95 % interval.
struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
};

/// `value` with the 95 % percentile interval of its resamples double [R].
Estimate with_interval(double value, const torch::Tensor& resampled);

/// Sums of one prediction's successes and errors within each unit, from which its score follows on
/// any resample of the units: accuracy for classes, R2 (mean over outputs) for quantities.
class UnitScores {
 public:
  /// @param predictions int64 [n] classes, or floating [n, K] quantities
  /// @param truth of the same shape
  /// @param units int64 [n], the unit of each row, 0 .. `unit_count` - 1
  UnitScores(const torch::Tensor& predictions, const torch::Tensor& truth,
             const torch::Tensor& units, int64_t unit_count);

  double value() const;
  /// R2 of each output, or the accuracy alone.
  std::vector<double> per_output() const;
  /// The sums that everything follows from, double [U, S]; `from_sums` takes them back.
  const torch::Tensor& sums() const { return sums_; }
  bool classes() const { return classes_; }
  /// @param sums double [U, S]: of classes (or of any mean) the sum and the count, S = 2; of K
  ///   quantities S = 3 K + 1
  static UnitScores from_sums(const torch::Tensor& sums);
  /// A mean over rows: `values` [n] of rows that belong to `units` int64 [n].
  static UnitScores of_values(const torch::Tensor& values, const torch::Tensor& units,
                              int64_t unit_count);

  /// The score on each of R resamples: `counts` double [R, U], how often each unit was drawn ->
  /// double [R].
  torch::Tensor resampled(const torch::Tensor& counts) const;

 private:
  UnitScores() = default;
  /// Sums [R, S] -> score of each output, [R, K].
  torch::Tensor scores(const torch::Tensor& sums) const;

  torch::Tensor sums_;  ///< double [U, S]
  bool classes_ = false;
};

/// Renumbers arbitrary unit names int64 [n] as 0 .. U - 1. @return the numbers; U in `unit_count`
torch::Tensor number_units(const torch::Tensor& names, int64_t& unit_count);

/// Draws `units` units with replacement `resamples` times -> counts double [resamples, units].
torch::Tensor resample_units(int64_t units, int64_t resamples, uint64_t seed);

/// The score with its percentile interval over the resamples.
Estimate estimate(const UnitScores& scores, const torch::Tensor& counts);

/// What `scores` is above `control`, both on the same resamples.
Estimate paired_difference(const UnitScores& scores, const UnitScores& control,
                           const torch::Tensor& counts);

// A control that is drawn at random (an initialisation) has several draws, each with its own scores
// of the same clips. Every resample takes one of the draws, as the model is one draw, and resamples
// the units: intervals hold how much the start matters, not only which clips were asked.

/// Which draw each resample takes: int64 [resamples] in 0 .. `draws` - 1.
torch::Tensor resample_draws(int64_t draws, int64_t resamples, uint64_t seed);

/// The mean of the draws' scores; the interval is over draws and units.
Estimate estimate(const std::vector<UnitScores>& draws, const torch::Tensor& counts,
                  const torch::Tensor& chosen);

/// What `scores` is above the mean of the control's draws; the interval is over draws and units.
Estimate paired_difference(const UnitScores& scores, const std::vector<UnitScores>& control,
                           const torch::Tensor& counts, const torch::Tensor& chosen);

/// The quantile of Student's t distribution, exact for any degrees of freedom above 0.
double student_t_quantile(double freedom, double probability);

}  // namespace jepa::eval::probes
