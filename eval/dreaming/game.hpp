// Worlds that end, as the dreaming agent plays them: many episodes side by side, from pixels.
#pragma once

#include <eval/worlds/gymnasium.hpp>
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
  int64_t action_width = 1;         ///< numbers in an action
  /// Only whether an action is above 1/3, below -1/3 or between counts (Ha and Schmidhuber's rule
  /// for Take Cover): actions are then made -1, 0 and 1 before anything sees them.
  bool three_way = false;
  /// Of a three-way game with discrete actions: the choices that -1, 0 and 1 stand for; else empty.
  std::vector<int64_t> choices = {};
  int64_t side_by_side = 256;  ///< episodes that one batch should have at most
  int64_t frame_limit = 0;     ///< frames an episode lasts at most
  int64_t repeat = 1;          ///< frames that each action is held
  int64_t limit() const { return (frame_limit + repeat - 1) / repeat; }  ///< in decisions
};

/// What a decision led to, one entry an episode; nothing of those that had ended.
struct Decision {
  torch::Tensor reward;  ///< float [B]
  torch::Tensor done;    ///< bool [B], it has ended, now or before
  torch::Tensor dead;    ///< bool [B], ended by the world and not by the limit
  torch::Tensor lived;   ///< float [B], frames that it lasted; a world that skips: whole decisions
  int64_t frames = 0;    ///< frames that the game moved on, over all episodes
};

/// A batch of episodes of one game. What stands behind it may be a World or a real environment.
class Game {
 public:
  virtual ~Game() = default;
  virtual const GameInfo& info() const = 0;
  virtual int64_t batch() const = 0;
  /// Starts all anew: episodes `first` to `first + batch - 1` of `seed`.
  /// @param different so many begin, and the next slots begin as they do; 0: all
  virtual void reset(uint64_t seed, int64_t first, int64_t different) = 0;
  void reset(uint64_t seed, int64_t first) { reset(seed, first, 0); }
  /// @param actions float [B, action_width]; those of ended episodes are not read
  virtual Decision step(const torch::Tensor& actions) = 0;
  /// What is seen now of the episodes `rows`, int64 [R]: uint8 [R, C, H, W].
  virtual torch::Tensor pixels(const torch::Tensor& rows) const = 0;
};

/// Makes a game of so many episodes side by side.
using MakeGame = std::function<std::unique_ptr<Game>(int64_t batch)>;

/// Gymnasium's options with frames of 64 x 64 and Take Cover's cap of 2,100 steps.
worlds::GymnasiumOptions small_frames();

/// Which world is played, and how.
struct GameOptions {
  std::string world = "dodge";
  int64_t repeat = 4;
  /// Factors of the world held at one value, as "speed=1.2,rate=0.03"; others keep their standard.
  std::string factors = {};
  std::vector<int64_t> choices = {};  ///< as in GameInfo
  int64_t side_by_side = 0;           ///< likewise; 0: 256, of Gymnasium's 16
  /// Of Gymnasium's, whose frame skip is `repeat`.
  worlds::GymnasiumOptions gym = small_frames();

  std::vector<OptionSection> sections();
};

/// Actions as a game takes them: -1, 0, 1 where it is three-way, else cut to [-1, 1].
torch::Tensor game_actions(const GameInfo& info, const torch::Tensor& actions);

/// Actions as the world is sent them, and back.
torch::Tensor sent_actions(const GameInfo& info, const torch::Tensor& actions);
/// @throws DataError for a choice that the game does not have, naming `path`
torch::Tensor received_actions(const GameInfo& info, const torch::Tensor& sent,
                               const std::string& path);

/// A world as a game: native, or Gymnasium's (`gym:ID`), whose processes are kept from one game to
/// the next of as many episodes (so only one of them is played at a time).
/// @throws ConfigError for a world that is unknown or has no end to stay clear of, an unknown
/// factor, or choices that do not fit
MakeGame make_game(const GameOptions& options);

/// The same games, which look before every decision whether they are to stop.
/// @throws Stopped when they are reset or stepped
MakeGame stoppable(MakeGame make, StopRequest stop);

}  // namespace jepa::eval::dreaming
