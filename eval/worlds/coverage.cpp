#include <eval/worlds/coverage.hpp>

#include <torch/types.h>

namespace jepa::eval::worlds {
namespace {

constexpr double kMoved = 1e-6;  // px
constexpr double kSwmWall = 112;

int64_t count(const torch::Tensor& flags) { return flags.sum().item<int64_t>(); }

}  // namespace

void Coverage::add(const torch::Tensor& states, const torch::Tensor& actions) {
  const int64_t steps = states.size(0) - 1;
  ++episodes_;
  steps_ += steps;
  if (steps < 1) return;
  const auto from = states.narrow(0, 0, steps), to = states.narrow(0, 1, steps);
  if (world_ == "two_rooms") {
    // Actions of a block that were not taken are NaN.
    const auto asked = actions.narrow(0, 0, steps).reshape({steps, -1, 2}).nan_to_num().sum(1);
    const auto moved = to.narrow(1, 0, 2) - from.narrow(1, 0, 2);
    contacts_ += count((moved - asked).abs().amax(1).gt(kMoved));
    const auto left = states.select(1, 0).lt(states.select(1, 2));
    crossings_ += left.any().item<bool>() && !left.all().item<bool>();
  } else if (world_ == "swm_two_rooms") {
    const auto left = states.select(1, 0).lt(kSwmWall);
    crossings_ += left.any().item<bool>() && !left.all().item<bool>();
  } else if (world_ == "push") {
    contacts_ += count((to.narrow(1, 2, 3) - from.narrow(1, 2, 3)).abs().amax(1).gt(kMoved));
  }
}

std::map<std::string, double> Coverage::shares() const {
  const auto share = [](int64_t part, int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
  };
  std::map<std::string, double> all;
  if (world_ == "two_rooms" || world_ == "push") all["contact"] = share(contacts_, steps_);
  if (world_ == "two_rooms" || world_ == "swm_two_rooms") {
    all["crossing"] = share(crossings_, episodes_);
  }
  return all;
}

}  // namespace jepa::eval::worlds
