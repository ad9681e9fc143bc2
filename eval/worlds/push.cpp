#include <eval/worlds/canvas.hpp>
#include <eval/worlds/push.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jepa::eval::worlds {
namespace {

constexpr double kPushPi = std::numbers::pi;
constexpr double kStride = 20;   // px a step at full action
constexpr int kSubsteps = 20;    // at most 1 px each
constexpr int kCorrections = 4;  // of the deepest contact in a substep
constexpr double kNear = 20;     // success, px
constexpr double kNearAngle = kPushPi / 9;
constexpr double kWallMargin = 5;

// A box of the block, in the block's frame (its centre of mass at the origin).
struct Part {
  double left, top, right, bottom;
};

// A T of Push-T's sizes: a bar of 120 x 30 on a stem of 30 x 90.
std::array<Part, 2> parts(double scale) {
  // Centre of mass from the bar's top: (3600 * 15 + 2700 * 75) / 6300.
  constexpr double kCentre = 40.714285714285715;
  return {Part{-60 * scale, -kCentre * scale, 60 * scale, (30 - kCentre) * scale},
          Part{-15 * scale, (30 - kCentre) * scale, 15 * scale, (120 - kCentre) * scale}};
}

// Turning resistance over sliding resistance, as a length.
double lever(double scale) { return 45 * scale; }

std::array<double, 2> into_block(const Pose& pose, double x, double y) {
  const double c = std::cos(pose.angle), s = std::sin(pose.angle);
  const double dx = x - pose.x, dy = y - pose.y;
  return {c * dx + s * dy, -s * dx + c * dy};
}

std::array<double, 2> out_of_block(const Pose& pose, double x, double y) {
  const double c = std::cos(pose.angle), s = std::sin(pose.angle);
  return {pose.x + c * x - s * y, pose.y + s * x + c * y};
}

struct Touch {
  double depth = 0;       // px; 0: none
  double x = 0, y = 0;    // contact, block's frame
  double nx = 0, ny = 0;  // out of the block, block's frame
};

// How deep a disc at (x, y) of the block's frame is in one box.
Touch touch(const Part& part, double x, double y, double radius) {
  const double cx = std::clamp(x, part.left, part.right);
  const double cy = std::clamp(y, part.top, part.bottom);
  const double dx = x - cx, dy = y - cy;
  const double distance = std::hypot(dx, dy);
  if (distance > 0) {
    if (distance >= radius) return {};
    return {radius - distance, cx, cy, dx / distance, dy / distance};
  }
  // The centre is inside: out through the nearest face.
  const std::array<double, 4> to_face = {x - part.left, part.right - x, y - part.top,
                                         part.bottom - y};
  const auto face = std::min_element(to_face.begin(), to_face.end()) - to_face.begin();
  const double nx = face == 0 ? -1 : face == 1 ? 1 : 0, ny = face == 2 ? -1 : face == 3 ? 1 : 0;
  return {radius + to_face[face], x + nx * to_face[face], y + ny * to_face[face], nx, ny};
}

}  // namespace

PoseError pose_error(const Pose& pose, const Pose& goal) {
  return {std::hypot(pose.x - goal.x, pose.y - goal.y),
          std::abs(std::remainder(pose.angle - goal.angle, 2 * kPushPi))};
}

Push::Push(int64_t batch)
    : World({.name = "push",
             .frame = {3, kSize, kSize},
             .action_width = 2,
             .state = {"disc_x", "disc_y", "block_x", "block_y", "block_angle"},
             .factors = {{.name = "scale",
                          .unit = "of the block",
                          .standard = 1,
                          .training = {0.9, 1.1},
                          .unseen = {1.2, 1.4}},
                         {.name = "radius",
                          .unit = "px",
                          .standard = 15,
                          .training = {13, 17},
                          .unseen = {20, 26}},
                         {.name = "goal_angle",
                          .unit = "rad",
                          .standard = kPushPi / 4,
                          .training = {0, kPushPi / 2},
                          .unseen = {3 * kPushPi / 4, kPushPi}}},
             .step_limit = 300,
             .has_goal = true,
             .success_rule = "block within 20 px and pi / 9 of the goal",
             .action_low = {-1, -1},
             .action_high = {1, 1}},
            batch),
      episodes_(batch) {}

void Push::place(int64_t i, const std::array<double, 2>& disc, const Pose& block,
                 const Pose& goal) {
  episodes_.at(i).disc = disc;
  episodes_.at(i).block = block;
  episodes_.at(i).goal = goal;
}

void Push::start(int64_t i, const std::vector<double>& factors, Random& random) {
  Episode& e = episodes_[i];
  e = {};
  e.scale = factors[0];
  e.radius = factors[1];
  e.goal = {kCanvas / 2, kCanvas / 2, factors[2]};
  do {  // not a start that already succeeds
    e.block = {random.uniform(100, 412), random.uniform(100, 412),
               random.uniform(-kPushPi, kPushPi)};
  } while (succeeds(i));
  bool free = false;
  while (!free) {
    e.disc = {random.uniform(50, 462), random.uniform(50, 462)};
    const auto [x, y] = into_block(e.block, e.disc[0], e.disc[1]);
    free = true;
    for (const Part& part : parts(e.scale)) free = free && touch(part, x, y, e.radius).depth == 0;
  }
}

// Moves the block out of the disc's way.
void Push::separate(Episode& e) {
  for (int correction = 0; correction < kCorrections; ++correction) {
    const auto [x, y] = into_block(e.block, e.disc[0], e.disc[1]);
    Touch deepest;
    for (const Part& part : parts(e.scale)) {
      const Touch one = touch(part, x, y, e.radius);
      if (one.depth > deepest.depth) deepest = one;
    }
    if (deepest.depth <= 0) return;
    // The contact moves by `depth` against the normal: translation push * (-n), turn push *
    // torque / lever^2.
    const double torque = -(deepest.x * deepest.ny - deepest.y * deepest.nx);
    const double length = lever(e.scale);
    const double push = deepest.depth / (1 + torque * torque / (length * length));
    const double c = std::cos(e.block.angle), s = std::sin(e.block.angle);
    e.block.x -= push * (c * deepest.nx - s * deepest.ny);
    e.block.y -= push * (s * deepest.nx + c * deepest.ny);
    e.block.angle += push * torque / (length * length);
  }
}

World::Outcome Push::advance(int64_t i, const double* action, Random&) {
  Episode& e = episodes_[i];
  for (int substep = 0; substep < kSubsteps; ++substep) {
    for (size_t k = 0; k < 2; ++k) {
      e.disc[k] = std::clamp(e.disc[k] + std::clamp(action[k], -1.0, 1.0) * kStride / kSubsteps,
                             kWallMargin + e.radius, kCanvas - kWallMargin - e.radius);
    }
    separate(e);
  }
  return {.reward = succeeds(i) ? 1.0 : 0.0, .done = false};
}

void Push::render(const Episode& e, const std::array<double, 2>& disc, const Pose& block,
                  uint8_t* frame) const {
  const double scale = kSize / kCanvas;
  Canvas canvas(frame, kSize, kSize);
  canvas.fill({255, 255, 255});
  const auto draw_block = [&](const Pose& pose, const Colour& colour) {
    for (const Part& part : parts(e.scale)) {
      std::vector<std::array<double, 2>> corners;
      for (const auto& [x, y] : {std::array{part.left, part.top},
                                 {part.right, part.top},
                                 {part.right, part.bottom},
                                 {part.left, part.bottom}}) {
        const auto at = out_of_block(pose, x, y);
        corners.push_back({at[0] * scale, at[1] * scale});
      }
      canvas.polygon(corners, colour);
    }
  };
  draw_block(e.goal, {144, 238, 144});
  draw_block(block, {119, 136, 153});
  canvas.disc(disc[0] * scale, disc[1] * scale, e.radius * scale, {65, 105, 225});
}

void Push::draw(int64_t i, uint8_t* frame) const {
  render(episodes_[i], episodes_[i].disc, episodes_[i].block, frame);
}

void Push::draw_goal(int64_t i, uint8_t* frame) const {
  render(episodes_[i], episodes_[i].disc, episodes_[i].goal, frame);
}

void Push::write_state(int64_t i, double* state) const {
  const Episode& e = episodes_[i];
  for (const double value : {e.disc[0], e.disc[1], e.block.x, e.block.y, e.block.angle}) {
    *state++ = value;
  }
}

void Push::write_goal_state(int64_t i, double* state) const {
  const Episode& e = episodes_[i];
  for (const double value : {e.disc[0], e.disc[1], e.goal.x, e.goal.y, e.goal.angle}) {
    *state++ = value;
  }
}

bool Push::succeeds(int64_t i) const {
  const auto error = pose_error(episodes_[i].block, episodes_[i].goal);
  return error.distance < kNear && error.angle < kNearAngle;
}

double Push::goal_distance(int64_t i) const {
  return pose_error(episodes_[i].block, episodes_[i].goal).distance;
}

}  // namespace jepa::eval::worlds
