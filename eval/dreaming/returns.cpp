#include <eval/dreaming/returns.hpp>

#include <torch/types.h>

#include <vector>

namespace jepa::eval::dreaming {

torch::Tensor lambda_returns(const torch::Tensor& rewards, const torch::Tensor& continues,
                             const torch::Tensor& values, double gamma, double lambda) {
  TORCH_CHECK(rewards.dim() == 2 && continues.sizes() == rewards.sizes() && values.dim() == 2 &&
                  values.size(0) == rewards.size(0) && values.size(1) == rewards.size(1) + 1,
              "lambda_returns: rewards and continues [B, T] and values [B, T + 1] expected, got ",
              rewards.sizes(), ", ", continues.sizes(), " and ", values.sizes());
  const int64_t steps = rewards.size(1);
  std::vector<torch::Tensor> returns(steps);
  auto later = values.select(1, steps);
  for (int64_t t = steps - 1; t >= 0; --t) {
    const auto ahead = (1 - lambda) * values.select(1, t + 1) + lambda * later;
    later = rewards.select(1, t) + gamma * continues.select(1, t) * ahead;
    returns[t] = later;
  }
  return torch::stack(returns, 1);
}

torch::Tensor rollout_weights(const torch::Tensor& continues, double gamma) {
  const auto kept = (gamma * continues).cumprod(1);
  return torch::cat({torch::ones_like(kept.narrow(1, 0, 1)), kept.narrow(1, 0, kept.size(1) - 1)},
                    1);
}

}  // namespace jepa::eval::dreaming
