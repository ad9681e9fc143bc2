// Episodes of a world as data: what was seen, done and given, row by row.
#pragma once

#include <eval/worlds/policies.hpp>
#include <eval/worlds/world.hpp>
#include <jepa/data/clip_source.hpp>

#include <functional>
#include <vector>

namespace jepa::eval::worlds {

/// How much is collected, and how it is cut.
struct CollectionOptions {
  int64_t episodes = 0;   ///< 0: as `frames` says
  int64_t frames = 0;     ///< whole episodes until there are so many
  int64_t max_steps = 0;  ///< of the world in an episode; 0: the world's own limit
  int64_t block = 1;      ///< steps of the world from one frame to the next
  uint64_t seed = 0;
  FactorRanges ranges = {};
};

/// One episode. Row t of `clip` is what is seen (t = 0: after the reset), the action sent after it
/// (`action`, [T, block * A]; NaN in the last row and where a block was cut short), the reward that
/// came with it since the row before (`reward`, 0 in row 0), whether it is the world's end
/// (`terminated`) or a limit's (`truncated`), and the exact state (`state`, none where the world
/// has none).
struct CollectedEpisode {
  int64_t number = 0;
  RawClip clip;
  torch::Tensor state;    ///< float64 [T, S], unrounded
  torch::Tensor actions;  ///< float64 [T, block * A]
  int64_t steps = 0;      ///< of the world
  double total = 0;       ///< of the rewards
  bool success = false;   ///< by the world's rule, at its end
  bool ever = false;      ///< at any frame
  std::vector<double> factors = {};
};

/// Runs episodes 0, 1, ... of `options.seed` in batches of the world's size and hands them to
/// `take` in order, until there are enough, or `stop` says so (between steps), or the world is
/// Stopped: what runs is cut and handed over. Where the world fails in the middle, what was
/// seen until then is handed over, cut (`truncated`), before its error goes on.
/// @param stop may be empty
/// @throws ConfigError; DataError as the world does
void collect_episodes(World& world, Policy& policy, const CollectionOptions& options,
                      const std::function<void(CollectedEpisode&)>& take,
                      const std::function<bool()>& stop = {});

}  // namespace jepa::eval::worlds
