// Elastic discs in a box with gravity and shelves, from collision to collision without a time step.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

namespace jepa::eval::worlds {

/// A disc; mass in any unit.
struct Disc {
  double x = 0, y = 0;    ///< centre [px], y down
  double vx = 0, vy = 0;  ///< px a unit of time
  double radius = 1;
  double mass = 1;
};

/// A horizontal shelf without thickness, from left to right at y; its ends are points.
struct Shelf {
  double left = 0, right = 0, y = 0;
};

/// What stands around the discs.
struct Box {
  double width = 64, height = 64;
  double gravity = 0;      ///< px a unit of time squared, downwards
  double restitution = 1;  ///< share of the speed along the normal that a collision gives back
  /// With restitution below 1 no collision leaves slower than this, or than it came: under gravity
  /// a disc that comes to rest collides without end in a finite time. 0: it does [px a unit of
  /// time].
  double slowest = 0;
  std::vector<Shelf> shelves = {};
};

/// A collision of disc `first` with disc `second`, or with something that stands (-1).
struct Collision {
  double time = 0;
  int64_t first = 0;
  int64_t second = -1;
};

/// Least t >= 0 at which the polynomial c0 + c1 t + ... + c4 t^4 falls through zero, at most
/// `limit`; negative: none. A polynomial that is at or below zero already and falls gives 0.
double falls_through_zero(const std::array<double, 5>& coefficients, double limit);

/// Moves `discs` on by `duration`. Between collisions each flies its parabola exactly; at one, the
/// speeds along the normal change by the rule of elastic (or restitution's) impact.
/// @param seen called after each collision, `discs` being those of that moment
/// @returns collisions
/// @throws DataError where more than 100000 collisions come in one call
int64_t advance_discs(
    std::vector<Disc>& discs, const Box& box, double duration,
    const std::function<void(const Collision&, const std::vector<Disc>&)>& seen = {});

/// Kinetic plus potential energy (zero at the floor).
double energy(const std::vector<Disc>& discs, const Box& box);
/// (x, y), the sum of mass times velocity.
std::array<double, 2> momentum(const std::vector<Disc>& discs);

}  // namespace jepa::eval::worlds
