// Vision transformer over images and video: the encoder of I-JEPA, V-JEPA, V-JEPA 2 and 2.1.
#pragma once

#include <jepa/model.hpp>
#include <jepa/nn/block.hpp>
#include <jepa/nn/patch_embedding.hpp>
#include <jepa/options.hpp>

#include <string>
#include <vector>

namespace jepa::encoders {

/// Shape and habits of a vision transformer. The defaults are V-JEPA 2's.
struct VisionTransformerOptions {
  int64_t dim = 0;       ///< token width; 0: from the preset
  int64_t depth = 0;     ///< blocks; 0: from the preset
  int64_t heads = 0;     ///< attention heads; 0: from the preset
  double mlp_ratio = 0;  ///< hidden width over token width; 0: from the preset, else 4

  int64_t channels = 3;
  int64_t frames = 16;  ///< frames of a clip; 1 makes an image encoder with 2D patch weights
  int64_t height = 224;
  int64_t width = 224;
  int64_t patch = 16;
  int64_t tubelet = 2;  ///< frames in one patch (ignored for images)

  std::string positions = "rope";     ///< "rope" (V-JEPA 2), "sincos" (I-JEPA, V-JEPA), "both"
  bool uniform_power = true;          ///< sin-cos: equal widths for time, height and width
  std::string rope_layout = "tiled";  ///< "tiled" (V-JEPA 2) or "interleaved" (2.1)
  int64_t rope_reference = 0;         ///< stretch h, w to a square of this side; 0: as they are

  std::string activation = "gelu";  ///< "gelu" or "swiglu"
  bool wide_swiglu = true;          ///< SwiGLU hidden width 2/3 of the ratio's
  double drop_path = 0;             ///< of the last block; linear from 0 over the depth
  bool depth_rescale = true;        ///< initial residual weights over sqrt(2 * layer)
  bool xavier = false;              ///< initial matrices of Xavier's scale instead of 0.02
  bool checkpointing = false;       ///< recompute blocks in backward to save memory

  /// V-JEPA 2.1: blocks (0-based) whose outputs are given, each through its own norm.
  std::vector<int64_t> output_levels = {};
  bool image_embedding = false;  ///< V-JEPA 2.1: own patches for images, modality vectors

  /// Token grid of the configured clip.
  TokenGrid grid() const {
    return {frames == 1 ? 1 : frames / tubelet, height / patch, width / patch};
  }
  void describe(OptionVisitor& visit);
};

/// One row of the published shapes (`vit_tiny` ... `vit_gigantic_xformers`).
struct VisionTransformerPreset {
  const char* name;
  int64_t dim, depth, heads;
  double mlp_ratio;
};

/// The published shapes, smallest first.
const std::vector<VisionTransformerPreset>& vision_transformer_presets();

/// Sizes of its blocks, once they are resolved.
nn::BlockOptions block_options(const VisionTransformerOptions& options);

/// Fills in what is 0 in `options` from the preset `name` ("custom": nothing to fill in).
/// @throws ConfigError for an unknown name, or where a width is missing or does not divide; whether
///   clips divide into patches is seen when the encoder is built
VisionTransformerOptions resolve(VisionTransformerOptions options, const std::string& name);

/// Pre-norm transformer over patches. No class token. Weights are uninitialised until
/// `initialise()` or a loader fills them. Parameter names are the published ones.
class VisionTransformerImpl : public EncoderImpl {
 public:
  /// @throws ConfigError where sizes are missing or do not divide
  explicit VisionTransformerImpl(VisionTransformerOptions options);

  int64_t output_width() const override;
  int64_t output_levels() const override;
  int64_t depth() const override { return options_.depth; }
  TokenGrid grid(at::IntArrayRef clip_sizes) const override;
  torch::Tensor embed(const torch::Tensor& clip) override;
  torch::Tensor encode(const torch::Tensor& tokens, const TokenGrid& grid,
                       const torch::Tensor& ids = {}) override;
  std::vector<torch::Tensor> layers(const torch::Tensor& clip,
                                    const std::vector<int64_t>& layers) override;
  void initialise(at::Generator generator) override;
  double flops(int64_t tokens) const override;
  void set_all_levels(bool all) override { all_levels_ = all; }
  int64_t min_frames() const override;
  ActivationShape activations() const override;
  std::string initialisation() const override;
  std::string description() const override;

  const VisionTransformerOptions& options() const { return options_; }

 private:
  /// Runs the blocks and hands every block's output to `visit(layer, tokens)`.
  template <class Visit>
  void run_blocks(torch::Tensor tokens, const TokenGrid& grid, const torch::Tensor& ids,
                  int64_t last, Visit visit);

  VisionTransformerOptions options_;
  bool all_levels_ = true;
  nn::PatchEmbedding patch_embed_{nullptr};
  nn::PatchEmbedding patch_embed_img_{nullptr};
  torch::Tensor image_modality_, video_modality_;  // [1, 1, dim]
  torch::Tensor pos_embed_;                        // [1, N, dim], sin-cos only
  std::vector<nn::Block> blocks_;
  nn::LayerNorm norm_{nullptr};
  std::vector<nn::LayerNorm> level_norms_;
  nn::RotaryPositions rotary_;
};
TORCH_MODULE(VisionTransformer);

}  // namespace jepa::encoders
