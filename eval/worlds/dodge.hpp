// Dodge: stay alive under fireballs (after ViZDoom's Take Cover).
#pragma once

#include <eval/worlds/world.hpp>

#include <vector>

namespace jepa::eval::worlds {

/// An agent at the bottom of a 64 px room moves left or right; fireballs start at the far wall,
/// aimed near the agent, more and more of them. Reward 1 a step while alive; ends when one hits, or
/// after 2100 steps.
///
/// Action: one number; above 1/3 is right, below -1/3 left, between them stay. State: agent x, then
/// x, y, velocity x, velocity y of 12 fireballs (0 where there is none), oldest first [px, px a
/// step]. Success: alive after 750 steps.
class Dodge : public World {
 public:
  explicit Dodge(int64_t batch);

  static constexpr int64_t kSize = 64;
  static constexpr int64_t kMostBalls = 12;

 protected:
  void start(int64_t i, const std::vector<double>& factors, Random& random) override;
  Outcome advance(int64_t i, const double* action, Random& random) override;
  void draw(int64_t i, uint8_t* frame) const override;
  void write_state(int64_t i, double* state) const override;
  bool succeeds(int64_t i) const override;

 private:
  struct Ball {
    double x, y, vx, vy;
  };
  struct Episode {
    double speed = 0, rate = 0, radius = 0, stride = 0;  // factors
    double x = 0;
    std::vector<Ball> balls = {};
    int64_t steps = 0;
    bool dead = false;
  };
  std::vector<Episode> episodes_;
};

}  // namespace jepa::eval::worlds
