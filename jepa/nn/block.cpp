#include <jepa/nn/activation_checkpoint.hpp>
#include <jepa/nn/block.hpp>

#include <torch/nn/modules/container/modulelist.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::nn {

BlockImpl::BlockImpl(const BlockOptions& options) {
  norm1_ = register_module("norm1", LayerNorm(options.dim, options.eps));
  attn_ = register_module("attn", Attention(options.dim, options.heads));
  norm2_ = register_module("norm2", LayerNorm(options.dim, options.eps));
  mlp_ = register_module("mlp", Mlp(options.dim, options.mlp_hidden, options.activation));
}

torch::Tensor BlockImpl::forward(const torch::Tensor& x, const RotaryTable& rotary,
                                 const torch::Tensor& mask, const torch::Tensor& keep) {
  if (!keep.defined()) {
    const auto y = attn_->forward_onto(x, norm1_->forward(x), rotary, mask);
    return mlp_->forward_onto(y, norm2_->forward(y));
  }
  const auto y = x + attn_->forward(norm1_->forward(x), rotary, mask) * keep[0];
  return y + mlp_->forward(norm2_->forward(y)) * keep[1];
}

void BlockImpl::rescale(int64_t layer) {
  const torch::NoGradGuard no_grad;
  const double factor = 1.0 / std::sqrt(2.0 * static_cast<double>(layer));
  attn_->proj->weight.mul_(factor);
  mlp_->fc2->weight.mul_(factor);
}

std::vector<Block> make_blocks(torch::nn::Module& parent, const std::string& name, int64_t depth,
                               const BlockOptions& options) {
  auto list = parent.register_module(name, torch::nn::ModuleList());
  std::vector<Block> blocks;
  for (int64_t i = 0; i < depth; ++i) {
    blocks.emplace_back(options);
    list->push_back(blocks.back());
  }
  return blocks;
}

torch::Tensor run_block(Block& block, const torch::Tensor& x, const RotaryTable& rotary,
                        const torch::Tensor& mask, const torch::Tensor& keep, bool checkpointing) {
  if (!checkpointing || !torch::GradMode::is_enabled()) {
    return block->forward(x, rotary, mask, keep);
  }
  return activation_checkpoint(
      [=](const torch::Tensor& input) mutable { return block->forward(input, rotary, mask, keep); },
      x, block->parameters());
}

torch::Tensor draw_drop_path(double rate, const torch::Tensor& like) {
  if (rate <= 0) return {};
  const double kept = 1.0 - rate;
  return torch::rand({2, like.size(0), 1, 1}, like.options().requires_grad(false))
      .lt(kept)
      .to(like.scalar_type())
      .div_(kept);
}

double block_flops(const BlockOptions& options, int64_t tokens) {
  const double n = static_cast<double>(tokens);
  const double dim = static_cast<double>(options.dim);
  const double matrices = options.activation == "swiglu" ? 3 : 2;
  const double projections = 4 * dim * dim + matrices * dim * options.mlp_hidden;
  return 2 * n * projections + 2 * (2 * n * n * dim);
}

}  // namespace jepa::nn
