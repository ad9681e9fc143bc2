// Worlds that end, as the dreaming agent plays them: many episodes side by side, from pixels.
#pragma once

#include <eval/worlds/world.hpp>
#include <jepa/options.hpp>

#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dreaming {

/// What kind of game it is.
struct GameInfo {
  std::string name = {};
  std::vector<int64_t> frame = {};  ///< {C, H, W}
  int64_t action_width = 1;    ///< numbers in an action
  /// Only whether an action is above 1/3, below -1/3 or between counts (Ha and Schmidhuber's rule
  /// for Take Cover): actions are then made -1, 0 and 1 before anything sees them.
  bool three_way = false;
  int64_t frame_limit = 0;     ///< frames an episode lasts at most
  int64_t repeat = 1;          ///< frames that each action is held
  int64_t limit() const { return (frame_limit + repeat - 1) / repeat; }  ///< in decisions
};

/// What a decision led to, one entry an episode; nothing of those that had ended.
struct Decision {
  torch::Tensor reward;  ///< float [B]
  torch::Tensor done;    ///< bool [B], it has ended, now or before
  torch::Tensor dead;    ///< bool [B], ended by the world and not by the limit
  int64_t frames = 0;    ///< frames that the game moved on, over all episodes
};

/// A batch of episodes of one game. What stands behind it may be a World or a real environment.
class Game {
 public:
  virtual ~Game() = default;
  virtual const GameInfo& info() const = 0;
  virtual int64_t batch() const = 0;
  /// Starts all anew: episodes `first` to `first + batch - 1` of `seed`.
  virtual void reset(uint64_t seed, int64_t first) = 0;
  /// @param actions float [B, action_width]; those of ended episodes are not read
  virtual Decision step(const torch::Tensor& actions) = 0;
  /// What is seen now of the episodes `rows`, int64 [R]: uint8 [R, C, H, W].
  virtual torch::Tensor pixels(const torch::Tensor& rows) const = 0;
};

/// Makes a game of so many episodes side by side.
using MakeGame = std::function<std::unique_ptr<Game>(int64_t batch)>;

/// Which world is played, and how.
struct GameOptions {
  std::string world = "dodge";
  int64_t repeat = 4;
  /// Factors of the world held at one value, as "speed=1.2,rate=0.03"; others keep their standard.
  std::string factors = {};

  void describe(OptionVisitor& visit);
};

/// Actions as a game takes them: -1, 0, 1 where it is three-way, else cut to [-1, 1].
torch::Tensor game_actions(const GameInfo& info, const torch::Tensor& actions);

/// A native world as a game. @throws ConfigError for a world that is unknown or never ends, or an
/// unknown factor
MakeGame native_game(const GameOptions& options);

}  // namespace jepa::eval::dreaming
