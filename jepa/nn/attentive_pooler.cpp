#include <jepa/nn/attentive_pooler.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::nn {

CrossAttentionImpl::CrossAttentionImpl(int64_t dim, int64_t heads) : heads_(heads) {
  TORCH_CHECK(heads > 0 && dim % heads == 0, "CrossAttention: ", dim, " does not divide over ",
              heads, " heads");
  q_ = register_module("q", Linear(dim, dim));
  kv_ = register_module("kv", Linear(dim, 2 * dim));
}

torch::Tensor CrossAttentionImpl::forward(const torch::Tensor& queries, const torch::Tensor& normal,
                                          const LayerNorm& norm) {
  const int64_t batch = normal.size(0), count = queries.size(1), dim = normal.size(2);
  const auto weights = kv_->weight.view({2, heads_, dim / heads_, dim}).unbind(0);
  const auto q = q_->forward(queries).view({-1, count, heads_, dim / heads_});
  // What the norm's shift and the keys' bias add to a score is the same for every token, so it
  // cancels in the softmax.
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim / heads_));
  const auto seen = at::einsum("bqhd,hde->bhqe", {q, weights[0]}) * (norm->weight * scale);
  const auto scores = at::matmul(seen.flatten(1, 2), normal.transpose(1, 2));  // [B, H*Q, N]
  const auto pooled = at::matmul(at::softmax(scores, -1), normal).view({batch, heads_, count, dim});
  const auto values = pooled * norm->weight + norm->bias;
  return at::einsum("bhqe,hde->bqhd", {values, weights[1]}).flatten(2) +
         kv_->bias.narrow(0, dim, dim);
}

CrossAttentionBlockImpl::CrossAttentionBlockImpl(const BlockOptions& options) : eps_(options.eps) {
  norm1_ = register_module("norm1", LayerNorm(options.dim, options.eps));
  xattn_ = register_module("xattn", CrossAttention(options.dim, options.heads));
  norm2_ = register_module("norm2", LayerNorm(options.dim, options.eps));
  mlp_ = register_module("mlp", Mlp(options.dim, options.mlp_hidden, options.activation));
}

torch::Tensor CrossAttentionBlockImpl::forward(const torch::Tensor& queries,
                                               const torch::Tensor& tokens) {
  const auto normal = at::layer_norm(tokens, {tokens.size(2)}, {}, {}, eps_);
  const auto q = queries + xattn_->forward(queries, normal, norm1_);
  return q + mlp_->forward(norm2_->forward(q));
}

void CrossAttentionBlockImpl::rescale(int64_t layer) {
  const torch::NoGradGuard no_grad;
  mlp_->fc2->weight.mul_(1.0 / std::sqrt(2.0 * static_cast<double>(layer)));
}

AttentivePoolerImpl::AttentivePoolerImpl(const AttentivePoolerOptions& options) {
  const BlockOptions block{
      .dim = options.dim,
      .heads = options.heads,
      .mlp_hidden = static_cast<int64_t>(options.dim * options.mlp_ratio + 1e-6),
      .eps = options.eps};
  query_tokens_ =
      register_parameter("query_tokens", torch::empty({1, options.queries, options.dim}));
  if (options.depth > 1) blocks_ = make_blocks(*this, "blocks", options.depth - 1, block);
  cross_ = register_module("cross_attention_block", CrossAttentionBlock(block));
}

torch::Tensor AttentivePoolerImpl::forward(const torch::Tensor& tokens) {
  auto x = tokens;
  for (auto& block : blocks_) x = block->forward(x);
  return cross_->forward(query_tokens_, x);
}

void AttentivePoolerImpl::initialise(at::Generator generator) {
  initialise_layers(*this, generator);
  truncated_normal(query_tokens_, 0.02, generator);
  for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i]->rescale(static_cast<int64_t>(i) + 1);
  cross_->rescale(std::max<int64_t>(1, static_cast<int64_t>(blocks_.size())));
}

}  // namespace jepa::nn
