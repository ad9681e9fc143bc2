// Linear probes on standardised features: ridge regression and multinomial logistic regression,
// each with a whole grid of weight decays from one eigendecomposition.
#pragma once

#include <eval/probes/candidate.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace jepa::eval::probes {

/// Features less the mean, over the deviation, of those it was made from. A feature that never
/// changes is dropped (scale 0).
struct Standardiser {
  torch::Tensor mean;   ///< float [D]
  torch::Tensor scale;  ///< float [D]

  explicit Standardiser(const torch::Tensor& features);
  /// From mean and deviation, float [2, D].
  static Standardiser of_moments(const torch::Tensor& moments);
  /// From its members.
  static Standardiser of_scale(torch::Tensor mean, torch::Tensor scale);
  torch::Tensor operator()(const torch::Tensor& features) const;

 private:
  Standardiser() = default;
  void set(const torch::Tensor& centre, const torch::Tensor& deviation);
};

/// A standardised linear map, weight float [D, K] and bias float [K].
Candidate linear_candidate(const Standardiser& standardise, torch::Tensor weight,
                           torch::Tensor bias, std::string setting);

/// Default grids: decades of weight decay on the mean loss. Ridge's costs nothing to widen.
std::vector<double> ridge_grid();
/// That of logistic regression: 1e-4 to 10.
std::vector<double> logistic_grid();

/// Ridge regression, mean squared error / 2 + decay |W|^2 / 2, for each decay. Classes are
/// predicted as one-hot targets. Costs one D x D eigenvalue problem.
std::vector<Candidate> fit_ridge(const LabelledFeatures& train, const std::vector<double>& decays);

/// When the logistic fit stops.
struct LogisticOptions {
  int64_t iterations = 200;  ///< at most
  double tolerance = 1e-4;   ///< largest entry of the gradient
};

/// Multinomial logistic regression, mean cross-entropy + decay |W|^2 / 2, for each decay, all
/// decays at once. Newton's method with Boehning's fixed bound on the Hessian (1992), diagonal in
/// the features' eigenbasis and so free to invert, accelerated by momentum that restarts.
std::vector<Candidate> fit_logistic(const LabelledFeatures& train,
                                    const std::vector<double>& decays,
                                    const LogisticOptions& options = {});

}  // namespace jepa::eval::probes
