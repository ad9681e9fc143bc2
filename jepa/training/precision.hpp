// Which precision of matrix products pays: measured, not read off the processor's name.
#pragma once

#include <jepa/nn/block.hpp>

#include <torch/types.h>

#include <string>

namespace jepa {

/// Precision of matrix products by name: `float32`, `bfloat16`, or `auto`: bfloat16 where forward
/// and backward of one transformer block of these sizes take at most 0.7 of float32's time on
/// `device`, else float32. The measurement takes a fraction of a second, with a ViT-L's block on
/// two cores some seconds.
/// @throws ConfigError for another name
torch::ScalarType resolve_precision(const std::string& name, torch::Device device,
                                    const nn::BlockOptions& block);

}  // namespace jepa
