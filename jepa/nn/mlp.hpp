// The feed-forward half of a transformer block.
#pragma once

#include <jepa/nn/layers.hpp>

#include <string>

namespace jepa::nn {

/// `gelu`: fc2(gelu(fc1 x)), the exact GELU. `swiglu`: fc3(silu(fc1 x) * fc2 x).
class MlpImpl : public torch::nn::Module {
 public:
  /// @throws ConfigError for an activation that is neither "gelu" nor "swiglu"
  MlpImpl(int64_t dim, int64_t hidden, const std::string& activation = "gelu");
  torch::Tensor forward(const torch::Tensor& x);
  /// residual + forward(x)
  torch::Tensor forward_onto(const torch::Tensor& residual, const torch::Tensor& x);

  Linear fc1{nullptr};
  Linear fc2{nullptr};
  Linear fc3{nullptr};  ///< SwiGLU only
};
TORCH_MODULE(Mlp);

/// Hidden width of a SwiGLU that has the parameters of a plain MLP of width `hidden`: two thirds of
/// it, rounded up to a multiple of 8.
int64_t wide_swiglu_width(int64_t hidden);

}  // namespace jepa::nn
