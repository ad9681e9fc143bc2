// Drawing for the worlds: planes of bytes, soft edges, plain arithmetic, so that pictures are the
// same everywhere.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace jepa::eval::worlds {

using Colour = std::array<uint8_t, 3>;  ///< red, green, blue

/// A picture [3, height, width] in memory that is not its own. Coordinates: x right, y down, pixel
/// (0, 0) covers [0, 1) x [0, 1).
class Canvas {
 public:
  Canvas(uint8_t* planes, int64_t height, int64_t width)
      : planes_(planes), height_(height), width_(width) {}

  void fill(const Colour& colour);
  /// Coverage of a pixel falls over one px at the rim.
  void disc(double x, double y, double radius, const Colour& colour);
  /// Filled convex polygon, 4 x 4 samples a pixel. @param corners in order, either way round
  void polygon(const std::vector<std::array<double, 2>>& corners, const Colour& colour);
  void rectangle(double left, double top, double right, double bottom, const Colour& colour);

 private:
  void blend(int64_t x, int64_t y, double share, const Colour& colour);

  uint8_t* planes_;
  int64_t height_, width_;
};

}  // namespace jepa::eval::worlds
