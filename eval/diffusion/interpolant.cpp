#include <eval/diffusion/interpolant.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <numbers>

namespace jepa::eval::diffusion {
namespace {

constexpr double kBetaMin = 0.1;
constexpr double kBetaMax = 20.0;

}  // namespace

Quantity quantity(const std::string& name) {
  if (name == "x") return Quantity::kClean;
  if (name == "e") return Quantity::kNoise;
  if (name == "v") return Quantity::kVelocity;
  throw ConfigError("quantity " + name + " is not one of x, e, v");
}

torch::Tensor spread_times(const torch::Tensor& t, const torch::Tensor& like) {
  if (t.dim() == 1) {
    std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
    shape[0] = t.size(0);
    return t.view(shape);
  }
  TORCH_CHECK(t.dim() == 2 && like.dim() == 5 && like.size(2) % t.size(1) == 0, "times ", t.sizes(),
              " do not fit a clip ", like.sizes());
  return t.repeat_interleave(like.size(2) / t.size(1), 1).view({t.size(0), 1, like.size(2), 1, 1});
}

Interpolant::Interpolant(const std::string& path, double floor) : floor_(floor) {
  if (path == "linear") {
    path_ = Path::kLinear;
  } else if (path == "cosine") {
    path_ = Path::kCosine;
  } else if (path == "vp") {
    path_ = Path::kVp;
  } else {
    throw ConfigError("path " + path + " is not one of linear, cosine, vp");
  }
}

Interpolant::Coefficients Interpolant::at(const torch::Tensor& t) const {
  switch (path_) {
    case Path::kLinear:
      return {t, 1 - t, torch::ones_like(t), -torch::ones_like(t)};
    case Path::kCosine: {
      const double half_pi = std::numbers::pi / 2;
      const auto alpha = torch::sin(half_pi * t);
      const auto sigma = torch::sin(half_pi * (1 - t));  // 0 at t = 1, where cos rounds
      return {alpha, sigma, half_pi * sigma, -half_pi * alpha};
    }
    case Path::kVp:
      break;
  }
  // With u = 1 - t: ln alpha = -u^2 (b1 - b0) / 4 - u b0 / 2.
  const auto u = 1 - t;
  const auto log_alpha = -0.25 * (kBetaMax - kBetaMin) * u.square() - 0.5 * kBetaMin * u;
  const auto alpha = torch::exp(log_alpha);
  const auto sigma = torch::sqrt(-torch::expm1(2 * log_alpha));
  const auto alpha_rate = alpha * (0.5 * (kBetaMax - kBetaMin) * u + 0.5 * kBetaMin);
  return {alpha, sigma, alpha_rate, -alpha * alpha_rate / sigma.clamp_min(1e-4)};
}

torch::Tensor Interpolant::mix(const torch::Tensor& x, const torch::Tensor& e,
                               const torch::Tensor& t) const {
  const auto c = at(spread_times(t, x));
  return at::addcmul(c.alpha * x, c.sigma, e);
}

Estimate Interpolant::estimate(Quantity predicted, const torch::Tensor& value,
                               const torch::Tensor& z, const torch::Tensor& t) const {
  const auto c = at(spread_times(t, z));
  Estimate all;
  switch (predicted) {
    case Quantity::kClean:
      all.clean = value;
      all.noise = (z - c.alpha * value) / c.sigma.clamp_min(floor_);
      break;
    case Quantity::kNoise:
      all.noise = value;
      all.clean = (z - c.sigma * value) / c.alpha.clamp_min(floor_);
      break;
    case Quantity::kVelocity: {
      // [z, v] = [[alpha, sigma], [alpha', sigma']] [x, e]; the determinant never is 0.
      const auto determinant = c.alpha * c.sigma_rate - c.sigma * c.alpha_rate;
      all.clean = (c.sigma_rate * z - c.sigma * value) / determinant;
      all.noise = (c.alpha * value - c.alpha_rate * z) / determinant;
      break;
    }
  }
  all.velocity = predicted == Quantity::kVelocity
                     ? value
                     : at::addcmul(c.alpha_rate * all.clean, c.sigma_rate, all.noise);
  all.score = -all.noise / c.sigma.clamp_min(floor_);
  return all;
}

torch::Tensor Interpolant::gain(Quantity predicted, Quantity target, const Coefficients& c) const {
  if (predicted == target) return torch::ones_like(c.alpha);
  if (predicted == Quantity::kVelocity) {
    const auto determinant = c.alpha * c.sigma_rate - c.sigma * c.alpha_rate;
    return (target == Quantity::kClean ? -c.sigma : c.alpha) / determinant;
  }
  const bool clean = predicted == Quantity::kClean;
  const auto other =
      clean ? -c.alpha / c.sigma.clamp_min(floor_) : -c.sigma / c.alpha.clamp_min(floor_);
  if (target != Quantity::kVelocity) return other;
  return clean ? at::addcmul(c.alpha_rate, c.sigma_rate, other)
               : at::addcmul(c.sigma_rate, c.alpha_rate, other);
}

torch::Tensor Interpolant::loss(Quantity predicted, Quantity target, const torch::Tensor& value,
                                const torch::Tensor& x, const torch::Tensor& e,
                                const torch::Tensor& t) const {
  const auto c = at(spread_times(t, x));
  torch::Tensor truth = x;
  if (predicted == Quantity::kNoise) truth = e;
  if (predicted == Quantity::kVelocity) truth = at::addcmul(c.alpha_rate * x, c.sigma_rate, e);
  // The sample drops out of the difference of two estimates: an error is only scaled.
  const auto counted = spread_times(t, x).lt(1).to(x.scalar_type());
  const auto weight = gain(predicted, target, c).square() * counted;
  const auto count = counted.expand_as(x).sum().clamp_min(1);
  return ((value - truth).square() * weight).sum() / count;
}

}  // namespace jepa::eval::diffusion
