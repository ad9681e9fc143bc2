// Causal transformer whose blocks the actions modulate (AdaLN-zero), as LeWorldModel has it.
#pragma once

#include <jepa/nn/layers.hpp>
#include <jepa/options.hpp>

#include <torch/nn/modules/batchnorm.h>
#include <torch/types.h>

#include <vector>

namespace jepa::predictors {

/// Shape of an AdaLN predictor. The defaults are LeWorldModel's (arXiv 2603.19312).
struct AdaLnOptions {
  int64_t dim = 192;  ///< width of a token and of an action embedding
  int64_t depth = 6;
  int64_t heads = 16;
  int64_t head_dim = 64;  ///< heads * head_dim need not be dim
  int64_t mlp_hidden = 2048;
  int64_t frames = 3;  ///< longest history, with a learned position each
  int64_t tokens = 1;  ///< a frame; more than one: patches, all of a frame see each other
  double dropout = 0;  ///< in training: attention, its output and both places of the MLP

  void describe(OptionVisitor& visit);
};

/// x += gate * attention(norm' (scale-shift (norm x))), the same with the MLP, for each block,
/// where shift, scale and gate come from the action of the token's frame; a frame sees itself and
/// the past. Output at a frame: that frame one step later. Parameter names are the published ones.
class AdaLnPredictorImpl : public torch::nn::Module {
 public:
  /// @throws ConfigError where a size is missing
  explicit AdaLnPredictorImpl(AdaLnOptions options);

  /// @param x [B, T * tokens, dim], T <= frames, time-major
  /// @param actions embedded actions leaving each frame, [B, T, dim]
  /// @returns [B, T * tokens, dim]
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& actions);

  /// Shift, scale and gate for attention and MLP of every block, of embedded actions [B, T, dim]:
  /// depth tensors [B, T, 6 * dim]. Windows that overlap need them once.
  std::vector<torch::Tensor> signals(const torch::Tensor& actions) const;
  /// Keys and values of the frames that stand in a window already.
  struct Window {
    std::vector<torch::Tensor> keys, values;  ///< of each block [B, frames, heads, head_dim]
    int64_t frames = 0;
  };
  /// `forward` over a window at its last frame alone, when the frames before these n are in
  /// `window`; afterwards these are too. One token a frame.
  /// @param x latents of the next n frames [B, n, dim] @param signals of these n frames
  /// @returns [B, 1, dim]
  torch::Tensor extend(Window& window, const torch::Tensor& x,
                       const std::vector<torch::Tensor>& signals) const;

  /// Gates start at zero: every block begins as the identity.
  void initialise(at::Generator generator);
  const AdaLnOptions& options() const { return options_; }

 private:
  struct Block {
    nn::Linear modulation{nullptr};
    nn::LayerNorm attention_norm{nullptr};
    nn::Linear qkv{nullptr}, out{nullptr};
    nn::LayerNorm mlp_norm{nullptr};
    nn::Linear up{nullptr}, down{nullptr};
  };
  torch::Tensor attend(const Block& block, const torch::Tensor& x, const torch::Tensor& mask) const;
  torch::Tensor attend_window(const Block& block, const torch::Tensor& x, bool last, Window& window,
                              size_t i) const;
  torch::Tensor feed_forward(const Block& block, const torch::Tensor& x) const;
  torch::Tensor drop(const torch::Tensor& x) const;

  AdaLnOptions options_;
  torch::Tensor pos_embedding_;  // [1, frames * tokens, dim]
  std::vector<Block> blocks_;
  nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(AdaLnPredictor);

/// A block of actions to its embedding: a linear smoothing, Linear to 4 * dim, SiLU, Linear to dim.
/// Names as published (`patch_embed`, `embed.0`, `embed.2`).
class ActionEncoderImpl : public torch::nn::Module {
 public:
  /// @param action_width numbers in a block of actions
  ActionEncoderImpl(int64_t action_width, int64_t dim, int64_t smoothed = 10, int64_t scale = 4);
  /// [..., action_width] -> [..., dim]
  torch::Tensor forward(const torch::Tensor& actions) const;
  void initialise(at::Generator generator);
  int64_t action_width() const { return weight_.size(1); }

 private:
  torch::Tensor weight_;  // [smoothed, action_width, 1], a convolution over time of width 1
  torch::Tensor bias_;
  nn::Linear up_{nullptr}, down_{nullptr};
};
TORCH_MODULE(ActionEncoder);

/// Linear, BatchNorm, GELU, Linear (LeWorldModel's `projector` and `pred_proj`; `net.{0,1,3}`).
class BatchNormMlpImpl : public torch::nn::Module {
 public:
  BatchNormMlpImpl(int64_t in, int64_t hidden, int64_t out);
  /// [..., in] -> [..., out]; all leading places are rows of one batch.
  torch::Tensor forward(const torch::Tensor& x);
  void initialise(at::Generator generator);

 private:
  nn::Linear first_{nullptr}, second_{nullptr};
  torch::nn::BatchNorm1d norm_{nullptr};
};
TORCH_MODULE(BatchNormMlp);

}  // namespace jepa::predictors
