// Distances between sets of clips in a feature space of our own: Fréchet distance and polynomial
// MMD.
//
// NOT STANDARD: published FID, KID and FVD use the features of one fixed network (Inception, I3D)
// and scale them otherwise. These numbers compare with each other, for one feature space and one
// number of clips, and with nothing published. A contestant's own encoder favours that contestant.
// Always print the real-against-real floor beside them.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace jepa::eval::comparison {

/// Both distances of two sets.
struct FeatureDistance {
  double frechet = 0;
  double mmd = 0;  ///< squared; unbiased, so around 0, and below it, for equal distributions
};

/// Squared distance of the Gaussians with the sets' means and covariances (Heusel et al. 2017):
/// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). It is biased upwards by few samples: compare sets
/// of equal size, of many more rows than columns.
/// @param a, b features [n >= 2, d] and [m >= 2, d]
double frechet_distance(const torch::Tensor& a, const torch::Tensor& b);

/// Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (Binkowski et al.
/// 2018, as in KID).
/// @param a, b features [n >= 2, d] and [m >= 2, d]
double polynomial_mmd(const torch::Tensor& a, const torch::Tensor& b);

/// The principal directions of a reference set, and the scale that makes its mean square 1.
class PrincipalProjection {
 public:
  /// @param reference features [n >= 2, D] of real clips
  /// @param dimensions at most so many are kept; fewer where D or n - 1 is less
  explicit PrincipalProjection(const torch::Tensor& reference, int64_t dimensions = 64);

  /// Features [n, D] -> double [n, d]: less the reference's mean and over its deviation, feature by
  /// feature, along the principal directions of that, all divided by one number, so that distances
  /// of different feature spaces are of one order. A feature that does not vary is left out.
  torch::Tensor operator()(const torch::Tensor& features) const;

 private:
  torch::Tensor mean_;        // double [D]
  torch::Tensor directions_;  // double [D, d], over the scale
};

/// Both distances of `other` [m, D] from `reference` [n, D], real clips, after projection onto the
/// reference's principal directions.
FeatureDistance feature_distance(const torch::Tensor& reference, const torch::Tensor& other,
                                 int64_t dimensions = 64);

/// What sampling alone makes of the distance: `repeats` times one random half of real features
/// [n >= 4, D] against the other. For sets of n / 2 clips each.
std::vector<FeatureDistance> real_floor(const torch::Tensor& real, uint64_t seed,
                                        int64_t repeats = 4, int64_t dimensions = 64);

}  // namespace jepa::eval::comparison
