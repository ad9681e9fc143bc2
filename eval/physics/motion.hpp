// Exact motion of bodies through a given moment, forwards and backwards in time.
#pragma once

#include <eval/physics/scene.hpp>

namespace jepa::eval::physics {

/// Where bodies fly: an elastic box, its left side at `left`.
struct Chamber {
  worlds::Box box;
  double left = 0;
};

/// The whole scene seen from above, without gravity.
Chamber table();
/// The whole scene seen from the side: the ground bounds it. @param gravity units a frame squared
Chamber room(double gravity);

/// The track of `frames` frames on which the bodies are as given at frame `moment`. What comes
/// before is their motion in `before` reversed: elastic motion is the same both ways.
/// @param bodies their velocities hold just after the moment; `incoming` are those just before
///   (empty: the same)
/// @param apart bodies pass through one another
Track through(const std::vector<Body>& bodies, const std::vector<std::array<double, 2>>& incoming,
              const Chamber& before, const Chamber& after, int64_t moment, int64_t frames,
              bool apart = false);

}  // namespace jepa::eval::physics
