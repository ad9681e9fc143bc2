// Models that stand deep inside a file, under names of their owner's choice.
#pragma once

#include <jepa/io/safetensors.hpp>

#include <string>

namespace jepa {

/// `tensors` with what a training script put before the keys of a model taken off, at any depth:
/// `net.module.backbone.patch_embed.proj.weight` becomes `encoder/patch_embed.proj.weight`,
/// `lit.net.predictor.predictor_embed.weight` `predictor/predictor_embed.weight`, and
/// `module.vjepa2.encoder.layer.0` of a Hugging Face model loses its `module`. A model is found by
/// the key of its first layer; a name of a module (`encoder`, `target_encoder`, `ema_encoder`,
/// `predictor`) before it says which it is. Keys with the usual prefixes alone stay as they are,
/// and a model under them goes before others of the same module, which are passed over.
/// @param path the file, for messages
/// @throws CheckpointError: two models for one module, named
TensorMap unwrap(TensorMap tensors, const std::string& path);

}  // namespace jepa
