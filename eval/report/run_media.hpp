// The report's pictures that need a model and clips.
#pragma once

#include <eval/report/run_report.hpp>
#include <jepa/model.hpp>

#include <torch/types.h>

#include <string>
#include <vector>

namespace jepa::eval::report {

/// A mask configuration as drawn for a batch, and its name in the caption.
struct NamedMask {
  std::string name;
  Mask mask;
};

/// Each mask over the first clip: one row of frames as they are and one as the encoder sees them, a
/// frame for each tubelet, eight at most.
/// @param clips uint8 [B, C, T, H, W]
std::vector<Picture> draw_masks_over_clip(const torch::Tensor& clips, const TokenGrid& grid,
                                          const std::vector<NamedMask>& masks);

/// Films of the first `shown` clips with their features painted beside them, once as the tokens are
/// and once less each position's mean; the colours are found on all clips given.
/// @param clips uint8 [B, C, T, H, W]
/// @param tokens [B, N, D] of these clips
std::vector<Picture> draw_features(const torch::Tensor& clips, const torch::Tensor& tokens,
                                   const TokenGrid& grid, int64_t shown = 6);

}  // namespace jepa::eval::report
