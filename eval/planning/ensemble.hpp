// Several world models as one: what they agree on, and how far they do not.
#pragma once

#include <eval/planning/world_model.hpp>

#include <torch/types.h>

#include <vector>

namespace jepa::eval::planning {

/// Models of the same actions, such as training seeds of one recipe. A latent is the members'
/// latents side by side; each imagines its own. `GoalCost::members` tells them apart again.
class Ensemble : public WorldModel {
 public:
  struct Member {
    WorldModel& model;  ///< takes the same frames and actions as the others
    int64_t width = 0;  ///< of its latents
  };
  /// @throws ConfigError for none, or members whose actions have other widths
  explicit Ensemble(std::vector<Member> members);

  torch::Tensor encode(const torch::Tensor& frames) override;
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                        const torch::Tensor& actions) override;
  int64_t action_width() const override { return members_.front().model.action_width(); }

  /// Widths of the members' latents, for `GoalCost::members`.
  std::vector<int64_t> widths() const;

 private:
  std::vector<Member> members_;
};

}  // namespace jepa::eval::planning
