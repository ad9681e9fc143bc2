#include <jepa/device.hpp>
#include <jepa/generator.hpp>
#include <jepa/objectives/sigreg.hpp>

#include <torch/types.h>

#include <cmath>
#include <optional>
#include <vector>

namespace jepa {
namespace {

constexpr double kReach = 3.0;

}  // namespace

torch::Tensor sigreg(const torch::Tensor& samples, int64_t slices, bool scale_by_n,
                     at::Generator generator) {
  TORCH_CHECK(slices > 0, "sigreg: needs at least one slice");
  // Drawn on the CPU, wherever the samples are: the generator is the CPU's.
  const auto options = samples.options().requires_grad(false);
  const auto directions =
      to_device(at::randn({samples.size(-1), slices}, std::optional<at::Generator>(generator),
                          options.device(torch::kCPU)),
                samples.device());
  return sigreg(samples, directions / directions.norm(2, {0}, /*keepdim=*/true), scale_by_n);
}

torch::Tensor sigreg(const torch::Tensor& samples, const torch::Tensor& directions, bool scale_by_n,
                     int64_t knot_count) {
  TORCH_CHECK(samples.dim() == 2 || samples.dim() == 3,
              "sigreg: expected samples [n, D] or [T, n, D], found ", samples.sizes());
  TORCH_CHECK(
      directions.dim() == 2 && directions.size(0) == samples.size(-1) && directions.size(1) > 0,
      "sigreg: directions [", samples.size(-1), ", slices] expected, found ", directions.sizes());
  TORCH_CHECK(knot_count >= 2, "sigreg: two knots or more are needed");
  const double step = kReach / static_cast<double>(knot_count - 1);
  // The knots are few and fixed: one multiple of the step each, so that sums over samples and
  // slices stay whole-tensor operations.
  std::vector<float> phi(knot_count), weights(knot_count), knots(knot_count);
  for (int64_t k = 0; k < knot_count; ++k) {
    const double t = step * static_cast<double>(k);
    const bool end = k == 0 || k == knot_count - 1;
    knots[k] = static_cast<float>(t);
    phi[k] = static_cast<float>(std::exp(-t * t / 2));
    // Twice the step: the negative half of the interval is the mirror image.
    weights[k] = static_cast<float>((end ? step : 2 * step) * std::exp(-t * t / 2));
  }
  const auto column = [&](const std::vector<float>& values) {
    const auto here = torch::tensor(values, samples.scalar_type()).unsqueeze(1);
    return to_device(here, samples.device());
  };
  const auto t = column(knots), expected = column(phi), weight = column(weights);

  const auto projected = at::matmul(samples, directions);  // [..., n, slices]
  const auto angles = projected.unsqueeze(-2) * t;         // [..., n, knots, slices]
  const auto real = angles.cos().mean(-3) - expected;      // [..., knots, slices]
  const auto imaginary = angles.sin().mean(-3);
  const auto statistic = ((real.square() + imaginary.square()) * weight).sum(-2).mean();
  return scale_by_n ? statistic * samples.size(-2) : statistic;
}

torch::Tensor bcs_statistic(const torch::Tensor& samples, const torch::Tensor& directions,
                            int64_t knots) {
  TORCH_CHECK(samples.dim() == 2 && directions.dim() == 2 && directions.size(0) == samples.size(1),
              "bcs_statistic: samples [n, D] and directions [D, slices] expected, found ",
              samples.sizes(), " and ", directions.sizes());
  const auto t = at::linspace(-kReach, kReach, knots, samples.options().requires_grad(false));
  const auto phi = (-0.5 * t.square()).exp();
  const auto angles = at::matmul(samples, directions).unsqueeze(-1) * t;  // [n, slices, knots]
  const auto real = angles.cos().mean(0) - phi;
  const auto imaginary = angles.sin().mean(0);
  return at::trapezoid((real.square() + imaginary.square()) * phi, t, -1);
}

torch::Tensor bcs_directions(int64_t dim, int64_t slices, int64_t call) {
  auto generator = seeded_generator(static_cast<uint64_t>(call));
  const auto drawn = at::randn({dim, slices}, std::optional<at::Generator>(generator),
                               at::TensorOptions(at::kFloat));
  return drawn / drawn.norm(2, {0}, /*keepdim=*/true);
}

}  // namespace jepa
