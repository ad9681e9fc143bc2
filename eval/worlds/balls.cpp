#include <eval/worlds/balls.hpp>
#include <eval/worlds/canvas.hpp>

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jepa::eval::worlds {
namespace {

constexpr double kBox = Balls::kSize;
constexpr double kOccluderLeft = 26;
constexpr double kShelfY = 40;
constexpr int kTries = 1000;  // to place a ball before it is made smaller

const std::array<Colour, Balls::kMostBalls> kColours = {Colour{255, 80, 80}, {80, 160, 255},
                                                        {255, 220, 80},      {120, 230, 120},
                                                        {220, 120, 255},     {240, 240, 240}};

std::vector<std::string> disc_columns() {
  std::vector<std::string> names;
  for (int64_t b = 0; b < Balls::kMostBalls; ++b) {
    for (const char* part : {"x", "y", "vx", "vy", "radius"}) {
      names.push_back(c10::str("ball", b, "_", part));
    }
  }
  return names;
}

bool free_of_others(const Disc& disc, const std::vector<Disc>& others, const Box& box) {
  for (const Disc& other : others) {
    if (std::hypot(disc.x - other.x, disc.y - other.y) <= disc.radius + other.radius) return false;
  }
  for (const Shelf& shelf : box.shelves) {
    const double nearest = std::clamp(disc.x, shelf.left, shelf.right);
    if (std::hypot(disc.x - nearest, disc.y - shelf.y) <= disc.radius) return false;
  }
  return true;
}

}  // namespace

Balls::Balls(int64_t batch, double slowest)
    : World({.name = "balls",
             .frame = {3, kSize, kSize},
             .action_width = 2,
             .state = disc_columns(),
             .factors =
                 {{.name = "count",
                   .standard = 2,
                   .training = {1, 3},
                   .unseen = {4, 6},
                   .whole = true,
                   .varies = true},
                  {.name = "gravity",
                   .unit = "px a step squared",
                   .standard = 0.05,
                   .training = {0, 0.1},
                   .unseen = {0.15, 0.3}},
                  {.name = "radius",
                   .unit = "px",
                   .standard = 5,
                   .training = {4, 6},
                   .unseen = {7, 9},
                   .varies = true},
                  {.name = "speed",
                   .unit = "px a step",
                   .standard = 1.5,
                   .training = {0.5, 2},
                   .unseen = {2.5, 4},
                   .varies = true},
                  {.name = "restitution", .standard = 1, .training = {1, 1}, .unseen = {0.7, 0.95}},
                  {.name = "shelf",
                   .unit = "px",
                   .standard = 0,
                   .training = {0, 20},
                   .unseen = {24, 32}},
                  {.name = "occluder",
                   .unit = "px",
                   .standard = 0,
                   .training = {0, 12},
                   .unseen = {14, 20}}}},
            batch),
      episodes_(batch),
      slowest_(slowest) {}

void Balls::start(int64_t i, const std::vector<double>& factors, Random& random) {
  Episode& e = episodes_[i];
  e = {};
  e.box = {.width = kBox,
           .height = kBox,
           .gravity = factors[1],
           .restitution = factors[4],
           .slowest = slowest_};
  if (factors[5] > 0) e.box.shelves.push_back({0, factors[5], kShelfY});
  e.occluder = factors[6];
  for (int64_t b = 0; b < static_cast<int64_t>(factors[0]); ++b) {
    Disc disc;
    disc.radius = factors[2];
    for (int tries = 0;; ++tries) {
      if (tries == kTries) {
        disc.radius *= 0.8;
        tries = 0;
      }
      disc.x = random.uniform(disc.radius, kBox - disc.radius);
      disc.y = random.uniform(disc.radius, kBox - disc.radius);
      if (free_of_others(disc, e.discs, e.box)) break;
    }
    disc.mass = disc.radius * disc.radius;
    const double angle = random.uniform(0, 2 * std::numbers::pi);
    disc.vx = factors[3] * std::cos(angle);
    disc.vy = factors[3] * std::sin(angle);
    e.discs.push_back(disc);
  }
}

World::Outcome Balls::advance(int64_t i, const double* action, Random&) {
  Episode& e = episodes_[i];
  e.discs[0].vx += action[0];
  e.discs[0].vy += action[1];
  advance_discs(e.discs, e.box, 1.0);
  return {};
}

void Balls::draw(int64_t i, uint8_t* frame) const {
  const Episode& e = episodes_[i];
  Canvas canvas(frame, kSize, kSize);
  canvas.fill({16, 16, 24});
  for (const Shelf& shelf : e.box.shelves) {
    canvas.rectangle(shelf.left, shelf.y - 0.5, shelf.right, shelf.y + 0.5, {200, 200, 200});
  }
  for (size_t b = 0; b < e.discs.size(); ++b) {
    canvas.disc(e.discs[b].x, e.discs[b].y, e.discs[b].radius, kColours[b]);
  }
  if (e.occluder > 0) {
    canvas.rectangle(kOccluderLeft, 0, kOccluderLeft + e.occluder, kBox, {96, 96, 96});
  }
}

void Balls::write_state(int64_t i, double* state) const {
  for (const Disc& disc : episodes_[i].discs) {
    for (const double value : {disc.x, disc.y, disc.vx, disc.vy, disc.radius}) *state++ = value;
  }
}

}  // namespace jepa::eval::worlds
