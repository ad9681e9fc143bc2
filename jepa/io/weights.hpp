// Weights between modules and name -> tensor maps.
#pragma once

#include <jepa/io/safetensors.hpp>

#include <torch/nn/module.h>

#include <string>

namespace jepa {

/// Parameters and buffers under their state-dict names, sharing the module's memory.
TensorMap state_dict(const torch::nn::Module& module);

/// How a module takes weights.
enum class Fill {
  copy,  ///< into its own memory
  /// Takes the given tensors as its own where type and device agree, else copies: a large model
  /// from a mapped file then costs no memory twice and no time.
  adopt,
};

/// Fills every parameter and buffer of `module` from `weights`.
/// @param source the file, for messages
/// @throws CheckpointError naming the key that is missing, of another shape, or left over
void load_into(torch::nn::Module& module, const TensorMap& weights, const std::string& source,
               Fill fill = Fill::copy);

}  // namespace jepa
