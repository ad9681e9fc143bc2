#include <eval/physics/scene.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::physics {
namespace {

using worlds::Canvas;
using worlds::Colour;

constexpr Colour kAbove{16, 16, 24};   // the floor of a table
constexpr Colour kBehind{16, 24, 20};  // the back wall of a scene seen from the side
constexpr Colour kGroundColour{110, 90, 60};
constexpr Colour kOccluderColour{96, 96, 104};
constexpr Colour kWallColour{210, 210, 210};
constexpr Colour kShelfColour{180, 150, 100};
constexpr Colour kPinColour{250, 250, 250};
constexpr Colour kNetColour{140, 140, 160};
constexpr Colour kSpikedColour{190, 50, 50};
constexpr Colour kCandleColour{220, 215, 190};
constexpr double kStreak = 3;  // half its length

Colour background(const Stage& stage) { return stage.ground ? kBehind : kAbove; }

/// A canvas in the scene's units.
class Brush {
 public:
  Brush(uint8_t* planes, int64_t side)
      : canvas_(planes, side, side), scale_(static_cast<double>(side) / kSceneSide) {}

  void fill(const Colour& colour) { canvas_.fill(colour); }
  void rectangle(const Rectangle& r, const Colour& colour) {
    polygon({{r.left, r.top}, {r.right, r.top}, {r.right, r.bottom}, {r.left, r.bottom}}, colour);
  }
  void polygon(std::vector<std::array<double, 2>> corners, const Colour& colour) {
    for (auto& corner : corners) corner = {corner[0] * scale_, corner[1] * scale_};
    canvas_.polygon(corners, colour);
  }
  void disc(const worlds::Disc& d, const Colour& colour) {
    canvas_.disc(d.x * scale_, d.y * scale_, d.radius * scale_, colour);
  }

  void body(const Body& body) {
    const auto& d = body.disc;
    const double r = d.radius;
    switch (body.shape) {
      case Shape::kDisc:
        return disc(d, body.colour);
      case Shape::kSquare: {
        const double half = 0.89 * r;  // as much area as the disc
        return rectangle({d.x - half, d.y - half, d.x + half, d.y + half}, body.colour);
      }
      case Shape::kTriangle:
        return polygon({{d.x, d.y - r}, {d.x + r, d.y + r}, {d.x - r, d.y + r}}, body.colour);
      case Shape::kFlame:
        polygon({{d.x + body.lean, d.y - r},
                 {d.x + 2 + 0.3 * body.lean, d.y - 0.3 * r},
                 {d.x + 1, d.y},
                 {d.x - 1, d.y},
                 {d.x - 2 + 0.3 * body.lean, d.y - 0.3 * r}},
                body.colour);
        return;
      case Shape::kStreak:
        return rectangle({d.x - kStreak, d.y - 0.5, d.x + kStreak, d.y + 0.5}, body.colour);
    }
  }

 private:
  Canvas canvas_;
  double scale_;
};

void draw_frame(const Stage& stage, const std::vector<Body>& bodies, uint8_t* planes,
                int64_t side) {
  Brush brush(planes, side);
  brush.fill(background(stage));
  if (stage.ground) brush.rectangle({0, kGround, kSceneSide, kSceneSide}, kGroundColour);
  if (stage.shelf) {
    brush.rectangle({stage.shelf->left, stage.shelf->y, stage.shelf->right, stage.shelf->y + 1.5},
                    kShelfColour);
  }
  if (stage.wall) brush.rectangle(*stage.wall, kWallColour);
  if (stage.candle) brush.rectangle(*stage.candle, kCandleColour);
  if (stage.pin) {
    const auto [x, y] = *stage.pin;
    brush.polygon({{x, y - 2}, {x + 1.5, y}, {x, y + 2}, {x - 1.5, y}}, kPinColour);
  }
  for (const Body& body : bodies) {
    if (body.present) brush.body(body);
  }
  if (stage.occluder) brush.rectangle(*stage.occluder, kOccluderColour);
  if (stage.net) brush.rectangle(*stage.net, stage.spiked ? kSpikedColour : kNetColour);
}

/// Brightens the `count` background pixels nearest to the light's middle (as squares grow).
void shine(const Light& light, int64_t count, const Colour& from, uint8_t* planes, int64_t side) {
  const int64_t area = side * side;
  const double scale = static_cast<double>(side) / kSceneSide;
  std::vector<std::pair<double, int64_t>> free;
  for (int64_t i = 0; i < area; ++i) {
    if (planes[i] != from[0] || planes[area + i] != from[1] || planes[2 * area + i] != from[2]) {
      continue;
    }
    const double dx = std::abs(static_cast<double>(i % side) + 0.5 - light.x * scale);
    const double dy = std::abs(static_cast<double>(i / side) + 0.5 - light.y * scale);
    free.emplace_back(std::max(dx, dy), i);
  }
  std::sort(free.begin(), free.end());
  free.resize(std::min(free.size(), static_cast<size_t>(std::max<int64_t>(count, 0))));
  for (const auto& [distance, i] : free) {
    for (int64_t c = 0; c < 3; ++c) {
      uint8_t& value = planes[c * area + i];
      value = static_cast<uint8_t>(std::min<int64_t>(value + light.brighter, 255));
    }
  }
}

}  // namespace

bool Body::operator==(const Body& other) const {
  const auto same = [](const worlds::Disc& a, const worlds::Disc& b) {
    return a.x == b.x && a.y == b.y && a.vx == b.vx && a.vy == b.vy && a.radius == b.radius &&
           a.mass == b.mass;
  };
  return shape == other.shape && colour == other.colour && same(disc, other.disc) &&
         lean == other.lean && present == other.present;
}

Track splice(const Track& before, const Track& after, int64_t cut) {
  Track track(before.begin(), before.begin() + cut);
  track.insert(track.end(), after.begin() + cut, after.end());
  return track;
}

torch::Tensor Film::clip() const {
  return torch::tensor(at::ArrayRef<uint8_t>(pixels), torch::kUInt8)
      .view({frames(), 3, side, side})
      .transpose(0, 1)
      .contiguous();
}

Film draw_film(const Stage& stage, const Track& track, int64_t side, const Light* light,
               int64_t from, int64_t count) {
  if (count < 0) count = static_cast<int64_t>(track.size()) - from;
  Film film;
  film.side = side;
  film.track.assign(track.begin() + from, track.begin() + from + count);
  const int64_t bytes = 3 * side * side;
  film.pixels.resize(static_cast<size_t>(count * bytes));
  for (int64_t t = 0; t < count; ++t) {
    uint8_t* planes = film.pixels.data() + t * bytes;
    draw_frame(stage, film.track[static_cast<size_t>(t)], planes, side);
    if (light == nullptr) continue;
    const int64_t lit = light->pixels.at(static_cast<size_t>(from + t));
    if (lit > 0) shine(*light, lit, background(stage), planes, side);
  }
  return film;
}

std::vector<int64_t> changed_pixels(const Film& a, const Film& b) {
  const int64_t area = a.side * a.side;
  std::vector<int64_t> changed(static_cast<size_t>(a.frames()), 0);
  for (int64_t t = 0; t < a.frames(); ++t) {
    const uint8_t* p = a.pixels.data() + t * 3 * area;
    const uint8_t* q = b.pixels.data() + t * 3 * area;
    for (int64_t i = 0; i < area; ++i) {
      changed[static_cast<size_t>(t)] +=
          p[i] != q[i] || p[area + i] != q[area + i] || p[2 * area + i] != q[2 * area + i];
    }
  }
  return changed;
}

}  // namespace jepa::eval::physics
