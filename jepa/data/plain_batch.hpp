// Clips in plain memory on their way from a loader's threads into batches. Internal to data.
#pragma once

#include <jepa/data/loader.hpp>

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

namespace jepa {

/// A clip that could not be read.
struct LostClip {
  int64_t index = 0;
  std::string message;
};

/// A clip in plain memory, as a thread makes it.
struct PlainClip {
  std::vector<uint8_t> pixels;      ///< [C, T, H, W]
  int64_t index = 0;                ///< in its source
  int64_t shape[4] = {0, 0, 0, 0};  ///< C, T, H, W
  Signals signals;
  std::vector<LostClip> lost;  ///< it and those tried in its place that could not be read
  std::exception_ptr failure;
};

/// A batch in plain memory, put together from its clips.
struct PlainBatch {
  std::vector<uint8_t> clips;  ///< [B, C, T, H, W]
  std::vector<int64_t> indices;
  int64_t shape[4] = {0, 0, 0, 0};  ///< C, T, H, W
  Signals signals;                  ///< [B, T, width]
  std::vector<LostClip> lost;
  std::exception_ptr failure;
};

/// The clips one behind the other, each released once it is copied. Those that could not be read
/// are left out where that is allowed; else the first of them is the batch's failure.
PlainBatch join_clips(std::vector<PlainClip> clips, const ClipSource& source,
                      const LoaderOptions& options);

/// Tensors over the batch's memory, which lives as long as they do.
ClipBatch wrap_batch(PlainBatch plain);

/// Micro-batches as one batch. @throws DataError naming a clip that differs from the others
ClipBatch join_batches(std::vector<ClipBatch> parts, const ClipSource& source);

}  // namespace jepa
