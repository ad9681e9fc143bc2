#include <jepa/nn/attention.hpp>
#include <jepa/nn/attention_kernel.hpp>
#include <jepa/nn/attention_look.hpp>

#include <torch/types.h>

#include <cmath>

namespace jepa::nn {
namespace {

thread_local AttentionLook* attention_look = nullptr;

}  // namespace

AttentionLook::AttentionLook() : before_(attention_look) { attention_look = this; }
AttentionLook::~AttentionLook() { attention_look = before_; }
AttentionLook* AttentionLook::current() { return attention_look; }

torch::Tensor attend(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                     const torch::Tensor& mask) {
  return at::scaled_dot_product_attention(q, k, v,
                                          mask.defined() ? std::optional(mask) : std::nullopt);
}

AttentionImpl::AttentionImpl(int64_t dim, int64_t heads) : heads_(heads) {
  TORCH_CHECK(heads > 0 && dim % heads == 0, "Attention: ", dim, " does not divide over ", heads,
              " heads");
  qkv = register_module("qkv", Linear(dim, 3 * dim));
  proj = register_module("proj", Linear(dim, dim));
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x, const RotaryTable& rotary,
                                     const torch::Tensor& mask) {
  return proj->forward(mix(x, rotary, mask));
}

torch::Tensor AttentionImpl::forward_onto(const torch::Tensor& residual, const torch::Tensor& x,
                                          const RotaryTable& rotary, const torch::Tensor& mask) {
  return proj->forward_onto(residual, mix(x, rotary, mask));
}

torch::Tensor AttentionImpl::mix(const torch::Tensor& x, const RotaryTable& rotary,
                                 const torch::Tensor& mask) {
  const int64_t batch = x.size(0);
  const int64_t count = x.size(1);
  const auto joint = qkv->forward(x).view({batch, count, 3, heads_, -1});
  AttentionLook* look = AttentionLook::current();
  if (look == nullptr && !mask.defined() && attention_kernel_fits(joint)) {
    return attention_kernel(joint, rotary);
  }
  const auto parts = joint.permute({2, 0, 3, 1, 4}).unbind(0);
  auto q = parts[0];
  auto k = parts[1];
  if (rotary.defined()) {
    q = rotate(q, rotary);
    k = rotate(k, rotary);
  }
  if (look != nullptr) {
    auto scores = q.matmul(k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
    if (mask.defined()) scores = scores.masked_fill(mask.logical_not(), -INFINITY);
    look->layers.push_back(scores.softmax(-1).mean(1));
  }
  return attend(q, k, parts[2], mask).transpose(1, 2).reshape(x.sizes());
}

}  // namespace jepa::nn
