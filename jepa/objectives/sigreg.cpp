#include <jepa/objectives/sigreg.hpp>

#include <torch/types.h>

#include <cmath>
#include <optional>
#include <vector>

namespace jepa {
namespace {

constexpr int64_t kKnots = 17;
constexpr double kReach = 3.0;
constexpr double kStep = kReach / (kKnots - 1);

}  // namespace

torch::Tensor sigreg(const torch::Tensor& samples, int64_t slices, bool scale_by_n,
                     at::Generator generator) {
  TORCH_CHECK(samples.dim() == 2 || samples.dim() == 3,
              "sigreg: expected samples [n, D] or [T, n, D], found ", samples.sizes());
  TORCH_CHECK(slices > 0, "sigreg: needs at least one slice");
  // The knots are few and fixed: one multiple of the step each, so that sums over samples and
  // slices stay whole-tensor operations.
  std::vector<float> phi(kKnots), weights(kKnots), knots(kKnots);
  for (int64_t k = 0; k < kKnots; ++k) {
    const double t = kStep * static_cast<double>(k);
    const bool end = k == 0 || k == kKnots - 1;
    knots[k] = static_cast<float>(t);
    phi[k] = static_cast<float>(std::exp(-t * t / 2));
    // Twice the step: the negative half of the interval is the mirror image.
    weights[k] = static_cast<float>((end ? kStep : 2 * kStep) * std::exp(-t * t / 2));
  }
  const auto options = samples.options().requires_grad(false);
  const auto t = torch::tensor(knots, options).unsqueeze(1);
  const auto expected = torch::tensor(phi, options).unsqueeze(1);
  const auto weight = torch::tensor(weights, options).unsqueeze(1);

  // Drawn on the CPU, wherever the samples are: the generator is the CPU's.
  auto directions = at::randn({samples.size(-1), slices}, std::optional<at::Generator>(generator),
                              options.device(torch::kCPU))
                        .to(options.device());
  directions = directions / directions.norm(2, {0}, /*keepdim=*/true);
  const auto projected = at::matmul(samples, directions);  // [..., n, slices]
  const auto angles = projected.unsqueeze(-2) * t;         // [..., n, knots, slices]
  const auto real = angles.cos().mean(-3) - expected;      // [..., knots, slices]
  const auto imaginary = angles.sin().mean(-3);
  const auto statistic = ((real.square() + imaginary.square()) * weight).sum(-2).mean();
  return scale_by_n ? statistic * samples.size(-2) : statistic;
}

}  // namespace jepa
