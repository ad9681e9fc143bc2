// Features painted over frames: the first three principal components of the tokens as red, green
// and blue (the picture of Oquab et al., DINOv2, 2023, Figure 1, for video tokens).
#pragma once

#include <jepa/grid.hpp>

#include <torch/types.h>

namespace jepa::eval::report {

/// What to do before the components are found.
struct PcaOptions {
  /// Take every position's mean over the clips away first. Small models spend most of their
  /// variance on where a token stands, which would otherwise be all that the picture shows.
  bool remove_position_mean = false;
};

/// The map from tokens to colours, found on some tokens and applied to any.
struct FeaturePca {
  torch::Tensor mean;       ///< float32 [1, D], or [N, D] with the positions' means
  torch::Tensor basis;      ///< float32 [D, 3], orthonormal columns, widest component first
  torch::Tensor low;        ///< float32 [3], 2nd percentile of each component: black
  torch::Tensor high;       ///< float32 [3], 98th percentile: full colour
  torch::Tensor explained;  ///< float32 [3], share of the variance

  /// Tokens [B, N, D] -> colours float32 [B, N, 3] in [0, 1].
  torch::Tensor colours(const torch::Tensor& tokens) const;
};

/// Principal components of tokens [B, N, D] (float, D >= 3). Signs are fixed, so the same tokens
/// give the same colours.
FeaturePca fit_pca(const torch::Tensor& tokens, const PcaOptions& options = {});

/// Frames with their features painted beside them: `frames` uint8 [T, H, W, 3] and `colours`
/// [N, 3] of `grid` -> uint8 [T, H, 2*W + 4, 3]. Colours are interpolated over height and width and
/// held over a tubelet's frames.
torch::Tensor pca_frames(const torch::Tensor& frames, const torch::Tensor& colours,
                         const TokenGrid& grid);

}  // namespace jepa::eval::report
