// Clips between sources, tensors and the files that people look at.
#pragma once

#include <jepa/data/clip_source.hpp>

#include <torch/types.h>

#include <string>

namespace jepa::examples {

/// Clips first .. first + count - 1 of a source, whole, uint8 [count, C, T, H, W].
/// @throws DataError where there are not so many or they differ in size
torch::Tensor read_clips(const ClipSource& source, int64_t first, int64_t count);

/// Frames a second of a written film at most.
inline constexpr double kMostFps = 1000;

/// Whether the file that option `out` names can be written, asked before it is worked for.
/// @throws ConfigError for an ending that is none of .mp4, .gif, .png, .h5; DataError naming a file
/// that cannot be made
void require_media_file(const std::string& path);

/// Writes clips uint8 [B, C, T, H, W] by the name's ending: .mp4 and .gif show them side by side,
/// .png one clip a row with its frames in a line, .h5 is a clip store.
/// @param scale each pixel so many times (not .h5)
/// @throws ConfigError for another ending, DataError naming a file that cannot be written
void write_clips(const std::string& path, const torch::Tensor& clips, int64_t scale, double fps);

}  // namespace jepa::examples
