// Predictors of one latent a frame: GRU (eb_jepa), residual MLP, and the inverse: which action.
#pragma once

#include <jepa/nn/layers.hpp>
#include <jepa/options.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>

#include <vector>

namespace jepa::predictors {

/// From one latent and an action to the next latent.
class LatentDynamicsImpl : public torch::nn::Module {
 public:
  /// @param state [B, D] @param action [B, A] @returns the latent one step later, [B, D]
  virtual torch::Tensor forward(const torch::Tensor& state, const torch::Tensor& action) = 0;
  virtual void initialise(at::Generator generator) = 0;

  /// Predictions fed back in. @param state [B, D] @param actions [B, T, A]
  /// @returns the T latents after `state`, [B, T, D]
  torch::Tensor rollout(const torch::Tensor& state, const torch::Tensor& actions);
};
TORCH_MODULE(LatentDynamics);

/// Shape of a GRU predictor. The defaults are eb_jepa's.
struct GruPredictorOptions {
  int64_t dim = 512;  ///< width of a latent, which is the hidden state
  int64_t action_width = 2;

  void describe(OptionVisitor& visit);
};

/// One GRU layer: hidden state = latent, input = the action as it is, then a layer norm. In eb_jepa
/// that norm **is** the encoder's (one parameter, two names in the state dict): give it here.
/// Parameter names are the published ones (`rnn.weight_ih_l0`, ..., `final_ln`).
class GruPredictorImpl : public LatentDynamicsImpl {
 public:
  /// @param norm shared with the encoder; null: an own one
  /// @throws ConfigError where a width is missing
  explicit GruPredictorImpl(GruPredictorOptions options, nn::LayerNorm norm = nullptr);

  torch::Tensor forward(const torch::Tensor& state, const torch::Tensor& action) override;
  void initialise(at::Generator generator) override;
  const GruPredictorOptions& options() const { return options_; }

 private:
  GruPredictorOptions options_;
  torch::Tensor weight_ih_, weight_hh_, bias_ih_, bias_hh_;
  nn::LayerNorm final_ln_{nullptr};
};
TORCH_MODULE(GruPredictor);

/// Shape of a residual MLP predictor.
struct ResidualMlpOptions {
  int64_t dim = 128;
  int64_t action_width = 10;  ///< all numbers of a block of actions
  int64_t hidden = 1024;
  int64_t layers = 2;  ///< hidden layers

  void describe(OptionVisitor& visit);
};

/// next = LayerNorm(state + f([state, action])), f an MLP with SiLU; it begins as the identity.
class ResidualMlpImpl : public LatentDynamicsImpl {
 public:
  explicit ResidualMlpImpl(ResidualMlpOptions options);

  torch::Tensor forward(const torch::Tensor& state, const torch::Tensor& action) override;
  void initialise(at::Generator generator) override;
  const ResidualMlpOptions& options() const { return options_; }

 private:
  ResidualMlpOptions options_;
  std::vector<nn::Linear> layers_;
  nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(ResidualMlp);

/// Shape of an inverse-dynamics network. The defaults are eb_jepa's.
struct InverseDynamicsOptions {
  int64_t dim = 512;
  int64_t action_width = 2;
  int64_t hidden = 256;

  void describe(OptionVisitor& visit);
};

/// Which action led from one latent to the next: an MLP on both. Names as published (`model.0`).
class InverseDynamicsImpl : public torch::nn::Module {
 public:
  explicit InverseDynamicsImpl(InverseDynamicsOptions options);
  /// @param before, after [..., D] @returns [..., A]
  torch::Tensor forward(const torch::Tensor& before, const torch::Tensor& after);
  void initialise(at::Generator generator);
  const InverseDynamicsOptions& options() const { return options_; }

 private:
  InverseDynamicsOptions options_;
  std::vector<nn::Linear> layers_;
};
TORCH_MODULE(InverseDynamics);

}  // namespace jepa::predictors
