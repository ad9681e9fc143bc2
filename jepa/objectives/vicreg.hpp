// Variance and covariance terms (VICReg, arXiv 2105.04906) on any matrix of samples.
#pragma once

#include <torch/types.h>

#include <string_view>

namespace jepa {

/// Mean over dimensions of relu(gamma - sqrt(var_j + eps)), unbiased variance over the n rows of
/// `samples` [n, D] -> scalar; n >= 2.
torch::Tensor variance_hinge(const torch::Tensor& samples, double gamma = 1.0, double eps = 1e-4);

/// What the sum over squared off-diagonal covariances is divided by.
enum class CovarianceScale {
  width,  ///< D, as in the paper
  pairs,  ///< D (D - 1): the mean square, independent of the width
};

/// Sum of squared off-diagonal entries of the unbiased covariance of `samples` [n, D], scaled
/// -> scalar; n >= 2.
torch::Tensor covariance_penalty(const torch::Tensor& samples,
                                 CovarianceScale scale = CovarianceScale::width);

/// `tokens` [B, K, D] standing at `ids` [B, K], each less the mean of its position over those
/// n clips of the batch that show it, times sqrt(n / (n - 1)), so that squares are unbiased
/// variances; 0 where n is 1. `positions` is the number of ids there are. What is left is content:
/// it tells clips apart at one place.
torch::Tensor less_position_mean(const torch::Tensor& tokens, const torch::Tensor& ids,
                                 int64_t positions);

}  // namespace jepa
