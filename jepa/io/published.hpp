// What model a weight file holds, read off the names and shapes of its tensors.
#pragma once

#include <jepa/io/weight_file.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace jepa {

/// The published families.
enum class ModelFamily { ijepa, vjepa, vjepa2, vjepa2_ac, vjepa21 };

/// Their names on the command line: ijepa, vjepa, vjepa2, vjepa2_ac, vjepa21.
const std::vector<std::string>& model_family_names();
/// Its name on the command line.
const std::string& to_string(ModelFamily family);
/// @throws ConfigError listing the known names
ModelFamily parse_model_family(const std::string& name);

/// The family of the weights: `norms_block` means V-JEPA 2.1, `action_encoder` 2-AC, an absolute
/// `pos_embed` with at most two mask tokens V-JEPA or, with 2D patches, I-JEPA; else V-JEPA 2 (some
/// of its files carry an unused `pos_embed`).
/// @param encoder "encoder" or "target_encoder"
/// @throws CheckpointError where there is no patch embedding
ModelFamily detect_family(const WeightFile& file, const std::string& encoder);

/// A vision transformer as its tensors show it.
struct PublishedEncoder {
  int64_t dim = 0;
  int64_t depth = 0;
  int64_t heads = 0;  ///< from config.json or the table of published widths; 0: not known
  int64_t mlp_hidden = 0;
  bool gated = false;  ///< SwiGLU
  int64_t channels = 3;
  int64_t patch = 0;
  int64_t tubelet = 0;      ///< 0: 2D patches
  int64_t positions = 0;    ///< tokens of `pos_embed`; 0: there is none
  int64_t norm_levels = 0;  ///< output levels with a norm of their own (V-JEPA 2.1); 0: one `norm`
  bool image_patches = false;
};

/// A masked or action-conditioned predictor as its tensors show it.
struct PublishedPredictor {
  int64_t dim = 0;
  int64_t depth = 0;
  int64_t heads = 0;  ///< from config.json or by family; 0: not known
  int64_t mlp_hidden = 0;
  int64_t encoder_width = 0;
  int64_t target_width = 0;
  int64_t mask_tokens = 0;
  bool single_mask_token = false;
  int64_t embed_hidden = 0;  ///< V-JEPA 2.1
  bool context_head = false;
  bool modality_embedding = false;
  int64_t positions = 0;     ///< tokens of `predictor_pos_embed`; 0: there is none
  int64_t action_width = 0;  ///< 2-AC; 0: not action-conditioned
  int64_t state_width = 0;
  int64_t extrinsics_width = 0;
};

/// @throws CheckpointError naming the tensor that is missing or has an unexpected shape
PublishedEncoder describe_encoder(const WeightFile& file, const std::string& encoder);
/// @param encoder_heads of the encoder: I-JEPA's and V-JEPA's predictors have as many
/// @throws CheckpointError as describe_encoder()
PublishedPredictor describe_predictor(const WeightFile& file, ModelFamily family,
                                      int64_t encoder_heads);

/// The weights of one module for a model of this family: unused tensors of published files (a
/// `pos_embed` beside rotary positions) are left out.
TensorMap family_weights(const WeightFile& file, const std::string& module,
                         std::optional<ModelFamily> family);

/// @throws CheckpointError naming the first tensor that holds NaN or infinity
void require_finite(const TensorMap& weights, const std::string& source);

/// Published heads of an encoder of this width; 0: not in the table.
int64_t published_heads(int64_t dim);

/// Layers after which a V-JEPA 2.1 encoder of this depth gives its `count` outputs: the ends of
/// equal parts, but for the third of ViT-G's four, which upstream takes two layers later.
std::vector<int64_t> published_levels(int64_t depth, int64_t count);

}  // namespace jepa
