// Goals that were reached: where a policy stood some steps after the start, the published protocol
// of Push-T (a later frame of the same recorded episode).
#pragma once

#include <eval/worlds/policies.hpp>
#include <eval/worlds/world.hpp>

#include <torch/types.h>

#include <cstdint>
#include <memory>

namespace jepa::eval::worlds {

/// Whether `state` is where `goal` is, by the world's published rule on states: Push-T (also
/// Gymnasium's) disc and block within 20 px together and the block's angle within pi / 9,
/// two_rooms 4.5 px, swm_two_rooms 16 px. @param state, goal one episode's
/// @throws ConfigError for a world without such a rule
bool state_reached(const WorldInfo& info, const double* state, const double* goal);
/// The distance that rule looks at [px].
double state_distance(const WorldInfo& info, const double* state, const double* goal);

/// Episodes of another world, from where its policy was after `lead` steps (drawn for each batch)
/// to where it was `ahead` steps later. The world must be a function of its seed and actions; its
/// own goal counts no more, its factors are the same.
class GoalsAhead : public World {
 public:
  /// @param policy of `world`; acts as long as start and goal are sought
  /// @throws ConfigError for a world without state or rule
  GoalsAhead(std::unique_ptr<World> world, std::unique_ptr<Policy> policy, int64_t ahead,
             int64_t most_lead = 100);

  /// Starts all episodes, as World::reset does.
  void begin(uint64_t seed, const FactorRanges& ranges, int64_t first);

 protected:
  void start(int64_t, const std::vector<double>&, Random&) override {}
  Outcome advance(int64_t, const double*, Random&) override { return {}; }
  std::vector<Outcome> advance_all(const double* actions) override;
  void draw(int64_t i, uint8_t* frame) const override;
  void draw_goal(int64_t i, uint8_t* frame) const override;
  void write_state(int64_t i, double* state) const override;
  void write_goal_state(int64_t i, double* state) const override;
  bool succeeds(int64_t i) const override;
  double goal_distance(int64_t i) const override;

 private:
  void look();

  std::unique_ptr<World> world_;
  std::unique_ptr<Policy> policy_;
  int64_t ahead_, most_lead_;
  torch::Tensor pixels_, state_;  // now
  torch::Tensor goal_pixels_, goal_state_;
};

}  // namespace jepa::eval::worlds
