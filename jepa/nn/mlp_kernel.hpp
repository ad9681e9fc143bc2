// The GELU feed-forward half of a block on the CPU, with few passes over its wide activations.
#pragma once

#include <torch/types.h>

namespace jepa::nn {

/// Whether `mlp_kernel` can compute this: float32 on the CPU, no autocast.
bool mlp_kernel_fits(const torch::Tensor& x);

/// residual + gelu(x w1^T + b1) w2^T + b2, differentiable once. For backward the pre-activation is
/// kept and the activation is computed again, in the pass that needs its derivative anyway.
/// @param residual, x float32 [..., dim]
/// @param w1 [hidden, dim], b1 [hidden], w2 [dim, hidden], b2 [dim]
torch::Tensor mlp_kernel(const torch::Tensor& residual, const torch::Tensor& x,
                         const torch::Tensor& w1, const torch::Tensor& b1, const torch::Tensor& w2,
                         const torch::Tensor& b2);

}  // namespace jepa::nn
