// Names of weights: the published state-dict names, which are this library's, and Hugging Face's.
#pragma once

#include <jepa/io/safetensors.hpp>

#include <functional>
#include <string>

namespace jepa {

/// `key` without what the wrappers of PyTorch add, each with a dot behind: `module`, `backbone` and
/// `model` in front; `_orig_mod`, `_fsdp_wrapped_module`, `_checkpoint_wrapped_module` and
/// `_forward_module` at any depth.
std::string strip_wrappers(std::string key);
/// Those at any depth alone.
std::string strip_inner_wrappers(std::string key);

/// Weights of one module ("encoder", "predictor" or "probe") from the names of Hugging Face's
/// VJEPA2Model and VJEPA2ForVideoClassification, their module's prefix removed, to the published
/// ones: separate query, key and value become one matrix, stacked mask tokens become single ones.
/// @param joined called with each tensor that was copied into a joint one and is not used further
/// @throws CheckpointError naming `source` and the key that has no counterpart or is incomplete
TensorMap from_hugging_face(const std::string& module, const TensorMap& weights,
                            const std::string& source,
                            const std::function<void(const torch::Tensor&)>& joined = {});

/// The reverse; parts are views. Weights that Hugging Face's model does not have are errors.
/// @throws CheckpointError naming the key that has no counterpart
TensorMap to_hugging_face(const std::string& module, const TensorMap& weights);

}  // namespace jepa
