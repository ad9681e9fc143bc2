// The safetensors format: a JSON header and raw little-endian tensors.
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

class MappedFile;

/// State-dict name -> tensor.
using TensorMap = std::map<std::string, torch::Tensor>;

/// The content of a safetensors file.
struct SafetensorsFile {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;  ///< `__metadata__`
  /// What the tensors are views of, one for each shard.
  std::vector<std::shared_ptr<MappedFile>> mappings;
};

/// Reads a `.safetensors` file, or all shards of a `*.safetensors.index.json` (metadata then is
/// empty).
///
/// The file is memory-mapped and the tensors are views of the mapping: nothing is read before it is
/// used, and the mapping lives as long as any tensor. Writing to a tensor does not touch the file.
/// The whole header is validated first: known types, ranges inside the file that neither overlap
/// nor leave gaps, sizes that match shapes, no key twice. Memory beyond the mapping stays under
/// twice the file's size plus 1 MiB, whatever the header says.
/// @throws CheckpointError naming the file and key, what was expected and found.
SafetensorsFile read_safetensors(const std::string& path);

/// Writes `tensors` (any device and layout; stored contiguous) and `metadata`, atomically: on any
/// failure, a full disk included, the old file stays. The tensors start on a 64-byte boundary,
/// widest types first, so that all are aligned.
/// @throws DataError naming the file; CheckpointError for a tensor type the format does not have.
void write_safetensors(const std::string& path, const TensorMap& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace jepa
