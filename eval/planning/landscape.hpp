// What a planner's cost looks like over two numbers of its actions.
#pragma once

#include <eval/planning/planner.hpp>

#include <torch/types.h>

#include <array>
#include <cstdint>

namespace jepa::eval::planning {

/// Which plans are costed.
struct LandscapeOptions {
  int64_t side = 41;                        ///< plans along an axis
  std::array<int64_t, 2> numbers = {0, 1};  ///< of an action that vary, across and down
  double low = -1;                          ///< least and largest value of both
  double high = 1;
  bool constant = true;  ///< the same action in all of the plan; else its first alone varies
};

/// The costs of an episode's plans. A place is (across, down) in the action's own unit.
struct Landscape {
  torch::Tensor costs;             ///< float [side, side], rows down
  std::array<double, 2> chosen{};  ///< the first action of `plan`
  std::array<double, 2> best{};    ///< cheapest place of the grid
  double lowest = 0;               ///< its cost
  double chosen_cost = 0;          ///< of `plan` itself, as it is
};

/// @param costs of candidates [B, S, H, A] @param plan what a planner chose [B, H, A]
/// @param episode that is looked at; the others' plans stay as they are
/// @throws ConfigError for numbers that actions do not have, or an empty range
Landscape landscape(const CostFunction& costs, const torch::Tensor& plan,
                    const LandscapeOptions& options, int64_t episode = 0);

/// Picture uint8 [side * scale, side * scale, 3]: dear is dark, cheap is light; a white ring where
/// the planner's choice is, a black cross at the cheapest. Values go right and down.
torch::Tensor draw_landscape(const Landscape& landscape, const LandscapeOptions& options,
                             int64_t scale = 8);

}  // namespace jepa::eval::planning
