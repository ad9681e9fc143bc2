// Films as GIF, for places that show no MP4, such as a README. An own encoder: FFmpeg's takes no
// colours but those it is given a palette of.
#pragma once

#include <torch/types.h>

#include <string>

namespace jepa::eval::report {

/// GIF bytes, played for ever, from `frames` uint8 [T, H, W, 3]. All frames share one palette: as
/// many bits of each colour as leave at most 256 colours, so that grey and drawn pictures come out
/// (nearly) exact and photographs coarse. Frames are shown for a whole number of 1/100 s, at least
/// 0.02 s (players slow down shorter ones).
std::string encode_gif(const torch::Tensor& frames, double fps);

/// Writes `encode_gif(frames, fps)` to `path`, whole or not at all. @throws DataError naming it.
void write_gif(const std::string& path, const torch::Tensor& frames, double fps);

}  // namespace jepa::eval::report
