#include <eval/worlds/canvas.hpp>

#include <algorithm>
#include <cmath>

namespace jepa::eval::worlds {
namespace {

constexpr int kSamples = 4;  // a side of a pixel

int64_t first_pixel(double low) {
  return std::max<int64_t>(static_cast<int64_t>(std::floor(low)), 0);
}

int64_t last_pixel(double high, int64_t side) {
  return std::min<int64_t>(static_cast<int64_t>(std::floor(high)), side - 1);
}

}  // namespace

void Canvas::fill(const Colour& colour) {
  for (int64_t c = 0; c < 3; ++c) {
    std::fill_n(planes_ + c * height_ * width_, height_ * width_, colour[c]);
  }
}

void Canvas::blend(int64_t x, int64_t y, double share, const Colour& colour) {
  for (int64_t c = 0; c < 3; ++c) {
    uint8_t& value = planes_[(c * height_ + y) * width_ + x];
    value = static_cast<uint8_t>((1 - share) * value + share * colour[c] + 0.5);
  }
}

void Canvas::disc(double x, double y, double radius, const Colour& colour) {
  for (int64_t py = first_pixel(y - radius - 1); py <= last_pixel(y + radius + 1, height_); ++py) {
    for (int64_t px = first_pixel(x - radius - 1); px <= last_pixel(x + radius + 1, width_); ++px) {
      const double dx = static_cast<double>(px) + 0.5 - x;
      const double dy = static_cast<double>(py) + 0.5 - y;
      const double share = std::clamp(radius + 0.5 - std::sqrt(dx * dx + dy * dy), 0.0, 1.0);
      if (share > 0) blend(px, py, share, colour);
    }
  }
}

void Canvas::polygon(const std::vector<std::array<double, 2>>& corners, const Colour& colour) {
  double left = corners[0][0], right = left, top = corners[0][1], bottom = top, area = 0;
  for (size_t i = 0; i < corners.size(); ++i) {
    const auto& a = corners[i];
    const auto& b = corners[(i + 1) % corners.size()];
    left = std::min(left, a[0]);
    right = std::max(right, a[0]);
    top = std::min(top, a[1]);
    bottom = std::max(bottom, a[1]);
    area += a[0] * b[1] - b[0] * a[1];
  }
  const double turn = area < 0 ? -1 : 1;
  const auto inside = [&](double x, double y) {
    for (size_t i = 0; i < corners.size(); ++i) {
      const auto& a = corners[i];
      const auto& b = corners[(i + 1) % corners.size()];
      if (turn * ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) < 0) return false;
    }
    return true;
  };
  for (int64_t py = first_pixel(top); py <= last_pixel(bottom, height_); ++py) {
    for (int64_t px = first_pixel(left); px <= last_pixel(right, width_); ++px) {
      int covered = 0;
      for (int s = 0; s < kSamples * kSamples; ++s) {
        covered += inside(static_cast<double>(px) + (s % kSamples + 0.5) / kSamples,
                          static_cast<double>(py) + (s / kSamples + 0.5) / kSamples);
      }
      if (covered > 0) blend(px, py, covered / double(kSamples * kSamples), colour);
    }
  }
}

void Canvas::rectangle(double left, double top, double right, double bottom, const Colour& colour) {
  polygon({{left, top}, {right, top}, {right, bottom}, {left, bottom}}, colour);
}

}  // namespace jepa::eval::worlds
