#include <eval/planning/search.hpp>
#include <jepa/errors.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <limits>

namespace jepa::eval::planning {

Draws Draws::from(at::Generator generator) {
  const auto uniform = [generator](at::IntArrayRef sizes) {
    return at::rand(sizes, generator, at::TensorOptions(at::kFloat));
  };
  return {[generator](at::IntArrayRef sizes) {
            return at::randn(sizes, generator, at::TensorOptions(at::kFloat));
          },
          uniform,
          [uniform](const torch::Tensor& weights) {
            const auto sums = weights.cumsum(-1);
            const auto mark = uniform({weights.size(0), 1}) * sums.narrow(1, sums.size(1) - 1, 1);
            return sums.le(mark).sum(1).clamp_max(weights.size(1) - 1);
          }};
}

torch::Tensor checked_costs(const CostFunction& costs, const torch::Tensor& candidates) {
  const auto given = costs(candidates);
  if (!given.defined() || given.dim() != 2 || given.size(0) != candidates.size(0) ||
      given.size(1) != candidates.size(1)) {
    throw DataError(c10::str("planning: costs [", candidates.size(0), ", ", candidates.size(1),
                             "] expected, found ",
                             given.defined() ? c10::str(given.sizes()) : "none"));
  }
  if (!given.isnan().logical_not().any(1).all().item<bool>()) {
    throw DataError("planning: no candidate of an episode has a cost that is a number");
  }
  const double none = std::numeric_limits<double>::infinity();
  return given.isnan().any().item<bool>() ? given.masked_fill(given.isnan(), none) : given;
}

torch::Tensor per_action(const std::vector<double>& values, int64_t width, const char* what) {
  const auto count = static_cast<int64_t>(values.size());
  if (count != 1 && count != width) {
    throw ConfigError(c10::str("planner: ", what, " has ", count, " values, actions have ", width));
  }
  return torch::tensor(values, torch::kFloat32).expand({width});
}

torch::Tensor cut(const torch::Tensor& actions, const std::vector<double>& low,
                  const std::vector<double>& high) {
  auto x = actions;
  if (!low.empty()) x = x.maximum(per_action(low, x.size(-1), "low"));
  if (!high.empty()) x = x.minimum(per_action(high, x.size(-1), "high"));
  return x;
}

torch::Tensor rows(const torch::Tensor& candidates, const torch::Tensor& ids) {
  const auto index =
      ids.unsqueeze(-1).unsqueeze(-1).expand({-1, -1, candidates.size(2), candidates.size(3)});
  return candidates.gather(1, index);
}

torch::Tensor start_of(const PlanRequest& request) {
  const std::vector<int64_t> sizes = {request.episodes, request.horizon, request.action_width};
  TORCH_CHECK(request.episodes >= 1 && request.horizon >= 1 && request.action_width >= 1,
              "planning: ", request.episodes, " episodes of ", request.horizon, " actions of ",
              request.action_width, " numbers");
  if (!request.warm_start.defined()) return torch::zeros(sizes);
  if (request.warm_start.sizes() != at::IntArrayRef(sizes)) {
    throw DataError(c10::str("planning: a warm start ", at::IntArrayRef(sizes), " expected, found ",
                             request.warm_start.sizes()));
  }
  return request.warm_start.to(torch::kFloat32);
}

void check_population(const char* who, int64_t samples, int64_t elites, int64_t iterations) {
  if (elites < 1 || elites > samples || iterations < 1) {
    throw ConfigError(c10::str(who, ": ", elites, " elites of ", samples, " samples in ",
                               iterations, " iterations"));
  }
}

void Best::take(const torch::Tensor& candidates, const torch::Tensor& costs) {
  const auto lowest = costs.argmin(1, /*keepdim=*/true);
  const auto found = costs.gather(1, lowest).squeeze(1);
  const auto chosen = rows(candidates, lowest).squeeze(1);
  if (!cost.defined()) {
    cost = found;
    actions = chosen;
    return;
  }
  const auto better = found < cost;
  cost = at::where(better, found, cost);
  actions = at::where(better.unsqueeze(-1).unsqueeze(-1), chosen, actions);
}

}  // namespace jepa::eval::planning
