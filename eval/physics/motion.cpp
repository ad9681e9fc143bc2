#include <eval/physics/motion.hpp>

namespace jepa::eval::physics {
namespace {

/// The bodies one frame later.
void advance(std::vector<Body>& bodies, const Chamber& chamber, bool apart) {
  std::vector<worlds::Disc> discs;
  for (const Body& body : bodies) {
    discs.push_back(body.disc);
    discs.back().x -= chamber.left;
  }
  if (apart) {
    for (auto& disc : discs) {
      std::vector<worlds::Disc> alone{disc};
      worlds::advance_discs(alone, chamber.box, 1.0);
      disc = alone.front();
    }
  } else {
    worlds::advance_discs(discs, chamber.box, 1.0);
  }
  for (size_t i = 0; i < bodies.size(); ++i) {
    bodies[i].disc = discs[i];
    bodies[i].disc.x += chamber.left;
  }
}

std::vector<Body> reversed(std::vector<Body> bodies) {
  for (Body& body : bodies) {
    body.disc.vx = -body.disc.vx;
    body.disc.vy = -body.disc.vy;
  }
  return bodies;
}

}  // namespace

Chamber table() { return {.box = {.width = kSceneSide, .height = kSceneSide}}; }

Chamber room(double gravity) {
  return {.box = {.width = kSceneSide, .height = kGround, .gravity = gravity}};
}

Track through(const std::vector<Body>& bodies, const std::vector<std::array<double, 2>>& incoming,
              const Chamber& before, const Chamber& after, int64_t moment, int64_t frames,
              bool apart) {
  Track track(static_cast<size_t>(frames));
  auto now = bodies;
  for (int64_t t = moment; t < frames; ++t) {
    track[static_cast<size_t>(t)] = now;
    advance(now, after, apart);
  }
  now = bodies;
  for (size_t i = 0; i < incoming.size(); ++i) {
    now[i].disc.vx = incoming[i][0];
    now[i].disc.vy = incoming[i][1];
  }
  now = reversed(now);
  for (int64_t t = moment - 1; t >= 0; --t) {
    advance(now, before, apart);
    track[static_cast<size_t>(t)] = reversed(now);
  }
  return track;
}

}  // namespace jepa::eval::physics
