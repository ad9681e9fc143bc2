// Weights of an encoder of a few thousand numbers, as a run leaves them.
#pragma once

#include <encoders/registry.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/options.hpp>

#include <torch/types.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace jepa {

/// Writes a folder that opens as weights. Patches of 8 x 8 pixels and two frames, tokens of 24.
/// @param size of the frames it is made for [px]
inline void write_tiny_encoder(const std::string& folder, int64_t channels, int64_t size,
                               uint64_t seed = 1) {
  encoders::EncoderOptions options;
  options.preset = "custom";
  auto& vit = options.vit;
  vit.dim = 24;
  vit.depth = 2;
  vit.heads = 2;
  vit.patch = 8;
  vit.tubelet = 2;
  vit.channels = channels;
  vit.frames = 4;
  vit.height = vit.width = size;
  vit.xavier = true;
  auto encoder = encoders::make_encoder(options);
  encoder->initialise(seeded_generator(seed));
  std::filesystem::create_directories(folder);
  write_safetensors(folder + "/target_encoder.safetensors", state_dict(*encoder));
  std::ofstream(folder + "/config.ini")
      << dump_ini({{"encoder", "", [&](OptionVisitor& visit) { options.describe(visit); }}});
}

}  // namespace jepa
