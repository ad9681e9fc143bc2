// stable-worldmodel's two rooms (224 px, RGB): a disc, a wall with up to three doors.
#pragma once

#include <eval/worlds/canvas.hpp>
#include <eval/worlds/world.hpp>

#include <array>

namespace jepa::eval::worlds {

/// One variation of the room. Sizes in px of the 224 px frame.
struct SwmRoom {
  bool vertical = true;  ///< the wall's direction
  int64_t thickness = 10;
  float radius = 7;  ///< the agent's
  float speed = 5;   ///< px a step at full action
  int64_t doors = 1;
  std::array<int64_t, 3> door_position = {49, 49, 49};  ///< along the wall
  std::array<int64_t, 3> door_size = {14, 14, 14};      ///< half the opening
  float target_radius = 7;
  bool render_target = false;
  Colour background = {255, 255, 255};
  Colour wall = {0, 0, 0};
  Colour door = {255, 255, 255};
  Colour agent = {255, 0, 0};
  Colour target = {0, 255, 0};
};

using PointF = std::array<float, 2>;  ///< x, y [px]

constexpr int64_t kSwmRoomSize = 224;
constexpr double kSwmRoomSuccess = 16;  ///< px: terminated when nearer than this

/// One step; actions beyond [-1, 1] are cut. Nothing is random.
PointF swm_room_step(const SwmRoom& room, const PointF& position, const PointF& action);

/// Frame uint8 [224, 224, 3] (rows, columns, colour).
void draw_swm_room(const SwmRoom& room, const PointF& position, const PointF& target,
                   uint8_t* frame);

/// What the environment observes: agent, target, three door centres (0 where there is none).
std::array<float, 10> swm_room_observation(const SwmRoom& room, const PointF& position,
                                           const PointF& target);

/// Between the two centres [px].
double swm_room_distance(const PointF& position, const PointF& target);

/// The room as a World, `swm_two_rooms`: frames [3, 224, 224], state = x, y, target x, target y.
/// Start and target lie anywhere free. Factors: speed, radius, thickness and place of the wall's
/// door. An episode ends once nearer than 16 px: nothing moves any more.
class SwmTwoRooms : public World {
 public:
  explicit SwmTwoRooms(int64_t batch);

  /// Episodes do not end at the target: whoever sets other goals moves on.
  void pass_targets() { pass_targets_ = true; }

 protected:
  void start(int64_t i, const std::vector<double>& factors, Random& random) override;
  Outcome advance(int64_t i, const double* action, Random& random) override;
  void draw(int64_t i, uint8_t* frame) const override;
  void draw_goal(int64_t i, uint8_t* frame) const override;
  void write_state(int64_t i, double* state) const override;
  void write_goal_state(int64_t i, double* state) const override;
  bool succeeds(int64_t i) const override { return goal_distance(i) < kSwmRoomSuccess; }
  double goal_distance(int64_t i) const override;

 private:
  struct Episode {
    SwmRoom room;
    PointF position{};
    PointF target{};
  };
  std::vector<Episode> episodes_;
  bool pass_targets_ = false;
};

}  // namespace jepa::eval::worlds
