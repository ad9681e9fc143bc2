// Acting by planning: plan some actions, do the first of them, plan again.
#pragma once

#include <eval/planning/planner.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace jepa::eval::planning {

/// How plans are used.
struct RecedingHorizonOptions {
  int64_t horizon = 18;    ///< blocks of a plan; fewer where fewer steps are left
  int64_t block = 5;       ///< environment steps of a block, which is one action of the model
  bool hold = true;        ///< a block is one action held; else `block` actions side by side
  int64_t execute = 1;     ///< blocks done before the next plan
  bool warm_start = true;  ///< begin from what is left of the last plan
  double seconds = 0;      ///< of one episode's decision: a batch of B has B times as long; 0: any

  void describe(OptionVisitor& visit);
};

/// Turns plans of blocks into actions of single steps, for all episodes of a batch at once.
class RecedingHorizon {
 public:
  /// @param action_width numbers in one action of the environment
  /// @throws ConfigError where options contradict each other
  RecedingHorizon(std::shared_ptr<const Planner> planner, RecedingHorizonOptions options,
                  int64_t action_width, Draws draws);

  /// Forgets everything: new episodes begin.
  void begin(int64_t episodes);
  /// Whether `act` will plan, so that costs from the present are needed.
  bool needs_plan() const { return next_ >= queue_.size(); }
  /// The action of this step, [B, action_width].
  /// @param costs of candidates [B, S, H, block * action_width] from the present on; called only
  ///   where needs_plan()
  /// @param steps_left of the episodes, this one counted
  torch::Tensor act(const CostFunction& costs, int64_t steps_left);

  /// Blocks of actions of this controller -> what the model takes, [..., block * action_width].
  torch::Tensor expand(const torch::Tensor& blocks) const;
  /// Numbers that the planner searches for each block.
  int64_t searched_width() const { return options_.hold ? width_ : width_ * options_.block; }
  int64_t plans() const { return plans_; }
  double planning_seconds() const { return seconds_; }
  const Plan& last_plan() const { return last_; }

 private:
  void plan(const CostFunction& costs, int64_t steps_left);

  std::shared_ptr<const Planner> planner_;
  RecedingHorizonOptions options_;
  int64_t width_;
  Draws draws_;
  int64_t episodes_ = 0;
  std::vector<torch::Tensor> queue_;  // actions of single steps, [B, width]
  size_t next_ = 0;
  torch::Tensor rest_;  // of the last plan, [B, h, searched width]
  Plan last_;
  int64_t plans_ = 0;
  double seconds_ = 0;
};

}  // namespace jepa::eval::planning
