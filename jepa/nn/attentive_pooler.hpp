// From many tokens to few by learnt queries: the published attentive probes' pooler.
#pragma once

#include <jepa/nn/block.hpp>

#include <vector>

namespace jepa::nn {

/// Attention of a few queries over layer-normed tokens, with no projection of the output.
///
/// The key and value projections are applied on the queries' side, before and after the sums over
/// tokens, which is the same map: q . (K x) = (K^T q) . x. So N tokens cost 2 N Q heads dim
/// multiply-adds, not 2 N dim^2, and tokens that need no gradient get no backward pass.
class CrossAttentionImpl : public torch::nn::Module {
 public:
  CrossAttentionImpl(int64_t dim, int64_t heads);
  /// @param queries [B, Q, dim], or [1, Q, dim] for all tokens alike
  /// @param normal tokens [B, N, dim] after a layer norm without scale and shift
  /// @param norm whose scale and shift the tokens then have
  /// @return [B, Q, dim]
  torch::Tensor forward(const torch::Tensor& queries, const torch::Tensor& normal,
                        const LayerNorm& norm);

 private:
  int64_t heads_;
  Linear q_{nullptr};
  Linear kv_{nullptr};
};
TORCH_MODULE(CrossAttention);

/// q += xattn(q, norm1 x); q += mlp(norm2 q). Queries meet the attention without a norm.
class CrossAttentionBlockImpl : public torch::nn::Module {
 public:
  explicit CrossAttentionBlockImpl(const BlockOptions& options);
  /// queries [1, Q, dim], tokens [B, N, dim] -> [B, Q, dim]
  torch::Tensor forward(const torch::Tensor& queries, const torch::Tensor& tokens);
  /// Divides the MLP's last weights by sqrt(2 * layer), layer counted from 1.
  void rescale(int64_t layer);

 private:
  double eps_;
  LayerNorm norm1_{nullptr};
  CrossAttention xattn_{nullptr};
  LayerNorm norm2_{nullptr};
  Mlp mlp_{nullptr};
};
TORCH_MODULE(CrossAttentionBlock);

/// Shape of a pooler. Depth 1 is V-JEPA's; 4 is V-JEPA 2's: three self-attention blocks over the
/// tokens (no positions), then the cross-attention.
struct AttentivePoolerOptions {
  int64_t dim = 0;
  int64_t heads = 16;
  int64_t depth = 1;
  int64_t queries = 1;
  double mlp_ratio = 4;
  double eps = 1e-5;  ///< of the layer norms; Hugging Face's pooler has 1e-6
};

/// Parameter names are the published ones. Weights are uninitialised until filled.
class AttentivePoolerImpl : public torch::nn::Module {
 public:
  explicit AttentivePoolerImpl(const AttentivePoolerOptions& options);
  /// tokens [B, N, dim] -> [B, queries, dim]
  torch::Tensor forward(const torch::Tensor& tokens);
  /// Published initialisation.
  void initialise(at::Generator generator);

 private:
  torch::Tensor query_tokens_;  // [1, queries, dim]
  std::vector<Block> blocks_;
  CrossAttentionBlock cross_{nullptr};
};
TORCH_MODULE(AttentivePooler);

}  // namespace jepa::nn
