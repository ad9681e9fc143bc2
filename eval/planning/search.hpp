// What the planners share.
#pragma once

#include <eval/planning/planner.hpp>

#include <chrono>

namespace jepa::eval::planning {

/// Costs of `candidates`, checked; what is not a number counts as infinite.
/// @throws DataError for another shape, or an episode without any number
torch::Tensor checked_costs(const CostFunction& costs, const torch::Tensor& candidates);

/// `values` (one, or `width` of them) as a tensor [width].
/// @throws ConfigError naming `what`
torch::Tensor per_action(const std::vector<double>& values, int64_t width, const char* what);

/// Cut to [low, high], each empty or one value or one for each number of an action.
torch::Tensor cut(const torch::Tensor& actions, const std::vector<double>& low,
                  const std::vector<double>& high);

/// Rows of `candidates` [B, S, H, A] at `ids` [B, K] -> [B, K, H, A].
torch::Tensor rows(const torch::Tensor& candidates, const torch::Tensor& ids);

/// The warm start, or zeros. @throws DataError where it has another shape
torch::Tensor start_of(const PlanRequest& request);

/// @throws ConfigError unless 1 <= elites <= samples and iterations >= 1
void check_population(const char* who, int64_t samples, int64_t elites, int64_t iterations);

/// Keeps the best candidate of each episode.
class Best {
 public:
  void take(const torch::Tensor& candidates, const torch::Tensor& costs);
  torch::Tensor actions, cost;
};

/// Time since it was made.
class Clock {
 public:
  explicit Clock(double limit) : limit_(limit), begin_(std::chrono::steady_clock::now()) {}
  bool over() const {
    if (limit_ <= 0) return false;
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin_;
    return passed.count() >= limit_;
  }

 private:
  double limit_;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace jepa::eval::planning
