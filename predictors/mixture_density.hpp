// Mixture density: a recurrent model that gives distributions over the next latent and the chance
// that the episode ends (Ha and Schmidhuber 2018, arXiv 1803.10122, its M).
#pragma once

#include <jepa/nn/layers.hpp>
#include <jepa/options.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>

namespace jepa::predictors {

/// What the output layer says: one mixture of normals for each latent dimension.
struct Mixture {
  torch::Tensor done;         ///< logit of the end, [B, T]
  torch::Tensor log_weights;  ///< normalised, [B, T, Z, K]
  torch::Tensor means;        ///< [B, T, Z, K]
  torch::Tensor log_stds;     ///< [B, T, Z, K]
};

/// Output [B, T, 1 + Z * 3K] of the model, taken apart: done logit, then for each dimension K
/// logits, K means, K log deviations.
Mixture split_mixture(const torch::Tensor& output, int64_t latent, int64_t mixtures);

/// -log density of `target` [B, T, Z], constant included -> [B, T, Z].
torch::Tensor mixture_nll(const Mixture& mixture, const torch::Tensor& target);

/// Cross-entropy of the end, [B, T], `weight` times where it did end. @param done 0 or 1, [B, T]
torch::Tensor done_cross_entropy(const Mixture& mixture, const torch::Tensor& done, double weight);

/// A draw at `temperature` tau: mixture logits over tau, the normal's deviation times sqrt(tau).
struct MixtureSample {
  torch::Tensor latent;      ///< [B, T, Z]
  torch::Tensor component;   ///< int64 [B, T, Z], the first whose running sum reaches the uniform
  torch::Tensor done;        ///< bool [B, T]: logit > 0, whatever the temperature
  torch::Tensor done_logit;  ///< [B, T]
};
/// @param uniforms, normals [B, T, Z], the draws @param temperature > 0
MixtureSample sample_mixture(const Mixture& mixture, double temperature,
                             const torch::Tensor& uniforms, const torch::Tensor& normals);

/// Shape of the recurrent model. The defaults are Ha's for Doom, but for the width (512 there).
struct MixtureDensityOptions {
  int64_t latent = 64;
  int64_t action_width = 1;
  int64_t hidden = 256;
  int64_t mixtures = 5;

  void describe(OptionVisitor& visit);
};

/// An LSTM over (latent, action) whose output layer gives a Mixture for the next latent.
class MixtureDensityRnnImpl : public torch::nn::Module {
 public:
  /// Of the LSTM; both [B, hidden].
  struct State {
    torch::Tensor hidden, cell;
  };

  explicit MixtureDensityRnnImpl(MixtureDensityOptions options);

  /// Zeros.
  State start(int64_t batch) const;
  /// A whole sequence. @param latents [B, T, Z] @param actions [B, T, A]
  /// @returns output [B, T, 1 + Z * 3K], see split_mixture(); `state` moves on
  torch::Tensor forward(const torch::Tensor& latents, const torch::Tensor& actions, State& state);
  Mixture mixture(const torch::Tensor& output) const {
    return split_mixture(output, options_.latent, options_.mixtures);
  }
  /// One imagined step. @param latent [B, Z] @param action [B, A]
  /// @returns sample of one step, its tensors [B, 1, ...]
  MixtureSample imagine(const torch::Tensor& latent, const torch::Tensor& action,
                        double temperature, State& state, at::Generator& generator);

  void initialise(at::Generator generator);
  const MixtureDensityOptions& options() const { return options_; }

 private:
  MixtureDensityOptions options_;
  torch::Tensor weight_ih_, weight_hh_, bias_ih_, bias_hh_;
  nn::Linear output_{nullptr};
};
TORCH_MODULE(MixtureDensityRnn);

}  // namespace jepa::predictors
