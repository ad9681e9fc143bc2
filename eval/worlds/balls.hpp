// Bouncing balls: exact elastic discs, with gravity, shelves and an occluder in front.
#pragma once

#include <eval/worlds/elastic.hpp>
#include <eval/worlds/world.hpp>

#include <vector>

namespace jepa::eval::worlds {

/// One to six balls of their own colours in a 64 px box. Nothing is lost in collisions (factor
/// `restitution` 1): energy is kept, and the momentum of two balls that meet. The action kicks the
/// first ball: change of its velocity [px a step]; zero leaves the world to itself. A grey occluder
/// covers a column of the picture, and nothing of the motion. Never ends by itself.
///
/// State: for each of 6 balls x, y, velocity x, velocity y, radius (0 where there is none).
class Balls : public World {
 public:
  /// @param slowest that a collision with restitution below 1 leaves, see Box
  explicit Balls(int64_t batch, double slowest = 2e-3);

  static constexpr int64_t kSize = 64;
  static constexpr int64_t kMostBalls = 6;

  const std::vector<Disc>& discs(int64_t i) const { return episodes_.at(i).discs; }
  const Box& box(int64_t i) const { return episodes_.at(i).box; }
  /// Puts chosen balls into episode `i`.
  void place(int64_t i, std::vector<Disc> discs) { episodes_.at(i).discs = std::move(discs); }

 protected:
  void start(int64_t i, const std::vector<double>& factors, Random& random) override;
  Outcome advance(int64_t i, const double* action, Random& random) override;
  void draw(int64_t i, uint8_t* frame) const override;
  void write_state(int64_t i, double* state) const override;

 private:
  struct Episode {
    Box box;
    std::vector<Disc> discs;
    double occluder = 0;  // width, px
  };
  std::vector<Episode> episodes_;
  double slowest_;
};

}  // namespace jepa::eval::worlds
