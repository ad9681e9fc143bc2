// What imagined rollouts are worth.
#pragma once

#include <torch/types.h>

namespace jepa::eval::dreaming {

/// Lambda-returns (DreamerV3, arXiv 2301.04104): R_t = r_t + gamma c_t [(1 - lambda) v_{t+1} +
/// lambda R_{t+1}], R_T = v_T. r_t and c_t came with the step from t to t + 1.
/// @param rewards, continues [B, T] (continue 0: the episode ended with that step)
/// @param values [B, T + 1], of the states 0 to T
/// @returns [B, T]
torch::Tensor lambda_returns(const torch::Tensor& rewards, const torch::Tensor& continues,
                             const torch::Tensor& values, double gamma, double lambda);

/// How likely it is that a rollout still runs at each step, times the discount: [B, T], first 1.
torch::Tensor rollout_weights(const torch::Tensor& continues, double gamma);

}  // namespace jepa::eval::dreaming
