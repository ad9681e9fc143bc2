// Covariance matrix adaptation evolution strategy (Hansen, arXiv 1604.00772).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace jepa::eval::dreaming {

/// How a search goes.
struct CmaEsOptions {
  int64_t population = 0;  ///< candidates a generation; 0: 4 + floor(3 ln n)
  double step = 0.5;       ///< first standard deviation
  uint64_t seed = 1;
  /// Only the diagonal of the covariance is learned (Ros and Hansen 2008): for thousands of
  /// parameters.
  bool diagonal = false;
};

/// Searches the lowest cost: ask for candidates, tell their costs, again.
class CmaEs {
 public:
  /// @param start first mean, [n]
  /// @throws ConfigError for fewer than 4 candidates or a step that is not above 0
  CmaEs(const std::vector<double>& start, CmaEsOptions options);
  ~CmaEs();
  CmaEs(CmaEs&&) noexcept;
  CmaEs& operator=(CmaEs&&) noexcept;

  /// Candidates float64 [population, n].
  torch::Tensor ask();
  /// Costs of the candidates last asked for, [population]; what is not finite is the worst.
  /// @throws DataError for another number of costs, or where none is finite
  void tell(const torch::Tensor& costs);

  torch::Tensor mean() const;  ///< float64 [n]
  torch::Tensor best() const;  ///< float64 [n], of all that were told
  double best_cost() const;
  double step() const;  ///< standard deviation now
  int64_t generation() const;
  int64_t population() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Runs a search until the best cost is at most `target` or `evaluations` are spent.
/// @param cost of candidates [population, n] -> [population]
CmaEs minimise(const std::function<torch::Tensor(const torch::Tensor&)>& cost,
               const std::vector<double>& start, const CmaEsOptions& options, double target,
               int64_t evaluations);

}  // namespace jepa::eval::dreaming
