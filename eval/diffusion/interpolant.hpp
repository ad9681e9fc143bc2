// The one time convention of the library's diffusion, and the algebra between what a network may
// predict: t = 0 is noise, t = 1 is data.
#pragma once

#include <torch/types.h>

#include <string>

namespace jepa::eval::diffusion {

/// What a network predicts, or a loss is of.
enum class Quantity {
  kClean,     ///< "x", the data
  kNoise,     ///< "e", the noise
  kVelocity,  ///< "v", dz/dt
};

/// @throws ConfigError for a name that is not "x", "e" or "v"
Quantity quantity(const std::string& name);

/// All three at one noisy sample, and the score of its density.
struct Estimate {
  torch::Tensor clean;
  torch::Tensor noise;
  torch::Tensor velocity;
  torch::Tensor score;  ///< -noise / sigma

  const torch::Tensor& operator[](Quantity which) const {
    return which == Quantity::kClean ? clean : which == Quantity::kNoise ? noise : velocity;
  }
};

/// z = alpha(t) x + sigma(t) e.
///
/// Paths (Ma et al. 2024, "SiT", section 3): `linear`: alpha = t, sigma = 1 - t; `cosine`: sin and
/// cos of pi t / 2; `vp`: the variance-preserving path of DDPM in continuous time (Song et al.
/// 2021), beta from 0.1 to 20. The last two keep alpha^2 + sigma^2 = 1.
///
/// Times are float [B] (one a sample), or [B, F] for clips [B, C, T, H, W] where each of F equal
/// groups of frames has its own.
class Interpolant {
 public:
  /// @param floor smallest alpha or sigma that is divided by (Li and He 2025, "JiT": 0.05)
  /// @throws ConfigError for an unknown path
  explicit Interpolant(const std::string& path = "linear", double floor = 0.05);

  /// alpha, sigma and their derivatives, each of the shape of `t`.
  struct Coefficients {
    torch::Tensor alpha, sigma, alpha_rate, sigma_rate;
  };
  Coefficients at(const torch::Tensor& t) const;

  /// The noisy sample.
  torch::Tensor mix(const torch::Tensor& x, const torch::Tensor& e, const torch::Tensor& t) const;
  /// Everything that follows from one quantity and the noisy sample `z`.
  Estimate estimate(Quantity predicted, const torch::Tensor& value, const torch::Tensor& z,
                    const torch::Tensor& t) const;

  /// Mean squared error between what is `predicted` and the truth, both brought to the quantity
  /// `target` by the same formula. Where t = 1 the sample is given and does not count.
  torch::Tensor loss(Quantity predicted, Quantity target, const torch::Tensor& value,
                     const torch::Tensor& x, const torch::Tensor& e, const torch::Tensor& t) const;

 private:
  /// What an error in the prediction makes of the target, by the formulas of `estimate`.
  torch::Tensor gain(Quantity predicted, Quantity target, const Coefficients& c) const;

  enum class Path { kLinear, kCosine, kVp };
  Path path_;
  double floor_;
};

/// Times [B] or [B, F] as a tensor that multiplies `like` [B, ...] or [B, C, T, H, W].
torch::Tensor spread_times(const torch::Tensor& t, const torch::Tensor& like);

}  // namespace jepa::eval::diffusion
