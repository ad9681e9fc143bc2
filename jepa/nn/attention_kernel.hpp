// Self-attention on the CPU, head by head on the joint projection, without rearranging copies.
#pragma once

#include <jepa/nn/positions.hpp>

#include <torch/types.h>

namespace jepa::nn {

/// Whether `attention_kernel` can and should compute this: float32 on the CPU, a BLAS at hand, and
/// a sequence short enough for whole rows of scores to stay in cache. Longer ones are for the
/// library's fused kernel, which was measured to suit short sequences and narrow heads badly.
bool attention_kernel_fits(const torch::Tensor& qkv);

/// softmax(q k^T / sqrt(d)) v for every head, differentiable once.
/// @param qkv contiguous float32 [B, N, 3, heads, d]
/// @param rotary turns queries and keys; undefined: no rotary positions
/// @returns [B, N, heads * d]
torch::Tensor attention_kernel(const torch::Tensor& qkv, const RotaryTable& rotary);

}  // namespace jepa::nn
