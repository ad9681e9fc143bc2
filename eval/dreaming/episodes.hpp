// Episodes of a game, in memory and as a clip store.
#pragma once

#include <eval/dreaming/policy.hpp>

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace jepa::eval::dreaming {

/// Episodes one after another. Row t of an episode holds what was seen, the action that was taken
/// from there and the reward that it brought; the last row is what was seen at the end, without an
/// action. So an episode of n decisions has n + 1 rows, the first being what `reset` showed.
struct Episodes {
  torch::Tensor frames;          ///< uint8 [N, C, H, W]
  torch::Tensor actions;         ///< float [N, A], 0 in last rows
  torch::Tensor rewards;         ///< float [N], 0 in last rows
  std::vector<int64_t> offsets;  ///< first row of each episode, and N
  std::vector<char> dead;        ///< whether it ended by the world and not by a limit

  int64_t size() const { return static_cast<int64_t>(dead.size()); }
  int64_t decisions(int64_t episode) const { return offsets[episode + 1] - offsets[episode] - 1; }
  int64_t decisions() const;
  /// Sum of rewards of each episode, double [E].
  torch::Tensor scores() const;
};

/// Whether an episode is kept out of V's and M's training: every n-th, n being 1 / `held_out`.
bool is_held_out(int64_t episode, double held_out);

/// All of `parts`, in order. @throws DataError where frames or actions are of different sizes
Episodes join(const std::vector<Episodes>& parts);

/// Plays `count` episodes and keeps them. @param batch 0: `side_by_side` @param scores what they
/// were worth and cost
Episodes collect_episodes(const MakeGame& make, Policy& policy, uint64_t seed, int64_t count,
                          Scores& scores, int64_t batch = 0);

/// Writes a clip store with the columns `action` (as the world was sent it), `reward` (with the
/// frame that it came with) and `terminated`, as `collect` does.
void write_episodes(const std::string& path, const Episodes& episodes, const GameInfo& info,
                    const std::map<std::string, std::string>& attributes);

/// Reads a clip store of whole episodes with an `action` a frame. Where it has no `terminated`, an
/// episode shorter than the game's limit is one that the world ended; where it has no `reward`,
/// each decision brings `info.repeat`.
/// @param most episodes at most; 0: all
/// @throws DataError naming the file: frames or actions of another size than the game's, no actions
Episodes read_episodes(const std::string& path, const GameInfo& info, int64_t most = 0);

}  // namespace jepa::eval::dreaming
