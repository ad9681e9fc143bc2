#include <eval/planning/ensemble.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

namespace jepa::eval::planning {

Ensemble::Ensemble(std::vector<Member> members) : members_(std::move(members)) {
  if (members_.empty()) throw ConfigError("an ensemble has one member at least");
  for (size_t i = 1; i < members_.size(); ++i) {
    const int64_t width = members_[i].model.action_width();
    if (width == action_width()) continue;
    throw ConfigError(c10::str("an ensemble's models take the same actions: member ", i + 1,
                               " takes ", width, " numbers, the first ", action_width()));
  }
}

torch::Tensor Ensemble::encode(const torch::Tensor& frames) {
  std::vector<torch::Tensor> latents;
  for (const auto& member : members_) latents.push_back(member.model.encode(frames));
  return torch::cat(latents, -1);
}

torch::Tensor Ensemble::rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                                const torch::Tensor& actions) {
  const auto pasts = past.split_with_sizes(widths(), -1);
  std::vector<torch::Tensor> latents;
  for (size_t i = 0; i < members_.size(); ++i) {
    latents.push_back(members_[i].model.rollout(pasts[i], past_actions, actions));
  }
  return torch::cat(latents, -1);
}

std::vector<int64_t> Ensemble::widths() const {
  std::vector<int64_t> widths;
  for (const auto& member : members_) widths.push_back(member.width);
  return widths;
}

}  // namespace jepa::eval::planning
