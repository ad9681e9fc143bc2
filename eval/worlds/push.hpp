// Push: a disc pushes a T-shaped block to a pose, quasi-statically (after Push-T).
#pragma once

#include <eval/worlds/world.hpp>

#include <array>
#include <vector>

namespace jepa::eval::worlds {

/// Where a block stands: centre of mass [canvas px] and angle [rad].
struct Pose {
  double x = 0, y = 0, angle = 0;
};

/// How far `pose` is from `goal`: px, and rad in [0, pi].
struct PoseError {
  double distance = 0;
  double angle = 0;
};
/// The angle is the shorter way round.
PoseError pose_error(const Pose& pose, const Pose& goal);

/// A canvas of 512 x 512 px, shown at 96 x 96. The block slides without inertia: a contact moves it
/// along the contact's normal and turns it by the lever, as an ellipsoidal limit surface says
/// (Lynch, Maekawa and Tanie 1992), without friction between disc and block. Action: motion of the
/// disc, (x, y) times 20 px, cut to [-1, 1].
///
/// State: disc x, y; block x, y, angle. Success (Push-T's rule as DINO-WM measures it): block
/// within 20 px of the goal and its angle within pi / 9. Reward: 1 while that holds.
class Push : public World {
 public:
  explicit Push(int64_t batch);

  static constexpr int64_t kSize = 96;
  static constexpr double kCanvas = 512;

  /// Puts episode `i` somewhere, for tests and chosen starts.
  void place(int64_t i, const std::array<double, 2>& disc, const Pose& block, const Pose& goal);

 protected:
  void start(int64_t i, const std::vector<double>& factors, Random& random) override;
  Outcome advance(int64_t i, const double* action, Random& random) override;
  void draw(int64_t i, uint8_t* frame) const override;
  void draw_goal(int64_t i, uint8_t* frame) const override;
  void write_state(int64_t i, double* state) const override;
  void write_goal_state(int64_t i, double* state) const override;
  bool succeeds(int64_t i) const override;
  double goal_distance(int64_t i) const override;

 private:
  struct Episode {
    double scale = 1, radius = 15;
    std::array<double, 2> disc{};
    Pose block, goal;
  };
  void render(const Episode& episode, const std::array<double, 2>& disc, const Pose& block,
              uint8_t* frame) const;
  static void separate(Episode& episode);

  std::vector<Episode> episodes_;
};

}  // namespace jepa::eval::worlds
