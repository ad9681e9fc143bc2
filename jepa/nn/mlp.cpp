#include <jepa/errors.hpp>
#include <jepa/nn/mlp.hpp>
#include <jepa/nn/mlp_kernel.hpp>

#include <torch/types.h>

namespace jepa::nn {

MlpImpl::MlpImpl(int64_t dim, int64_t hidden, const std::string& activation) {
  if (activation != "gelu" && activation != "swiglu") {
    throw ConfigError("activation: expected gelu or swiglu, found '" + activation + "'");
  }
  const bool gated = activation == "swiglu";
  fc1 = register_module("fc1", Linear(dim, hidden));
  fc2 = register_module("fc2", gated ? Linear(dim, hidden) : Linear(hidden, dim));
  if (gated) fc3 = register_module("fc3", Linear(hidden, dim));
}

torch::Tensor MlpImpl::forward(const torch::Tensor& x) {
  if (fc3.is_empty()) return fc2->forward(at::gelu(fc1->forward(x)));
  return fc3->forward(at::silu(fc1->forward(x)) * fc2->forward(x));
}

torch::Tensor MlpImpl::forward_onto(const torch::Tensor& residual, const torch::Tensor& x) {
  if (!fc3.is_empty() || !mlp_kernel_fits(x)) return residual + forward(x);
  return mlp_kernel(residual, x, fc1->weight, fc1->bias, fc2->weight, fc2->bias);
}

int64_t wide_swiglu_width(int64_t hidden) { return (2 * hidden / 3 + 7) / 8 * 8; }

}  // namespace jepa::nn
