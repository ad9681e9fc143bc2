// What a planner needs of a world model: costs of candidate actions.
#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

namespace jepa::eval::planning {

/// Costs [B, S] of candidate actions [B, S, H, A]: S candidates of H actions (or blocks of actions)
/// for each of B episodes. The lower the better.
using CostFunction = std::function<torch::Tensor(const torch::Tensor& candidates)>;

/// A model of the world with one latent a frame.
class WorldModel {
 public:
  virtual ~WorldModel() = default;

  /// Latents of frames. @param frames as the model takes them, [N, C, H, W] @returns [N, D]
  virtual torch::Tensor encode(const torch::Tensor& frames) = 0;
  /// Imagined latents. @param past latents of the last h >= 1 frames [N, h, D]
  /// @param past_actions the actions between them [N, h - 1, A] (h = 1: may be undefined)
  /// @param actions the ones to come [N, H, A] @returns [N, H, D]
  virtual torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                                const torch::Tensor& actions) = 0;
  /// Numbers in an action as `rollout` takes it.
  virtual int64_t action_width() const = 0;
};

/// How distances to the goal at each step become one cost.
struct GoalCost {
  std::string over_time = "last";  ///< sum, last or min over the horizon
  bool include_start = false;      ///< the present latent is a step too (eb_jepa's sum)
  bool sum_width = false;          ///< squared difference summed over the width, not its mean
  /// Widths of an ensemble's members; empty: one model. A step's distance is then the mean of the
  /// members' distances and `disagreement` times their standard deviation.
  std::vector<int64_t> members = {};
  double disagreement = 0;

  /// @param latents [..., H, D] @param start [..., D] @param goal [..., D] -> [...]
  /// @throws ConfigError for an unknown `over_time`
  torch::Tensor operator()(const torch::Tensor& latents, const torch::Tensor& start,
                           const torch::Tensor& goal) const;
};

/// Costs of candidates under `model`, all episodes and candidates in one batch.
/// @param past latents [B, h, D] @param past_actions [B, h - 1, A] or undefined
/// @param goal its latent [B, D], encoded once
/// The returned function holds a reference to `model`.
CostFunction goal_costs(WorldModel& model, const torch::Tensor& past,
                        const torch::Tensor& past_actions, const torch::Tensor& goal,
                        const GoalCost& cost);

}  // namespace jepa::eval::planning
