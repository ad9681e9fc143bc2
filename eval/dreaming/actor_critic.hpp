// Actor and critic that learn from imagined steps alone (DreamerV3's choices, arXiv 2301.04104).
#pragma once

#include <jepa/nn/layers.hpp>
#include <jepa/options.hpp>

#include <ATen/core/Generator.h>
#include <torch/optim/adam.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace jepa::eval::dreaming {

/// What one imagined step of many agents gives.
struct Imagined {
  torch::Tensor latent;     ///< [B, D]
  torch::Tensor reward;     ///< [B]
  torch::Tensor continues;  ///< [B], 0 where the episode ended, or the chance that it did not
};
/// The world model: latents [B, D] and actions int64 [B] to what follows.
using ImaginedStep =
    std::function<Imagined(const torch::Tensor& latent, const torch::Tensor& actions)>;

/// Sizes and rates.
struct ActorCriticOptions {
  int64_t latent = 64;
  int64_t actions = 3;  ///< discrete ones
  int64_t hidden = 64;
  int64_t horizon = 15;  ///< imagined steps
  double gamma = 1.0 - 1.0 / 333;
  double lambda = 0.95;
  double entropy = 3e-4;  ///< weight of the actor's entropy
  double lr = 3e-4;
  double slow_rate = 0.02;   ///< of the slow critic, which the critic is also held to
  double range_rate = 0.01;  ///< of the running 5 to 95 % range of returns that scales advantages

  /// All but `latent` and `actions`, which the game and its model say.
  void describe(OptionVisitor& visit);
};

/// What an improvement saw.
struct Improvement {
  double actor_loss = 0, critic_loss = 0;
  double mean_return = 0;
  double entropy = 0;
};

/// Categorical actor and a critic over 255 bins spaced by symexp. Returns are lambda-returns of the
/// critic; the actor learns by REINFORCE with advantages over max(1, range of returns).
class ActorCritic {
 public:
  /// @throws ConfigError for sizes below 1
  ActorCritic(ActorCriticOptions options, at::Generator generator);

  /// Actions int64 [B] of latents [B, D]: drawn, or the likeliest where there is no generator.
  torch::Tensor act(const torch::Tensor& latents, std::optional<at::Generator> generator = {});
  torch::Tensor value(const torch::Tensor& latents);  ///< [B]
  std::shared_ptr<torch::nn::Module> actor() const;   ///< its weights, to be kept
  /// One update of both from rollouts that begin at `starts` [B, D].
  Improvement improve(const ImaginedStep& model, const torch::Tensor& starts,
                      at::Generator& generator);

 private:
  struct Net;
  torch::Tensor sample(const torch::Tensor& logits, at::Generator& generator) const;
  torch::Tensor mean_of(const torch::Tensor& logits) const;  // [..., bins] -> [...]
  torch::Tensor two_hot(const torch::Tensor& values) const;  // [...] -> [..., bins]

  ActorCriticOptions options_;
  std::shared_ptr<Net> actor_, critic_, slow_;
  std::unique_ptr<torch::optim::Adam> actor_optimiser_, critic_optimiser_;
  torch::Tensor bins_;
  double range_ = 0;
};

}  // namespace jepa::eval::dreaming
