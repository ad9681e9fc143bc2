// Films of episodes: what happened beside what the controller imagined; rollouts over true frames.
#pragma once

#include <eval/dynamics/diagnostics.hpp>
#include <eval/dynamics/episodes.hpp>

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace jepa::eval::dynamics {

/// Collects the frames of a batch of episodes; give `watch` to run_episodes. Left: the world, dot
/// blue, goal green. Right: where the controller's plan leads, as the probe reads the imagined
/// latents, one orange dot a block. Other worlds: left the frame, right the goal's.
class EpisodeFilm {
 public:
  /// @param probe of the controller's latents; without `read` nothing imagined is drawn
  explicit EpisodeFilm(StateProbe probe) : probe_(std::move(probe)) {}

  void watch(const worlds::World& world, int64_t step, Controller& controller);
  /// Frames uint8 [T, H, W, 3] of episode `i`.
  torch::Tensor frames(int64_t i) const;
  /// Whether episode `i` succeeded at the last step seen.
  bool succeeded(int64_t i) const { return succeeded_[static_cast<size_t>(i)]; }

 private:
  StateProbe probe_;
  std::vector<std::vector<torch::Tensor>> frames_;  // of each episode
  std::vector<bool> succeeded_;
};

/// Where a model that is shown the first frame of clips and their actions thinks that the dot is.
struct Rollouts {
  torch::Tensor places;       ///< float [B, T, 2], as the probe reads the predicted latents [px]
  std::vector<double> error;  ///< of each frame, mean distance from where the dot was [px]
};
/// @param clips with states, as `probe` reads them; the first place is read from the true latent
Rollouts roll_out(DynamicsModel& model, const HeldOutClips& clips, const StateProbe& probe);

/// A rollout over the true frames of clip `index` of two rooms, uint8 [T, H, W, 3]: the dot where
/// it was (blue), where the model thinks that it is (orange), and the path that it thinks led
/// there.
torch::Tensor draw_rollout(const HeldOutClips& clips, const Rollouts& rollouts, int64_t index);

}  // namespace jepa::eval::dynamics
