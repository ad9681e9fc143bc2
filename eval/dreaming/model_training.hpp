// M: trains the recurrent mixture-density model on latents, and asks how well it knows the end.
#pragma once

#include <eval/dreaming/vision.hpp>
#include <predictors/mixture_density.hpp>

namespace jepa::eval::dreaming {

/// Shape and training of M.
struct ModelOptions {
  int64_t hidden = 256;
  int64_t mixtures = 5;
  int64_t steps = 2000;
  int64_t batch = 64;
  int64_t sequence = 48;  ///< decisions a training window at most
  double lr = 1e-3;
  double done_weight = 10;    ///< of the cross-entropy where an episode did end
  double done_share = 1;      ///< weight of the termination loss beside the density
  double noise = 0.1;         ///< deviation of noise on latents in training
  int64_t imagined = 0;       ///< last decisions of a window in which M is fed its own draws
  bool mirror = false;        ///< train on mirrored episodes too: games without a left and right
  double held_out = 0.1;      ///< share of episodes that recall is measured on
  int64_t recall_window = 3;  ///< decisions up to an end within which it counts as foreseen

  void describe(OptionVisitor& visit);
};

/// Episodes as M sees them.
struct LatentEpisodes {
  torch::Tensor latents;         ///< float [N, Z], rows as in Episodes
  torch::Tensor actions;         ///< float [N, A]
  std::vector<int64_t> offsets;  ///< as in Episodes
  std::vector<char> dead;

  int64_t size() const { return static_cast<int64_t>(dead.size()); }
  LatentEpisodes select(const std::vector<int64_t>& chosen) const;
};
/// What V and M are trained on, and what they are not (is_held_out).
struct LatentSplit {
  LatentEpisodes training, held_out;
};
/// @throws DataError where there are fewer than two episodes
LatentSplit split_episodes(const LatentEpisodes& episodes, double held_out);
/// What each episode began with, [E, Z].
torch::Tensor first_latents(const LatentEpisodes& episodes);
/// @param mirrored left and right exchanged in frames and actions
/// @throws Stopped
LatentEpisodes encode_episodes(VisionImpl& vision, const Episodes& episodes, bool mirrored = false,
                               const StopRequest& stop = {});
/// The episodes of both, those of `first` first; sizes of latents and actions must agree.
LatentEpisodes join(const LatentEpisodes& first, const LatentEpisodes& second);

/// Windows side by side, padded at the end.
struct Windows {
  torch::Tensor latents;  ///< float [B, L + 1, Z]
  torch::Tensor actions;  ///< float [B, L, A]
  torch::Tensor done;     ///< float [B, L], 1 where that decision ended the episode
  torch::Tensor counted;  ///< float [B, L], 0 in the padding
};
/// @param starts (episode, first decision) of each window
Windows cut_windows(const LatentEpisodes& episodes,
                    const std::vector<std::pair<int64_t, int64_t>>& starts, int64_t length);

/// @throws ConfigError where a window has not more decisions than `options.imagined`
predictors::MixtureDensityRnn make_model(const ModelOptions& options, int64_t latent,
                                         int64_t action_width);

/// What training came to, means over its last tenth.
struct ModelLoss {
  double density = 0;      ///< nats a latent dimension
  double termination = 0;  ///< weighted cross-entropy
};
/// Trains on random windows, the state zero at their start: fed true latents, in the last
/// `options.imagined` decisions what M drew itself (scheduled sampling, Bengio et al. 2015).
ModelLoss train_model(predictors::MixtureDensityRnn& model, const ModelOptions& options,
                      const LatentEpisodes& episodes, uint64_t seed,
                      const TrainingProgress& progress = {});

/// How well a termination head knows true deaths.
struct Recall {
  double recall = 0;        ///< share of true deaths with a predicted end in the window up to them
  double false_alarms = 0;  ///< predicted ends among 1000 decisions outside these windows
  int64_t deaths = 0;
};
/// From predicted ends of whole episodes. @param predicted bool, one tensor [n] an episode
Recall recall_of(const std::vector<torch::Tensor>& predicted, const std::vector<char>& dead,
                 int64_t window);
/// Teacher-forced over whole episodes, by the rule that dreams end by.
/// @param death_weight see chance_of_end()
Recall termination_recall(predictors::MixtureDensityRnn& model, const LatentEpisodes& episodes,
                          int64_t window, double death_weight);

/// The same where M imagines the window by itself, from true latents before and with the true
/// actions: share of windows in which the dream ends.
struct DreamedRecall {
  double recall = 0;       ///< of windows that end in a true death
  double false_share = 0;  ///< of windows just before, in which nobody died
  int64_t deaths = 0;
};
/// Asked of episodes that end in a death and hold two windows and the context before them.
/// @param window decisions @param death_weight see chance_of_end()
DreamedRecall dreamed_recall(predictors::MixtureDensityRnn& model, const LatentEpisodes& episodes,
                             int64_t window, double temperature, double death_weight,
                             uint64_t seed);

}  // namespace jepa::eval::dreaming
