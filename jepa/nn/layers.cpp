#include <jepa/nn/layers.hpp>
#include <jepa/nn/patch_embedding.hpp>

#include <ATen/autocast_mode.h>
#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::nn {
namespace {
constexpr double kDeviation = 0.02;
}

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias) {
  weight = register_parameter("weight", torch::empty({out, in}));
  if (with_bias) bias = register_parameter("bias", torch::empty({out}));
}

torch::Tensor LinearImpl::forward(const torch::Tensor& x) const {
  return at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
}

torch::Tensor LinearImpl::forward_onto(const torch::Tensor& residual,
                                       const torch::Tensor& x) const {
  if (!bias.defined() || at::autocast::is_autocast_enabled(x.device().type())) {
    return residual + forward(x);
  }
  // In place on rows, not on a view of the result: autograd then has no slice to copy.
  return at::add(residual.flatten(0, 1), bias)
      .addmm_(x.flatten(0, 1), weight.t())
      .view(residual.sizes());
}

LayerNormImpl::LayerNormImpl(int64_t dim, double eps) : eps_(eps) {
  weight = register_parameter("weight", torch::empty({dim}));
  bias = register_parameter("bias", torch::empty({dim}));
}

torch::Tensor LayerNormImpl::forward(const torch::Tensor& x) const {
  return at::layer_norm(x, weight.sizes(), weight, bias, eps_);
}

void truncated_normal(const torch::Tensor& weight, double deviation, at::Generator generator) {
  const torch::NoGradGuard no_grad;
  const double bound = 2.0;
  // erf of the bounds in units of the deviation: the uniform draw covers the kept probability.
  const double tail = std::erf(bound / deviation / std::sqrt(2.0));
  weight.uniform_(-tail, tail, std::move(generator))
      .erfinv_()
      .mul_(deviation * std::sqrt(2.0))
      .clamp_(-bound, bound);
}

void initialise_layers(torch::nn::Module& root, at::Generator generator, bool xavier) {
  const torch::NoGradGuard no_grad;
  const auto fill = [&](const torch::Tensor& weight) {
    const auto matrix = weight.flatten(1);
    const double wide = static_cast<double>(matrix.size(0) + matrix.size(1));
    truncated_normal(weight, xavier ? std::sqrt(2.0 / wide) : kDeviation, generator);
  };
  for (const auto& module : root.modules()) {
    if (auto* linear = module->as<LinearImpl>()) {
      fill(linear->weight);
      if (linear->bias.defined()) linear->bias.zero_();
    } else if (auto* patches = module->as<PatchProjectionImpl>()) {
      fill(patches->weight);
      patches->bias.zero_();
    } else if (auto* norm = module->as<LayerNormImpl>()) {
      norm->weight.fill_(1);
      norm->bias.zero_();
    }
  }
}

}  // namespace jepa::nn
