#include <eval/planning/world_model.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

namespace jepa::eval::planning {
namespace {

constexpr double kLeastVariance = 1e-12;

}  // namespace

torch::Tensor GoalCost::operator()(const torch::Tensor& latents, const torch::Tensor& start,
                                   const torch::Tensor& goal) const {
  auto steps = (latents - goal.unsqueeze(-2)).square();
  if (include_start) steps = torch::cat({(start - goal).square().unsqueeze(-2), steps}, -2);
  const auto over_width = [&](const torch::Tensor& x) {
    return sum_width ? x.sum(-1) : x.mean(-1);
  };
  torch::Tensor distance;
  if (members.empty()) {
    distance = over_width(steps);
  } else {
    std::vector<torch::Tensor> each;
    for (const auto& part : steps.split_with_sizes(members, -1)) each.push_back(over_width(part));
    const auto all = torch::stack(each);
    distance = all.mean(0);
    if (disagreement != 0) {  // not std: its gradient is NaN where all agree
      const auto spread = (all.var(0, /*unbiased=*/false) + kLeastVariance).sqrt();
      distance = distance + disagreement * spread;
    }
  }
  if (over_time == "sum") return distance.sum(-1);
  if (over_time == "last") return distance.select(-1, distance.size(-1) - 1);
  if (over_time == "min") return distance.amin(-1);
  throw ConfigError("planning: the cost over time is sum, last or min, not '" + over_time + "'");
}

CostFunction goal_costs(WorldModel& model, const torch::Tensor& past,
                        const torch::Tensor& past_actions, const torch::Tensor& goal,
                        const GoalCost& cost) {
  TORCH_CHECK(past.dim() == 3 && goal.dim() == 2 && goal.size(0) == past.size(0) &&
                  goal.size(1) == past.size(2),
              "goal_costs: past [B, h, D] and goal [B, D] expected, got ", past.sizes(), " and ",
              goal.sizes());
  return [&model, past, past_actions, goal, cost](const torch::Tensor& candidates) {
    if (candidates.size(-1) != model.action_width()) {
      throw DataError(c10::str("planning: candidates ", candidates.sizes(),
                               ", the model takes actions of ", model.action_width()));
    }
    const int64_t episodes = candidates.size(0), samples = candidates.size(1);
    const auto each = [&](const torch::Tensor& of) {
      return of.unsqueeze(1).expand({-1, samples, -1, -1}).flatten(0, 1);
    };
    const auto latents =
        model.rollout(each(past), past_actions.defined() ? each(past_actions) : torch::Tensor(),
                      candidates.flatten(0, 1));
    const auto present = past.select(1, past.size(1) - 1);
    return cost(latents.unflatten(0, {episodes, samples}),
                present.unsqueeze(1).expand({-1, samples, -1}), goal.unsqueeze(1));
  };
}

}  // namespace jepa::eval::planning
