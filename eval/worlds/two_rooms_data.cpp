// How eb_jepa's data set is made, and its pictures.
#include <eval/worlds/two_rooms.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jepa::eval::worlds {
namespace {

constexpr double kEps = 1e-6;
constexpr float kPi = std::numbers::pi_v<float>;

int sign(float x) { return (x > 0) - (x < 0); }

bool between(float value, float low, float high) { return low <= value && value <= high; }

// The step crosses an edge of the door inside the wall, strictly.
bool crosses_door_edge(const TwoRoomsGeometry& g, const std::array<float, 2>& layout,
                       const std::array<float, 2>& p, const std::array<float, 2>& q) {
  const auto half = static_cast<float>(g.wall_width / 2);
  const auto space = static_cast<float>(g.door_space);
  for (const int direction : {1, -1}) {
    const float edge = layout[1] + static_cast<float>(direction) * space;
    const bool across = direction > 0 ? p[1] < edge && edge < q[1] : q[1] < edge && edge < p[1];
    if (!across) continue;
    const float x = p[0] + (edge - p[1]) * (q[0] - p[0]) / (q[1] - p[1]);
    if (layout[0] - half < x && x < layout[0] + half) return true;
  }
  return false;
}

torch::Tensor layouts(const TwoRoomsGeometry& g,
                      const std::function<bool(int64_t, int64_t)>& keep) {
  std::vector<int32_t> rows;
  for (int64_t wall = g.wall_padding; wall < g.size - g.wall_padding; ++wall) {
    for (int64_t door = g.door_padding; door < g.size - g.door_padding; ++door) {
      if (!keep(wall, door)) continue;
      rows.push_back(static_cast<int32_t>(wall));
      rows.push_back(static_cast<int32_t>(door));
    }
  }
  return torch::tensor(rows, torch::kInt32).view({-1, 2});
}

}  // namespace

std::array<float, 2> refusing_step(const TwoRoomsGeometry& g, const std::array<float, 2>& layout,
                                   const std::array<float, 2>& p,
                                   const std::array<float, 2>& action) {
  const std::array<float, 2> q = {p[0] + action[0], p[1] + action[1]};
  for (size_t axis = 0; axis < 2; ++axis) {
    for (const double wall : {g.low(), g.high()}) {
      const auto border = static_cast<float>(wall);
      if (sign(p[axis] - border) * sign(q[axis] - border) <= 0) return p;
    }
  }
  if (crosses_door_edge(g, layout, p, q)) return p;
  const auto half = static_cast<float>(g.wall_width / 2);
  const auto space = static_cast<float>(g.door_space);
  const float left = layout[0] - half, right = layout[0] + half;
  const bool from_inside = between(p[0], left, right), to_inside = between(q[0], left, right);
  const bool through = !from_inside && !to_inside && (p[0] < left) != (q[0] < left);
  if (from_inside == to_inside && !through) return q;
  for (const float face : {left, right}) {
    if (!(std::min(p[0], q[0]) < face && face < std::max(p[0], q[0]))) continue;
    const float y = p[1] + (face - p[0]) * (q[1] - p[1]) / (q[0] - p[0]);
    if (!between(y, layout[1] - space, layout[1] + space)) return p;
  }
  return q;
}

template <class Real>
void draw_two_rooms(const TwoRoomsGeometry& g, const RoomLayout& layout,
                    const std::array<Real, 2>& position, uint8_t* frame) {
  const int64_t size = g.size, half = g.wall_width / 2;
  const auto spread = static_cast<Real>(2 * g.dot_std * g.dot_std);
  const auto reach = spread * static_cast<Real>(6);  // beyond it 255 exp(-6) is no whole grey
  const auto at = [&](int64_t channel, int64_t y, int64_t x) -> uint8_t& {
    return frame[(channel * size + y) * size + x];
  };
  std::fill(frame, frame + 2 * size * size, uint8_t{0});
  for (int64_t y = 0; y < size; ++y) {
    const Real dy = static_cast<Real>(y) - position[1];
    if (dy * dy > reach) continue;
    for (int64_t x = 0; x < size; ++x) {
      const Real dx = static_cast<Real>(x) - position[0];
      const Real square = dx * dx + dy * dy;
      if (square > reach) continue;
      at(0, y, x) = static_cast<uint8_t>(Real(255) * std::exp(-square / spread));
    }
  }
  const auto draw_row = [&](int64_t y) { std::fill_n(&at(1, y, 0), size, uint8_t{255}); };
  for (int64_t y = 0; y < size; ++y) {
    at(1, y, g.border - 1) = at(1, y, size - g.border) = 255;
    if (std::abs(static_cast<double>(y) - layout.door) <= static_cast<double>(g.door_space)) {
      continue;
    }
    for (int64_t x = 0; x < size; ++x) {
      const double from_wall = std::abs(static_cast<double>(x) - layout.wall);
      if (from_wall <= static_cast<double>(half)) at(1, y, x) = 255;
    }
  }
  draw_row(g.border - 1);
  draw_row(size - g.border);
}

template void draw_two_rooms<float>(const TwoRoomsGeometry&, const RoomLayout&,
                                    const std::array<float, 2>&, uint8_t*);
template void draw_two_rooms<double>(const TwoRoomsGeometry&, const RoomLayout&,
                                     const std::array<double, 2>&, uint8_t*);

torch::Tensor normalise_two_rooms(const torch::Tensor& frames) {
  if (frames.dim() < 3 || frames.size(-3) != 2) {
    throw DataError(c10::str("two rooms: frames [..., 2, H, W] expected, found ", frames.sizes()));
  }
  const auto x = frames.to(torch::kFloat32);
  const auto low = x.amin({-2, -1}, true), high = x.amax({-2, -1}, true);
  const auto mean = torch::tensor({0.0026F, 0.0989F}, x.options()).view({2, 1, 1});
  const auto std = torch::tensor({0.0369F, 0.2986F}, x.options()).view({2, 1, 1});
  return ((x - low) / (high - low + kEps) - mean) / (std + kEps);
}

torch::Tensor normalise_locations(const torch::Tensor& positions) {
  const auto mean = torch::tensor({31.5863F, 32.0618F}, positions.options());
  const auto std = torch::tensor({16.1025F, 16.1353F}, positions.options());
  return (positions - mean) / (std + kEps);
}

StartAndGoal start_and_goal(const TwoRoomsGeometry& g, const RoomLayout& layout,
                            const std::array<double, 5>& uniforms) {
  const auto scale = [](double low, double high, double uniform) {
    // In float32, as published.
    return static_cast<double>(static_cast<float>(low) +
                               static_cast<float>(uniform) * static_cast<float>(high - low));
  };
  const auto half = static_cast<double>(g.wall_width / 2);
  const double margin = g.low() + 2 * g.dot_std;
  const double far = static_cast<double>(g.size - 1) - margin;
  double left = scale(margin, layout.wall - half - 2 * g.dot_std, uniforms[0]);
  double right = scale(layout.wall + half + 2 * g.dot_std, far, uniforms[1]);
  const double start_y = scale(margin, far, uniforms[2]);
  const double goal_y = scale(margin, far, uniforms[3]);
  if (uniforms[4] < 0.5) std::swap(left, right);
  return {{left, start_y}, {right, goal_y}};
}

torch::Tensor all_layouts(const TwoRoomsGeometry& g) {
  return layouts(g, [](int64_t, int64_t) { return true; });
}

torch::Tensor layouts_inside(const TwoRoomsGeometry& g, const LayoutBlock& block) {
  return layouts(g, [&](int64_t wall, int64_t door) { return block.holds(wall, door); });
}

torch::Tensor layouts_outside(const TwoRoomsGeometry& g, const LayoutBlock& block) {
  return layouts(g, [&](int64_t wall, int64_t door) { return !block.holds(wall, door); });
}

torch::Tensor heading_walk(float first, const torch::Tensor& turns, const torch::Tensor& lengths) {
  TORCH_CHECK(turns.dim() == 1 && lengths.dim() == 1 && lengths.size(0) == turns.size(0) + 1,
              "heading_walk: n - 1 turns and n lengths expected, got ", turns.sizes(), " and ",
              lengths.sizes());
  const auto turn = turns.to(torch::kFloat32).contiguous();
  std::vector<float> angles = {first};
  for (int64_t i = 0; i < turn.size(0); ++i) {
    angles.push_back(std::fmod(angles.back() + turn.const_data_ptr<float>()[i], 2 * kPi));
  }
  const auto angle = torch::tensor(angles);
  return torch::stack({angle.cos(), angle.sin()}, 1) * lengths.to(torch::kFloat32).unsqueeze(1);
}

CrossingWalk crossing_walk(const TwoRoomsGeometry& g, const torch::Tensor& door_point,
                           float uniform, const torch::Tensor& turns, const torch::Tensor& lengths,
                           int64_t step, bool flip) {
  const int64_t steps = lengths.size(1) + 1;  // frames, as n is counted upstream
  TORCH_CHECK(step >= 0 && step < steps, "crossing_walk: ", step, " of ", steps, " steps");
  const float first = kPi + (uniform - 0.5F) * (kPi / 2);
  const auto left = heading_walk(first, turns[0], lengths[0]);
  const auto right = heading_walk(first - kPi, turns[1], lengths[1]);
  CrossingWalk walk;
  walk.actions = torch::cat({-left.narrow(0, 0, step).flip(0),
                             right.narrow(0, 1, std::max<int64_t>(steps - step - 1, 0))});
  int64_t before = step;
  if (flip) {
    walk.actions = -walk.actions.flip(0);
    before = steps - step;
  }
  before = std::min(before, walk.actions.size(0));
  const auto moved = walk.actions.narrow(0, 0, before).sum(0);
  const auto start =
      (door_point.to(torch::kFloat32) - moved).clamp(g.low() + 0.01, g.high() - 0.01).contiguous();
  walk.start = {start.const_data_ptr<float>()[0], start.const_data_ptr<float>()[1]};
  return walk;
}

}  // namespace jepa::eval::worlds
