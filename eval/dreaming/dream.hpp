// A recurrent mixture-density model as the world itself: an agent lives in what it imagines.
#pragma once

#include <jepa/stopped.hpp>
#include <predictors/mixture_density.hpp>

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <functional>

namespace jepa::eval::dreaming {

/// What an agent knows at a decision: what V sees, and both vectors of M's state.
struct Memory {
  torch::Tensor latents;  ///< [N, Z]
  predictors::MixtureDensityRnnImpl::State state;
};
/// The three side by side, [N, Z + 2 hidden].
torch::Tensor join_memory(const torch::Tensor& latents,
                          const predictors::MixtureDensityRnnImpl::State& state);
/// And apart again, as views of `rows`.
Memory split_memory(const torch::Tensor& rows, const predictors::MixtureDensityRnn& model);

/// Chooses actions from what V sees and what M remembers. Row r of what `act` is given belongs to
/// episode `rows[r]` of a batch.
class Controller {
 public:
  virtual ~Controller() = default;
  /// @param rows int64 [R] @param latents [R, Z] @param state rows R @returns [R, A], not yet as
  ///   the game takes them
  virtual torch::Tensor act(const torch::Tensor& rows, const torch::Tensor& latents,
                            const predictors::MixtureDensityRnnImpl::State& state) = 0;
};

/// What a linear controller is: tanh of (W [latent, hidden, cell] + b), Ha and Schmidhuber's C.
struct LinearController {
  int64_t latent = 64;
  int64_t hidden = 256;  ///< of the recurrent model; both its vectors are seen
  int64_t outputs = 1;

  int64_t inputs() const { return latent + 2 * hidden; }
  int64_t parameters() const { return outputs * (inputs() + 1); }
  /// One action of each row. @param weights float [R, parameters()] @param latents [R, latent]
  /// @param state rows R @returns [R, outputs] in (-1, 1)
  torch::Tensor act(const torch::Tensor& weights, const torch::Tensor& latents,
                    const predictors::MixtureDensityRnnImpl::State& state) const;
};

/// P linear controllers, the first for episodes 0 to E - 1, the second for the next E, and so on.
class LinearControllers : public Controller {
 public:
  /// @param weights [P, shape.parameters()]
  LinearControllers(LinearController shape, const torch::Tensor& weights, int64_t episodes)
      : shape_(shape), weights_(weights.to(torch::kFloat32)), episodes_(episodes) {}
  torch::Tensor act(const torch::Tensor& rows, const torch::Tensor& latents,
                    const predictors::MixtureDensityRnnImpl::State& state) override;

 private:
  LinearController shape_;
  torch::Tensor weights_;
  int64_t episodes_;
};

/// Chance that an imagined step ended the episode, [B, T]. @param death_weight what deaths weighed
/// in M's training, by which its odds are too high; 0: no chance, 1 where M's logit is above 0
torch::Tensor chance_of_end(const predictors::MixtureSample& step, double death_weight);

/// How long an agent lives in a dream: steps until the model's end, at most `limit`.
struct DreamOptions {
  int64_t episodes = 16;  ///< of each controller, each from a row of `starts`
  int64_t limit = 1000;   ///< steps
  double temperature = 1.15;
  uint64_t seed = 1;
  double death_weight = 0;  ///< above 0 lives are expected lengths, see `chance_of_end`
  bool three_way = false;   ///< actions become -1, 0, 1 at thresholds of 1/3 before M sees them
  StopRequest stop = {};    ///< asked before every step
};

/// What was dreamed.
struct DreamLives {
  torch::Tensor lives = {};  ///< float [N], steps, or their expectation
  int64_t steps = 0;         ///< imagined, over all episodes
};

/// `count` episodes in one batch that runs until the last of them ends; what has ended is left out
/// of it as it goes.
/// @param starts first latents [N, Z], with nothing remembered, or rows of `join_memory`;
///   rows taken in turn, `options.episodes` before they repeat
/// @param seen called with (rows still alive, their latents) before every step
/// @throws ConfigError for sizes that do not fit, Stopped
DreamLives dream_lives(
    predictors::MixtureDensityRnn& model, Controller& controller, int64_t count,
    const torch::Tensor& starts, const DreamOptions& options,
    const std::function<void(const torch::Tensor& rows, const torch::Tensor& latents)>& seen = {});

/// Mean imagined life [P] of P linear controllers.
/// @param weights [P, controller.parameters()]
torch::Tensor dream_scores(predictors::MixtureDensityRnn& model, const LinearController& controller,
                           const torch::Tensor& weights, const torch::Tensor& starts,
                           const DreamOptions& options);

}  // namespace jepa::eval::dreaming
