// Encoders by name.
#pragma once

#include <encoders/convolutional.hpp>
#include <encoders/vision_transformer.hpp>

#include <functional>
#include <string>
#include <vector>

namespace jepa::encoders {

/// Which encoder, and its options.
struct EncoderOptions {
  std::string type = "vision_transformer";  ///< or `convolutional`
  std::string preset = "vit_tiny";          ///< `vit_tiny` ... `vit_gigantic_xformers`, or `custom`
  /// The vision transformer's; other encoders take width, depth, patch and clip from here too.
  VisionTransformerOptions vit = {};
  /// Of type `convolutional`; channels, height and width are `vit`'s, one pair of keys for both.
  ConvolutionalOptions convolutional = {};
  PixelStatistics pixels = {};  ///< of the clips it takes

  void describe(OptionVisitor& visit);
  /// With the sizes of its preset filled in.
  EncoderOptions resolved() const;
  /// For clips of sizes [B, C, T, H, W].
  EncoderOptions fitted(at::IntArrayRef clip_sizes) const;
  /// Sizes [1, C, T, H, W] of the clips it is for.
  std::vector<int64_t> clip_sizes() const;
};

/// An encoder by name, and what builds it (weights uninitialised) from the options.
struct EncoderEntry {
  std::string name;
  std::function<Encoder(const EncoderOptions&)> make;
};

/// All encoders that `encoder.type` may name.
const std::vector<EncoderEntry>& encoder_table();

/// Adds one: `add_encoder({"mine", make_mine})`, before options are read. Not for use from several
/// threads.
/// @throws ConfigError where the name is taken
void add_encoder(EncoderEntry entry);

/// Builds the encoder that the options name, weights uninitialised. Clip sizes and heads that the
/// encoder does not set itself are those of the options.
/// @throws ConfigError for an unknown type or preset, or sizes that do not fit together
Encoder make_encoder(const EncoderOptions& options);

}  // namespace jepa::encoders
