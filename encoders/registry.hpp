// Encoders by name.
#pragma once

#include <encoders/convolutional.hpp>
#include <encoders/vision_transformer.hpp>

#include <string>

namespace jepa::encoders {

/// Which encoder, and its options.
struct EncoderOptions {
  std::string type = "vision_transformer";  ///< or `convolutional`
  std::string preset = "vit_tiny";  ///< `vit_tiny` ... `vit_gigantic_xformers`, or `custom`
  VisionTransformerOptions vit = {};
  /// Of type `convolutional`; channels, height and width are `vit`'s, one pair of keys for both.
  ConvolutionalOptions convolutional = {};
  PixelStatistics pixels = {};      ///< of the clips it takes

  void describe(OptionVisitor& visit);
};

/// Builds the encoder that the options name, weights uninitialised.
/// @throws ConfigError for an unknown type or preset, or sizes that do not fit together
Encoder make_encoder(const EncoderOptions& options);

}  // namespace jepa::encoders
