#include <eval/physics/heat_map.hpp>

#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::physics {

torch::Tensor draw_heat(const torch::Tensor& frames, const torch::Tensor& surprise, double full) {
  TORCH_CHECK(frames.dim() == 4 && surprise.dim() == 3 && frames.size(0) == surprise.size(0) &&
                  frames.size(1) % surprise.size(1) == 0 && frames.size(2) % surprise.size(2) == 0,
              "draw_heat: frames ", frames.sizes(), " and surprise ", surprise.sizes());
  const auto share = torch::nan_to_num(surprise, 0.0)
                         .div(std::max(full, 1e-12))
                         .clamp(0, 1)
                         .repeat_interleave(frames.size(1) / surprise.size(1), 1)
                         .repeat_interleave(frames.size(2) / surprise.size(2), 2)
                         .unsqueeze(3);
  // Red grows over the first half, then green joins it to yellow.
  const auto red = (2 * share).clamp_max(1) * 255;
  const auto green = (2 * share - 1).clamp_min(0) * 255;
  const auto heat = torch::cat({red, green, torch::zeros_like(red)}, 3);
  const auto weight = 0.7 * share.sqrt();
  return ((1 - weight) * frames.to(torch::kFloat32) + weight * heat)
      .round()
      .clamp(0, 255)
      .to(torch::kUInt8);
}

}  // namespace jepa::eval::physics
