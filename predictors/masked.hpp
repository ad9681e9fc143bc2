// Masked predictor of I-JEPA, V-JEPA, V-JEPA 2 and 2.1: from visible tokens to hidden ones.
#pragma once

#include <jepa/model.hpp>
#include <jepa/nn/block.hpp>
#include <jepa/options.hpp>

#include <string>
#include <vector>

namespace jepa::predictors {

/// What a predictor has to know of the encoders and the masks it serves.
struct ModelShape {
  int64_t encoder_width = 0;  ///< width of a context token
  int64_t target_width = 0;   ///< width of a target token; 0: as encoder_width
  int64_t encoder_heads = 0;  ///< heads of the encoder, for `heads = 0`
  int64_t masks = 1;          ///< configured masks, for `mask_tokens = 0`
  TokenGrid grid = {};        ///< of the configured clip (sin-cos positions)
};

/// Shape and habits of a masked predictor. The defaults are V-JEPA 2's.
struct MaskedPredictorOptions {
  int64_t dim = 384;
  int64_t depth = 12;
  int64_t heads = 0;  ///< 0: as the encoder (I-JEPA, V-JEPA); V-JEPA 2 has 12
  double mlp_ratio = 4;

  std::string positions = "rope";     ///< "rope" (V-JEPA 2) or "sincos" (I-JEPA, V-JEPA)
  bool uniform_power = true;          ///< sin-cos: equal widths for time, height and width
  std::string rope_layout = "tiled";  ///< "tiled" (V-JEPA 2) or "interleaved" (2.1)
  int64_t rope_reference = 0;         ///< stretch h, w to a square of this side; 0: as they are

  int64_t mask_tokens = 0;         ///< learnt mask tokens; 0: one per configured mask
  int64_t mask_token_index = -1;   ///< the one in use; -1: the mask's own number (V-JEPA 1)
  bool single_mask_token = false;  ///< I-JEPA: one token, named mask_token, random at first
  bool depth_rescale = true;       ///< initial residual weights over sqrt(2 * layer)
  bool xavier = false;             ///< initial matrices of Xavier's scale instead of 0.02
  bool checkpointing = false;      ///< recompute blocks in backward to save memory

  int64_t embed_hidden = 0;  ///< V-JEPA 2.1: hidden width of the input projection; 0: none
  /// Masks (from 0) for which it sees but the mean of the context tokens, which must then say all
  /// that is needed; sin-cos positions only.
  std::vector<int64_t> pooled_masks = {};
  bool context_head = false;        ///< V-JEPA 2.1: predicts the context tokens too
  bool modality_embedding = false;  ///< V-JEPA 2.1: vectors that tell images from video

  void describe(OptionVisitor& visit);
};

/// Narrow transformer over context tokens and mask tokens. Parameter names are the published ones;
/// weights are uninitialised until `initialise()` or a loader fills them.
class MaskedPredictorImpl : public PredictorImpl {
 public:
  /// @throws ConfigError where sizes are missing or do not divide
  MaskedPredictorImpl(MaskedPredictorOptions options, const ModelShape& shape);

  Prediction forward(const torch::Tensor& context, const Mask& mask, const TokenGrid& grid,
                     int64_t mask_index) override;
  void initialise(at::Generator generator) override;
  double flops(int64_t context_tokens, int64_t target_tokens) const override;
  ActivationShape activations() const override {
    return {.dim = options_.dim, .depth = options_.depth, .checkpointing = options_.checkpointing};
  }

  const MaskedPredictorOptions& options() const { return options_; }

 private:
  torch::Tensor embed_context(const torch::Tensor& context);
  const torch::Tensor& mask_token(int64_t mask_index) const;

  MaskedPredictorOptions options_;
  ModelShape shape_;
  std::vector<nn::Linear> embed_;                  // one layer, or two with GELU between (2.1)
  std::vector<torch::Tensor> mask_tokens_;         // each [1, 1, dim]
  torch::Tensor image_modality_, video_modality_;  // [1, 1, dim]
  torch::Tensor pos_embed_;                        // [1, N, dim], sin-cos only
  std::vector<nn::Block> blocks_;
  nn::LayerNorm norm_{nullptr};
  nn::Linear proj_{nullptr};
  nn::Linear proj_context_{nullptr};
  nn::RotaryPositions rotary_;
};
TORCH_MODULE(MaskedPredictor);

}  // namespace jepa::predictors
