// Worlds that an agent acts in: seeded, drawn in software, stepped many at a time.
#pragma once

#include <jepa/random.hpp>

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace jepa::eval::worlds {

/// Values a factor of variation is drawn from: uniform in [low, high] less the open gap
/// (gap_low, gap_high); of whole factors the gap's ends are left out too.
struct FactorRange {
  double low = 0;
  double high = 0;
  double gap_low = 0;
  double gap_high = 0;  ///< no gap unless gap_high > gap_low, or equal and not zero

  bool has_gap() const { return gap_high > gap_low || (gap_high == gap_low && gap_high != 0); }
};

/// What varies between episodes of a world.
struct Factor {
  std::string name;
  std::string unit = {};
  double standard = 0;        ///< value where nothing is asked for and `varies` is false
  FactorRange training = {};  ///< values to train on
  FactorRange unseen = {};    ///< values kept out of training
  bool whole = false;         ///< whole numbers only
  bool varies = false;        ///< drawn from the span of `training`, gap included, unless asked
};

/// Factor name -> values; factors not named keep their standard, or vary as the world says.
using FactorRanges = std::map<std::string, FactorRange>;

/// What a step gave, one entry an episode.
struct Transition {
  torch::Tensor reward;          ///< float [B]
  torch::Tensor done;            ///< bool [B]; it ended, now or before
  torch::Tensor truncated = {};  ///< bool [B]; what ended it was a limit of steps alone
};

/// What kind of world it is; nothing here changes between episodes.
struct WorldInfo {
  std::string name;
  std::vector<int64_t> frame;           ///< {C, H, W}
  int64_t action_width = 0;             ///< numbers in an action; discrete worlds: 1
  int64_t action_choices = 0;           ///< discrete actions 0 .. choices - 1; 0: continuous
  std::vector<std::string> state = {};  ///< names of the exact state's numbers
  std::vector<Factor> factors = {};
  int64_t step_limit = 0;  ///< steps an episode lasts in the world's own rule
  bool has_goal = false;
  std::string success_rule = {};        ///< in words
  std::vector<double> action_low = {};  ///< bounds of continuous actions; empty: none are stated
  std::vector<double> action_high = {};
};

/// `batch` episodes of one world, side by side. Episode i after `reset(seed)` is a function of
/// (seed, i) and its actions alone, so a batch gives what its episodes give one by one.
///
/// The batched functions check their input and walk over the episodes; a world implements the
/// protected functions for one episode.
class World {
 public:
  World(WorldInfo info, int64_t batch);
  virtual ~World() = default;

  const WorldInfo& info() const { return info_; }
  int64_t batch() const { return batch_; }

  /// Starts all episodes anew; number `first` + i of `seed` runs in slot i.
  /// @param different so many begin, and the next slots begin as they do; 0: all
  /// @throws ConfigError for an unknown factor or an empty range
  void reset(uint64_t seed, const FactorRanges& ranges = {}, int64_t first = 0,
             int64_t different = 0);
  /// One step of every episode. @param actions [B, action_width], any type
  /// @throws DataError for another shape, a value that is not finite, a choice out of range
  Transition step(const torch::Tensor& actions);

  torch::Tensor pixels() const;             ///< uint8 [B, C, H, W], what is seen now
  torch::Tensor state() const;              ///< float64 [B, S], exact
  torch::Tensor goal_pixels() const;        ///< uint8 [B, C, H, W]; worlds with a goal
  torch::Tensor goal_state() const;         ///< float64 [B, S]; worlds with a goal
  torch::Tensor success() const;            ///< bool [B], by the world's rule, now
  torch::Tensor distance() const;           ///< float64 [B], to the goal in the rule's unit
  torch::Tensor factor_values() const;      ///< float64 [B, factors], as drawn
  int64_t steps() const { return steps_; }  ///< since the reset

 protected:
  /// What one episode's step gave.
  struct Outcome {
    double reward = 0;
    bool done = false;
    bool truncated = false;  ///< done for its length alone
  };
  /// @param factors one value for each of `info().factors`
  virtual void start(int64_t episode, const std::vector<double>& factors, Random& random) = 0;
  virtual Outcome advance(int64_t episode, const double* action, Random& random) = 0;
  /// Called when all episodes have been started.
  virtual void all_started() {}
  /// Every episode's step; one by one, unless a world does better.
  /// @param actions [B, action_width], checked
  virtual std::vector<Outcome> advance_all(const double* actions);
  bool ended(int64_t episode) const { return done_[episode] != 0; }
  virtual void draw(int64_t episode, uint8_t* frame) const = 0;
  virtual void write_state(int64_t episode, double* state) const = 0;
  virtual void draw_goal(int64_t episode, uint8_t* frame) const;
  virtual void write_goal_state(int64_t episode, double* state) const;
  virtual bool succeeds(int64_t episode) const { return false; }
  virtual double goal_distance(int64_t episode) const { return 0; }

 private:
  template <class Draw>
  torch::Tensor frames(Draw draw) const;

  WorldInfo info_;
  int64_t batch_;
  int64_t steps_ = 0;
  bool started_ = false;
  std::vector<Random> random_;
  std::vector<std::vector<double>> factors_;
  std::vector<char> done_;
  std::vector<char> truncated_;
};

/// Every factor within its training values.
FactorRanges training_ranges(const World& world);
/// Every factor as in training, but `factor` within its unseen values.
/// @throws ConfigError for a factor that the world lacks or that has no unseen values
FactorRanges unseen_ranges(const World& world, const std::string& factor);

}  // namespace jepa::eval::worlds
