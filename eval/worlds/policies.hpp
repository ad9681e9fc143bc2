// Policies that data is collected with: random in several ways, walks, scripts. A trained one is a
// Policy too.
#pragma once

#include <eval/worlds/world.hpp>
#include <jepa/options.hpp>
#include <jepa/random.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::worlds {

/// Chooses the actions of a batch of episodes. What it does in an episode may depend on nothing but
/// the seed, the episode's number and what it sees, so that data does not depend on the batch.
class Policy {
 public:
  virtual ~Policy() = default;
  /// Called after each World::reset: episode number `first` + i of `seed` runs in slot i. May move
  /// what is in the world (a walk that starts at a wall).
  virtual void begin(World& world, uint64_t seed, int64_t first) = 0;
  /// @returns float64 [B, action_width]; rows of ended episodes are not looked at
  virtual torch::Tensor act(const World& world) = 0;
};

/// What the policies below can be told.
struct PolicyOptions {
  int64_t held_min = 1;          ///< held: fewest steps of one action
  int64_t held_max = 10;         ///< held: and most; swap: steps to a side
  double sticky = 0.25;          ///< sticky: chance that the last action is repeated
  double noise = 0.1;            ///< scripted: share of actions that are random instead
  int64_t constant = 0;          ///< constant: the choice, or 0 for no motion
  double wall_share = 0;         ///< walk in two_rooms: share of episodes that push at the wall
  double crossing_share = 0.35;  ///< and of those that pass the door
  int64_t walk_steps = 90;       ///< and steps that a walk through the door is planned for

  void describe(OptionVisitor& visit);
};

/// random, held, sticky, walk, swap, constant, scripted.
std::vector<std::string> policy_names();

/// - random: every action drawn anew: uniform among choices; of continuous actions each number
///   uniform within the bounds, or among -, 0, + where the world moves in such thirds (dodge)
/// - held: random ones, each held for a drawn number of steps (Ha and Schmidhuber's collection)
/// - sticky: the last action again with some chance, else a random one
/// - walk: two numbers as a step whose heading turns (von Mises, 5) and whose length is normal (1,
///   0.4) in [0.2, 1.8], scaled to the world; in two_rooms with walks through the door and at the
///   wall as asked
/// - swap: the first and the last way in turn, held_max steps each
/// - constant: one action
/// - scripted: the world's own: through the door to the goal (two rooms), away from fireballs
///   (dodge), around the block and against it (push)
/// @throws ConfigError for an unknown name, or a world that has no such policy
std::unique_ptr<Policy> make_policy(const std::string& name, const PolicyOptions& options,
                                    const World& world);

/// A policy that chooses for one episode at a time.
class EpisodePolicy : public Policy {
 public:
  void begin(World& world, uint64_t seed, int64_t first) override;
  torch::Tensor act(const World& world) override;

 protected:
  virtual void start(World& world, int64_t i, Random& random) {}
  /// @param state the episode's exact state, null where the world has none
  virtual void choose(const World& world, int64_t i, const double* state, Random& random,
                      double* action) = 0;

 private:
  std::vector<Random> random_;
};

/// Draws actions uniformly.
class ActionDraw {
 public:
  explicit ActionDraw(const WorldInfo& info);
  void draw(Random& random, double* action) const;
  int64_t width() const { return width_; }
  double low(int64_t k) const { return low_[static_cast<size_t>(k)]; }
  double high(int64_t k) const { return high_[static_cast<size_t>(k)]; }
  int64_t choices() const { return choices_; }

 private:
  int64_t width_, choices_;
  bool thirds_;
  std::vector<double> low_, high_;
};

/// One of the policies that make_policy() names, for the files that implement them.
std::unique_ptr<Policy> make_walk(const PolicyOptions& options, const World& world);
/// The world's own script. @throws ConfigError where the world has none
std::unique_ptr<Policy> make_scripted(const PolicyOptions& options, const World& world);

}  // namespace jepa::eval::worlds
