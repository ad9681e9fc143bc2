#include <eval/worlds/two_rooms.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace jepa::eval::worlds {
namespace {

constexpr double kPush = 0.5;    // deviation of the push-back
constexpr double kInside = 0.3;  // how far inside a clamped position is put
constexpr int64_t kStepLimit = 200;

int sign(double x) { return (x > 0) - (x < 0); }

// The line from p to q, as slope and intercept: the published arithmetic, whose last bits matter.
struct Line {
  double slope, intercept;
  Line(const Point& p, const Point& q)
      : slope((q[1] - p[1]) / (q[0] - p[0])), intercept(p[1] - slope * p[0]) {}
  double y_at(double x) const { return slope * x + intercept; }
  double x_at(double y) const { return (y - intercept) / slope; }
};

// Where p-q meets the horizontal line at y; upright lines keep their x.
double crossing_x(const Point& p, const Point& q, double y) {
  return p[0] == q[0] ? p[0] : Line(p, q).x_at(y);
}

// Touching counts.
bool hits(double from, double to, double wall) { return sign(from - wall) * sign(to - wall) <= 0; }

double distance_between(const Point& a, const Point& b) {
  return std::hypot(a[0] - b[0], a[1] - b[1]);
}

// The walls next to the dot. The middle wall stands in for the border on its side.
struct Surroundings {
  double left, right;
  double left_inside, right_inside;  // where a position on them is put
  bool middle_is_left;

  Surroundings(const TwoRoomsGeometry& g, const RoomLayout& layout, const Point& p)
      : left(g.low()),
        right(g.high()),
        left_inside(left + kInside),
        right_inside(right - kInside),
        middle_is_left(p[0] >= layout.wall) {
    // The published layouts are float32, the borders are not.
    const auto half = static_cast<double>(g.wall_width / 2);
    const auto inside = static_cast<float>(kInside);
    if (middle_is_left) {
      left = layout.wall + half;
      left_inside = static_cast<float>(left) + inside;
    } else {
      right = layout.wall - half;
      right_inside = static_cast<float>(right) - inside;
    }
  }
};

std::optional<Point> door_edge(const TwoRoomsGeometry& g, const RoomLayout& layout, const Point& p,
                               const Point& q, const NormalPair& draw) {
  const auto half = static_cast<double>(g.wall_width / 2);
  for (const int direction : {1, -1}) {
    const double edge = layout.door + direction * static_cast<double>(g.door_space);
    const bool across = direction > 0 ? q[1] > p[1] && p[1] <= edge && edge <= q[1]
                                      : q[1] < p[1] && q[1] <= edge && edge <= p[1];
    if (!across || p[0] == q[0]) continue;
    const double x = crossing_x(p, q, edge);
    if (x < layout.wall - half || x > layout.wall + half) continue;
    const Point push = draw();
    return Point{x + push[0] * kPush, edge - direction * std::abs(push[1] * kPush)};
  }
  return std::nullopt;
}

// Where the step meets the wall left or right of the dot; the door is open.
std::optional<Point> vertical_hit(const TwoRoomsGeometry& g, const RoomLayout& layout,
                                  const Point& p, const Point& q, double wall, bool middle) {
  if (!hits(p[0], q[0], wall) || p[0] == q[0]) return std::nullopt;
  const double y = Line(p, q).y_at(wall);
  const auto space = static_cast<double>(g.door_space);
  if (middle && layout.door - space <= y && y <= layout.door + space) return std::nullopt;
  return Point{wall, y};
}

Point clamp_inside(const TwoRoomsGeometry& g, const Surroundings& around, Point r) {
  r = {std::clamp(r[0], around.left, around.right), std::clamp(r[1], g.low(), g.high())};
  if (r[0] == around.left) {
    r[0] = around.left_inside;
  } else if (r[0] == around.right) {
    r[0] = around.right_inside;
  }
  if (r[1] == g.low()) {
    r[1] = g.low() + kInside;
  } else if (r[1] == g.high()) {
    r[1] = g.high() - kInside;
  }
  return r;
}

}  // namespace

Point push_back_step(const TwoRoomsGeometry& g, const RoomLayout& layout, const Point& p,
                     const Point& action, const NormalPair& draw) {
  const Point q = {p[0] + action[0], p[1] + action[1]};
  if (const auto pushed = door_edge(g, layout, p, q, draw)) return *pushed;

  const Surroundings around(g, layout, p);
  auto vertical = vertical_hit(g, layout, p, q, around.left, around.middle_is_left);
  int away_x = 1;
  if (!vertical) {
    vertical = vertical_hit(g, layout, p, q, around.right, !around.middle_is_left);
    away_x = -1;
  }
  std::optional<Point> horizontal;
  int away_y = 1;
  for (const double wall : {g.low(), g.high()}) {
    if (horizontal || p[1] == q[1] || !hits(p[1], q[1], wall)) continue;
    horizontal = Point{crossing_x(p, q, wall), wall};
    away_y = wall == g.low() ? 1 : -1;
  }
  if (!vertical && !horizontal) return q;

  Point from_vertical{}, from_horizontal{};
  if (vertical) {
    const Point push = draw();
    from_vertical = {(*vertical)[0] + away_x * std::abs(push[0] * kPush),
                     (*vertical)[1] + push[1] * kPush};
  }
  if (horizontal) {
    const Point push = draw();
    from_horizontal = {(*horizontal)[0] + push[0] * kPush,
                       (*horizontal)[1] + away_y * std::abs(push[1] * kPush)};
  }
  const bool take_vertical = vertical && (!horizontal || distance_between(*vertical, p) <
                                                             distance_between(*horizontal, p));
  return clamp_inside(g, around, take_vertical ? from_vertical : from_horizontal);
}

TwoRooms::TwoRooms(int64_t batch, TwoRoomsGeometry g)
    : World({.name = "two_rooms",
             .frame = {2, g.size, g.size},
             .action_width = 2,
             .state = {"x", "y", "wall", "door"},
             .factors = {{.name = "wall",
                          .unit = "px",
                          .standard = 32,
                          .training = {double(g.wall_padding), double(g.size - g.wall_padding - 1),
                                       29, 35},
                          .unseen = {29, 35},
                          .whole = true,
                          .varies = true},
                         {.name = "door",
                          .unit = "px",
                          .standard = 32,
                          .training = {double(g.door_padding), double(g.size - g.door_padding - 1),
                                       27, 37},
                          .unseen = {27, 37},
                          .whole = true,
                          .varies = true}},
             .step_limit = kStepLimit,
             .has_goal = true,
             .success_rule = "nearer than 4.5 px to the goal at the last of 200 steps"},
            batch),
      geometry_(g),
      episodes_(batch) {}

void TwoRooms::place(int64_t i, const RoomLayout& layout, const Point& start, const Point& goal) {
  episodes_.at(i) = {layout, start, goal, 0};
}

void TwoRooms::start(int64_t i, const std::vector<double>& factors, Random& random) {
  const RoomLayout layout{factors[0], factors[1]};
  std::array<double, 5> uniforms;
  for (double& u : uniforms) u = random.uniform();
  const auto ends = start_and_goal(geometry_, layout, uniforms);
  place(i, layout, ends.start, ends.goal);
}

World::Outcome TwoRooms::advance(int64_t i, const double* action, Random& random) {
  Episode& episode = episodes_[i];
  episode.position =
      push_back_step(geometry_, episode.layout, episode.position, {action[0], action[1]}, [&] {
        const double x = random.normal();
        return Point{x, random.normal()};
      });
  ++episode.steps;
  const bool last = episode.steps >= kStepLimit;
  return {.reward = succeeds(i) ? 1.0 : 0.0, .done = last, .truncated = last};
}

void TwoRooms::draw(int64_t i, uint8_t* frame) const {
  draw_two_rooms<double>(geometry_, episodes_[i].layout, episodes_[i].position, frame);
}

void TwoRooms::draw_goal(int64_t i, uint8_t* frame) const {
  draw_two_rooms<double>(geometry_, episodes_[i].layout, episodes_[i].goal, frame);
}

void TwoRooms::write_state(int64_t i, double* state) const {
  const Episode& e = episodes_[i];
  const std::array<double, 4> values = {e.position[0], e.position[1], e.layout.wall, e.layout.door};
  std::copy(values.begin(), values.end(), state);
}

void TwoRooms::write_goal_state(int64_t i, double* state) const {
  const Episode& e = episodes_[i];
  const std::array<double, 4> values = {e.goal[0], e.goal[1], e.layout.wall, e.layout.door};
  std::copy(values.begin(), values.end(), state);
}

double TwoRooms::goal_distance(int64_t i) const {
  return distance_between(episodes_[i].position, episodes_[i].goal);
}

}  // namespace jepa::eval::worlds
