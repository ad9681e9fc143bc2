// Agreement between what a clip's visible part says of the clip and what its whole says.
#pragma once

#include <jepa/grid.hpp>
#include <torch/types.h>

namespace jepa {

/// Barlow Twins' loss (Zbontar et al., 2021) between two summaries of each clip: the mean of its
/// visible tokens, and the mean of all its target tokens, both less what their positions say alone.
///
/// With C the cross-correlation of the summaries over the batch, sum_i (1 - C_ii)^2 +
/// off_diagonal * sum_{i != j} C_ij^2, over D. Only `visible` gets a gradient. What the mask cannot
/// hide of a clip (what moves, where to) is asked for, in directions that do not repeat each other.
/// @param visible [B, K, D] encoder tokens that stand at `ids` [B, K] of `grid`
/// @param target [B, N, D] the target encoder's tokens of the whole clips, in order
torch::Tensor clip_agreement(const torch::Tensor& visible, const torch::Tensor& ids,
                             const torch::Tensor& target, const TokenGrid& grid,
                             double off_diagonal);

}  // namespace jepa
