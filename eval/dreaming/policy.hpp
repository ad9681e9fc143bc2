// Who plays: scripted policies, and the loop that lets any policy play a game.
#pragma once

#include <eval/dreaming/game.hpp>

#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dreaming {

/// Chooses the actions of many episodes at once.
class Policy {
 public:
  virtual ~Policy() = default;
  /// Before the first decision of `episodes` episodes.
  virtual void start(int64_t episodes, uint64_t seed) = 0;
  /// Whether `act` reads pixels: where not, none are drawn.
  virtual bool sees() const { return false; }
  /// @param rows int64 [R], which episodes still run @param pixels uint8 [R, C, H, W] of these, or
  ///   undefined @returns float [R, A], as `game_actions` gives them
  virtual torch::Tensor act(const torch::Tensor& pixels, const torch::Tensor& rows,
                            int64_t decision) = 0;
};

/// Random actions, each held for 1 to `hold` decisions (Ha and Schmidhuber's collection policy).
std::unique_ptr<Policy> held_random(const GameInfo& info, int64_t hold);
/// Always `action`.
std::unique_ptr<Policy> constant_action(const GameInfo& info, double action);
/// From one side to the other: 1 for `period` decisions, then -1, and so on.
std::unique_ptr<Policy> side_swapping(const GameInfo& info, int64_t period);

/// One decision of the episodes that still ran before it.
struct Played {
  torch::Tensor rows;     ///< int64 [R]
  torch::Tensor pixels;   ///< uint8 [R, C, H, W], what was seen before it; or undefined
  torch::Tensor actions;  ///< float [R, A]
  const Decision& decision;
};

/// What episodes were worth.
struct Scores {
  torch::Tensor scores = {};  ///< double [E], sum of rewards
  torch::Tensor lived = {};   ///< double [E], frames
  int64_t decisions = 0;      ///< over all episodes
  int64_t frames = 0;         ///< of the game, over all episodes

  /// Further episodes behind these.
  void add(const Scores& more);
};

/// Plays one episode in each slot of `game`, until the last ends.
/// @param seen called after every decision; with it, pixels are drawn also for a blind policy
/// @param limit decisions an episode at most; 0: the game's own
/// @param different as Game::reset() takes it
Scores play(Game& game, Policy& policy, uint64_t seed, int64_t first = 0,
            const std::function<void(const Played&)>& seen = {}, int64_t limit = 0,
            int64_t different = 0);

/// `count` episodes of `seed` in batches of at most `batch`; 0: the game's `side_by_side`.
Scores play_episodes(const MakeGame& make, Policy& policy, uint64_t seed, int64_t count,
                     int64_t batch = 0);

/// The mean of some scores with its 95 % interval (Student's t).
struct ScoreInterval {
  double mean = 0, low = 0, high = 0;
  double deviation = 0;  ///< of single episodes
  int64_t episodes = 0;
};
/// @param scores [E], one an episode; of a single one the interval is the score itself
ScoreInterval score_interval(const torch::Tensor& scores);

}  // namespace jepa::eval::dreaming
