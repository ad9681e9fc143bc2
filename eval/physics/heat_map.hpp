// Surprise drawn over the film that caused it.
#pragma once

#include <torch/types.h>

namespace jepa::eval::physics {

/// Frames with their surprise as heat: dark red where there is some, yellow where there is most.
/// @param frames uint8 [T, H, W, 3]
/// @param surprise float [T, h, w] of the tokens, sides that divide the frames'; NaN: not known,
///   drawn as nothing
/// @param full surprise that is drawn brightest
/// @returns uint8 [T, H, W, 3]
torch::Tensor draw_heat(const torch::Tensor& frames, const torch::Tensor& surprise, double full);

}  // namespace jepa::eval::physics
