// Two rooms with a door between them (eb_jepa's, arXiv 2602.03604): a dot that walks through it.
#pragma once

#include <eval/worlds/world.hpp>

#include <array>
#include <functional>

namespace jepa::eval::worlds {

/// Sizes of the picture and what stands in it [px].
struct TwoRoomsGeometry {
  int64_t size = 65;   ///< side of a frame
  int64_t border = 5;  ///< the walls around stand at border - 1 and size - border
  int64_t wall_width = 3;
  int64_t door_space = 4;     ///< half the door's height
  int64_t wall_padding = 20;  ///< least distance of the middle wall from the frame's sides
  int64_t door_padding = 10;  ///< likewise of the door
  double dot_std = 1.3;

  double low() const { return static_cast<double>(border - 1); }
  double high() const { return static_cast<double>(size - border); }
};

/// Where the middle wall and its door stand [px].
struct RoomLayout {
  double wall = 32;
  double door = 32;
};

using Point = std::array<double, 2>;  ///< x, y [px]

/// Gives one pair of standard normals each time it is asked.
using NormalPair = std::function<Point()>;

/// One step of the environment: walls and the door's edges push the dot back at random.
/// @param draw asked once for each obstacle that is hit, in the order door's edge, or vertical
///   wall, then horizontal wall; its numbers are used times 0.5
/// A step with no x part into a wall above or below keeps its x (upstream it becomes NaN).
Point push_back_step(const TwoRoomsGeometry& geometry, const RoomLayout& layout,
                     const Point& position, const Point& action, const NormalPair& draw);

/// One step of the data set's simulator (float32): what would hit anything is refused.
std::array<float, 2> refusing_step(const TwoRoomsGeometry& geometry,
                                   const std::array<float, 2>& layout,
                                   const std::array<float, 2>& position,
                                   const std::array<float, 2>& action);

/// Frame uint8 [2, size, size]: the dot, then the walls. `Real` is what the dot is computed in:
/// double in the environment, float in the data set.
template <class Real>
void draw_two_rooms(const TwoRoomsGeometry& geometry, const RoomLayout& layout,
                    const std::array<Real, 2>& position, uint8_t* frame);

/// As the published model takes frames: per image and channel min-max, then channel statistics.
/// @param frames uint8 [..., 2, H, W] -> float of the same shape
torch::Tensor normalise_two_rooms(const torch::Tensor& frames);
/// (position - mean) / (std + 1e-6) with the published statistics. @param positions float [..., 2]
torch::Tensor normalise_locations(const torch::Tensor& positions);

/// Start and goal in different rooms. @param uniforms start x, goal x, start y, goal y, swap of the
/// two x (< 0.5)
struct StartAndGoal {
  Point start;
  Point goal;
};
/// Places [px] clear of walls, in float32 as published.
StartAndGoal start_and_goal(const TwoRoomsGeometry& geometry, const RoomLayout& layout,
                            const std::array<double, 5>& uniforms);

/// All layouts of `geometry`, walls first: int32 [n, 2].
torch::Tensor all_layouts(const TwoRoomsGeometry& geometry);
/// Walls and doors from a to b, both included.
struct LayoutBlock {
  int64_t wall_low, wall_high, door_low, door_high;
  bool holds(int64_t wall, int64_t door) const {
    return wall >= wall_low && wall <= wall_high && door >= door_low && door <= door_high;
  }
};
/// Layouts inside `block`, or all others: one is left out only where both wall and door are in.
torch::Tensor layouts_inside(const TwoRoomsGeometry& geometry, const LayoutBlock& block);
/// All layouts that are not inside `block`: int32 [n, 2].
torch::Tensor layouts_outside(const TwoRoomsGeometry& geometry, const LayoutBlock& block);

/// Actions [n, 2] of a walk whose heading turns. @param first first angle [rad]
/// @param turns float [n - 1] @param lengths float [n]
torch::Tensor heading_walk(float first, const torch::Tensor& turns, const torch::Tensor& lengths);

/// A walk through the door, put together from one to the left and its opposite, both from a point
/// in the door.
struct CrossingWalk {
  torch::Tensor actions;       ///< float [n - 1, 2]
  std::array<float, 2> start;  ///< px
};
/// @param door_point float [2] @param turns [2, n - 2] @param lengths [2, n - 1]
/// @param uniform sets the left walk's first angle, pi + (uniform - 0.5) pi / 2
/// @param step actions before the door @param flip walk the other way
CrossingWalk crossing_walk(const TwoRoomsGeometry& geometry, const torch::Tensor& door_point,
                           float uniform, const torch::Tensor& turns, const torch::Tensor& lengths,
                           int64_t step, bool flip);

/// Success: nearer than this to the goal [px] (at the last of 200 steps).
constexpr double kTwoRoomsSuccess = 4.5;

/// The published environment as a World, `two_rooms`. State: x, y, wall, door [px]; action: dx, dy
/// [px]. After a reset one step without movement is made, as the published evaluation does.
/// Factors `wall` and `door` are drawn from the whole published range unless told otherwise; walls
/// 29 to 35 and doors 27 to 37 are the unseen ones.
class TwoRooms : public World {
 public:
  explicit TwoRooms(int64_t batch, TwoRoomsGeometry geometry = {});

  const TwoRoomsGeometry& geometry() const { return geometry_; }
  /// Puts episode `i` somewhere, with a goal; for fixtures and chosen start and goal pairs.
  void place(int64_t i, const RoomLayout& layout, const Point& start, const Point& goal);

 protected:
  void start(int64_t i, const std::vector<double>& factors, Random& random) override;
  Outcome advance(int64_t i, const double* action, Random& random) override;
  void draw(int64_t i, uint8_t* frame) const override;
  void draw_goal(int64_t i, uint8_t* frame) const override;
  void write_state(int64_t i, double* state) const override;
  void write_goal_state(int64_t i, double* state) const override;
  bool succeeds(int64_t i) const override { return goal_distance(i) < kTwoRoomsSuccess; }
  double goal_distance(int64_t i) const override;

 private:
  struct Episode {
    RoomLayout layout;
    Point position{};
    Point goal{};
    int64_t steps = 0;
  };
  TwoRoomsGeometry geometry_;
  std::vector<Episode> episodes_;
};

}  // namespace jepa::eval::worlds
