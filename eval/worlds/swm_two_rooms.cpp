#include <eval/worlds/swm_two_rooms.hpp>

#include <algorithm>
#include <cmath>

namespace jepa::eval::worlds {
namespace {

constexpr int64_t kSize = kSwmRoomSize;
constexpr int64_t kBorder = 14;
constexpr int64_t kCentre = kSize / 2;
constexpr int64_t kLineWidth = 4;    // of the border lines, which end where the border begins
constexpr double kDoorSlack = 1.75;  // beyond the door's half size
constexpr float kStepBack = 0.5F;    // px before the wall

void fill(uint8_t* pixel, const Colour& colour) { std::copy(colour.begin(), colour.end(), pixel); }

// A soft disc over the picture. Truncated to whole levels after each, as published.
void blend(uint8_t* frame, const PointF& centre, float radius, const Colour& colour) {
  std::vector<float> alpha(kSize * kSize);
  float largest = 0;
  for (int64_t y = 0; y < kSize; ++y) {
    for (int64_t x = 0; x < kSize; ++x) {
      const float dx = static_cast<float>(x) - centre[0], dy = static_cast<float>(y) - centre[1];
      float& a = alpha[y * kSize + x];
      a = std::exp(-(dx * dx + dy * dy) / (2 * radius * radius));
      largest = std::max(largest, a);
    }
  }
  if (largest == 0) return;  // so far outside that nothing of it shows
  for (int64_t i = 0; i < kSize * kSize; ++i) {
    const float a = alpha[i] / largest;
    for (int64_t c = 0; c < 3; ++c) {
      uint8_t& value = frame[3 * i + c];
      value = static_cast<uint8_t>(static_cast<float>(value) * (1 - a) +
                                   static_cast<float>(colour[c]) * a);
    }
  }
}

bool in_door(const SwmRoom& room, double along, double slack) {
  for (int64_t d = 0; d < room.doors; ++d) {
    if (std::abs(along - static_cast<double>(room.door_position[d])) <=
        static_cast<double>(room.door_size[d]) + slack) {
      return true;
    }
  }
  return false;
}

bool border_line(int64_t at) {
  return (at >= kBorder - kLineWidth && at < kBorder) ||
         (at >= kSize - kBorder && at < kSize - kBorder + kLineWidth);
}

}  // namespace

PointF swm_room_step(const SwmRoom& room, const PointF& position, const PointF& action) {
  PointF q{};
  for (size_t k = 0; k < 2; ++k) {
    q[k] = position[k] + std::clamp(action[k], -1.0F, 1.0F) * room.speed;
    q[k] = std::clamp(q[k], static_cast<float>(kBorder) + room.radius,
                      static_cast<float>(kSize - kBorder) - room.radius);
  }
  const size_t across = room.vertical ? 0 : 1;
  const int64_t half = room.thickness / 2;
  const bool first_half = position[across] < static_cast<float>(kCentre);
  const float face = first_half ? static_cast<float>(kCentre - half) - room.radius
                                : static_cast<float>(kCentre + half) + room.radius;
  const bool beyond = first_half ? q[across] > face : q[across] < face;
  if (beyond && !in_door(room, q[1 - across], kDoorSlack)) {
    q[across] = first_half ? face - kStepBack : face + kStepBack;
  }
  return q;
}

void draw_swm_room(const SwmRoom& room, const PointF& position, const PointF& target,
                   uint8_t* frame) {
  const int64_t half = room.thickness / 2;
  for (int64_t y = 0; y < kSize; ++y) {
    for (int64_t x = 0; x < kSize; ++x) {
      const int64_t across = room.vertical ? x : y, along = room.vertical ? y : x;
      uint8_t* pixel = frame + 3 * (y * kSize + x);
      fill(pixel, room.background);
      if (std::abs(across - kCentre) <= half) {
        fill(pixel, in_door(room, static_cast<double>(along), 0) ? room.door : room.wall);
      }
      if (border_line(x) || border_line(y)) fill(pixel, room.wall);
    }
  }
  if (room.render_target) blend(frame, target, room.target_radius, room.target);
  blend(frame, position, room.radius, room.agent);
}

std::array<float, 10> swm_room_observation(const SwmRoom& room, const PointF& position,
                                           const PointF& target) {
  std::array<float, 10> values = {position[0], position[1], target[0], target[1]};
  for (int64_t d = 0; d < room.doors; ++d) {
    const auto along = static_cast<float>(room.door_position[d]);
    const auto centre = static_cast<float>(kCentre);
    values[4 + 2 * d] = room.vertical ? centre : along;
    values[5 + 2 * d] = room.vertical ? along : centre;
  }
  return values;
}

double swm_room_distance(const PointF& position, const PointF& target) {
  return std::hypot(static_cast<double>(position[0] - target[0]),
                    static_cast<double>(position[1] - target[1]));
}

SwmTwoRooms::SwmTwoRooms(int64_t batch)
    : World({.name = "swm_two_rooms",
             .frame = {3, kSize, kSize},
             .action_width = 2,
             .state = {"x", "y", "target_x", "target_y"},
             .factors = {{.name = "speed",
                          .unit = "px a step",
                          .standard = 5,
                          .training = {1.75, 7},
                          .unseen = {7, 10.5}},
                         {.name = "radius",
                          .unit = "px",
                          .standard = 7,
                          .training = {7, 10},
                          .unseen = {10, 13}},
                         {.name = "thickness",
                          .unit = "px",
                          .standard = 10,
                          .training = {8, 24},
                          .unseen = {25, 40},
                          .whole = true},
                         {.name = "door",
                          .unit = "px",
                          .standard = 49,
                          .training = {40, 184, 90, 134},
                          .unseen = {90, 134},
                          .whole = true}},
             .step_limit = 200,
             .has_goal = true,
             .success_rule = "nearer than 16 px to the target, at any step: it ends there"},
            batch),
      episodes_(batch) {}

void SwmTwoRooms::start(int64_t i, const std::vector<double>& factors, Random& random) {
  Episode& episode = episodes_[i];
  episode = {};
  episode.room.speed = static_cast<float>(factors[0]);
  episode.room.radius = static_cast<float>(factors[1]);
  episode.room.thickness = static_cast<int64_t>(factors[2]);
  episode.room.door_position.fill(static_cast<int64_t>(factors[3]));
  const double margin = static_cast<double>(kBorder) + factors[1];
  const double clear = static_cast<double>(episode.room.thickness / 2) + factors[1];
  const auto free_point = [&] {
    PointF p{};
    do {
      for (float& k : p) {
        k = static_cast<float>(random.uniform(margin, static_cast<double>(kSize) - margin));
      }
    } while (std::abs(static_cast<double>(p[0]) - kCentre) <= clear);
    return p;
  };
  episode.position = free_point();
  do {  // a start that already succeeds tells nothing
    episode.target = free_point();
  } while (succeeds(i));
}

World::Outcome SwmTwoRooms::advance(int64_t i, const double* action, Random&) {
  if (ended(i)) return {.reward = 0, .done = true};
  Episode& episode = episodes_[i];
  episode.position = swm_room_step(episode.room, episode.position,
                                   {static_cast<float>(action[0]), static_cast<float>(action[1])});
  return {.reward = succeeds(i) ? 1.0 : 0.0, .done = succeeds(i) && !pass_targets_};
}

namespace {
// [H, W, 3] -> [3, H, W]
void planes(const std::vector<uint8_t>& picture, uint8_t* frame) {
  const int64_t pixels = kSize * kSize;
  for (int64_t p = 0; p < pixels; ++p) {
    for (int64_t c = 0; c < 3; ++c) frame[c * pixels + p] = picture[3 * p + c];
  }
}
}  // namespace

void SwmTwoRooms::draw(int64_t i, uint8_t* frame) const {
  const Episode& episode = episodes_[i];
  std::vector<uint8_t> picture(3 * kSize * kSize);
  draw_swm_room(episode.room, episode.position, episode.target, picture.data());
  planes(picture, frame);
}

void SwmTwoRooms::draw_goal(int64_t i, uint8_t* frame) const {
  const Episode& episode = episodes_[i];
  std::vector<uint8_t> picture(3 * kSize * kSize);
  draw_swm_room(episode.room, episode.target, episode.target, picture.data());
  planes(picture, frame);
}

void SwmTwoRooms::write_state(int64_t i, double* state) const {
  const Episode& e = episodes_[i];
  std::copy(e.position.begin(), e.position.end(), state);
  std::copy(e.target.begin(), e.target.end(), state + 2);
}

void SwmTwoRooms::write_goal_state(int64_t i, double* state) const {
  const Episode& e = episodes_[i];
  std::copy(e.target.begin(), e.target.end(), state);
  std::copy(e.target.begin(), e.target.end(), state + 2);
}

double SwmTwoRooms::goal_distance(int64_t i) const {
  return swm_room_distance(episodes_[i].position, episodes_[i].target);
}

}  // namespace jepa::eval::worlds
