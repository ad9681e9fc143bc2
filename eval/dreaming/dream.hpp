// A recurrent mixture-density model as the world itself: an agent lives in what it imagines.
#pragma once

#include <predictors/mixture_density.hpp>

#include <ATen/core/Generator.h>
#include <torch/types.h>

namespace jepa::eval::dreaming {

/// What a linear controller is: tanh of (W [latent, hidden, cell] + b), Ha and Schmidhuber's C.
struct LinearController {
  int64_t latent = 64;
  int64_t hidden = 256;   ///< of the recurrent model; both its vectors are seen
  int64_t outputs = 1;

  int64_t inputs() const { return latent + 2 * hidden; }
  int64_t parameters() const { return outputs * (inputs() + 1); }
  /// One action of each of P controllers. @param weights float [P, parameters()]
  /// @param latents [P, E, latent] @param state rows P * E @returns [P, E, outputs] in (-1, 1)
  torch::Tensor act(const torch::Tensor& weights, const torch::Tensor& latents,
                    const predictors::MixtureDensityRnnImpl::State& state) const;
};

/// How long an agent lives in a dream: steps until the model's end, at most `limit`.
struct DreamOptions {
  int64_t episodes = 16;     ///< of each controller, each from a row of `starts`
  int64_t limit = 1000;      ///< steps
  double temperature = 1.15;
  uint64_t seed = 1;
};

/// Mean imagined life [P] of P controllers, all their episodes in one batch that runs until the
/// last of them ends.
/// @param weights [P, controller.parameters()] @param starts first latents [N, Z], rows taken in
///   turn
torch::Tensor dream_scores(predictors::MixtureDensityRnn& model, const LinearController& controller,
                           const torch::Tensor& weights, const torch::Tensor& starts,
                           const DreamOptions& options);

}  // namespace jepa::eval::dreaming
