// Linear layers and layer norms that are built without initialisation, and the published
// initialisation for them.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace jepa::nn {

/// `y = x W^T + b`; weight [out, in], bias [out]. Uninitialised until filled.
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(int64_t in, int64_t out, bool with_bias = true);
  torch::Tensor forward(const torch::Tensor& x) const;
  /// residual + forward(x), the product accumulated onto the residual; x [B, N, in].
  torch::Tensor forward_onto(const torch::Tensor& residual, const torch::Tensor& x) const;

  torch::Tensor weight;
  torch::Tensor bias;  ///< undefined without bias
};
TORCH_MODULE(Linear);

/// Layer norm over the last dimension with scale and shift. Uninitialised until filled.
class LayerNormImpl : public torch::nn::Module {
 public:
  explicit LayerNormImpl(int64_t dim, double eps = 1e-6);
  torch::Tensor forward(const torch::Tensor& x) const;

  torch::Tensor weight;
  torch::Tensor bias;

 private:
  double eps_;
};
TORCH_MODULE(LayerNorm);

/// Fills `weight` with N(0, deviation) truncated at +-2 (absolute, as published, so hardly at all),
/// by inverse distribution function.
void truncated_normal(const torch::Tensor& weight, double deviation, at::Generator generator);

/// The published initialisation of every layer under `root`: matrices truncated normal with
/// deviation 0.02, biases 0, layer norms 1 and 0. Parameters that belong to no layer of this room
/// (mask tokens, query tokens) are left alone.
/// @param xavier deviation sqrt(2 / (in + out)) instead (Glorot and Bengio 2010): about 0.02 at a
///   width of 1024 with its MLP, larger for the narrow models that 0.02 leaves nearly linear
void initialise_layers(torch::nn::Module& root, at::Generator generator, bool xavier = false);

}  // namespace jepa::nn
