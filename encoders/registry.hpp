// Encoders by name.
#pragma once

#include <encoders/vision_transformer.hpp>

#include <string>

namespace jepa::encoders {

/// Which encoder, and its options.
struct EncoderOptions {
  std::string type = "vision_transformer";
  std::string preset = "vit_tiny";  ///< `vit_tiny` ... `vit_gigantic_xformers`, or `custom`
  VisionTransformerOptions vit = {};
  PixelStatistics pixels = {};      ///< of the clips it takes

  void describe(OptionVisitor& visit);
};

/// Builds the encoder that the options name, weights uninitialised.
/// @throws ConfigError for an unknown type or preset, or sizes that do not fit together
Encoder make_encoder(const EncoderOptions& options);

}  // namespace jepa::encoders
