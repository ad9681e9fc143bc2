// PyTorch's `torch.save` files (`.pt`, `.pth`, `.pth.tar`), read without Python.
#pragma once

#include <jepa/io/safetensors.hpp>

#include <map>
#include <string>

namespace jepa {

/// The content of a `torch.save` file, its nested dicts and lists flattened.
struct TorchFile {
  /// Tensors under their keys joined by `/`: `encoder/module.backbone.norm.weight`,
  /// `opt/state/0/exp_avg`.
  TensorMap tensors;
  /// Numbers and strings of the outermost dict, as text (`epoch`); deeper ones are dropped.
  std::map<std::string, std::string> scalars;
};

/// Reads a file written by `torch.save` (zip format, PyTorch 1.6 and newer).
///
/// Understands tensors, parameters, dicts, lists, tuples, numbers and strings. What else
/// checkpoints often carry (NumPy scalars, argparse.Namespace, counters, sets, paths, integers over
/// 64 bits: a short list) is passed over as a record without content; what stands under a dict key
/// that is no name (a tuple, None) stands under the key's place, `counts/[3]`. A pickle can name
/// any Python function to be called on loading, so every other name is an error, and nothing is
/// ever executed. Storages are memory-mapped (those at an odd address are copied); sizes, strides
/// and offsets are checked against them. Memory beyond the mapping stays under twice the file's
/// size plus 1 MiB.
/// @throws CheckpointError naming the file and what is wrong, with the name of the global
TorchFile read_torch_file(const std::string& path);

}  // namespace jepa
