// Small films of bodies among walls, shelves and occluders, with their exact state.
#pragma once

#include <eval/worlds/canvas.hpp>
#include <eval/worlds/elastic.hpp>

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace jepa::eval::physics {

/// Lengths of a scene are in units of which a picture's side has 48, y down.
inline constexpr double kSceneSide = 48;
/// Where the ground begins in scenes seen from the side.
inline constexpr double kGround = 45;

enum class Shape { kDisc, kSquare, kTriangle, kFlame, kStreak };

/// Something that may move. A flame stands at its disc's centre and is `radius` high.
struct Body {
  Shape shape = Shape::kDisc;
  worlds::Colour colour = {255, 255, 255};
  worlds::Disc disc = {};
  double lean = 0;      ///< of a flame: its tip's way to the right
  bool present = true;  ///< else nothing is drawn

  bool operator==(const Body& other) const;
};

/// The bodies at every frame.
using Track = std::vector<std::vector<Body>>;

/// Frames [0, cut) of `before`, the others of `after`.
Track splice(const Track& before, const Track& after, int64_t cut);

struct Rectangle {
  double left = 0, top = 0, right = 0, bottom = 0;
};

/// What stands still in a scene.
struct Stage {
  bool ground = false;  ///< seen from the side, with gravity; else from above, without
  std::optional<Rectangle> occluder = {};  ///< in front of the bodies
  std::optional<Rectangle> wall = {};      ///< behind the occluder; nothing passes it
  std::optional<worlds::Shelf> shelf = {};
  std::optional<std::array<double, 2>> pin = {};  ///< a body that touches it bursts
  std::optional<Rectangle> net = {};              ///< of a hoop, in front of what falls through
  bool spiked = false;                            ///< red: a body that falls through bursts
  std::optional<Rectangle> candle = {};
};

/// A light on the back wall: from each frame on so many background pixels, those nearest to its
/// middle, are brighter.
struct Light {
  double x = 24, y = 24;
  int64_t brighter = 60;             ///< added to all three colours
  std::vector<int64_t> pixels = {};  ///< at each frame; where there are fewer, all of them
};

/// A film and what happened in it.
struct Film {
  int64_t side = 0;             ///< px
  std::vector<uint8_t> pixels;  ///< [T, 3, side, side]
  Track track;

  int64_t frames() const { return static_cast<int64_t>(track.size()); }
  /// uint8 [3, T, side, side], a copy.
  torch::Tensor clip() const;
};

/// Draws frames [from, from + count) of a story. Uses no ATen operator.
/// @param side of the pictures, px
Film draw_film(const Stage& stage, const Track& track, int64_t side, const Light* light = nullptr,
               int64_t from = 0, int64_t count = -1);

/// Pixels (of any of the three colours) in which two films differ, at every frame.
std::vector<int64_t> changed_pixels(const Film& a, const Film& b);

}  // namespace jepa::eval::physics
