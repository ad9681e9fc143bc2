// From noise to data: times of a step, the samplers, guidance, frames that are given.
#pragma once

#include <eval/diffusion/interpolant.hpp>
#include <jepa/options.hpp>

#include <ATen/core/Generator.h>

#include <functional>
#include <string>
#include <vector>

namespace jepa::eval::diffusion {

/// How training times are drawn.
struct TimeOptions {
  std::string distribution = "logit_normal";  ///< or "uniform"
  double mean = -0.4;                         ///< logit-normal: below 0 nearer to noise (JiT: -0.8)
  double deviation = 1.0;                     ///< logit-normal (JiT: 0.8)
  double shift = 1.0;                         ///< above 1: more noise, in training and sampling

  void describe(OptionVisitor& visit);
};

/// Shifted towards noise: t / (s - (s - 1) t) (Esser et al. 2024, with t = 1 data).
torch::Tensor shift_times(const torch::Tensor& t, double shift);

/// `count` training times, float [count] in [0, 1).
torch::Tensor draw_times(int64_t count, const TimeOptions& options, at::Generator generator);

/// How samples are made.
struct SamplerOptions {
  std::string method = "heun";  ///< euler, heun, ddim, ddpm
  int64_t steps = 20;
  double guidance = 1.0;       ///< classifier-free; 1: the conditional model as it is
  double guidance_from = 0.0;  ///< guided only while t lies between
  double guidance_to = 1.0;
  double given_guidance = 1.0;  ///< the same for frames that are given; 1: as trained
  double eta = 0.0;             ///< ddim: share of the ancestral noise (ddpm: 1)
  double shift = 1.0;

  void describe(OptionVisitor& visit);
};

/// How often a sample asks the network, guidance included.
/// @param conditioned a prompt or latents are asked for
/// @param given some frames are known
int64_t network_passes(const SamplerOptions& options, bool conditioned, bool given);

/// The network at a noisy sample: (z, t) -> its prediction. `t` is [B], or [B, F] where frames are
/// given.
using Denoiser = std::function<torch::Tensor(const torch::Tensor& z, const torch::Tensor& t)>;

/// The network under more and less of what is known.
struct Branches {
  Denoiser all;         ///< condition and given frames
  Denoiser given = {};  ///< no condition; empty: nothing was asked for
  Denoiser alone = {};  ///< neither; empty: no frames are given
};

/// alone + given_guidance (given - alone) + guidance (all - given), over all channels: guidance by
/// text and by image as in Open-Sora 2.0 (Peng et al. 2025), where `alone` keeps history that is as
/// noisy as the rest (Song et al. 2025, "History-guided video diffusion"). A weight of 1 asks the
/// network nothing more.
Denoiser guide(Branches branches, const SamplerOptions& options);

/// Frames that are known. They keep time 1 throughout and come back bit for bit.
struct GivenFrames {
  torch::Tensor clip;   ///< [B, C, T, H, W]; undefined: nothing is given
  torch::Tensor known;  ///< bool [B, F], F groups of frames
};

/// Draws a sample from noise of the wanted shape. Nothing is kept for gradients, and the same
/// buffers serve all steps.
/// @param predicted what `denoise` gives
/// @param generator of the noise that ddim (eta > 0) and ddpm add; unused by the others
/// @throws ConfigError for an unknown method
torch::Tensor sample(const Denoiser& denoise, Quantity predicted, const Interpolant& path,
                     const torch::Tensor& noise, const SamplerOptions& options,
                     const GivenFrames& given, at::Generator generator);

/// The way back of a deterministic sampler: data to the noise it comes from, by the same steps
/// (Song et al. 2021, "DDIM", section 4.3).
torch::Tensor invert(const Denoiser& denoise, Quantity predicted, const Interpolant& path,
                     const torch::Tensor& data, const SamplerOptions& options);

}  // namespace jepa::eval::diffusion
