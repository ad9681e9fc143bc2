// The pre-norm transformer block.
#pragma once

#include <jepa/nn/attention.hpp>
#include <jepa/nn/mlp.hpp>

#include <string>
#include <vector>

namespace jepa::nn {

/// Shape of a block.
struct BlockOptions {
  int64_t dim = 0;
  int64_t heads = 0;
  int64_t mlp_hidden = 0;
  std::string activation = "gelu";
  double eps = 1e-6;  ///< of the layer norms
};

/// x += attn(norm1 x); x += mlp(norm2 x).
class BlockImpl : public torch::nn::Module {
 public:
  explicit BlockImpl(const BlockOptions& options);

  /// @param x [B, N, dim]
  /// @param keep drop path: [2, B, 1, 1], what each of the two branches is multiplied by for each
  ///        sample (0, or 1 over the kept share); undefined: both as they are
  torch::Tensor forward(const torch::Tensor& x, const RotaryTable& rotary = {},
                        const torch::Tensor& mask = {}, const torch::Tensor& keep = {});

  /// Divides the weights that end the two branches by sqrt(2 * layer), layer counted from 1.
  void rescale(int64_t layer);

 private:
  LayerNorm norm1_{nullptr};
  Attention attn_{nullptr};
  LayerNorm norm2_{nullptr};
  Mlp mlp_{nullptr};
};
TORCH_MODULE(Block);

/// `depth` blocks registered in `parent` as `name.0`, `name.1`, ...
std::vector<Block> make_blocks(torch::nn::Module& parent, const std::string& name, int64_t depth,
                               const BlockOptions& options);

/// One block, recomputed in backward instead of remembered when `checkpointing` and gradients are
/// on.
torch::Tensor run_block(Block& block, const torch::Tensor& x, const RotaryTable& rotary,
                        const torch::Tensor& mask, const torch::Tensor& keep, bool checkpointing);

/// Draws for `forward`'s `keep`, from the default generator; undefined at rate 0.
torch::Tensor draw_drop_path(double rate, const torch::Tensor& like);

/// Multiply-adds times two of one block over `tokens` tokens of one sample.
double block_flops(const BlockOptions& options, int64_t tokens);

}  // namespace jepa::nn
