// Films of episodes: what happened beside what the controller imagined.
#pragma once

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

}  // namespace jepa::eval::dynamics
