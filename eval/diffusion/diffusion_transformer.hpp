// A diffusion transformer over spacetime patches.
#pragma once

#include <jepa/grid.hpp>
#include <jepa/nn/attention.hpp>
#include <jepa/nn/mlp.hpp>
#include <jepa/nn/patch_embedding.hpp>
#include <jepa/options.hpp>

#include <string>
#include <vector>

namespace jepa::eval::diffusion {

/// Shape of a diffusion transformer.
struct DiffusionTransformerOptions {
  std::string preset = "custom";  ///< dit_s, dit_b, dit_l, dit_xl; custom: the sizes below
  int64_t dim = 128;
  int64_t depth = 4;
  int64_t heads = 4;
  double mlp_ratio = 4;
  int64_t channels = 1;
  int64_t tubelet = 2;  ///< frames of one patch; each group of so many has its own time
  int64_t patch = 8;
  /// full: every token looks at every token; factorised: blocks take turns between the tokens of
  /// one time step and those of one place (Ma et al. 2024, "Latte")
  std::string attention = "full";
  /// Noisy pixels are damped to what a linear filter keeps of data of this deviation, so that a
  /// token all of whose pixels are noise is not drowned in them. 0: they are not.
  double data_deviation = 0;
  int64_t words = 0;            ///< of the prompt vocabulary; 0: no prompts
  int64_t condition_width = 0;  ///< of latents that condition patch by patch; 0: none

  void describe(OptionVisitor& visit);
  /// With the sizes of the preset. @throws ConfigError for an unknown preset
  DiffusionTransformerOptions resolved() const;
};

/// What a sample is conditioned on. Undefined: on nothing.
struct Condition {
  torch::Tensor prompt;   ///< int64 [B, slots], word ids, 0: none
  torch::Tensor latents;  ///< float [B, N, condition_width], one for each patch

  /// No condition for `batch` samples, where this has one (classifier-free guidance).
  Condition nothing() const;
  Condition rows(int64_t start, int64_t count) const;
  Condition to(torch::Device device) const;
};

/// Which row of a condition [B, G, dim] applies to which tokens: the last to the first `words`,
/// then one each to the patches in `steps` equal groups.
struct TokenGroups {
  int64_t words = 0;
  int64_t steps = 1;
};

/// One transformer block whose norms are scaled and shifted, and whose branches are gated, by the
/// condition (adaLN-Zero; Peebles and Xie 2023, section 3.2). A fresh block is the identity.
class AdaptiveBlockImpl : public torch::nn::Module {
 public:
  AdaptiveBlockImpl(int64_t dim, int64_t heads, int64_t mlp_hidden);

  /// Which tokens attend to one another.
  enum class Attention { kAll, kSpace, kTime };

  /// @param x [B, N, dim]
  /// @param condition [B, G, dim]: of each group of tokens
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& condition,
                        const TokenGroups& groups, const nn::RotaryTable& rotary,
                        Attention attention, const TokenGrid& grid);

  /// Makes the block the identity.
  void clear_modulation();

 private:
  nn::Linear modulation_{nullptr};
  nn::Attention attn_{nullptr};
  nn::Mlp mlp_{nullptr};
};
TORCH_MODULE(AdaptiveBlock);

/// Diffusion transformer for clips and images of any length and size that divides into patches.
///
/// Each time step of the token grid has its own diffusion time, so any frames can be given clean
/// (time 1). Prompt words are tokens in the sequence (always clean) and, summed, part of what the
/// norms are modulated; latents are added patch by patch. Positions are sin-cos, once, and rotary.
/// Weights are uninitialised until `initialise()` or a loader fills them.
class DiffusionTransformerImpl : public torch::nn::Module {
 public:
  /// @throws ConfigError where sizes do not divide
  explicit DiffusionTransformerImpl(DiffusionTransformerOptions options);

  /// @param z noisy clip [B, channels, T, H, W]; T = 1 with tubelet 1 is an image
  /// @param t times, [B] or [B, T / tubelet]
  /// @returns the prediction for every pixel, [B, channels, T, H, W]
  torch::Tensor forward(const torch::Tensor& z, const torch::Tensor& t, const Condition& condition);

  /// Outputs of the blocks `layers` (0-based, ascending) at patch tokens, each [B, N, dim].
  std::vector<torch::Tensor> layers(const torch::Tensor& z, const torch::Tensor& t,
                                    const Condition& condition, const std::vector<int64_t>& layers);

  /// Sets by which mean and deviation [condition_width] latents are normalised.
  void set_latent_statistics(const torch::Tensor& mean, const torch::Tensor& deviation);
  /// Latents as the network is to be given them: channel by channel about zero with unit
  /// deviation. Zeros are then the mean.
  torch::Tensor normalise_latents(const torch::Tensor& latents) const;

  /// Xavier uniform matrices, zero modulations and a zero last layer (DiT): a fresh model predicts
  /// 0.
  void initialise(at::Generator generator);
  /// Floating-point operations of one forward pass over one sample.
  double flops(const TokenGrid& grid) const;
  /// @throws DataError where the sizes [B, C, T, H, W] do not divide into patches
  TokenGrid grid(at::IntArrayRef clip_sizes) const;
  const DiffusionTransformerOptions& options() const { return options_; }

 private:
  struct Sequence {
    torch::Tensor tokens;     ///< [B, S + N, dim]: prompt words, then patches
    torch::Tensor condition;  ///< [B, G, dim]
    TokenGroups groups;       ///< S words
    nn::RotaryTable rotary;
    TokenGrid grid;
  };
  Sequence begin(const torch::Tensor& z, const torch::Tensor& t, const Condition& condition);
  void run(size_t block, Sequence& sequence);
  nn::RotaryTable rotary(const TokenGrid& grid, int64_t words);

  DiffusionTransformerOptions options_;
  nn::PatchEmbedding patch_embed_{nullptr};
  nn::Linear time_in_{nullptr}, time_out_{nullptr};
  nn::Linear condition_{nullptr};
  torch::Tensor latent_mean_, latent_deviation_;  ///< [condition_width], buffers
  torch::Tensor word_table_;                      ///< [words + 1, dim], row 0: none
  std::vector<AdaptiveBlock> blocks_;
  nn::Linear last_modulation_{nullptr};
  nn::Linear head_{nullptr};
  TokenGrid rotary_grid_{0, 0, 0};
  int64_t rotary_words_ = -1;
  nn::RotaryTable rotary_;
};
TORCH_MODULE(DiffusionTransformer);

}  // namespace jepa::eval::diffusion
