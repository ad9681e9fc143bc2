#include "case.hpp"

#include <jepa/nn/positions.hpp>

#include <torch/types.h>

namespace parity {
namespace {

/// The number behind `text` in `name`: ("dim48.uniform1", "dim") -> 48.
int64_t number_after(const std::string& name, const std::string& text) {
  return std::stoll(name.substr(name.find(text) + text.size()));
}

}  // namespace

void sincos_2d(Case& test) {
  const int64_t side = test.size("grid");
  for (const auto& name : test.names("out/")) {
    test.forward(name, jepa::nn::sincos_2d(number_after(name, "dim"), side, side));
  }
}

void sincos_3d(Case& test) {
  const jepa::TokenGrid grid{test.size("depth"), test.size("grid"), test.size("grid")};
  for (const auto& name : test.names("out/")) {
    test.forward(name, jepa::nn::sincos_3d(number_after(name, "dim"), grid,
                                           number_after(name, "uniform") != 0));
  }
}

void rope_axis(Case& test) {
  using jepa::nn::RotaryLayout;
  const auto& x = test.tensor("in/x");
  for (const auto& [name, layout] : {std::pair("tiled", RotaryLayout::kTiled),
                                     std::pair("interleaved", RotaryLayout::kInterleaved)}) {
    const auto angles = jepa::nn::rotary_angles(test.tensor("in/pos"), test.size("dims"), layout);
    test.forward(name, jepa::nn::rotate(x, {angles.cos(), angles.sin()}));
  }
}

}  // namespace parity
