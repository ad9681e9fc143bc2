#include <eval/planning/landscape.hpp>
#include <eval/planning/search.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::planning {
namespace {

// Anchors of the colours from cheap to dear, evenly spaced.
constexpr std::array<std::array<double, 3>, 5> kColours = {
    {{253, 231, 37}, {94, 201, 98}, {33, 145, 140}, {59, 82, 139}, {68, 1, 84}}};

std::array<uint8_t, 3> colour_of(double share) {
  const double at = std::clamp(share, 0.0, 1.0) * static_cast<double>(kColours.size() - 1);
  const auto low = std::min(static_cast<size_t>(at), kColours.size() - 2);
  std::array<uint8_t, 3> colour{};
  for (size_t c = 0; c < 3; ++c) {
    const double part = at - static_cast<double>(low);
    colour[c] = static_cast<uint8_t>(
        std::lround((1 - part) * kColours[low][c] + part * kColours[low + 1][c]));
  }
  return colour;
}

void check_options(const LandscapeOptions& o, int64_t width) {
  const auto has = [&](int64_t k) { return k >= 0 && k < width; };
  if (o.side < 2 || !(o.low < o.high) || !has(o.numbers[0]) || !has(o.numbers[1]) ||
      o.numbers[0] == o.numbers[1]) {
    throw ConfigError(c10::str("landscape: numbers ", o.numbers[0], " and ", o.numbers[1],
                               " of actions of ", width, ", from ", o.low, " to ", o.high, " in ",
                               o.side, " steps"));
  }
}

}  // namespace

Landscape landscape(const CostFunction& costs, const torch::Tensor& plan, const LandscapeOptions& o,
                    int64_t episode) {
  const torch::NoGradGuard no_grad;
  check_options(o, plan.size(2));
  const int64_t count = o.side * o.side;
  // All episodes have as many candidates; the last one is the plan as it is.
  auto candidates = plan.unsqueeze(1).repeat({1, count + 1, 1, 1});
  const auto values = torch::linspace(o.low, o.high, o.side);
  auto grid = candidates[episode].narrow(0, 0, count);
  const auto set = [&](int64_t number, const torch::Tensor& to) {
    auto place = grid.select(2, number);
    if (!o.constant) place = place.narrow(1, 0, 1);
    place.copy_(to.unsqueeze(1).expand_as(place));
  };
  set(o.numbers[0], values.repeat({o.side}));
  set(o.numbers[1], values.repeat_interleave(o.side));
  const auto found = checked_costs(costs, candidates)[episode].to(torch::kFloat32);
  Landscape result;
  result.costs = found.narrow(0, 0, count).view({o.side, o.side}).contiguous();
  const auto lowest = result.costs.argmin().item<int64_t>();
  const auto value = [&](int64_t i) { return values[i].item<double>(); };
  result.best = {value(lowest % o.side), value(lowest / o.side)};
  result.lowest = result.costs.min().item<double>();
  const auto first = plan[episode][0];
  result.chosen = {first[o.numbers[0]].item<double>(), first[o.numbers[1]].item<double>()};
  result.chosen_cost = found[count].item<double>();
  return result;
}

torch::Tensor draw_landscape(const Landscape& of, const LandscapeOptions& o, int64_t scale) {
  const int64_t side = of.costs.size(0), size = side * scale;
  const double low = of.costs.min().item<double>();
  const double span = std::max(of.costs.max().item<double>() - low, 1e-12);
  auto picture = torch::empty({size, size, 3}, torch::kUInt8);
  uint8_t* pixels = picture.mutable_data_ptr<uint8_t>();
  const float* cost = of.costs.const_data_ptr<float>();
  const auto place = [&](double value) {
    return ((value - o.low) / (o.high - o.low) * static_cast<double>(side - 1) + 0.5) *
           static_cast<double>(scale);
  };
  const double ring = 0.9 * static_cast<double>(scale), line = std::max(1.0, ring / 5);
  for (int64_t y = 0; y < size; ++y) {
    for (int64_t x = 0; x < size; ++x, pixels += 3) {
      auto colour = colour_of((cost[y / scale * side + x / scale] - low) / span);
      const double px = static_cast<double>(x) + 0.5, py = static_cast<double>(y) + 0.5;
      const double dx = std::abs(px - place(of.best[0])), dy = std::abs(py - place(of.best[1]));
      if (std::min(dx, dy) <= line && std::max(dx, dy) <= ring) colour = {0, 0, 0};
      const double away = std::hypot(px - place(of.chosen[0]), py - place(of.chosen[1]));
      if (std::abs(away - 1.4 * ring) <= line) colour = {255, 255, 255};
      std::copy(colour.begin(), colour.end(), pixels);
    }
  }
  return picture;
}

}  // namespace jepa::eval::planning
