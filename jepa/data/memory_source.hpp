// Clips held in memory: for tests, and for runs that must not depend on a disk or a decoder.
#pragma once

#include <jepa/data/clip_source.hpp>

#include <map>

namespace jepa {

/// Clips that are all in memory. Reading one copies it.
class MemorySource : public ClipSource {
 public:
  /// @param clips uint8 [E, T, H, W, C], contiguous
  /// @param columns values of each clip, first dimension E
  /// @param signals values of each frame of each clip, float32 [E, T, K]
  MemorySource(torch::Tensor clips, std::map<std::string, torch::Tensor> columns,
               std::map<std::string, torch::Tensor> signals = {});

  int64_t size() const override;
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::vector<std::string> columns() const override;
  torch::Tensor column(const std::string& name) const override;

 private:
  torch::Tensor clips_;
  std::map<std::string, torch::Tensor> columns_;
  std::map<std::string, torch::Tensor> signals_;
};

/// Reads `count` clips of `source` (0: one pass) into memory: clip i is `source`'s clip i modulo
/// its size, drawn from (seed, i) and cropped by `crop`. Columns and signals follow.
/// @throws DataError where clips differ in shape or signals
std::shared_ptr<MemorySource> hold_in_memory(const ClipSource& source, int64_t count, uint64_t seed,
                                             const CropChooser& crop = {});

}  // namespace jepa
