// Multi-head self-attention.
#pragma once

#include <jepa/nn/layers.hpp>
#include <jepa/nn/positions.hpp>

namespace jepa::nn {

/// Scaled dot-product attention. q [B, heads, Nq, d], k and v [B, heads, Nk, d] ->
/// [B, heads, Nq, d]. `mask` (optional) is bool [Nq, Nk], true where a query may look.
torch::Tensor attend(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                     const torch::Tensor& mask = {});

/// Self-attention with one joint projection `qkv` [3*dim, dim] (thirds q, k, v; heads inside) and
/// an output projection `proj`.
class AttentionImpl : public torch::nn::Module {
 public:
  AttentionImpl(int64_t dim, int64_t heads);

  /// @param x [B, N, dim]
  /// @param rotary turns queries and keys; undefined: no rotary positions
  /// @param mask bool [N, N], true where a token may look; undefined: everywhere
  torch::Tensor forward(const torch::Tensor& x, const RotaryTable& rotary = {},
                        const torch::Tensor& mask = {});
  /// residual + forward(x, ...)
  torch::Tensor forward_onto(const torch::Tensor& residual, const torch::Tensor& x,
                             const RotaryTable& rotary, const torch::Tensor& mask);

  Linear qkv{nullptr};
  Linear proj{nullptr};

 private:
  /// What all heads see, before the output projection.
  torch::Tensor mix(const torch::Tensor& x, const RotaryTable& rotary, const torch::Tensor& mask);

  int64_t heads_;
};
TORCH_MODULE(Attention);

}  // namespace jepa::nn
