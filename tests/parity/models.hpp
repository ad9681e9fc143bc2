// Models of the shapes that fixtures name.
#pragma once

#include "case.hpp"

#include <encoders/vision_transformer.hpp>
#include <jepa/io/published.hpp>
#include <predictors/masked.hpp>

namespace parity {

/// Size `key` of the config, or `otherwise` where it is not given.
inline int64_t size_or(const Case& test, const char* key, int64_t otherwise) {
  return test.config().value(key, otherwise);
}

/// Hidden width over width of the block at `weights/<block>`, which no config names.
inline double mlp_ratio(const Case& test, const std::string& block) {
  const auto& weight = test.tensor("weights/" + block + ".mlp.fc1.weight");
  return static_cast<double>(weight.size(0)) / static_cast<double>(weight.size(1));
}

/// V-JEPA (positions "sincos") or V-JEPA 2 ("rope") encoder.
inline jepa::encoders::VisionTransformerOptions video_encoder(const Case& test,
                                                              const std::string& positions) {
  return {.dim = test.size("dim"),
          .depth = test.size("depth"),
          .heads = test.size("heads"),
          .mlp_ratio = mlp_ratio(test, "encoder/blocks.0"),
          .channels = test.tensor("weights/encoder/patch_embed.proj.weight").size(1),
          .frames = size_or(test, "frames", 1),
          .height = test.size("crop"),
          .width = test.size("crop"),
          .patch = test.size("patch"),
          .tubelet = size_or(test, "tubelet", 2),
          .positions = positions};
}

/// I-JEPA's encoder.
inline jepa::encoders::VisionTransformerOptions image_encoder(const Case& test) {
  auto options = video_encoder(test, "sincos");
  options.frames = 1;
  options.tubelet = 1;
  return options;
}

/// V-JEPA 2.1's encoder.
inline jepa::encoders::VisionTransformerOptions levels_encoder(const Case& test) {
  auto options = video_encoder(test, "rope");
  options.rope_layout = "interleaved";
  options.rope_reference = 256 / options.patch;
  options.output_levels = jepa::published_levels(options.depth, 4);
  options.image_embedding = true;
  return options;
}

inline jepa::predictors::MaskedPredictorOptions video_predictor(const Case& test,
                                                                const std::string& positions) {
  return {.dim = test.size("pdim"),
          .depth = test.size("pdepth"),
          .heads = test.size("pheads"),
          .mlp_ratio = mlp_ratio(test, "predictor/predictor_blocks.0"),
          .positions = positions};
}

inline jepa::predictors::MaskedPredictorOptions image_predictor(const Case& test) {
  auto options = video_predictor(test, "sincos");
  options.single_mask_token = true;
  return options;
}

inline jepa::predictors::MaskedPredictorOptions levels_predictor(const Case& test) {
  auto options = video_predictor(test, "rope");
  options.rope_layout = "interleaved";
  options.mask_tokens = test.size("mask_tokens");
  options.mask_token_index = test.size("mask_index");
  options.embed_hidden = test.size("dim");
  options.context_head = true;
  options.modality_embedding = true;
  return options;
}

inline jepa::predictors::ModelShape model_shape(
    const jepa::encoders::VisionTransformerOptions& encoder, int64_t masks) {
  return {.encoder_width = encoder.dim,
          .encoder_heads = encoder.heads,
          .masks = masks,
          .grid = encoder.grid()};
}

}  // namespace parity
