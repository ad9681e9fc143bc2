#include <eval/comparison/judge.hpp>
#include <eval/comparison/prediction_metrics.hpp>

#include <torch/types.h>

namespace jepa::eval::comparison {
namespace {

constexpr double kPeak = 255.0;
constexpr int64_t kWindow = 11;  // of SSIM
constexpr double kWindowDeviation = 1.5;

/// Two sets of frames [..., C, T, H, W] as double.
std::pair<torch::Tensor, torch::Tensor> comparable(const torch::Tensor& frames,
                                                   const torch::Tensor& truth) {
  TORCH_CHECK(frames.dim() >= 4 && frames.sizes() == truth.sizes(),
              "frames [..., C, T, H, W] of one shape expected, got ", frames.sizes(), " and ",
              truth.sizes());
  return {frames.to(torch::kFloat64), truth.to(torch::kFloat64)};
}

void check_futures(const torch::Tensor& centres, const torch::Tensor& truth) {
  TORCH_CHECK(
      centres.dim() == 4 && centres.size(0) >= 1 && centres.sizes().slice(1) == truth.sizes(),
      "futures [K, B, T, 2] and truth [B, T, 2] expected, got ", centres.sizes(), " and ",
      truth.sizes());
}

/// Gaussian means of planes [n, 1, H, W] over all windows wholly inside.
torch::Tensor window_means(const torch::Tensor& planes) {
  auto kernel = torch::arange(kWindow, planes.options()) - kWindow / 2;
  kernel = (-kernel.square() / (2 * kWindowDeviation * kWindowDeviation)).exp();
  kernel = (kernel / kernel.sum()).view({1, 1, 1, -1});
  return at::conv2d(at::conv2d(planes, kernel), kernel.transpose(2, 3));
}

}  // namespace

torch::Tensor copy_last_frame(const torch::Tensor& context, int64_t horizon) {
  TORCH_CHECK(context.dim() == 5, "clips [B, C, T, H, W] expected, got ", context.sizes());
  return context.slice(2, context.size(2) - 1).expand({-1, -1, horizon, -1, -1}).contiguous();
}

torch::Tensor copy_last_centre(const torch::Tensor& centres, int64_t horizon) {
  TORCH_CHECK(centres.dim() == 3, "centres [B, T, 2] expected, got ", centres.sizes());
  return centres.slice(1, centres.size(1) - 1).expand({-1, horizon, -1}).contiguous();
}

torch::Tensor extrapolate_centres(const torch::Tensor& centres, int64_t horizon) {
  const auto velocity = line_velocity(centres).unsqueeze(1);
  // From the middle of the context, where the line passes through the mean.
  const double to_last = 0.5 * static_cast<double>(centres.size(1) - 1);
  const auto time = torch::arange(1, horizon + 1, centres.options()) + to_last;
  return centres.mean(1, /*keepdim=*/true) + time.view({1, -1, 1}) * velocity;
}

torch::Tensor extrapolate_frames(const torch::Tensor& context, const torch::Tensor& velocity,
                                 int64_t horizon) {
  TORCH_CHECK(context.dim() == 5 && context.scalar_type() == torch::kUInt8 &&
                  velocity.sizes() == at::IntArrayRef({context.size(0), 2}),
              "clips uint8 [B, C, T, H, W] and velocity [B, 2] expected, got ",
              context.scalar_type(), " ", context.sizes(), " and ", velocity.sizes());
  const auto last = context.select(2, context.size(2) - 1).to(torch::kFloat32);
  // In units of half a side, as grid_sampler counts; it takes a place's source, hence the minus.
  const auto half = torch::tensor(
      {0.5 * static_cast<double>(last.size(3)), 0.5 * static_cast<double>(last.size(2))});
  const auto shift = -velocity.to(torch::kFloat32) / half;
  const auto identity = torch::eye(2).expand({last.size(0), 2, 2});
  std::vector<torch::Tensor> frames;
  for (int64_t h = 1; h <= horizon; ++h) {
    const auto theta = torch::cat({identity, (static_cast<double>(h) * shift).unsqueeze(2)}, 2);
    const auto grid = at::affine_grid_generator(theta, last.sizes(), /*align_corners=*/false);
    frames.push_back(
        at::grid_sampler_2d(last, grid, /*bilinear*/ 0, /*zeros*/ 0, /*align_corners=*/false));
  }
  return torch::stack(frames, 2).round().clamp(0, kPeak).to(torch::kUInt8);
}

torch::Tensor position_error(const torch::Tensor& centres, const torch::Tensor& truth) {
  TORCH_CHECK(centres.dim() >= truth.dim() && centres.size(-1) == 2 &&
                  centres.sizes().slice(centres.dim() - truth.dim()) == truth.sizes(),
              "centres [..., T, 2] and truth of the same shape expected, got ", centres.sizes(),
              " and ", truth.sizes());
  return (centres - truth).norm(2, -1);
}

torch::Tensor psnr(const torch::Tensor& frames, const torch::Tensor& truth) {
  constexpr double kRounding = 1.0 / 12.0;
  const auto [a, b] = comparable(frames, truth);
  const auto error = (a - b).square().mean({-4, -2, -1}).clamp_min(kRounding);
  return 10 * (kPeak * kPeak / error).log10();
}

torch::Tensor ssim(const torch::Tensor& frames, const torch::Tensor& truth) {
  constexpr double kLuminance = 0.01 * kPeak * 0.01 * kPeak;
  constexpr double kContrast = 0.03 * kPeak * 0.03 * kPeak;
  const auto [a, b] = comparable(frames, truth);
  const auto planes = [](const torch::Tensor& x) {
    return x.reshape({-1, 1, x.size(-2), x.size(-1)});
  };
  TORCH_CHECK(a.size(-2) >= kWindow && a.size(-1) >= kWindow, "SSIM takes frames of at least ",
              kWindow, " x ", kWindow, " px, got ", frames.sizes());
  const auto x = planes(a), y = planes(b);
  const auto mean_x = window_means(x), mean_y = window_means(y);
  const auto variance_x = window_means(x * x) - mean_x * mean_x;
  const auto variance_y = window_means(y * y) - mean_y * mean_y;
  const auto covariance = window_means(x * y) - mean_x * mean_y;
  const auto similarity =
      (2 * mean_x * mean_y + kLuminance) * (2 * covariance + kContrast) /
      ((mean_x.square() + mean_y.square() + kLuminance) * (variance_x + variance_y + kContrast));
  // [n, 1, h, w] -> [..., C, T] -> mean over channels
  return similarity.mean({1, 2, 3}).view(a.sizes().slice(0, a.dim() - 2)).mean(-2);
}

torch::Tensor best_of_k(const torch::Tensor& errors) {
  TORCH_CHECK(errors.dim() == 3, "errors [K, B, T] expected, got ", errors.sizes());
  const auto best = errors.sum(2).argmin(0).view({1, -1, 1}).expand({1, -1, errors.size(2)});
  return errors.gather(0, best).squeeze(0);
}

torch::Tensor mean_future(const torch::Tensor& futures) {
  return futures.to(torch::kFloat32).mean(0);
}

torch::Tensor coverage(const torch::Tensor& centres, const torch::Tensor& truth, double radius) {
  check_futures(centres, truth);
  return (position_error(centres, truth).amin(0) <= radius).to(torch::kFloat64);
}

torch::Tensor energy_score(const torch::Tensor& centres, const torch::Tensor& truth) {
  check_futures(centres, truth);
  const int64_t futures = centres.size(0);
  const auto distance = position_error(centres, truth).mean(0);
  if (futures == 1) return distance;
  auto spread = torch::zeros_like(distance);
  for (int64_t k = 1; k < futures; ++k) {  // each pair once
    spread += position_error(centres.slice(0, 0, k), centres[k]).sum(0);
  }
  return distance - spread / static_cast<double>(futures * (futures - 1));
}

probes::Estimate mean_interval(const torch::Tensor& values, const torch::Tensor& units,
                               uint64_t seed, int64_t resamples) {
  TORCH_CHECK(values.dim() == 1 && values.size(0) > 0 &&
                  (!units.defined() || units.sizes() == values.sizes()),
              "values [n] and units [n] expected, got ", values.sizes(), " and ",
              units.defined() ? units.sizes() : at::IntArrayRef{});
  int64_t unit_count = values.size(0);
  const auto unit =
      units.defined() ? probes::number_units(units, unit_count) : torch::arange(unit_count);
  return probes::estimate(probes::UnitScores::of_values(values, unit, unit_count),
                          probes::resample_units(unit_count, resamples, seed));
}

}  // namespace jepa::eval::comparison
