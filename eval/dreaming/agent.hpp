// The agent, V, M and C together: playing the real game, and training C in the dream or in it.
#pragma once

#include <eval/dreaming/actor_critic.hpp>
#include <eval/dreaming/dream.hpp>
#include <eval/dreaming/model_training.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace jepa::eval::dreaming {

/// A controller that sees through V and remembers through M, all episodes in one batch.
class Agent : public Policy {
 public:
  /// All three outlive the agent.
  Agent(VisionImpl& vision, predictors::MixtureDensityRnn& model, Controller& controller,
        GameInfo info)
      : vision_(vision), model_(model), controller_(controller), info_(std::move(info)) {}

  void start(int64_t episodes, uint64_t seed) override;
  bool sees() const override { return true; }
  torch::Tensor act(const torch::Tensor& pixels, const torch::Tensor& rows,
                    int64_t decision) override;

 private:
  VisionImpl& vision_;
  predictors::MixtureDensityRnn& model_;
  Controller& controller_;
  GameInfo info_;
  predictors::MixtureDensityRnnImpl::State state_;
};

/// How C is searched or trained; the same numbers in the dream and in the real game.
struct SearchOptions {
  std::string kind = "cma_es";
  int64_t population = 16;
  int64_t episodes = 8;       ///< of each candidate in each generation
  int64_t real_episodes = 0;  ///< the same in the real game, whole ones; 0: `episodes`
  int64_t generations = 60;
  double step = 0.1;     ///< first standard deviation
  bool diagonal = true;  ///< of the covariance
  int64_t limit = 0;     ///< decisions an episode at most in training; 0: the game's own
  std::string ending = "threshold";  ///< of a dream: M's logit, or by chance
  std::string start = "episode";     ///< of a dream that cma_es scores by
  double temperature = 1.15;         ///< of the dream
  int64_t updates = 2000;            ///< actor_critic
  int64_t batch = 128;               ///< actor_critic: imagined rollouts an update

  void describe(OptionVisitor& visit);
};

/// What a search found and what it took.
struct Searched {
  torch::Tensor weights;      ///< float [n], the last mean of the search
  std::vector<double> curve;  ///< mean score of the candidates, each generation, in decisions
  int64_t decisions = 0;      ///< imagined or real
  int64_t frames = 0;         ///< real ones
};

/// The scores of candidates [P, n] in one generation; counts what it took in `cost`.
using ScoreCandidates = std::function<torch::Tensor(const torch::Tensor& candidates,
                                                    int64_t generation, Searched& cost)>;

/// CMA-ES from zero weights.
Searched search_controller(int64_t parameters, const SearchOptions& options, uint64_t seed,
                           const ScoreCandidates& score, const TrainingProgress& progress = {});

/// What an agent knows at every decision of real episodes, rows of `join_memory`.
/// @throws Stopped
torch::Tensor remembered(predictors::MixtureDensityRnn& model, const LatentEpisodes& episodes,
                         const StopRequest& stop = {});

/// Candidates scored by their imagined lives, all of a generation from the same starts; each
/// generation dreams anew.
/// @param starts, death_weight as `dream_lives` takes them
/// @param stop ends it with Stopped
ScoreCandidates score_in_dream(predictors::MixtureDensityRnn& model, const LinearController& shape,
                               const torch::Tensor& starts, const SearchOptions& options,
                               double death_weight, const GameInfo& info, uint64_t seed,
                               const StopRequest& stop = {});
/// Candidates scored in the real game by their rewards over `info.repeat`, all of a generation in
/// the same episodes; each generation plays others. V and M are batched over all of them.
ScoreCandidates score_in_game(const MakeGame& make, VisionImpl& vision,
                              predictors::MixtureDensityRnn& model, const LinearController& shape,
                              const SearchOptions& options, uint64_t seed);

/// The likeliest action of an actor, over latents and both vectors of M's state.
class ActorController : public Controller {
 public:
  explicit ActorController(ActorCritic& agent) : agent_(agent) {}
  torch::Tensor act(const torch::Tensor& rows, const torch::Tensor& latents,
                    const predictors::MixtureDensityRnnImpl::State& state) override;

 private:
  ActorCritic& agent_;
};

/// An untrained actor-critic for a three-way game. @throws ConfigError for another game
ActorCritic make_actor_critic(ActorCriticOptions options, const GameInfo& info,
                              const predictors::MixtureDensityRnn& model, uint64_t seed);
/// Trains it on dreams that begin at random decisions of `episodes`, where M has seen all before.
/// Reward: the frames that a decision lasts, over `info.repeat`. @returns imagined decisions
int64_t train_actor_critic(ActorCritic& agent, predictors::MixtureDensityRnn& model,
                           const LatentEpisodes& episodes, const ActorCriticOptions& options,
                           const SearchOptions& search, double death_weight, uint64_t seed,
                           const TrainingProgress& progress = {});

}  // namespace jepa::eval::dreaming
