// The two bases that the trainer, the probes and the programs meet.
#pragma once

#include <jepa/grid.hpp>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <string>
#include <vector>

namespace jepa {

/// How pixels 0..255 become what an encoder takes: (x - mean) / std, one value for all channels or
/// one a channel. Part of a model: it reads no other pixels than those it was trained on.
struct PixelStatistics {
  std::vector<double> mean = {127.5};
  std::vector<double> std = {127.5};

  /// ImageNet's, as all published families use.
  static PixelStatistics imagenet();
  /// Clips [B, C, T, H, W], uint8 or float 0..255 -> float, on `device`.
  /// @throws ConfigError where the number of values is neither 1 nor C
  torch::Tensor normalise(const torch::Tensor& clips, torch::Device device = torch::kCPU) const;
  /// The way back: float [B, C, T, H, W] -> uint8, on the CPU.
  torch::Tensor restore(const torch::Tensor& clips) const;
};

/// Which tokens are shown and which are to be predicted.
struct Mask {
  torch::Tensor context;  ///< int64 [B, Kc], kept token ids
  /// int64 [M*B, Kt], mask-major: M target sets for each context (I-JEPA: 4; V-JEPA: 1).
  torch::Tensor target;

  /// Target sets per context, M.
  int64_t targets_per_context() const { return target.size(0) / context.size(0); }
};

/// Rows of `tokens` [B, N, D] at `ids` [M*B, K] -> [M*B, K, D]; M target sets share the tokens.
torch::Tensor gather_tokens(const torch::Tensor& tokens, const torch::Tensor& ids);

/// What decides how much a network keeps of a token for its backward pass.
struct ActivationShape {
  int64_t dim = 0;
  int64_t depth = 0;           ///< transformer blocks
  bool checkpointing = false;  ///< only the blocks' inputs, and one block at a time
  double feature_maps = 0;     ///< floats a token beside the blocks'
};

/// A network from clips to tokens. A clip is float [B, C, T, H, W]; an image is a clip with T = 1.
///
/// Whoever uses an encoder asks it here and never which one it is. An encoder of one's own defines
/// the pure functions; the others have answers that do for most.
class EncoderImpl : public torch::nn::Module {
 public:
  /// Width of a token that `encode` gives.
  virtual int64_t output_width() const = 0;
  /// Levels of depth that a token concatenates (V-JEPA 2.1: 4); each is normalised on its own.
  virtual int64_t output_levels() const { return 1; }
  /// Blocks whose outputs `layers` can give.
  virtual int64_t depth() const = 0;
  /// The token grid of a clip of these sizes [B, C, T, H, W].
  /// @throws DataError where the sizes do not divide into patches.
  virtual TokenGrid grid(at::IntArrayRef clip_sizes) const = 0;

  /// All patches embedded once, absolute positions added: [B, C, T, H, W] -> [B, N, dim].
  virtual torch::Tensor embed(const torch::Tensor& clip) = 0;
  /// The trunk over embedded tokens [B, K, dim] that stand at `ids` [B, K] of `grid`
  /// (undefined: all N in order) -> [B, K, output_width].
  virtual torch::Tensor encode(const torch::Tensor& tokens, const TokenGrid& grid,
                               const torch::Tensor& ids = {}) = 0;
  /// Outputs of the blocks `layers` (0-based, ascending) for a whole clip, each [B, N, dim]. The
  /// last block's output passes through the final norm, the others are as they leave the block.
  virtual std::vector<torch::Tensor> layers(const torch::Tensor& clip,
                                            const std::vector<int64_t>& layers) = 0;
  /// Fills the weights (published initialisation) from `generator`; modules are built without.
  virtual void initialise(at::Generator generator) = 0;
  /// Multiply-adds of one forward pass over `tokens` tokens of one clip, times two.
  virtual double flops(int64_t tokens) const = 0;

  /// Whether `encode` gives all levels side by side (training, the default) or the last one
  /// (everything else). No effect on encoders of one level.
  virtual void set_all_levels(bool /*all*/) {}
  /// Fewest frames of a clip; a still image is repeated to so many.
  virtual int64_t min_frames() const { return clip_sizes_.empty() ? 1 : patch().t; }
  /// For estimates of memory.
  virtual ActivationShape activations() const {
    return {.dim = output_width() / output_levels(), .depth = depth()};
  }
  /// What initialise() draws, in words, to be printed.
  virtual std::string initialisation() const { return "the encoder's own"; }
  /// Its sizes in words, to be printed: "width 192, depth 12, ...".
  virtual std::string description() const;

  /// Sizes [1, C, T, H, W] of the clips it is made for; other clips may do too.
  at::IntArrayRef clip_sizes() const { return clip_sizes_; }
  /// Attention heads, for predictors that take as many.
  int64_t heads() const { return heads_; }
  /// Token grid of the clips it is made for.
  TokenGrid clip_grid() const { return grid(clip_sizes()); }
  /// Frames, rows and columns of pixels that one of its tokens stands for.
  TokenGrid patch() const;
  /// By the constructor, or by what builds the encoder from options.
  void set_clip_sizes(std::vector<int64_t> sizes) { clip_sizes_ = std::move(sizes); }
  void set_heads(int64_t heads) { heads_ = heads; }

  /// Every token of a clip: [B, C, T, H, W] -> [B, N, output_width].
  torch::Tensor forward(const torch::Tensor& clip) {
    return encode(embed(clip), grid(clip.sizes()));
  }

 private:
  std::vector<int64_t> clip_sizes_;
  int64_t heads_ = 0;
};
TORCH_MODULE(Encoder);

/// What a predictor says.
struct Prediction {
  torch::Tensor target;   ///< [M*B, Kt, output width of the target encoder]
  torch::Tensor context;  ///< V-JEPA 2.1 only: [M*B, Kc, ...]; else undefined
};

/// A network from context tokens to the latents of hidden ones.
class PredictorImpl : public torch::nn::Module {
 public:
  /// @param context encoded context tokens [B, Kc, D]
  /// @param mask ids of context and target tokens
  /// @param grid the clip's token grid
  /// @param mask_index which mask configuration this is (chooses the mask token in V-JEPA 1)
  virtual Prediction forward(const torch::Tensor& context, const Mask& mask, const TokenGrid& grid,
                             int64_t mask_index) = 0;
  /// Fills the weights (published initialisation) from `generator`.
  virtual void initialise(at::Generator generator) = 0;
  /// Floating-point operations of one forward pass over one clip.
  virtual double flops(int64_t context_tokens, int64_t target_tokens) const = 0;
  /// For estimates of memory; of a token, context or target. Nothing kept where it is not told.
  virtual ActivationShape activations() const { return {}; }
};
TORCH_MODULE(Predictor);

}  // namespace jepa
